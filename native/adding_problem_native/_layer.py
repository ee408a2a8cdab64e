"""One layer of any cell that the kernels have: its operators, and the function that calls them.

Letters: B batch, T steps, I inputs, H hidden.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from adding_problem_native._library import Call, Kernels, library
from adding_problem_native._tensors import (
    address,
    below_autograd,
    define_operator,
    dense,
    dense_rows,
    kept,
    plain_gradients,
    served,
)

__all__ = ["CELLS", "MEMORY_BUDGET", "Cell", "check_interval", "kernel_layer", "layer"]
__all__ += ["layer_served"]

MEMORY_BUDGET = 1 << 30
"""Bytes of states that a layer keeps for its backward pass before it sets checkpoints by itself."""

Layer = tuple[Tensor | None, Tensor, Tensor | None]
"""The outputs (B, T, H) or None; the last output (B, H); and, of a cell with two states, the last
of the second, (B, H), else None."""


@dataclass(frozen=True)
class Cell:
    """What tells one cell from another.

    Args:
        plain: the layer on PyTorch's own operations: x, w_ih, w_hh, bias, h0 and c0, the last three
            perhaps None, and the cell's constants -> y and the parts of the last state, hn first
            and then, with two states, cn.
        rows: of w_ih, w_hh and bias, in multiples of H: W, V and R of src/kernels.h.
        two_states: whether a second state, c, goes in and out beside the output h.
    """

    plain: Callable[..., tuple[Tensor, ...]]
    rows: tuple[int, int, int]
    two_states: bool = False


CELLS: dict[str, Cell] = {}
"""By the kernels' names. The modules that have the plain layers fill it."""


def layer(
    cell: str,
    constants: Sequence[float],
    x: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    bias: Tensor | None,
    state: tuple[Tensor, ...] | None,
    checkpoint_every: int | None,
    outputs: bool,
    names: tuple[str, str] = ("h0", "c0"),
) -> Layer:
    """Compute one layer, on the kernels where they serve.

    Args:
        cell: its name.
        constants: its dt, gamma and epsilon, as many as it has.
        x: (B, T, I).
        w_ih, w_hh, bias: with the rows that the cell has; no bias is zero.
        state: the first output and second state, (B, H) each; None is zero.
        checkpoint_every: keep the state every so many steps; None chooses.
        outputs: whether those of all steps are wanted.
        names: of the parts of the state, in errors.

    Raises:
        ValueError: for a wrong shape or interval.
    """
    check_interval(checkpoint_every)
    h0, c0 = (*(state or ()), None, None)[:2]
    _check_shapes(cell, x, w_ih, w_hh, bias, h0, c0, names)
    if x.shape[0] and layer_served(x, w_ih, w_hh, bias, h0, c0):
        return kernel_layer(
            cell, constants, x, w_ih, w_hh, bias, h0, c0, checkpoint_every, outputs
        )
    y, hn, *rest = CELLS[cell].plain(x, w_ih, w_hh, bias, h0, c0, *constants)
    return y if outputs else None, hn, rest[0] if CELLS[cell].two_states else None


def kernel_layer(
    cell: str,
    constants: Sequence[float],
    x: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    bias: Tensor | None,
    h0: Tensor | None,
    c0: Tensor | None,
    checkpoint_every: int | None,
    outputs: bool,
) -> Layer:
    """`layer` of tensors that are `layer_served`."""
    y, hn, cn = _layer(cell, constants, x, w_ih, w_hh, bias, h0, c0, checkpoint_every, outputs)
    return y if outputs else None, hn, cn if CELLS[cell].two_states else None


def layer_served(*tensors: Tensor | None) -> bool:
    """Whether the kernels compute a layer of all of these, here and now.

    Under autocast they do not, because its products are PyTorch's.
    """
    return served(*tensors) and not torch.is_autocast_enabled("cpu")


def check_interval(checkpoint_every: int | None) -> None:
    """Raise ValueError for an interval between checkpoints that is none."""
    if checkpoint_every is not None and checkpoint_every < 1:
        raise ValueError(f"checkpoint_every: expected at least 1, found {checkpoint_every}")


def _check_shapes(
    cell: str,
    x: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    bias: Tensor | None,
    h0: Tensor | None,
    c0: Tensor | None,
    names: tuple[str, str] = ("h0", "c0"),
) -> None:
    """Raise ValueError for a tensor of another shape than the cell's layer has."""
    hidden = w_hh.shape[-1]
    if x.dim() != 3 or 0 in x.shape[1:] or not hidden:
        raise ValueError(
            "x: expected (B, T, I) with T, I and H at least 1, "
            f"found {tuple(x.shape)} and H = {hidden}"
        )
    rows_ih, rows_hh, rows_bias = (rows * hidden for rows in CELLS[cell].rows)
    for name, tensor, shape in (
        ("w_ih", w_ih, (rows_ih, x.shape[2])),
        ("w_hh", w_hh, (rows_hh, hidden)),
        ("bias", bias, (rows_bias,)),
        (names[0], h0, (x.shape[0], hidden)),
        (names[1], c0, (x.shape[0], hidden)),
    ):
        check_shape(name, tensor, shape)


