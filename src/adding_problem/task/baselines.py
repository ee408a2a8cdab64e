"""The mean baseline, which always predicts the mean of the target.

Loads neither torch nor NumPy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from adding_problem.task.variants import DEFAULT_TASK, Task

__all__ = [
    "Moments",
    "constant_predictor_mse",
    "constant_predictor_standard_error",
    "target_moments",
]


def constant_predictor_mse(task: Task = DEFAULT_TASK, length: int = 1000) -> float:
    """Mean squared error of the best constant prediction: the variance of the target.

    It is 1/6 for the sum and the difference in `any` and `halves`, at every length. The other
    closed forms are in `target_moments`.

    Args:
        task: the variant and the target matter.
        length: T; matters only to hs1997.

    Examples:
        >>> round(constant_predictor_mse(), 4)
        0.1667
        >>> round(constant_predictor_mse(Task(target="product")), 4)
        0.0486
    """
    return target_moments(task, length).second


def constant_predictor_standard_error(
    n: int, task: Task = DEFAULT_TASK, length: int = 1000
) -> float:
    """Standard error of `constant_predictor_mse` when it is estimated from n sequences.

    Args:
        n: number of sequences.
        task, length: as for `constant_predictor_mse`.

    Examples:
        >>> round(constant_predictor_standard_error(10_000), 4)
        0.002
    """
    moments = target_moments(task, length)
    return math.sqrt((moments.fourth - moments.second**2) / n)


@dataclass(frozen=True)
class Moments:
    """Mean of the target, and its second and fourth central moment."""

    mean: float
    second: float
    fourth: float


def target_moments(task: Task, length: int) -> Moments:
    """Moments of the target in closed form; the second is the error of the mean baseline.

    In `any` and `halves`, X1 and X2 are independent U[0, 1). In `hs1997` they are U[-1, 1), except
    that a marked first pair counts as zero, and is always the first of the two. Its target is
    0.5 + f(X1, X2) / 4.

    Args:
        task: the noise columns and the mix do not matter.
        length: T; matters only to hs1997.
    """
    if task.variant != "hs1997":
        match task.target:
            case "sum":  # triangular on [0, 2]
                return Moments(1.0, 1 / 6, 1 / 15)
            case "difference":  # triangular on [-1, 1]
                return Moments(0.0, 1 / 6, 1 / 15)
            case "product":  # E P^k = 1 / (k + 1)^2
                return Moments(1 / 4, 1 / 9 - 1 / 16, 1 / 25 - 1 / 16 + 1 / 24 - 1 / 64 + 1 / 256)
            case "first":
                return Moments(1 / 2, 1 / 12, 1 / 80)
    # The probability that the mark among the first ten pairs is on the first pair ...
    hidden = 1 / 10
    hidden += (1 - hidden) / (length // 2 - 2)  # ... or that the other mark is.
    both = 1 - hidden
    # Of U[-1, 1): E X^2 = 1/3, E X^4 = 1/5; of the sum or difference of two: 2/3 and 2/5 + 6/9.
    second, fourth = {
        "sum": (both * 2 / 3 + hidden / 3, both * (2 / 5 + 6 / 9) + hidden / 5),
        "difference": (both * 2 / 3 + hidden / 3, both * (2 / 5 + 6 / 9) + hidden / 5),
        "product": (both / 9, both / 25),
        "first": (both / 3, both / 5),
    }[task.target]
    return Moments(0.5, second / 4**2, fourth / 4**4)
