"""Both commands end to end, as a user runs them, with every file read back."""

from __future__ import annotations

import csv
import json
import math
import os
import pickle
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

import adding_problem
from adding_problem import config
from adding_problem.cli import COMMANDS
from adding_problem.cli.common import plateau_hints
from adding_problem.config.values import described
from adding_problem.runs.folder import RunFolder
from adding_problem.runs.records import EpochRow, RunResult, on_plateau
from adding_problem.task.thresholds import PLATEAU
from tests.conftest import REPOSITORY, Command
from tests.helpers.files import PNG


def load_pickle(path: Path) -> dict[str, object]:
    """Read a pickle that this very test has had written, with NumPy and nothing of ours."""
    program = (
        "import pickle, sys, numpy\n"
        "data = pickle.load(open(sys.argv[1], 'rb'))\n"
        "assert not any(name.startswith(('adding_problem', 'torch')) for name in sys.modules)\n"
        "numpy.savez(sys.argv[2], **data)\n"
    )
    out = path.with_suffix(".npz")
    subprocess.run([sys.executable, "-c", program, str(path), str(out)], check=True)
    with np.load(out, allow_pickle=False) as stored:
        return dict(stored)


@pytest.mark.usefixtures("pictures")
def test_train_and_validate(small_config: Path, command: Command) -> None:
    trained = command("train", "--config", small_config)
    assert trained.returncode == 0, trained.stderr
    assert trained.stdout.count("mean baseline: 0.1667") == 1
    run = small_config.parent / "run"
    assert {file.name for file in run.iterdir()} - {
        "checkpoint.previous.safetensors"
    } == {  # there after a slow epoch
        "config_copy.yaml",
        "metrics.csv",
        "loss.pkl",
        "loss.png",
        "model",
        ".lockfile",
        "checkpoint.safetensors",
        "result.json",
    }

    assert config.load(run / "config_copy.yaml") == config.load(small_config)
    with (run / "metrics.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert [row["sequence_steps"] for row in rows] == [str(210 * 12 * epoch) for epoch in (1, 2, 3)]
    losses = pickle.loads((run / "loss.pkl").read_bytes())  # noqa: S301  (written a moment ago by this test)
    assert losses == {name: [float(row[name]) for row in rows] for name in ("loss", "val_loss")}
    assert (run / "loss.png").read_bytes().startswith(PNG)
    weights = safetensors.numpy.load_file(run / "model" / "model.safetensors")
    description = json.loads((run / "model" / "model.json").read_text())
    assert {name: list(array.shape) for name, array in weights.items()} == description["shapes"]
    result = json.loads((run / "result.json").read_text())
    assert result["digest"] == config.load(small_config).digest
    assert result["best_val_loss"] == float(rows[result["best_epoch"] - 1]["val_loss"])
    assert {"threads", "processor", "versions", "seconds", "reached", "backend"} <= result.keys()

    again = command("train", "--config", small_config)
    assert again.returncode == 0
    assert "not trained again" in again.stdout
    refused = command("train", "--config", small_config, "--dataset.t", "13")
    assert refused.returncode == 2
    assert "another configuration" in refused.stderr
    assert "--overwrite" in refused.stderr

    validated = command("validate", "--config", small_config)
    assert validated.returncode == 0, validated.stderr
    score = json.loads((run / "validation.json").read_text())
    for part in ("MSE ", "RMSE ", "within 0.04", "mean baseline", str(run / "pred.png")):
        assert part in validated.stdout
    assert (run / "pred.png").read_bytes().startswith(PNG)
    predictions = load_pickle(run / "pred.pkl")
    x, y, y_hat = (np.asarray(predictions[name]) for name in ("x", "y", "y_hat"))
    assert (x.shape, y.shape, y_hat.shape) == ((300, 12, 2), (300,), (300,))
    assert x.dtype == y.dtype == y_hat.dtype == np.float32
    expected_x, expected_y = adding_problem.sample_batch_numpy(300, 12, seed=43)
    assert np.array_equal(x, expected_x)
    assert np.array_equal(y, expected_y[:, 0])
    error = y_hat.astype(np.float64) - y
    assert score["mse"] == pytest.approx(np.mean(error**2), rel=1e-9)
    assert score["within_tolerance"] == np.mean(np.abs(error) < 0.04)
    model = adding_problem.load_model(str(run))
    assert np.allclose(
        model(adding_problem.sample_batch(300, 12, seed=43)[0]).detach().numpy()[:, 0],
        y_hat,
        atol=1e-6,
    )


def test_a_run_on_the_plateau_says_so_and_what_to_change(
    small_config: Path, command: Command
) -> None:
    words = ("--config", small_config, "--dataset.t", 100, "--train.epochs", 1)
    trained = command("train", *words)
    assert trained.returncode == 0, trained.stderr
    said = (
        "still at the mean baseline: the validation MSE is not below 0.15, "
        "90% of what always predicting the mean scores"
    )
    lines = trained.stdout.splitlines()
    assert lines.count(said) == 1
    hints = [line for line in lines if line.startswith("  hint: ")]
    assert lines[-3:] == hints
    recipe, longer, slower = (hint.split(": ", 2)[2] for hint in hints)
    program, *fast = shlex.split(recipe)
    assert program == "adding-problem"
    printed = command(*fast, "--print_config")
    assert printed.returncode == 0, printed.stderr
    assert "recipe: fast" in printed.stdout
    assert "t: 100 " in printed.stdout
    lower = command(*shlex.split(slower)[1:])
    assert lower.returncode == 0, lower.stderr
    beside = next(small_config.parent.glob("run_rate_*"))
    rates = (
        RunFolder(path).read_config().train.learning_rate
        for path in (beside, beside.parent / "run")
    )
    assert next(rates) == next(rates) / 4
    # 30 T = 3,000 steps, of which an epoch has ceil(210 / 32) = 7
    assert longer == "--train.epochs 429 --resume"
    resumed = command("train", *words[:-2], *shlex.split(longer.replace("429", "2")))
    assert resumed.returncode == 0, resumed.stderr
    assert "best epoch 2 of 2" in resumed.stdout or "best epoch 1 of 2" in resumed.stdout

    validated = command("validate", "--artifacts", small_config.parent / "run")
    assert validated.returncode == 0, validated.stderr
    assert validated.stdout.count("still at the mean baseline: the MSE is not below 0.15") == 1
    assert validated.stdout.splitlines()[-3:] == hints


def test_a_run_that_has_learned_does_not_speak_of_the_plateau(
    small_config: Path, command: Command
) -> None:
    # With T = 2 there is nothing to remember.
    words = ("--config", small_config, "--dataset.t", 2, "--train.epochs", 40)
    trained, validated = command("train", *words), command("validate", *words)
    assert (trained.returncode, validated.returncode) == (0, 0), trained.stderr + validated.stderr
    result = json.loads((small_config.parent / "run" / "result.json").read_text())
    assert result["best_val_loss"] < 0.1
    assert "still at the mean baseline" not in trained.stdout + validated.stdout


@pytest.mark.parametrize(
    ("values", "result", "expected"),
    [
        (
            {"train.es_patience": 10},
            {"stop_reason": "early_stopping"},
            ("--recipe fast", "--train.es_patience 30 --resume", "--train.learning_rate 0.0025"),
        ),
        (
            {"dataset.target": "difference", "train.budget_steps": 500},
            {"stop_reason": "budget", "sequence_steps": 600},
            ("--dataset.target difference", "--train.budget_steps 1500 --resume", "_rate_0.0025"),
        ),
        (
            {"train.budget_minutes": 0.5, "model.name": "a.py:Mine", "model.config.width": 8},
            {"stop_reason": "budget", "sequence_steps": 600},
            (
                "--model.name a.py:Mine --model.config.width 8",
                "--train.budget_minutes 1.5 --resume",
                "--config artifacts/config_copy.yaml --model a.py:Mine --train.learning_rate",
            ),
        ),
        (
            {"recipe": "fast", "dataset.t": 1000},
            {"stop_reason": "epochs", "longest_length": 90},
            ("--train.epochs 2000 --resume", "--dataset.t 333", "--train.learning_rate 0.0075"),
        ),
    ],
)
def test_the_hints_are_the_runs_own(
    values: dict[str, object],
    result: dict[str, Any],
    expected: tuple[str, str, str],
) -> None:
    run = config.load(None, values)
    rows = [EpochRow(1, 0.2, 0.2, 16, result.pop("sequence_steps", 160), 1.0)]
    reason, rest = result.pop("stop_reason"), {"device": "cpu", "backend": "torch", "threads": 1}
    ended = RunResult.of(run, rows, 1, reason, **rest, **result)
    for hint, words in zip(plateau_hints(run, ended), expected, strict=True):
        assert words in hint


def test_a_tenth_below_the_mean_baseline_is_off_the_plateau() -> None:
    errors = adding_problem.sample_batch(1_000, 10, seed=0)[1].double().sub(1).square()
    standard_error = float(errors.std() / errors.numel() ** 0.5)
    assert 2.5 * standard_error < (1 - PLATEAU) / 6  # what the luck of 1,000 sequences can do
    assert on_plateau(1 / 6, 1 / 6)
    assert on_plateau(math.nan, 1 / 6)
    assert not on_plateau(0.14, 1 / 6)


def test_validation_at_another_length(small_config: Path, command: Command) -> None:
    assert command("train", "--config", small_config).returncode == 0
    done = command(
        "validate", "--config", small_config, "--dataset.t", "40", "--validate.dt_length", "50"
    )
    assert done.returncode == 0, done.stderr
    assert "test set: 50 sequences, T = 40" in done.stdout


def test_the_originals_command(small_config: Path, command: Command) -> None:
    program = [REPOSITORY / "main.py"]
    trained = command("--mode", "train", "--config", small_config, program=program)
    assert trained.returncode == 0, trained.stderr
    validated = command("--mode", "validate", "--config", small_config, program=program)
    assert validated.returncode == 0, validated.stderr
    assert (small_config.parent / "run" / "pred.pkl").exists()
    wrong = command("--mode", "both", "--config", small_config, program=program)
    assert wrong.returncode == 2
    assert "Traceback" not in wrong.stderr


def test_compare(small_config: Path, command: Command, tmp_path: Path) -> None:
    assert command("train", "--config", small_config).returncode == 0
    assert (
        command(
            "train", "--config", small_config, "--dataset.t", 20, "--artifacts", "other"
        ).returncode
        == 0
    )
    done = command(
        "compare",
        "run",
        "other",
        "--original",
        REPOSITORY / "docs" / "original_curves.json",
        "--out",
        "picture.png",
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "picture.png").read_bytes().startswith(PNG)
    assert "2.54e-06" in done.stdout  # the original's best at T=150
    assert command("compare", "run", "--out", "picture.svg").returncode == 0
    assert "<svg" in (tmp_path / "picture.svg").read_text()
    wrong = command("compare", "run", "--original", small_config)
    assert wrong.returncode == 2
    assert "no loss curves" in wrong.stderr


def test_the_module_runs_too(command: Command) -> None:
    program = ["-m", "adding_problem"]
    assert (
        command("--version", program=program).stdout.strip()
        == f"adding-problem {adding_problem.__version__}"
    )
    assert "compare" in command(program=program).stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["validate", "x", "--lengths", 1], "lengths"),
        (["validate", "x", "--lengths", 5, "--sequences", -5], "sequences"),
        (["validate", "x", "--sequences", 0], "sequences"),
        (["report", "x", "--models", -1], "models"),
        (["horizon", "--minutes", 0], "minutes"),
        (["horizon", "--lengths", 1], "lengths"),
        (
            ["compare", "x", "--out", "foo.xyz"],
            "expected a file that ends in .png, .pdf, .svg, .csv, .json, .tex, .md, found foo.xyz",
        ),
    ],
)
def test_values_out_of_bounds(words: list[object], message: str, command: Command) -> None:
    done = command(*words)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.startswith("error: ")


