"""Validation mode: a trained model scored on a new data set of another seed."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from adding_problem import models
from adding_problem.analysis import plots
from adding_problem.config import RunConfig, families
from adding_problem.errors import (
    AddingProblemError,
    BackendError,
    ConfigError,
    ModelError,
    RunFolderError,
    StorageError,
    in_one_line,
)
from adding_problem.evaluation import consistency
from adding_problem.evaluation.evaluate import Progress, predictions
from adding_problem.runs import atomic_io, records
from adding_problem.runs.folder import RunFolder, ancestors, require_other_seed
from adding_problem.runs.predictions import Predictions
from adding_problem.system import runtime
from adding_problem.task.sampling import (
    HIT_TOLERANCE,
    Float32,
    constant_predictor_mse,
    constant_predictor_standard_error,
    sequence_width,
)
from adding_problem.task.variants import Task

__all__ = ["kept_score", "load_model", "score_model", "score_of", "score_once", "scores", "validate"]

_log = logging.getLogger(__name__)

_KEEP_SECONDS = 10.0  # of scoring that are worth keeping


def load_model(
    path: str | Path,
    *,
    backend: str = "torch",
    device: torch.device | str = "cpu",
    trust: bool = False,
    own: str | None = None,
) -> nn.Module:
    """The trained model of a run folder, float32 (B, T, 2) -> (B, 1).

    Only safetensors and JSON are read, nothing that could execute. A model that is not of the zoo is imported by the name
    that the folder gives, and so only where the caller says that it may be.

    Args:
        path: the run folder.
        backend: `torch`, or `native` for the faster kernels on a CPU.
        device: where the model will compute.
        trust: import whatever model the folder names.
        own: the name of a model that the caller trusts anyway; it may lead to the class that the folder names by another path.

    Raises:
        RunFolderError: when the folder holds no finished run, a damaged one, or one that names a model that is not trusted.
        ConfigError, ModelError: when the model of that name cannot be built.
        BackendError: when the memory does not suffice.

    Examples:
        >>> from adding_problem import constant_predictor_mse, load_model, sample_batch
        >>> model = load_model("run")  # see `train`
        >>> x, y = sample_batch(1000, 10, seed=1)
        >>> mse = ((model(x) - y) ** 2).mean()
        >>> bool(mse < 2 * constant_predictor_mse())
        True
    """
    weights, description = RunFolder(path).read_model()
    try:
        records.check(description, records.MODEL)
    except ValueError as error:
        raise RunFolderError(
            path, f"model/model.json is damaged ({error})", "train again with --overwrite"
        ) from None
    named, not_of_the_zoo = (
        models.named_in(description),
        description.get("family") == models.CustomModel.family,
    )
    if (
        not_of_the_zoo and own is not None and models.class_in(own) == models.class_in(str(named))
    ):  # its file may have moved
        named, description = own, {**description, "name": own}
    if not_of_the_zoo and not trust and named != own:
        raise RunFolderError(
            path,
            f"holds a model that is not of the zoo; to load it, {named!r} would be imported and run",
            f"{families.trust_hint()} (in Python: trust=True)",
        )
    changed = not_of_the_zoo and models.changed_since(
        str(named), RunFolder(path).read_result().get("model_source")
    )
    if changed:
        _log.warning("%s: the code of %s has changed since this run", path, named)
    try:
        model = models.from_description(description, weights, backend=backend, device=device)
    except (ValueError, TypeError, ArithmeticError, RuntimeError, MemoryError) as error:
        if isinstance(error, RuntimeError) and runtime.out_of_memory(
            error
        ):  # no MemoryError, which is the limit's
            raise BackendError(
                f"memory: the model of {path} does not fit ({in_one_line(error)})",
                "free memory, or load it on another device",
            ) from None
        if changed:
            raise RunFolderError(
                path,
                f"its weights do not fit {named}, whose code has changed since this run ({in_one_line(error)})",
                "put the code back, or train it into another folder with --artifacts",
            ) from None
        raise RunFolderError(
            path,
            f"model/ does not hold what model.json describes ({in_one_line(error)})",
            "train again with --overwrite",
        ) from None
    return model.eval()


def validate(
    config: RunConfig,
    *,
    trust: bool = False,
    takeover: bool = False,
    on_progress: Progress | None = None,
) -> dict[str, Any]:
    """Score the model in `config.artifacts`; leave `validation.json`, `pred.pkl` and `pred.png` there.

    The sequences come from `config.validate.seed` and have the length and variant of `config.dataset`, which need not
    be those that the model was trained with.

    Args:
        config: names the run folder and the data; the model that it names may be imported.
        trust: import whatever model the run folder names.
        takeover: take the folder from a process that gives no sign of life.
        on_progress: is told the number of sequences scored so far, and of all.

    Returns:
        The content of `validation.json`.

    Raises:
        ConfigError: when the model was trained on the sequences of `config.validate.seed`.
        ModelError: when a prediction depends on more than its sequence and the weights.
        RunFolderError, BackendError: see `adding_problem.errors`.

    Examples:
        >>> from adding_problem import load, validate
        >>> config = load("run/config_copy.yaml", {"artifacts": "run", "dataset.t": 20})  # twice the length; see `train`
        >>> score = validate(config)
        >>> score["t"], score["sequences"], round(score["constant_predictor_mse"], 4)
        (20, 600, 0.1667)
    """
    data, folder = config.dataset, RunFolder(config.artifacts)
    n = config.validate.dt_length or data.dt_length
    if atomic_io.is_regular(folder.config_copy):
        trained = folder.read_config()
        require_other_seed(config.validate.seed, [(folder.path, trained), *ancestors(trained)])
        _require_same_question(config, trained)
    with _model_of(config, trust, config.model.name) as model, folder.locked(takeover=takeover):
        answers = _answers(model, config)
        digest = folder.read_result()["digest"]
        with folder.predictions(
            n, sequence_width(data.t, data.variant), config.task.width
        ) as writer:
            for x, y, y_hat in predictions(
                model,
                config.task,
                data.t,
                n,
                seed=config.validate.seed,
                with_inputs=True,
                on_progress=on_progress,
            ):
                assert x is not None
                writer.add(x, y, y_hat)
            _answers(model, config, answers)
        y, y_hat = writer.written.y, writer.written.y_hat
        result = score_of(config, data.t, y, y_hat) | {"model": digest}
        plots.draw_predictions(folder.prediction_plot, y, y_hat, result)
        folder.write_validation(result)
    return result


def _require_same_question(config: RunConfig, trained: RunConfig) -> None:
    """Raise ConfigError where the model was trained on other inputs or another target; variant and T may differ."""
    for name in ("target", "noise_columns", "mix", "mix_seed"):
        there, here = getattr(trained.task, name), getattr(config.task, name)
        if there != here:
            raise ConfigError(
                f"dataset.{name}",
                f"{there}, on which the model in {config.artifacts} was trained",
                str(here),
                f"leave dataset.{name} as it was in training, or train another model",
            )


def scores(
    config: RunConfig,
    lengths: Sequence[int],
    n: int,
    *,
    trust: bool = False,
    own: str | None = None,
    on_progress: Progress | None = None,
    on_refusal: Callable[[int, AddingProblemError], None] | None = None,
) -> list[dict[str, Any]]:
    """The model in `config.artifacts` scored at other lengths, on n sequences each.

    Of a scoring that takes long the predictions are kept in the folder where it can be written: a cut one goes on, and one of
    more sequences begins with them.

    `trust` and `own` are those of `load_model`. `on_refusal` is told of a length that the model does not take or the memory does not
    hold, which is then left out.

    Returns:
        For each length what `run` returns.

    Raises:
        ModelError, BackendError: when that happens, and nobody is to be told.
    """
    digest = RunFolder(config.artifacts).read_result()["digest"]
    found = []
    with _model_of(config, trust, own) as model:
        answers = _answers(model, config)
        for t in lengths:
            scored = Predictions(n)
            try:
                with runtime.enough_memory():
                    _score(model, config, t, scored, on_progress)
                    _answers(model, config, answers)
            except (ModelError, BackendError) as error:
                if on_refusal is None:
                    raise
                on_refusal(t, error)
                continue
            found.append(score_of(config, t, scored.y, scored.y_hat) | {"model": digest})
    return found


def score_model(model: nn.Module, config: RunConfig, n: int) -> dict[str, Any]:
    """What `validation.json` says of a model that has no run folder yet; all but its digest.

    Args:
        model: in evaluation mode, on its device.
        config: the task, the length T and the seed of the n sequences.
    """
    scored = Predictions(n)
    t = config.dataset.t
    for _, y, y_hat in predictions(model, config.task, t, n, seed=config.validate.seed):
        scored.add(y, y_hat)
    return score_of(config, t, scored.y, scored.y_hat)


def score_once(config: RunConfig) -> dict[str, Any]:
    """`validation.json` of the finished run in `config.artifacts`: read where it is there, else scored now and written.

    The sequences are those of `run`; their pickle and picture, which may be large, are not made.
    """
    if score := kept_score(config):
        return score
    n = config.validate.dt_length or config.dataset.dt_length
    (score,) = scores(config, [config.dataset.t], n, own=config.model.name)
    RunFolder(config.artifacts).write_validation(score)
    return score


def kept_score(config: RunConfig) -> dict[str, Any] | None:
    """`validation.json`, unless it is missing or of another model, length, task, seed or number of sequences."""
    folder, n = RunFolder(config.artifacts), config.validate.dt_length or config.dataset.dt_length
    if not folder.validation.is_file():
        return None
    asked = {
        "t": config.dataset.t,
        "seed": config.validate.seed,
        "sequences": n,
        "model": folder.read_result().get("digest"),
    }
    try:
        score = folder.read_validation()
    except RunFolderError:  # damaged: it is made anew
        return None
    return (
        score if asked.items() <= score.items() and Task.of_record(score) == config.task else None
    )


@contextmanager
def _model_of(config: RunConfig, trust: bool, own: str | None) -> Iterator[nn.Module]:
    """The trained model on its device, while the configuration's threads are at work."""
    device = runtime.resolve_device(config.device)
    backend = runtime.resolve_backend(config.backend, device)
    with runtime.cpu_settings(config.threads), runtime.enough_memory():
        yield load_model(config.artifacts, backend=backend, device=device, trust=trust, own=own)


