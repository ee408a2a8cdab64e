"""Both scans against float64, finite differences and its own reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from adding_problem_native import (
    available_isas,
    linear_scan,
    linear_scan_reference,
    relu_scan,
    relu_scan_reference,
)
from torch import Tensor

Scan = Callable[..., Tensor]


@pytest.fixture(params=available_isas())
def isa(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("ADDING_PROBLEM_NATIVE_ISA", request.param)
    return str(request.param)


SCANS = {"linear": (linear_scan, linear_scan_reference), "relu": (relu_scan, relu_scan_reference)}


@pytest.fixture(params=SCANS)
def scans(request: pytest.FixtureRequest) -> tuple[Scan, Scan]:
    """A scan and its reference."""
    return SCANS[request.param]


def case(
    batch: int, steps: int, features: int, *, state: bool, constant: bool = False
) -> list[Tensor]:
    torch.manual_seed(0)
    tensors = [
        torch.rand((features,) if constant else (batch, steps, features)) * 1.2 - 0.2,
        torch.randn(batch, steps, features),
    ]
    return [*tensors, torch.randn(batch, features)] if state else tensors


def gradients(scan: Any, tensors: list[Tensor], weight: Tensor) -> list[Tensor]:
    leaves = [t.detach().clone().requires_grad_() for t in tensors]
    h = scan(*leaves)
    return [h.detach(), *torch.autograd.grad((h * weight).sum(), leaves)]


@pytest.mark.parametrize("state", [True, False])
@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize(
    "sizes",
    [(1, 1, 1), (3, 7, 5), (2, 50, 64), (5, 300, 67), (33, 20, 130), (2, 1000, 16)],
    ids=str,
)
def test_values_and_gradients_against_float64(
    sizes: tuple[int, int, int],
    constant: bool,
    state: bool,
    scans: tuple[Scan, Scan],
    isa: str,
) -> None:
    scan, reference = scans
    tensors = case(*sizes, state=state, constant=constant)
    if constant:
        tensors[0].clamp_(max=0.999)  # else 1000 steps outgrow float32
    weight = torch.randn(sizes)
    actual = gradients(scan, tensors, weight)
    expected = gradients(reference, [t.double() for t in tensors], weight.double())
    for ours, right in zip(actual, expected, strict=True):
        assert (ours - right).norm() <= 2e-6 * right.norm()


@pytest.mark.parametrize("constant", [True, False])
def test_the_reference_by_finite_differences(constant: bool, scans: tuple[Scan, Scan]) -> None:
    tensors = [t.double().requires_grad_() for t in case(2, 6, 3, state=True, constant=constant)]
    assert torch.autograd.gradcheck(scans[1], tensors)


def test_relu_cuts_what_is_below_zero() -> None:
    a, b = torch.full((1, 3, 1), 2.0), torch.tensor([1.0, -5.0, 3.0]).view(1, 3, 1)
    assert relu_scan(a, b).flatten().tolist() == [1, 0, 3]


def test_bits_do_not_depend_on_the_threads() -> None:
    tensors, weight = case(7, 90, 40, state=True), torch.randn(7, 90, 40)
    before = torch.get_num_threads()
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        results.append(gradients(linear_scan, tensors, weight))
    torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_non_contiguous_and_expanded() -> None:
    a, b = torch.rand(5, 3, 4).transpose(0, 1), torch.rand(3, 5, 1).expand(3, 5, 4)
    assert torch.allclose(linear_scan(a, b), linear_scan_reference(a, b), atol=1e-6)


def test_float64_runs_the_reference() -> None:
    a, b = case(2, 5, 3, state=False)
    assert torch.equal(
        linear_scan(a.double(), b.double()), linear_scan_reference(a.double(), b.double())
    )


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nan_and_infinity(bad: float, scans: tuple[Scan, Scan]) -> None:
    scan, reference = scans
    a, b = case(2, 30, 40, state=False)
    b[1, 3, 7] = bad
    assert torch.allclose(scan(a, b), reference(a, b), atol=1e-5, equal_nan=True)


@pytest.mark.parametrize(
    ("a", "b", "h0"),
    [
        (torch.rand(2, 3), torch.rand(2, 3), None),
        (torch.rand(2, 3, 4), torch.rand(2, 3, 5), None),
        (torch.rand(3), torch.rand(2, 3, 4), None),
        (torch.rand(3, 4), torch.rand(2, 3, 4), None),
        (torch.rand(2, 3, 4), torch.rand(2, 3, 4), torch.rand(3, 4)),
        (torch.rand(0, 3, 4), torch.rand(0, 3, 4), None),
        (torch.rand(2, 3, 4), torch.rand(2, 3, 4).double(), None),
    ],
)
def test_wrong_arguments(a: Tensor, b: Tensor, h0: Tensor | None) -> None:
    with pytest.raises(ValueError, match="expected"):
        linear_scan(a, b, h0)


def penalty(scan: Scan, made: Callable[..., list[Tensor]], *leaves: Tensor) -> list[Tensor]:
    """The gradient of a loss, and that of its norm, of leaves from which the inputs are made."""
    leaves = tuple(leaf.detach().requires_grad_() for leaf in leaves)
    (gradient,) = torch.autograd.grad(
        scan(*made(*leaves)).square().sum(), leaves[0], create_graph=True
    )
    return [gradient.detach(), *torch.autograd.grad(gradient.square().sum(), leaves)]


@pytest.mark.parametrize(
    "made",
    [
        lambda a, b: [a, b],
        lambda a, b: [a[:1].expand(2, 6, 3), b, b[:, 0]],
        lambda a, b: [a.mT.contiguous().mT, b],
        lambda a, b: [gate := a.sigmoid(), (1 - gate) * b],
        lambda a, b: [a, a, b[:, 0]],
        lambda a, b: [a[0, 0], b, b[:, 0]],
    ],
    ids=["plain", "expanded", "transposed", "one of the other", "the same", "constant"],
)
def test_second_derivatives(made: Callable[..., list[Tensor]], scans: tuple[Scan, Scan]) -> None:
    scan, reference = scans
    leaves = torch.rand(2, 6, 3), torch.rand(2, 6, 3)
    expected = penalty(reference, made, *(leaf.double() for leaf in leaves))
    for actual, right in zip(penalty(scan, made, *leaves), expected, strict=True):
        torch.testing.assert_close(actual.double(), right, rtol=1e-5, atol=1e-5)


def test_transforms() -> None:
    stacked = torch.rand(4, 2, 6, 3)
    torch.testing.assert_close(
        torch.func.vmap(linear_scan)(stacked, stacked),
        torch.stack([linear_scan(one, one) for one in stacked]),
    )
    constant = torch.rand(4, 3)
    torch.testing.assert_close(
        torch.func.vmap(linear_scan)(constant, stacked),
        torch.stack(list(map(linear_scan, constant, stacked))),
    )
