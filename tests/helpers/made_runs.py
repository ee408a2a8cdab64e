"""Run folders that were written and not trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from adding_problem import config
from adding_problem.config import RunConfig, families
from adding_problem.runs.folder import RunFolder
from adding_problem.runs.records import EpochRow, RunRecord, RunResult, Score, StopReason

LENGTHS = (100, 300, 1000, 3000, 10_000)


def made(
    path: Path,
    val_losses: list[float],
    mse: float | None = None,
    loss: float = 0.1,
    stop_reason: StopReason = "epochs",
    **values: Any,
) -> Path:
    """A run folder with these validation losses, ten sequences of 20 steps in an epoch."""
    run = config.load(
        None,
        {
            "dataset.t": 20,
            **{key.replace("__", "."): value for key, value in values.items()},
            "artifacts": str(path),
        },
    )
    path.mkdir(exist_ok=True)
    folder = RunFolder(path)
    folder.open(run)
    rows = [
        EpochRow(e, loss, value, 10 * e, 200 * e, float(e))
        for e, value in enumerate(val_losses, start=1)
    ]
    folder.write_history(rows)
    where: dict[str, Any] = {"device": "cpu", "backend": "torch", "threads": 1}
    folder.write_result(RunResult.of(run, rows, len(rows), stop_reason, **where))
    if mse is not None:
        score = Score(
            t=run.dataset.t,
            **run.task.to_record(),
            sequences=100,
            mse=mse,
            mse_standard_error=mse / 100,
            model=run.digest,
        )
        folder.write_score(score)
    return path


def many() -> list[RunRecord]:
    """Three seeds of 17 methods at five lengths.

    Two seeds of method i, counted from 0, solve every T below 100 times 2 to the i; the third one
    never does.
    """
    methods: list[dict[str, Any]] = [
        {"recipe": "fast", "model.name": name} for name in list(families.FAMILIES)[:14]
    ]
    methods += [{}, {"model.hidden": 50}, {"model.hidden": 50, "train.learning_rate": 0.1}]
    return [
        _record(config.load(None, {"dataset.t": t, "seed": seed, **method}), index, seed)
        for index, method in enumerate(methods)
        for t in LENGTHS
        for seed in range(3)
    ]


def _record(run: RunConfig, index: int, seed: int) -> RunRecord:
    t = run.dataset.t
    solved = t < 100 * 2**index and seed < 2
    final = (1 + index / 20) * (4e-4 * (1 + 0.3 * seed) if solved else 0.05 + 0.02 * seed)
    losses = [0.17, 0.17, 0.16, (1 + seed) * final, final]
    rows = [
        EpochRow(e, loss, loss, 100 * 4**e, 100 * 4**e * t, float(e), 0, t)
        for e, loss in enumerate(losses, start=1 + index % 3)
    ]
    score = Score(
        t=t, **run.task.to_record(), sequences=9, mse=final, mse_standard_error=0, model=""
    )
    return RunRecord(Path(f"{index}-{t}-{seed}"), run, tuple(rows), None, score)
