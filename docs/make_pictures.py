"""Draw the pictures of README and docs from their records, into docs/pictures.

python docs/make_pictures.py                     # all of them
python docs/make_pictures.py headline.png        # some

Nothing is measured here: a picture shows what records in docs hold, and its title says what that
is. `PICTURES` has the data and the drawing of every picture. Each carries the digest of its data;
`stale` names those whose records have changed since.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import make_original
import numpy as np
from matplotlib.patches import Patch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from adding_problem.analysis import plots
from adding_problem.analysis.aggregate import group_runs
from adding_problem.analysis.original import read_original
from adding_problem.analysis.plots import style
from adding_problem.config import families
from adding_problem.runs.folder import RunFolder
from adding_problem.runs.records import HorizonResult, read_json
from adding_problem.task.baselines import constant_predictor_mse
from adding_problem.task.thresholds import SOLVED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DOCS = Path(__file__).parent
FOLDER = DOCS / "pictures"
DIGEST = "Data"
"""Under which a PNG carries the digest of its data."""

SIZE = (7.6, 3.2)  # inches: 760 by 320 pixels on a page
_RED, _BLUE, _LIGHT, _GREY = style.VALIDATION, "#0072B2", style.TRAIN, style.BASELINE


@dataclass(frozen=True)
class Picture:
    """One file.

    Attributes:
        data: returns what it shows: JSON, in which paths of records may stand for their content.
        draw: draws that into a file.
    """

    data: Callable[[], Any]
    draw: Callable[[Path, Any], None]


def digest(data: Any) -> str:
    """SHA-256 of a picture's data."""
    text = json.dumps(data, sort_keys=True, default=_content)
    return hashlib.sha256(text.encode()).hexdigest()


def _content(path: Path) -> str:
    return f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}"


def make(name: str) -> None:
    """Draw a picture, with the digest of its data in it."""
    path, data = FOLDER / name, PICTURES[name].data()
    path.parent.mkdir(parents=True, exist_ok=True)
    PICTURES[name].draw(path, data)
    told = PngInfo()
    told.add_text(DIGEST, digest(data))
    with Image.open(path) as image:
        image.save(path, pnginfo=told, dpi=image.info["dpi"], optimize=True)


def stale() -> list[str]:
    """The pictures that are missing, or drawn from other data than today's records."""
    return [name for name in PICTURES if not _is_fresh(name)]


def _is_fresh(name: str) -> bool:
    if not (FOLDER / name).exists():
        return False
    with Image.open(FOLDER / name) as image:
        return bool(image.info.get(DIGEST) == digest(PICTURES[name].data()))


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


def note(figure: Figure, text: str) -> None:
    """A line below the picture: model, recipe, and what its marks mean."""
    figure.supxlabel(text, fontsize=8.5, color=_GREY)


# --- errors at lengths that were not trained ------------------------------------------------------

STARTS = {
    "long": (": told a time scale\n", "#6f8fc4", "-"),
    "keras": (": told nothing\n", "#303030", "--"),
    "keyed": (": told a time scale\nand to write rarely\n", "#0b2a5b", "-"),
}
NOISE = "difference, 6 noise columns"


def ladder(*questions: str) -> list[dict[str, Any]]:
    """What the runs of these questions and of `STARTS` score at each tested T."""
    return [
        {key: run[key] for key in ("row", "question", "seed", "longest_length", "errors")}
        for run in record("ladder.json")["runs"]
        if run["row"] in STARTS and run["question"] in questions
    ]


def by_length(runs: Sequence[dict[str, Any]]) -> dict[int, list[float]]:
    """The errors of all seeds by tested T."""
    errors: dict[int, list[float]] = {}
    for run in runs:
        for length, error in run["errors"].items():
            errors.setdefault(int(length), []).append(error["mse"])
    return dict(sorted(errors.items()))


def longest_solved(runs: Sequence[dict[str, Any]]) -> tuple[int, str]:
    """The longest tested T up to which most seeds solve every one, and how many; 0 for none."""
    longest, seeds = 0, ""
    for t, errors in by_length(runs).items():
        solved = sum(error < SOLVED for error in errors)
        if 2 * solved <= len(errors):
            break
        longest, seeds = t, f"{solved} of {len(errors)} seeds"
    return longest, seeds


