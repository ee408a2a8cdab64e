"""Runs that differ in their seeds alone, put together."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from adding_problem.report.runs import Run

__all__ = ["Group", "groups", "representatives", "survival"]

_FEWEST_FOR_INTERVAL = 3


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
        return _wilson(self.solved, len(self.runs))

    @property
    def losses(self) -> list[float]:
        """Finite best validation losses."""
        return [run.best for run in self.runs if math.isfinite(run.best)]

    @property
    def median_loss(self) -> float:
        """Of the finite best validation losses; NaN without any."""
        return statistics.median(self.losses) if self.losses else math.nan

    @property
    def loss_interval(self) -> tuple[float, float] | None:
        """95% bootstrap interval of the median; None for fewer than 3 seeds."""
        return _bootstrap(self.losses) if len(self.losses) >= _FEWEST_FOR_INTERVAL else None

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
        runs: those that never got there count as censored at their end.
        threshold: `1e-2` or `1e-3`.
        unit: of the cost, one of `UNITS`.

    Returns:
        Steps (cost, share from there on), rising; empty when no run got there.
    """
    events = [cost[unit] for run in runs if (cost := run.reached[threshold])]
    censored = [run.spent(unit) for run in runs if not run.reached[threshold]]
    return _kaplan_meier(events, censored) if events else []


def _wilson(successes: int, n: int) -> tuple[float, float]:
    interval = stats.binomtest(successes, n).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def _bootstrap(values: Sequence[float]) -> tuple[float, float]:
    found = stats.bootstrap((np.array(values),), np.median, n_resamples=10_000, method="percentile",
                            rng=np.random.default_rng(0)).confidence_interval
    return float(found.low), float(found.high)


def _kaplan_meier(events: Sequence[float], censored: Sequence[float]) -> list[tuple[float, float]]:
    unsolved = stats.ecdf(stats.CensoredData(uncensored=np.array(events), right=np.array(censored))).sf
    return [(float(cost), 1 - float(left))
            for cost, left in zip(unsolved.quantiles, unsolved.probabilities, strict=True) if cost in events]
