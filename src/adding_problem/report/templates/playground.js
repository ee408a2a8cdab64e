"use strict";
// A sequence that the reader can change, and the model's answer to it, step by step.

const SVG = "http://www.w3.org/2000/svg";
const PLAY_SECONDS = 6;
const MOST_COLUMNS = 2000; // of the picture of the cell states

// By target: the right answer to the two marked values in the order of their steps, 0 until they are read; and lines of the picture.
const TARGETS = {
  sum: { right: (first, second) => first + second, lines: [0, 1, 2] },
  difference: { right: (first, second) => first - second, lines: [-1, 0, 1] },
  product: { right: (first, second) => first * second, lines: [0, 0.5, 1] },
  first: { right: (first) => first, lines: [0, 0.5, 1] },
};

class Playground {
  constructor(root, model) {
    this.root = root;
    this.model = model;
    this.target = TARGETS[model.target];
    this.lstm = new LSTM(model);
    this.random = uniform(1997);
    // The cells that weigh most in the estimate stand on top.
    this.order = d3.sort(d3.range(model.hidden), (k) => -Math.abs(this.lstm.readout[k]));
    this.find = (id) => root.querySelector(`#${id}`);
    this.draw = { sequence: this.find("sequence"), trace: this.find("trace"), now: this.find("now") };
    this.heads = [0, 1].map((index) => this.makeMark(index));
    this.ground = shape("g", {});
    // The marks stay in the picture while it is drawn anew, or they would lose the focus and the pointer that drags them.
    this.draw.sequence.append(this.ground, ...this.heads);
    this.listen();
    if (model.values.length) this.show(Float32Array.from(model.values), model.places);
    else this.setLength(Math.max(model.shortest, Math.min(200, model.t)));
    new ResizeObserver(() => this.render()).observe(this.draw.sequence);
  }

  /** The model's estimate after the last step of a sequence of values and marks; for the console, too. */
  predict(values, marks) {
    return this.lstm.run(values, marks).estimates.at(-1);
  }

  // --- the sequence ---

  show(values, places) {
    this.values = values;
    this.length = values.length;
    this.places = places;
    this.changed(this.length);
  }

  setLength(length) {
    const half = this.model.variant === "halves" ? Math.floor(length / 2) : length;
    const first = Math.floor(half * this.random());
    const second = half < length ? half + Math.floor((length - half) * this.random()) : Math.floor((length - 1) * this.random());
    this.show(Float32Array.from({ length }, this.random), [first, half === length && second >= first ? second + 1 : second]);
  }

  moveMark(index, step) {
    const [low, high] = this.bounds(index);
    const wanted = Math.max(low, Math.min(high, step));
    if (wanted === this.places[1 - index]) return;
    this.places[index] = wanted;
    this.changed();
  }

  /** First and last step where a mark may stand: anywhere, or in its half. */
  bounds(index) {
    const half = Math.floor(this.length / 2);
    return this.model.variant === "any" ? [0, this.length - 1] : [[0, half - 1], [half, this.length - 1]][index];
  }

  /** The marks in the order of their steps: the first one is `ranks[0]`, whatever way they were dragged. */
  get ranks() { return this.places[0] < this.places[1] ? [0, 1] : [1, 0]; }

  setValue(index, value) {
    this.values[this.places[index]] = Math.max(0, Math.min(1, value));
    this.changed();
  }

  get marks() {
    const marks = new Float32Array(this.length);
    for (const place of this.places) marks[place] = 1;
    return marks;
  }

  /** The right answer after each step. */
  get answers() {
    const [first, second] = d3.sort(this.places), read = (place, step) => (step >= place ? this.values[place] : 0);
    return this.values.map((_, step) => this.target.right(read(first, step), read(second, step)));
  }

  /** Run the model anew; show the end, or the step that was shown. */
  changed(step = this.shown) {
    Object.assign(this, this.lstm.run(this.values, this.marks));
    this.scale = 1e-9;
    for (const cell of this.cells) this.scale = Math.max(this.scale, Math.abs(cell));
    this.shown = Math.min(step, this.length);
    this.pause();
    this.render();
  }

  // --- time ---

  play() {
    if (this.shown >= this.length) this.shown = 0;
    const begin = performance.now() - (1000 * PLAY_SECONDS * this.shown) / this.length;
    const next = (now) => {
      this.shown = Math.min(this.length, Math.max(0, Math.floor(((now - begin) / 1000 / PLAY_SECONDS) * this.length)));
      this.renderStep();
      this.frame = this.shown < this.length ? requestAnimationFrame(next) : this.pause();
    };
    this.frame = requestAnimationFrame(next);
    this.find("run").textContent = "❚❚ Pause";
  }

  pause() {
    cancelAnimationFrame(this.frame);
    this.frame = null;
    this.find("run").textContent = "▶ Play";
    return null;
  }

  // --- the picture ---

