"""The picture of a horizon run."""

from __future__ import annotations

import textwrap
from pathlib import Path

from adding_problem.analysis.plots import style
from adding_problem.runs.records import HorizonResult

__all__ = ["draw_horizon"]

_TITLE_COLUMNS = 85
# Threshold, colour, marker, its size: the two are often in the same place. The lower threshold is
# the darker one.
_THRESHOLDS = (("1e-2", "#9ECAE1", "s", 9), ("1e-3", "#08519C", "o", 5))


def draw_horizon(path: Path, horizon: HorizonResult) -> None:
    """What every length cost, in sequence-steps and in seconds."""
    from matplotlib.ticker import EngFormatter, StrMethodFormatter

    units = (
        ("sequence_steps", "sequence-steps", EngFormatter(sep=" ")),
        ("seconds", "seconds of training", StrMethodFormatter("{x:,g}")),
    )
    rungs = horizon.rungs
    with style.new_figure(path, (10, 4.5)) as figure:
        for axes, (unit, name, labels) in zip(figure.subplots(1, 2), units, strict=True):
            for threshold, color, marker, size in _THRESHOLDS:
                reached = [rung for rung in rungs if rung.reached[threshold]]
                axes.plot(
                    [rung.t for rung in reached],
                    [getattr(rung.reached[threshold], unit) for rung in reached],
                    marker=marker,
                    markersize=size,
                    color=color,
                    label=f"validation MSE below {threshold}",
                )
            cross = {"color": style.BASELINE, "markersize": 9, "label": "ended there, not solved"}
            for rung in rungs:
                if not rung.solved:
                    axes.plot(rung.t, getattr(rung, unit), "x", **cross)
            scale = "log" if rungs else "linear"  # a log axis cannot be empty
            axes.set(xscale=scale, yscale=scale, xlabel="sequence length T")
            axes.set_title(f"{name}, all lengths up to T together", fontsize=11)
            style.use_length_ticks(axes, [rung.t for rung in rungs])
            style.use_whole_decades(axes)
            axes.yaxis.set_major_formatter(labels)
        figure.axes[0].legend()
        found = f"T = {horizon.horizon:,}" if horizon.horizon else "none of the lengths"
        figure.suptitle(
            f"Horizon: {found} ({horizon.task.title}), seed {horizon.seed}{_why_it_ended(horizon)}"
            + "".join(f"\n{line}" for line in textwrap.wrap(horizon.model, _TITLE_COLUMNS))
        )


def _why_it_ended(horizon: HorizonResult) -> str:
    """Why the horizon run went no further, as far as its last length tells."""
    if not horizon.rungs:
        return ""
    last = horizon.rungs[-1]
    if last.stop_reason == "budget" or horizon.budget.without(last).is_spent:
        budget = f"the budget of {horizon.budget} ran out"
        return f"; then {budget}" if last.solved else f"; at T = {last.t:,} {budget}"
    if last.solved:
        return ""
    return f"; T = {last.t:,} not solved" + (f" ({last.stop_reason})" if last.stop_reason else "")
