"""Linux's control groups that this process is in, of version 1 and 2, which a machine may mix.

Formats: cgroups(7) and proc(5); for version 1 memory.txt and sched-bwc.txt of the kernel.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

__all__ = ["folders", "read_number", "read_pairs", "read_text"]


def folders(root: Path, controller: str) -> Iterator[Path]:
    """The folders of the groups with a controller that may limit this process.

    Each group is followed by those above it, whose limits hold for all groups below them together.

    Args:
        root: where `proc` and `sys` are found.
        controller: `memory` or `cpu`.
    """
    mounts = list(_mounts(root))
    for line in read_text(root / "proc/self/cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        matching = [
            mount
            for mount in mounts
            if (controller in mount.controllers if controllers else not mount.controllers)
        ]
        yield from _upwards(PurePosixPath(group), matching)


class _Mount(NamedTuple):
    """A hierarchy of groups in the file system.

    Attributes:
        folder: where it is mounted.
        top: the group that is mounted there.
        controllers: of version 1; empty for version 2, which has all of them in one hierarchy.
    """

    folder: Path
    top: PurePosixPath
    controllers: frozenset[str]


def _mounts(root: Path) -> Iterator[_Mount]:
    for line in read_text(root / "proc/self/mountinfo").splitlines():
        mount, _, kind = line.partition(" - ")
        _, _, _, top, point, *_ = map(_unescape, mount.split(" "))
        name, _, options = kind.split(" ", 2)
        if name in ("cgroup", "cgroup2"):
            controllers = frozenset(options.split(",") if name == "cgroup" else ())
            yield _Mount(root / point.lstrip("/"), PurePosixPath(top), controllers)


def _unescape(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)


def _upwards(group: PurePosixPath, mounts: list[_Mount]) -> Iterator[Path]:
    """The folder of a group and those above it, as far as they are visible.

    In a container the mounted group may be the container's own, while the name of the process's
    group is valid only outside. Then the mounted group is all that is visible.
    """
    for mount in mounts:
        below = group.relative_to(mount.top) if group.is_relative_to(mount.top) else None
        if below is not None and ".." not in below.parts and (mount.folder / below).is_dir():
            yield mount.folder / below
            yield from (mount.folder / above for above in below.parents)
            return
    yield from (mount.folder for mount in mounts)


def read_text(file: Path) -> str:
    """The content of a file of the kernel; empty where it cannot be read."""
    try:
        return file.read_text(errors="surrogateescape").strip()
    except OSError:
        return ""


def read_number(file: Path) -> int | None:
    """The number in a file; None where there is none, and for `max`."""
    text = read_text(file)
    return int(text) if text.isdecimal() else None


def read_pairs(file: Path) -> dict[str, int]:
    """Names and numbers, one pair a line, as in `memory.stat` and `meminfo`."""
    pairs = {}
    for line in read_text(file).splitlines():
        name, value, *_ = *line.replace(":", "").split(), "", ""
        if value.isdecimal():
            pairs[name] = int(value)
    return pairs
