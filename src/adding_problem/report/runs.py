"""Run folders, read for the report. They may come from anyone: whatever is damaged is named and left out."""

from __future__ import annotations

import math
import os
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from adding_problem import config as configuration
from adding_problem.analysis import aggregate
from adding_problem.analysis.aggregate import Seed, Unit
from adding_problem.config import RunConfig, families
from adding_problem.errors import AddingProblemError, RunFolderError, printable
from adding_problem.runs import atomic_io, records
from adding_problem.runs.folder import (
    HORIZON,
    SOLVED,
    THRESHOLDS,
    EpochRow,
    RunFolder,
    first_below,
    longest_trained,
    lowest_val_loss,
)

__all__ = ["UNITS", "Collection", "Run", "collect"]

UNITS: tuple[Unit, ...] = ("sequence_steps", "sequences", "seconds")
"""What a cost can be counted in."""

_MOST_BYTES = 8 << 20
_MOST_FOLDERS = 100_000  # entered while looking for runs, so that a mistyped `/` ends

# What a method's name need not tell: the recipe is told otherwise, and T beside it.
_NOT_TOLD = (*aggregate.NOT_THE_METHOD, "recipe", "dataset.t")


@dataclass(frozen=True)
class Run:
    """One run, finished or not.

    Attributes:
        name: its path below the folder that all runs share.
        path: the run folder.
        config: its configuration.
        rows: of `metrics.csv`; empty when no epoch was finished.
        finished: whether `result.json` is there.
        stop_reason: why it ended; empty where it has not, or where the result does not tell.
        best: validation loss of the weights that were kept; of an unfinished run the lowest so far; NaN without any.
        reached: `1e-2` and `1e-3` -> cost by unit until the validation loss first was below; None where it never was.
        versions: of the software, where the result tells.
        machine: processor, device and backend, where the result tells.
        source: digest of the code of a custom model, where the result tells.
        method: what tells this run from the others, beside its T and its seed.
        longest: the longest T that it trained on; None where nobody knows.
        weights: equal where the model is the same; None where nobody knows.
        same_as: name of the first run with the same weights, if that is another.
    """

    name: str
    path: Path
    config: RunConfig
    rows: Sequence[EpochRow]
    finished: bool
    stop_reason: str
    best: float
    reached: dict[str, dict[str, float] | None]
    versions: dict[str, str]
    machine: str
    source: str | None
    method: str = ""
    longest: int | None = None
    weights: Hashable = None
    same_as: str = ""

    @property
    def t(self) -> int:
        """Length T that it trained for and was validated at, which it need not have trained on."""
        return self.config.dataset.t

    @property
    def solved(self) -> bool:
        """Whether the weights that were kept have a validation loss below 1e-3."""
        return self.best < SOLVED

    @property
    def oracle(self) -> bool:
        """Whether the model starts with the answer, see `families.is_oracle`: it stands behind the learners."""
        return families.is_oracle(self.config.model.name, self.config.model.init)

    @property
    def seed(self) -> int:
        """Its root seed."""
        return self.config.seed

    @property
    def as_seed(self) -> Seed:
        """What statistics over seeds ask of it."""
        return Seed(self.seed, tuple(self.rows), None, self.stop_reason or None, self.longest)

    def spent(self, unit: str) -> float:
        """Training that the whole run took, in a unit of `UNITS`."""
        return float(getattr(self.rows[-1], unit)) if self.rows else 0.0


@dataclass(frozen=True)
class Collection:
    """All that the given folders hold: runs in the order of method, T and seed, oracles last; horizons by name; what could not be read."""

    runs: list[Run]
    horizons: dict[str, dict[str, Any]]
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
    runs, horizons, left_out = [], {}, []
    paths = [path for path in found if atomic_io.is_regular(RunFolder(path).config_copy)]
    names = dict(zip(found, atomic_io.unique_names(found), strict=True))
    for path in paths:
        try:
            runs.append(_read(path, names[path]))
        except AddingProblemError as error:
            left_out.append(printable(str(error).partition("\n")[0]))
    for path in found:
        if atomic_io.is_regular(path / HORIZON):
            try:
                horizons[names[path]] = _read_horizon(path / HORIZON)
            except (
                OSError,
                ValueError,
                KeyError,
                TypeError,
                OverflowError,
                RecursionError,
            ) as error:
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
        f"{name}, {families.described_init('oracle')}" if name in given else name: document
        | {"oracle": name in given}
        for name, document in sorted(horizons.items(), key=lambda item: item[0] in given)
    }
    runs = sorted(runs, key=lambda run: (run.oracle, run.method, run.t, run.seed, run.name))
    first = aggregate.equals([run.weights for run in runs])
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


