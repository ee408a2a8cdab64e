"""The machine under a run: device, backend, threads, allocator, and what of it a result records."""

from __future__ import annotations

import ctypes
import functools
import importlib.metadata
import importlib.util
import math
import platform
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from adding_problem.config import Backend, Device
from adding_problem.errors import BackendError, in_one_line
from adding_problem.system import memory

__all__ = [
    "allocation_limit",
    "building_a_model",
    "cpu_settings",
    "enough_memory",
    "finest_float",
    "out_of_memory",
    "processor",
    "require_memory",
    "resolve_backend",
    "resolve_device",
    "seeded",
    "tune_allocator",
    "versions",
]

NATIVE_PACKAGE = "adding_problem_native"


def resolve_device(device: Device) -> torch.device:
    """The device to compute on.

    `auto` takes CUDA where there is one, else the CPU; never MPS, where a recurrent step of this size is bound by its
    kernel launches (assumed, not measured).

    Raises:
        BackendError: when the device that was asked for is not there.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    present = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if not present[device]:
        raise BackendError(
            f"device: PyTorch finds no {device!r} device on this machine",
            "use --device auto or cpu",
        )
    return torch.device(device)


def finest_float(device: torch.device) -> torch.dtype:
    """float64, or on MPS, which has none, float32."""
    return torch.float32 if device.type == "mps" else torch.float64


def resolve_backend(backend: Backend, device: torch.device) -> str:
    """`native` or `torch`: whose layers run on this device.

    Raises:
        BackendError: when `native` was asked for and is not installed, or the device is not the CPU.
    """
    if backend == "torch" or (backend == "auto" and device.type != "cpu"):
        return "torch"
    if device.type != "cpu":
        raise BackendError(
            f"backend: the native kernels run on the CPU, not on {device.type!r}",
            "use --backend auto, or --device cpu",
        )
    problem = _native_problem()
    if problem is None:
        return "native"
    if backend == "native":
        raise BackendError(
            f"backend: the native kernels do not load: {problem}",
            "pip install ./native (needs a C++17 compiler), or use --backend auto",
        )
    return "torch"


@functools.cache
def _native_problem() -> str | None:
    """Why the native kernels cannot be used; None when they can."""
    if importlib.util.find_spec(NATIVE_PACKAGE) is None:
        return f"the package {NATIVE_PACKAGE} is not installed"
    try:
        importlib.import_module(NATIVE_PACKAGE)
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        return str(error)
    return None


@contextmanager
def cpu_settings(threads: int | None) -> Iterator[int]:
    """Let torch compute with this many CPU threads inside the block, None being one per usable core, and without denormals.

    From the first block on the process keeps the memory that it has had, see `tune_allocator`.

    Numbers below 1e-38, which a gradient that vanishes over a thousand steps is full of, count as zero: Intel's processors
    compute with them up to sixteen times slower (measured; docs/performance.md). The setting is a thread's: those of torch's
    own that exist before the block, and this one after it, are as they were.
    """
    tune_allocator()
    threads_before, flushed_before = torch.get_num_threads(), _flushes_denormals()
    torch.set_flush_denormal(
        True
    )  # first: the threads that torch starts have the setting of the one that starts them
    torch.set_num_threads(threads or memory.usable_cores())
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(threads_before)
        torch.set_flush_denormal(flushed_before)


def _flushes_denormals() -> bool:
    return not torch.tensor([1e-39]).mul(0.5).item()


def require_memory(needed: int, what: str) -> None:
    """Refuse what cannot fit, before any of it is taken.

    Args:
        needed: bytes.
        what: what needs them, with the verb.

    Raises:
        BackendError: when this process may not take so much more; see `memory.memory_left`.
    """
    there = memory.memory_left()
    if there is not None and needed > there.left:
        raise BackendError(
            f"memory: {what} {needed / 2**30:,.2f} GiB, and this process may take {there.left / 2**30:,.2f} GiB more "
            f"({there.limit})",
            "take fewer or shorter sequences, smaller batches or a smaller model",
        )


@contextmanager
def building_a_model() -> Iterator[None]:
    """A block in which a custom model is built, whose size nobody knows before.

    Raises:
        BackendError: when its parameters do not fit into the memory that this process may take; none of that is taken.
    """
    there = memory.memory_left()
    try:
        with allocation_limit(there.left if there else sys.maxsize):
            yield
    except MemoryError as error:
        raise BackendError(
            f"memory: the model does not fit ({error})", "make the model smaller"
        ) from None


@contextmanager
def enough_memory() -> Iterator[None]:
    """A block that may need more memory than there is, on the CPU or another device.

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
    """Whether an exception says that memory, the CPU's or another device's, did not suffice."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
    )


class allocation_limit(TorchDispatchMode):  # type: ignore[no-untyped-call]  # noqa: N801  (used as a function)
    """Inside the block the tensors that parameters of layers are made as (by `empty`, `zeros`, `rand`, ...) take so many bytes at most.

    All together: what is freed is not given back. What is computed from them is not counted.

    Raises:
        MemoryError: before the memory is taken.
    """

    def __init__(self, most: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._most = self._left = most

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket in _FACTORIES:
            count = math.prod(args[0])
            self._left -= (
                count * ((kwargs or {}).get("dtype") or torch.get_default_dtype()).itemsize
            )
            if self._left < 0:
                raise MemoryError(
                    f"a tensor of shape {list(args[0])} would take more than the {self._most:,} bytes there may be"
                )
        return func(*args, **(kwargs or {}))


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
    """Keep freed memory in the process instead of returning it to the system after every step; once per process.

    For tensors of less than 32 MiB, the most that glibc allows; the page faults of those that come anew with every step cost up to
    a third of its time (measured; docs/performance.md). Larger ones have huge pages, see the package's `__init__`: to keep these
    too (`M_MMAP_MAX` 0) is faster still, and takes all memory that there is where something small is allocated among them and kept.
    Only where the C library is glibc; elsewhere nothing happens.

    Returns:
        whether the setting was made.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    m_trim_threshold, m_mmap_threshold = -1, -3  # names and numbers of <malloc.h>
    return bool(mallopt(m_mmap_threshold, 32 << 20) and mallopt(m_trim_threshold, 1 << 30))


def processor() -> str:
    """The name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(
            line.partition(":")[2].strip() for line in lines if line.startswith("model name")
        )
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Versions of all that the numbers may depend on."""
    found = {
        "python": platform.python_version(),
        "platform": f"{sys.platform}-{platform.machine()}",
    }
    for name in ("adding-problem", "adding-problem-native", "torch", "numpy"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """The global random states of torch, NumPy and Python set to a seed inside the block.

    After it those of NumPy, Python, torch on the CPU and the CUDA device in use are as they were. Torch alone serves the zoo;
    Keras draws its seeds from Python's.
    """
    python, numpy = random.getstate(), np.random.get_state()
    try:
        # A run on the CPU must not open the GPU; a seed set before that is opened holds from its first number on.
        gpu_in_use = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        devices = [torch.cuda.current_device()] if gpu_in_use else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed % 2**32)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
