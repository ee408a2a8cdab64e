"""A drop-in for `torch.nn.LSTM` that trains several times faster on a CPU, and in little memory on long sequences.

Letters: B batch, T steps, I inputs, H hidden, L layers.
"""

from __future__ import annotations

import ctypes
import math
from typing import Any

import torch
from torch import Tensor, nn

from adding_problem_native._library import LstmCall, check, library, transformed, workspace

__all__ = ["LSTM", "lstm"]

MEMORY_BUDGET = 1 << 30
"""Bytes of states that a layer keeps for its backward pass before it sets checkpoints by itself."""

State = tuple[Tensor, Tensor]


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
    h0, c0 = state or (None, None)
    # What the function saves must be its inputs: of a copy that it made itself autograd knows nothing in a second derivative.
    x = x if x.stride(2) == 1 or x.shape[2] == 1 else x.contiguous()
    w_ih, w_hh = w_ih.contiguous(), w_hh.contiguous()
    bias, h0, c0 = (None if t is None else t.contiguous() for t in (bias, h0, c0))
    # Inside the function grad mode is always off, and `needs_input_grad` does not know of `no_grad`.
    trained = torch.is_grad_enabled()
    y, hn, cn = _Layer.apply(x, w_ih, w_hh, bias, h0, c0, checkpoint_every, outputs, trained)  # type: ignore[no-untyped-call]
    return y, (hn, cn)


