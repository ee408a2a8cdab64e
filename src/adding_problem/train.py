"""Training: one explicit loop from a configuration to a complete run folder."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from adding_problem import models, plots, runtime
from adding_problem.artifacts import EpochRow, RunFolder
from adding_problem.config import RunConfig
from adding_problem.task import (
    AddingDataset,
    batches,
    constant_predictor_mse,
    evaluation_batch,
    sequence_width,
)

__all__ = ["EarlyStopping", "Listener", "StepEvent", "run"]

THRESHOLDS = {"1e-2": 1e-2, "1e-3": 1e-3}
"""Validation errors whose cost a result records."""

_ADAM_EPSILON = 1e-7  # Keras's default; PyTorch's is 1e-8
_STREAMS = {"initialisation": 1, "order": 2}


@dataclass(frozen=True)
class StepEvent:
    """Where a run is after a training step: epoch and step count from 1; loss is that of the step's batch."""

    epoch: int
    step: int
    steps: int
    loss: float
    sequences: int


class Listener(Protocol):
    """What follows a run: a progress display, a logger."""

    def on_step(self, event: StepEvent) -> None:
        """After every training step."""

    def on_epoch(self, row: EpochRow) -> None:
        """After every epoch, its validation included."""


@dataclass
class EarlyStopping:
    """Keras's rule: stop after `patience` epochs in a row that do not improve on the best value, strictly."""

    patience: int
    best: float = math.inf
    best_epoch: int = 0
    wait: int = 0

    def update(self, epoch: int, value: float) -> bool:
        """Take an epoch's value; whether it is the best so far. NaN never is."""
        if value < self.best:
            self.best, self.best_epoch, self.wait = value, epoch, 0
            return True
        self.wait += 1
        return False

    @property
    def exhausted(self) -> bool:
        """Whether patience is at its end."""
        return self.wait >= self.patience


@dataclass
class _State:
    """All that changes while a run goes on, and so all that a checkpoint holds."""

    model: nn.Module
    optimizer: torch.optim.Adam
    stopping: EarlyStopping
    rows: list[EpochRow] = field(default_factory=list)
    best_weights: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def fresh(cls, config: RunConfig, device: torch.device, backend: str) -> _State:
        seed = _stream_seed(config.seed, "initialisation")
        model = models.build_model(config.model, seed=seed, backend=backend).to(device)
        trained = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.Adam(trained, lr=config.train.learning_rate, eps=_ADAM_EPSILON, fused=True)
        return cls(model, optimizer, EarlyStopping(config.train.es_patience))

    def save(self, folder: RunFolder) -> None:
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"best.{k}": v for k, v in self.best_weights.items()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"adam.{index}.{k}": v for k, v in moments.items()}
        state = {
            "stopping": [self.stopping.best, self.stopping.best_epoch, self.stopping.wait],
            "rows": [list(vars(row).values()) for row in self.rows],
        }
        folder.write_checkpoint({k: v.detach().cpu() for k, v in tensors.items()}, state)

    def load(self, folder: RunFolder) -> None:
        tensors, state = folder.read_checkpoint()
        self.model.load_state_dict(_with_prefix(tensors, "model."))
        self.best_weights = _with_prefix(tensors, "best.")
        moments: dict[int, dict[str, Tensor]] = {}
        for key, tensor in _with_prefix(tensors, "adam.").items():
            index, _, name = key.partition(".")
            moments.setdefault(int(index), {})[name] = tensor
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        self.stopping.best, self.stopping.best_epoch, self.stopping.wait = state["stopping"]
        self.rows = [EpochRow(*row) for row in state["rows"]]


def run(
    config: RunConfig, *, resume: bool = False, overwrite: bool = False, listener: Listener | None = None
) -> dict[str, Any]:
    """Train a model and leave a complete run folder in `config.artifacts`.

    A finished run of the same configuration is not trained again: its result is returned as it stands.

    Args:
        config: all that determines the run.
        resume: continue a cut run from its checkpoint, with the numbers that the uncut run would have had.
        overwrite: delete a run that the folder may hold.
        listener: is told of every step and epoch.

    Returns:
        The content of `result.json`.

    Raises:
        ConfigError, RunFolderError, BackendError: see `adding_problem.errors`.
    """
    device = runtime.resolve_device(config.device)
    backend = runtime.resolve_backend(config.backend, device)
    folder = RunFolder(config.artifacts)
    status = folder.open(config, resume=resume, overwrite=overwrite)
    if status == "finished":
        return folder.read_result()
    if device.type == "cpu" and backend == "torch":
        runtime.tune_allocator()
    with runtime.cpu_threads(config.threads) as threads:
        state = _State.fresh(config, device, backend)
        if status == "resumed":
            state.load(folder)
        reason = _train(config, state, folder, device, listener)
        environment = {"device": device.type, "backend": backend, "threads": threads}
        return _finish(config, state, folder, reason, environment)


# --- the loop --------------------------------------------------------------------------------------------------------