  get width() { return this.draw.sequence.clientWidth || 600; }
  x(step) { return ((step + 0.5) * this.width) / this.length; }

  render() {
    this.renderSequence();
    this.renderTrace();
    const H = this.model.hidden, columns = Math.min(this.length, MOST_COLUMNS), stride = this.length / columns;
    drawStates(this.find("states"), columns, H, (column, row) => this.cells[Math.floor(column * stride) * H + this.order[row]] / this.scale);
    this.renderControls();
    this.renderStep();
  }

  renderSequence() {
    const svg = this.draw.sequence, height = svg.clientHeight || 136, top = 24, base = height - 18;
    const y = (value) => base - value * (base - top);
    const bars = Array.from(this.values, (value, step) => `M${this.x(step).toFixed(2)} ${base}V${y(value).toFixed(1)}`).join("");
    svg.setAttribute("viewBox", `0 0 ${this.width} ${height}`);
    this.ground.replaceChildren(
      shape("path", { class: "bars", d: bars, "stroke-width": Math.max(0.6, (0.62 * this.width) / this.length) }),
      shape("line", { class: "base", x1: 0, x2: this.width, y1: base, y2: base }),
      label(0, height - 4, "1"), label(this.width, height - 4, integer(this.length), "end"), ...this.renderTrained(0, base, true));
    this.heads.forEach((head, index) => {
      const rank = this.ranks.indexOf(index);
      head.setAttribute("aria-label", `${["First", "Second"][rank]} mark`);
      head.lastChild.textContent = String(rank + 1);
      const place = this.places[index], at = this.x(place), tall = y(this.values[place]);
      const [low, high] = this.bounds(index);
      head.setAttribute("aria-valuemin", low + 1);
      head.setAttribute("aria-valuemax", high + 1);
      head.setAttribute("aria-valuenow", place + 1);
      head.setAttribute("aria-valuetext", `step ${place + 1} of ${this.length}, value ${this.values[place].toFixed(3)}`);
      const [reach, line, circle, text] = head.children;
      set(line, { x1: at, x2: at, y1: base, y2: tall });
      for (const part of [reach, circle]) set(part, { cx: at, cy: tall });
      set(text, { x: at, y: tall + 4 });
    });
  }

  /** Where the longest trained length ends, if the sequence is longer. */
  renderTrained(y1, y2, told) {
    const { trained } = this.model, at = (trained * this.width) / this.length, right = at > this.width / 2;
    if (!trained || trained >= this.length) return [];
    const line = shape("line", { class: "trained", x1: at, x2: at, y1, y2 });
    return told ? [line, label(at + (right ? -5 : 5), 11, `trained up to here, T = ${integer(trained)}`, right ? "end" : "start")] : [line];
  }

  renderTrace() {
    const svg = this.draw.trace, height = svg.clientHeight || 136, base = height - 8, top = 8;
    const [low, high] = d3.extent([...this.target.lines, ...this.estimates]);
    const y = (value) => base - ((value - low) / (high - low)) * (base - top);
    // A value holds from the step that gives it to the next step.
    const stairs = (values, first) => Array.from(values, (value, step) => `${step ? "" : first}H${this.x(step).toFixed(2)}V${y(value).toFixed(2)}`).join("") + `H${this.width}`;
    const paths = { sum: stairs(this.answers, `M0 ${y(0).toFixed(2)}`), estimate: stairs(this.estimates, `M${this.x(0).toFixed(2)} ${y(this.estimates[0]).toFixed(2)}`) };
    svg.setAttribute("viewBox", `0 0 ${this.width} ${height}`);
    this.draw.now.setAttribute("viewBox", `0 0 ${this.width} 100`);
    const clip = shape("clipPath", { id: "past" }, shape("rect", { id: "past-box", x: 0, y: -10, height: height + 20 }));
    svg.replaceChildren(clip, ...this.renderTrained(0, height),
      ...this.target.lines.flatMap((value) => [shape("line", { class: "base", x1: 0, x2: this.width, y1: y(value), y2: y(value) }), label(-7, y(value) + 4, String(value).replace("-", "−"), "end")]),
      ...["later", "past"].map((when) => shape("g", when === "later" ? { class: "later" } : { "clip-path": "url(#past)" },
        ...Object.entries(paths).map(([name, d]) => shape("path", { class: name, d })))),
      shape("circle", { class: "answer", cx: this.width, cy: y(this.estimates.at(-1)), r: 4 }));
  }

  renderControls() {
    const { shortest, longest } = this.model;
    set(this.find("scrub"), { max: this.length });
    this.find("length").value = Math.log(this.length / shortest) / Math.log(longest / shortest);
    this.find("length-value").textContent = integer(this.length);
    this.find("length").setAttribute("aria-valuetext", integer(this.length));
    ["first", "second"].forEach((id, rank) => {
      const value = this.values[this.places[this.ranks[rank]]];
      this.find(id).value = value;
      this.find(`${id}-value`).textContent = value.toFixed(3);
    });
  }

