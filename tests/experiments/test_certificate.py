"""The memory certificate: its rule, its readouts, models whose verdict is known by construction,
and what it leaves."""

from __future__ import annotations

import io
import json
import math
import signal
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from adding_problem import config, models
from adding_problem.cli import certify as certify_command
from adding_problem.errors import ConfigError, Interrupted, ModelError, RunFolderError
from adding_problem.experiments import certificate
from adding_problem.experiments.certificate import (
    Certificate,
    Evidence,
    Row,
    Verdict,
    certify,
    judge,
    read,
)
from adding_problem.experiments.readout import Ridge
from adding_problem.experiments.train import train
from adding_problem.report import card
from adding_problem.runs.folder import RunFolder
from adding_problem.runs.records import EpochRow
from adding_problem.task.variants import Task
from adding_problem.training.loop import Listener
from adding_problem.training.state import StepEvent, TrainingState
from tests.conftest import Command

T = 60
MODELS = '''
import torch
from torch import nn

class Gate(nn.Module):
    """The sum of the values times a gate that is linear in the mark; beside it the last value."""
    def __init__(self, marked=1.0, unmarked=1.0, mean=False):
        super().__init__()
        self.gate, self.mean = nn.Parameter(torch.tensor([marked, unmarked])), mean
        self.out = nn.Linear(2, 1)
    def forward(self, x):
        v, m = x[..., 0], x[..., 1]
        gated = v * (m * self.gate[0] + (1 - m) * self.gate[1])
        total = gated.mean(dim=1) if self.mean else gated.sum(dim=1)
        return self.out(torch.stack([total, v[:, -1]], dim=1))

class Frozen(Gate):
    """Gates that are not trained."""
    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.gate.requires_grad_(False)

class Scaled(nn.Module):
    """No linear unit makes the prediction."""
    def __init__(self):
        super().__init__()
        self.inside, self.scale = nn.Linear(2, 1), nn.Parameter(torch.tensor(0.5))
    def forward(self, x):
        return (self.inside(x) * self.scale).mean(dim=1)

def layers():
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(1))

class Sequence(nn.Module):
    def __init__(self, input_size):
        super().__init__()
        self.rnn = nn.GRU(input_size, 3, batch_first=True)
    def forward(self, x):
        return self.rnn(x)
'''


def run_of(folder: Path, model: str, budget: int = 20_000, **arguments: Any) -> config.RunConfig:
    values = {
        "recipe": "fast",
        "model.name": model,
        "dataset.t": T,
        "dataset.held_out": 64,
        "train.val_subset": None,
        "train.budget_steps": budget,
        "threads": 1,
        "artifacts": str(folder),
    }
    return config.load(None, values | {f"model.{key}": value for key, value in arguments.items()})


def made_of(
    run: config.RunConfig, listener: Listener | None = None, *, plain: bool = False
) -> Certificate:
    return certify(
        run,
        following=lambda name, run: nullcontext(listener),
        counting=lambda name: nullcontext(lambda done, total: None),
        plain=plain,
    )


QUESTIONS = ["sum", "difference", "difference, exchanged", "difference, rotated"]
NOISE = "difference, 6 noise columns"


def test_a_plain_certificate_is_not_taken_for_a_complete_one(tmp_path: Path) -> None:
    run = run_of(tmp_path / "made", own(tmp_path, "Gate"), budget=1_000)
    plain = made_of(run, plain=True)
    assert [row.name for row in plain.rows] == QUESTIONS[:2]
    assert plain.pooling == ()
    assert made_of(run, plain=True) == plain
    complete = made_of(run)
    assert complete.rows[:2] == plain.rows
    assert [row.name for row in complete.rows] == QUESTIONS
    assert "noise columns do not apply" in " ".join(complete.notes)
    assert len(complete.pooling) == 2


@pytest.mark.parametrize(("model", "controls"), [("rnn", 2), ("pooling", 0)])
def test_a_model_of_the_zoo_is_asked_with_noise_columns_too(
    model: str, controls: int, tmp_path: Path
) -> None:
    """Beside it stands the pooling model, unless it is that one."""
    made = made_of(run_of(tmp_path, model, 1_000, hidden=4))
    assert [row.name for row in made.rows] == [*QUESTIONS, NOISE]
    assert made.notes == ()
    assert len(made.pooling) == controls


def own(folder: Path, name: str) -> str:
    file = folder / "mine.py"
    file.write_text(MODELS)
    return f"{file}:{name}"


# --- the rule ---

NOTHING = Evidence(
    short=0.2, full=0.17, frozen=0.16, trained=0.15, order_free=False, difference=0.17
)


