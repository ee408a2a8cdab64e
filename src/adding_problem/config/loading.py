"""A configuration from a YAML file and dotted overrides, and back to YAML.

The original's YAML (`dataset: dt_length, t`; `train: epochs, batch, es_patience`; `artifacts`)
works unchanged; every other key is optional.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from adding_problem.config import recipes, yaml_file
from adding_problem.config.run_config import KEYS, SECTIONS, RunConfig, ValidateConfig
from adding_problem.config.values import meaning, takes_text, word_shown, wrong_value
from adding_problem.config.yaml_file import read_yaml
from adding_problem.errors import ConfigError, shown

__all__ = ["COMMAND_LINE", "flatten", "load", "of_values", "to_yaml"]

COMMAND_LINE = "command line"
"""The place that an error names where no file is to blame."""


def load(path: str | Path | None = None, overrides: Mapping[str, Any] | None = None) -> RunConfig:
    """Read a configuration.

    Args:
        path: YAML file; None takes the defaults.
        overrides: values by dotted key, stronger than the file's.

    Raises:
        ConfigError: naming the file, the key, what was expected, what was found and the hint.

    Examples:
        >>> from adding_problem import load
        >>> config = load(overrides={"recipe": "fast", "dataset.t": 1000})
        >>> config.dataset.t, config.curriculum.start, config.train.batch
        (1000, 20, 16)
    """
    document = dict(flatten(read_yaml(Path(path)), str(path))) if path is not None else {}
    return of_values(document, str(path or COMMAND_LINE), overrides or {})


def of_values(document: Mapping[str, Any], source: str, overrides: Mapping[str, Any]) -> RunConfig:
    """The configuration of a file's values and of overrides, by dotted key.

    Args:
        document: the file's values.
        source: the file's name.
        overrides: stronger values; a text is a word of the command line.

    Raises:
        ConfigError: see `load`.
    """
    read = {key: _read_value(key, value) for key, value in document.items()}
    read |= {key: _read_word(key, value) for key, value in overrides.items()}
    model, variant = read.get("model.name", "lstm"), read.get("dataset.variant", "any")
    recipe = read.get("recipe", "original")
    usual = recipes.values_of(recipe, model, variant)
    try:
        return _build({**_other_seed(read), **usual, **read})
    except ConfigError as error:
        if error.key in overrides:
            word = overrides[error.key]
            if isinstance(word, str) and error.found == shown(read[error.key]):
                error.found = word_shown(word)
            raise error.at(COMMAND_LINE) from None
        of_the_recipe = error.key in usual and error.key not in document
        raise error.at(f"recipe {recipe}" if of_the_recipe else source) from None


def _other_seed(values: Mapping[str, Any]) -> dict[str, Any]:
    """`validate.seed` one higher where the training has its default, for the two must differ."""
    usual = ValidateConfig().seed
    return {"validate.seed": usual + 1} if values.get("seed") == usual else {}


def _build(values: Mapping[str, Any]) -> RunConfig:
    groups: dict[str, dict[str, Any]] = {name: {} for name in SECTIONS}
    groups["model"]["arguments"] = {}
    top: dict[str, Any] = {}
    for key, value in values.items():
        section, _, name = str(key).partition(".")
        if key in KEYS and section in groups:
            groups[section][name] = value
        elif section == "model" and name:
            _nest(groups["model"]["arguments"], name.split("."), value)
        elif section in groups and name:
            groups[section][name] = value
        else:
            top[str(key)] = value
    made = {name: SECTIONS[name](**group) for name, group in groups.items()}
    return RunConfig(**made | top)


def _nest(arguments: dict[str, Any], names: list[str], value: Any) -> None:
    """Set an argument of the model, or a field of one: ``config.width`` is one of `config`."""
    first, *rest = names
    if rest:
        outer = arguments.get(first)
        arguments[first] = dict(outer) if isinstance(outer, Mapping) else {}
        _nest(arguments[first], rest, value)
    else:
        arguments[first] = value


def _read_value(key: str, value: Any) -> Any:
    """A value of a file: of a number in quotes, as some programs write it, that number."""
    if isinstance(value, str) and key in KEYS and not takes_text(KEYS[key].kind):
        with suppress(ValueError):
            return yaml_file.scalar(value)
    return value


def _read_word(key: str, value: Any) -> Any:
    """What a word of the command line means; what Python gives otherwise stays as it is.

    Raises:
        ConfigError: when it means nothing.
    """
    if not isinstance(value, str):
        return value
    try:
        return meaning(KEYS[key].kind, value) if key in KEYS else yaml_file.parse(value)
    except (yaml.YAMLError, RecursionError, ValueError):
        if key in KEYS:
            raise wrong_value(KEYS[key], word_shown(value), COMMAND_LINE) from None
        return value


def flatten(document: Mapping[Any, Any], source: str) -> Iterator[tuple[str, Any]]:
    """Dotted key and value of everything in a document; groups of keys may be nested or dotted.

    Raises:
        ConfigError: when a group is none, or a key is given twice.
    """
    seen: set[str] = set()
    for name, value in document.items():
        if name not in SECTIONS:
            found = {str(name): value}
        elif isinstance(value, Mapping) or value is None:
            found = {f"{name}.{inner}": leaf for inner, leaf in (value or {}).items()}
        else:
            hint = f"write '{name}:' and its keys indented below it"
            raise ConfigError(str(name), "a group of keys", shown(value), hint, source)
        if again := seen.intersection(found):
            raise ConfigError(
                min(again), "one value", "two, one of them dotted", "leave one out", source
            )
        seen.update(found)
        yield from found.items()


def to_yaml(config: RunConfig) -> str:
    """The configuration as YAML, with a comment per key; `load` reads it back unchanged."""
    lines = []
    last = ""
    for key in KEYS.values():
        section, _, name = key.name.rpartition(".")
        if section and section != last:
            lines.append(f"{section}:")
        last = section
        lines.append(_line(section, name, config.get(key.name), key.help))
        if key.name == "model.start_from":  # the section's last: the model's own arguments follow
            lines += [
                _line(section, name, value, "argument of the model")
                for name, value in config.model.arguments.items()
            ]
    return "\n".join(lines) + "\n"


def _line(section: str, name: str, value: Any, comment: str) -> str:
    indent = "  " if section else ""
    value = list(value) if isinstance(value, tuple) else value
    text = f"{_in_yaml(name)}: {_in_yaml(value)}"
    return f"{indent}{text:<{30 - len(indent)}}  # {comment}"


def _in_yaml(value: Any) -> str:
    """A value on one line, with every character escaped that a terminal could obey."""
    layout = {"default_flow_style": True, "width": 10_000_000}
    text = yaml_file.dump([value], allow_unicode=True, **layout).strip()
    if not text.isprintable():
        text = yaml_file.dump([value], **layout).strip()
    return text[1:-1]
