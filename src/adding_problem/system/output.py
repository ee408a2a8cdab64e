"""Everything that a command prints goes through here.

A terminal is sent no control characters except those that a progress bar needs, whatever a file, a
folder's name or a library contains. Characters that the encoding lacks are escaped. A write that
fails, because the disk is full or the reader has gone, does not end the command.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

from adding_problem.errors import StorageError, printable

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

__all__ = ["Guard", "announce", "console", "guarded", "say", "shorten"]


def say(*lines: str, error: bool = False) -> None:
    """Print lines to standard output, or to standard error, and flush.

    A line break inside a line is replaced: a folder with one in its name cannot add a line.
    """
    text = "".join(printable(line.replace("\n", "\0")) + "\n" for line in lines)
    print(text, end="", file=sys.stderr if error else sys.stdout, flush=True)


def shorten(text: str, most: int) -> str:
    """The text, with an ellipsis in its middle where it has more than `most` characters."""
    if len(text) <= most:
        return text
    head = (most - 1) // 2
    return f"{text[:head]}…{text[len(text) - (most - 1 - head) :]}"


def console(**options: Any) -> Console:
    """A `rich.console.Console` that sends a terminal no control characters except its own.

    Args:
        options: of `rich.console.Console`.
    """
    from rich.console import Console
    from rich.segment import Segment

    class _Printable(Console):
        def render(
            self, renderable: RenderableType, options: ConsoleOptions | None = None
        ) -> Iterable[Segment]:
            for segment in super().render(renderable, options):
                clean = Segment(printable(segment.text), segment.style)
                yield segment if segment.control else clean

    stream = sys.stdout
    file = cast(TextIO, stream.with_controls()) if isinstance(stream, _Stream) else None
    return _Printable(emoji=False, file=file, **options)


def announce(console: Console, *lines: str) -> None:
    """Print lines, each broken between words where the console is a terminal."""
    from rich.text import Text

    for line in lines:
        console.print(Text(line), soft_wrap=not console.is_terminal)


class _Stream:
    """A text stream in front of another one, which cleans what is written and does not fail.

    Attributes:
        failure: why something that was written is lost; None while nothing is.
    """

    def __init__(
        self, below: TextIO, *, controls: bool = False, first: _Stream | None = None
    ) -> None:
        self._below, self._controls, self._first = below, controls, first or self
        self.failure: Exception | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._below, name)

    def with_controls(self) -> _Stream:
        """The same stream for a writer that uses control characters and cleans the rest itself."""
        return _Stream(self._below, controls=True, first=self._first)

    def write(self, text: str) -> int:
        """Write the text; an error is noted in `failure`."""
        clean = text if self._controls else printable(text)
        encoding = getattr(self._below, "encoding", None) or "utf-8"
        with self._surviving():
            self._below.write(clean.encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write the lines one by one."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flush; an error is noted in `failure`."""
        with self._surviving():
            self._below.flush()

    @contextmanager
    def _surviving(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:  # ValueError: the stream was closed
            self._first.failure = error

    def end(self) -> None:
        """Flush; after a failure discard the buffer, so that the process's end raises no error."""
        self.flush()
        if self.failure:
            with suppress(OSError, ValueError):
                nothing = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nothing, self._below.fileno())
                os.close(nothing)


class Guard:
    """Standard output and standard error while they are guarded."""

    def __init__(self, out: _Stream, err: _Stream) -> None:
        self._out, self._err = out, err

    def exit_code(self, code: int) -> int:
        """Flush everything; the exit code of a command that would have ended with `code`.

        If the reader of standard output, such as `head`, has ended, it is 141, as shells report
        SIGPIPE. If standard output could not be written, an error is printed and the code is that
        of `StorageError`.
        """
        self._out.end()
        failure = self._out.failure
        if failure and not code:
            if isinstance(failure, BrokenPipeError):
                code = 141
            else:
                reason = getattr(failure, "strerror", None) or failure
                say(
                    f"error: standard output: could not be written ({reason}); the work is done",
                    "  hint: make room, or redirect the output",
                    error=True,
                )
                code = StorageError.exit_code
        self._err.end()
        return code


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Drop warnings where they would be shown, so that a filter can still make them errors."""
    shown = warnings.showwarning
    if not sys.warnoptions:
        warnings.showwarning = lambda *_, **__: None
    try:
        yield
    finally:
        warnings.showwarning = shown


@contextmanager
def guarded() -> Iterator[Guard]:
    """Send everything that the block prints through this module.

    Python's warnings are dropped, unless the interpreter was started with -W.
    """
    with _without_warnings(), Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        # A stream that was closed when Python started is None.
        guard = Guard(_Stream(sys.stdout or nowhere), _Stream(sys.stderr or nowhere))
        with redirect_stdout(cast(TextIO, guard._out)), redirect_stderr(cast(TextIO, guard._err)):
            yield guard
