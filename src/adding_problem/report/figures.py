"""What the charts draw, as plain values, and what stands beside them in words."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from adding_problem.analysis.aggregate import Group
from adding_problem.config import families
from adding_problem.config.values import short_count
from adding_problem.report.measure import Measured, Memory, thinned
from adding_problem.report.runs import Collection, Horizon, Run
from adding_problem.report.summary import Reach, distinct
from adding_problem.runs.records import UNITS
from adding_problem.task.baselines import constant_predictor_mse
from adding_problem.task.sampling import sample_batch
from adding_problem.task.thresholds import HIT_TOLERANCE, THRESHOLDS
from adding_problem.task.variants import Task

__all__ = [
    "alternatives",
    "count",
    "data",
    "interval",
    "loss",
    "perfect_memory",
    "played",
    "question",
    "seconds",
    "shade",
    "short",
    "state",
    "typical",
]

_POINTS = 200  # of a learning curve, at most
_ALL_POINTS = 40_000  # of all learning curves together
_PLAYED_LENGTH = 1_000  # longest first sequence of the playground
_PLAYED_BEYOND = 10  # times the longest trained length may its sequences be
_QUESTIONS = {
    "sum": "the sum of the two",
    "difference": "the first of the two minus the second",
    "product": "the product of the two",
    "first": "the first of the two",
}


# --- in words -------------------------------------------------------------------------------------


def short(value: float | None) -> str:
    """Three digits and a letter, as 12.3k; a dash where there is no number."""
    return "–" if value is None or not math.isfinite(value) else short_count(value)


def seconds(value: float | None) -> str:
    """Two digits at least, whole from ten on; a dash where there is no number."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def count(value: float | None) -> str:
    """A whole number with separators of its thousands."""
    return "–" if value is None else f"{value:,.0f}"


