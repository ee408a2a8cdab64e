"""Pictures of one run: its losses, its predictions, its losses over those of the original."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adding_problem.analysis.original import OriginalRun
from adding_problem.analysis.plots import style
from adding_problem.runs.records import EpochRow, RunRecord, RunResult, Score
from adding_problem.task.baselines import constant_predictor_mse
from adding_problem.task.thresholds import SOLVED

__all__ = ["draw_curves", "draw_loss", "draw_predictions", "split_by_coverage"]

_FEW_EPOCHS = 20  # of which each is marked by a dot
_MOST_POINTS = 5_000  # dots of a scatter plot; more only darken it


def split_by_coverage(rows: Sequence[EpochRow]) -> Iterator[tuple[int, list[EpochRow]]]:
    """The epochs whose validation covered equally many sequences, the fewest first."""
    for n in sorted({row.val_sequences for row in rows}):
        yield n, [row for row in rows if row.val_sequences == n]


def draw_loss(path: Path, rows: Sequence[EpochRow], result: RunResult, method: str = "") -> None:
    """Training and validation loss on a log scale, with the mean baseline.

    Args:
        path: where the picture goes.
        rows: the epochs.
        result: of the run.
        method: its name, see `method_names`.
    """
    title = (
        f"{method or 'Adding problem'}, T = {result.t:,} ({result.task.title}), "
        f"seed {result.seed}: {_outcome(result)}"
    )
    with style.new_figure(path, (7.5, 4.5), title) as figure:
        axes = figure.add_subplot()
        places = [row.sequence_steps for row in rows]
        losses = [row.loss for row in rows]
        dot = "." if len(rows) < _FEW_EPOCHS else None
        axes.plot(places, losses, color=style.TRAIN, marker=dot, label="training loss")
        parts = list(split_by_coverage(rows))
        for n, part in parts:
            covers_all = n == parts[-1][0]
            which = f", {'all' if covers_all else 'first'} {n:,}" if len(parts) > 1 else ""
            axes.plot(
                [row.sequence_steps for row in part],
                [row.val_loss for row in part],
                color=style.VALIDATION,
                marker="." if len(part) < _FEW_EPOCHS else None,
                alpha=1 if covers_all else style.FEWER,
                label=f"validation loss{which}",
            )
        style.draw_baseline(axes, result.constant_predictor_mse)
        style.mark_diverged(axes, places, losses, style.BASELINE, "diverged")
        if math.isfinite(result.best_val_loss):
            axes.plot(
                places[result.best_epoch - 1],
                result.best_val_loss,
                "o",
                color=style.VALIDATION,
                label="weights that are kept",
            )
        axes.set(
            xlabel="sequence-steps of training",
            ylabel="mean squared error",
            yscale="log",
            xlim=(0, 1.05 * max(places) or 1),
        )
        style.use_whole_decades(axes)
        style.use_prefixes(axes.xaxis)
        axes.legend()


def _outcome(result: RunResult) -> str:
    best = result.best_val_loss
    if best < SOLVED:
        return f"solved, MSE {best:.1e}"
    return "nothing learned" if result.on_plateau else f"not solved, MSE {best:.1e}"


def draw_predictions(
    path: Path, y: NDArray[np.float32], y_hat: NDArray[np.float32], score: Score, method: str = ""
) -> None:
    """Predictions y_hat (n,) against targets y (n,), and the distribution of the error.

    The title is what they show, of the method of this name.
    """
    title = (
        f"{method or 'Adding problem'}, T = {score.t:,} ({score.task.title}), test seed "
        f"{score.seed}: {'solved' if score.mse < SOLVED else 'not solved'}, MSE {score.mse:.1e} "
        f"(mean baseline {score.constant_predictor_mse:.3f})"
    )
    error = y_hat.astype(np.float64) - y
    finite = error[np.isfinite(error)]
    shown = slice(None, _MOST_POINTS)
    with style.new_figure(path, (10, 4.5), title) as figure:
        scatter, histogram = figure.subplots(1, 2)
        dots = {"markersize": 2, "alpha": 0.5, "color": style.VALIDATION, "rasterized": True}
        scatter.plot(y[shown], y_hat[shown], ".", **dots)
        ends = [float(y.min()), float(y.max())]
        scatter.plot(ends, ends, color=style.BASELINE, linewidth=1, label="right answer")
        scatter.set(
            xlabel="target",
            ylabel="prediction",
            title=f"{min(len(y), _MOST_POINTS):,} of {len(y):,} sequences",
        )
        scatter.legend(loc="upper left")
        if len(finite):
            histogram.hist(finite, bins=101, color=style.TRAIN)
            histogram.set_yscale("log")  # which takes no empty axis
        else:
            middle = {"ha": "center", "transform": histogram.transAxes}
            histogram.text(0.5, 0.5, "no finite prediction", **middle)
        for side in (-score.tolerance, score.tolerance):
            histogram.axvline(side, color=style.BASELINE, linewidth=1, linestyle="--")
        histogram.locator_params(axis="x", nbins=6)
        histogram.set(
            xlabel="prediction − target",
            ylabel="sequences",
            title=f"{score.within_tolerance:.2%} within ±{score.tolerance} (dashed)",
        )


def draw_curves(path: Path, run: RunRecord, originals: Sequence[OriginalRun], title: str) -> None:
    """The losses of one run over the original's of the same T, against the sequence-steps.

    Args:
        path: where the picture goes.
        run: the run.
        originals: runs of the original program, of any T.
        title: above the picture.
    """
    lines = [(run.rows, "ours", style.VALIDATION)]
    lines += [(each.rows, "the original", style.ORIGINAL) for each in originals if each.t == run.t]
    with style.new_figure(path, (7.5, 4.5), title) as figure:
        axes = figure.add_subplot()
        for rows, name, color in lines:
            steps = [row.sequence_steps for row in rows]
            losses = [row.loss for row in rows]
            val_losses = [row.val_loss for row in rows]
            axes.plot(steps, losses, ":", color=color, label=f"{name}, training loss")
            label = f"{name}, validation loss"
            axes.plot(steps, val_losses, "o-", color=color, markevery=[-1], label=label)
        style.draw_baseline(axes, constant_predictor_mse(run.config.task, run.t))
        axes.set(ylabel="mean squared error", yscale="log", xlim=(0, None))
        axes.set_xlabel("sequence-steps of training")
        style.use_prefixes(axes.xaxis)
        style.use_whole_decades(axes)
        axes.legend(fontsize=9)
