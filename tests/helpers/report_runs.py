"""Run folders by the hundred that nobody trained: made curves and untrained models."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from adding_problem import config, models
from adding_problem.config import RunConfig, families
from adding_problem.runs.folder import RunFolder
from adding_problem.runs.records import EpochRow, RunResult
from adding_problem.task.baselines import constant_predictor_mse

__all__ = ["make_runs"]

_EPOCHS = 120


def make_runs(root: Path, names: Sequence[str], lengths: Sequence[int], seeds: int) -> int:
    """A run of each family, length and seed; the later a family's name, the sooner it fails.

    Returns:
        How many there are.
    """
    made = 0
    for rank, name in enumerate(names):
        for t in lengths:
            for seed in range(seeds):
                small = "hidden" in families.FAMILIES[name].defaults
                values = {"dataset.t": t, "seed": seed, "model.name": name, "threads": 1}
                folder = root / f"{name}-t{t}-s{seed}"
                run = config.load(
                    None,
                    {"recipe": "fast", "artifacts": str(folder)}
                    | values
                    | ({"model.hidden": 8} if small else {}),
                )
                _make_run(run, hardness=rank / len(names))
                made += 1
    return made


def _make_run(run: RunConfig, hardness: float) -> None:
    folder = RunFolder(run.artifacts)
    folder.open(run)
    model = models.build_model(run.model, seed=run.seed, length=run.dataset.t)
    folder.write_model(model.state_dict(), models.describe(model))
    rows = list(_rows(run, hardness))
    folder.write_history(rows)
    where = {"device": "cpu", "backend": "torch", "threads": 1}
    best = min(rows, key=lambda row: row.val_loss).epoch
    folder.write_result(RunResult.of(run, rows, best, "epochs", parameters=1, **where))


def _rows(run: RunConfig, hardness: float) -> Iterator[EpochRow]:
    """A plateau, and then a fall, which comes too late for hard lengths."""
    t, random = run.dataset.t, np.random.default_rng([run.seed, run.dataset.t])
    fall = _EPOCHS * (0.15 + hardness * math.log10(t) / 2.2) * random.uniform(0.8, 1.25)
    for epoch in range(1, _EPOCHS + 1):
        exponent = 4 / (1 + math.exp((fall - epoch) / 6)) + random.normal(0, 0.08)
        loss = constant_predictor_mse(run.task, t) * 10**-exponent
        steps = epoch * 1000 * t
        yield EpochRow(epoch, loss, loss, epoch * 1000, steps, steps / 1e5, 1000, t)
