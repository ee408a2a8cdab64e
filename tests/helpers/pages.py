"""A parser of the report's HTML page: its elements, visible text, data blocks and tables."""

from __future__ import annotations

import base64
import csv
import io
import json
from html.parser import HTMLParser
from typing import Any


class Page(HTMLParser):
    """The elements of a page, and what stands in its scripts, styles, table cells and visible
    text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.content: dict[str, list[str]] = {}
        self.seen: list[str] = []
        self._open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open = tag
        self.content.setdefault(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open:
            self.content[self._open][-1] += data
        if self._open not in ("script", "style"):
            self.seen.append(data)

    def script(self, identity: str) -> Any:
        """The JSON of a data block."""
        scripts = [attributes for tag, attributes in self.elements if tag == "script"]
        (index,) = (i for i, attributes in enumerate(scripts) if attributes.get("id") == identity)
        return json.loads(self.content["script"][index])

    def csv(self, name: str) -> list[dict[str, str]]:
        """The rows of a table that is offered as CSV."""
        href = next(
            a["href"]
            for tag, a in self.elements
            if tag == "a" and a.get("download") == f"{name}.csv"
        )
        assert href is not None
        head, _, body = href.partition(",")
        assert head == "data:text/csv;charset=utf-8;base64"
        return list(csv.DictReader(io.StringIO(base64.b64decode(body).decode(), newline="")))