def test_an_argument_that_looks_like_a_date_that_there_is_not() -> None:
    assert (
        config.load(None, {"model.name": "a.Model", "model.day": "2024-13-45"}).get("model.day")
        == "2024-13-45"
    )


def test_validate_knows_how_the_folder_was_trained(small_config: Path, command: Command) -> None:
    run = small_config.parent / "run"
    assert command("train", "--config", small_config).returncode == 0
    done = command("validate", "--artifacts", run)
    assert done.returncode == 0, done.stderr
    assert "test set: 300 sequences, T = 12 (any), seed 43" in done.stdout
    assert "T = 20 (any)" in command("validate", "--artifacts", run, "--dataset.t", 20).stdout
    other = command("validate", "--artifacts", run, "--model", "gru")
    assert other.returncode == 2
    assert "model.name: expected 'lstm', which" in other.stderr


def test_validate_takes_run_folders(small_config: Path, command: Command) -> None:
    assert command("train", "--config", small_config).returncode == 0
    done = command("validate", "--validate.dt_length", 50, "run")  # before it or behind it
    assert done.returncode == 0, done.stderr
    assert "test set: 50 sequences, T = 12 (any), seed 43" in done.stdout
    table = command("validate", "--threads", 1, "run", "--lengths", 10, 20, "--sequences", 30)
    assert table.returncode == 0, table.stderr
    assert "MSE on 30 test sequences, by tested T" in table.stdout
    assert (small_config.parent / "lengths.png").exists()
    words = ["run", "--lengths", 10, 20, "--sequences", 30, "--out", "lengths.csv"]
    assert command("validate", "--threads", 1, *words).returncode == 0
    with (small_config.parent / "lengths.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["run"], row["t"]) for row in rows] == [("run", "10"), ("run", "20")]
    assert all(f"{float(row['mse']):.1e}" in table.stdout for row in rows)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a", "b"], "runs: expected one run folder, found 2"),
        (["a", "--artifacts", "b"], "runs: expected no --artifacts beside it, found both"),
        (["a", "--sequences", 5], "--sequences: expected --lengths beside it, found none"),
        (["a", "--out", "x.png"], "--out: expected --lengths beside it, found none"),
        (["--lengths", 10], "runs: expected run folders to score at --lengths, found none"),
        (["a", "--lengths", 10, "--dataset.t", 5], "--dataset.t: expected no --lengths beside it"),
        (["a", "--lengths", 10, "--config", "c"], "--config: expected no --lengths beside it"),
        (["a", "--lengths"], "--lengths: expected a whole number of at least 2, found nothing"),
        (["a", "--lengths", 10, "--threads", 0], "threads: expected a whole number from 1"),
    ],
)
def test_what_validate_does_not_take_together(
    words: list[object], said: str, command: Command
) -> None:
    done = command("validate", *words)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: command line: {said}")


