"""What counts as solved, as a hit, and as still on the plateau. Loads neither torch nor NumPy."""

__all__ = ["HIT_TOLERANCE", "PLATEAU", "SOLVED", "THRESHOLDS"]

THRESHOLDS = {"1e-2": 1e-2, "1e-3": 1e-3}
"""Validation losses by name. A result records what training had taken when it was below each."""

SOLVED = THRESHOLDS["1e-3"]
"""Mean squared error below which a length counts as solved."""

PLATEAU = 0.9
"""A model whose error is not below this share of the mean baseline has learned nothing yet.

The missing tenth is 2.7 standard errors of the baseline on 1,000 sequences. A run that leaves the
plateau falls far below it within an epoch or two.
"""

HIT_TOLERANCE = 0.04
"""A prediction within this distance of the target is a hit (Hochreiter & Schmidhuber 1997)."""
