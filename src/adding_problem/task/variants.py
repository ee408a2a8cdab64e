"""Which adding problem: variant, target, noise columns and mixed inputs.

Loads neither torch nor NumPy: the configuration is checked against it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

__all__ = ["DEFAULT_TASK", "MIN_LENGTH", "Mix", "Target", "Task", "Variant"]

Variant = Literal["any", "halves", "hs1997"]
Target = Literal["sum", "difference", "product", "first"]
Mix = Literal["none", "swap", "rotate"]

MIN_LENGTH: dict[str, int] = {"any": 2, "halves": 2, "hs1997": 22}
"""Shortest T of each variant.

hs1997 marks one of the first ten pairs and another one of the first T/2 - 1.
"""


@dataclass(frozen=True)
class Task:
    """What a sequence is and what its target is, apart from its length.

    Attributes:
        variant: where the two marks may stand: any, halves or hs1997.
        target: function of the two marked values in the order of their steps: sum, difference
            (the first minus the second), product or first.
        noise_columns: columns of U[0, 1) noise beside value and mark.
        mix: change of the columns: none, swap (of value and mark), or rotate (all, at random).
        mix_seed: seed of the rotation.

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
                expected = ", ".join(get_args(choices))
                raise ValueError(f"{name}: expected one of {expected}, found {value!r}")
        for name in ("noise_columns", "mix_seed"):
            if (number := getattr(self, name)) < 0:
                raise ValueError(f"{name}: expected at least 0, found {number}")

    @property
    def width(self) -> int:
        """Number of input columns C."""
        return 2 + self.noise_columns

    @property
    def title(self) -> str:
        """A short name, such as ``any, difference, 6 noise columns``; defaults are left out."""
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
        """The fields as result.json and validation.json hold them."""
        return asdict(self)


DEFAULT_TASK = Task()
"""The task of most papers: two distinct steps anywhere, the sum, two columns."""