  /** All that depends on the step that is shown; `shown` steps have been read. */
  renderStep() {
    const step = this.shown, right = step ? this.answers[step - 1] : 0, estimate = step ? this.estimates[step - 1] : NaN;
    const at = step ? this.x(step - 1) : 0;
    const cursor = () => shape("line", { class: "cursor", x1: at, x2: at, y1: 0, y2: asked ? 0 : "100%" });
    const asked = step === this.length, within = Math.abs(estimate - right) < this.model.tolerance;
    this.find("estimate").textContent = step ? estimate.toFixed(4).replace("-", "−") : "–";
    this.find("right").textContent = right.toFixed(4).replace("-", "−");
    this.find("right-label").textContent = asked ? "right answer" : "right so far";
    this.find("estimate-label").textContent = asked ? "answer" : "estimate so far";
    this.find("error").textContent = asked ? (estimate - right).toFixed(4).replace("-", "−") : "–";
    this.find("verdict").textContent = asked ? `${within ? "✓" : "✗ not"} within ${this.model.tolerance}` : "not asked yet";
    this.find("verdict").className = asked && within ? "within" : "";
    this.find("step").textContent = `${integer(step)} / ${integer(this.length)}`;
    this.find("scrub").value = step;
    set(this.root.querySelector("#past-box"), { width: asked ? this.width : at });
    this.draw.trace.lastChild.setAttribute("opacity", asked ? 1 : 0);
    this.draw.now.replaceChildren(
      shape("rect", { x: at, y: 0, width: asked ? 0 : Math.max(0, this.width - at), height: 100, fill: "var(--card)", opacity: 0.82 }),
      cursor());
    for (const svg of [this.draw.sequence, this.draw.trace]) {
      svg.querySelector(".cursor")?.remove();
      svg.prepend(cursor());
    }
  }

  // --- hands ---

  makeMark(index) {
    const head = shape("g", { class: "mark", role: "slider", tabindex: 0, "data-mark": index },
      shape("circle", { class: "reach", r: 24 }), shape("line", {}), shape("circle", { class: "head", r: 9 }), shape("text", {}));
    head.addEventListener("keydown", (event) => this.onKey(event, index));
    head.addEventListener("pointerdown", (event) => { head.setPointerCapture(event.pointerId); head.dragged = true; event.preventDefault(); head.focus({ focusVisible: false }); });
    head.addEventListener("pointermove", (event) => head.dragged && this.drag(event, index));
    for (const end of ["pointerup", "pointercancel"]) head.addEventListener(end, () => { head.dragged = false; });
    return head;
  }

  drag(event, index) {
    const box = this.draw.sequence.getBoundingClientRect();
    this.moveMark(index, Math.floor(((event.clientX - box.left) / box.width) * this.length));
  }

  onKey(event, index) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const leap = Math.max(1, Math.round(this.length / 10)), [low, high] = this.bounds(index), place = this.places[index];
    const steps = { ArrowLeft: place - 1, ArrowRight: place + 1, PageDown: place - leap, PageUp: place + leap, Home: low, End: high };
    const value = { ArrowUp: 0.01, ArrowDown: -0.01 }[event.key];
    if (event.key in steps) {
      // A step that the other mark holds is jumped over.
      const wanted = steps[event.key], taken = wanted === this.places[1 - index];
      this.moveMark(index, taken ? wanted + Math.sign(wanted - place) : wanted);
    } else if (value) this.setValue(index, this.values[place] + value);
    else return;
    event.preventDefault();
  }

  listen() {
    this.find("run").addEventListener("click", () => (this.frame ? this.pause() : this.play()));
    this.find("new").addEventListener("click", () => this.setLength(this.length));
    this.find("scrub").addEventListener("input", (event) => { this.pause(); this.shown = +event.target.value; this.renderStep(); });
    this.find("length").addEventListener("input", (event) => {
      const { shortest, longest } = this.model, now = Math.log(this.length / shortest) / Math.log(longest / shortest);
      const wanted = Math.round(shortest * (longest / shortest) ** +event.target.value);
      // A key moves the slider by less than one length where sequences are short: then it is one.
      const next = wanted === this.length ? wanted + Math.sign(+event.target.value - now) : wanted;
      this.setLength(Math.max(shortest, Math.min(longest, next)));
    });
    ["first", "second"].forEach((id, rank) => this.find(id).addEventListener("input", (event) => this.setValue(this.ranks[rank], +event.target.value)));
  }
}

const set = (node, attributes) => { for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value); };
function shape(name, attributes, ...children) {
  const made = document.createElementNS(SVG, name);
  set(made, attributes);
  made.append(...children);
  return made;
}
function label(x, y, text, anchor = "start") {
  const made = shape("text", { x, y, "text-anchor": anchor });
  made.textContent = text;
  return made;
}
