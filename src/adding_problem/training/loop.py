"""Training: one explicit loop from a configuration to a complete run folder."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from adding_problem import models
from adding_problem.analysis import plots
from adding_problem.config import RunConfig
from adding_problem.errors import AddingProblemError, ConfigError, Interrupted, RunFolderError
from adding_problem.evaluation import consistency
from adding_problem.runs.folder import (
    SOLVED,
    EpochRow,
    RunFolder,
    ancestors,
    first_below,
    longest_trained,
    longest_within,
    milestones,
    require_other_seed,
)
from adding_problem.system import runtime, signals
from adding_problem.task.sampling import (
    AddingDataset,
    batches,
    constant_predictor_mse,
    evaluation_batch,
    sample_batch,
    sequence_width,
)
from adding_problem.training import optim, preflight
from adding_problem.training.schedule import (
    EarlyStopping,
    Schedule,
    advance,
    batch_length,
    begin_ending,
    epoch_order,
    stream_seed,
)
from adding_problem.training.state import Checkpoints, EpochSums, TrainingState, own_copy

__all__ = ["Listener", "StepEvent", "StopReason", "train"]

StopReason = Literal["epochs", "early_stopping", "solved", "budget", "diverged"]
"""Why a run ended: the first that holds, in the order of `_stop_reason`."""

_log = logging.getLogger(__name__)
_NEAR = 1.25  # an error on the first few held-out sequences below so many times stop_val_loss calls for all of them


@dataclass(frozen=True)
class StepEvent:
    """Where a run is after a training step.

    Attributes:
        epoch, step: counted from 1, the step within the epoch.
        steps: of this epoch, at most.
        loss: mean squared error of the step's batch, before the step.
        sequences: trained on since the start of the run.
        length: T of this step's sequences.
        longest: T that the curriculum has come to, the longest that may be drawn now.
    """

    epoch: int
    step: int
    steps: int
    loss: float
    sequences: int
    length: int
    longest: int


class Listener(Protocol):
    """What follows a run: a progress display, a logger."""

    def on_step(self, event: StepEvent) -> None:
        """After every training step."""

    def on_epoch(self, row: EpochRow) -> None:
        """After every epoch, its validation included."""


def train(
    config: RunConfig,
    *,
    resume: bool = False,
    overwrite: bool = False,
    takeover: bool = False,
    listener: Listener | None = None,
) -> dict[str, Any]:
    """Train a model and leave a complete run folder in `config.artifacts`.

    A finished run of the same configuration is not trained again: its result is returned as it stands. SIGINT and SIGTERM
    end it after the step under way, with a checkpoint; the second one ends the process at once.

    Args:
        config: all that determines the run.
        resume: continue a cut run from its checkpoint, with the numbers that the uncut run would have had; also a run, cut or
            finished, of a configuration that differs in a smaller budget alone: `train.epochs`, `budget_steps`, `budget_minutes`,
            `es_patience`, and without `val_subset` a higher `stop_val_loss`.
        overwrite: delete a run that the folder may hold.
        takeover: take the folder from a process that gives no sign of life.
        listener: is told of every step and epoch.

    Returns:
        The content of `result.json`.

    Raises:
        ConfigError, RunFolderError, BackendError, ModelError, StorageError: see `adding_problem.errors`.
        Interrupted: a signal came; the run can be resumed.

    Examples:
        >>> from adding_problem import load, train
        >>> config = load(overrides={"dataset.t": 10, "dataset.dt_length": 600, "train.epochs": 2, "artifacts": "run"})
        >>> result = train(config)
        >>> result["stop_reason"], result["epochs"], result["sequences"]
        ('epochs', 2, 840)
    """
    device = runtime.resolve_device(config.device)
    backend = runtime.resolve_backend(config.backend, device)
    folder = RunFolder(config.artifacts)
    if not overwrite and folder.holds_finished(config):
        result = _finished(folder, config)
    else:
        with runtime.enough_memory():
            preflight.check_model(config)
            runtime.require_memory(_bytes_of_sequences(config), "the sequences take")
            if config.model.start_from is not None and not (resume and folder.has_checkpoint):
                _check_start(config, config.model.start_from, device, backend)
        with folder.locked(takeover=takeover), signals.deferred() as interrupted:
            status = folder.open(config, resume=resume, overwrite=overwrite)
            if status == "finished":  # by the process that held the folder until now
                result = _finished(folder, config)
            else:
                result = _from_start_to_end(
                    config,
                    folder,
                    device,
                    backend,
                    interrupted,
                    listener,
                    resumed=status == "resumed",
                )
            if (
                interrupted.number is not None
            ):  # too late for this run, but not for what its caller would do next
                raise Interrupted(interrupted.number, f"the training in {folder.path} is complete")
    return result


def _from_start_to_end(
    config: RunConfig,
    folder: RunFolder,
    device: torch.device,
    backend: str,
    interrupted: signals.Interruption,
    listener: Listener | None,
    *,
    resumed: bool,
) -> dict[str, Any]:
    """Train and write the result into a folder that is open and locked."""
    with runtime.cpu_settings(config.threads) as threads:
        machine = {"device": device.type, "backend": backend, "threads": threads}
        if config.model.name not in models.FAMILIES:
            machine["model_source"] = models.source_digest(config.model.name)
        with runtime.enough_memory():
            work = _begin(config, folder, device, machine, interrupted, resumed=resumed)
            ran_on = getattr(work.state.model, "backend", "torch")
            reason = _train(work, listener)
            rows = _validate_kept(work)
            _check_trained(work)
    return _finish(
        work, folder, rows, reason, machine | {"backend": ran_on, "started_from": work.state.origin}
    )


@dataclass(frozen=True)
class _Work:
    """What the loop works with; only the state changes."""

    config: RunConfig
    state: TrainingState
    checkpoints: Checkpoints
    device: torch.device
    interruption: signals.Interruption


def _bytes_of_sequences(config: RunConfig) -> int:
    """The fixed data set, whose marks are not stored, and the batch; 4 bytes a number."""
    data, task = config.dataset, config.task
    batch = 4 * task.width * max(config.train.batch, evaluation_batch(data.t))
    fixed = 0 if data.stream else 4 * (task.width - 1) * data.n_train
    return sequence_width(data.t, data.variant) * (batch + fixed)


def _begin(
    config: RunConfig,
    folder: RunFolder,
    device: torch.device,
    machine: dict[str, Any],
    interrupted: signals.Interruption,
    *,
    resumed: bool,
) -> _Work:
    state = _fresh(
        config, device, machine["backend"], start_from=None if resumed else config.model.start_from
    )
    machine = machine | {
        name: runtime.versions().get(name) for name in ("torch", "adding-problem-native")
    }
    checkpoints = Checkpoints(
        folder, state, minutes=config.train.checkpoint_minutes, machine=machine
    )
    if resumed:
        checkpoints.restore()
        folder.adopt(config)
    return _Work(config, state, checkpoints, device, interrupted)


def _fresh(
    config: RunConfig, device: torch.device, backend: str, *, start_from: str | None = None
) -> TrainingState:
    seed = stream_seed(config.seed, "initialisation")
    model = models.build_model(
        config.model,
        seed=seed,
        backend=backend,
        length=config.dataset.t,
        input_size=config.task.width,
        device=device,
        only_readout=config.train.only_readout,
    )
    origin = _load_start(model, start_from) if start_from is not None else None
    return TrainingState(
        model,
        optim.optimizer_for(config.train, model),
        EarlyStopping(config.train.es_patience),
        Schedule.first(config),
        origin=origin,
    )


def _finished(folder: RunFolder, config: RunConfig) -> dict[str, Any]:
    """The result of a finished run, unless `model.start_from` holds another model by now; it may be gone altogether."""
    result, start = (
        folder.read_result(),
        config.model.start_from and RunFolder(config.model.start_from),
    )
    if (
        start
        and start.result.is_file()
        and result.get("started_from") != start.read_result()["digest"]
    ):
        raise RunFolderError(
            folder.path,
            "holds a run that started from another model than model.start_from holds now",
            "give --artifacts another folder, or --overwrite to train again",
        )
    if models.changed_since(config.model.name, result.get("model_source")):
        _log.warning(
            "the code of %s has changed since this run; --overwrite trains the new one",
            config.model.name,
        )
    return result


def _check_start(config: RunConfig, start_from: str, device: torch.device, backend: str) -> None:
    """Whether the weights to begin with are there and fit: told before the folder is taken, or what it holds deleted.

    Raises:
        ConfigError: when the run would replace them.
        RunFolderError: when they are not there, or of another model.
    """
    begun_with = list(ancestors(config))
    require_other_seed(config.validate.seed, begun_with)
    for path, there in begun_with:
        if _has_trained_on_the_held_out(there, config):
            raise ConfigError(
                "seed",
                "held-out sequences that the weights to begin with were not trained on",
                f"{config.seed}, of whose sequences {path} was trained on more",
                "change seed",
            )
    if Path(start_from).resolve() == Path(config.artifacts).resolve():
        raise ConfigError(
            "model.start_from",
            "another folder than artifacts",
            start_from,
            "give --artifacts another folder: the weights that a run begins with are kept",
        )
    _fresh(config, device, backend, start_from=start_from)


def _has_trained_on_the_held_out(there: RunConfig, config: RunConfig) -> bool:
    """Fixed held-out sequences follow the training sequences in their stream; those beside fresh ones have a stream of their own."""
    theirs, data = there.dataset, config.dataset
    if data.stream or (there.seed, theirs.variant) != (config.seed, data.variant):
        return False
    return (
        theirs.t >= data.t
        if theirs.stream
        else theirs.t == data.t and theirs.n_train > data.n_train
    )


def _load_start(model: nn.Module, path: str) -> str:
    """Give the model the weights of another run, and return that run's digest."""
    digest = str(RunFolder(path).read_result()["digest"])
    weights, _ = RunFolder(path).read_model()
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        if runtime.out_of_memory(error):
            raise
        raise RunFolderError(
            path,
            f"model/ does not fit the model of this configuration ({error})",
            "change model.start_from, or the keys under model: to those of that run",
        ) from None
    return digest


