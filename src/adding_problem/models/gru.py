"""Gated recurrent unit (Cho et al. 2014, arXiv:1406.1078; as in cuDNN and PyTorch, with the reset gate after the product).

    r, z = sigmoid(W x_t + b + U h_{t-1} + b')
    n    = tanh(W x_t + b + r * (U h_{t-1} + b'))
    h_t  = (1 - z) * n + z * h_{t-1}
    y    = v . h_T + d

Parameters, of two columns: 3 H (H + 4) + H + 1.
"""

from __future__ import annotations

from torch import nn

from adding_problem.models.chrono import time_scales_
from adding_problem.models.layers import CarriesState, layer_class

__all__ = ["AddingGRU"]


class AddingGRU(CarriesState):
    """`torch.nn.GRU` and a linear readout of its last output.

    Args:
        hidden: number of units H.
        init: `torch`, PyTorch's default; or `chrono`: biases of z are log U(1, memory - 1), as Tallec & Ollivier 2018 set the
            forget biases of an LSTM, for z is what a GRU keeps.
        memory: the longest time scale that `chrono` prepares for, in steps; None is `length`.
        length: T.
        backend: `torch` or `native`, see `layers`.
        input_size: input columns I.
    """

    def __init__(self, hidden: int, *, init: str, memory: int | None, length: int, backend: str, input_size: int = 2) -> None:
        super().__init__()
        self.hidden, self.init, self.memory, self.backend = hidden, init, memory, backend
        self.input_size = input_size
        self.gru = layer_class(nn.GRU, backend)(input_size, hidden, batch_first=True)
        self.readout = nn.Linear(hidden, 1)
        if init == "chrono":
            time_scales_(self.gru.get_parameter("bias_hh_l0").detach()[hidden : 2 * hidden], memory or length)

    @property
    def layer(self) -> nn.RNNBase:
        """The GRU."""
        return self.gru
