"""What runs that differ in their seeds alone can show: numbers in, numbers out.

proportion   how many solved the task: Wilson's interval
survival     what it took, where some never solved it: Kaplan and Meier's curve
losses       the final losses: their median with an exact interval
paired       whether one model did better than another on the same seeds
holm         p-values of several such tests, corrected for their number
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy  # whose parts load when first used

from adding_problem.config.values import short_count

__all__ = [
    "FEW",
    "Losses",
    "Paired",
    "Proportion",
    "Survival",
    "few_seeds",
    "holm",
    "losses",
    "paired",
    "proportion",
    "survival",
]

CONFIDENCE = 0.95
FEW = 3
"""With fewer seeds than this a remark stands beside every figure."""


def few_seeds(n: int) -> str:
    """A remark for fewer than three seeds; empty for more."""
    return "" if n >= FEW else f"{n} seed{'s' if n != 1 else ''} only: luck is not told from method"


# --- how many solved it ---------------------------------------------------------------------------


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
    """Wilson's score interval (Wilson 1927; Brown, Cai & DasGupta 2001).

    It holds for few runs too, and for shares of 0 and 1.

    Raises:
        ValueError: unless ``0 <= successes <= n`` and ``n >= 1``.
    """
    interval = scipy.stats.binomtest(successes, n).proportion_ci(CONFIDENCE, method="wilson")
    return Proportion(successes, n, float(interval.low), float(interval.high))


# --- what it took ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Survival:
    """The cost of an event, such as a first loss below 1e-2, where some runs ended without it.

    Attributes:
        n, events: runs, and those in which it came.
        median: the smallest cost by which at least half of the runs have it, by Kaplan and Meier;
            None where they never have.
        least, most: among the runs in which it came; None where there is none.
        costs, share: the steps of the curve: from `costs[i]` on, `share[i]` of the runs have it.
        low, high: the 95% band of `share` (log-log transformed Greenwood variance). Where all runs
            have it, that variance does not exist: `low` stays, and `high` is 1.
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


def survival(costs: Sequence[float], came: Sequence[bool]) -> Survival:
    """Kaplan and Meier's estimate (1958).

    Runs in which the event did not come are censored at their end. Without them, a method that
    fails half of the time would look as good as one that never does.

    Args:
        costs: of each run until the event, or until the run ended without it.
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
    with warnings.catch_warnings():
        # Where the share is 0 or 1 the band does not exist: SciPy gives NaN and warns.
        warnings.simplefilter("ignore", RuntimeWarning)
        band = unsolved.confidence_interval(CONFIDENCE, method="log-log")
    steps = np.isin(unsolved.quantiles, events)
    at, left = unsolved.quantiles[steps], unsolved.probabilities[steps]
    half = at[left <= 0.5 + 1e-12]
    # 1 - share is the survival function: the ends of its band change places.
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


# --- where it ended -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Losses:
    """The final losses of `n` runs.

    Attributes:
        n: number of them.
        median, least, most: of them.
        interval: 95% interval of the median; None where there are too few.
    """

    n: int
    median: float
    least: float
    most: float
    interval: tuple[float, float] | None

    def __str__(self) -> str:
        if self.interval:
            return f"{self.median:.1e} ({self.interval[0]:.1e} to {self.interval[1]:.1e})"
        many = f" (range {self.least:.1e} to {self.most:.1e})" if self.n > 1 else ""
        return f"{self.median:.1e}{many}"


def losses(values: Sequence[float]) -> Losses:
    """Median and its exact interval, for any distribution (Conover 1999, section 3.2).

    The ends of the interval are two of the values. Of fewer than six values not even the range is
    a 95% interval (of five it is one of 94%, of three of 75%): there is none. A loss that is not
    finite counts as infinite: a run that diverged is not left out.

    Raises:
        ValueError: when there is none.
    """
    if not values:
        raise ValueError("expected at least one loss, found none")
    ranked = sorted(value if math.isfinite(value) else math.inf for value in values)
    # So many values at either end lie outside of the interval.
    below = int(scipy.stats.binom.ppf((1 - CONFIDENCE) / 2, len(ranked), 0.5))
    interval = (ranked[below - 1], ranked[-below]) if below else None
    return Losses(len(ranked), float(np.median(ranked)), ranked[0], ranked[-1], interval)


# --- two models on the same seeds -----------------------------------------------------------------


@dataclass(frozen=True)
class Paired:
    """Two models on the same seeds.

    Attributes:
        n: pairs.
        wins, losses: pairs in which the first was lower, or higher; the others are ties.
        ratio: median of first / second; None where there is none.
        p: two-sided p-value of Wilcoxon's signed-rank test on the logarithms.
        least_p: the smallest p-value that pairs could have of which so many are no ties: 2 / 2^n.
    """

    n: int
    wins: int
    losses: int
    ratio: float | None
    p: float
    least_p: float

    def sentence(
        self, first: str, second: str, quantity: str, corrected: float, tests: int = 1
    ) -> str:
        """What the data show, and what they cannot.

        Args:
            first, second: names of the models.
            quantity: that is lower or higher.
            corrected: p-value for the number of tests, see `holm`.
            tests: that number.
        """
        seen = (
            f"{first} has the lower {quantity} in {self.wins} of {self.n} seeds, "
            f"{second} in {self.losses}"
        )
        if self.ratio is not None:
            seen += f" (median ratio {self.ratio:.2g})"
        if not self.wins + self.losses:
            return f"{seen}. All pairs are ties: neither is shown to be better."
        p, limit = f"Wilcoxon's p = {self.p:.2g}", 1 - CONFIDENCE
        p += f", {corrected:.2g}{_of_tests(tests)}" if tests > 1 else ""
        if corrected <= limit:
            return f"{seen}. That is more than luck would do ({p})."
        least_p = min(1.0, tests * self.least_p)
        if least_p > limit:
            needed = math.ceil(1 - math.log2(limit / tests))
            no_ties = " that are no ties" if self.wins + self.losses < self.n else ""
            return (
                f"{seen}. So few pairs{no_ties} cannot tell: even if all of them agreed, p would "
                f"be {least_p:.2g}{_of_tests(tests)}; it takes at least {needed} seeds."
            )
        return (
            f"{seen}. Luck alone could do that ({p}): a difference is not shown, and neither is "
            "that there is none."
        )


def _of_tests(tests: int) -> str:
    return f" corrected for {tests} tests" if tests > 1 else ""


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down correction (1979) of the p-values of several tests, in their order.

    The chance that any of the true null hypotheses is rejected stays below the level, however the
    tests depend on each other.
    """
    order = np.argsort(p)
    raised = np.asarray(p, dtype=float)[order] * np.arange(len(p), 0, -1)
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(np.maximum.accumulate(raised), 1.0)
    return [float(value) for value in corrected]


def paired(first: Sequence[float], second: Sequence[float]) -> Paired:
    """Wilcoxon's signed-rank test (1945) on log(first / second), seed by seed.

    Lower is better; infinity is worst, and NaN counts as infinity.

    Raises:
        ValueError: when there is no pair, or the two differ in length.
    """
    if len(first) != len(second) or not first:
        found = f"{len(first)} and {len(second)}"
        raise ValueError(f"expected as many values of both and at least one, found {found}")
    # They are compared by their ratio: an exact model's 0 becomes the smallest number.
    tiny = np.finfo(float).tiny
    a, b = (
        np.maximum(np.nan_to_num(np.array(values, float), nan=math.inf, posinf=math.inf), tiny)
        for values in (first, second)
    )
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
