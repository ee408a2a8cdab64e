"""Feed-forward attention (Raffel & Ellis 2016, arXiv:1512.08756): no recurrence, no positions.

    h_t   = f(W x_t + b)
    e_t   = tanh(w . h_t + c)
    alpha = softmax(e)
    s     = sum_t alpha_t h_t
    y     = f(v . f(V s + d) + e)

f is the leaky ReLU. It is a control: the target does not depend on the order of the steps, so the
task needs memory only where it is solved step by step.

Parameters, of two columns: 3 H + (H + 1) + (H^2 + H) + (H + 1).
"""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["AddingAttention"]


class AddingAttention(nn.Module):
    """A weighted mean over the steps between feed-forward layers.

    Args:
        hidden: width H of the layers.
        input_size: input columns I.
    """

    def __init__(self, hidden: int, *, input_size: int = 2) -> None:
        super().__init__()
        self.hidden, self.input_size = hidden, input_size
        self.features, self.score = nn.Linear(input_size, hidden), nn.Linear(hidden, 1)
        self.summary, self.readout = nn.Linear(hidden, hidden), nn.Linear(hidden, 1)
        # As in the authors' code for this problem.
        for layer in (self.features, self.score, self.summary, self.readout):
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Predictions (B, 1) of sequences (B, T, I)."""
        f = nn.functional.leaky_relu
        h = f(self.features(x))
        alpha = self.score(h).tanh().softmax(dim=1)
        s = (alpha * h).sum(dim=1)
        return f(self.readout(f(self.summary(s))))
