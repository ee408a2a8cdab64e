"""Run folders, read for the report; untrusted ones too. A damaged one is named, not shown."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from adding_problem.analysis import aggregate
from adding_problem.analysis.names import method_names
from adding_problem.config import RunConfig, families
from adding_problem.errors import AddingProblemError, RunFolderError, printable
from adding_problem.experiments import certificate
from adding_problem.experiments.certificate import Judged
from adding_problem.runs import atomic_io
from adding_problem.runs.collection import read_horizon
from adding_problem.runs.folder import HORIZON, RunFolder
from adding_problem.runs.records import HorizonResult, RunRecord
from adding_problem.task.thresholds import SOLVED

__all__ = ["Collection", "Horizon", "Run", "collect"]

_MOST_FOLDERS = 100_000  # entered while looking for runs, so that a mistyped `/` ends


@dataclass(frozen=True)
class Run:
    """One run, finished or not.

    Attributes:
        name: its path below the folder that all runs share.
        record: what its folder holds.
        method: what distinguishes this run from the others, beside its T and its seed.
        same_as: name of the first run with the same weights, if that is another.
    """

    name: str
    record: RunRecord
    method: str = ""
    same_as: str = ""

    @property
    def config(self) -> RunConfig:
        """Its configuration."""
        return self.record.config

    @property
    def t(self) -> int:
        """T of its validation set, which it need not have trained on."""
        return self.record.t

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
        """Whether the model is an oracle: it stands below the learners."""
        return self.record.oracle


@dataclass(frozen=True)
class Horizon:
    """A horizon run, and whether its model is an oracle."""

    result: HorizonResult
    oracle: bool


@dataclass(frozen=True)
class Collection:
    """All that the given folders hold.

    Attributes:
        runs: by method, T and seed, oracles last.
        horizons: horizon runs by name, oracles last.
        certificates: the verdicts of memory certificates.
        left_out: what could not be read, and why.
    """

    runs: list[Run]
    horizons: dict[str, Horizon]
    certificates: list[Judged] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    @property
    def methods(self) -> list[str]:
        """In the order of the runs, each once."""
        return list(dict.fromkeys(run.method for run in self.runs))


def collect(folders: Sequence[str | Path], certificates: Sequence[str | Path] = ()) -> Collection:
    """The runs and certificates in these folders and in the folders below them.

    Symbolic links are not followed.

    Args:
        folders: run folders, or folders of them.
        certificates: files of further certificates, or of records of them.

    Raises:
        RunFolderError: when a folder is missing, when there is no run in any of them, or when one
            of `certificates` is not a certificate.
    """
    for folder in folders:
        if not Path(folder).is_dir():
            raise RunFolderError(
                folder,
                "is no folder",
                "give run folders, or folders of run folders such as a sweep's",
            )
    found = {path.resolve(): path for folder in folders for path in _walk(Path(folder))}
    names = dict(zip(found, atomic_io.unique_names(list(found.values())), strict=True))
    runs: list[Run] = []
    horizons: dict[Path, HorizonResult] = {}
    horizon_folders: dict[Path, str] = {}
    certified = [one for path in certificates for one in certificate.read_judged(Path(path))]
    left_out: list[str] = []
    for resolved, path in found.items():
        if atomic_io.is_regular(RunFolder(path).config_copy):
            try:
                runs.append(Run(names[resolved], RunFolder(path).read(score=False)))
            except AddingProblemError as error:
                left_out.append(printable(str(error).partition("\n")[0]))
    for resolved, path in found.items():
        if atomic_io.is_regular(path / certificate.RECORD):
            try:
                certified.append(_read_certificate(path / certificate.RECORD))
            except RunFolderError as error:
                left_out.append(printable(str(error).partition("\n")[0]))
        if atomic_io.is_regular(path / HORIZON):
            horizon_folders[resolved] = names[resolved]
            try:
                horizons[resolved] = read_horizon(path)
            except RunFolderError as error:
                left_out.append(printable(str(error).partition("\n")[0]))
    if not runs:
        raise RunFolderError(
            ", ".join(map(str, folders)),
            "no run can be read" if left_out else "no run in any of them",
            "; ".join(left_out) or "train first: adding-problem train --config FILE",
        )
    runs = _with_methods(runs, horizon_folders)
    runs.sort(key=lambda run: (run.oracle, run.method, run.t, run.record.seed, run.name))
    first = aggregate.equals([run.record.weights for run in runs])
    runs = [
        run if same is None else replace(run, same_as=runs[same].name)
        for run, same in zip(runs, first, strict=True)
    ]
    return Collection(runs, _with_names(horizons, names, runs), certified, left_out)


def _walk(folder: Path) -> Iterator[Path]:
    for count, (path, below, _) in enumerate(os.walk(folder)):
        if count == _MOST_FOLDERS:
            raise RunFolderError(
                folder, f"has more than {_MOST_FOLDERS:,} folders", "give the folders of the runs"
            )
        below.sort()
        yield Path(path)


def _read_certificate(path: Path) -> Judged:
    """`certificate.json`, which may be an untrusted file."""
    if atomic_io.escapes(path, path.parent):
        raise RunFolderError(path, "is a link that leads out of its folder", "copy the file")
    return certificate.read(path).judged


def _with_names(
    horizons: Mapping[Path, HorizonResult], names: Mapping[Path, str], runs: Sequence[Run]
) -> dict[str, Horizon]:
    """The horizon runs by name, oracles last: those that hold a run of an oracle."""
    oracles = {run.record.path.resolve().parent for run in runs if run.oracle}
    told = f", {families.described_init('oracle')}"
    return {
        names[path] + told * (path in oracles): Horizon(result, path in oracles)
        for path, result in sorted(horizons.items(), key=lambda item: item[0] in oracles)
    }


# --- methods --------------------------------------------------------------------------------------


def _with_methods(runs: Sequence[Run], horizon_runs: Mapping[Path, str]) -> list[Run]:
    """The runs with their `method`: its name and, where code differs, which code.

    The runs of a horizon run, whose settings follow from its steps, are one method.

    Args:
        runs: the runs.
        horizon_runs: names of the horizon runs by their resolved folders.
    """
    owners = [_horizon_run_of(run, horizon_runs) for run in runs]
    free = [run.config for run, owner in zip(runs, owners, strict=True) if owner is None]
    names = iter(_method_names(free))
    named = [
        next(names) if owner is None else f"{_model_name(run.config)}, horizon run ({owner})"
        for run, owner in zip(runs, owners, strict=True)
    ]
    sources = aggregate.code_labels(named, [run.record.model_source for run in runs])
    return [
        replace(run, method=f"{name}, code {source}" if source else name)
        for run, name, source in zip(runs, named, sources, strict=True)
    ]


def _method_names(configs: Sequence[RunConfig]) -> list[str]:
    """The names of the methods, with the task where there are several."""
    names, tasks = method_names(configs), [config.task.title for config in configs]
    if len({*tasks}) == 1:
        return names
    return [f"{name}, {task}" for name, task in zip(names, tasks, strict=True)]


def _horizon_run_of(run: Run, horizon_runs: Mapping[Path, str]) -> str | None:
    """The name of the horizon run that the run belongs to; None where it belongs to none."""
    path = run.record.path
    if path.name.partition("-")[0] != f"t{run.t}":
        return None
    return horizon_runs.get(path.resolve().parent)


def _model_name(config: RunConfig) -> str:
    hidden, title = config.flat().get("model.hidden"), families.title_of(config.model.name)
    return f"{title}({hidden})" if hidden else title
