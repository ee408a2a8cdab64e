"""The configuration: the original's file, defaults, overrides, and every way to get it wrong."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field

from adding_problem import config
from adding_problem.config import KEYS, DatasetConfig, ModelConfig, RunConfig, TrainConfig
from adding_problem.config.recipes import defaults_of
from adding_problem.config.values import Real, Steps, Text, Truth, Whole, described, read_word
from adding_problem.errors import ConfigError, RunFolderError, closest
from adding_problem.experiments.train import train
from adding_problem.task.variants import MIN_LENGTH
from tests.conftest import REPOSITORY, Command

ORIGINAL = """\
artifacts: artifacts/150
dataset:
  dt_length: 100000
  t: 150
train:
  batch: 64
  epochs: 100
  es_patience: 10
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(text)
    return path


def test_the_originals_file_and_method(tmp_path: Path) -> None:
    loaded = config.load(write(tmp_path, ORIGINAL))
    assert loaded == RunConfig(artifacts="artifacts/150")
    assert (loaded.train.learning_rate, loaded.train.clip_value, loaded.train.es_monitor) == (
        1e-2,
        10,
        "loss",
    )
    assert (loaded.model.name, loaded.model.given, loaded.seed, loaded.validate.seed) == (
        "lstm",
        {},
        0,
        43,
    )
    assert loaded.model.title == "lstm (hidden 100, init keras)"
    assert (loaded.dataset.n_train, loaded.dataset.n_held_out) == (70_000, 30_000)


@pytest.mark.parametrize("t", [150, 200, 250, 300, 500, 700, 1000])
def test_the_originals_seven_experiments(t: int) -> None:
    loaded = config.load(REPOSITORY / "configs" / "original" / f"{t}.yaml")
    assert loaded.dataset.t == t
    assert (loaded.dataset.n_train, loaded.dataset.n_held_out) == (30_000, 70_000)
    assert (loaded.train.batch, loaded.train.epochs, loaded.train.es_patience) == (64, 100, 10)


def test_the_configuration_of_the_originals_command_has_its_keys_and_no_others() -> None:
    path = REPOSITORY / "configs" / "config.yaml"
    keys = dict(config.flatten(config.read_yaml(path), str(path)))
    assert set(keys) == {
        "dataset.dt_length",
        "dataset.t",
        "train.epochs",
        "train.batch",
        "train.es_patience",
        "artifacts",
    }
    assert config.load(path) == config.load(None, keys | {"recipe": "original"})


def test_overrides_are_stronger_than_the_file(tmp_path: Path) -> None:
    loaded = config.load(
        write(tmp_path, ORIGINAL), {"dataset.t": "300", "train.learning_rate": "1e-3"}
    )
    assert (loaded.dataset.t, loaded.train.learning_rate, loaded.train.batch) == (300, 1e-3, 64)


def test_empty_file_and_empty_section_are_the_defaults(tmp_path: Path) -> None:
    assert config.load(write(tmp_path, "")) == RunConfig()
    assert config.load(write(tmp_path, "train:\n")) == RunConfig()


def test_scientific_notation_without_a_dot(tmp_path: Path) -> None:
    assert config.load(write(tmp_path, "train: {learning_rate: 2e-3}")).train.learning_rate == 2e-3


@settings(deadline=None, max_examples=40)  # a machine that is busy is no failure
@given(
    st.builds(
        RunConfig,
        dataset=st.builds(
            DatasetConfig,
            dt_length=st.integers(1000, 10**6),
            t=st.integers(22, 10**6),
            variant=st.sampled_from(["any", "halves", "hs1997"]),
            validation_split=st.floats(0.01, 0.9),
        ),
        train=st.builds(
            TrainConfig,
            learning_rate=st.floats(1e-12, 1e3),
            stop_val_loss=st.none() | st.floats(1e-9, 1),
        ),
        seed=st.integers(0, 42) | st.integers(44, 2**63),
        threads=st.none() | st.integers(1, 64),
        artifacts=st.text(min_size=1).filter(
            lambda text: text.strip() and "\x00" not in text and text[0] != "~"
        ),
    )
)
def test_yaml_round_trip(tmp_path_factory: pytest.TempPathFactory, original: RunConfig) -> None:
    path = tmp_path_factory.mktemp("round") / "config.yaml"
    path.write_text(config.to_yaml(original), encoding="utf-8")
    assert config.load(path) == original


