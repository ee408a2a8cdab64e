"""Pictures from rows and run folders. Nothing here trains; matplotlib is loaded when a picture is drawn."""

from __future__ import annotations

import io
import itertools
import json
import math
import textwrap
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from adding_problem.analysis import aggregate
from adding_problem.analysis.aggregate import Group
from adding_problem.analysis.statistics import FEW
from adding_problem.errors import RunFolderError
from adding_problem.runs import atomic_io
from adding_problem.runs.folder import RunFolder
from adding_problem.runs.records import (
    SOLVED,
    THRESHOLDS,
    EpochRow,
    HorizonResult,
    RunRecord,
    RunResult,
    Score,
)
from adding_problem.task.baselines import constant_predictor_mse
from adding_problem.task.variants import MIN_LENGTH, Task

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "draw_comparison",
    "draw_costs",
    "draw_curves",
    "draw_horizon",
    "draw_lengths",
    "draw_loss",
    "draw_predictions",
]

# Okabe & Ito's palette: told apart by colour-blind readers too.
_TRAIN, _VALIDATION, _CONSTANT, _ORIGINAL = "#56B4E9", "#D55E00", "#666666", "#009E73"
_PALETTE = (_VALIDATION, "#0072B2", "#CC79A7", "#E69F00", _TRAIN, "#000000")
_FEWER = 0.4  # opacity of validation losses over fewer sequences than others of the run
_MOST_BANDS = 4  # curves of one panel that are drawn with their bands
_ORIGINAL_EPOCH = 30_000  # sequences: the original trained on 30% of its 100,000
_MOST_POINTS = 5_000  # dots of a scatter plot; more only darken it
_MAX_CURVES_BYTES = 64 << 20
_TICK_DISTANCE = 0.55  # inches, so that the labels of two lengths do not touch
_TITLE_COLUMNS = 8.5  # characters of a title in an inch
_LEGEND_COLUMNS = 64  # characters of a method's name in a row of the legend
_STYLE: dict[str, Any] = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "font.size": 11,
    "legend.frameon": False,
    "savefig.dpi": 150,
}


@dataclass(frozen=True)
class _Curves:
    """Losses of one run: epoch e at index e - 1, after `sequences[e - 1]` training sequences.

    `val_loss[e - 1]` covers `val_sequences[e - 1]` held-out sequences; 0 where nobody knows.
    """

    name: str
    t: int
    sequences: Sequence[int]
    loss: Sequence[float]
    val_loss: Sequence[float]
    val_sequences: Sequence[int]
    constant_mse: float = 1 / 6
    longest: int | None = None
    oracle: bool = False
    weights: Hashable = None

    @classmethod
    def of_rows(
        cls,
        name: str,
        t: int,
        rows: Sequence[EpochRow],
        constant_mse: float = 1 / 6,
        longest: int | None = None,
        oracle: bool = False,
        weights: Hashable = None,
    ) -> _Curves:
        return cls(
            name,
            t,
            [row.sequences for row in rows],
            [row.loss for row in rows],
            [row.val_loss for row in rows],
            [row.val_sequences for row in rows],
            constant_mse,
            longest,
            oracle,
            weights,
        )

    def validations(
        self, places: Sequence[float]
    ) -> Iterator[tuple[int, list[float], list[float]]]:
        """Validation losses over equally many sequences, fewest first: that number, the losses' places, the losses."""
        for n in sorted(set(self.val_sequences)):
            like = [index for index, covered in enumerate(self.val_sequences) if covered == n]
            yield n, [places[index] for index in like], [self.val_loss[index] for index in like]

    def epochs_to(self, threshold: float) -> int | None:
        """The first epoch whose validation loss is below; None where none is."""
        epochs = enumerate(self.val_loss, 1)
        return next((epoch for epoch, loss in epochs if loss < threshold), None)

    @property
    def best(self) -> float:
        """Lowest finite validation loss of those over the most sequences."""
        most = max(self.val_sequences, default=0)
        like = (
            value for value, n in zip(self.val_loss, self.val_sequences, strict=True) if n == most
        )
        return min(filter(math.isfinite, like), default=math.nan)