def _score(
    model: nn.Module, config: RunConfig, t: int, scored: Predictions, on_progress: Progress | None
) -> None:
    """Fill in the predictions on new sequences of length t, from where an earlier scoring of the same weights ended."""
    folder, seed = RunFolder(config.artifacts), config.validate.seed
    code = models.source_digest(model.name) if isinstance(model, models.CustomModel) else None
    key = json.dumps(
        [folder.read_model()[1].get("weights_digest"), code, t, seed, config.task.to_record()]
    )
    folder.read_scored(key, scored)
    written = time.perf_counter()
    for _, y, y_hat in predictions(
        model, config.task, t, len(scored.y), seed=seed, start=scored.count, on_progress=on_progress
    ):
        scored.add(y, y_hat)
        if time.perf_counter() - written > _KEEP_SECONDS:
            with suppress(
                StorageError
            ):  # a folder that cannot be written can be scored all the same
                folder.write_scored(key, scored)
            written = time.perf_counter()


def _answers(
    model: nn.Module,
    config: RunConfig,
    earlier: Mapping[int, Tensor] | None = None,
) -> dict[int, Tensor]:
    """What `consistency.check_predictions` gives for a custom model; nothing for those of the zoo."""
    if not isinstance(model, models.CustomModel):
        return {}
    return consistency.check_predictions(
        model, model.name, length=model.length, task=config.task, earlier=earlier
    )


def score_of(config: RunConfig, t: int, y: Float32, y_hat: Float32) -> dict[str, Any]:
    """What `validation.json` says of predictions `y_hat` (n,) for targets `y` (n,), sequences of length t; all but the model's digest.

    Where a prediction is no finite number, neither is the error; the file then holds null.
    """
    n = len(y)
    error = y_hat.astype(np.float64) - y
    with np.errstate(all="ignore"):  # of a model that diverged
        mse = float(np.mean(error**2))
        standard_error = float(np.std(error**2) / math.sqrt(n))
    return {
        "t": t,
        **config.task.to_record(),
        "seed": config.validate.seed,
        "sequences": n,
        "mse": mse,
        "mse_standard_error": standard_error,
        "rmse": math.sqrt(mse),
        "within_tolerance": float(np.mean(np.abs(error) < HIT_TOLERANCE)),
        "tolerance": HIT_TOLERANCE,
        "constant_predictor_mse": constant_predictor_mse(config.task, t),
        "constant_predictor_standard_error": constant_predictor_standard_error(n, config.task, t),
    }
