"""Tasks that the tests of the data run over."""

from __future__ import annotations

from typing import Any

from adding_problem.task.variants import Task

VARIANTS: list[Any] = ["any", "halves", "hs1997"]
TARGETS: list[Any] = ["sum", "difference", "product", "first"]
NOISY = [
    Task(variant=variant, target="difference", noise_columns=3, mix=mix, mix_seed=5)
    for variant in VARIANTS
    for mix in ("none", "swap", "rotate")
]
