"""The zoo: every family against a loop over its equations, its paper's count of parameters."""

from __future__ import annotations

import inspect
import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy import stats
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx

from adding_problem import cli, config, models
from adding_problem.config import ModelConfig, families
from adding_problem.errors import ConfigError
from adding_problem.evaluation import validate
from adding_problem.evaluation.load_model import load_model
from adding_problem.experiments.train import train
from adding_problem.models.scan import chunked_scan, relu_scan_of, scan_of
from adding_problem.runs.folder import RunFolder
from adding_problem.task.sampling import sample_batch
from tests.conftest import REPOSITORY
from tests.helpers import family_references

TINY: dict[str, dict[str, Any]] = {
    "lstm": {"hidden": 5},
    "gru": {"hidden": 5},
    "rnn": {"hidden": 5},
    "irnn": {"hidden": 5},
    "indrnn": {"hidden": 6, "layers": 2},
    "exprnn": {"hidden": 6},
    "cornn": {"hidden": 5, "gamma": 2.0, "epsilon": 3.0, "dt": 0.1},
    "lem": {"hidden": 5, "dt": 0.5},
    "mingru": {"hidden": 5, "layers": 2},
    "minlstm": {"hidden": 5, "layers": 2},
    "lru": {"hidden": 6, "states": 4, "layers": 2, "max_phase": 3.0},
    "s6": {"hidden": 4, "states": 3, "layers": 2},
    "slstm": {"hidden": 6, "heads": 2},
    "tcn": {"hidden": 4, "levels": 2, "kernel": 3},
    "transformer": {"hidden": 8, "layers": 2, "heads": 2},
    "attention": {"hidden": 5},
    "pooling": {"hidden": 5},
}


def build(
    name: str, *, seed: int = 0, backend: str = "torch", length: int = 20, **arguments: Any
) -> nn.Module:
    return models.build_model(
        config.load(
            None, {"model.name": name} | {f"model.{k}": v for k, v in arguments.items()}
        ).model,
        seed=seed,
        backend=backend,
        length=length,
    )


def test_no_family_is_forgotten() -> None:
    assert set(TINY) == set(families.FAMILIES) == set(PARAMETERS)


@pytest.mark.parametrize("name", families.FAMILIES)
def test_outputs_and_gradients_equal_the_obvious_loop(name: str) -> None:
    """In float64, from weights at random, of which none is zero."""
    model = build(name, **TINY[name]).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(
                0.1 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            )
        for u in model.recurrent if name == "indrnn" else ():  # type: ignore[union-attr]
            u.clamp_(-1, 1)  # within the bound, where the paper's equation holds
    x = sample_batch(3, 20, seed=0)[0].double()
    reference = getattr(family_references, name)
    state = model.state_dict(keep_vars=True)
    trained = {key: value for key, value in state.items() if value.requires_grad}
    weight = torch.linspace(1, 2, 3, dtype=torch.float64)[:, None]
    actual = model(x)
    actual_gradients = torch.autograd.grad((weight * actual).sum(), list(trained.values()))
    copies = {
        key: value.detach().clone().requires_grad_(value.requires_grad)
        for key, value in state.items()
    }
    expected = reference(copies, x, model)
    expected_gradients = torch.autograd.grad(
        (weight * expected).sum(), [copies[key] for key in trained]
    )
    assert torch.allclose(actual, expected, rtol=1e-9, atol=1e-12)
    for key, a, b in zip(trained, actual_gradients, expected_gradients, strict=True):
        assert torch.allclose(a, b, rtol=1e-6, atol=1e-9), key
        assert b.abs().max() > 0, f"{key} has no gradient: nothing was compared"


def recurrent(h: int, products: int) -> int:
    return products * h * (h + 2) + h + 1


