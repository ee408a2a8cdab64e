"""Training: one explicit loop from a configuration to a complete run folder."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from adding_problem import models, plots, rehearsal, runtime
from adding_problem.artifacts import EpochRow, RunFolder
from adding_problem.config import MIN_LENGTH, RunConfig
from adding_problem.errors import RunFolderError
from adding_problem.task import (
    AddingDataset,
    batches,
    constant_predictor_mse,
    evaluation_batch,
    sample_batch,
    sequence_width,
)

__all__ = ["EarlyStopping", "Listener", "Schedule", "StepEvent", "advance", "run"]

StopReason = Literal["epochs", "early_stopping", "solved", "budget", "diverged"]

THRESHOLDS = {"1e-2": 1e-2, "1e-3": 1e-3}
"""Validation errors whose cost a result records."""

_ADAM_EPSILON = 1e-7  # Keras's default; PyTorch's is 1e-8
_STREAMS = {"initialisation": 1, "order": 2, "held_out": 3, "lengths": 4, "model": 5}
_NEAR = 1.25  # a glimpse at the held-out sequences below so many times stop_val_loss calls for all of them


@dataclass(frozen=True)
class StepEvent:
    """Where a run is after a training step: epoch and step count from 1; loss is that of the step's batch.

    Steps of this epoch, sequences since the start, length of this step's sequences, length that the curriculum is at.
    """

    epoch: int
    step: int
    steps: int
    loss: float
    sequences: int
    length: int
    stage: int


class Listener(Protocol):
    """What follows a run: a progress display, a logger."""

    def on_step(self, event: StepEvent) -> None:
        """After every training step."""

    def on_epoch(self, row: EpochRow) -> None:
        """After every epoch, its validation included."""


@dataclass
class EarlyStopping:
    """Keras's rule: stop after `patience` epochs in a row that do not improve on the best value, strictly."""

    patience: int | None
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
        return self.patience is not None and self.wait >= self.patience


@dataclass(frozen=True)
class Schedule:
    """All that the curriculum and the learning rate depend on.

    Attributes:
        length: of the longest sequences to train on now.
        smoothed: exponential mean of the training loss at this length, from the constant predictor's on.
        rate: learning rate before warm-up and decay.
        step: training steps taken.
        decay_start, decay_steps: the decay under way; no steps where there is none.
    """

    length: int
    rate: float
    smoothed: float
    step: int = 0
    decay_start: int = 0
    decay_steps: int = 0

    @classmethod
    def first(cls, config: RunConfig) -> Schedule:
        """Where a run begins."""
        length = min(config.curriculum.start or config.dataset.t, config.dataset.t)
        return cls(length, config.train.learning_rate, _nothing_learned(config))

    @property
    def decayed(self) -> bool:
        """Whether a decay has just come to its end."""
        return self.decay_steps > 0 and self.step == self.decay_start + self.decay_steps

    def learning_rate(self, config: RunConfig) -> float:
        """The rate of the next step: up in a line at the start, down in a line in a decay."""
        warm = min(1.0, (self.step + 1) / config.train.warmup_steps) if config.train.warmup_steps else 1.0
        fallen = (self.step - self.decay_start) / self.decay_steps if self.decay_steps else 0.0
        return self.rate * warm * (1 - fallen)


def _nothing_learned(config: RunConfig) -> float:
    return constant_predictor_mse(config.dataset.variant, config.dataset.t)


