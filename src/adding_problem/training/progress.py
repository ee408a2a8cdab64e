"""What a run shows while it goes on: bars on a terminal, a plain line per epoch elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from adding_problem.config import RunConfig
from adding_problem.runs.records import EpochRow
from adding_problem.system.output import say
from adding_problem.task.baselines import constant_predictor_mse
from adding_problem.training.state import StepEvent

__all__ = ["TrainingDisplay", "counting"]

_REFRESH_SECONDS = 0.2
_LINE_SECONDS = 30.0  # where the output is no terminal


class TrainingDisplay:
    """A `Listener` that draws two bars, or prints lines where the output is no terminal."""

    def __init__(self, config: RunConfig, console: Console) -> None:
        self._config, self._console = config, console
        self._constant = constant_predictor_mse(config.task, config.dataset.t)
        self._losses = "no epoch finished yet"
        self._last_draw = self._begin = time.perf_counter()
        self._first_sequences: int | None = None
        self._length_text = ""
        self._progress = Progress(
            TextColumn("{task.description:<6}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            disable=not console.is_terminal,
        )
        most = (
            config.train.epochs if config.train.budget_minutes is None else None
        )  # of a budget nobody knows how many it holds
        self._of = f"/{most}" if most else ""
        self._epochs = self._progress.add_task("epoch", total=most, note=self._losses)
        self._steps = self._progress.add_task("step", total=None, note="")

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
        self._length_text = self._length(event)
        if now - self._last_draw < (
            _REFRESH_SECONDS if self._console.is_terminal else _LINE_SECONDS
        ):
            return
        self._last_draw = now
        rate = (event.sequences - self._first_sequences) / max(now - self._begin, 1e-9)
        note = f"{self._length_text}{rate:,.0f} sequences/s   loss of this batch {event.loss:.2e}"
        if self._console.is_terminal:
            _move(self._progress, self._steps, event.step, event.steps, note=note)
            self._progress.update(self._epochs, completed=event.epoch - 1)
        else:
            say(f"epoch {event.epoch}{self._of}   step {event.step:,} of {event.steps:,}   {note}")

    def _length(self, event: StepEvent) -> str:
        """How far the curriculum is, where there is one."""
        if self._config.curriculum.start is None:
            return ""
        return f"length {event.longest:,} of {self._config.dataset.t:,}   "

    def on_epoch(self, row: EpochRow) -> None:
        """Show the losses of the epoch beside the constant predictor's."""
        few = (
            f" on the first {row.val_sequences:,}"
            if row.val_sequences < self._config.dataset.n_held_out
            else ""
        )
        self._losses = (
            f"training loss {row.loss:.2e}   validation loss {row.val_loss:.2e}{few}   "
            f"(mean baseline: {self._constant:.4f})"
        )
        if self._console.is_terminal:
            self._progress.update(self._epochs, completed=row.epoch, note=self._losses)
        else:
            self._last_draw = time.perf_counter()
            rate = row.sequences / max(row.seconds, 1e-9)
            say(
                f"epoch {row.epoch}{self._of}   {self._length_text}{self._losses}   "
                f"{rate:,.0f} sequences/s   {row.seconds:.0f} s"
            )


@contextmanager
def counting(label: str, console: Console) -> Iterator[Callable[[int, int], None]]:
    """A single bar, moved by calling what this gives with the number done and the number of all."""
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    ) as progress:
        task = progress.add_task(label, total=None)
        yield lambda done, total: _move(progress, task, done, total)


def _move(progress: Progress, task: TaskID, done: int, total: int, **fields: Any) -> None:
    """Move a bar; one that has ended begins again, or it would say that no time remains."""
    if done < total and progress.tasks[task].finished:
        progress.reset(task)
    progress.update(task, completed=done, total=total, **fields)