PARAMETERS: dict[str, Callable[..., int]] = {
    "lstm": lambda hidden: recurrent(hidden, 4) + 4 * hidden,
    "gru": lambda hidden: recurrent(hidden, 3) + 6 * hidden,
    "rnn": lambda hidden: recurrent(hidden, 1) + 2 * hidden,
    "irnn": lambda hidden: recurrent(hidden, 1) + 2 * hidden,
    "indrnn": lambda hidden, layers: 4 * hidden + (layers - 1) * hidden * (hidden + 2) + hidden + 1,
    "exprnn": lambda hidden: 2 * hidden + hidden * (hidden - 1) // 2 + hidden + hidden + 1,
    "cornn": lambda hidden, **_: hidden * (2 * hidden + 2) + hidden + hidden + 1,
    "lem": lambda hidden, dt: 4 * hidden * (hidden + 4) + hidden + 1,
    "mingru": lambda hidden, layers: (
        6 * hidden + (layers - 1) * 2 * hidden * (hidden + 1) + hidden + 1
    ),
    "minlstm": lambda hidden, layers: (
        9 * hidden + (layers - 1) * 3 * hidden * (hidden + 1) + hidden + 1
    ),
    "lru": lambda hidden, states, layers, **_: (
        4 * hidden
        + 1
        + layers
        * (3 * states + 4 * states * hidden + hidden + 2 * hidden * (hidden + 1) + 2 * hidden)
    ),
    "s6": lambda hidden, states, layers: (
        4 * hidden + 1 + layers * (4 * hidden**2 + 3 * hidden + 3 * states * hidden)
    ),
    "slstm": lambda hidden, heads: 4 * hidden * (3 + hidden // heads) + hidden + 1,
    "tcn": lambda hidden, levels, kernel: (
        hidden
        + 1
        + 3 * hidden
        + (2 * hidden * kernel + 2 * hidden)
        + ((2 * levels - 1) * (hidden * hidden * kernel + 2 * hidden))
    ),
    "transformer": lambda hidden, layers, heads: (
        6 * hidden + 1 + layers * (12 * hidden**2 + 13 * hidden)
    ),
    "attention": lambda hidden: 3 * hidden + hidden + 1 + hidden**2 + hidden + hidden + 1,
    "pooling": lambda hidden: 3 * hidden + hidden + 1,
}


@pytest.mark.parametrize("name", families.FAMILIES)
def test_parameters_are_as_many_as_the_papers_formula_says(name: str) -> None:
    for sizes in (
        {k: v for k, v in families.FAMILIES[name].defaults.items() if k not in ("init", "memory")},
        TINY[name],
    ):
        complete = {
            k: v
            for k, v in families.with_defaults(name, sizes).items()
            if k not in ("init", "memory")
        }
        assert models.describe(build(name, **sizes))["parameters"] == PARAMETERS[name](**complete)


@pytest.mark.parametrize("name", families.FAMILIES)
def test_the_catalogue_lists_what_the_class_takes(name: str) -> None:
    model = build(name, **TINY[name])
    taken = set(inspect.signature(type(model)).parameters) - {
        "seed",
        "backend",
        "length",
        "input_size",
    }
    assert taken == set(families.FAMILIES[name].defaults)
    assert model.__doc__


@pytest.mark.parametrize("name", families.FAMILIES)
def test_a_run_of_every_family(name: str, tmp_path: Path) -> None:
    """Trained, written, read, scored; the seed gives the same numbers, the global state is kept."""
    values = {
        "dataset.dt_length": 80,
        "dataset.t": 24,
        "train.batch": 28,
        "train.epochs": 2,
        "threads": 1,
        "recipe": "original",
        "model.name": name,
        "artifacts": str(tmp_path / "run"),
    } | {f"model.{k}": v for k, v in TINY[name].items()}
    run = config.load(None, values)
    state = torch.get_rng_state()
    result = train(run)
    assert torch.equal(torch.get_rng_state(), state)
    assert math.isfinite(result.best_val_loss)
    assert RunFolder(run.artifacts).read_config() == run
    score = validate.validate(run)
    x, y = sample_batch(80, 24, seed=43)
    with torch.no_grad():
        error = float((load_model(run.artifacts)(x) - y).double().square().mean())
    assert score.mse == pytest.approx(error, rel=1e-4)
    assert train(run, overwrite=True).best_loss == result.best_loss


LEARNERS = {
    "lstm": {"hidden": 24},
    "gru": {"hidden": 32},
    "irnn": {"hidden": 32},
    "mingru": {"hidden": 32},
    "minlstm": {"hidden": 32},
    "s6": {"hidden": 16, "states": 4},
    "transformer": {"hidden": 32, "heads": 2},
}


@pytest.mark.parametrize("name", LEARNERS)
def test_families_learn(name: str, tmp_path: Path) -> None:
    """T = 20 by the recipe fast, to a tenth of what mean baseline scores."""
    values = {
        "recipe": "fast",
        "dataset.t": 20,
        "dataset.held_out": 200,
        "train.stop_val_loss": 1e-2,
        "train.val_subset": None,
        "train.epochs": 200,
        "threads": 1,
        "model.name": name,
        "artifacts": str(tmp_path / "run"),
    }
    result = train(config.load(None, values | {f"model.{k}": v for k, v in LEARNERS[name].items()}))
    assert result.stop_reason == "solved"


@pytest.mark.parametrize("backend", ["native", "torch"])
@pytest.mark.parametrize("length", [1, 2, 7, 64, 101])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("constant", [False, True])
def test_scans_equal_the_loop(backend: str, length: int, relu: bool, constant: bool) -> None:
    if backend == "native":
        pytest.importorskip("adding_problem_native")
    generator = torch.Generator().manual_seed(0)
    shapes = {0.0: (5,) if constant else (3, length, 5), 0.3: (3, length, 5)}
    a, b = (
        (torch.rand(shape, generator=generator) - least).requires_grad_()
        for least, shape in shapes.items()
    )
    h = torch.zeros(3, 5)
    steps = []
    for t in range(length):
        h = (a if constant else a[:, t]) * h + b[:, t]
        h = h.clamp(min=0) if relu else h
        steps.append(h)
    expected = torch.stack(steps, dim=1)
    actual = (relu_scan_of if relu else scan_of)(backend)(a, b)
    weight = torch.rand(expected.shape, generator=generator)
    assert torch.allclose(actual, expected, atol=1e-6)
    for x, y in zip(
        torch.autograd.grad((weight * actual).sum(), [a, b]),
        torch.autograd.grad((weight * expected).sum(), [a, b]),
        strict=True,
    ):
        assert torch.allclose(x, y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "name",
    [
        "gru",
        "rnn",
        "irnn",
        "mingru",
        "minlstm",
        "lru",
        "s6",
        "indrnn",
        "lem",
        "cornn",
        "exprnn",
        "slstm",
    ],
)
def test_native_and_torch_backends_agree(name: str) -> None:
    pytest.importorskip("adding_problem_native")
    x = sample_batch(3, 150, seed=0)[0]
    native, torch_only = (
        build(name, backend=backend, **TINY[name]) for backend in ("native", "torch")
    )
    assert native.backend == "native"
    moved = {
        key: value + 0.02 * torch.randn(value.shape, generator=torch.Generator().manual_seed(1))
        for key, value in native.state_dict().items()
    }
    for model in (native, torch_only):
        model.load_state_dict(moved)
    torch.save(native, io.BytesIO())  # the whole module, which has to be one that can be pickled
    assert torch.allclose(native(x), torch_only(x), rtol=1e-4, atol=1e-5)
    found = (
        torch.autograd.grad(model(x).sum(), list(model.parameters()))
        for model in (native, torch_only)
    )
    for actual, right in zip(*found, strict=True):
        assert torch.allclose(actual, right, rtol=1e-3, atol=1e-4 * float(right.abs().max()))


def require_half_precision_lstm() -> None:
    """Skip where PyTorch's layer fails: oneDNN has a bfloat16 LSTM only for some processors."""
    with torch.autocast("cpu", torch.bfloat16):
        try:
            torch.nn.LSTM(2, 3)(torch.zeros(4, 1, 2))
        except RuntimeError as error:
            pytest.skip(f"torch.nn.LSTM has no bfloat16 here: {error}")


@pytest.mark.parametrize("backend", ["native", "torch"])
@pytest.mark.parametrize("name", families.FAMILIES)
def test_an_empty_batch_and_autocast(name: str, backend: str) -> None:
    if backend == "native":
        pytest.importorskip("adding_problem_native")
    model, x = build(name, backend=backend, **TINY[name]), sample_batch(3, 30, seed=0)[0]
    assert model(x[:0]).shape == (0, 1)
    if name == "lstm":
        require_half_precision_lstm()
    with torch.autocast("cpu", torch.bfloat16):
        y = model(x)
    exact = model(x)
    assert (y.float() - exact).norm() < 0.05 * exact.norm()
    torch.autograd.grad(
        y.float().sum(), [parameter for parameter in model.parameters() if parameter.requires_grad]
    )


def test_more_heads_than_the_kernels_serve_run_on_torch() -> None:
    pytest.importorskip("adding_problem_native")
    assert [
        build("slstm", hidden=16, heads=heads, backend="native").backend for heads in (4, 8)
    ] == ["native", "torch"]


def test_chunked_scan_keeps_zeros() -> None:
    a = torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0, 2.0]).view(1, 6, 1)
    assert chunked_scan(a, torch.ones(1, 6, 1)).flatten().tolist() == [1, 1, 2, 3, 1, 3]


