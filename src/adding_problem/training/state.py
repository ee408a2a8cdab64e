"""All that changes while a run goes on.

A run that continues from a checkpoint ends with the same numbers, bit for bit, as one that was
never cut. So the state can be packed in the middle of an epoch too. Everything else, the data and
their order, is a function of the configuration and of the counts in here.
"""

from __future__ import annotations

import math
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from adding_problem import models
from adding_problem.config import RunConfig
from adding_problem.runs.records import EpochRow, StopReason
from adding_problem.system.memory import require_memory
from adding_problem.system.seeding import seeded, stream_seed
from adding_problem.training import optim
from adding_problem.training.batches import Batch, Batches
from adding_problem.training.early_stopping import EarlyStopping
from adding_problem.training.schedule import Schedule, advance, begin_ending
from adding_problem.training.start import build_model
from adding_problem.training.validation import Validation

__all__ = ["EpochSums", "StepEvent", "TrainingState"]


@dataclass(frozen=True)
class StepEvent:
    """Where a run is after a training step.

    Attributes:
        epoch, step: counted from 1, the step within the epoch.
        steps: of this epoch, at most.
        loss: mean squared error of the step's batch, before the step.
        sequences, sequence_steps: trained on since the start of the run.
        length: T of this step's sequences.
        longest: T that the curriculum has come to, the longest that may be drawn now.
        seconds: since the start of the run, the time between a cut and its continuation left out.
    """

    epoch: int
    step: int
    steps: int
    loss: float
    sequences: int
    sequence_steps: int
    length: int
    longest: int
    seconds: float


@dataclass(frozen=True)
class EpochSums:
    """The part of an epoch that is done; `loss` is summed over its sequences."""

    steps: int = 0
    loss: float = 0.0
    sequences: int = 0
    sequence_steps: int = 0
    longest_length: int = 0

    def plus(self, loss: float, batch: Batch) -> EpochSums:
        """With one more step."""
        return EpochSums(
            self.steps + 1,
            self.loss + loss * batch.sequences,
            self.sequences + batch.sequences,
            self.sequence_steps + batch.sequence_steps,
            max(self.longest_length, batch.length),
        )


