"""A sweep file and the runs that it stands for."""

from __future__ import annotations

import dataclasses
import difflib
import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adding_problem import config as configuration
from adding_problem.config import COMMAND_LINE, RunConfig
from adding_problem.errors import ConfigError
from adding_problem.task.sampling import sequence_width

__all__ = ["PlannedRun", "most_sequence_steps", "read"]

_SECTIONS = ("grid", "runs")
_DIGEST_DIGITS = 8
_VALUE_LENGTH = 40  # of a value in a folder's name


@dataclass(frozen=True)
class PlannedRun:
    """One run of a sweep.

    Attributes:
        name: of its folder: what varies, and the first digits of its configuration's digest.
        varies: the keys that the sweep varies, with this run's values.
        config: its `artifacts` is the folder of that name in the sweep's folder.
    """

    name: str
    varies: dict[str, Any]
    config: RunConfig


def read(
    path: str | Path, overrides: Mapping[str, Any] | None = None, out: str | None = None
) -> list[PlannedRun]:
    """The runs of a sweep file: a configuration with two more sections.

        recipe: fast
        grid:                      # every combination of these values
          dataset.t: [150, 1000]
          seed: [0, 1, 2]
        runs:                      # each of these with every combination of the grid
          - {model.hidden: 50, train.learning_rate: 1e-2}
          - {model.hidden: 100}
        artifacts: artifacts/wide  # the sweep's folder

    A run takes one thread unless `threads` names a number. Where a seed in the grid equals the
    default of `validate.seed`, that run is tested with the next seed. Where it equals a
    `validate.seed` that the file sets, it is an error.

    Args:
        path: the YAML file.
        overrides: values by dotted key for all runs, stronger than the file's.
        out: the sweep's folder, stronger than `artifacts`.

    Raises:
        ConfigError: naming the file, the key, what was expected, what was found and the hint.
    """
    source = str(path)
    document = configuration.read_yaml(Path(path))
    _check_sections(document, source)
    grid = _grid(document.pop("grid", None), source)
    listed = _listed(document.pop("runs", None), source)
    fixed, overrides = dict(configuration.flatten(document, source)), overrides or {}
    _check_varied(
        {*grid, *itertools.chain(*listed)}, {*fixed, *overrides}, overrides, grid, listed, source
    )
    runs = [_planned(fixed, varies, overrides, out, source) for varies in _points(grid, listed)]
    _check_distinct(runs, source)
    return runs


def most_sequence_steps(config: RunConfig) -> int:
    """Upper bound of a run's training. A budget ends with an epoch."""
    data, train = config.dataset, config.train
    sequences = train.epoch_steps * train.batch if data.stream else data.n_train
    epoch = sequences * sequence_width(data.t, data.variant)
    return epoch * min(
        train.epochs, math.ceil(train.budget_steps / epoch) if train.budget_steps else train.epochs
    )


# --- sections -------------------------------------------------------------------------------------


def _check_sections(document: Mapping[Any, Any], source: str) -> None:
    for name in document:
        near = difflib.get_close_matches(str(name), _SECTIONS, n=1, cutoff=0.6)
        if near and name not in _SECTIONS:
            raise ConfigError(
                str(name),
                "a known key",
                f"the unknown key {name!r}",
                f"did you mean {near[0]!r}?",
                source,
            )
    if not any(document.get(name) for name in _SECTIONS):
        raise ConfigError(
            "",
            "a section grid: or runs: that says what varies",
            "neither",
            "add 'grid:' with lists, such as 'seed: [0, 1, 2]' below it, or use train for one run",
            source,
        )


