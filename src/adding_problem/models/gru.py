"""GRU, gated recurrent unit (Cho et al. 2014, arXiv:1406.1078).

    r, z = sigmoid(W x_t + b + U h_{t-1} + b')
    n    = tanh(W x_t + b + r * (U h_{t-1} + b'))
    h_t  = (1 - z) * n + z * h_{t-1}
    y    = v . h_T + d

As in cuDNN and PyTorch, the reset gate comes after the product.

Parameters, of two columns: 3 H (H + 4) + H + 1.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from adding_problem.models.initialisation import (
    column_keys_,
    levels,
    small_weights_,
    time_scales_,
    uniform_readout_,
)
from adding_problem.models.layers import CarriesState, layer_class

__all__ = ["AddingGRU"]


class AddingGRU(CarriesState):
    """`torch.nn.GRU` and a linear readout of its last output.

    Args:
        hidden: number of units H.
        init: `torch`, PyTorch's default; `chrono`, biases log U(1, memory - 1) of z, the gate that
            keeps, as Tallec & Ollivier 2018 set the LSTM's forget biases; or `keyed`, an
            experiment, see `_keyed_init`.
        memory: the longest time scale that `chrono` and `keyed` prepare for, in steps; None is
            `length`.
        length: T.
        backend: `torch` or `native`, see `layers`.
        input_size: input columns I.
    """

    def __init__(
        self,
        hidden: int,
        *,
        init: str,
        memory: int | None,
        length: int,
        backend: str,
        input_size: int = 2,
    ) -> None:
        super().__init__()
        self.hidden, self.init, self.memory, self.backend = hidden, init, memory, backend
        self.input_size = input_size
        self.gru = layer_class(nn.GRU, backend)(input_size, hidden, batch_first=True)
        self.readout = nn.Linear(hidden, 1)
        if init == "chrono":
            bias = self.gru.get_parameter("bias_hh_l0").detach()
            time_scales_(bias[hidden : 2 * hidden], memory or length)
        elif init == "keyed":
            _keyed_init(self, memory or length)

    @property
    def layer(self) -> nn.RNNBase:
        """The GRU."""
        return self.gru


@torch.no_grad()
def _keyed_init(model: AddingGRU, longest: int) -> None:
    """Write gates 1 - z that let 1/M through, M the longest time scale, and open at a unit's key.

    A key is one input column and a sign. With that column at the sign and all other inputs at 0, a
    unit overwrites a share of its state that is drawn from U(0, 1). All other weights are small.
    Exchanging the input columns exchanges the keys. A unit forgets as it writes: choose M far
    above T.
    """
    hidden = model.hidden
    small_weights_(model.gru)
    kernel, _, bias, _ = model.gru.parameters()
    shut = math.log(max(1, longest - 1))  # sigmoid(-shut) = 1/M
    bias[hidden : 2 * hidden] = shut
    keys = column_keys_(kernel[hidden : 2 * hidden])
    keys *= -(shut + levels(hidden).logit())[:, None]
    uniform_readout_(model.readout)
