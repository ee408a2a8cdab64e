"""Reader of pickles that hold only dicts, lists, texts and numbers, such as the original's log.

A pickle is a program, some of whose instructions import and call what the file names. This reader
knows the harmless instructions of protocols 2 to 5 and refuses all others; `pickle` itself is not
used. The memo holds references, so that a file of n bytes makes at most n objects.
"""

from __future__ import annotations

import pickletools
from pathlib import Path
from typing import Any

from adding_problem.interop.untrusted import MOST_TEXT_BYTES, reading, require_size

__all__ = ["read"]

_MARK = object()
_VALUES = (
    *("BINFLOAT", "BININT", "BININT1", "BININT2", "LONG1", "LONG4"),
    *("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
)


def read(path: Path) -> Any:
    """The object in a pickle.

    Raises:
        InteropError: unless the file is a pickle of plain values; nothing of it is executed.
    """
    with reading(
        path,
        "a pickle of dicts, lists, texts and numbers",
        "give the loss.pkl that the original wrote",
    ):
        require_size(path, MOST_TEXT_BYTES)
        return _build(path.read_bytes())


def _build(data: bytes) -> Any:
    stack: list[Any] = []
    memo: dict[Any, Any] = {}
    for opcode, argument, _ in pickletools.genops(data):
        match opcode.name:
            case "PROTO" | "FRAME":
                pass
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST":
                stack.append([])
            case "MARK":
                stack.append(_MARK)
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "APPEND" | "APPENDS" | "SETITEM" | "SETITEMS":
                _collect(opcode.name, stack)
            case "STOP":
                (result,) = stack
                return result
            case name if name in _VALUES:
                stack.append(argument)
            case name:
                raise ValueError(f"the instruction {name} is refused")
    raise ValueError("it has no end")


def _collect(name: str, stack: list[Any]) -> None:
    """Move the values on top of the stack into the list or dict below them."""
    count = {"APPEND": 1, "SETITEM": 2}.get(name)
    first = len(stack) - count if count else _after_mark(stack)
    items = stack[first:]
    del stack[first if count else first - 1 :]
    kind = list if name.startswith("APPEND") else dict
    container = stack[-1]
    if type(container) is not kind:
        raise ValueError(f"expected a {kind.__name__}, found a {type(container).__name__}")
    if isinstance(container, list):
        container.extend(items)
    else:
        container.update(zip(items[::2], items[1::2], strict=True))


def _after_mark(stack: list[Any]) -> int:
    """Where the values after the last mark begin. They leave the stack: the search is linear."""
    for place in range(len(stack), 0, -1):
        if stack[place - 1] is _MARK:
            return place
    raise ValueError("a mark is missing")
