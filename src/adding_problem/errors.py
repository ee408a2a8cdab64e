"""The exceptions that a user can meet; each carries the exit code of the command line.

    AddingProblemError
    ├── ConfigError            a wrong configuration: file, key, expected, found, remedy     exit 2
    ├── RunFolderError         a run folder that cannot serve: missing, foreign, unfinished  exit 2
    ├── BackendError           a requested backend or device that this machine lacks         exit 2
    └── InteropError           a model or a file of another framework that cannot serve      exit 2
"""

from __future__ import annotations

__all__ = ["AddingProblemError", "BackendError", "ConfigError", "InteropError", "RunFolderError"]


class AddingProblemError(Exception):
    """Base of all errors of this package that a user can cause and mend."""

    exit_code = 2


class ConfigError(AddingProblemError):
    """A configuration that cannot be run.

    Args:
        key: dotted name of the option, such as ``dataset.t``; empty when the file as a whole is meant.
        expected: what would have been right.
        found: what was there instead.
        remedy: what to do about it.
        source: the file, or ``command line``; empty when the configuration was built in Python.
    """

    def __init__(self, key: str, expected: str, found: str, remedy: str, source: str = "") -> None:
        self.key, self.expected, self.found, self.remedy, self.source = key, expected, found, remedy, source
        place = ": ".join(part for part in (source, key) if part)
        super().__init__(f"{place or 'configuration'}: expected {expected}, found {found}.\n  remedy: {remedy}")

    def at(self, source: str) -> ConfigError:
        """The same error with the place it came from."""
        return ConfigError(self.key, self.expected, self.found, self.remedy, source)


class RunFolderError(AddingProblemError):
    """A run folder that is missing, holds another run, or is damaged."""

    def __init__(self, folder: object, problem: str, remedy: str) -> None:
        super().__init__(f"{folder}: {problem}.\n  remedy: {remedy}")


class BackendError(AddingProblemError):
    """A backend or device that was asked for and is not there."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}.\n  remedy: {remedy}")


class InteropError(AddingProblemError):
    """A model that cannot be exported, a foreign file that cannot be imported, or an extra that is not installed."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}.\n  remedy: {remedy}")