def test_the_training_data_are_not_scored_on(small_config: Path, command: Command) -> None:
    """A file that names no seed means another one than a run had that was trained with --seed."""
    command("train", "--config", small_config, "--seed", 43)
    done = command("validate", "--config", small_config)
    assert done.returncode == 2
    assert "validate.seed: expected another seed than that of the training, found 43" in done.stderr
    assert command("validate", "--config", small_config, "--validate.seed", 44).returncode == 0


def test_how_a_run_ended_is_said(small_config: Path, command: Command) -> None:
    blown = command(
        "train",
        "--config",
        small_config,
        "--train.learning_rate",
        1e38,
        "--train.clip_value",
        "null",
    )
    assert blown.returncode == 3
    assert "the run diverged" in blown.stderr
    assert (
        command(
            "train",
            "--config",
            small_config,
            "--train.learning_rate",
            1e38,
            "--train.clip_value",
            "null",
        ).returncode
        == 3
    )
    scored = command("validate", "--artifacts", small_config.parent / "run")
    assert scored.returncode == 3
    assert "not all finite" in scored.stderr
    for name in ("train", "validate"):
        assert "exit code is 3" in " ".join(command(name, "--help").stdout.split())
    spent = command("train", "--config", small_config, "--train.budget_steps", 1, "--overwrite")
    assert "ended in epoch 1: the budget is spent" in spent.stdout


