"""Run folders that differ in their seeds alone, put together: what `compare` tells of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from adding_problem.analysis import statistics
from adding_problem.config import WITHOUT_EFFECT, RunConfig, families
from adding_problem.runs.folder import RunFolder
from adding_problem.runs.records import SOLVED, THRESHOLDS, RunRecord, Unit
from adding_problem.task.variants import Task

__all__ = [
    "NOT_THE_METHOD",
    "Group",
    "code_labels",
    "collect",
    "comparisons",
    "equals",
    "lengths_in_words",
    "one_per_seed",
]

# How long a run may go on.
_ENDINGS = {
    "train.epochs",
    "train.stop_val_loss",
    "train.budget_steps",
    "train.budget_minutes",
    "train.val_subset",
}
NOT_THE_METHOD = (
    *WITHOUT_EFFECT,
    "seed",
    "threads",
    "device",
    "backend",
    "validate.seed",
    "validate.dt_length",
)
"""Which seed, where and how the work is done and scored: runs that differ in these alone are of one method."""
_TASK = ("dataset.variant", "dataset.target", "dataset.noise_columns", "dataset.mix")
_COLUMNS = ("model.name", "recipe", *_TASK, "dataset.t")


@dataclass(frozen=True)
class Group:
    """The runs of one method at one length.

    Attributes:
        method: what tells it from the other groups, beside the task and T.
        task, t: of the data; where inputs are rotated, each seed has a rotation of its own.
        seeds: the runs, by seed.
        repeated: runs that are left out, because another one of the same seed is there.
        scored: whether every run compared has a score on new sequences; else the lowest
            validation losses are compared.
        oracle: whether its models start with the answer, see `families.is_oracle`; these stand behind the learners.
    """

    method: str
    task: Task
    t: int
    seeds: tuple[RunRecord, ...]
    repeated: int = 0
    _: KW_ONLY
    oracle: bool = False
    scored: bool = False

    @property
    def measure(self) -> str:
        """What `values` are."""
        return "MSE on new data" if self.scored else "lowest validation MSE"

    @property
    def values(self) -> list[float]:
        """The final losses; NaN counts as infinite."""
        return [self.value(seed) for seed in self.seeds]

    def value(self, run: RunRecord) -> float:
        """The final loss of one of its runs."""
        found = run.score.mse if self.scored and run.score else run.lowest
        return math.inf if math.isnan(found) else found

    @property
    def solved(self) -> statistics.Proportion:
        """How many have a final loss below 1e-3."""
        return statistics.proportion(sum(value < SOLVED for value in self.values), len(self.seeds))

    @property
    def losses(self) -> statistics.Losses:
        """The final losses."""
        return statistics.losses(self.values)

    @property
    def longest(self) -> str:
        """The longest T that its runs trained on, which may be shorter than T."""
        return lengths_in_words(seed.longest for seed in self.seeds)

    @property
    def remark(self) -> str:
        """What a reader has to bear in mind."""
        again = f"{self.repeated} run{'s' if self.repeated != 1 else ''} of a seed that is there already left out"
        return "; ".join(
            filter(None, [statistics.few_seeds(len(self.seeds)), again if self.repeated else ""])
        )

    def cost(self, threshold: str, unit: Unit) -> statistics.Survival:
        """What it took until the validation loss first was below a threshold.

        A run that never was below is censored where it ended; one that ended because it went badly, at the end of the longest
        run: censored where it gave up, it would count as one that might have been about to get there. A run of which
        nobody knows what it took is left out.
        """
        known = [(seed, end) for seed in self.seeds if (end := seed.spent(unit)) is not None]
        longest = max((end for _, end in known), default=0.0)
        first = [seed.first_below(THRESHOLDS[threshold]) for seed, _ in known]
        costs = [
            float(getattr(row, unit)) if row else longest if seed.failed else end
            for (seed, end), row in zip(known, first, strict=True)
        ]
        return statistics.survival(costs, [row is not None for row in first])


def collect(folders: Sequence[str | Path]) -> list[Group]:
    """The groups of these run folders, by task, T and method, all measured alike: by scores on new data where every run has one.

    Oracles stand behind all learners.

    Raises:
        RunFolderError: when a folder holds no run, or a damaged one.
    """
    members: dict[tuple[tuple[str, Any], ...], list[RunRecord]] = {}
    paths = {Path(path).resolve(): path for path in folders}.values()
    runs = [RunFolder(path).read() for path in paths]
    methods = [_method_of(run.config) for run in runs]
    sources = code_labels(methods, [run.model_source for run in runs])
    for run, method, source in zip(runs, methods, sources, strict=True):
        members.setdefault((*method, ("source", source)), []).append(run)
    scored = all(run.score for run in runs)
    varying = {
        key for a, b in itertools.combinations(members, 2) for key in _telling(dict(a), dict(b))
    } - set(_COLUMNS)
    groups = []
    for key, seeds in members.items():
        values = dict(key)
        told = {"model.init"} if values.get("model.init") in families.TOLD else set()
        first = sorted(
            values.items(), key=lambda item: item[0] not in told
        )  # a picture's legend cuts long names
        rest = [
            _named(name, value)
            for name, value in first
            if name in varying | told and value is not None
        ]
        each = one_per_seed(seeds)
        groups.append(
            Group(
                ", ".join([values["model.name"], f"recipe {values['recipe']}", *rest]),
                Task(*(values[key] for key in _TASK)),
                values["dataset.t"],
                tuple(each),
                len(seeds) - len(each),
                oracle=families.is_oracle(values["model.name"], values.get("model.init")),
                scored=scored,
            )
        )
    return sorted(groups, key=lambda group: (group.oracle, group.task.title, group.t, group.method))


def lengths_in_words(lengths: Iterable[int | None]) -> str:
    """One length, or the shortest and the longest of several; None is an unknown one."""
    every = set(lengths)
    known = sorted(length for length in every if length is not None)
    if not known:
        return "unknown"
    ends = f"{known[0]:,}" if len(known) == 1 else f"{known[0]:,} to {known[-1]:,}"
    return f"{ends}, some unknown" if None in every else ends


def _named(key: str, value: Any) -> str:
    if key == "model.init":
        return f"init {families.described_init(str(value))}"
    return f"{key.rpartition('.')[2]}={str(value).removesuffix('.0')}"


def code_labels(methods: Sequence[Hashable], digests: Sequence[str | None]) -> list[str | None]:
    """A label for runs that name the same model of a user's own but trained different code: the first digits of their file's digest.

    Args:
        methods: of each run, beside its code.
        digests: of each run's code; None where nobody knows, as before its end.

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


