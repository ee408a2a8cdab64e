"""Run folders put together over their seeds, with figures that can be counted by hand."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch

from adding_problem import config
from adding_problem.analysis import plots
from adding_problem.analysis.aggregate import collect, comparisons, equals, lengths_in_words
from adding_problem.analysis.original import read_original
from adding_problem.analysis.plots import comparison
from adding_problem.analysis.plots.style import new_figure
from adding_problem.errors import RunFolderError
from adding_problem.runs.folder import RunFolder
from adding_problem.runs.records import (
    EpochRow,
    HorizonResult,
    Rung,
    Spent,
)
from tests.conftest import Command
from tests.helpers.files import PNG
from tests.helpers.made_runs import made


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """Three seeds each of two methods; the second method is solved twice, and one of its runs
    diverges."""
    return [
        made(tmp_path / "a0", [0.1, 5e-3, 9e-4], 5e-4, seed=0),
        made(tmp_path / "a1", [5e-3, 8e-4], 6e-4, seed=1, validate__seed=99, threads=3),
        made(tmp_path / "a2", [0.1, 0.1, 0.1, 9e-3], 4e-3, seed=2),
        made(tmp_path / "b0", [9e-4], 4e-4, seed=0, model__hidden=7),
        made(tmp_path / "b1", [9e-4], 3e-4, seed=1, model__hidden=7),
        made(
            tmp_path / "b2",
            [0.1, float("nan")],
            float("nan"),
            float("nan"),
            seed=2,
            model__hidden=7,
        ),
    ]


def test_seeds_of_one_method_come_together(folders: list[Path]) -> None:
    wide, narrow = collect(folders)
    assert (wide.method, narrow.method) == (
        "LSTM, original",
        "LSTM, original, hidden 7",
    )
    assert [run.seed for run in wide.runs] == [0, 1, 2]
    assert wide.values == [5e-4, 6e-4, 4e-3]
    assert (wide.solved.successes, wide.solved.n) == (2, 3)
    assert wide.losses.median == 6e-4
    assert narrow.losses.most == float("inf")


def test_a_run_without_progress_does_not_count_as_one_about_to_get_there(tmp_path: Path) -> None:
    solved = [made(tmp_path / f"s{seed}", [0.1, 0.1, 9e-4], seed=seed) for seed in (0, 1)]
    stuck = [
        made(tmp_path / f"f{seed}", [0.1], seed=seed, stop_reason="early_stopping")
        for seed in (2, 3, 4)
    ]
    (group,) = collect([*solved, *stuck])
    assert group.cost("1e-3", "sequences").median is None
    assert group.cost("1e-3", "sequences").share == pytest.approx((2 / 5,))


def test_a_seed_counts_once(tmp_path: Path) -> None:
    first = made(tmp_path / "a", [9e-4], seed=0)
    again = made(tmp_path / "b", [0.1], seed=0, threads=2)
    (group,) = collect([first, again, first, tmp_path / "b" / ".." / "a"])
    assert [run.lowest for run in group.runs] == [9e-4]
    assert group.remark == (
        "1 seed only: luck is not told from method; 1 run of a seed that is there already left out"
    )


def test_costs_with_censored_runs(folders: list[Path]) -> None:
    wide, narrow = collect(folders)
    cost = wide.cost("1e-3", "sequence_steps")  # after 3 epochs, after 2, and never in 4
    assert (cost.costs, cost.median, cost.least, cost.most) == ((400, 600), 600, 400, 600)
    assert cost.share == pytest.approx([1 / 3, 2 / 3])
    assert wide.cost("1e-2", "sequences").costs == (10, 20, 40)
    # The run that diverged in epoch 2 was at risk at epoch 1, when the others came.
    assert narrow.cost("1e-3", "seconds").share == pytest.approx([2 / 3])


def test_a_score_of_another_length_does_not_count(tmp_path: Path) -> None:
    path = made(tmp_path, [5e-3], 4e-4, seed=0)
    folder = RunFolder(path)
    folder.write_score(replace(folder.read_score(), t=40))
    (group,) = collect([path])
    assert group.values == [5e-3]
    assert group.measure == "lowest validation MSE"
    assert "1 seed only" in group.remark


def test_a_run_whose_first_epoch_is_under_way_keeps_no_other_from_being_compared(
    folders: list[Path],
    tmp_path: Path,
    command: Command,
) -> None:
    begun = tmp_path / "begun"
    RunFolder(begun).open(config.load(None, {"dataset.t": 20, "seed": 7, "artifacts": str(begun)}))
    wide, _ = collect([*folders, begun])
    assert (wide.values[-1], wide.cost("1e-3", "sequences").n) == (math.inf, 4)
    done = command("compare", *folders, begun, "--out", "picture.png")
    assert done.returncode == 0, done.stderr
    assert "2 of 4" in done.stdout


def test_all_are_measured_alike(folders: list[Path], tmp_path: Path) -> None:
    """A score on new data beside another run's lowest validation loss would compare nothing."""
    unscored = made(tmp_path / "c", [5e-3], seed=0, model__hidden=9)
    wide, *others = collect([*folders, unscored])
    assert {group.measure for group in (wide, *others)} == {"lowest validation MSE"}
    assert wide.values == [9e-4, 8e-4, 9e-3]


