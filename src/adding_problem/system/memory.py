"""How much memory this process may still take, and how many cores it may use.

The machine has so much; the control groups that the process is in (those of a container, a batch job or a service), its resource
limits and its affinity may leave it less. A group's limit holds for the groups below it together. Both versions of Linux's control
groups are read, on one machine too (cgroups(7); version 1: memory.txt and sched-bwc.txt of the kernel's documentation).
"""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import NamedTuple

__all__ = ["Memory", "memory_left", "usable_cores"]


class Memory(NamedTuple):
    """Memory that may still be taken: bytes, and what sets the limit."""

    left: int
    limit: str


def memory_left(root: Path = Path("/")) -> Memory | None:
    """The memory that this process may still take; None where the system does not say.

    Free swap counts. So does a group's file cache, which the kernel gives up first.

    Args:
        root: where `proc` and `sys` are found.
    """
    meminfo = _pairs(root / "proc/meminfo")  # in KiB
    groups = (
        _of_group(folder, meminfo.get("SwapFree", 0) << 10) for folder in _groups(root, "memory")
    )
    known = [
        memory
        for memory in (_of_machine(meminfo), *groups, *_of_resource_limits(root))
        if memory is not None
    ]
    return min(known, default=None)


def usable_cores(root: Path = Path("/")) -> int:
    """The cores that this process may use, at least one. A share of a core counts as one: less would leave it idle.

    Args:
        root: where `proc` and `sys` are found.
    """
    quotas = (_quota(folder) for folder in _groups(root, "cpu"))
    return max(
        1,
        min(
            _cores_to_run_on(),
            *(math.ceil(quota) for quota in quotas if quota is not None),
            sys.maxsize,
        ),
    )


def _cores_to_run_on() -> int:
    """Those of the process's affinity and cpuset; from Python 3.13 on `PYTHON_CPU_COUNT` has a say too."""
    if sys.version_info >= (3, 13):
        return os.process_cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


# --- memory ----------------------------------------------------------------------------------------------------------


def _of_machine(meminfo: Mapping[str, int]) -> Memory | None:
    """Linux says what can be had without swapping; other systems how much there is in all."""
    available = meminfo.get("MemAvailable", meminfo.get("MemTotal"))
    if available is not None:
        return Memory((available + meminfo.get("SwapFree", 0)) << 10, "this machine's memory")
    try:
        return Memory(
            os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), "this machine's memory"
        )
    except (AttributeError, OSError, ValueError):
        return None


def _of_group(folder: Path, swap: int) -> Memory | None:
    """What a control group leaves; None where it has no limit.

    Args:
        folder: the group's.
        swap: free on the machine, in bytes.
    """
    stat = _pairs(folder / "memory.stat")
    left = [_left_in_version_2(folder, stat, swap), *_left_in_version_1(folder, stat, swap)]
    known = [max(0, bytes_left) for bytes_left in left if bytes_left is not None]
    return Memory(min(known), f"the memory limit of the control group {folder}") if known else None


def _left_in_version_2(folder: Path, stat: dict[str, int], swap: int) -> int | None:
    # Above `memory.high` nothing is killed: the kernel slows the group until next to nothing moves.
    limits = [
        limit
        for limit in map(_number, (folder / "memory.max", folder / "memory.high"))
        if limit is not None
    ]
    used = _number(folder / "memory.current")
    if not limits or used is None:
        return None
    swap_limit = _number(folder / "memory.swap.max")
    if swap_limit is not None:
        swap = min(swap, max(0, swap_limit - (_number(folder / "memory.swap.current") or 0)))
    return min(limits) - used + stat.get("inactive_file", 0) + stat.get("active_file", 0) + swap


def _left_in_version_1(folder: Path, stat: dict[str, int], swap: int) -> Iterator[int]:
    """By the limit of memory, and by that of memory and swap together."""
    cache = stat.get("total_inactive_file", 0) + stat.get("total_active_file", 0)
    for kind, beside in (("memory", swap), ("memory.memsw", 0)):
        limit, used = (
            _number(folder / f"{kind}.limit_in_bytes"),
            _number(folder / f"{kind}.usage_in_bytes"),
        )
        if limit is not None and used is not None:
            yield limit - used + cache + beside


