"""Why a model breaks beyond the length that it was trained at, and at which length it will.

Everything is measured on the predictions of any model f, by finite differences, at the trained
length L, at 2L and at 4L. Three errors grow with T:

    leak-in   unmarked values move the prediction. Its variance V is half the mean square of the
              change when all of them are drawn again. V goes on as the power of T that leads from
              V(2L) to V(4L), at most the second: the first where every step adds as much.
    drift     the mean of f - y moves by m ((T / L)^p - 1) / p, with m and p from the three lengths:
              p is 1 where every step adds as much, and negative where the mean settles.
    leak-out  a marked value d steps before the end counts g(d) times: the change of f with it, over
              the change of y. Up to 4L the means of classes of d are taken. Beyond, g decays as it
              does when L more unmarked steps follow.

The error at T is predicted as

    MSE(T) = R + V(T) + (mean of f - y at T)^2 + S(T),

where S is the mean square of what marked values lack or have too much, (g(d) - 1) (v - mean of v)
for each of both, and R what is left of the error at L: that of the readout.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from adding_problem.config import RunConfig
from adding_problem.errors import AddingProblemError
from adding_problem.evaluation.consistency import check_custom
from adding_problem.evaluation.evaluate import Given, evaluate, predict, score_of
from adding_problem.evaluation.evaluate import Sequences as Asked
from adding_problem.evaluation.load_model import loaded
from adding_problem.system.memory import enough_memory
from adding_problem.task.data_sets import affordable
from adding_problem.task.sampling import Sequences, draw, targets_of
from adding_problem.task.thresholds import SOLVED
from adding_problem.task.variants import MIN_LENGTH, Task

__all__ = ["Diagnosis", "Scored", "diagnose", "diagnose_run"]

Float64 = NDArray[np.float64]

_SEQUENCES, _STEPS, _FEWEST = 3_000, 2_000_000, 100  # of a measurement
_SCORED, _SCORED_STEPS = 1_000, 1_000_000  # of a score
_CLASSES = 16  # of the distances of a mark from the end, equally many marks in each
_SURE = 2.0  # standard errors from none that make a drift or a decay, and from 1 a power of T
_SETTLED = -4.0  # the lowest power of T by which a mean settles
_STEP = 0.1  # of a finite difference, in units of the values
_LEAST_LOSS = 1e-4  # of a marked value over L steps: less may be rounding
_LEAST_GAIN = 1e-6  # of a marked value, over that before: less is taken for this
_CLOSE = 1.1  # the bisection ends where two lengths differ by less than this factor


@dataclass(frozen=True)
class Scored:
    """The mean squared error at a length."""

    t: int
    sequences: int
    mse: float


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What grows with T, and the lengths at which the error passes 1e-3.

    Attributes:
        t: L, the length that it was measured at, and at two and four times it.
        mse: at L.
        readout_error: what of it no other part explains; below 0 where the parts cancel.
        leak_in: change of the prediction by one unit of an unmarked value at one step, root mean
            square.
        leak_in_growth: power of T with which the variance by unmarked values grows.
        drift: change of the mean error by one step, between L and 4L; 0 where it may be chance.
        drift_growth: power of T with which the mean moves on; below 0 where it settles.
        leak_out: share of a marked value that is lost in a step.
        reach: distance in steps at which a marked value counts half; None where it never does.
        causes: part of the error -> its share of the predicted error at `predicted`, or at the
            limit where that is None.
        predicted, measured: shortest T with an error above 1e-3; None beyond `limit`.
        scores: on which `measured` rests, in the order of T.
        limit: longest T that was asked for or that the model takes.
    """

    t: int
    mse: float
    readout_error: float
    leak_in: float
    leak_in_growth: float
    drift: float
    drift_growth: float
    leak_out: float
    reach: int | None
    causes: dict[str, float]
    predicted: int | None
    measured: int | None
    scores: tuple[Scored, ...]
    limit: int


def diagnose_run(
    config: RunConfig,
    t: int,
    *,
    limit: int,
    trust: bool = False,
    on_score: Callable[[Scored], None] = lambda scored: None,
) -> Diagnosis:
    """The diagnosis of the model in `config.artifacts`, on sequences of `validate.seed`.

    Args:
        config: of the run.
        t, limit, on_score: those of `diagnose`.
        trust: import whatever model the run folder names.

    Raises:
        RunFolderError, ConfigError, ModelError, BackendError: see `load_model` and `diagnose`.
    """
    with loaded(config, trust=trust) as model:
        check_custom(model, config)
        seed = config.validate.seed
        return diagnose(model, config.task, t, seed=seed, limit=limit, on_score=on_score)


