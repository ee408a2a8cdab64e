"""When the state of a run is written, so that a run can be cut anywhere and lose nothing."""

from __future__ import annotations

import logging
import time
from typing import Any

from adding_problem.errors import RunFolderError, in_one_line
from adding_problem.runs.folder import RunFolder
from adding_problem.system.memory import out_of_memory
from adding_problem.training.state import TrainingState

__all__ = ["Checkpoints"]

_MOST_COST = 0.01  # share of the time that writing may take
_log = logging.getLogger(__name__)


class Checkpoints:
    """Writes a state into its folder when it is time, and takes it from there again.

    It is time at the end of every epoch, and inside one every `train.checkpoint_minutes`. But it is
    not before a hundred times as long has passed as writing took, so that writing never costs more
    than a hundredth of the time.

    Args:
        folder: where they go.
        state: what is written.
        machine: what the numbers depend on beside the configuration: backend, threads, versions.
    """

    def __init__(self, folder: RunFolder, state: TrainingState, *, machine: dict[str, Any]) -> None:
        self._folder, self._state, self._machine = folder, state, machine
        self._written, self._cost = time.perf_counter(), 0.0

    def after_step(self) -> None:
        """Write if it is time inside an epoch."""
        minutes = self._state.config.train.checkpoint_minutes
        if time.perf_counter() - self._written >= max(60 * minutes, self._cost / _MOST_COST):
            self.write()

    def after_epoch(self) -> None:
        """Write, unless writing again so soon would cost more than its share."""
        if time.perf_counter() - self._written >= self._cost / _MOST_COST:
            self.write()

    def write(self) -> None:
        """Write now: the history of the finished epochs, then the checkpoint."""
        begin = time.perf_counter()
        self._folder.write_history(self._state.rows)
        tensors, values = self._state.pack()
        self._folder.write_checkpoint(tensors, values | {"machine": self._machine})
        self._written = time.perf_counter()
        self._cost = self._written - begin

    def restore(self) -> None:
        """Take the state from the newest checkpoint that is intact.

        Raises:
            RunFolderError: when none is.
        """
        tensors, values = self._folder.read_checkpoint()
        machine: dict[str, Any] = {}
        try:
            machine = dict(values["machine"])
            self._state.unpack(tensors, values)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and out_of_memory(error):
                raise
            if self._code_changed(machine):
                raise RunFolderError(
                    self._folder.path,
                    f"the model's code has changed since this run began, and does not take its "
                    f"checkpoint ({in_one_line(error)})",
                    "put the code back, or give --artifacts another folder",
                ) from None
            raise RunFolderError(
                self._folder.path,
                f"its checkpoint is of another version of this program ({in_one_line(error)})",
                "continue with the version that began, or train again with --overwrite",
            ) from None
        if self._code_changed(machine):
            _log.warning(
                "%s: the model's code has changed since this run began: its numbers will be "
                "neither the old code's nor the new one's",
                self._folder.path,
            )
        differing = [
            f"{key} {machine.get(key)!r}, now {value!r}"
            for key, value in self._machine.items()
            if machine.get(key) != value and key != "model_source"
        ]
        if differing:
            _log.warning(
                "%s: this run began with another machine or version (%s): its numbers may differ "
                "in the last digits from those of an uncut run",
                self._folder.path,
                "; ".join(differing),
            )

    def _code_changed(self, machine: dict[str, Any]) -> bool:
        return machine.get("model_source") != self._machine.get("model_source")
