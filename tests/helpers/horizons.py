"""A horizon run that solves its first lengths within a second each."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

from adding_problem import config
from adding_problem.experiments import horizon
from adding_problem.runs.records import Rung

EASY = {
    "recipe": "fast",
    "model.hidden": 16,
    "dataset.held_out": 64,
    "validate.dt_length": 100,
    "threads": 1,
    "train.stop_val_loss": 8e-4,
    "train.epoch_steps": 20,
    "train.learning_rate": 2e-2,
    "model.init": "oracle",
    "train.ending_steps": None,
}  # solved within a second


def find_horizon(
    folder: Path,
    lengths: list[int],
    minutes: float = 2.0,
    following: Any = None,
    overwrite: bool = False,
) -> list[Rung]:
    run = config.load(None, EASY | {"artifacts": str(folder)})
    return list(
        horizon.find_horizon(
            run,
            minutes=minutes,
            lengths=lengths,
            overwrite=overwrite,
            following=following or (lambda run: nullcontext()),
        )
    )
