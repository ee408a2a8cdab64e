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
_OPERATORS: Any = torch.library.Library(NAMESPACE, "DEF")  # type: ignore[no-untyped-call]

below_autograd = torch._C._AutoDispatchBelowAutograd
"""Context in which an operator is its kernel, or a node of a graph that is traced: no autograd."""

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
    if _transformed():
        return False
    return all(map(_is_of_floats if traced() else _has_floats, tensors))


def define_operator(
    name: str,
    schema: str,
    kernel: Callable[..., Any],
    fake: Callable[..., Any],
    function: type[torch.autograd.Function] | None = None,
) -> Callable[..., Any]:
    """An operator `torch.ops.adding_problem_native.NAME`, and how PyTorch calls it.

    Under autocast it computes in float32. `torch.library.register_autograd` would do for
    `function`, but it reads the schema once for each pair of arguments at every call, which takes
    longer than all else that is done in Python.

    Args:
        schema: arguments and results, all of them positional.
        kernel: computes them on the CPU.
        fake: results of the same shapes, for tensors without memory.
        function: the operator where a gradient is wanted.

    Returns:
        A function of `served` arguments. Where nothing traces it calls what PyTorch's dispatcher
        would come to, without the conversion of every argument to C++ and back.
    """
    qualified = f"{NAMESPACE}::{name}"
    _OPERATORS.define(name + schema)
    operator = getattr(getattr(torch.ops, NAMESPACE), name).default
    _OPERATORS.impl(name, kernel, "CPU")
    torch.library.register_fake(qualified, fake, lib=_OPERATORS)
    torch.library.register_autocast(qualified, "cpu", torch.float32, lib=_OPERATORS)

    def needs_function(arguments: tuple[Any, ...]) -> bool:
        return (
            function is not None
            and torch.is_grad_enabled()
            and torch._C._any_requires_grad(*arguments)
        )

    def differentiable(*arguments: Any) -> Any:
        # An exported graph has this operator itself, which asks again where it is run.
        if needs_function(arguments) and not torch.compiler.is_exporting():
            return function.apply(*arguments)  # type: ignore[union-attr]
        with below_autograd():
            return operator(*arguments)

    if function is not None:
        _OPERATORS.impl(name, differentiable, "Autograd")

    def call(*arguments: Any) -> Any:
        if traced():
            return operator(*arguments)
        if needs_function(arguments):
            return function.apply(*arguments)  # type: ignore[union-attr]
        return kernel(*arguments)

    return call


def traced() -> bool:
    """Whether operations become nodes of a graph: their tensors may have no memory."""
    return torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack() > 0


def dense(tensor: Tensor | None) -> Tensor | None:
    """The tensor, or a copy of it whose numbers lie in memory as they are, one after the other."""
    if tensor is None:
        return None
    if tensor.is_neg():  # a view such as `z.conj().imag`, whose memory has the opposite numbers
        tensor = tensor.resolve_neg()
    return tensor if tensor.is_contiguous() else tensor.contiguous()


def dense_rows(tensor: Tensor) -> Tensor:
    """`dense`, with any strides but in the last dimension."""
    if tensor.is_neg():
        tensor = tensor.resolve_neg()
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


def _is_of_floats(tensor: Tensor | None) -> bool:
    """Whether a kernel computes with a tensor that may have no memory yet."""
    return tensor is None or (
        tensor.dtype is torch.float32
        and tensor.device.type == "cpu"
        and tensor.layout is torch.strided
    )


def _has_floats(tensor: Tensor | None) -> bool:
    if tensor is None:
        return True
    if type(tensor) not in _TENSORS:  # a subclass, such as a fake tensor, computes by itself
        return False
    if tensor.dtype is not torch.float32 or not tensor.is_cpu or tensor.layout is not torch.strided:
        return False
    try:
        return (
            bool(tensor.data_ptr()) or not tensor.numel()
        )  # zeros that are stored nowhere have the address 0
    except RuntimeError:  # a wrapper that has outlived its transform has no memory
        return False


_TENSORS = (Tensor, torch.nn.Parameter)


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
