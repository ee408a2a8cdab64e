"""TCN, temporal convolutional network (Bai, Kolter & Koltun 2018, arXiv:1803.01271).

A level is relu(x + F(x)). F is two causal dilated convolutions, each with weight normalisation and
ReLU. The dilation of level l is 2^l. So L levels with kernel K see 1 + 2 (K - 1) (2^L - 1) steps,
3,061 by default. Longer sequences it cannot solve.

    y = v . h_T + d

Only the last output is read. It depends on the outputs of level l at distances from the end that
are multiples of 2^(l+1), and no others are computed. All levels together cost as much as one and a
half levels that compute every step, instead of L.

Parameters: a convolution has C (C' K + 1) + C (the norms). The first level also has a 1 x 1 product
with 2 C + C. The readout has C + 1.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn
from torch.nn.utils import parametrizations

__all__ = ["AddingTCN"]

_MOST_LEVELS = 40
_WEIGHT_SCALE = 0.01  # standard deviation of shortcut and readout, as in the authors' code


class AddingTCN(nn.Module):
    """Levels of dilated causal convolutions and a linear readout of the last step.

    Args:
        hidden: channels C of a level.
        levels: number of levels L.
        kernel: width K of the convolutions.
        input_size: input columns I.
    """

    def __init__(self, hidden: int, *, levels: int, kernel: int, input_size: int = 2) -> None:
        super().__init__()
        if levels > _MOST_LEVELS:
            raise ValueError(
                f"expected at most {_MOST_LEVELS} levels, whose dilation is "
                f"2^{_MOST_LEVELS - 1} steps, found {levels}"
            )
        self.hidden, self.levels, self.kernel = hidden, levels, kernel
        self.input_size = input_size
        self.network = nn.Sequential(
            *(_Level(hidden if level else input_size, hidden, kernel) for level in range(levels))
        )
        self.readout = nn.Linear(hidden, 1)
        nn.init.normal_(self.readout.weight, std=_WEIGHT_SCALE)

    @property
    def field(self) -> int:
        """Steps that the last output sees."""
        return 1 + 2 * (self.kernel - 1) * ((1 << self.levels) - 1)

    def forward(self, x: Tensor) -> Tensor:
        """Predictions (B, 1) of sequences (B, T, I)."""
        # Backwards from the last step; steps before its field do not influence it.
        back = x[:, -self.field :].flip(1).transpose(1, 2)
        return self.readout(self.network(back)[:, :, 0])  # type: ignore[no-any-return]


class _Level(nn.Module):
    """A level at the steps that are needed, 2^l apart and the last first: its dilation there is 1.

    The next level takes every other output.
    """

    def __init__(self, width_in: int, width: int, kernel: int) -> None:
        super().__init__()
        self.first, self.second = (_convolution(size, width, kernel) for size in (width_in, width))
        self.shortcut = nn.Conv1d(width_in, width, 1) if width_in != width else nn.Identity()
        if isinstance(self.shortcut, nn.Conv1d):
            nn.init.normal_(self.shortcut.weight, std=_WEIGHT_SCALE)

    def forward(self, x: Tensor) -> Tensor:
        h = _causal(self.second, _causal(self.first, x, stride=1).relu(), stride=2).relu()
        return (h + self.shortcut(x[:, :, ::2])).relu()  # type: ignore[no-any-return]


def _causal(convolution: nn.Module, x: Tensor, *, stride: int) -> Tensor:
    """The convolution over each step and its past, which comes after it here.

    The weights have the oldest step first.
    """
    weight, bias = cast(Tensor, convolution.weight), cast(Tensor, convolution.bias)
    padded = nn.functional.pad(x, (0, weight.shape[-1] - 1))
    return nn.functional.conv1d(padded, weight.flip(-1), bias, stride)


def _convolution(width_in: int, width: int, kernel: int) -> nn.Module:
    # At PyTorch's scale. The authors' code sets the standard deviation to 0.01 here too, but after
    # weight normalisation, which ignores it.
    convolution = nn.Conv1d(width_in, width, kernel)
    return parametrizations.weight_norm(convolution)  # type: ignore[no-any-return]
