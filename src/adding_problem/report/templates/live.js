"use strict";
// Two trainings in two workers, and what they say, drawn as it comes.

const SVG = "http://www.w3.org/2000/svg";
const HIDDEN = 32;
const ROWS = 8; // cells whose gates are shown
const PLATEAU = 0.1,
  SOLVED = 1e-3,
  MEAN_BASELINE = 1 / 6;
const PATIENCE = 4; // the second model may take so many times what the first to be solved took
const MOST = 5e6; // sequence-steps, where none is solved

const QUESTIONS = {
  sum: "the sum of the two marked values",
  difference: "the first marked value minus the second",
};
const STATES = {
  plateau: "on the plateau",
  learning: "learning",
  solved: "solved",
  diverged: "diverged",
};

const trainer = URL.createObjectURL(
  new Blob([document.getElementById("trainer").textContent], { type: "text/javascript" }),
);
const form = document.getElementById("choices");
const exact = new Intl.NumberFormat("en");

function scientific(value) {
  if (!Number.isFinite(value)) return "not a number";
  if (value >= 0.01) return value.toFixed(3);
  const [digits, power] = value.toExponential(1).split("e");
  return `${digits} · 10${raised(power)}`;
}

const SIGNS = "-0123456789", RAISED = "⁻⁰¹²³⁴⁵⁶⁷⁸⁹";
const raised = (power) =>
  [...String(power)].map((sign) => RAISED[SIGNS.indexOf(sign)]).join("");

/** One of the two models: its worker and all that it has said. */
class Side {
  constructor(letter, choices, onNews) {
    Object.assign(this, {
      letter,
      choices,
      points: [],
      beyond: new Map(),
      last: null,
      solvedAfter: null,
    });
    this.name = form.elements.left.querySelector(`[value="${choices.init}"]`).textContent;
    this.worker = new Worker(trainer);
    this.worker.onmessage = ({ data }) => this.hear(data, onNews);
    this.worker.onerror = (event) =>
      complain(event.message || "The browser starts no worker from this page.");
    this.worker.postMessage({ choices, limit: MOST });
  }

  hear(news, onNews) {
    this.last = news;
    if (news.sequenceSteps) this.points.push([news.sequenceSteps, news.error]);
    if (news.error < SOLVED) this.solvedAfter ??= news.sequenceSteps;
    for (const one of news.beyond) this.beyond.set(one.times, one);
    onNews(this);
  }

  get state() {
    const { error, finished } = this.last;
    if (finished === "diverged") return "diverged";
    return error > PLATEAU ? "plateau" : error < SOLVED ? "solved" : "learning";
  }
}

function complain(words) {
  const place = document.getElementById("problem");
  place.textContent = `The training does not run: ${words}`;
  place.hidden = false;
}

// --- start and stop ------------------------------------------------------------------------------

const live = { sides: [], paused: false, drawing: false };

function start() {
  const chosen = Object.fromEntries(new FormData(form));
  const common = {
    T: +chosen.T,
    target: chosen.target,
    seed: +chosen.seed,
    curriculum: Boolean(chosen.curriculum),
    hidden: HIDDEN,
  };
  for (const side of live.sides) side.worker.terminate();
  live.sides = [
    ["a", chosen.left],
    ["b", chosen.right],
  ].map(([letter, init]) => new Side(letter, { ...common, init }, heard));
  for (const place of document.querySelectorAll("[data-of=T]")) place.textContent = chosen.T;
  for (const place of document.querySelectorAll("[data-of=question]"))
    place.textContent = QUESTIONS[chosen.target];
  pause(false);
}

function pause(paused) {
  live.paused = paused;
  for (const side of live.sides) side.worker.postMessage({ paused });
  document.getElementById("pause").textContent = paused ? "Continue" : "Pause";
}

function heard(side) {
  if (side.last.finished === "solved") {
    for (const other of live.sides)
      other.worker.postMessage({ limit: PATIENCE * side.last.sequenceSteps });
  }
  if (!live.drawing) requestAnimationFrame(draw);
  live.drawing = true;
}

// --- drawing -------------------------------------------------------------------------------------

function draw() {
  live.drawing = false;
  const sides = live.sides.filter((side) => side.last);
  sides.forEach(drawStanding);
  sides.forEach(drawGates);
  drawCurves(sides);
  drawBeyond(sides);
  announce(sides);
  document.getElementById("pause").disabled =
    sides.length === 2 && sides.every((side) => side.last.finished);
}

