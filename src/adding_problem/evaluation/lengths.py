"""A trained model scored at other lengths than its own, resumable."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from torch import nn

from adding_problem import models
from adding_problem.config import RunConfig
from adding_problem.errors import AddingProblemError, BackendError, ModelError, StorageError
from adding_problem.evaluation.consistency import check_custom
from adding_problem.evaluation.evaluate import Progress, Sequences, evaluate, score_of
from adding_problem.evaluation.load_model import loaded
from adding_problem.runs.folder import RunFolder
from adding_problem.runs.predictions import Predictions
from adding_problem.runs.records import Score
from adding_problem.system.memory import enough_memory

__all__ = ["score_at_lengths"]

_KEEP_SECONDS = 10.0  # of scoring that are worth keeping


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
        before = check_custom(model, config)
        for t in lengths:
            sequences = Sequences(config.task, t, config.validate.seed, n)
            try:
                with enough_memory():
                    scored = _evaluate_and_keep(model, config, sequences, on_progress)
                    check_custom(model, config, before)
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
