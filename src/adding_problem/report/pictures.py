"""The report's figures for papers, drawn by matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from adding_problem.analysis import plots
from adding_problem.analysis.aggregate import group_runs, lengths_in_words
from adding_problem.report.measure import Measured
from adding_problem.report.runs import Collection
from adding_problem.runs import atomic_io

__all__ = ["draw"]


def draw(
    folder: Path,
    suffix: str,
    found: Collection,
    measured: Sequence[Measured],
    tested: Sequence[int],
) -> None:
    """`comparison`, `lengths`, `horizon` and, for each model that was scored, `predictions`.

    Args:
        folder: where they go; it is made where it is missing.
        suffix: `png`, `pdf` or `svg`.
        found, measured, tested: what the page shows.

    Raises:
        StorageError: when they cannot be written.
    """
    atomic_io.make_folder(folder)
    scored = [one for one in measured if not one.problem]

    def file(name: str) -> Path:
        return folder / f"{name}.{suffix}"

    if drawn := [run.record for run in found.runs if run.record.rows]:
        plots.draw_comparison(file("comparison"), group_runs(drawn))
    if scored:
        plots.draw_lengths(
            file("lengths"),
            [f"{one.run.name} ({lengths_in_words([one.run.record.longest])})" for one in scored],
            tested,
            [[one.mse.get(t, np.nan) for t in tested] for one in scored],
            [one.run.config.task for one in scored],
        )
    for index, horizon in enumerate(found.horizons.values(), 1):
        plots.draw_horizon(file(f"horizon-{index}"), horizon.result)
    for index, one in enumerate(scored, 1):
        plots.draw_predictions(
            file(f"predictions-{index}-t{one.run.t}"), one.y, one.y_hat, one.score
        )