def draw_loss(path: Path, rows: Sequence[EpochRow], result: RunResult) -> None:
    """Training and validation loss on a log scale, with the constant predictor's line.

    Against the epoch; of a run on fresh sequences, whose epochs differ in length, against the sequence-steps.
    """
    from matplotlib.ticker import EngFormatter

    with _figure(path, (7.5, 4.5)) as figure:
        axes = figure.add_subplot()
        curves = _Curves.of_rows("", result.t, rows, result.constant_predictor_mse)
        stream = result.stream
        places = [row.sequence_steps if stream else row.epoch for row in rows]
        _plot_curves(axes, curves, places)
        if math.isfinite(result.best_val_loss):
            axes.plot(
                places[result.best_epoch - 1],
                result.best_val_loss,
                "o",
                color=_VALIDATION,
                label="weights that are kept",
            )
        axes.set(
            xlabel="sequence-steps" if stream else "epoch",
            ylabel="mean squared error",
            xlim=(0, 1.05 * max(places) or 1),
        )
        _whole_decades(axes, "y")
        if stream:
            axes.xaxis.set_major_formatter(EngFormatter(sep=" "))
        else:
            axes.locator_params(axis="x", integer=True)
        axes.legend()
        figure.suptitle(
            f"Adding problem, T = {result.t:,} ({result.task.title}): {_outcome(result)}"
        )


def draw_predictions(
    path: Path, y: NDArray[np.float32], y_hat: NDArray[np.float32], score: Score
) -> None:
    """Prediction against target, and the distribution of the error."""
    error = y_hat.astype(np.float64) - y
    finite = error[np.isfinite(error)]
    with _figure(path, (10, 4.5)) as figure:
        scatter, histogram = figure.subplots(1, 2)
        few = slice(None, _MOST_POINTS)
        scatter.plot(
            y[few], y_hat[few], ".", markersize=2, alpha=0.5, color=_VALIDATION, rasterized=True
        )
        ends = [float(y.min()), float(y.max())]
        scatter.plot(ends, ends, color=_CONSTANT, linewidth=1, label="right answer")
        scatter.set(
            xlabel="target",
            ylabel="prediction",
            title=f"{min(len(y), _MOST_POINTS):,} of {len(y):,} sequences",
        )
        scatter.legend(loc="upper left")
        if len(finite):
            histogram.hist(finite, bins=101, color=_TRAIN)
            histogram.set_yscale("log")  # which takes no empty axis
        else:
            histogram.text(
                0.5, 0.5, "no finite prediction", ha="center", transform=histogram.transAxes
            )
        for side in (-score.tolerance, score.tolerance):
            histogram.axvline(side, color=_CONSTANT, linewidth=1, linestyle="--")
        histogram.locator_params(axis="x", nbins=6)
        histogram.set(
            xlabel="prediction − target",
            ylabel="sequences",
            title=f"{score.within_tolerance:.2%} within ±{score.tolerance} (dashed)",
        )
        figure.suptitle(
            f"Adding problem, T = {score.t:,} ({score.task.title}), seed {score.seed}: "
            f"MSE {score.mse:.1e}, mean baseline ({score.constant_predictor_mse:.3f})"
        )


