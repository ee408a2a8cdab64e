"""Custom models: every way to name one, what it may return, and its runs."""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.util
import json
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from adding_problem import cli, config, models
from adding_problem.analysis import aggregate
from adding_problem.config import ModelConfig, RunConfig
from adding_problem.errors import ConfigError, ModelError, RunFolderError
from adding_problem.evaluation import validate
from adding_problem.evaluation.lengths import score_at_lengths
from adding_problem.evaluation.load_model import load_model
from adding_problem.experiments.sweep import driver, plan
from adding_problem.experiments.sweep.local import LocalEngine
from adding_problem.experiments.train import train
from adding_problem.report import runs as report_runs
from adding_problem.runs.folder import RunFolder
from adding_problem.runs.records import EpochRow
from adding_problem.task.sampling import sample_batch
from adding_problem.training import preflight
from adding_problem.training.state import StepEvent
from tests.conftest import REPOSITORY, Command
from tests.helpers.custom_models import MODELS, AfterOneEpoch, run_of


def build(name: str, *, seed: int = 0, layout: Any = "btc", **arguments: Any) -> nn.Module:
    return models.build_model(
        ModelConfig(name, layout=layout, arguments=arguments), seed=seed, length=30
    )


SHAPES = [
    ("Last", "btc", None),
    ("sequence", "btc", 4),
    ("batch_first", "btc", 4),
    ("time_first", "tbc", 4),
    ("Convolution", "bct", 5),
    ("lazy", "btc", 3),
    ("instance", "btc", 4),
    ("Fixed", "btc", None),
    ("Logits", "btc", None),
    ("Hidden", "btc", 4),
    ("Head", "btc", 1),
    ("HeadTimeFirst", "tbc", 1),
    ("brain16", "btc", None),
    ("brain16_sequence", "btc", 4),
    ("double", "btc", 4),
    ("both_ways", "btc", 8),
]


@pytest.mark.parametrize(("name", "layout", "width"), SHAPES)
def test_what_a_model_may_be_and_give(
    name: str, layout: str, width: int | None, file: Path
) -> None:
    """Against the same module and a readout of its last step, called by hand in its layout."""
    model = build(f"{file}:{name}", layout=layout)
    assert isinstance(model, models.CustomModel)
    x = sample_batch(4, 30, seed=1)[0]
    shown = {"btc": x, "tbc": x.transpose(0, 1), "bct": x.transpose(1, 2)}[layout]
    output = model.inner(shown.to(next(model.inner.parameters()).dtype))
    match name:
        case "Logits":
            output = output["logits"]
        case "Hidden":
            output = output.last_hidden_state
        case _:
            output = output[0] if isinstance(output, tuple) else output
    output = output.float()
    if width is None:
        assert model.readout is None
        expected = output
    else:
        last = {
            "btc": lambda: output[:, -1],
            "tbc": lambda: output[-1],
            "bct": lambda: output[:, :, -1],
        }[layout]()
        assert last.shape == (4, width)
        if width == 1:
            assert model.readout is None
            expected = last
        else:
            assert model.readout is not None
            expected = last @ model.readout.weight.T + model.readout.bias
    assert model(x).dtype == torch.float32
    assert model(x).shape == (4, 1)
    assert torch.allclose(model(x), expected, atol=1e-6)
    preflight.check_model(run_of(file.parent, f"{file}:{name}", model__layout=layout))


def test_arguments_reach_the_constructor(file: Path) -> None:
    model = build(f"{file}:Last", units=7, act="relu")
    assert model.inner.rnn.hidden_size == 7  # type: ignore[union-attr]
    assert model.inner.rnn.nonlinearity == "relu"  # type: ignore[union-attr]
    assert build(f"{file}:Fixed").inner.line.in_features == 60  # type: ignore[union-attr]  # length, since it is asked for


