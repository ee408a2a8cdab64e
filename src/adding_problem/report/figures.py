"""What the charts draw, as plain values, and what stands beside them in words."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from adding_problem.analysis.aggregate import Group
from adding_problem.config import families
from adding_problem.report.measure import Measured, Memory, thinned
from adding_problem.report.runs import Collection, Horizon, Run
from adding_problem.report.summary import all_solved, distinct
from adding_problem.runs.records import UNITS
from adding_problem.task.baselines import constant_predictor_mse
from adding_problem.task.thresholds import HIT_TOLERANCE, SOLVED, THRESHOLDS
from adding_problem.task.variants import Task

__all__ = [
    "alternatives",
    "count",
    "data",
    "headline",
    "interval",
    "loss",
    "number",
    "perfect_memory",
    "played",
    "question",
    "shade",
    "state",
]

_POINTS = 200  # of a learning curve, at most
_ALL_POINTS = 40_000  # of all learning curves together
_PLAYED_LENGTH = 1_000  # longest sequence of the playground
_QUESTIONS = {
    "sum": "the sum of the two",
    "difference": "the first of the two minus the second",
    "product": "the product of the two",
    "first": "the first of the two",
}


# --- in words -------------------------------------------------------------------------------------


def number(value: float | None) -> str:
    """Two or three digits and a word: 1,240; 37.4 thousand; 1.5 million."""
    if value is None or not math.isfinite(value):
        return "–"
    if abs(value) >= 1e4:
        value = float(f"{value:.3g}")  # or 999,700 would be 1e+03 thousand
    for size, word in ((1e9, "billion"), (1e6, "million"), (1e4, "thousand")):
        if abs(value) >= size:
            return f"{value / (1e3 if word == 'thousand' else size):.3g} {word}"
    return f"{value:,.0f}" if abs(value) >= 99.5 or float(value).is_integer() else f"{value:.2g}"


def count(value: float | None) -> str:
    """A whole number with separators of its thousands."""
    return "–" if value is None else f"{value:,.0f}"


def loss(value: float | None) -> str:
    """A mean squared error: two digits."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.1e}" if value < 0.01 else f"{value:.3f}"


def shade(mse: float | None, task: Task, t: int) -> int:
    """Where an error stands between 1e-5 (0) and the mean baseline at T (100), on a log scale."""
    if mse is None or not math.isfinite(mse):
        return 100
    low, high = math.log(1e-5), math.log(constant_predictor_mse(task, t))
    return round(100 * min(1.0, max(0.0, (math.log(max(mse, 1e-9)) - low) / (high - low))))


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


def headline(
    found: Collection, groups: Sequence[Group], measured: Sequence[Measured]
) -> list[dict[str, str]]:
    """The figures at the top: value, what it is, a remark.

    They are of learners; of oracles only where there is no learner.
    """
    runs = [run for run in found.runs if not run.oracle] or found.runs
    oracle = runs[0].oracle
    longest = max((run.t for run in runs if run.solved), default=None)
    finite = (run for run in runs if math.isfinite(run.best))
    best = min(finite, key=lambda run: run.best, default=None)
    lowest_note = ""
    if best:
        mean = constant_predictor_mse(best.config.task, best.t)
        lowest_note = f"T = {best.t:,}; always predicting the mean: {mean:.3f}"
    tiles = [
        _solved_tile(runs, len(found.runs) - len(runs)),
        _tile(count(longest), "longest T solved", f"of {count(max(run.t for run in runs))} tried"),
        _tile(
            loss(best.best if best else None),
            "lowest validation MSE of weights kept",
            lowest_note,
        ),
    ]
    tiles += _cost_tile([group for group in groups if (group.t, group.oracle) == (longest, oracle)])
    horizons = [
        horizon.result.horizon
        for horizon in found.horizons.values()
        if horizon.result.horizon and horizon.oracle == oracle
    ]
    if horizons:
        tiles.append(
            _tile(count(max(horizons)), "horizon", "longest T within the budget of a horizon run")
        )
    beyond = [
        (t, longest)
        for one in measured
        if (longest := one.run.record.longest) and one.run.oracle == oracle
        for t, mse in one.mse.items()
        if mse < SOLVED and t > longest
    ]
    if beyond:
        t, trained = max(beyond, key=lambda pair: pair[0] / pair[1])
        note = f"longest trained {trained:,}, below 1e-3 at tested T = {t:,}"
        tiles.append(_tile(f"×{number(t / trained)}", "held beyond the longest trained", note))
    return tiles


