"""Runs that differ in their seeds alone, put together, and what can be said of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import Literal, Protocol, TypeVar

from adding_problem.analysis import statistics
from adding_problem.analysis.names import method_names
from adding_problem.analysis.original import OriginalRun
from adding_problem.config import families
from adding_problem.runs.folder import RunFolder
from adding_problem.runs.records import RunRecord, Unit, lowest_val_loss
from adding_problem.task.thresholds import SOLVED, THRESHOLDS
from adding_problem.task.variants import Task

__all__ = [
    "Group",
    "Measure",
    "TableRow",
    "code_labels",
    "collect",
    "comparisons",
    "equals",
    "finding",
    "group_runs",
    "lengths_in_words",
    "one_per_seed",
    "table_rows",
]

Measure = Literal["test MSE", "lowest validation MSE", "validation MSE of the kept weights"]
"""Which loss of a run counts. A test MSE is on test sequences."""


@dataclass(frozen=True)
class Group:
    """The runs of one method at one length.

    Attributes:
        method: what distinguishes it from the other groups, beside the task and T.
        task, t: of the data. Where inputs are rotated, each seed has a rotation of its own.
        runs: by seed.
        repeated: runs that are left out, because another one of the same seed is there.
        oracle: whether its models are oracles, see `families.is_oracle`. These stand below others.
        measure: what `values` are.
    """

    method: str
    task: Task
    t: int
    runs: tuple[RunRecord, ...]
    repeated: int = 0
    _: KW_ONLY
    oracle: bool = False
    measure: Measure = "lowest validation MSE"

    @property
    def values(self) -> list[float]:
        """The final losses; NaN counts as infinite."""
        return [self.value(run) for run in self.runs]

    def values_of(self, seeds: Sequence[int]) -> list[float]:
        """The final losses of these seeds."""
        by_seed = {run.seed: self.value(run) for run in self.runs}
        return [by_seed[seed] for seed in seeds]

    def value(self, run: RunRecord) -> float:
        """The final loss of one of its runs."""
        found = run.best if self.measure == "validation MSE of the kept weights" else run.lowest
        if self.measure == "test MSE" and run.score:
            found = run.score.mse
        return found if math.isfinite(found) else math.inf

    @property
    def solved(self) -> statistics.Proportion:
        """How many have a final loss below 1e-3."""
        return statistics.proportion(sum(value < SOLVED for value in self.values), len(self.runs))

    @property
    def told(self) -> str:
        """The initialisation with what it tells the model; empty where it tells nothing."""
        return families.told_by(self.runs[0].config.model.init)

    @property
    def solved_by_most(self) -> bool:
        """Whether more than half of the runs have a final loss below 1e-3."""
        return 2 * self.solved.successes > self.solved.n

    @property
    def losses(self) -> statistics.Losses:
        """The final losses."""
        return statistics.losses(self.values)

    @property
    def longest(self) -> str:
        """The longest T that its runs trained on, which may be shorter than T."""
        return lengths_in_words(run.longest for run in self.runs)

    @property
    def remark(self) -> str:
        """What limits the conclusions from it; empty where nothing does."""
        repeated = f"{self.repeated} run{'s' if self.repeated != 1 else ''}"
        again = f"{repeated} of a seed that is there already left out" if self.repeated else ""
        return "; ".join(filter(None, [statistics.few_seeds(len(self.runs)), again]))

    def cost(self, threshold: str, unit: Unit) -> statistics.Survival:
        """What it took until the validation loss first was below a threshold.

        A run that never was below is censored where it ended. One that diverged or stopped early
        is censored at the end of the longest run: it was not about to get there. A run of unknown
        cost is left out.
        """
        known = [(run, end) for run in self.runs if (end := run.spent(unit)) is not None]
        longest = max((end for _, end in known), default=0.0)
        first = [run.first_below(THRESHOLDS[threshold]) for run, _ in known]
        costs = [
            float(getattr(row, unit)) if row else longest if run.failed else end
            for (run, end), row in zip(known, first, strict=True)
        ]
        return statistics.survival(costs, [row is not None for row in first])


def finding(groups: Sequence[Group]) -> str:
    """The longest T that most seeds of a method solved, and by which; in a sentence.

    Oracles are told apart from the other methods.
    """
    kinds = [[group for group in groups if group.oracle is oracle] for oracle in (False, True)]
    learners, oracles = (_longest_solved(kind) for kind in kinds)
    return "; ".join(filter(None, [learners, oracles and f"oracles: {oracles}"]))


def _longest_solved(groups: Sequence[Group]) -> str:
    if not groups:
        return ""
    methods = len({(group.method, group.task) for group in groups})
    longest = max((group.t for group in groups if group.solved_by_most), default=None)
    if longest is None:
        ends = sorted({group.t for group in groups})
        where = f"T = {ends[0]:,}" if len(ends) == 1 else f"T = {ends[0]:,} to {ends[-1]:,}"
        who = groups[0].method if methods == 1 else f"None of {methods} methods"
        return f"{who} {'does not solve' if methods == 1 else 'solves'} {where}"
    best = [group for group in groups if group.t == longest and group.solved_by_most]
    if len(best) > 1:
        return f"{len(best)} of {methods} methods solve T = {longest:,}"
    seeds = f"{best[0].solved.successes} of {best[0].solved.n} seeds"
    return f"{best[0].method} solves T = {longest:,} ({seeds})"


def collect(folders: Sequence[str | Path]) -> list[Group]:
    """The groups of the runs in these folders; see `group_runs`.

    Raises:
        RunFolderError: when a folder holds no run, or a damaged one.
    """
    return group_runs([RunFolder(folder).read() for folder in folders])


def group_runs(runs: Iterable[RunRecord]) -> list[Group]:
    """The runs by task, T and method, oracles last; a folder that is named twice counts once.

    All groups have the same measure: the test MSE where every run has one.
    """
    runs = list({run.path.resolve(): run for run in runs}.values())
    names = method_names([run.config for run in runs])
    tasks = [replace(run.config.task, mix_seed=0) for run in runs]
    places = [(name, task, run.t) for name, task, run in zip(names, tasks, runs, strict=True)]
    sources = code_labels(places, [run.model_source for run in runs])
    members: dict[tuple[str, Task, int], list[RunRecord]] = {}
    for run, (name, task, t), source in zip(runs, places, sources, strict=True):
        method = f"{name}, code {source}" if source else name
        members.setdefault((method, task, t), []).append(run)
    measure: Measure = "test MSE" if all(run.score for run in runs) else "lowest validation MSE"
    groups = []
    for (method, task, t), found in members.items():
        each = one_per_seed(found)
        groups.append(
            Group(
                method,
                task,
                t,
                tuple(each),
                len(found) - len(each),
                oracle=each[0].oracle,
                measure=measure,
            )
        )
    return sorted(groups, key=lambda group: (group.oracle, group.task.title, group.t, group.method))


@dataclass(frozen=True)
class TableRow:
    """A run as a table shows it.

    Attributes:
        name: its folder, or the file of the original's curves.
        t: T of its validation set.
        longest: longest T that it was trained on; None where unknown.
        epochs: finished.
        lowest: lowest validation loss; NaN where there is none.
        oracle: whether its model is an oracle.
        weights: equal where the model is the same; None where unknown.
    """

    name: str
    t: int
    longest: int | None
    epochs: int
    lowest: float
    oracle: bool = False
    weights: Hashable = None


def table_rows(runs: Sequence[RunRecord], originals: Sequence[OriginalRun] = ()) -> list[TableRow]:
    """A row for each run, by T and name, oracles last."""
    rows = [
        TableRow(str(r.path), r.t, r.longest, len(r.rows), _or_nan(r.lowest), r.oracle, r.weights)
        for r in runs
    ]
    rows += [
        TableRow(run.name, run.t, run.t, len(run.rows), _or_nan(lowest_val_loss(run.rows)))
        for run in originals
    ]
    return sorted(rows, key=lambda row: (row.oracle, row.t, row.name))


def _or_nan(loss: float) -> float:
    return loss if math.isfinite(loss) else math.nan


def lengths_in_words(lengths: Iterable[int | None]) -> str:
    """One length, or the shortest and the longest of several; None is an unknown one."""
    every = set(lengths)
    known = sorted(length for length in every if length is not None)
    if not known:
        return "unknown"
    ends = f"{known[0]:,}" if len(known) == 1 else f"{known[0]:,} to {known[-1]:,}"
    return f"{ends}, some unknown" if None in every else ends


def code_labels(methods: Sequence[Hashable], digests: Sequence[str | None]) -> list[str | None]:
    """Labels for runs of one custom model whose code differs: the first digits of its digest.

    Args:
        methods: of each run, beside its code.
        digests: of each run's code; None where unknown, as before the run's end.

    Returns:
        For each run a name of its code; None where all runs of its method had the same.
    """
    known: dict[Hashable, set[str]] = {}
    for method, digest in zip(methods, digests, strict=True):
        known.setdefault(method, set()).update([digest] if digest else [])
    return [
        None if len(known[method]) < 2 else (digest or "unknown")[:8]
        for method, digest in zip(methods, digests, strict=True)
    ]


class _Seeded(Protocol):
    @property
    def seed(self) -> int: ...


_S = TypeVar("_S", bound=_Seeded)


def one_per_seed(runs: Sequence[_S]) -> list[_S]:
    """By seed; of several runs of a seed, as on other threads, the first."""
    found = {run.seed: run for run in reversed(runs)}
    return [found[seed] for seed in sorted(found)]


def comparisons(groups: Sequence[Group]) -> list[str]:
    """A sentence for every two methods on the same data: what their shared seeds can show.

    An oracle is compared with oracles only. P-values are corrected for the number of sentences.
    Models that were compared at another length before are said to be the same.
    """
    pairs = [
        (first, second, shared)
        for first, second in itertools.combinations(groups, 2)
        if (first.task, first.t, first.oracle) == (second.task, second.t, second.oracle)
        and (shared := sorted({r.seed for r in first.runs} & {r.seed for r in second.runs}))
    ]
    found = [statistics.paired(a.values_of(seeds), b.values_of(seeds)) for a, b, seeds in pairs]
    corrected = statistics.holm([each.p for each in found])
    sentences = []
    compared: dict[tuple[Hashable, ...], int] = {}
    for (first, second, shared), test, p in zip(pairs, found, corrected, strict=True):
        measure = "test MSE" if first.measure == "test MSE" else "validation MSE"
        place = f"T = {first.t:,} ({first.task.title})"
        told = test.sentence(first.method, second.method, measure, p, len(found))
        sentence = f"{place}: {told}"
        both = [*first.runs, *second.runs]
        models = tuple(run.weights for run in both if run.seed in shared)
        if None not in models and (t := compared.setdefault(models, first.t)) != first.t:
            sentence += f" These are the same weights as at T = {t:,}, not other models."
        sentences.append(sentence)
    return sentences


def equals(found: Sequence[Hashable]) -> list[int | None]:
    """For each the index of the first one that is equal and stands before it.

    None where there is none, and for None.
    """
    first: dict[Hashable, int] = {}
    places = [
        index if one is None else first.setdefault(one, index) for index, one in enumerate(found)
    ]
    return [place if place != index else None for index, place in enumerate(places)]