# --- the loop --------------------------------------------------------------------------------------------------------


def _train(work: _Work, listener: Listener | None) -> StopReason:
    config, state = work.config, work.state
    data = None if config.dataset.stream else _fixed_data(config)
    state.start_clock()
    try:
        while (reason := _stop_reason(config, state)) is None:
            for event in _epoch(work, data):
                if listener:
                    listener.on_step(event)
            row = _end_epoch(work)
            work.checkpoints.after_epoch()
            if listener:
                listener.on_epoch(row)
    except Interrupted as stop:
        work.checkpoints.write()
        where = f"step {state.sums.steps} of epoch {len(state.rows) + 1}"
        raise Interrupted(stop.number, f"a checkpoint is written, at {where}") from None
    return reason


def _epoch(work: _Work, data: AddingDataset | None) -> Iterator[StepEvent]:
    """The steps of this epoch that are still to be done; between two of them the state is one to continue from."""
    config, state, epoch = work.config, work.state, len(work.state.rows) + 1
    state.model.train()
    steps = math.ceil(len(data) / config.train.batch) if data else config.train.epoch_steps
    batch_source = (
        _fresh_batches(config, state) if data is None else _ordered_batches(config, data, state)
    )
    for x, y in batch_source:
        length, longest = batch_length(config, state.schedule), state.schedule.length
        loss = _step(config, state, x.to(work.device), y.to(work.device))
        state.schedule = advance(state.schedule, loss, config)
        state.sums = state.sums.plus(
            loss, len(x), sequence_width(length, config.dataset.variant), length
        )
        yield StepEvent(epoch, state.sums.steps, steps, loss, state.sequences, length, longest)
        work.interruption.check()
        work.checkpoints.after_step()


