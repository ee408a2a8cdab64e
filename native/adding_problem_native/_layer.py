"""One layer of any cell that the kernels have, as a function that autograd knows.

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

from adding_problem_native._library import (
    CellKind,
    LayerCall,
    check,
    library,
    saved_floats,
    workspace,
)
from adding_problem_native._tensors import address, plain_gradients, readable, readable_rows, served

__all__ = ["MEMORY_BUDGET", "Cell", "check_interval", "check_shapes", "layer", "layer_served"]

MEMORY_BUDGET = 1 << 30
"""Bytes of states that a layer keeps for its backward pass before it sets checkpoints by itself."""


@dataclass(frozen=True)
class Cell:
    """What tells one cell from another.

    Args:
        kind: the kernels' number for it.
        plain: the layer on PyTorch's own operations: x, w_ih, w_hh, bias, h0 and c0, the last three
            perhaps None -> y and the parts of the last state, hn first and then, with two states,
            cn.
        two_states: whether a second state, c, goes in and out beside the output h.
        dt, gamma, epsilon: constants of some cells.
    """

    kind: CellKind
    plain: Callable[..., tuple[Tensor, ...]]
    two_states: bool = False
    dt: float = 0.0
    gamma: float = 0.0
    epsilon: float = 0.0


def layer(
    cell: Cell,
    x: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    bias: Tensor | None,
    state: tuple[Tensor, ...],
    checkpoint_every: int | None,
    *,
    outputs: bool,
) -> tuple[Tensor | None, Tensor, Tensor | None]:
    """Compute one layer.

    Args:
        cell: which.
        x, w_ih, w_hh, bias: `layer_served`, their shapes checked, with the rows that src/kernels.h
            names; no bias is zero.
        state: the first output and second state, (B, H) each; what is left out is zero.
        checkpoint_every: keep the state every so many steps; None chooses.
        outputs: whether those of all steps are wanted.

    Returns:
        The outputs (B, T, H) or None; the last output (B, H); and, of a cell with two states, the
        last of the second, (B, H), else None.
    """
    h0, c0 = (*state, None, None)[:2]
    x, w_ih, w_hh = readable_rows(x), readable(w_ih), readable(w_hh)
    bias, h0, c0 = (None if t is None else readable(t) for t in (bias, h0, c0))
    # Inside the function grad mode is always off; `needs_input_grad` does not know of `no_grad`.
    trained = torch.is_grad_enabled()
    return _Layer.apply(  # type: ignore[no-any-return, no-untyped-call]
        cell, x, w_ih, w_hh, bias, h0, c0, checkpoint_every, outputs, trained
    )


def layer_served(*tensors: Tensor | None) -> bool:
    """Whether the kernels compute a layer of all of these, here and now.

    Under autocast they do not, because its products are PyTorch's.
    """
    return served(*tensors) and not torch.is_autocast_enabled("cpu")


class _Layer(torch.autograd.Function):
    """Forward and backward of one layer.

    All tensors are `layer_served` and `readable`, but for x's strides of B and T.
    """

    @staticmethod
    def forward(
        ctx: Any,
        cell: Cell,
        x: Tensor,
        w_ih: Tensor,
        w_hh: Tensor,
        bias: Tensor | None,
        h0: Tensor | None,
        c0: Tensor | None,
        checkpoint_every: int | None,
        outputs: bool,
        trained: bool,
    ) -> tuple[Tensor | None, Tensor, Tensor | None]:
        ctx.set_materialize_grads(False)
        ctx.cell = cell
        kernels = ctx.kernels = (
            library()
        )  # the same in both directions: what it saves has the layout of its vectors
        batch, hidden = x.shape[0], w_hh.shape[1]
        y = x.new_empty(batch, x.shape[1], hidden) if outputs else None
        hn, cn = x.new_empty(batch, hidden), x.new_empty(batch, hidden) if cell.two_states else None
        call = _describe(cell, x, w_ih, w_hh, bias, h0, c0)
        call.hn, call.cn = address(hn), address(cn)
        if y is not None:
            call.y, call.y_batch_stride, call.y_step_stride = address(y), y.stride(0), y.stride(1)
        if trained and any(ctx.needs_input_grad):
            call.segment = ctx.segment = checkpoint_every or _automatic_segment(kernels, call)
            saved = workspace(saved_floats(kernels, call))
            call.saved = address(saved)
            ctx.save_for_backward(x, w_ih, w_hh, bias, h0, c0, saved)
            ctx.shapes = _shapes(x, w_ih, w_hh, bias, h0, c0, saved)
        check(kernels, kernels.layer_forward(ctypes.byref(call)))
        return y, hn, cn

    @staticmethod
    def backward(
        ctx: Any, dy: Tensor | None, dhn: Tensor | None, dcn: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        *inputs, saved = ctx.saved_tensors
        needs = ctx.needs_input_grad[1:7]
        # With create_graph the gradient itself is to be differentiated. A hook on saved tensors may
        # give back others than it was given.
        if torch.is_grad_enabled() or not served(*inputs, saved, dy, dhn, dcn):
            return (
                None,
                *_plain_gradients(ctx.cell, tuple(inputs), (dy, dhn, dcn), needs),
                None,
                None,
                None,
            )
        if _shapes(*inputs, saved) != ctx.shapes:
            raise RuntimeError(
                f"saved tensors came back with shapes {_shapes(*inputs, saved)}, "
                f"expected {ctx.shapes}"
            )
        x, w_ih, w_hh, saved = (
            readable_rows(inputs[0]),
            readable(inputs[1]),
            readable(inputs[2]),
            readable(saved),
        )
        bias, h0, c0, dhn, dcn = (
            None if t is None else readable(t) for t in (*inputs[3:], dhn, dcn)
        )
        call = _describe(ctx.cell, x, w_ih, w_hh, bias, h0, c0)
        call.segment, call.saved = ctx.segment, address(saved)
        if dy is not None:
            dy = readable_rows(dy)
            call.dy, call.dy_batch_stride, call.dy_step_stride = (
                address(dy),
                dy.stride(0),
                dy.stride(1),
            )
        call.dhn, call.dcn = address(dhn), address(dcn)
        dw_ih, dw_hh = torch.empty_like(w_ih), torch.empty_like(w_hh)
        dbias = None if bias is None else torch.empty_like(bias)
        dx = x.new_empty(x.shape) if needs[0] else None
        dh0 = torch.empty_like(h0) if h0 is not None and needs[4] else None
        dc0 = torch.empty_like(c0) if c0 is not None and needs[5] else None
        call.dw_ih, call.dw_hh, call.dbias = address(dw_ih), address(dw_hh), address(dbias)
        call.dx, call.dh0, call.dc0 = address(dx), address(dh0), address(dc0)
        check(ctx.kernels, ctx.kernels.layer_backward(ctypes.byref(call)))
        return None, dx, dw_ih, dw_hh, dbias, dh0, dc0, None, None, None


def _shapes(*tensors: Tensor | None) -> list[torch.Size | None]:
    return [None if t is None else t.shape for t in tensors]


def _plain_gradients(
    cell: Cell,
    inputs: tuple[Tensor | None, ...],
    gradients: tuple[Tensor | None, ...],
    needs: tuple[bool, ...],
) -> list[Tensor | None]:
    """The gradients of `_Layer`'s six tensor inputs by PyTorch's own operations."""

    def results(*inputs: Tensor | None) -> list[Tensor]:
        return [
            out
            for out, grad in zip(cell.plain(*inputs), gradients, strict=False)
            if grad is not None
        ]

    return plain_gradients(results, inputs, [grad for grad in gradients if grad is not None], needs)


def _describe(
    cell: Cell,
    x: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    bias: Tensor | None,
    h0: Tensor | None,
    c0: Tensor | None,
) -> LayerCall:
    """A call that keeps every step, without outputs or gradients: those are its caller's to add."""
    return LayerCall(
        cell=cell.kind,
        batch=x.shape[0],
        steps=x.shape[1],
        inputs=x.shape[2],
        hidden=w_hh.shape[1],
        segment=x.shape[1],
        threads=torch.get_num_threads(),
        x=address(x),
        x_batch_stride=x.stride(0),
        x_step_stride=x.stride(1),
        h0=address(h0),
        c0=address(c0),
        w_ih=address(w_ih),
        w_hh=address(w_hh),
        bias=address(bias),
        dt=cell.dt,
        gamma=cell.gamma,
        epsilon=cell.epsilon,
    )


