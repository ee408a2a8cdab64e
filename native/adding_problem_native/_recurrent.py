"""Drop-ins for `torch.nn.LSTM`, `GRU` and `RNN`.

They train several times faster on a CPU, and in little memory on long sequences.

Letters: B batch, T steps, I inputs, H hidden, L layers.
"""

from __future__ import annotations

import functools
import itertools
from typing import Any

import torch
import torch.fx
from torch import Tensor, nn

from adding_problem_native._layer import (
    CELLS,
    Cell,
    check_interval,
    fits_in_memory,
    kernel_layer,
    layer,
    layer_served,
)
from adding_problem_native._library import processor_is_intel
from adding_problem_native._tensors import traced

__all__ = ["GRU", "LSTM", "RNN", "lstm"]

LARGE_LSTM = {"Intel": 2 << 20, "other": 6 << 20}
"""Bytes of an LSTM layer's weights from which on PyTorch is faster, by the processor's maker.

On Intel they fill the level-2 cache of a core. Measured on Xeons and, at 512, 768 and 1,024 cells,
on an EPYC; docs/log.md, docs/performance.md.
"""

State = tuple[Tensor, Tensor]


def lstm(
    x: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    bias: Tensor | None = None,
    state: State | None = None,
    *,
    checkpoint_every: int | None = None,
    outputs: bool = True,
) -> tuple[Tensor | None, State]:
    """One layer of LSTM over batch-first sequences, as `torch.nn.LSTM` defines it.

    Args:
        x: float32 (B, T, I) on the CPU, all sizes at least 1.
        w_ih, w_hh: float32 (4H, I) and (4H, H), gates in the order i, f, g, o.
        bias: float32 (4H), the sum of PyTorch's two; None is zero.
        state: h0 and c0, float32 (B, H); None is zero.
        checkpoint_every: keep the state every so many steps and compute the rest again in the
            backward pass, which takes about a third more time and far less memory. None chooses:
            everything is kept up to `MEMORY_BUDGET`.
        outputs: whether the outputs of all steps are wanted; the last one is in the state anyway.

    Returns:
        y, float32 (B, T, H) or None; (hn, cn), float32 (B, H) each.

    Raises:
        ValueError: for a wrong shape, type, device or interval.
    """
    for name, tensor in zip(
        ("x", "w_ih", "w_hh", "bias", "h0", "c0"),
        (x, w_ih, w_hh, bias, *(state or ())),
        strict=False,
    ):
        if tensor is not None and (tensor.dtype != torch.float32 or tensor.device.type != "cpu"):
            raise ValueError(
                f"{name}: expected float32 on the CPU, found {tensor.dtype} on {tensor.device}"
            )
    if not x.shape[0]:
        raise ValueError(
            f"x: expected (B, T, I) with a batch of at least 1, found {tuple(x.shape)}"
        )
    y, hn, cn = layer("LSTM", (), x, w_ih, w_hh, bias, state, checkpoint_every, outputs)
    assert cn is not None
    return y, (hn, cn)


