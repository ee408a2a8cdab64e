"""Horizon runs: what their rungs say, what they leave, and that a cut one goes on where it was."""

from __future__ import annotations

import csv
import json
import math
import re
import shutil
import signal
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from adding_problem import config
from adding_problem.config import RunConfig
from adding_problem.errors import Interrupted, LockError
from adding_problem.evaluation.lengths import score_at_lengths
from adding_problem.evaluation.load_model import load_model
from adding_problem.experiments import horizon
from adding_problem.experiments.train import train
from adding_problem.report import runs as report_runs
from adding_problem.runs.folder import RunFolder
from adding_problem.runs.records import EpochRow, Rung
from adding_problem.task.data_sets import batches
from adding_problem.training.state import StepEvent
from tests.conftest import Command
from tests.helpers.files import PNG, contents
from tests.helpers.horizons import EASY, find_horizon
from tests.helpers.training import Interrupt


def rows_of(rung: Rung) -> list[EpochRow]:
    return RunFolder(rung.folder).read_history()


@pytest.mark.usefixtures("pictures")
def test_a_climb(tmp_path: Path) -> None:
    short, long = find_horizon(tmp_path, [10, 20])
    assert short.solved
    assert long.solved
    assert RunFolder(long.folder).read_config().model.start_from == short.folder
    assert long.longest_length == max(
        row.longest_length for rung in (short, long) for row in rows_of(rung)
    )
    assert RunFolder(long.folder).read_result().longest_length == long.longest_length
    # Costs are counted from the start of the horizon run.
    first = next(row for row in rows_of(long) if row.val_loss < 1e-3)
    spent = long.reached["1e-3"]
    assert spent
    assert spent.sequence_steps == rows_of(short)[-1].sequence_steps + first.sequence_steps
    assert spent.seconds == pytest.approx(rows_of(short)[-1].seconds + first.seconds)
    document = json.loads((tmp_path / "horizon.json").read_text())
    assert document["horizon"] == 20
    assert (tmp_path / "horizon.png").read_bytes().startswith(PNG)
    # The score is that of the saved model on the sequences of the validation seed.
    model = load_model(long.folder)
    ((x, y),) = batches(long.sequences_tested, 20, seed=43, batch=10_000)
    with torch.no_grad():
        assert long.mse == pytest.approx(float((model(x) - y).double().square().mean()), rel=1e-4)

    stamps = [(tmp_path / name / "result.json").stat().st_mtime_ns for name in ("t10", "t20")]
    again = find_horizon(tmp_path, [10, 20, 40])
    assert again[:2] == [short, long]
    assert again[2].t == 40
    assert [
        (tmp_path / name / "result.json").stat().st_mtime_ns for name in ("t10", "t20")
    ] == stamps  # not trained again


def test_a_length_that_new_sequences_do_not_confirm_is_trained_on(tmp_path: Path) -> None:
    """A goal of 8e-3 promises nothing; halved three times it is 1e-3, and four times below."""
    run = config.load(None, EASY | {"train.stop_val_loss": 8e-3, "artifacts": str(tmp_path)})
    climbed = [
        list(
            horizon.find_horizon(
                run, minutes=2, lengths=[10, 20], following=lambda run: nullcontext()
            )
        )
        for _ in range(2)
    ]
    assert climbed[0] == climbed[1]
    short, long = climbed[0]
    assert short.solved
    assert long.solved
    tries = [
        RunFolder(tmp_path / name)
        for name in ("t10", *sorted(path.name for path in tmp_path.glob("t10-*")))
    ]
    assert len(tries) > 1
    assert short.folder == str(tries[-1].path)
    assert short.sequence_steps == sum(each.read_history()[-1].sequence_steps for each in tries)
    goals, seeds = zip(
        *((each.read_config().train.stop_val_loss, each.read_config().seed) for each in tries),
        strict=True,
    )
    assert goals == tuple(8e-3 / 2**k for k in range(len(tries)))
    assert len(set(seeds)) == len(tries)
    costs = [short.reached["1e-2"], short.reached["1e-3"], long.reached["1e-3"]]
    steps = [cost.sequence_steps for cost in costs if cost]
    assert len(steps) > 1
    assert steps == sorted(steps)
    assert RunFolder(tmp_path / "t20").read_config().model.start_from == short.folder


def test_a_cut_climb_goes_on(tmp_path: Path) -> None:
    uncut = find_horizon(tmp_path / "uncut", [10, 20])

    def cut(run: RunConfig) -> Any:
        return nullcontext(Interrupt(1) if run.dataset.t == 20 else None)

    with pytest.raises(KeyboardInterrupt):
        find_horizon(tmp_path / "cut", [10, 20], following=cut)
    resumed = find_horizon(tmp_path / "cut", [10, 20])
    assert [rung.mse for rung in resumed] == [rung.mse for rung in uncut]
    assert [rung.sequence_steps for rung in resumed] == [rung.sequence_steps for rung in uncut]