def _automatic_segment(kernels: ctypes.CDLL, call: LayerCall) -> int:
    """All steps while their states fit the budget, else about sqrt(T).

    The square root keeps both parts small.
    """
    if 4 * saved_floats(kernels, call) <= MEMORY_BUDGET:
        return call.steps  # type: ignore[no-any-return]
    return min(512, max(16, math.isqrt(call.steps)))


def check_interval(checkpoint_every: int | None) -> None:
    """Raise ValueError for an interval between checkpoints that is none."""
    if checkpoint_every is not None and checkpoint_every < 1:
        raise ValueError(f"checkpoint_every: expected at least 1, found {checkpoint_every}")


def check_shapes(
    x: Tensor,
    hidden: int,
    weights: Mapping[str, tuple[Tensor | None, tuple[int, ...]]],
    state: tuple[Tensor, ...] | None,
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
        raise ValueError(
            "x: expected (B, T, I) with T, I and H at least 1, "
            f"found {tuple(x.shape)} and H = {hidden}"
        )
    if state is not None:
        weights = {
            **weights,
            **{name: (part, (x.shape[0], hidden)) for name, part in zip(names, state, strict=True)},
        }
    for name, (tensor, shape) in weights.items():
        if tensor is not None and tuple(tensor.shape) != shape:
            raise ValueError(f"{name}: expected shape {shape}, found {tuple(tensor.shape)}")
    return {"x": x} | {name: tensor for name, (tensor, _) in weights.items() if tensor is not None}