@pytest.mark.parametrize(
    ("found", "word", "numbers"),
    [
        (NOTHING, "not solved", ["1.5e-01", "1.6e-01", "10 steps"]),
        (replace(NOTHING, trained=9e-4), "learned", ["9.0e-04", "1.6e-01"]),
        (
            replace(NOTHING, trained=1e-3),
            "not solved",
            ["1.0e-03"],
        ),  # the threshold itself is not below it
        (replace(NOTHING, trained=1e-5, full=2e-4), "reservoir", ["2.0e-04", "2.0e-01", "T = 500"]),
        (
            replace(NOTHING, full=2e-4),
            "reservoir",
            ["2.0e-04"],
        ),  # given, whether training finds it or not
        (replace(NOTHING, trained=1e-5, frozen=3e-4), "reservoir", ["3.0e-04"]),
        (
            replace(NOTHING, trained=1e-5, frozen=3e-4, full=1e-6, short=4e-4),
            "oracle",
            ["4.0e-04", "T = 30", "T = 500"],
        ),
        (
            replace(NOTHING, trained=1e-5, short=1e-6, order_free=True),
            "pooled",
            ["1.0e-05", "1.7e-01"],
        ),
        (
            replace(NOTHING, trained=1e-5, short=math.inf, full=math.inf, frozen=math.inf),
            "learned",
            ["nothing finite"],
        ),
        (
            replace(NOTHING, trained=1e-5, difference=1e-5, order_free=True),
            "learned",
            [],
        ),  # it solves what no order-free model can
        (replace(NOTHING, order_free=True), "not solved", []),
        (replace(NOTHING, trained=math.inf), "not solved", ["nothing finite"]),
    ],
)
def test_the_rule(found: Evidence, word: str, numbers: list[str]) -> None:
    verdict = judge(found, t=500, budget="after 10 steps")
    assert verdict.word == word
    for number in numbers:
        assert number in verdict.reason


# --- readouts ---


def test_ridge_regression_equals_least_squares_and_the_closed_form() -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(200, 7)) * np.logspace(-3, 3, 7) + 5
    y = generator.normal(size=200)
    ridge = Ridge(x)
    expected = np.linalg.lstsq(np.column_stack([x, np.ones(200)]), y, rcond=None)[0]
    weights, intercept = ridge.solve(y, 0.0)
    assert np.allclose(np.append(weights, intercept), expected, rtol=1e-6)
    centred = x - x.mean(axis=0)
    scatter = centred.T @ centred
    for penalty in (1e-9, 1e-3, 1.0):
        scaled = penalty * np.linalg.eigvalsh(scatter).max()
        expected = np.linalg.solve(scatter + scaled * np.eye(7), centred.T @ (y - y.mean()))
        weights, intercept = ridge.solve(y, penalty)
        assert np.allclose(weights, expected, rtol=1e-6)
        assert intercept == pytest.approx(y.mean() - x.mean(axis=0) @ expected)


def test_features_that_never_change_predict_the_mean() -> None:
    weights, intercept = Ridge(np.full((5, 3), 2.0)).solve(np.arange(5.0), 1e-9)
    assert not weights.any()
    assert intercept == 2.0


def test_the_readout_is_found(tmp_path: Path) -> None:
    for name, width in (("Gate", 2), ("layers", 2 * 22), ("Sequence", 3)):
        model = models.build_model(config.ModelConfig(own(tmp_path, name)), length=22)
        readout = models.readout_of(model)
        assert readout is not None
        assert readout.in_features == width
    assert (
        models.readout_of(models.build_model(config.ModelConfig(own(tmp_path, "Scaled")))) is None
    )
    for name in models.FAMILIES:
        model = models.build_model(config.ModelConfig(name))
        assert models.readout_of(model) is model.readout
        assert model.readout.out_features == 1


@pytest.mark.parametrize("model", ["lstm", "s6", "Gate", "Sequence"])
def test_only_the_readout_is_trained(model: str, tmp_path: Path) -> None:
    name = model if model in models.FAMILIES else own(tmp_path, model)
    run = run_of(tmp_path / "run", name, budget=2_000)
    run = replace(run, train=replace(run.train, only_readout=True))
    begin = TrainingState.fresh(run, torch.device("cpu"), "torch").model
    readout = models.readout_of(begin)
    assert readout is not None
    result = train(run)
    assert result.parameters == readout.in_features + 1
    weights, _ = RunFolder(run.artifacts).read_model()
    changed = {
        key for key, tensor in begin.state_dict().items() if not torch.equal(tensor, weights[key])
    }
    assert changed == {
        key
        for key, tensor in begin.state_dict(keep_vars=True).items()
        if tensor in set(readout.parameters())
    }
    assert run.digest != replace(run, train=replace(run.train, only_readout=False)).digest


