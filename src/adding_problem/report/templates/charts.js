"use strict";
// The charts, by name: each gets the data and the state of its controls, and gives a plot (Observable Plot, SVG).
// Colours are CSS variables, so that dark, light and print need no new drawing.

const UNITS = { sequence_steps: "sequence-steps", sequences: "sequences", seconds: "seconds" };
const SOLVED = 1e-3;

const COLORS = 7; // that can be told apart; the lines after them are grey until they are pointed at
const colorOf = (index) => (index < COLORS ? `var(--c${index})` : "var(--rest)");
const shadeOf = (index, count) =>
  `color-mix(in oklch, var(--sequence-start), var(--sequence-end) ${count > 1 ? (100 * index) / (count - 1) : 60}%)`;

const integer = (value) => Math.round(value).toLocaleString("en");
const brief = (value) => (value >= 1e4 ? d3.format(".3~s")(value) : d3.format(",.3~r")(value));
const error = (value) => (value == null ? "–" : value < 0.01 ? value.toExponential(1) : value.toFixed(3));
const powers = (value) => `1e${Math.round(Math.log10(value))}`;
const middle = (text, most = 44) => {
  const head = Math.floor((most * 3) / 5);
  return text.length <= most ? text : `${text.slice(0, head).trimEnd()}…${text.slice(head + 1 - most).trimStart()}`;
};

/** What tells the lines apart: the methods where there are several, those that reach farthest first; else the lengths. */
function series(data) {
  const several = data.methods.length > 1;
  const keys = several ? data.methods : [...new Set(data.runs.map((run) => run.t))].sort((a, b) => a - b);
  const of = several ? (item) => item.method : (item) => item.t;
  const ink = (key) => (several ? colorOf : shadeOf)(keys.indexOf(key), keys.length);
  const behind = (items) => (several ? items.toSorted((a, b) => keys.indexOf(of(b)) - keys.indexOf(of(a))) : items); // grey first
  return { of, keys, several, behind, label: (key) => (several ? key : `T = ${integer(key)}`), ink, color: (item) => ink(of(item)) };
}

/** The horizon runs. Of one, the two thresholds have colours. Of several, each has a colour, and one threshold is dashed. */
function horizonRuns(data) {
  const keys = data.horizons.map((horizon) => horizon.name), several = keys.length > 1;
  const ink = (key) => colorOf(keys.indexOf(key));
  return {
    of: (item) => (item.horizon ?? item).name, keys, several, label: (key) => key, ink,
    color: (point) => (several ? ink(point.horizon.name) : point.threshold === "1e-3" ? "var(--c0)" : "var(--c1)"),
  };
}

const frame = (width, height, options) => ({
  width, height, marginLeft: 46, marginRight: 16, marginTop: 28, marginBottom: 38, ...options,
});
const tip = { maxRadius: 160, fill: "var(--card)", stroke: "var(--line)", textPadding: 9, fontSize: 12 };
const dashed = (y) => Plot.ruleY([y], { stroke: "var(--soft)", strokeDasharray: "5 4" });
const dotted = (y) => Plot.ruleY([y], { stroke: "var(--soft)", strokeDasharray: "1.5 4", strokeLinecap: "round", strokeWidth: 1.5 });
const grid = (ticks) => Plot.gridY({ ticks, stroke: "var(--line)", strokeOpacity: 1 });

/** Lines and labels of a linear axis. */
const linearAxis = (label, tickFormat) => [grid(5), Plot.axisY({ label, tickFormat, ticks: 5, tickSize: 0 })];

/** A log axis: its domain, and lines at the powers of ten. */
function logAxis(values, label, tickFormat = powers) {
  const [low, high] = d3.extent(values.filter((value) => value > 0));
  const domain = [Math.min(low / 1.3, 10 ** Math.floor(Math.log10(low) + 0.3)), high * 1.4];
  if (Math.floor(Math.log10(domain[1])) < Math.log10(domain[0])) domain[0] = 10 ** Math.floor(Math.log10(low)); // no power of ten within
  const ticks = d3.range(Math.ceil(Math.log10(domain[0]) - 1e-9), Math.floor(Math.log10(domain[1])) + 1).map((k) => 10 ** k);
  return { scale: { type: "log", domain }, marks: [grid(ticks), Plot.axisY(ticks, { label, tickFormat, tickSize: 0 })] };
}

