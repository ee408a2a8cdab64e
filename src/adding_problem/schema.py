"""Configurations as nested frozen dataclasses: dotted keys, their types and bounds, and what is said when a value is wrong.

A field made by `option` is a key, a field that is a dataclass a section. A section may have one field that is neither: a
mapping that takes the keys which the section does not know.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import operator as ops
from argparse import ArgumentError
from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import jsonargparse

from adding_problem.errors import ConfigError, shown

__all__ = ["build", "check_bounds", "converted", "described", "option", "options", "type_error", "types"]

_MOST_INT = (1 << 64) - 1
_Config = TypeVar("_Config")
_Field = dataclasses.Field[Any]


def option(default: Any, help: str, *, least: float | None = None, above: float | None = None,
           below: float | None = None) -> Any:
    """A field with its help text and its bounds: ``least <= value``, ``above < value < below``."""
    return dataclasses.field(default=default, metadata={"help": help, "least": least, "above": above, "below": below})


@functools.cache  # a sweep loads thousands of configurations, and type hints are slow to resolve
def types(cls: type, prefix: str = "") -> tuple[tuple[str, Any], ...]:
    """Dotted name and type of every section and key."""
    return tuple(_walk_types(cls, prefix))


def _walk_types(cls: type, prefix: str) -> Iterator[tuple[str, Any]]:
    for name, hint in get_type_hints(cls).items():
        yield prefix + name, hint
        if dataclasses.is_dataclass(hint):
            yield from types(hint, f"{prefix}{name}.")  # type: ignore[arg-type]


@functools.cache
def options(cls: type, prefix: str = "") -> tuple[tuple[str, _Field], ...]:
    """Dotted name and field of every key, sections left out."""
    return tuple(_walk_options(cls, prefix))


def _walk_options(cls: type, prefix: str) -> Iterator[tuple[str, _Field]]:
    hints = get_type_hints(cls)
    for opt in dataclasses.fields(cls):
        if dataclasses.is_dataclass(hints[opt.name]):
            yield from options(hints[opt.name], f"{prefix}{opt.name}.")
        elif opt.metadata:
            yield prefix + opt.name, opt


def build(cls: type[_Config], values: Mapping[str, Any], prefix: str = "") -> _Config:
    """A configuration from values by dotted key; what is not given has its default."""
    hints, fields = get_type_hints(cls), dataclasses.fields(cls)  # type: ignore[arg-type]
    known = [prefix + opt.name for opt in fields]
    arguments: dict[str, Any] = {}
    for key, opt in zip(known, fields, strict=True):
        if dataclasses.is_dataclass(hints[opt.name]):
            arguments[opt.name] = build(hints[opt.name], values, f"{key}.")
        elif not opt.metadata:
            arguments[opt.name] = {name.removeprefix(prefix): value for name, value in values.items()
                                   if name.startswith(prefix) and (name == key or name not in known)}
        elif key in values:
            arguments[opt.name] = values[key]
    return cls(**arguments)


def converted(cls: type, key: str, value: Any, source: str) -> Any:
    """The value of a key converted to its type, as jsonargparse converts it.

    Raises:
        ConfigError: when it is none of that type; `source` is the place to name.
    """
    if value is None and type(None) not in get_args(dict(types(cls))[key]):  # jsonargparse takes it as not given
        raise type_error(cls, key, "null", source)
    try:
        return _parser_of(cls, key).parse_object({key: value}, defaults=False)[key]
    except (ArgumentError, TypeError, ValueError):
        raise type_error(cls, key, shown(value), source) from None


@functools.cache
def _parser_of(cls: type, key: str) -> jsonargparse.ArgumentParser:
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument(f"--{key}", type=dict(types(cls))[key])
    return parser


def type_error(cls: type, key: str, found: str, source: str = "") -> ConfigError:
    """What to say of a value that is not of the key's type or not within its bounds."""
    opt = dict(options(cls))[key]
    expected = described(dict(types(cls))[key], opt.metadata)
    return ConfigError(key, expected, found, f"change {key}: {opt.metadata['help']}", source)


def described(hint: Any, bounds: Mapping[str, Any] | None = None) -> str:
    """What a value of a type is, in words.

    Args:
        hint: the type: a plain one, one of `jsonargparse.typing` with bounds, choices, or one of these or None.
        bounds: those of `option`, where the type itself has none.
    """
    if get_origin(hint) is tuple:
        values = get_args(get_args(hint)[0])
        return f"a list, such as [{values[0]}], of {', '.join(values)}"
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    choices = [choice for kind in kinds for choice in get_args(kind)]
    if choices:
        text = ("one of " if len(choices) > 1 else "") + ", ".join(choices)
    else:
        text = _noun(kinds) + _bounds_text(bounds or _bounds_of(kinds[0]))
    return text + (" or null" if type(None) in kinds else "")


def _noun(kinds: tuple[Any, ...]) -> str:
    nouns = {bool: "true or false", int: "a whole number", float: "a number"}  # in this order: a truth value is an int too
    return next((noun for kind, noun in nouns.items() if any(issubclass(each, kind) for each in kinds)), "text")


def _bounds_of(kind: Any) -> dict[str, float]:
    """The bounds that `jsonargparse.typing` has put into a type."""
    bounds: dict[str, float] = {}
    for operator, value in getattr(kind, "_restrictions", ()):
        if operator is ops.gt and issubclass(kind, int):
            bounds["least"] = value + 1
        else:
            bounds[{ops.gt: "above", ops.ge: "least", ops.lt: "below"}[operator]] = value
    return bounds


def _bounds_text(bounds: Mapping[str, Any]) -> str:
    least, above, below = (bounds.get(name) for name in ("least", "above", "below"))
    if least is not None:
        return f" of at least {least:g}" + (f" and below {below:g}" if below is not None else "")
    if above is not None and below not in (None, math.inf):
        return f" between {above:g} and {below:g}, both excluded"
    return f" above {above:g}" if above is not None else ""


def check_bounds(cls: type, key: str, value: Any) -> None:
    """Whether a number is within the bounds of its key.

    Raises:
        ConfigError: when it is not.
    """
    if value is None or isinstance(value, str | bool | tuple):
        return
    bounds = dict(options(cls))[key].metadata
    least, above, below = (bounds[name] for name in ("least", "above", "below"))
    if isinstance(value, int) and value > _MOST_INT:
        raise ConfigError(key, "a whole number below 2^64", shown(value), f"change {key}: {bounds['help']}")
    right = (least is None or value >= least) and (above is None or value > above) and (below is None or value < below)
    if not right or math.isnan(value):
        raise type_error(cls, key, shown(value))
