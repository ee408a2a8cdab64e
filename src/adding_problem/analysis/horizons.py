"""Horizon runs put together: the lengths that each method solves, with all seeds counted."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from adding_problem.analysis.names import method_names
from adding_problem.analysis.tables import Table, rule_above
from adding_problem.config import RunConfig, families
from adding_problem.config.values import short_count
from adding_problem.errors import RunFolderError
from adding_problem.runs.collection import read_horizon, run_inside
from adding_problem.runs.records import HorizonResult

__all__ = ["Horizons", "read_horizons", "records_of", "table_of"]


@dataclass(frozen=True)
class Horizons:
    """The horizon runs of one method on one task within one budget.

    Attributes:
        method: as `method_names` calls it, with the task where there are several.
        results: one for each seed, by seed.
        oracle: whether the model starts with the answer.
    """

    method: str
    results: tuple[HorizonResult, ...]
    oracle: bool

    @property
    def horizon(self) -> int:
        """The lower median over the seeds; 0 where not even the first length was solved."""
        return int(statistics.median_low(result.horizon or 0 for result in self.results))

    def solved(self, t: int) -> str:
        """How many seeds of all solve a length; one that never came there does not."""
        solved = sum(
            any(rung.t == t and rung.solved for rung in result.rungs) for result in self.results
        )
        return f"{solved}/{len(self.results)}"


def read_horizons(folders: Sequence[Path]) -> list[Horizons]:
    """The horizon runs in these folders by method: the farthest first, oracles last.

    Raises:
        RunFolderError: when `horizon.json` or the first run of one is missing or damaged.
    """
    results = [read_horizon(folder) for folder in folders]
    configs = [_first(*pair) for pair in zip(folders, results, strict=True)]
    several = len({result.task.title for result in results}) > 1
    members: dict[tuple[str, str, bool], dict[int, HorizonResult]] = {}
    for name, config, result in zip(method_names(configs), configs, results, strict=True):
        method = f"{name}, {result.task.title}" if several else name
        oracle = families.is_oracle(config.model.name, config.model.init)
        seeds = members.setdefault((method, str(result.budget), oracle), {})
        seeds.setdefault(result.seed, result)  # of a folder that is named twice, one
    found = [
        Horizons(method, tuple(seeds[seed] for seed in sorted(seeds)), oracle)
        for (method, _, oracle), seeds in members.items()
    ]
    return sorted(found, key=lambda each: (each.oracle, -each.horizon, each.method))


def _first(folder: Path, result: HorizonResult) -> RunConfig:
    """The configuration of the first length, without the budget, which is not the method's."""
    if not result.rungs:
        raise RunFolderError(folder, "no length is done yet", "leave it out, or let it go on")
    config = run_inside(folder, f"t{result.rungs[0].t}").read_config()
    return replace(config, train=replace(config.train, budget_minutes=None, budget_steps=None))


def table_of(found: Sequence[Horizons]) -> Table:
    """A row for each method, a column for each length that a seed came to."""
    lengths = sorted({rung.t for each in found for seed in each.results for rung in seed.rungs})
    rows = [
        (
            each.method,
            str(each.results[0].budget),
            ", ".join(str(result.seed) for result in each.results),
            f"{each.horizon:,}",
            *map(each.solved, lengths),
        )
        for each in found
    ]
    return Table(
        "Horizon: the longest solved T (lower median), and seeds that solve each T",
        ("method", "budget", "seeds", "horizon", *map(short_count, lengths)),
        tuple(rows),
        labels=3,
        rule=rule_above(each.oracle for each in found),
    )


def records_of(found: Sequence[Horizons]) -> Iterator[Mapping[str, Any]]:
    """A row for each horizon run."""
    for each in found:
        for result in each.results:
            yield {
                "method": each.method,
                "task": result.task.title,
                "minutes": result.minutes,
                "steps": result.steps,
                "seed": result.seed,
                "horizon": result.horizon or 0,
                "solved": [rung.t for rung in result.rungs if rung.solved],
                "sequence_steps": result.rungs[-1].sequence_steps,
                "seconds": result.rungs[-1].seconds,
            }
