"""The configuration of a run: one frozen, typed object, from YAML and dotted overrides.

The original's YAML (`dataset: dt_length, t`; `train: epochs, batch, es_patience`; `artifacts`) works unchanged; every
other key is optional, and the defaults are the original's method, but for the share held out: its code took 70% where its text
says 30%. This module loads neither torch nor matplotlib, so that `--help` and `--print_config` answer at once.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
from argparse import SUPPRESS, ArgumentTypeError
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import jsonargparse
import yaml

from adding_problem.config import families, schema, yaml_file
from adding_problem.config.schema import option
from adding_problem.config.yaml_file import read_yaml
from adding_problem.errors import ConfigError, nearest, shown
from adding_problem.task.variants import MIN_LENGTH, Mix, Target, Task, Variant

__all__ = [
    "RECIPES",
    "Backend",
    "CurriculumConfig",
    "DatasetConfig",
    "Device",
    "ModelConfig",
    "RunConfig",
    "TrainConfig",
    "ValidateConfig",
    "Variant",
    "Word",
    "add_options",
    "flatten",
    "load",
    "overrides_of",
    "read_yaml",
    "to_yaml",
]

Device = Literal["auto", "cpu", "cuda", "mps"]
Backend = Literal["auto", "native", "torch"]
Recipe = Literal["original", "fast"]

RECIPES: dict[str, dict[str, Any]] = {
    "original": {},
    "fast": {
        "dataset.stream": True,
        "dataset.held_out": 256,
        "validate.dt_length": 10_000,
        "model.init": "keyed",
        "model.memory": 1_000_000_000,
        "train.epochs": 1_000,
        "train.epoch_steps": 10,
        "train.batch": 16,
        "train.es_patience": None,
        "train.es_monitor": "val_loss",
        "train.learning_rate": 3e-2,
        "train.clip_value": None,
        "train.clip_norm": 1.0,
        "train.warmup_steps": 50,
        "train.decay_steps": 400,
        "train.stop_val_loss": 5e-4,
        "train.ending_below": 3e-3,
        "train.ending_steps": 300,
        "train.ending_length": 1_000,
        "train.val_subset": 32,
        "curriculum.start": 20,
        "curriculum.shortest": 0.1,
    },
}
"""Named methods, as plain values that the file and the command line can override. `original` is all defaults."""

MOST_EPOCHS = 1_000_000
"""Largest `train.epochs`: the history of so many can be written and read again."""

WITHOUT_EFFECT = ("artifacts", "logger", "train.checkpoint_minutes")
"""Keys that say where and how often results are written: no number depends on them."""

COMMAND_LINE = "command line"


@dataclass(frozen=True)
class DatasetConfig:
    """The data set: a fixed number of sequences, the last share of which is held out."""

    dt_length: int = option(
        100_000,
        "without dataset.stream: number of sequences, training and held-out ones together",
        least=2,
    )
    t: int = option(150, "length T of a sequence, in steps", least=2)
    variant: Variant = option(
        "any", "where the two marks may stand: anywhere, one in each half, or as in 1997"
    )
    target: Target = option(
        "sum",
        "what is asked of the two marked values: their sum, the first minus the second, their product, or the first",
    )
    noise_columns: int = option(
        0, "columns of U[0, 1) noise beside value and mark", least=0, below=1_001
    )
    mix: Mix = option(
        "none",
        "what is done to the input columns: nothing, value and mark exchanged (swap), or all turned by a random "
        "rotation (rotate)",
    )
    mix_seed: int | None = option(None, "seed of the rotation; null: that of the run", least=0)
    validation_split: float = option(
        0.3,
        "share of dt_length that is held out for validation, where held_out is null",
        above=0,
        below=1,
    )
    stream: bool = option(
        False, "train on fresh sequences without end, instead of dt_length fixed ones in epochs"
    )
    held_out: int | None = option(
        None, "number of held-out sequences; null: as validation_split says", least=1
    )

    @property
    def n_train(self) -> int:
        """Number of fixed training sequences; the split is rounded as Keras rounds it."""
        if self.held_out is not None:
            return self.dt_length - self.held_out
        return math.floor(self.dt_length * (1 - self.validation_split))

    @property
    def n_held_out(self) -> int:
        """Number of sequences held out for the validation loss of every epoch."""
        return self.held_out or self.dt_length - self.n_train


@dataclass(frozen=True)
class ModelConfig:
    """The model. Every key under `model:` that is none of these is an argument of the model, see `arguments`.

    Attributes:
        arguments: further arguments of the model by name: numbers, text, truth values, None, and lists of them.
    """

    name: str = option(
        "lstm",
        "which model: of the zoo (see: adding-problem models), package.module.Class, path/to/file.py:Class "
        "or a plug-in; --model NAME for short",
    )
    hidden: int | None = option(None, "number of units; null: the model's own default", least=1)
    init: str | None = option(
        None,
        "initialisation; null: the model's own default. lstm: keras or torch, that framework's; chrono: gates for every "
        "time scale up to memory; long: forget gates alone; keyed: and shut input gates, each opened by one "
        "input column drawn at random (keyed-directions: by a random direction); oracle: input gates preset from the mark column. "
        "gru and s6, as an experiment: keyed, of the gate that writes and forgets at once",
    )
    memory: int | None = option(
        None,
        "the longest time scale that the initialisation prepares for, in steps; null: dataset.t",
        least=2,
        below=families.LONGEST_MEMORY + 1,
    )
    layout: Literal["btc", "tbc", "bct"] = option(
        "btc", "order of the axes that your model takes: btc is (batch, time, 2)"
    )
    start_from: str | None = option(
        None, "run folder whose trained weights are the start; null: fresh ones, by init"
    )
    arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def given(self) -> dict[str, Any]:
        """All arguments of the model that somebody has set."""
        typed = {"hidden": self.hidden, "init": self.init, "memory": self.memory}
        return {key: value for key, value in typed.items() if value is not None} | dict(
            self.arguments
        )

    @property
    def title(self) -> str:
        """The model in a few words, such as ``lstm (hidden 100, init keras)``."""
        shown = {
            key: value
            for key, value in families.with_defaults(self.name, self.given).items()
            if value is not None
        }
        if "init" in shown and self.name in families.FAMILIES:
            shown["init"] = families.described_init(shown["init"])
        return (
            f"{self.name} ({', '.join(f'{key} {value}' for key, value in shown.items())})"
            if shown
            else self.name
        )


@dataclass(frozen=True)
class CurriculumConfig:
    """Training on short sequences first, with dataset.stream; on to the next length when the smoothed loss is low."""

    start: int | None = option(
        None, "first length; null: train at dataset.t from the start", least=2
    )
    factor: float = option(
        3.0, "each length is the last one times this, at most dataset.t", above=1
    )
    shortest: float = option(
        1.0,
        "every batch has a length of its own, drawn between this share of the length and all of it, "
        "evenly on a log scale; at most 1: all of it",
        above=0,
    )
    threshold: float = option(3e-3, "smoothed training loss below which the length grows", above=0)
    smoothing: float = option(
        0.95, "weight of the past in the smoothed training loss", above=0, below=1
    )


@dataclass(frozen=True)
class TrainConfig:
    """The training: gradient descent on the mean squared error, early stopping, best weights kept."""

    epochs: int = option(100, "most epochs to train", least=1)
    epoch_steps: int = option(
        100,
        "with dataset.stream: training steps in an epoch, which ends with a validation",
        least=1,
    )
    batch: int = option(64, "sequences per step", least=1)
    es_patience: int | None = option(
        10, "epochs without improvement of es_monitor before training stops; null: never", least=0
    )
    es_monitor: Literal["loss", "val_loss"] = option(
        "loss",
        "loss that early stopping watches; the weights of the epoch in which it was lowest are kept, however the run ends",
    )
    optimizer: Literal["adam", "sgd", "rmsprop"] = option(
        "adam", "Adam with Keras's epsilon, plain SGD, or RMSprop (decay 0.9)"
    )
    learning_rate: float = option(1e-2, "learning rate", above=0, below=math.inf)
    clip_value: float | None = option(
        10.0,
        "every component of the gradient is clipped to [-clip_value, clip_value]; null: not",
        above=0,
    )
    clip_norm: float | None = option(
        None, "the norm of the whole gradient is clipped to this; null: not", above=0
    )
    warmup_steps: int = option(
        0, "steps in which the learning rate rises from 0 in a line", least=0
    )
    decay_below: float = option(
        1e-2,
        "smoothed training loss at full length below which the learning rate begins to fall",
        above=0,
    )
    decay_steps: int | None = option(
        None,
        "steps in which the learning rate falls in a line to 0 once the loss is below decay_below, and again, from half the rate "
        "over twice as many, while the run goes on; null: it never falls",
        least=1,
    )
    budget_steps: int | None = option(
        None,
        "stop at the end of the epoch in which so many sequence-steps are reached; null: no limit",
        least=1,
    )
    budget_minutes: float | None = option(
        None,
        "stop at the end of the epoch in which so many minutes are reached; null: no limit",
        above=0,
    )
    checkpoint_minutes: float = option(
        1.0,
        "minutes between two checkpoints inside an epoch; another is written after an epoch, unless epochs "
        "are very short",
        above=0,
        below=math.inf,
    )
    stop_val_loss: float | None = option(
        None, "stop once the validation loss is below this; null: never", above=0
    )
    ending_steps: int | None = option(
        None,
        "once the validation loss is below ending_below, so many more steps, in which the learning rate falls in a line to 0 and the "
        "lengths grow; twice as many after an ending that did not reach stop_val_loss; null: stop at once",
        least=1,
    )
    ending_below: float | None = option(
        None, "validation loss that begins the ending; null: stop_val_loss", above=0
    )
    ending_length: int | None = option(
        None,
        "longest T of the last of these steps, where the curriculum has not come further; null: "
        "dataset.t",
        least=2,
    )
    only_readout: bool = option(
        False, "train the final linear unit alone; all other weights keep their initial values"
    )
    val_subset: int | None = option(
        None,
        "held-out sequences that a validation covers first; it covers all only when the loss on "
        "these is near stop_val_loss, or first below 1e-3 (metrics.csv: val_sequences). null: always all",
        least=1,
    )


@dataclass(frozen=True)
class ValidateConfig:
    """Validation mode: a new data set of another seed."""

    seed: int = option(
        43,
        "root seed of the validation data set, another than the training seed; where that is 43 the default is 44",
        least=0,
    )
    dt_length: int | None = option(
        None, "number of sequences to score; null: as many as dataset.dt_length", least=2
    )


@dataclass(frozen=True)
class RunConfig:
    """All that determines a run. Equal configurations give equal numbers.

    `load` is the shortest way to one: it takes the same dotted keys as the command line. What every key means, and its
    default: ``adding-problem train --print_config``.

    Raises:
        ConfigError: when a value is out of its bounds or two values contradict each other.

    Examples:
        >>> from adding_problem import RunConfig
        >>> RunConfig().dataset.t, RunConfig().train.learning_rate
        (150, 0.01)
        >>> RunConfig(seed=-1)
        Traceback (most recent call last):
        adding_problem.errors.ConfigError: seed: expected a whole number of at least 0, found -1.
          hint: change seed: root seed: data, initialisation and order of the sequences all come from it
    """

    recipe: Recipe = option(
        "original", "named values for the keys below: original, the Keras system's method, or fast"
    )
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    curriculum: CurriculumConfig = field(default_factory=CurriculumConfig)
    validate: ValidateConfig = field(default_factory=ValidateConfig)
    seed: int = option(
        0, "root seed: data, initialisation and order of the sequences all come from it", least=0
    )
    threads: int | None = option(None, "CPU threads; null: one per core", least=1, below=1025)
    device: Device = option("auto", "where to compute; auto: cuda where there is one, else cpu")
    backend: Backend = option(
        "auto",
        "on the CPU, of the families that have them: native kernels or torch; auto: native where installed",
    )
    logger: Literal["tensorboard"] | None = option(
        None, "also log to the run folder's tensorboard/ (extra tensorboard); null: not"
    )
    artifacts: str = option(
        "artifacts", "the run folder: everything that the run leaves is written there"
    )

    def __post_init__(self) -> None:
        for key, _ in schema.options(RunConfig):
            schema.check_bounds(RunConfig, key, self.get(key))
        # An int where a float belongs becomes one, as when it is read from a file: 1 and 1.0 must have one digest.
        for key, hint in schema.types(RunConfig):
            if float in (hint, *get_args(hint)) and type(value := self.get(key)) is int:
                section, _, name = key.rpartition(".")
                object.__setattr__(self.get(section) if section else self, name, float(value))
        _check_consistency(self)

    @property
    def task(self) -> Task:
        """What a sequence is and what is asked of it."""
        data = self.dataset
        mix_seed = (
            (self.seed if data.mix_seed is None else data.mix_seed) if data.mix == "rotate" else 0
        )
        return Task(data.variant, data.target, data.noise_columns, data.mix, mix_seed)

    def get(self, key: str) -> Any:
        """The value of a dotted key such as ``dataset.t``, or of a model's argument such as ``model.levels``."""
        if key.removeprefix("model.") in self.model.arguments and key.startswith("model."):
            return self.model.arguments[key.removeprefix("model.")]
        value: Any = self
        for name in key.split("."):
            value = getattr(value, name)
        return value

    def to_dict(self) -> dict[str, Any]:
        """Nested plain values, in the order of the fields."""
        return dataclasses.asdict(self)

    def flat(self) -> dict[str, Any]:
        """Every value by its dotted key; of the model all arguments, its own defaults included."""
        values: dict[str, Any] = {}
        for name, value in self.to_dict().items():
            values |= (
                {f"{name}.{key}": leaf for key, leaf in value.items()}
                if isinstance(value, dict)
                else {name: value}
            )
        del values["model.arguments"]
        return values | {
            f"model.{key}": value
            for key, value in families.with_defaults(self.model.name, self.model.given).items()
        }

    @property
    def digest(self) -> str:
        """SHA-256 over every value that the numbers depend on: where and how often results are written is left out.

        A default of the model counts as if it had been written down.
        """
        values = self.to_dict()
        for key in WITHOUT_EFFECT:
            section, _, name = key.rpartition(".")
            del (values[section] if section else values)[name]
        values["model"]["arguments"] = families.with_defaults(self.model.name, self.model.given)
        for key in ("hidden", "init", "memory"):
            del values["model"][key]
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


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
    """The configuration of a file's values, by dotted key, and of overrides; `source` is the file's name.

    Raises:
        ConfigError: see `load`.
    """
    sources = dict.fromkeys(document, source) | dict.fromkeys(overrides, COMMAND_LINE)
    values = {
        key: _typed(key, value, sources[key]) for key, value in {**document, **overrides}.items()
    }
    try:
        recipe = _recipe(
            values.get("recipe", "original"),
            values.get("model.name", "lstm"),
            values.get("dataset.variant", "any"),
        )
        return schema.build(RunConfig, {**_other_seed(values), **recipe, **values})
    except ConfigError as error:
        of_the_recipe = error.key not in sources and error.key in RECIPES.get(
            values.get("recipe", ""), {}
        )
        usual = f"recipe {values['recipe']}" if of_the_recipe else source
        raise error.at(sources.get(error.key, usual)) from None


