"""Faults on purpose: a listener that acts at a given step, and a process that holds a folder."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from adding_problem.runs.records import EpochRow
from adding_problem.training.state import StepEvent


class Stop:
    """A listener that does something at a step; it keeps the numbers of the steps that it saw."""

    def __init__(self, epoch: int, step: int, act: Any) -> None:
        self.epoch, self.step, self.act, self.seen = epoch, step, act, []  # type: ignore[var-annotated]

    def on_step(self, event: StepEvent) -> None:
        self.seen.append((event.epoch, event.step))
        if self.seen[-1] == (self.epoch, self.step):
            self.act()

    def on_epoch(self, row: EpochRow) -> None:
        pass


_HOLD = """import sys
from pathlib import Path
from adding_problem.runs.lock import lock_folder
with lock_folder(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process holds a folder while the block runs."""
    words = [sys.executable, "-c", _HOLD, str(folder)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(words, text=True, **pipes) as process:  # type: ignore[call-overload]
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()
