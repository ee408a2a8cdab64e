"""The weights of an LSTM with a linear readout, in the layout of Keras and TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from adding_problem.interop.untrusted import refusal

__all__ = ["INPUTS", "Answers", "Float32", "LstmWeights", "largest_difference"]

Float32 = NDArray[np.float32]
Answers = list[tuple[Float32, Float32]]
"""Sequences (B, T, 2) and what a model predicts for them (B, 1), float32; a pair for each batch."""
INPUTS = 2
"""Columns of a sequence without noise columns: value and mark."""
_FROZEN_BIAS = "lstm.bias_hh_l0"  # one bias vector, as in Keras; see models.lstm


@dataclass(frozen=True)
class LstmWeights:
    """Weights of LSTM(H) and Dense(1), float32; gates in the order i, f, g, o, as in PyTorch.

    Attributes:
        kernel: (I, 4H), I input columns.
        recurrent: (H, 4H).
        bias: (4H,); the sum of PyTorch's two bias vectors.
        readout: (H, 1).
        readout_bias: (1,).
    """

    kernel: Float32
    recurrent: Float32
    bias: Float32
    readout: Float32
    readout_bias: Float32

    @property
    def hidden(self) -> int:
        """Number of cells H."""
        return int(self.recurrent.shape[0])

    @property
    def inputs(self) -> int:
        """Number of input columns I."""
        return int(self.kernel.shape[0])

    def arrays(self) -> dict[str, Float32]:
        """The five arrays by name."""
        return dict(vars(self))

    @staticmethod
    def shapes(hidden: int, inputs: int = INPUTS) -> dict[str, tuple[int, ...]]:
        """Shapes of the five arrays for H cells on I input columns."""
        return {
            "kernel": (inputs, 4 * hidden),
            "recurrent": (hidden, 4 * hidden),
            "bias": (4 * hidden,),
            "readout": (hidden, 1),
            "readout_bias": (1,),
        }

    @classmethod
    def check(cls, source: object, inputs: int = INPUTS, /, **arrays: Float32) -> LstmWeights:
        """The weights of an untrusted file.

        Raises:
            InteropError: unless the shapes are those of LSTM(H) on that many inputs and Dense(1),
                and all values are finite.
        """
        hidden = arrays["recurrent"].shape[0] if arrays["recurrent"].ndim else 0
        for name, shape in cls.shapes(hidden, inputs).items():
            if arrays[name].shape != shape or hidden < 1:
                raise refusal(source, f"{name} of shape {shape}", arrays[name].shape)
            if not np.isfinite(arrays[name]).all():
                hint = "train the model again"
                raise refusal(source, "finite weights", f"NaN or infinity in {name}", hint)
        return cls(**{name: np.ascontiguousarray(arrays[name], np.float32) for name in arrays})

    @classmethod
    def from_state_dict(
        cls, state: Mapping[str, Tensor], source: object = "model", inputs: int | None = None
    ) -> LstmWeights:
        """From the `state_dict` of `models.AddingLSTM`; `inputs` None is any number of columns."""
        array = {name: tensor.detach().cpu().float().numpy() for name, tensor in state.items()}
        kernel = array["lstm.weight_ih_l0"].T
        return cls.check(
            source,
            len(kernel) if inputs is None else inputs,
            kernel=kernel,
            recurrent=array["lstm.weight_hh_l0"].T,
            bias=array["lstm.bias_ih_l0"] + array[_FROZEN_BIAS],
            readout=array["readout.weight"].T,
            readout_bias=array["readout.bias"],
        )

    def to_state_dict(self) -> dict[str, Tensor]:
        """For `models.AddingLSTM(H)`."""
        tensors = {
            "lstm.weight_ih_l0": self.kernel.T,
            "lstm.weight_hh_l0": self.recurrent.T,
            "lstm.bias_ih_l0": self.bias,
            _FROZEN_BIAS: np.zeros_like(self.bias),
            "readout.weight": self.readout.T,
            "readout.bias": self.readout_bias,
        }
        return {
            name: torch.from_numpy(np.array(array, order="C")) for name, array in tensors.items()
        }


@torch.no_grad()
def largest_difference(model: nn.Module, answers: Answers) -> float:
    """Largest absolute difference of the model's predictions from the answers; NaN where one is."""
    return float(np.max([np.abs(model(torch.from_numpy(x)).numpy() - y).max() for x, y in answers]))
