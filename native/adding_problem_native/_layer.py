"""One layer of any cell that the kernels have: its operators, and the function that calls them.

Letters: B batch, T steps, I inputs, H hidden.
"""

from __future__ import annotations

import functools
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

__all__ = [
    "CELLS",
    "MEMORY_BUDGET",
    "Cell",
    "check_interval",
    "check_shape",
    "fits_in_memory",
    "kernel_layer",
    "layer",
    "layer_served",
]

MEMORY_BUDGET = 1 << 30
"""Bytes of states that a layer keeps for its backward pass before it sets checkpoints by itself."""

Shapes = tuple[Any, ...]
"""Of tensors; None of one that is left out."""

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
    _check_shapes(cell, _shapes(x, w_ih, w_hh, bias, h0, c0), names)
    if x.shape[0] and layer_served(x, w_ih, w_hh, bias, h0, c0):
        return kernel_layer(cell, constants, x, w_ih, w_hh, bias, h0, c0, checkpoint_every, outputs)
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
    found = _layer(cell, constants, x, w_ih, w_hh, bias, h0, c0, checkpoint_every, outputs)
    y = found[0] if outputs else None
    return (y, *found[-2:]) if CELLS[cell].two_states else (y, found[-1], None)


def layer_served(*tensors: Tensor | None) -> bool:
    """Whether the kernels compute a layer of all of these, here and now.

    Under autocast they do not, because its products are PyTorch's.
    """
    return served(*tensors) and not torch.is_autocast_enabled("cpu")


def fits_in_memory(cell: str, sequence_steps: int, hidden: int) -> bool:
    """Whether a layer can keep every state within `MEMORY_BUDGET`."""
    return 4 * sequence_steps * hidden * library().cells[cell].records <= MEMORY_BUDGET


def check_interval(checkpoint_every: int | None) -> None:
    """Raise ValueError for an interval between checkpoints that is none."""
    if checkpoint_every is not None and checkpoint_every < 1:
        raise ValueError(f"checkpoint_every: expected at least 1, found {checkpoint_every}")


def _shapes(*tensors: Tensor | None) -> Shapes:
    return tuple(None if tensor is None else tensor.shape for tensor in tensors)


def _check_shapes(cell: str, shapes: Shapes, names: tuple[str, str]) -> None:
    """Raise ValueError unless these are the shapes of x, w_ih, w_hh, bias, h0 and c0 of a layer."""
    x, w_ih, w_hh, bias, h0, c0 = shapes
    hidden = w_hh[-1]
    if len(x) != 3 or 0 in x[1:] or not hidden:
        raise ValueError(
            f"x: expected (B, T, I) with T, I and H at least 1, found {tuple(x)} and H = {hidden}"
        )
    batch, _, inputs = x
    rows_ih, rows_hh, rows_bias = (rows * hidden for rows in CELLS[cell].rows)
    check_shape("w_ih", w_ih, (rows_ih, inputs))
    check_shape("w_hh", w_hh, (rows_hh, hidden))
    check_shape("bias", bias, (rows_bias,))
    check_shape(names[0], h0, (batch, hidden))
    check_shape(names[1], c0, (batch, hidden))


def check_shape(name: str, found: torch.Size | None, expected: tuple[int, ...]) -> None:
    """Raise ValueError for another shape; None is that of a tensor that is left out."""
    if found is not None and found != expected:
        raise ValueError(f"{name}: expected shape {expected}, found {tuple(found)}")


# --- the operators ---
#
# Their lists of results have no more than what there is: y where outputs are wanted, hn, and cn of
# a cell with two states; the gradients that are wanted.


