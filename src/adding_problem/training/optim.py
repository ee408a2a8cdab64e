"""A step of gradient descent: the optimizer, the clips and their order."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from adding_problem.config import TrainConfig
from adding_problem.system.memory import require_memory

__all__ = ["optimizer_for", "require_training_memory", "step"]

_ADAM_EPSILON = 1e-7  # Keras's default; PyTorch's is 1e-8
# Times the weights' size: the most that training takes while a checkpoint is written (measured).
_COPIES = {"adam": 26, "rmsprop": 22, "sgd": 18}
_RMSPROP_DECAY = 0.9  # Tallec & Ollivier 2018's; PyTorch's default is 0.99


def optimizer_for(config: TrainConfig, model: nn.Module) -> torch.optim.Optimizer:
    """The configuration's optimizer of all weights that are trained."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    match config.optimizer:
        case "adam":
            # The fused kernels know no complex numbers.
            fused = all(p.is_floating_point() for p in parameters)
            return torch.optim.Adam(
                parameters, lr=config.learning_rate, eps=_ADAM_EPSILON, fused=fused
            )
        case "sgd":
            return torch.optim.SGD(parameters, lr=config.learning_rate)
        case "rmsprop":
            return torch.optim.RMSprop(parameters, lr=config.learning_rate, alpha=_RMSPROP_DECAY)


def require_training_memory(config: TrainConfig, model: nn.Module) -> None:
    """Raise BackendError unless weights, gradients and moments fit into the CPU's memory."""
    parameters = [p for p in model.parameters() if p.requires_grad and p.device.type == "cpu"]
    needed = _COPIES[config.optimizer] * sum(p.nbytes for p in parameters)
    require_memory(needed, "to train the model takes")


def step(
    config: TrainConfig, model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor
) -> float:
    """Change the weights by one step on x (B, T, C), y (B, 1); the mean squared error before it."""
    loss = nn.functional.mse_loss(model(x), y)
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    (group,) = optimizer.param_groups
    if config.clip_value is not None:
        nn.utils.clip_grad_value_(_real(group["params"]), config.clip_value)
    if config.clip_norm is not None:
        nn.utils.clip_grad_norm_(group["params"], config.clip_norm)
    optimizer.step()
    return loss.item()


def _real(parameters: Iterable[Tensor]) -> list[Tensor]:
    """Views of parameters and gradients in which a complex number is two real ones.

    Each is clipped for itself.
    """
    views = []
    for parameter in parameters:
        view = parameter
        if parameter.is_complex() and parameter.grad is not None:
            view = torch.view_as_real(parameter.detach())
            view.grad = torch.view_as_real(parameter.grad)
        views.append(view)
    return views
