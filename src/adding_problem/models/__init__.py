"""Models of the adding problem: float32 (B, T, 2) -> (B, 1)."""

from __future__ import annotations

from typing import Any

from torch import nn

from adding_problem.config import ModelConfig
from adding_problem.models.lstm import AddingLSTM

__all__ = ["AddingLSTM", "build_model", "describe", "from_description"]


def build_model(config: ModelConfig, *, seed: int = 0, backend: str = "torch", length: int = 1000) -> AddingLSTM:
    """The model of a configuration, freshly initialised on the CPU.

    Args:
        config: size and initialisation.
        seed: of the initial weights; the global random state is neither read nor changed.
        backend: `torch` or `native`; the same parameters and the same numbers up to rounding.
        length: T, which the initialisation `long` prepares for where `config.memory` is None.

    Examples:
        >>> from adding_problem import RunConfig, build_model, sample_batch
        >>> model = build_model(RunConfig().model, seed=0)
        >>> sum(p.numel() for p in model.parameters() if p.requires_grad)
        41301
        >>> x, y = sample_batch(8, 150, seed=0)
        >>> model(x).shape
        torch.Size([8, 1])
    """
    return AddingLSTM(config.hidden, init=config.init, seed=seed, backend=backend, length=config.memory or length)


def describe(model: AddingLSTM) -> dict[str, Any]:
    """What `from_description` needs to build the model again, and what a reader wants to know of it."""
    return {
        "family": "lstm",
        "hidden": model.hidden,
        "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "shapes": {name: list(tensor.shape) for name, tensor in model.state_dict().items()},
    }


def from_description(description: dict[str, Any], *, backend: str = "torch") -> nn.Module:
    """The model that `describe` described; its weights are to be loaded.

    Raises:
        ValueError: when the description is not one of a model known here.
    """
    family, hidden = description.get("family"), description.get("hidden")
    if family != "lstm":
        raise ValueError(f"family: expected 'lstm', found {family!r}")
    if not isinstance(hidden, int) or not 1 <= hidden <= 65_536:
        raise ValueError(f"hidden: expected a whole number from 1 to 65536, found {hidden!r}")
    return AddingLSTM(hidden, backend=backend)