def advance(schedule: Schedule, loss: float, config: RunConfig) -> Schedule:
    """The schedule after a step with this training loss.

    A smoothed loss below the curriculum's threshold makes the sequences longer; at full length, one below
    `train.decay_below` begins the decay. A decay that ends unsolved is followed by another, from half the rate and twice
    as long.
    """
    curriculum = config.curriculum
    smoothed = curriculum.smoothing * schedule.smoothed + (1 - curriculum.smoothing) * loss
    step = schedule.step + 1
    if schedule.decay_steps:
        if step > schedule.decay_start + schedule.decay_steps:
            return replace(schedule, step=step, smoothed=smoothed, rate=schedule.rate / 2, decay_start=step - 1,
                           decay_steps=2 * schedule.decay_steps)
        return replace(schedule, step=step, smoothed=smoothed)
    full = schedule.length == config.dataset.t
    if not full and smoothed < curriculum.threshold:
        length = min(config.dataset.t, int(schedule.length * curriculum.factor))
        return replace(schedule, step=step, smoothed=_nothing_learned(config), length=length)
    if full and config.train.decay_steps is not None and smoothed < config.train.decay_below:
        return replace(schedule, step=step, smoothed=smoothed, decay_start=step, decay_steps=config.train.decay_steps)
    return replace(schedule, step=step, smoothed=smoothed)


