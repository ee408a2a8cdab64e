"""What does a run survive? Kills, damage, full disks, and files from strangers; each counted, with what was lost.

    python benchmarks/torture.py                            # everything, about 15 minutes on two cores
    python benchmarks/torture.py --part kills --n 20 --seed 3   # a part of it; results are added up in the JSON

    kills     SIGKILL at random moments and at random operations on files, over both recipes and both backends; the run is
              resumed until it ends, and its weights, losses and result compared bit by bit with the run that was never cut
    damage    checkpoints truncated and with bits flipped, then resumed and compared likewise; weights likewise, then read
    disk      the n-th operation on files fails because the disk is full, for every n; and a real file system of 2 MB
    configs   mutated and generated YAML, loaded
    folders   mutated run folders, read by every reader: model, result, history, checkpoint, comparison, resumption
    cost      share of the time that checkpoints take, at the settings of `make run`

A trial is lost when the numbers differ or the last good state is gone; a traceback is any exception that is not one of
`adding_problem.errors`. Peak memory and time are those of the worst trial (of kills: of the worst process).
"""

from __future__ import annotations

import argparse
import errno
import io
import itertools
import json
import logging
import os
import random
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib.figure  # noqa: F401  (here, so that forked trials need not load it)
import results
import torch

from adding_problem import checkpoint, config, plots, runtime, schema, train, validate
from adding_problem.artifacts import RunFolder
from adding_problem.config import RunConfig
from adding_problem.errors import AddingProblemError

DEFAULT_TRIALS = {"kills": 200, "damage": 50, "disk": 0, "configs": 10_000, "folders": 2_000, "cost": 4}
COMBINATIONS = [(recipe, backend) for recipe in ("seed", "fast") for backend in ("native", "torch")]
LIMIT_SECONDS = 60

Outcome = dict[str, Any]


class Budget:
    """How many trials there may be, and until when; what is not done in time another seed can do."""

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
    """A run of about a second, or a third of that, with checkpoints as often as their cost allows."""
    values = {"recipe": recipe, "backend": backend, "threads": 1, "artifacts": str(folder), "model.hidden": 24,
              "train.checkpoint_minutes": 1e-4, "validate.dt_length": 20}
    if recipe == "seed":
        values |= {"dataset.t": 40, "dataset.dt_length": 400 if short else 3_000, "train.batch": 32,
                   "train.epochs": 2 if short else 5}
    else:
        values |= {"dataset.t": 120, "dataset.held_out": 64, "train.stop_val_loss": 1e-9, "train.glimpse": None,
                   "train.epochs": 2 if short else 10}
    return config.load(None, values)


# --- trials in processes of their own --------------------------------------------------------------------------------


def in_child(work: Callable[[], None], kill_after: float | None = None) -> tuple[int, str, int]:
    """Run in a forked process: exit status (negative: the signal), its last words, its peak memory in KiB."""
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
    """Counts what is done to files for writing, and at the n-th operation does `act`: in the middle of a write, too."""

    def __init__(self, at: int, act: Callable[[], None]) -> None:
        self.count, self._at, self._act = 0, at, act

    def install(self) -> None:
        """In this process, from now on."""
        really_open, fsync, replace, mkdir = io.open, os.fsync, os.replace, os.mkdir
        operations = self

        def opened(file: Any, mode: str = "r", *rest: Any, **more: Any) -> Any:
            writes = isinstance(file, (str, Path)) and any(letter in mode for letter in "wxa")
            if writes:
                operations.step()
            stream = really_open(file, mode, *rest, **more)
            return Halved(stream, operations) if writes and "b" in mode else stream

        io.open = opened  # type: ignore[assignment]
        os.fsync = lambda fd: (operations.step(), fsync(fd))[1]
        os.replace = lambda *a, **k: (operations.step(), replace(*a, **k))[1]  # type: ignore[assignment]
        os.mkdir = lambda *a, **k: (operations.step(), mkdir(*a, **k))[1]  # type: ignore[assignment]

    def step(self) -> None:
        self.count += 1
        if self.count == self._at:
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


# --- what is compared ------------------------------------------------------------------------------------------------