def test_comparisons(folders: list[Path]) -> None:
    (sentence,) = comparisons(collect(folders))
    assert "LSTM, original, hidden 7 in 2" in sentence
    assert "at least 6 seeds" in sentence
    assert comparisons(collect(folders[:3])) == []


def test_p_values_are_corrected_for_their_number(tmp_path: Path) -> None:
    """Three methods of seven seeds that agree: p = 2/2^7 each, three times that by Holm."""
    runs = [
        made(
            tmp_path / f"{hidden}-{seed}",
            [0.1],
            hidden + seed / 10,
            seed=seed,
            model__hidden=hidden,
        )
        for hidden in (3, 4, 5)
        for seed in range(7)
    ]
    sentences = comparisons(collect(runs))
    assert len(sentences) == 3
    told = "more than luck would do (Wilcoxon's p = 0.016, 0.047 corrected for 3 tests)"
    assert all(told in sentence for sentence in sentences)
    assert "(Wilcoxon's p = 0.016)" in comparisons(collect(runs[:14]))[0]


def test_compare_writes_a_table(folders: list[Path], command: Command, tmp_path: Path) -> None:
    done = command("compare", *folders, "--out", "t.json")
    assert done.returncode == 0, done.stderr
    document = json.loads((tmp_path / "t.json").read_text())
    assert [row["method"] for row in document["rows"]] == [
        "LSTM, original",
        "LSTM, original, hidden 7",
    ]
    assert [row["losses"] for row in document["rows"]] == [
        [5e-4, 6e-4, 4e-3],
        [4e-4, 3e-4, None],
    ]
    assert [row["steps_to_1e-3"]["events"] for row in document["rows"]] == [2, 2]
    assert "at least 6 seeds" in document["notes"][-1]
    assert not (tmp_path / "comparison.png").exists()


def test_who_is_told_stands_below_the_learners_and_is_compared_with_none(
    tmp_path: Path, command: Command
) -> None:
    """Its numbers are the best and its name the first of the alphabet."""
    fast: dict[str, Any] = {"recipe": "fast", "dataset__t": 500}
    models: list[tuple[str, float, dict[str, Any]]] = [
        ("a", 1e-6, {"model__init": "oracle"}),
        ("b", 2e-6, {"model__init": "oracle", "model__hidden": 7}),
        ("c", 1e-4, {"model__init": "long"}),
        ("d", 1e-1, {"model__init": "keras"}),
    ]
    runs = [
        made(tmp_path / f"{name}{seed}", [mse], mse, seed=seed, **values, **fast)
        for name, mse, values in models
        for seed in range(2)
    ]
    found = collect(runs)
    assert [group.oracle for group in found] == [False, False, True, True]
    assert all(
        "init oracle" in group.method
        and group.told == "oracle: input gates preset from the mark column"
        for group in found[2:]
    )
    sentences = comparisons(found)
    assert [("keras" in one, "long" in one, "oracle" in one) for one in sentences] == [
        (True, True, False),
        (False, False, True),
    ]
    done = command("compare", *runs, "--out", "picture.png")
    assert done.returncode == 0, done.stderr
    tables = re.findall(r"(?s)── *\n(.*?)── *\n(.*?)\n *\n", done.stdout)
    assert len(tables) == 2
    for learners, oracles in tables:  # one rule, below the learners
        assert "oracle" not in learners
        assert "oracle" in oracles
        assert "──" not in oracles
    assert "oracle: input gates preset from the mark column" in done.stdout


def with_weights(path: Path, value: float) -> Path:
    """The run with a model of one weight."""
    RunFolder(path).write_model({"w": torch.full((1,), value)}, {"family": "lstm"})
    return path


