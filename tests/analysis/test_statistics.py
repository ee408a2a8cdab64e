"""Statistics against closed forms, a textbook's example and counts by hand."""

from __future__ import annotations

import itertools
import math
import statistics as standard

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adding_problem.analysis.statistics import (
    few_seeds,
    holm,
    losses,
    paired,
    proportion,
    survival,
)


@pytest.mark.parametrize(("k", "n"), [(0, 5), (3, 5), (5, 5), (10, 10), (1, 1)])
def test_wilson(k: int, n: int) -> None:
    """Wilson 1927: the shares whose distance from k/n is z of their own standard errors."""
    z, p = standard.NormalDist().inv_cdf(0.975), k / n
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    found = proportion(k, n)
    assert (found.low, found.high) == pytest.approx(
        (max(0, centre - half), min(1, centre + half)), abs=1e-12
    )
    with pytest.raises(ValueError, match="k"):
        proportion(n + 1, n)


def test_kaplan_meier_on_the_textbooks_example() -> None:
    """Remission times of 21 leukaemia patients on 6-MP (Freireich et al. 1963; Klein &
    Moeschberger, table 4.1)."""
    came = [6, 6, 6, 7, 10, 13, 16, 22, 23]
    censored = [6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35]
    found = survival([*came, *censored], [True] * len(came) + [False] * len(censored))
    assert found.costs == (6, 7, 10, 13, 16, 22, 23)
    assert found.share == pytest.approx(
        [1 - s for s in (0.857, 0.807, 0.753, 0.690, 0.627, 0.538, 0.448)], abs=5e-4
    )
    assert (found.n, found.events, found.median, found.least, found.most) == (21, 9, 23, 6, 23)
    # Greenwood's standard error there at 6 weeks is 0.0764; the log-log band from it, by hand.
    spread = 0.0764 / (0.857 * abs(math.log(0.857))) * 1.96
    assert (1 - found.high[0], 1 - found.low[0]) == pytest.approx(
        (0.857 ** math.exp(spread), 0.857 ** math.exp(-spread)), abs=2e-3
    )


def test_kaplan_meier_without_censoring_is_the_share() -> None:
    found = survival([4.0, 1.0, 3.0, 2.0], [True] * 4)
    assert found.costs == (1, 2, 3, 4)
    assert found.share == pytest.approx([0.25, 0.5, 0.75, 1])
    assert found.median == 2
    # Where all have it the band does not fall back to nothing.
    assert found.low[-1] == found.low[-2] > 0
    assert (sorted(found.low), found.high[-1]) == (list(found.low), 1)


def test_unsolved_runs_move_the_median_instead_of_vanishing() -> None:
    assert survival([1.0, 9.0, 9.0], [True, False, False]).median is None
    assert survival([1.0, 5.0, 9.0], [True, True, False]).median == 5
    nobody = survival([5.0, 6.0], [False, False])
    assert (nobody.n, nobody.events, nobody.median, nobody.least, nobody.costs) == (
        2,
        0,
        None,
        None,
        (),
    )
    with pytest.raises(ValueError, match="a cost of each run"):
        survival([1.0], [])
    assert str(survival([], [])) == "unknown"


