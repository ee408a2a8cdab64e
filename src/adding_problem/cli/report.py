"""The command report."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Literal

from adding_problem.cli import common
from adding_problem.cli.parsing import CommandParser
from adding_problem.config.values import Count, Length
from adding_problem.errors import on_one_line
from adding_problem.system import output
from adding_problem.system.output import say

__all__ = ["DESCRIPTION", "EXAMPLES", "add_arguments", "run"]

DESCRIPTION = (
    "Write one HTML page about runs: curves, lengths, errors, memory, and a model to play with. It "
    "needs no network."
)
EXAMPLES = (
    "adding-problem report artifacts/sweep",
    "adding-problem report artifacts/* --pictures figures --format pdf",
)


def add_arguments(parser: CommandParser) -> None:
    """What the command takes."""
    parser.positional("folders", "run folders, or folders of them such as a sweep's", many=True)
    parser.option("--out", "page to write", default="report.html")
    parser.option(
        "--certificates", "memory certificates: certificate.json, or a record of several", many=True
    )
    parser.option("--title", "title of the page", default="The adding problem")
    parser.option(
        "--lengths",
        "lengths to test at (default: those trained, and up to ten times the longest)",
        Length,
        many=True,
    )
    parser.option("--sequences", "test sequences for each model", Count, default=500)
    parser.option(
        "--models",
        "most models to score; of more, the best run of each method and length",
        Count,
        default=16,
    )
    parser.option("--pictures", "also write the figures as pictures, into this folder")
    parser.option("--format", "of these pictures", Literal["png", "pdf", "svg"], default="png")
    parser.option("--threads", "CPU threads (default: one per core)", Count)


def run(arguments: Namespace) -> None:
    """Write the page and print where."""
    from adding_problem import report
    from adding_problem.report.summary import all_solved, distinct
    from adding_problem.training import progress

    out, pictures = Path(arguments.out), Path(arguments.pictures) if arguments.pictures else None
    with progress.counting("scoring", output.console()) as counter:
        found = report.write(
            arguments.folders,
            out,
            title=arguments.title,
            certificates=arguments.certificates or (),
            lengths=arguments.lengths,
            sequences=arguments.sequences,
            models=arguments.models,
            threads=arguments.threads,
            pictures=pictures,
            suffix=arguments.format,
            on_progress=counter,
        )
    for problem in found.left_out:
        say(f"left out: {on_one_line(problem)}", error=True)
    learners = [run for run in found.runs if not run.oracle]
    oracles = [run for run in found.runs if run.oracle]
    for told, runs in (("", learners), (f" ({common.ORACLE})", oracles)):
        models = distinct(runs)
        several = f" of {len(models)} models" if len(models) < len(runs) else ""
        if runs:
            say(f"{len(runs)} runs{several}, {sum(map(all_solved, models))} solved{told}")
    say(f"page:    {out} ({out.stat().st_size / 1e6:.1f} MB)")
    if pictures:
        say(f"pictures: {pictures}")
