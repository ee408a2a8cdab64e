"""Coupled oscillatory RNN (Rusch & Mishra 2021, arXiv:2010.00951).

    y'' = tanh(W y + V y' + U x + b) - gamma y - epsilon y',  in steps of dt:
    z_t = z_{t-1} + dt (tanh(W y_{t-1} + V z_{t-1} + U x_t + b) - gamma y_{t-1} - epsilon z_{t-1})
    y_t = y_{t-1} + dt z_t
    output = v . y_T + d

Parameters: H (2 H + 2) + H + H + 1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["AddingCoRNN"]


class AddingCoRNN(nn.Module):
    """Coupled oscillators and a linear readout of their last positions.

    Args:
        hidden: number of oscillators H.
        dt: step of time.
        gamma: strength of the springs.
        epsilon: damping.
    """

    def __init__(self, hidden: int, *, dt: float, gamma: float, epsilon: float) -> None:
        super().__init__()
        self.hidden, self.dt, self.gamma, self.epsilon = hidden, dt, gamma, epsilon
        self.cell = nn.Linear(2 + hidden + hidden, hidden)  # one layer over x, z, y, and its initialisation, as the authors have it
        self.readout = nn.Linear(hidden, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Predictions (B, 1) of sequences (B, T, 2)."""
        kernel, recurrent = self.cell.weight[:, :2], self.cell.weight[:, 2:]
        state = x.new_zeros(len(x), 2 * self.hidden)  # z beside y
        z, y = state.chunk(2, dim=1)
        for drive in nn.functional.linear(x, kernel, self.cell.bias).unbind(1):
            force = torch.addmm(drive, torch.cat([z, y], dim=1), recurrent.T).tanh()
            z = (1 - self.dt * self.epsilon) * z + self.dt * (force - self.gamma * y)
            y = y + self.dt * z
        return self.readout(y)  # type: ignore[no-any-return]
