"""Validation mode: a trained model scored on a new data set of another seed."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from adding_problem import models, plots, runtime
from adding_problem.artifacts import RunFolder
from adding_problem.config import RunConfig
from adding_problem.errors import RunFolderError
from adding_problem.task import (
    HIT_TOLERANCE,
    batches,
    constant_predictor_mse,
    constant_predictor_standard_error,
    evaluation_batch,
    sequence_width,
)

__all__ = ["load_model", "run"]


def load_model(path: str, *, backend: str = "torch") -> nn.Module:
    """The trained model of a run folder, on the CPU, float32 (B, T, 2) -> (B, 1).

    Only safetensors and JSON are read, nothing that could execute.

    Raises:
        RunFolderError: when the folder holds no finished run, or a damaged one.
    """
    weights, description = RunFolder(path).read_model()
    try:
        model = models.from_description(description, backend=backend)
        model.load_state_dict(weights)
    except (ValueError, RuntimeError) as error:
        raise RunFolderError(path, f"model/ does not hold what model.json describes ({error})",
                             "train again with --overwrite") from None
    return model.eval()


@torch.no_grad()
def run(config: RunConfig, *, on_progress: Callable[[int, int], None] | None = None) -> dict[str, Any]:
    """Score the model in `config.artifacts`; leave `validation.json`, `pred.pkl` and `pred.png` there.

    The sequences come from `config.validate.seed` and have the length and variant of `config.dataset`, which need not
    be those that the model was trained with.

    Args:
        config: names the run folder and the data.
        on_progress: is told the number of sequences scored so far, and of all.

    Returns:
        The content of `validation.json`.

    Raises:
        RunFolderError, BackendError: see `adding_problem.errors`.
    """
    data, seed = config.dataset, config.validate.seed
    n = config.validate.dt_length or data.dt_length
    device = runtime.resolve_device(config.device)
    backend = runtime.resolve_backend(config.backend, device)
    folder = RunFolder(config.artifacts)
    with runtime.cpu_threads(config.threads):
        model = load_model(config.artifacts, backend=backend).to(device)
        with folder.predictions(n, sequence_width(data.t, data.variant)) as writer:
            done = 0
            for x, y in batches(n, data.t, seed=seed, variant=data.variant, batch=evaluation_batch(data.t)):
                writer.add(x.numpy(), y.numpy(), model(x.to(device)).cpu().numpy())
                done += len(x)
                if on_progress:
                    on_progress(done, n)
    score = _score(config, n, writer.y, writer.y_hat) | {"model": folder.read_result()["digest"]}
    plots.draw_predictions(folder.prediction_plot, writer.y, writer.y_hat, score)
    folder.write_validation(score)
    return score


def _score(config: RunConfig, n: int, y: np.ndarray[Any, Any], y_hat: np.ndarray[Any, Any]) -> dict[str, Any]:
    data = config.dataset
    error = y_hat.astype(np.float64) - y
    mse = float(np.mean(error**2))
    return {
        "t": data.t,
        "variant": data.variant,
        "seed": config.validate.seed,
        "sequences": n,
        "mse": mse,
        "mse_standard_error": float(np.std(error**2) / math.sqrt(n)),
        "rmse": math.sqrt(mse),
        "within_tolerance": float(np.mean(np.abs(error) < HIT_TOLERANCE)),
        "tolerance": HIT_TOLERANCE,
        "constant_predictor_mse": constant_predictor_mse(data.variant, data.t),
        "constant_predictor_standard_error": constant_predictor_standard_error(n, data.variant, data.t),
    }
