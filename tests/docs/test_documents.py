"""The notebook and the examples run."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from adding_problem import interop
from tests.conftest import REPOSITORY
from tests.helpers.interop import needs


@needs("nbclient", "ipykernel")
def test_the_tour_runs_and_shows_what_it_says() -> None:
    import nbformat
    from nbclient import NotebookClient

    tour = REPOSITORY / "docs" / "tour.ipynb"
    notebook = nbformat.read(tour, as_version=4)  # type: ignore[no-untyped-call]
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    assert "%pip install" in first.source
    NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    printed = "".join(
        output.text
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if output.output_type == "stream" and output.name == "stdout"
    )
    assert "solved after" in printed
    at_the_marks = [
        float(value) for value in re.findall(r"at the marks \[ *(\S+) +(\S+) *\]", printed)[0]
    ]
    assert at_the_marks == pytest.approx(
        [1, 1], abs=0.15
    )  # the right answer is the sum of the marked values


def example(name: str, *arguments: object) -> float:
    """Run an example and return the error that it prints."""
    backend = "tensorflow" if importlib.util.find_spec("tensorflow") else "torch"
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "examples" / name), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "KERAS_BACKEND": backend},
    )
    assert done.returncode == 0, done.stderr
    return float(re.findall(r"validation MSE (\S+)", done.stdout)[0])


@needs("keras")
def test_keras_reads_the_data_file(tmp_path: Path) -> None:
    interop.write_data(tmp_path / "data.npz", 400, 10)
    assert (
        example("keras_data.py", tmp_path / "data.npz", "--epochs", 4) < 0.25
    )  # mean baseline: 0.167


@needs("jax")
def test_jax_learns_from_fresh_sequences() -> None:
    assert example("jax_data.py") < 0.1
