"""A user's own model: found by name, built, and adapted to (B, T, C) -> (B, 1); C is 2 without noise columns.

Any `nn.Module` serves (Keras 3 models on the torch backend are such modules) that gives (B, 1), an output sequence
(B, T, H), or a tuple that begins with either. After a sequence comes a linear readout of its last step.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.util
import inspect
import os
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from adding_problem.config.families import PLUGINS
from adding_problem.errors import ConfigError, ModelError, in_one_line, nearest
from adding_problem.system.memory import out_of_memory
from adding_problem.system.seeding import seeded

__all__ = ["CustomModel", "accepted", "changed_since", "class_in", "source_digest"]

_AXES = {"btc": (0, 1, 2), "tbc": (1, 0, 2), "bct": (0, 2, 1)}  # each is its own inverse
_SHORT = 22  # the shortest sequence that every variant has
_CONTEXT = (
    "seed",
    "backend",
    "length",
    "input_size",
)  # given to those constructors that have an argument of the name
_SEEDS = 2**32  # as many as NumPy's generators take
_PACKAGE = str(Path(__file__).parents[1])
_PACKAGE_NAME = __name__.partition(".")[0]
_NOT_THE_USERS = (
    _PACKAGE,
    sysconfig.get_path("stdlib"),
    "<frozen",
)  # site-packages lie within or beside


class CustomModel(nn.Module):
    """Adapter around a user's module.

    Args:
        name: ``package.module.Class``, ``path/to/file.py:Class`` or the name of an entry point; for Class also a factory or
            an instance.
        arguments: of the constructor.
        layout: order of the axes that the module takes: `btc` is (batch, time, 2).
        seed, backend, length, input_size: passed to the constructor where it has an argument of that name; of the seed the lower 32 bits.
        device: where it will compute; it is tried there, for it may run nowhere else.

    Attributes:
        inner: the user's module.
        readout: the linear unit that was added, or None.
        last_unit: the name of the module's own last `nn.Linear` of one output, as the forward pass calls them, or None. It
            takes one vector for each sequence.
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
        self.inner = _make(name, device, arguments, context).to(device)
        self.readout: nn.Linear | None = None
        self.last_unit: str | None = None
        width = self._probe(device)
        if width is not None:
            self.readout = nn.Linear(width, 1).to(device)

    @classmethod
    def described(
        cls, description: Mapping[str, Any], *, backend: str, device: torch.device | str
    ) -> CustomModel:
        """The model of a `description`.

        Raises:
            ValueError: when it is not one.
        """
        name, layout, length = (description.get(key) for key in ("name", "layout", "length"))
        if not (
            isinstance(name, str) and layout in _AXES and isinstance(length, int) and length > 1
        ):
            raise ValueError(
                f"expected name, layout and length of a model, found {name!r}, {layout!r} and {length!r}"
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
        """What `described` needs."""
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
        return (
            output.float()
            if self.readout is None
            else self.readout(self._last_step(output).float())
        )

    def _output(self, x: Tensor) -> Tensor:
        """What the module gives, or the first part of it.

        Raises:
            ModelError: when the module raises an exception or gives no tensor.
        """
        shown = x.permute(_AXES[self.layout])
        try:
            output = self.inner(shown)
        except Exception as error:
            if out_of_memory(error):
                raise
            raise ModelError(
                self.name,
                f"an output for sequences {_shape(shown)}",
                _told(error),
                f"mend the model; {_layout_hint(self.layout)}",
            ) from error
        if isinstance(output, Sequence) and output:
            output = output[0]
        if not isinstance(output, Tensor):
            raise ModelError(
                self.name,
                "a tensor, or a tuple that begins with one",
                type(output).__name__,
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

    def _last_step(self, output: Tensor) -> Tensor:
        return output.permute(_AXES[self.layout])[:, -1]

    def _probe(self, device: torch.device) -> int | None:
        """H where the module gives a sequence of H units, None where it gives the prediction itself.

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
        if output.dim() == 3 and output.permute(_AXES[self.layout]).shape[:2] == x.shape[:2]:
            return output.permute(_AXES[self.layout]).shape[2]
        if output.shape == (len(x), 1):
            return None
        raise ModelError(
            self.name,
            f"predictions ({len(x)}, 1) or an output sequence of {x.shape[1]} steps for {_shape(x)}, which is (B, T, 2)",
            f"shape {_shape(output)}",
            f"{_shape_hint(output, len(x), x.shape[1], self.layout)}; {_layout_hint(self.layout)}",
        )

    @torch.no_grad()
    def _first_output(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """An input and the module's output; a short one unless the module takes no other length than its own."""
        short = _sequences(min(_SHORT, self.length), self.input_size).to(device)
        try:
            return short, self._output(short)
        except ModelError:
            full = _sequences(self.length, self.input_size).to(device)
            return full, self._output(full)


def _note_call(called: list[str], name: str, unit: nn.Module, inputs: tuple[Any, ...]) -> None:
    """Before a linear layer runs: note its name if it gives one number for each sequence."""
    if isinstance(unit, nn.Linear) and unit.out_features == 1 and inputs and inputs[0].dim() == 2:
        called.append(name)


def _sequences(length: int, input_size: int) -> Tensor:
    """Three sequences of the problem (3, length, input_size), marked at their first and last step.

    Drawn by torch and not by `task.sample_batch`: the readout's weights, which are drawn after them, keep their numbers.
    """
    x = torch.rand(3, length, input_size)
    x[..., 1] = 0.0
    x[:, [0, -1], 1] = 1.0
    return x


def source_digest(name: str) -> str | None:
    """SHA-256 of the file that a model's name leads to, which may have changed since a run; None where there is no such file.

    Files that this one imports are not looked at.
    """
    path, _ = _place(name)
    try:
        if not path.endswith(".py"):
            with _importable(Path.cwd()):
                spec = importlib.util.find_spec(path)
            path = (spec and spec.origin) or ""
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except Exception:  # to find a module its packages are imported, which may fail in any way
        return None


def class_in(name: str) -> str:
    """What a name takes from its module or file."""
    return _parts(name)[2]


def changed_since(name: str, digest: str | None) -> bool:
    """Whether the file that a model's name leads to is another than the one of this digest, which an older run may lack."""
    return digest is not None and digest != source_digest(name)


def accepted(constructor: Callable[..., Any], context: Mapping[str, Any]) -> dict[str, Any]:
    """Those items of the context that the constructor has an argument for."""
    named = _signature(constructor)
    return {key: value for key, value in context.items() if key in named}


def _signature(constructor: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(constructor).parameters
    except (TypeError, ValueError):  # builtins have none
        return {}


def _layout_hint(layout: str) -> str:
    if layout == "btc":
        return (
            f"it is given (batch, time, 2), as model.layout: {layout} says; tbc gives (time, batch, 2), as torch.nn.LSTM without "
            "batch_first takes it, and bct (batch, 2, time)"
        )
    return f"it is given its axes in the order of model.layout, {layout}; without it the order is btc, (batch, time, 2)"


def _shape_hint(output: Tensor, batch: int, steps: int, layout: str) -> str:
    if output.dim() == 1 and len(output) == batch:
        return "return y[:, None] in place of y"
    if output.dim() == 2 and len(output) == batch:
        return f"end with nn.Linear({output.shape[1]}, 1), or return the output of every step"
    if output.dim() == 3 and tuple(output.shape[:2]) == (batch, steps):
        return f"give the sequence back in the order of model.layout: {'(time, batch, units)' if layout == 'tbc' else '(batch, units, time)'}"
    if output.dim() == 3 and tuple(output.shape[:2]) == (steps, batch):
        return "this is (time, batch, units): turn its first two axes round"
    if output.dim() == 3 and output.shape[1] == batch:
        return "this looks like the state (layers, B, units) of a recurrent layer: return its output, which comes first"
    return "return one of these"


def _shape(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))


def _installed(file: str) -> bool:
    """Whether pip has put a file there; Debian has a name of its own for the folder."""
    return "site-packages" in file or "dist-packages" in file


def _told(error: Exception) -> str:
    """The exception in one line, with the place in the user's code."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [
        frame
        for frame in frames
        if not frame.filename.startswith(_NOT_THE_USERS) and not _installed(frame.filename)
    ]
    where = f" in {own[-1].filename}, line {own[-1].lineno}" if own else ""
    return f"{in_one_line(error)}{where}"


# --- finding and building --------------------------------------------------------------------------------------------


def _make(
    name: str, device: torch.device, arguments: Mapping[str, Any], context: Mapping[str, Any]
) -> nn.Module:
    """The user's module: an instance, made for this call, or what a class or factory gives.

    Raises:
        ConfigError: when there is no such thing or it does not take these arguments.
        ModelError: when the constructor fails or gives no module.
    """
    _forget_keras_names()
    target = _found(name, device)
    _check_input_size(name, target, arguments, context["input_size"])
    if isinstance(target, nn.Module):
        if arguments:
            raise ConfigError(
                f"model.{next(iter(arguments))}",
                "no arguments for an instance",
                f"{name}, which is one",
                "name the class or a factory, or leave the arguments out",
            )
        return target
    if not callable(target):
        raise ConfigError(
            "model.name",
            "a class, a factory or an instance of nn.Module",
            f"{name}, a {type(target).__name__}",
            "name something that gives a module",
        )
    _check_arguments(name, target, arguments)
    try:
        _forget_keras_names()
        with _importable(_folder(name)):
            module = target(**{**accepted(target, context), **arguments})
    except Exception as error:
        raise ModelError(
            name,
            "a module from its constructor",
            _told(error),
            "mend the constructor, or its arguments under model:",
        ) from error
    if not isinstance(module, nn.Module):
        raise ModelError(
            name,
            "a torch.nn.Module",
            type(module).__name__,
            "return a module; Keras models are modules with KERAS_BACKEND=torch",
        )
    return module


def _check_input_size(
    name: str, target: Any, arguments: Mapping[str, Any], input_size: int
) -> None:
    """Raise ConfigError where there are noise columns and the model is not told of them."""
    told = not isinstance(target, nn.Module) and (
        "input_size" in arguments or accepted(target, {"input_size": input_size})
    )
    if input_size != 2 and not told:
        raise ConfigError(
            "dataset.noise_columns",
            f"0 for {name}, which has no argument input_size",
            str(input_size - 2),
            "give the constructor an argument input_size, the number of input columns, or leave dataset.noise_columns out",
        )


def _forget_keras_names() -> None:
    """Let Keras number its layers from the start: their names are the weights' names, in every process the same."""
    if "keras" in sys.modules:
        sys.modules["keras"].utils.clear_session()


def _check_arguments(name: str, target: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    parameters = _signature(target)
    if not parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        if arguments and not parameters:
            raise ConfigError(
                f"model.{next(iter(arguments))}",
                f"no arguments: {name} takes none",
                "one",
                "leave it out",
            )
        return
    known = [
        key for key, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    ]
    for key in arguments:
        if key not in known:
            raise ConfigError(
                f"model.{key}",
                f"an argument of {name}",
                f"the unknown argument {key!r}",
                nearest(key, known),
            )
    for key in known:
        if parameters[key].default is inspect.Parameter.empty and key not in {
            *arguments,
            *_CONTEXT,
        }:
            raise ConfigError(
                f"model.{key}",
                f"a value: {name} requires it",
                "none",
                f"add '{key}: ...' under model:, or --model.{key} VALUE",
            )


def _found(name: str, device: torch.device) -> Any:
    """The class, factory or instance of a name, which will compute on this device.

    Raises:
        ConfigError: naming what could not be found or imported.
    """
    # Keras settles on a device when it is imported, and moves every input there.
    os.environ.setdefault("KERAS_TORCH_DEVICE", device.type)
    path, attribute = _place(name)
    if name.endswith(".py"):
        raise ConfigError(
            "model.name",
            "path/to/file.py:Class",
            f"{name}, in which no class is named",
            f"write {name}:Class",
        )
    if path.endswith(".py") and not Path(path).is_file():
        raise ConfigError(
            "model.name",
            "a model that can be imported",
            f"{name}: there is no file {path}",
            f"check the path; it begins from {Path.cwd()}",
        )
    try:
        with seeded(0):  # what a first import draws must not shift what comes after it
            home = _module(path)
    except Exception as error:
        raise ConfigError(
            "model.name",
            "a model that can be imported",
            f"{name}: {_told(error)}",
            _import_remedy(path, error),
        ) from error
    try:
        found = functools.reduce(getattr, attribute.split("."), home)
        if not isinstance(found, nn.Module):
            return found
        # That one was made when somebody first imported it; this one is made from the seed, its layers numbered from the start.
        _forget_keras_names()
        anew = functools.reduce(getattr, attribute.split("."), _module(path, afresh=True))
    except AttributeError:
        known = [
            key
            for key, value in vars(home).items()
            if callable(value) or isinstance(value, nn.Module)
        ]
        raise ConfigError(
            "model.name",
            f"a class, a factory or an instance in {path}",
            repr(attribute),
            nearest(attribute, known),
        ) from None
    if anew is found:
        raise ConfigError(
            "model.name",
            f"an instance that {path} makes",
            f"{attribute}, which it takes from another module",
            "name the module that makes it, or a class or a factory: its weights have to come from the seed",
        )
    return anew


def _import_remedy(path: str, error: Exception) -> str:
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    if missing is not None and not path.endswith(".py") and f"{path}.".startswith(f"{missing}."):
        return "write package.module.Class, from a folder in which the package stands or with PYTHONPATH, or path/to/file.py:Class"
    if missing is not None:
        return f"install {missing}, or put it beside the model"
    if isinstance(error, ImportError) and "relative import" in str(error):
        return "name it as a part of its package, package.module.Class, from the folder above"
    return "mend the file"


def _place(name: str) -> tuple[str, str]:
    """The module or file of a name, and what to take from there."""
    for plugin in metadata.entry_points(group=PLUGINS, name=name):
        return plugin.module, plugin.attr
    path, _, attribute = _parts(name)
    return path, attribute


def _parts(name: str) -> tuple[str, str, str]:
    return name.rpartition(":" if ":" in name else ".")


def _folder(name: str) -> Path:
    """Where a model's imports are found beside Python's own path: its file's folder, or the one that the command runs in."""
    path, _ = _place(name)
    return Path(path).resolve().parent if path.endswith(".py") else Path.cwd()


def _module(path: str, *, afresh: bool = False) -> Any:
    """A module by its dotted name, or that of a file, which is always run afresh."""
    if path.endswith(".py"):
        return _module_of_file(Path(path))
    with _importable(Path.cwd()):
        module = importlib.import_module(path)
        return importlib.reload(module) if afresh else module


def _module_of_file(path: Path) -> Any:
    """The file run afresh, so that what it makes starts from the seed."""
    name = f"_adding_problem_own_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look a class's module up there
    folder = path.resolve().parent
    _forget_namesakes(folder)
    with _importable(folder):
        spec.loader.exec_module(module)
    return module


def _forget_namesakes(folder: Path) -> None:
    """Let a file import the modules beside it, and not those of the same names that stand beside another model's file."""
    for beside in folder.glob("*.py"):
        imported = getattr(sys.modules.get(beside.stem), "__file__", None) or str(beside)
        kept = beside.stem in sys.stdlib_module_names | {"__main__", _PACKAGE_NAME} or _installed(
            imported
        )
        if imported != str(beside) and not kept:
            del sys.modules[beside.stem]


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Imports find the modules of a folder inside the block, as Python finds those beside a script."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
