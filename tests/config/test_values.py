"""Values as text."""

from __future__ import annotations

import pytest

from adding_problem.config.values import short_count


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0.5, "0.5"),
        (950, "950"),
        (999.9, "1k"),
        (12_345, "12.3k"),
        (999_999, "1M"),
        (4.5e6, "4.5M"),
        (2e12, "2e+03G"),
    ],
)
def test_short_counts(count: float, text: str) -> None:
    assert short_count(count) == text
