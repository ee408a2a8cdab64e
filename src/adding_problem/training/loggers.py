"""Loggers that the configuration asks for; your own is any `loop.Listener`, two functions.

A tracker is a few lines: a class with `write` and `close` in `_TRACKERS`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from adding_problem.config import RunConfig
from adding_problem.errors import BackendError, to_install
from adding_problem.runs.folder import RunFolder
from adding_problem.runs.records import EpochRow
from adding_problem.training.loop import Listener
from adding_problem.training.state import StepEvent

__all__ = ["Logger", "attach"]

_PROJECT = "adding-problem"


@contextmanager
def attach(config: RunConfig, *others: Listener | None) -> Iterator[Listener | None]:
    """The logger of the configuration beside other listeners, as one; None where there is none.

    Raises:
        BackendError: when the logger's package is not installed.
    """
    logger = Logger(config) if config.logger else None
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


class Logger:
    """A `Listener` that gives a tracker scalars by name, against the number of sequences.

    Args:
        config: of the run; `logger` names the tracker.

    Raises:
        BackendError: when its package is not installed.
    """

    def __init__(self, config: RunConfig) -> None:
        self._config, self._kind = config, _TRACKERS[str(config.logger)]
        self._tracker: _Tracker | None = None
        try:
            self._kind.require()
        except ImportError:
            raise BackendError(
                f"logger: {config.logger} is not installed",
                f"{to_install(str(config.logger))}, or set logger to null",
            ) from None

    def on_step(self, event: StepEvent) -> None:
        """Loss of the step's batch, and the length that the curriculum is at."""
        values = {"step/loss": event.loss, "step/length": event.longest}
        self._opened(event.sequences).write(values, event.sequences)

    def on_epoch(self, row: EpochRow) -> None:
        """Both losses, the sequences that the second covers, sequence-steps and seconds."""
        names = ("loss", "val_loss", "val_sequences", "sequence_steps", "seconds")
        values = {f"epoch/{name}": getattr(row, name) for name in names}
        # The last step has the same number of sequences, and is not given again.
        self._opened(row.sequences + 1).write(values, row.sequences)

    def close(self) -> None:
        """Write what is still in memory."""
        if self._tracker is not None:
            self._tracker.close()

    def _opened(self, since: int) -> _Tracker:
        """The tracker, opened by the first event: a finished run leaves nothing."""
        if self._tracker is None:
            self._tracker = self._kind(self._config, since)
        return self._tracker


class _Tracker(Protocol):
    """Keeps scalars of a run.

    Args:
        config: of the run.
        since: the first number of sequences that is written. What a cut run wrote from there on
            is given again.
    """

    def __init__(self, config: RunConfig, since: int) -> None: ...

    @staticmethod
    def require() -> None:
        """Raise ImportError unless its package is installed."""

    def write(self, values: Mapping[str, float], sequences: int) -> None:
        """Keep values by name at a number of sequences."""

    def close(self) -> None:
        """Write what is still in memory."""


class _TensorBoard:
    """Event files in the run folder's `tensorboard/`."""

    @staticmethod
    def require() -> None:
        import torch.utils.tensorboard  # noqa: F401

    def __init__(self, config: RunConfig, since: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder = RunFolder(config.artifacts)
        folder.check_inside(folder.tensorboard)
        there = any(folder.tensorboard.glob("events.out.tfevents.*"))
        self._writer = SummaryWriter(str(folder.tensorboard), purge_step=since if there else None)

    def write(self, values: Mapping[str, float], sequences: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, sequences)

    def close(self) -> None:
        self._writer.close()


class _Wandb:
    """A run of Weights & Biases in the run folder's `wandb/`: offline, unless WANDB_MODE is set.

    A resumed run is one more with the same name.
    """

    @staticmethod
    def require() -> None:
        import wandb  # noqa: F401

    def __init__(self, config: RunConfig, since: int) -> None:
        import wandb

        folder = RunFolder(config.artifacts)
        folder.check_inside(folder.wandb)
        self._run = wandb.init(
            project=_PROJECT,
            name=config.artifacts,
            config=config.flat(),
            dir=folder.path,
            mode=os.environ.get("WANDB_MODE", "offline"),
            settings=wandb.Settings(silent=True),  # it would write among the command's own lines
        )

    def write(self, values: Mapping[str, float], sequences: int) -> None:
        self._run.log({**values}, step=sequences)

    def close(self) -> None:
        self._run.finish()


class _Trackio:
    """A run of Trackio, in its own folder: `trackio show` draws it.

    A resumed run goes on. What a killed one wrote after its last checkpoint is there twice.
    """

    @staticmethod
    def require() -> None:
        import trackio  # noqa: F401

    def __init__(self, config: RunConfig, since: int) -> None:
        import trackio

        self._run = trackio.init(
            project=_PROJECT, name=config.artifacts, config=config.flat(), resume="allow"
        )

    def write(self, values: Mapping[str, float], sequences: int) -> None:
        self._run.log({**values}, step=sequences)

    def close(self) -> None:
        self._run.finish()


_TRACKERS: dict[str, type[_Tracker]] = {
    "tensorboard": _TensorBoard,
    "trackio": _Trackio,
    "wandb": _Wandb,
}
