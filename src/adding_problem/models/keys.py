"""Keys: the input that opens a gate which is otherwise shut, drawn for each cell, for every family's `init: keyed`."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["column_keys_", "direction_keys_", "levels"]


@torch.no_grad()
def column_keys_(keys: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Fill (H, I) with 1 or -1 in one column of each row, column and sign drawn evenly, and 0 elsewhere."""
    cells, columns = keys.shape
    chosen = torch.randint(columns, (cells, 1), generator=generator)
    signs = torch.randint(2, (cells, 1), generator=generator) * 2.0 - 1
    return keys.zero_().scatter_(1, chosen, signs.to(keys.dtype))


@torch.no_grad()
def direction_keys_(keys: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Fill (H, I) with rows drawn evenly from the unit sphere: rotating the inputs does not change their distribution."""
    keys.normal_(generator=generator)
    return keys.div_(keys.norm(dim=1, keepdim=True))


def levels(cells: int, generator: torch.Generator | None = None) -> Tensor:
    """The share of its state that each cell overwrites at its key, where writing is forgetting: U(0, 1), float64 (H,).

    Were all shares 1, a second mark would erase the first in every cell. Different shares keep both apart: a cell of
    share u holds u (1 - u) of the first mark's value and u of the second's.
    """
    return torch.rand(cells, dtype=torch.float64, generator=generator).clamp_(1e-6, 1 - 1e-6)
