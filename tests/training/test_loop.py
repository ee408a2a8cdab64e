"""Training against an independent NumPy implementation, early stopping by hand, resuming,
determinism."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adding_problem import config, models
from adding_problem.analysis import aggregate
from adding_problem.config import DatasetConfig, ModelConfig, RunConfig, TrainConfig
from adding_problem.errors import BackendError, RunFolderError
from adding_problem.evaluation import validate
from adding_problem.experiments.train import train
from adding_problem.runs.folder import RunFolder
from adding_problem.runs.records import Cost, EpochRow, first_below
from adding_problem.system.seeding import stream_seed
from adding_problem.task.sampling import sample_batch_numpy
from adding_problem.training import schedule
from adding_problem.training.early_stopping import EarlyStopping
from adding_problem.training.state import StepEvent
from tests.conftest import Command
from tests.helpers import reference
from tests.helpers.training import Interrupt, needs_native, numbers, small, weights


class Trace:
    """A listener that keeps the loss of every step."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_step(self, event: StepEvent) -> None:
        self.losses.append(event.loss)

    def on_epoch(self, row: EpochRow) -> None:
        pass


@pytest.mark.parametrize("backend", ["torch", pytest.param("native", marks=needs_native)])
@pytest.mark.parametrize("clip", [10.0, 0.01])
def test_golden_trace(clip: float, backend: Any, tmp_path: Path) -> None:
    """Ten training steps of the product equal ten of the float64 equations, on the same items in
    the same order."""
    run = RunConfig(
        dataset=DatasetConfig(dt_length=400, t=25),
        model=ModelConfig(hidden=12),
        train=TrainConfig(batch=16, clip_value=clip, epochs=1),
        seed=5,
        artifacts=str(tmp_path),
        backend=backend,
    )
    state = models.build_model(run.model, seed=stream_seed(5, "initialisation")).state_dict()
    weights = reference.weights_of(state)
    adam = reference.Adam(rate=1e-2, clip=clip)
    x, y = sample_batch_numpy(280, 25, seed=5)
    order = schedule.epoch_order(280, 5, epoch=1)
    expected = []
    for step in range(10):
        rows = order[16 * step : 16 * step + 16]
        loss, gradients = reference.gradients(
            weights, x[rows].astype(np.float64), y[rows].astype(np.float64)
        )
        expected.append(loss)
        adam.step(weights, gradients)
    trace = Trace()
    train(run, listener=trace)
    assert trace.losses[:10] == pytest.approx(expected, rel=2e-4)
    assert expected[0] != pytest.approx(expected[-1], rel=0.05)


def test_the_reference_gradient_by_finite_differences() -> None:
    rng = np.random.default_rng(0)
    weights = reference.weights_of(models.build_model(ModelConfig(hidden=3), seed=1).state_dict())
    x, y = rng.random((4, 6, 2)), rng.random((4, 1))
    _, gradients = reference.gradients(weights, x, y)
    for name, gradient in gradients.items():
        index = tuple(rng.integers(0, size) for size in gradient.shape)
        losses = []
        for step in (1e-6, -1e-6):
            moved = {key: value.copy() for key, value in weights.items()}
            moved[name][index] += step
            losses.append(reference.gradients(moved, x, y)[0])
        assert (losses[0] - losses[1]) / 2e-6 == pytest.approx(gradient[index], rel=1e-4, abs=1e-9)


def test_order_is_a_permutation_of_its_own_in_every_epoch() -> None:
    orders = [schedule.epoch_order(1000, 0, epoch) for epoch in (1, 2)] + [
        schedule.epoch_order(1000, 1, 1)
    ]
    for order in orders:
        assert sorted(order) == list(range(1000))
    assert not any(
        np.array_equal(a, b) for a, b in ((orders[0], orders[1]), (orders[0], orders[2]))
    )


@pytest.mark.parametrize(
    ("values", "stops_after", "best_epoch"),
    [
        ([5, 4, 3, 2, 1], None, 5),
        ([5, 4, 4, 4, 4], 5, 2),  # an equal value is no improvement
        ([5, 6, 7, 4, 8, 8, 8], 7, 4),
        ([math.nan, math.nan, math.nan], 3, 0),
        ([1, math.nan, 0.5, 2, 2, 2], 6, 3),
    ],
)
def test_early_stopping_on_hand_made_curves(
    values: list[float], stops_after: int | None, best_epoch: int
) -> None:
    stopping = EarlyStopping(patience=3)
    stopped = None
    for epoch, value in enumerate(values, start=1):
        stopping.update(epoch, value)
        if stopping.exhausted:
            stopped = epoch
            break
    assert (stopped, stopping.best_epoch) == (stops_after, best_epoch)