def answers(runs: Sequence[dict[str, Any]]) -> list[tuple[int, str, str]]:
    """The longest solved T of each start, the longest first: T, how many seeds, and which start."""
    found = [
        (*longest_solved(own), start)
        for start in STARTS
        if (own := [run for run in runs if run["row"] == start])
    ]
    return sorted(found, reverse=True)


def draw_headline(path: Path, runs: list[dict[str, Any]]) -> None:
    """Error against the tested T, of three starts on the question with noise columns."""
    (far, seeds, start), *others = answers(runs)
    title = (
        f"Trained on at most {_longest(runs)} steps, {start} solves T = {far:,} ({seeds}); "
        f"{' and '.join(other for *_, other in others)} T = {others[0][0]:,}"
    )
    with style.new_figure(path, (7.8, 3.4), title) as figure:
        axes = figure.add_subplot()
        _draw_errors(axes, runs, told=True)
        axes.set_ylabel("mean squared error")
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
        _note_on_errors(figure, NOISE)


def draw_lengths(path: Path, runs: list[dict[str, Any]]) -> None:
    """The same on the questions without noise, a panel for each."""
    questions = sorted({run["question"] for run in runs}, reverse=True)
    panels = {
        question: [run for run in runs if run["question"] == question] for question in questions
    }
    found = {question: answers(own)[0] for question, own in panels.items()}
    said = "; ".join(
        f"{question}, T = {far:,} by {start} ({seeds})"
        for question, (far, seeds, start) in found.items()
    )
    title = f"Longest solved after training on at most {_longest(runs)} steps: {said}"
    with style.new_figure(path, (10, 3.6), title) as figure:
        places = figure.subplots(1, len(questions), sharey=True)
        for axes, (question, own) in zip(places, panels.items(), strict=True):
            _draw_errors(axes, own, told=False)
            axes.set_title(question, fontsize=11)
            starts = [line for line in axes.lines if "seeds" in str(line.get_label())]
            axes.legend(handles=starts, fontsize=9, loc="upper right", bbox_to_anchor=(1, 0.86))
            axes.set_ylim(1e-5, 0.3)
        places[0].set_ylabel("mean squared error")
        _note_on_errors(figure, " and ".join(questions), "Dashed: mean baseline; dotted: solved.")


def _longest(runs: Sequence[dict[str, Any]]) -> str:
    """T of the longest sequence that one of them was trained on."""
    return f"{max(run['longest_length'] for run in runs):,}"


def _draw_errors(axes: Axes, runs: Sequence[dict[str, Any]], *, told: bool) -> None:
    """A line through the medians of each start over the seeds, a dot for each seed."""
    for start, (words, color, line) in STARTS.items():
        errors = by_length([run for run in runs if run["row"] == start])
        if not errors:
            continue
        medians = [statistics.median(found) for found in errors.values()]
        counts = ", ".join(str(len(found)) for found in errors.values())
        axes.plot(
            list(errors),
            medians,
            color=color,
            linestyle=line,
            linewidth=2,
            label=f"{start}{words if told else ' '}({counts} seeds)",
        )
        for length, found in errors.items():
            axes.plot([length] * len(found), found, "o", color=color, markersize=3)
    style.draw_baseline(axes, constant_predictor_mse())
    axes.axhline(SOLVED, color=_GREY, linestyle=":", linewidth=1, label="solved (0.001)")
    axes.set(xscale="log", yscale="log", xlabel="tested T")
    style.use_length_ticks(axes, list(by_length(runs)))


def _note_on_errors(figure: Figure, questions: str, more: str = "") -> None:
    note(
        figure,
        f"LSTM(100), recipe fast at T = 1,000, {questions}. Dots: seeds; lines: their medians. "
        f"No dot: not tested. {more}",
    )


# --- horizon runs ---------------------------------------------------------------------------------

GRACE = 1.1  # of the minutes: a validation that had begun when they were over is finished
ORACLE = "lstm:init=oracle"
ORACLE_SEED = "0"


def league() -> Any:
    """The rungs of each horizon run of each model."""
    found = record("league.json")
    return {
        "minutes": found["minutes"],
        "threads": found["threads"],
        "models": {
            name: {seed: run["rungs"] for seed, run in entry["climbs"].items()}
            for name, entry in found["models"].items()
        },
    }


