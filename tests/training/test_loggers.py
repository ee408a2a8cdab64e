"""Loggers: TensorBoard's event files, and a user's own."""

from __future__ import annotations

import builtins
import dataclasses
import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from adding_problem.errors import BackendError
from adding_problem.experiments.train import train
from adding_problem.runs.folder import RunFolder
from adding_problem.runs.records import EpochRow
from adding_problem.training import loggers
from adding_problem.training.state import StepEvent
from tests.conftest import Command
from tests.helpers.faults import Stop
from tests.helpers.training import Interrupt, small


def needs(extra: str) -> pytest.MarkDecorator:
    missing = importlib.util.find_spec(extra) is None
    return pytest.mark.skipif(missing, reason=f"the extra {extra} is not installed")


def test_the_logger_is_no_part_of_what_determines_the_numbers(tmp_path: Path) -> None:
    run = small(tmp_path)
    assert run.logger is None
    assert dataclasses.replace(run, logger="tensorboard").digest == run.digest


def test_listeners_of_ones_own(tmp_path: Path) -> None:
    class Losses:
        """What a user would write."""

        def __init__(self) -> None:
            self.steps: list[float] = []
            self.epochs: list[float] = []

        def on_step(self, event: StepEvent) -> None:
            self.steps.append(event.loss)

        def on_epoch(self, row: Any) -> None:
            self.epochs.append(row.val_loss)

    mine, other = Losses(), Losses()
    run = small(tmp_path)
    with loggers.attach(run, mine, None, other) as listener:
        train(run, listener=listener)
    rows = RunFolder(tmp_path).read_history()
    assert mine.epochs == other.epochs == [row.val_loss for row in rows]
    assert len(mine.steps) == len(rows) * 7  # 210 training sequences in batches of 32
    with loggers.attach(run) as none:
        assert none is None


MODULES = {"tensorboard": "torch.utils.tensorboard", "trackio": "trackio", "wandb": "wandb"}


@pytest.mark.parametrize("name", MODULES)
def test_a_missing_package_is_an_error(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(module: str, *arguments: Any, **more: Any) -> Any:
        if module.startswith(MODULES[name]):
            raise ImportError(module)
        return real(module, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with (
        pytest.raises(BackendError, match=rf"adding-problem\[{name}\]"),
        loggers.attach(small(tmp_path, logger=name)),
    ):
        pass


def test_a_climb_has_the_logger_that_it_is_asked_for(tmp_path: Path, command: Command) -> None:
    words = [
        "horizon",
        "--logger",
        "tensorboard",
        "--lengths",
        10,
        "--minutes",
        1,
        "--model.hidden",
        16,
        "--dataset.held_out",
        64,
        "--validate.dt_length",
        100,
        "--threads",
        1,
        "--artifacts",
        "climb",
    ]
    done = command(*words)
    if importlib.util.find_spec("tensorboard") is None:
        assert done.returncode == 2
        assert "logger: tensorboard is not installed" in done.stderr
    else:
        assert done.returncode == 0, done.stderr
        assert list(RunFolder(tmp_path / "climb" / "t10").tensorboard.glob("events*"))


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


@needs("tensorboard")
@pytest.mark.parametrize(
    "cut",
    [Interrupt(3), Stop(3, 3, interrupt), Stop(1, 3, interrupt)],
    ids=["killed", "Ctrl-C", "Ctrl-C at the start"],
)
def test_tensorboard_of_a_resumed_run_holds_every_event_once(cut: Any, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = small(tmp_path, logger="tensorboard")
    with pytest.raises(KeyboardInterrupt), loggers.attach(run, cut) as listener:
        train(run, listener=listener)
    with loggers.attach(run) as listener:
        train(run, resume=True, listener=listener)
    with loggers.attach(run) as listener:  # finished: nothing is written
        train(run, listener=listener)
    rows = RunFolder(tmp_path).read_history()
    found = EventAccumulator(str(RunFolder(tmp_path).tensorboard)).Reload()
    for name in ("loss", "val_loss"):
        logged = [(scalar.step, scalar.value) for scalar in found.Scalars(f"epoch/{name}")]
        assert logged == [
            (row.sequences, pytest.approx(getattr(row, name), rel=1e-6)) for row in rows
        ]
    steps = [scalar.step for scalar in found.Scalars("step/loss")]
    assert steps == sorted(set(steps))
    assert len(steps) == len(rows) * 7
    assert steps[-1] == rows[-1].sequences
    train(run, overwrite=True)
    assert not list(RunFolder(tmp_path).tensorboard.glob("events*"))


def logged(rows: list[EpochRow], name: str) -> list[tuple[int, Any]]:
    return [(row.sequences, pytest.approx(getattr(row, name), rel=1e-6)) for row in rows]


@needs("wandb")
def test_wandb_holds_every_event_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    run = small(tmp_path, logger="wandb")
    with loggers.attach(run) as listener:
        train(run, listener=listener)
    rows = RunFolder(tmp_path).read_history()
    (file,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    history = wandb_history(file.read_bytes())
    found = [(each["_step"], each["epoch/val_loss"]) for each in history if "epoch/loss" in each]
    assert found == logged(rows, "val_loss")
    assert len([each for each in history if "step/loss" in each]) == len(rows) * 7


def wandb_history(data: bytes) -> list[dict[str, Any]]:
    """The rows of an offline run: records in LevelDB's log format, after a header of 7 bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    found, content, at = [], b"", 7
    while at < len(data):
        if (left := 32_768 - at % 32_768) < 7:  # a block has no room for another header
            at += left
            continue
        size, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        content += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # complete, or the last part
            items = Record.FromString(content).history.item
            keys = ((item.key or "/".join(item.nested_key), item.value_json) for item in items)
            found.append({key: json.loads(value) for key, value in keys})
            content = b""
    return found


@needs("trackio")
def test_trackio_holds_every_event(tmp_path: Path) -> None:
    """In a process of its own: Trackio takes its folder from the environment on import."""
    program = """
import json, sys
from pathlib import Path
from tests.helpers.training import small
from adding_problem.experiments.train import train
from adding_problem.training import loggers
run = small(Path(sys.argv[1]), logger="trackio")
with loggers.attach(run) as listener:
    train(run, listener=listener)
from trackio.sqlite_storage import SQLiteStorage
logs = SQLiteStorage.get_logs("adding-problem", str(run.artifacts))
found = [[each["step"], each["epoch/val_loss"]] for each in logs if "epoch/val_loss" in each]
Path(sys.argv[2]).write_text(json.dumps(found))
"""
    out = tmp_path / "found.json"
    environment = {**os.environ, "TRACKIO_DIR": str(tmp_path / "trackio")}
    words = [sys.executable, "-c", program, str(tmp_path / "run"), str(out)]
    subprocess.run(words, env=environment, check=True)
    found = [tuple(each) for each in json.loads(out.read_text())]
    assert found == logged(RunFolder(tmp_path / "run").read_history(), "val_loss")
