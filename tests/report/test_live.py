"""The page in which two LSTMs learn, without a browser."""

from __future__ import annotations

import base64
import hashlib
import re
import webbrowser
from pathlib import Path

import pytest

from adding_problem.report import live
from tests.conftest import REPOSITORY, Command
from tests.helpers.pages import Page


def test_it_loads_nothing_and_runs_only_its_own_scripts() -> None:
    page = Page(live.render())
    for tag, attributes in page.elements:
        for name in ("src", "href", "action", "poster", "srcset", "data"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:")), (tag, name, value)
        assert not [name for name in attributes if name.startswith("on")], tag
        assert "style" not in attributes, tag
    for style in page.content["style"]:
        assert "url(" not in style
        assert "@import" not in style
    policy = next(
        a["content"]
        for tag, a in page.elements
        if tag == "meta" and "Content-Security-Policy" in a.values()
    )
    assert policy is not None
    directives = {words[0]: words[1:] for words in map(str.split, policy.split(";"))}
    assert directives["default-src"] == ["'none'"]
    assert directives["worker-src"] == ["blob:"]
    assert not {"connect-src", "frame-src", "media-src", "font-src"} & directives.keys()
    scripts = [a for tag, a in page.elements if tag == "script"]
    run = [
        text
        for a, text in zip(scripts, page.content["script"], strict=True)
        if a.get("type") is None
    ]
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in run]
    assert directives["script-src"] == [f"'sha256-{one}'" for one in hashes]
    (trainer,) = (
        text
        for a, text in zip(scripts, page.content["script"], strict=True)
        if a.get("type") == "text/plain"
    )
    assert "class Training" in trainer
    assert not re.search(
        r"fetch|XMLHttpRequest|WebSocket|importScripts|import\(|sendBeacon", trainer + "".join(run)
    )


def test_the_command_writes_it_and_opens_it(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def open_browser(address: str) -> bool:
        opened.append(address)
        return True

    monkeypatch.setattr(webbrowser, "open", open_browser)
    done = command("demo", "--no-open")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "demo.html").read_text(encoding="utf-8") == live.render()
    assert opened == []
    done = command("demo", "--out", "new/my page.html")
    assert opened == [(tmp_path / "new" / "my page.html").as_uri()]
    assert "new/my page.html" in done.stdout
    monkeypatch.setattr(webbrowser, "open", lambda _: False)
    assert "no browser was found" in command("demo").stdout


def test_the_page_of_the_docs_is_this_one() -> None:
    kept = (REPOSITORY / "docs" / "demo.html").read_text(encoding="utf-8")
    assert kept == live.render(), "run: adding-problem demo --no-open --out docs/demo.html"
