"""What several test files share."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Run `adding-problem` (or, with script=, another program) as a user would, in an empty folder."""

    def run(*arguments: object, script: Path | None = None, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        program = [str(script)] if script else ["-m", "adding_problem"]
        return subprocess.run(
            [sys.executable, *program, *map(str, arguments)], cwd=tmp_path, timeout=timeout, text=True,
            capture_output=True, check=False, env={**os.environ, "COLUMNS": "120"},
        )

    return run


@pytest.fixture
def small_config(tmp_path: Path) -> Path:
    """A run of a second."""
    path = tmp_path / "small.yaml"
    path.write_text(
        "dataset: {dt_length: 300, t: 12}\n"
        "train: {epochs: 3, batch: 32, es_patience: 5}\n"
        "model: {hidden: 8}\n"
        "threads: 1\n"
        f"artifacts: {tmp_path / 'run'}\n"
    )
    return path
