"""Ctrl-C and SIGTERM: the first one asks for an end at the next safe place, the second one ends at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from adding_problem.errors import Interrupted

__all__ = ["Interruption", "at_once", "deferred"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SHOW_CURSOR = (
    b"\x1b[?25h"  # a progress bar hides it, and a process that a signal ends does not show it again
)


class Interruption:
    """Whether a signal has asked for the end."""

    def __init__(self) -> None:
        self.number: int | None = None

    def check(self) -> None:
        """Call where the work can be left.

        Raises:
            Interrupted: when a signal has come.
        """
        if self.number is not None:
            raise Interrupted(self.number)

    def _take(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        for (
            each
        ) in _SIGNALS:  # by the system, not by Python, which would wait for the end of a long step
            signal.signal(each, signal.SIG_DFL)
        # Not print(): a handler may run in the middle of another print.
        show = _SHOW_CURSOR if sys.stderr.isatty() else b""
        with suppress(OSError):
            os.write(
                2, show + b"\nending after this step, with a checkpoint; once more ends at once\n"
            )


@contextmanager
def deferred() -> Iterator[Interruption]:
    """Inside the block signals are noted instead of obeyed; the block asks for them with `Interruption.check`.

    Only the main thread can do that; elsewhere nothing is noted and signals do what they did.
    """
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    before = {number: signal.signal(number, interruption._take) for number in _SIGNALS}
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


@contextmanager
def at_once() -> Iterator[None]:
    """Inside the block SIGTERM raises `Interrupted`, as SIGINT raises KeyboardInterrupt, so that files are closed well."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        raise Interrupted(number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before if before is not None else signal.SIG_DFL)
