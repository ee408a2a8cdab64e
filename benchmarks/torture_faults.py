"""A fixture for each kind of fault that was ever found, and for its neighbours, through the command
line.

Each fixture is an empty folder, filled by code; the commands that are given in it, each in a forked
process, or in one of its own where streams or limits matter; and what they must answer and leave.
What it finds is of four kinds:

    lost         something that was there before is gone or changed, or a result that must come
                 does not come
    tracebacks   a command ends in a traceback
    wrong        a command that must refuse ends with 0, or what it leaves is wrong
    unexpected   another exit code, or a message that does not say what it must
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import json
import os
import pickle
import random
import shlex
import shutil
import subprocess
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torture_commands import CLIMB, FOREIGN, SMALL, SWEEP_FILE, TRAIN, give
from torture_trials import Budget, Operations, Outcome, die, in_child

from adding_problem.runs.lock import lock_folder

ANSI = "e\x1b[31m\nerror: forged"
ANSI_YAML = 'artifacts: "e\\e[31m\\nerror: forged"\n'
SECONDS = 120


class Trial:
    """One fixture under way: its folder, and what is wrong so far.

    Attributes:
        path: an empty folder, in which the commands are given.
        problems: kind and text of each.
        peak: largest memory of a command, in MiB.
    """

    def __init__(self, path: Path, made: Path) -> None:
        self.path, self._made, self._notes = path, made, path.parent
        self.problems: list[tuple[str, str]] = []
        self.peak, self._last = 0.0, ""

    def copy(self, name: str, to: str | None = None) -> Path:
        """What is made once for all fixtures: `precious`, a run; `climb`, a horizon run over T =
        10."""
        return Path(shutil.copytree(self._made / name, self.path / (to or name), symlinks=True))

    def write(self, name: str, text: str | bytes) -> Path:
        """A file in the folder."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    def give(self, *words: str, code: int | tuple[int, ...] = 0, says: str = "") -> str:
        """Give a command that must end with this code, or one of these, and say this."""
        status, said, memory = give(list(words), self.path, self._notes)
        self.peak = max(self.peak, memory / 1024)
        return self._judge(shlex.join(words), status, said, code, says)

    def process(self, script: str, code: int, says: str = "", **environment: str) -> str:
        """The same with a line of bash, in which `$AP` is the program."""
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self.path,
            capture_output=True,
            check=False,
            timeout=SECONDS,
            env={
                **os.environ,
                **environment,
                "AP": f"{shlex.quote(sys.executable)} -m adding_problem",
            },
        )
        return self._judge(
            script,
            done.returncode,
            (done.stdout + done.stderr).decode(errors="replace"),
            code,
            says,
        )

    def _judge(
        self, what: str, status: int, said: str, code: int | tuple[int, ...], says: str
    ) -> str:
        if "Traceback (most recent call last)" in said:
            self.problems.append(("tracebacks", f"{what}: {said[-600:]}"))
        elif status not in (code if isinstance(code, tuple) else (code,)):
            self.problems.append(
                (
                    "wrong" if status == 0 else "unexpected",
                    f"{what}: ended with {status}, not {code}: {said[-400:]}",
                )
            )
        if says not in said:
            self.problems.append(("unexpected", f"{what}: does not say {says!r}: {said[-400:]}"))
        return said

    def holds(self, condition: bool, what: str, kind: str = "wrong") -> None:
        """Note a problem unless this holds."""
        if not condition:
            self.problems.append((kind, what))

    @contextmanager
    def unchanged(self, *names: str) -> Iterator[None]:
        """What these folders hold, all of it without a name, is the same after the block."""
        places = [self.path / name for name in names] or [self.path]
        before = [contents(place) for place in places]
        yield
        for place, was in zip(places, before, strict=True):
            now = contents(place)
            changed = sorted(
                name for name in was.keys() | now.keys() if was.get(name) != now.get(name)
            )
            self.holds(not changed, f"{place.name}: changed: {', '.join(changed[:5])}", "lost")


def contents(place: Path) -> dict[str, Any]:
    """Every file and link in a folder, but for locks."""
    found: dict[str, Any] = {}
    for folder, below, names in os.walk(place):
        for name in [*below, *names]:
            path = Path(folder, name)
            if path.name.startswith(".lock"):
                continue
            if path.is_symlink():
                found[str(path.relative_to(place))] = str(path.readlink())
            elif path.is_file():
                found[str(path.relative_to(place))] = path.read_bytes()
    return found


