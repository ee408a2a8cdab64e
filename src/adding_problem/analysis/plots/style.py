"""What all pictures share: colours, axes, and a figure that is written when its block ends."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from adding_problem.runs import atomic_io

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

TRAIN, VALIDATION, BASELINE, ORIGINAL = "#56B4E9", "#D55E00", "#666666", "#000000"
PALETTE = "#AF363A", "#0A6580", "#5931CF", "#A58A00", "#4E87E7", "#6E0000", "#000060", ORIGINAL
"""Of eight categories, the most that a picture has. Colour-blind readers can tell them apart too;
the report's are nearly the same."""
FEWER = 0.4
"""Opacity of validation losses over fewer sequences than others of the run."""

_TICK_DISTANCE = 0.55  # inches, so that the labels of two lengths do not touch
_TITLE_COLUMNS = 8.5  # characters of a title in an inch
_STYLE: dict[str, Any] = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "font.size": 11,
    "legend.frameon": False,
    "savefig.dpi": 150,
}


@contextmanager
def new_figure(path: Path, size: tuple[float, float], title: str = "") -> Iterator[Figure]:
    """A figure that is written in one piece when the block ends well.

    matplotlib's global state stays as it is.

    Args:
        path: where it goes; the suffix chooses the format (png, pdf, svg).
        size: width and height in inches.
        title: above all, in as many lines as it needs.

    Raises:
        StorageError: when it cannot be written.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):  # type: ignore[arg-type]
        figure = Figure(figsize=size, layout="constrained")
        if title:
            figure.suptitle("\n".join(textwrap.wrap(title, int(_TITLE_COLUMNS * size[0]))))
        yield figure
        buffer = io.BytesIO()
        figure.savefig(buffer, format=path.suffix.lstrip(".") or "png")
    atomic_io.write(path, buffer.getvalue())


def draw_baseline(axes: Axes, mse: float, label: str = "mean baseline") -> None:
    """A dashed line at the mean baseline, with its number where it has a label."""
    axes.axhline(
        mse,
        color=BASELINE,
        linestyle="--",
        linewidth=1,
        label=f"{label} ({mse:.3f})" if label else None,
    )


def mark_diverged(
    axes: Axes, places: Sequence[float], losses: Sequence[float], color: str, label: str = ""
) -> None:
    """A cross at the top where the loss first was not finite, which has no place on an axis."""
    pairs = zip(places, losses, strict=True)
    first = next((place for place, loss in pairs if not math.isfinite(loss)), None)
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


def use_prefixes(axis: Axis) -> None:
    """Label the ticks of an axis with SI prefixes: 12 k, 3 M."""
    from matplotlib.ticker import EngFormatter

    axis.set_major_formatter(EngFormatter(sep=" "))


def use_whole_decades(axes: Axes) -> None:
    """Ticks of a logarithmic y axis at whole powers of ten alone.

    It begins at one, and ends at one where it would have fewer than two decades.
    """
    from matplotlib.ticker import NullFormatter

    axes.yaxis.set_minor_formatter(NullFormatter())
    ends = sorted(axes.yaxis.get_view_interval())
    if ends[0] <= 0:  # where nothing is drawn
        return
    low, high = np.clip(np.log10(ends), -300, 300)
    top = math.ceil(high) if high - low < 2 else high
    axes.set_ylim(10.0 ** math.floor(low + 0.1), 10.0**top)


def use_length_ticks(axes: Axes, lengths: Sequence[int]) -> None:
    """Ticks of the x axis at these lengths, fewer where they are close to each other."""
    log = axes.get_xscale() == "log"
    ordered = sorted({t for t in lengths if t > 0}, reverse=True)
    if not ordered:  # an untrusted horizon.json may have no rungs
        return
    low, high = ordered[-1], ordered[0]

    def place(t: int) -> float:
        if high == low:
            return 0.0
        return math.log(t / low) / math.log(high / low) if log else (t - low) / (high - low)

    least = _TICK_DISTANCE * axes.figure.dpi / axes.bbox.width
    ticks = ordered[:1]
    for t in ordered[1:]:
        if place(ticks[-1]) - place(t) >= least:
            ticks.append(t)
    axes.set_xticks(ticks, [_short_length(t) for t in ticks])
    axes.set_xticks([], minor=True)
    outside = (high - low) / 15 or low / 2
    axes.set_xlim((low / 1.5, high * 1.5) if log else (low - outside, high + outside))


def _short_length(t: int) -> str:
    from matplotlib.ticker import EngFormatter

    return f"{t:,}" if t < 10_000 else EngFormatter(sep=" ")(t)
