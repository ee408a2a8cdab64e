"""The exceptions that a user can meet; each has the exit code of the command line.

AddingProblemError
├── ConfigError            a wrong configuration: file, key, expected, found, hint        exit 2
├── RunFolderError         an unusable run folder: missing, of another run, unfinished    exit 2
│   └── LockError          a run folder that another process uses                         exit 2
├── BackendError           a requested backend, device or size that this machine lacks    exit 2
├── ModelError             a model that does not fit the task: wrong shape, NaN, a leak   exit 2
├── InteropError           an unusable model or file of another framework                 exit 2
├── SweepError             runs of a sweep that failed, see `sweep.driver`                exit 1
├── DivergedError          a loss or a score that is NaN or infinite; files are written   exit 3
└── StorageError           a disk that is full, gone or not writable                      exit 74
KeyboardInterrupt
└── Interrupted            a signal ended a run; its checkpoint is written       exit 130 or 143
"""

from __future__ import annotations

import difflib
import re
import shlex
import signal
import sys
from collections.abc import Sequence
from typing import Any

__all__ = [
    "AddingProblemError",
    "BackendError",
    "ConfigError",
    "DivergedError",
    "InteropError",
    "Interrupted",
    "LockError",
    "ModelError",
    "RunFolderError",
    "StorageError",
    "closest",
    "in_one_line",
    "nearest",
    "on_one_line",
    "printable",
    "shown",
    "to_install",
]


class _SentByMessage(BaseException):
    """An exception that is sent to another process as its message and attributes.

    Its constructor takes the parts of the message, so Python's own way would fail.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, vars(self))


def _rebuild(
    kind: type[BaseException], args: tuple[Any, ...], attributes: dict[str, Any]
) -> BaseException:
    error = kind.__new__(kind)
    error.args = args
    vars(error).update(attributes)
    return error


def _message(problem: str, hint: str) -> str:
    """Two lines, whatever the parts contain."""
    return f"{on_one_line(problem)}.\n  hint: {on_one_line(hint)}"


class AddingProblemError(_SentByMessage, Exception):
    """Base of all errors of this package that a user can cause and correct."""

    exit_code = 2


class ConfigError(AddingProblemError):
    """A configuration that cannot be run.

    Args:
        key: dotted name of the option, such as ``dataset.t``; empty for the complete file.
        expected: what would have been right.
        found: what was there instead.
        hint: what to do about it.
        source: the file, or ``command line``; empty for a configuration built in Python.
    """

    def __init__(self, key: str, expected: str, found: str, hint: str, source: str = "") -> None:
        self.key, self.source = key, source
        self.expected, self.found, self.hint = expected, found, hint
        place = ": ".join(part for part in (source, key) if part) or "configuration"
        super().__init__(_message(f"{place}: expected {expected}, found {found}", hint))

    def at(self, source: str) -> ConfigError:
        """The same error with the place that it came from."""
        return ConfigError(self.key, self.expected, self.found, self.hint, source)


class RunFolderError(AddingProblemError):
    """A run folder that is missing, holds another run, or is damaged."""

    def __init__(self, folder: object, problem: str, hint: str) -> None:
        super().__init__(_message(f"{folder}: {problem}", hint))


class LockError(RunFolderError):
    """A run folder that another process uses, or may use."""


class BackendError(AddingProblemError):
    """A requested backend, device or size that this machine does not have."""

    def __init__(self, problem: str, hint: str) -> None:
        super().__init__(_message(problem, hint))


class StorageError(AddingProblemError):
    """A file that could not be written; the file that it would have replaced is intact.

    Args:
        path: the file.
        reason: as the system gives it.
        hint: what to do about it.
    """

    exit_code = 74  # EX_IOERR of sysexits.h

    def __init__(self, path: object, reason: str, hint: str) -> None:
        problem = f"could not be written ({reason}); what was there before is intact"
        super().__init__(_message(f"{path}: {problem}", hint))


class DivergedError(AddingProblemError):
    """A run or a score that is complete but not finite: for the exit code of a command."""

    exit_code = 3

    def __init__(self, folder: object, problem: str) -> None:
        super().__init__(
            f"{folder}: {problem}.\n  hint: train with a lower train.learning_rate, "
            "or clip the gradient (train.clip_norm)"
        )


class Interrupted(_SentByMessage, KeyboardInterrupt):
    """A signal asked for the end, and the work stopped where it can be resumed.

    Args:
        number: of the signal.
        done: what happened to the work so far.
    """

    def __init__(self, number: int, done: str = "") -> None:
        self.number, self.done = number, done
        super().__init__(f"stopped by {signal.Signals(number).name}{done and '; '}{done}")

    @property
    def exit_code(self) -> int:
        """The code by which shells report a process that a signal ended."""
        return 128 + self.number


class ModelError(AddingProblemError):
    """A model that cannot be built, or that does not map (B, T, 2) to (B, 1)."""

    def __init__(self, name: str, expected: str, found: str, hint: str) -> None:
        self.found = found
        super().__init__(_message(f"model {name}: expected {expected}, found {found}", hint))


class InteropError(AddingProblemError):
    """A failed export, a foreign file that cannot be imported, or an extra that is missing."""

    def __init__(self, problem: str, hint: str) -> None:
        super().__init__(_message(problem, hint))


def to_install(extra: str) -> str:
    """The command that installs one of this package's extras."""
    return f"{shlex.quote(sys.executable)} -m pip install 'adding-problem[{extra}]'"


