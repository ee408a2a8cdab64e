"""Run folders, read for the report. They may come from anyone: whatever is damaged is named and left out."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from adding_problem import config as configuration
from adding_problem.analysis import aggregate
from adding_problem.config import RunConfig, families
from adding_problem.errors import AddingProblemError, RunFolderError, printable
from adding_problem.runs import atomic_io
from adding_problem.runs.folder import HORIZON, RunFolder
from adding_problem.runs.records import (
    SOLVED,
    THRESHOLDS,
    UNITS,
    EpochRow,
    HorizonResult,
    RunRecord,
    read_json,
)

__all__ = ["Collection", "Horizon", "Run", "collect"]

_MOST_BYTES = 8 << 20
_MOST_FOLDERS = 100_000  # entered while looking for runs, so that a mistyped `/` ends

# What a method's name need not tell: the recipe is told otherwise, and T beside it.
_NOT_TOLD = (*aggregate.NOT_THE_METHOD, "recipe", "dataset.t")


@dataclass(frozen=True)
class Run:
    """One run, finished or not.

    Attributes:
        name: its path below the folder that all runs share.
        record: what its folder holds.
        method: what tells this run from the others, beside its T and its seed.
        same_as: name of the first run with the same weights, if that is another.
    """

    name: str
    record: RunRecord
    method: str = ""
    same_as: str = ""

    @property
    def path(self) -> Path:
        """Its folder."""
        return self.record.path

    @property
    def config(self) -> RunConfig:
        """Its configuration."""
        return self.record.config

    @property
    def rows(self) -> Sequence[EpochRow]:
        """Its finished epochs."""
        return self.record.rows

    @property
    def t(self) -> int:
        """T of its validation set, which it need not have trained on."""
        return self.record.t

    @property
    def seed(self) -> int:
        """Root seed."""
        return self.record.seed

    @property
    def finished(self) -> bool:
        """Whether it has a result."""
        return self.record.result is not None

    @property
    def stop_reason(self) -> str:
        """Why it ended; empty where it has not."""
        return self.record.result.stop_reason if self.record.result else ""

    @property
    def best(self) -> float:
        """Validation loss of the kept weights; of an unfinished run the lowest; NaN without any."""
        return self.record.best

    @property
    def solved(self) -> bool:
        """Whether that is below 1e-3."""
        return self.best < SOLVED

    @property
    def oracle(self) -> bool:
        """Whether the model starts with the answer: it stands behind the learners."""
        return self.record.oracle

    @property
    def machine(self) -> str:
        """Processor, device and backend."""
        return self.record.result.machine if self.record.result else ""

    @property
    def versions(self) -> Mapping[str, str]:
        """Of the software."""
        return self.record.result.versions if self.record.result else {}

    def reached(self, threshold: str) -> dict[str, float] | None:
        """Cost by unit until the validation loss first was below; None where it never was."""
        if self.record.result:
            cost = self.record.result.reached[threshold]
        else:
            row = self.record.first_below(THRESHOLDS[threshold])
            cost = row.cost if row else None
        return {unit: float(getattr(cost, unit)) for unit in UNITS} if cost else None

    @property
    def longest(self) -> int | None:
        """Longest T that its weights were trained on; None where unknown."""
        return self.record.longest

    def spent(self, unit: str) -> float:
        """Training that the whole run took, in a unit of `UNITS`."""
        return float(getattr(self.rows[-1], unit)) if self.rows else 0.0


@dataclass(frozen=True)
class Horizon:
    """A horizon run, and whether its model starts with the answer."""

    result: HorizonResult
    oracle: bool


@dataclass(frozen=True)
class Collection:
    """All that the given folders hold: runs in the order of method, T and seed, oracles last; horizons by name; what could not be read."""

    runs: list[Run]
    horizons: dict[str, Horizon]
    left_out: list[str] = field(default_factory=list)

    @property
    def methods(self) -> list[str]:
        """In the order of the runs, each once."""
        return list(dict.fromkeys(run.method for run in self.runs))


def collect(folders: Sequence[str | Path]) -> Collection:
    """The runs in these folders and in the folders below them.

    Symbolic links are not followed.

    Raises:
        RunFolderError: when a folder is missing, or when there is no run in any of them.
    """
    for folder in folders:
        if not Path(folder).is_dir():
            raise RunFolderError(
                folder,
                "is no folder",
                "give run folders, or folders of run folders such as a sweep's",
            )
    found = list(
        {path.resolve(): path for folder in folders for path in _walk(Path(folder))}.values()
    )
    runs: list[Run] = []
    read: dict[str, HorizonResult] = {}
    left_out: list[str] = []
    paths = [path for path in found if atomic_io.is_regular(RunFolder(path).config_copy)]
    names = dict(zip(found, atomic_io.unique_names(found), strict=True))
    for path in paths:
        try:
            runs.append(Run(names[path], RunFolder(path).read()))
        except AddingProblemError as error:
            left_out.append(printable(str(error).partition("\n")[0]))
    for path in found:
        if atomic_io.is_regular(path / HORIZON):
            try:
                read[names[path]] = _read_horizon(path / HORIZON)
            except (OSError, ValueError) as error:
                left_out.append(printable(f"{path / HORIZON}: is damaged ({error})"))
    if not runs:
        raise RunFolderError(
            ", ".join(map(str, folders)),
            "no run can be read" if left_out else "no run in any of them",
            "; ".join(left_out) or "train first: adding-problem train --config FILE",
        )
    runs = _with_methods(
        runs,
        {path.resolve(): names[path] for path in found if atomic_io.is_regular(path / HORIZON)},
    )
    oracles = {run.path.resolve().parent for run in runs if run.oracle}
    given = {names[path] for path in found if path.resolve() in oracles}
    horizons = {
        f"{name}, {families.described_init('oracle')}" if name in given else name: Horizon(
            document, oracle=name in given
        )
        for name, document in sorted(read.items(), key=lambda item: item[0] in given)
    }
    runs = sorted(runs, key=lambda run: (run.oracle, run.method, run.t, run.seed, run.name))
    first = aggregate.equals([run.record.weights for run in runs])
    runs = [
        run if same is None else replace(run, same_as=runs[same].name)
        for run, same in zip(runs, first, strict=True)
    ]
    return Collection(runs, horizons, left_out)


def _walk(folder: Path) -> Iterator[Path]:
    for count, (path, below, _) in enumerate(os.walk(folder)):
        if count == _MOST_FOLDERS:
            raise RunFolderError(
                folder, f"has more than {_MOST_FOLDERS:,} folders", "give the folders of the runs"
            )
        below.sort()
        yield Path(path)


def _read_horizon(path: Path) -> HorizonResult:
    """`horizon.json`, which may be an untrusted file."""
    if atomic_io.escapes(path, path.parent):
        raise ValueError("a link that leads out of its folder")
    return read_json(HorizonResult, atomic_io.read_bounded(path, _MOST_BYTES))


# --- what tells methods apart ----------------------------------------------------------------------------------------


def _with_methods(runs: Sequence[Run], horizon_runs: Mapping[Path, str]) -> list[Run]:
    """The runs with their `method`: the recipe and the deviations from it, as far as they are not the same in all.

    What an initialisation tells the model is always said.

    The runs of a horizon run, whose deviations come from its steps, are one method.
    """
    stepping = {
        id(run): horizon_runs.get(run.path.resolve().parent)
        if run.path.name.partition("-")[0] == f"t{run.t}"
        else None
        for run in runs
    }
    deviations = {id(run): {} if stepping[id(run)] else _deviations(run.config) for run in runs}
    common = set.intersection(
        *({(k, repr(v)) for k, v in deviation.items()} for deviation in deviations.values())
    )
    recipes = {run.config.recipe for run in runs}
    named = []
    for run in runs:
        parts = [f"{_model_name(run.config)}"] + (
            [f"recipe {run.config.recipe}"] if len(recipes) > 1 else []
        )
        untold = {"model.name", "model.hidden"}
        if (
            run.config.model.name in families.FAMILIES
            and (init := run.config.model.init) in families.TOLD
        ):
            parts.append(f"init {families.described_init(str(init))}")
            untold.add("model.init")
        parts += [
            f"{key.rpartition('.')[2]} {value}"
            for key, value in deviations[id(run)].items()
            if (key, repr(value)) not in common and key not in untold
        ]
        if name := stepping[id(run)]:
            parts.append(f"horizon run ({name})")
        named.append(", ".join(parts))
    sources = aggregate.code_labels(named, [run.record.model_source for run in runs])
    return [
        replace(run, method=f"{name}, code {source}" if source else name)
        for run, name, source in zip(runs, named, sources, strict=True)
    ]


def _deviations(config: RunConfig) -> dict[str, Any]:
    """Values that are not the recipe's own."""
    usual = _recipe(config.recipe, config.model.name)
    return {
        key: value
        for key, value in config.flat().items()
        if key not in _NOT_TOLD and value != usual.get(key)
    }


@cache
def _recipe(name: str, model: str) -> dict[str, Any]:
    return configuration.load(None, {"recipe": name, "model.name": model}).flat()


def _model_name(config: RunConfig) -> str:
    hidden = config.flat().get("model.hidden")
    return f"{config.model.name.upper()}({hidden})" if hidden else config.model.name
