"""How much memory this process may still take, and what happens when it does not suffice.

The machine has a certain amount. The control groups that the process is in (those of a container, a
batch job or a service) and its resource limits may leave it less.
"""

from __future__ import annotations

import ctypes
import functools
import math
import os
import platform
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from adding_problem.errors import BackendError, in_one_line
from adding_problem.system import control_groups
from adding_problem.system.control_groups import read_number, read_pairs, read_text

__all__ = [
    "Memory",
    "allocation_limit",
    "enough_memory",
    "memory_left",
    "out_of_memory",
    "require_memory",
    "tune_allocator",
    "within_memory",
]


class Memory(NamedTuple):
    """Memory that may still be taken, in bytes, and what sets the limit."""

    left: int
    limit: str


def require_memory(needed: int, what: str) -> None:
    """Raise BackendError unless this process may take so much memory; none is taken.

    Args:
        needed: bytes.
        what: what needs them, with the verb.

    Raises:
        BackendError: when `memory_left` is less.
    """
    there = memory_left()
    if there is not None and needed > there.left:
        raise BackendError(
            f"memory: {what} {needed / 2**30:,.2f} GiB, and this process may take "
            f"{there.left / 2**30:,.2f} GiB more ({there.limit})",
            "take fewer or shorter sequences, smaller batches or a smaller model",
        )


@contextmanager
def within_memory() -> Iterator[None]:
    """A block that builds a custom model, whose size is not known in advance.

    Raises:
        BackendError: before its parameters take more memory than this process may take.
    """
    there = memory_left()
    try:
        with allocation_limit(there.left if there else sys.maxsize):
            yield
    except MemoryError as error:
        raise BackendError(
            f"memory: the model does not fit ({error})", "make the model smaller"
        ) from None


@contextmanager
def enough_memory() -> Iterator[None]:
    """A block that may run out of memory, on the CPU or another device.

    Raises:
        BackendError: when it did.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise BackendError(
            f"memory: there is not enough ({in_one_line(error)})",
            "take a smaller train.batch, fewer or shorter sequences, or a smaller model",
        ) from None


def out_of_memory(error: Exception) -> bool:
    """Whether an exception says that memory ran out, on the CPU or another device."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
    )


class allocation_limit(TorchDispatchMode):  # type: ignore[no-untyped-call]  # noqa: N801  (used as a function)
    """Limit the bytes of the tensors that the block makes by `empty`, `zeros`, `rand` and so on.

    Parameters of layers are made that way. All of them count together, freed ones too; tensors
    computed from others do not count.

    Raises:
        MemoryError: before the memory is taken.
    """

    def __init__(self, most: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._most = self._left = most

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.overloadpacket in _FACTORIES:
            dtype = kwargs.get("dtype") or torch.get_default_dtype()
            self._left -= math.prod(args[0]) * dtype.itemsize
            if self._left < 0:
                raise MemoryError(
                    f"a tensor of shape {list(args[0])} would exceed the {self._most:,} bytes "
                    "that are available"
                )
        return func(*args, **kwargs)


_FACTORIES = {
    torch.ops.aten.empty,
    torch.ops.aten.zeros,
    torch.ops.aten.ones,
    torch.ops.aten.full,
    torch.ops.aten.randn,
    torch.ops.aten.rand,
}


@functools.cache
def tune_allocator() -> bool:
    """Keep freed memory in the process instead of returning it to the system after every step.

    Done once per process, only where the C library is glibc, for tensors below 32 MiB, the most
    that glibc allows. The page faults of tensors that are allocated again in every step cost up to
    a third of its time (measured; docs/performance.md).

    Larger tensors have huge pages, see the package's `__init__`. To keep these too (`M_MMAP_MAX` 0)
    is faster still, but takes all memory that there is when a small tensor is allocated between
    them and kept.

    Returns:
        whether the setting was made.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    m_trim_threshold, m_mmap_threshold = -1, -3  # names and numbers of <malloc.h>
    return bool(mallopt(m_mmap_threshold, 32 << 20) and mallopt(m_trim_threshold, 1 << 30))


# --- what is left ---


def memory_left(root: Path = Path("/")) -> Memory | None:
    """The memory that this process may still take; None where the system does not say.

    Free swap counts. So does the file cache of a control group, which the kernel gives up first.

    Args:
        root: where `proc` and `sys` are found.
    """
    meminfo = read_pairs(root / "proc/meminfo")  # in KiB
    swap = meminfo.get("SwapFree", 0) << 10
    groups = (_left_in_group(folder, swap) for folder in control_groups.folders(root, "memory"))
    limits = [_left_on_machine(meminfo), *groups, *_left_by_resource_limits(root)]
    return min((memory for memory in limits if memory is not None), default=None)


def _left_on_machine(meminfo: Mapping[str, int]) -> Memory | None:
    """Linux says what is available without swapping; other systems only the total."""
    available = meminfo.get("MemAvailable", meminfo.get("MemTotal"))
    if available is not None:
        return Memory((available + meminfo.get("SwapFree", 0)) << 10, "this machine's memory")
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None
    return Memory(total, "this machine's memory")


def _left_in_group(folder: Path, swap: int) -> Memory | None:
    """What a control group leaves; None where it has no limit.

    Args:
        folder: of the group.
        swap: free on the machine, in bytes.
    """
    stat = read_pairs(folder / "memory.stat")
    left = [*_left_in_version_2(folder, stat, swap), *_left_in_version_1(folder, stat, swap)]
    limit = f"the memory limit of the control group {folder}"
    return Memory(max(0, min(left)), limit) if left else None


def _left_in_version_2(folder: Path, stat: Mapping[str, int], swap: int) -> Iterator[int]:
    used = read_number(folder / "memory.current")
    cache = stat.get("inactive_file", 0) + stat.get("active_file", 0)
    swap_limit = read_number(folder / "memory.swap.max")
    if swap_limit is not None:
        swap_used = read_number(folder / "memory.swap.current") or 0
        swap = min(swap, max(0, swap_limit - swap_used))
    # Above `memory.high` nothing is killed, but the kernel slows the group almost to a halt.
    for name in ("memory.max", "memory.high"):
        limit = read_number(folder / name)
        if limit is not None and used is not None:
            yield limit - used + cache + swap


def _left_in_version_1(folder: Path, stat: Mapping[str, int], swap: int) -> Iterator[int]:
    """By the limit of memory, and by that of memory and swap together."""
    cache = stat.get("total_inactive_file", 0) + stat.get("total_active_file", 0)
    for kind, beside in (("memory", swap), ("memory.memsw", 0)):
        limit = read_number(folder / f"{kind}.limit_in_bytes")
        used = read_number(folder / f"{kind}.usage_in_bytes")
        if limit is not None and used is not None:
            yield limit - used + cache + beside


def _left_by_resource_limits(root: Path) -> Iterator[Memory]:
    """What `ulimit -v` and `ulimit -d` leave."""
    if os.name != "posix":
        return
    import resource

    sizes = read_text(root / "proc/self/statm").split()
    for name, limit, column in (("-v", resource.RLIMIT_AS, 0), ("-d", resource.RLIMIT_DATA, 5)):
        most = resource.getrlimit(limit)[0]
        if most != resource.RLIM_INFINITY and len(sizes) > column:
            used = int(sizes[column]) * resource.getpagesize()
            yield Memory(max(0, most - used), f"ulimit {name}")
