"""A trained model scored on test sequences, of another seed than that of its training."""

from __future__ import annotations

from adding_problem.analysis import plots
from adding_problem.analysis.names import method_names
from adding_problem.config import RunConfig
from adding_problem.errors import ConfigError, RunFolderError
from adding_problem.evaluation.consistency import check_custom
from adding_problem.evaluation.evaluate import Progress, Sequences, predict, score_of
from adding_problem.evaluation.lengths import score_at_lengths
from adding_problem.evaluation.load_model import loaded
from adding_problem.runs import atomic_io
from adding_problem.runs.folder import RunFolder
from adding_problem.runs.leakage import ancestors, require_unseen_seed
from adding_problem.runs.records import Score
from adding_problem.task.sampling import sequence_width

__all__ = ["new_sequences", "score_kept", "score_once", "validate"]


def new_sequences(config: RunConfig) -> Sequences:
    """The test sequences that a run is scored on: its own T and task, the seed `validate.seed`."""
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
        before = check_custom(model, config)
        digest = folder.read_result().digest
        with folder.predictions(n, width, config.task.width) as writer:
            for x, y, y_hat in predict(model, sequences, with_inputs=True, on_progress=on_progress):
                assert x is not None
                writer.add(x, y, y_hat)
            check_custom(model, config, before)
        y, y_hat = writer.written.y, writer.written.y_hat
        score = score_of(sequences, y, y_hat, model=digest)
        (method,) = method_names([config])
        plots.draw_predictions(folder.prediction_plot, y, y_hat, score, method)
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
