"""A sweep in a process of its own, what its runs found, and a wait for it."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from adding_problem.runs.folder import RunFolder


def numbers(folder: Path) -> dict[str, Any]:
    """All that a sweep's runs found, wall time left out."""
    found = {}
    for path in sorted(folder.glob("t=*")):
        run = RunFolder(path)
        result, score = run.read_result(), run.read_score()
        found[path.name] = [
            result.best_val_loss,
            result.best_loss,
            result.sequences,
            result.sequence_steps,
            result.epochs,
            score.mse,
            [(row.loss, row.val_loss, row.sequences) for row in run.read_history()],
        ]
    return found


def sweep_words(config: Path, out: Path, *more: object) -> list[str]:
    """The words that start a sweep in a process of its own."""
    program = [sys.executable, "-m", "adding_problem", "sweep"]
    return [*program, "--config", str(config), "--out", str(out), *map(str, more)]


def wait_for(condition: Any, seconds: float = 120) -> Any:
    """What the condition gives, once that is true."""
    end = time.time() + seconds
    while not (found := condition()):
        assert time.time() < end, "waited in vain"
        time.sleep(0.02)
    return found
