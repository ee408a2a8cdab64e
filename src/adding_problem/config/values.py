"""The types of values: what pydantic checks, what a word stands for, and what an error says.

A type is an annotation such as ``Annotated[Whole | None, Field(ge=1)]``.
The keys of a configuration and the options of the commands are read and described by the same code.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml
from pydantic import BeforeValidator, Field, Strict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from adding_problem.config import yaml_file
from adding_problem.errors import ConfigError, nearest, shown
from adding_problem.task.variants import MIN_LENGTH

__all__ = [
    "QUOTE",
    "Count",
    "Index",
    "Key",
    "Length",
    "Minutes",
    "Real",
    "Steps",
    "Text",
    "Truth",
    "Whole",
    "choices",
    "described",
    "expected",
    "explain",
    "key",
    "keys_of",
    "leaves",
    "meaning",
    "read_word",
    "short_count",
    "short_loss",
    "short_number",
    "takes_text",
    "word_shown",
    "wrong_value",
]

QUOTE = "if text is meant, quote it, such as 'no' or '150'"
_MOST_EXACT = float(1 << 53)  # above it a float may have been another number when it was written
_END_OF_WHOLE = 1 << 64


def _whole(value: Any) -> Any:
    """A float without a fraction as an int: 100.0 and 1e2 are whole numbers too."""
    exact = isinstance(value, float) and value.is_integer() and abs(value) < _MOST_EXACT
    return int(value) if exact else value


def _spelled_out(value: Any) -> Any:
    """20M as 20,000,000; k is a thousand, G a billion."""
    if isinstance(value, str) and (found := re.fullmatch(r"(\d+(?:\.\d+)?)([kMG])", value)):
        return float(found[1]) * {"k": 1e3, "M": 1e6, "G": 1e9}[found[2]]
    return value


def _unambiguous(value: Any) -> Any:
    if isinstance(value, yaml_file.AmbiguousWord):
        raise ValueError(value)
    return value


Whole = Annotated[int, Strict(), BeforeValidator(_whole), Field(lt=_END_OF_WHOLE)]
Real = Annotated[float, Strict()]
Truth = Annotated[bool, Strict()]
Text = Annotated[str, Strict(), BeforeValidator(_unambiguous)]

Index = Annotated[Whole, Field(ge=0)]
Count = Annotated[Whole, Field(ge=1)]
Length = Annotated[
    Whole, Field(ge=min(MIN_LENGTH.values()))
]  # each variant has a minimum of its own
Steps = Annotated[Count, BeforeValidator(_spelled_out)]  # may be written 20M
Minutes = Annotated[Real, Field(gt=0, lt=float("inf"))]


# --- a type in words -----------------------------------------------------------------------------

_NOUNS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def _plain(kind: Any) -> tuple[Any, ...]:
    """The types that an annotation allows, without bounds; None's among them."""
    if get_origin(kind) is Annotated:
        return _plain(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        return tuple(plain for part in get_args(kind) for plain in _plain(part))
    return (kind,)


def _bounds(kind: Any) -> dict[str, Any]:
    """The bounds of an annotation; not the one that all whole numbers have."""
    notes = get_args(kind)[1:] if get_origin(kind) is Annotated else ()
    limits = [limit for note in notes if isinstance(note, FieldInfo) for limit in note.metadata]
    found = {
        name: getattr(limit, name)
        for limit in limits
        for name in ("ge", "gt", "le", "lt")
        if hasattr(limit, name)
    }
    return {name: value for name, value in found.items() if value != _END_OF_WHOLE}


def takes_text(kind: Any, *, any_text: bool = False) -> bool:
    """Whether a text may be a value as it stands: one of some choices, or any."""
    return any(
        plain is str or (get_origin(plain) is Literal and not any_text) for plain in _plain(kind)
    )


def choices(kind: Any) -> tuple[str, ...]:
    """The words that a value may be, where these are few; None is not among them."""
    plain = _plain(kind)[0]
    if plain is bool:
        return ("true", "false")
    return get_args(plain) if get_origin(plain) is Literal else ()


def described(kind: Any) -> str:
    """What a value of a type is, in words.

    Examples:
        >>> described(Annotated[Whole | None, Field(ge=1)])
        'a whole number of at least 1 or null'
    """
    plain, *others = _plain(kind)
    named = choices(kind)
    if get_origin(plain) is tuple:
        items = choices(get_args(plain)[0])
        text = f"a list, such as [{items[0]}], of {', '.join(items)}"
    elif named and plain is not bool:
        text = ("one of " if len(named) > 1 else "") + ", ".join(named)
    else:
        text = _NOUNS[plain] + _bounds_in_words(_bounds(kind))
    return text + (" or null" if NoneType in others else "")


def expected(kind: Any, error: Exception) -> str:
    """What a value of a type is, in words; of a number that is too large for all, the bound."""
    context = error.errors()[0].get("ctx", {}) if isinstance(error, ValidationError) else {}
    too_large = context.get("lt") == _END_OF_WHOLE
    return "a whole number below 2^64" if too_large else described(kind)


def _bounds_in_words(bounds: Mapping[str, Any]) -> str:
    least, above, most, below = (bounds.get(name) for name in ("ge", "gt", "le", "lt"))
    if least is not None:
        return f" of at least {least:,}" if most is None else f" from {least:,} to {most:,}"
    if above is None:
        return ""
    if most is not None:
        return f" above {above:g} and at most {most:g}"
    if below not in (None, math.inf):
        return f" between {above:g} and {below:g}, both excluded"
    return f" above {above:g}"


# --- keys ----------------------------------------------------------------------------------------


def key(default: Any, help: str, **bounds: Any) -> Any:
    """A key of a configuration: its default, help text and bounds by pydantic's names: ge, lt."""
    return Field(default, description=help, **bounds)


@dataclass(frozen=True)
class Key:
    """A key of a configuration.

    Attributes:
        name: dotted, such as ``dataset.t``.
        kind: its annotation.
        help: what it says.
        default: its value where nobody sets it.
    """

    name: str
    kind: Any
    help: str
    default: Any


def keys_of(cls: Any, section: str = "") -> Iterator[Key]:
    """The keys of a pydantic dataclass and of its sections, in the order of the fields."""
    hints = get_type_hints(cls, include_extras=True)
    for name, field in cls.__pydantic_fields__.items():
        if dataclasses.is_dataclass(hints[name]):
            yield from keys_of(hints[name], f"{name}.")
        elif field.description is not None:
            kind = Annotated[hints[name], field]  # type: ignore[valid-type]
            yield Key(f"{section}{name}", kind, field.description, field.default)


def leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted name and value of everything in nested mappings.

    Examples:
        >>> dict(leaves({"units": 3, "config": {"width": 8, "rate": {"first": 0.1}}}))
        {'units': 3, 'config.width': 8, 'config.rate.first': 0.1}
    """
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


# --- words ---------------------------------------------------------------------------------------


def meaning(kind: Any, word: str) -> Any:
    """What a word of the command line stands for where a type is expected, as it would in a file.

    Raises:
        ValueError, yaml.YAMLError, RecursionError: when it stands for nothing.
    """
    if takes_text(kind):
        null = NoneType in _plain(kind) and word in yaml_file.NULLS
        return None if null else word
    if not word:  # such as of a variable of the shell that is not set
        raise ValueError(word)
    return yaml_file.parse(word)


def read_word(kind: Any, word: str) -> Any:
    """A word of the command line as a value of a type.

    Raises:
        ValueError: when it is none.
    """
    try:
        return TypeAdapter(kind).validate_python(meaning(kind, word))
    except (yaml.YAMLError, RecursionError):
        raise ValueError(word) from None


def word_shown(word: str) -> str:
    """A word in a message: as it was given, without quotes, cut to 60 characters."""
    text = word or "nothing"
    return text if len(text) <= 60 else text[:57] + "..."


def short_number(value: Any) -> str:
    """A value as text, round numbers from a million up in short: ``1e9`` for 1000000000."""
    if isinstance(value, int | float) and abs(value) >= 1e6 and value == float(f"{value:.3g}"):
        return f"{value:.3g}".replace("e+0", "e").replace("e+", "e")
    return str(value)


def short_count(count: float) -> str:
    """Three digits and a letter: 950, 12.3k or 4.5M."""
    rounded = float(f"{count:.3g}")
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if rounded >= size:
            return f"{rounded / size:.3g}{letter}"
    return f"{rounded:.3g}"


def short_loss(loss: float) -> str:
    """Two digits and a short exponent: 6.6e-2."""
    mantissa, _, exponent = f"{loss:.1e}".partition("e")
    return f"{mantissa}e{int(exponent)}" if exponent else mantissa


# --- errors --------------------------------------------------------------------------------------


def wrong_value(key: Key, found: str, source: str) -> ConfigError:
    """The error of a word that is no value of its key."""
    hint = f"change {key.name}: {key.help}"
    return ConfigError(key.name, described(key.kind), found, hint, source)


def explain(error: ValidationError, section: str, keys: Mapping[str, Key]) -> ConfigError:
    """The first of pydantic's complaints about a section as an error that names the dotted key.

    Args:
        error: the complaints.
        section: such as ``dataset``; empty for the whole configuration.
        keys: all keys by their dotted names.
    """
    first = error.errors(include_url=False)[0]
    name = ".".join(str(part) for part in (section, *first["loc"][:1]) if part != "")
    value = first["input"]
    if first["type"] == "unexpected_keyword_argument":
        return ConfigError(
            name, "a known key", f"the unknown key {name!r}", nearest(name, list(keys))
        )
    if name not in keys:
        hint = f"write '{name}:' and its keys indented below it"
        return ConfigError(name, "a group of keys", shown(value), hint)
    key = keys[name]
    unquoted = takes_text(key.kind, any_text=True) and isinstance(
        value, yaml_file.AmbiguousWord | bool | int | float
    )
    hint = QUOTE if unquoted else f"change {name}: {key.help}"
    return ConfigError(name, expected(key.kind, error), shown(value), hint)
