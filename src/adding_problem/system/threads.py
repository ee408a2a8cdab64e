"""The cores that this process may use, and torch's threads and denormals while it computes."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from adding_problem.system import control_groups, memory
from adding_problem.system.control_groups import read_text

__all__ = ["cpu_settings", "usable_cores"]


@contextmanager
def cpu_settings(threads: int | None) -> Iterator[int]:
    """Let torch compute with this many CPU threads and without denormals inside the block.

    Denormals, numbers below 1e-38, count as zero. A gradient that vanishes over a thousand steps is
    full of them, and Intel's processors compute with them up to sixteen times slower (measured;
    docs/performance.md). The setting belongs to a thread. Threads of torch that existed before the
    block keep theirs, and this thread has its own back after the block.

    From the first block on the process keeps freed memory, see `memory.tune_allocator`.

    Args:
        threads: None is one for each usable core.
    """
    memory.tune_allocator()
    threads_before, flushed_before = torch.get_num_threads(), _flushes_denormals()
    # First: a thread that torch starts inherits the setting of the thread that starts it.
    torch.set_flush_denormal(True)
    torch.set_num_threads(threads or usable_cores())
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(threads_before)
        torch.set_flush_denormal(flushed_before)


def _flushes_denormals() -> bool:
    return not torch.tensor([1e-39]).mul(0.5).item()


def usable_cores(root: Path = Path("/")) -> int:
    """The cores that this process may use, at least one.

    The affinity, the cpuset and the quotas of control groups count. A fraction of a core counts as
    a core: fewer threads would leave it idle.

    Args:
        root: where `proc` and `sys` are found.
    """
    quotas = (_quota(folder) for folder in control_groups.folders(root, "cpu"))
    limits = (math.ceil(quota) for quota in quotas if quota is not None)
    return max(1, min([_cores_to_run_on(), *limits]))


def _cores_to_run_on() -> int:
    """Cores of the affinity and the cpuset; since Python 3.13 also of `PYTHON_CPU_COUNT`."""
    if sys.version_info >= (3, 13):
        return os.process_cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quota(folder: Path) -> float | None:
    """How many cores' worth of time a control group has; None where it has no limit."""
    # Version 2 says "150000 100000" or "max 100000"; version 1 has two files, and -1 is no limit.
    quota, _, period = read_text(folder / "cpu.max").partition(" ")
    quota = quota or read_text(folder / "cpu.cfs_quota_us")
    period = period or read_text(folder / "cpu.cfs_period_us")
    with suppress(ValueError, ZeroDivisionError):
        return int(quota) / int(period) if int(quota) > 0 else None
    return None
