"""Loggers: TensorBoard's event files, and a user's own."""

from __future__ import annotations

import builtins
import dataclasses
import importlib.util
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from adding_problem.errors import BackendError
from adding_problem.experiments.train import train
from adding_problem.runs.folder import RunFolder
from adding_problem.training import loggers
from adding_problem.training.state import StepEvent
from tests.conftest import Command
from tests.helpers.faults import Stop
from tests.helpers.training import Interrupt, small

needs_tensorboard = pytest.mark.skipif(
    importlib.util.find_spec("tensorboard") is None, reason="the extra tensorboard is not installed"
)


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


def test_a_missing_package_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any, **more: Any) -> Any:
        if name.startswith("torch.utils.tensorboard"):
            raise ImportError(name)
        return real(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with (
        pytest.raises(BackendError, match=r"adding-problem\[tensorboard\]"),
        loggers.attach(small(tmp_path, logger="tensorboard")),
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
        assert "logger: TensorBoard is not installed" in done.stderr
    else:
        assert done.returncode == 0, done.stderr
        assert list(RunFolder(tmp_path / "climb" / "t10").tensorboard.glob("events*"))


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


@needs_tensorboard
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
