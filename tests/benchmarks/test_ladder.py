"""The ladder of knowledge: its tables say what its records hold."""

from __future__ import annotations

import importlib
import sys
from argparse import Namespace
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from tests.conftest import REPOSITORY


@pytest.fixture(scope="module")
def ladder() -> Iterator[ModuleType]:
    """benchmarks/ladder.py."""
    sys.path.insert(0, str(REPOSITORY / "benchmarks"))
    yield importlib.import_module("ladder")
    sys.path.pop(0)


def run(seed: int, cost: int, *errors: tuple[int, float, float]) -> dict[str, Any]:
    return {
        "row": "keyed",
        "question": "sum",
        "seed": seed,
        "longest_length": 900 + seed,
        "reached": {"1e-3": {"sequence_steps": cost, "seconds": cost / 10_000}},
        "errors": {
            str(t): {"mse": mse, "mse_standard_error": error, "sequences": 64}
            for t, mse, error in errors
        },
    }


def test_the_page_shows_what_the_records_hold(ladder: ModuleType) -> None:
    docs = REPOSITORY / "docs"
    for page in (docs / "results.md", REPOSITORY / "README.md"):
        text = page.read_text()
        assert "<!-- ladder" in text
        assert ladder.with_tables(text, docs) == text


def test_a_seed_holds_where_the_upper_end_of_its_interval_does(ladder: ModuleType) -> None:
    runs = [
        run(0, 10_000, (1_000, 1e-4, 1e-5), (10_000, 8e-4, 5e-5)),  # 8e-4 + 1.96 x 5e-5 = 9.0e-4
        run(1, 30_000, (1_000, 2e-4, 1e-5), (10_000, 9e-4, 6e-5)),  # 1.02e-3
        run(2, 20_000, (1_000, 3e-4, 1e-5), (10_000, 0.5, 1e-2)),
    ]
    *_, row = ladder.table(runs).splitlines()
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[3] == "20,000 (10,000 to 30,000)"
    assert cells[4] == "2 (1 to 3)"
    assert cells[5] == "900 to 902"
    assert cells[6] == "9.0e-04 (8.0e-04 to 5.0e-01); 1 of 3 hold (64 sequences)"
    assert cells[7] == "lost"


def test_longer_sequences_are_not_tried_once_a_model_is_lost(ladder: ModuleType) -> None:
    wanted = Namespace(lengths=[10_000, 100_000], sequences=64)
    assert ladder.missing(run(0, 1, (1_000, 1e-4, 1e-5)), wanted) == [10_000, 100_000]
    assert ladder.missing(run(0, 1, (1_000, 1e-4, 1e-5), (10_000, 0.5, 1e-2)), wanted) == []
