"""Predictions in stretches against predictions at once, and scorings that were cut."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from adding_problem.config import ModelConfig
from adding_problem.evaluation import evaluate, lengths
from adding_problem.evaluation.evaluate import Sequences
from adding_problem.evaluation.lengths import score_at_lengths
from adding_problem.experiments.train import train
from adding_problem.models import build_model
from adding_problem.task.sampling import sample_batch
from adding_problem.task.variants import Task
from tests.helpers.training import small

NOISY = Task(target="difference", noise_columns=2, mix="swap")


@pytest.mark.parametrize("variant", ["any", "hs1997"])
def test_long_sequences_are_scored_as_short_ones(
    monkeypatch: pytest.MonkeyPatch, variant: str
) -> None:
    task = Task(variant=variant, noise_columns=1)  # type: ignore[arg-type]
    model = build_model(ModelConfig(hidden=6), seed=0, input_size=3).eval()
    sequences = Sequences(task, 100, seed=5, stop=30)
    at_once = list(evaluate.predict(model, sequences))
    monkeypatch.setattr(evaluate, "_LONG", 50)
    monkeypatch.setattr(evaluate, "_STRETCH", 24)
    monkeypatch.setattr(evaluate, "_LONG_BATCH", 7)
    told: list[tuple[int, int]] = []
    stretched = list(
        evaluate.predict(model, sequences, on_progress=lambda done, n: told.append((done, n)))
    )
    for column in (1, 2):
        whole, pieces = (
            np.concatenate([batch[column] for batch in batches]) for batches in (at_once, stretched)
        )
        assert np.allclose(whole, pieces, atol=1e-6)
    assert [len(batch.y) for batch in stretched] == [7, 7, 7, 7, 2]
    assert told == sorted(told)
    assert len(told) > 15
    assert told[-1] == (30, 30)


def test_predictions_begin_anywhere() -> None:
    model = build_model(ModelConfig(hidden=6), seed=0, input_size=4).eval()
    sequences = Sequences(NOISY, 20, seed=5, start=11, stop=30)
    (rest,) = evaluate.predict(model, sequences, with_inputs=True)
    x, y = sample_batch(19, 20, seed=5, start=11, task=NOISY)
    assert rest.x is not None
    assert np.array_equal(rest.x, x)
    assert np.array_equal(rest.y, y)
    assert np.allclose(rest.y_hat, model(x).detach(), atol=1e-6)


def test_a_cut_scoring_goes_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run = small(tmp_path / "run")
    train(run)
    monkeypatch.setattr(lengths, "_KEEP_SECONDS", 0.0)
    monkeypatch.setattr(evaluate, "evaluation_batch", lambda length: 10)
    (whole,) = score_at_lengths(run, [15], 50)

    def cut(done: int, n: int) -> None:
        if done == 30:
            raise KeyboardInterrupt

    other = small(tmp_path / "other")
    train(other)
    with pytest.raises(KeyboardInterrupt):
        score_at_lengths(other, [15], 50, on_progress=cut)
    done: list[int] = []
    (resumed,) = score_at_lengths(other, [15], 50, on_progress=lambda count, n: done.append(count))
    assert done == [40, 50]
    assert resumed.mse == whole.mse
    for file in (tmp_path / "other" / "scored").iterdir():
        file.write_bytes(file.read_bytes()[:-4])  # damaged: it is as if it were not there
    (again,) = score_at_lengths(other, [15], 50)
    assert again.mse == whole.mse


def test_what_is_kept_serves_any_number_of_sequences(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = small(tmp_path)
    train(run)
    monkeypatch.setattr(lengths, "_KEEP_SECONDS", 0.0)
    (few,) = score_at_lengths(run, [15], 20)
    done: list[int] = []
    (fewer,) = score_at_lengths(run, [15], 10, on_progress=lambda count, n: done.append(count))
    assert done == []
    assert fewer.sequences == 10
    assert few.sequences == 20