Fixture = Callable[[Trial], None]
FIXTURES: dict[str, Fixture] = {}


def fixture(name: str) -> Callable[[Fixture], Fixture]:
    """Registers a fixture."""

    def register(function: Fixture) -> Fixture:
        FIXTURES[name] = function
        return function

    return register


def each(
    name: str, values: Any
) -> Callable[[Callable[[Trial, Any], None]], Callable[[Trial, Any], None]]:
    """Registers a fixture for each value."""

    def register(function: Callable[[Trial, Any], None]) -> Callable[[Trial, Any], None]:
        for value in values:
            FIXTURES[f"{name}: {str(value)[:60]}"] = lambda trial, value=value: function(
                trial, value
            )  # type: ignore[misc]
        return function

    return register


def faults(budget: Budget, rng: random.Random, folder: Path) -> Outcome:
    """Every fixture; with a number of trials above 0, as many of them, drawn."""
    made, outcome = folder / "made", Counter[str]()
    made.mkdir()
    maker = Trial(made, made)
    maker.give("train", *SMALL, "--train.epochs", "1", "--artifacts", "precious")
    maker.give(*OVER_10)
    if maker.problems:
        sys.exit(str(maker.problems))
    peak = worst = 0.0
    chosen = (
        rng.sample(sorted(FIXTURES), min(budget.trials, len(FIXTURES)))
        if budget.trials
        else list(FIXTURES)
    )
    for name in chosen:
        if budget.spent:
            break
        begin, place = time.perf_counter(), folder / "trial"
        shutil.rmtree(place, ignore_errors=True)
        (place / "here").mkdir(parents=True)
        trial = Trial(place / "here", made)
        try:
            FIXTURES[name](trial)
        except NotInstalledError as reason:
            print(f"left out: {name}: {reason}", file=sys.stderr)
            outcome["left_out"] += 1
            continue
        outcome["trials"] += 1
        outcome["as_expected"] += not trial.problems
        for kind in {kind for kind, _ in trial.problems}:
            outcome[kind] += 1
        for kind, text in trial.problems:
            print(f"{name}: {kind}: {text}", file=sys.stderr)
        peak, worst = max(peak, trial.peak), max(worst, time.perf_counter() - begin)
    keys = ("trials", "as_expected", "left_out", "unexpected", "lost", "tracebacks")
    return {
        **{key: outcome[key] for key in keys},
        "wrong_without_a_word": outcome["wrong"],
        "peak_memory_mib": peak,
        "worst_seconds": worst,
    }


class NotInstalledError(Exception):
    """A fixture that needs what is not installed."""


# --- folders of runs ------------------------------------------------------------------------------

OVER_10 = [word for word in CLIMB if word != "5"]
OVER_20 = ["horizon", "--lengths", "20", *OVER_10[3:]]


@fixture("horizon --overwrite beside a link and a run of the user's")
def _(trial: Trial) -> None:
    trial.copy("precious")
    trial.copy("precious", "climb/t150_my_paper_run")
    (trial.path / "climb" / "t100").symlink_to("../precious")
    with trial.unchanged("precious", "climb/t150_my_paper_run"):
        trial.give(*OVER_20, "--overwrite")


@each(
    "horizon where a link stands",
    [
        (to, more)
        for to in ("../precious", "t300", "t20", "../nothing")
        for more in ("", "--overwrite")
    ],
)
def _(trial: Trial, case: tuple[str, str]) -> None:
    to, more = case
    trial.copy("precious")
    trial.copy("precious", "climb/t300")
    (trial.path / "climb" / "t20").symlink_to(to)
    with trial.unchanged():
        trial.give(*OVER_20, *filter(None, [more]), code=2, says="t20: is a link")


@fixture("horizon --overwrite where a run stands that is not recorded")
def _(trial: Trial) -> None:
    trial.copy("precious", "climb/t20")
    with trial.unchanged():
        trial.give(*OVER_20, "--overwrite", code=2, says="is not deleted")


