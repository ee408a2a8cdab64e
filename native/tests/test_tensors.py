"""Every entry of the package on every kind of tensor, against float64 on PyTorch's own operations.

Also under whatever PyTorch does beside computing: tracing, compiling, functional transforms.
"""

from __future__ import annotations

import ctypes
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from adding_problem_native import (
    GRU,
    LSTM,
    RNN,
    _library,
    cornn,
    lem,
    linear_scan,
    linear_scan_reference,
    lstm,
    modrelu_rnn,
    relu_scan,
    relu_scan_reference,
    slstm,
)
from adding_problem_native._layer import CELLS
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.flop_counter import FlopCounterMode

# Of a tensor's largest number, or of 1 where all are smaller; a wrong sign is an error of about 1.
TOLERANCE = 1e-5
B, T, SIZE, H = 3, 4, 2, 5

Function = Callable[..., list[Tensor]]
"""Tensors -> outputs and last states."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """A layer or scan as a function of all its tensors, and the shapes of these.

    `plain` is the same function on PyTorch's operations.
    """

    ours: Function
    plain: Function
    shapes: tuple[tuple[int, ...], ...]

    def tensors(self, dtype: torch.dtype = torch.float32) -> list[Tensor]:
        torch.manual_seed(3)
        return [(torch.randn(shape) / 2).to(dtype) for shape in self.shapes]


def flat(results: Any) -> list[Tensor]:
    """The tensors of nested tuples and lists."""
    if isinstance(results, Tensor):
        return [results]
    return [] if results is None else [tensor for part in results for tensor in flat(part)]


def of_module(ours: type[nn.RNNBase], theirs: type[nn.RNNBase], **options: Any) -> Entry:
    states = 2 if ours is LSTM else 1
    named = dict(ours(SIZE, H, batch_first=True, **options).named_parameters())

    def function(module: nn.RNNBase) -> Function:
        def call(x: Tensor, *tensors: Tensor) -> list[Tensor]:
            state = tensors[:states] if states == 2 else tensors[0]
            return flat(
                torch.func.functional_call(
                    module, dict(zip(named, tensors[states:], strict=True)), (x, state)
                )
            )

        return call

    shapes = (
        (B, T, SIZE),
        *[(1, B, H)] * states,
        *(tuple(parameter.shape) for parameter in named.values()),
    )
    return Entry(
        function(ours(SIZE, H, batch_first=True, **options)),
        function(theirs(SIZE, H, batch_first=True, **options).double()),
        shapes,
    )


def of_function(
    function: Callable[..., Any], gates: tuple[int, int, int, int], states: int, **constants: float
) -> Entry:
    """Of a layer whose own loop in PyTorch tests/test_cells.py compares with its equations."""
    w, u, columns, bias = gates

    def call(x: Tensor, *tensors: Tensor) -> list[Tensor]:
        return flat(function(x, *tensors[:3], tensors[3:], **constants))

    return Entry(
        call,
        call,
        ((B, T, SIZE), (w * H, SIZE), (u * H, columns * H), (bias * H,), *[(B, H)] * states),
    )


def plain_lstm(x: Tensor, *tensors: Tensor) -> list[Tensor]:
    return list(CELLS["LSTM"].plain(x, *tensors))


def of_scan(
    scan: Callable[..., Tensor], reference: Callable[..., Tensor], *shapes: tuple[int, ...]
) -> Entry:
    return Entry(lambda *tensors: [scan(*tensors)], lambda *tensors: [reference(*tensors)], shapes)


MODULES = {
    "LSTM": of_module(LSTM, nn.LSTM),
    "GRU": of_module(GRU, nn.GRU),
    "RNN": of_module(RNN, nn.RNN),
    "RNN, ReLU": of_module(RNN, nn.RNN, nonlinearity="relu"),
}
FUNCTIONS = {
    "lem": of_function(lem, (4, 4, 1, 4), 2, dt=0.7),
    "cornn": of_function(cornn, (1, 1, 2, 1), 2, dt=0.3, gamma=1.2, epsilon=2.0),
    "slstm": of_function(slstm, (4, 4, 1, 4), 1),
    "modrelu_rnn": of_function(modrelu_rnn, (1, 1, 1, 1), 1),
    "linear_scan": of_scan(linear_scan, linear_scan_reference, (B, T, H), (B, T, H), (B, H)),
    "linear_scan, constant": of_scan(linear_scan, linear_scan_reference, (H,), (B, T, H)),
    "relu_scan": of_scan(relu_scan, relu_scan_reference, (B, T, H), (B, T, H), (B, H)),
}
LSTM_FUNCTION = dataclasses.replace(of_function(lstm, (4, 4, 1, 4), 2), plain=plain_lstm)
ENTRIES = MODULES | FUNCTIONS | {"lstm": LSTM_FUNCTION}


def over(entries: dict[str, Entry], *without: str) -> Any:
    chosen = {name: entry for name, entry in entries.items() if name not in without}
    return pytest.mark.parametrize("entry", chosen.values(), ids=chosen)


def assert_same(actual: list[Tensor], expected: list[Tensor]) -> None:
    for ours, right in zip(actual, expected, strict=True):
        assert ours.shape == right.shape
        assert (ours.double() - right).abs().max() <= TOLERANCE * right.abs().max().clamp_min(1)


def compare(entry: Entry, scenario: Callable[[Function, list[Tensor]], Any]) -> None:
    """The same for our function in float32 and the plain one in float64."""
    assert_same(
        flat(scenario(entry.ours, entry.tensors())),
        flat(scenario(entry.plain, entry.tensors(torch.float64))),
    )


def leaves(tensors: list[Tensor]) -> list[Tensor]:
    return [tensor.clone().requires_grad_() for tensor in tensors]


def first(function: Function) -> Callable[..., Tensor]:
    return lambda *tensors: function(*tensors)[0]


# --- kinds of tensors ---

# Tensors of the same shape, made of a tensor by operations that autograd knows.
FORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "lazily negated": torch._neg_view,
    "the imaginary part of a lazy conjugate": lambda t: torch.complex(t, 2 * t).conj().imag,
    "every second number": lambda t: torch.stack([t, 2 * t], dim=-1)[..., 1],
    "negated, and each a column": lambda t: torch._neg_view(torch.stack([t, t], dim=-1))[..., 0],
    "last dimension first": lambda t: t.movedim(-1, 0).contiguous().movedim(0, -1),
    "first dimension last": lambda t: t.movedim(0, -1).contiguous().movedim(-1, 0),
    "one number": lambda t: t.flatten()[:1].expand(t.shape),
    "one row": lambda t: t[:1].expand(t.shape),
    "one column": lambda t: t[..., :1].expand(t.shape),
    "overlapping": lambda t: t.flatten()[: sum(t.shape)].as_strided(t.shape, (1,) * t.dim()),
    "unaligned": lambda t: torch.cat([t.new_zeros(1), t.flatten()])[1:].view(t.shape),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@over(ENTRIES)
def test_every_form_of_inputs_weights_states_and_gradients(
    entry: Entry, form: Callable[[Tensor], Tensor]
) -> None:
    def everything(function: Function, tensors: list[Tensor]) -> list[Tensor]:
        given = leaves(tensors)
        outputs = function(*map(form, given))
        torch.manual_seed(4)
        weights = [form(torch.randn(out.shape).to(out.dtype)) for out in outputs]
        return [*(out.detach() for out in outputs), *torch.autograd.grad(outputs, given, weights)]

    compare(entry, everything)


@over(ENTRIES)
def test_second_derivatives_through_a_lazy_negation(entry: Entry) -> None:
    def penalty(function: Function, tensors: list[Tensor]) -> list[Tensor]:
        given = leaves(tensors)
        gradients = torch.autograd.grad(
            function(*map(torch._neg_view, given))[0].square().sum(), given, create_graph=True
        )
        return list(
            torch.autograd.grad(sum(gradient.square().sum() for gradient in gradients), given)
        )  # type: ignore[arg-type]

    compare(entry, penalty)


def test_one_input_column_of_a_complex_signal() -> None:
    """Its imaginary part is contiguous for one column, so that no copy takes the negation away."""
    ours, theirs = LSTM(1, 4, batch_first=True), nn.LSTM(1, 4, batch_first=True)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(3, 5, 1, dtype=torch.complex64).conj().imag
    assert x.is_neg()
    assert_same([ours(x)[0]], [theirs.double()(x.double())[0]])


@over(ENTRIES)
def test_zeros_that_are_stored_nowhere(entry: Entry) -> None:
    """Forward-mode differentiation makes them."""
    given = leaves(entry.tensors())
    outputs = entry.ours(*given)
    gradients = torch.autograd.grad(
        outputs, given, [torch._efficientzerotensor(out.shape) for out in outputs]
    )
    assert_same(list(gradients), [torch.zeros_like(t) for t in entry.tensors()])
    x, *rest = entry.tensors()
    exact = entry.tensors(torch.float64)
    assert_same(
        entry.ours(torch._efficientzerotensor(x.shape), *rest),
        entry.plain(torch.zeros_like(exact[0]), *exact[1:]),
    )


@over(ENTRIES)
def test_a_subclass_and_a_wrapper_beyond_its_transform(entry: Entry) -> None:
    class Own(Tensor):
        pass

    def call(function: Function, tensors: list[Tensor]) -> list[Tensor]:
        kept: list[Tensor] = []

        def keep(x: Tensor) -> Tensor:
            kept.append(x * 1)
            return x.sum()

        torch.func.grad(keep)(tensors[0])
        own = function(tensors[0].as_subclass(Own), *tensors[1:])
        return [*(out.as_subclass(Tensor) for out in own), *function(kept[0], *tensors[1:])]

    compare(entry, call)


HOOKS: dict[str, Callable[[Tensor], Tensor]] = {
    "negated": lambda t: torch._neg_view(-t),
    "strided": lambda t: torch.stack([t, t], dim=-1)[..., 0],
    "parameter": nn.Parameter,
}


@pytest.mark.parametrize("unpack", HOOKS.values(), ids=HOOKS)
@over(FUNCTIONS | {"lstm": LSTM_FUNCTION})
def test_saved_tensors_may_come_back_in_another_form(
    entry: Entry, unpack: Callable[[Tensor], Tensor]
) -> None:
    given = leaves(entry.tensors())
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t.detach().clone(), unpack):
        outputs = entry.ours(*given)
    exact = leaves(entry.tensors(torch.float64))
    assert_same(
        list(torch.autograd.grad(outputs[0].sum(), given)),
        list(torch.autograd.grad(entry.plain(*exact)[0].sum(), exact)),
    )


@over(FUNCTIONS | {"lstm": LSTM_FUNCTION})
def test_saved_tensors_of_another_shape_are_an_error(entry: Entry) -> None:
    """What the kernels would read beyond the end of them is not theirs."""
    given = leaves(entry.tensors())
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t[:1]):
        y = entry.ours(*given)[0]
    with pytest.raises((RuntimeError, ValueError), match="expected"):
        torch.autograd.grad(y.sum(), given)


@over(ENTRIES)
def test_inputs_and_states_of_the_inference_mode(entry: Entry) -> None:
    """The kernels train on them, which PyTorch's layers do only where they happen to copy them."""
    tensors = entry.tensors()
    weights = leaves(tensors[1:])
    with torch.inference_mode():
        x = tensors[0].clone()
        y = entry.ours(*tensors)[0].clone()
    exact = leaves(entry.tensors(torch.float64))
    right = entry.plain(*exact)[0]
    assert_same([y], [right])
    assert_same(
        list(torch.autograd.grad(entry.ours(x, *weights)[0].sum(), weights)),
        list(torch.autograd.grad(right.sum(), exact[1:])),
    )
    with torch.no_grad():
        assert_same([entry.ours(x, *weights)[0]], [right])