def _read(path: Path, name: str) -> Run:
    folder = RunFolder(path)
    config = folder.read_config()
    rows = folder.read_history()
    finished = atomic_io.is_regular(folder.result)
    result = folder.read_result() if finished else {}
    try:
        lowest = lowest_val_loss(rows)
        best = (
            float(result["best_val_loss"])
            if finished
            else lowest
            if math.isfinite(lowest)
            else math.nan
        )
        reached = {threshold: _reached(result, rows, threshold) for threshold in THRESHOLDS}
        versions = {str(key): str(value) for key, value in dict(result.get("versions", {})).items()}
        machine = ", ".join(
            str(result[key]) for key in ("processor", "device", "backend") if result.get(key)
        )
    except (KeyError, TypeError, ValueError) as error:
        raise RunFolderError(
            path, f"result.json is damaged ({error!r})", "train again with --overwrite"
        ) from None
    return Run(
        name,
        path,
        config,
        rows,
        finished,
        str(result.get("stop_reason", "")),
        best,
        reached,
        versions,
        machine,
        aggregate.source_of(result),
        longest=longest_trained(config, rows, result),
        weights=aggregate.weights_of(folder, config, result) if finished else None,
    )


def _reached(
    result: dict[str, Any], rows: Sequence[EpochRow], threshold: str
) -> dict[str, float] | None:
    if result:
        cost = result["reached"][threshold]
        return {unit: float(cost[unit]) for unit in UNITS} if cost is not None else None
    first = first_below(rows, THRESHOLDS[threshold])
    return {unit: float(getattr(first, unit)) for unit in UNITS} if first else None


def _read_horizon(path: Path) -> dict[str, Any]:
    """`horizon.json`, cut down to numbers and words that the page shows."""
    if atomic_io.escapes(path, path.parent):
        raise ValueError("a link that leads out of its folder")
    document = records.parsed(atomic_io.read_bounded(path, _MOST_BYTES), records.HORIZON)
    return {
        "horizon": document["horizon"],
        "minutes": float(document["minutes"]),
        "variant": document["variant"],
        "seed": int(document["seed"]),
        "rungs": [_rung(rung) for rung in document["rungs"]],
    }


def _rung(document: object) -> dict[str, Any]:
    rung = records.check(document, records.RUNG)
    reached = {threshold: rung["reached"][threshold] for threshold in THRESHOLDS}
    return {
        "t": rung["t"],
        "longest_length": rung.get("longest_length"),
        "mse": float(rung["mse"]),
        "solved": bool(rung["solved"]),
        **_climbs_cost(rung),
        "reached": {threshold: cost and _climbs_cost(cost) for threshold, cost in reached.items()},
    }


def _climbs_cost(values: dict[str, Any]) -> dict[str, float]:
    return {unit: float(values[unit]) for unit in ("sequence_steps", "seconds")}


# --- what tells methods apart ----------------------------------------------------------------------------------------


def _with_methods(runs: Sequence[Run], climbs: Mapping[Path, str]) -> list[Run]:
    """The runs with their `method`: the recipe and the deviations from it, as far as they are not the same in all.

    What an initialisation tells the model is always said.

    The runs of a climb, whose deviations come from the climbing, are one method.
    """
    climbing = {
        id(run): climbs.get(run.path.resolve().parent)
        if run.path.name.partition("-")[0] == f"t{run.t}"
        else None
        for run in runs
    }
    deviations = {id(run): {} if climbing[id(run)] else _deviations(run.config) for run in runs}
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
        if climb := climbing[id(run)]:
            parts.append(f"climbing ({climb})")
        named.append(", ".join(parts))
    sources = aggregate.code_labels(named, [run.source for run in runs])
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
