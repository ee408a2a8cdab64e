"""Names of methods: short, the same for one method, different for two at one length."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from adding_problem import config
from adding_problem.analysis.names import method_names
from adding_problem.config import RunConfig
from adding_problem.runs.folder import RunFolder
from tests.conftest import REPOSITORY

ORACLE = "init oracle: input gates preset from the mark column"


def run(**values: Any) -> RunConfig:
    return config.load(None, {key.replace("__", "."): value for key, value in values.items()})


@pytest.mark.parametrize(
    ("runs", "names"),
    [
        ([{}], ["LSTM, original"]),
        ([{"seed": 1}, {"seed": 2, "threads": 3}], ["LSTM, original"] * 2),
        ([{}, {"model__name": "cornn"}], ["LSTM, original", "coRNN, original"]),
        ([{}, {"model__hidden": 7}], ["LSTM, original", "LSTM, original, hidden 7"]),
        (
            [{"recipe": "fast", "model__name": "gru"}, {"model__name": "gru"}],
            ["GRU, fast", "GRU, original"],
        ),
        (  # a value that all share tells none apart
            [{"train__batch": 8}, {"train__batch": 8, "train__learning_rate": 0.1}],
            ["LSTM, original", "LSTM, original, learning_rate 0.1"],
        ),
        (  # keys that differ between models or recipes alone tell none apart either
            [{"train__batch": 8}, {"model__name": "rnn", "train__learning_rate": 0.5}],
            ["LSTM, original", "RNN, original"],
        ),
        (  # nor do those that differ between lengths
            [{"dataset__t": 20, "dataset__dt_length": 900}, {"dataset__t": 30}],
            ["LSTM, original"] * 2,
        ),
        (
            [
                {"dataset__dt_length": 100, "dataset__held_out": 10},
                {"dataset__dt_length": 110, "dataset__held_out": 20},
            ],
            [
                "LSTM, original, 10 validation sequences",
                "LSTM, original, 20 validation sequences",
            ],
        ),
        (
            [{"dataset__dt_length": 100_000, "dataset__validation_split": 0.7}, {}],
            ["LSTM, original, 30,000 training sequences", "LSTM, original"],
        ),
        (
            [{"model__init": "oracle"}, {"model__init": "oracle", "model__memory": 10**9}],
            [f"LSTM, original, {ORACLE}", f"LSTM, original, {ORACLE}, memory 1e9"],
        ),
        ([{"recipe": "fast"}], ["LSTM, fast, init keyed"]),  # always said
        (
            [{"train__es_patience": None}, {}],
            ["LSTM, original, es_patience none", "LSTM, original"],
        ),
    ],
)
def test_names(runs: list[dict[str, Any]], names: list[str]) -> None:
    assert method_names([run(**values) for values in runs]) == names


def test_a_custom_model_is_named_by_its_class(file: Path) -> None:
    other = file.with_name("other.py")
    other.write_text(file.read_text())
    one, two = (f"{path}:Last" for path in (file, other))
    assert method_names([run(model__name=one)]) == ["Last, original"]
    both = method_names([run(model__name=name) for name in (one, two)])
    assert both == [f"{one}, original", f"{two}, original"]


def test_the_recorded_originals_are_one_method() -> None:
    """Their data sets have two sizes and 30,000 training sequences each."""
    folders = sorted((REPOSITORY / "docs" / "runs" / "original").iterdir())
    recorded = [RunFolder(path).read().config for path in folders]
    assert set(method_names(recorded)) == {"LSTM, original"}
    mine = [run(dataset__t=150), run(dataset__t=300, model__name="gru")]
    assert set(method_names([*recorded, *mine])) == {
        "LSTM, original, 30,000 training sequences",
        "LSTM, original",
        "GRU, original",
    }