@fixture("horizon --overwrite of a run with a link that leads out")
def _(trial: Trial) -> None:
    trial.copy("precious")
    climb = trial.copy("climb")
    shutil.rmtree(climb / "t10" / "model")
    (climb / "t10" / "model").symlink_to("../../precious/model")
    with trial.unchanged():
        trial.give(*OVER_10, "--overwrite", code=2, says="leads out")


@each("a record of runs that leads out", ["../precious", "..", "link", "a\0", "/"])
def _(trial: Trial, name: str) -> None:
    precious, climb = trial.copy("precious"), trial.copy("climb")
    (climb / "link").symlink_to("../precious")
    document = json.loads((climb / "horizon.json").read_text())
    digest = hashlib.sha256((precious / "config_copy.yaml").read_bytes()).hexdigest()
    document["runs"].append({"name": name, "config": digest})
    (climb / "horizon.json").write_text(json.dumps(document))
    with trial.unchanged("precious"):
        trial.give(*OVER_10, "--overwrite")


SUMMARIES = {"horizon": "climb/horizon.json", "sweep": "swept/sweep.json"}


@each(
    "a summary of another program",
    [(command, text) for command in SUMMARIES for text in ("{}", "[]", '{"runs": 3}', "[" * 9999)],
)
def _(trial: Trial, case: tuple[str, str]) -> None:
    command, text = case
    trial.write("sweep.yaml", SWEEP_FILE)
    trial.write(SUMMARIES[command], text)
    with trial.unchanged():
        trial.give(
            *(
                OVER_10
                if command == "horizon"
                else ["sweep", "--config", "sweep.yaml", "--workers", "1"]
            ),
            code=2,
            says="another program's",
        )


@each("a summary that is a link", ["horizon", "sweep"])
def _(trial: Trial, command: str) -> None:
    trial.copy("climb")
    trial.write("sweep.yaml", SWEEP_FILE)
    trial.write("elsewhere.json", (trial.path / "climb" / "horizon.json").read_bytes())
    file = SUMMARIES.get(command, "swept/sweep.json")
    (trial.path / file).parent.mkdir(exist_ok=True)
    (trial.path / file).unlink(missing_ok=True)
    (trial.path / file).symlink_to("../elsewhere.json")
    words = {
        "horizon": OVER_10,
        "sweep": ["sweep", "--config", "sweep.yaml", "--workers", "1"],
    }
    with trial.unchanged():
        trial.give(*words[command], code=2, says="leads out")


@fixture("report of a folder whose horizon.json leads out")
def _(trial: Trial) -> None:
    climb = trial.copy("climb")
    (climb / "horizon.json").rename(trial.path / "elsewhere.json")
    (climb / "horizon.json").symlink_to("../elsewhere.json")
    trial.give(
        "report",
        "climb",
        "--lengths",
        "10",
        "--sequences",
        "10",
        "--out",
        "page.html",
        "--threads",
        "1",
        says="left out",
    )


@fixture("a planned run of a sweep is a link")
def _(trial: Trial) -> None:
    trial.write("sweep.yaml", SWEEP_FILE)
    trial.copy("precious")
    trial.give("sweep", "--config", "sweep.yaml", "--workers", "1")
    (run, *_) = (path.parent for path in (trial.path / "swept").glob("*/result.json"))
    shutil.rmtree(run)
    run.symlink_to("../precious")
    with trial.unchanged():
        trial.give("sweep", "--config", "sweep.yaml", "--workers", "1", code=2, says="is a link")


@fixture("two sweeps on one folder")
def _(trial: Trial) -> None:
    trial.write("sweep.yaml", SWEEP_FILE.replace("epochs: 1", "epochs: 200, es_patience: null"))
    words = ["sweep", "--config", "sweep.yaml", "--workers", "1"]
    pid = os.fork()
    if pid == 0:
        (trial.path.parent / "first").mkdir()
        status, _, _ = give(words, trial.path, trial.path.parent / "first")
        os._exit(status if status >= 0 else 99)
    until = time.perf_counter() + 60
    while not list((trial.path / "swept").glob("*/metrics.csv")) and time.perf_counter() < until:
        time.sleep(0.02)
    trial.give(*words, code=2, says="is at work in it")
    _, status = os.waitpid(pid, 0)
    trial.holds(os.waitstatus_to_exitcode(status) == 0, "the first sweep failed", "lost")
    counts = json.loads((trial.path / "swept" / "sweep.json").read_text())["counts"]
    trial.holds(counts == {"done": 2}, f"sweep.json says {counts}")