def draw_league(path: Path, found: Any) -> None:
    """A dot for every seed and a line at the median; oracles at the bottom, below a rule."""
    minutes = found["minutes"]
    horizons = {
        name: [_horizon(rungs, minutes) for rungs in seeds.values()]
        for name, seeds in found["models"].items()
    }
    ranking = sorted(horizons, key=lambda name: _rank(name, horizons[name]))
    oracles = sum(_is_oracle(name) for name in ranking)
    learners = [name for name in ranking if not _is_oracle(name)]
    far = statistics.median_low(horizons[learners[0]])
    best = [_title(name) for name in learners if statistics.median_low(horizons[name]) == far]
    none = min(rungs[0]["t"] for seeds in found["models"].values() for rungs in seeds.values()) / 2
    title = (
        f"{', '.join(best[:-1])} and {best[-1]} remember T = {far:,}"
        if len(best) > 1
        else f"{best[0]} remembers T = {far:,}"
    )
    with style.new_figure(
        path, (8, 1.8 + 0.4 * len(ranking)), f"{title} after {minutes:g} minutes of training"
    ) as figure:
        axes = figure.add_subplot()
        axes.grid(axis="y", visible=False)
        places = [place + (place >= len(learners)) for place in range(len(ranking))]
        if oracles:
            axes.axhline(len(learners), color="black", linewidth=1)
        for place, name in zip(places, ranking, strict=True):
            seeds = [horizon or none for horizon in horizons[name]]
            median = statistics.median_low(seeds)
            axes.hlines(place, min(seeds), max(seeds), color=_LIGHT, linewidth=2)
            axes.vlines(median, place - 0.38, place + 0.38, color=_BLUE, linewidth=4)
            heights = [place + 0.22 * (seed - len(seeds) / 2 + 0.5) for seed in range(len(seeds))]
            axes.plot(seeds, heights, "o", color=_RED, markersize=4)
        axes.set(xscale="log", xlabel="longest T solved: MSE below 1e-3 on test sequences")
        longest = max(horizon for seeds in horizons.values() for horizon in seeds)
        decades = range(2, round(np.log10(longest)) + 1)
        axes.set_xticks(
            [none, *(10**k for k in decades)], ["none", *(f"{10**k:,}" for k in decades)]
        )
        axes.set_xticks([], minor=True)
        axes.set_yticks(places, [_title(name) for name in ranking])
        axes.set_ylim(places[-1] + 0.8, -0.8)
        note(
            figure,
            f"Recipe fast, target sum, {found['threads']} threads. Dots: seeds; bars: their "
            "medians; lines: their range.\nThe time ends a run: with more, a model may come "
            "farther. Below the rule: it is told which column holds the marks.",
        )


def _horizon(rungs: list[dict[str, Any]], minutes: float) -> int:
    """The longest T that was solved in time; 0 where not even the first was."""
    in_time = (rung for rung in rungs if rung["seconds"] <= 60 * GRACE * minutes)
    return max((rung["t"] for rung in in_time if rung["solved"]), default=0)


def _rank(name: str, horizons: list[int]) -> tuple[bool, int, float]:
    """The farthest median first, then the geometric mean; oracles last."""
    mean = statistics.geometric_mean(horizon + 1 for horizon in horizons)
    return _is_oracle(name), -statistics.median_low(horizons), -mean


def _is_oracle(name: str) -> bool:
    return name == ORACLE


def _title(name: str) -> str:
    """A model as its paper writes it, with how it starts."""
    model, _, settings = name.partition(":")
    told = [each.partition("=")[2] for each in settings.split(",") if each.startswith("init=")]
    return " ".join([families.title_of(model), *told])


def oracle_run() -> Any:
    """The oracle's horizon run of one seed, as `horizon.json` has it."""
    found = league()
    rungs = found["models"][ORACLE][ORACLE_SEED]
    return {
        "seed": int(ORACLE_SEED),
        "minutes": found["minutes"],
        "horizon": max(rung["t"] for rung in rungs if rung["solved"]),
        "model": f"LSTM(100), recipe fast, {families.described_init('oracle')}",
        "rungs": rungs,
    }


