"""The command certify: the certificate made, and its card printed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import Namespace

from adding_problem import config
from adding_problem.cli import runs
from adding_problem.errors import ConfigError
from adding_problem.system import output
from adding_problem.system.output import say

if TYPE_CHECKING:
    from rich.console import Console

    from adding_problem.config import RunConfig
    from adding_problem.experiments.certificate import Certificate, Measured
    from adding_problem.training.loop import Listener

__all__ = ["BUDGET", "OUT", "certify", "show"]

BUDGET, OUT = 10_000_000, "certificate"
_T = 1_000

_STYLES = {"learned": "bold green", "not solved": "bold red"}


def certify(arguments: Namespace) -> None:
    """Make the certificate, print its card and write it as a page."""
    run_config = _configuration(arguments)
    if run_config is None:
        return
    from rich.markup import escape

    from adding_problem.experiments import certificate
    from adding_problem.report import card
    from adding_problem.training import loggers, progress

    console, folder = output.console(), Path(run_config.artifacts)

    @contextmanager
    def following(name: str, run: RunConfig) -> Iterator[Listener | None]:
        console.print(f"training: {name}, T = {run.dataset.t:,}", style="bold")
        with (
            progress.TrainingDisplay(run, console) as shown,
            loggers.attach(run, shown) as listener,
        ):
            yield listener

    def counting(name: str) -> AbstractContextManager[Callable[[int, int], None]]:
        return progress.counting(escape(name), console)

    if arguments.overwrite:
        certificate.forget(folder, takeover=arguments.takeover)
    made = certificate.certify(
        run_config, takeover=arguments.takeover, following=following, counting=counting
    )
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
    for key in SET_HERE:
        if key in arguments:
            raise ConfigError(
                f"--{key}",
                "no value, for a certificate sets it",
                "one",
                instead.get(key, "leave it out"),
                config.COMMAND_LINE,
            )
    if "recipe" not in arguments and arguments.config is None:
        arguments.recipe = "fast"
    if arguments.t is not None:
        arguments["dataset.t"] = arguments.t
    elif "dataset.t" not in arguments and arguments.config is None:
        arguments["dataset.t"] = _T
    arguments["train.budget_steps"] = arguments.budget
    arguments.artifacts = arguments.out
    return runs.configuration_of(arguments)


# --- the card on a terminal ------------------------------------------------------------------------------------------


def show(made: Certificate, console: Console) -> None:
    """A column for each question, a line for each number, then what the verdicts rest on."""
    from rich import box
    from rich.markup import escape
    from rich.table import Column, Table

    columns = [
        Column(escape(_heading(row.name)), justify="right", no_wrap=True) for row in made.rows
    ]
    table = Table(
        Column("", no_wrap=True),
        *columns,
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        title=f"{escape(made.title)}, T = {made.t:,}, seed {made.seed}",
    )
    styles = [_STYLES.get(row.verdict.word, "bold yellow") for row in made.rows]
    table.add_row(
        "verdict",
        *(f"[{style}]{row.verdict.word}[/]" for style, row in zip(styles, made.rows, strict=True)),
        end_section=True,
    )
    for label, cells in _lines(made):
        table.add_row(label, *cells, style="dim" if label.startswith("pooling") else "")
    console.print(table)
    say(
        f"Mean squared errors on new sequences. Fitted: a readout on the untrained model, on {made.features}.",
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
    from adding_problem.analysis.statistics import short_count
    from adding_problem.experiments.certificate import SHORT

    rows, t, ten = made.rows, made.t, 10 * made.t
    yield "mean baseline", [f"{row.baseline:.3f}" for row in rows]
    for at, tested in ((SHORT, SHORT), (SHORT, t), (SHORT, ten), (t, t)):
        yield f"fitted at {at:,}, T = {tested:,}", [_error(row.fitted(at, tested)) for row in rows]
    yield f"readout alone, T = {t:,}", [_error(row.alone) for row in rows]
    yield f"trained, T = {t:,}", [_error(row.trained.error) for row in rows]
    yield f"trained, T = {ten:,}", [_error(row.trained.beyond) for row in rows]
    yield (
        "longest trained",
        ["-" if row.trained.longest is None else f"{row.trained.longest:,}" for row in rows],
    )
    yield (
        "steps to 1e-3",
        [
            "never" if row.trained.to_solved is None else short_count(row.trained.to_solved)
            for row in rows
        ],
    )
    if made.pooling:
        yield f"pooling, T = {t:,}", [_error(control.trained.error) for control in made.pooling]
        yield f"pooling, T = {ten:,}", [_error(control.trained.beyond) for control in made.pooling]


def _error(measured: Measured | None) -> str:
    if measured is None:
        return "-"
    return "not finite" if measured.mse is None else f"{measured.mse:.1e}"
