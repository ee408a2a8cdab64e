"""What the tests of Markdown pages share: their code, tables and links."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.conftest import REPOSITORY

DOCS = REPOSITORY / "docs"


def run_code(page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run all Python of a page, one block after the other, and return its names.

    It runs in `folder`, which has the repository's docs in it.
    """
    blocks = re.findall(
        r"^```python\n(.*?)^```$", page.read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    assert blocks
    (folder / "docs").symlink_to(DOCS)
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {"__name__": page.stem}
    for block in blocks:
        exec(block, names)
    return names


def rows(text: str, head: str) -> list[list[str]]:
    """The cells of the table whose first line begins with `head`."""
    (table,) = re.findall(rf"^{re.escape(head)}.*\n\|[-|]+\n((?:\|.*\n)+)", text, re.MULTILINE)
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines()]


def require_links(page: Path) -> None:
    """Raise AssertionError where a page links to, or shows, a file that is not there."""
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    links = [link for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text) if "://" not in link]
    assert links
    for link in links:
        assert (DOCS / link).exists(), link
    named = set(re.findall(r"\]\[([\w-]+)\]", text))
    assert named == set(re.findall(r"^\[([\w-]+)\]: https://", text, re.MULTILINE))


def script(path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A script of docs or benchmarks as a module."""
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, path.stem, module)  # where dataclasses look themselves up
    spec.loader.exec_module(module)
    return module
