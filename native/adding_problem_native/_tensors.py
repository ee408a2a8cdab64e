"""Where the kernels and PyTorch meet.

Which tensors the kernels compute with and when, in which form they may read one through its
address, and the backward pass where PyTorch has to do it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.autograd import forward_ad

__all__ = ["address", "plain_gradients", "readable", "readable_rows", "served"]


def served(*tensors: Tensor | None) -> bool:
    """Whether the kernels compute with all of these, here and now. Otherwise PyTorch does.

    Args:
        tensors: inputs, weights, gradients; None is one that is left out.

    Returns:
        True for float32 tensors with memory on the CPU, as long as nobody has to see the operations
        that a result is made of. That is: no compiler, tracer, `torch.func` transform, dispatch
        mode (fake tensors, `make_fx`, a counter of operations) and no level of forward-mode
        differentiation. Strides, lazy negation and inference tensors do not matter, see `readable`.
    """
    return not _watched() and all(map(_has_floats, tensors))


def readable(tensor: Tensor) -> Tensor:
    """The tensor, or a copy of it whose numbers lie in memory as they are, one after the other.

    It is made of operations that autograd knows. Call it on what is given to an
    `autograd.Function`, which saves its inputs: of a copy that the function made by itself a second
    derivative knows nothing.
    """
    dense = readable_rows(tensor)
    return dense if dense.is_contiguous() else dense.contiguous()


def readable_rows(tensor: Tensor) -> Tensor:
    """`readable`, with any strides but in the last dimension."""
    if (
        tensor.is_neg()
    ):  # a view such as `z.conj().imag`: its memory holds the opposite of its numbers
        tensor = tensor.resolve_neg()
    if (
        tensor.is_inference() and torch.is_grad_enabled()
    ):  # autograd saves no tensor of the inference mode, only a copy of it
        tensor = tensor.clone()
    return tensor if tensor.stride(-1) == 1 or tensor.shape[-1] == 1 else tensor.contiguous()


def address(tensor: Tensor | None) -> int | None:
    """Where the numbers of a `readable` tensor begin, for the C interface; None of None."""
    return None if tensor is None else tensor.data_ptr()


def _watched() -> bool:
    """Whether something is under way that needs PyTorch's own operations.

    The compiler asks first, and only the first.
    """
    return (
        torch.compiler.is_compiling()
        or torch._C._functorch.peek_interpreter_stack() is not None
        or torch._C._len_torch_dispatch_stack() > 0
        or forward_ad._current_level >= 0
        or torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    )


def _has_floats(tensor: Tensor | None) -> bool:
    if tensor is None:
        return True
    if type(tensor) not in (
        Tensor,
        torch.nn.Parameter,
    ):  # a subclass, such as a fake tensor, computes by itself
        return False
    if tensor.dtype is not torch.float32 or not tensor.is_cpu or tensor.layout is not torch.strided:
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
