"""One layer of any cell that the kernels have, forward and backward, as a function that autograd knows.

Letters: B batch, T steps, I inputs, H hidden.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from adding_problem_native._library import LayerCall, check, library, transformed, workspace

__all__ = ["MEMORY_BUDGET", "Cell", "check_interval", "check_shapes", "layer", "served"]

MEMORY_BUDGET = 1 << 30
"""Bytes of states that a layer keeps for its backward pass before it sets checkpoints by itself."""


@dataclass(frozen=True)
class Cell:
    """What tells one cell from another.

    Args:
        kind: the kernels' number for it, `enum CellKind` in src/kernels.h.
        plain: the layer on PyTorch's own operations: x, w_ih, w_hh, bias, h0 and c0, the last three perhaps None -> y and the parts of the
            last state, hn first and then, with two states, cn.
        two_states: whether a second state, c, goes in and out beside the output h.
        dt, gamma, epsilon: constants of some cells.
    """

    kind: int
    plain: Callable[..., tuple[Tensor, ...]]
    two_states: bool = False
    dt: float = 0.0
    gamma: float = 0.0
    epsilon: float = 0.0


def layer(
    cell: Cell, x: Tensor, w_ih: Tensor, w_hh: Tensor, bias: Tensor | None, state: tuple[Tensor, ...], checkpoint_every: int | None,
    *, outputs: bool,
) -> tuple[Tensor | None, Tensor, Tensor | None]:
    """One layer: outputs (B, T, H) or None, the last output (B, H) and, of a cell with two states, the last of the second.

    Args:
        cell: which.
        x, w_ih, w_hh, bias: float32 on the CPU, already checked, with the rows that src/kernels.h names; no bias is zero.
        state: the first output and second state, (B, H) each; what is left out is zero.
        checkpoint_every: keep the state every so many steps; None chooses.
        outputs: whether those of all steps are wanted.
    """
    h0, c0 = (*state, None, None)[:2]
    # What the function saves must be its inputs: of a copy that it made itself autograd knows nothing in a second derivative.
    x = x if x.stride(2) == 1 or x.shape[2] == 1 else x.contiguous()
    w_ih, w_hh = w_ih.contiguous(), w_hh.contiguous()
    bias, h0, c0 = (None if t is None else t.contiguous() for t in (bias, h0, c0))
    # Inside the function grad mode is always off, and `needs_input_grad` does not know of `no_grad`.
    trained = torch.is_grad_enabled()
    return _Layer.apply(  # type: ignore[no-any-return, no-untyped-call]
        cell, x, w_ih, w_hh, bias, h0, c0, checkpoint_every, outputs, trained)


def served(*tensors: Any) -> bool:
    """Whether the kernels compute with all of these, here and now."""
    return (
        all(type(t) in (Tensor, torch.nn.Parameter) and t.dtype == torch.float32 and t.device.type == "cpu"
            and t.layout == torch.strided for t in tensors)
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and not transformed()
        and not torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    )


class _Layer(torch.autograd.Function):
    """Forward and backward of one layer; all tensors float32 on the CPU, already checked, contiguous but for x's B and T."""

    @staticmethod
    def forward(
        ctx: Any, cell: Cell, x: Tensor, w_ih: Tensor, w_hh: Tensor, bias: Tensor | None, h0: Tensor | None, c0: Tensor | None,
        checkpoint_every: int | None, outputs: bool, trained: bool,
    ) -> tuple[Tensor | None, Tensor, Tensor | None]:
        ctx.set_materialize_grads(False)
        ctx.cell = cell
        kernels = ctx.kernels = library()  # the same in both directions: what it saves has the layout of its vectors
        batch, hidden = x.shape[0], w_hh.shape[1]
        y = x.new_empty(batch, x.shape[1], hidden) if outputs else None
        hn, cn = x.new_empty(batch, hidden), x.new_empty(batch, hidden) if cell.two_states else None
        call = _describe(cell, x, w_ih, w_hh, bias, h0, c0)
        call.hn, call.cn = hn.data_ptr(), _pointer(cn)
        if y is not None:
            call.y, call.y_batch_stride, call.y_step_stride = y.data_ptr(), y.stride(0), y.stride(1)
        if trained and any(ctx.needs_input_grad):
            call.segment = ctx.segment = checkpoint_every or _automatic_segment(kernels, call)
            saved = workspace(kernels.layer_saved_floats(ctypes.byref(call)))
            call.saved = saved.data_ptr()
            ctx.save_for_backward(x, w_ih, w_hh, bias, h0, c0, saved)
        check(kernels.layer_forward(ctypes.byref(call)))
        return y, hn, cn

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None, dhn: Tensor | None, dcn: Tensor | None) -> tuple[Tensor | None, ...]:
        x, w_ih, w_hh, bias, h0, c0, saved = ctx.saved_tensors
        needs = ctx.needs_input_grad[1:7]
        if torch.is_grad_enabled():  # create_graph: the gradient itself is to be differentiated
            return None, *_differentiable_gradients(ctx.cell, (x, w_ih, w_hh, bias, h0, c0), (dy, dhn, dcn), needs), None, None, None
        call = _describe(ctx.cell, x, w_ih, w_hh, bias, h0, c0)
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
        check(ctx.kernels.layer_backward(ctypes.byref(call)))
        return None, dx, dw_ih, dw_hh, dbias, dh0, dc0, None, None, None