def diagnose(
    model: nn.Module,
    task: Task,
    t: int,
    *,
    seed: int,
    limit: int,
    on_score: Callable[[Scored], None] = lambda scored: None,
) -> Diagnosis:
    """Measure a model, predict where it breaks, and score it up to there.

    Args:
        model: float32 (B, T, C) -> (B, 1); it is left in evaluation mode.
        task: of the sequences.
        t: L, the longest length of its training.
        seed: of the sequences, another than that of its training.
        limit: the longest T to score at.
        on_score: is told of every score.

    Raises:
        ModelError, BackendError: when the model does not take 4L, or memory does not hold it.
    """
    measured = [_measure(model, task, times * t, seed) for times in (1, 2, 4)]
    growth = _Growth.of(*measured, decay=_measure_decay(model, task, t, seed))
    short = measured[0]
    predicted = _first_above(growth.mse, t, limit)
    scores = _scores_to_crossing(model, task, t, seed, limit, on_score)
    last = max(scored.t for scored in scores.values())
    above = [scored.t for scored in scores.values() if not scored.mse < SOLVED]
    if not above:
        limit = last
        predicted = None if predicted is None or predicted > limit else predicted
    parts = growth.parts(predicted or limit)
    total = sum(parts.values()) or math.nan
    return Diagnosis(
        t=t,
        mse=short.mse,
        readout_error=growth.readout_error,
        leak_in=short.leak_in,
        leak_in_growth=growth.power,
        drift=growth.drift,
        drift_growth=growth.settles,
        leak_out=growth.decay,
        reach=growth.reach(),
        causes={name: float(part / total) for name, part in parts.items()},
        predicted=predicted,
        measured=min(above) if above else None,
        scores=tuple(scores[length] for length in sorted(scores)),
        limit=limit,
    )


# --- what is measured -----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Measured:
    """A model's predictions at one length, taken apart.

    Attributes:
        t, sequences: the length, and how many.
        mse, bias, bias_error: mean square and mean of f - y, and the standard error of the mean.
        noise: variance of f by the unmarked values.
        leak_in: see `Diagnosis`.
        distances: of marked values from the end, in steps, (2n,).
        gains: changes of f over changes of y, (2n,), where y changes.
        weights: of each in the error: what a marked value of gain 0 would cost.
    """

    t: int
    sequences: int
    mse: float
    bias: float
    bias_error: float
    noise: float
    leak_in: float
    distances: Float64
    gains: Float64
    weights: Float64

    def classes(self) -> tuple[Float64, Float64]:
        """The distance at which each class of marks ends, and its mean gain."""
        rows = np.array_split(np.argsort(self.distances), _CLASSES)
        means = [np.average(self.gains[each], weights=self.weights[each]) for each in rows]
        return np.array([self.distances[each].max() for each in rows]), np.array(means)

    @property
    def lost(self) -> float:
        """Mean square of what marked values lack or have too much."""
        return float(self.weights.sum() * np.mean((self.classes()[1] - 1) ** 2))


def _measure(model: nn.Module, task: Task, t: int, seed: int) -> _Measured:
    n = affordable(_SEQUENCES, t, steps=_STEPS, fewest=_FEWEST)
    drawn, other = draw(n, t, seed, 0, task), draw(n, t, seed, n, task)
    y = _answers(model, drawn, task)
    unmarked = drawn._replace(values=_exchange(drawn.values, other.values, drawn.positions))
    noise = float(np.mean((_answers(model, unmarked, task) - y) ** 2)) / 2
    spread = float(np.var(drawn.values))
    width = drawn.values.shape[1]
    gains, weights = _gains(model, drawn, y, task)
    error = y - drawn.targets[:, 0]
    return _Measured(
        t,
        n,
        float(np.mean(error**2)),
        float(np.mean(error)),
        float(np.std(error)) / math.sqrt(n),
        noise,
        math.sqrt(noise / (spread * (width - 2))) if width > 2 else 0.0,
        (width - 1 - drawn.positions[:, :2]).astype(np.float64).ravel(),
        gains.ravel(),
        weights.ravel() * spread / n,
    )


def _gains(model: nn.Module, drawn: Sequences, y: Float64, task: Task) -> tuple[Float64, Float64]:
    """Changes of the predictions y (n,) over those of the targets, with both marked values, and
    weights: (n, 2) each. A weight is the squared change of the target by a unit of the value."""
    gains, weights = np.zeros((2, len(y), 2))
    for mark in (0, 1):
        moved = _move(drawn, drawn.positions[:, mark], task)
        change = (moved.targets - drawn.targets)[:, 0].astype(np.float64)
        felt = np.abs(change) > _STEP / 100
        gains[felt, mark] = (_answers(model, moved, task) - y)[felt] / change[felt]
        weights[felt, mark] = (change[felt] / _STEP) ** 2
    return gains, weights


