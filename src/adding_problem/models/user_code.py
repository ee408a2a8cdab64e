"""A user's model by its name: finds the class, factory or instance, and makes the module.

A name is ``package.module.Class``, ``path/to/file.py:Class`` or an entry point. Finding it imports
and runs the user's code.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib
import importlib.util
import inspect
import os
import sys
import sysconfig
import traceback
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from types import FunctionType, UnionType
from typing import Any, Union

import torch
from torch import nn

from adding_problem.config.families import PLUGINS
from adding_problem.errors import ConfigError, ModelError, in_one_line, nearest, shown
from adding_problem.system.seeding import seeded

__all__ = ["changed_since", "class_in", "locate_error", "make", "pick_accepted", "source_digest"]

_PACKAGE = str(Path(__file__).parents[1])
_PACKAGE_NAME = __name__.partition(".")[0]
# Beginnings of paths that are not the user's code; so are the folders of `_is_installed`.
_NOT_THE_USERS = (_PACKAGE, sysconfig.get_path("stdlib"), "<frozen")


def source_digest(name: str) -> str | None:
    """SHA-256 of the file that a model's name leads to; None where there is no such file.

    Files that it imports do not count. Of a notebook's class or function it is that of its own
    source, of a class the source of its methods.
    """
    path, attribute = _place(name)
    try:
        if path == "__main__":
            return _source_digest_of_main(attribute)
        if not path.endswith(".py"):
            with _importable(Path.cwd()):
                spec = importlib.util.find_spec(path)
            path = (spec and spec.origin) or ""
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except Exception:  # finding a module imports its packages, which may fail in any way
        return None


def _source_digest_of_main(attribute: str) -> str:
    """That of the script, or else, in a notebook, of a class or function."""
    main = sys.modules["__main__"]
    if file := getattr(main, "__file__", None):
        return hashlib.sha256(Path(file).read_bytes()).hexdigest()
    target = functools.reduce(getattr, attribute.split("."), main)
    parts = vars(target).values() if inspect.isclass(target) else [target]
    sources = [inspect.getsource(part) for part in parts if isinstance(part, FunctionType)]
    return hashlib.sha256("\n".join(sources).encode()).hexdigest()


def changed_since(name: str, digest: str | None) -> bool:
    """Whether the file that a model's name leads to has another digest than an older one.

    Args:
        name: of the model.
        digest: an older `source_digest`; None, which old runs may have, counts as unchanged.
    """
    return digest is not None and digest != source_digest(name)


def class_in(name: str) -> str:
    """The part of a name that names the class."""
    return _split(name)[1]


def make(
    name: str, device: torch.device, arguments: Mapping[str, Any], context: Mapping[str, Any]
) -> nn.Module:
    """The user's module: a new instance, or what a class or factory returns.

    Args:
        name: of the class, factory or instance.
        device: where it will compute.
        arguments: of the constructor, from the configuration.
        context: more arguments, for a constructor that has them.

    Raises:
        ConfigError: when the name leads nowhere or the arguments do not fit.
        ModelError: when the constructor fails or returns no module.
    """
    _reset_keras_names()
    target = _find(name, device)
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
        raise _name_error(
            "a class, a factory or an instance of nn.Module",
            f"{name}, a {type(target).__name__}",
            "name something that gives a module",
        )
    arguments = _with_defaults(target, arguments)
    _check_arguments(name, target, arguments, context)
    try:
        _reset_keras_names()
        with _importable(_folder(name)):
            made = {
                key: _convert(f"model.{key}", value, _hints(target).get(key))
                for key, value in arguments.items()
            }
            module = target(**{**pick_accepted(target, context), **made})
    except ConfigError:
        raise
    except Exception as error:
        raise ModelError(
            name,
            "a module from its constructor",
            locate_error(error),
            "correct the constructor, or its arguments under model:",
        ) from error
    if not isinstance(module, nn.Module):
        raise ModelError(
            name,
            "a torch.nn.Module",
            type(module).__name__,
            "return a module; Keras models are modules with KERAS_BACKEND=torch",
        )
    return module


def pick_accepted(constructor: Callable[..., Any], context: Mapping[str, Any]) -> dict[str, Any]:
    """Those items of the context that the constructor has an argument for."""
    parameters = _parameters(constructor)
    return {key: value for key, value in context.items() if key in parameters}


def locate_error(error: Exception) -> str:
    """The exception in one line, with its place in the user's code."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(_NOT_THE_USERS) and not _is_installed(frame.filename)
    ]
    where = f" in {frames[-1].filename}, line {frames[-1].lineno}" if frames else ""
    return f"{in_one_line(error)}{where}"


