"""The zoo's catalogue: what each family is, takes and prefers. Loads no torch, for the configuration checks names by it.

A family's class stands in `models/`, and takes exactly the arguments listed here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

from adding_problem.errors import ConfigError, nearest

__all__ = ["FAMILIES", "PLUGINS", "Family", "check", "completed", "preferred", "takes"]

PLUGINS = "adding_problem.models"
"""The group of entry points by which other packages add models."""


@dataclass(frozen=True)
class Family:
    """A kind of model.

    Attributes:
        home: module and class, ``module:Class``, in `adding_problem.models`.
        paper: where it comes from.
        cost: of one step of one sequence, in words; H is `hidden`.
        parallel: whether the steps of a sequence can be computed at the same time.
        defaults: every argument and its default; numbers are positive.
        source: where the defaults come from.
        choices: the values that a text argument may have.
        fast: what the recipe `fast` does differently for this family, by dotted key.
    """

    home: str
    paper: str
    cost: str
    parallel: bool
    defaults: Mapping[str, Any]
    source: str
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    fast: Mapping[str, Any] = field(default_factory=dict)


FAMILIES: dict[str, Family] = {
    "lstm": Family(
        home="lstm:AddingLSTM",
        paper="Hochreiter & Schmidhuber 1997; Gers et al. 2000",
        cost="four products H x H",
        parallel=False,
        defaults={"hidden": 100, "init": "keras", "memory": None},
        source="the original system (Keras)",
        choices={"init": ("keras", "torch", "chrono", "long", "latch")},
    ),
}


def takes(name: str, argument: str, value: Any = None) -> bool:
    """Whether a model takes an argument (and, where only some values are known, this one); of own models nothing is known."""
    family = FAMILIES.get(name)
    if family is None or argument not in family.defaults:
        return False
    return argument not in family.choices or value is None or value in family.choices[argument]


def completed(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments with the defaults of the family in the places of those that nobody has set."""
    family = FAMILIES.get(name)
    return {**(family.defaults if family else {}), **arguments}


def preferred(name: str) -> dict[str, Any]:
    """What the recipe `fast` does differently for a model, by dotted key."""
    return dict(FAMILIES[name].fast) if name in FAMILIES else {}


def check(name: str, arguments: Mapping[str, Any]) -> None:
    """Whether there is such a model and, if it is of the zoo, whether it takes these arguments.

    Own models are found and their arguments checked when they are built, not here.

    Raises:
        ConfigError: naming the key and what was expected.
    """
    if name not in FAMILIES:
        if not ("." in name or ":" in name or name in metadata.entry_points(group=PLUGINS).names):
            known = list(FAMILIES)
            raise ConfigError("model.name", f"one of {', '.join(known)}, package.module.Class or path/to/file.py:Class",
                              repr(name), nearest(name, known))
        return
    family = FAMILIES[name]
    for argument, value in arguments.items():
        if argument not in family.defaults:
            known = [f"model.{known}" for known in ("name", *family.defaults)]
            raise ConfigError(f"model.{argument}", f"an argument of {name}", f"the unknown argument {argument!r}",
                              nearest(f"model.{argument}", known))
        _check_value(f"model.{argument}", value, family.defaults[argument], family.choices.get(argument, ()))


def _check_value(key: str, value: Any, default: Any, choices: tuple[str, ...]) -> None:
    if choices:
        expected, right = f"one of {', '.join(choices)}", value in choices
    elif isinstance(default, bool):
        expected, right = "true or false", isinstance(value, bool)
    elif isinstance(default, float):
        expected = "a number above 0"
        right = isinstance(value, int | float) and not isinstance(value, bool) and value > 0
    else:
        expected = "a whole number of at least 1"
        right = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    if not right and not (value is None and default is None):
        raise ConfigError(key, expected, repr(value), f"change {key}; its default is {default!r}")