def _measure_decay(model: nn.Module, task: Task, t: int, seed: int) -> float:
    """The share of a marked value that is lost in a step: from T more unmarked steps after it.

    These stand before the last step, which hs1997 marks. The order of the marks and what is between
    them stay the same, on which a gain may depend too.
    """
    n = affordable(_SEQUENCES, t, steps=_STEPS, fewest=_FEWEST)
    drawn, other = draw(n, t, seed, 0, task), draw(n, t, seed, n, task)
    last = drawn.values.shape[1] - 1

    def with_more(own: NDArray[Any], more: NDArray[Any]) -> NDArray[Any]:
        return np.concatenate([own[:, :last], more[:, -t:], own[:, last:]], axis=1)

    longer = Sequences(
        with_more(drawn.values, other.values),
        with_more(drawn.noise, other.noise),
        np.where(drawn.positions == last, last + t, drawn.positions),
        drawn.targets,
    )
    before, weights = _gains(model, drawn, _answers(model, drawn, task), task)
    after, _ = _gains(model, longer, _answers(model, longer, task), task)
    weights = weights * (drawn.positions[:, :2] < last)
    total, kept = float((weights * before).sum()), float((weights * after).sum())
    if not total > 0:
        return 0.0
    ratio = kept / total
    error = math.sqrt(float(((weights * (after - ratio * before)) ** 2).sum())) / total
    if not 1 - ratio > max(_SURE * error, _LEAST_LOSS):
        return 0.0
    return 1 - math.pow(max(ratio, _LEAST_GAIN), 1 / t)


