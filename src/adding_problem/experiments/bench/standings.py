"""The records of a bench put together: a line for each model and target, and tables of them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from adding_problem.analysis.statistics import Proportion, Survival, proportion, survival
from adding_problem.analysis.tables import Table, rule_above
from adding_problem.config import families
from adding_problem.config.values import short_count
from adding_problem.experiments.bench.contenders import CLOSE, Contender, parameters_of
from adding_problem.experiments.bench.pieces import BEYOND, HorizonRun
from adding_problem.experiments.bench.plan import RATES, TARGETS, TUNING_SHARE, TUNING_T, Plan
from adding_problem.task.baselines import constant_predictor_mse
from adding_problem.task.variants import Target

__all__ = ["Line", "lines_of", "notes_of", "tables_of"]


@dataclass(frozen=True)
class Line:
    """One model on one target.

    Attributes:
        model, title, target: which; the title has the model's arguments.
        oracle: whether it starts with the answer; then it stands below a rule.
        verdict: of its certificate; empty where that failed.
        horizon, horizons: the longest solved T, lower median and each seed; 0 is not even the
            shortest.
        t: of `solved` and `cost`.
        solved: how many seeds solved it.
        cost: sequence-steps from the start until the validation error at it was first below 1e-3. A
            seed that never came there is censored at the end of the longest run.
        longest: the longest T trained on of each seed's tested model.
        error_10x, error_100x: median MSE at so many times that; None where one is not finite or
            the length was not tested.
        learning_rate: as tuned.
        parameters, state, flops, steps_per_second, backend: see `sizes.Sizes`.
    """

    model: str
    title: str
    target: Target
    oracle: bool
    verdict: str
    horizon: int
    horizons: tuple[int, ...]
    t: int
    solved: Proportion
    cost: Survival
    longest: tuple[int, ...]
    error_10x: float | None
    error_100x: float | None
    learning_rate: float
    parameters: int
    state: int | None
    flops: float | None
    steps_per_second: float
    backend: str


def lines_of(plan: Plan) -> list[Line]:
    """A line for each model and target of which there are records: the farthest first.

    Models stand by the geometric mean of the horizons of all seeds and targets, oracles last.
    """
    found = [list(_lines_of(plan, contender)) for contender in plan.contenders]
    ranked = sorted(filter(None, found), key=_rank)
    return [line for lines in ranked for line in lines]


def _rank(lines: Sequence[Line]) -> tuple[bool, float]:
    horizons = [horizon for line in lines for horizon in line.horizons]
    return lines[0].oracle, -statistics.fmean(math.log1p(horizon) for horizon in horizons)


def _lines_of(plan: Plan, contender: Contender) -> Iterator[Line]:
    rate, measured = plan.rate(contender), plan.sizes(contender)
    if rate is None or not measured.is_done:
        return
    sizes, certified = measured.read(), plan.certificate(contender, rate)
    for target in TARGETS:
        pieces = plan.horizons(contender, target, rate)
        runs = [piece.read() for piece in pieces if piece.is_done]
        if not runs:
            continue
        reached = [run.rung(plan.t) for run in runs]
        solved = sum(rung is not None and rung.solved for rung in reached)
        horizons = tuple(run.horizon for run in runs)
        yield Line(
            model=contender.label,
            title=contender.config.model.title,
            target=target,
            oracle=contender.is_oracle,
            verdict=getattr(certified.read(), target) if certified.is_done else "",
            horizon=int(statistics.median_low(horizons)),
            horizons=horizons,
            t=plan.t,
            solved=proportion(solved, len(runs)),
            cost=_cost(runs, plan.t),
            longest=tuple(run.longest for run in runs),
            error_10x=_error(runs, BEYOND[0]),
            error_100x=_error(runs, BEYOND[1]),
            learning_rate=rate,
            parameters=sizes.parameters,
            state=sizes.state,
            flops=sizes.flops,
            steps_per_second=sizes.steps_per_second,
            backend=sizes.backend,
        )


def _cost(runs: Sequence[HorizonRun], t: int) -> Survival:
    """Sequence-steps to 1e-3 at T; a run that never came there is censored at the longest's end."""
    rungs = [run.rung(t) for run in runs]
    spent = [rung.reached["1e-3"] if rung else None for rung in rungs]
    longest = max(run.rungs[-1].sequence_steps for run in runs)
    costs = [float(each.sequence_steps if each else longest) for each in spent]
    return survival(costs, [each is not None for each in spent])


def _error(runs: Sequence[HorizonRun], times: int) -> float | None:
    """The median over the seeds; None where it is infinite, or a seed was not tested there."""
    errors = [error for run in runs if (error := run.error(times)) is not None]
    middle = statistics.median(errors) if len(errors) == len(runs) else math.inf
    return middle if math.isfinite(middle) else None