def numbers_of(folder: Path) -> dict[str, Any]:
    """All that must be equal: the bytes of the weights, the rows and the result without times."""
    run = RunFolder(folder)
    result = run.read_result()
    costs = {name: cost and {k: v for k, v in cost.items() if k != "seconds"} for name, cost in result["reached"].items()}
    rows = [(row.epoch, row.loss, row.val_loss, row.sequences, row.sequence_steps) for row in run.read_history()]
    return {"weights": run.weights.read_bytes(), "rows": rows,
            "result": {k: v for k, v in result.items() if k != "seconds"} | {"reached": costs}}


def reference(recipe: str, backend: str, folder: Path, short: bool = False) -> tuple[dict[str, Any], float, int]:
    """The run that is never cut: its numbers, its seconds, its operations on files."""
    path = folder / f"uncut-{recipe}-{backend}"
    operations_file = folder / f"operations-{recipe}-{backend}"

    def work() -> None:
        operations = Operations(-1, die)
        operations.install()
        train.run(run_of(recipe, backend, path, short))
        operations_file.write_text(str(operations.count))

    begin = time.perf_counter()
    status, words, _ = in_child(work)
    if status:
        sys.exit(f"the uncut run failed: {words}")
    return numbers_of(path), time.perf_counter() - begin, int(operations_file.read_text())


# --- the parts -------------------------------------------------------------------------------------------------------


def kills(budget: Budget, rng: random.Random, folder: Path) -> Outcome:
    """Chains of kills and resumptions, until as many kills have hit."""
    uncut: dict[tuple[str, str], tuple[dict[str, Any], float, int]] = {}
    outcome: Outcome = {"trials": 0, "at_random_moments": 0, "at_file_operations": 0, "chains": 0, "lost": 0, "tracebacks": 0,
                        "peak_memory_mib": 0.0, "worst_seconds": 0.0}
    while outcome["trials"] < budget.trials and not budget.spent:
        pair = COMBINATIONS[outcome["chains"] % len(COMBINATIONS)]
        numbers, seconds, operations = uncut[pair] = uncut.get(pair) or reference(*pair, folder)
        path = folder / "chain"
        shutil.rmtree(path, ignore_errors=True)
        run = run_of(*pair, path)
        for _ in range(40):
            begin = time.perf_counter()
            last = outcome["trials"] >= budget.trials or budget.spent
            if last or rng.random() < 0.1:
                status, words, memory = in_child(lambda run=run: train.run(run, resume=True))
            elif rng.random() < 0.5:
                at = rng.randrange(1, operations)

                def cut(run: RunConfig = run, at: int = at) -> None:
                    Operations(at, die).install()
                    train.run(run, resume=True)

                status, words, memory = in_child(cut)
                outcome["at_file_operations"] += status == -signal.SIGKILL
            else:
                status, words, memory = in_child(lambda run=run: train.run(run, resume=True), rng.uniform(0, seconds))
                outcome["at_random_moments"] += status == -signal.SIGKILL
            outcome["trials"] += status == -signal.SIGKILL
            outcome["worst_seconds"] = max(outcome["worst_seconds"], time.perf_counter() - begin)
            outcome["peak_memory_mib"] = max(outcome["peak_memory_mib"], memory / 1024)
            if status not in (0, -signal.SIGKILL):
                outcome["tracebacks"] += 1
                print(words, file=sys.stderr)
            if status == 0:
                break
        outcome["chains"] += 1
        outcome["lost"] += not RunFolder(path).result.exists() or numbers_of(path) != numbers
    return outcome


