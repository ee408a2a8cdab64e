"use strict";
// Puts the charts into their figures, with controls, keys and keyboard.

const data = JSON.parse(document.getElementById("data").textContent);
const element = (name, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
};
const redraws = [];
let shownModel = 0;

function mount(figure) {
  const chart = CHARTS[figure.dataset.chart], kind = (chart.series ?? series)(data);
  const state = {}, hidden = new Set(), place = figure.querySelector("[data-plot]"), label = place.ariaLabel;
  let drawn = 0;
  const draw = () => {
    const width = Math.floor(place.clientWidth);
    if (!width) return;
    drawn = width;
    const made = chart.draw(data, { ...state, width, model: data.models[shownModel], shown: (key) => !hidden.has(key) });
    const picture = made instanceof SVGElement;
    place.replaceChildren(made);
    Object.assign(place, picture ? { role: "img", ariaLabel: label, tabIndex: 0 } : { role: null, ariaLabel: null, tabIndex: -1 });
    if (!picture) return;
    made.setAttribute("aria-hidden", "true");
    if (chart.keyed) made.addEventListener("input", () => light(made.value && kind.of(made.value)));
  };
  const light = (key) => highlight(figure, key == null ? null : String(key));
  for (const control of chart.controls(data).filter(Boolean)) {
    figure.querySelector("[data-controls]").append(CONTROLS[control.kind](control, state, draw, figure.dataset.chart));
  }
  const keyed = typeof chart.keyed === "function" ? chart.keyed(data) : chart.keyed;
  if (keyed) mountKey(figure.querySelector("[data-key]"), hidden, draw, light, kind, chart.items?.(data) ?? data.runs);
  place.addEventListener("keydown", (event) => movePointer(event, place));
  new ResizeObserver(() => Math.abs(place.clientWidth - drawn) > 2 && draw()).observe(place);
  if (chart.ofModel) redraws.push(draw);
  draw();
}

/** One method is bold and the others are pale; without a key all are as drawn. */
function highlight(figure, key) {
  for (const mark of figure.querySelectorAll("[data-plot] g[aria-label] > [aria-label], [data-key] button")) {
    const of = mark.dataset.key ?? mark.getAttribute("aria-label");
    mark.classList.toggle("lit", of === key);
    mark.classList.toggle("dim", key != null && of !== key);
  }
}

const CONTROLS = {
  segments({ name, label, options }, state, draw, chart) {
    state[name] = Object.keys(options)[0];
    return element("fieldset", { className: "segments" }, element("legend", { textContent: label }),
      ...Object.entries(options).map(([value, text]) => element("label", {},
        element("input", { type: "radio", name: `${chart}-${name}`, value, checked: value === state[name], onchange: () => { state[name] = value; draw(); } }),
        element("span", { textContent: text }))));
  },
  check({ name, label, checked = false }, state, draw) {
    state[name] = checked;
    return element("label", { className: "check" },
      element("input", { type: "checkbox", checked, onchange: (event) => { state[name] = event.target.checked; draw(); } }), label);
  },
  select({ name, label, options, value = "" }, state, draw) {
    state[name] = value;
    const order = Object.keys(options).sort((a, b) => a - b);
    return element("select", { ariaLabel: label, onchange: (event) => { state[name] = event.target.value; draw(); } },
      ...order.map((key) => element("option", { value: key, textContent: options[key], selected: key === value })));
  },
};

function mountKey(place, hidden, draw, light, kind, items) {
  const present = new Set(items.map(kind.of));
  if (kind.keys.length < 2) return;
  for (const key of kind.keys.filter((key) => present.has(key))) {
    const button = element("button", {
      type: "button", textContent: middle(kind.label(key)), title: kind.label(key), ariaPressed: "true",
      onclick: () => {
        hidden.has(key) ? hidden.delete(key) : hidden.add(key);
        button.ariaPressed = String(!hidden.has(key));
        draw();
      },
    });
    button.dataset.key = key;
    for (const on of ["pointerenter", "focus"]) button.addEventListener(on, () => light(key));
    for (const off of ["pointerleave", "blur"]) button.addEventListener(off, () => light(null));
    button.style.setProperty("--color", kind.ink(key));
    place.append(button);
  }
}

