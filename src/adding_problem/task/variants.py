"""Which adding problem: variants, targets, noise columns and mixed inputs, and what the mean baseline scores.

Loads neither torch nor NumPy: the configuration is checked against it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

__all__ = ["MIN_LENGTH", "Mix", "Moments", "Target", "Task", "Variant", "target_moments"]

Variant = Literal["any", "halves", "hs1997"]
Target = Literal["sum", "difference", "product", "first"]
Mix = Literal["none", "swap", "rotate"]

MIN_LENGTH: dict[str, int] = {"any": 2, "halves": 2, "hs1997": 22}
"""Shortest T of each variant; hs1997 marks one of the first ten pairs and another of the first T/2 - 1."""


@dataclass(frozen=True)
class Task:
    """What a sequence is and what is asked of it, beside its length.

    Attributes:
        variant: where the two marks may stand, see `task`.
        target: of the two marked values in the order of their steps: their sum, the first minus the second, their
            product, or the first alone.
        noise_columns: columns of U[0, 1) noise beside value and mark.
        mix: what is done to the columns: nothing, value and mark exchanged, or all turned by a random rotation.
        mix_seed: of the rotation.

    Raises:
        ValueError: when a value is none of these.

    Examples:
        >>> task = Task(target="difference", noise_columns=6)
        >>> task.title, task.width
        ('any, difference, 6 noise columns', 8)
    """

    variant: Variant = "any"
    target: Target = "sum"
    noise_columns: int = 0
    mix: Mix = "none"
    mix_seed: int = 0

    def __post_init__(self) -> None:
        for name, choices in (("variant", Variant), ("target", Target), ("mix", Mix)):
            if (value := getattr(self, name)) not in get_args(choices):
                raise ValueError(
                    f"{name}: expected one of {', '.join(get_args(choices))}, found {value!r}"
                )
        for name in ("noise_columns", "mix_seed"):
            if (number := getattr(self, name)) < 0:
                raise ValueError(f"{name}: expected at least 0, found {number}")

    @property
    def width(self) -> int:
        """Number of input columns."""
        return 2 + self.noise_columns

    @property
    def title(self) -> str:
        """In a few words, such as ``any, difference, 6 noise columns``; what is usual is left out."""
        columns = f"{self.noise_columns} noise column{'s' * (self.noise_columns > 1)}"
        mixed = {"none": "", "swap": "columns exchanged", "rotate": "inputs rotated"}[self.mix]
        parts = [
            self.variant,
            self.target * (self.target != "sum"),
            columns * (self.noise_columns > 0),
            mixed,
        ]
        return ", ".join(part for part in parts if part)

    def to_record(self) -> dict[str, Any]:
        """What result.json and validation.json say of it."""
        return asdict(self)

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> Task:
        """The task of a `to_record`; what an older record does not say has its default.

        Raises:
            ValueError: when a value is none that there is.
        """
        return cls(**{name: record[name] for name in cls.__dataclass_fields__ if name in record})


@dataclass(frozen=True)
class Moments:
    """Of the target: its mean, and its second and fourth central moment."""

    mean: float
    second: float
    fourth: float

    def standard_error(self, n: int) -> float:
        """Of the mean baseline's error, estimated from n sequences."""
        return math.sqrt((self.fourth - self.second**2) / n)


def target_moments(task: Task, length: int) -> Moments:
    """In closed form; the second is the mean baseline, the error of always predicting the mean.

    `any` and `halves`: X1 and X2 are independent U[0, 1). `hs1997`: they are U[-1, 1) but for a marked first pair, whose
    value counts as zero and which is always the first of the two; the target is 0.5 + f(X1, X2) / 4.

    Args:
        task: of which the noise columns and the mix have no effect.
        length: T; matters to hs1997 alone.
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
    hidden = (
        1 / 10
    )  # probability that the one mark, among the first ten pairs, stands on the first pair
    hidden += (1 - hidden) / (length // 2 - 2)  # ... or that the other one does
    both = 1 - hidden
    # Of U[-1, 1): E X^2 = 1/3, E X^4 = 1/5; of the sum or difference of two: 2/3 and 2/5 + 6/9.
    second, fourth = {
        "sum": (both * 2 / 3 + hidden / 3, both * (2 / 5 + 6 / 9) + hidden / 5),
        "difference": (both * 2 / 3 + hidden / 3, both * (2 / 5 + 6 / 9) + hidden / 5),
        "product": (both / 9, both / 25),
        "first": (both / 3, both / 5),
    }[task.target]
    return Moments(0.5, second / 4**2, fourth / 4**4)
