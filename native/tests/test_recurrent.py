"""The native layers against PyTorch's in float64.

Each in every build, with and without checkpoints, on one and two threads.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import Any

import pytest
import torch
from adding_problem_native import GRU, LSTM, RNN, _layer, _recurrent, lstm
from adding_problem_native._library import Kernels
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

TOLERANCE = 2e-6  # relative, in the 2-norm; float32 torch itself comes to 2e-6


def relative_error(actual: Tensor, expected: Tensor) -> float:
    return float(
        (actual.detach().double() - expected.detach()).norm()
        / expected.detach().norm().clamp_min(1e-30)
    )


# Ours, PyTorch's, and the arguments of both, by name.
KINDS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "lstm": (LSTM, nn.LSTM, {}),
    "gru": (GRU, nn.GRU, {}),
    "tanh": (RNN, nn.RNN, {}),
    "relu": (RNN, nn.RNN, {"nonlinearity": "relu"}),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def both(kind: str, *sizes: int, **options: Any) -> tuple[Any, Any]:
    """A native layer and the same in PyTorch."""
    our_class, their_class, arguments = KINDS[kind]
    ours = our_class(*sizes, **arguments, **options)
    theirs = their_class(
        *sizes, **arguments, **{k: v for k, v in options.items() if k != "checkpoint_every"}
    )
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def pair(kind: str, *sizes: int, **options: Any) -> tuple[Any, Any]:
    """A native layer and the same in float64 PyTorch, batch first."""
    ours, theirs = both(kind, *sizes, batch_first=True, **options)
    return ours, theirs.double()


def parts(state: Any) -> tuple[Tensor, ...]:
    """The tensors of a state: an LSTM's two, or one."""
    return state if isinstance(state, tuple) else (state,)


def joined(kind: str, states: list[Tensor]) -> Any:
    """The tensors of a state as a layer takes them."""
    return tuple(states) if kind == "lstm" else states[0]


def everything(module: nn.Module, x: Tensor, state: Any, weights: list[Tensor]) -> list[Tensor]:
    """Outputs and all gradients of a loss on every output and the final states."""
    dtype = next(module.parameters()).dtype
    x, *states = (t.detach().to(dtype).clone().requires_grad_() for t in (x, *parts(state)))
    y, final = module(x, tuple(states) if isinstance(state, tuple) else states[0])
    outputs = [y, *parts(final)]
    loss = sum((out * w.to(dtype)).sum() for out, w in zip(outputs, weights, strict=False))
    gradients = torch.autograd.grad(loss, [x, *states, *module.parameters()])  # type: ignore[arg-type]
    return [*(out.detach() for out in outputs), *gradients]


def inputs(
    kind: str, batch: int, steps: int, size: int, hidden: int, layers: int
) -> tuple[Tensor, Any, list[Tensor]]:
    state = joined(kind, [torch.randn(layers, batch, hidden) / 2 for _ in range(2)])
    weights = [
        torch.randn(batch, steps, hidden) / 10,
        torch.randn(layers, batch, hidden),
        torch.randn(layers, batch, hidden),
    ]
    return torch.rand(batch, steps, size), state, weights


# (T, H, B, I, layers, checkpoint_every)
SIZES = [
    (1, 1, 1, 1, 1, None),
    (2, 3, 2, 1, 1, None),
    (7, 5, 3, 2, 1, None),
    (40, 100, 16, 2, 1, None),
    (33, 130, 70, 3, 2, None),
    (31, 16, 65, 2, 1, 7),
    (64, 17, 5, 4, 2, 8),
    (13, 33, 2, 40, 1, 5),
    (1000, 20, 4, 2, 1, None),
    (1000, 20, 4, 2, 1, 32),
    (20, 100, 33, 2, 1, 1),
    (9, 15, 9, 2, 1, 100),
]


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize(
    ("kind", "forget_bias"), [("lstm", 0), ("lstm", 1), ("gru", 0), ("tanh", 0), ("relu", 0)]
)
def test_outputs_and_gradients(
    kind: str, forget_bias: int, sizes: tuple[Any, ...], isa: str
) -> None:
    steps, hidden, batch, size, layers, every = sizes
    ours, theirs = pair(kind, size, hidden, layers, checkpoint_every=every)
    with torch.no_grad():
        for module in (ours, theirs):
            for layer in range(layers if forget_bias else 0):
                getattr(module, f"bias_ih_l{layer}")[hidden : 2 * hidden] += forget_bias
    case = inputs(kind, batch, steps, size, hidden, layers)
    expected = everything(theirs, *case)
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        results.append(everything(ours, *case))
    for actual, right in zip(results[0], expected, strict=True):
        assert relative_error(actual, right) <= TOLERANCE
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True)), (
        "bits depend on the number of threads"
    )


