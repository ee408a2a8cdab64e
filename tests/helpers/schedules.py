"""Configurations of the `fast` recipe: of any size, and of a curriculum that ends in a second."""

from __future__ import annotations

from typing import Any

from adding_problem import config
from adding_problem.config import RunConfig


def fast(**changes: Any) -> RunConfig:
    return config.load(
        None, {"recipe": "fast"} | {key.replace("__", "."): value for key, value in changes.items()}
    )


SMALL = {
    "dataset__t": 30,
    "dataset__held_out": 64,
    "model__hidden": 12,
    "curriculum__start": 5,
    "threads": 1,
    "curriculum__shortest": 0.2,
    "train__val_subset": None,
    "train__epoch_steps": 40,
    "train__epochs": 12,
    "train__stop_val_loss": None,
    "curriculum__threshold": 0.1,
}
