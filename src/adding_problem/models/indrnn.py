"""IndRNN: every unit sees only its own past (Li et al. 2018, arXiv:1803.04831).

    h_t = relu(W x_t + u * h_{t-1} + b)                 layer after layer
    y   = v . h_T + d

|u| <= 2^(1/T), so that T steps at most double a value. At the start u ~ U(0, 2^(1/T)), and in the
last layer, which needs the long memory, U(2^(-1/T), 2^(1/T)) (the paper's section 3 and the
settings of its adding problem). W ~ N(0, 0.001^2) and b = 0, as in the authors' code for this
problem: otherwise the sums over T steps would start in the hundreds.

Parameters: 2 H + 2 H + (L - 1) (H H + 2 H) + H + 1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from adding_problem.models.scan import relu_scan_of

__all__ = ["AddingIndRNN"]

_INPUT_SCALE = 1e-3  # standard deviation of W


class AddingIndRNN(nn.Module):
    """Layers of independently recurrent units and a linear readout of the last output.

    Args:
        hidden: number of units H of a layer.
        layers: number of layers L.
        length: T, for the initialisation; in use, the bound is that of the sequences given.
        backend: `native` or `torch`, for the scan.
        input_size: input columns I.
    """

    def __init__(
        self, hidden: int, *, layers: int, length: int, backend: str, input_size: int = 2
    ) -> None:
        super().__init__()
        self.hidden, self.layers, self.backend = hidden, layers, backend
        self.input_size = input_size
        self.inputs = nn.ModuleList(
            nn.Linear(hidden if layer else input_size, hidden) for layer in range(layers)
        )
        self.recurrent = nn.ParameterList(torch.empty(hidden) for _ in range(layers))
        self.readout = nn.Linear(hidden, 1)
        self._scan = relu_scan_of(backend)
        bound = 2 ** (1 / length)
        for u in self.recurrent:
            nn.init.uniform_(u, 0 if u is not self.recurrent[-1] else 1 / bound, bound)
        for linear in self.inputs:
            nn.init.normal_(linear.get_parameter("weight"), std=_INPUT_SCALE)
            nn.init.zeros_(linear.get_parameter("bias"))

    def forward(self, x: Tensor) -> Tensor:
        """Predictions (B, 1) of sequences (B, T, I)."""
        bound = 2 ** (1 / x.shape[1])
        for linear, u in zip(self.inputs, self.recurrent, strict=True):
            # Gradients pass the clamp as if it were not there: u can return from beyond the bound.
            bounded = u + (u.clamp(-bound, bound) - u).detach()
            x = self._scan(bounded, linear(x))
        return self.readout(x[:, -1])  # type: ignore[no-any-return]
