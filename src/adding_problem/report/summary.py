"""The report's runs put together: by method and length, by model, and by how far they reach."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

import numpy as np

from adding_problem.analysis import aggregate
from adding_problem.analysis.aggregate import Group
from adding_problem.errors import printable
from adding_problem.experiments.certificate import Judged, Verdict
from adding_problem.report.measure import Measured
from adding_problem.report.runs import Collection, Run
from adding_problem.runs import atomic_io
from adding_problem.runs.folder import RunFolder
from adding_problem.runs.records import RunRecord
from adding_problem.task.thresholds import SOLVED
from adding_problem.task.variants import Task

__all__ = [
    "Cell",
    "Reach",
    "all_solved",
    "distinct",
    "finding",
    "has_model",
    "middle",
    "reaches",
    "to_score",
    "together",
]


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


def to_score(runs: Sequence[Run], most: int) -> list[Run]:
    """The finished runs whose models are scored, oracles last.

    All models where there are no more than `most`. Else the best run of each method and length;
    of more than `most`, those of the longest length of each method first. One model on one task
    is scored once, whatever the lengths are at which it was validated. A folder may have no model,
    as that of a recorded run.
    """
    by_path = {run.record.path: run for run in runs}
    ranked: dict[str, list[list[Run]]] = {}
    for group in together(runs):
        best_first = [by_path[run.path] for run in sorted(group.runs, key=group.value)]
        if finished := [run for run in best_first if has_model(run)]:
            ranked.setdefault(group.method, []).append(finished)
    every = _once(run for members in ranked.values() for found in members for run in found)
    if len(every) > most:
        best = [
            (rank, found[0])
            for members in ranked.values()
            for rank, found in enumerate(sorted(members, key=lambda found: -found[0].t))
        ]
        best.sort(key=lambda one: one[0])
        every = _once(run for _, run in best)[:most]
    return sorted(every, key=lambda run: (run.oracle, run.t, run.method, run.record.seed))


def has_model(run: Run) -> bool:
    """Whether the run is finished and its folder has a model."""
    return run.record.result is not None and atomic_io.is_regular(
        RunFolder(run.record.path).weights
    )


def _once(runs: Iterable[Run]) -> list[Run]:
    """Of the runs with the same weights and task the first."""
    listed = list(runs)
    again = aggregate.equals([_model_of(run.record) for run in listed])
    return [run for run, same in zip(listed, again, strict=True) if same is None]


def _model_of(run: RunRecord) -> Hashable:
    """Equal for runs of the same weights and task."""
    return (run.weights, run.config.task) if run.weights else run.path


# --- how far --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    """What the models of a method do at one length.

    Attributes:
        t: the length.
        solved, of: how many models have an error below 1e-3, of how many.
        mse: the median error; infinite where half of them have none that is finite.
        validated: whether these are the runs' own validation errors; else they are on new
            sequences.
    """

    t: int
    solved: int
    of: int
    mse: float
    validated: bool

    @property
    def most_solved(self) -> bool:
        """Whether more than half of the models solve it."""
        return 2 * self.solved > self.of


@dataclass(frozen=True)
class Reach:
    """How far the models of one method remember.

    Attributes:
        method, task, oracle: whose.
        trained: longest T that they were trained on; None where unknown.
        cost: median sequence-steps to 1e-3 at its longest T; infinite where half never got there.
        cells: by length.
        verdict: of the certificate of this model and recipe on this task; None without one.
        certificate: it.
    """

    method: str
    task: Task
    oracle: bool
    trained: int | None
    cost: float
    cells: Mapping[int, Cell]
    verdict: Verdict | None = None
    certificate: Judged | None = None

    @property
    def tested(self) -> int:
        """Longest T at which there is an error."""
        return max(self.cells, default=0)

    @property
    def partly_tested(self) -> bool:
        """Whether fewer models were tested at other lengths than at their own T."""
        own = [cell.of for cell in self.cells.values() if cell.validated]
        return any(cell.of < own[-1] for cell in self.cells.values() if not cell.validated)

    @property
    def solved(self) -> Cell | None:
        """The longest length up to which most of the models solve every one from their own T on.

        None where most do not solve their own T.
        """
        cells = list(self.cells.values())
        own = [cell.t for cell in cells if cell.validated and cell.most_solved]
        beyond = [cell for cell in cells if own and cell.t >= own[-1]]
        solved = list(takewhile(lambda cell: cell.most_solved, beyond))
        return solved[-1] if solved else None

    @property
    def rank(self) -> tuple[bool, int, float, float, str]:
        """Farthest first, of these the shortest trained, then the cheapest; oracles last."""
        far = self.solved.t if self.solved else 0
        return self.oracle, -far, self.trained or math.inf, self.cost, self.method


def reaches(found: Collection, measured: Sequence[Measured]) -> list[Reach]:
    """How far each method remembers, farthest first, oracles last.

    At a length at which a method has runs, their validation errors count. At others count the
    errors on test sequences of its runs of the longest T.
    """
    groups: dict[tuple[str, Task], list[Group]] = {}
    for group in together(found.runs):
        groups.setdefault((group.method, group.task), []).append(group)
    scored = {_model_of(one.run.record): one for one in measured}
    return sorted(
        (_reach(members, scored, found.certificates) for members in groups.values()),
        key=lambda reach: reach.rank,
    )


def _reach(
    groups: Sequence[Group],
    scored: Mapping[Hashable, Measured],
    certificates: Sequence[Judged],
) -> Reach:
    last = max(groups, key=lambda group: group.t)
    cells = {
        t: _cell(t, [one.mse[t] for one in tested], validated=False)
        for tested in [[scored[key] for key in map(_model_of, last.runs) if key in scored]]
        for t in {t for one in tested for t in one.mse}
        if all(t in one.mse for one in tested)
    }
    cells |= {group.t: _cell(group.t, group.values, validated=True) for group in groups}
    trained = [run.longest for group in groups for run in group.runs]
    known = [length for length in trained if length is not None]
    certified = _certificate_of(last.runs[0], certificates)
    return Reach(
        last.method,
        last.task,
        last.oracle,
        max(known) if len(known) == len(trained) else None,
        last.cost("1e-3", "sequence_steps").median or math.inf,
        dict(sorted(cells.items())),
        *(certified or ()),
    )


def _cell(t: int, errors: Sequence[float], *, validated: bool) -> Cell:
    finite = [error if math.isfinite(error) else math.inf for error in errors]
    solved = sum(error < SOLVED for error in finite)
    return Cell(t, solved, len(finite), float(np.median(finite)), validated)


def _certificate_of(
    run: RunRecord, certificates: Sequence[Judged]
) -> tuple[Verdict, Judged] | None:
    """Of the certificates of this model and recipe, that of the longest T that has the task."""
    title = " ".join(printable(run.config.model.title).split())
    task = replace(run.config.task, mix_seed=0)
    return max(
        (
            (verdict, made)
            for made in certificates
            if (made.title, made.recipe, made.model_source)
            == (title, run.config.recipe, run.model_source)
            for asked, verdict in made.verdicts.items()
            if replace(asked, mix_seed=0) == task
        ),
        key=lambda pair: pair[1].t,
        default=None,
    )


def finding(reaches: Sequence[Reach]) -> str:
    """Which method remembers how far, in a sentence. Oracles count where there is no learner."""
    ranked = [reach for reach in reaches if not reach.oracle] or list(reaches)
    far = ranked[0].solved
    if far is None:
        shortest = min(min(reach.cells) for reach in ranked)
        return f"None of these models remembers {_length(shortest)}, the shortest length here"
    best, notes = ranked[0], [f"{far.solved} of {far.of} seeds"] if far.of > 1 else []
    as_far = sum(reach.solved is not None and reach.solved.t == far.t for reach in ranked)
    notes += [f"trained up to {_length(best.trained)}"] if best.trained else []
    about = f" ({', '.join(notes)})" if notes else ""
    if as_far > 1:
        which = "All" if as_far == len(ranked) else f"{as_far} of"
        words = f"{which} {len(ranked)} methods remember {_length(far.t)}, and none more"
        if best.trained is None or best.trained >= far.t:
            return words
        return f"{words}; {middle(best.method, 64)} was only trained up to {_length(best.trained)}"
    words = f"{middle(best.method, 64)} remembers {_length(far.t)}{about}"
    if len(ranked) == 1:
        return words
    second = ranked[1].solved
    after = _length(second.t) if second else "none of these lengths"
    return f"{words}; next is {middle(ranked[1].method)} with {after}"


def _length(t: int) -> str:
    """On one line."""
    return f"T\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{t:,}"


def middle(text: str, most: int = 40) -> str:
    """The text, shortened in the middle where it is longer than `most` letters."""
    if len(text) <= most:
        return text
    head = most * 3 // 5
    return f"{text[:head].rstrip()}…{text[len(text) - most + head + 1 :].lstrip()}"
