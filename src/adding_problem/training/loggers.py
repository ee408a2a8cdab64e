"""Loggers that the configuration asks for; your own is any `loop.Listener`, two functions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from adding_problem.config import RunConfig
from adding_problem.errors import BackendError, to_install
from adding_problem.runs.folder import RunFolder
from adding_problem.runs.records import EpochRow
from adding_problem.training.loop import Listener
from adding_problem.training.state import StepEvent

__all__ = ["TensorBoard", "attach"]


@contextmanager
def attach(config: RunConfig, *others: Listener | None) -> Iterator[Listener | None]:
    """The logger of the configuration beside other listeners, as one; None where there is none.

    Raises:
        BackendError: when the logger's package is not installed.
    """
    logger = TensorBoard(RunFolder(config.artifacts)) if config.logger == "tensorboard" else None
    listeners = [listener for listener in (logger, *others) if listener is not None]
    try:
        yield _Several(listeners) if listeners else None
    finally:
        if logger:
            logger.close()


class _Several:
    def __init__(self, listeners: list[Listener]) -> None:
        self._listeners = listeners

    def on_step(self, event: StepEvent) -> None:
        for listener in self._listeners:
            listener.on_step(event)

    def on_epoch(self, row: EpochRow) -> None:
        for listener in self._listeners:
            listener.on_epoch(row)


class TensorBoard:
    """Event files in the run folder's `tensorboard/`, against the number of sequences.

    Args:
        folder: of the run. Where it holds event files of a run that was cut, events from the first
            new one on are marked as void, since the resumed run gives them again.

    Raises:
        BackendError: when the package is not installed.
    """

    def __init__(self, folder: RunFolder) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise BackendError(
                "logger: TensorBoard is not installed",
                f"{to_install('tensorboard')}, or set logger to null",
            ) from None
        self._folder = folder
        self._open: Any = SummaryWriter
        self._writer: Any = None

    def on_step(self, event: StepEvent) -> None:
        """Loss of the step's batch, and the length that the curriculum is at."""
        writer = self._running(event.sequences)
        writer.add_scalar("step/loss", event.loss, event.sequences)
        writer.add_scalar("step/length", event.longest, event.sequences)

    def on_epoch(self, row: EpochRow) -> None:
        """Both losses, the sequences that the second covers, sequence-steps and seconds."""
        writer = self._running(
            row.sequences + 1
        )  # the last step's event is there, and is not given again
        for name in ("loss", "val_loss", "val_sequences", "sequence_steps", "seconds"):
            writer.add_scalar(f"epoch/{name}", getattr(row, name), row.sequences)

    def close(self) -> None:
        """Write what is still in memory."""
        if self._writer is not None:
            self._writer.close()

    def _running(self, since: int) -> Any:
        """The writer, which makes its file with the first event: a finished run gets none."""
        if self._writer is None:
            self._folder.check_inside(self._folder.tensorboard)
            there = any(self._folder.tensorboard.glob("events.out.tfevents.*"))
            self._writer = self._open(
                str(self._folder.tensorboard), purge_step=since if there else None
            )
        return self._writer
