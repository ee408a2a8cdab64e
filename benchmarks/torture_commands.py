"""Commands that are killed at every operation on files, and repeated until they end.

Each command runs in a forked process. One of its operations on files, the n-th, sends SIGKILL to
the process that does it; of a sweep that is the driver or its worker. Then the same command is
given again, with a flag where its message asks for one, until it ends with 0. What it leaves is
compared with what the undisturbed command left: numbers bit for bit, without seconds and dates.
Then n + 1, until the command has fewer operations than that.

Pictures are a few bytes here, written as the real ones are. A length of `horizon` counts as solved
below an error of 10, so that one epoch solves it. A sweep's worker is forked, where it would be
spawned, so that its operations count too.
"""

from __future__ import annotations

import importlib
import io
import itertools
import json
import multiprocessing
import os
import random
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torture_trials import Budget, Operations, Outcome, die, in_child

from adding_problem import cli
from adding_problem.analysis import plots
from adding_problem.cli import sweep, validate  # noqa: F401  (loaded here, so that no trial has to)
from adding_problem.experiments import horizon
from adding_problem.experiments.sweep import display, driver, engines, plan  # noqa: F401
from adding_problem.interop import exporting, importing  # noqa: F401
from adding_problem.report import page  # noqa: F401
from adding_problem.runs import atomic_io

FOREIGN = Path(__file__).resolve().parents[1] / "tests" / "data" / "foreign"
SMALL = [
    "--dataset.t",
    "10",
    "--dataset.dt_length",
    "60",
    "--model.hidden",
    "4",
    "--train.batch",
    "32",
    "--validate.dt_length",
    "20",
    "--threads",
    "1",
]
MOST_REPETITIONS = 6
ENOUGH_BEYOND = 3
"""Commands in all that ended before the operation that was to be their last."""
FLAGS = {
    "--resume": "give --resume",
    "--overwrite": "holds a finished run of this configuration",
}
"""A flag, and the words of a message that asks for it."""
TIMES = {"seconds", "begin", "updated", "date", "deaths"}
SWEEP_FILE = """\
dataset: {t: 10, dt_length: 60}
model: {hidden: 4}
train: {epochs: 1, batch: 32}
validate: {dt_length: 20}
threads: 1
artifacts: swept
grid: {seed: [0, 1]}
"""


@dataclass(frozen=True)
class Case:
    """A command that is killed.

    Attributes:
        words: the command.
        before: commands that are given first, undisturbed; what they leave is there at the
            beginning of every trial.
        uncut: what leaves the expected result, in an empty folder; None is `before` and the command
            itself.
        varying: keys, beside those of times, whose values depend on the seconds that the command
            took.
        sample: how many operations are drawn where no number is asked for; None is every operation.
    """

    words: list[str]
    before: tuple[list[str], ...] = ()
    uncut: tuple[list[str], ...] | None = None
    varying: frozenset[str] = frozenset()
    sample: int | None = None


TRAIN = ["train", *SMALL, "--artifacts", "run"]
CLIMB = [
    "horizon",
    "--lengths",
    "5",
    "10",
    "--train.epoch_steps",
    "2",
    "--train.stop_val_loss",
    "10",
    "--model.hidden",
    "4",
    "--dataset.held_out",
    "64",
    "--validate.dt_length",
    "20",
    "--threads",
    "1",
    "--artifacts",
    "climb",
]
# The second length has the minutes that the first has left, and the digest of its configuration
# says so.
OF_MINUTES = frozenset({"budget_minutes", "digest", "model", "config"})

CASES = {
    "train": Case([*TRAIN, "--train.epochs", "2"]),
    "more epochs": Case(
        [*TRAIN, "--train.epochs", "4", "--resume"],
        before=([*TRAIN, "--train.epochs", "2"], ["validate", "--artifacts", "run"]),
        uncut=([*TRAIN, "--train.epochs", "4"],),
    ),
    "validate": Case(["validate", "--artifacts", "run"], before=([*TRAIN, "--train.epochs", "1"],)),
    "horizon": Case(CLIMB, varying=OF_MINUTES),
    "horizon --overwrite": Case([*CLIMB, "--overwrite"], before=(CLIMB,), varying=OF_MINUTES),
    # The run before it loads what the worker needs.
    "sweep": Case(
        ["sweep", "--config", "sweep.yaml", "--workers", "1"],
        before=([*TRAIN, "--train.epochs", "1"],),
    ),
    "export": Case(
        ["export", "run", "--to", "torch-export"], before=([*TRAIN, "--train.epochs", "1"],)
    ),
    "import": Case(["import", str(FOREIGN / "model.keras"), "--out", "run", "--threads", "1"]),
    "report": Case(
        [
            "report",
            "run",
            "--out",
            "page/report.html",
            "--lengths",
            "10",
            "--sequences",
            "20",
            "--threads",
            "1",
        ],
        before=([*TRAIN, "--train.epochs", "1"],),
    ),
    "data": Case(["data", "--n", "50", "--length", "10", "--out", "data/some.npz"]),
}