@fixture("the lock of a dead process, and a foreign file beside it")
def _(trial: Trial) -> None:
    (trial.path / "run").mkdir()

    def hold_and_die() -> None:
        with lock_folder(trial.path / "run"):
            die()

    in_child(hold_and_die)
    holder = trial.path / "run" / ".lock-holder.json"
    trial.holds(holder.is_file(), "no lock was left", "unexpected")
    trial.write("run/.DS_Store", "mine")
    trial.give("train", *SMALL, "--train.epochs", "1", "--artifacts", "run")
    kept = (trial.path / "run" / ".DS_Store").read_text() == "mine"
    trial.holds(kept, "the foreign file is gone", "lost")
    trial.holds(not holder.exists(), "litter of locks")


# --- single runs ----------------------------------------------------------------------------------


@each("a run that was cut while it was given more epochs, with the old budget", range(2, 60, 8))
def _(trial: Trial, at: int) -> None:
    short = [*TRAIN, "--train.epochs", "2"]
    trial.give(*short)
    before = contents(trial.path / "run")
    status, _, _ = give(
        [*TRAIN, "--train.epochs", "4", "--resume"],
        trial.path,
        trial.path.parent,
        Operations(at, die),
    )
    if (trial.path / "run" / "config_copy.yaml").read_bytes() == before["config_copy.yaml"]:
        trial.give(*short, "--resume")
        for name in ("model/model.safetensors", "loss.pkl"):
            trial.holds((trial.path / "run" / name).read_bytes() == before[name], f"another {name}")
    elif status:
        trial.give(*short, "--resume", code=2, says="another configuration")


@fixture("a folder whose name is not UTF-8")
def _(trial: Trial) -> None:
    trial.give(*TRAIN, "--train.epochs", "4")
    there = os.fsdecode(b"caf\xe9")
    words = ["train", *SMALL, "--train.epochs", "4", "--artifacts", there]
    give(words, trial.path, trial.path.parent, Operations(40, die))
    trial.give(*words, "--resume")
    trial.give("validate", "--artifacts", there)
    trial.give(
        "report",
        there,
        "--lengths",
        "10",
        "--sequences",
        "10",
        "--out",
        "page.html",
        "--threads",
        "1",
    )
    for name in ("model/model.safetensors", "loss.pkl"):
        trial.holds(
            (trial.path / there / name).read_bytes() == (trial.path / "run" / name).read_bytes(),
            f"another {name}",
        )


@fixture("a run that diverges")
def _(trial: Trial) -> None:
    trial.give(
        *TRAIN,
        "--train.learning_rate",
        "1e38",
        "--train.clip_value",
        "1e38",
        code=3,
        says="diverged",
    )
    trial.give("validate", "--artifacts", "run", code=3)

    def refuse(name: str) -> None:
        trial.problems.append(("wrong", f"{name} in a JSON file"))

    for file in (trial.path / "run").rglob("*.json"):
        json.loads(file.read_text(), parse_constant=refuse)


@fixture("a result without a number")
def _(trial: Trial) -> None:
    file = trial.copy("precious") / "result.json"
    result = json.loads(file.read_text())
    file.write_text(json.dumps(result | {"best_val_loss": None}))
    trial.give("validate", "--artifacts", "precious")
    del result["best_val_loss"]
    file.write_text(json.dumps(result))
    trial.give("validate", "--artifacts", "precious", code=2, says="best_val_loss")


@fixture("more epochs than there may be")
def _(trial: Trial) -> None:
    trial.give(*TRAIN, "--train.epochs", "1000001", code=2, says="epochs")
    trial.holds(not (trial.path / "run").exists(), "a folder was made")


# --- models of the user's own ---------------------------------------------------------------------