/** For those who hear the page: a change of state, not every number. */
function announce(sides) {
  const words = sides
    .map((side) => `${side.letter.toUpperCase()}, ${side.name}: ${STATES[side.state]}`)
    .join("; ");
  const place = document.getElementById("said");
  if (place.textContent !== words) place.textContent = words;
}

function drawStanding(side) {
  const card = document.querySelector(`.standing [data-side=${side.letter}]`),
    { last } = side;
  card.querySelector("[data-name]").textContent = side.name;
  card.querySelector("[data-error]").textContent = scientific(last.error);
  const state = card.querySelector("[data-state]");
  state.textContent = STATES[side.state];
  state.dataset.state = side.state;
  const trained = `${exact.format(last.sequenceSteps)} sequence-steps`;
  const solved = side.solvedAfter ? `below 10⁻³ after ${exact.format(side.solvedAfter)}; ` : "";
  const short = side.choices.curriculum ? ` on up to ${last.length} steps` : "";
  const now = last.finished ? "training ended" : `now training${short}`;
  card.querySelector("[data-spent]").textContent = `${trained}; ${solved}${now}`;
}

function drawGates(side) {
  const card = document.querySelector(`.gates[data-side=${side.letter}]`),
    { shown } = side.last;
  const { T } = side.choices,
    { cells, marks, values } = shown;
  const contrast = Array.from(
    { length: cells },
    (_, k) => marks.reduce((sum, t) => sum + shown.input[t * cells + k], 0) / 2,
  );
  for (let k = 0; k < cells; k++) {
    for (let t = 0; t < T; t++) contrast[k] -= shown.input[t * cells + k] / T;
  }
  const rows = contrast
    .map((_, k) => k)
    .sort((j, k) => Math.abs(contrast[k]) - Math.abs(contrast[j]))
    .slice(0, ROWS);
  card.querySelector("[data-name]").textContent = side.name;
  for (const canvas of card.querySelectorAll("canvas")) {
    const gate = shown[canvas.dataset.gate];
    // Opacity is the root of what is drawn.
    drawStates(canvas, T, rows.length, (t, row) => gate[t * cells + rows[row]] ** 2);
  }
  const bar = (t) => `M${t + 0.5},1V${1 - values[t]}`;
  const svg = node(
    "svg",
    { viewBox: `0 0 ${T} 1`, preserveAspectRatio: "none", "aria-hidden": "true" },
    node("path", {
      class: "bars",
      d: [...values.keys()].map(bar).join(""),
      "vector-effect": "non-scaling-stroke",
    }),
    node("path", {
      class: "marks",
      d: marks.map(bar).join(""),
      "vector-effect": "non-scaling-stroke",
    }),
  );
  card.querySelector("[data-values]").replaceChildren(svg);
  card.querySelector("[data-answer]").textContent =
    `It answers ${shown.estimate.toFixed(2)}. Right is ${shown.right.toFixed(2)}.`.replaceAll(
      "-",
      "−",
    );
}

function drawCurves(sides) {
  const spent = sides.flatMap((side) => side.points.map(([x]) => x));
  const x = spent.length ? [Math.min(...spent), Math.max(1e5, ...spent)] : [1e4, 1e5];
  const place = document.getElementById("curves");
  chart(place, {
    x,
    ticks: roundNumbers(x, place.clientWidth),
    label: "sequence-steps of training",
    series: sides.map((side) => ({ side, points: side.points })),
  });
}

function drawBeyond(sides) {
  const { T } = live.sides[0].choices,
    times = [1, 2, 10, 100];
  chart(document.getElementById("beyond"), {
    x: [T * 0.8, 125 * T],
    ticks: times.map((n) => [n * T, exact.format(n * T)]),
    label: "steps of the tested sequences",
    dots: true,
    series: sides.map((side) => ({
      side,
      points: times.filter((n) => side.beyond.has(n)).map((n) => [n * T, side.beyond.get(n).error]),
    })),
  });
}

/** Ticks of a logarithmic axis, fewer where it is narrow. */
function roundNumbers([first, last], width) {
  const digits = width / Math.log10(last / first) > 250 ? [1, 2, 5] : [1],
    ticks = [];
  for (let power = Math.floor(Math.log10(first)); 10 ** power <= last; power++) {
    ticks.push(
      ...digits
        .map((digit) => digit * 10 ** power)
        .filter((value) => value >= first && value <= last),
    );
  }
  return ticks.map((value) => [value, exact.format(value)]);
}