def _exchange(
    values: NDArray[np.float32], other: NDArray[np.float32], kept: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Other values (n, W), but for those at the kept steps (n, K)."""
    # Sequences of hs1997 begin with zeros, as many as before.
    exchanged = np.where((values != 0) & (other != 0), other, values)
    np.put_along_axis(exchanged, kept, np.take_along_axis(values, kept, axis=1), axis=1)
    return exchanged


def _move(drawn: Sequences, steps: NDArray[np.int64], task: Task) -> Sequences:
    """The same sequences with another value at one step (n,) of each, and their targets."""
    values, rows = drawn.values.copy(), np.arange(len(steps))
    middle = float(np.mean(drawn.values))
    values[rows, steps] += np.where(values[rows, steps] < middle, _STEP, -_STEP).astype(np.float32)
    in_order = np.sort(drawn.positions[:, :2], axis=1)
    marked = np.take_along_axis(values, in_order, axis=1)
    begin = (drawn.values != 0).argmax(axis=1)  # of hs1997, whose sequences begin with zeros
    return drawn._replace(values=values, targets=targets_of(marked, in_order, begin, task))


def _answers(model: nn.Module, drawn: Sequences, task: Task) -> Float64:
    """Predictions (n,)."""
    found = [batch.y_hat[:, 0] for batch in predict(model, Given(task, drawn))]
    return np.concatenate(found).astype(np.float64)


# --- what follows at other lengths ----------------------------------------------------------------


@dataclass(frozen=True)
class _Growth:
    """How the parts of the error go on beyond L.

    Attributes:
        short, middle, long: measured at L, 2L and 4L.
        power: of T, by which the variance by unmarked values grows beyond 4L.
        moved, settles: m and p of the drift.
        edges, gains: distance at which each class of them ends, and its mean gain.
        decay: share of a gain that is lost in a step, beyond the last class.
    """

    short: _Measured
    middle: _Measured
    long: _Measured
    power: float
    moved: float
    settles: float
    edges: Float64
    gains: Float64
    decay: float

    @classmethod
    def of(cls, short: _Measured, middle: _Measured, long: _Measured, *, decay: float) -> _Growth:
        """From the measurements at L, 2L and 4L."""
        power = _power(middle.noise, long.noise)
        # A variance of n normal numbers has a relative standard error of sqrt(2 / n).
        error = math.sqrt(2 / middle.sequences + 2 / long.sequences) / math.log(2)
        first, second = middle.bias - short.bias, long.bias - middle.bias
        sure = abs(first + second) > _SURE * math.hypot(long.bias_error, short.bias_error)
        settles = min(max(_power(first, second), _SETTLED), 2.0)
        return cls(
            short,
            middle,
            long,
            1.0 if abs(power - 1) < _SURE * error else min(max(power, 0.0), 2.0),
            (first + second) / _times(4, settles) if sure else 0.0,
            settles,
            *long.classes(),
            decay,
        )

    @property
    def drift(self) -> float:
        """Change of the mean error by one step, between L and 4L; 0 where it may be chance."""
        return self.moved and (self.long.bias - self.short.bias) / (self.long.t - self.short.t)

    @property
    def readout_error(self) -> float:
        """What of the error at L no other part explains; below 0 where the parts cancel."""
        return self.short.mse - sum(self._growing(self.short.t).values())

    def mse(self, t: int) -> float:
        """The predicted error at T."""
        return self.readout_error + sum(self._growing(t).values())

    def parts(self, t: int) -> dict[str, float]:
        """The predicted error at T by its causes."""
        return {"readout": self.readout_error, **self._growing(t)}

    def reach(self) -> int | None:
        """Distance at which the gain falls below half; None where it never does."""
        below = np.flatnonzero(self.gains < 0.5)
        if len(below):
            return int(self.edges[below[0]])
        if self.decay <= 0:
            return None
        more = math.log(0.5 / self.gains[-1]) / math.log1p(-self.decay)
        return int(self.edges[-1] + more)

    def _growing(self, t: int) -> dict[str, float]:
        mean = self.short.bias + self.moved * _times(t / self.short.t, self.settles)
        if t <= self.long.t:
            noise, lost = self._between("noise", t), self._between("lost", t)
        else:
            noise = self.long.noise * (t / self.long.t) ** self.power
            lost = float(self.short.weights.sum()) * self._lost_beyond(t)
        return {"leak-in": noise, "drift": mean**2, "leak-out": lost}

    def _between(self, name: str, t: int) -> float:
        """A measured variance at T up to 4L: a power of T from one measurement to the next."""
        below, above = (self.short, self.middle) if t <= self.middle.t else (self.middle, self.long)
        before, after = getattr(below, name), getattr(above, name)
        if not (before > 0 and after > 0):
            return float(after)
        return float(before * (t / below.t) ** _power(before, after))

    def _lost_beyond(self, t: int) -> float:
        """Mean square of g - 1 over the distances from 0 to T > 4L, all equally likely."""
        shares = np.diff(np.concatenate([[0.0], self.edges])) / t
        lost = float(np.sum(shares * (self.gains - 1) ** 2))
        beyond = t - float(self.edges[-1])
        # Mean of (a r^k - 1)^2 over k from 0 to `beyond`.
        a, rate = float(self.gains[-1]), -math.log1p(-min(self.decay, 1 - 1e-9))
        first, second = (_mean_decay(power * rate * beyond) for power in (1, 2))
        return lost + beyond / t * (a * a * second - 2 * a * first + 1)


def _power(before: float, after: float) -> float:
    """The power of T that leads from one to the other when T doubles."""
    ratio = after / before if before else 0.0
    return math.log2(ratio) if ratio > 0 else _SETTLED


def _times(ratio: float, power: float) -> float:
    """(ratio^p - 1) / p, the logarithm at p = 0."""
    return (math.pow(ratio, power) - 1) / power if abs(power) > 1e-9 else math.log(ratio)


def _mean_decay(z: float) -> float:
    """The mean of exp(-z u) over u from 0 to 1."""
    return -math.expm1(-z) / z if z > 1e-12 else 1.0


def _first_above(mse: Callable[[int], float], t: int, limit: int) -> int | None:
    """The shortest T from L to the limit whose error is above 1e-3, by bisection; None without."""
    if not mse(t) < SOLVED:
        return t
    low, high = t, t
    while mse(high) < SOLVED:
        if high >= limit:
            return None
        low, high = high, min(2 * high, limit)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if mse(middle) < SOLVED else (low, middle)
    return high


# --- what is scored -------------------------------------------------------------------------------


def _scores_to_crossing(
    model: nn.Module,
    task: Task,
    t: int,
    seed: int,
    limit: int,
    on_score: Callable[[Scored], None],
) -> dict[int, Scored]:
    """Scores at L, 2L, 4L, ... until the error is above 1e-3, then in between, by bisection.

    They end where the model or memory does not take a length.
    """
    scores: dict[int, Scored] = {}

    def solved(length: int) -> bool:
        n = affordable(_SCORED, length, steps=_SCORED_STEPS, fewest=_FEWEST)
        asked = Asked(task, length, seed, n)
        with enough_memory():
            scored = evaluate(model, asked)
        scores[length] = Scored(length, n, score_of(asked, scored.y, scored.y_hat).mse)
        on_score(scores[length])
        return scores[length].mse < SOLVED

    low, high = MIN_LENGTH[task.variant], t
    if solved(t):
        while limit > _CLOSE * high:
            low, high = high, min(2 * high, limit)
            try:
                if not solved(high):
                    break
            except AddingProblemError:
                return scores
        else:
            return scores
    while high > _CLOSE * low + 1:
        middle = round(math.sqrt(low * high))
        low, high = (middle, high) if solved(middle) else (low, middle)
    return scores
