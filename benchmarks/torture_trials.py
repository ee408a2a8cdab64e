"""What the parts of `torture.py` share: processes to kill, operations on files to count, runs to
compare."""

from __future__ import annotations

import builtins
import dataclasses
import errno
import io
import mmap
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from adding_problem import config
from adding_problem.config import KEYS, RunConfig
from adding_problem.errors import AddingProblemError
from adding_problem.experiments.train import train
from adding_problem.runs.folder import RunFolder

COMBINATIONS = [
    (recipe, backend) for recipe in ("original", "fast") for backend in ("native", "torch")
]

Outcome = dict[str, Any]


class Budget:
    """How many trials there may be, and until when; what is not done in time another seed can
    do."""

    def __init__(self, trials: int, seconds: float) -> None:
        self.trials, self._end = trials, time.perf_counter() + seconds

    @property
    def spent(self) -> bool:
        """Whether the time is over."""
        return time.perf_counter() > self._end

    def __iter__(self) -> Iterator[int]:
        for trial in range(self.trials):
            if self.spent:
                return
            yield trial


def run_of(recipe: str, backend: str, folder: Path, short: bool = False) -> RunConfig:
    """A run of about a second, or a third of that, with checkpoints as often as their cost
    allows."""
    values = {
        "recipe": recipe,
        "backend": backend,
        "threads": 1,
        "artifacts": str(folder),
        "model.hidden": 24,
        "train.checkpoint_minutes": 1e-4,
        "validate.dt_length": 20,
    }
    if recipe == "original":
        values |= {
            "dataset.t": 40,
            "dataset.dt_length": 400 if short else 3_000,
            "train.batch": 32,
            "train.epochs": 2 if short else 5,
        }
    else:
        values |= {
            "dataset.t": 120,
            "dataset.held_out": 64,
            "train.stop_val_loss": 1e-9,
            "train.val_subset": None,
            "train.epochs": 2 if short else 10,
        }
    return config.load(None, values)


def config_values(run: RunConfig) -> dict[str, Any]:
    """A configuration as overrides."""
    return {key: run.get(key) for key in KEYS}


# --- trials in processes of their own -------------------------------------------------------------


def in_child(work: Callable[[], object], kill_after: float | None = None) -> tuple[int, str, int]:
    """Run in a forked process: exit status (negative: the signal), its last words, its peak memory
    in KiB."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        status = 0
        try:
            work()
        except AddingProblemError as error:
            status = 2
            os.write(write, f"{type(error).__name__}: {error}".encode()[:4000])
        except BaseException:
            status = 99
            os.write(write, traceback.format_exc().encode()[-4000:])
        os._exit(status)
    os.close(write)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(pid, signal.SIGKILL)
    with os.fdopen(read, "rb") as stream:
        words = stream.read().decode(errors="replace")
    _, status, usage = os.wait4(pid, 0)
    return os.waitstatus_to_exitcode(status), words, usage.ru_maxrss


class Operations:
    """Counts what is done to files for writing, and at the n-th operation does `act`: in the middle
    of a write, too.

    Processes that are forked after it was made count together: one of them does the n-th operation.

    Args:
        at: n, from 1; a smaller one only counts.
        act: what happens there.
        deletions: whether to delete is an operation; it needs no room.
    """

    def __init__(self, at: int, act: Callable[[], None], *, deletions: bool = True) -> None:
        self._at, self._act, self._deletions, self._count = at, act, deletions, mmap.mmap(-1, 8)

    @property
    def count(self) -> int:
        """How many there were."""
        return int.from_bytes(self._count[:], "little")

    def install(self) -> None:
        """In this process, from now on."""
        really_open, operations = io.open, self

        def opened(file: Any, mode: str = "r", *rest: Any, **more: Any) -> Any:
            writes = isinstance(file, (str, Path)) and any(letter in mode for letter in "wxa")
            if writes:
                operations.step()
            stream = really_open(file, mode, *rest, **more)
            return Halved(stream, operations) if writes and "b" in mode else stream

        io.open = builtins.open = opened
        for name in (
            "fsync",
            "replace",
            "rename",
            "mkdir",
            *(("unlink", "remove", "rmdir") if self._deletions else ()),
        ):
            setattr(os, name, self._counted(getattr(os, name)))

    def _counted(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **named: Any) -> Any:
            self.step()
            return call(*arguments, **named)

        return counted

    def step(self) -> None:
        """One more."""
        number = self.count + 1
        self._count[:] = number.to_bytes(8, "little")
        if number == self._at:
            self._act()


class Halved:
    """A stream whose writes come in two halves, with an operation counted between them."""

    def __init__(self, stream: Any, operations: Operations) -> None:
        self._stream, self._operations = stream, operations

    def write(self, data: bytes) -> int:
        view = memoryview(data).cast("B")
        self._stream.write(view[: len(view) // 2])
        self._stream.flush()
        self._operations.step()
        self._stream.write(view[len(view) // 2 :])
        return len(view)

    def __enter__(self) -> Halved:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stream.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def disk_full() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def spoil(file: Path, rng: random.Random) -> None:
    """Truncate a file, or flip one of its bits."""
    data = bytearray(file.read_bytes())
    if not data:  # truncated before
        return
    if rng.random() < 0.5:
        del data[rng.randrange(len(data)) :]
    else:
        # Not in the length of the header's padding, which nobody reads: everything else must be
        # noticed.
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    file.write_bytes(data)


# --- what is compared -----------------------------------------------------------------------------


def numbers_of(folder: Path) -> dict[str, Any]:
    """All that must be equal: the bytes of the weights, the rows and the result without times."""
    run = RunFolder(folder)
    result = dataclasses.asdict(run.read_result())
    for timed in (result, *filter(None, result["reached"].values())):
        del timed["seconds"]
    rows = [
        (row.epoch, row.loss, row.val_loss, row.sequences, row.sequence_steps)
        for row in run.read_history()
    ]
    return {"weights": run.weights.read_bytes(), "rows": rows, "result": result}


def reference(
    recipe: str, backend: str, folder: Path, short: bool = False
) -> tuple[dict[str, Any], float, int]:
    """The run that is never cut: its numbers, its seconds, its operations on files."""
    path = folder / f"uncut-{recipe}-{backend}"
    operations_file = folder / f"operations-{recipe}-{backend}"

    def work() -> None:
        operations = Operations(-1, die)
        operations.install()
        train(run_of(recipe, backend, path, short))
        operations_file.write_text(str(operations.count))

    begin = time.perf_counter()
    status, words, _ = in_child(work)
    if status:
        sys.exit(f"the uncut run failed: {words}")
    return numbers_of(path), time.perf_counter() - begin, int(operations_file.read_text())