# --- as it is read --------------------------------------------------------------------------------


def tables_of(lines: Sequence[Line]) -> tuple[Table, Table, Table]:
    """What was remembered, what that took, and what each model costs; a terminal has room for each.

    The first two have a row for each model and target.
    """
    t = f"T = {lines[0].t:,}" if lines else "T"
    models = list({line.model: line for line in lines}.values())
    return (
        _table(
            "Horizon: the longest T that was solved",
            ("model", "target", "verdict", "horizon", "of each seed", f"seeds that solve {t}"),
            [
                (
                    line.model,
                    line.target,
                    line.verdict or "-",
                    f"{line.horizon:,}",
                    ", ".join(map(short_count, line.horizons)),
                    str(line.solved),
                )
                for line in lines
            ],
            lines,
            labels=3,
        ),
        _table(
            "What it took, and errors beyond the longest T trained on",
            ("model", "target", f"sequence-steps to 1e-3, {t}", "MSE at 10x", "at 100x"),
            [
                (
                    line.model,
                    line.target,
                    str(line.cost),
                    _number(line.error_10x),
                    _number(line.error_100x),
                )
                for line in lines
            ],
            lines,
            labels=2,
        ),
        _table(
            "What each model costs",
            ("model", "parameters", "state", "FLOPs a step", "steps/s", "on", "learning rate"),
            [
                (
                    line.model,
                    f"{line.parameters:,}",
                    "-" if line.state is None else f"{line.state:,}",
                    "-" if line.flops is None else short_count(line.flops),
                    short_count(line.steps_per_second),
                    "kernels" if line.backend == "native" else "torch",
                    f"{line.learning_rate:g}",
                )
                for line in models
            ],
            models,
            labels=1,
        ),
    )


def _table(
    title: str,
    heading: tuple[str, ...],
    rows: Sequence[tuple[str, ...]],
    lines: Sequence[Line],
    *,
    labels: int,
) -> Table:
    """A table with a row for each of these lines, oracles below a rule."""
    return Table(title, heading, tuple(rows), labels, rule_above(line.oracle for line in lines))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1e}"


def notes_of(
    plan: Plan, lines: Sequence[Line], failures: dict[str, str], matched: str | None
) -> list[str]:
    """What has to be read with the tables."""
    notes = [
        f"Each horizon run: {plan.budget} of training, each length from the weights that "
        "solved the one before. Solved: a mean squared error below 1e-3 on a test set.",
        f"Seeds 0 to {plan.seeds - 1}; in every second one value and mark are exchanged."
        if plan.seeds > 1
        else "One seed only: luck is not told from method.",
        f"Learning rates: {', '.join(f'{rate:g}' for rate in RATES)} for every model, on both "
        f"targets at T = {min(TUNING_T, plan.t):,}, each within 1/{TUNING_SHARE} of the budget.",
        "10x, 100x: median mean squared error at so many times the longest T trained on; "
        f"the mean baseline is {_baseline(plan)}.",
        f"Verdict: of the certificate at T = {plan.t:,} with the first seed. Steps to 1e-3: "
        "sequence-steps from the start, median (range); seeds that never came there are censored.",
    ]
    notes += _told(plan)
    kernels = sorted({line.model for line in lines if line.backend == "native"})
    others = sorted({line.model for line in lines} - set(kernels))
    if plan.budget.minutes and kernels and others:
        notes.append(
            "Minutes compare implementations too: native kernels compute "
            f"{', '.join(kernels)}, and torch's operations {', '.join(others)}."
        )
    if matched:
        notes += _unmatched(plan, matched)
    return notes + [f"{name} failed: {' '.join(why.split())}" for name, why in failures.items()]


def _baseline(plan: Plan) -> str:
    """On each target, where they differ; all contenders have one task."""
    task = plan.contenders[0].config.task
    errors = {constant_predictor_mse(replace(task, target=each), plan.t) for each in TARGETS}
    return " or ".join(sorted({f"{error:.3f}" for error in errors}))


def _told(plan: Plan) -> Iterator[str]:
    for contender in plan.contenders:
        if told := families.told_by(contender.config.model.init):
            yield f"{contender.label}: initialisation {told}."


def _unmatched(plan: Plan, matched: str) -> Iterator[str]:
    sizes = {each.label: parameters_of(each.config) for each in plan.contenders}
    titles = "; ".join(each.config.model.title for each in plan.contenders)
    yield f"Widths bring the parameters to those of {matched}, {sizes[matched]:,}: {titles}."
    for label, parameters in sizes.items():
        if abs(parameters - sizes[matched]) > CLOSE * sizes[matched]:
            yield f"{label} has no width that comes within {CLOSE:.0%} of that: {parameters:,}."