def test_a_model_without_a_readout_cannot_train_it_alone(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", own(tmp_path, "Scaled"))
    with pytest.raises(ModelError, match=r"a readout for train\.only_readout"):
        train(replace(run, train=replace(run.train, only_readout=True)))
    assert not (tmp_path / "run").exists()


# --- verdicts that are known by construction ---


@pytest.mark.parametrize(
    ("model", "arguments", "budget", "expected"),
    [
        ("lstm", {"hidden": 16, "init": "oracle"}, 5_000, "oracle"),
        ("Frozen", {"marked": 1.0, "unmarked": 0.0}, 5_000, "oracle"),
        # The mean over T steps: the readout that is right at T = 30 is wrong at any other length.
        ("Frozen", {"marked": 1.0, "unmarked": 0.0, "mean": True}, 5_000, "reservoir"),
        # Without a difference between marked and unmarked steps, no readout knows which count; the
        # gate can learn it.
        ("Gate", {}, 90_000, "learned"),
        ("pooling", {"hidden": 64}, 90_000, "pooled"),
        ("rnn", {"hidden": 4}, 5_000, "not solved"),
    ],
    ids=["oracle", "oracle by construction", "reservoir", "learned", "pooled", "not solved"],
)
def test_verdicts(
    model: str, arguments: dict[str, Any], budget: int, expected: str, tmp_path: Path
) -> None:
    name = model if model in models.FAMILIES else own(tmp_path, model)
    made = made_of(run_of(tmp_path / "out", name, budget, **arguments), plain=True)
    verdicts = {row.name: row.verdict.word for row in made.rows}
    assert verdicts["sum"] == expected
    assert made.order_free == (model == "pooling")
    if model != "lstm":
        assert verdicts["difference"] == "not solved"
    if model == "Frozen":
        check_numbers(made.rows[0], mean="mean" in arguments)
    assert read(tmp_path / "out" / "certificate.json") == made


def check_numbers(row: Row, *, mean: bool) -> None:
    """The sum of the marked values is a feature: its readout is exact at every length; of the mean
    it is so at its own."""
    errors = {
        (at, tested): row.fitted(at, tested)
        for at, tested in ((30, 30), (30, T), (30, 10 * T), (T, T))
    }
    found = {
        lengths: error.mse
        for lengths, error in errors.items()
        if error is not None and error.mse is not None
    }
    assert len(found) == 4
    # At k times the length the prediction of a sum s is s / k: the error is that of (1 - 1 / k) s,
    # and E s^2 = 1/6 + 1.
    for (at, tested), mse in found.items():
        expected = (1 - at / tested) ** 2 * (1 / 6 + 1) if mean else 0.0
        assert mse == pytest.approx(expected, rel=0.1, abs=1e-10)


# --- what is left, and going on ---


class Cut:
    """A signal in the middle of a training, as Ctrl-C would come."""

    def on_step(self, event: StepEvent) -> None:
        """In the second epoch."""
        if (event.epoch, event.step) == (2, 3):
            signal.raise_signal(signal.SIGTERM)

    def on_epoch(self, row: EpochRow) -> None:
        """Nothing."""


class Counted:
    """Counts the steps, and knows the longest."""

    def __init__(self) -> None:
        self.steps, self.longest = 0, 0

    def on_step(self, event: StepEvent) -> None:
        """Count."""
        self.steps += 1
        self.longest = max(self.longest, event.length)

    def on_epoch(self, row: EpochRow) -> None:
        """Nothing."""


def test_a_cut_call_goes_on_and_finished_runs_are_kept(tmp_path: Path) -> None:
    arguments = {"hidden": 4}
    counted = Counted()
    uncut = made_of(run_of(tmp_path / "uncut", "rnn", 12_000, **arguments), counted, plain=True)
    assert counted.longest == max(row.trained.longest or 0 for row in uncut.rows)
    run = run_of(tmp_path / "cut", "rnn", 12_000, **arguments)

    @contextmanager
    def cut_in_the_second(name: str, run: config.RunConfig) -> Iterator[Listener | None]:
        yield Cut() if name == "sum" else None

    with pytest.raises(Interrupted):
        certify(
            run,
            following=cut_in_the_second,
            counting=lambda name: nullcontext(lambda done, total: None),
            plain=True,
        )
    finished = tmp_path / "cut" / "runs" / "sum-readout_alone" / "result.json"
    stamp = finished.stat().st_mtime_ns
    again = Counted()
    assert made_of(run, again, plain=True) == uncut
    assert finished.stat().st_mtime_ns == stamp
    assert 0 < again.steps < counted.steps
    kept = Counted()
    assert made_of(run, kept, plain=True) == uncut
    assert kept.steps == 0


def test_what_it_refuses(tmp_path: Path) -> None:
    run = run_of(tmp_path, "rnn")
    with pytest.raises(ConfigError, match=r"dataset\.t: expected more than 30 steps"):
        made_of(replace(run, dataset=replace(run.dataset, t=30)))
    with pytest.raises(ConfigError, match=r"train\.budget_steps: expected a budget"):
        made_of(replace(run, train=replace(run.train, budget_steps=None)))
    with pytest.raises(ConfigError, match=r"model\.start_from: expected null"):
        made_of(replace(run, model=replace(run.model, start_from="run")))


def record(**changes: Any) -> Certificate:
    row = Row(
        "sum",
        Task(),
        1 / 6,
        None,
        None,
        None,
        certificate.Training(
            certificate.Measured(T, 10, 0.1),
            certificate.Measured(10 * T, 10, None),
            30,
            1000,
            None,
            "budget",
            "sum",
        ),
        Verdict("not solved", "0.1"),
    )
    return replace(
        Certificate(
            "rnn", "0", None, 5, "fast", 0, T, 1000, "the output", None, (row,), (), ("a note",)
        ),
        **changes,
    )


def test_a_record_of_gaps_is_read_and_drawn(tmp_path: Path) -> None:
    path = tmp_path / "certificate.json"
    path.write_bytes(record().to_json())
    assert read(path) == record()
    page = card.render(read(path))
    assert "not finite" in page
    assert "<script" not in page
    named = replace(record(), title="</title><script>[bold]", notes=("<script>", "\x1b[31m"))
    assert "<script" not in card.render(named)
    printed = io.StringIO()
    with redirect_stdout(printed):
        certify_command.show(named, Console(file=printed))
    assert "[bold]" in printed.getvalue()
    assert "\x1b" not in printed.getvalue()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("t", "60"),
        ("t", True),
        ("rows", {}),
        ("rows", [None]),
        ("title", "\x1b[31mred"),
        ("notes", [3]),
        ("order", "much"),
        ("order", math.nan),
        ("model_source", 1),
    ],
)
def test_a_damaged_record_is_refused(key: str, value: Any, tmp_path: Path) -> None:
    path = tmp_path / "certificate.json"
    path.write_text(json.dumps(json.loads(record().to_json()) | {key: value}))
    with pytest.raises(RunFolderError, match=f"is not a certificate .{key}"):
        read(path)
    path.write_bytes(b"[" * 100_000)
    with pytest.raises(RunFolderError, match="is not a certificate"):
        read(path)


