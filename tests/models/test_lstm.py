"""The LSTM against float64 equations and the original's weights; its initialisations."""

from __future__ import annotations

import importlib
import math
import re

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from adding_problem import models
from adding_problem.config import ModelConfig
from adding_problem.models import AddingLSTM, build_model
from adding_problem.models.gru import AddingGRU
from adding_problem.system.threads import cpu_settings
from adding_problem.task.sampling import sample_batch
from tests.conftest import REPOSITORY
from tests.helpers import reference
from tests.helpers.training import needs_native

FIXTURE = REPOSITORY / "tests" / "data" / "original_t150.npz"  # made by make_original_t150.py


@pytest.mark.parametrize(("hidden", "length", "batch"), [(1, 2, 1), (7, 30, 5), (100, 60, 3)])
@pytest.mark.parametrize("init", ["keras", "torch"])
def test_outputs_equal_the_equations(hidden: int, length: int, batch: int, init: str) -> None:
    model = AddingLSTM(hidden, init=init, seed=3)  # type: ignore[arg-type]
    x, _ = sample_batch(batch, length, seed=0)
    expected, _ = reference.forward(
        reference.weights_of(model.state_dict()), x.numpy().astype(np.float64)
    )
    actual = model(x).detach().numpy()
    assert actual.shape == (batch, 1)
    assert np.linalg.norm(actual - expected) <= 1e-6 * np.linalg.norm(expected)


def test_the_originals_weights_give_the_originals_predictions() -> None:
    """Equal to float64 equations within 1e-6, and to what TensorFlow made of the same weights."""
    with np.load(FIXTURE, allow_pickle=False) as stored:
        x, tensorflow = stored["x"], stored["prediction"]
        weights = {
            name: stored[name].astype(np.float64)
            for name in stored.files
            if name not in ("x", "prediction")
        }
    model = AddingLSTM(100)
    state = {
        "lstm.weight_ih_l0": weights["kernel"].T,
        "lstm.weight_hh_l0": weights["recurrent"].T,
        "lstm.bias_ih_l0": weights["bias"],
        "lstm.bias_hh_l0": np.zeros(400),
        "readout.weight": weights["readout"].T,
        "readout.bias": weights["readout_bias"],
    }
    model.load_state_dict(
        {name: torch.tensor(array, dtype=torch.float32) for name, array in state.items()}
    )
    actual = model(torch.from_numpy(x)).detach().numpy()
    expected, _ = reference.forward(weights, x.astype(np.float64))
    assert np.linalg.norm(actual - expected) <= 1e-6 * np.linalg.norm(expected)
    assert np.linalg.norm(tensorflow - expected) <= 1e-6 * np.linalg.norm(expected)
    target = (x[:, :, 0] * x[:, :, 1]).sum(axis=1)
    assert np.mean((actual[:, 0] - target) ** 2) < 1e-3  # it was a solved model


def test_keras_initialisation() -> None:
    hidden = 100
    model = build_model(ModelConfig(hidden=hidden), seed=0)
    kernel, recurrent, bias, second_bias = (p.detach().double() for p in model.lstm.parameters())
    limit = math.sqrt(6 / (2 + 4 * hidden))
    assert stats.kstest(kernel.numpy().ravel(), stats.uniform(-limit, 2 * limit).cdf).pvalue > 1e-4
    assert torch.allclose(
        recurrent.T @ recurrent, torch.eye(hidden, dtype=torch.float64), atol=1e-5
    )
    assert bias.tolist() == [0.0] * hidden + [1.0] * hidden + [0.0] * (2 * hidden)
    assert not second_bias.any()
    readout_limit = math.sqrt(6 / (hidden + 1))
    readout = model.readout.weight.detach().numpy().ravel()
    assert stats.kstest(readout, stats.uniform(-readout_limit, 2 * readout_limit).cdf).pvalue > 1e-4
    assert model.readout.bias.tolist() == [0.0]


def test_keras_counts_one_bias_vector() -> None:
    trained = [p for p in build_model(ModelConfig()).parameters() if p.requires_grad]
    assert sum(p.numel() for p in trained) == 4 * 100 * (2 + 100 + 1) + 101


def test_torch_initialisation() -> None:
    model = build_model(ModelConfig(hidden=50, init="torch"), seed=0)
    values = torch.cat([p.detach().ravel() for p in model.parameters()]).numpy()
    limit = 1 / math.sqrt(50)
    assert stats.kstest(values, stats.uniform(-limit, 2 * limit).cdf).pvalue > 1e-4
    assert all(p.requires_grad for p in model.parameters())


