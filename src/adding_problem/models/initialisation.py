"""Initial weights that several families share: time scales, small weights, keys of gates."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

__all__ = [
    "column_keys_",
    "direction_keys_",
    "levels",
    "small_weights_",
    "time_scales_",
    "uniform_readout_",
]

_RECURRENT_SCALE, _INPUT_LIMIT = 0.3, 0.1  # measured on the LSTM's `long`: docs/log.md


@torch.no_grad()
def time_scales_(bias: Tensor, longest: int, generator: torch.Generator | None = None) -> Tensor:
    """Fill the biases of gates that keep with log U(1, longest - 1): chrono initialisation.

    The gates then have every time scale up to the longest (Tallec & Ollivier 2018,
    arXiv:1804.11188, equation 16).
    """
    return bias.uniform_(1, max(2, longest - 1), generator=generator).log_()


@torch.no_grad()
def small_weights_(layer: nn.RNNBase, generator: torch.Generator | None = None) -> None:
    """Small weights and zero biases for a layer, so that its units do not disturb each other.

    The recurrent weights are orthogonal, scaled down.
    """
    kernel, recurrent_kernel, bias, second_bias = layer.parameters()
    kernel.uniform_(-_INPUT_LIMIT, _INPUT_LIMIT, generator=generator)
    nn.init.orthogonal_(recurrent_kernel, gain=_RECURRENT_SCALE, generator=generator)
    bias.zero_()
    second_bias.zero_()


@torch.no_grad()
def uniform_readout_(readout: nn.Linear, generator: torch.Generator | None = None) -> None:
    """Weights uniform within 1 / sqrt(H), as PyTorch's, and a zero bias."""
    limit = 1 / math.sqrt(readout.in_features)
    readout.weight.uniform_(-limit, limit, generator=generator)
    readout.bias.zero_()


# --- keys: the input that opens a gate which is otherwise shut, drawn for each cell ---


@torch.no_grad()
def column_keys_(keys: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Fill (H, I) with 1 or -1 in one column of each row, and 0 elsewhere.

    Column and sign are drawn uniformly.
    """
    cells, columns = keys.shape
    chosen = torch.randint(columns, (cells, 1), generator=generator)
    signs = torch.randint(2, (cells, 1), generator=generator).mul_(2).sub_(1)
    return keys.zero_().scatter_(1, chosen, signs.to(keys.dtype))


@torch.no_grad()
def direction_keys_(keys: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Fill (H, I) with rows drawn uniformly from the unit sphere.

    Rotating the inputs does not change their distribution.
    """
    keys.normal_(generator=generator)
    return keys.div_(keys.norm(dim=1, keepdim=True))


def levels(cells: int, generator: torch.Generator | None = None) -> Tensor:
    """The share of its state that each cell overwrites at its key: U(0, 1), float64 (H,).

    For layers in which writing is forgetting. If all shares were 1, a second mark would erase the
    first in every cell. Different shares keep both: a cell of share u holds u (1 - u) of the first
    mark's value and u of the second's.
    """
    return torch.rand(cells, dtype=torch.float64, generator=generator).clamp_(1e-6, 1 - 1e-6)