def test_a_comment_for_every_key() -> None:
    text = config.to_yaml(RunConfig())
    leaves = [line for line in text.splitlines() if not line.endswith(":")]
    assert len(leaves) >= 20
    assert all("  # " in line for line in leaves)


def leaf_changes() -> list[tuple[str, object]]:
    return [
        ("dataset.dt_length", 5000),
        ("dataset.t", 151),
        ("dataset.variant", "halves"),
        ("dataset.validation_split", 0.31),
        ("model.hidden", 101),
        ("model.init", "torch"),
        ("train.epochs", 99),
        ("train.batch", 63),
        ("train.es_patience", 11),
        ("train.es_monitor", "val_loss"),
        ("train.learning_rate", 0.02),
        ("train.clip_value", 9.0),
        ("train.stop_val_loss", 1e-3),
        ("validate.seed", 44),
        ("validate.dt_length", 7),
        ("seed", 1),
        ("threads", 1),
        ("device", "cpu"),
        ("backend", "torch"),
        ("recipe", "fast"),
        ("dataset.stream", True),
        ("dataset.held_out", 5),
        ("train.epoch_steps", 9),
        ("train.clip_norm", 2.0),
        ("train.warmup_steps", 3),
        ("train.decay_steps", 50),
        ("train.decay_below", 0.02),
        ("train.optimizer", "sgd"),
        ("train.weight_decay", 0.1),
        ("train.budget_steps", 10),
        ("train.only_readout", True),
        ("train.ending_steps", 7),
        ("train.ending_length", 9),
        ("train.ending_below", 4e-3),
        ("dataset.target", "product"),
        ("dataset.noise_columns", 2),
        ("dataset.mix", "swap"),
        ("train.budget_minutes", 1.5),
        ("curriculum.factor", 2.5),
        ("curriculum.threshold", 0.02),
        ("curriculum.smoothing", 0.9),
        ("model.memory", 5000),
        ("model.start_from", "artifacts/other"),
        ("model.name", "some.Model"),
    ]


# Values that need others beside them.
DEPENDENT: dict[str, tuple[object, dict[str, object]]] = {
    "dataset.mix_seed": (3, {"dataset.mix": "rotate"}),
    "curriculum.start": (40, {"recipe": "fast"}),
    "curriculum.shortest": (0.4, {"recipe": "fast"}),
    "train.val_subset": (5, {"recipe": "fast"}),
    "model.layout": ("tbc", {"model.name": "some.Model"}),
}


@pytest.mark.parametrize("key", DEPENDENT)
def test_the_digest_covers_the_keys_that_need_others(key: str) -> None:
    value, others = DEPENDENT[key]
    assert config.load(None, {**others, key: value}).digest != config.load(None, others).digest


def test_the_digest_takes_whole_numbers_for_floats_where_these_are_meant(tmp_path: Path) -> None:
    """Else a run would not know its own folder, whose configuration is read back as floats."""
    made = RunConfig(
        train=TrainConfig(clip_norm=1, budget_minutes=2),
        model=ModelConfig("cornn", arguments={"gamma": 66}),
    )
    (tmp_path / "written.yaml").write_text(config.to_yaml(made))
    assert (
        made.digest
        == config.load(tmp_path / "written.yaml").digest
        == config.load(
            None, {"train.clip_norm": 1.0, "train.budget_minutes": 2.0, "model.name": "cornn"}
        ).digest
    )


@pytest.mark.parametrize(("key", "value"), leaf_changes())
def test_the_digest_covers_every_key(key: str, value: object) -> None:
    assert config.load(None, {key: value}).digest != RunConfig().digest


def test_the_digest_test_forgets_no_key() -> None:
    keys = {
        f"{name}.{leaf}" if isinstance(value, dict) else name
        for name, value in RunConfig().to_dict().items()
        for leaf in (value if isinstance(value, dict) else [name])
    } - {"model.arguments"}
    assert set(KEYS) == keys
    assert {key for key, _ in leaf_changes()} == keys - NOT_THE_RUN.keys() - DEPENDENT.keys()


NOT_THE_RUN: dict[str, object] = {
    "artifacts": "elsewhere",
    "train.checkpoint_minutes": 5,
    "logger": "tensorboard",
}


