"""What families share: recurrent layers of both backends, and blocks read at the last step."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import TypeVar

from torch import Tensor, nn

__all__ = ["CarriesState", "Recurrence", "last_step", "layer_class", "recurrence_of"]

State = Tensor | tuple[Tensor, Tensor]
"""h of every layer (layers, B, H); of an LSTM h and c."""

Layer = TypeVar("Layer", bound=nn.RNNBase)

Recurrence = Callable[..., Tensor]
"""Batch-first sequences (B, T, I) and the weights of a layer -> its last output, (B, H)."""


def layer_class(kind: type[Layer], backend: str) -> type[Layer]:
    """`nn.LSTM`, `nn.GRU` or `nn.RNN` of a backend.

    Of `native`, which computes on a CPU, it is the class of that name there. It has the same
    parameters and gives the same numbers up to rounding, faster.
    """
    if backend == "torch":
        return kind
    return getattr(importlib.import_module("adding_problem_native"), kind.__name__)  # type: ignore[no-any-return]


def recurrence_of(backend: str, kernel: str, plain: Recurrence) -> Recurrence:
    """A layer that PyTorch lacks: `plain`, or of `native` the function `kernel` there.

    Both take the same arguments.
    """
    if backend == "torch":
        return plain
    layer = getattr(importlib.import_module("adding_problem_native"), kernel)
    return functools.partial(_last_output_of, layer)


def _last_output_of(
    layer: Callable[..., tuple[None, tuple[Tensor, ...]]], *tensors: Tensor, **constants: float
) -> Tensor:
    return layer(*tensors, **constants, outputs=False)[1][0]


class CarriesState(nn.Module):
    """A model that can take a sequence in stretches: its memory is the state of a recurrent layer.

    `forward(x)` is `answer(advance(x))`. `advance` can be called again with the steps that follow
    and the state so far.
    """

    readout: nn.Linear

    @property
    def layer(self) -> nn.RNNBase:
        """The recurrent layer."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Predictions (B, 1) of sequences (B, T, I)."""
        return self.answer(self.advance(x))

    def advance(self, x: Tensor, state: State | None = None) -> State:
        """The layer's state after steps (B, T, I), from a state before them or from zero."""
        # The native layers can leave out the outputs of the steps.
        final_state = getattr(self.layer, "final_state", None)
        return final_state(x, state) if final_state else self.layer(x, state)[1]  # type: ignore[no-any-return]

    def answer(self, state: State) -> Tensor:
        """Predictions (B, 1) from a state."""
        output = state[0] if isinstance(state, tuple) else state
        return self.readout(output[-1])  # type: ignore[no-any-return]


def last_step(blocks: nn.ModuleList, h: Tensor) -> Tensor:
    """Outputs (B, H) of the last step of blocks, one after the other.

    Args:
        blocks: called with their input and `begin`, the first step whose output is wanted.
        h: input of the first block, (B, T, H).
    """
    *before, last = blocks
    for block in before:
        h = block(h, begin=0)
    return last(h, begin=-1)[:, 0]  # type: ignore[no-any-return]