def _other_seed(values: Mapping[str, Any]) -> dict[str, Any]:
    """`validate.seed` one higher where the training was given its default, for the two must differ; else nothing."""
    usual = ValidateConfig().seed
    return {"validate.seed": usual + 1} if values.get("seed") == usual else {}


def _recipe(name: str, model: str, variant: Variant) -> dict[str, Any]:
    """The values of a recipe for a model and a variant.

    What the model does not take is left out. What its family prefers comes in. The first length is one
    that the variant has.
    """
    values = {
        key: value
        for key, value in RECIPES[name].items()
        if not key.startswith("model.")
        or families.accepts(model, key.removeprefix("model."), value)
    }
    if name != "fast":
        return values
    first = max(values["curriculum.start"], MIN_LENGTH.get(variant, 0))
    return values | {"curriculum.start": first} | families.recipe_overrides(model)


def flatten(document: Mapping[Any, Any], source: str) -> Iterator[tuple[str, Any]]:
    """Dotted key and value of everything in a document; groups of keys may be nested or dotted."""
    sections, seen = (
        [name for name, hint in schema.types(RunConfig) if dataclasses.is_dataclass(hint)],
        set[str](),
    )
    for name, value in document.items():
        if name not in sections:
            found = {str(name): value}
        elif isinstance(value, Mapping) or value is None:
            found = {f"{name}.{inner}": leaf for inner, leaf in (value or {}).items()}
        else:
            raise ConfigError(
                str(name),
                "a group of keys",
                shown(value),
                f"write '{name}:' and its keys indented below it",
                source,
            )
        if again := seen.intersection(found):
            raise ConfigError(
                min(again), "one value", "two, one of them dotted", "leave one out", source
            )
        seen.update(found)
        yield from found.items()