def _tile(value: str, what: str, note: str) -> dict[str, str]:
    return {"value": value, "what": what, "note": note}


def _solved_tile(runs: Sequence[Run], oracles: int) -> dict[str, str]:
    """How many of these runs, or of their models, are solved."""
    models = distinct(runs)
    noun, notes = "runs", ["validation MSE below 1e-3"]
    if len(models) < len(runs):
        noun = "models"
        notes = [
            "validation MSE below 1e-3 at every T",
            f"{len(runs)} runs, the same weights counted once",
        ]
    if oracles:
        notes.append(f"{oracles} of an oracle not counted")
    value = f"{sum(map(all_solved, models))} of {len(models)}"
    return _tile(value, f"{noun} solved", "; ".join(notes))


def _cost_tile(groups: Sequence[Group]) -> list[dict[str, str]]:
    """What the cheapest of these groups took; none where no group has a median."""
    costs = [
        (steps.median or math.inf, seconds.median, len(group.seeds))
        for group in groups
        for steps in [group.cost("1e-3", "sequence_steps")]
        for seconds in [group.cost("1e-3", "seconds")]
        if seconds.median is not None
    ]
    if not costs:
        return []
    steps, seconds, n = min(costs, key=lambda cost: cost[0])
    of = f"median of {n} seeds" if n > 1 else "one seed"
    note = f"{number(steps)} sequence-steps, {of}"
    return [_tile(f"{number(seconds)} s", "to solve the longest", note)]


def alternatives(
    found: Collection, groups: Sequence[Group], measured: Sequence[Measured]
) -> dict[str, str]:
    """What the charts show, for readers who cannot see them."""
    best = "; ".join(
        f"{group.method} at T = {group.t:,}: median {loss(group.losses.median)}, "
        f"{group.solved.successes} of {len(group.seeds)} solved"
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
        "scatter": "Prediction against target on new sequences, with the line of right answers.",
        "errors": f"Histogram of prediction minus target. {within}.",
        "memory": "Size of the derivative of the prediction by the value at each step of one "
        "sequence, with the two marked steps. A model that remembers rightly has "
        f"{perfect_memory(found.runs[0].config.task)}.",
    }


# --- in numbers -----------------------------------------------------------------------------------


def data(
    found: Collection, groups: Sequence[Group], measured: Sequence[Measured]
) -> dict[str, Any]:
    """All that the charts draw. No NaN and no infinity: JSON has none."""
    points = max(2, min(_POINTS, _ALL_POINTS // len(found.runs)))
    return {
        "methods": found.methods,
        "constant": _constant(found),
        "tolerance": HIT_TOLERANCE,
        "runs": [_curve(run, points) for run in found.runs],
        "groups": [_group(group) for group in groups],
        "horizons": [_horizon(name, each) for name, each in found.horizons.items()],
        "models": [_model(one) for one in measured if not one.problem],
    }


def played(measured: Sequence[Measured]) -> dict[str, Any] | None:
    """The LSTM that runs in the page: the solved one of the longest T, up to a thousand.

    Where none is solved, the best. An oracle only where there is no learner.
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
        "longest": _PLAYED_LENGTH,
        "solved": one.run.solved,
        "told": families.described_init(str(init)) if init in families.TOLD else None,
    }


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
    spent = {unit: [seed.spent(unit) for seed in group.seeds] for unit in UNITS}
    return {
        "method": group.method,
        "t": group.t,
        "n": len(group.seeds),
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
