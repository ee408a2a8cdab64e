"use strict";
// An LSTM that is trained in the page, in float64: models/lstm.py and the recipe `fast`.
//
// Letters: B sequences, T steps, H cells, G = 4H gate rows in the order i, f, g, o, D = H + 3
// inputs of a row: the last output h, value, mark and a 1 for the bias. Arrays are flat; the last
// letter runs fastest.

/** Streams of a seed that share no numbers. */
const STREAMS = { weights: 1, training: 2, validation: 3, shown: 4, beyond: 5 };

function stream(seed, name, index = 0) {
  let state = 0x9e3779b9;
  for (const part of [seed, STREAMS[name], index]) {
    state = Math.imul(state ^ part, 0x85ebca6b);
    state = Math.imul(state ^ (state >>> 13), 0xc2b2ae35);
    state ^= state >>> 16;
  }
  return uniform(state);
}

/** Two normal numbers make one here (Box and Muller 1958). */
const normal = (random) =>
  Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());

// --- the task ------------------------------------------------------------------------------------

/** Variance of the sum, and of the difference, of two values from U[0, 1). */
const MEAN_BASELINE = 1 / 6;

const RIGHT_ANSWER = {
  sum: (first, second) => first + second,
  difference: (first, second) => first - second,
};

/** n sequences: values (n, T) from U[0, 1), marked steps (n, 2) in their order, answers (n,). */
function sample(random, n, T, target) {
  const values = new Float64Array(n * T),
    marks = new Int32Array(2 * n),
    answers = new Float64Array(n);
  for (let at = 0; at < n * T; at++) values[at] = random();
  for (let b = 0; b < n; b++) {
    const one = Math.floor(random() * T),
      other = Math.floor(random() * (T - 1));
    const two = other + (other >= one ? 1 : 0);
    marks[2 * b] = Math.min(one, two);
    marks[2 * b + 1] = Math.max(one, two);
    answers[b] = RIGHT_ANSWER[target](
      values[b * T + marks[2 * b]],
      values[b * T + marks[2 * b + 1]],
    );
  }
  return { n, T, values, marks, answers };
}

// --- products of matrices ------------------------------------------------------------------------

/**
 * out[a, m] = sum over k < K of rows[a, k] * weights[m, k], for a < A and m < M.
 *
 * A must be a multiple of 4, M even: four rows and two of weights stay in registers together. The
 * sizes `across` are the distances between two rows.
 */
function product(rows, rowsAt, rowsAcross, A, weights, weightsAcross, M, K, out, outAt, outAcross) {
  for (let a = 0; a < A; a += 4) {
    const r0 = rowsAt + a * rowsAcross,
      r1 = r0 + rowsAcross,
      r2 = r1 + rowsAcross,
      r3 = r2 + rowsAcross;
    const o0 = outAt + a * outAcross,
      o1 = o0 + outAcross,
      o2 = o1 + outAcross,
      o3 = o2 + outAcross;
    for (let m = 0; m < M; m += 2) {
      const w0 = m * weightsAcross,
        w1 = w0 + weightsAcross;
      let s00 = 0,
        s10 = 0,
        s20 = 0,
        s30 = 0,
        s01 = 0,
        s11 = 0,
        s21 = 0,
        s31 = 0;
      for (let k = 0; k < K; k++) {
        const u0 = weights[w0 + k],
          u1 = weights[w1 + k];
        const x0 = rows[r0 + k],
          x1 = rows[r1 + k],
          x2 = rows[r2 + k],
          x3 = rows[r3 + k];
        s00 += u0 * x0;
        s01 += u1 * x0;
        s10 += u0 * x1;
        s11 += u1 * x1;
        s20 += u0 * x2;
        s21 += u1 * x2;
        s30 += u0 * x3;
        s31 += u1 * x3;
      }
      out[o0 + m] = s00;
      out[o1 + m] = s10;
      out[o2 + m] = s20;
      out[o3 + m] = s30;
      out[o0 + m + 1] = s01;
      out[o1 + m + 1] = s11;
      out[o2 + m + 1] = s21;
      out[o3 + m + 1] = s31;
    }
  }
}