def test_the_digest_leaves_out_where_and_how_results_are_written() -> None:
    changed = config.load(None, NOT_THE_RUN)
    assert changed != RunConfig()
    assert changed.digest == RunConfig().digest


def test_a_recipe_is_plain_values_that_all_can_be_overridden(tmp_path: Path) -> None:
    loaded = config.load(
        write(tmp_path, "recipe: fast\ntrain: {batch: 8}"), {"curriculum.factor": 2}
    )
    assert (loaded.train.batch, loaded.curriculum.factor) == (8, 2.0)
    for key, value in config.RECIPES["fast"].items():
        if key != "train.batch":
            assert loaded.get(key) == value
    again = tmp_path / "again.yaml"
    again.write_text(config.to_yaml(loaded))
    assert config.load(again) == loaded


@pytest.mark.parametrize("recipe", config.RECIPES)
def test_the_defaults_of_a_recipe_are_those_that_it_loads_with(recipe: str) -> None:
    assert defaults_of(recipe) == config.load(None, {"recipe": recipe}).flat()


def test_the_recipe_original_is_the_defaults() -> None:
    assert config.load(None, {"recipe": "original"}) == RunConfig()


BAD = {
    "curriculum on a fixed data set": (
        "curriculum: {start: 20}",
        "curriculum.start",
        "null where the data set is fixed",
    ),
    "curriculum too short": (
        "recipe: fast\ndataset: {variant: hs1997, t: 100}\ncurriculum: {start: 20}",
        "curriculum.start",
        "at least 22 steps",
    ),
    "unknown recipe": ("recipe: slow", "recipe", "one of original, fast"),
    "truth value expected": ("dataset: {stream: 3}", "dataset.stream", "true or false, found 3"),
    "unknown key": (
        "dataset: {dtlength: 5}",
        "dataset.dtlength",
        "did you mean 'dataset.dt_length'",
    ),
    "unknown section": ("trian: {epochs: 5}", "trian", "unknown key 'trian'"),
    "whole number expected": (
        "dataset: {t: 1.5}",
        "dataset.t",
        "a whole number of at least 2, found 1.5",
    ),
    "number expected": (
        "train: {learning_rate: fast}",
        "train.learning_rate",
        "a number above 0, found 'fast'",
    ),
    "truth value is no number": ("dataset: {t: true}", "dataset.t", "found True"),
    "unknown choice": (
        "dataset: {variant: some}",
        "dataset.variant",
        "one of any, halves, hs1997, found 'some'",
    ),
    "not a number": ("train: {learning_rate: .nan}", "train.learning_rate", "found nan"),
    "infinite": ("train: {learning_rate: .inf}", "train.learning_rate", "found inf"),
    "section as a value": ("dataset: 5", "dataset", "a group of keys, found 5"),
    "list": ("- dataset", "", "expected keys and values"),
    "repeated key": ("seed: 1\nseed: 2", "", "the key 'seed' a second time in line 2"),
    "a key that is a list": ("seed: 1\n[a]: 2", "", "a key that is no word in line 2"),
    "nothing to hold out": (
        "dataset: {dt_length: 2, validation_split: 0.9}",
        "dataset.dt_length",
        "split into 0 and 2",
    ),
    "all held out": (
        "dataset: {dt_length: 10, held_out: 10}",
        "dataset.held_out",
        "split into 0 and 10",
    ),
    "nothing held out beside fresh ones": (
        "dataset: {stream: true, validation_split: 1e-17}",
        "dataset.dt_length",
        "into 100000 and 0",
    ),
    "a home that no shell has seen": (
        "artifacts: ~/runs/a",
        "artifacts",
        "'~/runs/a', whose ~ only a shell replaces",
    ),
    "a choice that is code": (
        "backend: os.system",
        "backend",
        "one of auto, native, torch, found 'os.system'",
    ),
    "one key twice": ("dataset: {t: 150}\ndataset.t: 300", "dataset.t", "one value, found two"),
    "split out of bounds": (
        "dataset: {validation_split: 1}",
        "dataset.validation_split",
        "between 0 and 1",
    ),
    "T below 2": ("dataset: {t: 1}", "dataset.t", "at least 2, found 1"),
    "T too short for the variant": (
        "dataset: {t: 21, variant: hs1997}",
        "dataset.t",
        "at least 22 steps",
    ),
    "equal seeds": (
        "seed: 43\nvalidate: {seed: 43}",
        "validate.seed",
        "another seed than the training seed",
    ),
    "negative seed": ("seed: -1", "seed", "at least 0, found -1"),
    "empty artifacts": ("artifacts: ' '", "artifacts", "the path of a folder"),
    "broken YAML": ("dataset: {t: 5", "", "line 1"),
    "alias bomb": ("a: &a [x, x]\nb: &b [*a, *a]\ndataset: *b", "", "an alias"),
    "deep nesting": ("[" * 5000, "", "expected valid YAML"),
    "python object": ("seed: !!python/object/apply:os.system ['true']", "", "a tag (!name)"),
    "a tag that PyYAML stumbles over": ("seed: !!int ''", "", "a tag (!name)"),
    "a null byte in a path": ('artifacts: "a\\0b"', "artifacts", "the path of a folder"),
    "more threads than any machine has": (
        "threads: 100000",
        "threads",
        "from 1 to 1,024 or null",
    ),
    "a number of a thousand digits": (f"seed: 1{'0' * 1000}", "seed", "a whole number below 2^64"),
    "binary": ("\x00\x01", "", "expected valid YAML"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files(case: str, tmp_path: Path) -> None:
    text, key, part = BAD[case]
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    error = caught.value
    assert error.key == key
    assert error.source == str(path)
    assert part in str(error)
    assert error.hint in str(error)


def test_wrong_encoding(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"artifacts: caf\xe9")
    with pytest.raises(ConfigError, match="UTF-8"):
        config.load(path)


def test_too_large(tmp_path: Path) -> None:
    path = tmp_path / "large.yaml"
    path.write_text("#" * (1 << 20) + "#")
    with pytest.raises(ConfigError, match="1 MiB"):
        config.load(path)


@pytest.mark.parametrize("path", ["missing.yaml", "."])
def test_unreadable_file(path: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a readable YAML file"):
        config.load(tmp_path / path)


def test_an_override_is_blamed_on_the_command_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^command line: dataset\.t: "):
        config.load(write(tmp_path, ORIGINAL), {"dataset.t": 1})


@pytest.mark.parametrize(
    ("make", "key", "expected"),
    [
        (lambda: DatasetConfig(t=1), "dataset.t", "a whole number of at least 2"),
        (
            lambda: RunConfig(dataset={"t": 1}),  # type: ignore[arg-type]
            "dataset.t",
            "a whole number of at least 2",
        ),
        (lambda: RunConfig(dataset=5), "dataset", "a group of keys"),  # type: ignore[arg-type]
        (lambda: RunConfig(sed=1), "sed", "a known key"),  # type: ignore[call-arg]
        (lambda: replace(RunConfig(), seed=-1), "seed", "a whole number of at least 0"),
        (lambda: replace(RunConfig(), seed=43), "validate.seed", "another seed than the training"),
        (
            lambda: replace(RunConfig().train, batch=0),
            "train.batch",
            "a whole number of at least 1",
        ),
        (lambda: ModelConfig(arguments={"x": object()}), "model.x", "a number, text"),
    ],
)
def test_a_configuration_made_or_changed_in_python_is_checked_too(
    make: Callable[[], object], key: str, expected: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    assert caught.value.key == key
    assert caught.value.expected.startswith(expected)


@pytest.mark.parametrize("name", KEYS)
def test_every_key_refuses_what_is_of_no_type(name: str) -> None:
    for value in (object(), math.nan, -math.inf, [["x"]]):
        with pytest.raises(ConfigError) as caught:
            config.load(None, {name: value})
        assert caught.value.key == name
        assert caught.value.expected == described(KEYS[name].kind)
        assert KEYS[name].help in caught.value.hint or "quote it" in caught.value.hint


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        RunConfig().train.batch = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["train", "--dataset.tt", "5"], ["dataset.tt", "did you mean --dataset.t (length T"]),
        (["train", "--dataset.t", "many"], ["dataset.t", "whole number", "found many"]),
        (["train", "--dataset.t=1"], ["dataset.t", "at least 2", "found 1"]),
        (["train", "--config", "nowhere.yaml"], ["nowhere.yaml", "readable YAML file"]),
        (["train", "--config"], ["--config: expected a value, found nothing"]),
        (["train", "--logger", "mlflow"], ["logger: expected one of tensorboard, trackio, wandb"]),
        (
            ["train", "--train.epochs"],
            ["train.epochs: expected a whole number from 1 to 1,000,000, found nothing"],
        ),
        (["train", "--model.foo"], ["--model.foo: expected a value, found nothing"]),
        (["train", "--model.arguments", "3"], ["the unknown argument 'arguments'"]),
        (["teach"], ["expected a command, found 'teach'"]),
        (["validate", "--artifacts", "nowhere"], ["nowhere", "or train first"]),
        (["compare", "nowhere"], ["nowhere", "no run folder"]),
    ],
)
def test_the_command_line_ends_with_2_and_one_message(
    arguments: list[str], parts: list[str], command: Command
) -> None:
    done = command(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr + done.stdout
    assert done.stderr.startswith("error: ")
    assert "hint: " in done.stderr
    for part in parts:
        assert part in done.stderr


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("lr", "train.learning_rate"),
        ("epochs", "train.epochs"),
        ("hidden", "model.hidden"),
        ("T", "dataset.t"),
        ("seeds", "seed"),
        ("batch_size", "train.batch"),
        ("dataset.tt", "dataset.t"),
        ("extra", None),
        ("layers", None),
        ("dataset.foo", None),
    ],
)
def test_what_a_mistyped_name_may_have_meant(name: str, meant: str | None) -> None:
    keys = list(KEYS)
    assert closest(name, keys) == meant
    assert closest(f"--{name}", [f"--{key}" for key in keys]) == (f"--{meant}" if meant else None)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Annotated[Whole, Field(ge=1)], "a whole number of at least 1"),
        (Annotated[Real, Field(gt=0, lt=math.inf)], "a number above 0"),
        (Annotated[Real, Field(gt=0, lt=1)], "a number between 0 and 1, both excluded"),
        (Annotated[Real, Field(gt=0, le=1)], "a number above 0 and at most 1"),
        (Annotated[Whole, Field(ge=1, le=9)], "a whole number from 1 to 9"),
        (Whole | None, "a whole number or null"),
        (Literal["a", "b"], "one of a, b"),
        (Literal["a", "b"] | None, "one of a, b or null"),
        (tuple[Literal["a", "b"], ...], "a list, such as [a], of a, b"),
        (Truth, "true or false"),
        (Text, "text"),
    ],
)
def test_types_in_words(kind: Any, words: str) -> None:
    assert described(kind) == words