def _differentiable_gradients(
    cell: Cell, inputs: tuple[Tensor | None, ...], gradients: tuple[Tensor | None, ...], needs: tuple[bool, ...]
) -> list[Tensor | None]:
    """The gradients of `_Layer`'s six tensor inputs as a graph of PyTorch's own operations, for second derivatives."""
    # Views: where one input was computed from another, or is the same, the gradients must not flow on between them.
    inputs = tuple(None if t is None else t.view_as(t) for t in inputs)
    x, w_ih, w_hh, bias, h0, c0 = inputs
    assert x is not None and w_ih is not None and w_hh is not None
    results = cell.plain(x, w_ih, w_hh, bias, h0, c0)
    outputs = [(out, grad) for out, grad in zip(results, gradients, strict=False) if grad is not None]
    wanted = [t for t, needed in zip(inputs, needs, strict=False) if needed and t is not None]
    found = iter(torch.autograd.grad([out for out, _ in outputs], wanted, [grad for _, grad in outputs], create_graph=True))
    return [next(found) if needed and t is not None else None for t, needed in zip(inputs, needs, strict=False)]


def _describe(
    cell: Cell, x: Tensor, w_ih: Tensor, w_hh: Tensor, bias: Tensor | None, h0: Tensor | None, c0: Tensor | None
) -> LayerCall:
    """A call that keeps every step, without outputs or gradients: those are its caller's to add."""
    return LayerCall(
        cell=cell.kind, batch=x.shape[0], steps=x.shape[1], inputs=x.shape[2], hidden=w_hh.shape[1], segment=x.shape[1],
        threads=torch.get_num_threads(), x=x.data_ptr(), x_batch_stride=x.stride(0), x_step_stride=x.stride(1),
        h0=_pointer(h0), c0=_pointer(c0), w_ih=w_ih.data_ptr(), w_hh=w_hh.data_ptr(), bias=_pointer(bias),
        dt=cell.dt, gamma=cell.gamma, epsilon=cell.epsilon,
    )


def _pointer(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _automatic_segment(kernels: ctypes.CDLL, call: LayerCall) -> int:
    """All steps while their states fit the budget; else about the square root of T, which keeps both parts small."""
    if 4 * kernels.layer_saved_floats(ctypes.byref(call)) <= MEMORY_BUDGET:
        return call.steps  # type: ignore[no-any-return]
    return min(512, max(16, math.isqrt(call.steps)))


def check_interval(checkpoint_every: int | None) -> None:
    """Raise ValueError for an interval between checkpoints that is none."""
    if checkpoint_every is not None and checkpoint_every < 1:
        raise ValueError(f"checkpoint_every: expected at least 1, found {checkpoint_every}")


def check_shapes(
    x: Tensor, hidden: int, weights: Mapping[str, tuple[Tensor | None, tuple[int, ...]]], state: tuple[Tensor, ...] | None,
    names: tuple[str, ...],
) -> dict[str, Tensor]:
    """All tensors of a layer by their names.

    Args:
        x: expected to be (B, T, I), T and I at least 1.
        hidden: H.
        weights: by name, with the shapes that they should have; None may be left out.
        state, names: each (B, H); None may be left out.

    Raises:
        ValueError: for one that has another shape.
    """
    if x.dim() != 3 or 0 in x.shape[1:] or not hidden:
        raise ValueError(f"x: expected (B, T, I) with T, I and H at least 1, found {tuple(x.shape)} and H = {hidden}")
    if state is not None:
        weights = {**weights, **{name: (part, (x.shape[0], hidden)) for name, part in zip(names, state, strict=True)}}
    for name, (tensor, shape) in weights.items():
        if tensor is not None and tuple(tensor.shape) != shape:
            raise ValueError(f"{name}: expected shape {shape}, found {tuple(tensor.shape)}")
    return {"x": x} | {name: tensor for name, (tensor, _) in weights.items() if tensor is not None}
