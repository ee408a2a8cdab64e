"""benchmarks/ablations.py: its loop gives the numbers of `train`, and its ideas are what they are
called."""

from __future__ import annotations

import argparse
import importlib
import itertools
import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from adding_problem import config, models, sample_batch
from adding_problem.config import RunConfig
from adding_problem.experiments.train import train
from adding_problem.models import AddingLSTM
from adding_problem.runs.folder import RunFolder
from adding_problem.runs.records import EpochRow
from adding_problem.training.schedule import Schedule
from tests.conftest import REPOSITORY


@pytest.fixture(scope="module")
def ablations() -> Iterator[ModuleType]:
    sys.path.insert(0, str(REPOSITORY / "benchmarks"))
    yield importlib.import_module("ablations")
    sys.path.pop(0)


def tiny(folder: Path, **changes: Any) -> RunConfig:
    """A run of 20 steps an epoch, which begins its ending after the first."""
    values = {
        "recipe": "fast",
        "dataset.t": 30,
        "dataset.target": "difference",
        "dataset.noise_columns": 1,
        "dataset.held_out": 40,
        "model.hidden": 8,
        "train.val_subset": 10,
        "train.warmup_steps": 5,
        "train.ending_below": 1.0,
        "train.ending_steps": 30,
        "train.budget_steps": 40_000,
        "curriculum.threshold": 0.1,
        "threads": 1,
        "artifacts": str(folder),
    }
    return config.load(
        None, values | {key.replace("__", "."): value for key, value in changes.items()}
    )


@pytest.mark.parametrize(
    ("reason", "changes"),
    [
        ("solved", {"train__stop_val_loss": 0.5}),
        ("budget", {"dataset__mix": "swap"}),
        ("epochs", {"train__epochs": 3}),
        (
            "budget",
            {"train__ending_below": 1e-4, "train__decay_below": 0.5, "train__decay_steps": 25},
        ),
    ],
)
def test_without_a_change_the_loop_gives_the_numbers_of_train_run(
    reason: str, changes: dict[str, Any], ablations: ModuleType, tmp_path: Path
) -> None:
    expected = train(tiny(tmp_path / "run", **changes))
    found = ablations.learn(tiny(tmp_path / "learn", **changes), ablations.VARIATIONS["base"])
    assert found.stop_reason == expected.stop_reason == reason
    theirs, ours = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "learn")
    history, wanted = ours.read_history(), theirs.read_history()
    assert [cost(row) for row in history] == [cost(row) for row in wanted]
    assert len({row.loss for row in history}) == len(history) > 2
    kept = found.best_epoch - 1  # whose weights train validates in full afterwards
    assert [row.val_loss for row in history if row is not history[kept]] == [
        row.val_loss for row in wanted if row is not wanted[kept]
    ]
    weights, _ = theirs.read_model()
    assert all(torch.equal(ours.read_model()[0][name], tensor) for name, tensor in weights.items())


def cost(row: EpochRow) -> tuple[float, int, int]:
    return row.loss, row.sequence_steps, row.longest_length


def test_every_change_trains_and_has_an_effect(ablations: ModuleType, tmp_path: Path) -> None:
    wanted = tiny(tmp_path, train__budget_steps=20_000)
    own_loop = [
        v for v in ablations.VARIATIONS.values() if v.start or v.learner is not ablations.Recipe
    ]
    assert len(own_loop) == 13
    histories = {}
    for variation in [ablations.VARIATIONS["base"], *own_loop]:
        result = ablations.learn(wanted, variation)
        assert result.stop_reason == "budget"
        rows = RunFolder(tmp_path).read_history()
        histories[variation.name] = tuple((row.loss, row.val_loss) for row in rows)
    assert all(
        math.isfinite(number) for rows in histories.values() for row in rows for number in row
    )
    same = [(a, b) for a, b in itertools.combinations(histories, 2) if histories[a] == histories[b]]
    assert not same


def test_every_other_change_is_one_of_keys(ablations: ModuleType, tmp_path: Path) -> None:
    arguments = argparse.Namespace(budget=1000, runs=tmp_path)
    changed: dict[str, set[str]] = {}
    base = ablations.configuration({"variation": "base", "seed": 2}, arguments).flat()
    for name, variation in ablations.VARIATIONS.items():
        values = ablations.configuration({"variation": name, "seed": 2}, arguments).flat()
        changed[name] = {key for key in base if values[key] != base[key]} - {"artifacts"}
        assert changed[name] == set(variation.values)
    assert len([name for name, keys in changed.items() if keys]) == 8


def lstm(wanted: RunConfig) -> AddingLSTM:
    model = models.build_model(wanted.model, seed=1, input_size=wanted.task.width)
    assert isinstance(model, AddingLSTM)
    return model


@torch.no_grad()
def test_cells_shrink_by_so_much_and_vanish(ablations: ModuleType, tmp_path: Path) -> None:
    model = lstm(tiny(tmp_path))
    recurrent = ablations.layer_of(model).weight_hh_l0
    model.readout.weight[0, 3] = recurrent[:, 3].zero_()[0] + 0.01
    before = torch.cat([recurrent, model.readout.weight]).double()
    ablations.shrink_cells(model, 0.02)
    after = torch.cat([recurrent, model.readout.weight]).double()
    assert not after[:, 3].any()
    others = [0, 1, 2, 4, 5, 6, 7]
    shrunk = before - 0.02 * before / before.norm(dim=0)
    torch.testing.assert_close(after[:, others], shrunk[:, others], rtol=1e-5, atol=1e-7)


