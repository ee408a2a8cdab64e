"""What a sweep shows: its plan, a bar and its runs while they go on, and what they found."""

from __future__ import annotations

import math
import shlex
import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.live import Live
from rich.markup import escape
from rich.table import Column, Table
from rich.text import Text

from adding_problem.analysis.names import method_names
from adding_problem.analysis.statistics import losses
from adding_problem.config.values import short_count, short_loss
from adding_problem.errors import RunFolderError, printable
from adding_problem.experiments.sweep.driver import Board, Entry
from adding_problem.experiments.sweep.job import Job, finished
from adding_problem.experiments.sweep.plan import PlannedRun, most_sequence_steps
from adding_problem.runs.folder import RunFolder
from adding_problem.runs.records import EpochRow, lowest_val_loss
from adding_problem.system.output import say, shorten
from adding_problem.task.thresholds import SOLVED
from adding_problem.training.progress import bars, time_left

__all__ = ["SweepDisplay", "dry_run", "render", "show_results"]

_REDRAW_SECONDS = 0.5
_FOLDED = ("run", "why")
_COLUMNS = ("run", "state", "epoch", "steps", "seconds", "validation", "test", "why")
# Columns that a narrow terminal goes without, in this order.
_DISPENSABLE = ("seconds", "epoch", "steps", "why", "test", "validation")
_LONGEST_FOLDER = 24  # characters of the sweep's folder beside the bar
_LONGEST_WHY = 160  # characters of a message, which ends with what was found
_FOLDED_WIDTH = 24  # that a column of names or messages keeps before others give way
_COLORS = {
    "running": "cyan",
    "failed": "red",
    "held": "yellow",
    "done": "green",
    "queued": "dim",
}
_ORDER = {state: place for place, state in enumerate(_COLORS)}


@dataclass(frozen=True)
class Line:
    """One run as a table shows it; None where it is not known yet."""

    name: str
    state: str
    epoch: int | None = None
    sequence_steps: int | None = None
    seconds: float | None = None
    lowest_val_loss: float | None = None
    mse: float | None = None
    message: str = ""


def render(board: Board, limit: int | None = None) -> Group:
    """A table of at most `limit` runs.

    Runs under way stand first, then those that failed or are held, then the others.
    """
    ordered = sorted(_lines(board), key=lambda line: _ORDER[line.state])
    shown = ordered[:limit]
    rest = (
        Text(f"and {len(ordered) - len(shown):,} more", style="dim")
        if len(shown) < len(ordered)
        else Text()
    )
    return Group(_RunTable(shown), rest)


@dataclass(frozen=True)
class _RunTable:
    """A table of runs, with the columns that the console has room for."""

    lines: Sequence[Line]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        rows = [_cells(line) for line in self.lines]
        widths = {
            name: max(cell_len(row.get(name, "")) for row in rows)
            for name in _COLUMNS
            if any(row.get(name) for row in rows)
        }
        columns = _fitting(widths, options.max_width)
        table = Table()
        for name in columns:
            table.add_column(name, no_wrap=name not in _FOLDED, overflow="fold")
        for line, row in zip(self.lines, rows, strict=True):
            # Text, not markup: names come from whatever a configuration says.
            table.add_row(*(Text(row.get(name, "")) for name in columns), style=_COLORS[line.state])
        yield from console.render(
            table, options.update(width=min(_width(widths), options.max_width))
        )


def _fitting(widths: Mapping[str, int], room: int) -> list[str]:
    """The columns to show, given how wide the cells of each are."""
    columns = {
        name: min(width, _FOLDED_WIDTH) if name in _FOLDED else width
        for name, width in widths.items()
    }
    for name in _DISPENSABLE:
        if _width(columns) > room:
            columns.pop(name, None)
    return list(columns)


def _width(columns: Mapping[str, int]) -> int:
    """Of a table with these columns, each as wide as its cells or its heading, with borders."""
    return 1 + sum(max(width, cell_len(name)) + 3 for name, width in columns.items())