def killed(name: str, budget: Budget, rng: random.Random, folder: Path) -> Outcome:
    """One command; as many of its operations, drawn, as there may be trials, or, where that is 0,
    every one."""
    case, place = CASES[name], Place(folder)
    place.fill(case.before)
    expected = place.expected(case)
    outcome: Outcome = {
        "trials": 0,
        "operations": 0,
        "repetitions": 0,
        "flags_asked_for": 0,
        "left_over": 0,
        "lost": 0,
        "tracebacks": 0,
        "wrong_without_a_word": 0,
        "peak_memory_mib": 0.0,
        "worst_seconds": 0.0,
    }
    beyond = 0
    for at in place.operations(case, rng, budget.trials, outcome):
        if budget.spent:
            print(f"{name}: the time was over at operation {at}", file=sys.stderr)
            return outcome
        begin = time.perf_counter()
        place.begin_anew()
        operations = Operations(at, die)
        status, said, memory = place.give(case.words, operations)
        if (
            operations.count < at
        ):  # of a sweep, which writes its summary by the clock, this one may have had fewer
            beyond += 1
            if beyond == ENOUGH_BEYOND:
                break
            continue
        outcome["trials"] += 1
        _repeat(place, case, status, said, expected, outcome, f"{name}, operation {at}")
        outcome["peak_memory_mib"] = max(outcome["peak_memory_mib"], memory / 1024)
        outcome["worst_seconds"] = max(outcome["worst_seconds"], time.perf_counter() - begin)
    outcome["operations"] = max(outcome["operations"], outcome["trials"])
    return outcome


def _repeat(
    place: Place, case: Case, status: int, said: str, expected: Any, outcome: Outcome, what: str
) -> None:
    """Give the command again until it ends, and compare."""
    words, texts = list(case.words), [said]
    for _ in range(MOST_REPETITIONS):
        if status == 0:
            break
        flag = next(
            (flag for flag, asked in FLAGS.items() if asked in said and flag not in words), None
        )
        words += [flag] if flag else []
        outcome["flags_asked_for"] += flag is not None
        outcome["repetitions"] += 1
        status, said, _ = place.give(words)
        texts.append(said)
    found = place.found(case.varying)
    outcome["tracebacks"] += any("Traceback (most recent call last)" in text for text in texts)
    outcome["lost"] += status != 0
    outcome["wrong_without_a_word"] += status == 0 and found != expected
    outcome["left_over"] += len(place.left_over())
    if status or found != expected:
        print(
            f"{what}: ended with {status}; {difference(expected, found)}\n{texts[-1]}",
            file=sys.stderr,
        )


