"""The one place through which everything goes that a command prints.

What a terminal is sent holds no control character but those that a progress bar needs, whatever a file, a folder's name or a
library brought; what the encoding lacks is escaped; and output that fails, to a full disk or a reader that has gone, ends nothing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

from adding_problem.errors import StorageError, printable

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

__all__ = ["Guard", "console", "guarded", "say"]


def say(*lines: str, error: bool = False) -> None:
    """Print lines, to standard error or standard output; a line break inside of one is a character that is replaced.

    So a folder whose name holds one cannot add a line of its own. It is also what else `print` does: flushed at once.
    """
    text = "".join(printable(line.replace("\n", "\0")) + "\n" for line in lines)
    print(text, end="", file=sys.stderr if error else sys.stdout, flush=True)


def console(**options: Any) -> Console:
    """A console of rich's that sends a terminal no control characters but its own.

    Args:
        options: what rich's takes.
    """
    from rich.console import Console
    from rich.segment import Segment

    class _Printable(Console):
        def render(
            self, renderable: RenderableType, options: ConsoleOptions | None = None
        ) -> Iterable[Segment]:
            for segment in super().render(renderable, options):
                yield (
                    segment if segment.control else Segment(printable(segment.text), segment.style)
                )

    stream = sys.stdout
    return _Printable(
        emoji=False,
        file=cast(TextIO, stream.with_controls()) if isinstance(stream, _Stream) else None,
        **options,
    )


class _Stream:
    """A text stream before another one: cleans what it is given, and does not fail.

    Attributes:
        failure: why some of what it was given is lost; None while nothing is.
    """

    def __init__(
        self, below: TextIO, *, controls: bool = False, first: _Stream | None = None
    ) -> None:
        self._below, self._controls, self._first = below, controls, first or self
        self.failure: Exception | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._below, name)

    def with_controls(self) -> _Stream:
        """The same for a writer that has cleaned all but control characters of its own."""
        return _Stream(self._below, controls=True, first=self._first)

    def write(self, text: str) -> int:
        """Write what can be written."""
        clean = text if self._controls else printable(text)
        encoding = getattr(self._below, "encoding", None) or "utf-8"
        with self._surviving():
            self._below.write(clean.encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write them one by one."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flush what can be flushed."""
        with self._surviving():
            self._below.flush()

    @contextmanager
    def _surviving(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:  # the latter of a stream that somebody has closed
            self._first.failure = error

    def end(self) -> None:
        """Flush, and let nothing that is still in a buffer complain when the process ends."""
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
        """That of a command that would have ended with `code`, once all is written.

        141, as shells report SIGPIPE, where whoever read standard output, `head` for example, has ended; that of a
        `StorageError`, which is said on standard error, where it could not be written.
        """
        self._out.end()
        failure = self._out.failure
        if failure and not code:
            if isinstance(failure, BrokenPipeError):
                code = 141
            else:
                reason = getattr(failure, "strerror", None) or failure
                say(
                    f"error: standard output: could not be written ({reason}); the work itself is done",
                    "  hint: make room, or lead the output elsewhere",
                    error=True,
                )
                code = StorageError.exit_code
        self._err.end()
        return code


@contextmanager
def guarded() -> Iterator[Guard]:
    """Inside the block everything that is printed to standard output and standard error goes through here."""
    with Path(os.devnull).open(
        "w", encoding="utf-8"
    ) as nowhere:  # where Python found a stream closed
        guard = Guard(_Stream(sys.stdout or nowhere), _Stream(sys.stderr or nowhere))
        with redirect_stdout(cast(TextIO, guard._out)), redirect_stderr(cast(TextIO, guard._err)):
            yield guard