def dry_run(runs: Sequence[PlannedRun], where: str) -> Group:
    """The runs that a sweep would do, and the most that they could cost."""
    table = Table(Column("run", overflow="fold"), "", Column("steps, at most", justify="right"))
    total, left = 0, 0
    for planned in runs:
        state = "done" if finished(Job(planned.name, planned.config, score=False)) else "to do"
        most = most_sequence_steps(planned.config)
        total, left = total + most, left + (most if state == "to do" else 0)
        table.add_row(Text(planned.name), state, short_count(most))
    return Group(
        table,
        Text(
            f"{len(runs)} runs, {where}: at most {short_count(total)} sequence-steps, "
            f"{short_count(left)} of them to do; a run ends earlier where it is solved or stops "
            f"early.{_measured(runs, left)}"
        ),
    )


def _measured(runs: Sequence[PlannedRun], left: int) -> str:
    """The cost of what is left, by the runs of this sweep that are done."""
    results = [
        (most_sequence_steps(r.config), found)
        for r in runs
        if (found := finished(Job(r.name, r.config, score=False)))
    ]
    if not results or not left:
        return ""
    done = sum(most for most, _ in results)
    seconds = sum(found.seconds for _, found in results) * left / done
    share = sum(found.sequence_steps for _, found in results) / done
    return (
        f" The {len(results)} done took {share:.1%} of their most; at that, "
        f"{seconds / 60:,.1f} minutes of training are left, on one worker."
    )


def show_results(runs: Sequence[PlannedRun], board: Board, console: Console) -> None:
    """Print the counts of runs, the medians over the seeds and the next command."""
    say(f"{board.folder}: {_states(board)}")
    if board.counts["done"]:
        console.print(_medians(runs, board))
        say(f"next: adding-problem report {shlex.quote(str(board.folder))}")


def _medians(runs: Sequence[PlannedRun], board: Board) -> Table:
    """The medians of each method at each length, over the runs that are done.

    The loss that counts is the test MSE where every run that is done has one, else the lowest
    validation MSE.
    """
    done = [run for run in runs if board.entries[run.name].state == "done"]
    entries = [board.entries[run.name] for run in done]
    scored = all(entry.mse is not None for entry in entries)
    found: dict[tuple[str, str, int], list[Entry]] = {}
    for run, entry, name in zip(
        done, entries, method_names([run.config for run in done]), strict=True
    ):
        place = (name, run.config.task.title, run.config.dataset.t)
        found.setdefault(place, []).append(entry)
    several = len({task for _, task, _ in found}) > 1
    table = Table(
        Column("method", overflow="fold"),
        Column("T", justify="right"),
        Column("solved", no_wrap=True),
        Column(f"median\n{'test' if scored else 'validation'} MSE", justify="right"),
        Column("range", no_wrap=True),
        Column("steps", justify="right"),
    )
    for (name, task, t), seeds in found.items():
        values = [_score(entry.mse if scored else entry.lowest_val_loss) for entry in seeds]
        spread = losses(values)
        table.add_row(
            Text(printable(f"{name} ({task})" if several else name)),
            f"{t:,}",
            f"{sum(value < SOLVED for value in values)} of {len(values)}",
            short_loss(spread.median),
            f"{short_loss(spread.least)} to {short_loss(spread.most)}" if len(values) > 1 else "",
            short_count(statistics.median(entry.sequence_steps for entry in seeds)),
        )
    return table