MODELS = """\
import torch
from torch import nn
from pathlib import Path
Path("imported").touch()
class M(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.out = nn.GRU(2, 3, batch_first=True), nn.Linear(3, 1)
        self.h, self.past = None, [0.0]
        self.register_buffer("mean", torch.zeros(1))
    def forward(self, x): return self.out(self.rnn(x)[0][:, -1])
class Carrying(M):
    def forward(self, x):
        y, h = self.rnn(x, self.h if self.h is not None and self.h.shape[1] == len(x) else None)
        self.h = h.detach()
        return self.out(y[:, -1])
class Behind(Carrying):
    def __init__(self):
        super().__init__()
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
class Averaging(M):
    def forward(self, x):
        y = super().forward(x) + self.mean
        self.mean = 0.9 * self.mean + 0.1 * x.mean()
        return y
class Outside(M):
    past = [0.0]
    def forward(self, x):
        y = super().forward(x) + PAST[0]
        PAST[0] = x.mean().item()
        return y
PAST = [0.0]
"""
OF_A_FILE = """\
model: {name: 'mine.py:M'}
dataset: {t: 10, dt_length: 60}
train: {epochs: 1, batch: 32}
threads: 1
artifacts: run
"""
OWN = [
    *SMALL[:4],
    "--train.batch",
    "32",
    "--validate.dt_length",
    "20",
    "--threads",
    "1",
    "--train.epochs",
    "1",
]


@each("a configuration that names code", ["train", "validate", "horizon", "sweep"])
def _(trial: Trial, command: str) -> None:
    trial.write("mine.py", MODELS)
    trial.write("c.yaml", OF_A_FILE + "grid: {seed: [0, 1]}\n" * (command == "sweep"))
    trial.give(command, "--config", "c.yaml", code=2, says="add --trust")
    trial.give(
        command,
        "--config",
        "c.yaml",
        *(["--dry_run"] if command == "sweep" else ["--print_config"]),
    )
    trial.holds(not (trial.path / "imported").exists(), "the code was run")


@each("a model that keeps its state", ["Carrying", "Behind", "Averaging", "Outside"])
def _(trial: Trial, name: str) -> None:
    trial.write("mine.py", MODELS)
    trial.give(
        "train",
        "--model",
        f"mine.py:{name}",
        *OWN,
        "--artifacts",
        "run",
        code=2,
        says="keeps its state between calls",
    )
    trial.holds(not (trial.path / "run").exists(), "a folder was made")


@fixture("a model that keeps its state from now on")
def _(trial: Trial) -> None:
    trial.write("mine.py", MODELS)
    trial.give("train", "--model", "mine.py:M", *OWN, "--artifacts", "run")
    trial.write("mine.py", MODELS + "M = Carrying\n")
    trial.give(
        "validate",
        "--model",
        "mine.py:M",
        "--artifacts",
        "run",
        code=2,
        says="keeps its state between calls",
    )
    trial.holds(not (trial.path / "run" / "validation.json").exists(), "it was scored")


# --- YAML and the terminal ------------------------------------------------------------------------


@each("YAML 1.1", ["dataset: {t: 1:40}", "train: {learning_rate: 0:30.5}"])
def _(trial: Trial, text: str) -> None:
    trial.write("c.yaml", text)
    trial.give("train", "--config", "c.yaml", "--artifacts", "run", code=2)
    trial.holds(not (trial.path / "run").exists(), "a folder was made")


@each(
    "a number with a leading zero", [("seed: 010", "seed: 10 "), ("dataset: {t: 0100}", "t: 100 ")]
)
def _(trial: Trial, case: tuple[str, str]) -> None:
    trial.write("c.yaml", case[0])
    said = trial.give("train", "--config", "c.yaml", "--print_config")
    trial.holds(
        any(line.strip().startswith(case[1]) for line in said.splitlines()),
        f"{case[0]} is not {case[1]}",
    )


ON_A_SHELL = shlex.join([*TRAIN, "--train.epochs", "2"])


@each(
    "standard output that fails", [("> /dev/full", 74), ("| head -n 0; exit ${PIPESTATUS[0]}", 141)]
)
def _(trial: Trial, case: tuple[str, int]) -> None:
    where, code = case
    trial.process(f"$AP {ON_A_SHELL} {where}", code)
    trial.holds((trial.path / "run" / "result.json").is_file(), "the run is not complete", "lost")


@fixture("an encoding without the signs that are printed")
def _(trial: Trial) -> None:
    trial.copy("precious")
    trial.process("$AP validate --artifacts precious", 0, says="MSE", PYTHONIOENCODING="ascii")


