"""LSTM with a linear readout of its last output (Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000).

i, f, o = sigmoid(W x_t + U h_{t-1} + b)   one block of rows each; gate order in the weights: i, f, g, o
g       = tanh(W x_t + U h_{t-1} + b)
c_t     = f * c_{t-1} + i * g
h_t     = o * tanh(c_t)
y       = v . h_T + d
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from adding_problem.models.chrono import time_scales_
from adding_problem.models.keys import column_keys_, direction_keys_
from adding_problem.models.layers import CarriesState, layer_class

__all__ = ["AddingLSTM"]


class AddingLSTM(CarriesState):
    """An LSTM over (B, T, I) and one linear unit, without activation, on its last output.

    With Keras's initialisation the cell has one bias vector, as in Keras: `bias_hh_l0` is zero and is not trained, so
    that hidden=100 counts 41,301 parameters. With PyTorch's both are trained.

    Args:
        hidden: number of cells H.
        init: `keras` or `torch`, the defaults of that framework; else see `_chrono_init`, `_long_init`,
            `_keyed_init` and `_oracle_init`.
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
        init: Literal[
            "keras", "torch", "chrono", "long", "keyed", "keyed-directions", "oracle"
        ] = "keras",
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
        with torch.random.fork_rng(
            devices=[]
        ):  # the layers draw initial weights from the global state: shield it
            self.lstm = layer_class(nn.LSTM, backend)(
                input_size, hidden_size=hidden, batch_first=True
            )
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
                    f"init {init!r} is none of keras, torch, chrono, long, keyed, keyed-directions and oracle"
                )

    @property
    def layer(self) -> nn.RNNBase:
        """The LSTM."""
        return self.lstm


@torch.no_grad()
def _keras_init(model: AddingLSTM, generator: torch.Generator) -> None:
    """Keras's defaults: Glorot uniform kernels, orthogonal recurrent kernel, biases 0 but 1 at the forget gate.

    Keras holds the four gates in one kernel (2, 4H) and takes its fans from that shape: the limit is
    sqrt(6 / (2 + 4H)), not sqrt(6 / (2 + H)). Likewise one orthogonal matrix (H, 4H) spans all gates.
    """
    lstm, hidden = model.lstm, model.hidden
    kernel, recurrent_kernel, bias, second_bias = lstm.parameters()
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
    """Chrono initialisation (Tallec & Ollivier 2018, equation 16): forget biases log U(1, M - 1), input biases -log U.

    M is the longest time scale, in steps. Everything else as in Keras.
    """
    _keras_init(model, generator)
    hidden, (_, _, bias, _) = model.hidden, model.lstm.parameters()
    time_scales_(bias[hidden : 2 * hidden], longest, generator)
    bias[:hidden] = -bias[hidden : 2 * hidden]


_LONG_RECURRENT_SCALE, _LONG_INPUT_LIMIT = 0.3, 0.1  # measured: docs/log.md


@torch.no_grad()
def _long_init(model: AddingLSTM, generator: torch.Generator, longest: int) -> None:
    """A start from which errors reach back M steps, the longest time scale: forget gates log U(1, M - 1), small recurrent weights.

    The forget biases are those of Tallec & Ollivier 2018 (chrono initialisation), whose gates forget with time scales from
    1 to M; their input biases of the opposite sign are left out. Recurrent weights: orthogonal, scaled down, so that the
    cells do not disturb each other before they have learned what to keep.
    """
    kernel, recurrent_kernel, bias, second_bias = model.lstm.parameters()
    hidden = model.hidden
    kernel.uniform_(-_LONG_INPUT_LIMIT, _LONG_INPUT_LIMIT, generator=generator)
    nn.init.orthogonal_(recurrent_kernel, gain=_LONG_RECURRENT_SCALE, generator=generator)
    time_scales_(bias.zero_()[hidden : 2 * hidden], longest, generator)
    second_bias.zero_().requires_grad_(False)
    limit = 1 / math.sqrt(hidden)
    model.readout.weight.uniform_(-limit, limit, generator=generator)
    model.readout.bias.zero_()


_Keys = Callable[[Tensor, torch.Generator], Tensor]


@torch.no_grad()
def _keyed_init(
    model: AddingLSTM, generator: torch.Generator, longest: int, draw_keys: _Keys
) -> None:
    """`long`, with input gates that are shut and open for one direction of the inputs, each for a random one.

    With L = log M, M the longest time scale, input gates have biases -L and weights 2L k, k the cell's key, a vector of
    length 1. A shut gate lets 1/M through, so that M steps of noise add up to the size of one. Which direction matters is
    for training to find. Told is a time scale and that writing is rare; no column is treated like none other: exchanging
    the columns exchanges the keys.
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
    """Oracle: input gates preset from the mark column. `long`, with biases -L and mark weights U(-2L, 2L) of the input gates.

    The memory is given: an untrained cell writes at a mark and at no other step, and a linear readout fitted on it solves
    the sum at every length. It is an upper bound, not something that learned what to remember.
    """
    _long_init(model, generator, longest)
    kernel, _, bias, _ = model.lstm.parameters()
    scale = math.log(longest)
    bias[: model.hidden] = -scale
    kernel[: model.hidden, _MARK].uniform_(-2 * scale, 2 * scale, generator=generator)
