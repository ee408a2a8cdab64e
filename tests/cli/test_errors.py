"""Errors: what they say when they come from another process."""

from __future__ import annotations

import multiprocessing
import signal

import pytest

from adding_problem import errors

ERRORS = [
    errors.ConfigError("dataset.t", "a number", "none", "give one", "run.yaml"),
    errors.RunFolderError("run", "is gone", "look for it"),
    errors.LockError("run", "is locked", "wait"),
    errors.BackendError("device: none", "buy one"),
    errors.ModelError("mine.py:Mine", "a tensor", "a dict", "return one"),
    errors.InteropError("no keras", "install it"),
    errors.StorageError("run/loss.pkl", "no space", "make some"),
    errors.Interrupted(signal.SIGTERM, "a checkpoint is written"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_errors_travel_between_processes(error: BaseException) -> None:
    here, there = multiprocessing.Pipe()
    with here, there:
        there.send(error)
        received = here.recv()
    assert type(received) is type(error)
    assert str(received) == str(error)
    assert vars(received) == vars(error)
    assert received.exit_code == error.exit_code  # type: ignore[attr-defined]
