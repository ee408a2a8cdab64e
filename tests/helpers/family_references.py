"""Every family as the slow, obvious loop over its equations, one step and one sequence of
operations at a time.

`(weights, x (B, T, 2)) -> (B, 1)`, from the state_dict of the model, in whatever type the weights
have.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import gelu, leaky_relu, silu, softplus

Weights = dict[str, Tensor]
sigmoid, tanh, relu = torch.sigmoid, torch.tanh, torch.relu


def linear(w: Weights, name: str, x: Tensor) -> Tensor:
    y = x @ w[f"{name}.weight"].T
    return y + w[f"{name}.bias"] if f"{name}.bias" in w else y


def readout(w: Weights, h: Tensor) -> Tensor:
    return linear(w, "readout", h)


def lstm(w: Weights, x: Tensor, model: Any) -> Tensor:
    h = c = torch.zeros(len(x), model.hidden, dtype=x.dtype)
    for t in range(x.shape[1]):
        z = (
            x[:, t] @ w["lstm.weight_ih_l0"].T
            + h @ w["lstm.weight_hh_l0"].T
            + w["lstm.bias_ih_l0"]
            + w["lstm.bias_hh_l0"]
        )
        i, f, g, o = z.chunk(4, dim=1)
        c = sigmoid(f) * c + sigmoid(i) * tanh(g)
        h = sigmoid(o) * tanh(c)
    return readout(w, h)


def gru(w: Weights, x: Tensor, model: Any) -> Tensor:
    h = torch.zeros(len(x), model.hidden, dtype=x.dtype)
    for t in range(x.shape[1]):
        a = (x[:, t] @ w["gru.weight_ih_l0"].T + w["gru.bias_ih_l0"]).chunk(3, dim=1)
        b = (h @ w["gru.weight_hh_l0"].T + w["gru.bias_hh_l0"]).chunk(3, dim=1)
        r, z = sigmoid(a[0] + b[0]), sigmoid(a[1] + b[1])
        h = (1 - z) * tanh(a[2] + r * b[2]) + z * h
    return readout(w, h)


def _elman(w: Weights, x: Tensor, model: Any, f: Callable[[Tensor], Tensor]) -> Tensor:
    h = torch.zeros(len(x), model.hidden, dtype=x.dtype)
    for t in range(x.shape[1]):
        h = f(
            x[:, t] @ w["rnn.weight_ih_l0"].T
            + h @ w["rnn.weight_hh_l0"].T
            + w["rnn.bias_ih_l0"]
            + w["rnn.bias_hh_l0"]
        )
    return readout(w, h)


def rnn(w: Weights, x: Tensor, model: Any) -> Tensor:
    return _elman(w, x, model, tanh)


def irnn(w: Weights, x: Tensor, model: Any) -> Tensor:
    return _elman(w, x, model, relu)


def indrnn(w: Weights, x: Tensor, model: Any) -> Tensor:
    for layer in range(model.layers):
        h = torch.zeros(len(x), model.hidden, dtype=x.dtype)
        steps = []
        for t in range(x.shape[1]):
            h = relu(linear(w, f"inputs.{layer}", x[:, t]) + w[f"recurrent.{layer}"] * h)
            steps.append(h)
        x = torch.stack(steps, dim=1)
    return readout(w, x[:, -1])


def exprnn(w: Weights, x: Tensor, model: Any) -> Tensor:
    a = torch.zeros(model.hidden, model.hidden, dtype=x.dtype)
    for entry, (row, column) in zip(
        w["skew"], ((i, j) for i in range(model.hidden) for j in range(i)), strict=True
    ):
        a[row, column], a[column, row] = entry, -entry
    q = torch.matrix_exp(a)
    h = torch.zeros(len(x), model.hidden, dtype=x.dtype)
    for t in range(x.shape[1]):
        z = x[:, t] @ w["input.weight"].T + h @ q.T
        h = torch.sign(z) * relu(torch.abs(z) + w["bias"])
    return readout(w, h)


def cornn(w: Weights, x: Tensor, model: Any) -> Tensor:
    y = z = torch.zeros(len(x), model.hidden, dtype=x.dtype)
    for t in range(x.shape[1]):
        force = tanh(linear(w, "cell", torch.cat([x[:, t], z, y], dim=1)))
        z = z + model.dt * (force - model.gamma * y - model.epsilon * z)
        y = y + model.dt * z
    return readout(w, y)


def lem(w: Weights, x: Tensor, model: Any) -> Tensor:
    y = z = torch.zeros(len(x), model.hidden, dtype=x.dtype)
    for t in range(x.shape[1]):
        in_a, in_b, in_z, in_y = linear(w, "input", x[:, t]).chunk(4, dim=1)
        rec_a, rec_b, rec_z = linear(w, "recurrent", y).chunk(3, dim=1)
        a, b = model.dt * sigmoid(in_a + rec_a), model.dt * sigmoid(in_b + rec_b)
        z = (1 - a) * z + a * tanh(in_z + rec_z)
        y = (1 - b) * y + b * tanh(in_y + linear(w, "transform", z))
    return readout(w, y)


def mingru(w: Weights, x: Tensor, model: Any) -> Tensor:
    for layer in range(model.layers):
        h = torch.zeros(len(x), model.hidden, dtype=x.dtype)
        steps = []
        for t in range(x.shape[1]):
            gate, candidate = linear(w, f"inputs.{layer}", x[:, t]).chunk(2, dim=1)
            z = sigmoid(gate)
            h = (1 - z) * h + z * candidate
            steps.append(h)
        x = torch.stack(steps, dim=1)
    return readout(w, x[:, -1])


def minlstm(w: Weights, x: Tensor, model: Any) -> Tensor:
    for layer in range(model.layers):
        h = torch.zeros(len(x), model.hidden, dtype=x.dtype)
        steps = []
        for t in range(x.shape[1]):
            write, keep, candidate = linear(w, f"inputs.{layer}", x[:, t]).chunk(3, dim=1)
            i, f = sigmoid(write), sigmoid(keep)
            h = f / (f + i) * h + i / (f + i) * candidate
            steps.append(h)
        x = torch.stack(steps, dim=1)
    return readout(w, x[:, -1])


def lru(w: Weights, x: Tensor, model: Any) -> Tensor:
    """In complex numbers throughout."""
    x = linear(w, "encoder", x)
    for block in range(model.layers):
        name = f"blocks.{block}"
        u = torch.nn.functional.layer_norm(
            x, x.shape[-1:], w[f"{name}.norm.weight"], w[f"{name}.norm.bias"]
        )
        eigenvalue = torch.exp(
            torch.complex(-torch.exp(w[f"{name}.layer.nu"]), torch.exp(w[f"{name}.layer.theta"]))
        )
        kernel = torch.complex(*w[f"{name}.layer.input"].chunk(2, dim=0))
        output = torch.complex(*w[f"{name}.layer.output"].chunk(2, dim=1))
        s = torch.zeros(len(x), model.states, dtype=eigenvalue.dtype)
        steps = []
        for t in range(x.shape[1]):
            s = eigenvalue * s + torch.exp(w[f"{name}.layer.gamma"]) * (
                u[:, t].to(s.dtype) @ kernel.T
            )
            steps.append((s @ output.T).real + w[f"{name}.layer.skip"] * u[:, t])
        value, gate = linear(w, f"{name}.gated", gelu(torch.stack(steps, dim=1))).chunk(2, dim=-1)
        x = x + value * sigmoid(gate)
    return readout(w, x[:, -1])


def s6(w: Weights, x: Tensor, model: Any) -> Tensor:
    x = linear(w, "encoder", x)
    for block in range(model.layers):
        name = f"blocks.{block}"
        scale = torch.rsqrt(x.square().mean(-1, keepdim=True) + torch.finfo(x.dtype).eps)
        z, gate = linear(w, f"{name}.inputs", x * scale * w[f"{name}.norm.weight"]).chunk(2, dim=-1)
        s = torch.zeros(len(x), model.hidden, model.states, dtype=x.dtype)
        steps = []
        for t in range(x.shape[1]):
            step = softplus(linear(w, f"{name}.layer.time_step", z[:, t]))
            write, read = linear(w, f"{name}.layer.select", z[:, t]).chunk(2, dim=1)
            decay = torch.exp(-step[:, :, None] * torch.exp(w[f"{name}.layer.log_decay"]))
            s = decay * s + (step * z[:, t])[:, :, None] * write[:, None]
            steps.append((s * read[:, None]).sum(-1) + w[f"{name}.layer.skip"] * z[:, t])
        x = x + linear(w, f"{name}.output", torch.stack(steps, dim=1) * silu(gate))
    return readout(w, x[:, -1])


def slstm(w: Weights, x: Tensor, model: Any) -> Tensor:
    """Without the stabiliser: exponentials as they stand."""
    size = model.hidden // model.heads
    h = c = n = torch.zeros(len(x), model.heads, size, dtype=x.dtype)
    for t in range(x.shape[1]):
        z = linear(w, "input", x[:, t]).view(len(x), model.heads, -1) + torch.einsum(
            "bks,ksg->bkg", h, w["recurrent"]
        )
        i, f, o, z = z.chunk(4, dim=-1)
        c = sigmoid(f) * c + torch.exp(i) * tanh(z)
        n = sigmoid(f) * n + torch.exp(i)
        h = sigmoid(o) * c / n
    return readout(w, h.flatten(1))


def tcn(w: Weights, x: Tensor, model: Any) -> Tensor:
    h = x
    for level in range(model.levels):
        name, shortcut = f"network.{level}", h
        for convolution in ("first", "second"):
            g, v = (w[f"{name}.{convolution}.parametrizations.weight.original{k}"] for k in (0, 1))
            weight = g * v / v.flatten(1).norm(dim=1).view(-1, 1, 1)
            out = []
            for t in range(h.shape[1]):
                total = w[f"{name}.{convolution}.bias"]
                for tap in range(model.kernel):
                    source = t - (model.kernel - 1 - tap) * 2**level
                    if source >= 0:
                        total = total + h[:, source] @ weight[:, :, tap].T
                out.append(relu(total.expand(len(x), -1)))
            h = torch.stack(out, dim=1)
        if f"{name}.shortcut.weight" in w:
            shortcut = (
                shortcut @ w[f"{name}.shortcut.weight"][:, :, 0].T + w[f"{name}.shortcut.bias"]
            )
        h = relu(h + shortcut)
    return readout(w, h[:, -1])


def transformer(w: Weights, x: Tensor, model: Any) -> Tensor:
    size = model.hidden // model.heads

    def norm(name: str, z: Tensor) -> Tensor:
        return torch.nn.functional.layer_norm(
            z, z.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"]
        )

    def turned(z: Tensor, t: int) -> Tensor:
        """One head's vector as D / 2 complex numbers, times exp(i t rate)."""
        rates = torch.tensor(
            [10_000 ** (-2 * j / size) for j in range(size // 2)], dtype=torch.float64
        )
        pairs = torch.complex(z[..., : size // 2], z[..., size // 2 :]) * torch.exp(1j * t * rates)
        return torch.cat([pairs.real, pairs.imag], dim=-1)

    h = linear(w, "encoder", x)
    for layer in range(model.layers):
        name = f"blocks.{layer}"
        q, k, v = linear(w, f"{name}.inputs", norm(f"{name}.attention_norm", h)).chunk(3, dim=-1)
        mixed = []
        for t in range(x.shape[1]):
            heads = []
            for head in range(model.heads):
                part = slice(head * size, (head + 1) * size)
                query = turned(q[:, t, part], t)
                scores = torch.stack(
                    [
                        (query * turned(k[:, s, part], s)).sum(-1) / math.sqrt(size)
                        for s in range(t + 1)
                    ],
                    dim=1,
                )
                heads.append((scores.softmax(1)[:, :, None] * v[:, : t + 1, part]).sum(1))
            mixed.append(torch.cat(heads, dim=-1))
        h = h + linear(w, f"{name}.output", torch.stack(mixed, dim=1))
        h = h + linear(
            w, f"{name}.mlp.2", gelu(linear(w, f"{name}.mlp.0", norm(f"{name}.mlp_norm", h)))
        )
    return readout(w, norm("norm", h[:, -1]))


def attention(w: Weights, x: Tensor, model: Any) -> Tensor:
    features = [leaky_relu(linear(w, "features", x[:, t])) for t in range(x.shape[1])]
    scores = [torch.exp(tanh(linear(w, "score", h))) for h in features]
    weighted = [score * h for score, h in zip(scores, features, strict=True)]
    mean = torch.stack(weighted).sum(0) / torch.stack(scores).sum(0)
    return leaky_relu(readout(w, leaky_relu(linear(w, "summary", mean))))


def pooling(w: Weights, x: Tensor, model: Any) -> Tensor:
    total = torch.zeros(len(x), model.hidden, dtype=x.dtype)
    for t in range(x.shape[1]):
        total = total + relu(linear(w, "features", x[:, t]))
    return readout(w, total)
