"""Training: one explicit loop from a configuration to a complete run folder."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from adding_problem import models
from adding_problem.config import RunConfig
from adding_problem.errors import Interrupted, RunFolderError
from adding_problem.runs.folder import RunFolder
from adding_problem.runs.records import EpochRow, RunResult, StopReason
from adding_problem.system import signals
from adding_problem.system.device import resolve_backend, resolve_device
from adding_problem.system.memory import enough_memory
from adding_problem.system.threads import cpu_settings
from adding_problem.training.checkpoints import Checkpoints
from adding_problem.training.finish import finish, software
from adding_problem.training.start import check_start, load_start
from adding_problem.training.state import StepEvent, TrainingState
from adding_problem.training.validation import validate_epoch

__all__ = ["Listener", "finished", "run"]

_log = logging.getLogger(__name__)


class Listener(Protocol):
    """What follows a run: a progress display, a logger."""

    def on_step(self, event: StepEvent) -> None:
        """After every training step."""

    def on_epoch(self, row: EpochRow) -> None:
        """After every epoch, its validation included."""


def run(
    config: RunConfig,
    *,
    resume: bool = False,
    overwrite: bool = False,
    listener: Listener | None = None,
) -> RunResult:
    """Train a model and leave a complete run folder but for its picture, see `train`."""
    folder = RunFolder(config.artifacts)
    device = resolve_device(config.device)
    backend = resolve_backend(config.backend, device)
    with cpu_settings(config.threads) as threads, enough_memory():
        # Before the folder is taken, or what it holds deleted: this may fail.
        state = TrainingState.fresh(config, device, backend)
        if config.model.start_from is not None and not (resume and folder.has_checkpoint):
            check_start(config, config.model.start_from)
            state.origin = load_start(state.model, config.model.start_from)
        with folder.locked(), signals.deferred() as interruption:
            status = folder.open(config, resume=resume, overwrite=overwrite)
            if status == "finished":  # by the process that held the folder until now
                result = finished(folder, config)
            else:
                machine = {"device": device.type, "backend": backend, "threads": threads}
                machine |= software(config)
                checkpoints = Checkpoints(folder, state, machine=machine)
                if status == "resumed":
                    checkpoints.restore()
                    folder.adopt(config)
                reason = _train(state, checkpoints, listener, interruption.check)
                result = finish(state, checkpoints, folder, reason, machine, interruption.check)
            if interruption.number is not None:  # too late for this run, but not for its caller
                problem = f"the training in {folder.path} is complete"
                raise Interrupted(interruption.number, problem)
    return result


def _train(
    state: TrainingState,
    checkpoints: Checkpoints,
    listener: Listener | None,
    check: Callable[[], None],
) -> StopReason:
    """Epoch after epoch; `check` raises Interrupted when a signal has asked for the end."""
    config = state.config
    state.batches.draw()
    state.start_clock()
    try:
        while (reason := state.stop_reason()) is None:
            while (batch := state.next_batch()) is not None:
                event = state.step(batch)
                if listener:
                    listener.on_step(event)
                check()
                checkpoints.after_step()
            validation = validate_epoch(state.model, config, state.rows, state.schedule, check)
            row = state.end_epoch(validation)
            checkpoints.after_epoch()
            if listener:
                listener.on_epoch(row)
    except Interrupted as stop:
        checkpoints.write()
        where = f"step {state.sums.steps} of epoch {state.epoch}"
        raise Interrupted(stop.number, f"a checkpoint is written, at {where}") from None
    return reason


def finished(folder: RunFolder, config: RunConfig) -> RunResult:
    """The result of the finished run that a folder holds.

    Raises:
        RunFolderError: when `model.start_from`, if it is still there, holds another model by now.
    """
    result = folder.read_result()
    start = config.model.start_from and RunFolder(config.model.start_from)
    if start and start.result.is_file() and result.started_from != start.read_result().digest:
        raise RunFolderError(
            folder.path,
            "holds a run that started from another model than model.start_from holds now",
            "give --artifacts another folder, or --overwrite to train again",
        )
    if models.changed_since(config.model.name, result.model_source):
        _log.warning(
            "the code of %s has changed since this run; --overwrite trains the new one",
            config.model.name,
        )
    return result
