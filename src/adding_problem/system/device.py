"""The device and the backend that compute, and what a result records about the machine."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import platform
import sys
from pathlib import Path

import torch

from adding_problem.config import Backend, Device
from adding_problem.errors import BackendError

__all__ = ["finest_float", "processor", "resolve_backend", "resolve_device", "versions"]

NATIVE_PACKAGE = "adding_problem_native"


def resolve_device(device: Device) -> torch.device:
    """The device to compute on.

    `auto` is CUDA where there is one, else the CPU. It is never MPS, where kernel launches bound a
    recurrent step of this size (assumed, not measured).

    Raises:
        BackendError: when the requested device is not available.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if not available[device]:
        raise BackendError(
            f"device: PyTorch finds no {device!r} device on this machine",
            "use --device auto or cpu",
        )
    return torch.device(device)


def finest_float(device: torch.device) -> torch.dtype:
    """float64, or float32 on MPS, which has no float64."""
    return torch.float32 if device.type == "mps" else torch.float64


def resolve_backend(backend: Backend, device: torch.device) -> str:
    """`native` or `torch`: whose layers run on this device.

    Raises:
        BackendError: when `native` was requested and is not installed, or the device is not a CPU.
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


def processor() -> str:
    """The name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = (line.partition(":")[2] for line in lines if line.startswith("model name"))
        return next(names).strip()
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Versions of everything that the numbers may depend on."""
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