@each("control characters in names", ["train", "validate", "horizon", "export", "import", "data"])
def _(trial: Trial, command: str) -> None:
    trial.write(
        "c.yaml",
        ANSI_YAML
        + "dataset: {t: 10, dt_length: 60}\nmodel: {hidden: 4}\ntrain: {epochs: 1, batch: 32}\n"
        "validate: {dt_length: 20}\nthreads: 1\n",
    )
    trial.copy("precious", ANSI)
    words = {
        "train": ["--config", "c.yaml", "--overwrite"],
        "validate": ["--config", "c.yaml"],
        "horizon": ["--config", "c.yaml", "--lengths", "10", "--minutes", "0.01"],
        "export": [ANSI, "--to", "torch-export"],
        "import": [str(FOREIGN / "model.keras"), "--out", ANSI],
        "data": ["--n", "2", "--length", "5", "--out", f"{ANSI}.npz"],
    }
    said = trial.give(command, *words[command], code=(0, 2))
    trial.holds(
        "\x1b" not in said and "\nerror: forged" not in f"\n{said}", f"the terminal got {said!r}"
    )
    trial.holds("\N{REPLACEMENT CHARACTER}" in said, "the name was not shown", "unexpected")


@fixture("a score that fills the disk")
def _(trial: Trial) -> None:
    trial.copy("precious")
    with trial.unchanged():
        trial.give(
            "validate", "--artifacts", "precious", "--validate.dt_length", "1000000000000", code=74
        )


# --- imports --------------------------------------------------------------------------------------

ARCHITECTURES = json.loads(gzip.decompress((FOREIGN / "architectures.json.gz").read_bytes()))
OTHER_WAYS = {
    "float64",
    "mask",
    "dropout_always",
    "dropout_in_cell_always",
}  # the same predictions, but not told by the file


