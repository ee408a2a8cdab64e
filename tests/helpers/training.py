"""Runs of a second, their weights and numbers, and a listener that cuts them."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch

from adding_problem import config
from adding_problem.config import RunConfig
from adding_problem.runs.folder import RunFolder
from adding_problem.runs.records import EpochRow, RunResult
from adding_problem.training.state import StepEvent

needs_native = pytest.mark.skipif(
    importlib.util.find_spec("adding_problem_native") is None, reason="no kernels here"
)


def small(folder: Path, **changes: Any) -> RunConfig:
    values = {
        "dataset.dt_length": 300,
        "dataset.t": 12,
        "model.hidden": 8,
        "train.batch": 32,
        "train.epochs": 4,
        "threads": 1,
        "artifacts": str(folder),
    }
    return config.load(
        None, values | {key.replace("__", "."): value for key, value in changes.items()}
    )


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return RunFolder(folder).read_model()[0]


def numbers(result: RunResult) -> dict[str, Any]:
    """A result without its times."""
    values = dataclasses.asdict(result)
    return {key: value for key, value in values.items() if key not in ("seconds", "reached")}


class Interrupt:
    """A listener that stops the run, as Ctrl-C would, in the middle of an epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_step(self, event: StepEvent) -> None:
        if event.epoch == self.epoch and event.step == 3:
            raise KeyboardInterrupt

    def on_epoch(self, row: EpochRow) -> None:
        pass