/**
 * The median, the lowest and the highest error of the seeds of each method and length. A run that has ended keeps its last
 * error. The places are the epochs of a single run, else 150 from the first epoch to the last.
 */
function spread(runs, unit, which, log) {
  const bisect = d3.bisector(([x]) => x).right;
  return d3.groups(runs, (run) => `${run.t} ${run.method}`).flatMap(([, members]) => {
    const { method, t } = members[0];
    const lines = members.map((run) => d3.zip(run[unit], run[which]).filter(([x, y]) => y > 0 && (!log || x > 0))).filter((line) => line.length);
    if (!lines.length) return [];
    const [low, high] = [d3.min(lines, (line) => line[0][0]), d3.max(lines, (line) => line.at(-1)[0])];
    const places = lines.length === 1 ? lines[0].map(([x]) => x)
      : d3.range(150).map((i) => (log ? low * (high / low) ** (i / 149) : low + ((high - low) * i) / 149));
    return places.map((x) => {
      const seen = lines.map((line) => line[bisect(line, x * (1 + 1e-9)) - 1]?.[1]).filter((y) => y);
      return { x, y: d3.median(seen), low: d3.min(seen), high: d3.max(seen), n: members.length, method, t };
    });
  });
}

/** A sentence where a chart would be empty. */
const sentence = (text) => Object.assign(document.createElement("p"), { className: "note", textContent: text });
const HIDDEN = "Nothing to draw: every line is switched off, or has no number yet.";