def draw_comparison(
    path: Path,
    folders: Sequence[Path],
    original: Path | None = None,
    *,
    title: str = "",
) -> list[dict[str, Any]]:
    """Best loss against T, and every run's curves in small multiples, one panel per T.

    Of several seeds the medians, with 95% intervals where they are enough and else the range, and when they had solved it.

    Args:
        path: where the picture goes; the suffix chooses the format (png, pdf, svg).
        folders: run folders, finished or not.
        original: JSON ``{T: {"loss": [...], "val_loss": [...]}}`` to draw beside them.
        title: above all.

    Returns:
        One dict per curve, oracles last: name, t, longest_trained (None where unknown), epochs, lowest_val_loss, oracle, weights
        (equal where the model is the same; None where unknown).

    Raises:
        RunFolderError: when a folder holds no run or the file of the original cannot be read.
    """
    ours = [_curves_of(RunFolder(folder).read()) for folder in folders]
    theirs = _original_curves(original) if original else []
    found = aggregate.collect(folders)
    seeds = max(len(group.seeds) for group in found) > 1
    lengths = sorted({curves.t for curves in [*ours, *theirs]})
    columns = min(4, len(lengths))
    rows = math.ceil(len(lengths) / columns)
    with _figure(path, (max(12 if seeds else 7.5, 3.2 * columns), 4.5 + 2.4 * rows)) as figure:
        _set_title(figure, title)
        top, bottom = figure.subfigures(2, 1, squeeze=False, height_ratios=[4.5, 2.4 * rows])[:, 0]
        best, *solved = top.subplots(1, 2 if seeds else 1, squeeze=False)[0]
        looks = dict(zip(dict.fromkeys(map(_method, found)), _looks(), strict=False))
        _plot_best(best, found, theirs, looks)
        for axes in solved:
            _plot_solved_by(axes, found)
        panels = bottom.subplots(rows, columns, squeeze=False, sharey=True)
        for axes in panels.flat[len(lengths) :]:
            axes.set_axis_off()
        for index, (axes, t) in enumerate(zip(panels.flat, lengths, strict=False)):
            _plot_panel(axes, t, found, theirs, looks)
            axes.set_xlabel("training sequences" if index + columns >= len(lengths) else "")
        for axes in panels[:, 0]:
            axes.set_ylabel("validation MSE")
            _whole_decades(axes, "y")
    return [
        {
            "name": curves.name,
            "t": curves.t,
            "longest_trained": curves.longest,
            "epochs": len(curves.val_loss),
            "lowest_val_loss": curves.best,
            "oracle": curves.oracle,
            "weights": curves.weights,
        }
        for curves in sorted(
            [*ours, *theirs], key=lambda curves: (curves.oracle, curves.t, curves.name)
        )
    ]


def draw_curves(path: Path, folder: Path, original: Path, title: str) -> None:
    """The losses of one run over the original's of the same T, against the epoch.

    Args:
        path: where the picture goes.
        folder: run folder.
        original: as for `draw_comparison`.
        title: above the picture.

    Raises:
        RunFolderError: see `draw_comparison`.
    """
    ours = _curves_of(RunFolder(folder).read())
    theirs = [curves for curves in _original_curves(original) if curves.t == ours.t]
    lines = [(ours, "ours", _VALIDATION)]
    lines += [(curves, "the original", _ORIGINAL) for curves in theirs]
    with _figure(path, (7.5, 4.5)) as figure:
        axes = figure.add_subplot()
        for curves, name, color in lines:
            epochs = range(1, len(curves.loss) + 1)
            axes.plot(epochs, curves.loss, ":", color=color, label=f"{name}, training loss")
            axes.plot(
                epochs,
                curves.val_loss,
                "o-",
                color=color,
                markevery=[-1],
                label=f"{name}, validation loss",
            )
        _constant_line(axes, ours.constant_mse, "mean baseline")
        axes.set(xlabel="epoch", ylabel="mean squared error", yscale="log", xlim=(0, None))
        axes.locator_params(axis="x", integer=True)
        _whole_decades(axes, "y")
        axes.legend(fontsize=9)
        _set_title(figure, title)


def draw_costs(path: Path, folders: Sequence[Path], original: Path, title: str) -> None:
    """Epochs and sequence-steps until the validation loss first was below 1e-2, against T.

    A cross where it never was: what the run had spent at its end.

    Args:
        path: where the picture goes.
        folders: of runs on fixed data, a run for each T.
        original: as for `draw_comparison`.
        title: above the picture.

    Raises:
        RunFolderError: see `draw_comparison`.
    """
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

    series = [
        (_original_curves(original), "the original", _ORIGINAL, "s"),
        ([_curves_of(RunFolder(folder).read()) for folder in folders], "ours", _VALIDATION, "o"),
    ]
    with _figure(path, (10, 4.5)) as figure:
        for axes, unit in zip(figure.subplots(1, 2), ("epochs", "sequence-steps"), strict=True):
            for found, name, color, marker in series:
                reached: list[tuple[int, int]] = []
                ended: list[tuple[int, int]] = []
                for curves in sorted(found, key=lambda curves: curves.t):
                    first = curves.epochs_to(THRESHOLDS["1e-2"])
                    epochs = first or len(curves.val_loss)
                    cost = epochs if unit == "epochs" else curves.sequences[epochs - 1] * curves.t
                    (reached if first else ended).append((curves.t, cost))
                axes.plot(*zip(*reached, strict=True), marker=marker, color=color, label=name)
                if ended:
                    axes.plot(
                        *zip(*ended, strict=True),
                        "x",
                        color=color,
                        markersize=14,
                        markeredgewidth=2,
                        label=f"{name}: ended before",
                    )
            axes.set(xscale="log", xlabel="sequence length T")
            axes.set_title(f"{unit} until the validation MSE is below 1e-2", fontsize=11)
            _length_ticks(axes, [curves.t for found, *_ in series for curves in found])
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(EngFormatter(sep=" "))
        axes.yaxis.set_minor_formatter(NullFormatter())
        figure.axes[0].set_ylim(0, None)
        figure.axes[0].legend()
        _set_title(figure, title)


