"""The files of a run folder, carried to another machine and back."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from adding_problem.runs import atomic_io
from adding_problem.runs.folder import RunFolder

__all__ = ["in_order", "restore", "snapshot", "stamps"]


def stamps(path: Path) -> dict[str, tuple[int, int]]:
    """Relative name -> (time of change, size) of every file of a run folder.

    Temporary and hidden files are left out, and links that lead out of the folder.
    """
    found = {}
    for folder, below, names in os.walk(path):  # which passes over what is gone meanwhile
        below[:] = [name for name in below if not name.startswith(".")]
        for file in (Path(folder, name) for name in names if not name.startswith(".")):
            with suppress(FileNotFoundError):  # replaced between listing and looking
                leaves = file.is_symlink() and atomic_io.escapes(file, path)
                if file.is_file() and not leaves:
                    status = file.stat()
                    name = file.relative_to(path).as_posix()
                    found[name] = (status.st_mtime_ns, status.st_size)
    return found


def snapshot(path: Path, names: Iterable[str]) -> dict[str, bytes]:
    """The content of these files; each is complete, since files are only ever replaced."""
    return {name: (path / name).read_bytes() for name in names}


def restore(folder: RunFolder, files: Mapping[str, bytes]) -> None:
    """Write what `snapshot` gave.

    Raises:
        RunFolderError: when a name would lead out of the folder.
    """
    for name, content in in_order(files):
        folder.write_file(name, content)


def in_order(files: Mapping[str, bytes]) -> list[tuple[str, bytes]]:
    """In the order of a run: `config_copy.yaml` first, and last what says that it is complete."""
    rank = {"config_copy.yaml": 0, "result.json": 2, "bench.json": 3}
    return sorted(files.items(), key=lambda item: rank.get(item[0], 1))