def test_errors_over_the_same_sequences_alone_are_compared() -> None:
    """Over the first 64 sequences and, from the third epoch on, over all: by hand."""
    stopping = EarlyStopping(patience=None)
    seen = [
        (0.5, None),
        (0.4, None),
        (0.3, 0.6),  # on the same 64 the best, though 0.6 is above 0.4
        (0.2, None),  # better on the 64 again
        (0.1, 0.9),  # and again, however it does on all
        (0.15, 0.8),  # both on all: the lower one
        (0.12, 0.8),
        (0.16, None),
        (math.nan, math.nan),
    ]
    kept = []
    for epoch, (first, complete) in enumerate(seen, start=1):
        stopping.update(epoch, first, complete)
        kept.append(stopping.best_epoch)
    assert kept == [1, 2, 3, 4, 5, 6, 6, 6, 6]
    assert stopping.wait == 3


def test_no_patience_is_that_of_one_epoch() -> None:
    stopping = EarlyStopping(patience=0)
    stopping.update(1, 0.5)
    assert not stopping.exhausted
    stopping.update(2, 0.6)
    assert stopping.exhausted


def test_a_batch_that_is_larger_than_the_data(tmp_path: Path) -> None:
    run = small(tmp_path, dataset__dt_length=20, train__batch=64, train__epochs=3)
    assert train(run).sequences == 3 * 14
    assert validate.validate(run).sequences == 20


def test_same_seed_same_numbers(tmp_path: Path) -> None:
    results = [train(small(tmp_path / name)) for name in "ab"]
    assert numbers(results[0]) == numbers(results[1])
    assert all(
        torch.equal(w, weights(tmp_path / "b")[k]) for k, w in weights(tmp_path / "a").items()
    )
    assert train(small(tmp_path / "c", seed=1)).best_loss != results[0].best_loss


def test_global_random_state_is_neither_read_nor_changed(tmp_path: Path) -> None:
    torch.manual_seed(1)
    np.random.seed(1)
    before = torch.random.get_rng_state()
    first = train(small(tmp_path / "a"))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert np.random.random() == np.random.RandomState(1).random()
    torch.manual_seed(2)
    assert numbers(train(small(tmp_path / "b"))) == numbers(first)


def test_a_resumed_run_equals_one_that_was_never_cut(tmp_path: Path) -> None:
    uncut = train(small(tmp_path / "uncut"))
    for epoch in (1, 3):
        with pytest.raises(KeyboardInterrupt):
            train(small(tmp_path / "cut"), resume=True, listener=Interrupt(epoch))
    assert not RunFolder(tmp_path / "cut").result.exists()
    with pytest.raises(RunFolderError, match="unfinished run"):
        train(small(tmp_path / "cut"))
    resumed = train(small(tmp_path / "cut"), resume=True)
    assert numbers(resumed) == numbers(uncut)
    for name, weight in weights(tmp_path / "uncut").items():
        assert torch.equal(weight, weights(tmp_path / "cut")[name])


def test_the_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    first = train(small(tmp_path))
    assert train(small(tmp_path), listener=Interrupt(1)) == first


def test_the_weights_of_the_best_epoch_are_kept(tmp_path: Path) -> None:
    """At a rate far too high the loss jumps about, so that the best epoch is not the last."""
    changes = {"train__learning_rate": 0.3, "train__es_patience": 8, "seed": 1}
    result = train(small(tmp_path / "long", train__epochs=8, **changes))
    best = result.best_epoch
    rows = RunFolder(tmp_path / "long").read_history()
    assert best < 8
    assert rows[best - 1].loss == min(row.loss for row in rows)
    train(small(tmp_path / "short", train__epochs=best, **changes))
    for name, weight in weights(tmp_path / "short").items():
        assert torch.equal(weight, weights(tmp_path / "long")[name])


def test_another_quantity_can_be_watched(tmp_path: Path) -> None:
    changes = {"train__learning_rate": 3.0, "train__epochs": 8, "train__es_patience": 8}
    result = train(small(tmp_path, train__es_monitor="val_loss", **changes))
    assert result.best_val_loss == min(row.val_loss for row in RunFolder(tmp_path).read_history())


def test_stop_reasons(tmp_path: Path) -> None:
    assert train(small(tmp_path / "a")).stop_reason == "epochs"
    assert train(small(tmp_path / "b", train__stop_val_loss=10.0)).epochs == 1
    stopped = train(
        small(tmp_path / "c", train__learning_rate=3.0, train__epochs=50, train__es_patience=2)
    )
    assert stopped.stop_reason == "early_stopping"
    assert stopped.epochs == stopped.best_epoch + 2


