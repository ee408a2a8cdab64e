"""The time scales of chrono initialisation (Tallec & Ollivier 2018, arXiv:1804.11188, equation 16)."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["time_scales_"]


@torch.no_grad()
def time_scales_(bias: Tensor, longest: int, generator: torch.Generator | None = None) -> Tensor:
    """Fill the biases of gates that keep with log U(1, longest - 1): gates for every time scale up to the longest."""
    return bias.uniform_(1, max(2, longest - 1), generator=generator).log_()
