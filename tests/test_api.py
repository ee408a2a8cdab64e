"""The Python API: every public name has an example that runs, and its page is up to date."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import adding_problem
from tests.conftest import REPOSITORY

WITHOUT_EXAMPLE = {
    "AddingProblemError",
    "BackendError",
    "ConfigError",
    "InteropError",
    "Interrupted",
    "ModelError",
    "RunFolderError",
    "StorageError",
}


def test_the_examples_in_the_docstrings_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    # `train` leaves the folder that the examples after it read.
    homes = {name: getattr(adding_problem, name).__module__ for name in adding_problem.__all__}
    last = [homes[name] for name in ("train", "load_model", "validate")]
    for home in [*sorted({*homes.values()} - {*last, "adding_problem.errors"}), *last]:
        module = importlib.import_module(home)
        results = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
        assert results.attempted > 0, module
        assert results.failed == 0, module


@pytest.mark.parametrize("name", sorted(set(adding_problem.__all__) - WITHOUT_EXAMPLE))
def test_every_public_name_has_an_example_and_documents_its_arguments(name: str) -> None:
    subject = getattr(adding_problem, name)
    text = inspect.getdoc(subject) or ""
    assert ">>>" in text
    for argument in inspect.signature(subject).parameters if inspect.isfunction(subject) else ():
        assert (
            f"{argument}:" in text
            or f"{argument}, " in text
            or text.startswith("`sample_batch` as")
        ), argument


needs_griffe2md = pytest.mark.skipif(
    importlib.util.find_spec("griffe2md") is None, reason="needs griffe2md"
)


@pytest.mark.parametrize(
    "page", [pytest.param("api", marks=needs_griffe2md), "configuration", "original"]
)
def test_the_pages_in_docs_are_what_the_source_says(page: str) -> None:
    made = subprocess.run(
        [sys.executable, f"docs/make_{page}.py"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert made == (REPOSITORY / "docs" / f"{page}.md").read_text(encoding="utf-8"), (
        "run `make docs`"
    )
