"""Files from strangers: configurations and run folders, mutated and generated."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import struct
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torture_trials import Budget, Outcome, config_values, run_of, spoil

from adding_problem import config
from adding_problem.analysis import plots
from adding_problem.analysis.aggregate import collect
from adding_problem.config import KEYS, RunConfig
from adding_problem.errors import AddingProblemError
from adding_problem.evaluation import validate
from adding_problem.evaluation.load_model import load_model
from adding_problem.experiments.train import train
from adding_problem.runs.folder import RunFolder

LIMIT_SECONDS = 60

HOSTILE_VALUES: list[Any] = [
    None,
    True,
    0,
    -1,
    1,
    2**31,
    2**53 + 1,
    2**63,
    10**30,
    1.5,
    float("nan"),
    float("inf"),
    -0.0,
    1e-320,
    "",
    " ",
    "x" * 5000,
    "\x1b[2J",
    "../../../../etc/passwd",
    "/dev/zero",
    "con",
    "\u202e",
    [],
    [[]],
    {},
    {"a": {"b": []}},
    "!!python/object:os.system",
    "torch.nn.Linear",
    "null",
    "0x10",
    "1_000",
    "1e5",
    "2001-01-01",
    "<script>alert(1)</script>",
    "[/bold]",
    "%s%n",
    "${HOME}",
]
SPLINTERS = [
    "*a",
    "&a ",
    "!!int ''",
    "!!python/object/apply:os.system ['true']",
    "<<: ",
    "? ",
    "- ",
    ": ",
    "{",
    "}",
    "[",
    "]",
    "\t",
    "\x00",
    "\x85",
    "\ufeff",
    "---\n",
    "...\n",
    "%YAML 9.9\n",
    "|\n",
    ">\n",
    "'",
    '"',
    "#",
    "@",
    "`",
    "=",
    "~",
    "1:2:3",
    ".inf",
]


def configs(budget: Budget, rng: random.Random, folder: Path) -> Outcome:
    """Configurations: hostile values under known and unknown keys, and text spoiled at random."""
    outcome: Outcome = {
        "trials": 0,
        "accepted": 0,
        "refused": 0,
        "tracebacks": 0,
        "lost": 0,
        "peak_memory_mib": 0.0,
        "worst_seconds": 0.0,
    }
    leaves = list(KEYS)
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
        splinter = (
            rng.choice(SPLINTERS).encode()
            if rng.random() < 0.7
            else rng.randbytes(rng.randrange(1, 8))
        )
        data[place : place + rng.randrange(0, 12)] = splinter
    if rng.random() < 0.05:
        data = bytearray(rng.choice([b"[", b"{a: ", b"- ", b"'"]) * rng.randrange(1, 30_000))
    return bytes(data)


def folders(budget: Budget, rng: random.Random, folder: Path) -> Outcome:
    """Run folders with one to three files spoiled, or replaced by links, pipes and hostile
    content."""
    outcome: Outcome = {
        "trials": 0,
        "read": 0,
        "refused": 0,
        "escaped": 0,
        "tracebacks": 0,
        "lost": 0,
        "peak_memory_mib": 0.0,
        "worst_seconds": 0.0,
    }
    good, cut, secret = folder / "good", folder / "half", folder / "secret"
    small = {"train.epochs": 2, "dataset.dt_length": 300}
    run = config.load(None, config_values(run_of("original", "torch", good)) | small)
    train(run)
    validate.validate(run)
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
    outcome["escaped"] = sum(
        not file.exists() or file.read_bytes() != data for file, data in before.items()
    )
    outcome["peak_memory_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return outcome


def readers(path: Path, trial: int) -> list[Callable[[], object]]:
    """All that a user may do with a stranger's folder."""
    run = RunFolder(path)
    small = config.load(
        None,
        config_values(run_of("original", "torch", path))
        | {"train.epochs": 2, "dataset.dt_length": 300, "validate.dt_length": 20},
    )
    actions: list[Callable[[], object]] = [
        run.read_result,
        run.read_history,
        run.read_score,
        lambda: run.holds_finished(small),
        lambda: load_model(str(path)),
    ]
    if trial % 8 == 3:
        actions.append(lambda: train(small, resume=True))
    if trial % 20 == 0:  # pictures take half a second each
        actions += [
            lambda: plots.draw_comparison(path.parent / "comparison.png", collect([path])),
            lambda: validate.validate(small),
        ]
    if trial % 40 == 5:
        actions.append(lambda: train(small, overwrite=True))
    return actions


def spoil_folder(path: Path, secret: Path, rng: random.Random) -> None:
    """One change to a run folder."""
    inside = [
        file
        for file in path.rglob("*")
        if file.is_file() and not file.is_symlink() and not file.parent.is_symlink()
    ]
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
        file.write_bytes(
            rng.choice([b"", b"\x00" * 100, b"[" * 100_000, rng.randbytes(5000), b"\xff" * 20])
        )
    elif kind == 4 and (path / "model").is_dir() and not (path / "model").is_symlink():
        shutil.rmtree(path / "model")
        (path / "model").symlink_to(secret / "model")
    elif (
        kind == 5 and (weights := path / "model" / "model.safetensors") in inside
    ):  # and not behind a link
        weights.write_bytes(hostile_safetensors(rng))
    else:
        spoil_document(file, rng)


def hostile_safetensors(rng: random.Random) -> bytes:
    """A file whose header lies."""
    shape = rng.choice([[2**40], [2**20, 2**20, 2**20], [-1], [0], [10**30], [1]])
    end = rng.choice([4, 2**40, 2**63, -4, 0])
    header = json.dumps(
        {
            "lstm.weight_ih_l0": {
                "dtype": rng.choice(["F32", "F8_E4M3", "I64", "Q"]),
                "shape": shape,
                "data_offsets": [0, end],
            }
        }
    ).encode()
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