/** out[m, k] += sum over a < 4 of left[a, m] * right[a, k]: a gradient from four sequences. */
function addOuter(left, leftAt, M, right, rightAt, K, out) {
  const r0 = rightAt,
    r1 = r0 + K,
    r2 = r1 + K,
    r3 = r2 + K;
  for (let m = 0; m < M; m++) {
    const at = leftAt + m,
      o = m * K;
    const l0 = left[at],
      l1 = left[at + M],
      l2 = left[at + 2 * M],
      l3 = left[at + 3 * M];
    for (let k = 0; k < K; k++) {
      out[o + k] +=
        l0 * right[r0 + k] + l1 * right[r1 + k] + l2 * right[r2 + k] + l3 * right[r3 + k];
    }
  }
}

// --- the model -----------------------------------------------------------------------------------

/**
 * B sequences at a time, B a multiple of 4.
 *
 * `weights` and `gradients`: the gates' (G, D), then the readout's (H,) and its offset.
 */
class LSTM {
  constructor(H) {
    this.H = H;
    this.G = 4 * H;
    this.D = H + 3;
    this.size = this.G * this.D + H + 1;
    this.weights = new Float64Array(this.size);
    this.gradients = new Float64Array(this.size);
    this.recurrentTransposed = new Float64Array(H * this.G);
    this.rows = 0;
    this.sequences = 0;
  }

  /** Space for B sequences of T steps; what was there is lost. */
  allocate(B, T) {
    const { H, G, D } = this;
    const rows = (T + 1) * B;
    if (rows > this.rows) {
      this.rows = rows;
      this.inputs = new Float64Array(rows * D);
      this.gates = new Float64Array(rows * G);
      this.cells = new Float64Array(rows * H);
      this.squashed = new Float64Array(rows * H); // tanh of the cells
    }
    if (B > this.sequences) {
      this.sequences = B;
      this.dOutputs = new Float64Array(B * H);
      this.dCells = new Float64Array(B * H);
    }
  }

  /** B sequences: from inputs and cells at row t to gates at t, cells and outputs at `next`. */
  step(t, next, B) {
    const { H, G, D, inputs, gates, cells, squashed } = this;
    product(inputs, t * B * D, D, B, this.weights, D, G, D, gates, t * B * G, G);
    for (let b = 0; b < B; b++) {
      const row = t * B + b,
        z = row * G,
        c = row * H,
        after = next * B + b;
      for (let k = 0; k < H; k++) {
        const input = 1 / (1 + Math.exp(-gates[z + k]));
        const forget = 1 / (1 + Math.exp(-gates[z + H + k]));
        const candidate = 1 - 2 / (1 + Math.exp(2 * gates[z + 2 * H + k])); // tanh
        const output = 1 / (1 + Math.exp(-gates[z + 3 * H + k]));
        const cell = forget * cells[c + k] + input * candidate;
        const seen = 1 - 2 / (1 + Math.exp(2 * cell));
        gates[z + k] = input;
        gates[z + H + k] = forget;
        gates[z + 2 * H + k] = candidate;
        gates[z + 3 * H + k] = output;
        cells[after * H + k] = cell;
        squashed[c + k] = seen;
        inputs[after * D + k] = output * seen;
      }
    }
  }

  /** Write value, mark and 1 of step t into a row of the inputs, from a first sequence on. */
  feed(data, first, t, row, B) {
    const { H, D, inputs } = this;
    for (let b = 0; b < B; b++) {
      const at = (row * B + b) * D + H,
        item = first + b;
      inputs[at] = data.values[item * data.T + t];
      inputs[at + 1] = data.marks[2 * item] === t || data.marks[2 * item + 1] === t ? 1 : 0;
      inputs[at + 2] = 1;
    }
  }

  clearState(B) {
    const { H, D } = this;
    for (let b = 0; b < B; b++) this.inputs.fill(0, b * D, b * D + H);
    this.cells.fill(0, 0, B * H);
  }

  /** The estimate from the outputs at a row of the inputs. */
  readout(row) {
    const { H, D, weights } = this,
      v = this.G * D;
    let estimate = weights[v + H];
    for (let k = 0; k < H; k++) estimate += weights[v + k] * this.inputs[row * D + k];
    return estimate;
  }

  /** Mean squared error on n sequences, n a multiple of 4; keeps two steps only. */
  error(data, first, n) {
    const B = 4;
    let squares = 0;
    this.allocate(B, 2);
    for (let item = first; item < first + n; item += B) {
      this.clearState(B);
      for (let t = 0; t < data.T; t++) {
        this.feed(data, item, t, t & 1, B);
        this.step(t & 1, ~t & 1, B);
      }
      for (let b = 0; b < B; b++)
        squares += (this.readout((data.T & 1) * B + b) - data.answers[item + b]) ** 2;
    }
    return squares / n;
  }