def test_a_recorded_scan_is_of_torchs_operations_and_few() -> None:
    pytest.importorskip("adding_problem_native")
    a, b = torch.rand(2, 100, 3), torch.rand(2, 100, 3)
    scan = scan_of("native")
    recorded = make_fx(scan)(a, b)
    assert torch.allclose(recorded(a / 2, b), scan(a / 2, b), atol=1e-6)
    assert (
        len(recorded.graph.nodes) < 2 * 100
    )  # the loop, of two operations a step, has twice as many and what they read


# --- initialisations ---


def test_gates_of_the_minlstm_that_are_both_shut_share_what_there_is() -> None:
    """f / (f + i) in float64, where exp(-120) is no zero; in float32 it is 0 / 0."""
    model = models.build_model(ModelConfig("minlstm", hidden=1, arguments={"layers": 1}))
    drive = torch.tensor([[[-119.0, -120.0, 2.0]]])
    kept, written = model._coefficients(drive)  # type: ignore[operator]
    i, f = drive[0, 0, :2].double().exp()
    assert kept.item() == pytest.approx((f / (f + i)).item(), rel=1e-5)
    assert written.item() == pytest.approx((2 * i / (f + i)).item(), rel=1e-5)


def test_chrono_initialisation_of_the_lstm() -> None:
    model = build("lstm", hidden=400, init="chrono", length=1000)
    _, _, bias, _ = (p.detach().double() for p in model.lstm.parameters())  # type: ignore[union-attr, operator]
    forget = bias[400:800]
    assert stats.kstest(forget.exp().numpy(), stats.uniform(1, 998).cdf).pvalue > 1e-4
    assert torch.equal(bias[:400], -forget)
    assert not bias[800:].any()