def loss(value: float | None) -> str:
    """A mean squared error: two digits."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.1e}" if value < 0.01 else f"{value:.3f}"


def shade(mse: float | None, task: Task, t: int) -> int:
    """Where an error stands between the mean baseline at T (0) and 1e-5 (100), on a log scale."""
    if mse is None or not math.isfinite(mse):
        return 0
    low, high = math.log(1e-5), math.log(constant_predictor_mse(task, t))
    return round(100 * min(1.0, max(0.0, (high - math.log(max(mse, 1e-9))) / (high - low))))


def question(task: Task) -> str:
    """What a model must answer."""
    words = _QUESTIONS[task.target]
    return f"0.5 and a quarter of {words}" if task.variant == "hs1997" else words


def perfect_memory(task: Task) -> str:
    """The size of the derivative of the right answer by the value at each step."""
    whole, scaled = ("0.25", "a quarter of ") if task.variant == "hs1997" else ("1", "")
    at_marks = {
        "sum": f"{whole} at both marks",
        "difference": f"{whole} at the first mark and −{whole}, of the same size, at the second",
        "product": f"at each mark {scaled}the value at the other",
        "first": f"{whole} at the first mark",
    }[task.target]
    return f"{at_marks} and 0 elsewhere"


def state(run: Run) -> str:
    """One word or two."""
    if not run.record.result:
        return "unfinished"
    return "solved" if run.solved else "not solved"


def interval(group: Group) -> tuple[float, float] | None:
    """95% interval of the median loss; None with too few seeds, or where an end is infinite."""
    found = group.losses.interval
    return found if found and math.isfinite(found[1]) else None


def alternatives(
    found: Collection, groups: Sequence[Group], measured: Sequence[Measured]
) -> dict[str, str]:
    """What the charts show, for readers who cannot see them."""
    best = "; ".join(
        f"{group.method} at T = {group.t:,}: median {loss(group.losses.median)}, "
        f"{group.solved.successes} of {len(group.runs)} solved"
        for group in groups[:12]
    )
    horizons = "; ".join(
        f"{name}: horizon {count(horizon.result.horizon)}"
        for name, horizon in found.horizons.items()
    )
    within = "; ".join(
        f"{one.run.name}: {one.score.within_tolerance:.1%} within {HIT_TOLERANCE}"
        for one in measured
        if len(one.y)
    )
    solved = sum(run.solved for run in found.runs)
    return {
        "curves": f"Line chart of the validation error of {len(found.runs)} runs, "
        f"{len(distinct(found.runs))} models, during training, on a log scale. {solved} end below "
        f"0.001; a dashed line marks {_constant(found):.3f}, the error of always predicting the "
        "mean.",
        "best": "Validation error of the weights that were kept against the sequence length. "
        f"{best}.",
        "survival": f"Share of runs that are solved against the training spent. {best}.",
        "horizon": "Cost to reach 0.01 and 0.001 against the length, both on log scales. "
        f"{horizons}.",
        "scatter": "Prediction against target on test sequences, with the line of right answers.",
        "errors": f"Histogram of prediction minus target. {within}.",
        "memory": "Size of the derivative of the prediction by the value at each step of one "
        "sequence, with the two marked steps. A model that remembers rightly has "
        f"{perfect_memory(found.runs[0].config.task)}.",
    }


# --- in numbers -----------------------------------------------------------------------------------


def data(
    found: Collection,
    reaches: Sequence[Reach],
    groups: Sequence[Group],
    measured: Sequence[Measured],
) -> dict[str, Any]:
    """All that the charts draw. No NaN and no infinity: JSON has none."""
    points = max(2, min(_POINTS, _ALL_POINTS // len(found.runs)))
    return {
        "methods": list(dict.fromkeys(reach.method for reach in reaches)),
        "constant": _constant(found),
        "tolerance": HIT_TOLERANCE,
        "runs": [_curve(run, points) for run in found.runs],
        "groups": [_group(group) for group in groups],
        "horizons": [_horizon(name, each) for name, each in found.horizons.items()],
        "models": [_model(one) for one in measured if not one.problem],
    }


def played(measured: Sequence[Measured]) -> dict[str, Any] | None:
    """The LSTM that runs in the page: the solved one of the longest T, up to a thousand.

    Where none is solved, the best. An oracle only where there is no learner. Its first sequence is
    a typical one: of the test sequences that whose error is the median.
    """
    able = [one for one in measured if one.weights and math.isfinite(one.run.best)]
    if not able:
        return None
    one = max(
        able,
        key=lambda one: (
            not one.run.oracle,
            one.run.solved,
            min(one.run.t, _PLAYED_LENGTH) if one.run.solved else 0,
            -one.run.best,
        ),
    )
    task, init = one.run.config.task, one.run.config.model.init
    trained = one.run.record.longest or one.run.t
    values, places = typical(one) if one.run.t <= _PLAYED_LENGTH else ([], [])
    return {
        **(one.weights or {}),
        "name": one.run.name,
        "target": task.target,
        "question": question(task),
        "constant": constant_predictor_mse(task, one.run.t),
        "t": one.run.t,
        "trained": one.run.record.longest,
        "variant": task.variant,
        "shortest": 10,
        "longest": max(_PLAYED_BEYOND * trained, one.run.t),
        "tolerance": HIT_TOLERANCE,
        "values": values,
        "places": places,
        "solved": one.run.solved,
        "told": families.told_by(init),
    }


def typical(one: Measured) -> tuple[list[float], list[int]]:
    """Values and marked steps of that of its test sequences whose error is the median one."""
    errors = np.abs(one.y_hat.astype(np.float64) - one.y)
    item = int(np.argsort(errors, kind="stable")[len(errors) // 2])
    config = one.run.config
    plain = replace(config.task, mix="none", mix_seed=0)
    x, _ = sample_batch(1, one.run.t, seed=config.validate.seed, start=item, task=plain)
    values, marks = x[0].numpy().T
    return [float(f"{value:.5g}") for value in values], np.flatnonzero(marks == 1).tolist()


def _curve(run: Run, points: int) -> dict[str, Any]:
    every = run.record.rows
    n = min(points, len(every))
    places = sorted({round(place) for place in np.linspace(0, len(every) - 1, n)}) if n else []
    rows = [every[place] for place in places]
    return {
        "name": run.name,
        "method": run.method,
        "t": run.t,
        "seed": run.config.seed,
        "state": state(run),
        "best": _finite(run.best),
        **{unit: [_short(getattr(row, unit)) for row in rows] for unit in UNITS},
        "loss": [_short(row.loss) for row in rows],
        "val_loss": [_short(row.val_loss) for row in rows],
    }


def _constant(found: Collection) -> float:
    """The mean baseline of the first run's task, which is most often that of all."""
    return constant_predictor_mse(found.runs[0].config.task, found.runs[0].t)


