"""Pictures of many runs: losses and costs by method and length."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from adding_problem.analysis.aggregate import Group, finding
from adding_problem.analysis.original import OriginalRun
from adding_problem.analysis.plots import style
from adding_problem.analysis.plots.one_run import split_by_coverage
from adding_problem.analysis.statistics import FEW
from adding_problem.runs.records import EpochRow, RunRecord, first_below, lowest_val_loss
from adding_problem.system.output import shorten
from adding_problem.task.baselines import constant_predictor_mse
from adding_problem.task.thresholds import SOLVED, THRESHOLDS
from adding_problem.task.variants import Task

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

__all__ = ["draw_comparison", "draw_costs"]

_MOST_BANDS = 4  # curves of one panel that are drawn with their bands
_MOST_COLUMNS = 5
_LONGEST_NAME = 44  # characters of a method's name in the legend

Method = tuple[str, Task]


@dataclass(frozen=True)
class _Look:
    """How a method is drawn: by colour, line and marker, each its own."""

    color: str
    line: str = "-"
    marker: str = "o"
    order: int = 3


_LOOKS = tuple(
    _Look(color, line, marker)
    for color, line, marker in zip(style.PALETTE, 4 * ("-", "--"), "o^vDPX*s", strict=True)
)
_OTHER = _Look("#BBBBBB", marker=".", order=2)
_ORIGINAL = _LOOKS[-1]


def draw_comparison(
    path: Path,
    groups: Sequence[Group],
    originals: Sequence[OriginalRun] = (),
    *,
    title: str = "",
) -> None:
    """Losses against T; below them, a panel for each T, when runs solved it and their curves.

    Several seeds are drawn by their median, with a 95% interval where they are enough for one,
    else with their range. The eight best methods have a colour, the others are grey.

    Args:
        path: where the picture goes; the suffix chooses the format (png, pdf, svg).
        groups: the runs, at least one.
        originals: runs of the original program, drawn beside them.
        title: above the picture; by default what it shows.
    """
    lengths = sorted({*(group.t for group in groups), *(run.t for run in originals)})
    rows = math.ceil(len(lengths) / _MOST_COLUMNS)
    columns = math.ceil(len(lengths) / rows)
    several = max(len(group.runs) for group in groups) > 1
    heights = [4.2, *[0.5 + 2.6 * rows] * (1 + several)]
    looks = _looks(groups, len(_LOOKS) - bool(originals))
    size = (max(10, 3.0 * columns), sum(heights) + 0.8)
    with style.new_figure(path, size, title or finding(groups)) as figure:
        parts = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
        best, beside = parts[0].subplots(1, 2, width_ratios=[3, 2])
        _plot_best(best, groups, originals, looks)
        _draw_legend(beside, best, len(dict.fromkeys(map(_method, groups))) - len(looks))
        if several:
            parts[1].suptitle(
                "Share of runs with a validation MSE below 1e-3; |: a run ended there without it",
                fontsize=11,
            )
            for axes, t in _panels(parts[1], rows, columns, lengths):
                _plot_solved_by(axes, [group for group in groups if group.t == t], looks)
        parts[-1].suptitle("Validation MSE, a line for each run", fontsize=11)
        for axes, t in _panels(parts[-1], rows, columns, lengths):
            here = [group for group in groups if group.t == t]
            _plot_curves(axes, here, [run for run in originals if run.t == t], looks)
        style.use_whole_decades(axes)
        figure.supxlabel("\n".join(_notes(groups)), fontsize=9, color=style.BASELINE)


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


def _looks(groups: Sequence[Group], most: int) -> dict[Method, _Look]:
    """A look for each of the best methods; oracles come after all others."""
    members: dict[Method, list[Group]] = {}
    for group in groups:
        members.setdefault(_method(group), []).append(group)

    def rank(method: Method) -> tuple[bool, int, float]:
        solved = [group.t for group in members[method] if group.solved_by_most]
        losses = [min(group.losses.median, 1e3) for group in members[method]]
        return members[method][0].oracle, -max(solved, default=0), float(np.median(losses))

    chosen = set(sorted(members, key=rank)[:most])
    return dict(zip([one for one in members if one in chosen], _LOOKS, strict=False))


def _panels(
    part: SubFigure, rows: int, columns: int, lengths: Sequence[int]
) -> list[tuple[Axes, int]]:
    """Axes for each length, in rows; those that are left over are empty."""
    axes = part.subplots(rows, columns, squeeze=False, sharey=True)
    for empty in axes.flat[len(lengths) :]:
        empty.set_axis_off()
    found = list(zip(axes.flat, lengths, strict=False))
    for index, (each, t) in enumerate(found):
        each.set_title(f"T = {t:,}", fontsize=10)
        each.set_xlabel("sequence-steps" if index + columns >= len(lengths) else "")
    return found


def _plot_best(
    axes: Axes,
    groups: Sequence[Group],
    originals: Sequence[OriginalRun],
    looks: Mapping[Method, _Look],
) -> None:
    several = len({group.task for group in groups}) > 1
    for method in dict.fromkeys(map(_method, groups)):
        look = looks.get(method, _OTHER)
        members = [group for group in groups if _method(group) == method]
        losses = [group.losses for group in members]
        axes.plot(
            [group.t for group in members],
            [found.median for found in losses],
            marker=look.marker,
            linestyle=look.line,
            color=look.color,
            zorder=look.order,
            label=_label(method, members, several) if method in looks else None,
        )
        for group, found in zip(members, losses, strict=True):
            style.mark_diverged(axes, [group.t], [found.median], look.color)
            low, high = found.interval or (found.least, found.most)
            axes.plot(
                [group.t] * 2,
                [low, high if math.isfinite(high) else max(low, 1.0)],
                color=look.color,
                linewidth=2.5 if found.interval else 1,
                alpha=0.6,
                zorder=look.order,
            )
    if originals:
        ordered = sorted(originals, key=lambda run: run.t)
        axes.plot(
            [run.t for run in ordered],
            [lowest_val_loss(run.rows) for run in ordered],
            marker=_ORIGINAL.marker,
            linestyle=_ORIGINAL.line,
            color=_ORIGINAL.color,
            label="the original program (1 run each)",
        )
    _draw_baselines(axes, groups, originals, "mean baseline")
    axes.axhline(SOLVED, color=style.BASELINE, linewidth=1, linestyle=":", label="solved: 1e-3")
    rows = [row for group in groups for run in group.runs for row in run.rows]
    if not all(math.isfinite(row.val_loss) for row in rows):
        axes.plot([], [], "x", color=style.BASELINE, label="diverged")
    axes.set(xlabel="sequence length T", ylabel=groups[0].measure, yscale="log")
    lengths = [*(group.t for group in groups), *(run.t for run in originals)]
    if max(lengths) > 5 * min(lengths):
        axes.set_xscale("log")
    style.use_length_ticks(axes, lengths)
    style.use_whole_decades(axes)


def _draw_legend(axes: Axes, of: Axes, more: int) -> None:
    """What is drawn in other axes, and how many methods have no entry."""
    axes.set_axis_off()
    handles, labels = of.get_legend_handles_labels()
    if more:
        handles.append(of.plot([], [], color=_OTHER.color, marker=_OTHER.marker)[0])
        labels.append(f"+{more} more, in grey")
    axes.legend(handles, labels, loc="center left", fontsize=9)


def _label(method: Method, members: Sequence[Group], with_task: bool) -> str:
    counts = sorted({len(group.runs) for group in members})
    seeds = " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
    told = members[0].told  # which the notes say
    name = shorten(method[0].replace(told, told.partition(":")[0]), _LONGEST_NAME)
    task = f", {method[1].title}" if with_task else ""
    return "\n".join(
        textwrap.wrap(f"{name}{task} ({seeds} seed{'s' * (seeds != '1')})", _LONGEST_NAME)
    )


def _notes(groups: Sequence[Group]) -> list[str]:
    """What the marks mean, and what an initialisation tells a model."""
    tasks = sorted({group.task.title for group in groups})
    bars = "Bars: range over the seeds; no bar: one seed."
    if any(group.losses.interval for group in groups):
        bars = "Thick bars: 95% intervals of the median. Thin bars: range, of fewer than six seeds."
    told = sorted({group.told for group in groups if group.told})
    return [
        f"Task: {'; '.join(tasks)}. Markers: medians over the seeds. {bars}",
        *(f"init {one}" for one in told),
    ]


def _plot_solved_by(axes: Axes, groups: Sequence[Group], looks: Mapping[Method, _Look]) -> None:
    """Kaplan and Meier's curves; where there are few they have their bands."""
    every = [row.sequence_steps for group in groups for run in group.runs for row in run.rows]
    begin, end = (pick(filter(None, every), default=1) for pick in (min, max))
    for group in groups:
        look, curve = looks.get(_method(group), _OTHER), group.cost("1e-3", "sequence_steps")
        places = [begin, *curve.costs, end]
        share = [0.0, *curve.share, (curve.share or (0.0,))[-1]]
        drawn: dict[str, Any] = {"color": look.color, "zorder": look.order}
        axes.step(places, share, where="post", linestyle=look.line, **drawn)
        censored = [
            spent
            for run in group.runs
            if not run.first_below(SOLVED) and (spent := run.spent("sequence_steps"))
        ]
        heights = [share[np.searchsorted(places[:-1], one, side="right") - 1] for one in censored]
        axes.plot(censored, heights, "|", markersize=9, **drawn)
        if len(groups) <= _MOST_BANDS and curve.costs and len(group.runs) >= FEW:
            low, high = ([0.0, *side, side[-1]] for side in (curve.low, curve.high))
            axes.fill_between(
                places, low, high, step="post", color=look.color, alpha=0.15, linewidth=0
            )
    axes.set(ylim=(-0.08, 1.08), xscale="log")
    _use_few_ticks(axes)


