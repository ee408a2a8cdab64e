"""An LSTM in float64 NumPy, written from its equations: forward, backpropagation through time,
clipping and Adam.

Gate order i, f, g, o; kernel (2, 4H), recurrent kernel (H, 4H), bias (4H), as Keras holds them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]
Weights = dict[str, Array]


def sigmoid(z: Array) -> Array:
    return 1 / (1 + np.exp(-z))


def forward(weights: Weights, x: Array) -> tuple[Array, list[tuple[Array, ...]]]:
    """Predictions (B, 1) of x (B, T, 2), and what the backward pass needs of every step."""
    hidden = weights["recurrent"].shape[0]
    h = c = np.zeros((len(x), hidden))
    tape: list[tuple[Array, ...]] = []
    for t in range(x.shape[1]):
        z = x[:, t] @ weights["kernel"] + h @ weights["recurrent"] + weights["bias"]
        i, f, o = (
            sigmoid(z[:, :hidden]),
            sigmoid(z[:, hidden : 2 * hidden]),
            sigmoid(z[:, 3 * hidden :]),
        )
        g = np.tanh(z[:, 2 * hidden : 3 * hidden])
        tape.append((x[:, t], h, c, i, f, g, o))
        c = f * c + i * g
        h = o * np.tanh(c)
    tape.append((h, c))
    return h @ weights["readout"] + weights["readout_bias"], tape


def gradients(weights: Weights, x: Array, y: Array) -> tuple[float, Weights]:
    """Mean squared error and its gradient by every weight."""
    prediction, tape = forward(weights, x)
    d_prediction = 2 * (prediction - y) / len(x)
    h, c = tape.pop()
    grad = {name: np.zeros_like(w) for name, w in weights.items()}
    grad["readout"], grad["readout_bias"] = h.T @ d_prediction, d_prediction.sum(0)
    dh, dc = d_prediction @ weights["readout"].T, np.zeros_like(c)
    for x_t, h, c, i, f, g, o in reversed(tape):
        tanh_c = np.tanh(f * c + i * g)
        dc = dc + dh * o * (1 - tanh_c**2)
        dz = np.concatenate(
            [
                dc * g * i * (1 - i),
                dc * c * f * (1 - f),
                dc * i * (1 - g**2),
                dh * tanh_c * o * (1 - o),
            ],
            axis=1,
        )
        grad["kernel"] += x_t.T @ dz
        grad["recurrent"] += h.T @ dz
        grad["bias"] += dz.sum(0)
        dh, dc = dz @ weights["recurrent"].T, dc * f
    return float(np.mean((prediction - y) ** 2)), grad


class Adam:
    """Kingma & Ba 2015, algorithm 1, after clipping every component to [-clip, clip]."""

    def __init__(self, rate: float, clip: float, epsilon: float = 1e-7) -> None:
        self.rate, self.clip, self.epsilon, self.step_count = rate, clip, epsilon, 0
        self.m: Weights = {}
        self.v: Weights = {}

    def step(self, weights: Weights, grad: Weights) -> None:
        self.step_count += 1
        for name, g in grad.items():
            g = np.clip(g, -self.clip, self.clip)  # noqa: PLW2901
            self.m[name] = 0.9 * self.m.get(name, 0) + 0.1 * g
            self.v[name] = 0.999 * self.v.get(name, 0) + 0.001 * g**2
            m = self.m[name] / (1 - 0.9**self.step_count)
            v = self.v[name] / (1 - 0.999**self.step_count)
            weights[name] = weights[name] - self.rate * m / (np.sqrt(v) + self.epsilon)


def weights_of(state: dict[str, Any]) -> Weights:
    """The weights of an `AddingLSTM`'s state_dict in Keras's layout."""
    arrays = {name: tensor.detach().numpy().astype(np.float64) for name, tensor in state.items()}
    return {
        "kernel": arrays["lstm.weight_ih_l0"].T,
        "recurrent": arrays["lstm.weight_hh_l0"].T,
        "bias": arrays["lstm.bias_ih_l0"] + arrays["lstm.bias_hh_l0"],
        "readout": arrays["readout.weight"].T,
        "readout_bias": arrays["readout.bias"],
    }
