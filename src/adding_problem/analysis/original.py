"""The loss curves that the original program printed, read from a JSON file."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from adding_problem.errors import RunFolderError
from adding_problem.runs import atomic_io
from adding_problem.runs.records import EpochRow

__all__ = ["OriginalRun", "read_original"]

_EPOCH = 30_000  # sequences: the original trained on 30% of its 100,000
_MAX_BYTES = 64 << 20


@dataclass(frozen=True)
class OriginalRun:
    """A run of the original program.

    Attributes:
        name: of the file.
        t: T of its sequences.
        rows: its epochs; their seconds are NaN.
    """

    name: str
    t: int
    rows: tuple[EpochRow, ...]


def read_original(path: Path) -> list[OriginalRun]:
    """The runs in JSON such as ``{"150": {"loss": [...], "val_loss": [...]}}``, by T.

    Raises:
        RunFolderError: when the file cannot be read, or holds something else.
    """
    try:
        document = json.loads(atomic_io.read_bounded(path, _MAX_BYTES))
        return [
            OriginalRun(path.stem, int(t), _rows(int(t), curves["loss"], curves["val_loss"]))
            for t, curves in document.items()
        ]
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        OverflowError,
        RecursionError,
    ) as error:
        raise RunFolderError(
            path,
            f"holds no loss curves by length ({error})",
            'give JSON such as {"150": {"loss": [...], "val_loss": [...]}}, '
            "as docs/original_curves.json is",
        ) from None


def _rows(t: int, losses: Sequence[float], val_losses: Sequence[float]) -> tuple[EpochRow, ...]:
    if len(losses) != len(val_losses):
        raise ValueError(
            f"at T = {t} {len(losses)} values of loss and {len(val_losses)} of val_loss"
        )
    return tuple(
        EpochRow(
            epoch,
            float(loss),
            float(val_loss),
            _EPOCH * epoch,
            _EPOCH * epoch * t,
            math.nan,
            longest_length=t,
        )
        for epoch, (loss, val_loss) in enumerate(zip(losses, val_losses, strict=True), start=1)
    )
