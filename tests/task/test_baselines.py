"""The mean baseline against its closed form and against drawn targets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from adding_problem.task.baselines import (
    constant_predictor_mse,
    constant_predictor_standard_error,
    target_moments,
)
from adding_problem.task.sampling import sample_batch_numpy
from adding_problem.task.variants import Task
from tests.helpers.tasks import TARGETS, VARIANTS


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("length", [22, 200])
def test_the_constant_predictors_error(variant: Any, target: Any, length: int) -> None:
    n, task = 50_000, Task(variant=variant, target=target)
    _, y = sample_batch_numpy(n, length, seed=10, task=task)
    moments = target_moments(task, length)
    squared = (y.astype(np.float64) - moments.mean) ** 2
    standard_error = constant_predictor_standard_error(n, task, length)
    assert abs(y.mean(dtype=np.float64) - moments.mean) < 4 * np.sqrt(moments.second / n)
    assert abs(squared.mean() - constant_predictor_mse(task, length)) < 4 * standard_error
    assert standard_error == pytest.approx(squared.std() / np.sqrt(n), rel=0.05)


def test_the_constant_predictors_error_is_one_sixth() -> None:
    assert constant_predictor_mse() == 1 / 6
    assert constant_predictor_standard_error(1000) == pytest.approx(0.0062, abs=5e-5)
    assert constant_predictor_standard_error(10_000) == pytest.approx(0.0020, abs=5e-5)
