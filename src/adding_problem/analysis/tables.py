"""Tables in files: CSV and JSON with every number as it is, LaTeX and Markdown as they are read."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adding_problem.runs import atomic_io

__all__ = ["FORMATS", "Table", "rule_above", "write"]

FORMATS = (".csv", ".json", ".tex", ".md")
"""The endings of the files that `write` can write."""

_IN_TEX = {character: f"\\{character}" for character in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
}


@dataclass(frozen=True)
class Table:
    """A table as it is read.

    Attributes:
        title: above it.
        heading: of the columns; a line break in it or in a cell is for a terminal alone.
        rows: as many cells each.
        labels: columns on the left that are text; the others are numbers.
        rule: the first row below a rule; None where there is none.
    """

    title: str
    heading: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    labels: int = 1
    rule: int | None = None


def rule_above(oracles: Iterable[bool]) -> int | None:
    """`Table.rule` above the oracles, which are the last rows; None where all are or none is."""
    return next((index for index, oracle in enumerate(oracles) if oracle), None) or None


def write(
    path: Path,
    tables: Sequence[Table],
    records: Sequence[Mapping[str, Any]],
    notes: Sequence[str] = (),
) -> None:
    """Write a file whose ending is one of `FORMATS`.

    Args:
        path: the file; .tex needs the package booktabs.
        tables: what .tex and .md show, with the notes below.
        records: the rows of .csv and .json, values by column. CSV joins lists by spaces and names
            nested values by dotted keys; what is None is empty.
        notes: to be read with the tables.

    Raises:
        StorageError: when it cannot be written.
    """
    text = {
        ".csv": lambda: _csv(records),
        ".json": lambda: _json(tables, records, notes),
        ".tex": lambda: _tex(tables, notes),
        ".md": lambda: _markdown(tables, notes),
    }[path.suffix]()
    atomic_io.write(path, text.encode())


def _csv(records: Sequence[Mapping[str, Any]]) -> str:
    rows = [dict(_flat(record)) for record in records]
    out = io.StringIO()
    writer = csv.DictWriter(out, list(dict.fromkeys(key for row in rows for key in row)))
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _flat(record: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in record.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{key}.")
        elif isinstance(value, list | tuple):
            yield f"{above}{key}", " ".join("" if item is None else str(item) for item in value)
        else:
            known = not isinstance(value, float) or math.isfinite(value)
            yield f"{above}{key}", value if known else None


def _json(
    tables: Sequence[Table], records: Sequence[Mapping[str, Any]], notes: Sequence[str]
) -> str:
    document = {"title": tables[0].title, "rows": list(records), "notes": list(notes)}
    return atomic_io.json_text(document).decode()


def _tex(tables: Sequence[Table], notes: Sequence[str]) -> str:
    lines = [r"% \usepackage{booktabs}"]
    for table in tables:
        numbers = len(table.heading) - table.labels
        lines += [
            f"% {_one_line(table.title)}",
            rf"\begin{{tabular}}{{{'l' * table.labels}{'r' * numbers}}}",
            r"\toprule",
            _tex_row(table.heading),
            r"\midrule",
        ]
        for index, row in enumerate(table.rows):
            lines += [r"\midrule"] * (index == table.rule) + [_tex_row(row)]
        lines += [r"\bottomrule", r"\end{tabular}", ""]
    return "\n".join([*lines, *(f"% {_one_line(note)}" for note in notes)]) + "\n"


def _tex_row(cells: Sequence[str]) -> str:
    escaped = ("".join(_IN_TEX.get(letter, letter) for letter in _one_line(c)) for c in cells)
    return " & ".join(escaped) + r" \\"


def _markdown(tables: Sequence[Table], notes: Sequence[str]) -> str:
    lines: list[str] = []
    for table in tables:
        numbers = len(table.heading) - table.labels
        rules = ["---"] * table.labels + ["---:"] * numbers
        upper, lower = table.rows[: table.rule], table.rows[len(table.rows[: table.rule]) :]
        empty = [("",) * len(table.heading)] if upper and lower else []  # a rule Markdown lacks
        cells = [table.heading, rules, *upper, *empty, *lower]
        lines += [f"**{_one_line(table.title)}**", "", *map(_markdown_row, cells), ""]
    return "\n".join([*lines, *(f"- {_one_line(note)}" for note in notes)]).rstrip() + "\n"


def _markdown_row(cells: Sequence[str]) -> str:
    escaped = (re.sub(r"([\\|<*`])", r"\\\1", _one_line(cell)) for cell in cells)
    return f"| {' | '.join(escaped)} |"


def _one_line(text: str) -> str:
    return " ".join(text.split())