def draw_horizon(path: Path, run: Any) -> None:
    """What each length of a horizon run cost."""
    plots.draw_horizon(path, read_json(HorizonResult, json.dumps(run).encode()))


# --- speed ----------------------------------------------------------------------------------------

CONTENDERS = {
    "native": ("this package", _RED),
    "torch": ("torch", _BLUE),
    "torch-tuned": ("torch, tuned", _LIGHT),
    "keras-tf": ("Keras, TensorFlow", "#404040"),
    "keras-jax": ("Keras, JAX", "#B8B8B8"),
}


def speeds() -> Any:
    """Sequence-steps per second by threads, size and program."""
    found = record("performance.json")
    keys = ("threads", "batch", "length", "contender", "steps_per_second", "rounds")
    return {
        "processor": found["machine"]["processor"],
        "rows": [{key: row[key] for key in keys} for row in found["rows"]],
    }


def draw_performance(path: Path, found: Any) -> None:
    """Sequence-steps per second of every program, a panel for each number of threads."""
    rows = found["rows"]
    speed = {
        (row["threads"], row["batch"], row["length"], row["contender"]): row["steps_per_second"]
        for row in rows
    }
    ratios = [
        speed[key] / max(others)
        for key in speed
        if key[-1] == "native"
        and (others := [speed[other] for other in speed if other[:3] == key[:3] and other != key])
    ]
    groups = sorted({row["threads"] for row in rows})
    sizes = sorted({(row["length"], row["batch"]) for row in rows})
    title = (
        f"A training step of LSTM(100) is {min(ratios):.1f} to {max(ratios):.1f} times as fast as "
        "in any of the other programs"
    )
    with style.new_figure(path, (10, 3.1 * len(groups) + 1.2), title) as figure:
        panels = figure.subplots(len(groups), 1, squeeze=False)[:, 0]
        for axes, threads in zip(panels, groups, strict=True):
            for offset, (contender, (label, color)) in enumerate(CONTENDERS.items()):
                own = {
                    place: speed[key]
                    for place, (length, batch) in enumerate(sizes)
                    if (key := (threads, batch, length, contender)) in speed
                }
                places = [place + 0.16 * (offset - 2) for place in own]
                axes.bar(places, list(own.values()), 0.15, label=label, color=color)
            axes.set_xlim(-0.6, len(sizes) - 0.4)
            axes.set_xticks(
                range(len(sizes)), [f"B={batch}\nT={length:,}" for length, batch in sizes]
            )
            axes.grid(axis="x", visible=False)
            style.use_prefixes(axes.yaxis)
            axes.set_ylabel("sequence-steps per second")
            axes.set_title(f"{threads} thread{'s' * (threads > 1)}", fontsize=11)
        panels[0].legend(ncols=len(CONTENDERS), fontsize=9, loc="upper left")
        panels[0].margins(y=0.25)
        rounds = sorted({row["rounds"] for row in rows})
        note(
            figure,
            f"{found['processor']}. Medians of {' or '.join(map(str, rounds))} rounds. "
            "No bar: not run.",
        )


AS_FAST = 1 / 1.03
"""At most 3% slower."""


def shapes() -> Any:
    """How many times as fast as PyTorch's the layers are, and which of the two computed."""
    found = record("shapes.json")
    keys = ("layer", "inputs", "hidden", "batch", "steps", "speedup", "path")
    return {
        **{key: found["machine"][key] for key in ("processor", "threads", "rounds")},
        "rows": [{key: row[key] for key in keys} for row in found["rows"]],
    }


