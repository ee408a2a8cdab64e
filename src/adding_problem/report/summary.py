"""Runs that differ in their seeds alone, put together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from adding_problem import statistics
from adding_problem.report.runs import Run

__all__ = ["Group", "groups", "representatives", "survival"]


@dataclass(frozen=True)
class Group:
    """The runs of one method at one length."""

    method: str
    t: int
    runs: Sequence[Run]

    @property
    def solved(self) -> int:
        """How many have a validation loss below 1e-3."""
        return sum(run.solved for run in self.runs)

    @property
    def solved_interval(self) -> tuple[float, float]:
        """95% Wilson interval of the share that is solved."""
        share = statistics.proportion(self.solved, len(self.runs))
        return share.low, share.high

    @property
    def losses(self) -> list[float]:
        """Best validation losses; infinite where a run has none."""
        return [run.best if math.isfinite(run.best) else math.inf for run in self.runs]

    @property
    def median_loss(self) -> float:
        """Of the best validation losses."""
        return statistics.losses(self.losses).median

    @property
    def loss_interval(self) -> tuple[float, float] | None:
        """95% interval of the median; None where there are too few seeds, or where an end of it is infinite."""
        interval = statistics.losses(self.losses).interval
        return interval if interval and math.isfinite(interval[1]) else None

    def median_cost(self, threshold: str, unit: str) -> float | None:
        """Cost that half of the runs needed at most, unsolved ones as censored; None when fewer than half came there."""
        return next((cost for cost, share in survival(self.runs, threshold, unit) if share >= 0.5), None)


def groups(runs: Sequence[Run]) -> list[Group]:
    """The runs by method and length, in their order."""
    members: dict[tuple[str, int], list[Run]] = {}
    for run in runs:
        members.setdefault((run.method, run.t), []).append(run)
    return [Group(method, t, found) for (method, t), found in members.items()]


def representatives(found: Sequence[Group], most: int) -> list[Run]:
    """The best finished run of each group, at most so many: spread evenly over the lengths."""
    best = [min(finished, key=lambda run: run.best if math.isfinite(run.best) else math.inf)
            for group in found if (finished := [run for run in group.runs if run.finished])]
    best.sort(key=lambda run: (run.t, run.method))
    if len(best) <= most:
        return best
    return [best[round(place)] for place in np.linspace(0, len(best) - 1, most)]


def survival(runs: Sequence[Run], threshold: str, unit: str) -> list[tuple[float, float]]:
    """Kaplan and Meier's estimate (1958) of the share of runs that got below the threshold by a cost.

    Args:
        runs: those that never got there count as censored at their end; where that came because it went badly, at the end of
            the longest run.
        threshold: `1e-2` or `1e-3`.
        unit: of the cost, one of `UNITS`.

    Returns:
        Steps (cost, share from there on), rising; empty when no run got there.
    """
    reached = [run.reached[threshold] for run in runs]
    longest = max((end for run in runs if math.isfinite(end := run.spent(unit))), default=math.nan)
    spent = [cost[unit] if cost else longest if run.failed else run.spent(unit) for run, cost in zip(runs, reached, strict=True)]
    known = [(cost, came is not None) for cost, came in zip(spent, reached, strict=True) if math.isfinite(cost)]
    if not known:  # imported models: nobody knows how long they were trained
        return []
    found = statistics.survival(*zip(*known, strict=True))
    return list(zip(found.costs, found.share, strict=True))
