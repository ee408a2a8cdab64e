"""What a run shows while it goes on: bars on a terminal, a plain line per epoch elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.table import Column
from rich.text import Text

from adding_problem.config import RunConfig
from adding_problem.config.values import short_count, short_loss
from adding_problem.runs.records import EpochRow
from adding_problem.system.output import say, shorten
from adding_problem.training.state import StepEvent

__all__ = ["TrainingDisplay", "bars", "counting", "time_left"]

_REFRESH_SECONDS = 0.2
_LINE_SECONDS = 30.0  # where the output is no terminal
_BAR_WIDTH = 30
_LONGEST_LABEL = 28
_SPEED_SECONDS = 600.0  # over which the time left is estimated: an epoch may take minutes


def bars(console: Console) -> Progress:
    """Bars of one line each: label, bar, count, time left, note.

    Where the console is narrow the bar gives way first.

    A task has the fields `count` and `note`, which are text, and may have `left`, the seconds that
    remain, where these are not to be estimated from its speed.
    """
    return Progress(
        TextColumn("{task.description}", table_column=_fixed(min_width=6)),
        BarColumn(bar_width=_BAR_WIDTH),
        TextColumn("{task.fields[count]}", justify="right", table_column=_fixed(min_width=7)),
        _TimeLeft(table_column=_fixed()),
        TextColumn("{task.fields[note]}", table_column=_fixed()),
        console=console,
        disable=not console.is_terminal,
        speed_estimate_period=_SPEED_SECONDS,
        transient=True,
    )


def time_left(seconds: float | None) -> str:
    """The end of a line about long work; empty where nobody knows, or nothing is left."""
    if not seconds:
        return ""
    told = f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} minutes"
    return f", about {told} left"


def _fixed(**options: Any) -> Column:
    """A column that does not give way while one that could wrap is left."""
    return Column(no_wrap=True, **options)


class _TimeLeft(ProgressColumn):
    """Hours, minutes and seconds; a dash for each where nobody knows."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        told = task.fields.get("left")
        left = task.time_remaining if told is None else told
        if left is None:
            return Text("-:--:--", style="progress.remaining")
        minutes, seconds = divmod(max(0, int(left)), 60)
        shown = f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
        return Text(shown, style="progress.remaining")


class TrainingDisplay:
    """A `Listener` that draws two bars, or prints lines where the output is no terminal.

    The first bar counts epochs, or what is spent of the budget; the second one the epoch's steps.

    Args:
        config: of the run.
        console: where it is shown.
        spent: seconds or sequence-steps of the budget that went into other runs before.
    """

    def __init__(self, config: RunConfig, console: Console, spent: float = 0.0) -> None:
        self._config, self._console, self._spent = config, console, spent
        self._last_draw = self._begin = time.perf_counter()
        self._first_sequences: int | None = None
        self._losses = self._length = ""
        minutes, steps = config.train.budget_minutes, config.train.budget_steps
        budget = 60 * minutes if minutes is not None else steps
        self._in_seconds = minutes is not None
        self._budget = None if budget is None else spent + budget
        self._of = f"/{config.train.epochs}" if budget is None else ""
        self._progress = bars(console)
        self._upper = self._progress.add_task(
            "epoch" if budget is None else "budget",
            total=config.train.epochs if self._budget is None else self._budget,
            note="",
            count="",
        )
        self._move_upper(0.0, None, "")
        self._steps = self._progress.add_task("step", total=None, note="", count="")

    def __enter__(self) -> TrainingDisplay:
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def on_step(self, event: StepEvent) -> None:
        """Redraw, a few times a second."""
        now = time.perf_counter()
        if self._first_sequences is None:  # a resumed run begins later than at 0
            self._first_sequences, self._begin = event.sequences, now
        if self._config.curriculum.start is not None:
            self._length = f"T {event.longest:,}/{self._config.dataset.t:,}  "
        if now - self._last_draw < (
            _REFRESH_SECONDS if self._console.is_terminal else _LINE_SECONDS
        ):
            return
        self._last_draw = now
        rate = (event.sequences - self._first_sequences) / max(now - self._begin, 1e-9)
        note = f"{self._length}{rate:,.0f} seq/s"
        losses = self._losses or f"loss of this batch {short_loss(event.loss)}"
        if self._console.is_terminal:
            _move(self._progress, self._steps, event.step, event.steps, note=note)
            self._move_upper(event.epoch - 1 + event.step / event.steps, event, losses)
        else:
            say(
                f"epoch {event.epoch}{self._of}  step {event.step:,}/{event.steps:,}  {note}  "
                f"loss of this batch {short_loss(event.loss)}"
            )

    def on_epoch(self, row: EpochRow) -> None:
        """Show the losses of the epoch."""
        self._losses = f"loss {short_loss(row.loss)}  val {short_loss(row.val_loss)}"
        if self._console.is_terminal:
            self._move_upper(row.epoch, row, self._losses)
        else:
            self._last_draw = time.perf_counter()
            rate = row.sequences / max(row.seconds, 1e-9)
            say(
                f"epoch {row.epoch}{self._of}  {self._losses}  {self._length}{rate:,.0f} seq/s  "
                f"{row.seconds:.0f} s"
            )

    def _move_upper(self, epochs: float, at: StepEvent | EpochRow | None, note: str) -> None:
        if self._budget is None:
            count = f"{int(epochs)}{self._of}"
            self._progress.update(self._upper, completed=epochs, count=count, note=note)
            return
        spent = self._spent
        if at is not None:
            spent += at.seconds if self._in_seconds else at.sequence_steps
        if self._in_seconds:
            count = f"{spent:,.0f}/{self._budget:,.0f} s"
        else:
            count = f"{short_count(spent)}/{short_count(self._budget)}"
        left = self._budget - spent if self._in_seconds else None
        self._progress.update(self._upper, completed=spent, count=count, left=left, note=note)


@contextmanager
def counting(label: str, console: Console) -> Iterator[Callable[[int, int], None]]:
    """A single bar, moved by calling what this gives with the number done and the number of all."""
    with bars(console) as progress:
        name = escape(shorten(label, _LONGEST_LABEL))
        task = progress.add_task(name, total=None, count="", note="")
        yield lambda done, total: _move(progress, task, done, total)


def _move(progress: Progress, task: TaskID, done: int, total: int, **fields: Any) -> None:
    """Move a bar; one that has ended begins again, or it would say that no time remains."""
    if done < total and progress.tasks[task].finished:
        progress.reset(task)
    count = f"{done:,}/{total:,}"
    progress.update(task, completed=done, total=total, count=count, **fields)