@torch.no_grad()
def test_input_gates_are_those_of_the_equations(ablations: ModuleType, tmp_path: Path) -> None:
    model, x = lstm(tiny(tmp_path)), torch.rand(3, 20, 3)
    layer = ablations.layer_of(model)
    layer.weight_hh_l0.mul_(5)
    found = ablations.input_gates(model, x, layer(x)[0])
    kernel, recurrent, bias, _ = (weights.double() for weights in layer.parameters())
    h = c = torch.zeros(3, 8, dtype=torch.float64)
    for t in range(20):
        i, f, g, o = (x[:, t].double() @ kernel.T + h @ recurrent.T + bias).chunk(4, dim=1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        torch.testing.assert_close(found[:, t].double(), i.sigmoid(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("mix", ["none", "swap"])
@torch.no_grad()
def test_states_are_left_by_steps_without_marks(
    mix: str, ablations: ModuleType, tmp_path: Path
) -> None:
    wanted = tiny(tmp_path, dataset__mix=mix)
    model = lstm(wanted)
    x, y = sample_batch(16, 30, seed=0, task=wanted.task)
    (marks,) = (column for column in range(3) if set(x[..., column].flatten().tolist()) == {0, 1})
    layer = ablations.layer_of(model)
    kernel = layer.weight_ih_l0
    kernel[:, [column for column in range(3) if column != marks]] = 0
    learner = ablations.StatePassing(wanted, model)
    found = learner.state_after_stretch(5, 50)
    for part, same in zip(found, model.advance(torch.zeros(5, 50, 3)), strict=True):
        assert torch.equal(part, same)
    # Half of a batch begins there: not all predictions are those from the beginning.
    layer.bias_ih_l0[:8] = 0  # gates that the inputs open
    kernel[:] = torch.randn(kernel.shape, generator=torch.Generator().manual_seed(0))
    mse, _ = learner.losses(x, y)
    learner.seen = 5
    state = learner.state_after_stretch(8, 120)
    passed = model.answer(model.advance(x[8:], state))
    expected = nn.functional.mse_loss(torch.cat([model(x[:8]), passed]), y)
    torch.testing.assert_close(mse, expected, rtol=1e-5, atol=1e-7)
    assert abs(nn.functional.mse_loss(model(x), y) - mse) > 1e-5


def test_the_average_is_that_of_the_endings_weights(ablations: ModuleType, tmp_path: Path) -> None:
    wanted = tiny(tmp_path)
    model = lstm(wanted)
    learner = ablations.Average(wanted, model)
    x, y = sample_batch(16, 30, seed=0, task=wanted.task)
    before = Schedule.first(wanted)
    ending = replace(before, decay_steps=30, ending_from=20)
    learner.step(before, x, y)
    readout = model.readout.weight
    seen = [readout.detach().clone()]
    assert torch.equal(evaluated(learner, readout), readout)
    for _ in range(5):
        learner.step(ending, x, y)
        seen.append(readout.detach().clone())
    assert not torch.equal(seen[-1], seen[0])
    torch.testing.assert_close(evaluated(learner, readout), torch.stack(seen).mean(dim=0))
    assert torch.equal(readout, seen[-1])


def evaluated(learner: Any, weights: torch.Tensor) -> torch.Tensor:
    with learner.evaluation_weights():
        return weights.detach().clone()


def test_schedule_free_evaluates_the_mean_of_its_fast_weights(
    ablations: ModuleType, tmp_path: Path
) -> None:
    wanted = tiny(tmp_path)
    model = lstm(wanted)
    learner = ablations.ScheduleFree(wanted, model)
    readout = model.readout.weight
    before, rates, fast, total = readout.detach().double(), (0.01, 0.02, 0.03), [], 0.0
    for rate in rates:
        for weights in learner.weights:
            weights.grad = torch.full_like(weights, -3.0)  # Adam's step is then the rate itself
        learner.descend(rate)
        total += rate
        fast.append(before + total)
    shares = torch.tensor(rates, dtype=torch.float64) ** 2
    mean = sum(share * z for share, z in zip(shares / shares.sum(), fast, strict=True))
    torch.testing.assert_close(evaluated(learner, readout).double(), mean, rtol=1e-5, atol=1e-6)
    expected = 0.1 * fast[-1] + 0.9 * mean
    torch.testing.assert_close(readout.detach().double(), expected, rtol=1e-5, atol=1e-6)


def test_muons_steps_are_nearly_orthogonal(ablations: ModuleType) -> None:
    matrix = torch.randn(60, 12, generator=torch.Generator().manual_seed(0))
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    turned = u.T @ ablations.orthogonal(matrix) @ v.T
    assert (turned - torch.diag(turned.diag())).abs().max() < 1e-3
    assert 0.6 < turned.diag().min() <= turned.diag().max() < 1.3