def _typed(key: str, value: Any, source: str) -> Any:
    """The value converted to the key's type."""
    known = dict(schema.options(RunConfig))
    if key in known:
        return _converted(key, value, source)
    if str(key).startswith("model."):
        return _plain(key, value, source)
    raise ConfigError(
        key, "a known key", f"the unknown key {key!r}", nearest(key, list(known)), source
    )


def _converted(key: str, value: Any, source: str) -> Any:
    hint = dict(schema.types(RunConfig))[key]
    try:
        meant = value
        if isinstance(value, str) and source == COMMAND_LINE:
            meant = _meant(hint, value)
        elif isinstance(value, str) and not schema.takes_text(hint):
            meant = yaml_file.scalar(value)  # a number in quotes, as some programs write it
        return schema.read(hint, meant)
    except (yaml.YAMLError, RecursionError, ValueError):
        unquoted = schema.takes_text(hint, any_text=True) and isinstance(value, _UNQUOTED)
        found = (
            _word_shown(value)
            if isinstance(value, str) and source == COMMAND_LINE
            else shown(value)
        )
        raise schema.type_error(RunConfig, key, found, source, _QUOTE if unquoted else "") from None


def _word_shown(word: Any) -> str:
    """A word of the command line in a message: as it was given, without quotes."""
    text = str(word) or "nothing"
    return text if len(text) <= 60 else text[:57] + "..."


