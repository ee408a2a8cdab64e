"""What a run does next: the length and the learning rate of a step, the order of an epoch, its end.

Everything here is a function of the configuration and of what was seen so far.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from adding_problem.config import RunConfig
from adding_problem.system.seeding import stream_seed
from adding_problem.task.baselines import constant_predictor_mse
from adding_problem.task.variants import MIN_LENGTH

__all__ = [
    "Schedule",
    "advance",
    "batch_length",
    "begin_ending",
    "epoch_order",
]


@dataclass(frozen=True)
class Schedule:
    """All that the curriculum and the learning rate depend on.

    Attributes:
        length: of the longest sequences to train on now.
        smoothed: exponential mean of the training loss at this length, from the baseline's on.
        rate: learning rate before warm-up and decay.
        step: training steps taken.
        decay_start, decay_steps: the decay under way; no steps where there is none.
        ending_from: length at which the ending under way began; 0 where there is none.
        endings: that came to their end, all of them unsolved.
    """

    length: int
    rate: float
    smoothed: float
    step: int = 0
    decay_start: int = 0
    decay_steps: int = 0
    ending_from: int = 0
    endings: int = 0

    @classmethod
    def first(cls, config: RunConfig) -> Schedule:
        """Where a run begins."""
        length = min(config.curriculum.start or config.dataset.t, config.dataset.t)
        return cls(length, config.train.learning_rate, _nothing_learned(config))

    @property
    def decayed(self) -> bool:
        """Whether a decay has just come to its end."""
        return self.decay_steps > 0 and self.step == self.decay_start + self.decay_steps

    def learning_rate(self, config: RunConfig) -> float:
        """The rate of the next step: up in a line at the start, down in a line in a decay."""
        warm = (
            min(1.0, (self.step + 1) / config.train.warmup_steps)
            if config.train.warmup_steps
            else 1.0
        )
        fallen = (self.step - self.decay_start) / self.decay_steps if self.decay_steps else 0.0
        return self.rate * warm * (1 - fallen)


def _nothing_learned(config: RunConfig) -> float:
    return constant_predictor_mse(config.task, config.dataset.t)


def advance(schedule: Schedule, loss: float, config: RunConfig) -> Schedule:
    """The schedule after a step with this training loss.

    A smoothed loss below the curriculum's threshold makes the sequences longer. At full length, one
    below `train.decay_below` begins the decay. A decay that ends unsolved is followed by another,
    from half the rate and twice as long. In an ending the lengths grow in equal ratios up to
    `train.ending_length`. After one that ends unsolved the curriculum goes on from where it was,
    and the next ending is twice as long.
    """
    curriculum = config.curriculum
    smoothed = curriculum.smoothing * schedule.smoothed + (1 - curriculum.smoothing) * loss
    step = schedule.step + 1
    if schedule.decay_steps:
        if step > schedule.decay_start + schedule.decay_steps:
            if schedule.ending_from:
                return replace(
                    schedule,
                    step=step,
                    smoothed=_nothing_learned(config),
                    length=schedule.ending_from,
                    decay_start=0,
                    decay_steps=0,
                    ending_from=0,
                    endings=schedule.endings + 1,
                )
            return replace(
                schedule,
                step=step,
                smoothed=smoothed,
                rate=schedule.rate / 2,
                decay_start=step - 1,
                decay_steps=2 * schedule.decay_steps,
            )
        length = _ending_length(schedule, step, config) if schedule.ending_from else schedule.length
        return replace(schedule, step=step, smoothed=smoothed, length=length)
    full = schedule.length == config.dataset.t
    if not full and smoothed < curriculum.threshold:
        length = max(
            schedule.length + 1, int(min(config.dataset.t, schedule.length * curriculum.factor))
        )
        return replace(schedule, step=step, smoothed=_nothing_learned(config), length=length)
    if full and config.train.decay_steps is not None and smoothed < config.train.decay_below:
        return replace(
            schedule,
            step=step,
            smoothed=smoothed,
            decay_start=step,
            decay_steps=config.train.decay_steps,
        )
    return replace(schedule, step=step, smoothed=smoothed)


def begin_ending(schedule: Schedule, config: RunConfig) -> Schedule:
    """The schedule once the validation loss is below `train.ending_below`.

    A decay to the end begins, in which the lengths grow.

    A decay that is under way is the ending already.
    """
    if config.train.ending_steps is None or schedule.decay_steps:
        return schedule
    steps = config.train.ending_steps * 2**schedule.endings
    return replace(
        schedule, decay_start=schedule.step, decay_steps=steps, ending_from=schedule.length
    )


def _ending_length(schedule: Schedule, step: int, config: RunConfig) -> int:
    """The longest T of a step of an ending; `train.ending_length` at its last."""
    first, t = schedule.ending_from, config.dataset.t
    last = max(first, min(t, config.train.ending_length or t))
    done = min(1.0, (step - schedule.decay_start) / max(1, schedule.decay_steps - 1))
    grown: float = first * (last / first) ** done
    return round(grown)


def batch_length(config: RunConfig, schedule: Schedule) -> int:
    """The length of the next batch: a function of seed, step and the curriculum's length."""
    longest = schedule.length
    if config.curriculum.shortest == 1:
        return longest
    shortest = max(MIN_LENGTH[config.dataset.variant], config.curriculum.shortest * longest)
    philox = np.random.Philox(
        key=stream_seed(config.seed, "lengths"), counter=[0, schedule.step, 0, 0]
    )
    uniform = float(int(philox.random_raw()) >> 11) * 2.0**-53
    return round(longest * math.exp(uniform * math.log(shortest / longest)))


def epoch_order(n: int, root: int, epoch: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The order of the training sequences in an epoch.

    It is the ranks of random words, which no NumPy release changes.
    """
    philox = np.random.Philox(key=stream_seed(root, "order"), counter=[0, epoch, 0, 0])
    return np.argsort(philox.random_raw(n), kind="stable")
