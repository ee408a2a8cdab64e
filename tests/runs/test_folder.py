"""The run folder: what is damaged is said, what is half-written is never seen, predictions
stream."""

from __future__ import annotations

import io
import json
import pickle
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch

from adding_problem.analysis.plots.one_run import split_by_coverage
from adding_problem.errors import ConfigError, RunFolderError
from adding_problem.evaluation import validate
from adding_problem.experiments.train import train
from adding_problem.runs import atomic_io
from adding_problem.runs.folder import RunFolder
from adding_problem.runs.predictions import PredictionWriter
from adding_problem.runs.records import EpochRow, lowest_val_loss
from adding_problem.task.data_sets import batches
from tests.helpers.training import small


def test_history_round_trip(tmp_path: Path) -> None:
    rows = [
        EpochRow(1, 0.1, 1 / 3, 10, 100, 0.5, 64),
        EpochRow(2, float("nan"), float("inf"), 20, 200, 1.25, 1000),
    ]
    RunFolder(tmp_path).write_history(rows)
    assert repr(RunFolder(tmp_path).read_history()) == repr(rows)


def test_a_history_from_before_the_column_val_sequences(tmp_path: Path) -> None:
    text = (
        "epoch,loss,val_loss,sequences,sequence_steps,seconds\n"
        "1,0.25,0.5,10,100,0.5\n"
        "2,0.5,0.125,20,200,1.25\n"
    )
    (tmp_path / "metrics.csv").write_text(text)
    rows = RunFolder(tmp_path).read_history()
    assert rows == [
        EpochRow(1, 0.25, 0.5, 10, 100, 0.5, 0),
        EpochRow(2, 0.5, 0.125, 20, 200, 1.25, 0),
    ]
    assert lowest_val_loss(rows) == 0.125


def test_the_lowest_loss_is_over_the_most_sequences() -> None:
    rows = [
        EpochRow(e, 0.1, loss, 10 * e, 100 * e, 1.0, n)
        for e, (loss, n) in enumerate(
            [(0.5, 64), (0.1, 64), (0.3, 1000), (float("nan"), 1000), (0.4, 1000)], start=1
        )
    ]
    assert lowest_val_loss(rows) == 0.3
    assert lowest_val_loss(rows[:2]) == 0.1
    assert lowest_val_loss([]) == float("inf")
    parts = [(n, [row.epoch for row in part]) for n, part in split_by_coverage(rows)]
    assert parts == [(64, [1, 2]), (1000, [3, 4, 5])]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_documents_are_json(value: float) -> None:
    text = atomic_io.json_text(
        {"a": value, "b": [value, {"c": value}], "d": (1, 2.5, "NaN", None, True)}
    )
    assert json.loads(text, parse_constant=pytest.fail) == {
        "a": None,
        "b": [None, {"c": None}],
        "d": [1, 2.5, "NaN", None, True],
    }


def test_checkpoint_round_trip(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_checkpoint({"a": torch.arange(3.0)}, {"wait": 2, "best": float("inf")})
    tensors, state = folder.read_checkpoint()
    assert tensors["a"].tolist() == [0, 1, 2]
    assert state == {"wait": 2, "best": float("inf")}


def test_predictions_of_any_size_stream_into_a_pickle() -> None:
    n, width = 4000, 500
    tracemalloc.start()
    with Path("/dev/null").open("wb") as stream:
        writer = PredictionWriter(stream, n, width)
        for x, y in batches(n, width, seed=0, batch=100):
            writer.add(x.numpy(), y.numpy(), y.numpy())
        writer.finish()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < n * width * 8 / 4  # a quarter of x


def test_the_streamed_pickle_is_what_it_says() -> None:
    stream = io.BytesIO()
    writer = PredictionWriter(stream, 3, 4)
    x = np.arange(24, dtype=np.float32).reshape(3, 4, 2)
    y = np.array([[1], [2], [3]], np.float32)
    writer.add(x[:1], y[:1], -y[:1])
    writer.add(x[1:], y[1:], -y[1:])
    writer.finish()
    read = pickle.loads(stream.getvalue())  # noqa: S301  (made above)
    assert np.array_equal(read["x"], x)
    assert np.array_equal(read["y"], y[:, 0])
    assert np.array_equal(read["y_hat"], -y[:, 0])


def test_too_few_predictions_leave_no_file(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with (
        pytest.raises(ValueError, match="expected 2 sequences, found 1"),
        folder.predictions(2, 1, 2) as writer,
    ):
        writer.add(
            np.zeros((1, 1, 2), np.float32), np.zeros(1, np.float32), np.zeros(1, np.float32)
        )
    assert list(tmp_path.iterdir()) == []


def test_overwrite_spares_what_is_not_ours(tmp_path: Path) -> None:
    train(small(tmp_path))
    (tmp_path / "notes.txt").write_text("mine")
    train(small(tmp_path, seed=1), overwrite=True)
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("model/model.safetensors", b"rubbish", "model.safetensors is damaged"),
        ("model/model.json", b"{", "model.json is damaged"),
        ("model/model.json", b"[]", "Input should be an object"),
        (
            "model/model.json",
            json.dumps({"family": "lstm", "hidden": 9}).encode(),
            "does not hold what",
        ),
        ("model/model.json", json.dumps({"family": "other"}).encode(), "expected 'lstm'"),
        ("model/model.safetensors", None, "lacks model/model.safetensors"),
        ("result.json", None, "holds no finished run"),
    ],
)
def test_a_damaged_model_is_an_error_that_says_where(
    file: str, content: bytes | None, message: str, tmp_path: Path
) -> None:
    config = small(tmp_path, train__epochs=1)
    train(config)
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(RunFolderError, match=message):
        validate.validate(config)


@pytest.mark.parametrize("content", [b"", b"rubbish", b"epoch,loss\n1,x\n"])
def test_damaged_history(content: bytes, tmp_path: Path) -> None:
    train(small(tmp_path, train__epochs=1))
    (tmp_path / "metrics.csv").write_bytes(content)
    with pytest.raises(RunFolderError, match=r"metrics\.csv is damaged"):
        RunFolder(tmp_path).read_history()


def test_a_damaged_checkpoint(tmp_path: Path) -> None:
    config = small(tmp_path, train__epochs=1)
    train(config)
    RunFolder(tmp_path).result.unlink()
    RunFolder(tmp_path).checkpoint.write_bytes(b"rubbish")
    with pytest.raises(RunFolderError, match=r"checkpoint\.safetensors is damaged"):
        train(config, resume=True)


def test_a_damaged_configuration_copy(tmp_path: Path) -> None:
    config = small(tmp_path, train__epochs=1)
    train(config)
    RunFolder(tmp_path).config_copy.write_text("dataset: {q: 1}")
    with pytest.raises(ConfigError, match=r"config_copy\.yaml"):
        train(config)