def test_long_initialisation() -> None:
    hidden, length = 400, 1000
    model = build_model(ModelConfig(hidden=hidden, init="long"), seed=0, length=length)
    kernel, recurrent, bias, _ = (p.detach().double() for p in model.lstm.parameters())
    assert (
        stats.kstest(
            bias[hidden : 2 * hidden].exp().numpy(), stats.uniform(1, length - 2).cdf
        ).pvalue
        > 1e-4
    )
    assert not bias[:hidden].any()
    assert not bias[2 * hidden :].any()
    gram = recurrent.T @ recurrent
    assert torch.allclose(gram, gram[0, 0] * torch.eye(hidden, dtype=torch.float64), atol=1e-5)
    assert gram[0, 0] < 1
    assert kernel.abs().max() <= 0.1
    trained = [p for p in model.parameters() if p.requires_grad]
    assert sum(p.numel() for p in trained) == 4 * hidden * (hidden + 3) + hidden + 1


def test_oracle_initialisation() -> None:
    hidden, length = 400, 1000
    model = build_model(ModelConfig(hidden=hidden, init="oracle"), seed=0, length=length)
    kernel, _, bias, _ = (p.detach().double() for p in model.lstm.parameters())
    scale = math.log(length)
    assert bias[:hidden].tolist() == pytest.approx([-scale] * hidden)
    marks = kernel[:hidden, 1].numpy()
    assert stats.kstest(marks, stats.uniform(-2 * scale, 4 * scale).cdf).pvalue > 1e-4
    kernel[:hidden, 1] = 0
    assert kernel.abs().max() <= 0.1  # all but the input gate's mark weights
    assert (
        stats.kstest(
            bias[hidden : 2 * hidden].exp().numpy(), stats.uniform(1, length - 2).cdf
        ).pvalue
        > 1e-4
    )


def test_the_oracle_keeps_what_was_marked_whatever_follows() -> None:
    """Cells hold a mark over 10,000 steps without one; the same cells of `long` do not."""
    x = torch.zeros(2, 10_000, 2)
    x[:, 1:, 0] = torch.rand(2, 9_999, generator=torch.Generator().manual_seed(0))
    x[:, 0] = torch.tensor([[0.2, 1.0], [0.9, 1.0]])
    lost = {}
    for init in ("long", "oracle"):
        lstm = build_model(ModelConfig(init=init, memory=10**9), seed=0).lstm
        with torch.no_grad(), cpu_settings(1):
            cells = lstm(x[:, :1])[1][1], lstm(x)[1][1]
        lost[init] = float((cells[1] - cells[0]).norm() / cells[0].norm())
    assert lost["oracle"] < 0.1
    assert lost["long"] > 1


@pytest.mark.parametrize("backend", ["torch", "native"])
@pytest.mark.parametrize("name", ["lstm", "gru", "rnn", "irnn"])
def test_a_state_is_carried_from_stretch_to_stretch(name: str, backend: str) -> None:
    if backend == "native":
        pytest.importorskip("adding_problem_native")
    model = build_model(ModelConfig(name, hidden=7), seed=0, backend=backend, input_size=5)
    x, state = torch.rand(3, 50, 5, generator=torch.Generator().manual_seed(1)), None
    with torch.no_grad():
        for stretch in x.split([1, 20, 29], dim=1):
            state = model.advance(stretch, state)
        assert torch.allclose(model.answer(state), model(x), atol=1e-6)


def column_keys(init: str, seeds: int) -> Tensor:
    """What opens the input gates of 400 cells a seed, as multiples of 2 log(memory)."""
    memory, keys = 10**9, []
    for seed in range(seeds):
        config = ModelConfig(hidden=400, init=init, memory=memory)
        model = build_model(config, seed=seed, input_size=8)
        kernel, _, bias, _ = (p.detach().double() for p in model.lstm.parameters())
        assert bias[:400].tolist() == pytest.approx([-math.log(memory)] * 400)
        keys.append(kernel[:400] / (2 * math.log(memory)))
    return torch.cat(keys)


def test_keyed_initialisation_knows_no_column_from_another() -> None:
    """Each cell has one column and a sign, all evenly: chi-squared over the 2 x 8 kinds of keys."""
    keys = column_keys("keyed", seeds=10)
    assert torch.allclose(keys.abs().sum(dim=1), torch.ones(4000, dtype=torch.float64))
    assert ((keys != 0).sum(dim=1) == 1).all()
    counts = [
        (keys[:, column] * sign > 0.5).sum().item() for column in range(8) for sign in (1, -1)
    ]
    assert sum(counts) == 4000
    assert stats.chisquare(counts).pvalue > 1e-3