_QUOTE = "if text is meant, quote it, such as 'no' or '150'"
_UNQUOTED = (yaml_file.AmbiguousWord, bool, int, float)


def _meant(hint: Any, text: str) -> Any:
    """What a word of the command line means where a value of a type is expected: text, or what it means in a file."""
    if schema.takes_text(hint):
        return None if type(None) in get_args(hint) and text in yaml_file.NULLS else str(text)
    if not text:  # such as of a variable of the shell that is not set
        raise ValueError(text)
    return yaml_file.parse(text)


def _plain(key: str, value: Any, source: str) -> Any:
    """An argument of a model: a number, text, a truth value, None or a list of them."""
    if isinstance(value, str) and source == COMMAND_LINE:
        with suppress(yaml.YAMLError, RecursionError, ValueError):
            value = yaml_file.parse(value)
    return _plain_value(key, value, source)


def _plain_value(key: str, value: Any, source: str) -> Any:
    if isinstance(value, list):
        return [_plain_value(key, item, source) for item in value]
    if isinstance(value, yaml_file.AmbiguousWord):
        raise ConfigError(key, "true or false, or text in quotes", str(value), _QUOTE, source)
    if (
        value is None
        or isinstance(value, str | bool | int)
        or (isinstance(value, float) and math.isfinite(value))
    ):
        return value
    raise ConfigError(
        key,
        "a number, text, true, false, null or a list of them",
        shown(value),
        "give the argument a plain value",
        source,
    )


