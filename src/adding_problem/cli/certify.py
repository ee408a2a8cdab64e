"""The command certify: the certificate made, and its card printed."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from adding_problem.cli import common
from adding_problem.cli.parsing import CommandParser
from adding_problem.config.values import Count, Length
from adding_problem.system import output
from adding_problem.system.output import say

if TYPE_CHECKING:
    from rich.console import Console

    from adding_problem.config import RunConfig
    from adding_problem.experiments.certificate import Certificate, Measured
    from adding_problem.training.loop import Listener

__all__ = ["DESCRIPTION", "EXAMPLES", "add_arguments", "run", "show"]

DESCRIPTION = (
    "Find out whether training made a model's memory. On up to five questions: fit a readout on "
    "the untrained model, train the readout alone, and train the model. The verdict on each is "
    "pooled, oracle, reservoir, learned or not solved. Takes minutes; repeat the command to "
    "continue an interrupted one. The default recipe is fast."
)
EXAMPLES = (
    "adding-problem certify --model gru",
    "adding-problem certify --model path/to/file.py:Class --t 300 --out mine",
)
_SHOWN = ("recipe", "model.name", "model.hidden", "train.learning_rate", "seed", "threads")
_T = 1_000
_STYLES = {"learned": "bold green", "not solved": "bold red"}


def add_arguments(parser: CommandParser) -> None:
    """What the command takes."""
    parser.option("--t", f"tested length T (default: that of --config, else {_T})", Length)
    parser.option(
        "--budget", "sequence-steps that each training may take", Count, default=10_000_000
    )
    parser.option("--out", "folder for the certificate and its runs", default="certificate")
    common.add_safety(parser, overwrite="certificate")
    parser.keys(_SHOWN, recipe="fast")


def run(arguments: Namespace) -> None:
    """Make the certificate, print its card and write it as a page."""
    run_config = _configuration(arguments)
    if run_config is None:
        return

    from adding_problem.experiments import certificate
    from adding_problem.report import card
    from adding_problem.training import progress

    console, folder = output.console(), Path(run_config.artifacts)

    @contextmanager
    def following(name: str, run: RunConfig) -> Iterator[Listener | None]:
        console.print(f"training: {name}, T = {run.dataset.t:,}", style="bold")
        with common.follow(run, console) as listener:
            yield listener

    def counting(name: str) -> AbstractContextManager[Callable[[int, int], None]]:
        return progress.counting(name, console)

    if arguments.overwrite:
        certificate.forget(folder)
    made = certificate.certify(run_config, following=following, counting=counting)
    card.write(made, folder / certificate.CARD)
    show(made, console)
    say(
        f"card:    {folder / certificate.CARD}",
        f"record:  {folder / certificate.RECORD}",
        f"runs:    {folder / certificate.RUNS}",
    )


def _configuration(arguments: Namespace) -> RunConfig | None:
    from adding_problem.experiments.certificate import SET_HERE

    instead = {
        "train.budget_steps": "give --budget in its place",
        "artifacts": "give --out in its place",
    }
    leave_out = dict.fromkeys(SET_HERE, "leave it out")
    common.refuse_keys(arguments, "a certificate", leave_out | instead)
    overrides = arguments.overrides
    if arguments.t is not None:
        overrides["dataset.t"] = arguments.t
    if arguments.config is None:
        overrides.setdefault("recipe", "fast")
        overrides.setdefault("dataset.t", _T)
    overrides["train.budget_steps"] = arguments.budget
    overrides["artifacts"] = arguments.out
    return common.configuration_of(arguments)


# --- the card on a terminal ----------------------------------------------------------------------


def show(made: Certificate, console: Console) -> None:
    """A column for each question, a line for each number, then what the verdicts rest on."""
    from rich import box
    from rich.markup import escape
    from rich.table import Column, Table

    table = Table(
        Column("", no_wrap=True),
        *(Column(escape(_heading(row.name)), justify="right", no_wrap=True) for row in made.rows),
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        title=f"{escape(made.title)}, T = {made.t:,}, seed {made.seed}",
    )
    words = [row.verdict.word for row in made.rows]
    styled = (f"[{_STYLES.get(word, 'bold yellow')}]{word}[/]" for word in words)
    table.add_row("verdict", *styled, end_section=True)
    for label, cells in _lines(made):
        table.add_row(label, *cells, style="dim" if label.startswith("pooling") else "")
    console.print(table)
    say(
        "Mean squared errors on test sequences. Fitted: a readout on the untrained model, on "
        f"{made.features}.",
        "Exchanged, rotated and noise: the difference, from changed inputs. "
        f"Each training: recipe {made.recipe}, at most {made.budget:,} sequence-steps.",
    )
    say(*(f"{row.name}: {row.verdict.word}: {row.verdict.reason}" for row in made.rows))
    say(*(f"note: {note}" for note in made.notes))


def _heading(name: str) -> str:
    """What is changed, or the target where nothing is."""
    return name.rpartition(", ")[2].replace(" columns", "\ncolumns")


def _lines(made: Certificate) -> Iterator[tuple[str, list[str]]]:
    """Label and cells of the table below its verdicts."""
    from adding_problem.config.values import short_count
    from adding_problem.experiments.certificate import SHORT

    rows, t, ten = made.rows, made.t, 10 * made.t
    yield "mean baseline", [f"{row.baseline:.3f}" for row in rows]
    for at, tested in ((SHORT, SHORT), (SHORT, t), (SHORT, ten), (t, t)):
        yield f"fitted at {at:,}, T = {tested:,}", [_error(row.fitted(at, tested)) for row in rows]
    yield f"readout alone, T = {t:,}", [_error(row.alone) for row in rows]
    trainings = [row.trained for row in rows]
    yield f"trained, T = {t:,}", [_error(trained.error) for trained in trainings]
    yield f"trained, T = {ten:,}", [_error(trained.beyond) for trained in trainings]
    longest = [trained.longest for trained in trainings]
    yield "longest trained", ["-" if length is None else f"{length:,}" for length in longest]
    steps = [trained.to_solved for trained in trainings]
    yield "steps to 1e-3", ["never" if n is None else short_count(n) for n in steps]
    if made.pooling:
        yield f"pooling, T = {t:,}", [_error(control.trained.error) for control in made.pooling]
        yield f"pooling, T = {ten:,}", [_error(control.trained.beyond) for control in made.pooling]


def _error(measured: Measured | None) -> str:
    if measured is None:
        return "-"
    return "not finite" if measured.mse is None else f"{measured.mse:.1e}"
