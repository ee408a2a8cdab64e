"""Causal Transformer with rotary positions (Vaswani et al. 2017; Su et al. 2021).

A layer is x + attention(LayerNorm(x)), then x + MLP(LayerNorm(x)) with 4 H GELU units. Queries and
keys are rotated by angles that grow with the step: pair j of D / 2 by t 10000^(-2 j / D), D the
width of a head. A linear readout of the last step follows. The last layer computes only that step.

Papers: arXiv:1706.03762, arXiv:2104.09864.

Parameters of a layer: 12 H^2 + 13 H; with the rest 3 H + 2 H + H + 1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from adding_problem.models.layers import last_step
from adding_problem.system.device import finest_float

__all__ = ["AddingTransformer"]

_BASE = 10_000.0


class AddingTransformer(nn.Module):
    """Causal self-attention layers and a linear readout of the last step.

    Args:
        hidden: width H.
        layers: number of layers.
        heads: number of heads; H / heads is even.
        input_size: input columns I.

    Raises:
        ValueError: when H is not a multiple of twice the heads.
    """

    def __init__(self, hidden: int, *, layers: int, heads: int, input_size: int = 2) -> None:
        super().__init__()
        if hidden % (2 * heads):
            raise ValueError(f"hidden {hidden} is not a multiple of 2 x {heads} heads")
        self.hidden, self.layers, self.heads = hidden, layers, heads
        self.input_size = input_size
        self.encoder = nn.Linear(input_size, hidden)
        self.blocks = nn.ModuleList(_Layer(hidden, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(hidden)
        self.readout = nn.Linear(hidden, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Predictions (B, 1) of sequences (B, T, I)."""
        h = last_step(self.blocks, self.encoder(x))
        return self.readout(self.norm(h))  # type: ignore[no-any-return]


class _Layer(nn.Module):
    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm, self.mlp_norm = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.inputs, self.output = nn.Linear(hidden, 3 * hidden), nn.Linear(hidden, hidden)
        self.mlp = nn.Sequential(
            nn.Linear(hidden, 4 * hidden), nn.GELU(), nn.Linear(4 * hidden, hidden)
        )

    def forward(self, x: Tensor, begin: int) -> Tensor:
        """Outputs of the steps from `begin` on, which is 0 or the last."""
        x = x[:, begin:] + self._attention(self.attention_norm(x), begin)
        return x + self.mlp(self.mlp_norm(x))  # type: ignore[no-any-return]

    def _attention(self, x: Tensor, begin: int) -> Tensor:
        weight, bias = (
            parameter.tensor_split(3) for parameter in (self.inputs.weight, self.inputs.bias)
        )
        query, key, value = (
            nn.functional.linear(z, weight[k], bias[k])
            .view(*z.shape[:2], self.heads, x.shape[2] // self.heads)
            .transpose(1, 2)
            for k, z in enumerate((x[:, begin:], x, x))
        )
        query, key = _rotate(query, x.shape[1] - query.shape[2]), _rotate(key, 0)
        # The last step sees all steps.
        seen = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=begin == 0)
        return self.output(seen.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


def _rotate(z: Tensor, begin: int) -> Tensor:
    """Rotate the pairs (z_j, z_{j + D/2}) by their angles of the steps from `begin` on.

    z and the result are (B, heads, steps, D).
    """
    half = z.shape[-1] // 2
    fine = finest_float(z.device)
    rates = _BASE ** (-torch.arange(half, device=z.device, dtype=fine) / half)
    angles = torch.outer(begin + torch.arange(z.shape[-2], device=z.device, dtype=fine), rates)
    cos, sin = angles.cos().to(z.dtype), angles.sin().to(z.dtype)
    first, second = z.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)