def test_the_command(tmp_path: Path, command: Command) -> None:
    folder = tmp_path / "<b>[bold]"
    folder.mkdir()
    (folder / "mine.py").write_text(MODELS)
    name = f"{folder.name}/mine.py:Scaled"
    done = command(
        "certify",
        "--model",
        name,
        "--t",
        T,
        "--budget",
        3000,
        "--threads",
        1,
        "--dataset.held_out",
        64,
    )
    assert done.returncode == 0, done.stderr
    for part in (
        "not solved",
        "fitted at 30, T = 600",
        "the model's output",
        "noise columns do not apply",
        "cannot be trained alone",
        "[bold]/mine.py:Scaled",
        "pooling, T = 60",
    ):
        assert part in done.stdout
    page = (tmp_path / "certificate" / "certificate.html").read_text()
    assert "<b>" not in page
    assert "&lt;b&gt;" in page
    made = read(tmp_path / "certificate" / "certificate.json")
    assert (made.t, made.budget, made.recipe, made.seed) == (T, 3000, "fast", 0)
    again = command(
        "certify",
        "--model",
        name,
        "--t",
        T,
        "--budget",
        3000,
        "--threads",
        1,
        "--dataset.held_out",
        64,
    )
    assert again.returncode == 0
    assert "training: sum, readout" not in again.stdout
    assert "training: sum" not in again.stdout  # read, not made again
    other = [
        "certify",
        "--model",
        name,
        "--t",
        T,
        "--budget",
        2999,
        "--threads",
        1,
        "--dataset.held_out",
        64,
    ]
    refused = command(*other)
    assert refused.returncode == 2
    assert "holds a run of another configuration" in refused.stderr
    assert command(*other, "--overwrite").returncode == 0
    assert read(tmp_path / "certificate" / "certificate.json").budget == 2999


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--dataset.target", "difference"],
            "--dataset.target: expected no value, for a certificate sets it",
        ),
        (["--train.budget_steps", "5"], "give --budget"),
        (["--artifacts", "x"], "give --out"),
        (["--t", "20"], "dataset.t: expected more than 30"),
        (["--model", "lstn"], "did you mean 'lstm'"),
    ],
)
def test_what_the_command_refuses(words: list[str], message: str, command: Command) -> None:
    done = command("certify", *words)
    assert done.returncode == 2
    assert message in done.stderr


def test_its_help(command: Command) -> None:
    done = command("certify", "--help")
    assert done.returncode == 0
    for part in ("--budget", "--out", "--t N", "oracle, reservoir"):
        assert part in done.stdout