def test_a_cut_climb_goes_on_in_another_place(tmp_path: Path) -> None:
    uncut = find_horizon(tmp_path / "uncut", [10, 20])
    with pytest.raises(KeyboardInterrupt):
        find_horizon(
            tmp_path / "cut",
            [10, 20],
            following=lambda run: nullcontext(Interrupt(1) if run.dataset.t == 20 else None),
        )
    (tmp_path / "cut").rename(tmp_path / "moved")
    for _ in range(2):  # resumed, then read
        assert [rung.mse for rung in find_horizon(tmp_path / "moved", [10, 20])] == [
            rung.mse for rung in uncut
        ]


def test_a_climb_that_was_cut_under_a_small_budget_goes_on_under_a_larger_one(
    tmp_path: Path,
) -> None:
    with pytest.raises(KeyboardInterrupt):
        find_horizon(tmp_path, [20], minutes=1e-4, following=lambda run: nullcontext(Interrupt(1)))
    (rung,) = find_horizon(tmp_path, [20])
    assert rung.stop_reason == "solved"


def test_a_climb_that_is_overwritten_begins_again_and_leaves_nothing_of_the_old_one(
    tmp_path: Path,
) -> None:
    find_horizon(tmp_path, [10, 20])
    (tmp_path / "t20" / "notes.txt").write_text("mine")
    first = (tmp_path / "t10" / "result.json").stat().st_mtime_ns
    (rung,) = find_horizon(tmp_path, [10], overwrite=True)
    assert rung.solved
    assert (tmp_path / "t10" / "result.json").stat().st_mtime_ns > first
    assert json.loads((tmp_path / "horizon.json").read_text())["horizon"] == 10
    assert list(contents(tmp_path / "t20")) == ["notes.txt"]


def test_a_climb_by_epochs_over_fixed_data(tmp_path: Path) -> None:
    run = config.load(
        None,
        {
            "dataset.dt_length": 4000,
            "dataset.t": 4,
            "model.hidden": 16,
            "train.epochs": 40,
            "train.batch": 32,
            "train.stop_val_loss": 8e-4,
            "validate.dt_length": 500,
            "threads": 1,
            "artifacts": str(tmp_path),
        },
    )
    rungs = list(
        horizon.find_horizon(run, minutes=2, lengths=[4, 4, 5], following=lambda run: nullcontext())
    )
    assert [rung.t for rung in rungs] == [4, 5]
    assert rungs[0].solved


def test_the_minutes_alone_end_a_climb_on_fresh_sequences(tmp_path: Path) -> None:
    run = config.load(None, EASY | {"train.epochs": 1, "artifacts": str(tmp_path)})
    (rung,) = horizon.find_horizon(
        run, minutes=2, lengths=[10], following=lambda run: nullcontext()
    )
    assert rung.solved
    assert rows_of(rung)[-1].epoch > 1


def test_it_ends_at_the_first_length_that_is_not_solved(tmp_path: Path) -> None:
    (rung,) = find_horizon(tmp_path, [10, 20], minutes=1e-4)
    assert (rung.solved, rung.stop_reason, rung.reached["1e-3"]) == (False, "budget", None)
    assert json.loads((tmp_path / "horizon.json").read_text())["horizon"] is None
    more = find_horizon(tmp_path, [10, 20])  # a larger budget tries again
    assert [rung.solved for rung in more] == [True, True]


@pytest.mark.filterwarnings("error")
@pytest.mark.usefixtures("pictures")
def test_a_climb_that_diverges_is_not_solved(tmp_path: Path) -> None:
    rate = {"train.learning_rate": 1e38, "train.clip_norm": None, "train.warmup_steps": 0}
    run = config.load(None, EASY | rate | {"artifacts": str(tmp_path)})
    (rung,) = horizon.find_horizon(
        run, minutes=1, lengths=[10, 20], following=lambda run: nullcontext()
    )
    assert (rung.solved, rung.stop_reason) == (False, "diverged")
    document = json.loads((tmp_path / "horizon.json").read_text(), parse_constant=pytest.fail)
    assert document["rungs"][0]["mse"] is None
    found = report_runs.collect([tmp_path])
    assert not found.left_out
    ((_, climbed),) = found.horizons.items()
    assert math.isnan(climbed.result.rungs[0].mse)


