"""Sequences in a file for other frameworks, drawn and written piece by piece."""

from __future__ import annotations

import importlib
import importlib.util
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from adding_problem.errors import ConfigError, InteropError, to_install
from adding_problem.interop.weights import Float32
from adding_problem.runs import atomic_io
from adding_problem.task.sampling import sample_batch_numpy, sequence_width
from adding_problem.task.variants import MIN_LENGTH, Task

__all__ = ["write_data"]

_PLAIN = Task()
_PIECE_NUMBERS = 1 << 21  # numbers in memory at once: 8 MB
_LEAST_PARQUET_BYTES = 2  # of a step: a random value is hardly compressed, a mark to almost nothing
Progress = Callable[[int, int], None]


def write_data(
    path: Path,
    n: int,
    length: int,
    *,
    seed: int = 0,
    start: int = 0,
    task: Task = _PLAIN,
    on_progress: Progress | None = None,
) -> None:
    """Write items ``start .. start + n - 1`` of a seed's stream, which `sample_batch` gives too.

    The recipe `original` trains on such a stream. Memory does not grow with n.

    `.npz`: arrays x, float32 (n, W, C), and y, float32 (n, 1), not compressed, as by `numpy.savez`.
    `.parquet`: a row for every sequence with the columns value, mark and noise_1, noise_2, ...,
    lists of W float32, and target, float32; the arguments are in the schema's metadata. Needs the
    extra `parquet`.

    Args:
        path: file to write; its suffix chooses the format. A file there is replaced at the end.
        n, length, seed, start, task: as for `sample_batch`.
        on_progress: is told the number of sequences written so far, and of all.

    Raises:
        ConfigError: when the suffix or a number is wrong.
        InteropError: when the extra is missing.
        StorageError: when the file cannot be written, or the disk has too little room for it.
    """
    write = {".npz": _write_npz, ".parquet": _write_parquet}.get(path.suffix)
    if write is None:
        raise ConfigError(
            "out",
            "a name ending in .npz or .parquet",
            repr(path.name),
            "change the ending of the file's name",
        )
    about = {"n": n, "length": length, "seed": seed, "start": start, "task": task}
    _check_arguments(about)
    atomic_io.make_folder(path.parent)
    _check_room(path, about)
    with atomic_io.replacing(path) as stream:
        write(stream, _pieces(about, on_progress), about)


def _check_arguments(about: dict[str, Any]) -> None:
    variant = about["task"].variant
    for name, least in {"n": 1, "length": MIN_LENGTH[variant], "seed": 0, "start": 0}.items():
        if about[name] < least:
            of_variant = f" for the variant {variant!r}" if name == "length" else ""
            raise ConfigError(
                name, f"at least {least}{of_variant}", str(about[name]), f"raise {name}"
            )


def _check_room(path: Path, about: dict[str, Any]) -> None:
    task = about["task"]
    per_step = 4 * task.width if path.suffix == ".npz" else _LEAST_PARQUET_BYTES
    needed = about["n"] * sequence_width(about["length"], task.variant) * per_step
    atomic_io.require_room(path, needed, "write fewer or shorter sequences, or to another disk")


def _pieces(
    about: dict[str, Any], on_progress: Progress | None
) -> Iterator[tuple[Float32, Float32]]:
    n, length, task = about["n"], about["length"], about["task"]
    size = max(1, _PIECE_NUMBERS // (task.width * sequence_width(length, task.variant)))
    for first in range(0, n, size):
        count = min(size, n - first)
        yield sample_batch_numpy(
            count, length, seed=about["seed"], start=about["start"] + first, task=task
        )
        if on_progress:
            on_progress(first + count, n)


def _write_npz(
    stream: IO[bytes], pieces: Iterator[tuple[Float32, Float32]], about: dict[str, Any]
) -> None:
    shape = (
        about["n"],
        sequence_width(about["length"], about["task"].variant),
        about["task"].width,
    )
    with zipfile.ZipFile(stream, "w") as archive, tempfile.TemporaryFile() as targets:
        with archive.open("x.npy", "w", force_zip64=True) as member:
            _write_header(member, shape)
            for x, y in pieces:
                member.write(x.astype("<f4", copy=False).data)
                targets.write(y.astype("<f4", copy=False).data)
        targets.seek(0)
        with archive.open("y.npy", "w", force_zip64=True) as member:
            _write_header(member, (about["n"], 1))
            shutil.copyfileobj(targets, member)


def _write_header(member: IO[bytes], shape: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_1_0(
        member, {"descr": "<f4", "fortran_order": False, "shape": shape}
    )


def _write_parquet(
    stream: IO[bytes], pieces: Iterator[tuple[Float32, Float32]], about: dict[str, Any]
) -> None:
    if importlib.util.find_spec("pyarrow") is None:
        raise InteropError(
            "writing .parquet needs pyarrow", f"{to_install('parquet')}, or write .npz"
        )
    arrow, parquet = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    task: Task = about["task"]
    width = sequence_width(about["length"], task.variant)
    names = ["value", "mark", *(f"noise_{column}" for column in range(1, task.noise_columns + 1))]
    steps = arrow.list_(arrow.float32(), width)
    facts = {key: value for key, value in about.items() if key != "task"} | task.to_record()
    schema = arrow.schema(
        [*((name, steps) for name in names), ("target", arrow.float32())],
        metadata={f"adding_problem.{key}": str(value) for key, value in facts.items()},
    )
    with parquet.ParquetWriter(stream, schema, compression="zstd") as writer:
        for x, y in pieces:
            columns = [
                arrow.FixedSizeListArray.from_arrays(
                    arrow.array(np.ascontiguousarray(x[:, :, column]).reshape(-1)), width
                )
                for column in range(task.width)
            ]
            writer.write_table(arrow.table([*columns, arrow.array(y[:, 0])], schema=schema))