@pytest.mark.parametrize(
    "kind", ["lstm", "gru", "tanh"]
)  # at a kink of ReLU float32 and float64 may go different ways
def test_100_units_over_1000_steps(kind: str) -> None:
    ours, theirs = pair(kind, 2, 100)
    case = inputs(kind, 16, 1000, 2, 100, 1)
    for actual, right in zip(everything(ours, *case), everything(theirs, *case), strict=True):
        assert relative_error(actual, right) <= TOLERANCE


@every_kind
def test_checkpoints_change_no_bit(kind: str) -> None:
    case = inputs(kind, 5, 50, 2, 20, 1)
    kept, _ = pair(kind, 2, 20)
    checkpointed, _ = pair(kind, 2, 20, checkpoint_every=7)
    checkpointed.load_state_dict(kept.state_dict())
    assert all(
        torch.equal(a, b)
        for a, b in zip(everything(kept, *case), everything(checkpointed, *case), strict=True)
    )


@every_kind
def test_a_loss_on_the_last_output(kind: str) -> None:
    ours, theirs = pair(kind, 2, 30)
    x = torch.rand(6, 25, 2)
    parts(ours.final_state(x))[0].square().sum().backward()
    theirs(x.double())[0][:, -1].square().sum().backward()
    for actual, right in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert relative_error(actual.grad, right.grad) <= TOLERANCE  # type: ignore[arg-type]


def test_final_state_makes_no_array_of_all_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    original = Tensor.new_empty

    def new_empty(self: Tensor, *size: Any, **options: Any) -> Tensor:
        result = original(self, *size, **options)
        made.append(result.numel())
        return result

    monkeypatch.setattr(Tensor, "new_empty", new_empty)
    LSTM(2, 8, batch_first=True).final_state(torch.rand(4, 100, 2))[0].sum().backward()
    assert max(made) < 4 * 100 * 8


@every_kind
def test_final_state_equals_forward(kind: str) -> None:
    module, _ = both(kind, 3, 7, 2)
    x = torch.rand(9, 4, 3)
    for a, b in zip(parts(module.final_state(x)), parts(module(x)[1]), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    "options", [{}, {"batch_first": True}, {"num_layers": 2}, {"bias": False}], ids=str
)
@pytest.mark.parametrize("batched", [True, False])
@every_kind
def test_shapes_are_torchs(kind: str, options: dict[str, Any], batched: bool) -> None:
    ours, theirs = both(kind, 3, 5, **options)
    x = torch.rand(6, 4, 3) if batched else torch.rand(6, 3)
    batch = [6 if "batch_first" in options else 4] if batched else []
    state = joined(kind, [torch.rand(options.get("num_layers", 1), *batch, 5) for _ in range(2)])
    for given in (None, state):
        (y, final), (right_y, right_final) = ours(x, given), theirs(x, given)
        for actual, right in zip((y, *parts(final)), (right_y, *parts(right_final)), strict=True):
            assert actual.shape == right.shape
            assert torch.allclose(actual, right, atol=1e-6)