class _Layer(torch.autograd.Function):
    """The operator `layer` where a gradient is wanted, with its arguments."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, ...]:
        with below_autograd():
            *results, saved = _layer_saving(*arguments)
        ctx.set_materialize_grads(False)
        ctx.cell, ctx.constants, *tensors, ctx.checkpoint_every, ctx.outputs = arguments
        ctx.save_for_backward(*map(kept, tensors), saved)
        return tuple(results)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        *inputs, saved = ctx.saved_tensors
        needs = ctx.needs_input_grad[2:8]
        if not ctx.outputs:
            gradients = (None, *gradients)
        # With create_graph the gradient itself is to be differentiated. A hook on saved tensors may
        # give back others than it was given.
        if torch.is_grad_enabled() or not served(*inputs, saved, *gradients):
            found = _plain_gradients(ctx.cell, ctx.constants, inputs, gradients, needs)
            return None, None, *found, None, None
        dy, dhn, dcn = (*gradients, None)[:3]
        found = iter(
            _layer_backward(
                ctx.cell, ctx.constants, *inputs, ctx.checkpoint_every, saved, dy, dhn, dcn, needs
            )
        )
        return None, None, *(next(found) if needed else None for needed in needs), None, None


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
) -> list[Tensor]:
    """Room for the results of `layer`."""
    batch, hidden = x.shape[0], w_hh.shape[1]
    states = [x.new_empty(batch, hidden) for _ in range(1 + CELLS[cell].two_states)]
    return [x.new_empty(batch, x.shape[1], hidden), *states] if outputs else states


def _saving_results(*arguments: Any) -> list[Tensor]:
    """Of `layer_saving`, without memory."""
    cell, _, x, _, w_hh, *_, checkpoint_every, _ = arguments
    batch, steps, _ = x.shape
    sizes = _sizes(library(), cell, batch, steps, w_hh.shape[1], checkpoint_every, MEMORY_BUDGET)
    return [*_results(*arguments), x.new_empty(sizes.saved)]


def _forward(*arguments: Any) -> list[Tensor]:
    return _run_forward(*arguments, keep=False)


def _forward_saving(*arguments: Any) -> list[Tensor]:
    return _run_forward(*arguments, keep=True)


def _run_forward(*arguments: Any, keep: bool) -> list[Tensor]:
    *described, outputs = arguments
    kernels = library()
    call, saved_floats, _inputs = _describe(kernels, *described)
    results = _results(*arguments)
    if outputs:
        y = results[0]
        call.y, call.y_batch_stride, call.y_step_stride = y.data_ptr(), y.stride(0), y.stride(1)
    states = results[1:] if outputs else results
    call.hn = states[0].data_ptr()
    if len(states) == 2:
        call.cn = states[1].data_ptr()
    if keep:
        saved = kernels.workspace(saved_floats)
        call.saved = saved.data_ptr()
        results.append(saved)
    kernels.run("layer_forward", call)
    return results


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
) -> list[Tensor]:
    tensors = (x, w_ih, w_hh, bias, h0, c0)
    kernels = library()
    call, saved_floats, _inputs = _describe(kernels, cell, constants, *tensors, checkpoint_every)
    batch, steps, hidden = x.shape[0], x.shape[1], w_hh.shape[1]
    check_shape("saved states", saved.shape, (saved_floats,))
    for name, gradient, shape in (
        ("dy", dy, (batch, steps, hidden)),
        ("dhn", dhn, (batch, hidden)),
        ("dcn", dcn, (batch, hidden)),
    ):
        if gradient is not None:
            check_shape(name, gradient.shape, shape)
    saved, dhn, dcn = dense(saved), dense(dhn), dense(dcn)  # type: ignore[assignment]
    call.saved, call.dhn, call.dcn = address(saved), address(dhn), address(dcn)
    if dy is not None:
        dy = dense_rows(dy)
        call.dy, call.dy_batch_stride, call.dy_step_stride = address(dy), dy.stride(0), dy.stride(1)
    wanted = (needs[0], True, True, *needs[3:])  # the weights' are always computed
    gradients = [
        x.new_empty(tensor.shape) if tensor is not None and needed else None
        for tensor, needed in zip(tensors, wanted, strict=True)
    ]
    call.dx, call.dw_ih, call.dw_hh, call.dbias, call.dh0, call.dc0 = map(address, gradients)
    kernels.run("layer_backward", call)
    return [g for g, needed in zip(gradients, needs, strict=True) if g is not None and needed]


def _gradients(cell: str, constants: Sequence[float], *arguments: Any) -> list[Tensor]:
    """Room for the results of `layer_backward`."""
    tensors, needs = arguments[:6], arguments[-1]
    return [
        tensor.new_empty(tensor.shape)
        for tensor, needed in zip(tensors, needs, strict=True)
        if needed and tensor is not None
    ]


_ARGUMENTS = (
    "(str cell, float[] constants, Tensor x, Tensor w_ih, Tensor w_hh, Tensor? bias, Tensor? h0, "
    "Tensor? c0, int? checkpoint_every, "
)
_layer = define_operator(
    "layer", f"{_ARGUMENTS}bool outputs) -> Tensor[]", _forward, _results, _Layer
)
_layer_saving = define_operator(
    "layer_saving", f"{_ARGUMENTS}bool outputs) -> Tensor[]", _forward_saving, _saving_results
)
_layer_backward = define_operator(
    "layer_backward",
    f"{_ARGUMENTS}Tensor saved, Tensor? dy, Tensor? dhn, Tensor? dcn, bool[] needs) -> Tensor[]",
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
            for out, grad in zip(CELLS[cell].plain(*inputs, *constants), gradients, strict=False)
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
) -> tuple[Call, int, list[Tensor | None]]:
    """A call without outputs or gradients, which its caller adds; and the tensors it points to.

    In between, how many floats the kernels save for the backward pass.
    """
    x = dense_rows(x)
    others = [dense(t) for t in (w_ih, w_hh, bias, h0, c0)]
    template, saved_floats = _template(
        kernels, cell, tuple(constants), _shapes(x, *others), checkpoint_every, MEMORY_BUDGET
    )
    call = kernels.layer_call.from_buffer_copy(template)
    call.threads = torch.get_num_threads()
    call.x, call.x_batch_stride, call.x_step_stride = address(x), x.stride(0), x.stride(1)
    call.w_ih, call.w_hh, call.bias, call.h0, call.c0 = map(address, others)
    return call, saved_floats, [x, *others]


@functools.lru_cache(maxsize=256)
def _template(
    kernels: Kernels,
    cell: str,
    constants: tuple[float, ...],
    shapes: Shapes,
    checkpoint_every: int | None,
    budget: int,
) -> tuple[bytes, int]:
    """A call of these sizes without any tensor, and how many floats the kernels save of it.

    Remembered: to check the shapes and to divide the work takes as long as a small layer.
    """
    check_interval(checkpoint_every)
    _check_shapes(cell, shapes, ("h0", "c0"))
    (batch, steps, inputs), hidden = shapes[0], shapes[2][1]
    sizes = _sizes(kernels, cell, batch, steps, hidden, checkpoint_every, budget)
    dt, gamma, epsilon = (*constants, 0.0, 0.0, 0.0)[:3]
    call = kernels.layer_call(
        cell=kernels.cells[cell].number,
        batch=batch,
        steps=steps,
        inputs=inputs,
        hidden=hidden,
        block=sizes.block,
        segment=sizes.segment,
        dt=dt,
        gamma=gamma,
        epsilon=epsilon,
    )
    return bytes(call), sizes.saved


class _Sizes(NamedTuple):
    """How the kernels divide a layer, see src/kernels.h, and how many floats they save of it."""

    block: int
    segment: int
    saved: int


def _sizes(
    kernels: Kernels,
    cell: str,
    batch: int,
    steps: int,
    hidden: int,
    checkpoint_every: int | None,
    budget: int,
) -> _Sizes:
    # Two threads share a batch of up to 32; 64 blocks share a large one, for each has gradients of
    # the weights of its own. Without a branch, which would tie a traced graph to a range of sizes.
    few = torch.sym_min(16, -(-batch // 2))  # type: ignore[no-untyped-call]
    block = _round_up(torch.sym_max(few, -(-batch // 64)), 4)  # type: ignore[no-untyped-call]
    vectors = _round_up(batch, block) * _round_up(hidden, kernels.lanes)
    everything = vectors * steps * kernels.cells[cell].records
    segment = checkpoint_every
    if segment is None:
        # about sqrt(T) keeps both parts small: the checkpoints, and what lies between two
        fits = 4 * everything <= budget
        segment = steps if fits else min(512, max(16, math.isqrt(steps)))
    if segment >= steps:
        return _Sizes(block, segment, everything)
    checkpoints = -(-steps // segment)
    return _Sizes(block, segment, vectors * checkpoints * kernels.cells[cell].states)


def _round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
