"""The picture of errors by run and tested length."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from adding_problem.analysis.plots import style
from adding_problem.task.baselines import constant_predictor_mse
from adding_problem.task.thresholds import SOLVED
from adding_problem.task.variants import MIN_LENGTH, Task

__all__ = ["draw_lengths"]


def draw_lengths(
    path: Path,
    runs: Sequence[str],
    tested: Sequence[int],
    mse: Sequence[Sequence[float]],
    tasks: Sequence[Task],
) -> None:
    """A heatmap of mean squared errors: a row for each run, a column for each tested length.

    Args:
        path: where the picture goes.
        runs: their names, with the longest trained length.
        tested: the lengths.
        mse: of each run at each length; NaN where there is none.
        tasks: of the runs; the scale ends at the highest of their mean baselines.
    """
    from matplotlib.colors import LogNorm

    baseline = max(
        constant_predictor_mse(task, max(*tested, MIN_LENGTH[task.variant])) for task in tasks
    )
    names = 0.08 * max(map(len, runs))  # inches that the longest one takes
    size = (3 + names + 1.1 * len(tested), 2.2 + 0.6 * len(runs))
    columns = zip(*mse, strict=True)
    solved = {
        t: sum(found < SOLVED for found in column)
        for t, column in zip(tested, columns, strict=True)
    }
    most = max((t for t, n in solved.items() if n), default=None)
    title = f"{solved[most]} of {len(runs)} solve T = {most:,}" if most else "None solves any T"
    with style.new_figure(path, size, title) as figure:
        axes = figure.add_subplot()
        axes.grid(False)
        values = np.clip(np.array(mse), 1e-6, 1)
        image = axes.imshow(values, norm=LogNorm(1e-5, baseline), cmap="viridis_r", aspect="auto")
        for row, column in np.ndindex(values.shape):
            text = "-" if math.isnan(values[row, column]) else f"{mse[row][column]:.1e}"
            color = "white" if values[row, column] > SOLVED else "black"
            axes.text(column, row, text, ha="center", va="center", color=color)
        axes.set_xticks(range(len(tested)), [f"{t:,}" for t in tested])
        axes.set_yticks(range(len(runs)), runs)
        axes.set(xlabel="tested T", ylabel="run (longest trained)")
        if np.isnan(values).any():
            figure.supxlabel("-: the model does not take this T", fontsize=9)
        figure.colorbar(image, label=f"MSE, up to {baseline:.3f}", extend="both")
