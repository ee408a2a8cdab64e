"""Drop-ins for `torch.nn.LSTM`, `GRU` and `RNN` that train several times faster on a CPU, and in little memory on long sequences.

Letters: B batch, T steps, I inputs, H hidden, L layers.
"""

from __future__ import annotations

import ctypes
import itertools
import math
from typing import Any

import torch
from torch import Tensor, nn

from adding_problem_native._library import LayerCall, check, library, transformed, workspace

__all__ = ["GRU", "LSTM", "RNN", "lstm"]

MEMORY_BUDGET = 1 << 30
"""Bytes of states that a layer keeps for its backward pass before it sets checkpoints by itself."""

State = tuple[Tensor, Tensor]

_KINDS = {"LSTM": 0, "GRU": 1, "RNN_TANH": 2, "RNN_RELU": 3}
"""By PyTorch's name of a cell, `mode`, the kernels': `enum CellKind` in src/kernels.h."""


def lstm(
    x: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    bias: Tensor | None = None,
    state: State | None = None,
    *,
    checkpoint_every: int | None = None,
    outputs: bool = True,
) -> tuple[Tensor | None, State]:
    """One layer of LSTM over batch-first sequences, as `torch.nn.LSTM` defines it.

    Args:
        x: float32 (B, T, I) on the CPU, all sizes at least 1.
        w_ih, w_hh: float32 (4H, I) and (4H, H), gates in the order i, f, g, o.
        bias: float32 (4H), the sum of PyTorch's two; None is zero.
        state: h0 and c0, float32 (B, H); None is zero.
        checkpoint_every: keep the state every so many steps and compute the rest again in the backward pass, which
            takes about a third more time and far less memory. None chooses: everything is kept up to `MEMORY_BUDGET`.
        outputs: whether the outputs of all steps are wanted; the last one is in the state anyway.

    Returns:
        y, float32 (B, T, H) or None; (hn, cn), float32 (B, H) each.

    Raises:
        ValueError: for a wrong shape, type, device or interval.
    """
    _check_layer(x, w_ih, w_hh, bias, state)
    _check_interval(checkpoint_every)
    y, hn, cn = _layer("LSTM", x, w_ih, w_hh, bias, state or (), checkpoint_every, outputs=outputs)
    assert cn is not None
    return y, (hn, cn)


def _layer(
    mode: str, x: Tensor, w_ih: Tensor, w_hh: Tensor, bias: Tensor | None, state: tuple[Tensor, ...], checkpoint_every: int | None,
    *, outputs: bool,
) -> tuple[Tensor | None, Tensor, Tensor | None]:
    """One layer of a cell, arguments as of `lstm`: outputs or None, the last output and, of an LSTM, the cell's state."""
    h0, c0 = (*state, None, None)[:2]
    # What the function saves must be its inputs: of a copy that it made itself autograd knows nothing in a second derivative.
    x = x if x.stride(2) == 1 or x.shape[2] == 1 else x.contiguous()
    w_ih, w_hh = w_ih.contiguous(), w_hh.contiguous()
    bias, h0, c0 = (None if t is None else t.contiguous() for t in (bias, h0, c0))
    # Inside the function grad mode is always off, and `needs_input_grad` does not know of `no_grad`.
    trained = torch.is_grad_enabled()
    return _Layer.apply(  # type: ignore[no-any-return, no-untyped-call]
        mode, x, w_ih, w_hh, bias, h0, c0, checkpoint_every, outputs, trained)