def _telling(first: dict[str, Any], second: dict[str, Any]) -> set[str]:
    """The keys in which two methods differ; how long a run may go on tells methods apart at one length only."""
    differing = {key for key in first.keys() | second.keys() if first.get(key) != second.get(key)}
    return differing - _ENDINGS if differing & {*_TASK, "dataset.t"} else differing


def comparisons(groups: Sequence[Group]) -> list[str]:
    """A sentence for every two methods that ran on the same data: what their shared seeds can tell and what not.

    An oracle is compared with no learner. Models that were compared at another length before are said to be the same.
    """
    sentences = []
    compared: dict[tuple[Hashable, ...], int] = {}
    for first, second in itertools.combinations(groups, 2):
        if (first.task, first.t, first.oracle) != (second.task, second.t, second.oracle):
            continue
        a, b = ({seed.seed: group.value(seed) for seed in group.seeds} for group in (first, second))
        if shared := sorted(a.keys() & b.keys()):
            found = statistics.paired([a[seed] for seed in shared], [b[seed] for seed in shared])
            measure = "MSE on new data" if first.scored else "validation MSE"
            sentence = f"T = {first.t:,} ({first.task.title}): {found.sentence(first.method, second.method, measure)}"
            models = tuple(
                seed.weights
                for group in (first, second)
                for seed in group.seeds
                if seed.seed in shared
            )
            if None not in models and (t := compared.setdefault(models, first.t)) != first.t:
                sentence += f" These are the same weights as at T = {t:,}, not other models."
            sentences.append(sentence)
    return sentences


def _method_of(config: RunConfig) -> tuple[tuple[str, Any], ...]:
    """Every value that makes the method, by dotted key."""
    return tuple(
        (key, value if isinstance(value, int | float | str | None) else repr(value))
        for key, value in config.flat().items()
        if key not in NOT_THE_METHOD
    )


def equals(found: Sequence[Hashable]) -> list[int | None]:
    """For each the index of the first one that is equal and stands before it; None where there is none, and for None."""
    first: dict[Hashable, int] = {}
    places = [
        index if one is None else first.setdefault(one, index) for index, one in enumerate(found)
    ]
    return [place if place != index else None for index, place in enumerate(places)]
