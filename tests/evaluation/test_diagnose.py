"""Diagnosis: against models whose leaks, drift and decay, and so whose error, are known."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from adding_problem.evaluation.diagnose import Diagnosis, diagnose
from adding_problem.task.variants import Task
from tests.conftest import Command

LIMIT = 20_000


class Integrator(nn.Module):
    """The sum of the marked values, with `leak` times every unmarked value (less its mean) and
    `drift` added at every other step, and `fade` of all lost in every step."""

    def __init__(self, leak: float = 0.0, drift: float = 0.0, fade: float = 0.0) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.ones(1))
        self.leak, self.drift, self.fade = leak, drift, fade

    def forward(self, x: Tensor) -> Tensor:
        value, mark = x[..., 0].double(), x[..., 1].double()
        later = torch.arange(x.shape[1] - 1, -1, -1, dtype=torch.float64)
        written = mark * value + (1 - mark) * (self.leak * (value - 0.5) + self.drift)
        return (written * (1 - self.fade) ** later).sum(1, keepdim=True).float()


def error(model: Integrator, t: int) -> float:
    """The mean squared error in closed form, up to the marks' being at distinct steps."""
    kept = (1 - model.fade) ** np.arange(t)
    marked = 2 * np.mean((1 - kept) ** 2) / 12 + 2 * np.var(1 - kept) / 4 + np.mean(1 - kept) ** 2
    unmarked = model.leak**2 / 12 * np.sum(kept**2) * (1 - 2 / t)
    return float(marked + unmarked + (model.drift * (t - 2)) ** 2)


def crossing(model: Integrator) -> int:
    low, high = 2, 1 << 20
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if error(model, middle) < 1e-3 else (low, middle)
    return high


CASES = {
    "leak-in": Integrator(leak=2e-3),
    "drift": Integrator(drift=2e-5),
    "leak-out": Integrator(fade=1e-4),
}


@pytest.mark.parametrize("cause", CASES)
def test_an_error_that_grows_in_a_known_way(cause: str) -> None:
    """T: 12e-3 / leak^2 = 3,002; sqrt(1e-3) / drift = 1,583; where the decay costs 1e-3."""
    model = CASES[cause]
    told: list[int] = []
    found = diagnose(
        model, Task(), 100, seed=3, limit=LIMIT, on_score=lambda scored: told.append(scored.t)
    )
    expected = crossing(model)
    if cause != "leak-out":
        analytic = {"leak-in": 12e-3 / 4e-6 + 2, "drift": math.sqrt(1e-3) / 2e-5 + 2}[cause]
        assert expected == pytest.approx(analytic, rel=1e-2)
    assert found.predicted == pytest.approx(expected, rel=0.15)
    assert found.measured == pytest.approx(expected, rel=0.15)
    assert found.leak_in == pytest.approx(model.leak, rel=0.1)
    assert found.leak_out == pytest.approx(model.fade, rel=1e-2, abs=1e-9)
    if cause == "leak-out":
        assert found.reach == pytest.approx(math.log(0.5) / math.log1p(-1e-4), rel=1e-2)
        assert found.causes["leak-out"] + found.causes["drift"] > 0.9
    else:
        assert found.reach is None
        assert found.drift == pytest.approx(model.drift, rel=1e-2, abs=1e-9)
        assert found.causes[cause] > 0.95
    assert sorted(told) == [scored.t for scored in found.scores]
    for scored in found.scores:
        assert scored.mse == pytest.approx(error(model, scored.t), rel=0.5)


def test_a_model_that_never_breaks() -> None:
    found = diagnose(Integrator(), Task(target="sum"), 50, seed=3, limit=1_000)
    assert (found.predicted, found.measured) == (None, None)
    assert found.limit == 1_000
    assert found.readout_error < 1e-9


def test_a_model_that_sees_the_last_steps_alone() -> None:
    class Window(Integrator):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x[:, -150:])

    found = diagnose(Window(), Task(), 100, seed=3, limit=1_000)
    assert found.reach == pytest.approx(150, abs=30)  # a class of distances is 25 wide
    assert found.measured is not None
    assert 150 <= found.measured <= 170
    assert found.predicted == pytest.approx(found.measured, rel=0.3)


@pytest.mark.parametrize("task", [Task(target="difference"), Task(mix="swap"), Task("hs1997")])
def test_every_task_has_gains_of_one(task: Task) -> None:
    """Of the answer itself, which has neither leak nor decay."""

    class Answer(Integrator):
        def forward(self, x: Tensor) -> Tensor:
            value, mark = (x[..., 1], x[..., 0]) if task.mix == "swap" else (x[..., 0], x[..., 1])
            found = [row[marks == 1] for row, marks in zip(value, mark, strict=True)]
            first = torch.stack([row[0] if len(row) > 1 else 0 * row[0] for row in found])
            second = torch.stack([row[-1] for row in found])
            both = first - second if task.target == "difference" else first + second
            return (0.5 + both / 4 if task.variant == "hs1997" else both)[:, None]

    found = diagnose(Answer(), task, 30, seed=3, limit=60)
    assert found.mse < 1e-9
    assert found.leak_in == found.leak_out == 0
    assert found.reach is None


def test_the_command(small_config: Path, command: Command) -> None:
    """Its record is what `diagnose` returns; an unsolved model is over the line from the start."""
    assert command("train", "--config", small_config).returncode == 0
    done = command("diagnose", small_config.parent / "run", "--limit", 100, "--out", "found.json")
    assert done.returncode == 0, done.stderr
    record = json.loads((small_config.parent / "found.json").read_text())
    assert record.keys() == Diagnosis.__dataclass_fields__.keys()
    assert record["predicted"] == record["t"] == 12
    assert "predicted T = 12, measured T = " in done.stdout
    for word in ("leak-in", "drift", "leak-out", "readout"):
        assert word in done.stdout
    refused = command("diagnose", small_config.parent / "run", "--limit", 5)
    assert refused.returncode == 2
    assert "--limit: expected at least the trained length, 12, found 5" in refused.stderr