# --- derivatives of all kinds ---


def jacobian(function: Function, tensors: list[Tensor]) -> Any:
    return torch.autograd.functional.jacobian(
        lambda *t: function(*t)[0].sum(1), tuple(tensors), vectorize=True
    )


def batched_gradients(function: Function, tensors: list[Tensor]) -> Any:
    given = leaves(tensors)
    y = function(*given)[0]
    return torch.autograd.grad(
        y, given, torch.stack([torch.ones_like(y), 2 * y.detach()]), is_grads_batched=True
    )


def hessian(function: Function, tensors: list[Tensor]) -> Any:
    of_first = lambda t: function(t, *tensors[1:])[0].square().sum()  # noqa: E731
    return torch.autograd.functional.hessian(of_first, tensors[0], vectorize=True)


@pytest.mark.parametrize("scenario", [jacobian, batched_gradients, hessian])
@over(ENTRIES)
def test_vectorised_backward_passes(
    entry: Entry, scenario: Callable[[Function, list[Tensor]], Any]
) -> None:
    compare(entry, scenario)


def forward_mode(function: Function, tensors: list[Tensor]) -> Any:
    with forward_ad.dual_level():
        return forward_ad.unpack_dual(
            function(*(forward_ad.make_dual(t, torch.ones_like(t)) for t in tensors))[0]
        )