def nearest(name: str, known: Sequence[str]) -> str:
    """``did you mean 'X'?`` for a mistyped name, or else the list of known names."""
    match = closest(name, known)
    return f"did you mean {match!r}?" if match else f"known are: {', '.join(known)}"


def closest(name: str, known: Sequence[str]) -> str | None:
    """The known name that a mistyped or shortened one most likely means.

    Examples:
        >>> closest("lr", ["logger", "train.learning_rate"]), closest("extra", ["threads"])
        ('train.learning_rate', None)
    """
    if complete := difflib.get_close_matches(name, known, n=1, cutoff=0.9):
        return complete[0]
    word = _last_part(name)
    scored = [(_likeness(word, _last_part(key)), _ratio(name, key), key) for key in known]
    likeness, _, key = max(scored, key=lambda each: each[:2], default=(0, 0, ""))
    # Below this limit suggestions are far off: logger for lr, layout for layers.
    return key if likeness >= 0.7 else None


def _last_part(key: str) -> str:
    """The last part of a key, ``t`` of ``--dataset.t``: people leave the section out."""
    return key.lstrip("-").rpartition(".")[2].casefold()


def _likeness(word: str, known: str) -> float:
    initials = "".join(part[:1] for part in known.split("_"))
    if word == known or (word == initials and len(word) > 1):  # lr is learning_rate
        return 1
    shortened = word.startswith(known) or known.startswith(word)  # batch_size, batch
    if shortened and min(len(word), len(known)) >= 3:
        return 0.9
    return _ratio(word, known)


def _ratio(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()


def printable(text: str) -> str:
    """The text without control characters, which an untrusted file or folder may contain.

    For what a terminal is sent. Line breaks and tabs stay. Characters that change the direction of
    writing, and surrogates, are replaced too.
    """
    return "".join(
        letter if letter.isprintable() or letter in "\n\t" else "\N{REPLACEMENT CHARACTER}"
        for letter in text
    )


def on_one_line(text: object) -> str:
    """A text with spaces for its line breaks: untrusted text cannot start a line of its own."""
    return re.sub(r"\s*[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]\s*", " ", str(text))


def in_one_line(error: BaseException) -> str:
    """The kind and the message of an exception on one line, cut to 300 characters."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def shown(value: object) -> str:
    """A value in a message, cut to 60 characters."""
    try:
        text = repr(value)
    except ValueError:  # an integer of thousands of digits
        text = "a number too long to show"
    return text if len(text) <= 60 else text[:57] + "..."
