"""The command compare."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from adding_problem.cli import common
from adding_problem.cli.parsing import CommandParser
from adding_problem.config import COMMAND_LINE
from adding_problem.errors import ConfigError, nearest
from adding_problem.system import output
from adding_problem.system.output import say

if TYPE_CHECKING:
    from rich.console import Console

    from adding_problem.analysis.aggregate import Group, TableRow

__all__ = ["DESCRIPTION", "EXAMPLES", "add_arguments", "run"]

DESCRIPTION = (
    "Print statistics over the seeds of run folders; draw their best loss against T and their "
    "curves. Methods are named by model, recipe and the settings that differ."
)
EXAMPLES = (
    "adding-problem compare artifacts/original/*",
    "adding-problem compare artifacts/* --out comparison.svg",
    "adding-problem compare artifacts/* --test 'GRU, fast' 'LSTM, fast, init keyed'",
)
_MOST_RUNS = 20  # in a table of runs
_MOST_GROUPS = 8  # of a method and a length, in a table of statistics
_MOST_TESTED = 3  # methods, every two of which are compared on their seeds
_LONGEST_NAME = 40
_WIDE = 100  # columns of a terminal, from which a method takes one line


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
    parser.option("--test", "two methods, by name, to compare seed by seed", many=True)


def run(arguments: Namespace) -> None:
    """Print a table of runs and draw them."""
    from adding_problem.analysis import aggregate, plots
    from adding_problem.analysis.original import read_original
    from adding_problem.runs.folder import RunFolder

    out = common.picture(arguments.out, arguments.format)
    originals = read_original(Path(arguments.original)) if arguments.original else []
    runs = [RunFolder(folder).read() for folder in arguments.folders]
    groups, console = aggregate.group_runs(runs), output.console()
    tested = _tested(groups, arguments.test)
    plots.draw_comparison(out, groups, originals)
    _print_runs(aggregate.table_rows(runs, originals), console)
    _print_groups(groups, console)
    _print_tests(tested)
    say(f"picture: {out}")


def _print_runs(rows: Sequence[TableRow], console: Console) -> None:
    from rich.markup import escape
    from rich.table import Column, Table

    from adding_problem.analysis import aggregate

    first = aggregate.equals([row.weights for row in rows])
    models = first.count(None)
    if models < len(first):
        say(f"{len(first)} runs, {models} models: runs with the same weights are one model")
    if len(rows) > _MOST_RUNS:
        say(f"{len(rows)} runs; adding-problem report shows each of them")
        return
    table = Table(
        "tested T",
        "longest trained",
        Column("run", overflow="fold"),
        "epochs",
        "lowest validation MSE",
    )
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


def _print_groups(found: Sequence[Group], console: Console) -> None:
    """What several seeds say together, and what limits it."""
    if len(found) > _MOST_GROUPS:
        _print_overview(found, console)
    elif max(len(group.runs) for group in found) > 1:
        _print_seeds(found, console)
    say(*dict.fromkeys(f"init {group.told}" for group in found if group.told))
    remarks: dict[str, list[str]] = {}
    for group in found:
        remarks.setdefault(group.remark, []).append(f"{group.method}, T = {group.t:,}")
    for remark, places in remarks.items():
        if remark:
            many = f"{len(places)} of {len(found)} methods and lengths"
            say(f"{places[0] if len(places) == 1 else many}: {remark}")


def _tested(groups: Sequence[Group], names: Sequence[str] | None) -> list[Group]:
    """The groups of the methods to compare; all groups where few methods are there."""
    methods = list(dict.fromkeys(group.method for group in groups))
    if names is None:
        return list(groups) if len(methods) <= _MOST_TESTED else []
    if len(set(names)) != 2:
        hint = "name two, each in quotes"
        raise ConfigError("--test", "two methods", str(len(names)), hint, COMMAND_LINE)
    for name in names:
        if name not in methods:
            expected = "a method of these runs"
            raise ConfigError("--test", expected, repr(name), nearest(name, methods), COMMAND_LINE)
    return [group for group in groups if group.method in names]


def _print_tests(tested: Sequence[Group]) -> None:
    """Two methods on the same seeds."""
    from adding_problem.analysis.aggregate import comparisons

    if not tested:
        say("more than three methods: --test NAME NAME compares two of them seed by seed")
    sentences = comparisons(tested)
    if len(sentences) > 1:
        say(f"{len(sentences)} comparisons, p-values not corrected for their number:")
    say(*sentences)


def _print_overview(found: Sequence[Group], console: Console) -> None:
    """A row for each method, a column for each length."""
    from rich.markup import escape
    from rich.table import Column, Table

    from adding_problem.analysis.aggregate import lengths_in_words
    from adding_problem.analysis.statistics import short_loss

    lengths = sorted({group.t for group in found})
    several = len({group.task for group in found}) > 1
    between = " " if console.width >= _WIDE else "\n"
    table = Table(
        Column("method", overflow="fold", min_width=20),
        f"longest{between}trained",
        *(Column(f"{t:,}", justify="right", no_wrap=True) for t in lengths),
        title=f"Solved runs of all, and the median {found[0].measure}, by tested T",
    )
    methods: dict[tuple[str, str], dict[int, Group]] = {}
    for group in found:
        methods.setdefault((group.method, group.task.title), {})[group.t] = group
    above: bool | None = None
    for (method, task), here in methods.items():
        oracle = next(iter(here.values())).oracle
        if oracle and above is False:
            table.add_section()
        above = oracle
        name = output.shorten(method, _LONGEST_NAME) if console.is_terminal else method
        cells = (
            f"{one.solved.successes}/{one.solved.n}{between}{short_loss(one.losses.median)}"
            if (one := here.get(t))
            else "-"
            for t in lengths
        )
        trained = lengths_in_words(run.longest for one in here.values() for run in one.runs)
        trained = trained.replace(" to ", f" to{between}")
        table.add_row(escape(f"{name}, {task}" if several else name), trained, *cells)
    console.print(table)


def _print_seeds(found: Sequence[Group], console: Console) -> None:
    from rich.markup import escape
    from rich.table import Table

    several = len({group.task for group in found}) > 1
    task = "" if several else f" (task: {found[0].task.title})"
    table = Table(
        "tested\nT",
        "longest\ntrained",
        "method",
        "solved",
        "median MSE",
        "steps and sequences to 1e-2",
        "to 1e-3",
        title=f"Over the seeds{task}: {found[0].measure} and costs, medians with 95% intervals or "
        "ranges, unsolved runs censored",
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
            escape(f"{group.method} ({group.task.title})" if several else group.method),
            str(group.solved).replace(" (", "\n("),
            f"{group.losses}".replace(" (", "\n("),
            *costs,
        )
    console.print(table)