def _of_resource_limits(root: Path) -> Iterator[Memory]:
    """What `ulimit -v` and `ulimit -d` leave."""
    if os.name != "posix":
        return
    import resource

    sizes = _text(root / "proc/self/statm").split()
    for name, limit, column in (("-v", resource.RLIMIT_AS, 0), ("-d", resource.RLIMIT_DATA, 5)):
        most = resource.getrlimit(limit)[0]
        if most != resource.RLIM_INFINITY and len(sizes) > column:
            yield Memory(
                max(0, most - int(sizes[column]) * resource.getpagesize()), f"ulimit {name}"
            )


# --- cores -----------------------------------------------------------------------------------------------------------


def _quota(folder: Path) -> float | None:
    """The cores' worth of time that a control group has; None where it has no limit."""
    quota, _, period = _text(folder / "cpu.max").partition(
        " "
    )  # version 2: "150000 100000" or "max 100000"
    quota, period = (
        quota or _text(folder / "cpu.cfs_quota_us"),
        period or _text(folder / "cpu.cfs_period_us"),
    )
    with suppress(ValueError, ZeroDivisionError):
        return int(quota) / int(period) if int(quota) > 0 else None  # version 1: -1 is no limit
    return None


# --- control groups --------------------------------------------------------------------------------------------------


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """The folders of the groups that the process is in and that may have a controller, each followed by those above it."""
    mounts = list(_mounts(root))
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        right = (
            mount
            for mount in mounts
            if (controller in mount.controllers if controllers else not mount.controllers)
        )
        yield from _upwards(PurePosixPath(group), list(right))


class _Mount(NamedTuple):
    """A hierarchy of groups in the file system.

    Attributes:
        folder: where it is mounted.
        top: the group that stands there.
        controllers: of version 1; version 2, which has all of them in one hierarchy, names none.
    """

    folder: Path
    top: PurePosixPath
    controllers: frozenset[str]


def _mounts(root: Path) -> Iterator[_Mount]:
    """Those of /proc/self/mountinfo; its format is that of proc(5)."""
    for line in _text(root / "proc/self/mountinfo").splitlines():
        mount, _, kind = line.partition(" - ")
        _, _, _, top, point, *_ = map(_unescaped, mount.split(" "))
        name, _, options = kind.split(" ", 2)
        if name in ("cgroup", "cgroup2"):
            controllers = frozenset(options.split(",") if name == "cgroup" else ())
            yield _Mount(root / point.lstrip("/"), PurePosixPath(top), controllers)


def _unescaped(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)


def _upwards(group: PurePosixPath, mounts: list[_Mount]) -> Iterator[Path]:
    """The folder of a group and those above it, as far as they can be seen.

    In a container the group that is mounted may be the container's own, and the name of the process's group one that is
    valid outside only. Then the one that is mounted is what there is.
    """
    for mount in mounts:
        below = group.relative_to(mount.top) if group.is_relative_to(mount.top) else None
        if below is not None and ".." not in below.parts and (mount.folder / below).is_dir():
            yield mount.folder / below
            yield from (mount.folder / above for above in below.parents)
            return
    yield from (mount.folder for mount in mounts)


# --- reading ---------------------------------------------------------------------------------------------------------


def _text(file: Path) -> str:
    """The content of a file of the kernel's; nothing where it cannot be read."""
    try:
        return file.read_text(errors="surrogateescape").strip()
    except OSError:
        return ""


def _number(file: Path) -> int | None:
    """None where there is none, and for `max`."""
    text = _text(file)
    return int(text) if text.isdecimal() else None


def _pairs(file: Path) -> dict[str, int]:
    """Lines of a name and a number: `memory.stat`, `meminfo`."""
    words = (line.replace(":", "").split() for line in _text(file).splitlines())
    return {
        name: int(value)
        for name, value, *_ in (entry for entry in words if len(entry) > 1)
        if value.isdecimal()
    }
