"""The report's runs that differ in their seeds alone, put together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from adding_problem.analysis import aggregate
from adding_problem.report.runs import Run
from adding_problem.task.variants import Task

__all__ = ["RunGroup", "all_solved", "distinct", "representatives", "together"]


@dataclass(frozen=True)
class RunGroup(aggregate.Group):
    """The runs of one method at one length.

    Attributes:
        runs: by seed, each seed once, as `seeds`.
    """

    runs: tuple[Run, ...] = ()

    @property
    def measure(self) -> str:
        """What `values` are."""
        return "validation MSE of the weights that were kept"

    @property
    def values(self) -> list[float]:
        """Validation losses of the weights that were kept, for not all of a report's models are scored; infinite without any."""
        return [run.best if math.isfinite(run.best) else math.inf for run in self.runs]

    @property
    def interval(self) -> tuple[float, float] | None:
        """95% interval of the median loss; None where there are too few seeds, or where an end of it is infinite."""
        found = self.losses.interval
        return found if found and math.isfinite(found[1]) else None


def together(runs: Sequence[Run]) -> list[RunGroup]:
    """The runs by method and length, in their order."""
    members: dict[tuple[str, Task, int], list[Run]] = {}
    for run in runs:
        members.setdefault((run.method, replace(run.config.task, mix_seed=0), run.t), []).append(
            run
        )
    return [
        RunGroup(
            method,
            task,
            t,
            tuple(run.record for run in each),
            len(found) - len(each),
            tuple(each),
            oracle=each[0].oracle,
        )
        for (method, task, t), found in members.items()
        for each in [aggregate.one_per_seed(found)]
    ]


def distinct(runs: Sequence[Run]) -> list[list[Run]]:
    """The runs by model: those with the same weights, as at several T of one seed, are one."""
    first = aggregate.equals([run.record.weights for run in runs])
    models: dict[int, list[Run]] = {}
    for index, (run, same) in enumerate(zip(runs, first, strict=True)):
        models.setdefault(index if same is None else same, []).append(run)
    return list(models.values())


def all_solved(model: Sequence[Run]) -> bool:
    """Whether a model solves every T at which it was validated."""
    return all(run.solved for run in model)


def representatives(found: Sequence[RunGroup], most: int) -> list[Run]:
    """The best finished run of each group, at most so many, oracles last: spread evenly over the lengths.

    One model on one task is shown once, whatever the lengths are at which it was validated.
    """
    best = [
        min(finished, key=lambda run: run.best if math.isfinite(run.best) else math.inf)
        for group in found
        if (finished := [run for run in group.runs if run.finished])
    ]
    best.sort(key=lambda run: (run.oracle, run.t, run.method))
    again = aggregate.equals(
        [run.record.weights and (run.record.weights, run.config.task) for run in best]
    )
    best = [run for run, same in zip(best, again, strict=True) if same is None]
    if len(best) <= most:
        return best
    return [best[round(place)] for place in np.linspace(0, len(best) - 1, most)]