class Place:
    """The folder that a command runs in, always of the same path, which configurations hold.

    Args:
        folder: an empty one for it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self.path = folder / "before", folder / "here"
        self._folder.mkdir()

    def fill(self, commands: tuple[list[str], ...]) -> None:
        """Make what is there at the beginning of every trial."""
        (self._folder / "sweep.yaml").write_text(SWEEP_FILE)
        self.begin_anew()
        for words in commands:
            self._undisturbed(words)
        shutil.rmtree(self._folder)
        shutil.copytree(self.path, self._folder, symlinks=True)

    def begin_anew(self) -> None:
        """Put it there."""
        shutil.rmtree(self.path, ignore_errors=True)
        shutil.copytree(self._folder, self.path, symlinks=True)

    def expected(self, case: Case) -> Any:
        """What the undisturbed command leaves, twice the same."""
        both = []
        for _ in range(2):
            self.begin_anew()
            if case.uncut is not None:
                shutil.rmtree(self.path / "run")
            for words in case.uncut or (case.words,):
                self._undisturbed(words)
            both.append(self.found(case.varying))
        if both[0] != both[1]:
            sys.exit(f"{case.words}: two undisturbed ones differ: {difference(*both)}")
        return both[0]

    def operations(
        self, case: Case, rng: random.Random, trials: int, outcome: Outcome
    ) -> Iterator[int]:
        """The numbers of the operations that are tried."""
        n = trials or case.sample
        if n is None:
            return itertools.count(1)
        self.begin_anew()
        counting = Operations(-1, die)
        self.give(case.words, counting)
        outcome["operations"] = counting.count
        every = range(1, counting.count + 1)
        return iter(rng.sample(every, min(n, len(every))))

    def give(self, words: list[str], operations: Operations | None = None) -> tuple[int, str, int]:
        """Give a command; see `give`."""
        return give(words, self.path, self._folder.parent, operations)

    def _undisturbed(self, words: list[str]) -> None:
        status, said, _ = self.give(words)
        if status:
            sys.exit(f"{words} failed undisturbed:\n{said}")

    def found(self, varying: frozenset[str]) -> dict[str, Any]:
        """All that a command has left: name -> content, without what may differ."""
        names = [path for path in sorted(self.path.rglob("*")) if path.is_file()]
        shown = {str(path.relative_to(self.path)): content(path, TIMES | varying) for path in names}
        return {
            name: value
            for name, value in shown.items()
            if not is_hidden(name) and "checkpoint" not in name
        }

    def left_over(self) -> list[str]:
        """Temporary files that no later call has deleted."""
        return [
            str(path) for path in self.path.rglob("*") if is_hidden(path.name) and path.is_file()
        ]


def give(
    words: list[str], here: Path, notes: Path, operations: Operations | None = None
) -> tuple[int, str, int]:
    """Give a command in a process of its own.

    Args:
        words: the command.
        here: folder that it is given in.
        notes: folder for what it says.
        operations: to install in that process; without, what it loads is loaded here too, so that
            no later one has to.

    Returns:
        Its exit status, what it said, its peak memory in KiB.
    """
    (notes / "loaded").write_text("[]")
    status, fault, memory = in_child(partial(_command, words, here, notes, operations))
    for name in json.loads((notes / "loaded").read_text()):
        with suppress(Exception):
            importlib.import_module(name)
    return status, (notes / "said").read_text(errors="replace") + fault, memory


def _command(words: list[str], here: Path, notes: Path, operations: Operations | None) -> None:
    """In the process of its own."""
    said = os.open(notes / "said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(said, 1)
    os.dup2(said, 2)
    sys.stdout = io.TextIOWrapper(io.FileIO(1, "w"), "utf-8", line_buffering=True)
    sys.stderr = io.TextIOWrapper(io.FileIO(2, "w"), "utf-8", line_buffering=True)
    os.chdir(here)
    make_cheap()
    before = set(sys.modules)
    if operations:
        operations.install()
    code = cli.main(words)
    if operations is None:
        ours = {
            name
            for name in set(sys.modules) - before
            if Path(getattr(sys.modules[name], "__file__", None) or sys.prefix).is_relative_to(
                sys.prefix
            )
        }
        (notes / "loaded").write_text(json.dumps(sorted(ours)))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def is_hidden(name: str) -> bool:
    """Of a path inside the place: whether a part of it begins with a dot."""
    return any(part.startswith(".") for part in Path(name).parts)


def content(path: Path, varying: set[str] | frozenset[str]) -> Any:
    """What must be equal of a file."""

    def arrays() -> dict[str, bytes]:
        with np.load(path) as stored:
            return {name: stored[name].tobytes() for name in stored.files}

    @torch.no_grad()
    def predictions() -> list[list[float]]:
        return torch.export.load(path).module()(torch.linspace(0, 1, 60).reshape(3, 10, 2)).tolist()  # type: ignore[no-any-return]

    readers: dict[str, Callable[[], Any]] = {
        ".json": lambda: without(json.loads(path.read_bytes()), varying),
        ".csv": lambda: [
            line.split(",")[:5] + line.split(",")[6:] for line in path.read_text().splitlines()
        ],
        ".yaml": lambda: [
            line
            for line in path.read_text().splitlines()
            if line.strip().partition(":")[0] not in varying
        ],
        ".npz": arrays,
        ".html": lambda: re.sub(r"\b20\d\d-\d\d-\d\d\b", "", path.read_text()),
        ".pt2": predictions,
    }
    return readers.get(path.suffix, path.read_bytes)()


def without(value: Any, keys: set[str] | frozenset[str]) -> Any:
    """A JSON document without these keys, wherever they are."""
    if isinstance(value, dict):
        return {key: without(item, keys) for key, item in value.items() if key not in keys}
    return [without(item, keys) for item in value] if isinstance(value, list) else value


def difference(expected: Any, found: Any) -> str:
    """The names of the files that differ."""
    names = sorted(
        name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)
    )
    return f"different: {', '.join(names)}" if names else "nothing different"


def make_cheap() -> None:
    """In a process of its own: pictures of a few bytes, lengths that are soon solved, workers that
    are forked."""

    def draw(path: Path, *_: Any) -> None:
        atomic_io.write(path, b"a picture")

    for name in ("draw_loss", "draw_predictions", "draw_horizon"):
        setattr(plots, name, draw)
    horizon.SOLVED = 10.0  # type: ignore[attr-defined]
    driver._POLL_SECONDS = (
        5.0  # the summary is written when something happens, and seldom because time has passed
    )
    forked = multiprocessing.get_context("fork")
    multiprocessing.get_context = lambda method=None: forked  # type: ignore[assignment]


def parts() -> dict[str, Callable[[Budget, random.Random, Path], Outcome]]:
    """A part for each command."""

    def part(name: str) -> Callable[[Budget, random.Random, Path], Outcome]:
        def run(budget: Budget, rng: random.Random, folder: Path) -> Outcome:
            resource_tracker.ensure_running()  # once, or else every worker's process brings one
            return killed(name, budget, rng, folder)

        return run

    return {f"commands: {name}": part(name) for name in CASES}