def test_models_at_several_lengths_are_told_to_be_the_same(
    tmp_path: Path, command: Command
) -> None:
    """Two seeds of two methods, which ended alike at T = 20 and 50; of a third length the weights
    are others."""
    runs = [
        with_weights(
            made(
                tmp_path / f"{init}{t}-{seed}",
                [0.1 * (seed + 1)],
                seed=seed,
                dataset__t=t,
                model__init=init,
            ),
            seed + 2 * (init == "long") + 10 * (t == 70),
        )
        for t in (20, 50, 70)
        for init in ("keras", "long")
        for seed in (0, 1)
    ]
    sentences = comparisons(collect(runs))
    assert ["the same weights as at T = 20" in one for one in sentences] == [False, True, False]
    done = command("compare", *(run.relative_to(tmp_path) for run in runs), "--out", "picture.png")
    assert done.returncode == 0, done.stderr
    assert "12 runs, 8 models" in done.stdout
    assert done.stdout.count("same weights as") == 4 + 1
    assert "same weights as keras20-1" in done.stdout
    assert [str(group.solved) for group in collect(runs)] == [
        str(collect(runs)[0].solved)
    ] * 6  # each length has its two seeds
    assert equals(["a", None, "b", "a", None, "a"]) == [None, None, None, 0, None, 0]


def test_compare_prints_and_draws_the_seeds(
    folders: list[Path], command: Command, tmp_path: Path
) -> None:
    done = command("compare", *folders, "--out", "picture.png")
    assert done.returncode == 0, done.stderr
    for part in (
        "2 of 3",
        "21%",
        "to 94%",
        "6.0e-04",
        "5.0e-04",
        "400",
        "to 600",
        "at least 6 seeds",
    ):
        assert part in done.stdout, done.stdout
    assert (tmp_path / "picture.png").read_bytes().startswith(PNG)
    few = command("compare", *folders[:2], "--out", "few.png")
    assert "2 seeds only" in few.stdout


def test_the_longest_trained_length_stands_beside_the_tested_one(
    tmp_path: Path, command: Command
) -> None:
    """As recorded; of older runs T where the data set is fixed and unknown where it is not."""
    fresh: dict[str, Any] = {"recipe": "fast", "dataset__t": 500}
    runs = [made(tmp_path / f"s{seed}", [0.1, 9e-4], seed=seed, **fresh) for seed in range(3)]
    for path, longest in zip(runs[:2], (30, 90), strict=True):
        folder = RunFolder(path)
        folder.write_result(replace(folder.read_result(), longest_length=longest))
    (group,) = collect(runs)
    assert [run.longest for run in group.runs] == [30, 90, None]
    assert group.longest == "30 to 90, some unknown"
    (fixed,) = collect([made(tmp_path / "fixed", [0.1], seed=0)])
    assert fixed.longest == "20"
    assert lengths_in_words([None]) == "unknown"
    begun = RunFolder(runs[2])
    begun.result.unlink()
    begun.write_history(
        [EpochRow(1, 0.1, 0.1, 10, 200, 1.0, 64, 30), EpochRow(2, 0.1, 0.1, 20, 400, 2.0, 64, 45)]
    )
    assert collect([runs[2]])[0].longest == "45"
    done = command("compare", *runs, tmp_path / "fixed", "--out", "picture.png")
    assert done.returncode == 0, done.stderr
    for part in (r"tested +longest", r"T +trained", "to 90"):
        assert re.search(part, done.stdout), done.stdout
    assert "trained at" not in done.stdout
    for t, longest in ((500, 30), (500, 90), (500, 45), (20, 20)):
        assert re.search(rf" {t} +{longest} ", done.stdout), done.stdout


def test_every_length_at_which_half_of_the_runs_diverged_is_marked_and_no_bar_is_made_up(
    tmp_path: Path,
) -> None:
    drawn = [
        made(tmp_path / f"t{t}", [float("nan")], float("nan"), float("nan"), dataset__t=t)
        for t in (20, 50, 70)
    ]
    high = made(tmp_path / "high", [3.7], dataset__t=30)
    with new_figure(tmp_path / "picture.svg", (4, 4)) as figure:
        axes = figure.add_subplot()
        found = collect([*drawn, high])
        comparison._plot_best(axes, found, [], comparison._looks(found, 8))
        places = [np.asarray(line.get_xdata()).tolist() for line in axes.lines]
        crosses = [
            place[0]
            for line, place in zip(axes.lines, places, strict=True)
            if line.get_marker() == "x" and place
        ]
        bars = [
            np.asarray(line.get_ydata()).tolist()
            for line, place in zip(axes.lines, places, strict=True)
            if place == [30, 30]
        ]
    assert crosses == [20, 50, 70]
    assert bars == [[3.7, 3.7]]


def test_where_a_run_ends_tells_methods_apart_at_one_length_only(tmp_path: Path) -> None:
    short = made(tmp_path / "short", [9e-4], train__stop_val_loss=1e-3)
    long = made(tmp_path / "long", [9e-4], dataset__t=30, train__stop_val_loss=1e-4)
    assert [group.method for group in collect([short, long])] == [
        "LSTM, original",
        "LSTM, original",
    ]
    other = made(tmp_path / "other", [9e-4], train__stop_val_loss=1e-2)
    assert len({group.method for group in collect([short, other])}) == 2


