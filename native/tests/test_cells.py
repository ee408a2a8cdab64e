"""LEM, coRNN, sLSTM and the RNN with modReLU against their equations in float64.

Each in every build, with and without checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from adding_problem_native import cornn, lem, modrelu_rnn, slstm
from torch import Tensor
from torch.nn.functional import logsigmoid

TOLERANCE = 4e-6  # relative, in the 2-norm; a loop of float32 torch comes to 3e-6
sigmoid, tanh = torch.sigmoid, torch.tanh


# --- the equations, a line each, one step after the other ---


def lem_loop(
    x: Tensor, w: Tensor, u: Tensor, bias: Tensor, y: Tensor, z: Tensor, *, dt: float
) -> list[Tensor]:
    (wa, wb, wz, wy), (ua, ub, uz, uy), (ca, cb, cz, cy) = w.chunk(4), u.chunk(4), bias.chunk(4)
    ys = []
    for t in range(x.shape[1]):
        a, b = (
            dt * sigmoid(x[:, t] @ wa.T + y @ ua.T + ca),
            dt * sigmoid(x[:, t] @ wb.T + y @ ub.T + cb),
        )
        z = (1 - a) * z + a * tanh(x[:, t] @ wz.T + y @ uz.T + cz)
        y = (1 - b) * y + b * tanh(x[:, t] @ wy.T + z @ uy.T + cy)
        ys.append(y)
    return [torch.stack(ys, 1), y, z]


def cornn_loop(
    x: Tensor,
    w: Tensor,
    u: Tensor,
    bias: Tensor,
    y: Tensor,
    z: Tensor,
    *,
    dt: float,
    gamma: float,
    epsilon: float,
) -> list[Tensor]:
    hidden = len(w)
    ys = []
    for t in range(x.shape[1]):
        force = tanh(x[:, t] @ w.T + z @ u[:, :hidden].T + y @ u[:, hidden:].T + bias)
        z = z + dt * (force - gamma * y - epsilon * z)
        y = y + dt * z
        ys.append(y)
    return [torch.stack(ys, 1), y, z]


def modrelu_loop(x: Tensor, w: Tensor, u: Tensor, offset: Tensor, h: Tensor) -> list[Tensor]:
    hs = []
    for t in range(x.shape[1]):
        v = x[:, t] @ w.T + h @ u.T
        h = torch.where(
            v.abs() + offset <= 0, torch.zeros_like(v), v + v.sign() * offset
        )  # NaN stays NaN
        hs.append(h)
    return [torch.stack(hs, 1), h]


def slstm_loop(x: Tensor, w: Tensor, u: Tensor, bias: Tensor, h: Tensor) -> list[Tensor]:
    """c and n times exp(-m), as in the paper's equations (15) and (16); m is as large as needed."""
    c, n, m = torch.zeros_like(h), torch.zeros_like(h), torch.full_like(h, -1e9)
    hs = []
    for t in range(x.shape[1]):
        i, f, o, z = (x[:, t] @ w.T + h @ u.T + bias).chunk(4, dim=1)
        largest = torch.maximum(logsigmoid(f) + m, i).detach()
        f, i, m = (logsigmoid(f) + m - largest).exp(), (i - largest).exp(), largest
        c, n = f * c + i * tanh(z), f * n + i
        h = sigmoid(o) * c / n
        hs.append(h)
    return [torch.stack(hs, 1), h]


@dataclass(frozen=True)
class Kind:
    """A layer: its function and its equations, and its sizes.

    The rows of w_ih, of w_hh and of the bias, and the columns of w_hh, are in multiples of H.
    `states` counts the parts of the state.
    """

    layer: Callable[..., Any]
    loop: Callable[..., list[Tensor]]
    input_rows: int
    rows: int
    columns: int = 1
    states: int = 1
    constants: tuple[tuple[str, float], ...] = ()

    def inputs(self, steps: int, hidden: int, batch: int, size: int) -> list[Tensor]:
        weights = [
            torch.rand(self.input_rows * hidden, size) - 0.5,
            (2 * torch.rand(self.rows * hidden, self.columns * hidden) - 1) / hidden**0.5,
            torch.rand(self.rows * hidden) - 0.5,
        ]
        return [
            torch.rand(batch, steps, size),
            *weights,
            *(torch.rand(batch, hidden) - 0.5 for _ in range(self.states)),
        ]

    def run(self, tensors: list[Tensor], **options: Any) -> list[Tensor]:
        y, state = self.layer(*tensors[:4], tuple(tensors[4:]), **dict(self.constants), **options)
        return [y, *state]

    def exact(self, tensors: list[Tensor]) -> list[Tensor]:
        return self.loop(*tensors, **dict(self.constants))