  /** All steps of all sequences of the data, kept for `backward`. */
  forward(data) {
    this.allocate(data.n, data.T);
    this.clearState(data.n);
    for (let t = 0; t < data.T; t++) {
      this.feed(data, 0, t, t, data.n);
      this.step(t, t + 1, data.n);
    }
  }

  /** Mean squared error after `forward`; leaves its gradients, back through all steps. */
  backward(data) {
    const {
      H,
      G,
      D,
      weights,
      gradients,
      inputs,
      gates,
      cells,
      squashed,
      dOutputs,
      dCells,
      recurrentTransposed,
    } = this;
    const B = data.n,
      v = G * D;
    gradients.fill(0);
    dCells.fill(0, 0, B * H);
    for (let k = 0; k < H; k++) {
      for (let row = 0; row < G; row++) recurrentTransposed[k * G + row] = weights[row * D + k];
    }
    let squares = 0;
    for (let b = 0; b < B; b++) {
      const last = data.T * B + b,
        error = this.readout(last) - data.answers[b],
        dEstimate = (2 * error) / B;
      squares += error * error;
      gradients[v + H] += dEstimate;
      for (let k = 0; k < H; k++) {
        gradients[v + k] += dEstimate * inputs[last * D + k];
        dOutputs[b * H + k] = dEstimate * weights[v + k];
      }
    }
    for (let t = data.T - 1; t >= 0; t--) {
      for (let b = 0; b < B; b++) {
        const row = t * B + b,
          z = row * G,
          c = row * H,
          at = b * H;
        for (let k = 0; k < H; k++) {
          const input = gates[z + k],
            forget = gates[z + H + k],
            candidate = gates[z + 2 * H + k];
          const output = gates[z + 3 * H + k],
            seen = squashed[c + k],
            dOutput = dOutputs[at + k];
          const dCell = dCells[at + k] + dOutput * output * (1 - seen * seen);
          // From here on the gates hold the gradients of what goes into them.
          gates[z + k] = dCell * candidate * input * (1 - input);
          gates[z + H + k] = dCell * cells[c + k] * forget * (1 - forget);
          gates[z + 2 * H + k] = dCell * input * (1 - candidate * candidate);
          gates[z + 3 * H + k] = dOutput * seen * output * (1 - output);
          dCells[at + k] = dCell * forget;
        }
      }
      for (let b = 0; b < B; b += 4)
        addOuter(gates, (t * B + b) * G, G, inputs, (t * B + b) * D, D, gradients);
      if (t) product(gates, t * B * G, G, B, recurrentTransposed, G, H, G, dOutputs, 0, H);
    }
    return squares / B;
  }
}

// --- where training starts -----------------------------------------------------------------------

/** The recipe's longest time scale, in steps, that the initialisations prepare for. */
const MEMORY = 1e9;

/** Weights (G, D) and readout of an initialisation of models/lstm.py. */
function initialise(lstm, name, random) {
  const { H, G, D, weights } = lstm,
    scale = Math.log(MEMORY);
  const within = (limit) => (2 * random() - 1) * limit;
  const timeScale = () => Math.log(1 + random() * (MEMORY - 2));
  const glorot = name === "keras" || name === "chrono";
  const recurrent = orthogonal(G, H, random);
  for (let row = 0; row < G; row++) {
    const at = row * D,
      gate = Math.floor(row / H);
    for (let k = 0; k < H; k++) weights[at + k] = recurrent[row * H + k] * (glorot ? 1 : 0.3);
    weights[at + H] = within(glorot ? Math.sqrt(6 / (2 + G)) : 0.1);
    weights[at + H + 1] = within(glorot ? Math.sqrt(6 / (2 + G)) : 0.1);
    weights[at + H + 2] = gate === 1 ? (name === "keras" ? 1 : timeScale()) : 0;
  }
  for (let k = 0; k < H; k++)
    weights[G * D + k] = within(glorot ? Math.sqrt(6 / (H + 1)) : 1 / Math.sqrt(H));
  weights[G * D + H] = 0;
  for (let k = 0; k < H; k++) {
    const at = k * D + H,
      bias = at + 2;
    if (name === "chrono") weights[bias] = -weights[(H + k) * D + H + 2];
    if (name === "keyed" || name === "oracle") weights[bias] = -scale;
    if (name === "oracle") weights[at + 1] = within(2 * scale);
    if (name === "keyed") {
      const column = random() < 0.5 ? 0 : 1;
      weights[at + column] = (random() < 0.5 ? -2 : 2) * scale;
      weights[at + 1 - column] = 0;
    }
  }
}