def to_yaml(config: RunConfig) -> str:
    """The configuration as YAML, with a comment per key; `load` reads it back unchanged."""
    lines = []
    section = ""
    for key, opt in schema.options(RunConfig):
        head, _, name = key.rpartition(".")
        if head and head != section:
            lines.append(f"{head}:")
        section = head
        value = config.get(key)
        text = _dumped(name, value, flow=False)
        lines.append(
            f"{'  ' if head else ''}{text:<{28 if head else 30}}  # {opt.metadata['help']}"
        )
        if (
            key == "model.start_from"
        ):  # the last key of the section, which goes on with the model's own arguments
            lines += [
                f"  {_flow(name, value):<28}  # argument of the model"
                for name, value in config.model.arguments.items()
            ]
    return "\n".join(lines) + "\n"


def _flow(name: str, value: Any) -> str:
    """A key and its value on one line of YAML."""
    return _dumped(name, value, flow=True)[1:-1]


def _dumped(name: str, value: Any, flow: bool | None) -> str:
    """YAML in which every character that a terminal could take for more than a letter is escaped."""
    text = yaml_file.dump(
        {name: value}, default_flow_style=flow, width=10_000_000, allow_unicode=True
    ).strip()
    if all(map(str.isprintable, text.splitlines())):
        return text
    return yaml_file.dump({name: value}, default_flow_style=flow, width=10_000_000).strip()


