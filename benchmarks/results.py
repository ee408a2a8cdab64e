"""The JSON records that the benchmarks leave, and the tables made of them."""

from __future__ import annotations

import dataclasses
import json
import statistics
import subprocess
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

__all__ = ["commit", "markdown", "median_and_range", "picked", "read", "upper_bound", "write"]

_NORMAL_95 = 1.96


def commit() -> str:
    """The short hash of the commit that is checked out; empty outside a git checkout."""
    return subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()


def write(path: Path, document: dict[str, Any]) -> None:
    """Write a record, and the folder that it goes into where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n")


def read(path: Path, name: str = "runs") -> list[dict[str, Any]]:
    """The entries of a record; none where it is not there yet."""
    entries: list[dict[str, Any]] = json.loads(path.read_text())[name] if path.exists() else []
    return entries


def picked(record: object, names: Iterable[str]) -> dict[str, Any]:
    """These fields of a typed record, a `RunResult` or a `Score`, as JSON has them."""
    values = dataclasses.asdict(record)  # type: ignore[call-overload]
    return {name: values[name] for name in names}


def upper_bound(score: dict[str, Any]) -> float:
    """The upper end of the 95% interval of a score's mean squared error."""
    bound: float = score["mse"] + _NORMAL_95 * score["mse_standard_error"]
    return bound


def median_and_range(values: Sequence[float], written: Callable[[float], str]) -> str:
    """Such as `2 (1 to 3)`; one value where all are alike."""
    middle = written(statistics.median(values))
    if min(values) == max(values):
        return middle
    return f"{middle} ({written(min(values))} to {written(max(values))})"


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
