"""Adapts a user's module to (B, T, C) -> (B, 1); C is 2 without noise columns.

Any `nn.Module` will do that returns (B, 1), an output sequence (B, T, H), a tuple that begins with
either, or an object or mapping that holds either as `logits` or `last_hidden_state`. After a
sequence comes a linear readout of its last step, unless H is 1. Keras 3 models on the torch backend
are such modules.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from adding_problem.errors import ModelError
from adding_problem.models import user_code
from adding_problem.system.memory import out_of_memory

__all__ = ["PROBED", "CustomModel"]

PROBED = 3
"""Number of sequences in the first batch that a model is given."""

_ABOUT_TYPES = re.compile("dtype|scalar type|data type")
_AXES = {"btc": (0, 1, 2), "tbc": (1, 0, 2), "bct": (0, 2, 1)}  # each is its own inverse
_NAMED = ("logits", "last_hidden_state")  # as Hugging Face's models call their outputs
_SHORT = 22  # the shortest length that every variant has
_SEEDS = 2**32  # as many as NumPy's generators accept


class CustomModel(nn.Module):
    """Adapter around a user's module.

    Args:
        name: of a class, a factory or an instance, see `user_code`.
        arguments: of the constructor.
        layout: order of the axes that the module takes: `btc` is (batch, time, columns).
        seed, backend, length, input_size: passed to a constructor that has an argument of that
            name; of the seed, the lower 32 bits.
        device: where it will compute. It is tried there, because it may not run elsewhere.

    Attributes:
        inner: the user's module.
        readout: the linear unit that was added, or None.
        gives_sequence: whether the module returns an output for every step.
        last_unit: the name of the module's own last `nn.Linear` of one output, in the order of the
            forward pass, or None. It takes one vector for each sequence.

    Raises:
        ConfigError: when the name leads nowhere or the arguments do not fit.
        ModelError: when the module cannot be made or its output does not fit.
    """

    family = "own"

    def __init__(
        self,
        name: str,
        arguments: Mapping[str, Any],
        *,
        layout: str = "btc",
        seed: int = 0,
        backend: str = "torch",
        length: int = 1000,
        input_size: int = 2,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__()
        self.name, self.arguments, self.layout, self.length = name, dict(arguments), layout, length
        self.input_size = input_size
        device = torch.device(device)
        context = {
            "seed": seed % _SEEDS,
            "backend": backend,
            "length": length,
            "input_size": input_size,
        }
        self.inner = user_code.make(name, device, arguments, context).to(device)
        self.readout: nn.Linear | None = None
        self.last_unit: str | None = None
        width = self._probe(device)
        self.gives_sequence = width is not None
        if width is not None and width > 1:
            self.readout = nn.Linear(width, 1).to(device)

    @classmethod
    def from_description(
        cls, description: Mapping[str, Any], *, backend: str, device: torch.device | str
    ) -> CustomModel:
        """The model of a `description`.

        Raises:
            ValueError: when its name, layout or length is not valid.
        """
        name, layout, length = (description.get(key) for key in ("name", "layout", "length"))
        known = isinstance(layout, str) and layout in _AXES
        if not (isinstance(name, str) and known and isinstance(length, int) and length > 1):
            raise ValueError(
                "expected name, layout and length of a model, "
                f"found {name!r}, {layout!r} and {length!r}"
            )
        return cls(
            name,
            description["arguments"],
            layout=str(layout),
            backend=backend,
            length=length,
            input_size=description["input_size"],
            device=device,
        )

    def description(self) -> dict[str, Any]:
        """What `from_description` needs."""
        return {
            "family": self.family,
            "name": self.name,
            "arguments": self.arguments,
            "layout": self.layout,
            "length": self.length,
            "input_size": self.input_size,
            "readout_added": self.readout is not None,
        }

    def forward(self, x: Tensor) -> Tensor:
        """Predictions (B, 1) of sequences (B, T, C)."""
        output = self._output(x)
        if self.gives_sequence:
            output = self._swap_axes(output)[:, -1]
        return output.float() if self.readout is None else self.readout(output.float())

    @property
    def input_dtype(self) -> torch.dtype:
        """The type of the inputs that the module is given: that of its first real parameter."""
        real = (p.dtype for p in self.inner.parameters() if p.is_floating_point())
        return next(real, torch.float32)

    def _swap_axes(self, x: Tensor) -> Tensor:
        """From the module's order of axes to (B, T, ...), or back."""
        return x.permute(_AXES[self.layout])

    def _output(self, x: Tensor) -> Tensor:
        """What the module returns, or the first part of it.

        Raises:
            ModelError: when the module raises an exception or returns no tensor of real numbers.
        """
        given = self._swap_axes(x).to(self.input_dtype)
        try:
            output = _tensor_in(self.inner(given))
        except Exception as error:
            if out_of_memory(error):
                raise
            raise ModelError(
                self.name,
                f"an output for sequences {tuple(given.shape)}",
                user_code.locate_error(error),
                self._hint(error),
            ) from error
        if not isinstance(output, Tensor):
            raise ModelError(
                self.name,
                f"a tensor, a tuple that begins with one, or one named {' or '.join(_NAMED)}",
                _described(output),
                "return the output of every step (B, T, H), or the prediction (B, 1)",
            )
        if output.is_complex():
            raise ModelError(
                self.name,
                "real numbers",
                str(output.dtype).removeprefix("torch."),
                "return their real part, or another real function of them",
            )
        return output

    def _hint(self, error: Exception) -> str:
        """What to do about an exception of the module, by its cause."""
        text = str(error)
        if isinstance(error, TypeError) and "positional argument" in text:
            return "forward is given only the sequences: give its other arguments defaults"
        if _ABOUT_TYPES.search(text):
            found = {str(p.dtype).removeprefix("torch.") for p in self.inner.parameters()}
            return (
                f"the input is {str(self.input_dtype).removeprefix('torch.')}, as the first "
                f"parameter is; the parameters are {', '.join(sorted(found))}: give all one type, "
                "make what forward creates of the type of its input, or convert in forward"
            )
        if isinstance(error, RuntimeError | ValueError | IndexError | AssertionError):
            return f"correct the model; {_layout_hint(self.layout)}"
        return "correct the model"

    def _probe(self, device: torch.device) -> int | None:
        """H where the module returns a sequence of H units, None where it returns predictions.

        Lazy modules get their parameters here.

        Raises:
            ModelError: for any other shape.
        """
        training = self.inner.training
        self.inner.eval()
        called: list[str] = []
        hooks = [
            unit.register_forward_pre_hook(functools.partial(_note_call, called, name))
            for name, unit in self.inner.named_modules()
            if isinstance(unit, nn.Linear)
        ]
        try:
            x, output = self._first_output(device)
        finally:
            self.inner.train(training)
            for hook in hooks:
                hook.remove()
        self.last_unit = called[-1] if called else None
        if output.dim() == 3 and self._swap_axes(output).shape[:2] == x.shape[:2]:
            return self._swap_axes(output).shape[2]
        if output.shape == (len(x), 1):
            return None
        batch, steps, _ = x.shape
        raise ModelError(
            self.name,
            f"predictions ({batch}, 1) or an output sequence of {steps} steps "
            f"for {tuple(x.shape)}, which is (B, T, 2)",
            f"shape {tuple(output.shape)}",
            f"{_shape_hint(output, batch, steps, self.layout)}; {_layout_hint(self.layout)}",
        )

    @torch.no_grad()
    def _first_output(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """An input and its output: a short one, or of full length where the module needs that."""
        short = _sequences(min(_SHORT, self.length), self.input_size).to(device)
        try:
            return short, self._output(short)
        except ModelError:
            full = _sequences(self.length, self.input_size).to(device)
            return full, self._output(full)


def _tensor_in(output: Any) -> Any:
    """The tensor of an output by its name, or the first part of a tuple; all else as it is."""
    for name in _NAMED:
        found = output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)
        if isinstance(found, Tensor):
            return found
    return output[0] if isinstance(output, Sequence) and output else output


