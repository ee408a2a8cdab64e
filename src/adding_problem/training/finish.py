"""The end of a run: the weights that are kept, their last validation, and the files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from adding_problem import models
from adding_problem.config import RunConfig
from adding_problem.errors import AddingProblemError, Interrupted
from adding_problem.runs.folder import RunFolder
from adding_problem.runs.records import EpochRow, RunResult, StopReason, longest_within
from adding_problem.system.device import processor, versions
from adding_problem.training.checkpoints import Checkpoints
from adding_problem.training.state import TrainingState
from adding_problem.training.validation import complete_mse

__all__ = ["finish", "software"]


def finish(
    state: TrainingState,
    checkpoints: Checkpoints,
    folder: RunFolder,
    reason: StopReason,
    machine: Mapping[str, Any],
    check: Callable[[], None],
) -> RunResult:
    """Give the model the weights that are kept, and write history, model and, last, result.

    Args:
        state: of the run.
        checkpoints: where it is written when the last validation may be cut.
        folder: of the run.
        reason: why it ended.
        machine: what it was computed on, and the code of a custom model, as the run began.
        check: is called after every batch, and may raise.
    """
    config, model, rows = state.config, state.model, list(state.rows)
    best = max(state.stopping.best_epoch, 1)
    row, n = rows[best - 1], config.dataset.n_held_out
    if row.val_sequences < n:
        checkpoints.write()
    model.load_state_dict(state.best_weights)
    if row.val_sequences < n:
        try:
            mse = complete_mse(model, config, row, check)
        except Interrupted as stop:
            problem = "the training is done and a checkpoint written, the last validation is not"
            raise Interrupted(stop.number, problem) from None
        rows[best - 1] = replace(row, val_loss=mse, val_sequences=n)
    if isinstance(model, models.CustomModel):  # training may bring out what fresh weights hide
        from adding_problem.evaluation.consistency import check_predictions

        check_predictions(model, model.name, length=model.length, task=config.task)
    found = versions()
    description = models.describe(model) | {"versions": found}
    folder.write_history(rows)
    weights = {name: tensor.cpu() for name, tensor in state.best_weights.items()}
    folder.write_model(weights, description)
    result = RunResult.of(
        config,
        rows,
        best,
        reason,
        longest_length=_longest_length(config, rows[:best]),
        parameters=description["parameters"],
        device=state.device.type,
        backend=getattr(model, "backend", "torch"),
        threads=machine["threads"],
        model_source=machine.get("model_source"),
        started_from=state.origin,
        processor=processor(),
        versions=found,
    )
    folder.write_result(result)
    return result


def software(config: RunConfig) -> dict[str, Any]:
    """What a run's numbers depend on beside its configuration."""
    found = versions()
    kernels = {name: found.get(name) for name in ("torch", "adding-problem-native")}
    if config.model.name in models.FAMILIES:
        return kernels
    return kernels | {"model_source": models.source_digest(config.model.name)}


def _longest_length(config: RunConfig, rows: list[EpochRow]) -> int | None:
    """The longest T that the weights after these epochs were trained on; None where unknown."""
    lengths = [longest_within(rows, config)]
    if config.model.start_from is not None:
        lengths.append(None)
        with suppress(AddingProblemError):  # gone or damaged: no reason to lose a run at its end
            lengths[-1] = RunFolder(config.model.start_from).read(score=False).longest
    known = [length for length in lengths if length is not None]
    return max(known) if len(known) == len(lengths) else None