class _Native(nn.RNNBase):
    """What the drop-ins share: a recurrent module of PyTorch's with its layers on the kernels.

    Where the kernels do not serve, PyTorch computes. None is an instance of PyTorch's class, for
    `torch.compile` refuses to trace such an instance.
    """

    _torchs: type[nn.RNNBase]

    def __init__(self, *args: Any, checkpoint_every: int | None = None, **kwargs: Any) -> None:
        check_interval(checkpoint_every)
        # PyTorch's module makes the parameters: arguments, initial values and errors are its own.
        object.__setattr__(self, "__dict__", self._torchs(*args, **kwargs).__dict__)
        self.checkpoint_every = checkpoint_every

    def forward(self, input: Any, hx: Any = None) -> Any:
        """As PyTorch's module: output and last state.

        Where only the last output is wanted, use the state, whose gradient costs nothing at the
        other steps, or `final_state`, which does not even compute the others' array.
        """
        if isinstance(input, torch.fx.Proxy):  # to torch.fx a module of PyTorch's is one node
            tracer = input.tracer
            return tracer.create_proxy("call_module", tracer.path_of_module(self), (input, hx), {})  # type: ignore[attr-defined]
        weights = self._weights()
        if not self._runs_natively(input, hx, weights):
            return self._plain().forward(input, hx)
        return self._run(input, hx, weights, outputs=True)

    def final_state(self, input: Tensor, hx: Any = None) -> Any:
        """The last state alone, shaped as `forward` gives it, without the outputs of all steps."""
        weights = self._weights()
        if not self._runs_natively(input, hx, weights):
            return self._plain().forward(input, hx)[1]
        return self._run(input, hx, weights, outputs=False)[1]

    def _plain(self) -> nn.RNNBase:
        """PyTorch's module with the same parameters: another object with the same attributes."""
        plain = self._torchs.__new__(self._torchs)
        object.__setattr__(plain, "__dict__", self.__dict__)
        return plain

    def __prepare_scriptable__(self) -> nn.RNNBase:
        """What `torch.jit.script` compiles instead."""
        return self._plain()

    def _weights(self) -> list[list[Any]]:
        """The weights of every layer, as they are now.

        `torch.func.functional_call` and parametrisations put others in their places.
        """
        return [[getattr(self, name) for name in names] for names in self._all_weights]

    def _runs_natively(self, x: Any, hx: Any, weights: list[list[Any]]) -> bool:
        if not isinstance(x, Tensor) or x.dim() not in (2, 3) or x.numel() == 0:
            return False
        return (
            not self.bidirectional
            and self.proj_size == 0
            and (self.num_layers == 1 or self.dropout == 0 or not self.training)
            and layer_served(x, *_parts(hx), *itertools.chain(*weights))
            and not self._is_faster_in_torch(x)
        )

    def _is_faster_in_torch(self, x: Tensor) -> bool:
        """Whether PyTorch computes an input that the kernels could compute, only faster."""
        return False

    def _run(
        self, x: Tensor, hx: Any, weights: list[list[Any]], *, outputs: bool
    ) -> tuple[Tensor | None, Any]:
        batched = x.dim() == 3
        states = _parts(hx)
        if not batched:
            if any(part.dim() != 2 for part in states):
                raise RuntimeError(
                    "for an input of one sequence, (T, I), hx is expected to be 2-D, "
                    f"found {states[0].dim()}-D"
                )
            x, states = (
                x[None] if self.batch_first else x[:, None],
                [part[:, None] for part in states],
            )
        if len(states) not in ((0, 2) if self.mode == "LSTM" else (0, 1)):
            expected = "(h, c)" if self.mode == "LSTM" else "one tensor"
            raise RuntimeError(f"hx: expected {expected}, found {len(states)}")
        # PyTorch's own checks name the sizes of a wrong input or state.
        self.check_input(x, None)
        batch = x.shape[0 if self.batch_first else 1]
        for part in states:
            self.check_hidden_size(part, (self.num_layers, batch, self.hidden_size))
        y, states = self._run_batched(
            x if self.batch_first else x.transpose(0, 1), states, weights, outputs
        )
        y = y if y is None or self.batch_first else y.transpose(0, 1)
        if not batched:
            y, states = (
                None if y is None else y.squeeze(0 if self.batch_first else 1),
                [part[:, 0] for part in states],
            )
        return y, self._state(states)

    def _run_batched(
        self, x: Tensor, states: list[Tensor], weights: list[list[Any]], outputs: bool
    ) -> tuple[Tensor | None, list[Tensor]]:
        """Batch first; the parts of the state, before and after, are (L, B, H)."""
        finals: list[tuple[Tensor | None, ...]] = []
        y: Tensor | None = x
        for number, tensors in enumerate(weights):
            last = number == self.num_layers - 1
            h0, c0 = (*(part[number] for part in states), None, None)[:2]
            y, *final = kernel_layer(
                _cell_name(self.mode),
                (),
                y,  # type: ignore[arg-type]
                *self._kernel_weights(*tensors),
                h0,
                c0,
                self.checkpoint_every,
                outputs or not last,
            )
            finals.append(tuple(final))
        return y, [
            torch.stack(parts) for parts in zip(*finals, strict=True) if parts[0] is not None
        ]

    def _state(self, parts: list[Tensor]) -> Any:
        """As PyTorch's module takes and gives it."""
        return tuple(parts) if self.mode == "LSTM" else parts[0]

    def _kernel_weights(
        self, w_ih: Tensor, w_hh: Tensor, *biases: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """A layer's weights and bias as the kernels have them, from PyTorch's."""
        return w_ih, w_hh, biases[0] + biases[1] if biases else None


class LSTM(_Native):
    """`torch.nn.LSTM` with the same arguments, parameters and state_dict, on the native kernels.

    The kernels compute in float32 on a CPU. What they do not do goes to PyTorch's own
    implementation, with its results: other types, devices, packed sequences, bidirectional,
    projections, dropout between layers in training, autocast, `torch.func` transforms, second
    derivatives.

    Args:
        checkpoint_every: see `lstm`; all other arguments as for `torch.nn.LSTM`.
    """

    _torchs = nn.LSTM

    def _is_faster_in_torch(self, x: Tensor) -> bool:
        # In a traced graph the kernels are one node, and PyTorch's layer is none.
        if self.checkpoint_every or traced():
            return False
        inputs = max(self.input_size, self.hidden_size if self.num_layers > 1 else 0)
        weights = 4 * self.hidden_size * (inputs + self.hidden_size)
        steps = x.numel() // self.input_size
        large = LARGE_LSTM["Intel" if processor_is_intel() else "other"]
        return 4 * weights >= large and fits_in_memory("LSTM", steps, self.hidden_size)


class GRU(_Native):
    """`torch.nn.GRU` likewise, see `LSTM`."""

    _torchs = nn.GRU

    def _kernel_weights(
        self, w_ih: Tensor, w_hh: Tensor, *biases: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        # PyTorch's order is r, z, n. The kernels' order is n of x, r, z, n of h: they sum up what n
        # has of x and what it has of h apart.
        if not biases:
            return w_ih.roll(self.hidden_size, 0), w_hh, None
        (r, z, n), (r_h, z_h, n_h) = (bias.chunk(3) for bias in biases)
        return w_ih.roll(self.hidden_size, 0), w_hh, torch.cat([n, r + r_h, z + z_h, n_h])


class RNN(_Native):
    """`torch.nn.RNN`, of tanh or ReLU, likewise, see `LSTM`."""

    _torchs = nn.RNN


def _parts(hx: Any) -> list[Tensor]:
    """The tensors of a state: none, one, or an LSTM's two."""
    return [] if hx is None else list(hx) if isinstance(hx, tuple | list) else [hx]


def _plain_layer(
    mode: str,
    x: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    bias: Tensor | None,
    h0: Tensor | None,
    c0: Tensor | None,
) -> tuple[Tensor, ...]:
    """`layer` on PyTorch's own operations: y, hn and, of an LSTM, cn."""
    hidden = w_hh.shape[1]
    h, c = (x.new_zeros(1, x.shape[0], hidden) if s is None else s[None] for s in (h0, c0))
    biases = [] if bias is None else [bias, torch.zeros_like(bias)]
    if mode == "GRU":
        w_ih = w_ih.roll(-hidden, 0)
        if bias is not None:
            n, r, z, n_h = bias.chunk(4)
            biases = [
                torch.cat([r, z, n]),
                torch.cat([torch.zeros_like(r), torch.zeros_like(z), n_h]),
            ]
    options = (bias is not None, 1, 0.0, False, False, True)
    if mode == "LSTM":
        y, hn, cn = torch.lstm(x, [h, c], [w_ih, w_hh, *biases], *options)
        return y, hn[0], cn[0]
    plain = {"GRU": torch.gru, "RNN_TANH": torch.rnn_tanh, "RNN_RELU": torch.rnn_relu}[mode]
    y, hn = plain(x, h, [w_ih, w_hh, *biases], *options)
    return y, hn[0]


def _cell_name(mode: str) -> str:
    """The kernels' name of a cell, by PyTorch's."""
    return mode.removeprefix("RNN_")


for _mode, _rows in {
    "LSTM": (4, 4, 4),
    "GRU": (3, 3, 4),
    "RNN_TANH": (1, 1, 1),
    "RNN_RELU": (1, 1, 1),
}.items():
    _plain = functools.partial(_plain_layer, _mode)
    CELLS[_cell_name(_mode)] = Cell(_plain, _rows, two_states=_mode == "LSTM")