def test_non_contiguous_inputs_states_and_gradients() -> None:
    ours, theirs = pair("lstm", 2, 6)
    wide = torch.rand(4, 10, 4)
    x = wide[:, :, ::2]
    assert not x.is_contiguous()
    state = (torch.rand(4, 1, 6).transpose(0, 1), torch.rand(4, 1, 6).transpose(0, 1))
    weights = [torch.rand(10, 4, 6).transpose(0, 1), torch.rand(1, 4, 6), torch.rand(1, 4, 6)]
    for actual, right in zip(
        everything(ours, x, state, weights), everything(theirs, x, state, weights), strict=True
    ):
        assert relative_error(actual, right) <= TOLERANCE
    y, _ = ours(x)
    y.sum().backward()  # an expanded gradient: all strides zero
    right_y, _ = theirs(x.double())
    right_y.sum().backward()
    assert relative_error(ours.weight_hh_l0.grad, theirs.weight_hh_l0.grad) <= TOLERANCE  # type: ignore[arg-type]


def test_two_forwards_before_a_backward() -> None:
    ours, theirs = pair("lstm", 2, 12)
    a, b = torch.rand(3, 20, 2), torch.rand(5, 11, 2)
    for module, dtype in ((ours, torch.float32), (theirs, torch.float64)):
        first, second = module(a.to(dtype))[0], module(b.to(dtype))[0]
        (first.square().sum() + second.sum()).backward()
    for actual, right in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert relative_error(actual.grad, right.grad) <= TOLERANCE  # type: ignore[arg-type]


