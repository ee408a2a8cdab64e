"""Models of the adding problem: float32 (B, T, C) -> (B, 1), C = 2 without noise columns. The zoo, one family a file, and the user's own."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from adding_problem.config import ModelConfig, families
from adding_problem.config.families import FAMILIES
from adding_problem.errors import ConfigError, ModelError
from adding_problem.models.custom import (
    CustomModel,
    accepted,
    changed_since,
    class_in,
    source_digest,
)
from adding_problem.models.layers import CarriesState
from adding_problem.models.lstm import AddingLSTM
from adding_problem.system.memory import require_memory, within_memory
from adding_problem.system.seeding import seeded

__all__ = [
    "FAMILIES",
    "AddingLSTM",
    "CarriesState",
    "CustomModel",
    "build_model",
    "changed_since",
    "class_in",
    "describe",
    "from_description",
    "named_in",
    "readout_of",
    "source_digest",
]

_BUILDING = 4  # times its weights is what a model may take while it is built: the LSTM's orthogonal matrix 3.4 (measured)


def build_model(
    config: ModelConfig,
    *,
    seed: int = 0,
    backend: str = "torch",
    length: int = 1000,
    input_size: int = 2,
    device: torch.device | str = "cpu",
    only_readout: bool = False,
) -> nn.Module:
    """The model of a configuration, freshly initialised: on the CPU, so that every device has the same weights, then moved.

    Args:
        config: name and arguments.
        seed: of the initial weights; the global random state is neither read nor changed.
        backend: `torch` or `native`; the same parameters and the same numbers up to rounding.
        length: T, which some initialisations prepare for. It, the backend, the seed and the input size are passed to those
            constructors that have an argument of that name.
        input_size: input columns C, see `variants.Task.width`.
        device: where the model will compute.
        only_readout: leave only the weights of the readout to be trained, see `readout_of`.

    Raises:
        ConfigError: when there is no such model or it does not take these arguments.
        BackendError: when the memory does not suffice; of a model of the zoo none is taken then.
        ModelError: when the model cannot be built or run, or has no readout that could be trained alone.

    Examples:
        >>> from adding_problem import RunConfig, build_model, sample_batch
        >>> model = build_model(RunConfig().model, seed=0)
        >>> sum(p.numel() for p in model.parameters() if p.requires_grad)
        41301
        >>> x, y = sample_batch(8, 150, seed=0)
        >>> model(x).shape
        torch.Size([8, 1])
    """
    if config.name not in FAMILIES:
        with seeded(seed), within_memory():
            model: nn.Module = CustomModel(
                config.name,
                config.given,
                layout=config.layout,
                seed=seed,
                backend=backend,
                length=length,
                input_size=input_size,
                device=device,
            )
    else:
        context: dict[str, Any] = {
            "seed": seed,
            "backend": backend,
            "length": length,
            "input_size": input_size,
        }
        size = sum(
            tensor.nbytes
            for tensor in _outline(config.name, config.given, **context).state_dict().values()
        )
        require_memory(_BUILDING * size, "to build the model takes")
        with seeded(seed):
            model = _of_family(config.name, config.given, **context).to(device)
    if only_readout:
        _freeze_body(model, config.name)
    return model


def readout_of(model: nn.Module) -> nn.Linear | None:
    """The linear unit that makes the prediction of a model from `build_model`, from one vector for each sequence.

    Of the zoo's models it is `readout`. Of a custom model it is the one that was added, else the last `nn.Linear` of one
    output that its forward pass calls, else None.
    """
    if isinstance(model, CustomModel) and model.readout is None:
        return None if model.last_unit is None else model.inner.get_submodule(model.last_unit)  # type: ignore[return-value]
    return model.readout  # type: ignore[return-value]


def _freeze_body(model: nn.Module, name: str) -> None:
    """Train nothing but the readout.

    Raises:
        ModelError: when there is none.
    """
    readout = readout_of(model)
    if readout is None:
        raise ModelError(
            name,
            "a readout for train.only_readout, an nn.Linear of one output on one vector for each sequence",
            "none",
            "end the model with nn.Linear(H, 1) on (B, H), or return the output of every step (B, T, H): then a "
            "readout is added; or set train.only_readout to false",
        )
    model.requires_grad_(False)
    readout.requires_grad_(True)


def _outline(name: str, arguments: Mapping[str, Any], **context: Any) -> nn.Module:
    """A model of the zoo without values, on the device `meta`: names, shapes and types of its tensors, which take no memory."""
    with seeded(0), torch.device("meta"):
        return _of_family(name, arguments, **context)


def _of_family(name: str, arguments: Mapping[str, Any], **context: Any) -> nn.Module:
    families.check(name, arguments)
    constructor = _class_of(name)
    try:
        model: nn.Module = constructor(
            **families.with_defaults(name, arguments), **accepted(constructor, context)
        )
    except ValueError as error:
        raise ConfigError(
            "model",
            f"arguments that fit the family {name}",
            str(error),
            "change the keys under model:",
        ) from None
    return model


def _class_of(name: str) -> type[nn.Module]:
    module, _, attribute = FAMILIES[name].home.partition(":")
    return getattr(importlib.import_module(f"{__name__}.{module}"), attribute)  # type: ignore[no-any-return]


def describe(model: nn.Module) -> dict[str, Any]:
    """What `from_description` needs to build the model again, and what a reader wants to know of it."""
    if isinstance(model, CustomModel):
        kind = model.description()
    else:
        family = next(name for name in FAMILIES if type(model) is _class_of(name))
        kind = {
            "family": family,
            "input_size": model.input_size,
            "arguments": {name: getattr(model, name) for name in FAMILIES[family].defaults},
        }
    return kind | {
        "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "shapes": {name: list(tensor.shape) for name, tensor in model.state_dict().items()},
    }


def named_in(description: Mapping[str, Any]) -> str | None:
    """What would be imported to build a described model; None for those of the zoo."""
    return None if description.get("family") in FAMILIES else str(description.get("name"))


def from_description(
    description: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    *,
    backend: str = "torch",
    device: torch.device | str = "cpu",
) -> nn.Module:
    """The model that `describe` described, with its weights.

    A model of the zoo takes no more memory than these weights: before anything is made, names, shapes and types are compared. One
    of the user's own is imported, see `named_in`, and takes what its code takes.

    Args:
        description: of which `family` is text.
        weights: its `state_dict`.
        backend: `torch` or `native`.
        device: where the model will compute.

    Raises:
        ValueError: when the description is not one of a model known here, or the weights are not its.
        RuntimeError: when the weights are not those of a custom model.
        BackendError: when the memory does not suffice.
        ModelError, ConfigError: when a custom model cannot be built.
    """
    family = description.get("family")
    arguments = description.get(
        "arguments", {"hidden": description.get("hidden")}
    )  # the latter as the first LSTMs were written
    if family not in FAMILIES and family != CustomModel.family:
        raise ValueError(
            f"family: expected {', '.join(map(repr, FAMILIES))} or {CustomModel.family!r}, found {family!r}"
        )
    input_size = description.get("input_size", 2)  # which older descriptions lack
    if not (isinstance(input_size, int) and input_size >= 2):
        raise ValueError(f"input_size: expected a whole number of at least 2, found {input_size!r}")
    if not isinstance(arguments, dict):
        raise ValueError(f"arguments: expected names and values, found {arguments!r}")
    if family == CustomModel.family:
        with seeded(0):
            model: nn.Module = CustomModel.described(
                {**description, "arguments": arguments, "input_size": input_size},
                backend=backend,
                device=device,
            )
    else:
        model = _emptied(family, arguments, input_size, weights, backend).to_empty(device=device)
    model.load_state_dict(weights)
    return model


def _emptied(
    family: str,
    arguments: Mapping[str, Any],
    input_size: int,
    weights: Mapping[str, Tensor],
    backend: str,
) -> nn.Module:
    """The outline of a model of the zoo, which these weights fit."""
    layers = arguments.get(
        "layers", 0
    )  # each takes time, and a few KiB of Python's objects, however small its weights are
    if isinstance(layers, int) and layers > len(weights):
        raise ValueError(
            f"layers: expected at most {len(weights)}, as many as there are tensors, found {layers}"
        )
    try:
        outline = _outline(
            family, arguments, seed=0, backend=backend, length=1000, input_size=input_size
        )
    except ConfigError as error:
        raise ValueError(str(error)) from None
    _require_same(_forms(outline.state_dict()), _forms(weights))
    require_memory(sum(tensor.nbytes for tensor in weights.values()), "the model takes")
    return outline


def _forms(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Type and shape of each, as `float32 (400, 2)`."""
    return {
        name: f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
        for name, tensor in tensors.items()
    }


def _require_same(expected: Mapping[str, str], found: Mapping[str, str]) -> None:
    """Raise ValueError, which names the first tensor that differs, unless all are the same."""
    for name in sorted({*expected, *found}):
        if expected.get(name) != found.get(name):
            raise ValueError(
                f"{name[:60]!r}: expected {expected.get(name, 'no such tensor')}, found {found.get(name, 'none')}"
            )