/** Random orthonormal columns (rows, columns), by Gram and Schmidt's method, twice. */
function orthogonal(rows, columns, random) {
  const out = new Float64Array(rows * columns);
  for (let at = 0; at < rows * columns; at++) out[at] = normal(random);
  for (let j = 0; j < columns; j++) {
    for (let i = 0; i < 2 * j; i++) {
      let shared = 0;
      for (let r = 0; r < rows; r++) shared += out[r * columns + j] * out[r * columns + (i % j)];
      for (let r = 0; r < rows; r++) out[r * columns + j] -= shared * out[r * columns + (i % j)];
    }
    let squares = 0;
    for (let r = 0; r < rows; r++) squares += out[r * columns + j] ** 2;
    for (let r = 0; r < rows; r++) out[r * columns + j] /= Math.sqrt(squares);
  }
  return out;
}

// --- how it goes on ------------------------------------------------------------------------------

/** The recipe `fast`, but for the val_subset: its 32 sequences are too few to draw a flat plateau. */
const RECIPE = {
  batch: 16,
  epochSteps: 10,
  heldOut: 256,
  val_subset: 128,
  learningRate: 3e-2,
  warmupSteps: 50,
  clipNorm: 1,
  start: 20,
  factor: 3,
  shortest: 0.1,
  threshold: 3e-3,
  smoothing: 0.95,
  decayBelow: 1e-2,
  decaySteps: 400,
  endingBelow: 3e-3,
  endingSteps: 300,
  endingLength: 1000,
  stopBelow: 5e-4,
};

/** Adam (Kingma and Ba 2015) with Keras's epsilon, on a gradient whose norm is clipped. */
class Adam {
  constructor(size) {
    this.mean = new Float64Array(size);
    this.square = new Float64Array(size);
    this.steps = 0;
  }

  step(weights, gradients, rate) {
    const { mean, square } = this;
    let squares = 0;
    for (let k = 0; k < weights.length; k++) squares += gradients[k] * gradients[k];
    const scale = Math.min(1, RECIPE.clipNorm / (Math.sqrt(squares) + 1e-6));
    this.steps++;
    const size = rate / (1 - 0.9 ** this.steps),
      correction = 1 / Math.sqrt(1 - 0.999 ** this.steps);
    for (let k = 0; k < weights.length; k++) {
      const gradient = scale * gradients[k];
      mean[k] = 0.9 * mean[k] + 0.1 * gradient;
      square[k] = 0.999 * square[k] + 0.001 * gradient * gradient;
      weights[k] -= (size * mean[k]) / (Math.sqrt(square[k]) * correction + 1e-7);
    }
  }
}

/** schedule.py: the longest length and the learning rate of a step. */
class Schedule {
  constructor(T, curriculum) {
    Object.assign(this, {
      T,
      length: curriculum ? Math.min(RECIPE.start, T) : T,
      rate: RECIPE.learningRate,
      smoothed: MEAN_BASELINE,
    });
    Object.assign(this, { step: 0, decayStart: 0, decaySteps: 0, endingFrom: 0, endings: 0 });
  }

  get learningRate() {
    const fallen = this.decaySteps ? (this.step - this.decayStart) / this.decaySteps : 0;
    return this.rate * Math.min(1, (this.step + 1) / RECIPE.warmupSteps) * (1 - fallen);
  }

  get decayed() {
    return this.decaySteps > 0 && this.step === this.decayStart + this.decaySteps;
  }

  /** After a step with this training loss. */
  advance(loss) {
    this.smoothed = RECIPE.smoothing * this.smoothed + (1 - RECIPE.smoothing) * loss;
    this.step++;
    const full = this.length === this.T;
    if (this.decaySteps) this.decay();
    else if (!full && this.smoothed < RECIPE.threshold) {
      this.length = Math.max(this.length + 1, Math.min(this.T, this.length * RECIPE.factor));
      this.smoothed = MEAN_BASELINE;
    } else if (full && this.smoothed < RECIPE.decayBelow) {
      Object.assign(this, { decayStart: this.step, decaySteps: RECIPE.decaySteps });
    }
  }