def test_a_graph_kept_for_a_second_backward() -> None:
    module = LSTM(2, 5)
    loss = module(torch.rand(6, 3, 2))[0].sum()
    first = torch.autograd.grad(loss, list(module.parameters()), retain_graph=True)
    second = torch.autograd.grad(loss, list(module.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_several_threads_at_once() -> None:
    torch.set_num_threads(2)
    module = LSTM(2, 20, batch_first=True)
    x = torch.rand(64, 40, 2)  # blocks for two

    def gradients() -> tuple[Tensor, ...]:
        return torch.autograd.grad(module(x)[0].sum(), list(module.parameters()))

    expected = gradients()
    wrong: list[int] = []

    def work() -> None:
        for _ in range(20):
            if not all(torch.equal(a, b) for a, b in zip(gradients(), expected, strict=True)):
                wrong.append(1)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_under_torchs_own_checkpointing() -> None:
    module = LSTM(2, 9, batch_first=True)
    x = torch.rand(4, 15, 2, requires_grad=True)
    plain = torch.autograd.grad(module(x)[0].square().sum(), [x, *module.parameters()])
    y = checkpoint(lambda inner: module(inner)[0], x, use_reentrant=False)
    again = torch.autograd.grad(y.square().sum(), [x, *module.parameters()])  # type: ignore[union-attr]
    assert all(torch.equal(a, b) for a, b in zip(plain, again, strict=True))


def test_inference_keeps_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    module = LSTM(2, 9)
    x = torch.rand(5, 3, 2)
    trained, _ = module(x)
    monkeypatch.setattr(Kernels, "workspace", None)  # whoever keeps states fails
    with torch.no_grad():
        y, _ = module(x)
    assert y.grad_fn is None
    assert torch.equal(y, trained)
    with pytest.raises(TypeError, match="'NoneType' object is not callable"):
        module(x)


@every_kind
def test_frozen_parameters_get_no_gradient(kind: str) -> None:
    module, _ = both(kind, 2, 4)
    module.bias_hh_l0.requires_grad_(False)
    module(torch.rand(5, 3, 2))[0].sum().backward()
    assert module.bias_hh_l0.grad is None
    assert module.bias_ih_l0.grad is not None


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@every_kind
def test_nan_and_infinity_propagate_as_in_torch(kind: str, bad: float, isa: str) -> None:
    ours, theirs = both(kind, 2, 18, batch_first=True)
    x = torch.rand(4, 12, 2)
    x[1, 5, 0] = bad
    (y, final), (right_y, right_final) = ours(x), theirs(x)
    for actual, right in zip((y, *parts(final)), (right_y, *parts(right_final)), strict=True):
        assert torch.equal(actual.isnan(), right.isnan())
        assert torch.allclose(actual.nan_to_num(), right.nan_to_num(), atol=1e-6)
    assert y[1, :5].isfinite().all()
    assert torch.isfinite(y[[0, 2, 3]]).all()


@pytest.mark.parametrize("kind", ["lstm", "gru", "tanh"])
def test_gradients_beyond_an_infinite_input_are_torchs(kind: str, isa: str) -> None:
    """It saturates the gates: what comes after it, and the other sequences, have gradients."""
    ours, theirs = both(kind, 2, 18, batch_first=True)
    x = torch.rand(3, 8, 2)
    x[1, 2, 0] = float("inf")
    gradients = [
        torch.autograd.grad(module(leaf)[0].sum(), leaf)[0]
        for module, leaf in ((module, x.clone().requires_grad_()) for module in (ours, theirs))
    ]
    assert torch.equal(*(gradient.isnan() for gradient in gradients))
    assert torch.allclose(*(gradient.nan_to_num() for gradient in gradients), atol=1e-6)


@pytest.mark.parametrize("kind", ["lstm", "gru", "tanh"])
def test_large_inputs_saturate_as_in_torch(kind: str, isa: str) -> None:
    ours, theirs = pair(kind, 2, 10)
    x = torch.randn(3, 8, 2) * 1e4
    assert torch.allclose(ours(x)[0].double(), theirs(x.double())[0], atol=1e-6)


def test_denormal_gradients_vanish_without_harm() -> None:
    module = LSTM(2, 8, batch_first=True)
    x = torch.rand(2, 400, 2)
    y, _ = module(x)
    gradient = torch.zeros_like(y)
    gradient[:, -1] = 1e-38
    y.backward(gradient)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())
    assert (
        torch.tensor(1e-40).mul(1.0).item() > 0
    )  # the flush-to-zero of the kernels has not leaked out


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("lstm", {"proj_size": 3}),
        *(
            (kind, options)
            for kind in KINDS
            for options in ({"bidirectional": True}, {"dropout": 0.5, "num_layers": 2})
        ),
    ],
)
def test_what_the_kernels_do_not_do_is_torchs(kind: str, options: dict[str, Any]) -> None:
    ours, theirs = both(kind, 3, 5, **options)
    x = torch.rand(6, 4, 3)
    torch.manual_seed(7)
    actual = ours(x)
    torch.manual_seed(7)
    expected = theirs(x)
    assert torch.equal(actual[0], expected[0])
    last, right = parts(ours.eval().final_state(x))[0], parts(theirs.eval()(x)[1])[0]
    if "dropout" in options:  # which evaluation mode is without: the kernels do it
        torch.testing.assert_close(last, right)
    else:
        assert torch.equal(last, right)


@every_kind
def test_float64_and_packed_sequences_are_torchs(kind: str) -> None:
    ours, theirs = both(kind, 3, 5)
    x = torch.rand(6, 4, 3)
    packed = nn.utils.rnn.pack_padded_sequence(x, [6, 4, 2, 1])
    assert torch.equal(ours(packed)[0].data, theirs(packed)[0].data)
    assert torch.equal(ours.double()(x.double())[0], theirs.double()(x.double())[0])


@pytest.mark.parametrize(
    ("x", "state"),
    [
        (torch.rand(5, 3, 4), None),
        (torch.rand(7, 4), None),
        (torch.rand(7, 2), (torch.rand(1, 3), torch.rand(1, 3))),
        (torch.rand(7, 2), (torch.rand(1, 3, 6), torch.rand(1, 3, 6))),
        (torch.rand(7, 2), (torch.rand(2, 6), torch.rand(2, 6))),
        (torch.rand(5, 3, 2), (torch.rand(1, 9, 6), torch.rand(1, 9, 6))),
        (torch.rand(5, 3, 2), (torch.rand(2, 3, 6), torch.rand(2, 3, 6))),
        (torch.rand(2, 2, 2, 2), None),
    ],
)
@every_kind
def test_wrong_shapes_are_errors(kind: str, x: Tensor, state: Any) -> None:
    with pytest.raises((ValueError, RuntimeError), match=r"(?i)expect"):
        both(kind, 2, 6)[0](x, state and joined(kind, list(state)))