/** Arrow keys move the pointer over a chart, so that its values can be read, or heard, without a mouse. */
function movePointer(event, place) {
  const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  const svg = place.querySelector("svg");
  if (!step || !svg || event.altKey || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  const box = svg.getBoundingClientRect(), pace = event.shiftKey ? 40 : 10;
  const last = place.pointer ?? { x: box.width / 2, y: box.height / 2 };
  place.pointer = {
    x: Math.min(box.width - 2, Math.max(2, last.x + pace * step[0])),
    y: Math.min(box.height - 2, Math.max(2, last.y + pace * step[1])),
  };
  svg.dispatchEvent(new PointerEvent("pointermove", {
    bubbles: true, pointerType: "mouse", clientX: box.left + place.pointer.x, clientY: box.top + place.pointer.y,
  }));
  requestAnimationFrame(() => {
    const lines = [...svg.querySelectorAll("[aria-label=tip] tspan")].map((line) => line.textContent.trim());
    place.parentElement.querySelector("[data-said]").textContent = lines.filter(Boolean).join(", ");
  });
}

/** A click on a column's name sorts by it, and again the other way round; oracles stay last. Long tables have a filter. */
function mountTable(table) {
  const body = table.tBodies[0], rows = [...body.rows];
  const value = (row, column) => {
    const cell = row.cells[column], text = (cell.dataset.value ?? cell.textContent).replaceAll(",", "").trim();
    const number = /^(-?[\d.]+(?:e[+-]?\d+)?)([kMG]?)/.exec(text);
    return number ? number[1] * { "": 1, k: 1e3, M: 1e6, G: 1e9 }[number[2]] : text;
  };
  const heads = [...table.tHead.rows[0].cells];
  for (const [column, head] of heads.entries()) {
    const button = element("button", {
      type: "button", textContent: head.textContent,
      onclick: () => {
        const up = head.ariaSort !== "ascending";
        for (const other of heads) other.ariaSort = null;
        head.ariaSort = up ? "ascending" : "descending";
        const order = (a, b) => (typeof a === typeof b ? d3.ascending(a, b) : typeof a === "number" ? -1 : 1);
        body.append(...rows.toSorted((a, b) => a.className.localeCompare(b.className) || (up ? 1 : -1) * order(value(a, column), value(b, column))));
      },
    });
    head.replaceChildren(button);
  }
  if (rows.length < 6) return;
  const texts = rows.map((row) => [row.textContent, ...[...row.querySelectorAll("span[title]")].map((one) => one.title)].join(" ").toLowerCase());
  const none = sentence("No row has these words.");
  none.hidden = true;
  table.after(none);
  table.caption.append(element("input", {
    type: "search", placeholder: `filter ${table.dataset.table}`, ariaLabel: `Filter ${table.dataset.table}`,
    oninput: (event) => {
      const words = event.target.value.toLowerCase().split(/\s+/);
      rows.forEach((row, index) => { row.hidden = !words.every((word) => texts[index].includes(word)); });
      none.hidden = rows.some((row) => !row.hidden);
    },
  }));
}

function drawCells() {
  const figure = document.getElementById("cells");
  if (!figure) return;
  const memory = data.models[shownModel].memory, canvas = figure.querySelector("canvas");
  const missing = !memory?.cells;
  for (const part of figure.children) part.hidden = part.matches(".note") ? !missing : missing;
  figure.querySelector(".ticks")?.remove();
  if (missing) return;
  const cells = decode(memory.cells, Int8Array);
  drawStates(canvas, memory.columns, memory.rows, (column, row) => cells[row * memory.columns + column] / 127);
  const ticks = element("div", { className: "ticks", ariaHidden: "true" });
  for (const mark of memory.marks) {
    const tick = element("i");
    tick.style.left = `${(100 * (mark + 0.5)) / memory.t}%`;
    ticks.append(tick);
  }
  canvas.after(ticks);
}

function chooseModel(index) {
  shownModel = index;
  for (const draw of redraws) draw();
  showModel();
}

/** What is outside of the charts. */
function showModel() {
  for (const select of document.querySelectorAll("[data-model]")) select.value = String(shownModel);
  drawCells();
}

/** The section in view, marked in the navigation. */
function followSections() {
  const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
  const observer = new IntersectionObserver((entries) => {
    for (const entry of entries.filter((entry) => entry.isIntersecting)) {
      for (const link of links.values()) link.removeAttribute("aria-current");
      links.get(entry.target.id)?.setAttribute("aria-current", "true");
    }
  }, { rootMargin: "-30% 0px -65% 0px" });
  for (const id of links.keys()) observer.observe(document.getElementById(id));
}

const model = JSON.parse(document.getElementById("model").textContent);
shownModel = Math.max(0, data.models.findIndex((one) => one.name === model?.name));
document.querySelectorAll("[data-chart]").forEach(mount);
document.querySelectorAll("[data-table]").forEach(mountTable);
document.querySelectorAll("[data-model]").forEach((select) => select.addEventListener("change", () => chooseModel(+select.value)));
showModel();
followSections();
followTheme();
const playground = model && new Playground(document.getElementById("play"), model);