KINDS = {
    "lem": Kind(lem, lem_loop, 4, 4, states=2, constants=(("dt", 0.7),)),
    "cornn": Kind(
        cornn,
        cornn_loop,
        1,
        1,
        columns=2,
        states=2,
        constants=(("dt", 0.3), ("gamma", 1.2), ("epsilon", 2.0)),
    ),
    "modrelu": Kind(modrelu_rnn, modrelu_loop, 1, 1),
    "slstm": Kind(slstm, slstm_loop, 4, 4),
}
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def relative_error(actual: Tensor, expected: Tensor) -> float:
    return float(
        (actual.detach().double() - expected.detach()).norm()
        / expected.detach().norm().clamp_min(1e-30)
    )


def everything(results: list[Tensor], leaves: list[Tensor], weights: list[Tensor]) -> list[Tensor]:
    """The results and all gradients of a loss on every output and the last states."""
    loss = sum(
        (result * weight.to(result.dtype)).sum()
        for result, weight in zip(results, weights, strict=True)
    )
    return [*(result.detach() for result in results), *torch.autograd.grad(loss, leaves)]  # type: ignore[arg-type]


def leaves(tensors: list[Tensor], dtype: torch.dtype) -> list[Tensor]:
    return [t.detach().to(dtype).clone().requires_grad_() for t in tensors]


def weights_for(tensors: list[Tensor]) -> list[Tensor]:
    (batch, steps, _), hidden = tensors[0].shape, tensors[4].shape[1]
    return [
        torch.randn(batch, steps, hidden) / 10,
        *(torch.randn(batch, hidden) for _ in tensors[4:]),
    ]


# --- what the kernels compute ---


# (T, H, B, I, checkpoint_every)
SIZES = [
    (1, 1, 1, 1, None),
    (2, 3, 2, 1, None),
    (7, 5, 3, 2, None),
    (40, 100, 16, 2, None),
    (33, 130, 70, 3, None),
    (31, 16, 65, 2, 7),
    (13, 33, 2, 40, 5),
    (400, 20, 4, 2, None),
    (20, 100, 33, 2, 1),
    (9, 15, 9, 2, 100),
]


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@every_kind
def test_outputs_and_gradients(
    kind: Kind, sizes: tuple[int, int, int, int, int | None], isa: str
) -> None:
    # With seed 0 one of 64,000 states is at a kink of modReLU, to which float32 and float64 come
    # from two sides.
    torch.manual_seed(1)
    *shape, every = sizes
    tensors = kind.inputs(*shape)  # type: ignore[arg-type]
    weights = weights_for(tensors)
    exact = leaves(tensors, torch.float64)
    expected = everything(kind.exact(exact), exact, weights)
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        given = leaves(tensors, torch.float32)
        results.append(everything(kind.run(given, checkpoint_every=every), given, weights))
    for actual, right in zip(results[0], expected, strict=True):
        assert relative_error(actual, right) <= TOLERANCE
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True)), (
        "bits depend on the number of threads"
    )


@every_kind
def test_checkpoints_change_no_bit(kind: Kind) -> None:
    tensors = kind.inputs(50, 20, 5, 2)
    weights = weights_for(tensors)
    kept, checkpointed = (
        everything(kind.run(given, checkpoint_every=every), given, weights)
        for given, every in (
            (leaves(tensors, torch.float32), None),
            (leaves(tensors, torch.float32), 7),
        )
    )
    assert all(torch.equal(a, b) for a, b in zip(kept, checkpointed, strict=True))


@every_kind
def test_the_last_output_alone_from_a_state_of_zeros(kind: Kind) -> None:
    x, *weights = kind.inputs(12, 9, 4, 2)[:4]
    y, (last, *_) = kind.layer(x, *weights, outputs=False, **dict(kind.constants))
    assert y is None
    zeros = [torch.zeros(4, 9, dtype=torch.float64)] * kind.states
    assert (
        relative_error(last, kind.exact([t.double() for t in (x, *weights)] + zeros)[1])
        <= TOLERANCE
    )


def test_without_a_bias() -> None:
    for kind in (KINDS["lem"], KINDS["cornn"], KINDS["slstm"]):
        x, w_ih, w_hh, bias, *state = kind.inputs(6, 5, 3, 2)
        y, _ = kind.layer(x, w_ih, w_hh, None, tuple(state), **dict(kind.constants))
        assert torch.equal(y, kind.run([x, w_ih, w_hh, torch.zeros_like(bias), *state])[0])


def test_the_stabiliser_of_the_slstm_holds_what_exp_cannot() -> None:
    x, w_ih, w_hh, bias, h = KINDS["slstm"].inputs(30, 17, 4, 2)
    for input_gate in (-300.0, 300.0):  # exp(300) is no float32
        shifted = bias.clone()
        shifted[:17] += input_gate
        tensors = [x, 100 * w_ih, w_hh, shifted, h]
        exact = KINDS["slstm"].exact([t.double() for t in tensors])[0]
        assert torch.allclose(KINDS["slstm"].run(tensors)[0].double(), exact, atol=2e-4)


