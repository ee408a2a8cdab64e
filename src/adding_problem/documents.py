"""What `result.json` and `validation.json` must hold before anything is done with it: they may come from a stranger."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

__all__ = ["RESULT", "VALIDATION", "parsed", "whole_number"]

RESULT = {
    "digest": "text", "variant": "text", "stop_reason": "text", "backend": "text", "device": "text",
    "t": "a whole number", "epochs": "a whole number", "best_epoch": "a whole number", "threads": "a whole number",
    "sequences": "a whole number", "sequence_steps": "a whole number", "best_loss": "a number",
    "best_val_loss": "a number", "constant_predictor_mse": "a number", "seconds": "a number", "reached": "costs",
}
VALIDATION = {"model": "text", "t": "a whole number", "sequences": "a whole number", "mse": "a number",
               "mse_standard_error": "a number"}
"""Kinds of the values that are read; see `parsed`."""

_MAX_COUNT = 1 << 53  # whole numbers above it are not exact as floats, which pictures are made of


def parsed(data: bytes, kinds: Mapping[str, str]) -> dict[str, Any]:
    """A JSON object.

    Args:
        data: its text.
        kinds: of what kind the values of some keys must be: text, a whole number, a number, costs.

    Raises:
        ValueError, RecursionError: when it is none, or lacks a key, or a value is of another kind.
    """
    document = json.loads(data)
    if not isinstance(document, dict):
        raise ValueError("not a JSON object")
    for key, kind in kinds.items():
        if key not in document or not _IS_KIND[kind](document[key]):
            raise ValueError(f"{key}: expected {kind}")
    return document


def whole_number(text: str) -> int:
    """A whole number from 0 to 2^53.

    Raises:
        ValueError: when it is none.
    """
    value = int(text)
    if not _is_count(value):
        raise ValueError(f"expected a whole number up to 2^53, found {text[:30]!r}")
    return value


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= _MAX_COUNT


def _is_number(value: object) -> bool:
    return isinstance(value, float) or (type(value) is int and abs(value) <= _MAX_COUNT)


def _is_cost(value: object) -> bool:
    keys = ("epoch", "sequences", "sequence_steps", "seconds")
    return value is None or (isinstance(value, dict) and all(_is_number(value.get(key)) for key in keys))


def _is_costs(value: object) -> bool:
    return isinstance(value, dict) and value.keys() >= {"1e-2", "1e-3"} and all(map(_is_cost, value.values()))


_IS_KIND = {
    "text": lambda value: isinstance(value, str) and value.isprintable(),
    "a whole number": _is_count,
    "a number": _is_number,
    "costs": _is_costs,
}
