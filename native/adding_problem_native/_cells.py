"""Recurrent layers that PyTorch has not, on the kernels: LEM, coRNN, sLSTM, the RNN with modReLU.

Letters: B batch, T steps, I inputs, H hidden. Float32 on the CPU runs on the kernels. Other types
and devices, autocast, `torch.func` transforms and second derivatives run on a plain loop of
PyTorch's operations.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from adding_problem_native._layer import CELLS, Cell, check_shape, layer

__all__ = ["cornn", "lem", "modrelu_rnn", "slstm"]

State = tuple[Tensor, ...]


def lem(
    x: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    bias: Tensor | None = None,
    state: tuple[Tensor, Tensor] | None = None,
    *,
    dt: float,
    checkpoint_every: int | None = None,
    outputs: bool = True,
) -> tuple[Tensor | None, tuple[Tensor, Tensor]]:
    """Long expressive memory (Rusch et al. 2022, arXiv:2110.04744).

        a, b = dt sigmoid(. x_t + . y_{t-1} + .)
        z_t = (1 - a) z_{t-1} + a tanh(. x_t + . y_{t-1} + .)
        y_t = (1 - b) y_{t-1} + b tanh(. x_t + . z_t + .)

    Args:
        x: (B, T, I), T and I at least 1.
        w_ih, w_hh: (4H, I) and (4H, H) for a, b, z and y, in this order.
        bias: (4H); None is zero.
        state: y and z before the first step, (B, H); None is zero.
        dt: the largest step of time.
        checkpoint_every, outputs: as of `lstm`.

    Returns:
        y, (B, T, H) or None; the last y and z, (B, H) each.

    Raises:
        ValueError: for a wrong shape or interval.
    """
    y, yn, zn = layer(
        "LEM", (dt,), x, w_ih, w_hh, bias, state, checkpoint_every, outputs, ("y0", "z0")
    )
    assert zn is not None
    return y, (yn, zn)


def cornn(
    x: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    bias: Tensor | None = None,
    state: tuple[Tensor, Tensor] | None = None,
    *,
    dt: float,
    gamma: float,
    epsilon: float,
    checkpoint_every: int | None = None,
    outputs: bool = True,
) -> tuple[Tensor | None, tuple[Tensor, Tensor]]:
    """Coupled oscillatory RNN (Rusch & Mishra 2021, arXiv:2010.00951).

        a_t = tanh(W x_t + U (z_{t-1}, y_{t-1}) + b)
        z_t = z_{t-1} + dt (a_t - gamma y_{t-1} - epsilon z_{t-1})
        y_t = y_{t-1} + dt z_t

    Args:
        w_ih, w_hh: (H, I) and (H, 2H), of z and then of y.
        bias: (H); None is zero.
        dt, gamma, epsilon: step of time, strength of the springs, damping.

    Everything else as of `lem`.
    """
    check_shape("w_hh", w_hh.shape, (len(w_ih), 2 * len(w_ih)))
    sources = torch.cat(w_hh.chunk(2, dim=1))
    constants, names = (dt, gamma, epsilon), ("y0", "z0")
    y, yn, zn = layer(
        "CORNN", constants, x, w_ih, sources, bias, state, checkpoint_every, outputs, names
    )
    assert zn is not None
    return y, (yn, zn)


def modrelu_rnn(
    x: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    offset: Tensor,
    state: tuple[Tensor] | None = None,
    *,
    checkpoint_every: int | None = None,
    outputs: bool = True,
) -> tuple[Tensor | None, tuple[Tensor]]:
    """A plain RNN with modReLU (Arjovsky, Shah & Bengio 2016, arXiv:1511.06464), of real numbers.

        v = W x_t + U h_{t-1},  h_t = sign(v) max(0, |v| + offset)

    Args:
        w_ih, w_hh: (H, I) and (H, H).
        offset: (H).
        state: h before the first step, (B, H); None is zero.

    Everything else as of `lem`.
    """
    check_shape("offset", offset.shape, (w_hh.shape[-1],))
    bias = torch.cat([torch.zeros_like(offset), offset])
    y, hn, _ = layer("MODRELU", (), x, w_ih, w_hh, bias, state, checkpoint_every, outputs)
    return y, (hn,)


def slstm(
    x: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    bias: Tensor | None = None,
    state: tuple[Tensor] | None = None,
    *,
    checkpoint_every: int | None = None,
    outputs: bool = True,
) -> tuple[Tensor | None, tuple[Tensor]]:
    """The sLSTM cell of the xLSTM (Beck et al. 2024, arXiv:2405.04517, section 2.2).

    The input gate is exp(.), the forget gate sigmoid(.); both are stabilised by m.

        m_t = max(log sigmoid(f~) + m_{t-1}, i~)
        i = exp(i~ - m_t)
        f = exp(log sigmoid(f~) + m_{t-1} - m_t)
        c_t = f c_{t-1} + i tanh(z~)
        n_t = f n_{t-1} + i
        h_t = sigmoid(o~) c_t / n_t

    Args:
        w_ih, w_hh: (4H, I) and (4H, H) for i, f, o and z, in this order. For heads, blocks among
            zeros.
        bias: (4H); None is zero.
        state: h before the first step, (B, H); None is zero, as c and n are, and exp(m).

    Everything else as of `lem`.
    """
    y, hn, _ = layer("SLSTM", (), x, w_ih, w_hh, bias, state, checkpoint_every, outputs)
    return y, (hn,)


def _unrolled(
    step: Callable[..., State],
    starts: tuple[float, ...],
    x: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    bias: Tensor | None,
    h0: Tensor | None,
    c0: Tensor | None,
    *constants: float,
) -> State:
    """Outputs and last state of a cell, step by step in plain PyTorch.

    Args:
        step: the products of x with their bias, w_hh, the bias of what x has no part in, the state
            and the constants -> the next state.
        starts: what the parts of the state after the output begin with.
    """
    bias = w_ih.new_zeros(len(w_ih)) if bias is None else bias
    begun = [x.new_full((len(x), w_hh.shape[1]), value) for value in (0.0, *starts)]
    state = (
        *(zero if given is None else given for given, zero in zip((h0, c0), begun, strict=False)),
        *begun[2:],
    )
    outputs = []
    for drive in torch.nn.functional.linear(x, w_ih, bias[: len(w_ih)]).unbind(1):
        state = step(drive, w_hh, bias[len(w_ih) :], state, *constants)
        outputs.append(state[0])
    return torch.stack(outputs, dim=1), *state


def _lem_step(drive: Tensor, w_hh: Tensor, _: Tensor, state: State, dt: float) -> State:
    y, z = state
    hidden = y.shape[1]
    a, b, candidate = torch.addmm(drive[:, : 3 * hidden], y, w_hh[: 3 * hidden].T).chunk(3, dim=1)
    z = z + dt * a.sigmoid() * (candidate.tanh() - z)
    return y + dt * b.sigmoid() * (
        torch.addmm(drive[:, 3 * hidden :], z, w_hh[3 * hidden :].T).tanh() - y
    ), z


def _cornn_step(
    drive: Tensor, w_hh: Tensor, _: Tensor, state: State, dt: float, gamma: float, epsilon: float
) -> State:
    y, z = state
    of_z, of_y = w_hh.chunk(2)
    z = z + dt * ((drive + z @ of_z.T + y @ of_y.T).tanh() - gamma * y - epsilon * z)
    return y + dt * z, z


def _modrelu_step(drive: Tensor, w_hh: Tensor, offset: Tensor, state: State) -> State:
    v = torch.addmm(drive, state[0], w_hh.T)
    return (v.sign() * (v.abs() + offset).relu(),)


def _slstm_step(drive: Tensor, w_hh: Tensor, _: Tensor, state: State) -> State:
    h, c, n, m = state
    i, f, o, z = torch.addmm(drive, h, w_hh.T).chunk(4, dim=1)
    kept = torch.nn.functional.logsigmoid(f) + m
    m = torch.maximum(kept, i)
    f, i = (kept - m).exp(), (i - m).exp()
    c, n = f * c + i * z.tanh(), f * n + i
    return o.sigmoid() * c / n, c, n, m


for _name, _step, _starts, _rows in (
    ("LEM", _lem_step, (0.0,), (4, 4, 4)),
    ("CORNN", _cornn_step, (0.0,), (1, 2, 1)),
    ("MODRELU", _modrelu_step, (), (1, 1, 2)),
    ("SLSTM", _slstm_step, (0.0, 0.0, -torch.inf), (4, 4, 4)),
):
    _plain = functools.partial(_unrolled, _step, _starts)
    CELLS[_name] = Cell(_plain, _rows, two_states=len(_starts) == 1)