@pytest.mark.usefixtures("pictures")
def test_a_diverged_run_ends_and_says_so(tmp_path: Path) -> None:
    result = train(small(tmp_path, train__learning_rate=1e38, train__clip_value=1e38))
    assert result.stop_reason == "diverged"
    assert RunFolder(tmp_path).loss_plot.stat().st_size > 1000
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        score = validate.validate(small(tmp_path))
    assert math.isnan(score.mse)
    assert RunFolder(tmp_path).prediction_plot.stat().st_size > 1000
    for file, key in (
        (RunFolder(tmp_path).result, "best_val_loss"),
        (RunFolder(tmp_path).validation, "mse"),
    ):
        assert json.loads(file.read_text(), parse_constant=not_json)[key] is None
    assert math.isnan(RunFolder(tmp_path).read_result().best_val_loss)
    assert math.isnan(RunFolder(tmp_path).read_score().mse)
    (group,) = aggregate.collect([tmp_path])
    assert group.values == [math.inf]
    assert group.solved.successes == 0


def not_json(name: str) -> float:
    raise AssertionError(f"{name} is no JSON")


def test_cost_to_the_thresholds() -> None:
    rows = [
        EpochRow(epoch, 0.1, value, 10 * epoch, 100 * epoch, float(epoch), 64)
        for epoch, value in enumerate([0.2, 0.009, 0.02, 0.0009], start=1)
    ]
    found = [first_below(rows, threshold) for threshold in (1e-2, 1e-3, 1e-4)]
    assert [row and row.cost for row in found] == [
        Cost(epoch=2, sequences=20, sequence_steps=200, seconds=2.0, val_sequences=64),
        Cost(epoch=4, sequences=40, sequence_steps=400, seconds=4.0, val_sequences=64),
        None,
    ]


def test_the_task_is_learned(tmp_path: Path) -> None:
    """Marks at T=4 are learned in seconds; a wrong target, mask or gradient would leave the error
    at 1/6."""
    result = train(
        small(
            tmp_path,
            dataset__t=4,
            dataset__dt_length=4000,
            model__hidden=16,
            train__epochs=25,
            train__stop_val_loss=2e-3,
        )
    )
    assert result.stop_reason == "solved"


def test_a_missing_device_is_an_error(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    with pytest.raises(BackendError, match="no 'cuda' device"):
        train(small(tmp_path, device="cuda"))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_memory_of_a_long_data_set_stays_bounded() -> None:
    """Two epochs' worth of drawing at dt_length=100,000 and T=1000, without the model, in a process
    of its own."""
    program = (
        "from pathlib import Path\n"
        "from adding_problem.task.data_sets import AddingDataset, batches\n"
        "data = AddingDataset(70_000, 1000, seed=0)\n"
        "data.batch(range(64))\n"
        "for x, y in batches(3_000, 1000, seed=0, start=70_000, batch=262):\n    pass\n"
        # Not getrusage, which after a fork tells of the parent too.
        "print(Path('/proc/self/status').read_text().partition('VmHWM:')[2].split()[0])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 900 * 1024


def test_every_field_of_the_configuration_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        RunConfig().seed = 1  # type: ignore[misc]


def test_the_longest_trained_length_counts_the_start_and_is_told(
    tmp_path: Path, command: Command
) -> None:
    """Weights from T = 40 are trained on at T = 10: 40; where the start's length is unknown, so is
    theirs."""
    small = {
        "dataset.dt_length": 60,
        "model.hidden": 4,
        "train.epochs": 1,
        "train.batch": 20,
        "threads": 1,
    }
    long = train(config.load(None, small | {"dataset.t": 40, "artifacts": str(tmp_path / "long")}))
    assert long.longest_length == 40
    short = small | {"dataset.t": 10, "seed": 1, "model.start_from": str(tmp_path / "long")}
    known = train(config.load(None, short | {"artifacts": str(tmp_path / "short")}))
    assert known.longest_length == 40
    folder = RunFolder(tmp_path / "long")
    imported = dataclasses.replace(folder.read_result(), imported={"source": "elsewhere"})
    folder.write_result(imported)
    unknown = train(config.load(None, short | {"artifacts": str(tmp_path / "unknown")}))
    assert unknown.longest_length is None
    for name, told in (
        ("short", "longest trained 40, tested T = 10"),
        ("unknown", "longest trained unknown, tested T = 10"),
    ):
        done = command(
            "train",
            "--config",
            tmp_path / name / "config_copy.yaml",
            "--artifacts",
            tmp_path / name,
        )
        assert done.returncode == 0, done.stderr
        assert told in done.stdout
