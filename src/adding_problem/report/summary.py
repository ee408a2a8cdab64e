"""The report's runs put together: by method and length, and by model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from adding_problem.analysis import aggregate
from adding_problem.analysis.aggregate import Group
from adding_problem.report.runs import Run
from adding_problem.task.variants import Task

__all__ = ["all_solved", "distinct", "representatives", "together"]


def together(runs: Sequence[Run]) -> list[Group]:
    """The runs by method and length, in their order.

    Not all models of a report are scored: the loss that counts is that of the kept weights.
    """
    members: dict[tuple[str, Task, int], list[Run]] = {}
    for run in runs:
        key = (run.method, replace(run.config.task, mix_seed=0), run.t)
        members.setdefault(key, []).append(run)
    groups = []
    for (method, task, t), found in members.items():
        seeds = aggregate.one_per_seed([run.record for run in found])
        groups.append(
            Group(
                method,
                task,
                t,
                tuple(seeds),
                len(found) - len(seeds),
                oracle=found[0].oracle,
                measure="validation MSE of the kept weights",
            )
        )
    return groups


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


def representatives(runs: Sequence[Run], most: int) -> list[Run]:
    """The best finished run of each method and length, oracles last.

    Of more than `most` they are spread evenly over the lengths. One model on one task is shown
    once, whatever the lengths are at which it was validated.
    """
    by_path = {run.record.path: run for run in runs}
    best = [
        by_path[min(finished, key=group.value).path]
        for group in together(runs)
        if (finished := [seed for seed in group.seeds if seed.result])
    ]
    best.sort(key=lambda run: (run.oracle, run.t, run.method))
    again = aggregate.equals(
        [run.record.weights and (run.record.weights, run.config.task) for run in best]
    )
    best = [run for run, same in zip(best, again, strict=True) if same is None]
    if len(best) <= most:
        return best
    return [best[round(place)] for place in np.linspace(0, len(best) - 1, most)]