def _grid(section: Any, source: str) -> dict[str, list[Any]]:
    if section is None:
        return {}
    if not isinstance(section, Mapping):
        raise ConfigError(
            "grid",
            "keys with lists of values",
            repr(section)[:60],
            "write 'grid:' and, indented below it, keys such as 'dataset.t: [150, 300]'",
            source,
        )
    grid = dict(configuration.flatten(section, source))
    for key, values in grid.items():
        if not isinstance(values, list) or not values:
            raise ConfigError(
                f"grid: {key}",
                "a list of values",
                repr(values)[:60],
                f"write {key}: [{values!r}], or move it out of grid: for all runs",
                source,
            )
    return grid


def _listed(section: Any, source: str) -> list[dict[str, Any]]:
    if section is None:
        return []
    if (
        not isinstance(section, list)
        or not section
        or not all(isinstance(entry, Mapping) and entry for entry in section)
    ):
        raise ConfigError(
            "runs",
            "a list of keys with values",
            repr(section)[:60],
            "write 'runs:' and below it lines such as '- {model.hidden: 50}'",
            source,
        )
    return [dict(configuration.flatten(entry, source)) for entry in section]


def _check_varied(
    varied: set[str],
    fixed: set[str],
    overrides: Mapping[str, Any],
    grid: Mapping[str, Any],
    listed: Sequence[Mapping[str, Any]],
    source: str,
) -> None:
    """Every key is set in one place."""
    for key in sorted(varied):
        where = COMMAND_LINE if key in overrides else source
        if key == "artifacts":
            raise ConfigError(
                key,
                "one folder for the whole sweep",
                "one that varies",
                "move it out of the sweep's sections; every run has a folder of its own in it",
                source,
            )
        if key in fixed:
            raise ConfigError(
                key,
                "a key that either varies or is set for all runs",
                "both",
                f"remove {key} from one of the two places",
                where,
            )
        if key in grid and any(key in entry for entry in listed):
            raise ConfigError(
                key,
                "a key in grid: or in runs:",
                "one in both",
                f"remove {key} from one of them",
                source,
            )


def _points(
    grid: Mapping[str, list[Any]], listed: Sequence[Mapping[str, Any]]
) -> Iterator[dict[str, Any]]:
    for entry in listed or [{}]:
        for values in itertools.product(*grid.values()):
            yield {**entry, **dict(zip(grid, values, strict=True))}


# --- one run --------------------------------------------------------------------------------------


def _planned(
    fixed: Mapping[str, Any],
    varies: Mapping[str, Any],
    overrides: Mapping[str, Any],
    out: str | None,
    source: str,
) -> PlannedRun:
    config = configuration.of_values({**fixed, **varies}, source, overrides)
    config = dataclasses.replace(config, threads=config.threads or 1)
    typed = {key: config.get(key) for key in varies}
    name = _name(typed, config)
    return PlannedRun(
        name,
        typed,
        dataclasses.replace(config, artifacts=str(Path(out or config.artifacts) / name)),
    )


def _name(varies: Mapping[str, Any], config: RunConfig) -> str:
    """Such as ``t=150_seed=0_1a2b3c4d``: only letters, digits and ``=_.+-``."""
    parts = [
        f"{_short(key, varies)}={re.sub(r'[^A-Za-z0-9.+-]+', '-', _text(value))[:_VALUE_LENGTH]}"
        for key, value in varies.items()
    ]
    return "_".join([*parts, config.digest[:_DIGEST_DIGITS]])


def _short(key: str, among: Mapping[str, Any]) -> str:
    """The last part of a key, where no other has the same; `model` for `model.name`."""
    last = key.removesuffix(".name").rpartition(".")[2]
    same = [other for other in among if other.removesuffix(".name").rpartition(".")[2] == last]
    return last if len(same) == 1 else key


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _check_distinct(runs: Sequence[PlannedRun], source: str) -> None:
    seen: dict[str, PlannedRun] = {}
    for run in runs:
        if run.config.digest in seen:
            raise ConfigError(
                "",
                "runs that differ from each other",
                f"the same twice: {run.varies}",
                "remove the repeated values",
                source,
            )
        seen[run.config.digest] = run
