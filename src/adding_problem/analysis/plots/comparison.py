"""Pictures of many runs: losses and costs by method and length."""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from adding_problem.analysis.aggregate import Group
from adding_problem.analysis.original import OriginalRun
from adding_problem.analysis.plots import style
from adding_problem.analysis.plots.one_run import split_by_coverage
from adding_problem.analysis.statistics import FEW
from adding_problem.runs.records import EpochRow, RunRecord, first_below, lowest_val_loss
from adding_problem.task.baselines import constant_predictor_mse
from adding_problem.task.thresholds import THRESHOLDS
from adding_problem.task.variants import Task

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_comparison", "draw_costs"]

_MOST_BANDS = 4  # curves of one panel that are drawn with their bands
_LEGEND_COLUMNS = 64  # characters of a method's name in a row of the legend

Method = tuple[str, Task]
Look = tuple[str, str]


def draw_comparison(
    path: Path,
    groups: Sequence[Group],
    originals: Sequence[OriginalRun] = (),
    *,
    title: str = "",
) -> None:
    """The best loss against T, and below it every run's validation losses, a panel for each T.

    Several seeds are drawn by their median, with a 95% interval where they are enough for one,
    else with their range. Beside it stands when they had solved the task.

    Args:
        path: where the picture goes; the suffix chooses the format (png, pdf, svg).
        groups: the runs, at least one.
        originals: runs of the original program, drawn beside them.
        title: above the picture.
    """
    seeds = max(len(group.seeds) for group in groups) > 1
    lengths = sorted({*(group.t for group in groups), *(run.t for run in originals)})
    columns = min(4, len(lengths))
    rows = math.ceil(len(lengths) / columns)
    size = (max(12 if seeds else 7.5, 3.2 * columns), 4.5 + 2.4 * rows)
    looks = dict(zip(dict.fromkeys(map(_method, groups)), _looks(), strict=False))
    with style.new_figure(path, size, title) as figure:
        top, bottom = figure.subfigures(2, 1, squeeze=False, height_ratios=[4.5, 2.4 * rows])[:, 0]
        best, *solved = top.subplots(1, 2 if seeds else 1, squeeze=False)[0]
        _plot_best(best, groups, originals, looks)
        for axes in solved:
            _plot_solved_by(axes, groups)
        panels = bottom.subplots(rows, columns, squeeze=False, sharey=True)
        for axes in panels.flat[len(lengths) :]:
            axes.set_axis_off()
        for index, (axes, t) in enumerate(zip(panels.flat, lengths, strict=False)):
            here = [group for group in groups if group.t == t]
            theirs = [each for each in originals if each.t == t]
            _plot_panel(axes, here, theirs, looks)
            axes.set_title(f"T = {t:,}", fontsize=11)
            axes.set_xlabel("training sequences" if index + columns >= len(lengths) else "")
        for axes in panels[:, 0]:
            axes.set_ylabel("validation MSE")
            style.use_whole_decades(axes)


def draw_costs(
    path: Path, runs: Sequence[RunRecord], originals: Sequence[OriginalRun], title: str
) -> None:
    """Epochs and sequence-steps until the validation loss first was below 1e-2, against T.

    Where it never was, a cross stands at what the run had spent at its end.

    Args:
        path: where the picture goes.
        runs: one for each T.
        originals: runs of the original program.
        title: above the picture.
    """
    from matplotlib.ticker import LogLocator, NullFormatter

    series: list[tuple[Sequence[RunRecord | OriginalRun], str, str, str]] = [
        (originals, "the original", style.ORIGINAL, "s"),
        (runs, "ours", style.VALIDATION, "o"),
    ]
    units = {"epoch": "epochs", "sequence_steps": "sequence-steps"}
    with style.new_figure(path, (10, 4.5), title) as figure:
        for axes, (unit, words) in zip(figure.subplots(1, 2), units.items(), strict=True):
            for found, name, color, marker in series:
                reached: list[tuple[int, int]] = []
                ended: list[tuple[int, int]] = []
                for run in sorted(found, key=lambda run: run.t):
                    first = first_below(run.rows, THRESHOLDS["1e-2"])
                    cost = getattr(first or run.rows[-1], unit)
                    (reached if first else ended).append((run.t, cost))
                axes.plot(*zip(*reached, strict=True), marker=marker, color=color, label=name)
                if ended:
                    cross = {"color": color, "markersize": 14, "markeredgewidth": 2}
                    label = f"{name}: ended before"
                    axes.plot(*zip(*ended, strict=True), "x", label=label, **cross)
            axes.set(xscale="log", xlabel="sequence length T")
            axes.set_title(f"{words} until the validation MSE is below 1e-2", fontsize=11)
            style.use_length_ticks(axes, [run.t for found, *_ in series for run in found])
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        style.use_prefixes(axes.yaxis)
        axes.yaxis.set_minor_formatter(NullFormatter())
        figure.axes[0].set_ylim(0, None)
        figure.axes[0].legend()


def _method(group: Group) -> Method:
    """What has a look of its own."""
    return group.method, group.task


def _looks() -> Iterator[Look]:
    """Line style and colour, without end: every colour with a full line, then dashed, dotted."""
    return itertools.cycle(itertools.product(("-", "--", ":"), style.PALETTE))