def damage(budget: Budget, rng: random.Random, folder: Path) -> Outcome:
    """Half of the trials damage the newest checkpoint or both, half the weights of a finished run."""
    uncut = {pair: reference(*pair, folder) for pair in COMBINATIONS}
    outcome: Outcome = {"trials": 0, "fell_back": 0, "refused": 0, "lost": 0, "tracebacks": 0,
                        "peak_memory_mib": 0.0, "worst_seconds": 0.0}
    cut = {}
    for pair in COMBINATIONS:
        cut[pair] = folder / "-".join(("cut", *pair))
        run = run_of(*pair, cut[pair])

        def stop(run: RunConfig = run) -> None:
            checkpoint._MOST_COST = 1.0  # one after every epoch
            write, written = RunFolder.write_checkpoint, itertools.count(1)

            def the_third_is_the_last(*arguments: Any) -> None:
                write(*arguments)
                if next(written) == 3:
                    die()

            RunFolder.write_checkpoint = the_third_is_the_last  # type: ignore[method-assign]
            train.run(run, resume=True)

        in_child(stop)
    for trial in budget:
        pair = COMBINATIONS[trial % len(COMBINATIONS)]
        path = folder / "damaged"
        shutil.rmtree(path, ignore_errors=True)
        begin = time.perf_counter()
        if trial % 3 == 2:
            shutil.copytree(folder / f"uncut-{pair[0]}-{pair[1]}", path)
            spoil(path / "model" / "model.safetensors", rng)
            status, words, memory = in_child(lambda path=path: validate.load_model(str(path)))
            right = status == 2  # read as if nothing had happened would be a silent loss
        else:
            shutil.copytree(cut[pair], path)
            names = sorted(file.name for file in path.glob("checkpoint*"))
            spoil(path / "checkpoint.safetensors", rng)
            if trial % 6 == 1:
                for name in names:
                    spoil(path / name, rng)
            run = run_of(*pair, path)
            status, words, memory = in_child(lambda run=run: train.run(run, resume=True))
            right = numbers_of(path) == uncut[pair][0] if status == 0 else trial % 6 == 1 and status == 2
        outcome["trials"] += 1
        outcome["fell_back"] += status == 0
        outcome["refused"] += status == 2
        outcome["lost"] += not right
        outcome["tracebacks"] += status == 99
        outcome["worst_seconds"] = max(outcome["worst_seconds"], time.perf_counter() - begin)
        outcome["peak_memory_mib"] = max(outcome["peak_memory_mib"], memory / 1024)
        if not right or status == 99:
            print(pair, trial, status, words, file=sys.stderr)
    return outcome


def spoil(file: Path, rng: random.Random) -> None:
    """Truncate a file, or flip one of its bits."""
    data = bytearray(file.read_bytes())
    if not data:  # truncated before
        return
    if rng.random() < 0.5:
        del data[rng.randrange(len(data)) :]
    else:
        # Not in the length of the header's padding, which nobody reads: everything else must be noticed.
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    file.write_bytes(data)


def disk(budget: Budget, rng: random.Random, folder: Path) -> Outcome:
    """Every operation on files in turn finds the disk full, with the seed choosing one of four runs; then a disk of 2 MB.

    With a number of trials above 0, as many of the operations, drawn.
    """
    outcome: Outcome = {"trials": 0, "typed_errors": 0, "unharmed": 0, "lost": 0, "tracebacks": 0, "real_disk_trials": 0,
                        "peak_memory_mib": 0.0, "worst_seconds": 0.0}
    pair = rng.choice(COMBINATIONS)
    numbers, _, operations = reference(*pair, folder, short=True)
    every = list(range(1, operations + 1))
    for at in rng.sample(every, min(budget.trials, len(every))) if budget.trials else every:
        if budget.spent:
            return outcome
        shutil.rmtree(folder / "full", ignore_errors=True)
        run = run_of(*pair, folder / "full", short=True)

        def fill(run: RunConfig = run, at: int = at) -> None:
            Operations(at, disk_full).install()
            train.run(run)

        _one_full_disk(outcome, fill, lambda: None, run, numbers)
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        _real_disk(outcome, pair, numbers, folder / "tmpfs")
    return outcome


def _one_full_disk(
    outcome: Outcome, fill: Callable[[], None], make_room: Callable[[], None], run: RunConfig, numbers: dict[str, Any]
) -> None:
    """A run on a full disk, then its resumption when there is room again."""
    begin = time.perf_counter()
    status, words, memory = in_child(fill)
    outcome["typed_errors"] += status == 2
    outcome["unharmed"] += status == 0  # an operation that may fail, such as flushing a folder's own entry
    outcome["tracebacks"] += status == 99
    make_room()
    again, more_words, _ = in_child(lambda: train.run(run, resume=True))
    right = again == 0 and numbers_of(Path(run.artifacts)) == numbers
    outcome["trials"] += 1
    outcome["lost"] += not right
    outcome["peak_memory_mib"] = max(outcome["peak_memory_mib"], memory / 1024)
    outcome["worst_seconds"] = max(outcome["worst_seconds"], time.perf_counter() - begin)
    if not right or status == 99:
        print(words, more_words, file=sys.stderr)