@dataclass
class _State:
    """All that changes while a run goes on, and so all that a checkpoint holds."""

    model: nn.Module
    optimizer: torch.optim.Adam
    stopping: EarlyStopping
    schedule: Schedule
    rows: list[EpochRow] = field(default_factory=list)
    best_weights: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def fresh(cls, config: RunConfig, device: torch.device, backend: str) -> _State:
        seed = _stream_seed(config.seed, "initialisation")
        model = models.build_model(config.model, seed=seed, backend=backend, length=config.dataset.t)
        if config.model.start_from is not None:
            _load_start(model, config.model.start_from)
        model.to(device)
        trained = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.Adam(trained, lr=config.train.learning_rate, eps=_ADAM_EPSILON, fused=True)
        return cls(model, optimizer, EarlyStopping(config.train.es_patience), Schedule.first(config))

    def save(self, folder: RunFolder) -> None:
        """Write the checkpoint."""
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"best.{k}": v for k, v in self.best_weights.items()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"adam.{index}.{k}": v for k, v in moments.items()}
        state = {
            "stopping": [self.stopping.best, self.stopping.best_epoch, self.stopping.wait],
            "schedule": asdict(self.schedule),
            "rows": [list(vars(row).values()) for row in self.rows],
        }
        folder.write_checkpoint({k: _own_copy(v).cpu() for k, v in tensors.items()}, state)

    def load(self, folder: RunFolder) -> None:
        """Take everything from the checkpoint."""
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
        self.schedule = Schedule(**state["schedule"])
        self.rows = [EpochRow(*row) for row in state["rows"]]

    @property
    def sequences(self) -> int:
        """Sequences trained on until the last finished epoch."""
        return self.rows[-1].sequences if self.rows else 0

    @property
    def sequence_steps(self) -> int:
        """Sequence-steps trained on until the last finished epoch."""
        return self.rows[-1].sequence_steps if self.rows else 0


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
        ConfigError, RunFolderError, BackendError, ModelError: see `adding_problem.errors`.
    """
    device = runtime.resolve_device(config.device)
    backend = runtime.resolve_backend(config.backend, device)
    folder = RunFolder(config.artifacts)
    if overwrite or not folder.holds_finished(config):
        rehearsal.check_model(config)
    status = folder.open(config, resume=resume, overwrite=overwrite)
    origin = _origin(config)
    if status == "finished":
        return _same_origin(folder, origin)
    if device.type == "cpu" and backend == "torch":
        runtime.tune_allocator()
    with runtime.cpu_threads(config.threads) as threads:
        state = _State.fresh(config, device, backend)
        if status == "resumed":
            state.load(folder)
        reason = _train(config, state, folder, device, listener)
        environment = {"device": device.type, "backend": getattr(state.model, "backend", "torch"), "threads": threads, "started_from": origin}
        return _finish(config, state, folder, reason, environment)


def _origin(config: RunConfig) -> str | None:
    """The digest of the run that this one starts from."""
    start = config.model.start_from
    return None if start is None else str(RunFolder(start).read_result()["digest"])


def _same_origin(folder: RunFolder, origin: str | None) -> dict[str, Any]:
    result = folder.read_result()
    if result.get("started_from") != origin:
        raise RunFolderError(folder.path, "holds a run that started from another model than model.start_from holds now",
                             "give --artifacts another folder, or --overwrite to train again")
    return result


def _load_start(model: nn.Module, path: str) -> None:
    weights, _ = RunFolder(path).read_model()
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise RunFolderError(path, f"model/ does not fit the model of this configuration ({error})",
                             "change model.start_from, or the keys under model: to those of that run") from None


# --- the loop --------------------------------------------------------------------------------------------------------


def _train(
    config: RunConfig, state: _State, folder: RunFolder, device: torch.device, listener: Listener | None
) -> StopReason:
    data = None if config.dataset.stream else _fixed_data(config)
    earlier = state.rows[-1].seconds if state.rows else 0.0
    begin = time.perf_counter()
    while (reason := _stop_reason(config, state)) is None:
        total, sequences, sequence_steps = 0.0, state.sequences, state.sequence_steps
        for event, size in _epoch(config, state, data, device):
            total += event.loss * size
            sequences += size
            sequence_steps += size * sequence_width(event.length, config.dataset.variant)
            if listener:
                listener.on_step(event)
        row = EpochRow(
            epoch=len(state.rows) + 1,
            loss=total / (sequences - state.sequences),
            val_loss=_held_out_mse(config, state.model, device),
            sequences=sequences,
            sequence_steps=sequence_steps,
            seconds=earlier + time.perf_counter() - begin,
        )
        _record(config, state, row)
        folder.write_history(state.rows)
        state.save(folder)
        if listener:
            listener.on_epoch(row)
    return reason


def _epoch(
    config: RunConfig, state: _State, data: AddingDataset | None, device: torch.device
) -> Iterator[tuple[StepEvent, int]]:
    """The steps of the next epoch, and the number of sequences in each."""
    epoch, sequences = len(state.rows) + 1, state.sequences
    state.model.train()
    steps = math.ceil(len(data) / config.train.batch) if data else config.train.epoch_steps
    batch_source = _fresh_batches(config, state) if data is None else _ordered_batches(config, data, epoch)
    for step, (x, y) in enumerate(batch_source, start=1):
        length, stage = _batch_length(config, state.schedule), state.schedule.length
        loss = _step(config, state, x.to(device), y.to(device))
        state.schedule = advance(state.schedule, loss, config)
        sequences += len(x)
        yield StepEvent(epoch, step, steps, loss, sequences, length, stage), len(x)


def _step(config: RunConfig, state: _State, x: Tensor, y: Tensor) -> float:
    """One training step; the loss before it."""
    (group,) = state.optimizer.param_groups
    group["lr"] = state.schedule.learning_rate(config)
    with _randomness(config, state):
        loss = nn.functional.mse_loss(state.model(x), y)
    state.optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    if config.train.clip_value is not None:
        nn.utils.clip_grad_value_(group["params"], config.train.clip_value)
    if config.train.clip_norm is not None:
        nn.utils.clip_grad_norm_(group["params"], config.train.clip_norm)
    state.optimizer.step()
    return loss.item()


def _randomness(config: RunConfig, state: _State) -> AbstractContextManager[None]:
    """Random numbers of a user's own model (dropout) depend on the seed and the step alone; the zoo draws none."""
    if not isinstance(state.model, models.OwnModel):
        return nullcontext()
    return models.seeded(_stream_seed(config.seed, "model") + state.schedule.step)


def _fixed_data(config: RunConfig) -> AddingDataset:
    data = config.dataset
    return AddingDataset(data.n_train, data.t, seed=config.seed, variant=data.variant)


