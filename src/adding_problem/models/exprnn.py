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

from adding_problem.models.layers import recurrence_of

__all__ = ["AddingExpRNN"]


class AddingExpRNN(nn.Module):
    """A recurrence with an orthogonal matrix and a linear readout of its last state.

    Args:
        hidden: number of units H, even.
        backend: `torch` or `native`, see `layers`.

    Raises:
        ValueError: for an odd number of units.
    """

    def __init__(self, hidden: int, *, backend: str) -> None:
        super().__init__()
        if hidden % 2:
            raise ValueError(f"hidden {hidden} is odd; the rotations need pairs")
        self.hidden, self.backend = hidden, backend
        self.input = nn.Linear(2, hidden, bias=False)
        self.recurrent = parametrizations.orthogonal(
            nn.Linear(hidden, hidden, bias=False), orthogonal_map="matrix_exp", use_trivialization=False)
        _rotate(self.recurrent.get_parameter("parametrizations.weight.original"))
        self.bias = nn.Parameter(torch.zeros(hidden))
        self.readout = nn.Linear(hidden, 1)
        nn.init.kaiming_normal_(self.input.weight)
        self._last_output = recurrence_of(backend, "modrelu_rnn", _last_output)

    def forward(self, x: Tensor) -> Tensor:
        """Predictions (B, 1) of sequences (B, T, 2)."""
        rotation = cast(Tensor, self.recurrent.weight)  # one matrix exponential for the whole sequence
        return self.readout(self._last_output(x, self.input.weight, rotation, self.bias))  # type: ignore[no-any-return]


def _last_output(x: Tensor, w_ih: Tensor, w_hh: Tensor, offset: Tensor) -> Tensor:
    """h_T, (B, H), of weights (H, I) and (H, H) and modReLU's b, (H)."""
    h = x.new_zeros(len(x), len(w_hh))
    for drive in nn.functional.linear(x, w_ih).unbind(1):
        z = torch.addmm(drive, h, w_hh.T)
        h = z.sign() * (z.abs() + offset).relu()
    return h


@torch.no_grad()
def _rotate(lower: Tensor) -> None:
    """The matrix whose lower triangle is A's: planes turned by angles U(-pi, pi)."""
    lower.zero_().diagonal(-1)[::2].uniform_(-math.pi, math.pi)
