"""The command diagnose."""

from __future__ import annotations

import dataclasses
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from adding_problem.cli import common
from adding_problem.cli.parsing import CommandParser
from adding_problem.config import COMMAND_LINE
from adding_problem.config.values import Count, Length
from adding_problem.errors import ConfigError
from adding_problem.runs import atomic_io
from adding_problem.system import output
from adding_problem.system.output import say

if TYPE_CHECKING:
    from adding_problem.evaluation.diagnose import Diagnosis, Scored

__all__ = ["DESCRIPTION", "EXAMPLES", "add_arguments", "run"]

DESCRIPTION = (
    "Say why a trained model fails beyond its trained length. It measures, on the predictions, how "
    "unmarked values leak in, how the mean drifts and how marked values fade. From these it "
    "predicts the T at which the MSE passes 1e-3, then scores the model at longer and longer T. "
    "Takes a minute."
)
EXAMPLES = (
    "adding-problem diagnose artifacts/mine --trust",
    "adding-problem diagnose artifacts/150 --limit 1000000 --out diagnosis.json",
)
_TIMES = 100  # the trained length, to score up to


def add_arguments(parser: CommandParser) -> None:
    """What the command takes."""
    parser.positional("run", "run folder")
    parser.option("--limit", f"longest T to score at ({_TIMES} times the trained length)", Length)
    parser.option("--threads", "CPU threads (default: the run's)", Count)
    parser.option("--out", "JSON file to write")
    common.add_safety(parser)


def run(arguments: Namespace) -> None:
    """Measure, predict, score and print."""
    from adding_problem.evaluation import diagnose
    from adding_problem.runs.folder import RunFolder

    record = RunFolder(arguments.run).read(score=False)
    here = {"artifacts": arguments.run, "device": "auto", "backend": "auto"}
    threads = arguments.threads or record.config.threads
    t = record.longest or record.t
    limit = arguments.limit or _TIMES * t
    if limit < t:
        expected = f"at least the trained length, {t:,}"
        hint = "raise --limit, or leave it out"
        raise ConfigError("--limit", expected, str(limit), hint, COMMAND_LINE)
    found = diagnose.diagnose_run(
        replace(record.config, **here, threads=threads),
        t,
        limit=limit,
        trust=arguments.trust,
        on_score=_say_score,
    )
    _show(record.config.model.title, found)
    if arguments.out:
        atomic_io.make_folder(Path(arguments.out).parent)
        atomic_io.write_json(Path(arguments.out), dataclasses.asdict(found))
        say(f"record: {arguments.out}")


def _say_score(scored: Scored) -> None:
    say(f"T = {scored.t:,}: MSE {scored.mse:.1e} on {scored.sequences:,} test sequences")


def _show(title: str, found: Diagnosis) -> None:
    """The card: a line for each cause, then the length at which the error passes 1e-3."""
    from rich import box
    from rich.table import Column, Table

    table = Table(
        Column("", no_wrap=True, style="bold"),
        Column("measured"),
        Column("of the error", justify="right"),
        box=box.SIMPLE_HEAD,
    )
    for name, text in _lines(found):
        table.add_row(name, text, f"{found.causes[name]:.0%}")
    say(f"{title}, trained up to T = {found.t:,}")
    output.console().print(table)
    at = found.predicted or found.limit
    say(
        f"The shares are of the MSE that is predicted at T = {at:,}.",
        f"MSE above 1e-3: predicted {_length(found.predicted, found)}, "
        f"measured {_length(found.measured, found)}",
    )


def _lines(found: Diagnosis) -> Iterator[tuple[str, str]]:
    """Each part of the error, and what was measured of it."""
    yield "readout", f"{found.readout_error:.1e} of an MSE of {found.mse:.1e} at T = {found.t:,}"
    yield (
        "leak-in",
        f"{found.leak_in:.1e} for a unit of an unmarked value; "
        f"its variance goes on as T^{found.leak_in_growth:.1f}",
    )
    on = "and settles" if found.drift_growth < 0 else f"and goes on as T^{found.drift_growth:.1f}"
    moves = f"the mean moves by {found.drift:+.1e} a step {on}"
    yield "drift", moves if found.drift else "the mean does not move"
    loses = f"a marked value loses {found.leak_out:.1e} of itself a step"
    half = "" if found.reach is None else f"; half is left after {found.reach:,} steps"
    yield "leak-out", (loses if found.leak_out else "no decay of marked values") + half


def _length(t: int | None, found: Diagnosis) -> str:
    return f"beyond {found.limit:,}" if t is None else f"T = {t:,}"