def forward_mode_of_one_weight(function: Function, tensors: list[Tensor]) -> Any:
    with forward_ad.dual_level():
        *rest, last = tensors
        return forward_ad.unpack_dual(
            function(*rest, forward_ad.make_dual(last, torch.ones_like(last)))[0]
        )


def forward_over_reverse(function: Function, tensors: list[Tensor]) -> Any:
    with forward_ad.dual_level():
        given = [forward_ad.make_dual(t, torch.ones_like(t)) for t in leaves(tensors)]
        return [
            forward_ad.unpack_dual(g)
            for g in torch.autograd.grad(function(*given)[0].square().sum(), given)
        ]


def forward_of_a_gradient(function: Function, tensors: list[Tensor]) -> Any:
    given = leaves(tensors)
    y = function(*given)[0]
    with forward_ad.dual_level():
        gradients = torch.autograd.grad(
            y, given, forward_ad.make_dual(torch.ones_like(y), torch.full_like(y, 2.0))
        )
        return [forward_ad.unpack_dual(gradient) for gradient in gradients]


@pytest.mark.parametrize(
    "scenario",
    [forward_mode, forward_mode_of_one_weight, forward_over_reverse, forward_of_a_gradient],
)
@over(ENTRIES, "LSTM", "lstm")  # PyTorch has none of its own LSTM in float32
def test_forward_mode(entry: Entry, scenario: Callable[[Function, list[Tensor]], Any]) -> None:
    compare(entry, scenario)


