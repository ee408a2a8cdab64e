"""What several runs of one setting, which differ in their seeds alone, can say. Numbers in, numbers out: nothing is read.

proportion   how many solved it: Wilson's interval
survival     what it took, where some never got there: Kaplan and Meier's curve
losses       where it ended: the median with an exact interval
paired       whether one model did better than another on the same seeds, as far as so many seeds can tell
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy  # whose parts load when first used: half a second that training never needs

__all__ = [
    "FEW",
    "Losses",
    "Paired",
    "Proportion",
    "Survival",
    "few_seeds",
    "losses",
    "paired",
    "proportion",
    "short_count",
    "survival",
]

CONFIDENCE = 0.95
FEW = 3
"""With fewer seeds than this every figure says so."""


def few_seeds(n: int) -> str:
    """A remark for fewer than three seeds; empty for more."""
    return "" if n >= FEW else f"{n} seed{'s' if n != 1 else ''} only: luck is not told from method"


# --- how many solved it ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Proportion:
    """`successes` of `n`, and the 95% interval of the share that many more runs would show."""

    successes: int
    n: int
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.successes} of {self.n} ({self.low:.0%} to {self.high:.0%})"


def proportion(successes: int, n: int) -> Proportion:
    """Wilson's score interval (Wilson 1927; Brown, Cai & DasGupta 2001), right for few runs and for shares of 0 and 1.

    Raises:
        ValueError: unless ``0 <= successes <= n`` and ``n >= 1``.
    """
    interval = scipy.stats.binomtest(successes, n).proportion_ci(CONFIDENCE, method="wilson")
    return Proportion(successes, n, float(interval.low), float(interval.high))


# --- what it took ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Survival:
    """The cost of an event, such as a first loss below 1e-2, where some runs ended without it.

    Attributes:
        n, events: runs, and those in which it came.
        median: smallest cost by which at least half of the runs have it, by Kaplan and Meier; None where that never is.
        least, most: among the runs in which it came; None where there is none.
        costs, share: the steps of the curve: from `costs[i]` on, `share[i]` of the runs have it.
        low, high: the 95% band of `share` (log-log transformed Greenwood variance). Where all have it that variance does not exist:
            the share is then no smaller than the band was before, and at most 1.
    """

    n: int
    events: int
    median: float | None
    least: float | None
    most: float | None
    costs: tuple[float, ...]
    share: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    def __str__(self) -> str:
        if not self.n:
            return "unknown"
        if self.least is None or self.most is None:
            return f"never, in {self.n}"
        middle = "most never" if self.median is None else short_count(self.median)
        return f"{middle} ({short_count(self.least)} to {short_count(self.most)})"


def short_count(count: float) -> str:
    """Three digits and a letter: 950, 12.3k or 4.5M."""
    rounded = float(f"{count:.3g}")
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if rounded >= size:
            return f"{rounded / size:.3g}{letter}"
    return f"{rounded:.3g}"


def survival(costs: Sequence[float], came: Sequence[bool]) -> Survival:
    """Kaplan and Meier's estimate (1958): runs in which the event did not come count as censored at their end.

    Leaving them out instead would make a method that fails half of the time look as good as one that never does.

    Args:
        costs: of each run: what it took until the event, or until the run ended without it.
        came: whether the event came.

    Raises:
        ValueError: when the two differ in length.
    """
    if len(costs) != len(came):
        raise ValueError(f"expected a cost of each run, found {len(costs)} of {len(came)}")
    events = [float(cost) for cost, event in zip(costs, came, strict=True) if event]
    censored = [float(cost) for cost, event in zip(costs, came, strict=True) if not event]
    if not events:
        return Survival(len(costs), 0, None, None, None, (), (), (), ())
    unsolved = scipy.stats.ecdf(scipy.stats.CensoredData(uncensored=events, right=censored)).sf
    with (
        warnings.catch_warnings()
    ):  # where the share is 0 or 1 the band does not exist: NaN, and scipy says so aloud
        warnings.simplefilter("ignore", RuntimeWarning)
        band = unsolved.confidence_interval(CONFIDENCE, method="log-log")
    steps = np.isin(unsolved.quantiles, events)
    at, left = unsolved.quantiles[steps], unsolved.probabilities[steps]
    half = at[left <= 0.5 + 1e-12]
    # The band of the share that has it is that of the share that has not, upside down.
    low = np.fmax.accumulate(np.append(0.0, 1 - band.high.probabilities[steps]))[1:]
    high = np.nan_to_num(1 - band.low.probabilities[steps], nan=1.0)
    return Survival(
        len(costs),
        len(events),
        float(half[0]) if len(half) else None,
        min(events),
        max(events),
        *(tuple(float(v) for v in column) for column in (at, 1 - left, low, high)),
    )


# --- where it ended --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Losses:
    """The median of the final losses, their range, and the 95% interval of the median; None where there are too few seeds."""

    n: int
    median: float
    least: float
    most: float
    interval: tuple[float, float] | None

    def __str__(self) -> str:
        if self.interval:
            return f"{self.median:.1e} ({self.interval[0]:.1e} to {self.interval[1]:.1e})"
        return f"{self.median:.1e}" + (
            f" (range {self.least:.1e} to {self.most:.1e})" if self.n > 1 else ""
        )


def losses(values: Sequence[float]) -> Losses:
    """Median and its exact interval, two of the values themselves (Conover 1999, section 3.2): it holds for any distribution.

    With fewer than six values not even their whole range is a 95% interval (of five: 94%, of three: 75%), and there is none. A
    loss that is not finite counts as infinite: a run that diverged is not left out.

    Raises:
        ValueError: when there is none.
    """
    if not values:
        raise ValueError("expected at least one loss, found none")
    ranked = sorted(value if math.isfinite(value) else math.inf for value in values)
    below = int(
        scipy.stats.binom.ppf((1 - CONFIDENCE) / 2, len(ranked), 0.5)
    )  # as many values at either end lie outside
    interval = (ranked[below - 1], ranked[-below]) if below else None
    return Losses(len(ranked), float(np.median(ranked)), ranked[0], ranked[-1], interval)


# --- two models on the same seeds ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Paired:
    """Two models on the same seeds.

    Attributes:
        n: pairs.
        wins, losses: pairs in which the first was lower, or higher; the others are ties.
        ratio: median of first / second; None where there is none.
        p: two-sided p-value of Wilcoxon's signed-rank test on the logarithms.
        least_p: the smallest p-value that any outcome of so many pairs that are no ties could have: 2 / 2^n.
    """

    n: int
    wins: int
    losses: int
    ratio: float | None
    p: float
    least_p: float

    def sentence(self, first: str, second: str, quantity: str) -> str:
        """What the data can tell and what not, for a reader."""
        seen = f"{first} has the lower {quantity} in {self.wins} of {self.n} seeds, {second} in {self.losses}"
        if self.ratio is not None:
            seen += f" (median ratio {self.ratio:.2g})"
        if not self.wins + self.losses:
            return f"{seen}. All pairs are ties: neither is shown to be better."
        if self.least_p > 1 - CONFIDENCE:
            needed = math.ceil(1 - math.log2(1 - CONFIDENCE))
            pairs = (
                "So few pairs that are no ties"
                if self.wins + self.losses < self.n
                else "So few pairs"
            )
            return (
                f"{seen}. {pairs} cannot tell: even if all of them agreed, p would be {self.least_p:.2g}; "
                f"it takes at least {needed} seeds."
            )
        if self.p <= 1 - CONFIDENCE:
            return f"{seen}. That is more than luck would do (Wilcoxon's p = {self.p:.2g})."
        return (
            f"{seen}. Luck alone could do that (Wilcoxon's p = {self.p:.2g}): a difference is not shown, "
            f"and neither is that there is none."
        )


def paired(first: Sequence[float], second: Sequence[float]) -> Paired:
    """Wilcoxon's signed-rank test (1945) on log(first / second), seed by seed; lower is better, infinity is worst.

    Raises:
        ValueError: when there is no pair, or the two differ in length.
    """
    if len(first) != len(second) or not first:
        raise ValueError(
            f"expected as many values of both and at least one, found {len(first)} and {len(second)}"
        )
    a, b = (
        np.array([v if not math.isnan(v) else math.inf for v in values], float)
        for values in (first, second)
    )
    a, b = (
        np.maximum(values, np.finfo(float).tiny) for values in (a, b)
    )  # an exact model's 0: they are compared by their ratio
    both_failed = np.isinf(a) & np.isinf(b)
    a, b = np.where(both_failed, 1.0, a), np.where(both_failed, 1.0, b)
    difference = np.log(a) - np.log(b)
    # An infinite difference outranks every finite one.
    finite = np.abs(difference[np.isfinite(difference)]).max(initial=1.0)
    ranked = np.clip(difference, -2 * finite, 2 * finite)
    p = 1.0 if not ranked.any() else float(scipy.stats.wilcoxon(ranked).pvalue)
    with np.errstate(invalid="ignore"):  # of infinite differences both ways there is no median
        ratio = float(np.exp(np.median(difference)))
    wins, losses = int((difference < 0).sum()), int((difference > 0).sum())
    return Paired(
        len(a),
        wins,
        losses,
        ratio if 0 < ratio < math.inf else None,
        p,
        min(1.0, 2.0 ** (1 - wins - losses)),
    )