def check_shape(name: str, tensor: Tensor | None, shape: tuple[int, ...]) -> None:
    """Raise ValueError for a tensor of another shape; None may be left out."""
    if tensor is not None and tuple(tensor.shape) != shape:
        raise ValueError(f"{name}: expected shape {shape}, found {tuple(tensor.shape)}")


# --- the operators ---


class _Layer(torch.autograd.Function):
    """The operator `layer` where a gradient is wanted, with its arguments."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
        with below_autograd():
            y, hn, cn, saved = _layer_saving(*arguments)
        ctx.set_materialize_grads(False)
        ctx.cell, ctx.constants, *tensors, ctx.checkpoint_every, _ = arguments
        ctx.save_for_backward(*map(kept, tensors), saved)
        return y, hn, cn

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        *inputs, saved = ctx.saved_tensors
        needs = ctx.needs_input_grad[2:8]
        # With create_graph the gradient itself is to be differentiated. A hook on saved tensors may
        # give back others than it was given.
        if torch.is_grad_enabled() or not served(*inputs, saved, *gradients):
            found = _plain_gradients(ctx.cell, ctx.constants, inputs, gradients, needs)
        else:
            found = _layer_backward(
                ctx.cell, ctx.constants, *inputs, ctx.checkpoint_every, saved, *gradients, needs
            )
        wanted = (g if needed else None for g, needed in zip(found, needs, strict=True))
        return None, None, *wanted, None, None


def _results(
    cell: str,
    constants: Sequence[float],
    x: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    bias: Tensor | None,
    h0: Tensor | None,
    c0: Tensor | None,
    checkpoint_every: int | None,
    outputs: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Room for y, hn and cn; what is not wanted has no numbers."""
    _check_shapes(cell, x, w_ih, w_hh, bias, h0, c0)
    batch, hidden = x.shape[0], w_hh.shape[1]
    return (
        x.new_empty((batch, x.shape[1], hidden) if outputs else 0),
        x.new_empty(batch, hidden),
        x.new_empty((batch, hidden) if CELLS[cell].two_states else 0),
    )


def _saving_results(*arguments: Any) -> tuple[Tensor, ...]:
    """Of `layer_saving`, without memory."""
    y, hn, cn = _results(*arguments)
    cell, _, x, _, w_hh, *_, checkpoint_every, _ = arguments
    return y, hn, cn, x.new_empty(_sizes(library(), cell, x, w_hh, checkpoint_every).saved)


