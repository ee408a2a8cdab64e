"""The elementwise recurrences h_t = a_t h_{t-1} + b_t and h_t = max(0, a_t h_{t-1} + b_t)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from adding_problem_native._library import Call, Kernels, library
from adding_problem_native._tensors import (
    address,
    below_autograd,
    define_operator,
    dense,
    kept,
    plain_gradients,
    served,
)

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
    return _operator(a, b, h0, relu)  # type: ignore[no-any-return]


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
    """The operator `scan` where a gradient is wanted."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, h0: Tensor | None, relu: bool) -> Tensor:
        with below_autograd():
            h = _operator(a, b, h0, relu)
        ctx.save_for_backward(kept(a), kept(b), kept(h0), h)
        ctx.relu = relu
        return h  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, dh: Tensor) -> tuple[Tensor | None, ...]:
        a, b, h0, h = ctx.saved_tensors
        needs = ctx.needs_input_grad[:3]
        # With create_graph the gradient itself is to be differentiated. A hook on saved tensors may
        # give back others than it was given.
        if torch.is_grad_enabled() or not served(a, b, h0, h, dh):
            reference = lambda *inputs: [_reference(*inputs, relu=ctx.relu)]  # noqa: E731
            return *plain_gradients(reference, (a, b, h0), [dh], needs), None
        gradients = _operator_backward(a, b, h0, h, dh, ctx.relu)
        wanted = (g if needed else None for g, needed in zip(gradients, needs, strict=True))
        return *wanted, None


def _result(a: Tensor, b: Tensor, h0: Tensor | None, relu: bool) -> Tensor:
    _check(a, b, h0)
    return b.new_empty(b.shape)


def _forward(a: Tensor, b: Tensor, h0: Tensor | None, relu: bool) -> Tensor:
    kernels = library()
    h = _result(a, b, h0, relu)
    call, _inputs = _describe(kernels, a, b, h0, h, relu)
    kernels.run("scan_forward", call)
    return h


def _backward(
    a: Tensor, b: Tensor, h0: Tensor | None, h: Tensor, dh: Tensor, relu: bool
) -> tuple[Tensor, ...]:
    _check(a, b, h0)
    for name, tensor in (("h", h), ("dh", dh)):
        if tensor.shape != b.shape:
            raise ValueError(
                f"{name}: expected shape {tuple(b.shape)}, found {tuple(tensor.shape)}"
            )
    kernels = library()
    call, _inputs = _describe(kernels, a, b, h0, h, relu)
    dh = dense(dh)  # type: ignore[assignment]
    da, db, dh0 = _gradients(a, b, h0, h, dh, relu)
    each = b.new_zeros(b.shape[0], b.shape[2]) if a.dim() == 1 else da
    call.dh, call.da, call.db = address(dh), address(each), address(db)
    call.dh0 = None if h0 is None else address(dh0)
    kernels.run("scan_backward", call)
    return each.sum(0) if a.dim() == 1 else da, db, dh0


def _gradients(a: Tensor, b: Tensor, h0: Tensor | None, *_: Any) -> tuple[Tensor, ...]:
    """Room for the gradients; that of an h0 that is left out has no numbers."""
    return tuple(b.new_empty(0 if tensor is None else tensor.shape) for tensor in (a, b, h0))


_operator = define_operator(
    "scan", "(Tensor a, Tensor b, Tensor? h0, bool relu) -> Tensor", _forward, _result, _Scan
)
_operator_backward = define_operator(
    "scan_backward",
    "(Tensor a, Tensor b, Tensor? h0, Tensor h, Tensor dh, bool relu) -> "
    "(Tensor da, Tensor db, Tensor dh0)",
    _backward,
    _gradients,
)


def _describe(
    kernels: Kernels, a: Tensor, b: Tensor, h0: Tensor | None, h: Tensor, relu: bool
) -> tuple[Call, Sequence[Tensor | None]]:
    """A call without gradients, which its caller adds, and the tensors it points to."""
    batch, steps, features = b.shape
    tensors = [dense(tensor) for tensor in (a, b, h0, h)]
    call = kernels.scan_call(
        batch=batch,
        steps=steps,
        features=features,
        threads=torch.get_num_threads(),
        relu=relu,
        constant=a.dim() == 1,
    )
    call.a, call.b, call.h0, call.h = map(address, tensors)
    return call, tensors


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
