"""Both commands end to end, as a user runs them, with every file read back."""

from __future__ import annotations

import csv
import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

import adding_problem
from adding_problem import config
from tests.conftest import REPOSITORY, Command

PNG = b"\x89PNG\r\n\x1a\n"


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


def test_train_and_validate(small_config: Path, command: Command) -> None:
    trained = command("train", "--config", small_config)
    assert trained.returncode == 0, trained.stderr
    assert trained.stdout.count("always the mean: 0.1667") == 4  # three epochs and the end
    run = small_config.parent / "run"
    assert {file.name for file in run.iterdir()} - {"checkpoint.previous.safetensors"} == {  # there after a slow epoch
        "config_copy.yaml", "metrics.csv", "loss.pkl", "loss.png", "model", "checkpoint.safetensors", "result.json"}

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
    for part in ("MSE ", "RMSE ", "within 0.04", "always the mean", str(run / "pred.png")):
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
    assert np.allclose(model(adding_problem.sample_batch(300, 12, seed=43)[0]).detach().numpy()[:, 0], y_hat, atol=1e-6)


def test_validation_at_another_length(small_config: Path, command: Command) -> None:
    assert command("train", "--config", small_config).returncode == 0
    done = command("validate", "--config", small_config, "--dataset.t", "40", "--validate.dt_length", "50")
    assert done.returncode == 0, done.stderr
    assert "50 new sequences, T = 40" in done.stdout


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
    assert command("train", "--config", small_config, "--dataset.t", 20, "--artifacts", "other").returncode == 0
    done = command("compare", "run", "other", "--original", REPOSITORY / "docs" / "original_curves.json",
                   "--out", "picture.png")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "picture.png").read_bytes().startswith(PNG)
    assert "2.54e-06" in done.stdout  # the original's best at T=150
    assert command("compare", "run", "--out", "picture.png", "--format", "svg").returncode == 0
    assert "<svg" in (tmp_path / "picture.svg").read_text()
    wrong = command("compare", "run", "--original", small_config)
    assert wrong.returncode == 2
    assert "no loss curves" in wrong.stderr


def test_the_module_runs_too(command: Command) -> None:
    program = ["-m", "adding_problem"]
    assert command("--version", program=program).stdout.strip() == f"adding-problem {adding_problem.__version__}"
    assert "compare" in command(program=program).stdout
