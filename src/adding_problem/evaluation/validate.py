"""A trained model scored on new sequences, of another seed than that of its training."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from torch import Tensor, nn

from adding_problem import models
from adding_problem.analysis import plots
from adding_problem.config import RunConfig
from adding_problem.errors import (
    AddingProblemError,
    BackendError,
    ConfigError,
    ModelError,
    RunFolderError,
    StorageError,
)
from adding_problem.evaluation import consistency
from adding_problem.evaluation.evaluate import Progress, Sequences, evaluate, predict, score_of
from adding_problem.evaluation.load_model import loaded
from adding_problem.runs import atomic_io
from adding_problem.runs.folder import RunFolder
from adding_problem.runs.leakage import ancestors, require_unseen_seed
from adding_problem.runs.predictions import Predictions
from adding_problem.runs.records import Score
from adding_problem.system.memory import enough_memory
from adding_problem.task.sampling import sequence_width

__all__ = ["new_sequences", "score_at_lengths", "score_kept", "score_once", "validate"]

_KEEP_SECONDS = 10.0  # of scoring that are worth keeping


def new_sequences(config: RunConfig) -> Sequences:
    """The new sequences that a run is scored on: its own T and task, the seed `validate.seed`."""
    n = config.validate.dt_length or config.dataset.dt_length
    return Sequences(config.task, config.dataset.t, config.validate.seed, n)


def validate(
    config: RunConfig,
    *,
    trust: bool = False,
    on_progress: Progress | None = None,
) -> Score:
    """Score the model in `config.artifacts`; leave `validation.json`, `pred.pkl` and `pred.png`.

    The sequences come from `config.validate.seed` and have the length and variant of
    `config.dataset`, which need not be those that the model was trained with.

    Args:
        config: names the run folder and the data; the model that it names may be imported.
        trust: import whatever model the run folder names.
        on_progress: is told the number of sequences scored so far, and of all.

    Returns:
        A `Score` of `runs/records.py`: what `validation.json` says.

    Raises:
        ConfigError: when the model was trained on the sequences of `config.validate.seed`.
        ModelError: when a prediction depends on more than its sequence and the weights.
        RunFolderError, BackendError: see `adding_problem.errors`.

    Examples:
        >>> from adding_problem import load, validate
        >>> twice = {"artifacts": "run", "dataset.t": 20}  # twice the length; see `train`
        >>> score = validate(load("run/config_copy.yaml", twice))
        >>> score.t, score.sequences, round(score.constant_predictor_mse, 4)
        (20, 600, 0.1667)
    """
    folder, sequences = RunFolder(config.artifacts), new_sequences(config)
    n, width = sequences.stop, sequence_width(sequences.length, sequences.task.variant)
    if atomic_io.is_regular(folder.config_copy):
        trained = folder.read_config()
        runs = [(folder.path, trained), *ancestors(trained)]
        require_unseen_seed(config.validate.seed, runs)
        _require_same_question(config, trained)
    own = config.model.name
    with loaded(config, trust=trust, own=own) as model, folder.locked():
        before = _check_custom(model, config)
        digest = folder.read_result().digest
        with folder.predictions(n, width, config.task.width) as writer:
            for x, y, y_hat in predict(model, sequences, with_inputs=True, on_progress=on_progress):
                assert x is not None
                writer.add(x, y, y_hat)
            _check_custom(model, config, before)
        y, y_hat = writer.written.y, writer.written.y_hat
        score = score_of(sequences, y, y_hat, model=digest)
        plots.draw_predictions(folder.prediction_plot, y, y_hat, score)
        folder.write_score(score)
    return score


def _require_same_question(config: RunConfig, trained: RunConfig) -> None:
    """Raise ConfigError unless inputs and target are those of the training."""
    for name in ("target", "noise_columns", "mix", "mix_seed"):
        there, here = getattr(trained.task, name), getattr(config.task, name)
        if there != here:
            raise ConfigError(
                f"dataset.{name}",
                f"{there}, on which the model in {config.artifacts} was trained",
                str(here),
                f"leave dataset.{name} as it was in training, or train another model",
            )


def score_once(config: RunConfig) -> Score:
    """`validation.json` of the run in `config.artifacts`: read, or else scored and written.

    The sequences are those of `validate`; their pickle and picture, which may be large, are not
    made.
    """
    if score := score_kept(config):
        return score
    sequences = new_sequences(config)
    (score,) = score_at_lengths(config, [sequences.length], sequences.stop, own=config.model.name)
    RunFolder(config.artifacts).write_score(score)
    return score


def score_kept(config: RunConfig) -> Score | None:
    """`validation.json`, unless it is missing or of another model or other sequences."""
    folder, sequences = RunFolder(config.artifacts), new_sequences(config)
    if not folder.validation.is_file():
        return None
    try:
        score, digest = folder.read_score(), folder.read_result().digest
    except RunFolderError:  # damaged: it is made again
        return None
    kept = Sequences(score.task, score.t, score.seed, score.sequences)
    return score if (score.model, kept) == (digest, sequences) else None


def score_at_lengths(
    config: RunConfig,
    lengths: Sequence[int],
    n: int,
    *,
    trust: bool = False,
    own: str | None = None,
    on_progress: Progress | None = None,
    on_refusal: Callable[[int, AddingProblemError], None] | None = None,
) -> list[Score]:
    """The model in `config.artifacts` scored at other lengths, on n sequences each.

    Of a scoring that takes long the predictions are kept in the folder where it can be written: a
    cut one is continued, and one of more sequences begins with them.

    Args:
        config: names the run folder and the task.
        lengths: T to test at.
        n: sequences at each.
        trust, own: those of `load_model`.
        on_progress: is told the number of sequences scored so far, and of all.
        on_refusal: is told of a length that the model does not take or memory does not hold, which
            is then left out.

    Raises:
        ModelError, BackendError: when that happens, and there is no `on_refusal`.
    """
    digest = RunFolder(config.artifacts).read_result().digest
    found = []
    with loaded(config, trust=trust, own=own) as model:
        before = _check_custom(model, config)
        for t in lengths:
            sequences = Sequences(config.task, t, config.validate.seed, n)
            try:
                with enough_memory():
                    scored = _evaluate_and_keep(model, config, sequences, on_progress)
                    _check_custom(model, config, before)
            except (ModelError, BackendError) as error:
                if on_refusal is None:
                    raise
                on_refusal(t, error)
                continue
            found.append(score_of(sequences, scored.y, scored.y_hat, model=digest))
    return found


def _evaluate_and_keep(
    model: nn.Module, config: RunConfig, sequences: Sequences, on_progress: Progress | None
) -> Predictions:
    """The predictions, from where an earlier scoring of the same weights ended."""
    folder = RunFolder(config.artifacts)
    code = models.source_digest(model.name) if isinstance(model, models.CustomModel) else None
    task, seed = sequences.task.to_record(), sequences.seed
    key = json.dumps([folder.weights_digest(), code, sequences.length, seed, task])
    scored = Predictions(sequences.stop)
    folder.read_scored(key, scored)
    written = time.perf_counter()

    def keep() -> None:
        nonlocal written
        if time.perf_counter() - written > _KEEP_SECONDS:
            with suppress(
                StorageError
            ):  # a folder that cannot be written can be scored all the same
                folder.write_scored(key, scored)
            written = time.perf_counter()

    return evaluate(model, sequences, on_progress=on_progress, onto=scored, after_batch=keep)


def _check_custom(
    model: nn.Module, config: RunConfig, earlier: Mapping[int, Tensor] | None = None
) -> dict[int, Tensor]:
    """What `check_predictions` gives for a custom model; nothing for a built-in one."""
    if not isinstance(model, models.CustomModel):
        return {}
    return consistency.check_predictions(
        model, model.name, length=model.length, task=config.task, earlier=earlier
    )