def _ordered_batches(config: RunConfig, data: AddingDataset, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The fixed data set once, in the seeded order of the epoch."""
    order = _order(len(data), config.seed, epoch)
    for first in range(0, len(data), config.train.batch):
        yield data.batch(order[first : first + config.train.batch])


def _fresh_batches(config: RunConfig, state: _State) -> Iterator[tuple[Tensor, Tensor]]:
    """New sequences of the schedule's lengths, until the epoch's steps are done or a decay has come to its end."""
    first, batch = state.sequences, config.train.batch
    for index in range(config.train.epoch_steps):
        yield sample_batch(batch, _batch_length(config, state.schedule), seed=config.seed, start=first + index * batch,
                           variant=config.dataset.variant)
        if state.schedule.decayed:
            return


def _batch_length(config: RunConfig, schedule: Schedule) -> int:
    """The length of the next batch: depends on the seed, the step and the curriculum's length alone."""
    longest = schedule.length
    if config.curriculum.shortest == 1:
        return longest
    shortest = max(MIN_LENGTH[config.dataset.variant], config.curriculum.shortest * longest)
    philox = np.random.Philox(key=_stream_seed(config.seed, "lengths"), counter=[0, schedule.step, 0, 0])
    uniform = float(int(philox.random_raw()) >> 11) * 2.0**-53
    return round(longest * math.exp(uniform * math.log(shortest / longest)))


def _held_out_mse(config: RunConfig, model: nn.Module, device: torch.device) -> float:
    """Mean squared error on the held-out sequences; on the first few of them while it is far from `stop_val_loss`."""
    n, few, target = config.dataset.n_held_out, config.train.glimpse, config.train.stop_val_loss
    if few is not None and few < n and target is not None:
        glimpse = _squared_error(config, model, device, 0, few) / few
        if not glimpse < _NEAR * target:
            return glimpse
        return (glimpse * few + _squared_error(config, model, device, few, n - few)) / n
    return _squared_error(config, model, device, 0, n) / n


@torch.no_grad()
def _squared_error(config: RunConfig, model: nn.Module, device: torch.device, first: int, n: int) -> float:
    """Sum over held-out items first, ..., first + n - 1: they follow the training items, or are another stream's."""
    model.eval()
    data = config.dataset
    seed, start = (_stream_seed(config.seed, "held_out"), 0) if data.stream else (config.seed, data.n_train)
    total = 0.0
    for x, y in batches(n, data.t, seed=seed, start=start + first, variant=data.variant,
                        batch=evaluation_batch(data.t), device=device):
        total += (model(x) - y).double().square().sum().item()
    return total


def _record(config: RunConfig, state: _State, row: EpochRow) -> None:
    state.rows.append(row)
    watched = row.loss if config.train.es_monitor == "loss" else row.val_loss
    if state.stopping.update(row.epoch, watched) or not state.best_weights:
        state.best_weights = {k: _own_copy(v) for k, v in state.model.state_dict().items()}


def _stop_reason(config: RunConfig, state: _State) -> StopReason | None:
    """Why the run ends after the last recorded epoch; None when it goes on."""
    if not state.rows:
        return None
    last, train = state.rows[-1], config.train
    if not math.isfinite(last.loss):
        return "diverged"
    if train.stop_val_loss is not None and last.val_loss < train.stop_val_loss:
        return "solved"
    if state.stopping.exhausted:
        return "early_stopping"
    if last.sequence_steps >= (train.budget_steps or math.inf) or last.seconds >= 60 * (train.budget_minutes or math.inf):
        return "budget"
    return "epochs" if last.epoch >= train.epochs else None


# --- the end ---------------------------------------------------------------------------------------------------------


def _finish(
    config: RunConfig, state: _State, folder: RunFolder, reason: str, environment: dict[str, Any]
) -> dict[str, Any]:
    """Restore the best weights and write the model, the picture and, last, the result."""
    state.model.load_state_dict(state.best_weights)
    description = models.describe(state.model) | {"versions": runtime.versions()}
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
        "stream": data.stream,
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


def _own_copy(tensor: Tensor) -> Tensor:
    """A contiguous copy that shares memory with no other tensor, as safetensors wants it."""
    return tensor.detach().clone(memory_format=torch.contiguous_format)
