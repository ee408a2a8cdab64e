"""Configurations as nested frozen dataclasses: dotted keys, their types and bounds, and what is said when a value is wrong.

A field made by `option` is a key, a field that is a dataclass a section. A section may have one field that is neither: a
mapping that takes the keys which the section does not know.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Mapping
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from adding_problem.errors import ConfigError, shown

__all__ = [
    "MOST_INT",
    "build",
    "check_bounds",
    "choices",
    "described",
    "option",
    "options",
    "read",
    "takes_text",
    "type_error",
    "types",
    "within",
]

_MOST_EXACT = float(1 << 53)  # above it a float may have been another number when it was written
MOST_INT = (1 << 64) - 1
_Config = TypeVar("_Config")
_Field = dataclasses.Field[Any]


def option(
    default: Any,
    help: str,
    *,
    least: float | None = None,
    above: float | None = None,
    below: float | None = None,
) -> Any:
    """A field with its help text and its bounds: ``least <= value``, ``above < value < below``."""
    return dataclasses.field(
        default=default, metadata={"help": help, "least": least, "above": above, "below": below}
    )


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
            arguments[opt.name] = {
                name.removeprefix(prefix): value
                for name, value in values.items()
                if name.startswith(prefix) and (name == key or name not in known)
            }
        elif key in values:
            arguments[opt.name] = values[key]
    return cls(**arguments)


def kinds(hint: Any) -> tuple[Any, ...]:
    """The plain types that a type allows, None's among them."""
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def takes_text(hint: Any, *, any_text: bool = False) -> bool:
    """Whether a text may be a value as it stands: one of some choices, or any."""
    return any(
        kind is str or (get_origin(kind) is Literal and not any_text) for kind in kinds(hint)
    )


def choices(hint: Any) -> tuple[str, ...]:
    """The words that a value may be, where these are few and None is not among them."""
    return (
        ("true", "false") if hint is bool else get_args(hint) if get_origin(hint) is Literal else ()
    )


def read(hint: Any, value: Any) -> Any:
    """A value as one of a type: a whole number may come as 100.0.

    Args:
        hint: int, float, bool, str, choices, or one of these or None.
        value: what a file or Python gives; of a text it is decided by now whether it stands for a number.

    Raises:
        ValueError: when it is none of that type.
    """
    for kind in kinds(hint):
        found = _READERS.get(kind, _of_choices(kind))(value)
        if found is not None or (value is None and kind is type(None)):
            return found
    raise ValueError(value)


def _whole(value: Any) -> int | None:
    if isinstance(value, float) and value.is_integer() and abs(value) < _MOST_EXACT:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _real(value: Any) -> float | None:
    try:
        return (
            float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
        )
    except OverflowError:  # a whole number of hundreds of digits
        return None


def _of_choices(kind: Any) -> Callable[[Any], Any]:
    return lambda value: value if isinstance(value, str) and value in get_args(kind) else None


_READERS: dict[Any, Callable[[Any], Any]] = {
    bool: lambda value: value if isinstance(value, bool) else None,
    int: _whole,
    float: _real,
    str: lambda value: (
        value if type(value) is str else None
    ),  # not a word that only some readers take for text
    type(None): lambda value: None,
}


def type_error(cls: type, key: str, found: str, source: str = "", hint: str = "") -> ConfigError:
    """What to say of a value that is not of the key's type or not within its bounds."""
    opt = dict(options(cls))[key]
    expected = described(dict(types(cls))[key], opt.metadata)
    return ConfigError(
        key, expected, found, hint or f"change {key}: {opt.metadata['help']}", source
    )


def described(hint: Any, bounds: Mapping[str, Any] | None = None) -> str:
    """What a value of a type is, in words.

    Args:
        hint: the type: a plain one, one of `jsonargparse.typing` with bounds, choices, or one of these or None.
        bounds: those of `option`, where the type itself has none.
    """
    allowed = kinds(hint)
    named = [choice for kind in allowed for choice in get_args(kind)]
    if named:
        text = ("one of " if len(named) > 1 else "") + ", ".join(named)
    else:
        text = _noun(allowed) + _bounds_text(bounds or {})
    return text + (" or null" if type(None) in allowed else "")


def _noun(allowed: tuple[Any, ...]) -> str:
    nouns = {bool: "true or false", int: "a whole number", float: "a number"}
    return next((noun for kind, noun in nouns.items() if kind in allowed), "text")


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
    bounds = dict(options(cls))[key].metadata
    if isinstance(value, int) and value > MOST_INT:
        raise ConfigError(
            key, "a whole number below 2^64", shown(value), f"change {key}: {bounds['help']}"
        )
    if not within(bounds, value):
        raise type_error(cls, key, shown(value))


def within(bounds: Mapping[str, Any], value: Any) -> bool:
    """Whether a value is no number, or one within the bounds of `option`."""
    if value is None or isinstance(value, str | bool):
        return True
    if isinstance(value, int) and value > MOST_INT:
        return False
    least, above, below = (bounds.get(name) for name in ("least", "above", "below"))
    right = (
        (least is None or value >= least)
        and (above is None or value > above)
        and (below is None or value < below)
    )
    return right and not math.isnan(value)
