"""What the JSON files must hold before anything is done with it: they may come from a stranger."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any, cast

__all__ = ["HORIZON", "MODEL", "RESULT", "RUNG", "VALIDATION", "check", "parsed", "whole_number"]

RESULT = {
    "digest": "text",
    "variant": "text",
    "stop_reason": "text",
    "backend": "text",
    "device": "text",
    "t": "a whole number",
    "epochs": "a whole number",
    "best_epoch": "a whole number",
    "threads": "a whole number",
    "sequences": "a whole number",
    "sequence_steps": "a whole number",
    "best_loss": "a number",
    "best_val_loss": "a number",
    "constant_predictor_mse": "a number",
    "seconds": "a number",
    "reached": "costs",
    "longest_length": "a whole number or null",
}
VALIDATION = {
    "model": "text",
    "t": "a whole number",
    "sequences": "a whole number",
    "mse": "a number",
    "mse_standard_error": "a number",
}
MODEL = {"family": "text", "name": "text or null"}
HORIZON = {"horizon": "a whole number or null", "minutes": "a number", "variant": "text"}
RUNG = {
    "t": "a whole number",
    "mse": "a number",
    "sequence_steps": "a finite number",
    "seconds": "a finite number",
    "reached": "costs of a climb",
    "longest_length": "a whole number or null",
}
"""Kinds of the values that are read, of `RUNG` those of each of a horizon's rungs; see `check`."""

_MAX_COUNT = 1 << 53  # whole numbers above it are not exact as floats, which pictures are made of


def parsed(data: bytes, kinds: Mapping[str, str]) -> dict[str, Any]:
    """A JSON object.

    Args:
        data: its text.
        kinds: see `check`.

    Raises:
        ValueError, RecursionError: when it is none, or lacks a key, or a value is of another kind.
    """
    return check(json.loads(data), kinds)


def check(document: object, kinds: Mapping[str, str]) -> dict[str, Any]:
    """The document, which is a JSON object.

    JSON has no NaN: a number that is null becomes NaN, as do the seconds of a cost.

    Args:
        document: what a JSON file held, or a part of it.
        kinds: of what kind the values of some keys must be: text, a whole number, a number, costs, ... A missing key counts
            as null, but for a number, which has to be there.

    Raises:
        ValueError: when it is no object, or lacks a key, or a value is of another kind.
    """
    if not isinstance(document, dict):
        raise ValueError("not a JSON object")
    numbers = {key for key, kind in kinds.items() if kind == "a number"}
    found = _with_nan(document, numbers)
    for key, kind in kinds.items():
        if kind == "costs" and isinstance(costs := found.get(key), dict):
            found[key] = {
                name: _with_nan(cost, {"seconds"}) if isinstance(cost, dict) else cost
                for name, cost in costs.items()
            }
        if not _IS_KIND[kind](found.get(key)):
            raise ValueError(f"{key}: expected {kind}")
    return found


def _with_nan(values: Mapping[str, Any], numbers: Collection[str]) -> dict[str, Any]:
    """The same values, with NaN in the place of null under these keys."""
    return {
        key: math.nan if value is None and key in numbers else value
        for key, value in values.items()
    }


def whole_number(text: str) -> int:
    """A whole number from 0 to 2^53.

    Raises:
        ValueError: when it is none.
    """
    value = int(text)
    if not _is_count(value):
        raise ValueError(f"expected a whole number up to 2^53, found {text[:30]!r}")
    return value


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value.isprintable()


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= _MAX_COUNT


def _is_number(value: object) -> bool:
    return isinstance(value, float) or (type(value) is int and abs(value) <= _MAX_COUNT)


def _is_finite(value: object) -> bool:
    return _is_number(value) and math.isfinite(cast(float, value))


def _is_cost(value: object) -> bool:
    keys = ("epoch", "sequences", "sequence_steps")  # of an imported model the seconds are NaN
    return value is None or (
        isinstance(value, dict)
        and all(_is_finite(value.get(key)) for key in keys)
        and _is_number(value.get("seconds"))
    )


def _is_climbs_cost(value: object) -> bool:
    keys = ("sequence_steps", "seconds")
    return value is None or (
        isinstance(value, dict) and all(_is_finite(value.get(key)) for key in keys)
    )


def _is_costs(value: object, is_cost: Callable[[object], bool] = _is_cost) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() >= {"1e-2", "1e-3"}
        and all(map(is_cost, value.values()))
    )


_IS_KIND: dict[str, Callable[[object], bool]] = {
    "text": _is_text,
    "text or null": lambda value: value is None or _is_text(value),
    "a whole number": _is_count,
    "a whole number or null": lambda value: value is None or _is_count(value),
    "a number": _is_number,
    "a finite number": _is_finite,
    "costs": _is_costs,
    "costs of a climb": lambda value: _is_costs(value, _is_climbs_cost),
}