function node(name, attributes, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** Errors against something, both logarithmic, with the mean baseline and the goal. */
function chart(place, { x, ticks, label, series, dots = false }) {
  const width = Math.floor(place.clientWidth),
    height = 300,
    left = 40,
    right = 14,
    top = 18,
    bottom = 40;
  const finite = series
    .flatMap(({ points }) => points.map(([, y]) => y))
    .filter((y) => y > 0 && y < 100);
  const low = Math.min(5e-4, ...finite) * 0.5,
    high = Math.max(0.3, ...finite) * 1.3;
  const along = (value, [from, to]) => Math.log(value / from) / Math.log(to / from);
  const px = (value) => left + along(value, x) * (width - left - right);
  const py = (value) =>
    top + (1 - along(Math.min(high, Math.max(low, value)), [low, high])) * (height - top - bottom);
  const text = (at, y, words, anchor, look = "") =>
    node("text", { x: at, y, "text-anchor": anchor, class: look }, words);
  const across = (y, look) =>
    node("line", { class: look, x1: left, x2: width - right, y1: y, y2: y });
  const rules = [
    [MEAN_BASELINE, "mean baseline, 1/6", (left + width) / 2, -14],
    [SOLVED, "solved", left + 24, -6],
  ];
  const parts = rules.map(([value]) => across(py(value), "rule"));
  for (let power = Math.ceil(Math.log10(low)); 10 ** power <= high; power++) {
    const y = py(10 ** power);
    parts.push(across(y, "grid"), text(left - 6, y + 4, `10${raised(power)}`, "end"));
  }
  for (const [value, words] of ticks)
    parts.push(text(px(value), height - bottom + 18, words, "middle"));
  parts.push(text(width - right, height - 4, `${label} →`, "end"));
  const lines = series
    .map(({ side, points }) => ({
      side,
      drawn: points.filter(([, y]) => Number.isFinite(y)).map(([at, y]) => [px(at), py(y)]),
    }))
    .filter(({ drawn }) => drawn.length);
  const lowest = Math.max(...lines.map(({ drawn }) => drawn.at(-1)[1])),
    names = [];
  for (const { side, drawn } of lines) {
    const [endX, endY] = drawn.at(-1),
      path = drawn.map((point) => point.map((number) => number.toFixed(1)).join(","));
    parts.push(
      node(
        "g",
        { class: side.letter },
        node("path", { class: "line", d: `M${path.join("L")}` }),
        ...(dots ? drawn : [[endX, endY]]).map(([cx, cy]) =>
          node("circle", { class: "dot", cx, cy, r: 4 }),
        ),
      ),
    );
    const below = endY === lowest && lines.length > 1; // so that two close names are apart
    names.push(
      node(
        "g",
        { class: side.letter },
        text(
          Math.min(endX, width - right - 4),
          endY + (below ? 20 : -10),
          `${side.letter.toUpperCase()} ${side.name}`,
          endX > width / 3 ? "end" : "start",
          "name",
        ),
      ),
    );
  }
  parts.push(
    ...rules.map(([value, words, at, lower]) =>
      text(at, py(value) + lower, words, "middle", "name-of-rule"),
    ),
    ...names,
  );
  place.replaceChildren(
    node(
      "svg",
      { viewBox: `0 0 ${width} ${height}`, width, height, "aria-hidden": "true" },
      ...parts,
    ),
  );
  place.setAttribute(
    "aria-label",
    series
      .map(({ side, points }) => {
        const said = points.length
          ? `from ${scientific(points[0][1])} to ${scientific(points.at(-1)[1])}`
          : "not tested yet";
        return `${side.letter.toUpperCase()}, ${side.name}: error ${said}`;
      })
      .join("; "),
  );
}

// --- the reader ----------------------------------------------------------------------------------

form.addEventListener("submit", (event) => {
  event.preventDefault();
  start();
});
form.addEventListener("change", () => form.reportValidity() && start());
document.getElementById("pause").addEventListener("click", () => pause(!live.paused));
new ResizeObserver(() => live.sides.length && draw()).observe(document.getElementById("curves"));
followTheme();
start();
