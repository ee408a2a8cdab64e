"""A trained model, from its run folder: nothing that could execute is read."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from adding_problem import models
from adding_problem.config import RunConfig, families
from adding_problem.errors import BackendError, RunFolderError, in_one_line
from adding_problem.runs.folder import RunFolder
from adding_problem.system.device import resolve_backend, resolve_device
from adding_problem.system.memory import enough_memory, out_of_memory
from adding_problem.system.threads import cpu_settings

__all__ = ["load_model", "loaded"]

_log = logging.getLogger(__name__)


def load_model(
    path: str | Path,
    *,
    backend: str = "torch",
    device: torch.device | str = "cpu",
    trust: bool = False,
    own: str | None = None,
) -> nn.Module:
    """The trained model of a run folder, float32 (B, T, 2) -> (B, 1).

    Only safetensors and JSON are read, nothing that could execute. A custom model is imported by
    the name that the folder gives, and so only where the caller says that it may be.

    Args:
        path: the run folder.
        backend: `torch`, or `native` for the faster kernels on a CPU.
        device: where the model will compute.
        trust: import whatever model the folder names.
        own: the name of a model that the caller trusts anyway. It may lead by another path to the
            class that the folder names.

    Raises:
        RunFolderError: when the folder holds no finished run, a damaged one, or a model that is not
            trusted.
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
            f"holds a custom model; to load it, {named!r} would be imported and run",
            f"{families.trust_hint()} (in Python: trust=True)",
        )
    changed = not_of_the_zoo and models.changed_since(
        str(named), RunFolder(path).read_result().model_source
    )
    if changed:
        _log.warning("%s: the code of %s has changed since this run", path, named)
    try:
        model = models.from_description(description, weights, backend=backend, device=device)
    except (ValueError, TypeError, ArithmeticError, RuntimeError, MemoryError) as error:
        if isinstance(error, RuntimeError) and out_of_memory(
            error
        ):  # no MemoryError, which is the limit's
            raise BackendError(
                f"memory: the model of {path} does not fit ({in_one_line(error)})",
                "free memory, or load it on another device",
            ) from None
        if changed:
            raise RunFolderError(
                path,
                f"its weights do not fit {named}, whose code has changed since this run "
                f"({in_one_line(error)})",
                "put the code back, or train it into another folder with --artifacts",
            ) from None
        raise RunFolderError(
            path,
            f"model/ does not hold what model.json describes ({in_one_line(error)})",
            "train again with --overwrite",
        ) from None
    return model.eval()


@contextmanager
def loaded(
    config: RunConfig, *, trust: bool = False, own: str | None = None
) -> Iterator[nn.Module]:
    """The trained model in `config.artifacts` on its device; see `load_model`.

    The configuration's threads are at work inside the block.

    Raises:
        BackendError: when memory does not suffice inside the block.
    """
    device = resolve_device(config.device)
    backend = resolve_backend(config.backend, device)
    with cpu_settings(config.threads), enough_memory():
        yield load_model(config.artifacts, backend=backend, device=device, trust=trust, own=own)
