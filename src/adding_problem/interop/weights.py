"""The numbers of an LSTM with a linear readout, in the layout that Keras and TensorFlow store, and checked on the way in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adding_problem.errors import InteropError

__all__ = ["INPUTS", "OTHER_MODELS", "Answers", "Float32", "LstmWeights"]

Float32 = NDArray[np.float32]
Answers = list[tuple[Float32, Float32]]
"""Sequences (B, T, 2) and what a model predicts for them (B, 1), float32; one pair for each batch."""
OTHER_MODELS = "import one LSTM layer with two inputs and one linear unit; any other model is trained with --model path/to/file.py:Class"
"""The hint where a file holds another model than that."""
INPUTS = 2
"""Numbers of a step where no noise columns stand beside them: a value and a mark."""
_FROZEN_BIAS = "lstm.bias_hh_l0"  # one bias vector, as in Keras; see models.lstm


@dataclass(frozen=True)
class LstmWeights:
    """Weights of LSTM(H) and Dense(1), float32; the columns of the gates in the order i, f, g, o, as in PyTorch.

    Attributes:
        kernel: (I, 4H), I input columns.
        recurrent: (H, 4H).
        bias: (4H,); PyTorch's two bias vectors together.
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
    def checked(cls, source: object, inputs: int = INPUTS, /, **arrays: Float32) -> LstmWeights:
        """The weights of a stranger's file.

        Raises:
            InteropError: unless the shapes are those of LSTM(H) on so many inputs and Dense(1), and all values are finite.
        """
        hidden = arrays["recurrent"].shape[0] if arrays["recurrent"].ndim else 0
        expected = cls.shapes(hidden, inputs)
        for name, shape in expected.items():
            if arrays[name].shape != shape or hidden < 1:
                raise InteropError(
                    f"{source}: expected {name} of shape {shape} (an LSTM on a value and a mark, and one "
                    f"linear unit), found {arrays[name].shape}",
                    OTHER_MODELS,
                )
            if not np.isfinite(arrays[name]).all():
                raise InteropError(
                    f"{source}: {name} holds values that are not finite",
                    "train it again: such a model predicts nothing",
                )
        return cls(
            **{name: np.ascontiguousarray(array, np.float32) for name, array in arrays.items()}
        )

    @classmethod
    def of(cls, state: Mapping[str, Tensor]) -> LstmWeights:
        """From the `state_dict` of `models.AddingLSTM`."""
        array = {name: tensor.detach().cpu().numpy() for name, tensor in state.items()}
        return cls.checked(
            "model",
            array["lstm.weight_ih_l0"].shape[1],
            kernel=array["lstm.weight_ih_l0"].T,
            recurrent=array["lstm.weight_hh_l0"].T,
            bias=array["lstm.bias_ih_l0"] + array[_FROZEN_BIAS],
            readout=array["readout.weight"].T,
            readout_bias=array["readout.bias"],
        )

    def state_dict(self) -> dict[str, Tensor]:
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