class SweepDisplay:
    """Follows a sweep: a bar and a live table on a terminal, a line for each run elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console, self._last = console, 0.0
        self._bars = bars(console)
        self._bar = self._bars.add_task("", total=None, count="", note="")
        self._live = (
            Live(console=console, auto_refresh=False, transient=True)
            if console.is_terminal
            else None
        )

    def __enter__(self) -> SweepDisplay:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live:
            self._live.stop()

    def follow(self, board: Board) -> None:
        """Show a change; a few times a second at most."""
        if self._live is None:
            if board.changed:
                say(_sentence(board, board.changed))
        elif time.monotonic() - self._last > _REDRAW_SECONDS:
            self._last = time.monotonic()
            self._live.update(self._drawn(board), refresh=True)

    def _drawn(self, board: Board) -> Group:
        ended, runs = board.counts["done"] + board.counts["failed"], len(board.entries)
        self._bars.update(
            self._bar,
            description=escape(shorten(str(board.folder), _LONGEST_FOLDER)),
            completed=ended,
            total=runs,
            count=f"{ended}/{runs}",
            left=board.seconds_left(),
            note=_note(board),
        )
        table = render(board, max(3, self._console.height - 8))
        return Group(self._bars.get_renderable(), table)


def _states(board: Board) -> str:
    counts = board.counts
    return ", ".join(f"{counts[state]} {state}" for state in _ORDER if counts[state])


def _note(board: Board) -> str:
    """What stands beside the bar: what went wrong, and the best loss."""
    wrong = [f"{board.counts[s]} {s}" for s in ("failed", "held") if board.counts[s]]
    found = [_score(entry.mse, entry.lowest_val_loss) for entry in board.entries.values()]
    best = min(found, default=math.inf)
    return "  ".join([*wrong, *([f"best MSE {short_loss(best)}"] if math.isfinite(best) else [])])


def _sentence(board: Board, entry: Entry) -> str:
    counts = board.counts
    if entry.state == "done":
        scored = "" if entry.mse is None else f", test MSE {entry.mse:.2e}"
        lowest = f"lowest validation loss {_number(entry.lowest_val_loss)}"
        what = f"{lowest}{scored}, {entry.seconds:.1f} s"
    else:
        what = entry.message.strip().splitlines()[0] if entry.message.strip() else ""
        what += "; it is begun again from its checkpoint" if entry.state == "queued" else ""
    failed = f", {counts['failed']} failed" if counts["failed"] else ""
    return (
        f"{'lost' if entry.state == 'queued' else entry.state}  {entry.name}: {what}   "
        f"({counts['done']} of {len(board.entries)} done{failed}{time_left(board.seconds_left())})"
    )


def _lines(board: Board) -> list[Line]:
    return [_line_of(board.folder, entry) for entry in board.entries.values()]


def _line_of(folder: Path, entry: Entry) -> Line:
    """From the entry; of a run under way from its own files, as far as they are on this machine."""
    rows: list[EpochRow] = []
    if entry.state == "running":
        with suppress(RunFolderError):
            rows = RunFolder(folder / entry.name).read_history()
    if rows:
        last, lowest = rows[-1], lowest_val_loss(rows)
        return Line(entry.name, entry.state, last.epoch, last.sequence_steps, last.seconds, lowest)
    ended = entry.state in ("done", "failed")
    return Line(
        entry.name,
        entry.state,
        sequence_steps=entry.sequence_steps if ended else None,
        seconds=entry.seconds if ended else None,
        lowest_val_loss=entry.lowest_val_loss,
        mse=entry.mse,
        message=entry.message,
    )


def _score(*values: float | None) -> float:
    """The first loss that is there; infinite where none is, or it is NaN."""
    found = next((value for value in values if value is not None), math.inf)
    return found if math.isfinite(found) else math.inf


def _cells(line: Line) -> dict[str, str]:
    cells = {"run": printable(line.name), "state": line.state}
    if line.state in ("failed", "held"):
        why = printable(line.message.strip().partition("\n")[0])
        return cells | {"why": why[:_LONGEST_WHY]}
    return cells | {
        "epoch": "" if line.epoch is None else f"{line.epoch:,}",
        "steps": "" if line.sequence_steps is None else short_count(line.sequence_steps),
        "seconds": "" if line.seconds is None else f"{line.seconds:,.1f}",
        "validation": _number(line.lowest_val_loss),
        "test": _number(line.mse),
    }


def _number(value: float | None) -> str:
    return "" if value is None else short_loss(value)
