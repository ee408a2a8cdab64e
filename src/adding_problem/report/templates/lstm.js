"use strict";
// An LSTM with a linear readout, as in models/lstm.py: gates i, f, g, o; the estimate is the readout after each step.

const decode = (text, Type) => new Type(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);

class LSTM {
  /** @param {{hidden: number, weights: string}} model weights as base64 of float32, in the order that the slices below read */
  constructor({ hidden: H, weights }) {
    const all = decode(weights, Float32Array);
    let at = 0;
    const next = (n) => all.subarray(at, (at += n));
    this.hidden = H;
    this.kernel = next(8 * H);
    this.recurrent = next(4 * H * H);
    this.bias = next(4 * H);
    this.readout = next(H);
    this.offset = next(1)[0];
  }

  /** Estimates (T,) and cell states (T, H) of a sequence of values and marks, both (T,). */
  run(values, marks) {
    const H = this.hidden, T = values.length;
    const estimates = new Float32Array(T), cells = new Float32Array(T * H);
    const c = new Float64Array(H), h = new Float64Array(H), gates = new Float64Array(4 * H);
    for (let t = 0; t < T; t++) {
      this.gates(values[t], marks[t], h, gates);
      let estimate = this.offset;
      for (let k = 0; k < H; k++) {
        c[k] = sigmoid(gates[H + k]) * c[k] + sigmoid(gates[k]) * Math.tanh(gates[2 * H + k]);
        h[k] = sigmoid(gates[3 * H + k]) * Math.tanh(c[k]);
        estimate += this.readout[k] * h[k];
        cells[t * H + k] = c[k];
      }
      estimates[t] = estimate;
    }
    return { estimates, cells };
  }

  gates(value, mark, h, out) {
    const { hidden: H, kernel, recurrent, bias } = this;
    for (let row = 0, at = 0; row < 4 * H; row++) {
      let sum = bias[row] + kernel[2 * row] * value + kernel[2 * row + 1] * mark;
      for (let k = 0; k < H; k++) sum += recurrent[at++] * h[k];
      out[row] = sum;
    }
  }
}

const sigmoid = (x) => 1 / (1 + Math.exp(-x));