def _forward(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    return _run_forward(*arguments, keep=False)[:3]


def _forward_saving(*arguments: Any) -> tuple[Tensor, ...]:
    return _run_forward(*arguments, keep=True)


def _run_forward(*arguments: Any, keep: bool) -> tuple[Tensor, ...]:
    kernels = library()
    y, hn, cn = _results(*arguments)
    *described, outputs = arguments
    call, sizes, _inputs = _describe(kernels, *described)
    call.hn, call.cn = address(hn), address(cn)
    if outputs:
        call.y, call.y_batch_stride, call.y_step_stride = address(y), y.stride(0), y.stride(1)
    results = [y, hn, cn]
    if keep:
        saved = kernels.workspace(sizes.saved)
        call.saved = address(saved)
        results.append(saved)
    kernels.run("layer_forward", call)
    return tuple(results)


def _backward(
    cell: str,
    constants: Sequence[float],
    x: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    bias: Tensor | None,
    h0: Tensor | None,
    c0: Tensor | None,
    checkpoint_every: int | None,
    saved: Tensor,
    dy: Tensor | None,
    dhn: Tensor | None,
    dcn: Tensor | None,
    needs: Sequence[bool],
) -> tuple[Tensor, ...]:
    tensors = (x, w_ih, w_hh, bias, h0, c0)
    _check_shapes(cell, *tensors)
    batch, steps, hidden = x.shape[0], x.shape[1], w_hh.shape[1]
    for name, gradient, shape in (
        ("dy", dy, (batch, steps, hidden)),
        ("dhn", dhn, (batch, hidden)),
        ("dcn", dcn, (batch, hidden)),
    ):
        check_shape(name, gradient, shape)
    kernels = library()
    call, sizes, _inputs = _describe(kernels, cell, constants, *tensors, checkpoint_every)
    check_shape("saved states", saved, (sizes.saved,))
    saved, dhn, dcn = dense(saved), dense(dhn), dense(dcn)  # type: ignore[assignment]
    call.saved, call.dhn, call.dcn = address(saved), address(dhn), address(dcn)
    if dy is not None:
        dy = dense_rows(dy)
        call.dy, call.dy_batch_stride, call.dy_step_stride = address(dy), dy.stride(0), dy.stride(1)
    gradients = _gradients(
        cell, constants, *tensors, checkpoint_every, saved, dy, dhn, dcn, needs
    )
    call.dx, call.dw_ih, call.dw_hh, call.dbias, call.dh0, call.dc0 = (
        address(gradient) if gradient.numel() else None for gradient in gradients
    )
    kernels.run("layer_backward", call)
    return gradients


def _gradients(
    cell: str, constants: Sequence[float], *arguments: Any
) -> tuple[Tensor, ...]:
    """Room for the gradients of the six tensors; what is not wanted has no numbers.

    The kernels always compute those of w_ih and w_hh.
    """
    tensors, needs = arguments[:6], arguments[-1]
    x, w_ih, w_hh = tensors[:3]
    return tuple(
        x.new_empty(tensor.shape if tensor is not None and (needed or index in (1, 2)) else 0)
        for index, (tensor, needed) in enumerate(zip(tensors, needs, strict=True))
    )


_ARGUMENTS = (
    "(str cell, float[] constants, Tensor x, Tensor w_ih, Tensor w_hh, Tensor? bias, Tensor? h0, "
    "Tensor? c0, int? checkpoint_every, "
)
_layer = define_operator(
    "layer",
    f"{_ARGUMENTS}bool outputs) -> (Tensor y, Tensor hn, Tensor cn)",
    _forward,
    _results,
    _Layer,
)
_layer_saving = define_operator(
    "layer_saving",
    f"{_ARGUMENTS}bool outputs) -> (Tensor y, Tensor hn, Tensor cn, Tensor saved)",
    _forward_saving,
    _saving_results,
)
_layer_backward = define_operator(
    "layer_backward",
    f"{_ARGUMENTS}Tensor saved, Tensor? dy, Tensor? dhn, Tensor? dcn, bool[] needs) -> "
    "(Tensor dx, Tensor dw_ih, Tensor dw_hh, Tensor dbias, Tensor dh0, Tensor dc0)",
    _backward,
    _gradients,
)


def _plain_gradients(
    cell: str,
    constants: Sequence[float],
    inputs: Sequence[Tensor | None],
    gradients: Sequence[Tensor | None],
    needs: Sequence[bool],
) -> list[Tensor | None]:
    """`layer_backward` by PyTorch's own operations."""

    def results(*inputs: Tensor | None) -> list[Tensor]:
        return [
            out
            for out, grad in zip(
                CELLS[cell].plain(*inputs, *constants), gradients, strict=False
            )
            if grad is not None
        ]

    return plain_gradients(results, inputs, [grad for grad in gradients if grad is not None], needs)


def _describe(
    kernels: Kernels,
    cell: str,
    constants: Sequence[float],
    x: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    bias: Tensor | None,
    h0: Tensor | None,
    c0: Tensor | None,
    checkpoint_every: int | None,
) -> tuple[Call, _Sizes, list[Tensor | None]]:
    """A call without outputs or gradients, which its caller adds, and the tensors it points to."""
    sizes = _sizes(kernels, cell, x, w_hh, checkpoint_every)
    x = dense_rows(x)
    inputs = [dense(tensor) for tensor in (w_ih, w_hh, bias, h0, c0)]
    dt, gamma, epsilon = (*constants, 0.0, 0.0, 0.0)[:3]
    call = kernels.layer_call(
        cell=kernels.cells[cell].number,
        batch=x.shape[0],
        steps=x.shape[1],
        inputs=x.shape[2],
        hidden=w_hh.shape[1],
        block=sizes.block,
        segment=sizes.segment,
        threads=torch.get_num_threads(),
        x=address(x),
        x_batch_stride=x.stride(0),
        x_step_stride=x.stride(1),
        dt=dt,
        gamma=gamma,
        epsilon=epsilon,
    )
    call.w_ih, call.w_hh, call.bias, call.h0, call.c0 = map(address, inputs)
    return call, sizes, [x, *inputs]


class _Sizes(NamedTuple):
    """How the kernels divide a layer, see src/kernels.h, and how many floats they save of it."""

    block: int
    segment: int
    saved: int


def _sizes(
    kernels: Kernels, cell: str, x: Tensor, w_hh: Tensor, checkpoint_every: int | None
) -> _Sizes:
    (batch, steps, _), hidden = x.shape, w_hh.shape[1]
    # Two threads share a batch of up to 16; 64 blocks share a large one, for each has gradients of
    # the weights of its own. Without a branch, which would tie a traced graph to a range of sizes.
    few = torch.sym_min(16, -(-batch // 2) + 8 * (batch // 17))
    block = _round_up(torch.sym_max(few, -(-batch // 64)), 4)
    vectors = _round_up(batch, block) * _round_up(hidden, kernels.lanes)
    everything = vectors * steps * kernels.cells[cell].records
    segment = checkpoint_every
    if segment is None:
        # about sqrt(T) keeps both parts small: the checkpoints, and what lies between two
        fits = 4 * everything <= MEMORY_BUDGET
        segment = steps if fits else min(512, max(16, math.isqrt(steps)))
    if segment >= steps:
        return _Sizes(block, segment, everything)
    checkpoints = -(-steps // segment)
    return _Sizes(block, segment, vectors * checkpoints * kernels.cells[cell].states)


def _round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
