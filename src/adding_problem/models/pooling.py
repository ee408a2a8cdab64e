"""Sum pooling, a Deep Sets model (Zaheer et al. 2017, arXiv:1703.06114): no order of the steps.

    y = v . sum_t relu(W x_t + b) + d

It is a control for targets that need no memory. A model that cannot tell the order of the steps can
learn the sum of the marked values, or their product. Of their difference it can only learn the
mean.

Parameters, of two columns: 3 H + H + 1.
"""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["AddingPooling"]


class AddingPooling(nn.Module):
    """A linear readout of features of the steps, summed over the steps.

    Args:
        hidden: number of features H.
        input_size: input columns I.
    """

    def __init__(self, hidden: int, *, input_size: int = 2) -> None:
        super().__init__()
        self.hidden, self.input_size = hidden, input_size
        self.features, self.readout = nn.Linear(input_size, hidden), nn.Linear(hidden, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Predictions (B, 1) of sequences (B, T, I)."""
        return self.readout(self.features(x).relu().sum(dim=1))  # type: ignore[no-any-return]