def test_keys_by_direction_are_the_same_under_every_rotation() -> None:
    """Unit vectors in 8 dimensions: the square of a projection is Beta(1/2, 7/2)."""
    keys = column_keys("keyed-directions", seeds=5)
    assert torch.allclose(keys.norm(dim=1), torch.ones(2000, dtype=torch.float64))
    directions = [
        torch.eye(8, dtype=torch.float64)[0],
        torch.ones(8, dtype=torch.float64) / math.sqrt(8),
    ]
    for direction in directions:
        assert (
            stats.kstest((keys @ direction).square().numpy(), stats.beta(0.5, 3.5).cdf).pvalue
            > 1e-3
        )


@pytest.mark.parametrize("init", ["keyed", "keyed-directions", "long", "chrono", "keras"])
def test_a_start_does_not_depend_on_what_a_column_means(init: str) -> None:
    """Over many seeds value and mark have input weights of one distribution (a KS test)."""
    kernels = torch.stack(
        [
            build_model(
                ModelConfig(hidden=20, init=init), seed=seed, input_size=3
            ).lstm.weight_ih_l0.detach()
            for seed in range(60)
        ]
    )
    columns = kernels.reshape(-1, 3).T.numpy()
    assert all(stats.ks_2samp(columns[0], columns[other]).pvalue > 1e-3 for other in (1, 2))
    oracle = (
        build_model(ModelConfig(hidden=400, init="oracle"), seed=0)
        .lstm.weight_ih_l0.detach()
        .T.numpy()
    )
    assert (
        stats.ks_2samp(oracle[0], oracle[1]).pvalue < 1e-3
    )  # the test sees a start that knows the mark


WRITES_AND_FORGETS: list[tuple[str, dict[str, int]]] = [("gru", {}), ("s6", {"layers": 3})]


def shares_written(model: nn.Module, x: Tensor) -> Tensor:
    """Share of its state that each cell overwrites in the first step.

    Float64, inputs (B, I) -> (B, cells of all layers).
    """
    if isinstance(model, AddingGRU):
        kernel, _, bias, second_bias = (p.detach().double() for p in model.gru.parameters())
        keep = (x.double() @ kernel.T + bias + second_bias).chunk(3, dim=1)[1]
        return (-keep).sigmoid()
    found: list[Tensor] = []
    steps = [block.layer.time_step for block in model.blocks]  # type: ignore[operator, union-attr]
    hooks = [
        step.register_forward_hook(lambda _, __, out: found.append(out[:, 0].double()))
        for step in steps
    ]
    with torch.no_grad():
        model(x[:, None])
    for hook in hooks:
        hook.remove()
    return -torch.expm1(-nn.functional.softplus(torch.cat(found, dim=1)))


@pytest.mark.parametrize(("name", "arguments"), WRITES_AND_FORGETS)
@pytest.mark.parametrize("memory", [1000, 10**9])
def test_keyed_cells_write_at_their_key_alone(
    name: str, arguments: dict[str, int], memory: int
) -> None:
    """1 / memory at rest, U(0, 1) at the key (a KS test), keys uniform on 2 x 8 (chi-squared)."""
    model = build_model(
        ModelConfig(name, hidden=500, init="keyed", memory=memory, arguments=arguments),
        seed=1,
        input_size=8,
    )
    assert shares_written(model, torch.zeros(1, 8)).ravel().tolist() == pytest.approx(
        [1 / memory] * 500 * arguments.get("layers", 1), rel=1e-3
    )
    shares = shares_written(model, torch.cat([torch.eye(8), -torch.eye(8)]))
    opened, kinds = shares.max(dim=0)
    assert stats.kstest(opened.numpy(), stats.uniform.cdf).pvalue > 1e-3
    assert stats.chisquare(kinds.bincount(minlength=16).numpy()).pvalue > 1e-3
    others = shares.scatter(0, kinds[None], 0.0)
    assert others.max() < 3 / memory


@pytest.mark.parametrize(("name", "arguments"), WRITES_AND_FORGETS)
def test_keyed_cells_know_no_column_from_another(name: str, arguments: dict[str, int]) -> None:
    """Over many seeds every column at 1 brings shares, and predictions, of one distribution."""
    written, read = [], []
    x = torch.eye(3)
    for seed in range(100):
        model = build_model(
            ModelConfig(name, hidden=20, init="keyed", memory=1000, arguments=arguments),
            seed=seed,
            input_size=3,
        )
        written.append(shares_written(model, x))
        with torch.no_grad():
            read.append(model(x[:, None])[:, 0])
    # Rounded, for among shares that are equal up to rounding the test would see the rounding.
    for columns in (torch.cat(written, dim=1).numpy().round(5), torch.stack(read, dim=1).numpy()):
        assert all(stats.ks_2samp(columns[0], columns[other]).pvalue > 1e-3 for other in (1, 2))


