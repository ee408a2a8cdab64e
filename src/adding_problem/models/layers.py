"""What families share: recurrent layers, PyTorch's or native, and stacks of blocks of which only the last step is read."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import TypeVar

from torch import Tensor, nn

__all__ = ["Recurrence", "last_output", "last_step", "layer_class", "recurrence_of"]

Layer = TypeVar("Layer", bound=nn.RNNBase)

Recurrence = Callable[..., Tensor]
"""Batch-first sequences (B, T, I) and the weights of a layer -> its last output, (B, H)."""


def layer_class(kind: type[Layer], backend: str) -> type[Layer]:
    """`nn.LSTM`, `nn.GRU` or `nn.RNN` of a backend: itself for `torch`; for `native`, on a CPU, the class of that name there, which
    has the same parameters and gives the same numbers up to rounding, faster."""
    if backend == "torch":
        return kind
    return getattr(importlib.import_module("adding_problem_native"), kind.__name__)  # type: ignore[no-any-return]


def recurrence_of(backend: str, kernel: str, plain: Recurrence) -> Recurrence:
    """A layer that PyTorch has not: `plain`, or for `native`, on a CPU, the function `kernel` there, which takes the same arguments."""
    if backend == "torch":
        return plain
    return functools.partial(_last_output_of, getattr(importlib.import_module("adding_problem_native"), kernel))


def _last_output_of(layer: Callable[..., tuple[None, tuple[Tensor, ...]]], *tensors: Tensor, **constants: float) -> Tensor:
    return layer(*tensors, **constants, outputs=False)[1][0]


def last_output(layer: nn.RNNBase, x: Tensor) -> Tensor:
    """h_T of the last layer, (B, H), of batch-first sequences (B, T, I)."""
    # The native layers can leave out the outputs of all steps but the last.
    final_state = getattr(layer, "final_state", None)
    state = final_state(x) if final_state else layer(x)[1]
    return (state[0] if layer.mode == "LSTM" else state)[-1]  # type: ignore[no-any-return]


def last_step(blocks: nn.ModuleList, h: Tensor) -> Tensor:
    """Outputs of the last step, (B, H), of blocks one after the other over (B, T, H).

    Args:
        blocks: called with their input and `begin`, the first step whose output is wanted.
        h: input of the first.
    """
    *before, last = blocks
    for block in before:
        h = block(h, begin=0)
    return last(h, begin=-1)[:, 0]  # type: ignore[no-any-return]