  decay() {
    const over = this.step > this.decayStart + this.decaySteps;
    if (over && this.endingFrom) {
      Object.assign(this, {
        smoothed: MEAN_BASELINE,
        length: this.endingFrom,
        endings: this.endings + 1,
      });
      Object.assign(this, { decayStart: 0, decaySteps: 0, endingFrom: 0 });
    } else if (over) {
      Object.assign(this, {
        rate: this.rate / 2,
        decayStart: this.step - 1,
        decaySteps: 2 * this.decaySteps,
      });
    } else if (this.endingFrom) {
      const last = Math.max(this.endingFrom, Math.min(this.T, RECIPE.endingLength));
      const done = Math.min(1, (this.step - this.decayStart) / Math.max(1, this.decaySteps - 1));
      this.length = Math.round(this.endingFrom * (last / this.endingFrom) ** done);
    }
  }

  beginEnding() {
    if (this.decaySteps) return;
    Object.assign(this, {
      decayStart: this.step,
      decaySteps: RECIPE.endingSteps * 2 ** this.endings,
      endingFrom: this.length,
    });
  }
}

/** A training. All follows from the choices; without `curriculum` all have T steps. */
class Training {
  constructor({ T, target, init, seed, hidden, curriculum }) {
    Object.assign(this, { T, target, seed, curriculum, sequenceSteps: 0, solved: false });
    this.lstm = new LSTM(hidden);
    initialise(this.lstm, init, stream(seed, "weights"));
    this.adam = new Adam(this.lstm.size);
    this.schedule = new Schedule(T, curriculum);
    this.heldOut = sample(stream(seed, "validation"), RECIPE.heldOut, T, target);
    this.validation = this.validate();
  }

  /** One step of gradient descent; whether it was the last of an epoch, which a validation ends. */
  step() {
    const { schedule, lstm } = this,
      random = stream(this.seed, "training", schedule.step);
    const length = this.curriculum ? this.drawLength(random) : this.T;
    const data = sample(random, RECIPE.batch, length, this.target);
    lstm.forward(data);
    const loss = lstm.backward(data);
    this.adam.step(lstm.weights, lstm.gradients, schedule.learningRate);
    schedule.advance(loss);
    this.sequenceSteps += RECIPE.batch * length;
    const last = schedule.step % RECIPE.epochSteps === 0;
    if (last) this.endEpoch();
    return last;
  }

  /** Between a share of the schedule's length and all of it, evenly on a log scale. */
  drawLength(random) {
    const longest = this.schedule.length,
      shortest = Math.max(2, RECIPE.shortest * longest);
    return Math.round(longest * (shortest / longest) ** random());
  }

  endEpoch() {
    this.validation = this.validate();
    if (this.validation < RECIPE.endingBelow) this.schedule.beginEnding();
    this.solved = this.schedule.decayed && this.validation < RECIPE.stopBelow;
  }

  /** The error at T: on few sequences only while a decay is under way or the goal is far. */
  validate() {
    const { lstm, heldOut, schedule } = this,
      few = RECIPE.val_subset;
    const first = lstm.error(heldOut, 0, few);
    if (first > 1.25 * RECIPE.stopBelow || (schedule.decaySteps && !schedule.decayed)) return first;
    return (
      (first * few + lstm.error(heldOut, few, heldOut.n - few) * (heldOut.n - few)) / heldOut.n
    );
  }

  /** Error on n test sequences of another length, fewer of them where they are long. */
  beyond(length) {
    const n = this.costBeyond(length) / length;
    return {
      n,
      mse: this.lstm.error(
        sample(stream(this.seed, "beyond", length), n, length, this.target),
        0,
        n,
      ),
    };
  }

  /** What this takes, in sequence-steps. */
  costBeyond(length) {
    return 4 * length * Math.max(2, Math.min(16, Math.floor(5000 / length)));
  }

  /** One sequence: values, marks, right answer, estimate, input and forget gates (T, H). */
  look() {
    const { lstm, T } = this,
      { H, G } = lstm,
      B = 4;
    const data = sample(stream(this.seed, "shown"), B, T, this.target);
    lstm.forward(data);
    const input = new Float32Array(T * H),
      forget = new Float32Array(T * H);
    for (let t = 0; t < T; t++) {
      const z = t * B * G;
      input.set(lstm.gates.subarray(z, z + H), t * H);
      forget.set(lstm.gates.subarray(z + H, z + 2 * H), t * H);
    }
    return {
      values: data.values.slice(0, T),
      marks: [...data.marks.slice(0, 2)],
      right: data.answers[0],
      estimate: lstm.readout(T * B),
      input,
      forget,
      cells: H,
    };
  }
}