def test_scores_at_other_lengths(tmp_path: Path) -> None:
    run = config.load(None, EASY | {"dataset.t": 10, "artifacts": str(tmp_path)})
    train(run)
    for t, score in zip((10, 30), score_at_lengths(run, [10, 30], 50), strict=True):
        ((x, y),) = batches(50, t, seed=43, batch=50)
        with torch.no_grad():
            error = float((load_model(str(tmp_path))(x) - y).double().square().mean())
        assert (score.t, score.sequences) == (t, 50)
        assert score.mse == pytest.approx(error, rel=1e-4)
    assert not RunFolder(tmp_path).validation.exists()


def test_a_budget_of_sequence_steps(tmp_path: Path) -> None:
    """It ends with the epoch that reaches it; with more the same length is tried again."""

    def find(steps: int) -> list[Rung]:
        run = config.load(None, EASY | {"train.stop_val_loss": 1e-12, "artifacts": str(tmp_path)})
        lengths = [20, 40]
        return list(
            horizon.find_horizon(
                run, steps=steps, lengths=lengths, following=lambda run: nullcontext()
            )
        )

    (rung,) = find(6_000)
    rows = rows_of(rung)
    assert rows[-2].sequence_steps < 6_000 <= rung.sequence_steps == rows[-1].sequence_steps
    assert rung.stop_reason == "budget"
    document = json.loads((tmp_path / "horizon.json").read_text())
    assert (document["steps"], document["minutes"]) == (6_000, None)
    (more,) = find(12_000)
    assert more.sequence_steps >= 12_000
    assert find(6_000) == [more]  # what a larger budget found is kept
    with pytest.raises(ValueError, match="a budget"):
        next(horizon.find_horizon(config.load(), following=lambda run: nullcontext()))


def test_several_seeds_in_one_table(tmp_path: Path, command: Command) -> None:
    options = [
        word
        for key, value in EASY.items()
        for word in (f"--{key}", "null" if value is None else value)
    ]
    words = ["--lengths", 10, "--budget", "1M", "--seed", 42, "--seeds", 2, "--artifacts", "two"]
    done = command("horizon", *words, *options, "--out", "t.json")
    assert done.returncode == 0, done.stderr
    assert re.search(r"horizon, seed 43: T = 10 .* of a budget of 1,000,000 seq", done.stdout)
    rows = json.loads((tmp_path / "t.json").read_text())["rows"]
    assert [(row["seed"], row["t"], row["solved"]) for row in rows] == [
        (42, 10, True),
        (43, 10, True),
    ]
    runs = [RunFolder(tmp_path / row["folder"]).read_config() for row in rows]
    assert [run.seed for run in runs] == [42, 43]
    assert all(run.seed != run.validate.seed for run in runs)
    refused = command("horizon", "--minutes", 1, "--budget", 5)
    assert refused.returncode == 2
    assert "no --budget beside it" in refused.stderr


def test_the_commands(tmp_path: Path, command: Command) -> None:
    options = [
        word
        for key, value in EASY.items()
        for word in (f"--{key}", "null" if value is None else value)
    ]
    done = command(
        "horizon",
        "--model",
        "lstm",
        "--minutes",
        1,
        "--lengths",
        10,
        20,
        *options,
        "--artifacts",
        "climb",
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"horizon: T = 20 after .* [0-9.]+ s, of a budget of 1 minute", done.stdout)
    assert "\ntrying 10\n" in done.stdout
    assert "\nsolved 10 -> trying 20\n" in done.stdout
    assert done.stdout.count("mean baseline: 0.1667") == 1
    assert "recipe fast, seed 0" in done.stdout
    assert "longest trained" in done.stdout
    assert "tested T" in done.stdout
    for length in (10, 20):  # as if they had learned
        learned = tmp_path / "climb" / f"t{length}" / "config_copy.yaml"
        learned.write_text(re.sub(r"  init: \S+", "  init: long", learned.read_text()))
    done = command(
        "validate",
        "climb/t10",
        "climb/t20",
        "--lengths",
        10,
        40,
        "--sequences",
        20,
        "--out",
        "heat.png",
    )
    assert done.returncode == 0, done.stderr
    assert "longest trained" in done.stdout
    assert "by tested T" in done.stdout
    assert "trained at" not in done.stdout
    assert (tmp_path / "heat.png").read_bytes().startswith(PNG)
    done = command(
        "validate", "climb/t10", "--lengths", 10, 40, "--sequences", 20, "--out", "new/heat.png"
    )  # makes the folder
    assert done.returncode == 0, done.stderr
    shutil.copytree(tmp_path / "climb" / "t20", tmp_path / "given")
    given = tmp_path / "given" / "config_copy.yaml"
    given.write_text(re.sub(r"  init: \S+", "  init: oracle", given.read_text()))
    done = command(
        "validate", "given", "climb/t10", "--lengths", 10, "--sequences", 20, "--out", "heat.png"
    )
    assert done.returncode == 0, done.stderr
    _, learner, oracle = re.split(r"─+ *\n", done.stdout)
    assert "climb/t10" in learner
    assert "oracle: input gates preset from the mark column" in oracle
    shutil.copytree(tmp_path / "climb" / "t10", tmp_path / "twin")
    done = command(
        "validate",
        "climb/t10",
        "twin",
        "climb/t20",
        "--lengths",
        10,
        "--sequences",
        20,
        "--out",
        "heat.png",
    )
    assert done.returncode == 0, done.stderr
    assert "twin: same weights as climb/t10, shown once" in done.stdout
    assert len(re.findall(r"^ climb/t\d+ +\d", done.stdout, re.MULTILINE)) == 2
    wrong = command("horizon", "--dataset.t", 300)
    assert wrong.returncode == 2
    assert "--dataset.t: expected no value, for a horizon run sets it" in wrong.stderr
    assert "give --lengths" in wrong.stderr
    wrong = command("horizon", "--model", "lstn")
    assert wrong.returncode == 2
    assert "model.name: expected one of lstm" in wrong.stderr


