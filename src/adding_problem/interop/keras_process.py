"""Runs keras_worker.py, the only place where Keras and TensorFlow are imported."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adding_problem.errors import InteropError

__all__ = ["call"]


def call(
    verb: str,
    kind: str,
    model: Path,
    arrays: Mapping[str, NDArray[Any]] | None = None,
    *,
    seconds: float | None = None,
) -> dict[str, NDArray[Any]]:
    """Let the worker do one thing with a model: arrays in, arrays out.

    Args:
        verb, kind: see the worker. A `.keras` file is read and written by Keras on PyTorch.
        model: file or folder to write or read.
        arrays: what the worker is given.
        seconds: after which the worker is ended; None is never.

    Raises:
        InteropError: with the last line that Keras or TensorFlow printed.
    """
    runtime, backend = ("TensorFlow", "tensorflow") if kind == "savedmodel" else ("Keras", "torch")
    with tempfile.TemporaryDirectory() as scratch:
        given, answered = Path(scratch) / "given.npz", Path(scratch) / "answered.npz"
        np.savez(given, **(arrays or {}))  # type: ignore[arg-type]
        worker = Path(__file__).with_name("keras_worker.py")
        try:
            done = subprocess.run(
                [sys.executable, "-P", worker, verb, kind, model, given, answered],
                env={**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"},
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                timeout=seconds,
            )
            said = [f"exit code {done.returncode}", *done.stderr.strip().splitlines()]
            problem = said[-1] if done.returncode else ""
        except subprocess.TimeoutExpired:
            problem = f"it took more than {seconds} seconds"
        if problem:
            raise InteropError(
                f"{model}: {runtime} could not {verb} the model: {problem}",
                f"check the model, and the installation: python -c 'import {runtime.lower()}'",
            )
        with np.load(answered, allow_pickle=False) as stored:
            return dict(stored)
