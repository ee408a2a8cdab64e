"""Reader of pickles that hold only dicts, lists, tuples, texts and numbers, such as the original's `loss.pkl`.

A pickle is a program for a small machine, some of whose instructions import and call what the file names. This machine
knows the harmless ones and refuses the rest, whatever they would do; `pickle` itself is never asked. The memo holds
references, so that a file of n bytes makes at most n objects.
"""

from __future__ import annotations

import pickletools
from pathlib import Path
from typing import Any

from adding_problem.errors import InteropError

__all__ = ["read"]

_MAX_BYTES = 16 << 20
_MARK = object()
_IGNORED = {"PROTO", "FRAME"}
_VALUES = {
    "BINFLOAT",
    "FLOAT",
    "INT",
    "BININT",
    "BININT1",
    "BININT2",
    "LONG",
    "LONG1",
    "LONG4",
    "UNICODE",
    "SHORT_BINUNICODE",
    "BINUNICODE",
    "BINUNICODE8",
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, type] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}


def read(path: Path) -> Any:
    """The object in a pickle.

    Raises:
        InteropError: when the file is no pickle, or holds anything but plain values; nothing of it has then been run.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError("larger than 16 MiB")
        return _run(path.read_bytes())
    except OSError as error:
        raise InteropError(f"{path}: cannot be read ({error.strerror})", "check the path") from None
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InteropError(
            f"{path}: is no pickle of dicts, lists, texts and numbers ({error})",
            "give the loss.pkl that the original wrote; no other pickle is read",
        ) from None


def _run(data: bytes) -> Any:
    stack: list[Any] = []
    memo: dict[Any, Any] = {}
    for opcode, argument, _ in pickletools.genops(data):
        name = opcode.name
        if name == "STOP":
            (result,) = stack
            return result
        if name in _VALUES:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name == "MARK":
            stack.append(_MARK)
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name not in _IGNORED:
            _collect(name, stack)
    raise ValueError("it has no end")


def _collect(name: str, stack: list[Any]) -> None:
    """The instructions that put values into a container."""
    counted = {"APPEND": 1, "SETITEM": 2, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}.get(name)
    if counted is None and name not in ("APPENDS", "SETITEMS", "TUPLE", "LIST", "DICT"):
        raise ValueError(f"the instruction {name} is refused")
    first = len(stack) - counted if counted else _after_mark(stack)
    items = stack[first:]
    del stack[first if counted else first - 1 :]
    if name.startswith("APPEND"):
        _of_type(stack[-1], list).extend(items)
    elif name.startswith("SETITEM"):
        _of_type(stack[-1], dict).update(_pairs(items))
    elif name == "DICT":
        stack.append(_pairs(items))
    else:
        stack.append(items if name == "LIST" else tuple(items))


def _after_mark(stack: list[Any]) -> int:
    """Where the values behind the last mark begin; what is looked through here is taken off the stack then."""
    for place in range(len(stack), 0, -1):
        if stack[place - 1] is _MARK:
            return place
    raise ValueError("a mark is missing")


def _pairs(items: list[Any]) -> dict[str, Any]:
    for key in items[::2]:
        _of_type(key, str)  # a hash of nested tuples can take for ever
    return dict(zip(items[::2], items[1::2], strict=True))


def _of_type(container: Any, kind: type) -> Any:
    if type(container) is not kind:
        raise ValueError(f"expected a {kind.__name__}, found a {type(container).__name__}")
    return container
