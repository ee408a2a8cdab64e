"""The elementwise recurrences h_t = a_t h_{t-1} + b_t and h_t = max(0, a_t h_{t-1} + b_t)."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor

from adding_problem_native._library import ScanCall, check, library
from adding_problem_native._tensors import address, plain_gradients, readable, served

__all__ = ["linear_scan", "linear_scan_reference", "relu_scan", "relu_scan_reference"]


def linear_scan(a: Tensor, b: Tensor, h0: Tensor | None = None) -> Tensor:
    """h_t = a_t * h_{t-1} + b_t for t = 1..T.

    Float32 on the CPU runs on the native kernels, everything else on `linear_scan_reference`.

    Args:
        a: (B, T, H), or (H,) where it is the same at every step, which is faster.
        b: (B, T, H), all sizes at least 1.
        h0: (B, H); None is zero.

    Returns:
        h, (B, T, H).

    Raises:
        ValueError: for wrong shapes, or types or devices that differ.
    """
    return _scan(a, b, h0, relu=False)


def relu_scan(a: Tensor, b: Tensor, h0: Tensor | None = None) -> Tensor:
    """h_t = max(0, a_t * h_{t-1} + b_t), as IndRNN has it; everything else as of `linear_scan`."""
    return _scan(a, b, h0, relu=True)


def linear_scan_reference(a: Tensor, b: Tensor, h0: Tensor | None = None) -> Tensor:
    """`linear_scan` as a plain loop in PyTorch, for any type and device."""
    return _reference(a, b, h0, relu=False)


def relu_scan_reference(a: Tensor, b: Tensor, h0: Tensor | None = None) -> Tensor:
    """`relu_scan` as a plain loop in PyTorch, for any type and device."""
    return _reference(a, b, h0, relu=True)


def _scan(a: Tensor, b: Tensor, h0: Tensor | None, *, relu: bool) -> Tensor:
    _check(a, b, h0)
    if not served(a, b, h0):
        return _reference(a, b, h0, relu=relu)
    a, b, h0 = readable(a), readable(b), None if h0 is None else readable(h0)
    return _Scan.apply(a, b, h0, relu)  # type: ignore[no-any-return, no-untyped-call]


def _reference(a: Tensor, b: Tensor, h0: Tensor | None, *, relu: bool) -> Tensor:
    _check(a, b, h0)
    h = torch.zeros_like(b[:, 0]) if h0 is None else h0
    steps = []
    for a_t, b_t in zip(a.expand_as(b).unbind(1), b.unbind(1), strict=True):
        h = a_t * h + b_t
        h = h.relu() if relu else h
        steps.append(h)
    return torch.stack(steps, dim=1)


class _Scan(torch.autograd.Function):
    """Forward and backward; all tensors `served`, `readable` and of the right shapes."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, h0: Tensor | None, relu: bool) -> Tensor:
        h = torch.empty_like(b)
        kernels = library()
        check(kernels, kernels.scan_forward(ctypes.byref(_describe(a, b, h0, h, relu))))
        ctx.save_for_backward(a, b, h0, h)
        ctx.relu = relu
        return h

    @staticmethod
    def backward(ctx: Any, dh: Tensor) -> tuple[Tensor | None, ...]:
        a, b, h0, h = ctx.saved_tensors
        # With create_graph the gradient itself is to be differentiated. A hook on saved tensors may
        # give back others than it was given.
        if torch.is_grad_enabled() or not served(a, b, h0, h, dh):
            return *plain_gradients(
                lambda *inputs: [_reference(*inputs, relu=ctx.relu)],
                (a, b, h0),
                [dh],
                ctx.needs_input_grad[:3],
            ), None
        _check(a, b, h0)
        if h.shape != b.shape:
            raise RuntimeError(
                f"a saved tensor came back with shape {tuple(h.shape)}, expected {tuple(b.shape)}"
            )
        a, b, h, dh = readable(a), readable(b), readable(h), readable(dh)
        h0 = None if h0 is None else readable(h0)
        constant = a.dim() == 1
        da, db = (
            b.new_zeros(b.shape[0], b.shape[2]) if constant else torch.empty_like(a),
            torch.empty_like(b),
        )
        dh0 = torch.empty_like(h0) if h0 is not None and ctx.needs_input_grad[2] else None
        call = _describe(a, b, h0, h, ctx.relu)
        call.dh, call.da, call.db, call.dh0 = address(dh), address(da), address(db), address(dh0)
        kernels = library()
        check(kernels, kernels.scan_backward(ctypes.byref(call)))
        return da.sum(0) if constant else da, db, dh0, None


def _describe(a: Tensor, b: Tensor, h0: Tensor | None, h: Tensor, relu: bool) -> ScanCall:
    batch, steps, features = b.shape
    return ScanCall(
        batch=batch,
        steps=steps,
        features=features,
        threads=torch.get_num_threads(),
        relu=relu,
        constant=a.dim() == 1,
        a=address(a),
        b=address(b),
        h0=address(h0),
        h=address(h),
    )


def _check(a: Tensor, b: Tensor, h0: Tensor | None) -> None:
    if b.dim() != 3 or b.numel() == 0:
        raise ValueError(
            f"b: expected (B, T, H) with every size at least 1, found {tuple(b.shape)}"
        )
    expected = {"a": (a, tuple(b.shape) if a.dim() != 1 else (b.shape[2],))}
    if h0 is not None:
        expected["h0"] = (h0, (b.shape[0], b.shape[2]))
    for name, (tensor, shape) in expected.items():
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{name}: expected shape {shape}, found {tuple(tensor.shape)}")
        if tensor.dtype != b.dtype or tensor.device != b.device:
            raise ValueError(
                f"{name}: expected {b.dtype} on {b.device} like b, "
                f"found {tensor.dtype} on {tensor.device}"
            )