@pytest.mark.parametrize(("name", "arguments"), WRITES_AND_FORGETS)
def test_exchanged_columns_exchange_the_keys(
    name: str, arguments: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With two columns of the keys exchanged, cells write the same shares at exchanged inputs."""
    config, x = (
        ModelConfig(name, hidden=40, init="keyed", memory=1000, arguments=arguments),
        torch.eye(3),
    )
    shares = shares_written(build_model(config, seed=0, input_size=3), x)
    family = importlib.import_module(f"adding_problem.models.{name}")
    drawn = family.column_keys_
    monkeypatch.setattr(family, "column_keys_", lambda keys: keys.copy_(drawn(keys)[:, [1, 0, 2]]))
    exchanged = shares_written(build_model(config, seed=0, input_size=3), x)
    assert torch.allclose(exchanged[[1, 0, 2]], shares, rtol=1e-3)
    assert not torch.allclose(exchanged, shares, rtol=0.5)


def test_the_seed_decides_the_weights() -> None:
    first, same, other = (
        build_model(ModelConfig(hidden=5), seed=seed).state_dict() for seed in (1, 1, 2)
    )
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["lstm.weight_ih_l0"], other["lstm.weight_ih_l0"])


@pytest.mark.parametrize("backend", ["torch", pytest.param("native", marks=needs_native)])
@pytest.mark.parametrize("name", models.FAMILIES)
def test_description_round_trip(name: str, backend: str) -> None:
    """A model rebuilt from its description and weights holds, trains and computes the same."""
    _round_trip(ModelConfig(name, hidden=8), backend)


@pytest.mark.parametrize("name", ["gru", "s6"])
def test_description_round_trip_of_a_keyed_start(name: str) -> None:
    _round_trip(ModelConfig(name, hidden=8, init="keyed", memory=10**9), "torch")


def _round_trip(config: ModelConfig, backend: str) -> None:
    model = build_model(config, seed=4, backend=backend)
    again = models.from_description(models.describe(model), model.state_dict(), backend=backend)
    assert models.describe(again) == models.describe(model)
    kept, weights = again.state_dict(), model.state_dict()
    assert all(
        torch.equal(kept[key], weights[key]) and kept[key].data_ptr() != weights[key].data_ptr()
        for key in weights
    )
    assert {
        key for key, _ in again.named_buffers()
    } <= kept.keys()  # what is not in it would have no values
    assert [p.requires_grad for p in again.parameters()] == [
        p.requires_grad for p in model.parameters()
    ]
    x, _ = sample_batch(2, 30, seed=0)
    assert torch.equal(again(x), model(x))
    for network in (again, model):
        network(x).sum().backward()
    for ours, theirs in zip(again.parameters(), model.parameters(), strict=True):
        assert (ours.grad is None and theirs.grad is None) or torch.equal(ours.grad, theirs.grad)


def test_a_description_counts_what_is_trained() -> None:
    assert models.describe(build_model(ModelConfig(hidden=6)))["parameters"] == 4 * 6 * 9 + 7


@pytest.mark.parametrize(
    ("weights", "problem"),
    [
        ({}, "'readout.bias': expected float32 (1,), found none"),
        (
            {"readout.bias": torch.zeros(2)},
            "'readout.bias': expected float32 (1,), found float32 (2,)",
        ),
        (
            {"readout.bias": torch.zeros(1, dtype=torch.int8)},
            "'readout.bias': expected float32 (1,), found int8 (1,)",
        ),
        ({"another": torch.zeros(1)}, "'another': expected no such tensor, found float32 (1,)"),
    ],
)
def test_weights_of_another_model(weights: dict[str, torch.Tensor], problem: str) -> None:
    model = build_model(ModelConfig("gru", hidden=3))
    there = model.state_dict() | weights
    if not weights:
        del there["readout.bias"]
    with pytest.raises(ValueError, match=re.escape(problem)):
        models.from_description(models.describe(model), there)


@pytest.mark.parametrize(
    "description",
    [
        {},
        {"family": "grue", "hidden": 3},
        {"family": "lstm", "hidden": 10**9},
        {"family": "lstm", "hidden": "3"},
    ],
)
def test_unknown_descriptions(description: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="expected"):
        models.from_description(description, {})