def _train(
    config: RunConfig, state: _State, folder: RunFolder, device: torch.device, listener: Listener | None
) -> Literal["epochs", "early_stopping", "solved", "diverged"]:
    data = AddingDataset(config.dataset.n_train, config.dataset.t, seed=config.seed, variant=config.dataset.variant)
    steps = math.ceil(len(data) / config.train.batch)
    earlier = state.rows[-1].seconds if state.rows else 0.0
    begin = time.perf_counter()
    while (reason := _stop_reason(config, state)) is None:
        epoch = len(state.rows) + 1
        total, sequences = 0.0, (epoch - 1) * len(data)
        for step, (loss, size) in enumerate(_epoch_steps(config, state, data, epoch, device), start=1):
            total += loss * size
            sequences += size
            if listener:
                listener.on_step(StepEvent(epoch, step, steps, loss, sequences))
        row = EpochRow(
            epoch=epoch,
            loss=total / len(data),
            val_loss=_held_out_mse(config, state.model, device),
            sequences=sequences,
            sequence_steps=sequences * sequence_width(config.dataset.t, config.dataset.variant),
            seconds=earlier + time.perf_counter() - begin,
        )
        _record(config, state, row)
        folder.write_history(state.rows)
        state.save(folder)
        if listener:
            listener.on_epoch(row)
    return reason


def _epoch_steps(
    config: RunConfig, state: _State, data: AddingDataset, epoch: int, device: torch.device
) -> Iterator[tuple[float, int]]:
    """One epoch in its seeded order; loss and number of sequences of each step."""
    order = _order(len(data), config.seed, epoch)
    parameters = [p for p in state.model.parameters() if p.requires_grad]
    for first in range(0, len(data), config.train.batch):
        x, y = data.batch(order[first : first + config.train.batch])
        loss = nn.functional.mse_loss(state.model(x.to(device)), y.to(device))
        state.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_value_(parameters, config.train.clip_value)
        state.optimizer.step()
        yield loss.item(), len(x)


@torch.no_grad()
def _held_out_mse(config: RunConfig, model: nn.Module, device: torch.device) -> float:
    """Mean squared error on the held-out items, which follow the training items in the same stream."""
    data = config.dataset
    total = 0.0
    held_out = batches(data.n_held_out, data.t, seed=config.seed, start=data.n_train, variant=data.variant,
                       batch=evaluation_batch(data.t), device=device)
    for x, y in held_out:
        total += (model(x) - y).double().square().sum().item()
    return total / data.n_held_out


def _record(config: RunConfig, state: _State, row: EpochRow) -> None:
    state.rows.append(row)
    watched = row.loss if config.train.es_monitor == "loss" else row.val_loss
    if state.stopping.update(row.epoch, watched) or not state.best_weights:
        state.best_weights = {k: v.detach().clone() for k, v in state.model.state_dict().items()}


def _stop_reason(
    config: RunConfig, state: _State
) -> Literal["epochs", "early_stopping", "solved", "diverged"] | None:
    """Why the run ends after the last recorded epoch; None when it goes on."""
    if not state.rows:
        return None
    last = state.rows[-1]
    if not math.isfinite(last.loss):
        return "diverged"
    if config.train.stop_val_loss is not None and last.val_loss < config.train.stop_val_loss:
        return "solved"
    if state.stopping.exhausted:
        return "early_stopping"
    return "epochs" if last.epoch >= config.train.epochs else None


# --- the end ---------------------------------------------------------------------------------------------------------


def _finish(
    config: RunConfig, state: _State, folder: RunFolder, reason: str, environment: dict[str, Any]
) -> dict[str, Any]:
    """Restore the best weights and write the model, the picture and, last, the result."""
    state.model.load_state_dict(state.best_weights)
    description = models.describe(state.model) | {"versions": runtime.versions()}  # type: ignore[arg-type]
    weights = {name: tensor.cpu() for name, tensor in state.best_weights.items()}
    folder.write_model(weights, description)
    result = _result(config, state, reason) | {
        "parameters": description["parameters"],
        **environment,
        "processor": runtime.processor(),
        "versions": runtime.versions(),
    }
    plots.draw_loss(folder.loss_plot, state.rows, result)
    folder.write_result(result)
    return result


def _result(config: RunConfig, state: _State, reason: str) -> dict[str, Any]:
    best, last, data = state.rows[max(state.stopping.best_epoch, 1) - 1], state.rows[-1], config.dataset
    return {
        "digest": config.digest,
        "seed": config.seed,
        "t": data.t,
        "variant": data.variant,
        "constant_predictor_mse": constant_predictor_mse(data.variant, data.t),
        "stop_reason": reason,
        "epochs": last.epoch,
        "best_epoch": best.epoch,
        "best_loss": best.loss,
        "best_val_loss": best.val_loss,
        "lowest_val_loss": min((row.val_loss for row in state.rows if math.isfinite(row.val_loss)), default=None),
        "reached": {name: _first_below(state.rows, value) for name, value in THRESHOLDS.items()},
        "sequences": last.sequences,
        "sequence_steps": last.sequence_steps,
        "seconds": last.seconds,
    }


def _first_below(rows: list[EpochRow], threshold: float) -> dict[str, Any] | None:
    """Cost until the validation loss, taken at the ends of epochs, first was below the threshold."""
    for row in rows:
        if row.val_loss < threshold:
            return {"epoch": row.epoch, "sequences": row.sequences, "sequence_steps": row.sequence_steps,
                    "seconds": row.seconds}
    return None


# --- random streams --------------------------------------------------------------------------------------------------


def _stream_seed(root: int, stream: str) -> int:
    """A 63-bit seed for one of the streams that come from the root seed."""
    state = np.random.SeedSequence(root, spawn_key=(_STREAMS[stream],)).generate_state(1, np.uint64)
    return int(state[0] >> 1)


def _order(n: int, root: int, epoch: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The order of the training sequences in an epoch: the ranks of random words, which no NumPy release changes."""
    philox = np.random.Philox(key=_stream_seed(root, "order"), counter=[0, epoch, 0, 0])
    return np.argsort(philox.random_raw(n), kind="stable")


def _with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}