# --- the command line ------------------------------------------------------------------------------------------------


class Word:
    """The `type` of an option: reads a word of the command line as a value of a type, as it would be read in a file.

    Args:
        hint: the type, see `schema.read`.
        bounds: as for `schema.option`.
    """

    def __init__(self, hint: Any, **bounds: float) -> None:
        self.hint, self.bounds = hint, bounds

    def __call__(self, text: Any) -> Any:
        try:  # the parser shows what was read again, to check it
            value = _meant(self.hint, text) if isinstance(text, str) else text
            found = schema.read(self.hint, value)
        except (yaml.YAMLError, RecursionError, ValueError):
            raise ArgumentTypeError(f"found {_word_shown(text)}") from None
        if self.bounds and not schema.within(self.bounds, found):
            much = isinstance(found, int) and found > schema.MOST_INT
            raise ArgumentTypeError(
                f"found {_word_shown(text)}{', which is not below 2^64' if much else ''}"
            )
        return found


def add_options(parser: jsonargparse.ArgumentParser) -> None:
    """Give a parser one dotted option per configuration key, e.g. ``--dataset.t 300``."""
    types = dict(schema.types(RunConfig))
    groups = {"": parser.add_argument_group("run")}
    for key, opt in schema.options(RunConfig):
        section = key.rpartition(".")[0]
        if section not in groups:
            first_paragraph = (types[section].__doc__ or "").partition("\n\n")[0]
            groups[section] = parser.add_argument_group(section, first_paragraph)
        groups[section].add_argument(
            f"--{key}",
            type=Word(types[key]),
            default=opt.default,
            help=opt.metadata["help"],
        )
    groups[
        "model"
    ].description = (
        "The model. --model.KEY VALUE, for any other KEY than these, is an argument of the model."
    )
    groups["model"].add_argument(
        f"--{_ARGUMENTS}", type=dict, help=SUPPRESS
    )  # as `spelled_out` spells these


_ARGUMENTS = "model.arguments"


def spelled_out(word: str) -> str:
    """A word of the command line as the parser knows it.

    `--model NAME` is short for `--model.name`; `--model.KEY`, KEY not being an option, for an item of `--model.arguments`.
    """
    name, equals, value = word.partition("=")
    if name == "--model":
        return f"--model.name{equals}{value}"
    if name.startswith("--model.") and name.removeprefix("--") not in dict(
        schema.options(RunConfig)
    ):
        return f"--{_ARGUMENTS}.{name.removeprefix('--model.')}{equals}{value}"
    return word


def overrides_of(arguments: jsonargparse.Namespace) -> dict[str, Any]:
    """The configuration keys among parsed arguments, by dotted name; parse with ``defaults=False``."""
    known = {key for key, _ in schema.options(RunConfig)}
    found = {key: value for key, value in arguments.items() if key in known}
    return found | {
        f"model.{key}": value for key, value in (arguments.get(_ARGUMENTS) or {}).items()
    }


