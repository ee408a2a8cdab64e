"""The linear recurrence h_t = a_t * h_{t-1} + b_t, (B, T, H), for the families whose state obeys it.

On the CPU the native kernel computes it; elsewhere, and for other types than float32, `chunked_scan`, in some 2 sqrt(T)
operations instead of T.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["Scan", "chunked_scan", "scan_of"]

Scan = Callable[[Tensor, Tensor], Tensor]
"""(a, b) -> h, all (B, T, H); h_0 is zero."""


def scan_of(backend: str) -> Scan:
    """The scan of a backend: `native` or `torch`."""
    if backend == "torch":
        return chunked_scan
    native = importlib.import_module("adding_problem_native").linear_scan

    def scan(a: Tensor, b: Tensor) -> Tensor:
        served = a.device.type == "cpu" and a.dtype == torch.float32
        return native(a, b) if served else chunked_scan(a, b)

    return scan


def chunked_scan(a: Tensor, b: Tensor) -> Tensor:
    """The recurrence in plain torch: in all chunks of about sqrt(T) steps at once, then from chunk to chunk.

    Within a chunk that begins from h the state is local_t + product_t * h, with local_t from zero and product_t the product of
    the chunk's a up to t. Nothing is divided, so that a of any size, zero too, keeps its accuracy.
    """
    batch, length, width = a.shape
    size = max(1, math.isqrt(length))
    chunks = math.ceil(length / size)
    padding = (0, 0, 0, chunks * size - length)
    a, b = (torch.nn.functional.pad(tensor, padding).view(batch, chunks, size, width) for tensor in (a, b))
    local, product = [b[:, :, 0]], [a[:, :, 0]]
    for step in range(1, size):
        local.append(torch.addcmul(b[:, :, step], a[:, :, step], local[-1]))
        product.append(product[-1] * a[:, :, step])
    start = torch.zeros_like(b[:, 0, 0])
    starts = []
    for chunk in range(chunks):
        starts.append(start)
        start = torch.addcmul(local[-1][:, chunk], product[-1][:, chunk], start)
    begun = torch.stack(starts, dim=1)[:, :, None]
    h = torch.addcmul(torch.stack(local, dim=2), torch.stack(product, dim=2), begun)
    return h.view(batch, chunks * size, width)[:, :length]
