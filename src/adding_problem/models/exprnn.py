"""Exponential RNN: an orthogonal recurrence (Lezcano-Casado & Martinez-Rubio 2019, arXiv:1901.08428).

    h_t = modrelu(W x_t + Q h_{t-1}),  Q = exp(A), A skew-symmetric
    modrelu(z) = sign(z) relu(|z| + b)                      (Arjovsky, Shah & Bengio 2016, for real z)
    y   = v . h_T + d

A is a parameter, and Q its exponential, by `torch.nn.utils.parametrizations.orthogonal`. Q begins with rotations of the plane
by angles U(-pi, pi) (Henaff, Szlam & LeCun 2016), as the paper's memory tasks do. Unlike in the authors' code b begins at 0,
and A has the learning rate of all other weights.

Parameters: 2 H + H^2 (of which the parametrisation uses H (H - 1) / 2) + H + H + 1.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

__all__ = ["AddingExpRNN"]


class AddingExpRNN(nn.Module):
    """A recurrence with an orthogonal matrix and a linear readout of its last state.

    Args:
        hidden: number of units H, even.

    Raises:
        ValueError: for an odd number of units.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        if hidden % 2:
            raise ValueError(f"hidden {hidden} is odd; the rotations need pairs")
        self.hidden = hidden
        self.input = nn.Linear(2, hidden, bias=False)
        self.recurrent = parametrizations.orthogonal(
            nn.Linear(hidden, hidden, bias=False), orthogonal_map="matrix_exp", use_trivialization=False)
        _rotate(self.recurrent.get_parameter("parametrizations.weight.original"))
        self.bias = nn.Parameter(torch.zeros(hidden))
        self.readout = nn.Linear(hidden, 1)
        nn.init.kaiming_normal_(self.input.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Predictions (B, 1) of sequences (B, T, 2)."""
        rotation = cast(Tensor, self.recurrent.weight).T  # one matrix exponential for the whole sequence
        h = x.new_zeros(len(x), self.hidden)
        for drive in self.input(x).unbind(1):
            z = torch.addmm(drive, h, rotation)
            h = z.sign() * (z.abs() + self.bias).relu()
        return self.readout(h)  # type: ignore[no-any-return]


@torch.no_grad()
def _rotate(lower: Tensor) -> None:
    """The matrix whose lower triangle is A's: planes turned by angles U(-pi, pi)."""
    lower.zero_().diagonal(-1)[::2].uniform_(-math.pi, math.pi)
