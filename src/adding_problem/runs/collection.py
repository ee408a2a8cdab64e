"""A folder of run folders, as a horizon run or a sweep makes it: what is written and deleted there.

Its summary (`horizon.json`, `sweep.json`) records the runs that were begun in it, each before its
first file is written. Only a recorded run is deleted, and only while its configuration is the
recorded one: other folders, whatever their names, are the user's. A run folder inside is a folder
there and no link.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from adding_problem import config as configuration
from adding_problem.config import RunConfig
from adding_problem.errors import RunFolderError
from adding_problem.runs import atomic_io
from adding_problem.runs.folder import HORIZON, RunFolder
from adding_problem.runs.records import HorizonResult, read_json

__all__ = ["RunsFolder", "horizon_folders", "read_horizon", "read_summary", "run_inside"]

_MAX_SUMMARY_BYTES = 64 << 20  # ten thousand runs of a sweep have a few MiB
_MAX_CONFIG_BYTES = 1 << 20  # of the configurations that are read


def run_inside(folder: Path, name: str) -> RunFolder:
    """The run folder of this name in a folder; it need not exist yet.

    Raises:
        RunFolderError: when the name is not that of a folder in it, or stands for a link.
    """
    path = folder / name
    if not name or name in (".", "..") or Path(name).name != name:
        raise RunFolderError(
            folder, f"cannot hold a run of the name {name!r}", "give a name without a path"
        )
    try:
        is_there = path.resolve() == folder.resolve() / name
    except (
        OSError,
        RuntimeError,
        ValueError,
    ):  # a loop of links; a name that the system does not take
        is_there = False
    if not is_there:
        raise RunFolderError(
            path,
            "is a link; a run would be read from, written to or deleted from another place",
            "put the run folder itself there, remove the link, or give another folder (only the "
            "folder of all runs may be a link)",
        )
    return RunFolder(path)


def read_summary(file: Path) -> dict[str, Any]:
    """The summary that a horizon run or a sweep has left; nothing where there is none.

    Raises:
        RunFolderError: when it is a link that leads out of its folder, cannot be read, or is
            another program's.
    """
    if atomic_io.escapes(file, file.parent):
        raise RunFolderError(
            file.parent,
            f"{file.name} is a link that leads out of the folder",
            "put the file itself into the folder",
        )
    if not os.path.lexists(file):
        return {}
    try:
        if not atomic_io.is_regular(file):
            raise ValueError("not a file")
        document = read_json(dict, atomic_io.read_bounded(file, _MAX_SUMMARY_BYTES))
        lists = [document[key] for key in ("runs", "rungs") if key in document]
        if not lists or not all(isinstance(each, list) for each in lists):
            raise ValueError("it lists no runs")
    except (OSError, ValueError, RecursionError) as error:
        raise RunFolderError(
            file.parent,
            f"{file.name} is damaged, or another program's ({error})",
            "give another folder; or, where it is worth nothing to you, delete that file",
        ) from None
    return document


def horizon_folders(path: Path) -> list[Path]:
    """The horizon runs in a folder: itself, or those of several seeds; none in a run folder."""
    if os.path.lexists(path / HORIZON):
        return [path]
    return sorted(file.parent for file in path.glob(f"seed*/{HORIZON}"))


def read_horizon(folder: Path) -> HorizonResult:
    """A horizon run's `horizon.json`, which may be an untrusted file.

    Raises:
        RunFolderError: when it is a link that leads out of its folder, or damaged.
    """
    file = folder / HORIZON
    try:
        if atomic_io.escapes(file, folder):
            raise ValueError("a link that leads out of its folder")
        return read_json(HorizonResult, atomic_io.read_bounded(file, _MAX_SUMMARY_BYTES))
    except (OSError, ValueError) as error:
        raise RunFolderError(file, f"is damaged ({error})", "leave it out") from None


class RunsFolder:
    """The folder of a horizon run or a sweep.

    Args:
        path: the folder; it need not exist yet.
        summary: name of the file that records its runs.
    """

    def __init__(self, path: str | Path, summary: str) -> None:
        self.path, self.summary = Path(path), Path(path) / summary
        self._recorded: dict[str, str] = {}

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Make the folder and keep other processes out while the block runs; read its records.

        Raises:
            ConfigError: when the path cannot be a folder or cannot be written.
            LockError: when another process holds the folder.
            RunFolderError: when the summary there is another program's; see `read_summary`.
        """
        with RunFolder(self.path).locked():
            self._recorded = self._read_records()
            yield

    def run(self, name: str) -> RunFolder:
        """A run folder inside; see `run_inside`."""
        return run_inside(self.path, name)

    def write(self, document: Mapping[str, Any]) -> None:
        """Write the summary.

        Raises:
            StorageError: when it cannot be written.
        """
        atomic_io.write_json(self.summary, document)

    # --- runs that may be deleted ---

    @property
    def records(self) -> list[dict[str, str]]:
        """What a summary says under `runs`: which runs are the folder's own."""
        return [{"name": name, "config": digest} for name, digest in self._recorded.items()]

    def record(self, config: RunConfig) -> None:
        """Note that a run is about to begin in `config.artifacts`, where none is.

        Write the summary before it does.
        """
        name = Path(config.artifacts).name
        # To the end: records are in the order in which runs began, also after a killed one.
        self._recorded.pop(name, None)
        self._recorded[name] = _digest(configuration.to_yaml(config).encode())

    def owns(self, name: str) -> bool:
        """Whether the folder of this name holds the run that was recorded under it."""
        return name in self._recorded and self._recorded[name] == self._digest_of(name)

    def require_own(self, name: str) -> None:
        """Raise RunFolderError if the folder of this name holds a run that is not its own."""
        run = self.run(name)
        if os.path.lexists(run.config_copy) and not self.owns(name):
            raise RunFolderError(
                run.path,
                f"holds a run that {self.summary} does not record as begun for it, and is not "
                "deleted",
                "move or delete that folder yourself, or give another one (--artifacts)",
            )

    def delete(
        self,
        names: Iterable[str] | None = None,
        *,
        first: Callable[[], object] = lambda: None,
    ) -> None:
        """Delete the files of the runs that it owns, and nothing else that lies in their folders.

        Args:
            names: of the runs; None is all.
            first: is called when nothing stands in the way, before anything is deleted.

        Raises:
            RunFolderError: before anything is deleted, when a run holds a link that leads out.
            LockError: before anything is deleted, when another process holds a run.
        """
        runs = [
            self.run(name)
            for name in (list(self._recorded) if names is None else names)
            if self.owns(name)
        ]
        with ExitStack() as held:
            for run in runs:
                held.enter_context(run.locked())
            for run in runs:
                run.check_own_files()
            first()
            for run in runs:
                run.clear()
                del self._recorded[run.path.name]

    def _read_records(self) -> dict[str, str]:
        """What the summary records, which may be an untrusted file's."""
        entries = read_summary(self.summary).get("runs", [])
        return {
            entry["name"]: entry["config"]
            for entry in entries
            if isinstance(entry, dict)
            and isinstance(entry.get("name"), str)
            and isinstance(entry.get("config"), str)
        }

    def _digest_of(self, name: str) -> str | None:
        """Of the configuration of the run of this name; None where there is none, or a link."""
        with suppress(RunFolderError, OSError, ValueError):
            run = self.run(name)
            run.check_inside(run.config_copy)
            if atomic_io.is_regular(run.config_copy):
                return _digest(atomic_io.read_bounded(run.config_copy, _MAX_CONFIG_BYTES))
        return None


def _digest(config_copy: bytes) -> str:
    return hashlib.sha256(config_copy).hexdigest()
