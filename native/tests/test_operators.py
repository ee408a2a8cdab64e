"""The operators under `torch.library.opcheck`, `torch.compile` and `torch.export`."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from adding_problem_native import GRU, LSTM, RNN, lem, linear_scan
from adding_problem_native._layer import CELLS
from torch import Tensor, nn
from torch._dynamo.backends.common import aot_autograd
from torch.library import opcheck

OPERATORS = torch.ops.adding_problem_native
B, T, SIZE, H = 3, 4, 2, 5


def leaf(*shape: int) -> Tensor:
    return (torch.randn(shape) / 2).requires_grad_()


def arguments(cell: str, *, state: bool) -> tuple[Any, ...]:
    """Of the operator `layer`, all but the last two."""
    w, u, bias = (rows * H for rows in CELLS[cell].rows)
    h0 = leaf(B, H) if state else None
    c0 = leaf(B, H) if state and CELLS[cell].two_states else None
    tensors = (leaf(B, T, SIZE), leaf(w, SIZE), leaf(u, H), leaf(bias) if state else None, h0, c0)
    return cell, [0.5, 1.2, 2.0], *tensors


def without_gradient(values: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(v.detach() if isinstance(v, Tensor) else v for v in values)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("cell", "state", "every", "outputs"),
    [
        ("LSTM", True, None, True),
        ("GRU", True, 2, True),
        ("TANH", False, None, False),
        ("LEM", True, None, True),
        ("SLSTM", False, 1, True),
    ],
)
def test_layer(cell: str, state: bool, every: int | None, outputs: bool) -> None:
    given = arguments(cell, state=state)
    opcheck(OPERATORS.layer.default, (*given, every, outputs))
    given = without_gradient(given)
    # What is saved has gaps of whatever was in memory: runs of it cannot be compared.
    shapes = ("test_schema", "test_faketensor", "test_autograd_registration")
    opcheck(OPERATORS.layer_saving.default, (*given, every, outputs), test_utils=shapes)
    *results, saved = OPERATORS.layer_saving(*given, every, outputs)
    drawn = [torch.randn_like(result) for result in results]
    gradients = (*([] if outputs else [None]), *drawn, None)[:3]
    needs = [tensor is not None for tensor in given[2:]]
    opcheck(OPERATORS.layer_backward.default, (*given, every, saved, *gradients, needs))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("relu", [True, False])
def test_scan(relu: bool, constant: bool) -> None:
    a = leaf(H) if constant else leaf(B, T, H)
    given = (a, leaf(B, T, H), None if constant else leaf(B, H))
    opcheck(OPERATORS.scan.default, (*given, relu))
    a, b, h0 = without_gradient(given)
    opcheck(OPERATORS.scan_backward.default, (a, b, h0, *torch.randn(2, B, T, H), relu))


def test_what_an_operator_cannot_compute_is_an_error() -> None:
    """Whatever calls it, the kernels read no memory that is not the tensors'."""
    given = list(without_gradient(arguments("LSTM", state=True)))
    for place, wrong, message in (
        (2, given[2].double(), "expected torch.float32, found torch.float64"),
        (3, given[3][:-1], r"w_ih: expected shape \(20, 2\)"),
        (6, given[6][:, :-1], r"h0: expected shape \(3, 5\)"),
    ):
        with pytest.raises(ValueError, match=message):
            OPERATORS.layer(*(wrong if i == place else v for i, v in enumerate(given)), None, True)
    with pytest.raises(ValueError, match="checkpoint_every: expected at least 1, found -3"):
        OPERATORS.layer_saving(*given, -3, True)
    y, *_, saved = OPERATORS.layer_saving(*given, None, True)
    with pytest.raises(ValueError, match="saved states: expected shape"):
        OPERATORS.layer_backward(*given, None, saved[1:], y, None, None, [True] * 6)
    with pytest.raises(ValueError, match="dh: expected shape"):
        OPERATORS.scan_backward(y, y, None, y, y[1:], False)


def test_under_autocast_an_operator_computes_in_float32() -> None:
    a, b = torch.rand(2, B, T, H)
    with torch.autocast("cpu", torch.bfloat16):
        h = OPERATORS.scan(a.bfloat16(), b, None, False)
    assert h.dtype == torch.float32
    assert torch.equal(h, linear_scan(a.bfloat16().float(), b))


