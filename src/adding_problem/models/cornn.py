"""coRNN, coupled oscillatory RNN (Rusch & Mishra 2021, arXiv:2010.00951).

    y'' = tanh(W y + V y' + U x + b) - gamma y - epsilon y',  in steps of dt:
    z_t = z_{t-1} + dt (tanh(W y_{t-1} + V z_{t-1} + U x_t + b) - gamma y_{t-1} - epsilon z_{t-1})
    y_t = y_{t-1} + dt z_t
    output = v . y_T + d

Parameters, of two columns: H (2 H + 2) + H + H + 1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from adding_problem.models.layers import recurrence_of

__all__ = ["AddingCoRNN"]


class AddingCoRNN(nn.Module):
    """Coupled oscillators and a linear readout of their last positions.

    Args:
        hidden: number of oscillators H.
        dt: time step.
        gamma: strength of the springs.
        epsilon: damping.
        backend: `torch` or `native`, see `layers`.
        input_size: input columns I.
    """

    def __init__(
        self,
        hidden: int,
        *,
        dt: float,
        gamma: float,
        epsilon: float,
        backend: str,
        input_size: int = 2,
    ) -> None:
        super().__init__()
        self.hidden, self.backend, self.input_size = hidden, backend, input_size
        self.dt, self.gamma, self.epsilon = dt, gamma, epsilon
        # One layer over x, z and y, with PyTorch's initialisation, as in the authors' code.
        self.cell = nn.Linear(input_size + hidden + hidden, hidden)
        self.readout = nn.Linear(hidden, 1)
        self._last_output = recurrence_of(backend, "cornn", _last_output)

    def forward(self, x: Tensor) -> Tensor:
        """Predictions (B, 1) of sequences (B, T, I)."""
        w_ih, w_hh = self.cell.weight[:, : self.input_size], self.cell.weight[:, self.input_size :]
        y = self._last_output(
            x, w_ih, w_hh, self.cell.bias, dt=self.dt, gamma=self.gamma, epsilon=self.epsilon
        )
        return self.readout(y)  # type: ignore[no-any-return]


def _last_output(
    x: Tensor, w_ih: Tensor, w_hh: Tensor, bias: Tensor, *, dt: float, gamma: float, epsilon: float
) -> Tensor:
    """y_T, (B, H), of weights (H, I) and (H, 2 H); the latter are those of z and y."""
    z = y = x.new_zeros(len(x), len(w_hh))
    for drive in nn.functional.linear(x, w_ih, bias).unbind(1):
        force = torch.addmm(drive, torch.cat([z, y], dim=1), w_hh.T).tanh()
        z = (1 - dt * epsilon) * z + dt * (force - gamma * y)
        y = y + dt * z
    return y
