"""The model that a run begins with: built, and with the weights of another run, `start_from`."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from adding_problem import models
from adding_problem.config import RunConfig
from adding_problem.errors import ConfigError, RunFolderError
from adding_problem.runs.folder import RunFolder
from adding_problem.runs.leakage import ancestors, require_unseen_seed
from adding_problem.system.memory import out_of_memory

__all__ = ["build_model", "check_start", "load_start"]


def build_model(config: RunConfig, device: torch.device, backend: str, *, seed: int) -> nn.Module:
    """The model of a configuration, as training takes it, with the initial weights of a seed.

    Raises:
        ConfigError, ModelError, BackendError: see `models.build_model`.
    """
    return models.build_model(
        config.model,
        seed=seed,
        backend=backend,
        length=config.dataset.t,
        input_size=config.task.width,
        device=device,
        only_readout=config.train.only_readout,
    )


def check_start(config: RunConfig, start_from: str) -> None:
    """Raise unless a run may begin with the weights of another.

    Raises:
        ConfigError: when it would replace them, or when the other run was trained on sequences
            that this one is validated or scored on.
    """
    begun_with = list(ancestors(config))
    require_unseen_seed(config.validate.seed, begun_with)
    for path, there in begun_with:
        if _has_trained_on_validation_set(there, config):
            raise ConfigError(
                "seed",
                "validation sequences that the weights to begin with were not trained on",
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


def _has_trained_on_validation_set(there: RunConfig, config: RunConfig) -> bool:
    """A fixed validation set follows the training sequences in their stream.

    That beside fresh sequences has a stream of its own.
    """
    theirs, data = there.dataset, config.dataset
    if data.stream or (there.seed, theirs.variant) != (config.seed, data.variant):
        return False
    if theirs.stream:
        return theirs.t >= data.t
    return theirs.t == data.t and theirs.n_train > data.n_train


def load_start(model: nn.Module, path: str) -> str:
    """Give the model the weights of another run, and return that run's digest.

    Raises:
        RunFolderError: when they are not there, or do not fit.
    """
    folder = RunFolder(path)
    weights, _ = folder.read_model()
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        if out_of_memory(error):
            raise
        raise RunFolderError(
            path,
            f"model/ does not fit the model of this configuration ({error})",
            "change model.start_from, or the keys under model: to those of that run",
        ) from None
    return folder.read_result().digest