@dataclass
class TrainingState:
    """Model, optimizer and schedule; the finished epochs and the one under way; the time.

    Attributes:
        origin: digest of the run that the first weights are from; None for fresh ones.
    """

    config: RunConfig
    device: torch.device
    model: nn.Module
    optimizer: optim.Optimizer
    batches: Batches
    stopping: EarlyStopping
    schedule: Schedule
    rows: list[EpochRow] = field(default_factory=list)
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    sums: EpochSums = field(default_factory=EpochSums)
    origin: str | None = None
    _earlier: float = 0.0
    _begin: float = field(default_factory=time.perf_counter)

    @classmethod
    def fresh(cls, config: RunConfig, device: torch.device, backend: str) -> TrainingState:
        """The state before the first step, with the initial weights of `config.seed`.

        Raises:
            ConfigError, ModelError: when there is no such model.
            BackendError: when the model, its training or the data do not fit into memory.
        """
        seed = stream_seed(config.seed, "initialisation")
        model = build_model(config, device, backend, seed=seed).train()
        optim.require_training_memory(config.train, model)
        require_memory(Batches.bytes_needed(config), "the sequences take")
        return cls(
            config,
            device,
            model,
            optim.optimizer_for(config.train, model),
            Batches(config),
            EarlyStopping(config.train.es_patience),
            Schedule.first(config),
        )

    # --- where it is ---

    @property
    def epoch(self) -> int:
        """The epoch under way, counted from 1."""
        return len(self.rows) + 1

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

    def stop_reason(self) -> StopReason | None:
        """Why the run ends after the last finished epoch; None when it goes on."""
        if not self.rows:
            return None
        last, train = self.rows[-1], self.config.train
        if not math.isfinite(last.loss):
            return "diverged"
        reached = train.stop_val_loss is not None and last.val_loss < train.stop_val_loss
        if reached and (train.ending_steps is None or self.schedule.decayed):
            return "solved"
        if self.stopping.exhausted:
            return "early_stopping"
        steps, minutes = train.budget_steps or math.inf, train.budget_minutes or math.inf
        if last.sequence_steps >= steps or last.seconds >= 60 * minutes:
            return "budget"
        return "epochs" if last.epoch >= train.epochs else None

    # --- what changes it ---

    def next_batch(self) -> Batch | None:
        """What the next step is taken on; None where the epoch ends."""
        return self.batches.at(self.epoch, self.sums.steps, self.sequences, self.schedule)

    def step(self, batch: Batch) -> StepEvent:
        """Change the weights by one step."""
        self.optimizer.learning_rate = self.schedule.learning_rate(self.config)
        x, y = batch.x.to(self.device), batch.y.to(self.device)
        with self._randomness():
            loss = optim.step(self.config.train, self.model, self.optimizer, x, y)
        self.schedule = advance(self.schedule, loss, self.config)
        self.sums = self.sums.plus(loss, batch)
        return StepEvent(
            self.epoch,
            self.sums.steps,
            self.batches.steps,
            loss,
            self.sequences,
            self.sequence_steps,
            batch.length,
            batch.longest,
            self.seconds,
        )

    def end_epoch(self, validation: Validation) -> EpochRow:
        """Record the epoch and its validation; keep the weights where they are the best so far."""
        row = EpochRow(
            self.epoch,
            self.sums.loss / self.sums.sequences,
            validation.mse,
            self.sequences,
            self.sequence_steps,
            self.seconds,
            validation.sequences,
            self.sums.longest_length,
        )
        self.rows.append(row)
        self.sums = EpochSums()
        self.model.train()  # a validation has ended the mode
        train = self.config.train
        if train.es_monitor == "loss":
            improved = self.stopping.update(row.epoch, row.loss)
        else:
            improved = self.stopping.update(row.epoch, validation.first, validation.complete)
        if improved or not self.best_weights:
            weights = self.model.state_dict()
            self.best_weights = {name: _own_copy(tensor) for name, tensor in weights.items()}
        goal = train.stop_val_loss
        if goal is not None and row.val_loss < (train.ending_below or goal):
            self.schedule = begin_ending(self.schedule, self.config)
        return row

    def _randomness(self) -> AbstractContextManager[None]:
        """Random numbers of a custom model (dropout) depend on the seed and the step alone."""
        if not isinstance(self.model, models.CustomModel):
            return nullcontext()
        return seeded(stream_seed(self.config.seed, "model") + self.schedule.step)

    # --- as values ---

    def pack(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Named tensors, and everything else as plain values."""
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"best.{k}": v for k, v in self.best_weights.items()}
        for index, moments in self.optimizer.moments.items():
            tensors |= {f"moments.{index}.{k}": v for k, v in moments.items()}
        # A tensor: the header, which holds the other values, has a bound that many epochs pass.
        tensors["rows"] = torch.tensor([row.values for row in self.rows], dtype=torch.float64)
        stopping = self.stopping
        values = {
            "stopping": [
                stopping.best,
                stopping.best_epoch,
                stopping.wait,
                stopping.best_complete,
            ],
            "schedule": asdict(self.schedule),
            "sums": asdict(self.sums),
            "origin": self.origin,
            "seconds": self.seconds,
        }
        return {k: _own_copy(v).cpu() for k, v in tensors.items()}, values

    def unpack(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        """Become the state that was packed."""
        self.model.load_state_dict(_with_prefix(tensors, "model."))
        self.best_weights = _with_prefix(tensors, "best.")
        moments: dict[int, dict[str, Tensor]] = {}
        for key, tensor in _with_prefix(tensors, "moments.").items():
            index, _, name = key.partition(".")
            moments.setdefault(int(index), {})[name] = tensor
        self.optimizer.load_moments(moments)
        stopping = self.stopping
        stopping.best, stopping.best_epoch, stopping.wait, stopping.best_complete = values[
            "stopping"
        ]
        self.schedule = Schedule(**values["schedule"])
        self.rows = [EpochRow.of_floats(row) for row in tensors["rows"].tolist()]
        self.sums = EpochSums(**values["sums"])
        self.origin = values.get("origin")
        self._earlier = values["seconds"]


def _with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        key.removeprefix(prefix): tensor
        for key, tensor in tensors.items()
        if key.startswith(prefix)
    }


def _own_copy(tensor: Tensor) -> Tensor:
    """A contiguous copy that shares memory with no other tensor, as safetensors wants it."""
    return tensor.detach().clone(memory_format=torch.contiguous_format)