def draw_shapes(path: Path, found: Any) -> None:
    """A bar for each shape, from 1 to the speedup on a logarithmic axis."""
    colors = {"kernels": style.TRAIN, "PyTorch": style.BASELINE}
    rows = found["rows"]
    own = [row["speedup"] for row in rows if row["path"] == "kernels"]
    faster = sum(speedup >= AS_FAST for speedup in own)
    title = (
        f"The kernels are at most 3% slower than PyTorch at {faster} of the {len(own)} shapes that "
        f"they compute; PyTorch computes the other {len(rows) - len(own)}"
    )
    half = (len(rows) + 1) // 2
    with style.new_figure(path, (11, 7.8), title) as figure:
        panels = figure.subplots(1, 2, sharex=True)
        for axes, column in zip(panels, (rows[:half], rows[half:]), strict=True):
            places = range(len(column))
            over = [row["speedup"] - 1 for row in column]
            axes.barh(places, over, left=1, color=[colors[row["path"]] for row in column])
            for place, row in zip(places, column, strict=True):
                beside = (max(row["speedup"], 1) * 1.03, place)
                axes.annotate(f"{row['speedup']:.2f}", beside, va="center", fontsize=8)
            names = [
                f"{row['layer']} {row['inputs']} → {row['hidden']}, "
                f"B={row['batch']}, T={row['steps']:,}"
                for row in column
            ]
            axes.set_yticks(places, names, fontsize=8)
            axes.set_ylim(half - 0.4, -0.6)
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter("{x:g}")
            axes.set_xlabel("PyTorch's time / ours, forward and backward")
            axes.axvline(AS_FAST, color="black", linewidth=0.8, linestyle=":")
        keys = [Patch(color=color, label=f"computed by {name}") for name, color in colors.items()]
        panels[1].legend(handles=keys, loc="upper right", fontsize=9)
        note(
            figure,
            f"Medians of {found['rounds']} interleaved rounds, {found['processor']}, "
            f"{found['threads']} threads. Dotted: 3% slower. PyTorch has its allocator tuned.",
        )


# --- the original ---------------------------------------------------------------------------------

LENGTHS = (150, 200, 250, 300, 500, 700, 1000)


def files_of(folders: Sequence[Path]) -> list[Path]:
    """The records of these runs, and the original's curves, at the end."""
    names = ("config_copy.yaml", "metrics.csv", "result.json")
    files = [folder / name for folder in folders for name in names]
    return [*files, make_original.CURVES]


def original_runs() -> list[Path]:
    """Of all lengths, by the original's method."""
    return files_of([make_original.RUNS / str(t) for t in LENGTHS])


def precise_runs() -> list[Path]:
    """Of all lengths, by configs/precise."""
    return files_of([DOCS / "runs" / "precise" / str(t) for t in LENGTHS])


def read_runs(files: Sequence[Path]) -> list[Any]:
    """The runs whose files these are."""
    return [
        RunFolder(folder).read() for folder in dict.fromkeys(file.parent for file in files[:-1])
    ]


def draw_original(path: Path, files: list[Path]) -> None:
    """Losses of all lengths, ours and the original's."""
    title = make_original.titles(make_original.recorded())["comparison"]
    groups = group_runs(read_runs(files))
    plots.draw_comparison(path, groups, read_original(files[-1]), title=title)


def draw_precise(path: Path, files: list[Path]) -> None:
    """Losses of all lengths, of configs/precise and the original's."""
    plots.draw_comparison(path, group_runs(read_runs(files)), read_original(files[-1]))


def draw_costs(path: Path, files: list[Path]) -> None:
    """Epochs and sequence-steps against T."""
    title = make_original.titles(make_original.recorded())["costs"]
    plots.draw_costs(path, read_runs(files), read_original(files[-1]), title)


def draw_one_length(path: Path, files: list[Path]) -> None:
    """The losses of one length."""
    (run,) = read_runs(files)
    theirs, ours = make_original.originals(), make_original.recorded()
    title = make_original.title_of(theirs.get(run.t), ours[run.t])
    plots.draw_curves(path, run, read_original(files[-1]), title)


# --- why memory is hard ---------------------------------------------------------------------------


def memory(*keys: str) -> dict[str, Any]:
    """What memory.json says of these."""
    found = record("memory.json")
    return {key: found[key] for key in keys}


def draw_sequence(path: Path, memory: Any) -> None:
    """The sequence that the page follows, and how the targets are distributed."""
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


def draw_gradients(path: Path, memory: Any) -> None:
    """Gradient against distance in untrained models."""
    gradients = memory["gradients"]
    curves = {name: np.array(norms) / norms[0] for name, norms in gradients["by_distance"].items()}
    distance = 100
    kept = [curve[distance] for curve in curves.values()]
    title = (
        f"Over {distance} steps the gradient of a tanh RNN shrinks to {power_of_ten(kept[0])}; "
        f"with forget gates near 1 it keeps {max(kept):.0%}"
    )
    # The forget biases by lightness, the largest darkest.
    looks = {"-": _RED, "--": "#9ECAE1", "-.": "#4292C6", (0, (2, 0.6)): "#08306B"}
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
        note(
            figure,
            f"Untrained models of 100 units, target sum: medians over {gradients['seeds']} seeds.",
        )