@pytest.mark.parametrize(
    ("name", "key", "first", "sign"),
    [
        ("gru", "gru.bias_hh_l0", 400, 1),
        ("mingru", "inputs.1.bias", 0, -1),
        ("minlstm", "inputs.0.bias", 0, -1),
    ],
)
def test_chrono_initialisation_of_others(name: str, key: str, first: int, sign: int) -> None:
    bias = (
        build(name, hidden=400, init="chrono", memory=500)
        .state_dict()[key][first : first + 400]
        .double()
    )
    assert stats.kstest((sign * bias).exp().numpy(), stats.uniform(1, 498).cdf).pvalue > 1e-4


def test_irnn_begins_as_the_paper_says() -> None:
    state = build("irnn", hidden=100).state_dict()
    assert torch.equal(state["rnn.weight_hh_l0"], torch.eye(100))
    assert not state["rnn.bias_ih_l0"].any()
    assert (
        stats.kstest(state["rnn.weight_ih_l0"].ravel().numpy(), stats.norm(scale=1e-3).cdf).pvalue
        > 1e-4
    )


def test_exprnn_begins_with_rotations_of_planes() -> None:
    q = build("exprnn", hidden=800).rotation().detach().double()  # type: ignore[union-attr, operator]
    cos, sin = q[::2, ::2].diagonal(), q[1::2, ::2].diagonal()
    expected = torch.block_diag(*torch.stack([cos, -sin, sin, cos], dim=1).view(-1, 2, 2))  # type: ignore[no-untyped-call]
    assert torch.allclose(q, expected, atol=1e-6)
    angles = torch.atan2(sin, cos).numpy()
    assert stats.kstest(angles, stats.uniform(-math.pi, 2 * math.pi).cdf).pvalue > 1e-4