def test_another_runs_folder_is_told_by_what_differs(small_config: Path, command: Command) -> None:
    assert command("train", "--config", small_config).returncode == 0
    longer = command("train", "--config", small_config, "--train.epochs", 9, "--dataset.t", 13)
    assert "dataset.t: 12 there, 13 now; train.epochs: 3 there, 9 now" in longer.stderr


def test_nothing_to_resume(small_config: Path, command: Command) -> None:
    done = command("train", "--config", small_config, "--resume")
    assert done.returncode == 0
    assert "holds nothing to resume: a new run begins" in done.stdout


def test_the_seed_of_the_validation_gives_way(small_config: Path, command: Command) -> None:
    shown = command("train", "--config", small_config, "--seed", 43, "--print_config")
    assert "  seed: 44 " in shown.stdout
    recipe = command("train", "--recipe", "fast", "--dataset.stream", "false")
    assert recipe.stderr.startswith("error: recipe fast: ")


DATA = ["data", "--n", 5, "--length", 5, "--out", "f.npz"]


@pytest.mark.parametrize(
    ("words", "expected", "hint"),
    [
        (
            [*DATA, "--n", "abc"],
            "--n: expected a whole number of at least 1, found abc",
            "change --n: number of sequences",
        ),
        (
            [*DATA, "--seed", -1],
            "--seed: expected a whole number of at least 0, found -1",
            "change --seed",
        ),
        (
            [*DATA, "--variant", "hs1997"],
            "--length: expected at least 22 for the variant 'hs1997', found 5",
            "raise length",
        ),
        (
            [*DATA, "--T", 10],
            "expected an option of adding-problem data, found '--T'",
            "known are: --help, --n, --length, --out",
        ),
        (
            ["data", "--n", 5, "--out", "f.npz"],
            "--length: expected a whole number of at least 2, found nothing",
            "give --length",
        ),
        (
            ["export", "X"],
            "--to: expected one of keras, savedmodel, onnx, torch-export, found nothing",
            "give --to",
        ),
        (
            ["export", "X", "--to", "tflite"],
            "--to: expected one of keras, savedmodel, onnx, torch-export, found tflite",
            "change --to",
        ),
        (
            ["compare"],
            "folders: expected a value, found nothing",
            "give folders a value: run folders",
        ),
        (
            ["validate", "x", "--lengths", 5, "1:40"],
            "--lengths: expected a whole number of at least 2, found 1:40",
            "change --lengths",
        ),
        (["trian"], "expected a command, found 'trian'", "did you mean train?"),
        (
            ["sweep", "--workers", 0],
            "--workers: expected a whole number of at least 1, found 0",
            "change --workers: runs at a time",
        ),
        (
            ["train", "--lr", 3],
            "found '--lr'",
            "did you mean --train.learning_rate (learning rate)?",
        ),
        (["train", "extra"], "expected nothing but options here, found 'extra'", "leave it out"),
        (
            ["train", "a folder"],
            "found 'a folder', which is none",
            "name a run folder by --artifacts 'a folder'",
        ),
        (
            ["train", "some.yaml"],
            "found 'some.yaml', which is none",
            "name a file by --config some.yaml",
        ),
        (["train", "--resume=3"], "--resume: expected no value, found '3'", "give --resume alone"),
        (
            ["train", "--resume", "--overwrite"],
            "--overwrite: expected no --resume beside it, found both",
            "give one of them: --res",
        ),
    ],
)
def test_arguments_that_the_parser_refuses(
    words: list[object],
    expected: str,
    hint: str,
    tmp_path: Path,
    command: Command,
) -> None:
    (tmp_path / "a folder").mkdir()
    (tmp_path / "some.yaml").touch()
    done = command(*words)
    assert done.returncode == 2
    assert done.stderr.startswith("error: command line: ")
    assert expected in done.stderr
    assert f"hint: {hint}" in done.stderr


