"""A model's predictions on sequences of a stream, batch by batch; long sequences in constant memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import nn

from adding_problem.models import CarriesState
from adding_problem.models.layers import State
from adding_problem.system.memory import require_memory
from adding_problem.task.data_sets import LongSequences, evaluation_batch
from adding_problem.task.philox import Float32
from adding_problem.task.sampling import sample_batch, sequence_width
from adding_problem.task.variants import Task

__all__ = ["Predicted", "Progress", "predictions"]

Progress = Callable[[int, int], None]
"""Is told the number of sequences scored so far, and of all."""

# Beyond this many steps a model that carries its state is given so many steps at a time.
_LONG, _STRETCH = 1 << 14, 1 << 12
_LONG_BATCH = 64  # sequences at once there: 8 MB of inputs without noise columns


class Predicted(NamedTuple):
    """A batch: inputs (k, W, C), None where they were drawn in stretches; targets and predictions (k, 1); float32."""

    x: Float32 | None
    y: Float32
    y_hat: Float32


@torch.no_grad()
def predictions(
    model: nn.Module,
    task: Task,
    length: int,
    n: int,
    *,
    seed: int,
    start: int = 0,
    with_inputs: bool = False,
    on_progress: Progress | None = None,
) -> Iterator[Predicted]:
    """A model's predictions on items ``start .. n - 1`` of a stream, in their order.

    Args:
        model: in evaluation mode, on its device.
        task, length, seed: of the stream, see `task.sample_batch`.
        n: where to end; `start` items are taken as done.
        start: the first item.
        with_inputs: give the inputs too, which then have to fit into memory.
        on_progress: is told of every batch, within a batch of long sequences too.

    Raises:
        BackendError: when a batch does not fit into memory.
    """
    width = sequence_width(length, task.variant)
    carrying = (
        model if isinstance(model, CarriesState) and width > _LONG and not with_inputs else None
    )
    size = _LONG_BATCH if carrying else evaluation_batch(length)
    require_memory(
        4 * task.width * size * min(width, _STRETCH if carrying else width),
        "a batch of these sequences takes",
    )
    device = next(model.parameters()).device
    for first in range(start, n, size):
        count = min(size, n - first)
        if carrying:
            long = LongSequences(count, length, seed=seed, start=first, task=task)

            def tell(steps: int, first: int = first, count: int = count) -> None:
                if on_progress:
                    on_progress(first + count * steps // width, n)

            y_hat = carrying.answer(_last_state(carrying, long, device, tell)).cpu().numpy()
            yield Predicted(None, long.targets, y_hat)
        else:
            x, y = sample_batch(count, length, seed=seed, start=first, task=task)
            y_hat = model(x.to(device)).cpu().numpy()
            yield Predicted(x.numpy() if with_inputs else None, y.numpy(), y_hat)
        if on_progress:
            on_progress(first + count, n)


def _last_state(
    model: CarriesState, long: LongSequences, device: torch.device, tell: Callable[[int], None]
) -> State:
    """The state after all steps; `tell` is given the number of steps so far."""
    state: State | None = None
    steps = 0
    for x in long.inputs(_STRETCH):
        state = model.advance(torch.from_numpy(x).to(device), state)
        steps += x.shape[1]
        tell(steps)
    assert state is not None  # a sequence has steps
    return state
