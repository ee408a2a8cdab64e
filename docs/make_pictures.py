"""Draw the pictures of README and docs from their records, into docs/pictures.

python docs/make_pictures.py
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adding_problem.analysis.plots.style import draw_baseline, new_figure
from adding_problem.task.baselines import constant_predictor_mse
from adding_problem.task.thresholds import SOLVED

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DOCS = Path(__file__).parent
PICTURES = DOCS / "pictures"

Run = dict[str, Any]


def main() -> None:
    """Draw them all."""
    headline(json.loads((DOCS / "ladder.json").read_text())["runs"])


# --- the headline --------------------------------------------------------------------------------

QUESTION = "difference, 6 noise columns"
STARTS = {"long": ("#6f8fc4", "-"), "keras": ("#303030", "--"), "keyed": ("#0b2a5b", "-")}
TITLE = "Trained on at most 1,000 steps, keyed still answers at a million"


def headline(runs: list[Run]) -> None:
    """Error against the tested T, of three starts on the question with noise columns."""
    with new_figure(PICTURES / "headline.png", (7.8, 3.2), TITLE) as figure:
        axes = figure.add_subplot()
        for start, style in STARTS.items():
            group = [run for run in runs if (run["row"], run["question"]) == (start, QUESTION)]
            if group:
                _draw_errors(axes, group, f"{start}, {len(group)} seeds", style)
        draw_baseline(axes, constant_predictor_mse())
        axes.axhline(SOLVED, color="#666666", linestyle=":", linewidth=1, label="solved (0.001)")
        axes.set(
            xscale="log",
            yscale="log",
            xlabel="T of the test set, in steps (longest trained: 1,000)",
            ylabel="mean squared error",
        )
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))


def _draw_errors(axes: Axes, group: list[Run], label: str, style: tuple[str, str]) -> None:
    """A line through the medians over the seeds, and a dot for each seed."""
    errors: dict[int, list[float]] = {}
    for run in group:
        for length, error in run["errors"].items():
            errors.setdefault(int(length), []).append(error["mse"])
    lengths, (color, line) = sorted(errors), style
    medians = [statistics.median(errors[length]) for length in lengths]
    axes.plot(lengths, medians, color=color, linestyle=line, linewidth=2, label=label)
    for length in lengths:
        axes.plot([length] * len(errors[length]), errors[length], "o", color=color, markersize=3)


if __name__ == "__main__":
    main()
