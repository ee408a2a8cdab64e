"""The compiled kernels, opened through ctypes.

There is one shared library per instruction set; the best one that this processor has is used.
"""

from __future__ import annotations

import ctypes
import dataclasses
import functools
import os
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import torch

ISA_VARIABLE = "ADDING_PROBLEM_NATIVE_ISA"
_NAMES = {"x86-64-v4": "kernels_v4", "x86-64-v3": "kernels_v3", "generic": "kernels_generic"}

_VERSION = "3"  # of src/interface.cpp
_TYPES = {"n": ctypes.c_int64, "f": ctypes.c_float, "p": ctypes.c_void_p}

Call = ctypes.Structure


class CellNumbers(NamedTuple):
    """A cell to the kernels: its number, and how many numbers of each unit they save.

    Args:
        records: at every step.
        states: at a checkpoint.
    """

    number: int
    records: int
    states: int


@dataclasses.dataclass(frozen=True, eq=False)
class Kernels:
    """One build of the kernels.

    Args:
        functions: the shared library.
        lanes: floats of a vector.
        layer_call, scan_call: the structures of src/kernels.h; fields by name, what is left out is
            zero or null.
        cells: by name.
    """

    functions: ctypes.CDLL
    lanes: int
    layer_call: type[Call]
    scan_call: type[Call]
    cells: Mapping[str, CellNumbers]

    def run(self, function: str, call: Call) -> None:
        """Call `function`, one that returns an `enum Status` of src/kernels.h.

        Raises:
            MemoryError: for scratch space that there is none for.
            RuntimeError: for anything else, such as a size of zero.
        """
        status = getattr(self.functions, function)(ctypes.byref(call))
        if status == 1:
            raise MemoryError("the native kernels found no memory for their scratch space")
        if status:
            raise RuntimeError(f"the native kernels failed: {self._last_failure()}")

    def workspace(self, floats: int) -> torch.Tensor:
        """A float32 tensor (floats) on huge pages, which are handed out again after use.

        Page faults of fresh memory cost time. It is a tensor so that autograd keeps it, and lets go
        of it, as it does whatever else a function saved.
        """
        pointer = self.functions.memory_acquire(floats)
        if not pointer:
            raise MemoryError(
                f"no {4 * floats / 2**20:,.0f} MiB for the states of the layer: "
                "give it checkpoint_every"
            )
        memory = (ctypes.c_char * (4 * floats)).from_address(pointer)
        weakref.finalize(memory, self.functions.memory_release, pointer).atexit = False
        return torch.frombuffer(memory, dtype=torch.float32)

    def _last_failure(self) -> str:
        return str(self.functions.last_failure().decode())


def available_isas() -> list[str]:
    """The instruction sets that are built and that this processor runs, the fastest first."""
    level = _open("generic").functions.processor_level()
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


@functools.cache
def processor_is_intel() -> bool:
    """Whether Intel made the processor."""
    return bool(library().functions.processor_is_intel())


def library() -> Kernels:
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
def _open(isa: str) -> Kernels:
    path = _path(isa)
    if path is None:
        raise ImportError(
            f"adding_problem_native has no compiled kernels ({_NAMES[isa]}): install it with pip"
        )
    opened = ctypes.CDLL(str(path))
    kernels = _described(opened, path)
    opened.last_failure.restype = ctypes.c_char_p
    opened.memory_acquire.restype = ctypes.c_void_p
    opened.memory_acquire.argtypes = [ctypes.c_int64]
    opened.use_parallel_region.argtypes = [ctypes.c_void_p]
    opened.memory_release.argtypes = [ctypes.c_void_p]
    opened.use_parallel_region(_torchs_parallel_region())
    return kernels


def _described(opened: ctypes.CDLL, path: Path) -> Kernels:
    """The structures and cells that a library says it has.

    Raises:
        ImportError: for one built from other sources than this file. Its fields may have the same
            names and another meaning.
    """
    words = ["version:none"]
    if hasattr(opened, "interface_text"):  # the first versions had none
        opened.interface_text.restype = ctypes.c_char_p
        words = opened.interface_text().decode().split()
    values = dict(word.split(":") for word in words)
    if values["version"] != _VERSION:
        raise ImportError(
            f"{path} was built for another version of adding_problem_native (expected interface "
            f"{_VERSION}, found {values['version']}): install the package anew with pip"
        )
    return Kernels(
        opened,
        int(values["lanes"]),
        _structure("LayerCall", values),
        _structure("ScanCall", values),
        {
            name: CellNumbers(*map(int, numbers.split(",")))
            for name, numbers in _members("cell", values)
        },
    )


def _structure(name: str, values: Mapping[str, str]) -> type[Call]:
    """A structure of src/kernels.h. To set a field that it does not have is an AttributeError."""
    fields = [(field, _TYPES[letter]) for field, letter in _members(name, values)]
    made = type(name, (ctypes.Structure,), {"_fields_": fields, "__slots__": ()})
    if ctypes.sizeof(made) != int(values[name]):
        raise ImportError(f"{name}: expected {values[name]} bytes, found {ctypes.sizeof(made)}")
    return made


def _members(name: str, values: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    prefix = f"{name}."
    return ((key[len(prefix) :], value) for key, value in values.items() if key.startswith(prefix))


def _torchs_parallel_region() -> ctypes.c_void_p | None:
    """GOMP_parallel of the OpenMP runtime of PyTorch; None where it has another kind or none."""
    try:
        torchs = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
        return ctypes.cast(torchs.GOMP_parallel, ctypes.c_void_p)
    except (OSError, AttributeError):
        return None
