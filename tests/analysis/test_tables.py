"""Tables in files: read back by `csv` and `json`; LaTeX and Markdown with a cell for each cell."""

from __future__ import annotations

import csv
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from adding_problem.analysis import tables
from adding_problem.analysis.tables import Table

TABLE = Table(
    "A title & more",
    ("model", "share,\n%", "x"),
    (("a_b{c}", "50%", "1 ± 2"), ("d|e\\f", "$5", "#1"), ("~^", "<b>*", "-")),
    rule=2,
)
RECORDS: list[dict[str, Any]] = [
    {"model": "a,b", "n": 1, "error": 1e-7, "seeds": (1, None, 3), "cost": {"least": 0.1}},
    {"model": 'say "x"\n', "n": None, "error": math.inf, "seeds": (), "cost": {"least": None}},
]


def written(path: Path) -> str:
    tables.write(path, [TABLE, TABLE], RECORDS, ["first\nnote"])
    return path.read_text()


def test_csv_has_every_number_as_it_is(tmp_path: Path) -> None:
    written(tmp_path / "t.csv")
    with (tmp_path / "t.csv").open(newline="") as stream:
        first, second = csv.DictReader(stream)
    assert first == {
        "model": "a,b",
        "n": "1",
        "error": "1e-07",
        "seeds": "1  3",
        "cost.least": "0.1",
    }
    assert second == {"model": 'say "x"\n', "n": "", "error": "", "seeds": "", "cost.least": ""}


def test_json_has_every_number_as_it_is(tmp_path: Path) -> None:
    document = json.loads(written(tmp_path / "t.json"))
    assert document["rows"] == [
        {"model": "a,b", "n": 1, "error": 1e-7, "seeds": [1, None, 3], "cost": {"least": 0.1}},
        {"model": 'say "x"\n', "n": None, "error": None, "seeds": [], "cost": {"least": None}},
    ]
    assert document["notes"] == ["first\nnote"]


def test_latex_is_balanced(tmp_path: Path) -> None:
    text = written(tmp_path / "t.tex")
    code = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    assert code.count(r"\begin{tabular}") == code.count(r"\end{tabular}") == 2
    assert code.count(r"\toprule") == code.count(r"\bottomrule") == 2
    assert code.count(r"\midrule") == 4  # below the heading and at the rule
    assert r"{lrr}" in code
    rows = [line for line in code.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 8
    for row in rows:
        # What has a meaning in TeX, unless a backslash stands before it.
        assert len(re.findall(r"(?<!\\)&", row)) == 2
        assert not re.findall(r"(?<!\\)[%#_]", row)
        assert len(re.findall(r"(?<!\\)\{", row)) == len(re.findall(r"(?<!\\)\}", row))
        assert len(re.findall(r"(?<!\\)\$", row)) % 2 == 0
    assert r"a\_b\{c\} & 50\% & 1 $\pm$ 2 \\" in rows
    assert "% first note" in text


def test_markdown_has_a_cell_for_each_cell(tmp_path: Path) -> None:
    text = written(tmp_path / "t.md")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert rows[1] == "| --- | ---: | ---: |"
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {4}
    assert rows[4] == r"|  |  |  |"[:4] + rows[4][4:]  # the rule: an empty row
    assert r"d\|e\\f" in text
    assert r"\<b>\*" in text
    assert text.endswith("- first note\n")


def test_no_other_file(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        tables.write(tmp_path / "t.xlsx", [TABLE], RECORDS)