def draw_gate(path: Path, memory: Any) -> None:
    """One cell of a trained LSTM, step by step."""
    gate, sequence = memory["gate"], memory["sequence"]
    title = (
        f"The input gate of this cell is at {gate['mean_at_marks']:.2f} at a mark and at "
        f"{gate['mean_elsewhere']:.3f} elsewhere; the answer jumps at the marks"
    )
    with style.new_figure(path, SIZE, title) as figure:
        opening, cell, answer = figure.subplots(1, 3)
        opening.plot(gate["untrained_input"], color=_GREY, linewidth=1.5)
        opening.plot(gate["input"], color=_RED, linewidth=2)
        opening.text(99, gate["untrained_input"][-1] + 0.03, "before", ha="right", color=_GREY)
        opening.text(99, gate["input"][-1] + 0.03, "after", ha="right", color=_RED)
        opening.set_title("input gate, trained", fontsize=11)
        opening.set_ylim(-0.02, 1.02)
        cell.plot(gate["cell"], color=_BLUE, linewidth=2)
        cell.set_title("what the cell holds", fontsize=11)
        answer.plot(gate["answer"], color="black", linewidth=2)
        answer.axhline(sequence["target"], color=_GREY, linestyle="--", linewidth=1)
        answer.set_title("the answer so far", fontsize=11)
        for axes in (opening, cell, answer):
            show_marks(axes, sequence["marks"])
            axes.set_xlabel("step")
        note(figure, "One cell of LSTM(100), recipe fast, init keras, seed 0. Dotted: the marks.")


def draw_drop(path: Path, memory: Any) -> None:
    """Validation losses with and without a curriculum of lengths."""
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
        note(
            figure,
            f"LSTM(100), recipe fast, init keras: a line for each of {len(full['runs'])} seeds, "
            "to the first MSE below 1e-3.",
        )


def keyed_certificate() -> Any:
    """The memory certificate of the start `keyed` at T = 1,000."""
    (found,) = (
        each
        for each in record("certificates.json")["certificates"]
        if (each["model"], each["init"], each["t"]) == ("lstm", "keyed", 1000)
    )
    return found


def draw_given(path: Path, certificate: Any) -> None:
    """A readout fitted on the untrained model, and the trained model, on every question."""
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
        note(figure, "LSTM(100), recipe fast, init keyed, seed 0.")


def draw_beyond(path: Path, memory: Any) -> None:
    """Errors of two trained models at lengths that they have not seen."""
    beyond = memory["beyond"]
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
        note(
            figure, "LSTM(100), recipe fast at T = 100, target sum, seed 0. Grey: trained lengths."
        )


PICTURES: dict[str, Picture] = {
    "headline.png": Picture(lambda: ladder(NOISE), draw_headline),
    "lengths.png": Picture(lambda: ladder("sum", "difference"), draw_lengths),
    "horizon.png": Picture(oracle_run, draw_horizon),
    "league.png": Picture(league, draw_league),
    "performance.png": Picture(speeds, draw_performance),
    "shapes.png": Picture(shapes, draw_shapes),
    "memory/sequence.png": Picture(lambda: memory("t", "sequence"), draw_sequence),
    "memory/gradients.png": Picture(lambda: memory("gradients"), draw_gradients),
    "memory/gate.png": Picture(lambda: memory("gate", "sequence"), draw_gate),
    "memory/drop.png": Picture(lambda: memory("t", "drop"), draw_drop),
    "memory/given.png": Picture(keyed_certificate, draw_given),
    "memory/beyond.png": Picture(lambda: memory("beyond"), draw_beyond),
    "original_comparison.png": Picture(original_runs, draw_original),
    "precise_comparison.png": Picture(precise_runs, draw_precise),
    "original/costs.png": Picture(original_runs, draw_costs),
    **{
        f"original/{t}.png": Picture(
            lambda t=t: files_of([make_original.RUNS / str(t)]), draw_one_length
        )
        for t in LENGTHS
    },
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
        make(name)


if __name__ == "__main__":
    main()