const CHARTS = {
  curves: {
    controls: (data) => [
      { name: "unit", label: "Against", kind: "segments", options: UNITS },
      data.methods.length > 1 ? longestShared(lengthFilter(data), data.groups) : lengthFilter(data),
      { name: "log", label: "log axis", kind: "check", checked: true },
      data.groups.some((group) => group.n > 1) ? { name: "seeds", label: "every seed", kind: "check" } : null,
      { name: "training", label: "training loss", kind: "check" },
    ],
    keyed: true,
    draw(data, { width, unit, length, log, seeds, training, shown }) {
      const kind = series(data);
      const runs = kind.behind(data.runs.filter((run) => (!length || run.t === +length) && shown(kind.of(run))));
      const held = spread(runs, unit, "val_loss", log), trained = training ? spread(runs, unit, "loss", log) : [];
      if (!held.length) return sentence(HIDDEN);
      const each = seeds ? runs.flatMap((run) => run.val_loss.map((y, i) => ({ x: run[unit][i], y, run, method: run.method, t: run.t })))
        .filter((d) => d.y > 0 && (!log || d.x > 0)) : [];
      const axis = logAxis([...held.flatMap((d) => [d.low, d.high]), ...trained.map((d) => d.y), data.constant, SOLVED], "↑ validation MSE");
      const common = { x: "x", y: "y", stroke: kind.color, ariaLabel: kind.of }, method = (d) => `${d.t} ${d.method}`;
      return Plot.plot(frame(width, Math.min(440, 240 + width / 5), {
        x: { type: log ? "log" : "linear", label: `${UNITS[unit]} →`, tickFormat: brief, ticks: Math.max(3, width / 110), grid: false },
        y: axis.scale,
        color: { type: "identity" },
        marks: [
          ...axis.marks, dashed(data.constant), dotted(SOLVED),
          Plot.areaY(held.filter((d) => d.n > 1), { x: "x", y1: "low", y2: "high", z: method, fill: kind.color, fillOpacity: kind.keys.length > COLORS ? 0.06 : 0.13, ariaLabel: kind.of }),
          Plot.line(trained, { ...common, z: method, strokeWidth: 1, strokeOpacity: 0.5, strokeDasharray: "3 2" }),
          Plot.line(each, { ...common, z: (d) => d.run.name, strokeWidth: 0.8, strokeOpacity: 0.6 }),
          Plot.line(held, { ...common, z: method, strokeWidth: 1.8 }),
          held.length < 12 ? Plot.dot(held, { ...common, fill: kind.color, r: 2.5 }) : null,
          Plot.tip(seeds ? each : held, Plot.pointer({
            ...tip, x: "x", y: "y",
            title: (d) => `${middle(d.method)}\nT = ${integer(d.t)}, ${d.run ? `seed ${d.run.seed}` : d.n > 1 ? `${d.n} seeds` : "one seed"}\n${brief(d.x)} ${UNITS[unit]}\n`
              + (d.n > 1 ? `median MSE ${error(d.y)} (${error(d.low)} to ${error(d.high)})` : `MSE ${error(d.y)}`),
          })),
        ],
      }));
    },
  },

  best: {
    controls: () => [],
    keyed: (data) => data.methods.length > 1,
    draw(data, { width, shown }) {
      const kind = series(data);
      const color = kind.several ? kind.color : () => "var(--c0)";
      const groups = kind.behind(data.groups.filter((group) => shown(kind.of(group))));
      const runs = kind.behind(data.runs.filter((run) => run.best && shown(kind.of(run))));
      if (!runs.length) return sentence(HIDDEN);
      const lengths = [...new Set(data.runs.map((run) => run.t))].sort((a, b) => a - b);
      const axis = logAxis([...runs.map((run) => run.best), data.constant, SOLVED], "↑ validation MSE");
      return Plot.plot(frame(width, 330, {
        x: { type: "log", domain: [lengths[0] / 1.25, lengths.at(-1) * 1.25] },
        y: axis.scale,
        color: { type: "identity" },
        marks: [
          ...axis.marks, dashed(data.constant), dotted(SOLVED),
          Plot.axisX(sparse(lengths, width), { text: integer, label: "sequence length T, in steps →" }),
          Plot.ruleX(groups.filter((group) => group.interval), {
            x: "t", y1: (d) => d.interval[0], y2: (d) => d.interval[1], stroke: color, strokeWidth: 5, strokeOpacity: 0.28, strokeLinecap: "round", ariaLabel: kind.of,
          }),
          Plot.line(groups, { x: "t", y: (d) => d.median ?? NaN, z: "method", stroke: color, strokeWidth: 1.8, ariaLabel: kind.of }),
          Plot.dot(groups.filter((d) => d.median == null), { x: "t", frameAnchor: "top", symbol: "times", stroke: color, r: 5, ariaLabel: kind.of }),
          Plot.dot(runs, { x: "t", y: "best", stroke: color, fill: (d) => (d.state === "unfinished" ? "var(--card)" : color(d)), fillOpacity: 0.75, r: 3, ariaLabel: kind.of }),
          Plot.tip(runs, Plot.pointer({
            ...tip, x: "t", y: "best", title: (d) => `${middle(d.method)}\nT = ${integer(d.t)}, seed ${d.seed}\nMSE ${error(d.best)}, ${d.state}`,
          })),
        ],
      }));
    },
  },

  survival: {
    controls: (data) => [
      { name: "unit", label: "Against", kind: "segments", options: UNITS },
      { name: "threshold", label: "Threshold", kind: "segments", options: { "1e-3": "1e-3", "1e-2": "1e-2" } },
      data.methods.length > 1 ? longestShared(lengthFilter(data, CHARTS.survival.items(data)), CHARTS.survival.items(data)) : null,
    ],
    items: (data) => data.groups.filter((group) => group.n > 1),
    keyed: true,
    draw(data, { width, unit, threshold, length, shown }) {
      const kind = series(data);
      const groups = kind.behind(CHARTS.survival.items(data).filter((group) => (!length || group.t === +length) && shown(kind.of(group))));
      const steps = groups.flatMap((group) => survivalSteps(group, threshold, unit));
      if (!groups.length) return sentence(HIDDEN);
      if (!steps.some((d) => d.y)) return sentence(`No run got below ${threshold}${length ? ` at T = ${integer(+length)}` : ""}.`);
      const from = d3.min(steps, (d) => d.x || undefined) ?? 1;
      return Plot.plot(frame(width, 330, {
        x: { type: "log", label: `${UNITS[unit]} →`, tickFormat: brief, ticks: Math.max(3, width / 110), domain: [from / 1.3, (d3.max(steps, (d) => d.x) || 10) * 1.3] },
        y: { domain: [0, 1] },
        color: { type: "identity" },
        marks: [
          ...linearAxis("↑ solved by", "%"),
          Plot.line(steps, {
            x: (d) => Math.max(d.x, from / 1.3), y: "y", z: (d) => `${d.group.method}/${d.group.t}`, curve: "step-after",
            stroke: (d) => kind.color(d.group), strokeWidth: 1.8, ariaLabel: kind.of,
          }),
          Plot.tip(steps, Plot.pointer({
            ...tip, x: (d) => Math.max(d.x, from / 1.3), y: "y",
            title: (d) => `${middle(d.group.method)}\nT = ${integer(d.group.t)}\n${Math.round(100 * d.y)}% of ${d.group.known[unit]} after ${brief(d.x)} ${UNITS[unit]}`,
          })),
        ],
      }));
    },
  },

  horizon: {
    controls: () => [{ name: "unit", label: "In", kind: "segments", options: { sequence_steps: "sequence-steps", seconds: "seconds" } }],
    keyed: true,
    series: horizonRuns,
    items: (data) => data.horizons,
    draw(data, { width, unit, shown }) {
      const kind = horizonRuns(data), horizons = data.horizons.filter((horizon) => shown(horizon.name));
      const points = horizons.flatMap((horizon) => horizon.rungs.flatMap((rung) =>
        Object.entries(rung.reached).filter(([, cost]) => cost).map(([threshold, cost]) => ({ t: rung.t, y: cost[unit], threshold, horizon }))));
      const given = horizons.flatMap((horizon) => horizon.rungs.filter((rung) => !rung.solved).map((rung) => ({ t: rung.t, y: rung[unit], horizon })));
      const line = (threshold, options) => Plot.line(points.filter((d) => d.threshold === threshold), {
        x: "t", y: "y", z: (d) => d.horizon.name, stroke: kind.color, strokeWidth: 1.8, ariaLabel: kind.of, ...options,
      });
      if (!points.length && !given.length) return sentence(HIDDEN);
      const told = (d) => (d.threshold ? `below ${d.threshold} after` : "not solved after");
      const axis = logAxis([...points, ...given].map((d) => d.y), `↑ ${UNITS[unit]}`, brief);
      const lengths = [...new Set(data.horizons.flatMap((horizon) => horizon.rungs.map((rung) => rung.t)))];
      return Plot.plot(frame(width, 340, {
        marginLeft: 56, marginRight: 28,
        x: { type: "log" },
        y: axis.scale,
        color: { type: "identity" },
        marks: [
          ...axis.marks,
          Plot.axisX(sparse(lengths, width), { text: integer, label: "sequence length T, in steps →" }),
          line("1e-2", kind.several ? { strokeDasharray: "5 4" } : {}), line("1e-3"),
          Plot.dot(points, { x: "t", y: "y", fill: kind.color, r: 3.5, ariaLabel: kind.of }),
          Plot.dot(given, { x: "t", y: "y", symbol: "times", stroke: kind.several ? kind.color : "var(--soft)", r: 5, ariaLabel: kind.of }),
          Plot.tip([...points, ...given], Plot.pointer({
            ...tip, x: "t", y: "y", title: (d) => `${middle(d.horizon.name)}\nT = ${integer(d.t)}\n${told(d)} ${brief(d.y)} ${UNITS[unit]}`,
          })),
        ],
      }));
    },
  },

  errors: {
    ofModel: true,
    controls: () => [],
    draw(data, { width, model }) {
      const errors = model.y.map((y, i) => (model.y_hat[i] == null ? NaN : model.y_hat[i] - y)).filter(Number.isFinite);
      if (!errors.length) return sentence("No prediction of this model is finite.");
      const most = Math.max(data.tolerance * 1.25, d3.quantile(errors.map(Math.abs), 0.995) || 0);
      return Plot.plot(frame(width, 300, {
        x: { label: "prediction − target →", domain: [-most, most], ticks: Math.max(3, width / 90) },
        y: { label: "↑ sequences", grid: false },
        marks: [
          ...linearAxis("↑ sequences"),
          Plot.rectY(errors.filter((e) => Math.abs(e) <= most), Plot.binX({ y: "count" }, { x: (e) => e, thresholds: 41, fill: "var(--c0)", inset: 0.5, rx: 1, tip })),
          Plot.ruleX([-data.tolerance, data.tolerance], { stroke: "var(--soft)", strokeDasharray: "5 4" }),
          Plot.text([`${(100 * model.within).toFixed(1)}% within ±${data.tolerance}, MSE ${error(model.mse)}`], { frameAnchor: "top-right", dy: -14, fill: "var(--ink)" }),
        ],
      }));
    },
  },

  scatter: {
    ofModel: true,
    controls: () => [],
    draw(data, { width, model }) {
      const points = model.y.map((y, i) => ({ y, y_hat: model.y_hat[i] })).filter((d) => Number.isFinite(d.y_hat));
      if (!points.length) return sentence("No prediction of this model is finite.");
      return Plot.plot(frame(width, 300, {
        x: { label: "target →", ticks: 5 }, y: { label: "↑ prediction", ticks: 5 },
        marks: [
          ...linearAxis("↑ prediction"),
          Plot.dot(points, { x: "y", y: "y_hat", r: 1.8, fill: "var(--c0)", fillOpacity: 0.55 }),
          Plot.line(d3.extent(points, (d) => d.y).map((y) => [y, y]), { stroke: "var(--right)", strokeWidth: 1.2 }),
          Plot.tip(points, Plot.pointer({ ...tip, x: "y", y: "y_hat", title: (d) => `target ${d.y.toFixed(3)}\nprediction ${d.y_hat.toFixed(3)}` })),
        ],
      }));
    },
  },

  memory: {
    ofModel: true,
    controls: () => [{ name: "scale", label: "Scale", kind: "segments", options: { linear: "linear", log: "log" } }],
    draw(data, { width, scale, model }) {
      if (!model.memory) return sentence("This model gives no gradient by its input.");
      const memory = model.memory, columns = memory.value.length;
      const points = memory.value.map((y, i) => ({ step: Math.round(((i + 0.5) * memory.t) / columns), y: scale === "log" ? Math.max(y, 1e-8) : y }));
      const marks = memory.marks.map((step, i) => ({ step: step + 1, y: memory.at_marks[i] }));
      const right = memory.right.map((y, i) => ({ step: marks[i].step, y: scale === "log" ? Math.max(y, 1e-8) : y }));
      const axis = scale === "log" ? logAxis(points.map((d) => d.y), "↑ |∂ŷ/∂xₜ|") : {
        scale: { zero: true, nice: true },
        marks: linearAxis("↑ |∂ŷ/∂xₜ|"),
      };
      return Plot.plot(frame(width, 260, {
        marginLeft: 50,
        x: { label: "step →", domain: [0, memory.t], tickFormat: integer, ticks: Math.max(3, width / 120) },
        y: axis.scale,
        marks: [
          ...axis.marks,
          Plot.ruleX(points, { x: "step", y1: scale === "log" ? axis.scale.domain[0] : 0, y2: "y", stroke: "var(--c0)", strokeWidth: Math.max(1.5, width / columns / 1.6), strokeOpacity: 0.8 }),
          Plot.dot(right, { x: "step", y: "y", stroke: "var(--right)", strokeWidth: 1.5, r: 9 }),
          Plot.dot(marks, { x: "step", y: "y", fill: "var(--right)", stroke: "var(--card)", strokeWidth: 1.5, r: 5 }),
          Plot.tip([...points, ...marks], Plot.pointerX({ ...tip, x: "step", y: "y", title: (d) => `step ${integer(d.step)}\n${d3.format(".2~e")(d.y)}` })),
        ],
      }));
    },
  },
};