def _group(group: Group) -> dict[str, Any]:
    solved = group.solved
    costs = {
        threshold: {unit: group.cost(threshold, unit) for unit in UNITS} for threshold in THRESHOLDS
    }
    spent = {unit: [run.spent(unit) for run in group.runs] for unit in UNITS}
    return {
        "method": group.method,
        "t": group.t,
        "n": len(group.runs),
        "solved": solved.successes,
        "share": (solved.low, solved.high),
        "median": _finite(group.losses.median),
        "interval": interval(group),
        "losses": [v for v in group.values if math.isfinite(v)],
        "survival": {
            threshold: {
                unit: list(zip(found.costs, found.share, strict=True))
                for unit, found in by_unit.items()
            }
            for threshold, by_unit in costs.items()
        },
        "spent": {
            unit: max((end for end in ends if end is not None), default=None)
            for unit, ends in spent.items()
        },
        "known": {unit: found.n for unit, found in costs["1e-3"].items()},
    }


def _horizon(name: str, horizon: Horizon) -> dict[str, Any]:
    """A horizon run that diverged has NaN for the score of its last length."""
    rungs = [
        {
            "t": rung.t,
            "mse": _finite(rung.mse),
            "solved": rung.solved,
            "sequence_steps": rung.sequence_steps,
            "seconds": rung.seconds,
            "reached": {key: spent and asdict(spent) for key, spent in rung.reached.items()},
        }
        for rung in horizon.result.rungs
    ]
    found = {"name": name, "horizon": horizon.result.horizon, "oracle": horizon.oracle}
    return found | {"rungs": rungs}


def _model(one: Measured) -> dict[str, Any]:
    score = one.score
    return {
        "name": one.run.name,
        "method": one.run.method,
        "t": one.run.t,
        "within": score.within_tolerance,
        "mse": _finite(score.mse),
        "y": [_short(v) for v in one.y.tolist()],
        "y_hat": [_short(v) for v in one.y_hat.tolist()],
        "memory": _memory(one.memory) if one.memory else None,
    }


def _memory(memory: Memory) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "t": memory.t,
        "marks": memory.marks,
        "target": _short(memory.target),
        "prediction": _short(memory.prediction),
        "value": [_short(v) for v in thinned(memory.value_gradient).tolist()],
        "at_marks": [_short(v) for v in memory.value_gradient[memory.marks].tolist()],
        "right": [_short(v) for v in memory.right_gradient],
        "cells": None,
    }
    if memory.cells is not None:
        cells = thinned(memory.cells)
        scale = float(np.abs(cells).max()) or 1.0
        packed = np.round(127 * cells / scale).astype(np.int8).tobytes()
        shown |= {
            "cells": base64.b64encode(packed).decode(),
            "rows": cells.shape[0],
            "columns": cells.shape[1],
            "scale": _short(scale),
        }
    return shown


def _short(value: float) -> float | None:
    """Five digits, which no chart can show more of."""
    return float(f"{value:.5g}") if math.isfinite(value) else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