def _plot_best(
    axes: Axes,
    groups: Sequence[Group],
    originals: Sequence[OriginalRun],
    looks: Mapping[Method, Look],
) -> None:
    for method, (line, color) in looks.items():
        members = [group for group in groups if _method(group) == method]
        losses = [group.losses for group in members]
        axes.plot(
            [group.t for group in members],
            [found.median for found in losses],
            f"o{line}",
            color=color,
            label="\n".join(textwrap.wrap(_label(method, members), _LEGEND_COLUMNS, max_lines=2)),
        )
        for group, found in zip(members, losses, strict=True):
            style.mark_diverged(axes, [group.t], [found.median], color)
            low, high = found.interval or (found.least, found.most)
            axes.plot(
                [group.t] * 2,
                [low, high if math.isfinite(high) else max(low, 1.0)],
                color=color,
                linewidth=2.5 if found.interval else 1,
                alpha=0.6,
            )
    if originals:
        ordered = sorted(originals, key=lambda run: run.t)
        axes.plot(
            [run.t for run in ordered],
            [lowest_val_loss(run.rows) for run in ordered],
            "s-",
            color=style.ORIGINAL,
            label="the original",
        )
    _draw_baselines(axes, groups, originals, "mean baseline")
    rows = [row for group in groups for seed in group.seeds for row in seed.rows]
    if not all(math.isfinite(row.val_loss) for row in rows):
        axes.plot([], [], "x", color=style.BASELINE, label="diverged")
    axes.set(xlabel="sequence length T", ylabel="mean squared error", yscale="log")
    style.use_length_ticks(axes, [*(g.t for g in groups), *(run.t for run in originals)])
    style.use_whole_decades(axes)
    intervals = any(group.losses.interval for group in groups)
    medians = ", medians with 95% intervals" if intervals else ""
    axes.set_title(f"Loss against the length{medians}", fontsize=11)
    axes.legend(fontsize=9)


def _label(method: Method, members: Sequence[Group]) -> str:
    counts = [len(group.seeds) for group in members]
    seeds = " to ".join(map(str, sorted({min(counts), max(counts)})))
    median = f" (median of {seeds} seeds)" if seeds != "1" else ""
    return f"{method[0]}, {method[1].title}{median}"


def _plot_solved_by(axes: Axes, groups: Sequence[Group]) -> None:
    """Kaplan and Meier's curves of the share of runs with a validation loss below 1e-3.

    Where there are few curves they have their bands.
    """
    for group, (line, color) in zip(groups, _looks(), strict=False):
        curve = group.cost("1e-3", "sequence_steps")
        steps = [row.sequence_steps for seed in group.seeds for row in seed.rows]
        places = [0.0, *curve.costs, max([0, *steps, *curve.costs])]
        name = textwrap.wrap(f"T = {group.t:,}, {group.method}", _LEGEND_COLUMNS, max_lines=2)
        axes.step(
            places,
            [0.0, *curve.share, (curve.share or (0.0,))[-1]],
            where="post",
            color=color,
            linestyle=line,
            label="\n".join([*name, f"({curve.events} of {curve.n})"]),
        )
        if len(groups) <= _MOST_BANDS and curve.costs and len(group.seeds) >= FEW:
            low, high = ([0.0, *side, side[-1]] for side in (curve.low, curve.high))
            axes.fill_between(places, low, high, step="post", color=color, alpha=0.15, linewidth=0)
    axes.set(xlabel="sequence-steps", ylabel="share of runs", ylim=(-0.03, 1.03))
    style.use_prefixes(axes.xaxis)
    axes.set_title("Solved by: validation MSE below 1e-3", fontsize=11)
    axes.legend(fontsize=8)


def _plot_panel(
    axes: Axes,
    groups: Sequence[Group],
    originals: Sequence[OriginalRun],
    looks: Mapping[Method, Look],
) -> None:
    """The validation losses of the runs of one length."""
    from matplotlib.ticker import LogLocator, NullFormatter

    lines: list[tuple[Sequence[EpochRow], Look]] = [
        (run.rows, ("-", style.ORIGINAL)) for run in originals
    ]
    lines += [(seed.rows, looks[_method(group)]) for group in groups for seed in group.seeds]
    for rows, (line, color) in lines:
        most = max((row.val_sequences for row in rows), default=0)
        for n, part in split_by_coverage(rows):
            losses = [row.val_loss for row in part]
            single = sum(map(math.isfinite, losses)) == 1  # which has no line
            axes.plot(
                [row.sequences for row in part],
                losses,
                linestyle=line,
                color=color,
                linewidth=1.2,
                marker="o" if single else None,
                markersize=4,
                alpha=1 if n == most else style.FEWER,
            )
        sequences = [row.sequences for row in rows]
        style.mark_diverged(axes, sequences, [row.val_loss for row in rows], color)
    _draw_baselines(axes, groups, originals, "")
    axes.set(xscale="log", yscale="log")
    low, high = axes.get_xlim()
    narrow = high < 10 * low
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if narrow else (1,), numticks=9))
    style.use_prefixes(axes.xaxis)
    axes.xaxis.set_minor_formatter(NullFormatter())


def _draw_baselines(
    axes: Axes, groups: Sequence[Group], originals: Sequence[OriginalRun], label: str
) -> None:
    """The mean baseline of each task at its longest T, on which it hardly depends."""
    longest = {group.task: group.t for group in sorted(groups, key=lambda group: group.t)}
    errors = [constant_predictor_mse(task, t) for task, t in longest.items()]
    errors += [constant_predictor_mse(Task(), run.t) for run in originals]
    for error in {f"{error:.3f}": error for error in errors}.values():
        style.draw_baseline(axes, error, label)