def _check_consistency(config: RunConfig) -> None:
    data = config.dataset
    shortest = MIN_LENGTH[data.variant]
    if data.t < shortest:
        raise ConfigError(
            "dataset.t",
            f"at least {shortest} steps for the variant {data.variant!r}",
            str(data.t),
            "raise dataset.t or choose another dataset.variant",
        )
    if data.n_held_out < 1 or (not data.stream and data.n_train < 1):
        raise ConfigError(
            "dataset.dt_length" if data.held_out is None else "dataset.held_out",
            "a training and a held-out sequence at least",
            f"{data.dt_length} sequences, split into {data.n_train} and {data.n_held_out}",
            "raise dataset.dt_length, or change dataset.held_out or dataset.validation_split",
        )
    families.check(config.model.name, config.model.given)
    if config.model.layout != "btc" and config.model.name in families.FAMILIES:
        raise ConfigError(
            "model.layout",
            "btc for a model of the zoo",
            config.model.layout,
            "leave model.layout out",
        )
    if data.mix_seed is not None and data.mix != "rotate":
        raise ConfigError(
            "dataset.mix_seed",
            "null where dataset.mix is not rotate",
            str(data.mix_seed),
            "leave dataset.mix_seed out, or set dataset.mix to rotate",
        )
    if config.curriculum.start is not None and not data.stream:
        raise ConfigError(
            "curriculum.start",
            "null where the data set is fixed",
            str(config.curriculum.start),
            "set dataset.stream to true, or curriculum.start to null",
        )
    if config.curriculum.start is not None and config.curriculum.start < shortest:
        raise ConfigError(
            "curriculum.start",
            f"at least {shortest} steps for the variant {data.variant!r}",
            str(config.curriculum.start),
            "raise curriculum.start",
        )
    if config.curriculum.shortest > 1:
        raise ConfigError(
            "curriculum.shortest",
            "a share, at most 1",
            str(config.curriculum.shortest),
            "change curriculum.shortest: 1 takes every sequence at the full length",
        )
    if config.curriculum.shortest < 1 and not data.stream:
        raise ConfigError(
            "curriculum.shortest",
            "1 where the data set is fixed",
            str(config.curriculum.shortest),
            "set dataset.stream to true, or curriculum.shortest to 1",
        )
    _check_training(config)
    if config.validate.seed == config.seed:
        raise ConfigError(
            "validate.seed",
            "another seed than the training seed",
            f"{config.seed} for both",
            "change validate.seed: scoring on the training data shows nothing",
        )
    _check_paths(config)


def _check_training(config: RunConfig) -> None:
    if config.train.epochs > MOST_EPOCHS:
        raise ConfigError(
            "train.epochs",
            f"at most {MOST_EPOCHS:,}",
            f"{config.train.epochs:,}",
            "lower train.epochs; with dataset.stream a higher train.epoch_steps makes epochs longer",
        )
    if config.train.val_subset is not None and config.train.stop_val_loss is None:
        raise ConfigError(
            "train.val_subset",
            "null where train.stop_val_loss is null",
            str(config.train.val_subset),
            "set train.stop_val_loss, or train.val_subset to null",
        )


def _check_paths(config: RunConfig) -> None:
    if not config.artifacts.strip():
        raise ConfigError(
            "artifacts", "the path of a folder", shown(config.artifacts), "give the folder a name"
        )
    for key in ("artifacts", "model.start_from"):
        if not _can_be_a_path(config.get(key) or ""):
            raise ConfigError(
                key,
                "the path of a folder",
                shown(config.get(key)),
                "give a name that this system's files can have",
            )
        if str(path := config.get(key)).startswith("~"):
            raise ConfigError(
                key,
                "the path of a folder",
                f"{path!r}, whose ~ only a shell replaces",
                "write out your home folder, or put ./ before it",
            )


def _can_be_a_path(path: str) -> bool:
    try:
        return b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:  # half of a character, or one that the encoding of file names lacks
        return False