def test_wrong_arguments_of_the_function() -> None:
    w_ih, w_hh = torch.rand(8, 2), torch.rand(8, 2)
    x = torch.rand(3, 4, 2)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"x": x[0]}, r"x: expected \(B, T, I\)"),
        ({"x": x[:0]}, r"x: expected \(B, T, I\)"),
        ({"w_ih": w_ih[:4]}, r"w_ih: expected shape \(8, 2\)"),
        ({"bias": torch.rand(4)}, r"bias: expected shape \(8,\)"),
        ({"state": (torch.rand(2, 2), torch.rand(3, 2))}, r"h0: expected shape \(3, 2\)"),
        ({"x": x.double()}, "x: expected float32 on the CPU, found torch.float64"),
    ]
    for change, message in cases:
        with pytest.raises(ValueError, match=message):
            lstm(**({"x": x, "w_ih": w_ih, "w_hh": w_hh} | change))
    with pytest.raises(ValueError, match="checkpoint_every"):
        lstm(x, w_ih, w_hh, checkpoint_every=-1)
    with pytest.raises(ValueError, match="checkpoint_every"):
        LSTM(2, 3, checkpoint_every=0)


def test_an_unknown_build_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADDING_PROBLEM_NATIVE_ISA", "pentium")
    with pytest.raises(ValueError, match=r"expected one of .*generic.* found 'pentium'"):
        LSTM(2, 3)(torch.rand(2, 2, 2))


