"""LEM, long expressive memory (Rusch, Mishra, Erichson & Mahoney 2022, arXiv:2110.04744).

    a, b = dt sigmoid(W x_t + U y_{t-1} + c)            two learned time steps
    z_t  = (1 - a) z_{t-1} + a tanh(W x_t + U y_{t-1} + c)
    y_t  = (1 - b) y_{t-1} + b tanh(W x_t + U z_t + c)
    output = v . y_T + d

Each of the four lines has its own W, U and c.

Parameters: 4 H (H + 4) + H + 1, with two biases a line, as in the authors' code.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from adding_problem.models.layers import recurrence_of

__all__ = ["AddingLEM"]


class AddingLEM(nn.Module):
    """Long expressive memory and a linear readout of its last output.

    Args:
        hidden: number of units H.
        dt: the largest time step.
        backend: `torch` or `native`, see `layers`.
        input_size: input columns I.
    """

    def __init__(self, hidden: int, *, dt: float, backend: str, input_size: int = 2) -> None:
        super().__init__()
        self.hidden, self.dt, self.backend = hidden, dt, backend
        self.input_size = input_size
        self.input = nn.Linear(input_size, 4 * hidden)
        self.recurrent = nn.Linear(hidden, 3 * hidden)  # of y, for both time steps and z
        self.transform = nn.Linear(hidden, hidden)  # of z, for y
        self.readout = nn.Linear(hidden, 1)
        limit = 1 / math.sqrt(hidden)
        for layer in (self.input, self.recurrent, self.transform):
            for parameter in layer.parameters():
                nn.init.uniform_(parameter, -limit, limit)
        nn.init.kaiming_normal_(self.readout.weight)
        self._last_output = recurrence_of(backend, "lem", _last_output)

    def forward(self, x: Tensor) -> Tensor:
        """Predictions (B, 1) of sequences (B, T, I)."""
        recurrent = torch.cat([self.recurrent.weight, self.transform.weight])
        bias = self.input.bias + torch.cat([self.recurrent.bias, self.transform.bias])
        y = self._last_output(x, self.input.weight, recurrent, bias, dt=self.dt)
        return self.readout(y)  # type: ignore[no-any-return]


def _last_output(x: Tensor, w_ih: Tensor, w_hh: Tensor, bias: Tensor, *, dt: float) -> Tensor:
    """y_T, (B, H), of weights (4 H, I) and (4 H, H), the rows of a, b, z, y."""
    hidden = w_hh.shape[1]
    y = z = x.new_zeros(len(x), hidden)
    recurrent, transform = w_hh[: 3 * hidden].T, w_hh[3 * hidden :].T
    for drive_t in nn.functional.linear(x, w_ih, bias).unbind(1):
        drive, last_drive = drive_t[:, : 3 * hidden], drive_t[:, 3 * hidden :]
        step_z, step_y, candidate = torch.addmm(drive, y, recurrent).chunk(3, dim=1)
        z = z + dt * step_z.sigmoid() * (candidate.tanh() - z)
        y = y + dt * step_y.sigmoid() * (torch.addmm(last_drive, z, transform).tanh() - y)
    return y
