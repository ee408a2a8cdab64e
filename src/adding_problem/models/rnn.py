"""The plain RNN (Elman 1990) and the IRNN, which starts from the identity.

    h_t = f(W x_t + U h_{t-1} + b)
    y   = v . h_T + d

RNN: f = tanh. IRNN: f = ReLU, U = identity and b = 0 at the start (Le, Jaitly & Hinton 2015,
arXiv:1504.00941, section 3).

Parameters: H (H + 4) + H + 1, with PyTorch's two bias vectors.
"""

from __future__ import annotations

from torch import nn

from adding_problem.models.layers import CarriesState, layer_class

__all__ = ["AddingIRNN", "AddingRNN"]

_IRNN_INPUT_SCALE = 1e-3  # the paper's standard deviation of the non-recurrent weights


class AddingRNN(CarriesState):
    """`torch.nn.RNN` with tanh, initialised by PyTorch, and a linear readout of its last output.

    Args:
        hidden: number of units H.
        backend: `torch` or `native`, see `layers`.
        input_size: input columns I.
    """

    _nonlinearity = "tanh"

    def __init__(self, hidden: int, *, backend: str, input_size: int = 2) -> None:
        super().__init__()
        self.hidden, self.backend, self.input_size = hidden, backend, input_size
        self.rnn = layer_class(nn.RNN, backend)(
            input_size, hidden, nonlinearity=self._nonlinearity, batch_first=True
        )
        self.readout = nn.Linear(hidden, 1)

    @property
    def layer(self) -> nn.RNNBase:
        """The RNN."""
        return self.rnn


class AddingIRNN(AddingRNN):
    """The same with ReLU and identity recurrent weights."""

    _nonlinearity = "relu"

    def __init__(self, hidden: int, *, backend: str, input_size: int = 2) -> None:
        super().__init__(hidden, backend=backend, input_size=input_size)
        kernel, recurrent, *biases = self.rnn.parameters()
        nn.init.eye_(recurrent)
        for weight in (kernel, self.readout.weight):
            nn.init.normal_(weight, std=_IRNN_INPUT_SCALE)
        for bias in (*biases, self.readout.bias):
            nn.init.zeros_(bias)
