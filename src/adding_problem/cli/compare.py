"""The command compare."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adding_problem.cli import common
from adding_problem.cli.parsing import CommandParser
from adding_problem.config import COMMAND_LINE
from adding_problem.errors import ConfigError, nearest
from adding_problem.system import output
from adding_problem.system.output import say

if TYPE_CHECKING:
    from rich.console import Console

    from adding_problem.analysis.aggregate import Group, TableRow
    from adding_problem.analysis.tables import Table

__all__ = ["DESCRIPTION", "EXAMPLES", "add_arguments", "run"]

DESCRIPTION = (
    "Print statistics over the seeds of run folders; draw their best loss against T and their "
    "curves. Methods are named by model, recipe and the settings that differ. Of horizon runs, "
    "show the lengths that were solved, by method and budget."
)
EXAMPLES = (
    "adding-problem compare artifacts/original/*",
    "adding-problem compare artifacts/sweep/t=* --out comparison.svg",
    "adding-problem compare artifacts/horizon/* --out horizons.tex",
    "adding-problem compare artifacts/* --test 'GRU, fast' 'LSTM, fast, init keyed'",
)
_MOST_RUNS = 12  # in a table of runs
_MOST_GROUPS = 8  # of a method and a length, in a table of statistics
_MOST_TESTED = 3  # methods, every two of which are compared on their seeds
_LONGEST_NAME = 40
_PICTURE = "comparison.png"
_WIDE = 100  # columns of a terminal, from which a method takes one line


def add_arguments(parser: CommandParser) -> None:
    """What the command takes."""
    parser.positional("folders", "run folders, or folders of horizon runs", many=True)
    parser.option(
        "--out",
        "picture or table to write: .png, .pdf, .svg, .csv, .json, .tex or .md "
        f"(default: {_PICTURE})",
    )
    parser.option(
        "--original",
        "JSON of the original system's curves to draw beside them: docs/original_curves.json",
    )
    parser.option("--test", "two methods, by name, to compare seed by seed", many=True)


def run(arguments: Namespace) -> None:
    """Print tables of horizon runs and of other runs, and write a table or a picture of them."""
    from adding_problem.analysis import aggregate, horizons, plots, tables
    from adding_problem.analysis.original import read_original
    from adding_problem.runs.collection import horizon_folders
    from adding_problem.runs.folder import RunFolder

    out = common.out_file(arguments.out or _PICTURE, (*common.PICTURES, *tables.FORMATS))
    draws = out.suffix in common.PICTURES
    originals = read_original(Path(arguments.original)) if arguments.original else []
    found = {folder: horizon_folders(Path(folder)) for folder in arguments.folders}
    of_methods = horizons.read_horizons([path for paths in found.values() for path in paths])
    runs = [RunFolder(folder).read() for folder, paths in found.items() if not paths]
    groups, console = aggregate.group_runs(runs), output.console()
    tested = _tested(groups, arguments.test)
    if arguments.out and draws and not runs:
        expected = f"a table, {', '.join(tables.FORMATS)}, of horizon runs alone"
        hint = "each has a picture in its folder; adding-problem report draws them on one page"
        raise ConfigError("--out", expected, str(out), hint, COMMAND_LINE)
    reached = [horizons.table_of(of_methods)] if of_methods else []
    for table in reached:
        common.show_table(table, console)
    notes: list[str] = []
    if runs:
        _print_runs(aggregate.table_rows(runs, originals), console)
        _print_groups(groups, console)
        notes = [*_remarks(groups), *_tests(tested)]
        say(*notes)
        if not tested:
            say("more than three methods: --test NAME NAME compares two of them seed by seed")
    if not draws:
        shown = [*reached, _seeds(groups)] if runs else reached
        records = [*horizons.records_of(of_methods), *map(_record, groups)]
        tables.write(out, shown, records, notes)
        say(f"table:   {out}")
    elif runs:
        plots.draw_comparison(out, groups, originals)
        say(f"picture: {out}")


def _print_runs(rows: Sequence[TableRow], console: Console) -> None:
    from adding_problem.analysis import aggregate
    from adding_problem.analysis.tables import Table, rule_above

    first = aggregate.equals([row.weights for row in rows])
    models = first.count(None)
    if models < len(first):
        say(f"{len(first)} runs, {models} models: runs with the same weights are one model")
    if len(rows) > _MOST_RUNS:
        say(f"{len(rows)} runs; adding-problem report shows each of them")
        return
    cells = []
    for row, same in zip(rows, first, strict=True):
        oracle = [common.ORACLE] if row.oracle else []
        again = [] if same is None else [f"same weights as {rows[same].name}"]
        name = "\n".join([row.name, *oracle, *again])
        longest = aggregate.lengths_in_words([row.longest])
        cells.append((name, f"{row.t:,}", longest, str(row.epochs), f"{row.lowest:.2e}"))
    heading = ("run", "tested\nT", "longest\ntrained", "epochs", "lowest\nval. MSE")
    table = Table("Runs", heading, tuple(cells), rule=rule_above(row.oracle for row in rows))
    common.show_table(table, console)


def _print_groups(found: Sequence[Group], console: Console) -> None:
    """What several seeds say together: a row for each group, or of many for each method."""
    if len(found) > _MOST_GROUPS:
        common.show_table(_overview(found, console), console)
    elif max(len(group.runs) for group in found) > 1:
        common.show_table(_seeds(found, _folded), console)


def _remarks(found: Sequence[Group]) -> Iterator[str]:
    """What the models were told, and what limits the conclusions."""
    yield from dict.fromkeys(f"init {group.told}" for group in found if group.told)
    remarks: dict[str, list[str]] = {}
    for group in found:
        remarks.setdefault(group.remark, []).append(f"{group.method}, T = {group.t:,}")
    for remark, places in remarks.items():
        if remark:
            many = f"{len(places)} of {len(found)} methods and lengths"
            yield f"{places[0] if len(places) == 1 else many}: {remark}"


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


def _tests(tested: Sequence[Group]) -> Iterator[str]:
    """Two methods on the same seeds."""
    from adding_problem.analysis.aggregate import comparisons

    sentences = comparisons(tested)
    if len(sentences) > 1:
        yield f"{len(sentences)} comparisons; Holm's method corrects p-values for their number:"
    yield from sentences


def _overview(found: Sequence[Group], console: Console) -> Table:
    """A row for each method, a column for each length."""
    from adding_problem.analysis.aggregate import lengths_in_words
    from adding_problem.analysis.tables import Table, rule_above
    from adding_problem.config.values import short_loss

    lengths = sorted({group.t for group in found})
    several = len({group.task for group in found}) > 1
    between = " " if console.width >= _WIDE else "\n"
    methods: dict[tuple[str, str], dict[int, Group]] = {}
    for group in found:
        methods.setdefault((group.method, group.task.title), {})[group.t] = group
    rows = []
    for (method, task), here in methods.items():
        name = output.shorten(method, _LONGEST_NAME) if console.is_terminal else method
        cells = (
            f"{one.solved.successes}/{one.solved.n}{between}{short_loss(one.losses.median)}"
            if (one := here.get(t))
            else "-"
            for t in lengths
        )
        trained = lengths_in_words(run.longest for one in here.values() for run in one.runs)
        trained = trained.replace(" to ", f" to{between}")
        rows.append((f"{name}, {task}" if several else name, trained, *cells))
    return Table(
        f"Solved runs of all, and the median {found[0].measure}, by tested T",
        ("method", f"longest{between}trained", *(f"{t:,}" for t in lengths)),
        tuple(rows),
        rule=rule_above(next(iter(here.values())).oracle for here in methods.values()),
    )


def _seeds(found: Sequence[Group], cell: Callable[[object], str] = str) -> Table:
    """A row for each method and length; a figure and its interval become a cell's text."""
    from adding_problem.analysis.tables import Table, rule_above

    several = len({group.task for group in found}) > 1
    task = "" if several else f" ({found[0].task.title})"
    rows = (
        (
            f"{group.method}, {group.task.title}" if several else group.method,
            f"{group.t:,}",
            cell(group.longest),
            cell(group.solved),
            cell(group.losses),
            *(cell(group.cost(threshold, "sequence_steps")) for threshold in ("1e-2", "1e-3")),
        )
        for group in found
    )
    return Table(
        f"Over the seeds{task}: medians with 95% intervals, of fewer than six seeds and of costs "
        "with ranges; unsolved runs censored",
        (
            "method",
            "tested\nT",
            "longest\ntrained",
            "solved",
            f"median {found[0].measure}".replace(" ", "\n"),
            "steps to\n1e-2",
            "steps to\n1e-3",
        ),
        tuple(rows),
        rule=rule_above(group.oracle for group in found),
    )


def _folded(value: object) -> str:
    """A figure and its interval, on three lines."""
    middle, _, interval = str(value).partition(" (")
    ends = interval.removeprefix("range ").rstrip(")")
    whole = "\n".join(filter(None, [middle, ends]))
    return whole.replace(" to ", "\nto ").replace(", ", ",\n")


def _record(group: Group) -> dict[str, Any]:
    """A method and a length, for .csv and .json."""
    return {
        "method": group.method,
        "task": group.task.title,
        "t": group.t,
        "longest": group.longest,
        "seeds": [run.seed for run in group.runs],
        "measure": group.measure,
        "losses": group.values,
        "solved": asdict(group.solved),
        "median": asdict(group.losses),
        "steps_to_1e-2": asdict(group.cost("1e-2", "sequence_steps")),
        "steps_to_1e-3": asdict(group.cost("1e-3", "sequence_steps")),
    }
