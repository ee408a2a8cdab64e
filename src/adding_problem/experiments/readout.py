"""Readouts of an untrained model, fitted by ridge regression on its features.

The features are the input of the model's readout: the final `nn.Linear` of one output. Of a model
without one they are its output.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from adding_problem import models
from adding_problem.errors import AddingProblemError, BackendError, ModelError
from adding_problem.runs.records import Count, Finite
from adding_problem.system.memory import enough_memory, require_memory
from adding_problem.task.data_sets import affordable, evaluation_batch
from adding_problem.task.sampling import sample_batch, sequence_width
from adding_problem.task.variants import Task, Variant

__all__ = ["SHORT", "Measured", "Readout", "Ridge", "fit_readouts", "order_effect", "tested_at"]

SHORT = 30
"""The short length at which a readout is fitted."""

Float64 = NDArray[np.float64]

# Sequences, sequence-steps and the fewest sequences of a fit and of a test: assumed ample.
_FIT, _FIT_STEPS, _FEWEST_FIT = 3_000, 3_000_000, 500
_TEST, _TEST_STEPS, _FEWEST_TESTED = 1_000, 2_000_000, 100
# Times the largest eigenvalue of the features' scatter matrix.
_PENALTIES = tuple(10.0**k for k in range(-16, 1))
_ORDER_SEQUENCES = 64


@dataclass(frozen=True)
class Measured:
    """A mean squared error on test sequences; None where it is not finite."""

    t: Count
    sequences: Count
    mse: Finite | None

    @classmethod
    def of(cls, t: int, sequences: int, mse: float) -> Measured:
        """From an error that need not be finite."""
        return cls(t, sequences, float(mse) if math.isfinite(mse) else None)


@dataclass(frozen=True)
class Readout:
    """A readout fitted on the features of the untrained model.

    Attributes:
        t, sequences: what it was fitted on.
        penalty: the best of several on a selection set, times the largest eigenvalue of the
            features' scatter matrix.
        errors: on test sets.
    """

    t: Count
    sequences: Count
    penalty: Finite
    errors: tuple[Measured, ...]

    def at(self, t: int) -> Measured | None:
        """The error at a length; None where model or memory did not allow it."""
        return next((error for error in self.errors if error.t == t), None)


def _fitted_at(t: int) -> int:
    return affordable(_FIT, t, steps=_FIT_STEPS, fewest=_FEWEST_FIT)


def tested_at(t: int) -> int:
    """The number of sequences of a test at a length."""
    return affordable(_TEST, t, steps=_TEST_STEPS, fewest=_FEWEST_TESTED)


def fit_readouts(
    model: nn.Module,
    tasks: Sequence[Task],
    t: int,
    *,
    seed: int,
    on_progress: Callable[[int, int], None],
    on_refusal: Callable[[int, AddingProblemError], None],
) -> list[tuple[Readout | None, Readout | None]]:
    """For each task the readouts fitted at `SHORT`, tested at that, T and ten times T, and at T.

    Args:
        model: the untrained model, in evaluation mode.
        tasks: of the same inputs: they share the features.
        t: T.
        seed: of the sequences.
        on_progress: is told the number of sequences so far, and of all.
        on_refusal: is told of a length that the model does not accept or memory does not hold. A
            readout fitted there is None.
    """
    total = sum(map(_fitted_at, (SHORT, t))) + sum(map(tested_at, (SHORT, t, SHORT, t, 10 * t)))
    done = 0

    def draw(length: int, start: int, n: int) -> _Samples:
        nonlocal done
        size, found = evaluation_batch(length), []
        for first in range(start, start + n, size):
            count = min(size, start + n - first)
            found.append(_sample(model, tasks, length, seed, first, count))
            done += count
            on_progress(done, total)
        return _Samples(*map(np.concatenate, zip(*found, strict=True)))

    fits: dict[int, tuple[_Samples, _Samples]] = {}
    tests: dict[int, _Samples] = {}
    for length in (SHORT, t, 10 * t):
        fit, test = _fitted_at(length), tested_at(length)
        try:
            with enough_memory():
                _require_memory(tasks[0], length)
                if length in (SHORT, t):
                    fits[length] = draw(length, 0, fit), draw(length, fit, test)
                tests[length] = draw(length, fit + test, test)
        except (ModelError, BackendError) as error:
            on_refusal(length, error)
    return [
        (
            _fit_and_test(SHORT, index, fits, tests),
            _fit_and_test(t, index, fits, {k: v for k, v in tests.items() if k == t}),
        )
        for index in range(len(tasks))
    ]


@torch.no_grad()
def order_effect(model: nn.Module, variant: Variant, seed: int) -> float | None:
    """How much permuting the steps changes the features, as a share of their spread.

    Both are root mean squares over sequences. None where the features have no spread, or where the
    model does not accept the length `SHORT`.
    """
    try:
        x, _ = sample_batch(_ORDER_SEQUENCES, SHORT, seed=seed, task=Task(variant))
        permuted = x[:, np.random.Generator(np.random.Philox(0)).permutation(x.shape[1])]
        before, after = _features(model, x), _features(model, permuted)
    except ModelError:
        return None
    spread = float(np.linalg.norm(before - before.mean(axis=0)))
    change = float(np.linalg.norm(after - before))
    return change / spread if spread > 0 and math.isfinite(change / spread) else None


# --- features -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Samples:
    """Features (n, F) and targets (n, K) of the same sequences, float64."""

    features: Float64
    targets: Float64


def _require_memory(task: Task, t: int) -> None:
    size, width = evaluation_batch(t), sequence_width(t, task.variant)
    require_memory(4 * task.width * size * width, "a batch of these sequences takes")


@torch.no_grad()
def _sample(
    model: nn.Module, tasks: Sequence[Task], t: int, seed: int, start: int, n: int
) -> tuple[Float64, Float64]:
    """Features (n, F), and the targets (n, K) of each task."""
    drawn = [sample_batch(n, t, seed=seed, start=start, task=task) for task in tasks]
    targets = np.concatenate([y.numpy() for _, y in drawn], axis=1).astype(np.float64)
    return _features(model, drawn[0][0]), targets


def _features(model: nn.Module, x: Tensor) -> Float64:
    """The input of the readout for sequences (B, T, C), (B, F); without a readout (B, 1)."""
    x = x.to(next(model.parameters()).device)
    readout = models.readout_of(model)
    seen: list[Tensor] = []
    if readout is None:
        seen.append(model(x))
    else:
        hook = readout.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        try:
            model(x)
        finally:
            hook.remove()
    return seen[-1].detach().double().cpu().numpy()


# --- ridge regression -----------------------------------------------------------------------------


class Ridge:
    """Ridge regression on features (n, F), for any number of targets and penalties.

    The intercept is not penalised.

    Examples:
        >>> x = np.arange(6.0)[:, None]
        >>> weights, intercept = Ridge(x).solve(2 * x[:, 0] + 1, 1e-12)
        >>> round(float(weights[0]), 6), round(intercept, 6)
        (2.0, 1.0)
    """

    def __init__(self, features: Float64) -> None:
        self._mean = features.mean(axis=0)
        self._left, self._values, self._right = np.linalg.svd(
            features - self._mean, full_matrices=False
        )

    def solve(self, targets: Float64, penalty: float) -> tuple[Float64, float]:
        """Weights (F,) and the intercept for targets (n,).

        They minimise |y - X w - b|^2 + penalty s^2 |w|^2, where s is the largest singular value of
        the centred features.
        """
        mean, scale = float(targets.mean()), self._values[0] ** 2
        if not scale > 0:  # features that are the same for every sequence
            return np.zeros(len(self._mean)), mean
        shrunk = self._values / (self._values**2 + penalty * scale)
        weights: Float64 = (shrunk * (self._left.T @ (targets - mean))) @ self._right
        return weights, mean - float(self._mean @ weights)


def _fit_and_test(
    t: int,
    index: int,
    fits: dict[int, tuple[_Samples, _Samples]],
    tests: dict[int, _Samples],
) -> Readout | None:
    """The readout of one target fitted at a length, with its errors on the test sets.

    Its penalty is the best on the selection set.
    """
    if t not in fits:
        return None
    fit, selection = fits[t]
    penalty = _PENALTIES[-1]
    mse = dict.fromkeys(tests, math.nan)
    if np.isfinite(fit.features).all():
        ridge = Ridge(fit.features)
        solved = {each: ridge.solve(fit.targets[:, index], each) for each in _PENALTIES}
        errors = {each: _mse(found, selection, index) for each, found in solved.items()}
        penalty = min(_PENALTIES, key=lambda each: (not math.isfinite(errors[each]), errors[each]))
        mse = {length: _mse(solved[penalty], test, index) for length, test in tests.items()}
    measured = (Measured.of(length, len(tests[length].targets), mse[length]) for length in tests)
    return Readout(t, len(fit.targets), penalty, tuple(measured))


def _mse(found: tuple[Float64, float], samples: _Samples, index: int) -> float:
    weights, intercept = found
    with np.errstate(over="ignore", invalid="ignore"):
        error = samples.features @ weights + intercept - samples.targets[:, index]
        return float(np.mean(error**2))