def draw_horizon(path: Path, document: HorizonResult) -> None:
    """What every length cost, in sequence-steps and in seconds, from `horizon.json`."""
    from matplotlib.ticker import EngFormatter, StrMethodFormatter

    rungs = document.rungs
    with _figure(path, (10, 4.5)) as figure:
        for axes, unit, name, labels in zip(
            figure.subplots(1, 2),
            ("sequence_steps", "seconds"),
            ("sequence-steps", "seconds of training"),
            (EngFormatter(sep=" "), StrMethodFormatter("{x:,g}")),
            strict=True,
        ):
            for threshold, color, marker, size in (
                ("1e-2", _TRAIN, "s", 9),
                ("1e-3", _VALIDATION, "o", 5),
            ):  # often in the same place
                points = [
                    (rung.t, getattr(spent, unit))
                    for rung in rungs
                    if (spent := rung.reached[threshold])
                ]
                axes.plot(
                    [t for t, _ in points],
                    [cost for _, cost in points],
                    marker=marker,
                    markersize=size,
                    color=color,
                    label=f"validation MSE below {threshold}",
                )
            for rung in rungs:
                if not rung.solved:
                    axes.plot(
                        rung.t,
                        getattr(rung, unit),
                        "x",
                        color=_CONSTANT,
                        markersize=9,
                        label="not solved",
                    )
            scale = "log" if rungs else "linear"  # a log axis cannot be empty
            axes.set(xscale=scale, yscale=scale, xlabel="sequence length T")
            axes.set_title(f"{name}, all lengths up to T together", fontsize=11)
            _length_ticks(axes, [rung.t for rung in rungs])
            _whole_decades(axes, "y")
            axes.yaxis.set_major_formatter(labels)
        figure.axes[0].legend()
        horizon = document.horizon
        figure.suptitle(
            (f"Horizon: T = {horizon:,}" if horizon else "Horizon: none of the lengths")
            + f" ({document.task.title}), seed {document.seed}{_why_it_ended(document)}"
            + (f"\n{document.model}" if document.model else "")
        )


def _why_it_ended(document: HorizonResult) -> str:
    """Why the horizon run went no further, as far as its last length tells."""
    minutes = document.minutes
    for last in document.rungs[-1:]:
        reason = last.stop_reason
        if reason == "budget" or last.seconds >= 60 * minutes:
            budget = f"the budget of {minutes:,g} minute{'s' if minutes != 1 else ''} ran out"
            return f"; then {budget}" if last.solved else f"; at T = {last.t:,} {budget}"
        if not last.solved:
            return f"; T = {last.t:,} not solved" + (f" ({reason})" if reason else "")
    return ""


def draw_lengths(
    path: Path,
    runs: Sequence[str],
    tested: Sequence[int],
    mse: Sequence[Sequence[float]],
    tasks: Sequence[Task],
) -> None:
    """A heatmap of mean squared errors: one row for each run, by name and longest trained length, one column for each tested length.

    The scale ends at the mean baseline, of several tasks the highest.
    """
    from matplotlib.colors import LogNorm

    baseline = max(
        constant_predictor_mse(task, max(*tested, MIN_LENGTH[task.variant])) for task in tasks
    )

    names = 0.08 * max(map(len, runs))  # inches that the longest one takes
    with _figure(path, (3 + names + 1.1 * len(tested), 2.2 + 0.6 * len(runs))) as figure:
        axes = figure.add_subplot()
        axes.grid(False)
        values = np.clip(np.array(mse), 1e-6, 1)
        image = axes.imshow(values, norm=LogNorm(1e-5, baseline), cmap="viridis_r", aspect="auto")
        for row, column in np.ndindex(values.shape):
            dark, missing = values[row, column] > SOLVED, math.isnan(values[row, column])
            axes.text(
                column,
                row,
                "-" if missing else f"{mse[row][column]:.1e}",
                ha="center",
                va="center",
                color="white" if dark else "black",
            )
        axes.set_xticks(range(len(tested)), [f"{t:,}" for t in tested])
        axes.set_yticks(range(len(runs)), runs)
        axes.set(xlabel="tested T", ylabel="run (longest trained)")
        figure.colorbar(image, label=f"MSE, up to {baseline:.3f}", extend="both")