def _plot_curves(
    axes: Axes,
    groups: Sequence[Group],
    originals: Sequence[OriginalRun],
    looks: Mapping[Method, _Look],
) -> None:
    """The validation losses of the runs of one length."""
    lines: list[tuple[Sequence[EpochRow], _Look]] = [(run.rows, _ORIGINAL) for run in originals]
    lines += [
        (run.rows, looks.get(_method(group), _OTHER)) for group in groups for run in group.runs
    ]
    for rows, look in lines:
        most = max((row.val_sequences for row in rows), default=0)
        for n, part in split_by_coverage(rows):
            losses = [row.val_loss for row in part]
            single = sum(map(math.isfinite, losses)) == 1  # which has no line
            axes.plot(
                [row.sequence_steps for row in part],
                losses,
                linestyle=look.line,
                color=look.color,
                linewidth=1.2,
                marker="o" if single else None,
                markersize=4,
                alpha=1 if n == most else style.FEWER,
                zorder=look.order,
            )
        steps = [row.sequence_steps for row in rows]
        style.mark_diverged(axes, steps, [row.val_loss for row in rows], look.color)
    _draw_baselines(axes, groups, originals, "")
    axes.set(xscale="log", yscale="log")
    _use_few_ticks(axes)


def _use_few_ticks(axes: Axes) -> None:
    """Of a logarithmic axis of sequence-steps."""
    from matplotlib.ticker import LogLocator, NullFormatter

    low, high = axes.get_xlim()
    narrow = high < 10 * low
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if narrow else (1,), numticks=5))
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
