"""Ctrl-C and SIGTERM: the first asks for an end at the next safe place, the second ends at once."""

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
# A progress bar hides the cursor; a process that a signal ends does not show it again.
_SHOW_CURSOR = b"\x1b[?25h"


class Interruption:
    """Whether a signal has asked for the end."""

    def __init__(self) -> None:
        self.number: int | None = None

    def check(self) -> None:
        """Call this where the work can stop.

        Raises:
            Interrupted: when a signal has arrived.
        """
        if self.number is not None:
            raise Interrupted(self.number)

    def _take(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        # A second signal is for the system: Python would handle it only after a long step.
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        # Not print(): a handler may run in the middle of another print.
        show = _SHOW_CURSOR if sys.stderr.isatty() else b""
        message = b"\nending after this step, with a checkpoint; once more ends at once\n"
        with suppress(OSError):
            os.write(2, show + message)


@contextmanager
def deferred() -> Iterator[Interruption]:
    """Note signals inside the block instead of obeying them; see `Interruption.check`.

    Only the main thread can do that. In another thread the block changes nothing.
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
    """Let SIGTERM raise `Interrupted` inside the block, so that files are closed properly.

    SIGINT raises KeyboardInterrupt anyway.
    """
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