def _is_installed(file: str) -> bool:
    """Whether pip installed a file; Debian has its own name for the folder."""
    return "site-packages" in file or "dist-packages" in file


# --- arguments ---


def _parameters(constructor: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(constructor).parameters
    except (TypeError, ValueError):  # builtins have no signature
        return {}


def _hints(target: Any) -> dict[str, Any]:
    """The annotations of a function's or a constructor's parameters, or a dataclass's fields."""
    of_fields = dataclasses.is_dataclass(target) or not inspect.isclass(target)
    try:
        return typing.get_type_hints(target if of_fields else target.__init__)
    except Exception:  # names that are there for a type checker alone, and builtins
        return {}


def _dataclass_of(hint: Any) -> Any:
    """The dataclass of an annotation, ``Config`` or ``Config | None``; None where there is none."""
    parts = typing.get_args(hint) if typing.get_origin(hint) in (Union, UnionType) else (hint,)
    found = (part for part in parts if inspect.isclass(part) and dataclasses.is_dataclass(part))
    return next(found, None)


def _with_defaults(target: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments, and no fields for a required dataclass of which none is given."""
    required = [
        key
        for key, parameter in _parameters(target).items()
        if parameter.default is parameter.empty and _dataclass_of(_hints(target).get(key))
    ]
    return {key: {} for key in required} | dict(arguments)


def _convert(key: str, value: Any, hint: Any) -> Any:
    """A mapping as an instance of the dataclass of its annotation; all else as it is.

    Raises:
        ConfigError: for a field that is unknown, or that is required and missing.
    """
    kind = _dataclass_of(hint)
    if kind is None or not isinstance(value, Mapping):
        if kind is hint and kind is not None:
            expected = f"fields of {kind.__name__}"
            raise ConfigError(key, expected, shown(value), f"write --{key}.FIELD VALUE")
        return value
    fields = {field.name: field for field in dataclasses.fields(kind) if field.init}
    for name in value:
        if name not in fields:
            raise ConfigError(
                f"{key}.{name}",
                f"a field of {kind.__name__}",
                f"the unknown field {name!r}",
                nearest(name, list(fields)),
            )
    for name, field in fields.items():
        absent = field.default is field.default_factory is dataclasses.MISSING
        if absent and name not in value:
            raise _missing(f"{key}.{name}", kind.__name__)
    hints = _hints(kind)
    made = {name: _convert(f"{key}.{name}", item, hints.get(name)) for name, item in value.items()}
    return kind(**made)


def _missing(key: str, owner: str) -> ConfigError:
    hint = f"add '{key.removeprefix('model.')}: ...' under model:, or --{key} VALUE"
    return ConfigError(key, f"a value: {owner} requires it", "none", hint)


def _check_input_size(
    name: str, target: Any, arguments: Mapping[str, Any], input_size: int
) -> None:
    """Raise ConfigError where there are noise columns and the constructor takes no input size."""
    takes_it = not isinstance(target, nn.Module) and (
        "input_size" in arguments or "input_size" in _parameters(target)
    )
    if input_size != 2 and not takes_it:
        raise ConfigError(
            "dataset.noise_columns",
            f"0 for {name}, which has no argument input_size",
            str(input_size - 2),
            "give the constructor an argument input_size, the number of input columns, "
            "or leave dataset.noise_columns out",
        )


def _check_arguments(
    name: str,
    target: Callable[..., Any],
    arguments: Mapping[str, Any],
    context: Mapping[str, Any],
) -> None:
    """Raise ConfigError for an argument that is unknown, or that is required and missing."""
    parameters = _parameters(target)
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    known = {
        key: p
        for key, p in parameters.items()
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    }
    for key in arguments:
        if key not in known:
            raise ConfigError(
                f"model.{key}",
                f"an argument of {name}",
                f"the unknown argument {key!r}",
                nearest(key, list(known)) if known else f"leave it out: {name} takes none",
            )
    for key, parameter in known.items():
        if parameter.default is parameter.empty and key not in {*arguments, *context}:
            raise _missing(f"model.{key}", name)


# --- names ---


def _name_error(expected: str, found: str, hint: str) -> ConfigError:
    return ConfigError("model.name", expected, found, hint)


def _find(name: str, device: torch.device) -> Any:
    """The class, factory or instance of a name, which will compute on this device.

    Raises:
        ConfigError: naming what could not be found or imported.
    """
    # Keras chooses a device when it is imported, and moves every input there.
    os.environ.setdefault("KERAS_TORCH_DEVICE", device.type)
    path, attribute = _place(name)
    if name.endswith(".py"):
        raise _name_error(
            "path/to/file.py:Class", f"{name}, in which no class is named", f"write {name}:Class"
        )
    importable = "a model that can be imported"
    if path.endswith(".py") and not Path(path).is_file():
        hint = f"check the path; it begins from {Path.cwd()}"
        raise _name_error(importable, f"{name}: there is no file {path}", hint)
    try:
        with seeded(0):  # random numbers of a first import must not shift those after it
            home = _module(path)
    except Exception as error:
        found = f"{name}: {locate_error(error)}"
        raise _name_error(importable, found, _import_hint(path, error)) from error
    try:
        target = functools.reduce(getattr, attribute.split("."), home)
        if not isinstance(target, nn.Module):
            return target
        # That instance was made at the first import. Make one from the seed.
        _reset_keras_names()
        instance = functools.reduce(getattr, attribute.split("."), _module(path, rerun=True))
    except AttributeError:
        models = [
            key
            for key, value in vars(home).items()
            if callable(value) or isinstance(value, nn.Module)
        ]
        expected = f"a class, a factory or an instance in {path}"
        raise _name_error(expected, repr(attribute), nearest(attribute, models)) from None
    if instance is target:
        raise _name_error(
            f"an instance that {path} makes",
            f"{attribute}, which it takes from another module",
            "name the module that makes it, or a class or a factory: "
            "its weights have to come from the seed",
        )
    return instance


def _import_hint(path: str, error: Exception) -> str:
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    if missing is not None and not path.endswith(".py") and f"{path}.".startswith(f"{missing}."):
        return (
            "write package.module.Class, from the folder that holds the package or with "
            "PYTHONPATH, or path/to/file.py:Class"
        )
    if missing is not None:
        return f"install {missing}, or put it beside the model"
    if isinstance(error, ImportError) and "relative import" in str(error):
        return "name it as a part of its package, package.module.Class, from the folder above"
    return "correct the file"


def _place(name: str) -> tuple[str, str]:
    """The module or file of a name, and the attribute to take from it."""
    for plugin in metadata.entry_points(group=PLUGINS, name=name):
        return plugin.module, plugin.attr
    return _split(name)


def _split(name: str) -> tuple[str, str]:
    path, _, attribute = name.rpartition(":" if ":" in name else ".")
    return path, attribute


def _reset_keras_names() -> None:
    """Let Keras number its layers from the start.

    Their names are the weights' names, and must be the same in every process.
    """
    if "keras" in sys.modules:
        sys.modules["keras"].utils.clear_session()


# --- imports ---


def _folder(name: str) -> Path:
    """Where a model's imports are found beside Python's path: its file's or the current folder."""
    path, _ = _place(name)
    return Path(path).resolve().parent if path.endswith(".py") else Path.cwd()


def _module(path: str, *, rerun: bool = False) -> Any:
    """A module by its dotted name, or that of a file, which is always run again."""
    if path.endswith(".py"):
        return _module_of_file(Path(path))
    with _importable(Path.cwd()):
        module = importlib.import_module(path)
        return importlib.reload(module) if rerun else module


def _module_of_file(path: Path) -> Any:
    """Run the file again, so that what it makes comes from the seed."""
    name = f"_adding_problem_own_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look up a class's module there
    folder = path.resolve().parent
    _forget_namesakes(folder)
    with _importable(folder):
        spec.loader.exec_module(module)
    return module


def _forget_namesakes(folder: Path) -> None:
    """Let a file import the modules beside it, not namesakes beside another model's file."""
    protected = sys.stdlib_module_names | {"__main__", _PACKAGE_NAME}
    for beside in folder.glob("*.py"):
        imported = getattr(sys.modules.get(beside.stem), "__file__", None) or str(beside)
        kept = beside.stem in protected or _is_installed(imported)
        if imported != str(beside) and not kept:
            del sys.modules[beside.stem]


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Let the block import the modules of a folder, as Python finds those beside a script."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