function lengthFilter(data, items = data.runs) {
  const lengths = [...new Set(items.map((item) => item.t))].sort((a, b) => a - b);
  if (lengths.length < 2) return null;
  return { name: "length", label: "Length", kind: "select", options: { "": "every T", ...Object.fromEntries(lengths.map((t) => [t, `T = ${integer(t)}`])) } };
}

/** Lines of one colour at several lengths cannot be told apart: begin with the longest length that most methods share. */
function longestShared(filter, groups) {
  const shared = d3.rollup(groups, (members) => members.length, (group) => group.t), most = d3.max(shared.values());
  return filter && { ...filter, value: String(d3.max([...shared].filter(([, count]) => count === most), ([t]) => t)) };
}

/** From nothing to the last step, and on to where the longest run ended. */
function survivalSteps(group, threshold, unit) {
  const steps = group.survival[threshold][unit].map(([x, y]) => ({ x, y }));
  const end = group.spent[unit] == null ? [] : [{ x: group.spent[unit], y: steps.at(-1)?.y ?? 0 }];
  return [{ x: 0, y: 0 }, ...steps, ...end].map((step) => ({ ...step, group, method: group.method, t: group.t }));
}

/** Lengths that have room for their labels on a log axis. */
function sparse(lengths, width) {
  const sorted = [...lengths].sort((a, b) => a - b), room = (60 / width) * Math.log(sorted.at(-1) / sorted[0] || 1);
  return sorted.filter(((last) => (t) => (Math.log(t) - last < room ? false : ((last = Math.log(t)), true)))(-Infinity));
}
