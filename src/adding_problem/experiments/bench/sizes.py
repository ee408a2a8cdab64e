"""What a model costs: parameters, state, FLOPs of a step, and training steps a second."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from adding_problem import models
from adding_problem.config import RunConfig, families
from adding_problem.models import CustomModel
from adding_problem.runs.records import Count, Finite, Text
from adding_problem.system.device import resolve_backend, resolve_device
from adding_problem.system.threads import cpu_settings
from adding_problem.task.sampling import sample_batch
from adding_problem.training.start import build_model

__all__ = ["Sizes", "flops_of", "measure", "state_of"]

_TIMED = 7  # steps of training, of which the median counts; one before them warms up


@dataclass(frozen=True)
class Sizes:
    """What a model costs.

    Attributes:
        parameters: trained ones.
        state: numbers that a step hands on to the next; None where unknown, or growing with T.
        flops: of a step of one sequence, see `flops_of`; None where there is no matrix product.
        steps_per_second: sequence-steps of training a second.
        backend: `native` where kernels compute it, else `torch`.
    """

    parameters: Count
    state: Count | None
    flops: Finite | None
    steps_per_second: Finite
    backend: Text


def measure(config: RunConfig) -> Sizes:
    """The costs of a configuration's model at its T and batch."""
    device = resolve_device(config.device)
    backend = resolve_backend(config.backend, device)
    with cpu_settings(config.threads):
        model = build_model(config, device, backend, seed=config.seed)
        plain = build_model(config, torch.device("cpu"), "torch", seed=config.seed)
        return Sizes(
            int(models.describe(model)["parameters"]),
            state_of(model, config),
            flops_of(plain, config) or None,
            _steps_per_second(model, config, device),
            getattr(model, "backend", "torch"),
        )


def state_of(model: nn.Module, config: RunConfig) -> int | None:
    """How many numbers a step hands on to the next.

    Of a custom model: its attribute `state_size`, or else what its recurrent layers and cells of
    torch's hand on; None where it has neither.
    """
    if not isinstance(model, CustomModel):
        count = families.FAMILIES[config.model.name].state
        arguments = families.with_defaults(config.model.name, config.model.given)
        return count(arguments) if count else None
    declared = getattr(model.inner, "state_size", None)
    if isinstance(declared, int):
        return declared
    return sum(map(_handed_on, model.inner.modules())) or None


def _handed_on(module: nn.Module) -> int:
    if isinstance(module, nn.RNNBase):
        sequences = module.num_layers * (2 if module.bidirectional else 1)
        cells = module.hidden_size if module.mode == "LSTM" else 0
        return sequences * (cells + (module.proj_size or module.hidden_size))
    if isinstance(module, nn.RNNCellBase):
        return module.hidden_size * (2 if isinstance(module, nn.LSTMCell) else 1)
    return 0


@torch.no_grad()
def flops_of(model: nn.Module, config: RunConfig) -> float:
    """FLOPs of a step: those of a sequence of T steps, the readout's among them, over T.

    Counted by torch: matrix products and convolutions alone, two for each multiplication and
    addition. What a model computes in kernels of its own is not seen.

    Args:
        model: on the CPU, on torch's own layers.
        config: of which T and the task matter.
    """
    x, _ = sample_batch(1, config.dataset.t, seed=config.seed, task=config.task)
    # oneDNN's LSTM is one operation, whose products torch does not count.
    with (
        torch.backends.mkldnn.flags(enabled=False, allow_tf32=None),
        FlopCounterMode(display=False) as counter,
    ):
        model.eval()(x)
    return float(counter.get_total_flops()) / x.shape[1]


def _steps_per_second(model: nn.Module, config: RunConfig, device: torch.device) -> float:
    batch = sample_batch(config.train.batch, config.dataset.t, seed=config.seed, task=config.task)
    x, y = (tensor.to(device) for tensor in batch)
    model.train()
    times = []
    for _ in range(1 + _TIMED):
        begin = time.perf_counter()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()  # type: ignore[no-untyped-call]
        loss.item()  # a GPU has then done the work
        times.append(time.perf_counter() - begin)
    return x.shape[0] * x.shape[1] / statistics.median(times[1:])