@over(FUNCTIONS)  # PyTorch has none of its layers
def test_vmap(entry: Entry) -> None:
    def mapped(function: Function, tensors: list[Tensor]) -> Any:
        gradients = torch.func.grad(
            lambda *t: function(*t)[0].sum(), argnums=tuple(range(len(tensors)))
        )
        stacked = [torch.stack([t, 2 * t]) for t in tensors]
        return [torch.func.vmap(first(function))(*stacked), *torch.func.vmap(gradients)(*stacked)]

    compare(entry, mapped)


# --- tracers, compilers, modes ---


class Module(nn.Module):
    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, *tensors: Tensor) -> list[Tensor]:
        return self.function(*tensors)


def exported(function: Function, tensors: list[Tensor]) -> Any:
    return torch.export.export(Module(function), tuple(tensors)).module()(*(2 * t for t in tensors))


def compiled(function: Function, tensors: list[Tensor]) -> Any:
    torch._dynamo.reset()
    given = leaves(tensors)
    y = torch.compile(first(function), backend="eager", fullgraph=True)(*given)
    return [y.detach(), *torch.autograd.grad(y.sum(), given)]


def traced(function: Function, tensors: list[Tensor]) -> Any:
    return torch.jit.trace(first(function), tuple(tensors), check_trace=False)(
        *(2 * t for t in tensors)
    )


def made_by_fx(function: Function, tensors: list[Tensor]) -> Any:
    return make_fx(first(function))(*tensors)(*(2 * t for t in tensors))


RECORDED = FUNCTIONS | {"lstm": LSTM_FUNCTION}


@pytest.mark.filterwarnings("ignore")  # PyTorch's own, of what it is to drop
@pytest.mark.parametrize(
    ("scenario", "entry"),
    [
        *((scenario, entry) for scenario in (traced, made_by_fx) for entry in RECORDED.values()),
        *(
            (scenario, RECORDED[name])
            for scenario in (exported, compiled)
            for name in ("linear_scan", "lstm", "modrelu_rnn")
        ),  # seconds each
    ],
)
def test_what_records_operations_sees_them(
    scenario: Callable[[Function, list[Tensor]], Any], entry: Entry
) -> None:
    """A kernel among them would be a hole in the record.

    It would hold whatever was in its output's memory at the time.
    """
    compare(entry, scenario)