def _real_disk(outcome: Outcome, pair: tuple[str, str], numbers: dict[str, Any], place: Path) -> None:
    """A tmpfs that is filled but for some KiB, and emptied for the resumption."""
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)], check=False).returncode:
        return
    run, ballast = run_of(*pair, place / "run", short=True), place / "ballast"
    try:
        for free in (0, 4, 12, 24, 60, 100, 160, 240):
            shutil.rmtree(place / "run", ignore_errors=True)
            ballast.write_bytes(bytes((2048 - free) << 10))
            _one_full_disk(outcome, lambda: train.run(run), ballast.unlink, run, numbers)
            outcome["real_disk_trials"] += 1
    finally:
        subprocess.run(["umount", str(place)], check=False)


# --- strangers' files ------------------------------------------------------------------------------------------------

HOSTILE_VALUES: list[Any] = [
    None, True, 0, -1, 1, 2**31, 2**53 + 1, 2**63, 10**30, 1.5, float("nan"), float("inf"), -0.0, 1e-320, "", " ", "x" * 5000,
    "\x1b[2J", "../../../../etc/passwd", "/dev/zero", "con", "\u202e", [], [[]], {}, {"a": {"b": []}}, "!!python/object:os.system",
    "torch.nn.Linear", "null", "0x10", "1_000", "1e5", "2001-01-01", "<script>alert(1)</script>", "[/bold]", "%s%n", "${HOME}",
]
SPLINTERS = ["*a", "&a ", "!!int ''", "!!python/object/apply:os.system ['true']", "<<: ", "? ", "- ", ": ", "{", "}", "[", "]", "\t",
             "\x00", "\x85", "\ufeff", "---\n", "...\n", "%YAML 9.9\n", "|\n", ">\n", "'", '"', "#", "@", "`", "=", "~", "1:2:3", ".inf"]