@pytest.mark.parametrize("name", ["f.npz", "f.parquet"])
def test_data_that_no_disk_holds(name: str, tmp_path: Path, command: Command) -> None:
    done = command("data", "--n", 10**13, "--length", 1000, "--out", name)
    assert done.returncode == 74
    assert "GB free" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (
            ["data", "--n", "5", "--length", "5", "--out", "f.npz"],
            "to start again: adding-problem data --n 5 --length 5 --out f.npz\n",
        ),
        (
            ["train", "--overwrite", "--model.levels", "3", "--model", "tcn"],
            "to continue: adding-problem train --model.levels 3 --model tcn --resume\n",
        ),
        (["horizon", "--minutes", "2"], "to continue: adding-problem horizon --minutes 2\n"),
    ],
)
def test_how_to_go_on_after_an_interruption(
    words: list[str],
    hint: str,
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stopped(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"adding_problem.cli.{words[0]}.run", stopped)
    done = command(*words)
    assert done.returncode == 130
    assert hint in done.stderr


def test_a_reader_that_has_ended() -> None:
    """As in `adding-problem train --print_config | head -1`."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "adding_problem", "train", "--print_config"],
            stdout=writing,
            stderr=subprocess.PIPE,
            check=False,
            text=True,
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("name", COMMANDS)
def test_help_fits_on_a_screen(
    name: str, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "get_terminal_size", lambda: os.terminal_size((80, 40)))
    lines = command(name, "--help").stdout.splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 80
    examples = lines[lines.index("examples:") + 1 :]
    assert len(examples) >= 2
    for example in examples:
        program, called, *_ = shlex.split(example)
        assert (program, called) == ("adding-problem", name)


def test_help_shows_the_defaults_that_the_command_uses(command: Command) -> None:
    """Without a file `horizon` and `certify` use the recipe fast, all others the original's."""
    for name, rate in (("train", "0.01"), ("horizon", "0.03"), ("certify", "0.03")):
        said = command(name, "--help").stdout
        assert re.search(rf"--train.learning_rate X +learning rate \(default: {rate}\)", said)
    assert "--n N " in command("data", "--help").stdout


def test_help_all_lists_every_key_with_what_it_takes(command: Command) -> None:
    said = " ".join(command("train", "--help-all").stdout.split())
    for key in config.KEYS.values():
        option = "--model" if key.name == "model.name" else f"--{key.name}"
        assert f" {option} " in said
        assert f"{key.help}; {described(key.kind)}" in said
    assert "--curriculum.factor" not in command("train", "--help").stdout
    leaks = ("Attributes", "model.arguments", "Literal", "Annotated", "None")
    assert not [leak for leak in leaks if leak in said]