# --- graphs ---


class Scan(nn.Module):
    """A linear scan with a gate of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.randn(H))

    def forward(self, x: Tensor) -> Tensor:
        return linear_scan(self.gate.sigmoid().expand(x.shape), x)


class Lem(nn.Module):
    """LEM on its own weights."""

    def __init__(self) -> None:
        super().__init__()
        shapes = ((4 * H, H), (4 * H, H), (4 * H,))
        self.weights = nn.ParameterList(torch.randn(shape) / 3 for shape in shapes)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = lem(x, *self.weights, dt=0.5)
        assert y is not None
        return y


MODULES: dict[str, Callable[[], nn.Module]] = {
    "LSTM": lambda: LSTM(H, 7, batch_first=True),
    "GRU": lambda: GRU(H, 7, 2, batch_first=True),
    "RNN": lambda: RNN(H, 7, nonlinearity="relu", batch_first=True),
    "linear_scan": Scan,
    "lem": Lem,
}
every_module = pytest.mark.parametrize("make", MODULES.values(), ids=MODULES)


def first(results: Any) -> Tensor:
    """The outputs of all steps."""
    return results if isinstance(results, Tensor) else results[0]  # type: ignore[no-any-return]


def outputs_and_gradients(module: Any, x: Tensor, parameters: list[nn.Parameter]) -> list[Tensor]:
    x = x.clone().requires_grad_()
    y = first(module(x))
    return [y.detach(), *torch.autograd.grad(y.square().sum(), [x, *parameters])]


@pytest.mark.filterwarnings("ignore")
@every_module
def test_compiled_without_a_break_for_all_sizes(make: Callable[[], nn.Module]) -> None:
    """One graph of the same few nodes serves every batch and T, and trains as without it."""
    module, graphs = make(), []
    parameters = list(module.parameters())

    def count(graph: torch.fx.GraphModule, _: Any) -> torch.fx.GraphModule:
        graphs.append(len(graph.graph.nodes))
        return graph

    backend = aot_autograd(fw_compiler=count, bw_compiler=count)
    torch._dynamo.reset()
    compiled = torch.compile(module, backend=backend, fullgraph=True, dynamic=True)
    for batch, steps in ((3, 7), (20, 40), (2, 300)):
        x = torch.randn(batch, steps, H)
        actual = outputs_and_gradients(compiled, x, parameters)
        expected = outputs_and_gradients(module, x, parameters)
        for ours, right in zip(actual, expected, strict=True):
            torch.testing.assert_close(ours, right, rtol=1e-5, atol=1e-6)
    assert len(graphs) == 2, "one forward, one backward"
    assert sum(graphs) < 120


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("strict", [True, False])
@every_module
def test_export_round_trip(make: Callable[[], nn.Module], strict: bool) -> None:
    module, sizes = (
        make(),
        {0: torch.export.Dim("batch", min=1), 1: torch.export.Dim("time", min=1)},
    )
    torch._dynamo.reset()
    program = torch.export.export(
        module, (torch.randn(3, 9, H),), dynamic_shapes=(sizes,), strict=strict
    )
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    loaded = torch.export.load(file).module()
    assert len(program.graph.nodes) < 60
    for batch, steps in ((1, 1), (5, 40), (70, 3)):
        x = torch.randn(batch, steps, H)
        assert torch.equal(first(loaded(x)), first(module(x)))
    x = torch.randn(2, 6, H)
    actual = outputs_and_gradients(loaded, x, list(loaded.parameters()))
    expected = outputs_and_gradients(module, x, list(module.parameters()))
    for ours, right in zip(actual, expected, strict=True):
        torch.testing.assert_close(ours, right, rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_a_transform_in_a_compiled_function() -> None:
    """`torch.func` is PyTorch's there too."""
    torch._dynamo.reset()
    a = torch.rand(B, T, H)
    gradient = torch.func.grad(lambda a: linear_scan(a, a).sum())
    expected = gradient(a.double())
    actual = torch.compile(gradient, backend="aot_eager", fullgraph=True)(a)
    torch.testing.assert_close(actual.double(), expected, rtol=1e-5, atol=1e-5)
