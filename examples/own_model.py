r"""A custom model on the adding problem: a gated running sum, which knows nothing of this package.

adding-problem train --model examples/own_model.py:GatedSum --recipe fast \
    --dataset.t 200 --artifacts artifacts/sum
adding-problem validate --model examples/own_model.py:GatedSum --recipe fast \
    --dataset.t 1000 --artifacts artifacts/sum

h_t = h_{t-1} + sigmoid(W x_t + b) * (V x_t + c)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class GatedSum(nn.Module):
    """(B, T, 2) -> (B, T, units), the state of every step.

    adding_problem adds the readout of the last one.
    """

    def __init__(self, units: int = 64) -> None:
        super().__init__()
        self.gate = nn.Linear(2, units)
        self.value = nn.Linear(2, units)
        nn.init.constant_(
            self.gate.bias, -6.0
        )  # closed, until the training has found out what to let in
        nn.init.uniform_(self.gate.weight, -12.0, 12.0)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cumsum(torch.sigmoid(self.gate(x)) * self.value(x), dim=1)
