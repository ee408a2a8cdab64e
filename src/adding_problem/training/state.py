"""All that changes while a run goes on, and when it is written, so that a run can be cut anywhere and lose nothing.

A run that continues from a checkpoint ends with the same numbers, bit for bit, as one that was never cut. So a checkpoint
holds the middle of an epoch too: the steps done and the sums over them. Everything else, the data and their order, is a
function of the configuration and of these counts.
"""

from __future__ import annotations

import logging
import time
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from adding_problem.errors import RunFolderError, in_one_line
from adding_problem.runs.folder import EpochRow, RunFolder
from adding_problem.system.memory import out_of_memory
from adding_problem.training.schedule import EarlyStopping, Schedule

__all__ = ["Checkpoints", "EpochSums", "TrainingState", "own_copy"]

_MOST_COST = 0.01  # share of the time that writing may take
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EpochSums:
    """The part of the epoch that is done: steps, sequences, sequence-steps, and the sum of the loss over sequences.

    `longest_length` is the longest T that was trained on.
    """

    steps: int = 0
    loss: float = 0.0
    sequences: int = 0
    sequence_steps: int = 0
    longest_length: int = 0

    def plus(self, loss: float, sequences: int, width: int, length: int) -> EpochSums:
        """With one more step: its loss, its sequences, the steps of each, and their T."""
        return EpochSums(
            self.steps + 1,
            self.loss + loss * sequences,
            self.sequences + sequences,
            self.sequence_steps + sequences * width,
            max(self.longest_length, length),
        )


@dataclass
class TrainingState:
    """Model, optimiser and schedule; the finished epochs and the one under way; the time that all of it took.

    `origin` is the digest of the run that the first weights are from, None for fresh ones.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    stopping: EarlyStopping
    schedule: Schedule
    rows: list[EpochRow] = field(default_factory=list)
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    sums: EpochSums = field(default_factory=EpochSums)
    origin: str | None = None
    _earlier: float = 0.0
    _begin: float = field(default_factory=time.perf_counter)

    @property
    def sequences(self) -> int:
        """Sequences trained on."""
        return (self.rows[-1].sequences if self.rows else 0) + self.sums.sequences

    @property
    def sequence_steps(self) -> int:
        """Sequence-steps trained on."""
        return (self.rows[-1].sequence_steps if self.rows else 0) + self.sums.sequence_steps

    @property
    def seconds(self) -> float:
        """Time since the start of the run, that between a cut and its continuation left out."""
        return self._earlier + time.perf_counter() - self._begin

    def start_clock(self) -> None:
        """Count the time from now on."""
        self._begin = time.perf_counter()

    def pack(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Named tensors, and everything else as plain values."""
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"best.{k}": v for k, v in self.best_weights.items()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"moments.{index}.{k}": v for k, v in moments.items()}
        # A tensor: the header, which holds the other values, has a bound that many epochs would pass.
        tensors["rows"] = torch.tensor([row.values for row in self.rows], dtype=torch.float64)
        stopping = self.stopping
        values = {
            "stopping": [stopping.best, stopping.best_epoch, stopping.wait, stopping.best_complete],
            "schedule": asdict(self.schedule),
            "sums": asdict(self.sums),
            "origin": self.origin,
            "seconds": self.seconds,
        }
        return {k: own_copy(v).cpu() for k, v in tensors.items()}, values

    def unpack(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        """Become the state that was packed."""
        self.model.load_state_dict(_with_prefix(tensors, "model."))
        self.best_weights = _with_prefix(tensors, "best.")
        moments: dict[int, dict[str, Tensor]] = {}
        for key, tensor in _with_prefix(tensors, "moments.").items():
            index, _, name = key.partition(".")
            moments.setdefault(int(index), {})[name] = tensor
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        stopping = self.stopping
        stopping.best, stopping.best_epoch, stopping.wait, stopping.best_complete = values[
            "stopping"
        ]
        self.schedule = Schedule(**values["schedule"])
        self.rows = [EpochRow.of_floats(row) for row in tensors["rows"].tolist()]
        self.sums = EpochSums(**values["sums"])
        self.origin = values.get("origin")
        self._earlier = values["seconds"]


class Checkpoints:
    """Writes a state into its folder when it is time, and takes it from there again.

    It is time at the end of every epoch, and inside one every so many minutes; but not before a hundred times as long has
    passed as writing took, so that it never costs more than a hundredth of the time.

    Args:
        folder: where they go.
        state: what is written.
        minutes: most time between two of them inside an epoch.
        machine: what the numbers depend on beside the configuration: backend, threads, versions.
    """

    def __init__(
        self, folder: RunFolder, state: TrainingState, *, minutes: float, machine: dict[str, Any]
    ) -> None:
        self._folder, self._state, self._minutes, self._machine = folder, state, minutes, machine
        self._written, self._cost = time.perf_counter(), 0.0

    def after_step(self) -> None:
        """Write if it is time inside an epoch."""
        if time.perf_counter() - self._written >= max(60 * self._minutes, self._cost / _MOST_COST):
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
                "%s: the model's code has changed since this run began: its numbers will be neither the old code's nor the new "
                "one's",
                self._folder.path,
            )
        differing = [
            f"{key} {machine.get(key)!r}, now {value!r}"
            for key, value in self._machine.items()
            if machine.get(key) != value and key != "model_source"
        ]
        if differing:
            _log.warning(
                "%s: this run began with another machine or version (%s): its numbers may differ in the last digits "
                "from those of an uncut run",
                self._folder.path,
                "; ".join(differing),
            )

    def _code_changed(self, machine: dict[str, Any]) -> bool:
        return machine.get("model_source") != self._machine.get("model_source")


def _with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        key.removeprefix(prefix): tensor
        for key, tensor in tensors.items()
        if key.startswith(prefix)
    }


def own_copy(tensor: Tensor) -> Tensor:
    """A contiguous copy that shares memory with no other tensor, as safetensors wants it."""
    return tensor.detach().clone(memory_format=torch.contiguous_format)
