"""Draw the pictures of README and docs from their records, into docs/pictures.

python docs/make_pictures.py                     # all of them
python docs/make_pictures.py headline.png        # some

Nothing is measured here: a picture shows what a JSON record in docs holds, and its title says what
that is. `PICTURES` has a function for every file in docs/pictures that is drawn so.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from adding_problem.analysis.plots import style
from adding_problem.task.baselines import constant_predictor_mse
from adding_problem.task.thresholds import SOLVED

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DOCS = Path(__file__).parent
PICTURES_FOLDER = DOCS / "pictures"
SIZE = (7.6, 3.2)  # inches: 760 by 320 pixels on a page
_RED, _BLUE, _PINK, _ORANGE, _LIGHT, _BLACK, *_ = style.PALETTE
_GREY = style.BASELINE


def record(name: str) -> Any:
    """A JSON record of docs."""
    return json.loads((DOCS / name).read_text(encoding="utf-8"))


def power_of_ten(value: float) -> str:
    """Such as 10⁻²³."""
    digits = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
    return "10" + str(round(np.log10(value))).translate(digits)


def short(value: float) -> str:
    """Such as 0.17 and 1.5e-04."""
    return f"{value:.2g}" if value >= 0.01 else f"{value:.1e}"


def show_marks(axes: Axes, marks: list[int]) -> None:
    """A dotted line at each marked step."""
    for step in marks:
        axes.axvline(step, color=_GREY, linestyle=":", linewidth=1)


# --- the headline ---------------------------------------------------------------------------------

QUESTION = "difference, 6 noise columns"
STARTS = {
    "long": ("long: told a time scale", "#6f8fc4", "-"),
    "keras": ("keras", "#303030", "--"),
    "keyed": ("keyed: told a time scale\nand to write rarely", "#0b2a5b", "-"),
}
TITLE = "Trained on at most 1,000 steps, keyed still answers at a million"


def draw_headline(path: Path) -> None:
    """Error against the tested T, of three starts on the question with noise columns."""
    runs = record("ladder.json")["runs"]
    with style.new_figure(path, (7.8, 3.2), TITLE) as figure:
        axes = figure.add_subplot()
        for start, look in STARTS.items():
            group = [run for run in runs if (run["row"], run["question"]) == (start, QUESTION)]
            if group:
                _draw_errors(axes, group, *look)
        style.draw_baseline(axes, constant_predictor_mse())
        axes.axhline(SOLVED, color=_GREY, linestyle=":", linewidth=1, label="solved (0.001)")
        axes.set(
            xscale="log",
            yscale="log",
            xlabel="T of the test set, in steps (longest trained: 1,000)",
            ylabel="mean squared error",
        )
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))


def _draw_errors(
    axes: Axes, group: list[dict[str, Any]], label: str, color: str, line: str
) -> None:
    """A line through the medians over the seeds, a dot for each seed, and how many at each T."""
    errors: dict[int, list[float]] = {}
    for run in group:
        for length, error in run["errors"].items():
            errors.setdefault(int(length), []).append(error["mse"])
    lengths = sorted(errors)
    label += f"\n({', '.join(str(len(errors[length])) for length in lengths)} seeds)"
    medians = [statistics.median(errors[length]) for length in lengths]
    axes.plot(lengths, medians, color=color, linestyle=line, linewidth=2, label=label)
    for length in lengths:
        axes.plot([length] * len(errors[length]), errors[length], "o", color=color, markersize=3)


# --- why memory is hard ---------------------------------------------------------------------------


def draw_sequence(path: Path) -> None:
    """The sequence that the page follows, and how the targets are distributed."""
    memory = record("memory.json")
    sequence, t = memory["sequence"], memory["t"]
    marks, values = sequence["marks"], np.array(sequence["values"])
    first, second = (values[step] for step in marks)
    title = (
        f"After {t} values the answer is {first:.3f} + {second:.3f} = {sequence['target']:.3f}; "
        f"the first of the two came {t - marks[0]} steps before the end"
    )
    with style.new_figure(path, SIZE, title) as figure:
        left, right = figure.subplots(1, 2, width_ratios=[3, 1])
        left.vlines(range(t), 0, values, color=style.TRAIN, linewidth=1.5)
        left.vlines(marks, 0, values[marks], color=_RED, linewidth=3)
        left.plot(marks, values[marks], "o", color=_RED, markersize=7)
        for step in marks:
            left.annotate(
                f"mark 1: {values[step]:.3f}",
                (step, values[step]),
                xytext=(0, 6),
                textcoords="offset points",
                ha="center",
                color=_RED,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
            )
        left.set(xlabel="step", ylabel="value", ylim=(0, 1.15), xlim=(-1, t))
        counts = np.array(sequence["targets"])
        edges = np.linspace(0, 2, len(counts) + 1)
        right.stairs(counts, edges, fill=True, color=style.TRAIN)
        right.axvline(1, color=_GREY, linestyle="--")
        right.set(xlabel=f"{counts.sum():,} answers", yticks=[])


def draw_gradients(path: Path) -> None:
    """Gradient against distance in untrained models."""
    gradients = record("memory.json")["gradients"]
    curves = {name: np.array(norms) / norms[0] for name, norms in gradients["by_distance"].items()}
    distance = 100
    kept = [curve[distance] for curve in curves.values()]
    title = (
        f"Over {distance} steps the gradient of a tanh RNN shrinks to {power_of_ten(kept[0])}; "
        f"with forget gates near 1 it keeps {max(kept):.0%}"
    )
    looks = {"-": _RED, "--": _ORANGE, "-.": _PINK, (0, (1, 1)): _BLUE}
    with style.new_figure(path, SIZE, title) as figure:
        axes = figure.add_subplot()
        for (name, curve), (line, color) in zip(curves.items(), looks.items(), strict=True):
            axes.plot(curve, color=color, linestyle=line, linewidth=2, label=name)
        axes.set(
            yscale="log",
            ylim=(1e-30, 10),
            xlim=(0, gradients["t"]),
            xlabel="steps between the input and the answer",
            ylabel="gradient, 1 at the last step",
        )
        axes.legend(fontsize=9)


def draw_gate(path: Path) -> None:
    """One cell of a trained LSTM, step by step."""
    memory = record("memory.json")
    gate, sequence = memory["gate"], memory["sequence"]
    title = (
        f"The input gate of this cell is at {gate['mean_at_marks']:.2f} at a mark and at "
        f"{gate['mean_elsewhere']:.3f} elsewhere; the answer jumps at the marks"
    )
    with style.new_figure(path, SIZE, title) as figure:
        opening, cell, answer = figure.subplots(1, 3)
        opening.plot(gate["untrained_input"], color=_GREY, linewidth=1.5, label="before training")
        opening.plot(gate["input"], color=_RED, linewidth=2, label="after")
        opening.legend(fontsize=9, loc="upper center", bbox_to_anchor=(0.5, 0.93))
        opening.set_title("input gate", fontsize=11)
        opening.set_ylim(-0.02, 1.02)
        cell.plot(gate["cell"], color=_BLUE, linewidth=2)
        cell.set_title("what the cell holds", fontsize=11)
        answer.plot(gate["answer"], color=_BLACK, linewidth=2)
        answer.axhline(sequence["target"], color=_GREY, linestyle="--", linewidth=1)
        answer.set_title("the answer so far", fontsize=11)
        for axes in (opening, cell, answer):
            show_marks(axes, sequence["marks"])
            axes.set_xlabel("step")


def draw_drop(path: Path) -> None:
    """Validation losses with and without a curriculum of lengths."""
    memory = record("memory.json")
    full, curriculum = (memory["drop"][name] for name in ("full length", "curriculum"))
    title = (
        f"At full length the error drops after {full['median'] / 1e6:.1f} million sequence-steps, "
        f"with short sequences first after {curriculum['median'] / 1e6:.2f} million"
    )
    with style.new_figure(path, SIZE, title) as figure:
        axes = figure.add_subplot()
        for found, color, line, label in (
            (full, _RED, "-", f"T = {memory['t']} from the start"),
            (curriculum, _BLUE, "--", "lengths that grow from 20"),
        ):
            for index, run in enumerate(found["runs"]):
                steps, losses = zip(*run, strict=True)
                axes.plot(
                    steps,
                    losses,
                    color=color,
                    linestyle=line,
                    linewidth=1.5,
                    label=None if index else label,
                )
        style.draw_baseline(axes, constant_predictor_mse())
        axes.set(yscale="log", xlabel="sequence-steps of training", ylabel="validation MSE")
        axes.set_xlim(0, None)
        style.use_prefixes(axes.xaxis)
        axes.legend(fontsize=9)


def draw_given(path: Path) -> None:
    """A readout fitted on the untrained model, and the trained model, on every question."""
    (certificate,) = (
        each
        for each in record("certificates.json")["certificates"]
        if (each["model"], each["init"], each["t"]) == ("lstm", "keyed", 1000)
    )
    rows = certificate["rows"][::-1]
    noise = rows[0]
    title = (
        f"Untrained, the LSTM holds the sum already ({short(rows[-1]['fitted_at_t'])}); beside "
        f"noise only training finds the answer ({short(noise['trained'])})"
    )
    with style.new_figure(path, SIZE, title) as figure:
        axes = figure.add_subplot()
        places = range(len(rows))
        fitted = [row["fitted_at_t"] for row in rows]
        trained = [row["trained"] for row in rows]
        axes.plot(
            fitted,
            places,
            "o",
            markerfacecolor="white",
            color=_BLUE,
            markersize=9,
            label="untrained, with a fitted readout",
        )
        axes.plot(trained, places, "s", color=_RED, markersize=7, label="trained")
        axes.axvline(constant_predictor_mse(), color=_GREY, linestyle="--", linewidth=1)
        axes.axvline(SOLVED, color=_GREY, linestyle=":", linewidth=1)
        axes.text(constant_predictor_mse(), len(rows) - 0.45, "mean baseline", ha="center", size=9)
        axes.text(SOLVED, len(rows) - 0.45, "solved", ha="center", size=9)
        axes.set_yticks(places, [row["question"] for row in rows])
        axes.set(xscale="log", xlabel="mean squared error at T = 1,000")
        axes.set_ylim(-0.5, len(rows) - 0.5)
        axes.legend(fontsize=9, loc="lower left")


def draw_beyond(path: Path) -> None:
    """Errors of two trained models at lengths that they have not seen."""
    beyond = record("memory.json")["beyond"]
    longest = max(found["longest"] for found in beyond.values())
    last = {name: found["scores"][-1] for name, found in beyond.items()}
    title = (
        f"Trained on {longest} steps at most, learned gates score {short(last['keras']['mse'])} at "
        f"{last['keras']['t']:,} steps, gates that start shut {short(last['keyed']['mse'])}"
    )
    with style.new_figure(path, SIZE, title) as figure:
        axes = figure.add_subplot()
        for name, color, marker, label in (
            ("keras", _RED, "o", "Keras's initialisation: gates learned"),
            ("keyed", _BLUE, "s", "keyed: shut gates, long time scales given"),
        ):
            scores = beyond[name]["scores"]
            axes.plot(
                [score["t"] for score in scores],
                [score["mse"] for score in scores],
                color=color,
                marker=marker,
                linewidth=2,
                label=label,
            )
        axes.axvspan(scores[0]["t"] * 0.8, longest, color=_GREY, alpha=0.15, linewidth=0)
        style.draw_baseline(axes, constant_predictor_mse())
        axes.set(xscale="log", yscale="log", xlabel="tested length T", ylabel="MSE")
        style.use_length_ticks(axes, [score["t"] for score in scores])
        axes.legend(fontsize=9, loc="center right")


PICTURES: dict[str, Callable[[Path], None]] = {
    "headline.png": draw_headline,
    "memory/sequence.png": draw_sequence,
    "memory/gradients.png": draw_gradients,
    "memory/gate.png": draw_gate,
    "memory/drop.png": draw_drop,
    "memory/given.png": draw_given,
    "memory/beyond.png": draw_beyond,
}


def main() -> None:
    """Draw what is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", default=list(PICTURES), metavar="name")
    for name in parser.parse_args().names:
        if name not in PICTURES:
            parser.error(f"name: expected one of {', '.join(PICTURES)}, found {name!r}")
        path = PICTURES_FOLDER / name
        path.parent.mkdir(parents=True, exist_ok=True)
        PICTURES[name](path)


if __name__ == "__main__":
    main()