def _end_epoch(work: _Work) -> EpochRow:
    """Validate, and record the epoch in the state."""
    state = work.state
    held_out = _held_out_mse(work)
    row = EpochRow(
        len(state.rows) + 1,
        state.sums.loss / state.sums.sequences,
        held_out.mse,
        state.sequences,
        state.sequence_steps,
        state.seconds,
        held_out.sequences,
        state.sums.longest_length,
    )
    state.rows.append(row)
    state.sums = EpochSums()
    if work.config.train.es_monitor == "loss":
        improved = state.stopping.update(row.epoch, row.loss)
    else:
        improved = state.stopping.update(row.epoch, held_out.first, held_out.complete)
    if improved or not state.best_weights:
        state.best_weights = {k: own_copy(v) for k, v in state.model.state_dict().items()}
    goal = work.config.train.stop_val_loss
    if goal is not None and row.val_loss < (work.config.train.ending_below or goal):
        state.schedule = begin_ending(state.schedule, work.config)
    return row


def _step(config: RunConfig, state: TrainingState, x: Tensor, y: Tensor) -> float:
    """One training step; the loss before it."""
    (group,) = state.optimizer.param_groups
    group["lr"] = state.schedule.learning_rate(config)
    with _randomness(config, state):
        return optim.step(config.train, state.model, state.optimizer, x, y)


