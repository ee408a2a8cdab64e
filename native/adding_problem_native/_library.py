"""The compiled kernels, opened through ctypes.

There is one shared library per instruction set; the best one that this processor has is used.
"""

from __future__ import annotations

import ctypes
import enum
import functools
import itertools
import os
import weakref
from pathlib import Path

import torch

ISA_VARIABLE = "ADDING_PROBLEM_NATIVE_ISA"
_NAMES = {"x86-64-v4": "kernels_v4", "x86-64-v3": "kernels_v3", "generic": "kernels_generic"}

_P, _N, _F = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float


class LayerCall(ctypes.Structure):
    """Mirror of `struct LayerCall` in src/kernels.h."""

    _fields_ = [
        ("cell", _N),
        ("batch", _N),
        ("steps", _N),
        ("inputs", _N),
        ("hidden", _N),
        ("segment", _N),
        ("threads", _N),
        ("x", _P),
        ("x_batch_stride", _N),
        ("x_step_stride", _N),
        ("h0", _P),
        ("c0", _P),
        ("w_ih", _P),
        ("w_hh", _P),
        ("bias", _P),
        ("dt", _F),
        ("gamma", _F),
        ("epsilon", _F),
        ("y", _P),
        ("y_batch_stride", _N),
        ("y_step_stride", _N),
        ("hn", _P),
        ("cn", _P),
        ("saved", _P),
        ("dy", _P),
        ("dy_batch_stride", _N),
        ("dy_step_stride", _N),
        ("dhn", _P),
        ("dcn", _P),
        ("dx", _P),
        ("dh0", _P),
        ("dc0", _P),
        ("dw_ih", _P),
        ("dw_hh", _P),
        ("dbias", _P),
    ]


class ScanCall(ctypes.Structure):
    """Mirror of `struct ScanCall` in src/kernels.h."""

    _fields_ = [
        ("batch", _N),
        ("steps", _N),
        ("features", _N),
        ("threads", _N),
        ("relu", _N),
        ("constant", _N),
        ("a", _P),
        ("b", _P),
        ("h0", _P),
        ("h", _P),
        ("dh", _P),
        ("da", _P),
        ("db", _P),
        ("dh0", _P),
    ]


class CellKind(enum.IntEnum):
    """Mirror of `enum CellKind` in src/kernels.h."""

    LSTM, GRU, TANH, RELU, MODRELU, SLSTM, LEM, CORNN = range(8)


def _interface() -> list[str]:
    """What is mirrored here, in the words of `interface_text()` in src/kernels.h."""
    words = ["version:1"]
    for structure in (LayerCall, ScanCall):
        words.append(f"{structure.__name__}:{ctypes.sizeof(structure)}")
        for name, *_ in structure._fields_:
            field = getattr(structure, name)
            words.append(f"{structure.__name__}.{name}:{field.offset}+{field.size}")
    return words + [f"cell.{kind.name}:{kind.value}" for kind in CellKind]


def available_isas() -> list[str]:
    """The instruction sets that are built and that this processor runs, the fastest first."""
    level = _open("generic").processor_level()
    usable = {"x86-64-v4": level >= 4, "x86-64-v3": level >= 3, "generic": True}
    return [isa for isa in _NAMES if usable[isa] and _path(isa) is not None]


def selected_isa() -> str:
    """The instruction set in use: the fastest, or the one that `ADDING_PROBLEM_NATIVE_ISA` names.

    Raises:
        ValueError: when the variable names one that is unknown, not built, or missing from this
            processor.
    """
    available = available_isas()
    wanted = os.environ.get(ISA_VARIABLE)
    if not wanted:
        return available[0]
    if wanted not in available:
        raise ValueError(
            f"{ISA_VARIABLE}: expected one of {', '.join(available)} on this machine, "
            f"found {wanted!r}"
        )
    return wanted


def library() -> ctypes.CDLL:
    """The kernels of `selected_isa()`."""
    return _open(selected_isa() if os.environ.get(ISA_VARIABLE) else _fastest())


@functools.cache
def _fastest() -> str:
    return available_isas()[0]


def _path(isa: str) -> Path | None:
    folder = Path(__file__).parent
    return next(
        (p for p in folder.glob(f"{_NAMES[isa]}.*") if p.suffix in (".so", ".dylib", ".dll")), None
    )


@functools.cache
def _open(isa: str) -> ctypes.CDLL:
    path = _path(isa)
    if path is None:
        raise ImportError(
            f"adding_problem_native has no compiled kernels ({_NAMES[isa]}): install it with pip"
        )
    opened = ctypes.CDLL(str(path))
    _check_interface(opened, path)
    opened.last_failure.restype = ctypes.c_char_p
    opened.layer_saved_floats.restype = ctypes.c_int64
    opened.memory_acquire.restype = ctypes.c_void_p
    opened.memory_acquire.argtypes = [ctypes.c_int64]
    opened.use_parallel_region.argtypes = [ctypes.c_void_p]
    opened.memory_release.argtypes = [ctypes.c_void_p]
    opened.use_parallel_region(_torchs_parallel_region())
    return opened


def _check_interface(opened: ctypes.CDLL, path: Path) -> None:
    """Raise ImportError for kernels that were built from other sources than this file.

    Such kernels would write where they must not.
    """
    found = []
    if hasattr(opened, "interface_text"):  # the first versions had none
        opened.interface_text.restype = ctypes.c_char_p
        found = opened.interface_text().decode().split()
    for ours, theirs in itertools.zip_longest(_interface(), found, fillvalue="nothing"):
        if ours != theirs:
            raise ImportError(
                f"{path} was built for another version of adding_problem_native "
                f"(expected {ours}, found {theirs}): install the package anew with pip"
            )


def _torchs_parallel_region() -> ctypes.c_void_p | None:
    """GOMP_parallel of the OpenMP runtime of PyTorch; None where it has another kind or none."""
    try:
        torchs = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
        return ctypes.cast(torchs.GOMP_parallel, ctypes.c_void_p)
    except (OSError, AttributeError):
        return None


def workspace(floats: int) -> torch.Tensor:
    """A float32 tensor (floats) on huge pages, which are handed out again after use.

    Page faults of fresh memory cost time. It is a tensor so that autograd keeps it, and lets go of
    it, as it does whatever else a function saved.
    """
    kernels = library()
    pointer = kernels.memory_acquire(floats)
    if not pointer:
        raise MemoryError(
            f"no {4 * floats / 2**20:,.0f} MiB for the states of the layer: "
            "give it checkpoint_every"
        )
    memory = (ctypes.c_char * (4 * floats)).from_address(pointer)
    weakref.finalize(memory, kernels.memory_release, pointer).atexit = False
    return torch.frombuffer(memory, dtype=torch.float32)


def saved_floats(kernels: ctypes.CDLL, call: LayerCall) -> int:
    """How many floats the backward pass of a call needs kept."""
    floats = int(kernels.layer_saved_floats(ctypes.byref(call)))
    if floats < 0:
        raise RuntimeError(f"the native kernels refuse the call: {kernels.last_failure().decode()}")
    return floats


def check(kernels: ctypes.CDLL, status: int) -> None:
    """Raise the error that a status of the kernels (`enum Status` in src/kernels.h) stands for."""
    if status == 1:
        raise MemoryError("the native kernels found no memory for their scratch space")
    if status:
        raise RuntimeError(f"the native kernels failed: {kernels.last_failure().decode()}")