class _Native(nn.RNNBase):
    """What the drop-ins share: one of PyTorch's recurrent modules whose layers run on the kernels where these serve."""

    def __init__(self, *args: Any, checkpoint_every: int | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _check_interval(checkpoint_every)
        self.checkpoint_every = checkpoint_every

    def forward(self, input: Any, hx: Any = None) -> Any:
        """As PyTorch's module: output and last state.

        Where only the last output is wanted, use the state, whose gradient costs nothing at the other steps, or
        `final_state`, which does not even compute the others' array.
        """
        weights = self._weights()
        if not self._runs_natively(input, hx, weights):
            return super().forward(input, hx)
        return self._run(input, hx, weights, outputs=True)

    def final_state(self, input: Tensor, hx: Any = None) -> Any:
        """The last state alone, shaped as `forward` gives it, without the outputs of all steps."""
        weights = self._weights()
        if not self._runs_natively(input, hx, weights):
            return super().forward(input, hx)[1]
        return self._run(input, hx, weights, outputs=False)[1]

    def _weights(self) -> list[list[Any]]:
        """Of every layer, as they are now: `torch.func.functional_call` and parametrisations put others in their places."""
        return [[getattr(self, name) for name in names] for names in self._all_weights]

    def _runs_natively(self, x: Any, hx: Any, weights: list[list[Any]]) -> bool:
        if not isinstance(x, Tensor) or x.dim() not in (2, 3) or x.numel() == 0:
            return False
        tensors: list[Any] = [x, *_parts(hx), *itertools.chain(*weights)]
        return (
            not self.bidirectional
            and self.proj_size == 0
            and (self.num_layers == 1 or self.dropout == 0 or not self.training)
            and all(type(t) in (Tensor, nn.Parameter) and t.dtype == torch.float32 and t.device.type == "cpu"
                    and t.layout == torch.strided for t in tensors)
            and not torch.is_autocast_enabled("cpu")
            and not torch.compiler.is_compiling()
            and not transformed()
            and not torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        )

    def _run(self, x: Tensor, hx: Any, weights: list[list[Any]], *, outputs: bool) -> tuple[Tensor | None, Any]:
        batched = x.dim() == 3
        states = _parts(hx)
        if not batched:
            if any(part.dim() != 2 for part in states):
                raise RuntimeError(f"for an input of one sequence, (T, I), hx is expected to be 2-D, found {states[0].dim()}-D")
            x, states = x[None] if self.batch_first else x[:, None], [part[:, None] for part in states]
        if len(states) not in ((0, 2) if self.mode == "LSTM" else (0, 1)):
            raise RuntimeError(f"hx: expected {'(h, c)' if self.mode == 'LSTM' else 'one tensor'}, found {len(states)}")
        # PyTorch's own checks name the sizes of a wrong input or state.
        self.check_forward_args(x, self._state(states or self._zero_state(x)), None)
        y, states = self._run_batched(x if self.batch_first else x.transpose(0, 1), states, weights, outputs)
        y = y if y is None or self.batch_first else y.transpose(0, 1)
        if not batched:
            y, states = None if y is None else y.squeeze(0 if self.batch_first else 1), [part[:, 0] for part in states]
        return y, self._state(states)

    def _run_batched(
        self, x: Tensor, states: list[Tensor], weights: list[list[Any]], outputs: bool
    ) -> tuple[Tensor | None, list[Tensor]]:
        """Batch first; the parts of the state, before and after, are (L, B, H)."""
        finals: list[tuple[Tensor | None, ...]] = []
        y: Tensor | None = x
        for layer, tensors in enumerate(weights):
            last = layer == self.num_layers - 1
            y, *final = _layer(self.mode, y, *self._kernel_weights(*tensors), tuple(part[layer] for part in states),  # type: ignore[arg-type]
                               self.checkpoint_every, outputs=outputs or not last)
            finals.append(tuple(final))
        return y, [torch.stack(parts) for parts in zip(*finals, strict=True) if parts[0] is not None]

    def _state(self, parts: list[Tensor]) -> Any:
        """As PyTorch's module takes and gives it."""
        return tuple(parts) if self.mode == "LSTM" else parts[0]

    def _zero_state(self, x: Tensor) -> list[Tensor]:
        zero = x.new_zeros(()).expand(self.num_layers, x.shape[0 if self.batch_first else 1], self.hidden_size)
        return [zero, zero]

    def _kernel_weights(self, w_ih: Tensor, w_hh: Tensor, *biases: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """A layer's weights and bias as the kernels have them, from PyTorch's."""
        return w_ih, w_hh, biases[0] + biases[1] if biases else None


class LSTM(_Native, nn.LSTM):
    """`torch.nn.LSTM` with the same arguments, parameters and state_dict; float32 on a CPU runs on the native kernels.

    What they do not do (other types, devices, packed sequences, bidirectional, projections, dropout between layers in
    training, autocast, `torch.func` transforms, second derivatives) goes to PyTorch's own implementation, with its results.

    Args:
        checkpoint_every: see `lstm`; all other arguments as for `torch.nn.LSTM`.
    """


class GRU(_Native, nn.GRU):
    """`torch.nn.GRU` likewise, see `LSTM`."""

    def _kernel_weights(self, w_ih: Tensor, w_hh: Tensor, *biases: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        # PyTorch's order is r, z, n. The kernels sum up what n has of x and what it has of h apart: n of x, r, z, n of h.
        if not biases:
            return w_ih.roll(self.hidden_size, 0), w_hh, None
        (r, z, n), (r_h, z_h, n_h) = (bias.chunk(3) for bias in biases)
        return w_ih.roll(self.hidden_size, 0), w_hh, torch.cat([n, r + r_h, z + z_h, n_h])


class RNN(_Native, nn.RNN):
    """`torch.nn.RNN`, of tanh or ReLU, likewise, see `LSTM`."""


def _parts(hx: Any) -> list[Tensor]:
    """The tensors of a state: none, one, or an LSTM's two."""
    return [] if hx is None else list(hx) if isinstance(hx, tuple | list) else [hx]


class _Layer(torch.autograd.Function):
    """Forward and backward of one layer; all tensors float32 on the CPU, already checked, contiguous but for x's B and T."""

    @staticmethod
    def forward(
        ctx: Any, mode: str, x: Tensor, w_ih: Tensor, w_hh: Tensor, bias: Tensor | None, h0: Tensor | None, c0: Tensor | None,
        checkpoint_every: int | None, outputs: bool, trained: bool,
    ) -> tuple[Tensor | None, Tensor, Tensor | None]:
        ctx.set_materialize_grads(False)
        ctx.mode = mode
        batch, hidden = x.shape[0], w_hh.shape[1]
        y = x.new_empty(batch, x.shape[1], hidden) if outputs else None
        hn, cn = x.new_empty(batch, hidden), x.new_empty(batch, hidden) if mode == "LSTM" else None
        call = _describe(mode, x, w_ih, w_hh, bias, h0, c0)
        call.hn, call.cn = hn.data_ptr(), _pointer(cn)
        if y is not None:
            call.y, call.y_batch_stride, call.y_step_stride = y.data_ptr(), y.stride(0), y.stride(1)
        if trained and any(ctx.needs_input_grad):
            call.segment = ctx.segment = checkpoint_every or _automatic_segment(call)
            saved = workspace(library().layer_saved_floats(ctypes.byref(call)))
            call.saved = saved.data_ptr()
            ctx.save_for_backward(x, w_ih, w_hh, bias, h0, c0, saved)
        check(library().layer_forward(ctypes.byref(call)))
        return y, hn, cn

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None, dhn: Tensor | None, dcn: Tensor | None) -> tuple[Tensor | None, ...]:
        x, w_ih, w_hh, bias, h0, c0, saved = ctx.saved_tensors
        needs = ctx.needs_input_grad[1:7]
        if torch.is_grad_enabled():  # create_graph: the gradient itself is to be differentiated
            return None, *_differentiable_gradients(ctx.mode, (x, w_ih, w_hh, bias, h0, c0), (dy, dhn, dcn), needs), None, None, None
        call = _describe(ctx.mode, x, w_ih, w_hh, bias, h0, c0)
        call.segment, call.saved = ctx.segment, saved.data_ptr()
        if dy is not None:
            dy = dy if dy.stride(2) == 1 or dy.shape[2] == 1 else dy.contiguous()
            call.dy, call.dy_batch_stride, call.dy_step_stride = dy.data_ptr(), dy.stride(0), dy.stride(1)
        dhn, dcn = (None if t is None else t.contiguous() for t in (dhn, dcn))
        call.dhn, call.dcn = _pointer(dhn), _pointer(dcn)
        dw_ih, dw_hh = torch.empty_like(w_ih), torch.empty_like(w_hh)
        dbias = None if bias is None else torch.empty_like(bias)
        dx = x.new_empty(x.shape) if needs[0] else None
        dh0 = torch.empty_like(h0) if needs[4] else None
        dc0 = torch.empty_like(c0) if needs[5] else None
        call.dw_ih, call.dw_hh, call.dbias = dw_ih.data_ptr(), dw_hh.data_ptr(), _pointer(dbias)
        call.dx, call.dh0, call.dc0 = _pointer(dx), _pointer(dh0), _pointer(dc0)
        check(library().layer_backward(ctypes.byref(call)))
        return None, dx, dw_ih, dw_hh, dbias, dh0, dc0, None, None, None


def _differentiable_gradients(
    mode: str, inputs: tuple[Tensor | None, ...], gradients: tuple[Tensor | None, ...], needs: tuple[bool, ...]
) -> list[Tensor | None]:
    """The gradients of `_Layer`'s six tensor inputs as a graph of PyTorch's own operations, for second derivatives."""
    # Views: where one input was computed from another, or is the same, the gradients must not flow on between them.
    inputs = tuple(None if t is None else t.view_as(t) for t in inputs)
    x, w_ih, w_hh, bias, h0, c0 = inputs
    assert x is not None and w_ih is not None and w_hh is not None
    results = _plain_layer(mode, x, w_ih, w_hh, bias, h0, c0)
    outputs = [(out, grad) for out, grad in zip(results, gradients, strict=False) if grad is not None]
    wanted = [t for t, needed in zip(inputs, needs, strict=False) if needed and t is not None]
    found = iter(torch.autograd.grad([out for out, _ in outputs], wanted, [grad for _, grad in outputs], create_graph=True))
    return [next(found) if needed and t is not None else None for t, needed in zip(inputs, needs, strict=False)]


def _plain_layer(
    mode: str, x: Tensor, w_ih: Tensor, w_hh: Tensor, bias: Tensor | None, h0: Tensor | None, c0: Tensor | None
) -> tuple[Tensor, ...]:
    """`_layer` on PyTorch's own operations: y, hn and, of an LSTM, cn."""
    hidden = w_hh.shape[1]
    h, c = (x.new_zeros(1, x.shape[0], hidden) if s is None else s[None] for s in (h0, c0))
    biases = [] if bias is None else [bias, torch.zeros_like(bias)]
    if mode == "GRU":
        w_ih = w_ih.roll(-hidden, 0)
        if bias is not None:
            n, r, z, n_h = bias.chunk(4)
            biases = [torch.cat([r, z, n]), torch.cat([torch.zeros_like(r), torch.zeros_like(z), n_h])]
    options = (bias is not None, 1, 0.0, False, False, True)
    if mode == "LSTM":
        y, hn, cn = torch.lstm(x, [h, c], [w_ih, w_hh, *biases], *options)
        return y, hn[0], cn[0]
    plain = {"GRU": torch.gru, "RNN_TANH": torch.rnn_tanh, "RNN_RELU": torch.rnn_relu}[mode]
    y, hn = plain(x, h, [w_ih, w_hh, *biases], *options)
    return y, hn[0]


def _describe(
    mode: str, x: Tensor, w_ih: Tensor, w_hh: Tensor, bias: Tensor | None, h0: Tensor | None, c0: Tensor | None
) -> LayerCall:
    """A call that keeps every step, without outputs or gradients: those are its caller's to add."""
    return LayerCall(
        cell=_KINDS[mode], batch=x.shape[0], steps=x.shape[1], inputs=x.shape[2], hidden=w_hh.shape[1], segment=x.shape[1],
        threads=torch.get_num_threads(), x=x.data_ptr(), x_batch_stride=x.stride(0), x_step_stride=x.stride(1),
        h0=_pointer(h0), c0=_pointer(c0), w_ih=w_ih.data_ptr(), w_hh=w_hh.data_ptr(), bias=_pointer(bias),
    )


def _pointer(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _automatic_segment(call: LayerCall) -> int:
    """All steps while their states fit the budget; else about the square root of T, which keeps both parts small."""
    if 4 * library().layer_saved_floats(ctypes.byref(call)) <= MEMORY_BUDGET:
        return call.steps  # type: ignore[no-any-return]
    return min(512, max(16, math.isqrt(call.steps)))


def _check_interval(checkpoint_every: int | None) -> None:
    if checkpoint_every is not None and checkpoint_every < 1:
        raise ValueError(f"checkpoint_every: expected at least 1, found {checkpoint_every}")


def _check_layer(x: Tensor, w_ih: Tensor, w_hh: Tensor, bias: Tensor | None, state: State | None) -> None:
    if x.dim() != 3 or x.numel() == 0:
        raise ValueError(f"x: expected (B, T, I) with every size at least 1, found {tuple(x.shape)}")
    batch, _, inputs = x.shape
    hidden = w_hh.shape[-1]
    expected: dict[str, tuple[Tensor, tuple[int, ...]]] = {"w_ih": (w_ih, (4 * hidden, inputs)), "w_hh": (w_hh, (4 * hidden, hidden))}
    if bias is not None:
        expected["bias"] = (bias, (4 * hidden,))
    if state is not None:
        expected |= {"h0": (state[0], (batch, hidden)), "c0": (state[1], (batch, hidden))}
    for name, (tensor, shape) in expected.items():
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{name}: expected shape {shape}, found {tuple(tensor.shape)}")
    for name, tensor in [("x", x), *((name, tensor) for name, (tensor, _) in expected.items())]:
        if tensor.dtype != torch.float32 or tensor.device.type != "cpu":
            raise ValueError(f"{name}: expected float32 on the CPU, found {tensor.dtype} on {tensor.device}")