def test_exprnn_stays_orthogonal() -> None:
    model = build("exprnn", hidden=12)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    x, y = sample_batch(4, 10, seed=0)
    for _ in range(3):
        nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()
    with torch.autocast("cpu"):
        q = model.rotation()  # type: ignore[operator]
    assert torch.allclose(q @ q.T, torch.eye(12), atol=1e-5)


def test_exprnn_has_the_exponential_of_any_rotation() -> None:
    """Float32 against the library's in float64, at angles far above a full turn, and for NaN."""
    model = build("exprnn", hidden=64)
    row, column = torch.tril_indices(64, 64, -1)
    for scale in (1e-3, 0.3, 3.0):
        entries = scale * torch.randn(len(row), generator=torch.Generator().manual_seed(0))
        lower = torch.zeros(64, 64, dtype=torch.float64)
        lower[row, column] = entries.double()
        with torch.no_grad():
            model.skew.copy_(entries)  # type: ignore[operator]
        assert torch.allclose(
            model.rotation().double(), torch.matrix_exp(lower - lower.T), atol=1e-5
        )  # type: ignore[operator]
    with torch.no_grad():
        model.skew[0] = math.nan  # type: ignore[operator, index]
    assert model.rotation().isnan().any()  # type: ignore[operator]


def test_attention_begins_as_in_the_authors_code() -> None:
    state = build("attention", hidden=2000).state_dict()
    for key, std in (
        ("score.weight", 2000**-0.5),
        ("summary.weight", 2000**-0.5),
        ("features.weight", 2**-0.5),
    ):
        assert (
            stats.kstest(state[key].ravel()[:20_000].numpy(), stats.norm(scale=std).cdf).pvalue
            > 1e-4
        )
    assert not any(
        state[f"{layer}.bias"].any() for layer in ("features", "score", "summary", "readout")
    )


def test_indrnn_begins_small_at_any_length() -> None:
    """Its units sum up what comes in for T steps."""
    with torch.no_grad():
        assert build("indrnn", length=2000)(sample_batch(8, 2000, seed=0)[0]).abs().max() < 1


def test_indrnn_is_bounded_and_can_come_back() -> None:
    model = build("indrnn", hidden=4, layers=1, length=50)
    x = torch.rand(2, 50, 2)
    with torch.no_grad():
        model.recurrent[0].fill_(3.0)  # type: ignore[index, operator, union-attr]
        beyond = model(x)
        model.recurrent[0].fill_(2 ** (1 / 50))  # type: ignore[index, operator, union-attr]
        assert torch.allclose(beyond, model(x))
        model.recurrent[0].fill_(3.0)  # type: ignore[index, operator, union-attr]
    assert (torch.autograd.grad(model(x).sum(), model.recurrent[0])[0] != 0).any()  # type: ignore[index, call-overload]


def test_the_tcn_sees_its_field_and_no_step_more() -> None:
    model: Any = build("tcn", hidden=64, levels=2, kernel=3)
    assert model.field == 13
    x = torch.rand(1, 20, 2, requires_grad=True)
    (gradient,) = torch.autograd.grad(model(x).sum(), x)
    assert gradient[0].any(dim=1).tolist() == [False] * 7 + [True] * 13


@pytest.mark.parametrize("name", ["attention", "pooling"])
def test_models_that_see_no_order(name: str) -> None:
    x = sample_batch(3, 20, seed=0)[0]
    model = build(name, hidden=5)
    assert torch.allclose(model(x), model(x.flip(1)), atol=1e-6)