def _original_curves(path: Path) -> list[_Curves]:
    """Loss curves by length from a JSON file; see `draw_comparison`."""
    try:
        document = json.loads(atomic_io.read_bounded(path, _MAX_CURVES_BYTES))
        return [
            _original_curve(
                path.stem,
                int(t),
                *([float(v) for v in curves[name]] for name in ("loss", "val_loss")),
            )
            for t, curves in document.items()
        ]
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        OverflowError,
        RecursionError,
    ) as error:
        raise RunFolderError(
            path,
            f"holds no loss curves by length ({error})",
            'give JSON such as {"150": {"loss": [...], "val_loss": [...]}}, as docs/original_curves.json is',
        ) from None


def _original_curve(name: str, t: int, loss: list[float], val_loss: list[float]) -> _Curves:
    if len(loss) != len(val_loss):
        raise ValueError(f"at T = {t} {len(loss)} values of loss and {len(val_loss)} of val_loss")
    return _Curves(
        name,
        t,
        [_ORIGINAL_EPOCH * (epoch + 1) for epoch in range(len(loss))],
        loss,
        val_loss,
        [0] * len(loss),
        longest=t,
    )


def _curves_of(run: RunRecord) -> _Curves:
    return _Curves.of_rows(
        str(run.path),
        run.t,
        run.rows,
        longest=run.longest,
        oracle=run.oracle,
        weights=run.weights,
    )


def _plot_curves(axes: Axes, curves: _Curves, places: Sequence[float]) -> None:
    axes.plot(
        places,
        curves.loss,
        color=_TRAIN,
        marker="." if len(places) < 20 else None,
        label="training loss",
    )
    parts = list(curves.validations(places))
    for n, where, losses in parts:
        all_covered = n == parts[-1][0]
        label = (
            "validation loss"
            if len(parts) == 1
            else f"validation loss, {'all' if all_covered else 'first'} {n:,}"
        )
        axes.plot(
            where,
            losses,
            color=_VALIDATION,
            marker="." if len(where) < 20 else None,
            alpha=1 if all_covered else _FEWER,
            label=label,
        )
    _constant_line(axes, curves.constant_mse, "mean baseline")
    _mark_diverged(axes, places, curves.loss, _CONSTANT, "diverged")
    axes.set_yscale("log")


def _mark_diverged(
    axes: Axes, places: Sequence[float], losses: Sequence[float], color: str, label: str = ""
) -> None:
    """A cross at the top where the loss first was no finite number, which no axis has a place for."""
    first = next(
        (place for place, loss in zip(places, losses, strict=True) if not math.isfinite(loss)), None
    )
    if first is not None:
        axes.plot(
            first,
            0.96,
            "x",
            color=color,
            markersize=8,
            markeredgewidth=2,
            transform=axes.get_xaxis_transform(),
            label=label,
        )


def _method(group: Group) -> tuple[str, Task]:
    """What has a look of its own."""
    return group.method, group.task


def _looks() -> Iterator[tuple[str, str]]:
    """Line style and colour, without end: every colour with a full line, then every one dashed, then dotted."""
    return itertools.cycle(itertools.product(("-", "--", ":"), _PALETTE))