def _described(output: Any) -> str:
    kind = type(output).__name__
    return f"{kind} of {', '.join(map(str, output))}" if isinstance(output, Mapping) else kind


def _note_call(called: list[str], name: str, unit: nn.Module, inputs: tuple[Any, ...]) -> None:
    """Before a linear layer runs: note its name if it gives one number for each sequence."""
    if isinstance(unit, nn.Linear) and unit.out_features == 1 and inputs and inputs[0].dim() == 2:
        called.append(name)


def _sequences(length: int, input_size: int) -> Tensor:
    """`PROBED` sequences (3, length, input_size), marked at their first and last step.

    Drawn by torch, not by `sample_batch`: the readout's weights, drawn after them, depend on it.
    """
    x = torch.rand(PROBED, length, input_size)
    x[..., 1] = 0.0
    x[:, [0, -1], 1] = 1.0
    return x


def _layout_hint(layout: str) -> str:
    if layout == "btc":
        return (
            f"it is given (batch, time, 2), as model.layout: {layout} says; tbc gives "
            "(time, batch, 2), as torch.nn.LSTM without batch_first takes it, and bct "
            "(batch, 2, time)"
        )
    return (
        f"it is given its axes in the order of model.layout, {layout}; "
        "without it the order is btc, (batch, time, 2)"
    )


def _shape_hint(output: Tensor, batch: int, steps: int, layout: str) -> str:
    shape = tuple(output.shape)
    if shape == (batch,):
        return "return y[:, None] in place of y"
    if len(shape) == 2 and shape[0] == batch:
        return f"end with nn.Linear({shape[1]}, 1), or return the output of every step"
    if len(shape) == 3 and shape[:2] == (batch, steps):
        order = "(time, batch, units)" if layout == "tbc" else "(batch, units, time)"
        return f"give the sequence back in the order of model.layout: {order}"
    if len(shape) == 3 and shape[:2] == (steps, batch):
        return "this is (time, batch, units): exchange its first two axes"
    if len(shape) == 3 and shape[1] == batch:
        return (
            "this looks like the state (layers, B, units) of a recurrent layer: "
            "return its output, which comes first"
        )
    return "return one of these"
