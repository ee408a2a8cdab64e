"""The command compare."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from adding_problem.cli import common
from adding_problem.cli.parsing import CommandParser
from adding_problem.system import output
from adding_problem.system.output import say

if TYPE_CHECKING:
    from rich.console import Console

    from adding_problem.analysis.aggregate import Group, TableRow

__all__ = ["DESCRIPTION", "EXAMPLES", "add_arguments", "run"]

DESCRIPTION = (
    "Statistics over seeds of several run folders, their best loss against T and their curves."
)
EXAMPLES = (
    "adding-problem compare artifacts/original/*",
    "adding-problem compare artifacts/* --out comparison.svg",
)


def add_arguments(parser: CommandParser) -> None:
    """What the command takes."""
    parser.positional("folders", "run folders, such as artifacts/original/*", many=True)
    parser.option("--out", "picture to write: .png, .pdf or .svg", default="comparison.png")
    parser.option(
        "--format", "of the picture, instead of the suffix of --out", Literal["png", "pdf", "svg"]
    )
    parser.option(
        "--original",
        "JSON of the original system's curves to draw beside them: docs/original_curves.json",
    )


def run(arguments: Namespace) -> None:
    """Print a table of runs and draw them."""
    from adding_problem.analysis import aggregate, plots
    from adding_problem.analysis.original import read_original
    from adding_problem.runs.folder import RunFolder

    out = common.picture(arguments.out, arguments.format)
    originals = read_original(Path(arguments.original)) if arguments.original else []
    runs = [RunFolder(folder).read() for folder in arguments.folders]
    groups, console = aggregate.group_runs(runs), output.console()
    plots.draw_comparison(out, groups, originals)
    _print_runs(aggregate.table_rows(runs, originals), console)
    _print_groups(groups, console)
    say(f"picture: {out}")


def _print_runs(rows: Sequence[TableRow], console: Console) -> None:
    from rich.markup import escape
    from rich.table import Column, Table

    from adding_problem.analysis import aggregate

    table = Table(
        "tested T",
        "longest trained",
        Column("run", overflow="fold"),
        "epochs",
        "lowest validation MSE",
    )
    first = aggregate.equals([row.weights for row in rows])
    for row, above, same in zip(rows, [None, *rows], first, strict=False):
        if above and row.oracle and not above.oracle:
            table.add_section()
        oracle = [common.ORACLE] if row.oracle else []
        again = [] if same is None else [f"same weights as {rows[same].name}"]
        table.add_row(
            f"{row.t:,}",
            aggregate.lengths_in_words([row.longest]),
            escape("\n".join([row.name, *oracle, *again])),
            str(row.epochs),
            f"{row.lowest:.2e}",
        )
    console.print(table)
    models = first.count(None)
    if models < len(first):
        say(f"{len(first)} runs, {models} models: runs with the same weights are one model")


def _print_groups(found: list[Group], console: Console) -> None:
    """What several seeds say together, and two methods on the same seeds."""
    from adding_problem.analysis.aggregate import comparisons

    if max(len(group.seeds) for group in found) > 1:
        _print_seeds(found, console)
    remarks = {
        f"{group.method}, T = {group.t:,}: {group.remark}" for group in found if group.remark
    }
    say(*sorted(remarks))
    sentences = comparisons(found)
    if len(sentences) > 1:
        say(f"{len(sentences)} comparisons, p-values not corrected for their number:")
    say(*sentences)


def _print_seeds(found: list[Group], console: Console) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(
        "tested\nT",
        "longest\ntrained",
        "method",
        "solved",
        "median MSE",
        "steps and sequences to 1e-2",
        "to 1e-3",
        title="Over the seeds, with 95% intervals; costs: median (range), unsolved runs censored",
    )
    for group, above in zip(found, [None, *found], strict=False):
        if above and group.oracle and not above.oracle:
            table.add_section()
        costs = (
            f"{group.cost(threshold, 'sequence_steps')}\n{group.cost(threshold, 'sequences')}"
            for threshold in ("1e-2", "1e-3")
        )
        table.add_row(
            f"{group.t:,}",
            group.longest,
            escape(f"{group.method}, {group.task.title}"),
            str(group.solved).replace(" (", "\n("),
            f"{group.losses}".replace(" (", "\n(") + f"\n{group.measure}",
            *costs,
        )
    console.print(table)
