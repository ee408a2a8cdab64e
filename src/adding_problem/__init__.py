"""The adding problem: the standard test of how far back in time a sequence model can remember.

The public names below are loaded when they are first used, so that `import adding_problem` costs
nothing.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# PyTorch reads this at its first tensor. It then asks for huge pages for tensors of 2 MiB and
# more (docs/performance.md).
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

if TYPE_CHECKING:
    from adding_problem.config import RunConfig, load
    from adding_problem.errors import (
        AddingProblemError,
        BackendError,
        ConfigError,
        InteropError,
        Interrupted,
        ModelError,
        RunFolderError,
        StorageError,
    )
    from adding_problem.evaluation.load_model import load_model
    from adding_problem.evaluation.validate import validate
    from adding_problem.experiments.train import train
    from adding_problem.models import build_model
    from adding_problem.task.baselines import (
        constant_predictor_mse,
        constant_predictor_standard_error,
    )
    from adding_problem.task.data_sets import AddingDataset, AddingStream
    from adding_problem.task.sampling import sample_batch, sample_batch_numpy
    from adding_problem.task.variants import Task

HOMES = {
    "AddingDataset": "task.data_sets",
    "AddingProblemError": "errors",
    "AddingStream": "task.data_sets",
    "BackendError": "errors",
    "ConfigError": "errors",
    "InteropError": "errors",
    "Interrupted": "errors",
    "ModelError": "errors",
    "RunConfig": "config",
    "RunFolderError": "errors",
    "StorageError": "errors",
    "Task": "task.variants",
    "build_model": "models",
    "constant_predictor_mse": "task.baselines",
    "constant_predictor_standard_error": "task.baselines",
    "load": "config",
    "load_model": "evaluation.load_model",
    "sample_batch": "task.sampling",
    "sample_batch_numpy": "task.sampling",
    "train": "experiments.train",
    "validate": "evaluation.validate",
}

__all__ = [
    "AddingDataset",
    "AddingProblemError",
    "AddingStream",
    "BackendError",
    "ConfigError",
    "InteropError",
    "Interrupted",
    "ModelError",
    "RunConfig",
    "RunFolderError",
    "StorageError",
    "Task",
    "build_model",
    "constant_predictor_mse",
    "constant_predictor_standard_error",
    "load",
    "load_model",
    "sample_batch",
    "sample_batch_numpy",
    "train",
    "validate",
]


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