def _plot_best(
    axes: Axes,
    found: Sequence[Group],
    theirs: Sequence[_Curves],
    looks: Mapping[tuple[str, Task], tuple[str, str]],
) -> None:
    for (method, task), (line, color) in looks.items():
        members = [group for group in found if _method(group) == (method, task)]
        losses = [group.losses for group in members]
        seeds = " to ".join(
            str(n) for n in sorted({min(e.n for e in losses), max(e.n for e in losses)})
        )
        label = f"{method}, {task.title}" + (f" (median of {seeds} seeds)" if seeds != "1" else "")
        places, medians = [group.t for group in members], [entry.median for entry in losses]
        axes.plot(
            places,
            medians,
            f"o{line}",
            color=color,
            label="\n".join(textwrap.wrap(label, _LEGEND_COLUMNS, max_lines=2)),
        )
        for group, entry in zip(members, losses, strict=True):
            _mark_diverged(axes, [group.t], [entry.median], color)
            low, high = entry.interval or (entry.least, entry.most)
            axes.plot(
                [group.t] * 2,
                [low, high if math.isfinite(high) else max(low, 1.0)],
                color=color,
                linewidth=2.5 if entry.interval else 1,
                alpha=0.6,
            )
    if theirs:
        ordered = sorted(theirs, key=lambda curves: curves.t)
        axes.plot(
            [c.t for c in ordered],
            [c.best for c in ordered],
            "s-",
            color=_ORIGINAL,
            label="the original",
        )
    _constant_lines(axes, found, theirs, "mean baseline")
    if not all(
        math.isfinite(row.val_loss) for group in found for seed in group.seeds for row in seed.rows
    ):
        axes.plot([], [], "x", color=_CONSTANT, label="diverged")
    axes.set(xlabel="sequence length T", ylabel="mean squared error", yscale="log")
    _length_ticks(axes, [group.t for group in found] + [curves.t for curves in theirs])
    _whole_decades(axes, "y")
    intervals = any(group.losses.interval for group in found)
    axes.set_title(
        "Loss against the length" + (", medians with 95% intervals" if intervals else ""),
        fontsize=11,
    )
    axes.legend(fontsize=9)


def _plot_solved_by(axes: Axes, found: Sequence[Group]) -> None:
    """Kaplan and Meier's curves of the share of runs with a validation loss below 1e-3; a band where there are few curves."""
    from matplotlib.ticker import EngFormatter

    for group, (line, color) in zip(found, _looks(), strict=False):
        curve = group.cost("1e-3", "sequence_steps")
        end = (
            max(row.sequence_steps for seed in group.seeds for row in seed.rows)
            if any(s.rows for s in group.seeds)
            else 0
        )
        places = [0.0, *curve.costs, max([end, *curve.costs])]
        name = textwrap.wrap(f"T = {group.t:,}, {group.method}", _LEGEND_COLUMNS, max_lines=2)
        axes.step(
            places,
            [0.0, *curve.share, (curve.share or (0.0,))[-1]],
            where="post",
            color=color,
            linestyle=line,
            label="\n".join([*name, f"({curve.events} of {curve.n})"]),
        )
        if len(found) <= _MOST_BANDS and curve.costs and len(group.seeds) >= FEW:
            low, high = ([0.0, *side, side[-1]] for side in (curve.low, curve.high))
            axes.fill_between(places, low, high, step="post", color=color, alpha=0.15, linewidth=0)
    axes.set(xlabel="sequence-steps", ylabel="share of runs", ylim=(-0.03, 1.03))
    axes.xaxis.set_major_formatter(EngFormatter(sep=" "))
    axes.set_title("Solved by: validation MSE below 1e-3", fontsize=11)
    axes.legend(fontsize=8)


def _plot_panel(
    axes: Axes,
    t: int,
    found: Sequence[Group],
    theirs: Sequence[_Curves],
    looks: Mapping[tuple[str, Task], tuple[str, str]],
) -> None:
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

    lines = [(c, ("-", _ORIGINAL)) for c in theirs if c.t == t]
    lines += [
        (_Curves.of_rows("", t, seed.rows), looks[_method(group)])
        for group in found
        if group.t == t
        for seed in group.seeds
    ]
    for curves, (line, color) in lines:
        most = max(curves.val_sequences, default=0)
        for n, sequences, losses in curves.validations(curves.sequences):
            single = sum(map(math.isfinite, losses)) == 1  # which has no line
            axes.plot(
                sequences,
                losses,
                linestyle=line,
                color=color,
                linewidth=1.2,
                marker="o" if single else None,
                markersize=4,
                alpha=1 if n == most else _FEWER,
            )
        _mark_diverged(axes, curves.sequences, curves.val_loss, color)
    _constant_lines(
        axes,
        [group for group in found if group.t == t],
        [curves for curves in theirs if curves.t == t],
        "",
    )
    axes.set(xscale="log", yscale="log")
    low, high = axes.get_xlim()
    axes.xaxis.set_major_locator(
        LogLocator(subs=(1, 2, 5) if high < 10 * low else (1,), numticks=9)
    )
    axes.xaxis.set_major_formatter(EngFormatter(sep=" "))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_title(f"T = {t:,}", fontsize=11)