def test_a_signal_ends_a_climb_that_goes_on_later(tmp_path: Path) -> None:
    uncut = find_horizon(tmp_path / "uncut", [10, 20])

    class Signal(Interrupt):
        def on_step(self, event: StepEvent) -> None:
            if (event.epoch, event.step) == (self.epoch, 3):
                signal.raise_signal(signal.SIGTERM)

    with pytest.raises(
        Interrupted, match="stopped by SIGTERM; a checkpoint is written, at step 3 of epoch 1"
    ) as stopped:
        find_horizon(
            tmp_path / "cut",
            [10, 20],
            following=lambda run: nullcontext(Signal(1) if run.dataset.t == 20 else None),
        )
    assert stopped.value.exit_code == 143
    assert [rung.mse for rung in find_horizon(tmp_path / "cut", [10, 20])] == [
        rung.mse for rung in uncut
    ]


def test_two_climbs_do_not_share_a_folder(tmp_path: Path) -> None:
    with RunFolder(tmp_path).locked(), pytest.raises(LockError, match="is at work in it"):
        find_horizon(tmp_path, [10])


def test_lengths_that_a_variant_does_not_have_are_told_before_any_is_scored(
    tmp_path: Path, command: Command
) -> None:
    train(
        config.load(
            None,
            {
                "dataset.variant": "hs1997",
                "dataset.t": 30,
                "dataset.dt_length": 200,
                "train.epochs": 1,
                "model.hidden": 4,
                "threads": 1,
                "artifacts": str(tmp_path / "run"),
            },
        )
    )
    done = command("validate", "run", "--lengths", 10, 30)
    assert done.returncode == 2
    assert (
        "--lengths: expected at least 22 steps, as the variant 'hs1997' of run has, found 10"
        in done.stderr
    )


# --- compared -------------------------------------------------------------------------------------


def test_compare_shows_the_lengths_that_each_method_solves(
    tmp_path: Path, command: Command
) -> None:
    """Three seeds by `--seeds`, of which one breaks off early, and one run of another budget."""
    given = {key: "null" if value is None else value for key, value in EASY.items()}
    easy = [word for key, value in given.items() for word in (f"--{key}", value)]
    words = ["horizon", *easy, "--lengths", 20, 30, "--budget"]
    assert command(*words, "1M", "--seeds", 2, "--artifacts", "both").returncode == 0
    assert command(*words, "2M", "--artifacts", "one").returncode == 0
    record = tmp_path / "both" / "seed1" / "horizon.json"
    document = json.loads(record.read_text())
    document["rungs"][1]["solved"] = False
    record.write_text(json.dumps(document | {"horizon": 20}))

    done = command("compare", "both", "one", "--out", "t.csv")
    assert done.returncode == 0, done.stderr
    with (tmp_path / "t.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["horizon"] for row in rows] == ["30", "30", "20"]
    assert [row["seed"] for row in rows] == ["0", "0", "1"]
    assert [row["steps"] for row in rows] == ["2000000", "1000000", "1000000"]
    lines = [line for line in done.stdout.splitlines() if "sequence-steps" in line]
    assert re.search(r"2,000,000 sequence-steps +0 +30 +1/1 +1/1", lines[0])
    assert re.search(r"1,000,000 sequence-steps +0, 1 +20 +2/2 +1/2", lines[1])

    refused = command("compare", "one", "--out", "t.png")
    assert refused.returncode == 2
    assert "a table" in refused.stderr
    record.write_text(json.dumps(document | {"rungs": []}))
    assert "no length is done yet" in command("compare", "both").stderr
    record.write_text("{}")
    assert "horizon.json: is damaged" in command("compare", "both").stderr
