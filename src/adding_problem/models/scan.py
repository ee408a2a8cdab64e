"""Scans: h_t = a_t * h_{t-1} + b_t and h_t = max(0, a_t * h_{t-1} + b_t), (B, T, H).

On the CPU the native kernels compute them. Elsewhere, and for tensors that the kernels cannot take,
`chunked_scan` does, in some 2 sqrt(T) operations instead of T, and `stepwise_relu_scan`.
"""

from __future__ import annotations

import functools
import importlib
import math
from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["Scan", "chunked_scan", "relu_scan_of", "scan_of", "stepwise_relu_scan"]

Scan = Callable[[Tensor, Tensor], Tensor]
"""(a, b) -> h, all (B, T, H); a is (H,) where it is the same at every step; h_0 is zero."""


def scan_of(backend: str) -> Scan:
    """The linear scan of a backend: `native` or `torch`."""
    return _of(backend, "linear_scan", chunked_scan)


def relu_scan_of(backend: str) -> Scan:
    """The scan with max(0, .) of a backend: `native` or `torch`."""
    return _of(backend, "relu_scan", stepwise_relu_scan)


def _of(backend: str, kernel: str, plain: Scan) -> Scan:
    if backend == "torch":
        return plain
    native = importlib.import_module("adding_problem_native")
    return functools.partial(_native_or_plain, native.served, getattr(native, kernel), plain)


def _native_or_plain(
    can_use_native: Callable[..., bool], native: Scan, plain: Scan, a: Tensor, b: Tensor
) -> Tensor:
    """The scan by the kernel where it takes these tensors, else by plain torch."""
    return (native if can_use_native(a, b) and b.numel() else plain)(a, b)


def chunked_scan(a: Tensor, b: Tensor) -> Tensor:
    """The linear scan in plain torch: all chunks of about sqrt(T) steps at once, then over chunks.

    Within a chunk that starts from h the state is local_t + product_t * h. local_t is the state
    from a start at zero, and product_t the product of the chunk's a up to t. Nothing is divided, so
    that a of any size, zero included, keeps its accuracy.
    """
    batch, length, width = b.shape
    size = max(1, math.isqrt(length))
    chunks = math.ceil(length / size)
    padding = (0, 0, 0, chunks * size - length)
    a, b = (
        torch.nn.functional.pad(tensor, padding).view(batch, chunks, size, width)
        for tensor in (a.expand_as(b), b)
    )
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


def stepwise_relu_scan(a: Tensor, b: Tensor) -> Tensor:
    """The scan with max(0, .) in plain torch, step by step."""
    h = torch.zeros_like(b[:, 0])
    steps = []
    for a_t, b_t in zip(a.expand_as(b).unbind(1), b.unbind(1), strict=True):
        h = torch.addcmul(b_t, a_t, h).relu()
        steps.append(h)
    return torch.stack(steps, dim=1)