@pytest.mark.parametrize("name", ["Last", "lazy", "instance", "time_first"])
def test_the_seed_decides_the_weights_and_the_global_state_is_left_alone(
    name: str, file: Path
) -> None:
    layout = "tbc" if name == "time_first" else "btc"
    state = torch.get_rng_state()
    first, same, other = (
        build(f"{file}:{name}", seed=seed, layout=layout).state_dict() for seed in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[key], same[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


def test_a_module_by_its_import_path(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)  # found without being installed, as beside a script
    for name in ("mine.Last", "mine:Last"):
        assert type(build(name).inner).__name__ == "Last"


def test_every_build_has_an_instance_of_its_own(file: Path) -> None:
    first, second = build(f"{file}:instance"), build(f"{file}:instance")
    with torch.no_grad():
        next(first.parameters()).zero_()
    assert next(second.parameters()).any()


def test_an_instance_of_another_module_would_not_come_from_the_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "package_of_mine"
    package.mkdir()
    (package / "net.py").write_text(
        "from torch import nn\n\ninstance = nn.GRU(2, 3, batch_first=True)\n"
    )
    (package / "__init__.py").write_text("from .net import instance\n")
    (tmp_path / "beside_of_mine.py").write_text("from package_of_mine.net import instance\n")
    monkeypatch.chdir(tmp_path)
    for name in ("package_of_mine.instance", f"{tmp_path / 'beside_of_mine.py'}:instance"):
        with pytest.raises(
            ConfigError,
            match=r"(?s)an instance that .* makes, found instance, which it takes from .*the seed",
        ):
            build(name)
    assert build("package_of_mine.net.instance").inner.hidden_size == 3


def test_an_instance_that_was_imported_depends_on_the_seed_alone(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(file.parent)
    first, other, again = (build("mine.instance", seed=seed).state_dict() for seed in (1, 2, 1))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


def test_files_import_the_modules_beside_them(tmp_path: Path) -> None:
    widths = {"a": 3, "b": 9}
    for folder, units in widths.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "sizes_of_mine.py").write_text(f"UNITS = {units}\n")
        (tmp_path / folder / "mine.py").write_text(
            "from sizes_of_mine import UNITS\nfrom torch import nn\n\n\n"
            "def gru():\n    return nn.GRU(2, UNITS, batch_first=True)\n"
        )
    for folder in "aba":
        assert build(f"{tmp_path / folder / 'mine.py'}:gru").inner.hidden_size == widths[folder]


def test_imports_inside_of_a_factory_and_files_of_names_that_are_taken(tmp_path: Path) -> None:
    (tmp_path / "late_of_mine.py").write_text("UNITS = 7\n")
    for taken in ("__main__", "adding_problem", "json"):
        (tmp_path / f"{taken}.py").write_text("raise SystemExit('not asked for')\n")
    (tmp_path / "mine.py").write_text(
        "def gru():\n    from late_of_mine import UNITS\n    from torch import nn\n\n"
        "    return nn.GRU(2, UNITS, batch_first=True)\n"
    )
    before = {name: sys.modules[name] for name in ("__main__", "adding_problem", "json")}
    assert build(f"{tmp_path / 'mine.py'}:gru").inner.hidden_size == 7
    assert before == {name: sys.modules.get(name) for name in before}


def test_a_plug_in(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = file.parent / "plugged-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: plugged\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[adding_problem.models]\nmymodel = mine:Last\n")
    monkeypatch.syspath_prepend(str(file.parent))
    importlib.invalidate_caches()
    run = config.load(None, {"model.name": "mymodel", "model.units": 5})
    assert models.build_model(run.model).inner.rnn.hidden_size == 5  # type: ignore[union-attr]
    assert models.source_digest("mymodel") == hashlib.sha256(file.read_bytes()).hexdigest()


KERAS_MODEL = """
import os
os.environ.setdefault("KERAS_BACKEND", "torch")
import keras

def lstm(units=8):
    lstm, dropout = keras.layers.LSTM(units), keras.layers.Dropout(0.1)
    return keras.Sequential([keras.Input((None, 2)), lstm, dropout, keras.layers.Dense(1)])

instance = lstm()
"""


def test_a_keras_model(tmp_path: Path, command: Command) -> None:
    """Two runs give the same numbers. In new processes: Keras chooses its backend on import."""
    if (
        importlib.util.find_spec("keras") is None
    ):  # importing it here would choose the backend for all tests
        pytest.skip("needs keras")
    (tmp_path / "mine.py").write_text(KERAS_MODEL)
    options = [
        "--model",
        "mine.py:lstm",
        "--model.units",
        6,
        "--dataset.t",
        12,
        "--dataset.dt_length",
        200,
        "--train.epochs",
        2,
    ]
    for folder in "ab":
        done = command("train", *options, "--artifacts", folder, program=["-m", "adding_problem"])
        assert done.returncode == 0, done.stderr
    first, second = (RunFolder(tmp_path / folder).read_result().best_val_loss for folder in "ab")
    assert first == second
    done = command("validate", *options, "--artifacts", "a", program=["-m", "adding_problem"])
    assert done.returncode == 0, done.stderr
    for name in (
        "mine.py:instance",
        "mine.instance",
    ):  # whose layers are numbered alike whenever it is made
        done = command(
            "train",
            "--model",
            name,
            *options[4:],
            "--artifacts",
            name,
            program=["-m", "adding_problem"],
        )
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("name", "found"),
    [
        (
            "nowhere.py:Model",
            "there is no file nowhere.py.\n  hint: check the path; it begins from",
        ),
        ("no_such_package.Model", "No module named"),
        ("json.Model", "'Model'"),
        ("mine.py", "write mine.py:Class"),
    ],
)
def test_models_that_are_not_there(name: str, found: str) -> None:
    with pytest.raises(ConfigError, match=r"model\.name") as caught:
        models.build_model(ModelConfig(name))
    assert found in str(caught.value)
    assert "<frozen" not in str(caught.value)


def test_what_a_model_imports_and_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "absent_rnn.py").write_text("import absent\n")
    for name in ("absent_rnn.py:Net", "absent_rnn.Net"):
        with pytest.raises(ConfigError, match="hint: install absent, or put it beside the model"):
            models.build_model(ModelConfig(name))
    with pytest.raises(ConfigError, match=r"hint: write package\.module\.Class"):
        models.build_model(ModelConfig("absent.rnn.Net"))


