"""The batches of a run. Each is a function of the configuration, its place and the schedule."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from adding_problem.config import RunConfig
from adding_problem.task.data_sets import AddingDataset, evaluation_batch
from adding_problem.task.sampling import sample_batch, sequence_width
from adding_problem.training.schedule import Schedule, batch_length, epoch_order

__all__ = ["Batch", "Batches"]


@dataclass(frozen=True)
class Batch:
    """Sequences x (B, W, C) with targets y (B, 1).

    Attributes:
        length: T of the sequences.
        longest: T that the curriculum has come to, the longest that may be drawn now.
    """

    x: Tensor
    y: Tensor
    length: int
    longest: int

    @property
    def sequences(self) -> int:
        """Their number."""
        return len(self.x)

    @property
    def sequence_steps(self) -> int:
        """Steps of all sequences together."""
        return self.x.shape[0] * self.x.shape[1]


class Batches:
    """A fixed data set in the seeded order of each epoch, or fresh sequences without end.

    Call `draw` before the first batch.

    Attributes:
        steps: of an epoch, at most.
    """

    def __init__(self, config: RunConfig) -> None:
        self._config = config
        self._fixed: AddingDataset | None = None
        self._order = 0, epoch_order(0, config.seed, 0)
        fixed_steps = math.ceil(config.dataset.n_train / config.train.batch)
        self.steps = config.train.epoch_steps if config.dataset.stream else fixed_steps

    def draw(self) -> None:
        """Draw the fixed data set, if there is one."""
        data = self._config.dataset
        if not data.stream:
            self._fixed = AddingDataset(
                data.n_train, data.t, seed=self._config.seed, task=self._config.task
            )

    @staticmethod
    def bytes_needed(config: RunConfig) -> int:
        """Memory of the fixed data set, whose marks are not stored, and of a batch; float32."""
        data, task = config.dataset, config.task
        fixed = 0 if data.stream else (task.width - 1) * data.n_train
        batch = max(config.train.batch, evaluation_batch(data.t))
        return 4 * sequence_width(data.t, data.variant) * (task.width * batch + fixed)

    def at(self, epoch: int, step: int, sequences: int, schedule: Schedule) -> Batch | None:
        """The batch after `step` steps of an epoch; None where the epoch ends.

        An epoch on fresh sequences also ends with a decay of the learning rate.

        Args:
            epoch: counted from 1.
            step: steps done in it.
            sequences: trained on since the start of the run.
            schedule: where the run is.
        """
        config = self._config
        if step == self.steps:
            return None
        if self._fixed is not None:
            if self._order[0] != epoch:
                self._order = epoch, epoch_order(len(self._fixed), config.seed, epoch)
            first = step * config.train.batch
            x, y = self._fixed.batch(self._order[1][first : first + config.train.batch])
            return Batch(x, y, config.dataset.t, schedule.length)
        if step and schedule.decayed:
            return None
        length = batch_length(config, schedule)
        x, y = sample_batch(
            config.train.batch, length, seed=config.seed, start=sequences, task=config.task
        )
        return Batch(x, y, length, schedule.length)