def test_pictures_say_what_no_line_shows(folders: list[Path], tmp_path: Path) -> None:
    """Svg with its text: the trained length as the only tick, the runs that diverged, the baseline
    by its one name."""
    nothing = made(
        tmp_path / "c", [float("nan")], float("nan"), float("nan"), seed=3, model__hidden=7
    )
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        plots.draw_comparison(tmp_path / "compare.svg", collect([*folders, nothing]))
        folder = RunFolder(nothing)
        plots.draw_loss(
            tmp_path / "loss.svg",
            folder.read_history(),
            replace(folder.read_result(), stream=True, best_val_loss=float("nan")),
        )
    for name, parts in (
        ("compare", {"20", "T = 20", "sequence-steps"}),
        ("loss", {"nothing learned"}),
    ):
        text = (tmp_path / f"{name}.svg").read_text()
        for part in parts | {"diverged", "mean baseline (0.167)"}:
            assert part in text, (name, part)
        assert (
            ">19.5<" not in text
        )  # a tick between the lengths; the digits may stand in coordinates and in the date


def test_the_baseline_is_that_of_the_variant(tmp_path: Path) -> None:
    """The variance of a sum of two U(0, 1) is 1/6, and 19/480 the error of 0.5 for 0.5 + (X1 + X2)
    / 4, in the limit."""
    ours = made(tmp_path / "ours", [0.01], dataset__variant="hs1997", dataset__t=1000)
    (tmp_path / "original.json").write_text('{"100": {"loss": [0.2], "val_loss": [0.2]}}')
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        for original, means in (
            (None, {"0.040"}),
            (tmp_path / "original.json", {"0.040", "0.167"}),
        ):
            originals = read_original(original) if original else []
            plots.draw_comparison(tmp_path / "compare.svg", collect([ours]), originals)
            assert (
                set(re.findall(r"mean baseline \((.*?)\)", (tmp_path / "compare.svg").read_text()))
                == means
            )


def test_curves_of_the_original_of_two_lengths_are_refused(tmp_path: Path) -> None:
    (tmp_path / "original.json").write_text('{"100": {"loss": [0.2, 0.1], "val_loss": [0.2]}}')
    with pytest.raises(RunFolderError, match="holds no loss curves by length"):
        read_original(tmp_path / "original.json")


def test_what_a_model_cost_that_was_trained_elsewhere_is_unknown(tmp_path: Path) -> None:
    imported = made(tmp_path / "imported", [1e-4], seed=7)
    RunFolder(imported).write_history([EpochRow(0, 1e-4, 1e-4, 0, 0, float("nan"))])
    (alone,) = collect([imported])
    assert [str(alone.cost("1e-3", unit)) for unit in ("sequence_steps", "seconds")] == [
        "unknown",
        "unknown",
    ]
    (both,) = collect([imported, made(tmp_path / "trained", [0.1, 5e-4], seed=8)])
    assert str(both.cost("1e-3", "sequence_steps")) == "400 (400 to 400)"
    assert (both.solved.successes, both.solved.n) == (2, 2)


def rung(t: int, seconds: float, *, solved: bool, stop_reason: str = "") -> Rung:
    """A length that took so many seconds."""
    spent = Spent(10 * t, seconds)
    return Rung(
        t=t,
        mse=1e-4,
        solved=solved,
        reached=dict.fromkeys(("1e-2", "1e-3"), spent if solved else None),
        sequence_steps=spent.sequence_steps,
        seconds=seconds,
        stop_reason=stop_reason,
    )


@pytest.mark.parametrize(
    ("rungs", "title"),
    [
        ([rung(100, 2.0, solved=True)], "Horizon: T = 100 (any), seed 1<"),
        (
            [rung(100, 2.0, solved=True), rung(300, 61.0, solved=True)],
            "seed 1; then the budget of 1 minute ran out",
        ),
        (
            [rung(100, 2.0, solved=False, stop_reason="budget")],
            "seed 1; at T = 100 the budget of 1 minute ran out",
        ),
        (
            [rung(100, 2.0, solved=False, stop_reason="early_stopping")],
            "seed 1; T = 100 not solved (early_stopping)",
        ),
        ([rung(100, 2.0, solved=False)], "seed 1; T = 100 not solved<"),
        ([], "Horizon: none of the lengths (any), seed 1<"),
    ],
)
def test_the_picture_of_a_horizon_run_says_why_it_ended(
    rungs: list[Rung], title: str, tmp_path: Path
) -> None:
    horizon = max((one.t for one in rungs if one.solved), default=None)
    result = HorizonResult(horizon=horizon, minutes=1.0, seed=1, rungs=tuple(rungs))
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        plots.draw_horizon(tmp_path / "horizon.svg", result)
    assert title in (tmp_path / "horizon.svg").read_text()
