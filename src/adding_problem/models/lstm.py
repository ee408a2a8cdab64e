"""LSTM (Hochreiter & Schmidhuber 1997), with the forget gate of Gers et al. 2000.

    i, f, o = sigmoid(W x_t + U h_{t-1} + b)
    g       = tanh(W x_t + U h_{t-1} + b)
    c_t     = f * c_{t-1} + i * g
    h_t     = o * tanh(c_t)
    y       = v . h_T + d

Each gate has its own block of rows in the weights, in the order i, f, g, o.

Parameters, of two columns: 4 H (H + 4) + H + 1, with Keras's initialisation 4 H (H + 3) + H + 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from adding_problem.models.initialisation import (
    column_keys_,
    direction_keys_,
    small_weights_,
    time_scales_,
    uniform_readout_,
)
from adding_problem.models.layers import CarriesState, layer_class

__all__ = ["AddingLSTM"]


Init = Literal["keras", "torch", "chrono", "long", "keyed", "keyed-directions", "oracle"]


class AddingLSTM(CarriesState):
    """`torch.nn.LSTM` and a linear readout of its last output.

    Except with PyTorch's initialisation there is one bias vector, as in Keras: `bias_hh_l0` is zero
    and not trained. So hidden=100 has 41,301 parameters.

    Args:
        hidden: number of cells H.
        init: `keras` or `torch`, the defaults of that framework; for the others see `_chrono_init`,
            `_long_init`, `_keyed_init` and `_oracle_init`.
        memory: the longest time scale that these prepare for, in steps; None is `length`.
        seed: of the initial weights.
        backend: `torch` or `native`, see `layers`.
        length: T.
        input_size: input columns I.
    """

    def __init__(
        self,
        hidden: int,
        *,
        init: Init = "keras",
        memory: int | None = None,
        seed: int = 0,
        backend: str = "torch",
        length: int = 1000,
        input_size: int = 2,
    ) -> None:
        super().__init__()
        self.hidden, self.init, self.memory, self.backend = hidden, init, memory, backend
        self.input_size = input_size
        longest = memory or length
        # The layers draw weights from the global random state, which must stay as it is.
        with torch.random.fork_rng(devices=[]):
            self.lstm = layer_class(nn.LSTM, backend)(input_size, hidden, batch_first=True)
            self.readout = nn.Linear(hidden, 1)
        generator = torch.Generator().manual_seed(seed)
        match init:
            case "keras":
                _keras_init(self, generator)
            case "torch":
                _torch_init(self, generator)
            case "chrono":
                _chrono_init(self, generator, longest)
            case "long":
                _long_init(self, generator, longest)
            case "keyed":
                _keyed_init(self, generator, longest, column_keys_)
            case "keyed-directions":
                _keyed_init(self, generator, longest, direction_keys_)
            case "oracle":
                _oracle_init(self, generator, longest)
            case _:
                raise ValueError(
                    f"init: expected one of {', '.join(get_args(Init))}, found {init!r}"
                )

    @property
    def layer(self) -> nn.RNNBase:
        """The LSTM."""
        return self.lstm


@torch.no_grad()
def _keras_init(model: AddingLSTM, generator: torch.Generator) -> None:
    """Keras's defaults: Glorot uniform kernels, an orthogonal recurrent kernel, forget biases 1.

    Other biases are 0. Keras has the four gates in one kernel (2, 4H) and takes its fans from that
    shape: the limit is sqrt(6 / (2 + 4H)), not sqrt(6 / (2 + H)). Likewise one orthogonal matrix
    (H, 4H) spans all gates.
    """
    hidden = model.hidden
    kernel, recurrent_kernel, bias, second_bias = model.lstm.parameters()
    _glorot_uniform(kernel, generator)
    nn.init.orthogonal_(recurrent_kernel, generator=generator)
    bias.zero_()[hidden : 2 * hidden] = 1
    second_bias.zero_().requires_grad_(False)
    _glorot_uniform(model.readout.weight, generator)
    model.readout.bias.zero_()


def _glorot_uniform(weight: Tensor, generator: torch.Generator) -> None:
    limit = math.sqrt(6 / (weight.shape[0] + weight.shape[1]))
    weight.uniform_(-limit, limit, generator=generator)


@torch.no_grad()
def _torch_init(model: AddingLSTM, generator: torch.Generator) -> None:
    """PyTorch's defaults: everything uniform within 1 / sqrt(H)."""
    limit = 1 / math.sqrt(model.hidden)
    for parameter in model.parameters():
        parameter.uniform_(-limit, limit, generator=generator)


@torch.no_grad()
def _chrono_init(model: AddingLSTM, generator: torch.Generator, longest: int) -> None:
    """Chrono initialisation (Tallec & Ollivier 2018, equation 16).

    Forget biases are log U(1, M - 1), M the longest time scale in steps, and input biases their
    negatives. Everything else is as in Keras.
    """
    _keras_init(model, generator)
    hidden, (_, _, bias, _) = model.hidden, model.lstm.parameters()
    time_scales_(bias[hidden : 2 * hidden], longest, generator)
    bias[:hidden] = -bias[hidden : 2 * hidden]


@torch.no_grad()
def _long_init(model: AddingLSTM, generator: torch.Generator, longest: int) -> None:
    """Errors reach back M steps, the longest time scale: long forget gates and small weights.

    The forget biases are those of chrono initialisation, log U(1, M - 1); its input biases are left
    out. The weights are small, so that the cells do not disturb each other before they have learned
    what to keep.
    """
    small_weights_(model.lstm, generator)
    _, _, bias, second_bias = model.lstm.parameters()
    time_scales_(bias[model.hidden : 2 * model.hidden], longest, generator)
    second_bias.requires_grad_(False)
    uniform_readout_(model.readout, generator)


_Keys = Callable[[Tensor, torch.Generator], Tensor]


@torch.no_grad()
def _keyed_init(
    model: AddingLSTM, generator: torch.Generator, longest: int, draw_keys: _Keys
) -> None:
    """`long` with shut input gates, each of which opens for a random direction of the inputs.

    With L = log M, M the longest time scale, input gates have biases -L and weights 2L k. k is the
    key of the cell, a vector of length 1. A shut gate lets 1/M through, so that M steps of noise
    add up to the size of one. Training finds which direction matters. The model is told a time
    scale and that writing is rare. No column is special: exchanging the columns exchanges the keys.
    """
    _long_init(model, generator, longest)
    kernel, _, bias, _ = model.lstm.parameters()
    scale = math.log(longest)
    bias[: model.hidden] = -scale
    draw_keys(kernel[: model.hidden], generator)
    kernel[: model.hidden] *= 2 * scale


_MARK = 1  # the column of the marks where inputs are not mixed


@torch.no_grad()
def _oracle_init(model: AddingLSTM, generator: torch.Generator, longest: int) -> None:
    """Oracle: `long` with input gates preset from the mark column.

    The input gates have biases -L and mark weights U(-2L, 2L), L = log M. So an untrained cell
    writes at a mark and at no other step, and a linear readout fitted on it solves the sum at every
    length. It is an upper bound, not a model that learned what to remember.
    """
    _long_init(model, generator, longest)
    kernel, _, bias, _ = model.lstm.parameters()
    scale = math.log(longest)
    bias[: model.hidden] = -scale
    kernel[: model.hidden, _MARK].uniform_(-2 * scale, 2 * scale, generator=generator)
