"""Runs keras_worker.py, which is where Keras and TensorFlow live."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from adding_problem.errors import InteropError

__all__ = ["run"]


def run(verb: str, kind: str, *paths: Path) -> None:
    """Let the worker do one thing; a SavedModel needs TensorFlow, a `.keras` file is as good from PyTorch, which is here.

    Raises:
        InteropError: with the last line that Keras or TensorFlow said.
    """
    backend = "tensorflow" if kind == "savedmodel" else "torch"
    done = subprocess.run(
        [
            sys.executable,
            "-P",
            str(Path(__file__).with_name("keras_worker.py")),
            verb,
            kind,
            *map(str, paths),
        ],
        env={**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        runtime = "TensorFlow" if kind == "savedmodel" else "Keras"
        raise InteropError(
            f"{kind}: {runtime} could not {verb} the model: {lines[-1]}",
            f"check the model, and the installation: python -c 'import {runtime.lower()}'",
        )