def _constant_lines(
    axes: Axes, found: Sequence[Group], theirs: Sequence[_Curves], label: str
) -> None:
    """What always answering the mean scores: a line for each task, at its longest T, on which it hardly depends."""
    longest = {
        group.task: constant_predictor_mse(group.task, group.t)
        for group in sorted(found, key=lambda group: group.t)
    }
    errors = [*longest.values(), *(curves.constant_mse for curves in theirs)]
    for error in {f"{error:.3f}": error for error in errors}.values():
        _constant_line(axes, error, label)


def _constant_line(axes: Axes, mse: float, label: str) -> None:
    axes.axhline(
        mse,
        color=_CONSTANT,
        linestyle="--",
        linewidth=1,
        label=f"{label} ({mse:.3f})" if label else None,
    )


def _whole_decades(axes: Axes, name: str) -> None:
    """Ticks of a log axis, `x` or `y`, at whole powers of ten alone; it begins at one, and where it has fewer than two decades ends at one."""
    from matplotlib.ticker import NullFormatter

    axis = getattr(axes, f"{name}axis")
    axis.set_minor_formatter(NullFormatter())
    ends = sorted(axis.get_view_interval())
    if ends[0] <= 0:  # where nothing is drawn
        return
    low, high = np.clip(np.log10(ends), -300, 300)
    axes.set(
        **{
            f"{name}lim": (
                10.0 ** math.floor(low + 0.1),
                10.0 ** (math.ceil(high) if high - low < 2 else high),
            )
        }
    )


def _length_ticks(axes: Axes, lengths: Sequence[int]) -> None:
    """Ticks at these lengths, fewer where they are close to each other, and limits a little outside."""
    log = axes.get_xscale() == "log"
    ordered = sorted({t for t in lengths if t > 0}, reverse=True)
    if not ordered:  # of a folder that someone else has made
        return
    low, high = ordered[-1], ordered[0]
    places = {
        t: (math.log(t / low) / math.log(high / low) if log else (t - low) / (high - low))
        if high > low
        else 0.0
        for t in ordered
    }
    least = _TICK_DISTANCE * axes.figure.dpi / axes.bbox.width
    ticks = ordered[:1]
    for t in ordered[1:]:
        if places[ticks[-1]] - places[t] >= least:
            ticks.append(t)
    axes.set_xticks(ticks, [_short_length(t) for t in ticks])
    axes.set_xticks([], minor=True)
    outside = (high - low) / 15 or low / 2
    axes.set_xlim((low / 1.5, high * 1.5) if log else (low - outside, high + outside))


def _short_length(t: int) -> str:
    """With a prefix where the number is long."""
    from matplotlib.ticker import EngFormatter

    return f"{t:,}" if t < 10_000 else EngFormatter(sep=" ")(t)


def _set_title(figure: Figure, title: str) -> None:
    """Above all, in as many lines as it needs."""
    if title:
        columns = int(_TITLE_COLUMNS * figure.get_figwidth())
        figure.suptitle("\n".join(textwrap.wrap(title, columns)))


def _outcome(result: RunResult) -> str:
    best = result.best_val_loss
    if best < SOLVED:
        return f"solved, MSE {best:.1e}"
    if result.on_plateau:
        return "nothing learned"
    return f"not solved, MSE {best:.1e}"


@contextmanager
def _figure(path: Path, size: tuple[float, float]) -> Iterator[Figure]:
    """A figure of the house's style, written in one piece when the block ends well; no global matplotlib state."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):  # type: ignore[arg-type]
        figure = Figure(figsize=size, layout="constrained")
        yield figure
        buffer = io.BytesIO()
        figure.savefig(buffer, format=path.suffix.lstrip(".") or "png")
    atomic_io.write(path, buffer.getvalue())