def test_modrelu_is_zero_where_nothing_comes_in() -> None:
    """sign(0) is 0, whatever the offset, and the gradient there is zero."""
    offset = torch.tensor([0.5, -0.5], requires_grad=True)
    w_hh = torch.eye(2, requires_grad=True)
    y, _ = modrelu_rnn(torch.zeros(1, 3, 1), torch.ones(2, 1), w_hh, offset)
    y.sum().backward()  # type: ignore[union-attr]
    assert torch.equal(y, torch.zeros(1, 3, 2))
    assert torch.equal(offset.grad, torch.zeros(2))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@every_kind
def test_nan_and_infinity_stay_in_their_sequence(kind: Kind, bad: float, isa: str) -> None:
    tensors = kind.inputs(12, 18, 4, 2)
    clean = kind.run(tensors)[0]
    tensors[0][1, 5, 0] = bad
    y, right = kind.run(tensors)[0], kind.exact([t.double() for t in tensors])[0]
    assert torch.equal(y[[0, 2, 3]], clean[[0, 2, 3]])
    assert torch.equal(y[1, :5], clean[1, :5])
    assert torch.equal(y.isnan(), right.isnan())


@pytest.mark.parametrize("kind", [KINDS["lem"], KINDS["cornn"]], ids=["lem", "cornn"])
def test_gradients_beyond_an_infinite_input(kind: Kind, isa: str) -> None:
    """It saturates the gates: what comes after it, and the other sequences, have gradients."""
    tensors = kind.inputs(8, 18, 3, 2)
    tensors[0][1, 2, 0] = float("inf")
    found = []
    for run in (kind.run, kind.exact):
        given = leaves(tensors, torch.float32)
        found.append(torch.autograd.grad(run(given)[0].sum(), [given[0], *given[4:]]))
    for actual, right in zip(*found, strict=True):
        assert torch.equal(actual.isnan(), right.isnan())
        assert torch.allclose(actual.nan_to_num(), right.nan_to_num(), atol=1e-5)


# --- what they leave to PyTorch ---


@every_kind
def test_float64_is_pytorchs(kind: Kind) -> None:
    tensors = [t.double() for t in kind.inputs(8, 7, 3, 2)]
    for actual, right in zip(kind.run(tensors), kind.exact(tensors), strict=True):
        assert relative_error(actual, right) <= 1e-12


@every_kind
def test_second_derivatives(kind: Kind) -> None:
    """The gradient of a gradient's norm, as a gradient penalty takes it."""
    tensors = kind.inputs(7, 5, 4, 3)

    def penalty(
        run: Callable[[list[Tensor]], list[Tensor]], given: list[Tensor]
    ) -> tuple[Tensor, ...]:
        (gradient,) = torch.autograd.grad(run(given)[0].square().sum(), given[0], create_graph=True)
        return torch.autograd.grad(gradient.square().sum(), given)

    found = (
        penalty(kind.run, leaves(tensors, torch.float32)),
        penalty(kind.exact, leaves(tensors, torch.float64)),
    )
    for actual, right in zip(*found, strict=True):
        assert relative_error(actual, right) < 1e-5


@every_kind
def test_function_transforms(kind: Kind) -> None:
    tensors = kind.inputs(5, 4, 3, 2)
    gradient = torch.func.grad(lambda x: kind.run([x, *tensors[1:]])[0].sum())(tensors[0])
    exact = leaves(tensors, torch.float64)
    (expected,) = torch.autograd.grad(kind.exact(exact)[0].sum(), exact[0])
    assert relative_error(gradient, expected) < TOLERANCE


@every_kind
def test_autocast(kind: Kind) -> None:
    tensors = kind.inputs(8, 7, 3, 2)
    with torch.autocast("cpu", torch.bfloat16):
        y = kind.run(tensors)[0]
    assert torch.allclose(y.double(), kind.exact([t.double() for t in tensors])[0], atol=0.05)


@every_kind
def test_an_empty_batch(kind: Kind) -> None:
    x, *rest = kind.inputs(8, 7, 3, 2)[:4]
    y, (last, *_) = kind.layer(x[:0], *rest, **dict(kind.constants))
    assert (y.shape, last.shape) == ((0, 8, 7), (0, 7))


@every_kind
def test_wrong_arguments(kind: Kind) -> None:
    x, w_ih, w_hh, bias, *state = kind.inputs(5, 4, 3, 2)
    constants = dict(kind.constants)
    for arguments, message in [
        ((x[0], w_ih, w_hh, bias), r"x: expected \(B, T, I\)"),
        ((x[:, :0], w_ih, w_hh, bias), "x: expected"),
        ((x, w_ih[:, 1:], w_hh, bias), "w_ih: expected shape"),
        ((x, w_ih, w_hh[1:], bias), "w_hh: expected shape"),
        ((x, w_ih, w_hh, bias[1:]), "(bias|offset): expected shape"),
        (
            (x, w_ih, w_hh, bias, tuple(part[:2] for part in state)),
            r"[yh]0: expected shape \(3, 4\)",
        ),
    ]:
        with pytest.raises(ValueError, match=message):
            kind.layer(*arguments, **constants)
    with pytest.raises(ValueError, match="checkpoint_every"):
        kind.layer(x, w_ih, w_hh, bias, checkpoint_every=0, **constants)
