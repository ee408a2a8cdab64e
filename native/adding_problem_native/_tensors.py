"""Where the kernels and PyTorch meet.

Which tensors the kernels compute with and when, how an operator on them is defined, and the
backward pass where PyTorch has to do it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

__all__ = [
    "address",
    "below_autograd",
    "define_operator",
    "dense",
    "dense_rows",
    "kept",
    "plain_gradients",
    "served",
]

NAMESPACE = "adding_problem_native"
_OPERATORS = torch.library.Library(NAMESPACE, "DEF")

below_autograd = torch._C._AutoDispatchBelowAutograd
"""Context in which an operator is its kernel, or what stands for it in a graph, without autograd."""

_TRACERS = (
    torch._C._TorchDispatchModeKey.FAKE,
    torch._C._TorchDispatchModeKey.PROXY,
    torch._C._TorchDispatchModeKey.FUNCTIONAL,
)


def served(*tensors: Tensor | None) -> bool:
    """Whether the kernels compute with all of these, here and now. Otherwise PyTorch does.

    Args:
        tensors: inputs, weights, gradients; None is one that is left out.

    Returns:
        True for float32 tensors on the CPU. `torch.compile`, `torch.export` and fake tensors take a
        kernel as one operator. False inside a `torch.func` transform, a level of forward-mode
        differentiation, `torch.jit.trace`, and a dispatch mode that has to see the operations that
        a result is made of, such as a counter of them. Strides, lazy negation and inference tensors
        do not matter.
    """
    return not _transformed() and all(map(_has_floats, tensors))


def define_operator(
    name: str,
    schema: str,
    kernel: Callable[..., Any],
    fake: Callable[..., Any],
    function: type[torch.autograd.Function] | None = None,
) -> Any:
    """An operator `torch.ops.adding_problem_native.NAME`, and how PyTorch calls it.

    Under autocast it computes in float32. `torch.library.register_autograd` would do for `function`
    but for its cost, 90 microseconds a call.

    Args:
        schema: arguments and results, all of them positional.
        kernel: computes them on the CPU.
        fake: results of the same shapes, for tensors without memory.
        function: the operator where a gradient is wanted.
    """
    qualified = f"{NAMESPACE}::{name}"
    _OPERATORS.define(name + schema)
    operator = getattr(getattr(torch.ops, NAMESPACE), name).default
    _OPERATORS.impl(name, kernel, "CPU")
    torch.library.register_fake(qualified, fake, lib=_OPERATORS)
    torch.library.register_autocast(qualified, "cpu", torch.float32, lib=_OPERATORS)
    if function is not None:

        def differentiable(*arguments: Any) -> Any:
            # An exported graph has this operator itself, which asks again where it is run.
            if (
                torch.is_grad_enabled()
                and not torch.compiler.is_exporting()
                and any(isinstance(a, Tensor) and a.requires_grad for a in arguments)
            ):
                return function.apply(*arguments)  # type: ignore[no-untyped-call]
            with below_autograd():
                return operator(*arguments)

        _OPERATORS.impl(name, differentiable, "Autograd")
    return operator


def dense(tensor: Tensor | None) -> Tensor | None:
    """The tensor, or a copy of it whose numbers lie one after the other; None of None."""
    return None if tensor is None else tensor.contiguous()


def dense_rows(tensor: Tensor) -> Tensor:
    """`dense`, with any strides but in the last dimension."""
    return tensor if tensor.stride(-1) == 1 or tensor.shape[-1] == 1 else tensor.contiguous()


def kept(tensor: Tensor | None) -> Tensor | None:
    """The tensor as autograd can save it: a copy of one that was made in the inference mode."""
    return tensor.clone() if tensor is not None and tensor.is_inference() else tensor


def address(tensor: Tensor | None) -> int | None:
    """Where the numbers of a tensor begin, for the C interface; None of None.

    Raises:
        ValueError: for another type than float32.
    """
    if tensor is None:
        return None
    if tensor.dtype is not torch.float32:
        raise ValueError(f"expected torch.float32, found {tensor.dtype}")
    return tensor.data_ptr()


def _transformed() -> bool:
    """Whether something is under way that needs PyTorch's own operations."""
    return (
        torch._C._functorch.get_dynamic_layer_stack_depth() > 0
        or forward_ad._current_level >= 0
        or torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        or (not torch.compiler.is_compiling() and _counted())
    )


def _counted() -> bool:
    """Whether there is a dispatch mode beside those that trace a graph."""
    modes = torch._C._len_torch_dispatch_stack()
    return modes > 0 and modes > sum(
        torch._C._get_dispatch_mode(key) is not None for key in _TRACERS
    )


def _has_floats(tensor: Tensor | None) -> bool:
    if tensor is None:
        return True
    if (
        tensor.dtype is not torch.float32
        or tensor.device.type != "cpu"
        or tensor.layout is not torch.strided
    ):
        return False
    if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack():
        return True  # of a graph that is being traced, without memory
    if type(tensor) not in (
        Tensor,
        torch.nn.Parameter,
    ):  # a subclass computes by itself
        return False
    try:
        return (
            bool(tensor.data_ptr()) or not tensor.numel()
        )  # zeros that are stored nowhere have the address 0
    except RuntimeError:  # a wrapper that has outlived its transform has no memory
        return False


def plain_gradients(
    function: Callable[..., Sequence[Tensor]],
    inputs: Sequence[Tensor | None],
    gradients: Sequence[Tensor],
    needs: Sequence[bool],
) -> list[Tensor | None]:
    """The backward pass of a kernel by PyTorch's own operations; a graph of these in grad mode.

    Args:
        function: the kernel's inputs -> its outputs, in PyTorch.
        inputs: as the kernel's function saved them.
        gradients: of the outputs.
        needs: of which inputs a gradient is wanted.

    Returns:
        The gradients of the inputs; None of those that need none or are left out.
    """
    create_graph = torch.is_grad_enabled()
    wanted = [t is not None and needed for t, needed in zip(inputs, needs, strict=True)]
    with (
        torch.enable_grad(),
        torch.autocast("cpu", enabled=False),
    ):  # without autocast, as it was in the forward pass
        # Views: where one input was computed from another, or is the same, the gradients must not
        # flow on between them.
        given = [
            None
            if t is None
            else t.view_as(t)
            if create_graph
            else t.detach().requires_grad_(needed)
            for t, needed in zip(inputs, needs, strict=True)
        ]
        leaves = [
            t for t, is_wanted in zip(given, wanted, strict=True) if t is not None and is_wanted
        ]
        found = iter(
            torch.autograd.grad(function(*given), leaves, gradients, create_graph=create_graph)
        )
    return [next(found) if is_wanted else None for is_wanted in wanted]
