"""Single runs that are killed, damaged or without room on their disk, and what their checkpoints
cost."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from torture_trials import (
    COMBINATIONS,
    Budget,
    Operations,
    Outcome,
    die,
    disk_full,
    in_child,
    numbers_of,
    reference,
    run_of,
    spoil,
)

from adding_problem import config
from adding_problem.config import RunConfig
from adding_problem.evaluation.load_model import load_model
from adding_problem.experiments.train import train
from adding_problem.runs.folder import RunFolder
from adding_problem.training import checkpoints


def kills(budget: Budget, rng: random.Random, folder: Path) -> Outcome:
    """Chains of kills and resumptions, until as many kills have hit."""
    uncut: dict[tuple[str, str], tuple[dict[str, Any], float, int]] = {}
    outcome: Outcome = {
        "trials": 0,
        "at_random_moments": 0,
        "at_file_operations": 0,
        "chains": 0,
        "lost": 0,
        "tracebacks": 0,
        "peak_memory_mib": 0.0,
        "worst_seconds": 0.0,
    }
    while outcome["trials"] < budget.trials and not budget.spent:
        pair: tuple[str, str] = COMBINATIONS[outcome["chains"] % len(COMBINATIONS)]
        numbers, seconds, operations = uncut[pair] = uncut.get(pair) or reference(*pair, folder)
        path = folder / "chain"
        shutil.rmtree(path, ignore_errors=True)
        run = run_of(*pair, path)
        for _ in range(40):
            begin = time.perf_counter()
            last = outcome["trials"] >= budget.trials or budget.spent
            if last or rng.random() < 0.1:
                status, words, memory = in_child(partial(train, run, resume=True))
            elif rng.random() < 0.5:
                at = rng.randrange(1, operations)

                def cut(run: RunConfig = run, at: int = at) -> None:
                    Operations(at, die).install()
                    train(run, resume=True)

                status, words, memory = in_child(cut)
                outcome["at_file_operations"] += status == -signal.SIGKILL
            else:
                status, words, memory = in_child(
                    partial(train, run, resume=True), rng.uniform(0, seconds)
                )
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
    """Half of the trials damage the newest checkpoint or both, half the weights of a finished
    run."""
    uncut = {pair: reference(*pair, folder) for pair in COMBINATIONS}
    outcome: Outcome = {
        "trials": 0,
        "fell_back": 0,
        "refused": 0,
        "lost": 0,
        "tracebacks": 0,
        "peak_memory_mib": 0.0,
        "worst_seconds": 0.0,
    }
    cut = {}
    for pair in COMBINATIONS:
        cut[pair] = folder / "-".join(("cut", *pair))
        run = run_of(*pair, cut[pair])

        def stop(run: RunConfig = run) -> None:
            checkpoints._MOST_COST = 1.0  # one after every epoch
            write, written = RunFolder.write_checkpoint, itertools.count(1)

            def the_third_is_the_last(*arguments: Any) -> None:
                write(*arguments)
                if next(written) == 3:
                    die()

            setattr(RunFolder, write.__name__, the_third_is_the_last)
            train(run, resume=True)

        in_child(stop)
    for trial in budget:
        pair = COMBINATIONS[trial % len(COMBINATIONS)]
        path = folder / "damaged"
        shutil.rmtree(path, ignore_errors=True)
        begin = time.perf_counter()
        if trial % 3 == 2:
            shutil.copytree(folder / f"uncut-{pair[0]}-{pair[1]}", path)
            spoil(path / "model" / "model.safetensors", rng)
            status, words, memory = in_child(partial(load_model, path))
            right = status == 2  # read as if nothing had happened would be a silent loss
        else:
            shutil.copytree(cut[pair], path)
            names = sorted(file.name for file in path.glob("checkpoint*"))
            spoil(path / "checkpoint.safetensors", rng)
            if trial % 6 == 1:
                for name in names:
                    spoil(path / name, rng)
            run = run_of(*pair, path)
            status, words, memory = in_child(partial(train, run, resume=True))
            right = (
                numbers_of(path) == uncut[pair][0]
                if status == 0
                else trial % 6 == 1 and status == 2
            )
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


def disk(budget: Budget, rng: random.Random, folder: Path) -> Outcome:
    """Every operation on files in turn finds the disk full, with the seed choosing one of four
    runs; then a disk of 2 MB.

    With a number of trials above 0, as many of the operations, drawn.
    """
    outcome: Outcome = {
        "trials": 0,
        "typed_errors": 0,
        "unharmed": 0,
        "lost": 0,
        "tracebacks": 0,
        "real_disk_trials": 0,
        "peak_memory_mib": 0.0,
        "worst_seconds": 0.0,
    }
    pair = rng.choice(COMBINATIONS)
    numbers, _, operations = reference(*pair, folder, short=True)
    every = list(range(1, operations + 1))
    for at in rng.sample(every, min(budget.trials, len(every))) if budget.trials else every:
        if budget.spent:
            return outcome
        shutil.rmtree(folder / "full", ignore_errors=True)
        run = run_of(*pair, folder / "full", short=True)

        def fill(run: RunConfig = run, at: int = at) -> None:
            Operations(at, disk_full, deletions=False).install()
            train(run)

        _one_full_disk(outcome, fill, lambda: None, run, numbers)
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        _real_disk(outcome, pair, numbers, folder / "tmpfs")
    return outcome


def _one_full_disk(
    outcome: Outcome,
    fill: Callable[[], object],
    make_room: Callable[[], None],
    run: RunConfig,
    numbers: dict[str, Any],
) -> None:
    """A run on a full disk, then its resumption when there is room again."""
    begin = time.perf_counter()
    status, words, memory = in_child(fill)
    outcome["typed_errors"] += status == 2
    outcome["unharmed"] += (
        status == 0
    )  # an operation that may fail, such as flushing a folder's own entry
    outcome["tracebacks"] += status == 99
    make_room()
    again, more_words, _ = in_child(partial(train, run, resume=True))
    right = again == 0 and numbers_of(Path(run.artifacts)) == numbers
    outcome["trials"] += 1
    outcome["lost"] += not right
    outcome["peak_memory_mib"] = max(outcome["peak_memory_mib"], memory / 1024)
    outcome["worst_seconds"] = max(outcome["worst_seconds"], time.perf_counter() - begin)
    if not right or status == 99:
        print(words, more_words, file=sys.stderr)


def _real_disk(
    outcome: Outcome, pair: tuple[str, str], numbers: dict[str, Any], place: Path
) -> None:
    """A tmpfs that is filled but for some KiB, and emptied for the resumption."""
    place.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)], check=False
    ).returncode:
        return
    run, ballast = run_of(*pair, place / "run", short=True), place / "ballast"
    try:
        for free in (0, 4, 12, 24, 60, 100, 160, 240):
            shutil.rmtree(place / "run", ignore_errors=True)
            ballast.write_bytes(bytes((2048 - free) << 10))
            _one_full_disk(outcome, partial(train, run), ballast.unlink, run, numbers)
            outcome["real_disk_trials"] += 1
    finally:
        subprocess.run(["umount", str(place)], check=False)


def cost(budget: Budget, rng: random.Random, folder: Path) -> Outcome:
    """What share of the time is spent on writing checkpoints, at default settings."""
    outcome: Outcome = {
        "trials": 0,
        "seconds": 0.0,
        "writing_seconds": 0.0,
        "written": 0,
        "largest_share": 0.0,
        "lost": 0,
        "tracebacks": 0,
    }
    for trial in budget:
        recipe, backend = COMBINATIONS[trial % len(COMBINATIONS)]
        run = config.load(
            None,
            {
                "recipe": recipe,
                "backend": backend,
                "artifacts": str(folder / f"cost-{trial}"),
                "seed": trial,
            }
            | (
                {"dataset.t": 1000}
                if recipe == "fast"
                else {"dataset.t": 150, "dataset.dt_length": 10_000, "train.epochs": 2}
            ),
        )
        spent = [0.0, 0.0]
        for name in ("write_history", "write_checkpoint"):
            timed(name, spent)
        result = train(run)
        outcome["trials"] += 1
        outcome["seconds"] += result.seconds
        outcome["writing_seconds"] += spent[0]
        outcome["written"] += int(spent[1])
        outcome["largest_share"] = max(outcome["largest_share"], spent[0] / result.seconds)
    return outcome


REALLY = {name: getattr(RunFolder, name) for name in ("write_history", "write_checkpoint")}


def timed(name: str, spent: list[float]) -> None:
    """Have a method of `RunFolder` add its time to a list, and its calls if it writes
    checkpoints."""

    def method(*arguments: Any) -> None:
        begin = time.perf_counter()
        REALLY[name](*arguments)
        spent[0] += time.perf_counter() - begin
        spent[1] += name == "write_checkpoint"

    setattr(RunFolder, name, method)