def needs(module: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise NotInstalledError(f"{module} is not installed")


def keras_file(trial: Trial, config: Any) -> None:
    """A `.keras` file of this architecture, with the weights of another one."""
    with zipfile.ZipFile(FOREIGN / "model.keras") as source:
        weights = source.read("model.weights.h5")
    with zipfile.ZipFile(trial.path / "model.keras", "w") as target:
        target.writestr("config.json", json.dumps(config))
        target.writestr("model.weights.h5", weights)


@each(
    "a model of Keras",
    [
        (index, each["case"], each["version"], each["file"])
        for index, each in enumerate(ARCHITECTURES)
    ],
)
def _(trial: Trial, case: tuple[int, str, str, str]) -> None:
    model = ARCHITECTURES[case[0]]
    needs("h5py")
    keras_file(trial, model["config"])
    ours = model["same"] and model["case"] not in OTHER_WAYS
    trial.give("import", "model.keras", "--out", "run", "--threads", "1", code=0 if ours else 2)
    trial.holds(ours or not (trial.path / "run").exists(), "a folder was made")


@fixture("a SavedModel that does not say what it computes")
def _(trial: Trial) -> None:
    shutil.copytree(FOREIGN / "original", trial.path / "original")
    (trial.path / "original" / "model" / "keras_metadata.pb").unlink()
    trial.give("import", "original", "--out", "run", code=2, says="--trust")
    trial.holds(not (trial.path / "run").exists(), "a folder was made")


@fixture("a log that holds what is not read")
def _(trial: Trial) -> None:
    needs("tensorflow")
    shutil.copytree(FOREIGN / "original", trial.path / "original")
    trial.write(
        "original/loss.pkl",
        pickle.dumps({"loss": [0.2], "val_loss": [0.1], "lr": [np.float32(1e-3)]}),
    )
    trial.give(
        "import",
        "original",
        "--out",
        "run",
        "--threads",
        "1",
        says="WARNING: the run has no history",
    )


@each(
    "a file of Keras",
    [
        ("model.keras", "model.keras"),
        ("model_2.h5", "model.h5"),
        ("model_3.h5", "model.hdf5"),
        ("model_2.h5", "model.keras"),
    ],
)
def _(trial: Trial, names: tuple[str, str]) -> None:
    needs("h5py")
    trial.write(names[1], (FOREIGN / names[0]).read_bytes())
    trial.give("import", names[1], "--out", "run", "--threads", "1", says="T = 12")


@each("a state_dict", ["no predictions", "other predictions", "its predictions"])
def _(trial: Trial, given: str) -> None:
    torch.manual_seed(1)
    lstm, linear = torch.nn.LSTM(2, 6, batch_first=True), torch.nn.Linear(6, 1)
    safetensors.torch.save_file(
        {**lstm.state_dict(), **linear.state_dict()}, trial.path / "model.safetensors"
    )
    x = torch.rand(50, 10, 2)
    with torch.no_grad():
        y = linear(lstm(x)[1][0][0])
    np.savez(
        trial.path / "answers.npz",
        x=x.numpy(),
        y=(torch.sigmoid(y) if given == "other predictions" else y).numpy(),
    )
    more = [] if given == "no predictions" else ["--predictions", "answers.npz"]
    trial.give(
        "import",
        "model.safetensors",
        "--out",
        "run",
        "--dataset.t",
        "10",
        "--threads",
        "1",
        *more,
        code=0 if given == "its predictions" else 2,
    )
    trial.holds(
        (trial.path / "run").exists() == (given == "its predictions"), "a folder was made, or none"
    )


# --- limits ---------------------------------------------------------------------------------------


@fixture("a description of a model that is larger than its weights")
def _(trial: Trial) -> None:
    file = trial.copy("precious") / "model" / "model.json"
    trial.give("validate", "--artifacts", "precious")
    ordinary, trial.peak = trial.peak, 0.0
    hostile = {"family": "s6", "arguments": {"hidden": 2840, "states": 65_536, "layers": 1}}
    file.write_text(json.dumps(json.loads(file.read_text()) | hostile))
    trial.give(
        "validate",
        "--artifacts",
        "precious",
        code=2,
        says="does not hold what model.json describes",
    )
    trial.holds(
        trial.peak < ordinary + 64, f"{trial.peak:.0f} MiB, and {ordinary:.0f} for an ordinary one"
    )


@each(
    "a model that no memory holds",
    [
        (["--model", "mingru", "--model.layers", "1000000"], ""),
        (
            ["--model", "tcn", "--model.hidden", "1048576", "--model.kernel", "65536"],
            "memory: to build the model takes",
        ),
    ],
)
def _(trial: Trial, case: tuple[list[str], str]) -> None:
    trial.give("train", *case[0], "--artifacts", "run", code=2, says=case[1])
    trial.holds(not (trial.path / "run").exists(), "a folder was made")


@fixture("a limit on the address space")
def _(trial: Trial) -> None:
    trial.process(
        "ulimit -v 4000000; $AP train --dataset.t 1000000 --dataset.dt_length 5000 "
        "--artifacts run --threads 1",
        2,
        says="(ulimit -v)",
    )


# --- kernels --------------------------------------------------------------------------------------

FORMS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "lazily negated": torch._neg_view,
    "imaginary part of a lazy conjugate": lambda t: torch.complex(t, 2 * t).conj().imag,
    "every second number": lambda t: torch.stack([t, 2 * t], dim=-1)[..., 1],
    "last dimension first": lambda t: t.movedim(-1, 0).contiguous().movedim(0, -1),
    "one row": lambda t: t[:1].expand(t.shape),
    "one column": lambda t: t[..., :1].expand(t.shape),
    "unaligned": lambda t: torch.cat([t.new_zeros(1), t.flatten()])[1:].view(t.shape),
}


@each("a view that the kernels are given", [(form, width) for form in FORMS for width in (1, 2)])
def _(trial: Trial, case: tuple[str, int]) -> None:
    if importlib.util.find_spec("adding_problem_native") is None:
        raise NotInstalledError("the kernels are not installed")
    import adding_problem_native as native

    torch.manual_seed(0)
    form, width = case
    for name in ("LSTM", "GRU", "RNN"):
        ours, theirs = (
            getattr(native, name)(width, 4, batch_first=True),
            getattr(torch.nn, name)(width, 4, batch_first=True),
        )
        theirs.load_state_dict(ours.state_dict())
        x = FORMS[form](torch.randn(3, 5, width))
        trial.holds(
            torch.allclose(ours(x)[0], theirs(x)[0], atol=1e-5), f"{name} differs from torch.nn"
        )
    a, b = torch.rand(2, 6, 3), FORMS[form](torch.randn(2, 6, 3))
    trial.holds(
        torch.allclose(native.linear_scan(a, b), native.linear_scan_reference(a, b), atol=1e-5),
        "linear_scan differs",
    )
