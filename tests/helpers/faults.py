"""Faults on purpose: a listener that acts at a given step, and the lock of another process."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from adding_problem.runs import lock
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


def leave_lock(folder: Path, age: float = 0.0, **changes: Any) -> None:
    """A lock as another process would hold it."""
    (folder / ".lock").mkdir()
    owner = folder / ".lock" / "owner"
    owner.write_text(json.dumps(lock._myself() | {"token": "other", **changes}))
    touched = owner.stat().st_mtime - age
    os.utime(owner, (touched, touched))