# --- what the catalogue refuses ---


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"model.name": "tcn", "model.level": 4},
            r"model\.level: expected an argument of tcn.*\n.*did you mean 'model\.levels'",
        ),
        (
            {"model.name": "tcn", "model.levels": "many"},
            r"model\.levels: expected a whole number from 1 to 1,048,576, found many",
        ),
        ({"model.name": "tcn", "model.levels": 0}, "from 1 to 1,048,576, found 0"),
        ({"model.name": "tcn", "model.levels": True}, "from 1 to 1,048,576, found True"),
        ({"model.name": "lem", "model.dt": -1}, "a number above 0, found -1"),
        (
            {"model.name": "gru", "model.init": "oracle"},
            "one of torch, chrono, keyed, found oracle",
        ),
        ({"model.name": "rnn", "model.init": "torch"}, r"model\.init: expected an argument of rnn"),
        (
            {"model.name": "lstm", "model.memory": 10**12 + 1},
            r"model\.memory: expected a whole number",
        ),
        ({"model.name": "grue"}, r"model\.name: expected one of lstm.*\n.*did you mean 'gru'"),
        ({"model.name": "gru", "model.layout": "tbc"}, r"model\.layout: expected btc"),
    ],
)
def test_wrong_arguments(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config.load(None, values)


def test_arguments_that_do_not_fit_each_other() -> None:
    for values, message in [
        ({"model.name": "lru", "model.r_min": 0.9995}, "r_min <= r_max <= 1"),
        ({"model.name": "lru", "model.max_phase": 1e-7}, "a max_phase above 1e-06"),
        ({"model.name": "tcn", "model.levels": 70}, "at most 40 levels"),
        (
            {"model.name": "s6", "model.init": "keyed", "model.hidden": 2},
            "more hidden channels than the 2 input columns, found 2",
        ),
    ]:
        with pytest.raises(ConfigError, match=message):
            models.build_model(config.load(None, values).model)
    with pytest.raises(ConfigError, match="not a multiple of 2 x 3 heads"):
        models.build_model(ModelConfig("transformer", arguments={"heads": 3}))


def test_the_recipe_fast_gives_every_family_what_it_takes() -> None:
    for name in families.FAMILIES:
        run = config.load(None, {"recipe": "fast", "model.name": name})
        models.build_model(run.model)
        for key, value in families.FAMILIES[name].fast.items():
            assert run.get(key) == value
    assert config.load(None, {"recipe": "fast"}).model.init == "keyed"
    assert config.load(None, {"recipe": "fast", "model.name": "rnn"}).model.init is None
    s6 = config.load(None, {"recipe": "fast", "model.name": "s6"}).model
    assert s6.title == "s6 (hidden 32, states 8, layers 2, init mamba)"
    assert (
        config.load(
            None, {"recipe": "fast", "model.name": "lem", "train.learning_rate": 0.5}
        ).train.learning_rate
        == 0.5
    )


def test_the_command_models(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models"]) == 0
    out = capsys.readouterr().out
    rows = [line for line in out.splitlines() if line.startswith("│ ")]
    assert [row.split()[1] for row in rows if row[2] != " "] == list(families.FAMILIES)
    assert "│ lstm        │     41,301 │ in order │ Hochreiter" in out
    assert cli.main(["models", "s6", "gru"]) == 0
    out = capsys.readouterr().out
    assert "Mamba" in out
    assert "init can be mamba, keyed." in out
    assert "Hochreiter" not in out
    assert cli.main(["models", "grue"]) == 2
    assert "did you mean 'gru'" in capsys.readouterr().err


def test_the_league_ranks_no_oracle() -> None:
    """Its row stands below those of the models that learn, under its name."""
    told = "oracle: input gates preset from the mark column"
    ranked, _, below = (REPOSITORY / "docs" / "league.md").read_text().partition("\nNot ranked")
    assert "| lstm (init long) | 30,000" in ranked
    assert "oracle" not in ranked
    assert f"| LSTM, {told} | 1,000,000" in below
    league = json.loads((REPOSITORY / "docs" / "league.json").read_text())["models"]
    assert {"lstm:init=oracle", "lstm:init=long,memory=null"} == {
        name for name in league if name.startswith("lstm")
    }


def test_the_learning_rates_are_those_that_the_league_found() -> None:
    league = json.loads((REPOSITORY / "docs" / "league.json").read_text())["models"]
    for name in league.keys() & families.FAMILIES.keys():  # pooling came later
        assert (
            config.load(None, {"recipe": "fast", "model.name": name}).train.learning_rate
            == league[name]["learning_rate"]
        )