def test_the_interval_holds_the_median_as_often_as_it_says() -> None:
    """Against the count of all ways in which values can lie above and below the true median."""
    for n in range(1, 25):
        values = [float(value) for value in range(1, n + 1)]
        found = losses(values).interval
        outside = {
            k: 2 * sum(math.comb(n, below) for below in range(k)) / 2**n
            for k in range(1, n // 2 + 1)
        }
        fitting = [
            k for k, share in outside.items() if share < 0.05
        ]  # the k-th value from either end
        assert found == ((max(fitting), n + 1 - max(fitting)) if fitting else None)
        assert (n >= 6) == (found is not None)


def test_losses_that_are_equal_few_or_infinite() -> None:
    assert losses([0.5] * 6).interval == (0.5, 0.5)
    assert losses([0.5, 0.6]).interval is None
    assert str(losses([0.5, 0.6])) == "5.5e-01 (range 5.0e-01 to 6.0e-01)"
    diverged = losses([1e-3, math.nan, math.inf, 2e-3, 1e-3, 2e-3])
    assert diverged.median == 2e-3
    assert diverged.most == math.inf
    assert diverged.interval == (1e-3, math.inf)
    assert losses([1.0, math.inf]).median == math.inf
    assert few_seeds(2).startswith("2 seeds only")
    assert few_seeds(3) == ""


def exact_wilcoxon(differences: list[float]) -> float:
    """Two-sided p-value by listing all signs."""
    ranks = np.argsort(np.argsort(np.abs(differences))) + 1
    sums = [
        sum(rank for rank, positive in zip(ranks, signs, strict=True) if positive)
        for signs in itertools.product([False, True], repeat=len(ranks))
    ]
    seen = sum(rank for rank, d in zip(ranks, differences, strict=True) if d > 0)
    tails = np.mean([s <= seen for s in sums]), np.mean([s >= seen for s in sums])
    return min(1.0, 2 * float(min(tails)))


def test_paired() -> None:
    a = [1.0, 2.0, 4.0, 1.0, 3.0, 0.5, 1.1]
    b = [1.1, 2.5, 6.0, 2.0, 2.9, 1.5, 5.5]
    found = paired(a, b)
    assert (found.n, found.wins, found.losses) == (7, 6, 1)
    assert found.p == pytest.approx(
        exact_wilcoxon([math.log(x / y) for x, y in zip(a, b, strict=True)])
    )
    assert found.ratio == pytest.approx(4 / 6)
    assert found.least_p == 2 / 2**7
    assert "more than luck" in found.sentence("A", "B", "loss", found.p)


def test_what_pairs_cannot_tell() -> None:
    five = paired([1.0, 2.0, 3.0, 4.0, 5.0], [2.0, 3.0, 4.0, 5.0, 7.0])
    assert five.p == five.least_p == 2 / 2**5  # all agree, and that is still above 0.05
    assert "at least 6 seeds" in five.sentence("A", "B", "loss", five.p)
    assert 2 / 2**6 < 0.05 < five.least_p
    assert paired([1.0, 1.0], [1.0, 1.0]).p == 1
    mixed = paired([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [2.0, 1.0, 4.0, 3.0, 6.0, 5.5])
    assert "neither is that there is none" in mixed.sentence("A", "B", "loss", mixed.p)


def test_a_failure_is_worse_than_any_number() -> None:
    inf = math.inf
    found = paired([1.0, 2.0, inf, 3.0, 5.0, 1.0, 7.0], [inf, inf, inf, inf, inf, inf, 6.9])
    assert (found.wins, found.losses) == (5, 1)
    assert found.p < 0.1
    assert found.ratio is None
    assert paired([0.0], [1.0]).wins == 1  # an exact model


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm(p: list[float]) -> None:
    """By the definition: the largest (m - k + 1) p(k) of the p-values up to this one, at most 1."""
    expected = [
        min(
            1.0,
            max(sum(other >= smaller for other in p) * smaller for smaller in p if smaller <= each),
        )
        for each in p
    ]
    assert holm(p) == pytest.approx(expected)


def test_holm_as_published() -> None:
    """The values of R's `p.adjust(c(0.01, 0.02, 0.03, 0.04, 0.05), "holm")`."""
    assert holm([0.05, 0.01, 0.04, 0.02, 0.03]) == pytest.approx([0.09, 0.05, 0.09, 0.08, 0.09])


def test_of_many_tests_one_needs_more_seeds() -> None:
    """Seven seeds that agree have p = 0.016: enough for one test, not for four."""
    low = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    found = paired(low, [value + 1 for value in low])
    assert found.p == pytest.approx(2 / 2**7)
    assert "more than luck" in found.sentence("A", "B", "loss", found.p)
    four = found.sentence("A", "B", "loss", 4 * found.p, 4)
    assert "p would be 0.062 corrected for 4 tests; it takes at least 8 seeds" in four
    assert 4 * 2 / 2**8 < 0.05
    two = found.sentence("A", "B", "loss", 2 * found.p, 2)
    assert "p = 0.016, 0.031 corrected for 2 tests" in two


def test_ties_cannot_tell_anything() -> None:
    tied = paired([1.0, 1.0, 1.0, 1.0, 1.0, math.inf], [2.0, 3.0, 4.0, 5.0, 6.0, math.inf])
    assert tied.least_p == 2 / 2**5
    assert "So few pairs that are no ties cannot tell" in tied.sentence("A", "B", "loss", tied.p)
    assert "All pairs are ties" in paired([math.inf] * 10, [math.inf] * 10).sentence(
        "A", "B", "loss", 1.0
    )
