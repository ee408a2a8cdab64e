"""A bench: the same conditions for every model, records that are made once, and what they say."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from adding_problem import models
from adding_problem.analysis import tables
from adding_problem.config import families
from adding_problem.errors import ConfigError, Interrupted
from adding_problem.experiments import bench
from adding_problem.experiments.bench import Contender, Plan, pieces, sizes
from adding_problem.experiments.bench import plan as planning
from adding_problem.experiments.bench.contenders import parameters_of
from adding_problem.experiments.bench.pieces import HorizonRun, Trial
from adding_problem.experiments.bench.plan import best_rate
from adding_problem.experiments.readout import Measured
from adding_problem.experiments.sweep.job import Named, Outcome
from adding_problem.runs.folder import RunFolder
from adding_problem.runs.records import Budget, Rung, Spent
from tests.conftest import Command

T = 40
ARGUMENTS = {"dataset.t": T, "dataset.held_out": 64, "validate.dt_length": 500}


class Here:
    """An engine that does a piece when it is asked for the outcome, in this process."""

    free = True

    def __init__(self, most: int | None = None) -> None:
        self.most, self.done = most, list[str]()
        self._waiting: list[Any] = []

    def __enter__(self) -> Here:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def submit(self, job: Named) -> None:
        self._waiting.append(job)

    def running(self) -> set[str]:
        return {job.name for job in self._waiting}

    def wait(self, seconds: float) -> Sequence[tuple[str, Outcome]]:
        if len(self.done) == self.most:
            raise KeyboardInterrupt
        piece = self._waiting.pop(0)
        self.done.append(piece.name)
        return [(piece.name, pieces.perform(piece))]


def plan_of(folder: Path, *typed: str, seeds: int = 2, budget: int = 30_000) -> Plan:
    contenders = tuple(bench.contender(each, ARGUMENTS, {}) for each in typed)
    return Plan(contenders, seeds, Budget(steps=budget), T, folder)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """One learning rate, and few sequences of the long tests."""
    monkeypatch.setattr(planning, "RATES", (2e-2,))
    monkeypatch.setattr(pieces, "_TEST_STEPS", 50_000)


# --- the same conditions --------------------------------------------------------------------------


def test_what_is_typed(file: Path) -> None:
    long = bench.contender("lstm:init=long,hidden=8", ARGUMENTS, {})
    assert (long.config.model.init, long.config.model.hidden, long.source) == ("long", 8, None)
    mine = bench.contender(f"{file}:Last:units=5", ARGUMENTS, {"model.act": "relu"})
    assert mine.label == "mine.py:Last:units=5"
    assert mine.config.model.arguments == {"units": 5, "act": "relu"}
    assert mine.source
    file.write_text(file.read_text() + "\n")  # other code is another contender
    other = bench.contender(f"{file}:Last:units=5", ARGUMENTS, {"model.act": "relu"})
    assert other.folder_name("") != mine.folder_name("")


def test_pieces_differ_in_the_model_alone(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "lstm:init=long", "pooling", seeds=3)

    def conditions(contender: Contender) -> list[Any]:
        work = [*plan.tuning(contender), *plan.trained(contender, 1e-2)]
        return [
            (
                Path(piece.name).name,
                piece.budget,
                {k: v for k, v in piece.config.flat().items() if not k.startswith("model.")}
                | {"artifacts": None},
            )
            for piece in work
        ]

    first, second = map(conditions, plan.contenders)
    assert first == second


def test_value_and_mark_are_exchanged_in_odd_seeds(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "gru", seeds=4)
    for target in ("sum", "difference"):
        runs = [piece.config for piece in plan.horizons(plan.contenders[0], target, 1e-2)]
        assert [run.task.mix for run in runs] == ["none", "swap", "none", "swap"]
        assert {run.task.target for run in runs} == {target}
        assert [run.seed for run in runs] == [0, 1, 2, 3]
        assert all(run.validate.seed not in {run.seed for run in runs} for run in runs)


def trial(rate: float, loss: float | None, steps: int, target: str = "sum") -> Trial:
    return Trial(rate, target, loss, steps, 1.0)


def test_the_best_rate() -> None:
    # One that solves both targets beats a cheaper one that solves one.
    both = [trial(1.0, 1e-4, 90), trial(1.0, 1e-4, 90, "difference")]
    one = [trial(2.0, 1e-4, 10), trial(2.0, 0.1, 50, "difference")]
    assert best_rate([*one, *both]) == 1.0
    assert best_rate([*both, trial(3.0, 9e-4, 80), trial(3.0, 9e-4, 80, "difference")]) == 3.0
    # Where none solves any, the loss decides; one that is not finite is the worst.
    assert best_rate([trial(1.0, 0.1, 5), trial(2.0, 0.01, 9), trial(3.0, None, 1)]) == 2.0


# --- size -----------------------------------------------------------------------------------------


def test_parameters_match_within_five_percent(tmp_path: Path, file: Path) -> None:
    names = ("lstm:init=long", "gru", "mingru", "slstm", "tcn")
    found = [bench.contender(name, ARGUMENTS, {}) for name in (*names, f"{file}:Last")]
    sized = bench.match_parameters(found, "lstm:init=long", "units")
    assert sized[0] is found[0]
    assert parameters_of(sized[0].config) == 4 * 100 * (2 + 100 + 1) + 101
    for each in sized:
        assert abs(parameters_of(each.config) - 41_301) <= 0.05 * 41_301, each.label
    hidden = sized[1].config.model.hidden or 0
    assert parameters_of(sized[1].config) == 3 * hidden * (hidden + 4) + hidden + 1
    # The GRU one unit narrower or wider is no nearer.
    gap = abs(parameters_of(sized[1].config) - 41_301)
    assert gap <= abs(3 * (hidden + 1) * (hidden + 5) + hidden + 2 - 41_301)
    assert gap <= abs(3 * (hidden - 1) * (hidden + 3) + hidden - 41_301)
    with pytest.raises(ConfigError, match="--width"):
        bench.match_parameters(found, "gru", "hidden")  # Last has no such argument
    with pytest.raises(ConfigError, match="one of lstm:init=long, gru"):
        bench.match_parameters(found, "lstm", "units")


@pytest.mark.parametrize("name", ["lstm", "gru", "rnn", "irnn"])
def test_the_state_is_what_a_layer_hands_on(name: str) -> None:
    config = bench.contender(f"{name}:hidden=7", ARGUMENTS, {}).config
    model = models.build_model(config.model, length=T)
    assert isinstance(model, models.CarriesState)
    state = model.advance(torch.zeros(1, 5, 2))
    handed_on = sum(s.numel() for s in (state if isinstance(state, tuple) else (state,)))
    assert sizes.state_of(model, config) == handed_on


def test_the_state_of_a_tcn_is_what_its_convolutions_still_need() -> None:
    """A stream through causal convolutions: each keeps its last (K - 1) dilation inputs."""
    given = {"hidden": 3, "levels": 4, "kernel": 5}
    kept = 0
    for level in range(4):
        for width in (3 if level else 2, 3):
            kept += width * (5 - 1) * 2**level
    count = families.FAMILIES["tcn"].state
    assert count
    assert count(given) == kept


def test_the_state_of_a_custom_model(file: Path) -> None:
    for name, expected in (("time_first", 8), ("sequence", 4), ("Convolution", None)):
        config = bench.contender(
            f"{file}:{name}",
            ARGUMENTS,
            {"model.layout": "tbc"}
            if name == "time_first"
            else {"model.layout": "bct"}
            if name == "Convolution"
            else {},
        ).config
        assert sizes.state_of(models.build_model(config.model, length=T), config) == expected


@pytest.mark.parametrize(("name", "gates"), [("lstm", 4), ("gru", 3), ("rnn", 1)])
def test_flops_of_a_step(name: str, gates: int) -> None:
    config = bench.contender(f"{name}:hidden=16", ARGUMENTS, {}).config
    model = models.build_model(config.model, length=T)
    expected = 2 * gates * 16 * (2 + 16) + 2 * 16 / T
    assert sizes.flops_of(model, config) == pytest.approx(expected)


# --- a bench --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bench")


def test_pooling_is_pooled_and_no_work_is_done_twice(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "pooling", budget=60_000)
    engine = Here(most=2)
    with pytest.raises(Interrupted, match="2 of 8 pieces of work are done"):
        bench.run(plan, engine)
    rest = Here()
    assert bench.run(plan, rest) == {}
    assert len(rest.done) == 6
    assert not {*engine.done} & {*rest.done}
    assert rest.done[-1].endswith("/sizes")  # when nothing else runs
    again = Here()
    assert bench.run(plan, again) == {}
    assert again.done == []

    first, second = bench.lines_of(plan)
    assert (first.target, first.verdict) == ("sum", "pooled")
    assert (second.target, second.verdict) == ("difference", "not solved")
    assert first.horizon >= T
    assert second.horizon == 0
    assert (first.solved.successes, second.solved.successes) == (2, 0)
    assert first.cost.median
    assert second.cost.median is None
    assert first.parameters == 401
    runs = [
        RunFolder(tmp_path / name / f"t{T}").read_config()
        for name in sorted(rest.done)
        if "/horizon-sum" in name
    ]
    assert [run.task.mix for run in runs] == ["none", "swap"]

    # One more seed is all that would be done.
    more = Here(most=0)
    with pytest.raises(Interrupted, match="8 of 10 pieces of work are done"):
        bench.run(replace(plan, seeds=3), more)
    assert {Path(name).name for name in more.running()} == {
        "horizon-sum-2-0.02",
        "horizon-difference-2-0.02",
    }

    found = bench.tables_of([first, second])
    records = [asdict(line) for line in (first, second)]
    for name in ("t.csv", "t.json", "t.tex", "t.md"):
        tables.write(
            tmp_path / name, found, records, bench.notes_of(plan, [first, second], {}, None)
        )
    with (tmp_path / "t.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["verdict"] for row in rows] == ["pooled", "not solved"]
    assert rows[0]["horizons"] == " ".join(map(str, first.horizons))
    assert float(rows[0]["cost.median"]) == first.cost.median
    assert json.loads((tmp_path / "t.json").read_text())["rows"][1]["solved"]["successes"] == 0
    assert (tmp_path / "t.tex").read_text().count(r"\bottomrule") == 3


def test_a_lost_piece_is_tried_again_three_times(tmp_path: Path) -> None:
    class Loses(Here):
        def wait(self, seconds: float) -> Sequence[tuple[str, Outcome]]:
            if not self._waiting[0].name.endswith("/tuning-sum-0.02"):
                return super().wait(seconds)
            self.done.append(self._waiting[0].name)
            return [(self._waiting.pop(0).name, Outcome("died", "its node was lost"))]

    engine = Loses()
    plan = plan_of(tmp_path, "pooling", seeds=1, budget=3_000)
    (failed,) = bench.run(plan, engine).items()
    assert failed == (engine.done[0], "its node was lost")
    assert engine.done.count(failed[0]) == 1 + 3


def test_a_record_says_what_was_trained(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "pooling", seeds=1)
    (piece,) = plan.horizons(plan.contenders[0], "sum", 2e-2)
    assert pieces.perform(piece).state == "done"
    record = piece.read()
    assert record.rungs[0].t == T
    assert sum(rung.t == T for rung in record.rungs) == 1
    last = record.rungs[-1]
    for times in (10, 100):
        assert record.error(times) is not None
    assert record.error(7) is None
    # Training ends with the epoch that reaches the budget: ten steps of 16 sequences.
    assert last.sequence_steps <= 30_000 + 160 * last.t
    piece.path.write_text("{}")
    with pytest.raises(Exception, match="no record of a bench"):
        piece.read()


def rung(t: int, steps: int | None, *, spent: int, solved: bool = True) -> Rung:
    reached = {"1e-2": None, "1e-3": None if steps is None else Spent(steps, 1.0)}
    return Rung(t=t, mse=0.0, solved=solved, reached=reached, sequence_steps=spent, seconds=1.0)


def test_costs_are_censored_at_the_end_of_the_longest_run() -> None:
    """Of three seeds one diverges at once; by Kaplan and Meier two of three came there."""
    runs = [
        HorizonRun((rung(T, 100, spent=900),), T, (), ()),
        HorizonRun((rung(T, 300, spent=1_000),), T, (), ()),
        HorizonRun((rung(T, None, spent=10, solved=False),), T, (), ()),
    ]
    from adding_problem.experiments.bench.standings import _cost, _error

    cost = _cost(runs, T)
    assert (cost.n, cost.events, cost.median, cost.most) == (3, 2, 300, 300)
    assert _cost(runs[2:], T).events == 0
    far = (Measured(400, 16, 0.5), Measured(4_000, 16, None))
    tested = [replace(run, beyond=far) for run in runs]
    assert _error(tested, 10) == 0.5
    assert _error(tested, 100) is None  # not finite
    assert _error([*tested, runs[0]], 10) is None  # one was not tested


def test_a_model_that_fails_is_left_out(tmp_path: Path, file: Path) -> None:
    """Of `Limited`, which takes 50 steps, nothing longer is trained; `Breaks` has no training."""
    file.write_text(
        file.read_text()
        + """