def test_artifacts_on_a_file(tmp_path: Path, command: Command) -> None:
    (tmp_path / "taken").write_text("mine")
    for artifacts in ("taken", "taken/below"):
        done = command("train", "--artifacts", artifacts)
        assert done.returncode == 2
        assert "artifacts: expected a folder" in done.stderr
        assert "Traceback" not in done.stderr
    assert (tmp_path / "taken").read_text() == "mine"


def test_artifacts_that_cannot_be_written(command: Command) -> None:
    done = command("train", "--artifacts", "/proc/nothing")  # not even root may write there
    assert done.returncode == 2
    assert "artifacts: expected a folder that can be written" in done.stderr


def test_another_runs_folder_is_refused(small_config: Path) -> None:

    first = config.load(small_config)
    train(first)
    other = config.load(small_config, {"train.batch": 16})
    with pytest.raises(RunFolderError, match="another configuration"):
        train(other)
    assert train(other, overwrite=True).digest == other.digest


def test_the_recipes_first_length_is_one_that_the_variant_has() -> None:
    for variant, least in MIN_LENGTH.items():
        start = config.load(
            None, {"recipe": "fast", "dataset.t": 100, "dataset.variant": variant}
        ).curriculum.start
        assert start is not None
        assert start >= max(20, least)


@pytest.mark.parametrize(
    ("word", "number"),
    [("20M", 20_000_000), ("1.5k", 1_500), ("2G", 2_000_000_000), ("300", 300), ("1e6", 10**6)],
)
def test_a_count_of_steps_may_have_a_letter(word: str, number: int) -> None:
    assert read_word(Steps, word) == number


@pytest.mark.parametrize("word", ["0", "0k", "M", "-3M", "20 M", "20m", "1.0001k"])
def test_what_is_no_count_of_steps(word: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        read_word(Steps, word)
