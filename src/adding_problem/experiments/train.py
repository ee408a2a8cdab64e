"""One complete training run, as the commands make it: preflight check, training, loss plot."""

from __future__ import annotations

from adding_problem.config import RunConfig
from adding_problem.config.families import FAMILIES
from adding_problem.runs.folder import RunFolder
from adding_problem.runs.records import RunResult
from adding_problem.system.memory import enough_memory
from adding_problem.training import loop
from adding_problem.training.loop import Listener

__all__ = ["draw", "fit", "train", "try_custom"]


def train(
    config: RunConfig,
    *,
    resume: bool = False,
    overwrite: bool = False,
    listener: Listener | None = None,
) -> RunResult:
    """Train a model and leave a complete run folder in `config.artifacts`.

    A finished run of the same configuration is not trained again: its result is returned. SIGINT
    and SIGTERM end the training after the step under way, with a checkpoint. A second one ends
    the process at once.

    Args:
        config: all that determines the run.
        resume: continue a cut run from its checkpoint, with the numbers that the uncut run would
            have had. Also a run, cut or finished, of a configuration that differs in a smaller
            budget alone: `train.epochs`, `budget_steps`, `budget_minutes`, `es_patience`, and
            without `val_subset` a higher `stop_val_loss`.
        overwrite: delete a run that the folder may hold.
        listener: is told of every step and epoch.

    Returns:
        A `RunResult` of `runs/records.py`: what `result.json` says.

    Raises:
        ConfigError, RunFolderError, BackendError, ModelError, StorageError: see
            `adding_problem.errors`.
        Interrupted: a signal came; the run can be resumed.

    Examples:
        >>> from adding_problem import load, train
        >>> few = {"dataset.t": 10, "dataset.dt_length": 600, "train.epochs": 2, "artifacts": "run"}
        >>> result = train(load(overrides=few))
        >>> result.stop_reason, result.epochs, result.sequences
        ('epochs', 2, 840)
    """
    result = fit(config, resume=resume, overwrite=overwrite, listener=listener)
    draw(config, result)
    return result


def fit(
    config: RunConfig,
    *,
    resume: bool = False,
    overwrite: bool = False,
    listener: Listener | None = None,
) -> RunResult:
    """All of `train` but the picture, for which matplotlib has to be loaded."""
    folder = RunFolder(config.artifacts)
    if not overwrite and folder.holds_finished(config):
        return loop.finished(folder, config)
    try_custom(config)
    return loop.run(config, resume=resume, overwrite=overwrite, listener=listener)


def try_custom(config: RunConfig) -> None:
    """Try the model of a configuration where it is a custom one; built-in ones are tested.

    Raises:
        ConfigError, BackendError, ModelError: see `training.preflight.check_model`.
    """
    if config.model.name in FAMILIES:
        return
    from adding_problem.training.preflight import check_model

    with enough_memory():
        check_model(config)


def draw(config: RunConfig, result: RunResult) -> None:
    """The picture of a run folder, where it has none yet."""
    from adding_problem.analysis import plots
    from adding_problem.analysis.names import method_names

    folder = RunFolder(config.artifacts)
    if not folder.loss_plot.exists():
        (method,) = method_names([config])
        plots.draw_loss(folder.loss_plot, folder.read_history(), result, method)
