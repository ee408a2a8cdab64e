"""Models of the adding problem: float32 (B, T, C) -> (B, 1), C = 2 without noise columns.

The zoo has one family a file. `custom` adapts a user's model.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from adding_problem.config import ModelConfig, families
from adding_problem.config.families import FAMILIES
from adding_problem.errors import ConfigError, ModelError
from adding_problem.models.custom import PROBED, CustomModel
from adding_problem.models.layers import CarriesState
from adding_problem.models.lstm import AddingLSTM
from adding_problem.models.user_code import changed_since, class_in, pick_accepted, source_digest
from adding_problem.system.memory import require_memory, within_memory
from adding_problem.system.seeding import seeded

__all__ = [
    "FAMILIES",
    "PROBED",
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

# A model may take this many times its weights while it is built; the LSTM's orthogonal matrix makes
# it 3.4 (measured).
_BUILDING = 4


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
    """The model of a configuration, initialised.

    It is initialised on the CPU and then moved, so that every device has the same weights.

    Args:
        config: name and arguments.
        seed: of the initial weights; the global random state is neither read nor changed.
        backend: `torch` or `native`; both have the same parameters and the same numbers up to
            rounding.
        length: T, which some initialisations prepare for. It, the backend, the seed and the input
            size are passed to those constructors that have an argument of that name.
        input_size: input columns C, see `variants.Task.width`.
        device: where the model will compute.
        only_readout: train only the weights of the readout, see `readout_of`.

    Raises:
        ConfigError: when there is no such model or it does not accept these arguments.
        BackendError: when there is not enough memory; for a model of the zoo none is taken.
        ModelError: when the model cannot be built or run, or has no readout to train.

    Examples:
        >>> from adding_problem import RunConfig, build_model, sample_batch
        >>> model = build_model(RunConfig().model, seed=0)
        >>> sum(p.numel() for p in model.parameters() if p.requires_grad)
        41301
        >>> x, y = sample_batch(8, 150, seed=0)
        >>> model(x).shape
        torch.Size([8, 1])
    """
    context: dict[str, Any] = {
        "seed": seed,
        "backend": backend,
        "length": length,
        "input_size": input_size,
    }
    if config.name not in FAMILIES:
        with seeded(seed), within_memory():
            model: nn.Module = CustomModel(
                config.name, config.given, layout=config.layout, device=device, **context
            )
    else:
        outline = _outline(config.name, config.given, **context)
        size = sum(tensor.nbytes for tensor in outline.state_dict().values())
        require_memory(_BUILDING * size, "to build the model takes")
        with seeded(seed):
            model = _of_family(config.name, config.given, **context).to(device)
    if only_readout:
        _freeze_body(model, config.name)
    return model


def readout_of(model: nn.Module) -> nn.Linear | None:
    """The linear unit of a model from `build_model` that makes the prediction.

    It maps one vector for each sequence to one number. For models of the zoo it is `readout`. For a
    custom model it is the one that was added, else the last `nn.Linear` of one output that the
    forward pass calls, else None.
    """
    if isinstance(model, CustomModel) and model.readout is None:
        return None if model.last_unit is None else model.inner.get_submodule(model.last_unit)  # type: ignore[return-value]
    return model.readout  # type: ignore[return-value]


def _freeze_body(model: nn.Module, name: str) -> None:
    """Let only the readout be trained.

    Raises:
        ModelError: when there is none.
    """
    readout = readout_of(model)
    if readout is None:
        raise ModelError(
            name,
            "a readout for train.only_readout, "
            "an nn.Linear of one output on one vector for each sequence",
            "none",
            "end the model with nn.Linear(H, 1) on (B, H), or return the output of every step "
            "(B, T, H): then a readout is added; or set train.only_readout to false",
        )
    model.requires_grad_(False)
    readout.requires_grad_(True)


def _outline(name: str, arguments: Mapping[str, Any], **context: Any) -> nn.Module:
    """A model of the zoo on the device `meta`.

    Its tensors have names, shapes and types, but no values, and take no memory.
    """
    with seeded(0), torch.device("meta"), _Unfilled():
        return _of_family(name, arguments, **context)


class _Unfilled(TorchFunctionMode):
    """A block in which nothing is written into tensors.

    On `meta` there is nothing to write, but to find that out PyTorch imports its compiler, which
    takes a second.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        in_place = name.endswith("_") and name[-2:] != "__" and name != "requires_grad_"
        if in_place or name == "__setitem__":
            return (*args, *kwargs.values())[0]  # `nn.init` names its argument
        return kwargs["out"] if "out" in kwargs else func(*args, **kwargs)


def _of_family(name: str, arguments: Mapping[str, Any], **context: Any) -> nn.Module:
    families.check(name, arguments)
    constructor = _class_of(name)
    keywords = families.with_defaults(name, arguments) | pick_accepted(constructor, context)
    try:
        model: nn.Module = constructor(**keywords)
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
    """What `from_description` needs to build the model again, and what readers want to know."""
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
    """What would be imported to build a described model; None for a model of the zoo."""
    return None if description.get("family") in FAMILIES else str(description.get("name"))


def from_description(
    description: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    *,
    backend: str = "torch",
    device: torch.device | str = "cpu",
) -> nn.Module:
    """The model that `describe` described, with its weights.

    A model of the zoo takes no more memory than these weights: names, shapes and types are compared
    before any is taken. A custom model is imported, see `named_in`, and takes what its code takes.

    Args:
        description: of which `family` is text.
        weights: its `state_dict`.
        backend: `torch` or `native`.
        device: where the model will compute.

    Raises:
        ValueError: when the description is not that of a known model, or the weights do not fit.
        RuntimeError: when the weights do not fit a custom model.
        BackendError: when there is not enough memory.
        ModelError, ConfigError: when a custom model cannot be built.
    """
    family = description.get("family")
    # The first LSTMs were described by `hidden`, and older descriptions lack the input size.
    arguments = description.get("arguments", {"hidden": description.get("hidden")})
    input_size = description.get("input_size", 2)
    if family not in FAMILIES and family != CustomModel.family:
        known = ", ".join(map(repr, FAMILIES))
        raise ValueError(f"family: expected {known} or {CustomModel.family!r}, found {family!r}")
    if not (isinstance(input_size, int) and input_size >= 2):
        raise ValueError(f"input_size: expected a whole number of at least 2, found {input_size!r}")
    if not isinstance(arguments, dict):
        raise ValueError(f"arguments: expected names and values, found {arguments!r}")
    if family == CustomModel.family:
        complete = {**description, "arguments": arguments, "input_size": input_size}
        with seeded(0):
            model: nn.Module = CustomModel.from_description(
                complete, backend=backend, device=device
            )
    else:
        outline = _outline_for(family, arguments, input_size, weights, backend)
        model = outline.to_empty(device=device)
    model.load_state_dict(weights)
    return model


def _outline_for(
    family: str,
    arguments: Mapping[str, Any],
    input_size: int,
    weights: Mapping[str, Tensor],
    backend: str,
) -> nn.Module:
    """The outline of a model of the zoo.

    Raises:
        ValueError: unless the weights fit it.
        BackendError: when there is not enough memory for them.
    """
    # A layer takes time and a few KiB of Python's objects, however small its weights are.
    layers = arguments.get("layers", 0)
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
    """Raise ValueError, naming the first tensor that differs, unless all are the same."""
    for name in sorted({*expected, *found}):
        if expected.get(name) != found.get(name):
            raise ValueError(
                f"{name[:60]!r}: expected {expected.get(name, 'no such tensor')}, "
                f"found {found.get(name, 'none')}"
            )
