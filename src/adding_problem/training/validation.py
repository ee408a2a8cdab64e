"""The validation of an epoch, and of the weights that are kept at the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from adding_problem.config import RunConfig
from adding_problem.evaluation.evaluate import Sequences, evaluate
from adding_problem.runs.records import EpochRow, first_below
from adding_problem.system.seeding import stream_seed
from adding_problem.task.thresholds import SOLVED
from adding_problem.training.schedule import Schedule

__all__ = ["Validation", "complete_mse", "validate_epoch"]

_NEAR = 1.25  # times stop_val_loss: an error on the subset below it calls for the complete set


@dataclass(frozen=True)
class Validation:
    """Mean squared errors of one epoch on the validation set.

    Attributes:
        first: on its first sequences, those that the validation of every epoch covers.
        complete: on all; None where the validation did not cover them.
        sequences: number that the validation covered.
    """

    first: float
    complete: float | None
    sequences: int

    @property
    def mse(self) -> float:
        """On all that the validation covered."""
        return self.first if self.complete is None else self.complete


def validate_epoch(
    model: nn.Module,
    config: RunConfig,
    rows: Sequence[EpochRow],
    schedule: Schedule,
    check: Callable[[], None],
) -> Validation:
    """Score the model after an epoch.

    With `train.val_subset` the first few sequences alone, unless the error on them is near
    `train.stop_val_loss`, or the first below `SOLVED`.

    Args:
        model: of the run.
        config: of the run.
        rows: its epochs before this one.
        schedule: where it is.
        check: is called after every batch, and may raise.
    """
    train, n = config.train, config.dataset.n_held_out
    few, goal = train.val_subset, train.stop_val_loss
    if few is None or few >= n or goal is None:
        mse = _squared_error(model, config, 0, n, check) / n
        return Validation(mse, mse, n)
    first = _squared_error(model, config, 0, few, check) / few
    # Until an ending is over no validation decides anything.
    ending = train.ending_steps is not None and schedule.decay_steps > 0 and not schedule.decayed
    near = first < _NEAR * goal and not ending
    if near or (first < SOLVED and first_below(rows, SOLVED) is None):
        rest = _squared_error(model, config, few, n - few, check)
        return Validation(first, (first * few + rest) / n, n)
    return Validation(first, None, few)


def complete_mse(
    model: nn.Module, config: RunConfig, row: EpochRow, check: Callable[[], None]
) -> float:
    """The error of an epoch's weights on all validation sequences, of which its row has some."""
    n, done = config.dataset.n_held_out, row.val_sequences
    return (row.val_loss * done + _squared_error(model, config, done, n - done, check)) / n


def _squared_error(
    model: nn.Module, config: RunConfig, first: int, n: int, check: Callable[[], None]
) -> float:
    """Sum over items first, ..., first + n - 1 of the validation set."""
    chosen = _validation_set(config, first, n)
    scored = evaluate(model, chosen, on_progress=lambda done, total: check())
    with np.errstate(all="ignore"):  # of a model that diverged
        return float(np.sum((scored.y_hat.astype(np.float64) - scored.y) ** 2))


def _validation_set(config: RunConfig, first: int, n: int) -> Sequences:
    """It follows the fixed training sequences; beside fresh ones it is a stream of its own."""
    data = config.dataset
    seed = stream_seed(config.seed, "held_out") if data.stream else config.seed
    start = first if data.stream else data.n_train + first
    return Sequences(config.task, data.t, seed, start=start, stop=start + n)
