"""Long expressive memory (Rusch, Mishra, Erichson & Mahoney 2022, arXiv:2110.04744).

    a, b = dt sigmoid(W x_t + U y_{t-1} + c)            two learned time steps
    z_t  = (1 - a) z_{t-1} + a tanh(W x_t + U y_{t-1} + c)
    y_t  = (1 - b) y_{t-1} + b tanh(W x_t + U z_t + c)
    output = v . y_T + d

Each of the four lines has weights of its own. Parameters: 4 H (H + 4) + H + 1, with two biases a line as the authors'.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

__all__ = ["AddingLEM"]


class AddingLEM(nn.Module):
    """Long expressive memory and a linear readout of its last output.

    Args:
        hidden: number of units H.
        dt: the largest step of time.
    """

    def __init__(self, hidden: int, *, dt: float) -> None:
        super().__init__()
        self.hidden, self.dt = hidden, dt
        self.input = nn.Linear(2, 4 * hidden)
        self.recurrent = nn.Linear(hidden, 3 * hidden)  # of y, for both time steps and z
        self.transform = nn.Linear(hidden, hidden)  # of z, for y
        self.readout = nn.Linear(hidden, 1)
        limit = 1 / math.sqrt(hidden)
        for layer in (self.input, self.recurrent, self.transform):
            for parameter in layer.parameters():
                nn.init.uniform_(parameter, -limit, limit)
        nn.init.kaiming_normal_(self.readout.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Predictions (B, 1) of sequences (B, T, 2)."""
        hidden = self.hidden
        y = z = x.new_zeros(len(x), hidden)
        recurrent, transform = self.recurrent.weight.T, self.transform.weight.T
        bias = self.input.bias + torch.cat([self.recurrent.bias, self.transform.bias])
        drives = nn.functional.linear(x, self.input.weight, bias)
        for drive_t in drives.unbind(1):
            drive, last_drive = drive_t[:, : 3 * hidden], drive_t[:, 3 * hidden :]
            step_z, step_y, candidate = torch.addmm(drive, y, recurrent).chunk(3, dim=1)
            a, b = self.dt * step_z.sigmoid(), self.dt * step_y.sigmoid()
            z = torch.lerp(z, candidate.tanh(), a)
            y = torch.lerp(y, torch.addmm(last_drive, z, transform).tanh(), b)
        return self.readout(y)  # type: ignore[no-any-return]
