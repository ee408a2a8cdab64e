"""A step of gradient descent: the optimizer, the clips and their order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.optim.adam import adam
from torch.optim.rmsprop import rmsprop
from torch.optim.sgd import sgd

from adding_problem.config import TrainConfig
from adding_problem.system.memory import require_memory

__all__ = ["Optimizer", "optimizer_for", "require_training_memory", "step"]

_ADAM_DECAYS = (0.9, 0.999)
_ADAM_EPSILON = 1e-7  # Keras's default; PyTorch's is 1e-8
# Times the weights' size: the most that training takes while a checkpoint is written (measured).
_COPIES = {"adam": 26, "adamw": 26, "rmsprop": 22, "sgd": 18}
_RMSPROP_DECAY = 0.9  # Tallec & Ollivier 2018's; PyTorch's default is 0.99
_RMSPROP_EPSILON = 1e-8


class Optimizer:
    """Adam, AdamW, SGD or RMSprop, with the numbers of `torch.optim`, whose functions it calls.

    The classes there import PyTorch's compiler, which takes longer than a short run.

    Args:
        config: which optimizer.
        parameters: the weights that are trained.

    Attributes:
        learning_rate: of the next step.
        moments: what earlier steps have left, by name, for the parameters by their index.
    """

    def __init__(self, config: TrainConfig, parameters: Iterable[Tensor]) -> None:
        self.parameters = list(parameters)
        self.learning_rate = config.learning_rate
        self.moments: dict[int, dict[str, Tensor]] = {}
        self._name, self._decay = config.optimizer, config.weight_decay
        self._adam = self._name in ("adam", "adamw")
        # The fused kernels know no complex numbers.
        self._fused = self._adam and all(p.is_floating_point() for p in self.parameters)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Change the parameters that have a gradient.

        Raises:
            RuntimeError: for sparse gradients, which SGD alone takes.
        """
        changed = [(i, p) for i, p in enumerate(self.parameters) if p.grad is not None]
        weights = [p for _, p in changed]
        gradients = [p.grad for p in weights if p.grad is not None]
        sparse = any(gradient.is_sparse for gradient in gradients)
        if self._name == "sgd":
            sgd(
                weights,
                gradients,
                [None] * len(weights),
                has_sparse_grad=sparse,
                lr=self.learning_rate,
                momentum=0.0,
                dampening=0.0,
                weight_decay=self._decay,
                nesterov=False,
                maximize=False,
            )
            return
        if sparse:
            raise RuntimeError(f"{self._name} does not support sparse gradients")
        moments = [self._moments_of(i, p) for i, p in changed]
        steps = [found["step"] for found in moments]
        has_complex = any(p.is_complex() for p in weights)
        if self._name == "rmsprop":
            rmsprop(
                weights,
                gradients,
                [found["square_avg"] for found in moments],
                [],
                [],
                steps,
                has_complex=has_complex,
                lr=self.learning_rate,
                alpha=_RMSPROP_DECAY,
                eps=_RMSPROP_EPSILON,
                weight_decay=self._decay,
                momentum=0.0,
                centered=False,
            )
            return
        adam(
            weights,
            gradients,
            [found["exp_avg"] for found in moments],
            [found["exp_avg_sq"] for found in moments],
            [],
            steps,
            fused=self._fused,
            has_complex=has_complex,
            decoupled_weight_decay=self._name == "adamw",
            amsgrad=False,
            beta1=_ADAM_DECAYS[0],
            beta2=_ADAM_DECAYS[1],
            lr=self.learning_rate,
            weight_decay=self._decay,
            eps=_ADAM_EPSILON,
            maximize=False,
        )

    def load_moments(self, moments: Mapping[int, Mapping[str, Tensor]]) -> None:
        """Go on from moments that were kept, on the devices of the parameters."""
        for index, kept in moments.items():
            fresh = self._moments_of(index, self.parameters[index])
            for name, tensor in kept.items():
                fresh[name].copy_(tensor)

    def _moments_of(self, index: int, parameter: Tensor) -> dict[str, Tensor]:
        if index not in self.moments:
            # The count of steps lies where the function wants it, and is float32 in a fused one.
            where = parameter.device if self._fused else torch.device("cpu")
            wide = torch.get_default_dtype() == torch.float64 and not self._fused
            step = torch.zeros((), dtype=torch.float64 if wide else torch.float32, device=where)
            names = ("exp_avg", "exp_avg_sq") if self._adam else ("square_avg",)
            self.moments[index] = {
                "step": step,
                **{name: torch.zeros_like(parameter) for name in names},
            }
        return self.moments[index]


def optimizer_for(config: TrainConfig, model: nn.Module) -> Optimizer:
    """The configuration's optimizer of all weights that are trained."""
    return Optimizer(config, (p for p in model.parameters() if p.requires_grad))


def require_training_memory(config: TrainConfig, model: nn.Module) -> None:
    """Raise BackendError unless weights, gradients and moments fit into the CPU's memory."""
    parameters = [p for p in model.parameters() if p.requires_grad and p.device.type == "cpu"]
    needed = _COPIES[config.optimizer] * sum(p.nbytes for p in parameters)
    require_memory(needed, "to train the model takes")


def step(
    config: TrainConfig, model: nn.Module, optimizer: Optimizer, x: Tensor, y: Tensor
) -> float:
    """Change the weights by one step on x (B, T, C), y (B, 1); the mean squared error before it."""
    loss = nn.functional.mse_loss(model(x), y)
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    if config.clip_value is not None:
        nn.utils.clip_grad_value_(_real(optimizer.parameters), config.clip_value)
    if config.clip_norm is not None:
        nn.utils.clip_grad_norm_(optimizer.parameters, config.clip_norm)
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
