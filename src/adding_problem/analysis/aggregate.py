"""Run folders that differ in their seeds alone, put together: what `compare` tells of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

from adding_problem.analysis import statistics
from adding_problem.config import WITHOUT_EFFECT, RunConfig, families
from adding_problem.runs.folder import (
    SOLVED,
    THRESHOLDS,
    EpochRow,
    RunFolder,
    first_below,
    longest_trained,
    lowest_val_loss,
)
from adding_problem.task.variants import Task

__all__ = [
    "NOT_THE_METHOD",
    "Group",
    "Seed",
    "Unit",
    "code_labels",
    "collect",
    "comparisons",
    "equals",
    "lengths_in_words",
    "one_per_seed",
    "own_score",
    "source_of",
    "weights_of",
]

Unit = Literal["sequences", "sequence_steps", "seconds"]

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
class Seed:
    """One run of a group.

    Attributes:
        seed: its root seed.
        rows: its epochs.
        mse: on new data, where it was scored at its own length.
        stop_reason: why it ended; None where it has not.
        longest: the longest T that it trained on; None where nobody knows.
        weights: of its model, see `weights_of`; None where nobody knows.
    """

    seed: int
    rows: tuple[EpochRow, ...]
    mse: float | None
    stop_reason: str | None
    longest: int | None = None
    weights: Hashable = None

    @property
    def lowest(self) -> float:
        """Lowest validation loss; infinite where there is none."""
        return lowest_val_loss(self.rows)

    @property
    def failed(self) -> bool:
        """Whether the run ended because it went badly: in a loss that is no number, or without progress for too long."""
        return self.stop_reason == "early_stopping" or (
            bool(self.rows) and not math.isfinite(self.rows[-1].loss)
        )

    def first_below(self, threshold: float) -> EpochRow | None:
        """The first epoch whose validation loss is below."""
        return first_below(self.rows, threshold)

    def spent(self, unit: Unit) -> float | None:
        """What the whole run took; None where nobody knows, since the model was trained elsewhere."""
        if not self.rows:
            return 0.0
        last = float(getattr(self.rows[-1], unit))
        return last if self.rows[-1].epoch and math.isfinite(last) else None


@dataclass(frozen=True)
class Group:
    """The runs of one method at one length.

    Attributes:
        method: what tells it from the other groups, beside the task and T.
        task, t: of the data; where inputs are rotated, each seed has a rotation of its own.
        seeds: the runs, by seed.
        repeated: runs that are left out, because another one of the same seed is there.
        oracle: whether its models start with the answer, see `families.is_oracle`; these stand behind the learners.
    """

    method: str
    task: Task
    t: int
    seeds: tuple[Seed, ...]
    repeated: int = 0
    oracle: bool = field(default=False, kw_only=True)

    @property
    def scored(self) -> bool:
        """Whether every run has a score on new data; else the lowest validation losses speak."""
        return all(seed.mse is not None for seed in self.seeds)

    @property
    def measure(self) -> str:
        """What `values` are."""
        return "MSE on new data" if self.scored else "lowest validation MSE"

    @property
    def values(self) -> list[float]:
        """The final losses; NaN counts as infinite."""
        found = [
            seed.mse if self.scored and seed.mse is not None else seed.lowest for seed in self.seeds
        ]
        return [math.inf if math.isnan(value) else value for value in found]

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
    members: dict[tuple[tuple[str, Any], ...], list[Seed]] = {}
    read = [
        _read(RunFolder(path)) for path in {Path(path).resolve(): path for path in folders}.values()
    ]
    sources = code_labels([method for method, _, _ in read], [digest for _, digest, _ in read])
    for (method, _, seed), source in zip(read, sources, strict=True):
        members.setdefault((*method, ("source", source)), []).append(seed)
    if any(seed.mse is None for seeds in members.values() for seed in seeds):
        members = {
            key: [replace(seed, mse=None) for seed in seeds] for key, seeds in members.items()
        }
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
        both = first.scored and second.scored
        a, b = (
            {
                seed.seed: seed.mse if both and seed.mse is not None else seed.lowest
                for seed in group.seeds
            }
            for group in (first, second)
        )
        if shared := sorted(a.keys() & b.keys()):
            found = statistics.paired([a[seed] for seed in shared], [b[seed] for seed in shared])
            measure = "MSE on new data" if both else "validation MSE"
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


def source_of(result: Mapping[str, Any]) -> str | None:
    """The digest of a custom model's code, from `result.json`."""
    digest = result.get("model_source")
    return digest if isinstance(digest, str) else None


def weights_of(folder: RunFolder, config: RunConfig, result: Mapping[str, Any]) -> Hashable:
    """What two finished runs share whose models are one and the same; None where nobody knows."""
    digest = folder.weights_digest()
    return digest and (digest, config.model.name, source_of(result))


def equals(found: Sequence[Hashable]) -> list[int | None]:
    """For each the index of the first one that is equal and stands before it; None where there is none, and for None."""
    first: dict[Hashable, int] = {}
    places = [
        index if one is None else first.setdefault(one, index) for index, one in enumerate(found)
    ]
    return [place if place != index else None for index, place in enumerate(places)]


def _read(folder: RunFolder) -> tuple[tuple[tuple[str, Any], ...], str | None, Seed]:
    """The method of a run, the digest of its own model's code, and the run."""
    config = folder.read_config()
    result = folder.read_result() if folder.result.is_file() else None
    stop_reason = None if result is None else str(result.get("stop_reason"))
    score = None if result is None else own_score(folder, result)
    rows = tuple(folder.read_history())
    weights = None if result is None else weights_of(folder, config, result)
    seed = Seed(
        config.seed, rows, score, stop_reason, longest_trained(config, rows, result or {}), weights
    )
    return _method_of(config), source_of(result or {}), seed


def own_score(folder: RunFolder, result: Mapping[str, Any]) -> float | None:
    """The MSE on new data of a run with this result, from `validation.json`; None where that is of another length, task or model."""
    if not folder.validation.is_file():
        return None
    score = folder.read_validation()
    same = Task.of_record(result) == Task.of_record(score) and all(
        result.get(here) == score.get(there) for here, there in (("t", "t"), ("digest", "model"))
    )
    return float(score["mse"]) if same and isinstance(score.get("mse"), int | float) else None