def test_a_sequence_in_another_order_than_the_layouts(file: Path) -> None:
    with pytest.raises(
        ModelError,
        match=r"give the sequence back in the order of model\.layout: \(batch, units, time\)",
    ):
        build(f"{file}:Restored", layout="bct")


def test_code_that_changed_after_the_run_is_noticed(
    file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = run_of(tmp_path, f"{file}:Last")
    result = train(run)
    assert train(run) == result
    assert "has changed" not in caplog.text
    file.write_text(file.read_text() + "\n")
    assert train(run) == result
    assert f"the code of {file}:Last has changed since this run" in caplog.text
    caplog.clear()
    validate.validate(run)
    assert f"the code of {file}:Last has changed since this run" in caplog.text
    file.write_text(file.read_text().replace("units=3", "units=5"))
    with pytest.raises(
        RunFolderError,
        match=r"(?s)its weights do not fit .*whose code has changed.*put the code back",
    ):
        validate.validate(run)


def test_a_file_that_was_moved_is_named_by_its_new_path(file: Path, tmp_path: Path) -> None:
    run = run_of(tmp_path, f"{file}:Last")
    train(run)
    expected = validate.validate(run).mse
    moved = file.rename(tmp_path / "moved.py")
    assert (
        validate.validate(replace(run, model=replace(run.model, name=f"{moved}:Last"))).mse
        == expected
    )
    with pytest.raises(
        RunFolderError, match="would be imported and run"
    ):  # another class is not what was trained
        validate.validate(replace(run, model=replace(run.model, name=f"{moved}:Dropout")))


def test_runs_of_changed_code_are_not_taken_for_seeds_of_one_method(
    file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    runs = [
        run_of(tmp_path, f"{file}:Last", seed=seed, artifacts=str(tmp_path / f"run{seed}"))
        for seed in (0, 1, 2)
    ]
    train(runs[0])
    first = models.source_digest(runs[0].model.name)
    file.write_text(file.read_text() + "\n")
    driver.run(
        [
            plan.PlannedRun(run.artifacts.rpartition("/")[2], {"seed": run.seed}, run)
            for run in runs
        ],
        LocalEngine(1),
        score=False,
    )
    assert "has changed since finished runs of this sweep" in caplog.text
    second = models.source_digest(runs[0].model.name)
    found = {
        group.method.rpartition("code ")[2]: len(group.runs)
        for group in aggregate.collect([run.artifacts for run in runs])
    }
    assert found == {str(first)[:8]: 1, str(second)[:8]: 2}
    methods = {run.method.rpartition("code ")[2] for run in report_runs.collect([tmp_path]).runs}
    assert methods == found.keys()


# --- runs ---


@pytest.mark.parametrize(
    "name",
    [
        "Last",
        "Dropout",
        "tied",
        "batch_first",
        "Complex",
        "Half",
        "half_sequence",
        "Masked",
        "Logits",
        "Hidden",
        "Head",
        "brain16",
        "brain16_sequence",
        "double",
        "both_ways",
    ],
)
def test_run_folder_round_trip(name: str, file: Path) -> None:
    run = run_of(file.parent, f"{file}:{name}")
    result = train(run)
    assert RunFolder(run.artifacts).read_config() == run
    assert validate.validate(run).mse > 0
    model = load_model(run.artifacts, trust=True)
    x, y = sample_batch(100, 30, seed=43)
    with torch.no_grad():
        expected = float((model(x) - y).double().square().mean())
    assert score_at_lengths(run, [30], 100, trust=True)[0].mse == pytest.approx(expected, rel=1e-5)
    again = train(run, overwrite=True)
    assert again.best_val_loss == result.best_val_loss


def test_a_cut_run_with_dropout_continues_with_the_same_numbers(file: Path) -> None:
    uncut = run_of(file.parent, f"{file}:Dropout", artifacts=str(file.parent / "uncut"))
    cut = run_of(file.parent, f"{file}:Dropout", artifacts=str(file.parent / "cut"))
    train(uncut)
    with pytest.raises(KeyboardInterrupt):
        train(cut, listener=AfterOneEpoch())
    train(cut, resume=True)
    first, second = (RunFolder(run.artifacts).read_model()[0] for run in (uncut, cut))
    assert all(torch.equal(first[key], second[key]) for key in first)


class Edits:
    """A listener that changes a file after every epoch."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def on_step(self, event: StepEvent) -> None:
        pass

    def on_epoch(self, row: EpochRow) -> None:
        self._file.write_text(f"{self._file.read_text()}# {row.epoch}\n")


def test_the_code_of_a_run_is_that_with_which_it_began(file: Path, tmp_path: Path) -> None:
    name = f"{file}:Last"
    begun = models.source_digest(name)
    result = train(run_of(tmp_path, name), listener=Edits(file))
    assert models.source_digest(name) != begun
    assert result.model_source == begun


def test_an_untrusted_folder_imports_nothing(file: Path, tmp_path: Path) -> None:
    run = run_of(tmp_path, f"{file}:Last")
    train(run)
    file.write_text(
        f"from pathlib import Path\nPath({str(tmp_path / 'imported')!r}).touch()\n" + MODELS
    )
    folder = run.artifacts
    unnamed = config.load(None, {"artifacts": folder, "dataset.t": 30, "validate.dt_length": 10})
    attempts = [
        lambda: load_model(folder),
        lambda: validate.validate(unnamed),
        lambda: score_at_lengths(RunFolder(folder).read_config(), [30], 10),
    ]
    for attempt in attempts:
        with pytest.raises(RunFolderError, match=r"(?s)mine\.py:Last.*--trust"):
            attempt()
    assert not (tmp_path / "imported").exists()
    load_model(folder, trust=True)
    assert (tmp_path / "imported").exists()


def test_a_damaged_description(file: Path, tmp_path: Path) -> None:
    run = run_of(tmp_path, f"{file}:Last")
    train(run)
    description = RunFolder(run.artifacts).model_description
    for wrong in ({"layout": "ttt"}, {"length": "x"}, {"arguments": 3}):
        content = json.loads(description.read_text()) | wrong
        description.write_text(json.dumps(content))
        with pytest.raises(RunFolderError, match="does not hold what"):
            load_model(run.artifacts, trust=True)


def test_the_digest_covers_the_arguments(tmp_path: Path) -> None:
    values = {"model.name": "a.Model", "model.units": 3}
    assert config.load(None, values).digest == config.load(None, values).digest
    assert config.load(None, values).digest != config.load(None, values | {"model.units": 4}).digest
    assert (
        config.load(None, {"model.hidden": 100}).digest == RunConfig().digest
    )  # the default, written down


@pytest.mark.parametrize(
    "value",
    [
        3,
        -2.5e-07,
        True,
        None,
        "text, with: [signs] # of YAML",
        "a 'quote'",
        [1, 2.5, "x"],
        [[1], []],
        "",
        "12",
        "1e-3",
        "-.5e3",
        "off",
        "null",
        ["1e5"],
        {"width": 8, "rates": {"slow": 0.1}, "names": ["on", {}]},
    ],
)
def test_arguments_survive_yaml(value: Any, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    original = RunConfig(model=ModelConfig("a.Model", arguments={"argument": value, "other": 1}))
    path.write_text(config.to_yaml(original))
    assert config.load(path) == original


def test_arguments_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("model: {name: a.Model, rate: 1e-3, sizes: [1, 2], mode: '12', other: '1e-3'}")
    assert config.load(path).model.arguments == {
        "rate": 1e-3,
        "sizes": [1, 2],
        "mode": "12",
        "other": "1e-3",
    }
    assert config.load(path).get("model.rate") == 1e-3
    path.write_text("model: {name: a.Model, options: {x: 1, on: yes}}")
    with pytest.raises(ConfigError, match=r"model\.options\.on: expected true or false, or text"):
        config.load(path)
    path.write_text("model: {name: a.Model, options: [{a.b: 1}]}")
    with pytest.raises(ConfigError, match=r"model\.options: expected names without a dot"):
        config.load(path)


def test_fields_of_an_argument(file: Path, tmp_path: Path) -> None:
    """Those of the command line are stronger than the file's, which keeps its others."""
    path = tmp_path / "config.yaml"
    path.write_text("model: {name: a.Model, config: {width: 8, rates: {slow: 1, fast: 2}}}")
    run = config.load(path, {"model.config.rates.fast": "3", "model.config.depth": "2"})
    expected = {"width": 8, "rates": {"slow": 1, "fast": 3}, "depth": 2}
    assert run.model.arguments == {"config": expected}
    assert run.get("model.config") == expected
    assert run.get("model.config.rates.fast") == run.flat()["model.config.rates.fast"] == 3
    assert (
        run.model.title == "a.Model (config.width 8, config.rates.slow 1, config.rates.fast 3, "
        "config.depth 2)"
    )
    assert run.digest != config.load(path).digest
    replaced = config.load(path, {"model.config": "{width: 1}"})
    assert replaced.model.arguments == {"config": {"width": 1}}


def test_dataclasses_reach_the_constructor(file: Path) -> None:
    made = build(f"{file}:Configured", config={"width": 5, "rates": {"fast": 0.5}}).inner
    assert made.rnn.hidden_size == made.config.width == 5  # type: ignore[union-attr]
    assert (made.config.rates.slow, made.config.rates.fast) == (0.1, 0.5)  # type: ignore[union-attr]
    given = {"config": {"width": 5}, "plain": {"width": 5}}
    rates, mine, plain = build(f"{file}:Optional", **given).inner.given  # type: ignore[misc]
    assert (rates.slow, rates.fast, mine.width) == (0.1, 0.9, 5)  # type: ignore[union-attr]
    assert plain == {"width": 5}
    for wrong, message in {
        "Config(width)": (3, r"model\.config: expected fields of Config, found 3"),
        "unknown": ({"widht": 3}, r"(?s)model\.config\.widht: expected a field of Config.*'width'"),
        "missing": (
            {},
            r"(?s)model\.config\.width: expected a value: Config.*--model\.config\.width",
        ),
        "inner": ({"width": 1, "rates": {"x": 1}}, r"model\.config\.rates\.x: expected a field"),
    }.values():
        with pytest.raises(ConfigError, match=message):
            build(f"{file}:Configured", config=wrong)
    with pytest.raises(ConfigError, match=r"model\.config\.width: expected a value"):
        build(f"{file}:Configured")


@dataclass
class Sizes:
    units: int = 3


class Here(nn.Module):
    """What a user would define beside the call."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.rnn = nn.GRU(2, sizes.units, batch_first=True)

    def forward(self, x: torch.Tensor) -> Any:
        return self.rnn(x)[0]


def make_here() -> nn.Module:
    return Here(Sizes(4))


def test_a_class_in_python(tmp_path: Path) -> None:
    """The configuration keeps its name, by which the class is found again."""
    values = {"dataset.t": 10, "dataset.dt_length": 100, "train.epochs": 1, "threads": 1}
    given = {"model.name": Here, "model.sizes": Sizes(5), "artifacts": str(tmp_path / "a")}
    run = config.load(None, values | given)
    assert run.model.name == f"{__name__}:Here"
    assert run.model.arguments == {"sizes": {"units": 5}}
    path = tmp_path / "config.yaml"
    path.write_text(config.to_yaml(run))
    assert config.load(path) == run
    assert config.load(path).digest == run.digest
    train(run)
    assert validate.validate(run).mse > 0
    assert load_model(run.artifacts, trust=True).inner.rnn.hidden_size == 5  # type: ignore[union-attr]
    other = config.load(None, values | {"model.name": make_here, "artifacts": str(tmp_path / "b")})
    assert models.build_model(other.model).inner.rnn.hidden_size == 4  # type: ignore[union-attr]


def test_what_no_name_leads_to_and_what_has_weights_already() -> None:
    class Inside(Here):
        pass

    for wrong, message in (
        (
            Here(Sizes()),
            "(?s)found an instance of Here.*draws its initial weights from its own seed",
        ),
        (functools.partial(Here, Sizes()), "found an instance of partial"),
        (Inside, r"at the top level of a module, found .*<locals>\.Inside"),
        (lambda: Here(Sizes()), "<lambda>"),
    ):
        with pytest.raises(ConfigError, match=message):
            config.load(None, {"model.name": wrong})


NOTEBOOK = '''
import linecache, sys
from adding_problem import load, models, train, load_model
from adding_problem.runs.folder import RunFolder

def cell(code, name):
    """Run as a notebook does: in __main__, which has no file, with the source kept aside."""
    linecache.cache[name] = (len(code), None, code.splitlines(True), name)
    exec(compile(code, name, "exec"), vars(sys.modules["__main__"]))

del sys.modules["__main__"].__file__
CODE = """
from torch import nn
class Mine(nn.Module):
    def __init__(self, units=3):
        super().__init__()
        self.rnn = nn.GRU(2, units, batch_first=True)
    def forward(self, x):
        return self.rnn(x)[0]
"""
values = {"dataset.t": 10, "dataset.dt_length": 100, "train.epochs": 1, "artifacts": "run"}
cell(CODE, "<cell 1>")
train(load(overrides=values | {"model.name": Mine}))
assert load_model("run", trust=True).inner.rnn.hidden_size == 3
source = RunFolder("run").read_result().model_source
assert not models.changed_since("__main__:Mine", source)
cell(CODE.replace("[0]", "[0] * 2"), "<cell 2>")
assert models.changed_since("__main__:Mine", source)
'''


def test_a_class_of_a_notebook(tmp_path: Path, command: Command) -> None:
    (tmp_path / "notebook.py").write_text(NOTEBOOK)
    done = command(program=["notebook.py"])
    assert done.returncode == 0, done.stderr


def test_the_command_line(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(file.parent)
    model = ["--model", "mine.py:sequence", "--model.units"]
    options = [
        *model,
        "6",
        "--dataset.t",
        "12",
        "--dataset.dt_length",
        "200",
        "--train.epochs",
        "1",
        "--artifacts",
        "run",
    ]
    assert cli.main(["train", *options]) == 0
    out = capsys.readouterr().out
    assert "sequence (units 6) on the adding problem" in out
    assert "a linear readout of its last step was added (7 parameters)" in out
    assert cli.main(["validate", *options]) == 0
    capsys.readouterr()
    assert cli.main(["validate", *options, "--model.units", "7"]) == 2
    assert "model.units: expected 6, with which run was trained, found 7" in capsys.readouterr().err
    assert cli.main(["validate", "run", "--lengths", "12"]) == 2
    assert "--trust" in capsys.readouterr().err
    assert cli.main(["validate", "run", "--lengths", "12", "--trust"]) == 0
    assert cli.main(["train", *options, "--print_config"]) == 0
    assert "  units: 6 " in capsys.readouterr().out
    assert cli.main(["train", "--model", "mine.py:sequence", "--model.unit=6"]) == 2
    assert "did you mean 'units'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "problem"),
    [("Limited", "model mine.py:Limited"), ("Hungry", "memory: there is not enough")],
)
def test_a_limit_on_t_ends_a_horizon_run_and_not_a_table(
    name: str,
    problem: str,
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(file.parent)
    train(run_of(Path(), f"mine.py:{name}", dataset__dt_length=200))
    assert (
        cli.main(["validate", "run", "--lengths", "20", "60", "--sequences", "50", "--trust"]) == 0
    )
    shown = capsys.readouterr()
    assert re.search(r"run +30 +[\d.e+-]+ +- ", shown.out)
    assert f"note: run, T = 60: {problem}" in shown.err
    assert (
        cli.main(
            ["horizon", "--model", f"mine.py:{name}", "--lengths", "25", "60", "--minutes", "1"]
        )
        == 0
    )
    printed = capsys.readouterr().out.replace("\n", " ")
    assert f"the horizon run ends here: {problem}" in printed
    assert "horizon: T = 25 after" in printed


CALLED = (
    "dataset: {t: 12, dt_length: 200}\ntrain: {epochs: 1}\n"
    "model: {name: subprocess.getoutput, cmd: touch called}\n"
)


@pytest.mark.parametrize("what", ["train", "validate", "horizon", "sweep"])
def test_a_file_cannot_have_a_function_called(what: str, tmp_path: Path, command: Command) -> None:
    (tmp_path / "hostile.yaml").write_text(
        CALLED + ("grid: {seed: [0, 1]}\n" if what == "sweep" else "")
    )
    done = command(what, "--config", "hostile.yaml")
    assert done.returncode == 2
    assert (
        "hostile.yaml: model.name: expected a model of the zoo, "
        "unless the command line names it too"
    ) in done.stderr
    assert (
        "add --trust, or name the model yourself: add --model subprocess.getoutput\n" in done.stderr
    )
    assert not (tmp_path / "called").exists()


NAMES = {
    "mine.py:Last": "mine.py:Last",
    "mine.Last": "mine.Last",
    "mymodel": "mymodel",
    "has space.py:Last": "'has space.py:Last'",
}
"""Names in a file, and as a shell takes them."""


@pytest.mark.parametrize("what", ["train", "validate", "horizon", "sweep"])
@pytest.mark.parametrize("name", NAMES)
def test_a_file_cannot_have_a_model_imported(
    what: str,
    name: str,
    tmp_path: Path,
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By whatever name: of a file, of a module, of a plug-in."""
    plugged = tmp_path / "plugged-1.0.dist-info"
    plugged.mkdir()
    (plugged / "METADATA").write_text("Metadata-Version: 2.1\nName: plugged\nVersion: 1.0\n")
    (plugged / "entry_points.txt").write_text("[adding_problem.models]\nmymodel = mine:Last\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    sys.modules.pop("mine", None)
    code = f"from pathlib import Path\nPath({str(tmp_path / 'imported')!r}).touch()\n" + MODELS
    for file in ("mine.py", "has space.py"):
        (tmp_path / file).write_text(code)
    text, harmless = (
        f"dataset: {{t: 12, dt_length: 200}}\nmodel: {{name: '{name}'}}\n",
        ["--print_config"],
    )
    if what == "sweep":
        text, harmless = text + "grid: {seed: [0, 1]}\n", [*harmless, "--dry_run"]
    (tmp_path / "given.yaml").write_text(text)
    for option in harmless:
        assert command(what, "--config", "given.yaml", option).returncode == 0
    done = command(what, "--config", "given.yaml")
    assert done.returncode == 2
    assert (
        "given.yaml: model.name: expected a model of the zoo, unless the command line"
        in done.stderr
    )
    assert f"found {name!r}, which would be imported and run" in done.stderr
    assert f"add --trust, or name the model yourself: add --model {NAMES[name]}\n" in done.stderr
    assert not (tmp_path / "imported").exists()


def test_models_that_vary_in_a_sweeps_file_need_trust(
    file: Path,
    tmp_path: Path,
    command: Command,
) -> None:
    """No one name on the command line could stand for all of them."""
    (tmp_path / "given.yaml").write_text(
        f"dataset: {{t: 12, dt_length: 200}}\ntrain: {{epochs: 1}}\nmodel: {{hidden: 4}}\n"
        f"grid: {{model.name: [gru, '{file}:Hidden']}}\n"
    )
    with file.open("a") as stream:
        stream.write(
            "\nclass Hidden(Last):\n    def __init__(self, hidden): super().__init__(hidden)\n"
        )
    done = command("sweep", "--config", "given.yaml")
    assert done.returncode == 2
    assert done.stderr.endswith(": if you trust that code and this file, add --trust\n")
    done = command("sweep", "--config", "given.yaml", "--trust", "--no_score", "--workers", 1)
    assert done.returncode == 0, done.stderr


def test_a_run_folders_own_file_cannot_have_its_model_imported(
    file: Path, tmp_path: Path, command: Command
) -> None:
    run = run_of(tmp_path, f"{file}:Last")
    train(run)
    file.write_text(
        f"from pathlib import Path\nPath({str(tmp_path / 'imported')!r}).touch()\n" + MODELS
    )
    again = ["validate", "--config", f"{run.artifacts}/config_copy.yaml"]
    done = command(*again)
    assert done.returncode == 2
    assert "config_copy.yaml: model.name: expected a model of the zoo" in done.stderr
    assert not (tmp_path / "imported").exists()
    for trusting in (["--trust"], ["--model", f"{file}:Last"]):
        (tmp_path / "imported").unlink(missing_ok=True)
        done = command(*again, *trusting)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "imported").exists()
    (tmp_path / "imported").unlink()
    Path(run.artifacts).rename(
        tmp_path / "sent"
    )  # to somebody else, whose folder is not the one that the file names
    done = command("train", "--config", "sent/config_copy.yaml")
    assert done.returncode == 2
    assert "sent/config_copy.yaml: model.name: expected a model of the zoo" in done.stderr
    assert not (tmp_path / "imported").exists()


@pytest.mark.parametrize("trusting", [["--trust"], ["--model", "{file}:sequence"]])
def test_what_to_type_for_a_model_that_a_file_names(
    trusting: list[str],
    file: Path,
    tmp_path: Path,
    command: Command,
) -> None:
    (tmp_path / "mine.yaml").write_text(
        "dataset: {t: 12, dt_length: 200}\ntrain: {epochs: 1}\nartifacts: run\n"
        f"model: {{name: '{file}:sequence', units: 3}}\n"
    )
    for what in ("train", "validate"):
        done = command(
            what, "--config", "mine.yaml", *(word.format(file=file) for word in trusting)
        )
        assert done.returncode == 0, done.stderr
    # In Python, nobody is asked.
    run = config.load(tmp_path / "mine.yaml", {"artifacts": str(tmp_path / "again")})
    expected = RunFolder(tmp_path / "run").read_result().best_val_loss
    assert train(run).best_val_loss == expected


def test_the_example(command: Command, tmp_path: Path) -> None:
    example = REPOSITORY / "examples" / "own_model.py"
    done = command(
        "train",
        "--model",
        f"{example}:GatedSum",
        "--recipe",
        "fast",
        "--dataset.t",
        50,
        "--model.units",
        32,
        "--artifacts",
        "run",
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "result.json").read_text())["stop_reason"] == "solved"


def test_every_layer_of_torchrecurrent() -> None:
    """The sweep file names all of them, and each predicts with its arguments."""
    library = pytest.importorskip("torchrecurrent")
    found = [run.config for run in plan.read(REPOSITORY / "configs" / "torchrecurrent.yaml")]
    layers = [name for name in library.__all__ if not name.endswith("Cell")]
    assert {one.model.name for one in found} == {f"torchrecurrent.{name}" for name in layers}
    assert len(found) == len(layers) == 41
    x, _ = sample_batch(3, 20, seed=0)
    for one in found:
        assert models.build_model(one.model, length=20)(x).shape == (3, 1)