class Breaks(Last):
    def forward(self, x):
        if self.training and len(x) == 16:  # of the recipe: the preflight check has fewer
            raise ValueError("broken")
        return super().forward(x)
"""
    )
    plan = plan_of(tmp_path / "bench", f"{file}:Limited", f"{file}:Breaks", seeds=1, budget=6_000)
    failures = bench.run(plan, Here())
    assert {Path(name).name for name in failures} >= {"tuning-sum-0.02"}
    assert all("broken" in why for why in failures.values())
    lines = bench.lines_of(plan)
    assert {line.model for line in lines} == {"mine.py:Limited"}
    notes = bench.notes_of(plan, lines, failures, None)
    assert any("tuning-sum-0.02 failed" in note for note in notes)
    assert "mine.py:Breaks" not in str(bench.tables_of(lines))


def test_notes_say_what_a_model_was_told_and_how_large_it_was_made(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "lstm", "gru")
    sized = replace(plan, contenders=bench.match_parameters(plan.contenders, "lstm", "hidden"))
    notes = "\n".join(bench.notes_of(sized, [], {}, "lstm"))
    assert "lstm: initialisation keyed: told a time scale" in notes
    hidden = sized.contenders[1].config.model.hidden
    assert f"gru (hidden {hidden}" in notes
    assert "no width" not in notes
    assert "gru has no width" in "\n".join(bench.notes_of(plan, [], {}, "lstm"))


# --- the command ----------------------------------------------------------------------------------


def test_the_command(tmp_path: Path, command: Command) -> None:
    words = ["bench", "--against", "pooling:hidden=8", "--seeds", 1, "--budget", "3k", "--t", T]
    words += ["--workers", 1, "--dataset.held_out", 32, "--validate.dt_length", 50]
    done = command(*words, "--out", "t.csv")
    assert done.returncode == 0, done.stderr
    assert "done  pooling-" in done.stdout
    with (tmp_path / "t.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["target"] for row in rows] == ["sum", "difference"]
    again = command(*words, "--out", "t.json")
    assert again.returncode == 0
    assert "done  pooling-" not in again.stdout
    written = json.loads((tmp_path / "t.json").read_text())["rows"]
    assert [str(row["cost"]["events"]) for row in written] == [row["cost.events"] for row in rows]


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--out", "t.xlsx"], ".csv, .json, .tex, .md"),
        (["--budget", "5M", "--minutes", "1"], "no --budget beside it"),
        (["--budget", "x"], "a whole number of at least 1"),
        (["--train.learning_rate", "0.1"], "a bench sets it"),
        (["--seed", "1"], "a bench sets it"),
        (["--model.units", "3"], "--model beside it"),
        (["--against", "lstn"], "did you mean"),
        (["--t", "30"], "more than 30"),
        (["--match-parameters", "tcn"], "one of lstm, gru, mingru"),
        (["--model", "missing.py:Mine"], "missing.py"),
        (["--model", "no_such_package.Mine"], "no_such_package"),
    ],
)
def test_what_the_command_refuses(words: list[str], part: str, command: Command) -> None:
    refused = command("bench", *words)
    assert refused.returncode == 2, refused.stdout
    assert part in refused.stderr
