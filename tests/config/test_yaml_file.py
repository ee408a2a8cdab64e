"""What a word means, by YAML 1.2: the same in a file, in a sweep and on the command line."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adding_problem import config
from adding_problem.config import RunConfig, yaml_file
from adding_problem.errors import ConfigError
from adding_problem.experiments.sweep import plan
from tests.conftest import Command

REFUSED = "refused"
# The text; what it is as `seed` (a whole number), as `train.learning_rate` (a number above 0), as
# `artifacts` (text, which may need quotes in a file) and as an argument of a model (anything
# plain). Written down from https://yaml.org/spec/1.2.2 (10.3.2).
WORDS: list[tuple[str, Any, Any, Any, Any]] = [
    ("010", 10, 10.0, REFUSED, 10),
    ("0100", 100, 100.0, REFUSED, 100),
    ("0o10", 8, 8.0, REFUSED, 8),
    ("0x1F", 31, 31.0, REFUSED, 31),
    ("0b11", REFUSED, REFUSED, "0b11", "0b11"),
    ("1_000", 1000, 1000.0, REFUSED, 1000),
    ("1__0", REFUSED, REFUSED, "1__0", "1__0"),
    ("1e3", 1000, 1000.0, REFUSED, 1000.0),
    ("1E3", 1000, 1000.0, REFUSED, 1000.0),
    ("1.0e3", 1000, 1000.0, REFUSED, 1000.0),
    ("1e-3", REFUSED, 0.001, REFUSED, 0.001),
    ("100.0", 100, 100.0, REFUSED, 100.0),
    ("1.5", REFUSED, 1.5, REFUSED, 1.5),
    ("1:40", REFUSED, REFUSED, "1:40", "1:40"),
    ("0:30.5", REFUSED, REFUSED, "0:30.5", "0:30.5"),
    (".5", REFUSED, 0.5, REFUSED, 0.5),
    ("5.", 5, 5.0, REFUSED, 5.0),
    ("+5", 5, 5.0, REFUSED, 5),
    ("-0", 0, REFUSED, REFUSED, 0),
    (".inf", REFUSED, REFUSED, REFUSED, REFUSED),
    (".nan", REFUSED, REFUSED, REFUSED, REFUSED),
    ("inf", REFUSED, REFUSED, "inf", "inf"),
    ("1e400", REFUSED, REFUSED, REFUSED, REFUSED),
    ("9007199254740993.0", REFUSED, 9007199254740992.0, REFUSED, 9007199254740992.0),
    ("18446744073709551615", 2**64 - 1, 2.0**64, REFUSED, 2**64 - 1),
    ("18446744073709551616", REFUSED, 2.0**64, REFUSED, 2**64),
    ("yes", REFUSED, REFUSED, REFUSED, REFUSED),
    ("no", REFUSED, REFUSED, REFUSED, REFUSED),
    ("on", REFUSED, REFUSED, REFUSED, REFUSED),
    ("Off", REFUSED, REFUSED, REFUSED, REFUSED),
    ("true", REFUSED, REFUSED, REFUSED, True),
    ("True", REFUSED, REFUSED, REFUSED, True),
    ("tRue", REFUSED, REFUSED, "tRue", "tRue"),
    ("null", REFUSED, REFUSED, REFUSED, None),
    ("None", REFUSED, REFUSED, "None", "None"),
    ("2026-11-30", REFUSED, REFUSED, "2026-11-30", "2026-11-30"),
    ("2026-13-45", REFUSED, REFUSED, "2026-13-45", "2026-13-45"),
    ("=", REFUSED, REFUSED, "=", "="),
    ("<<", REFUSED, REFUSED, "<<", "<<"),
    ("\u0663", REFUSED, REFUSED, "\u0663", "\u0663"),
    ("\u00b2", REFUSED, REFUSED, "\u00b2", "\u00b2"),
]


def outcome(key: str, **source: Any) -> Any:
    try:
        return config.load(**source).get(key)
    except ConfigError as error:
        assert error.key == key, error
        return REFUSED


@pytest.mark.parametrize(
    ("text", "seed", "rate", "artifacts", "argument"), WORDS, ids=[word[0] for word in WORDS]
)
def test_a_word_has_one_meaning(
    text: str, seed: Any, rate: Any, artifacts: Any, argument: Any, tmp_path: Path
) -> None:
    path = tmp_path / "config.yaml"
    for key, expected in (
        ("seed", seed),
        ("train.learning_rate", rate),
        ("artifacts", artifacts),
        ("model.x", argument),
    ):
        path.write_text(f"model.name: a.Model\n{key}: {text}\n")
        in_a_file = outcome(key, path=path)
        as_a_word = outcome(key, overrides={"model.name": "a.Model", key: text})
        assert (type(in_a_file), in_a_file) == (type(expected), expected)
        if key == "artifacts":  # a word of a shell is text already
            assert as_a_word == text
        else:
            assert (type(as_a_word), as_a_word) == (type(expected), expected)


@pytest.mark.parametrize(
    "word", [word for word in WORDS if word[1] is not REFUSED], ids=lambda word: word[0]
)
def test_a_list_of_a_sweep_is_read_as_a_run(
    word: tuple[str, Any, Any, Any, Any], tmp_path: Path
) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(f"grid: {{seed: [{word[0]}], train.batch: [8, 1e1]}}")
    runs = plan.read(path)
    assert [(run.config.seed, run.config.train.batch) for run in runs] == [
        (word[1], 8),
        (word[1], 10),
    ]


def test_the_command_line_reads_words_as_a_file(command: Command) -> None:
    said = command(
        "train",
        "--print_config",
        "--dataset.t",
        "0100",
        "--train.batch",
        "1e1",
        "--seed",
        "0x1F",
        "--train.budget_steps",
        "null",
        "--model",
        "a.Model",
        "--model.sizes",
        "[010, 1:40]",
    ).stdout
    for line in (
        "  t: 100 ",
        "  batch: 10 ",
        "seed: 31 ",
        "  budget_steps: null ",
        "  sizes: [10, '1:40'] ",
    ):
        assert f"\n{line}" in said
    for words in (
        ["data", "--n", "1:40", "--length", "5", "--out", "x.npz"],
        ["horizon", "--minutes", "0:30.5"],
        ["train", "--dataset.t", "1:40"],
        ["train", "--threads", ""],
        ["train", "--dataset.stream", "yes"],
    ):
        done = command(*words)
        assert done.returncode == 2
        assert (
            f"{words[1]}: expected".replace("--dataset", "dataset").replace("--threads", "threads")
            in done.stderr
        )
    assert command("data", "--n", "1e1", "--length", "010", "--out", "x.npz").stdout.startswith(
        "10 sequences, T = 10:"
    )


@pytest.mark.parametrize("text", ["no", "150", "true", "010"])
def test_text_that_needs_quotes_says_so(text: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"artifacts: {text}")
    with pytest.raises(ConfigError, match="if text is meant, quote it"):
        config.load(path)
    path.write_text(f"artifacts: '{text}'")
    assert config.load(path).artifacts == text
    with pytest.raises(ConfigError, match="quote it"):
        config.load(None, {"model.name": "a.Model", "model.x": "no"})


def test_json_is_read_however_it_is_indented(tmp_path: Path) -> None:
    document = {
        "dataset": {"t": 1e3, "stream": True},
        "artifacts": "run \U0001f600",
        "train": {"es_patience": None},
    }
    path = tmp_path / "config.json"
    for indent in ("\t", 2, None):
        for mark in ("", "\ufeff"):
            path.write_text(mark + json.dumps(document, indent=indent), encoding="utf-8")
            loaded = config.load(path)
            assert (loaded.dataset.t, loaded.artifacts, loaded.train.es_patience) == (
                1000,
                "run \U0001f600",
                None,
            )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"seed": 1, "seed": 2}', "the key 'seed' a second time"),
        ('{"dataset": {"t": 5, "t": 6}}', "the key 't' a second time"),
        ('{"train": {"learning_rate": NaN}}', "NaN, which is no number of JSON"),
        ('{\n\t"seed": 1\n\t"threads": 2\n}', "Expecting ',' delimiter in line 3, column 2"),
        ("{seed: 1, threads: [2}", "in line 1, column 22"),
        ("seed: 1\n'seed': 2", "the key 'seed' a second time"),
        ("<<: {seed: 1}", "the unknown key '<<'"),
        ("=: 1", "the unknown key '='"),
        ("seed: " + "9" * 5000, "expected valid YAML"),
        ('{"seed": ' + "9" * 5000 + "}", "expected valid YAML"),
        ('{"a": ' * 5000, "expected valid YAML"),
        ('artifacts: "\\ud800"', "expected the path of a folder"),
        ('model: {start_from: "a\\0"}', "expected the path of a folder"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(
    text: str, problem: str, tmp_path: Path
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    assert problem in str(caught.value)


PLAIN = (
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False)
    | st.text()
    | st.sampled_from([word[0] for word in WORDS])
)


@settings(deadline=None, max_examples=200)
@given(
    st.dictionaries(
        st.text(min_size=1) | st.sampled_from([word[0] for word in WORDS]), PLAIN | st.lists(PLAIN)
    )
)
def test_what_is_written_is_read_back(document: dict[str, Any]) -> None:
    back = yaml_file.parse(yaml_file.dump(document))
    assert back == document
    assert {key: type(value) for key, value in back.items()} == {
        key: type(value) for key, value in document.items()
    }


def test_a_configuration_shows_no_character_that_a_terminal_obeys(tmp_path: Path) -> None:
    hostile = "a\x1b[31m\u202eb\u2028c"
    original = RunConfig(
        artifacts=hostile, model=config.ModelConfig("a.Model", arguments={"x": [hostile], "y": 1})
    )
    text = config.to_yaml(original)
    assert all(map(str.isprintable, text.splitlines()))
    (tmp_path / "config.yaml").write_text(text, encoding="utf-8")
    assert config.load(tmp_path / "config.yaml") == original


def test_numbers_of_python_are_read_as_those_of_a_file() -> None:
    assert config.load(None, {"dataset.t": 1000.0}).dataset.t == 1000
    for value in (1000.5, True, math.nan, float(1 << 60)):
        with pytest.raises(ConfigError, match=r"dataset\.t: expected a whole number"):
            config.load(None, {"dataset.t": value})
