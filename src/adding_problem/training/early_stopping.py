"""When validation no longer improves: the rule that ends a run, and what the best epoch is."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["EarlyStopping"]


@dataclass
class EarlyStopping:
    """Keras's rule: stop after `patience` epochs in a row without a strictly better value.

    Only values over the same sequences are compared. Every epoch has one over its first sequences.
    Some epochs also have one over all, which decides between two epochs that have it.

    Attributes:
        best, best_complete: the best epoch's value, and that over all sequences, None if unknown.
    """

    patience: int | None
    best: float = math.inf
    best_epoch: int = 0
    wait: int = 0
    best_complete: float | None = None

    def update(self, epoch: int, value: float, complete: float | None = None) -> bool:
        """Take an epoch's value, and that over all sequences where there is one.

        Returns:
            whether it is the best so far; NaN never is.
        """
        like = (value, self.best)
        if complete is not None and self.best_complete is not None:
            like = (complete, self.best_complete)
        if like[0] < like[1]:
            self.best, self.best_complete = value, complete
            self.best_epoch, self.wait = epoch, 0
            return True
        self.wait += 1
        return False

    @property
    def exhausted(self) -> bool:
        """Whether patience is at its end."""
        return self.patience is not None and self.wait >= max(1, self.patience)
