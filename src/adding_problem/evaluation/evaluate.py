"""The one loop that scores a model on sequences: in training, validation, reports and imports."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from adding_problem.models import CarriesState
from adding_problem.models.layers import State
from adding_problem.runs.predictions import Predictions
from adding_problem.runs.records import Score
from adding_problem.system.memory import require_memory
from adding_problem.task.baselines import constant_predictor_mse, constant_predictor_standard_error
from adding_problem.task.data_sets import LongSequences, evaluation_batch
from adding_problem.task.philox import Float32
from adding_problem.task.sampling import Sequences as Drawn
from adding_problem.task.sampling import sample_batch, sequence_width
from adding_problem.task.thresholds import HIT_TOLERANCE
from adding_problem.task.variants import Task

__all__ = ["Given", "Predicted", "Progress", "Sequences", "evaluate", "predict", "score_of"]

Progress = Callable[[int, int], None]
"""Is told the number of sequences scored so far, and of all; it may raise to end the scoring."""

# Beyond this many steps a model that carries its state is given so many steps at a time.
_LONG, _STRETCH = 1 << 14, 1 << 12
_LONG_BATCH = 64  # sequences at once there: 8 MB of inputs without noise columns


@dataclass(frozen=True)
class Sequences:
    """Items ``start .. stop - 1`` of a stream, see `task.sample_batch`."""

    task: Task
    length: int
    seed: int
    stop: int
    start: int = 0

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def width(self) -> int:
        """Steps W of each."""
        return sequence_width(self.length, self.task.variant)

    def batch(self, first: int, count: int) -> tuple[Tensor, Tensor]:
        """Inputs (k, W, C) and targets (k, 1) of the k items from `first` on."""
        return sample_batch(count, self.length, seed=self.seed, start=first, task=self.task)

    def long(self, first: int, count: int) -> LongSequences:
        """The same items, drawn in stretches."""
        return LongSequences(count, self.length, seed=self.seed, start=first, task=self.task)


@dataclass(frozen=True)
class Given:
    """Sequences that are of no stream, such as changed ones."""

    task: Task
    drawn: Drawn
    start: ClassVar[int] = 0

    @property
    def stop(self) -> int:
        """Their number."""
        return len(self.drawn.targets)

    @property
    def width(self) -> int:
        """Steps W of each."""
        return int(self.drawn.values.shape[1])

    @property
    def length(self) -> int:
        """As many: they have no nominal length."""
        return self.width

    def batch(self, first: int, count: int) -> tuple[Tensor, Tensor]:
        """Inputs (k, W, C) and targets (k, 1) of the k sequences from `first` on."""
        chosen = self.drawn.take(np.arange(first, first + count))
        return torch.from_numpy(chosen.inputs(self.task)), torch.from_numpy(chosen.targets)


class Predicted(NamedTuple):
    """A batch, float32: inputs (k, W, C), targets and predictions (k, 1).

    The inputs are None where they were drawn in stretches.
    """

    x: Float32 | None
    y: Float32
    y_hat: Float32


def evaluate(
    model: nn.Module,
    sequences: Sequences,
    *,
    on_progress: Progress | None = None,
    onto: Predictions | None = None,
    after_batch: Callable[[], None] = lambda: None,
) -> Predictions:
    """Targets and predictions of a model on its device, which is left in evaluation mode.

    Args:
        model: float32 (B, T, C) -> (B, 1).
        sequences: which.
        on_progress: is told of every batch, and within a batch of long sequences too.
        onto: an earlier scoring of these sequences that was cut; it is continued.
        after_batch: is called when a batch has been added to `onto`.

    Raises:
        BackendError: when a batch does not fit into memory.
    """
    scored = onto or Predictions(len(sequences))
    rest = replace(sequences, start=sequences.start + scored.count)
    for _, y, y_hat in predict(model, rest, on_progress=on_progress):
        scored.add(y, y_hat)
        after_batch()
    return scored


@torch.no_grad()
def predict(
    model: nn.Module,
    sequences: Sequences | Given,
    *,
    with_inputs: bool = False,
    on_progress: Progress | None = None,
) -> Iterator[Predicted]:
    """A model's predictions batch by batch, in the order of the items; see `evaluate`.

    Args:
        model, on_progress: those of `evaluate`.
        sequences: items of a stream, or others that fit into memory.
        with_inputs: give the inputs too, which then have to fit into memory.

    Raises:
        BackendError: when a batch does not fit into memory.
    """
    model.eval()
    width, n = sequences.width, sequences.stop
    stream = sequences if isinstance(sequences, Sequences) else None
    long = width > _LONG and not with_inputs
    carrying = model if isinstance(model, CarriesState) and stream and long else None
    size = _LONG_BATCH if carrying else evaluation_batch(sequences.length)
    at_once = min(width, _STRETCH if carrying else width)
    require_memory(4 * sequences.task.width * size * at_once, "a batch of these sequences takes")
    device = next(model.parameters()).device
    for first in range(sequences.start, n, size):
        count = min(size, n - first)
        if carrying and stream:
            drawn = stream.long(first, count)

            def tell(steps: int, first: int = first, count: int = count) -> None:
                if on_progress:
                    on_progress(first + count * steps // width, n)

            y_hat = carrying.answer(_last_state(carrying, drawn, device, tell)).cpu().numpy()
            yield Predicted(None, drawn.targets, y_hat)
        else:
            x, y = sequences.batch(first, count)
            y_hat = model(x.to(device)).cpu().numpy()
            yield Predicted(x.numpy() if with_inputs else None, y.numpy(), y_hat)
        if on_progress:
            on_progress(first + count, n)


def _last_state(
    model: CarriesState, drawn: LongSequences, device: torch.device, tell: Callable[[int], None]
) -> State:
    """The state after all steps; `tell` is given the number of steps so far."""
    state: State | None = None
    steps = 0
    for x in drawn.inputs(_STRETCH):
        state = model.advance(torch.from_numpy(x).to(device), state)
        steps += x.shape[1]
        tell(steps)
    assert state is not None  # a sequence has steps
    return state


def score_of(sequences: Sequences, y: Float32, y_hat: Float32, *, model: str = "") -> Score:
    """The score of predictions y_hat (n,) for targets y (n,).

    Args:
        sequences: on which they were made.
        y, y_hat: targets and predictions.
        model: digest of the run whose model made them.
    """
    task, t, n = sequences.task, sequences.length, len(y)
    error = y_hat.astype(np.float64) - y
    with np.errstate(all="ignore"):  # of a model that diverged
        mse = float(np.mean(error**2))
        standard_error = float(np.std(error**2) / math.sqrt(n))
    return Score(
        t=t,
        **task.to_record(),
        seed=sequences.seed,
        sequences=n,
        mse=mse,
        mse_standard_error=standard_error,
        rmse=math.sqrt(mse),
        within_tolerance=float(np.mean(np.abs(error) < HIT_TOLERANCE)),
        tolerance=HIT_TOLERANCE,
        constant_predictor_mse=constant_predictor_mse(task, t),
        constant_predictor_standard_error=constant_predictor_standard_error(n, task, t),
        model=model,
    )
