"""expRNN: an orthogonal recurrence (Lezcano-Casado & Martinez-Rubio 2019, arXiv:1901.08428).

    h_t = modrelu(W x_t + Q h_{t-1}),  Q = exp(A), A skew-symmetric
    modrelu(z) = sign(z) relu(|z| + b)           (Arjovsky, Shah & Bengio 2016, for real z)
    y   = v . h_T + d

The entries of A below the diagonal are the parameters. They start as rotations of planes by angles
U(-pi, pi) (Henaff, Szlam & LeCun 2016), as in the paper's memory tasks. Unlike in the authors'
code, b starts at 0 and A has the same learning rate as all other weights.

Parameters, of two columns: 2 H + H (H - 1) / 2 + H + H + 1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from adding_problem.models.layers import recurrence_of

__all__ = ["AddingExpRNN"]


class AddingExpRNN(nn.Module):
    """A recurrence with an orthogonal matrix and a linear readout of its last state.

    Args:
        hidden: number of units H, even.
        backend: `torch` or `native`, see `layers`.
        input_size: input columns I.

    Raises:
        ValueError: for an odd number of units.
    """

    def __init__(self, hidden: int, *, backend: str, input_size: int = 2) -> None:
        super().__init__()
        if hidden % 2:
            raise ValueError(f"hidden {hidden} is odd; the rotations need pairs")
        self.hidden, self.backend, self.input_size = hidden, backend, input_size
        self.input = nn.Linear(input_size, hidden, bias=False)
        self.skew = nn.Parameter(torch.empty(hidden * (hidden - 1) // 2))  # of A, row by row
        self.bias = nn.Parameter(torch.zeros(hidden))
        self.readout = nn.Linear(hidden, 1)
        nn.init.kaiming_normal_(self.input.weight)
        _rotate_planes(self.skew, hidden)
        self._last_output = recurrence_of(backend, "modrelu_rnn", _last_output)

    def forward(self, x: Tensor) -> Tensor:
        """Predictions (B, 1) of sequences (B, T, I)."""
        h = self._last_output(x, self.input.weight, self.rotation(), self.bias)
        return self.readout(h)  # type: ignore[no-any-return]

    def rotation(self) -> Tensor:
        """Q, (H, H)."""
        size, device = self.hidden, self.skew.device
        row, column = torch.tril_indices(size, size, offset=-1, device=device)
        lower = self.skew.new_zeros(size, size).index_put((row, column), self.skew)
        # Products in half precision would not be orthogonal.
        with torch.autocast(device.type, enabled=False):
            return _exponential(lower - lower.T)


def _exponential(a: Tensor) -> Tensor:
    """exp of a skew-symmetric matrix: the Taylor series of a / 2^s, squared s times.

    `torch.matrix_exp` with its gradient, an exponential of twice the size, takes three times as
    long.
    """
    entries = a.detach().abs()
    # A bound of the eigenvalues, which come in pairs.
    bound = torch.minimum(entries.sum(0).max(), entries.norm() / math.sqrt(2))
    # Clamped for NaN and infinities, whose result is NaN after any number of squarings.
    squarings = int(torch.frexp(bound).exponent.clamp(0, 60))
    one = torch.eye(len(a), dtype=a.dtype, device=a.device)
    a, q = a / 2**squarings, one
    for k in range(14, 0, -1):  # the norm is at most 1: the next term is below 1e-12
        q = torch.addmm(one, a, q, alpha=1 / k)
    for _ in range(squarings):
        q = q @ q
    return q


def _last_output(x: Tensor, w_ih: Tensor, w_hh: Tensor, offset: Tensor) -> Tensor:
    """h_T, (B, H), of weights (H, I) and (H, H) and modReLU's b, (H)."""
    h = x.new_zeros(len(x), len(w_hh))
    for drive in nn.functional.linear(x, w_ih).unbind(1):
        z = torch.addmm(drive, h, w_hh.T)
        h = z.sign() * (z.abs() + offset).relu()
    return h


@torch.no_grad()
def _rotate_planes(skew: Tensor, hidden: int) -> None:
    """Rotate the planes of units 0 and 1, 2 and 3 and so on by angles U(-pi, pi)."""
    odd = torch.arange(1, hidden, 2)
    # Row r has r entries below the diagonal; the last is next to it.
    last_of_row = odd * (odd + 1) // 2 - 1
    skew.zero_()[last_of_row] = torch.empty(hidden // 2).uniform_(-math.pi, math.pi)