def _randomness(config: RunConfig, state: TrainingState) -> AbstractContextManager[None]:
    """Random numbers of a custom model (dropout) depend on the seed and the step alone; the zoo draws none."""
    if not isinstance(state.model, models.CustomModel):
        return nullcontext()
    return runtime.seeded(stream_seed(config.seed, "model") + state.schedule.step)


def _fixed_data(config: RunConfig) -> AddingDataset:
    data = config.dataset
    return AddingDataset(data.n_train, data.t, seed=config.seed, task=config.task)


def _ordered_batches(
    config: RunConfig, data: AddingDataset, state: TrainingState
) -> Iterator[tuple[Tensor, Tensor]]:
    """The rest of the fixed data set, in the seeded order of the epoch."""
    order, batch = epoch_order(len(data), config.seed, len(state.rows) + 1), config.train.batch
    for first in range(state.sums.steps * batch, len(data), batch):
        yield data.batch(order[first : first + batch])


def _fresh_batches(config: RunConfig, state: TrainingState) -> Iterator[tuple[Tensor, Tensor]]:
    """New sequences of the schedule's lengths, until the epoch's steps are done or a decay has come to its end in it."""
    while state.sums.steps < config.train.epoch_steps and not (
        state.sums.steps and state.schedule.decayed
    ):
        yield sample_batch(
            config.train.batch,
            batch_length(config, state.schedule),
            seed=config.seed,
            start=state.sequences,
            task=config.task,
        )


@dataclass(frozen=True)
class _HeldOut:
    """Mean squared errors of one epoch on held-out sequences.

    Attributes:
        first: on those that the validation of every epoch covers.
        complete: on all; None where the validation did not cover them.
        sequences: number that the validation covered.
    """

    first: float
    complete: float | None
    sequences: int

    @property
    def mse(self) -> float:
        """On all that the validation covered."""
        return self.first if self.complete is None else self.complete


def _held_out_mse(work: _Work) -> _HeldOut:
    """The first few alone while the error on them is neither near `stop_val_loss` nor the first below `SOLVED`."""
    config = work.config
    n, few, target = config.dataset.n_held_out, config.train.val_subset, config.train.stop_val_loss
    if few is None or few >= n or target is None:
        mse = _squared_error(work, 0, n) / n
        return _HeldOut(mse, mse, n)
    first = _squared_error(work, 0, few) / few
    solved_before = first_below(work.state.rows, SOLVED) is not None
    near = first < _NEAR * target and not _inside_ending(work)
    if near or (first < SOLVED and not solved_before):
        return _HeldOut(first, (first * few + _squared_error(work, few, n - few)) / n, n)
    return _HeldOut(first, None, few)


def _inside_ending(work: _Work) -> bool:
    """Whether the run ends with a decay that is under way: until its end no validation decides anything."""
    schedule = work.state.schedule
    return (
        work.config.train.ending_steps is not None
        and schedule.decay_steps > 0
        and not schedule.decayed
    )


def _validate_kept(work: _Work) -> list[EpochRow]:
    """Give the model the weights that are kept; the history with the error of their epoch on all held-out sequences.

    Raises:
        Interrupted: when a signal came; the checkpoint is that of the end of training.
    """
    state, n = work.state, work.config.dataset.n_held_out
    kept = max(state.stopping.best_epoch, 1) - 1
    row = state.rows[kept]
    if row.val_sequences < n:
        work.checkpoints.write()
    state.model.load_state_dict(state.best_weights)
    if row.val_sequences == n:
        return state.rows
    try:
        squares = row.val_loss * row.val_sequences + _squared_error(
            work, row.val_sequences, n - row.val_sequences
        )
    except Interrupted as stop:
        raise Interrupted(
            stop.number, "the training is done and a checkpoint written, the last validation is not"
        ) from None
    complete = replace(row, val_loss=squares / n, val_sequences=n)
    return [*state.rows[:kept], complete, *state.rows[kept + 1 :]]