def test_a_long_sequence_in_little_memory() -> None:
    """Automatic checkpoints: T=200,000 at B=4, H=64 would keep 1.2 GB of states."""
    import resource

    module = LSTM(1, 64, batch_first=True)
    x = torch.rand(4, 200_000, 1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    module.final_state(x)[0].sum().backward()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024
    assert module.weight_hh_l0.grad.isfinite().all()  # type: ignore[union-attr]


def test_torchs_checkpointing_lets_go_of_the_states() -> None:
    """Under it a layer's states are dropped after the forward pass.

    Only tensors that autograd keeps can be dropped.
    """
    module = LSTM(4, 64, batch_first=True)
    kept: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        module(torch.rand(16, 100, 4))
    assert (
        max(kept) >= 16 * 100 * 64 * 6
    )  # the states of every step, all six of them, are in autograd's hands


@pytest.mark.parametrize("bias", [True, False])
@every_kind
def test_second_derivatives(kind: str, bias: bool) -> None:
    """The gradient of a gradient's norm, as a gradient penalty takes it, against float64 torch."""
    ours, theirs = pair(kind, 3, 5, bias=bias)
    x = torch.rand(4, 7, 3)

    def penalty(module: nn.Module, x: Tensor) -> list[Tensor]:
        x = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(module(x)[0].square().sum(), x, create_graph=True)
        return list(torch.autograd.grad(gradient.square().sum(), [x, *module.parameters()]))

    for actual, expected in zip(penalty(ours, x), penalty(theirs, x.double()), strict=True):
        assert relative_error(actual, expected) < 1e-5


@every_kind
def test_second_derivatives_of_strided_inputs_and_of_states_made_from_them(kind: str) -> None:
    ours, theirs = pair(kind, 2, 4)

    def penalty(module: nn.Module, x: Tensor) -> list[Tensor]:
        x = x.transpose(1, 2).requires_grad_()
        state = x[None, :, :4, 0]
        (gradient,) = torch.autograd.grad(
            module(x, joined(kind, [state, state.tanh()]))[0].square().sum(), x, create_graph=True
        )
        return [
            gradient.detach(),
            *torch.autograd.grad(gradient.square().sum(), [x, *module.parameters()]),
        ]

    x = torch.rand(3, 2, 5)
    for actual, expected in zip(penalty(ours, x), penalty(theirs, x.double()), strict=True):
        assert relative_error(actual, expected) < 1e-5


@every_kind
def test_function_transforms_are_torchs(kind: str) -> None:
    ours, theirs = pair(kind, 2, 4)
    x = torch.rand(5, 6, 2)
    gradient = torch.func.grad(lambda one: ours(one)[0].sum())(x)
    exact = x.double().requires_grad_()
    (expected,) = torch.autograd.grad(theirs(exact)[0].sum(), exact)
    assert relative_error(gradient, expected) < TOLERANCE


@every_kind
def test_weights_put_in_their_places_for_a_call(kind: str) -> None:
    ours, theirs = both(kind, 3, 4, 2)
    x = torch.rand(6, 2, 3)
    others = {name: torch.rand_like(parameter) for name, parameter in ours.named_parameters()}
    assert torch.allclose(
        *(torch.func.functional_call(module, others, (x,))[0] for module in (ours, theirs)),
        atol=1e-6,
    )
    with pytest.raises(ValueError, match="dtype"):
        torch.func.functional_call(
            ours, {name: tensor.double() for name, tensor in others.items()}, (x,)
        )


def test_a_forked_child_computes_too() -> None:
    """OpenMP's threads stay in the parent; a child that waited for them would wait for ever.

    (Autograd does not fork.)
    """
    program = """
import os, signal, torch
from adding_problem_native import LSTM
torch.set_num_threads(2)
torch.set_grad_enabled(False)
module, x = LSTM(2, 16, batch_first=True), torch.rand(64, 50, 2)
expected = module.final_state(x)[0]
child = os.fork()
if child == 0:
    signal.alarm(20)
    os._exit(0 if torch.equal(module.final_state(x)[0], expected) else 1)
assert os.waitpid(child, 0)[1] == 0
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_the_memory_budget_counts_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """One cell of one sequence is kept as whole vectors and blocks, many times its own size."""
    monkeypatch.setattr("adding_problem_native._layer.MEMORY_BUDGET", 1 << 20)
    kept: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(4 * tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        LSTM(1, 1, batch_first=True)(torch.rand(1, 20_000, 1))
    assert max(kept) <= 1 << 20


# --- which of the two computes ---


def runs_on_kernels(module: nn.Module, x: Tensor) -> bool:
    return type(module(x)[0].grad_fn).__name__ == "_LayerBackward"


@pytest.mark.parametrize("intel", [True, False])
@pytest.mark.parametrize(
    ("kind", "sizes", "options", "faster"),
    [
        ("lstm", (2, 320), {}, ()),
        ("lstm", (2, 384), {}, (True,)),
        ("lstm", (256, 256), {}, (True,)),
        ("lstm", (512, 128), {}, ()),
        ("lstm", (512, 192), {}, (True,)),
        ("lstm", (2, 300, 2), {}, (True,)),
        ("lstm", (2, 600), {}, (True,)),
        ("lstm", (2, 640), {}, (True, False)),
        ("lstm", (2, 640), {"checkpoint_every": 2}, ()),
        ("gru", (2, 640), {}, ()),
    ],
)
def test_pytorch_computes_a_wide_lstm_where_it_is_faster(
    kind: str,
    sizes: tuple[int, ...],
    options: dict[str, Any],
    faster: tuple[bool, ...],
    intel: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_recurrent, "processor_is_intel", lambda: intel)
    ours, theirs = pair(kind, *sizes, **options)
    x = torch.rand(2, 4, sizes[0])
    assert runs_on_kernels(ours, x) is (intel not in faster)
    assert relative_error(ours(x)[0], theirs(x.double())[0]) < TOLERANCE


def test_the_kernels_compute_a_wide_lstm_whose_states_do_not_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_recurrent, "processor_is_intel", lambda: True)
    monkeypatch.setattr(_layer, "MEMORY_BUDGET", 10_000)
    assert runs_on_kernels(LSTM(2, 384, batch_first=True), torch.rand(2, 4, 2))