class LSTM(nn.LSTM):
    """`torch.nn.LSTM` with the same arguments, parameters and state_dict; float32 on a CPU runs on the native kernels.

    What they do not do (other types, devices, packed sequences, bidirectional, projections, dropout between layers in
    training, autocast, `torch.func` transforms, second derivatives) goes to PyTorch's own implementation, with its results.

    Args:
        checkpoint_every: see `lstm`; all other arguments as for `torch.nn.LSTM`.
    """

    def __init__(self, *args: Any, checkpoint_every: int | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _check_interval(checkpoint_every)
        self.checkpoint_every = checkpoint_every

    def forward(self, input: Any, hx: State | None = None) -> Any:
        """As `torch.nn.LSTM`: output and (h_n, c_n).

        Where only the last output is wanted, use h_n, whose gradient costs nothing at the other steps, or
        `final_state`, which does not even compute the others' array.
        """
        if not self._runs_natively(input, hx):
            return super().forward(input, hx)
        output, state = self._run(input, hx, outputs=True)
        return output, state

    def final_state(self, input: Tensor, hx: State | None = None) -> State:
        """(h_n, c_n) alone, shaped as `forward` gives them, without the outputs of all steps."""
        if not self._runs_natively(input, hx):
            return super().forward(input, hx)[1]
        return self._run(input, hx, outputs=False)[1]

    def _runs_natively(self, x: Any, hx: State | None) -> bool:
        if not isinstance(x, Tensor) or x.dim() not in (2, 3) or x.numel() == 0:
            return False
        tensors = [x, *(hx or ()), *self._flat_weights]
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

    def _run(self, x: Tensor, hx: State | None, *, outputs: bool) -> tuple[Tensor | None, State]:
        batched = x.dim() == 3
        # PyTorch's own checks name the sizes of a wrong input or state.
        self.check_forward_args(x, hx if hx is not None else self._zero_state(x), None) if batched else None
        if not batched:
            y, (h, c) = self._run_batched(x[None], hx and (hx[0][:, None], hx[1][:, None]), outputs)
            return None if y is None else y[0], (h[:, 0], c[:, 0])
        y, state = self._run_batched(x if self.batch_first else x.transpose(0, 1), hx, outputs)
        return (y if y is None or self.batch_first else y.transpose(0, 1)), state

    def _run_batched(self, x: Tensor, hx: State | None, outputs: bool) -> tuple[Tensor | None, State]:
        h: list[Tensor] = []
        c: list[Tensor] = []
        y: Tensor | None = x
        for layer in range(self.num_layers):
            w_ih, w_hh, *biases = (getattr(self, name) for name in self._all_weights[layer])
            state = None if hx is None else (hx[0][layer], hx[1][layer])
            last = layer == self.num_layers - 1
            y, (hn, cn) = lstm(y, w_ih, w_hh, biases[0] + biases[1] if biases else None, state,  # type: ignore[arg-type]
                               checkpoint_every=self.checkpoint_every, outputs=outputs or not last)
            h.append(hn)
            c.append(cn)
        return y, (torch.stack(h), torch.stack(c))

    def _zero_state(self, x: Tensor) -> State:
        zero = x.new_zeros(()).expand(self.num_layers, x.shape[0 if self.batch_first else 1], self.hidden_size)
        return zero, zero


class _Layer(torch.autograd.Function):
    """Forward and backward of one layer; all tensors float32 on the CPU, already checked, contiguous but for x's B and T."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, w_ih: Tensor, w_hh: Tensor, bias: Tensor | None, h0: Tensor | None, c0: Tensor | None,
        checkpoint_every: int | None, outputs: bool, trained: bool,
    ) -> tuple[Tensor | None, Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        batch, hidden = x.shape[0], w_hh.shape[1]
        y = x.new_empty(batch, x.shape[1], hidden) if outputs else None
        hn, cn = x.new_empty(batch, hidden), x.new_empty(batch, hidden)
        call = _describe(x, w_ih, w_hh, bias, h0, c0)
        call.hn, call.cn = hn.data_ptr(), cn.data_ptr()
        if y is not None:
            call.y, call.y_batch_stride, call.y_step_stride = y.data_ptr(), y.stride(0), y.stride(1)
        if trained and any(ctx.needs_input_grad):
            call.segment = ctx.segment = checkpoint_every or _automatic_segment(call)
            saved = workspace(library().lstm_saved_floats(ctypes.byref(call)))
            call.saved = saved.data_ptr()
            ctx.save_for_backward(x, w_ih, w_hh, bias, h0, c0, saved)
        check(library().lstm_forward(ctypes.byref(call)))
        return y, hn, cn

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None, dhn: Tensor | None, dcn: Tensor | None) -> tuple[Tensor | None, ...]:
        x, w_ih, w_hh, bias, h0, c0, saved = ctx.saved_tensors
        needs = ctx.needs_input_grad
        if torch.is_grad_enabled():  # create_graph: the gradient itself is to be differentiated
            return *_differentiable_gradients((x, w_ih, w_hh, bias, h0, c0), (dy, dhn, dcn), needs), None, None, None
        call = _describe(x, w_ih, w_hh, bias, h0, c0)
        call.segment, call.saved = ctx.segment, saved.data_ptr()
        if dy is not None:
            dy = dy if dy.stride(2) == 1 or dy.shape[2] == 1 else dy.contiguous()
            call.dy, call.dy_batch_stride, call.dy_step_stride = dy.data_ptr(), dy.stride(0), dy.stride(1)
        dhn, dcn = (None if t is None else t.contiguous() for t in (dhn, dcn))
        call.dhn, call.dcn = _pointer(dhn), _pointer(dcn)
        dw_ih, dw_hh, dbias = torch.empty_like(w_ih), torch.empty_like(w_hh), w_hh.new_empty(w_hh.shape[0])
        dx = x.new_empty(x.shape) if needs[0] else None
        dh0 = torch.empty_like(h0) if needs[4] else None
        dc0 = torch.empty_like(c0) if needs[5] else None
        call.dw_ih, call.dw_hh, call.dbias = dw_ih.data_ptr(), dw_hh.data_ptr(), dbias.data_ptr()
        call.dx, call.dh0, call.dc0 = _pointer(dx), _pointer(dh0), _pointer(dc0)
        check(library().lstm_backward(ctypes.byref(call)))
        return dx, dw_ih, dw_hh, dbias if bias is not None else None, dh0, dc0, None, None, None


def _differentiable_gradients(
    inputs: tuple[Tensor | None, ...], gradients: tuple[Tensor | None, ...], needs: tuple[bool, ...]
) -> list[Tensor | None]:
    """The gradients of `_Layer`'s six tensor inputs as a graph of PyTorch's own operations, for second derivatives."""
    # Views: where one input was computed from another, or is the same, the gradients must not flow on between them.
    inputs = tuple(None if t is None else t.view_as(t) for t in inputs)
    x, w_ih, w_hh, bias, h0, c0 = inputs
    assert x is not None and w_ih is not None and w_hh is not None
    zero = x.new_zeros(1, x.shape[0], w_hh.shape[1])
    state = [zero if s is None else s[None] for s in (h0, c0)]
    weights = [w_ih, w_hh] if bias is None else [w_ih, w_hh, bias, torch.zeros_like(bias)]
    y, hn, cn = torch.lstm(x, state, weights, bias is not None, 1, 0.0, False, False, True)
    outputs = [(out, grad) for out, grad in zip((y, hn[0], cn[0]), gradients, strict=True) if grad is not None]
    wanted = [t for t, needed in zip(inputs, needs, strict=False) if needed and t is not None]
    found = iter(torch.autograd.grad([out for out, _ in outputs], wanted, [grad for _, grad in outputs], create_graph=True))
    return [next(found) if needed and t is not None else None for t, needed in zip(inputs, needs, strict=False)]


def _describe(
    x: Tensor, w_ih: Tensor, w_hh: Tensor, bias: Tensor | None, h0: Tensor | None, c0: Tensor | None
) -> LstmCall:
    """A call that keeps every step, without outputs or gradients: those are its caller's to add."""
    return LstmCall(
        batch=x.shape[0], steps=x.shape[1], inputs=x.shape[2], hidden=w_hh.shape[1], segment=x.shape[1],
        threads=torch.get_num_threads(), x=x.data_ptr(), x_batch_stride=x.stride(0), x_step_stride=x.stride(1),
        h0=_pointer(h0), c0=_pointer(c0), w_ih=w_ih.data_ptr(), w_hh=w_hh.data_ptr(), bias=_pointer(bias),
    )


def _pointer(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _automatic_segment(call: LstmCall) -> int:
    """All steps while their states fit the budget; else about the square root of T, which keeps both parts small."""
    if 4 * library().lstm_saved_floats(ctypes.byref(call)) <= MEMORY_BUDGET:
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