@torch.no_grad()
def _squared_error(work: _Work, first: int, n: int) -> float:
    """Sum over held-out items first, ..., first + n - 1: they follow the training items, or are another stream's."""
    work.state.model.eval()
    data, seed = work.config.dataset, work.config.seed
    seed, start = (stream_seed(seed, "held_out"), 0) if data.stream else (seed, data.n_train)
    total = 0.0
    for x, y in batches(
        n,
        data.t,
        seed=seed,
        start=start + first,
        task=work.config.task,
        batch=evaluation_batch(data.t),
        device=work.device,
    ):
        work.interruption.check()
        error = (work.state.model(x) - y).cpu()  # MPS has no float64
        total += error.double().square().sum().item()
    return total


def _below_goal(config: RunConfig, row: EpochRow) -> bool:
    return config.train.stop_val_loss is not None and row.val_loss < config.train.stop_val_loss


def _stop_reason(config: RunConfig, state: TrainingState) -> StopReason | None:
    """Why the run ends after the last recorded epoch; None when it goes on."""
    if not state.rows:
        return None
    last, train = state.rows[-1], config.train
    if not math.isfinite(last.loss):
        return "diverged"
    if _below_goal(config, last) and (train.ending_steps is None or state.schedule.decayed):
        return "solved"
    if state.stopping.exhausted:
        return "early_stopping"
    if last.sequence_steps >= (train.budget_steps or math.inf) or last.seconds >= 60 * (
        train.budget_minutes or math.inf
    ):
        return "budget"
    return "epochs" if last.epoch >= train.epochs else None


# --- the end ---------------------------------------------------------------------------------------------------------


def _check_trained(work: _Work) -> None:
    """Check the weights that are kept of a custom model: training may bring out what no fresh weights show.

    Raises:
        ModelError: when its predictions depend on more than the sequence and the weights.
    """
    model = work.state.model
    if isinstance(model, models.CustomModel):
        consistency.check_predictions(model, model.name, length=model.length, task=work.config.task)


def _finish(
    work: _Work,
    folder: RunFolder,
    rows: Sequence[EpochRow],
    reason: StopReason,
    environment: dict[str, Any],
) -> dict[str, Any]:
    """Write the history, the model, the picture and, last, the result."""
    config, state = work.config, work.state
    description = models.describe(state.model) | {"versions": runtime.versions()}
    weights = {name: tensor.cpu() for name, tensor in state.best_weights.items()}
    folder.write_history(rows)
    folder.write_model(weights, description)
    result = _result(config, rows, max(state.stopping.best_epoch, 1), reason) | {
        "parameters": description["parameters"],
        **environment,
        "processor": runtime.processor(),
        "versions": runtime.versions(),
    }
    plots.draw_loss(folder.loss_plot, rows, result)
    folder.write_result(result)
    return result


def _result(
    config: RunConfig, rows: Sequence[EpochRow], best_epoch: int, reason: StopReason
) -> dict[str, Any]:
    best, last, data = rows[best_epoch - 1], rows[-1], config.dataset
    return {
        "digest": config.digest,
        "seed": config.seed,
        "t": data.t,
        **config.task.to_record(),
        "stream": data.stream,
        "constant_predictor_mse": constant_predictor_mse(config.task, data.t),
        "stop_reason": reason,
        "epochs": last.epoch,
        "best_epoch": best.epoch,
        "best_loss": best.loss,
        "best_val_loss": best.val_loss,
        **milestones(rows),
        "sequences": last.sequences,
        "sequence_steps": last.sequence_steps,
        "longest_length": _longest_length(config, rows[: best.epoch]),
        "seconds": last.seconds,
    }


def _longest_length(config: RunConfig, rows: Sequence[EpochRow]) -> int | None:
    """The longest T that the weights after these epochs were trained on; None where nobody knows, as of a start that was imported."""
    lengths = [longest_within(rows, config)]
    if config.model.start_from is not None:
        lengths.append(None)
        with suppress(
            AddingProblemError
        ):  # gone or damaged meanwhile: no reason to lose a run at its end
            start = RunFolder(config.model.start_from)
            lengths[-1] = longest_trained(
                start.read_config(), start.read_history(), start.read_result()
            )
    known = [length for length in lengths if length is not None]
    return max(known) if len(known) == len(lengths) else None