def configs(budget: Budget, rng: random.Random, folder: Path) -> Outcome:
    """Configurations: hostile values under known and unknown keys, and text spoiled at random."""
    outcome: Outcome = {"trials": 0, "accepted": 0, "refused": 0, "tracebacks": 0, "lost": 0, "peak_memory_mib": 0.0,
                        "worst_seconds": 0.0}
    leaves = [key for key, _ in schema.options(RunConfig)]
    whole = config.to_yaml(RunConfig())
    path = folder / "fuzzed.yaml"
    for _ in budget:
        path.write_bytes(fuzzed_yaml(rng, leaves, whole))
        begin = time.perf_counter()
        try:
            loaded = config.load(path)
            path.write_text(config.to_yaml(loaded), encoding="utf-8")
            outcome["lost"] += config.load(path).digest != loaded.digest
            outcome["accepted"] += 1
        except AddingProblemError:
            outcome["refused"] += 1
        except Exception:
            outcome["tracebacks"] += 1
            traceback.print_exc()
        outcome["trials"] += 1
        outcome["worst_seconds"] = max(outcome["worst_seconds"], time.perf_counter() - begin)
    outcome["peak_memory_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return outcome


def fuzzed_yaml(rng: random.Random, leaves: list[str], whole: str) -> bytes:
    """One configuration file."""
    kind = rng.random()
    if kind < 0.5:
        document: dict[str, Any] = {}
        for key in rng.sample(leaves, rng.randrange(1, 6)):
            section, _, name = key.rpartition(".")
            value = rng.choice(HOSTILE_VALUES)
            (document.setdefault(section, {}) if section else document)[name] = value
        return json.dumps(document).encode()
    data = bytearray(whole.encode())
    for _ in range(rng.randrange(1, 8)):
        place = rng.randrange(len(data))
        splinter = rng.choice(SPLINTERS).encode() if rng.random() < 0.7 else rng.randbytes(rng.randrange(1, 8))
        data[place : place + rng.randrange(0, 12)] = splinter
    if rng.random() < 0.05:
        data = bytearray(rng.choice([b"[", b"{a: ", b"- ", b"'"]) * rng.randrange(1, 30_000))
    return bytes(data)


def folders(budget: Budget, rng: random.Random, folder: Path) -> Outcome:
    """Run folders with one to three files spoiled, or replaced by links, pipes and hostile content."""
    outcome: Outcome = {"trials": 0, "read": 0, "refused": 0, "escaped": 0, "tracebacks": 0, "lost": 0, "peak_memory_mib": 0.0,
                        "worst_seconds": 0.0}
    good, cut, secret = folder / "good", folder / "half", folder / "secret"
    small = {"train.epochs": 2, "dataset.dt_length": 300}
    run = config.load(None, config_values(run_of("seed", "torch", good)) | small)
    train.run(run)
    validate.run(run)
    shutil.copytree(good, cut, dirs_exist_ok=True)
    (cut / "result.json").unlink()
    shutil.copytree(good, secret, dirs_exist_ok=True)
    before = {file: file.read_bytes() for file in secret.rglob("*") if file.is_file()}
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
    for trial in budget:
        path = folder / "stranger"
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(cut if trial % 4 == 3 else good, path)
        for _ in range(rng.randrange(1, 4)):
            spoil_folder(path, secret, rng)
        begin = time.perf_counter()
        signal.alarm(LIMIT_SECONDS)  # a reader that hangs ends this program
        for read in readers(path, trial):
            try:
                read()
                outcome["read"] += 1
            except AddingProblemError:
                outcome["refused"] += 1
            except Exception:
                outcome["tracebacks"] += 1
                traceback.print_exc()
        signal.alarm(0)
        outcome["trials"] += 1
        outcome["worst_seconds"] = max(outcome["worst_seconds"], time.perf_counter() - begin)
    outcome["escaped"] = sum(not file.exists() or file.read_bytes() != data for file, data in before.items())
    outcome["peak_memory_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return outcome


def config_values(run: RunConfig) -> dict[str, Any]:
    """A configuration as overrides."""
    return {key: run.get(key) for key, _ in schema.options(RunConfig)}


def readers(path: Path, trial: int) -> list[Callable[[], object]]:
    """All that a user may do with a stranger's folder."""
    run = RunFolder(path)
    small = config.load(None, config_values(run_of("seed", "torch", path)) | {
        "train.epochs": 2, "dataset.dt_length": 300, "validate.dt_length": 20})
    actions: list[Callable[[], object]] = [
        run.read_result, run.read_history, run.read_validation, lambda: run.holds_finished(small),
        lambda: validate.load_model(str(path))]
    if trial % 8 == 3:
        actions.append(lambda: train.run(small, resume=True))
    if trial % 20 == 0:  # pictures take half a second each
        actions += [lambda: plots.draw_comparison(path.parent / "comparison.png", [path]), lambda: validate.run(small)]
    if trial % 40 == 5:
        actions.append(lambda: train.run(small, overwrite=True))
    return actions


def spoil_folder(path: Path, secret: Path, rng: random.Random) -> None:
    """One change to a run folder."""
    inside = [file for file in path.rglob("*") if file.is_file() and not file.is_symlink() and not file.parent.is_symlink()]
    if not inside:
        return
    file = rng.choice(inside)
    kind = rng.randrange(8)
    if kind == 0:
        spoil(file, rng)
    elif kind == 1:
        file.unlink()
        file.symlink_to(secret / file.relative_to(path))
    elif kind == 2:
        file.unlink()
        rng.choice([os.mkfifo, os.mkdir])(file)
    elif kind == 3:
        file.write_bytes(rng.choice([b"", b"\x00" * 100, b"[" * 100_000, rng.randbytes(5000), b"\xff" * 20]))
    elif kind == 4 and (path / "model").is_dir() and not (path / "model").is_symlink():
        shutil.rmtree(path / "model")
        (path / "model").symlink_to(secret / "model")
    elif kind == 5 and (weights := path / "model" / "model.safetensors") in inside:  # and not behind a link
        weights.write_bytes(hostile_safetensors(rng))
    else:
        spoil_document(file, rng)


def hostile_safetensors(rng: random.Random) -> bytes:
    """A file whose header lies."""
    shape = rng.choice([[2**40], [2**20, 2**20, 2**20], [-1], [0], [10**30], [1]])
    end = rng.choice([4, 2**40, 2**63, -4, 0])
    header = json.dumps({"lstm.weight_ih_l0": {"dtype": rng.choice(["F32", "F8_E4M3", "I64", "Q"]), "shape": shape,
                                               "data_offsets": [0, end]}}).encode()
    length = rng.choice([len(header), 2**63, 2**40, 0, 99_999_999])
    return struct.pack("<Q", length) + header + b"\x00" * 4


def spoil_document(file: Path, rng: random.Random) -> None:
    """A hostile value somewhere in a JSON, CSV or YAML file."""
    value = rng.choice(HOSTILE_VALUES)
    if file.suffix == ".json":
        try:
            document = json.loads(file.read_bytes())
            key = rng.choice(sorted(document))
            document[key] = value
            if isinstance(value, dict) or rng.random() < 0.2:
                del document[key]
            file.write_text(json.dumps(document))
        except (ValueError, TypeError, IndexError, RecursionError):  # it is spoiled already
            return
    elif file.suffix in (".csv", ".yaml"):
        lines = file.read_text(errors="replace").split("\n")
        place = rng.randrange(len(lines))
        cells = lines[place].split("," if file.suffix == ".csv" else ":")
        cells[rng.randrange(len(cells))] = str(value)
        lines[place] = ("," if file.suffix == ".csv" else ": ").join(cells)
        file.write_text("\n".join(lines), errors="replace")


# --- cost ------------------------------------------------------------------------------------------------------------


def cost(budget: Budget, rng: random.Random, folder: Path) -> Outcome:
    """What share of the time is spent on writing checkpoints, at default settings."""
    outcome: Outcome = {"trials": 0, "seconds": 0.0, "writing_seconds": 0.0, "written": 0, "largest_share": 0.0, "lost": 0,
                        "tracebacks": 0}
    for trial in budget:
        recipe, backend = COMBINATIONS[trial % len(COMBINATIONS)]
        run = config.load(None, {"recipe": recipe, "backend": backend, "artifacts": str(folder / f"cost-{trial}"), "seed": trial}
                          | ({"dataset.t": 1000} if recipe == "fast" else
                             {"dataset.t": 150, "dataset.dt_length": 10_000, "train.epochs": 2}))
        spent = [0.0, 0.0]
        for name in ("write_history", "write_checkpoint"):
            timed(name, spent)
        result = train.run(run)
        outcome["trials"] += 1
        outcome["seconds"] += result["seconds"]
        outcome["writing_seconds"] += spent[0]
        outcome["written"] += int(spent[1])
        outcome["largest_share"] = max(outcome["largest_share"], spent[0] / result["seconds"])
    return outcome


REALLY = {name: getattr(RunFolder, name) for name in ("write_history", "write_checkpoint")}


def timed(name: str, spent: list[float]) -> None:
    """Have a method of `RunFolder` add its time to a list, and its calls if it writes checkpoints."""

    def method(*arguments: Any) -> None:
        begin = time.perf_counter()
        REALLY[name](*arguments)
        spent[0] += time.perf_counter() - begin
        spent[1] += name == "write_checkpoint"

    setattr(RunFolder, name, method)


# --- the program -----------------------------------------------------------------------------------------------------

PARTS = {"kills": kills, "damage": damage, "disk": disk, "configs": configs, "folders": folders, "cost": cost}


def main() -> int:
    """Run parts, add their outcomes to the JSON, print them; the exit code tells whether anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, help="one part (default: all)")
    parser.add_argument("--n", type=int, help="number of trials (default: as in docs/reliability.md)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=1e9, help="begin no trial after so many seconds of a part")
    parser.add_argument("--out", type=Path, default=Path("artifacts/torture.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable()  # that a lock was left by a killed process is no news here
    bad = 0
    for name in [arguments.part] if arguments.part else PARTS:
        n = arguments.n if arguments.n is not None else DEFAULT_TRIALS[name]
        with tempfile.TemporaryDirectory() as folder:
            begin = time.perf_counter()
            outcome = PARTS[name](Budget(n, arguments.seconds), random.Random(f"{name} {arguments.seed}"), Path(folder))
            outcome["wall_seconds"] = time.perf_counter() - begin
        record(arguments.out, name, arguments.seed, outcome)
        print(f"{name} (seed {arguments.seed}): " + ", ".join(
            f"{key} {value:,.4g}" if isinstance(value, float) else f"{key} {value:,}" for key, value in outcome.items()), flush=True)
        bad += outcome["lost"] + outcome["tracebacks"] + outcome.get("escaped", 0)
    return 1 if bad else 0


def record(path: Path, part: str, seed: int, outcome: Outcome) -> None:
    """Keep the outcome of a part and seed, and the sums over seeds."""
    document = json.loads(path.read_text()) if path.exists() else {"parts": {}}
    document["machine"] = {"processor": runtime.processor(), "cores": os.cpu_count()}
    document["versions"] = runtime.versions()
    seeds = document["parts"].setdefault(part, {}).setdefault("seeds", {})
    seeds[str(seed)] = outcome
    document["parts"][part]["all"] = {
        key: (max if key.startswith(("peak", "worst", "largest")) else sum)(each[key] for each in seeds.values())
        for key in outcome}
    results.write(path, document)


if __name__ == "__main__":
    sys.exit(main())