PAIRS = [
    (LSTM, nn.LSTM, {}),
    (GRU, nn.GRU, {}),
    (RNN, nn.RNN, {}),
    (RNN, nn.RNN, {"nonlinearity": "relu"}),
]
every_pair = pytest.mark.parametrize(("ours", "theirs", "options"), PAIRS, ids=MODULES)


@pytest.mark.filterwarnings("ignore")
@every_pair
def test_modules_record_as_torchs_do(ours: Any, theirs: Any, options: dict[str, Any]) -> None:
    module, right = (kind(SIZE, H, 2, batch_first=True, **options) for kind in (ours, theirs))
    right.load_state_dict(module.state_dict())
    x = torch.randn(B, T, SIZE)
    expected = flat(right.double()((2 * x).double()))
    records = {
        "torch.jit.script": torch.jit.script(nn.Sequential(module)),
        "torch.jit.trace": torch.jit.trace(module, (x,), check_trace=False),
        "torch.export": torch.export.export(module, (x,)).module(),
        "torch.fx": torch.fx.symbolic_trace(nn.Sequential(module)),
        "make_fx": make_fx(module)(x),
    }
    for record in records.values():
        assert_same(flat(record(2 * x)), expected)
    assert any(node.op == "call_module" for node in records["torch.fx"].graph.nodes), (
        "a leaf, as PyTorch's is"
    )


@pytest.mark.filterwarnings("ignore")
@every_pair
def test_scripted_modules_train_the_same_parameters(
    ours: Any, theirs: Any, options: dict[str, Any]
) -> None:
    module = ours(SIZE, H, batch_first=True, **options)
    scripted = torch.jit.script(nn.Sequential(module))
    scripted(torch.randn(B, T, SIZE))[0].sum().backward()
    assert module.weight_hh_l0.grad is not None
    assert type(module) is ours


def test_operations_are_counted() -> None:
    counts = []
    for kind in (GRU, nn.GRU):
        with FlopCounterMode(display=False) as counter:
            kind(SIZE, H, batch_first=True)(torch.randn(B, T, SIZE))[0].sum().backward()
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] > 0


def test_fake_tensors_are_given_no_memory() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    x, module = torch.randn(B, T, SIZE), LSTM(SIZE, H, batch_first=True)
    a = torch.rand(B, T, H)
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert module(x)[0].shape == (B, T, H)
        assert linear_scan(a, a).shape == (B, T, H)


@over(ENTRIES)
def test_another_default_device(entry: Entry) -> None:
    given = leaves(entry.tensors())
    with torch.device("meta"):
        gradients = torch.autograd.grad(entry.ours(*given)[0].sum(), given)
    exact = leaves(entry.tensors(torch.float64))
    assert_same(list(gradients), list(torch.autograd.grad(entry.plain(*exact)[0].sum(), exact)))


# --- the interface to the compiled kernels ---


def test_kernels_of_other_sources_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_library, "_VERSION", "1")
    with pytest.raises(
        ImportError, match=r"built for another version.*expected interface 1, found .*install the"
    ):
        _library._open.__wrapped__("generic")


def test_kernels_that_do_not_say_what_they_are_are_refused() -> None:
    with pytest.raises(ImportError, match="found none"):
        _library._described(ctypes.CDLL(None), Path("kernels_generic.so"))


def test_a_field_that_the_kernels_lack_cannot_be_set() -> None:
    """They would read whatever else is there."""
    call = _library.library().layer_call(batch=3)
    with pytest.raises(AttributeError):
        call.batches = 3
    with pytest.raises(AttributeError):
        _library.library().scan_call(segments=3)


def test_a_call_that_makes_no_sense_is_an_error_that_says_so() -> None:
    kernels = _library.library()
    with pytest.raises(RuntimeError, match="features: expected at least 1, found 0"):
        kernels.run("scan_forward", kernels.scan_call(batch=1, steps=1))
    with pytest.raises(RuntimeError, match="batch: expected at least 1, found 0"):
        kernels.run("layer_forward", kernels.layer_call())
    sizes = {"batch": 1, "steps": 1, "inputs": 1, "hidden": 1, "segment": 1, "block": 4}
    with pytest.raises(RuntimeError, match="cell: the kernels have none of the number 99"):
        kernels.run("layer_forward", kernels.layer_call(cell=99, **sizes))
