"""The configuration of a run: one frozen, typed object, from YAML and dotted overrides.

The original's YAML (`dataset: dt_length, t`; `train: epochs, batch, es_patience`; `artifacts`) works unchanged; every
other key is optional, and the defaults reproduce the original's method. This module loads neither torch nor matplotlib,
so that `--help` and `--print_config` answer at once.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import re
from argparse import ArgumentError
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import jsonargparse
import yaml

from adding_problem import zoo
from adding_problem.errors import ConfigError, nearest

__all__ = [
    "RECIPES",
    "Backend",
    "CurriculumConfig",
    "DatasetConfig",
    "Device",
    "ModelConfig",
    "ModelFormat",
    "RunConfig",
    "TrainConfig",
    "ValidateConfig",
    "Variant",
    "add_options",
    "flatten",
    "load",
    "overrides_of",
    "read_yaml",
    "to_yaml",
]

Variant = Literal["any", "halves", "hs1997"]
Device = Literal["auto", "cpu", "cuda", "mps"]
Backend = Literal["auto", "native", "torch"]
Recipe = Literal["seed", "fast"]
ModelFormat = Literal["safetensors", "keras", "savedmodel", "onnx", "torch-export"]

RECIPES: dict[str, dict[str, Any]] = {
    "seed": {},
    "fast": {
        "dataset.stream": True,
        "dataset.held_out": 1_000,
        "validate.dt_length": 10_000,
        "model.init": "latch",
        "model.memory": 1_000_000_000,
        "train.epochs": 1_000,
        "train.epoch_steps": 20,
        "train.batch": 16,
        "train.es_patience": None,
        "train.es_monitor": "val_loss",
        "train.learning_rate": 2e-2,
        "train.clip_value": None,
        "train.clip_norm": 1.0,
        "train.warmup_steps": 50,
        "train.decay_steps": 400,
        "train.stop_val_loss": 8e-4,
        "train.glimpse": 64,
        "curriculum.start": 30,
        "curriculum.shortest": 0.1,
    },
}
"""Named methods, as plain values that the file and the command line can override. `seed` is all defaults."""

MIN_LENGTH: dict[str, int] = {"any": 2, "halves": 2, "hs1997": 22}
"""Shortest T of each variant; hs1997 marks one of the first ten pairs and another of the first T/2 - 1."""

COMMAND_LINE = "command line"
_MOST_INT = (1 << 64) - 1
_MAX_BYTES = 1 << 20  # A configuration is a page; a megabyte of YAML is a mistake or an attack.


_Config = TypeVar("_Config")


def option(default: Any, help: str, *, least: float | None = None, above: float | None = None,
           below: float | None = None) -> Any:
    """A field with its help text and its bounds: ``least <= value``, ``above < value < below``."""
    return field(default=default, metadata={"help": help, "least": least, "above": above, "below": below})


@dataclass(frozen=True)
class DatasetConfig:
    """The data set: a fixed number of sequences, the last share of which is held out."""

    dt_length: int = option(100_000, "number of sequences, training and held-out ones together", least=2)
    t: int = option(150, "length T of a sequence, in steps", least=2)
    variant: Variant = option("any", "where the two marks may stand: anywhere, one in each half, or as in 1997")
    validation_split: float = option(0.3, "share of the sequences held out for validation", above=0, below=1)
    stream: bool = option(False, "train on fresh sequences without end, instead of dt_length fixed ones in epochs")
    held_out: int | None = option(None, "number of held-out sequences; null: as validation_split says", least=1)

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

    name: str = option("lstm", "which model: of the zoo (see: adding-problem models), package.module.Class, path/to/file.py:Class "
                               "or a plug-in; --model NAME for short")
    hidden: int | None = option(None, "number of units; null: the model's own default", least=1)
    init: str | None = option(
        None, "initialisation; null: the model's own default. lstm: keras or torch, that framework's; chrono: gates for every "
              "time scale up to memory; long: forget gates alone; latch: and input gates that marks open")
    memory: int | None = option(None, "the longest time scale that the initialisation prepares for, in steps; null: dataset.t",
                                least=2)
    layout: Literal["btc", "tbc", "bct"] = option(
        "btc", "order of the axes that your own model takes: btc is (batch, time, 2)")
    start_from: str | None = option(None, "run folder whose trained weights are the start; null: fresh ones, by init")
    arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def given(self) -> dict[str, Any]:
        """All arguments of the model that somebody has set."""
        typed = {"hidden": self.hidden, "init": self.init, "memory": self.memory}
        return {key: value for key, value in typed.items() if value is not None} | dict(self.arguments)

    @property
    def title(self) -> str:
        """The model in a few words, such as ``lstm (hidden 100, init latch)``."""
        shown = {key: value for key, value in zoo.completed(self.name, self.given).items() if value is not None}
        return f"{self.name} ({', '.join(f'{key} {value}' for key, value in shown.items())})" if shown else self.name


@dataclass(frozen=True)
class CurriculumConfig:
    """Training on short sequences first, with dataset.stream; on to the next length when the smoothed loss is low."""

    start: int | None = option(None, "first length; null: train at dataset.t from the start", least=2)
    factor: float = option(3.0, "each length is the last one times this, at most dataset.t", above=1)
    shortest: float = option(1.0, "every batch has a length of its own, drawn between this share of the length and all of it, "
                                  "evenly on a log scale; 1: all of it", above=0)
    threshold: float = option(3e-3, "smoothed training loss below which the length grows", above=0)
    smoothing: float = option(0.95, "weight of the past in the smoothed training loss", above=0, below=1)


@dataclass(frozen=True)
class TrainConfig:
    """The training: gradient descent on the mean squared error, early stopping, best weights kept."""

    epochs: int = option(100, "most epochs to train", least=1)
    epoch_steps: int = option(100, "with dataset.stream: training steps in an epoch, which ends with a validation", least=1)
    batch: int = option(64, "sequences per step", least=1)
    es_patience: int | None = option(10, "epochs without improvement of es_monitor before training stops; null: never", least=1)
    es_monitor: Literal["loss", "val_loss"] = option("loss", "loss that early stopping and the best weights watch")
    optimizer: Literal["adam", "sgd", "rmsprop"] = option("adam", "Adam with Keras's epsilon, plain SGD, or RMSprop (decay 0.9)")
    learning_rate: float = option(1e-2, "learning rate", above=0, below=math.inf)
    clip_value: float | None = option(
        10.0, "every component of the gradient is clipped to [-clip_value, clip_value]; null: not", above=0)
    clip_norm: float | None = option(None, "the norm of the whole gradient is clipped to this; null: not", above=0)
    warmup_steps: int = option(0, "steps in which the learning rate rises from 0 in a line", least=0)
    decay_below: float = option(
        1e-2, "smoothed training loss at full length below which the learning rate begins to fall", above=0)
    decay_steps: int | None = option(
        None, "then it falls in a line to 0 over so many steps, and again, from half the rate over twice as many, while "
              "the run goes on; null: it never falls", least=1)
    budget_steps: int | None = option(None, "stop after about so many sequence-steps; null: no limit", least=1)
    budget_minutes: float | None = option(None, "stop after about so many minutes; null: no limit", above=0)
    checkpoint_minutes: float = option(1.0, "a checkpoint is written after so many minutes inside an epoch, and after every epoch",
                                       above=0, below=math.inf)
    stop_val_loss: float | None = option(None, "stop once the validation loss is below this; null: never", above=0)
    glimpse: int | None = option(None, "held-out sequences that a validation looks at first; at all of them only when the loss "
                                       "on these is near stop_val_loss. null: always at all", least=1)


@dataclass(frozen=True)
class ValidateConfig:
    """Validation mode: a new data set of another seed."""

    seed: int = option(43, "root seed of the validation data set; not the training seed", least=0)
    dt_length: int | None = option(None, "number of sequences to score; null: as many as dataset.dt_length", least=2)


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
          remedy: change seed: root seed: data, initialisation and order of the sequences all come from it
    """

    recipe: Recipe = option("seed", "named values for the keys below: seed, the original's method, or fast")
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    curriculum: CurriculumConfig = field(default_factory=CurriculumConfig)
    validate: ValidateConfig = field(default_factory=ValidateConfig)
    seed: int = option(0, "root seed: data, initialisation and order of the sequences all come from it", least=0)
    threads: int | None = option(None, "CPU threads; null: one per core", least=1, below=1025)
    device: Device = option("auto", "where to compute; auto: cuda where there is one, else cpu")
    backend: Backend = option("auto", "LSTM on the CPU: native kernels or torch; auto: native where installed")
    logger: Literal["tensorboard"] | None = option(None, "also log to the run folder's tensorboard/ (extra tensorboard); null: not")
    model_formats: tuple[ModelFormat, ...] = option(
        ("safetensors",), "the trained model's formats; others than safetensors need an extra: see adding-problem export --help")
    artifacts: str = option("artifacts", "the run folder: everything that the run leaves is written there")

    def __post_init__(self) -> None:
        for key, opt in _options(RunConfig):
            _check_bounds(key, opt, self.get(key))
        _check_consistency(self)

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

    @property
    def digest(self) -> str:
        """SHA-256 over every value that the numbers depend on: where, how often and in what formats results are written is left out.

        A default of the model counts as if it had been written down.
        """
        values = self.to_dict()
        del values["artifacts"], values["logger"], values["model_formats"], values["train"]["checkpoint_minutes"]
        values["model"]["arguments"] = zoo.completed(self.model.name, self.model.given)
        for key in ("hidden", "init", "memory"):
            del values["model"][key]
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def load(path: str | Path | None = None, overrides: Mapping[str, Any] | None = None) -> RunConfig:
    """Read a configuration.

    Args:
        path: YAML file; None takes the defaults.
        overrides: values by dotted key, stronger than the file's.

    Raises:
        ConfigError: naming the file, the key, what was expected, what was found and the remedy.

    Examples:
        >>> from adding_problem import load
        >>> config = load(overrides={"recipe": "fast", "dataset.t": 1000})
        >>> config.dataset.t, config.curriculum.start, config.train.batch
        (1000, 30, 16)
    """
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    if path is not None:
        for key, value in flatten(read_yaml(Path(path)), str(path)):
            values[key] = _typed(key, value, str(path))
            sources[key] = str(path)
    for key, value in (overrides or {}).items():
        values[key] = _typed(key, value, COMMAND_LINE)
        sources[key] = COMMAND_LINE
    try:
        return _build(RunConfig, {**_recipe(values.get("recipe", "seed"), values.get("model.name", "lstm")), **values})
    except ConfigError as error:
        raise error.at(sources.get(error.key, str(path or COMMAND_LINE))) from None


def _recipe(name: str, model: str) -> dict[str, Any]:
    """The values of a recipe for a model: what the model does not take is left out, what its family prefers comes in."""
    values = {key: value for key, value in RECIPES[name].items()
              if not key.startswith("model.") or zoo.takes(model, key.removeprefix("model."), value)}
    return values | zoo.preferred(model) if name == "fast" else values


def to_yaml(config: RunConfig) -> str:
    """The configuration as YAML, with a comment per key; `load` reads it back unchanged."""
    lines = []
    section = ""
    for key, opt in _options(RunConfig):
        head, _, name = key.rpartition(".")
        if head and head != section:
            lines.append(f"{head}:")
        section = head
        value = config.get(key)
        text = yaml.safe_dump({name: value}, width=10_000, allow_unicode=str(value).isprintable(),
                              default_flow_style=None if isinstance(value, tuple) else False).strip()
        lines.append(f"{'  ' if head else ''}{text:<{28 if head else 30}}  # {opt.metadata['help']}")
        if key == "model.start_from":
            lines += [f"  {_flow(name, value):<28}  # argument of the model" for name, value in config.model.arguments.items()]
    return "\n".join(lines) + "\n"


def _flow(name: str, value: Any) -> str:
    """A key and its value on one line of YAML."""
    return yaml.safe_dump({name: value}, default_flow_style=True, width=10_000_000, allow_unicode=True).strip()[1:-1]


# --- the command line ------------------------------------------------------------------------------------------------


def add_options(parser: jsonargparse.ArgumentParser) -> None:
    """Give a parser one dotted option per configuration key, e.g. ``--dataset.t 300``."""
    types = dict(_types(RunConfig))
    groups = {"": parser.add_argument_group("run")}
    for key, opt in _options(RunConfig):
        section = key.rpartition(".")[0]
        if section not in groups:
            groups[section] = parser.add_argument_group(section, types[section].__doc__)
        groups[section].add_argument(f"--{key}", type=types[key], default=opt.default, help=opt.metadata["help"])
    groups["model"].add_argument(f"--{_ARGUMENTS}", type=dict, metavar="{}", help="--model.KEY VALUE, for any other KEY, is an "
                                                                               "argument of the model")


_ARGUMENTS = "model.arguments"


def spelled_out(word: str) -> str:
    """A word of the command line as the parser knows it.

    `--model NAME` is short for `--model.name`; `--model.KEY`, KEY not being an option, for an item of `--model.arguments`.
    """
    name, equals, value = word.partition("=")
    if name == "--model":
        return f"--model.name{equals}{value}"
    if name.startswith("--model.") and name.removeprefix("--") not in dict(_options(RunConfig)):
        return f"--{_ARGUMENTS}.{name.removeprefix('--model.')}{equals}{value}"
    return word


def overrides_of(arguments: jsonargparse.Namespace) -> dict[str, Any]:
    """The configuration keys among parsed arguments, by dotted name; parse with ``defaults=False``."""
    known = {key for key, _ in _options(RunConfig)}
    found = {key: value for key, value in arguments.items() if key in known}
    return found | {f"model.{key}": value for key, value in (arguments.get(_ARGUMENTS) or {}).items()}


def explain(error: ArgumentError, argv: Sequence[str]) -> ConfigError:
    """Turn a parser's complaint about the command line into one that names key, expectation, finding and remedy."""
    message = str(error)
    for key, opt in _options(RunConfig):
        if f'Parser key "{key}"' in message:
            return _type_error(key, opt, _argument_value(key, argv), COMMAND_LINE)
    if "unrecognized arguments" in message:
        unknown = next((word for word in message.split() if word.startswith("--")), message.rsplit(maxsplit=1)[-1])
        name = unknown.lstrip("-").partition("=")[0]
        keys = [key for key, _ in _options(RunConfig)]
        return ConfigError(name, "a known option", repr(unknown), nearest(name, keys) + " See --help", COMMAND_LINE)
    first_line = message.strip().splitlines()[0]
    return ConfigError("", "valid arguments", f"these: {first_line}", "see --help", COMMAND_LINE)


def _argument_value(key: str, argv: Sequence[str]) -> str:
    for position, word in enumerate(argv):
        if word == f"--{key}":
            return argv[position + 1] if position + 1 < len(argv) else "nothing"
        if word.startswith(f"--{key}="):
            return word.partition("=")[2]
    return "another type"


# --- reading YAML ----------------------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """Safe YAML without aliases (a few lines of them can fill the memory), without tags and without repeated keys."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.constructor.ConstructorError(
                None, None, "an alias (*name), which a configuration may not use", self.peek_event().start_mark)  # type: ignore[no-untyped-call]
        if getattr(event := self.peek_event(), "tag", None) is not None:  # type: ignore[no-untyped-call]
            raise yaml.constructor.ConstructorError(
                None, None, "a tag (!name), which a configuration may not use", event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if key_node.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key_node.value!r} a second time", key_node.start_mark)
            seen.add(key_node.value if isinstance(key_node.value, str) else id(key_node))
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[Any, Any]:
    """A YAML file's top level, read safely; its keys are not checked."""
    source = str(path)
    try:
        with path.open("rb") as stream:
            text = stream.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError("", "a readable YAML file", error.strerror or str(error),
                          "give the path of an existing file to --config", source) from None
    if len(text) > _MAX_BYTES:
        raise ConfigError("", "at most 1 MiB of YAML", "a larger file", "check that this is a configuration", source)
    try:
        document = yaml.load(text.decode("utf-8"), Loader=_Loader)  # noqa: S506  (a SafeLoader)
    except UnicodeDecodeError:
        raise ConfigError("", "UTF-8 text", "other bytes", "check that this is a configuration", source) from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ConfigError("", "valid YAML", _yaml_problem(error), "mend the file there", source) from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError("", "keys and values, such as 'dataset: {t: 150}'", _show(document),
                          "see --print_config for a complete example", source)
    return document


def _yaml_problem(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nesting too deep to read"
    mark = getattr(error, "problem_mark", None)
    where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    return f"{getattr(error, 'problem', None) or error}{where}".replace("\n", " ")


def flatten(document: Mapping[Any, Any], source: str) -> Iterator[tuple[str, Any]]:
    """Dotted key and value of everything in a document; groups of keys may be nested or dotted."""
    sections = [name for name, hint in _types(RunConfig) if dataclasses.is_dataclass(hint)]
    for name, value in document.items():
        if name not in sections:
            yield str(name), value
        elif isinstance(value, Mapping):
            yield from ((f"{name}.{inner}", leaf) for inner, leaf in value.items())
        elif value is not None:
            raise ConfigError(str(name), "a group of keys", _show(value),
                              f"write '{name}:' and its keys indented below it", source)


# --- options, types and bounds ---------------------------------------------------------------------------------------


@functools.cache  # a sweep loads thousands of configurations, and type hints are slow to resolve
def _types(cls: type, prefix: str = "") -> tuple[tuple[str, Any], ...]:
    """Dotted name and type of every section and key."""
    return tuple(_walk_types(cls, prefix))


def _walk_types(cls: type, prefix: str) -> Iterator[tuple[str, Any]]:
    for name, hint in get_type_hints(cls).items():
        yield prefix + name, hint
        if dataclasses.is_dataclass(hint):
            yield from _types(hint, f"{prefix}{name}.")  # type: ignore[arg-type]


@functools.cache
def _options(cls: type, prefix: str = "") -> tuple[tuple[str, dataclasses.Field[Any]], ...]:
    """Dotted name and field of every key, sections left out."""
    return tuple(_walk_options(cls, prefix))


def _walk_options(cls: type, prefix: str) -> Iterator[tuple[str, dataclasses.Field[Any]]]:
    hints = get_type_hints(cls)
    for opt in dataclasses.fields(cls):
        if dataclasses.is_dataclass(hints[opt.name]):
            yield from _options(hints[opt.name], f"{prefix}{opt.name}.")
        elif opt.metadata:  # all but model.arguments, whose items are keys
            yield prefix + opt.name, opt


def _build(cls: type[_Config], values: Mapping[str, Any], prefix: str = "") -> _Config:
    hints = get_type_hints(cls)
    arguments = {}
    for opt in dataclasses.fields(cls):  # type: ignore[arg-type]
        key = prefix + opt.name
        if dataclasses.is_dataclass(hints[opt.name]):
            arguments[opt.name] = _build(hints[opt.name], values, f"{key}.")
        elif key in values:
            arguments[opt.name] = values[key]
    if cls is ModelConfig:
        known = [prefix + opt.name for opt in dataclasses.fields(cls)]  # type: ignore[arg-type]
        arguments["arguments"] = {key.removeprefix(prefix): value for key, value in values.items()
                                  if key.startswith(prefix) and key not in known}
    return cls(**arguments)


def _typed(key: str, value: Any, source: str) -> Any:
    """The value converted to the key's type, as jsonargparse converts it."""
    options = dict(_options(RunConfig))
    if key not in options and str(key).startswith("model."):
        return _plain(key, value, source)
    if key not in options:
        raise ConfigError(key, "a known key", f"the unknown key {key!r}", nearest(key, list(options)), source)
    if value is None and type(None) not in get_args(dict(_types(RunConfig))[key]):  # jsonargparse takes it as not given
        raise _type_error(key, options[key], "null", source)
    try:
        return _parser_of(key).parse_object({key: value}, defaults=False)[key]
    except (ArgumentError, TypeError, ValueError):
        raise _type_error(key, options[key], _show(value), source) from None


@functools.cache
def _parser_of(key: str) -> jsonargparse.ArgumentParser:
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument(f"--{key}", type=dict(_types(RunConfig))[key])
    return parser


_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


def _plain(key: str, value: Any, source: str) -> Any:
    """An argument of a model: a number, text, a truth value, None or a list of them."""
    if isinstance(value, list):
        return [_plain(key, item, source) for item in value]
    if isinstance(value, str) and source == COMMAND_LINE:
        try:
            value = yaml.load(value, Loader=_Loader)  # noqa: S506  (a SafeLoader)
        except yaml.YAMLError:
            return value
    if isinstance(value, str) and _NUMBER.fullmatch(value):  # YAML 1.1 takes 1e-3, without a dot, for text
        return float(value)
    if value is None or isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise ConfigError(key, "a number, text, true, false, null or a list of them", _show(value),
                      "give the argument a plain value", source)


def _type_error(key: str, opt: dataclasses.Field[Any], found: str, source: str) -> ConfigError:
    return ConfigError(key, _describe(key, opt), found, f"change {key}: {opt.metadata['help']}", source)


def _describe(key: str, opt: dataclasses.Field[Any]) -> str:
    hint = dict(_types(RunConfig))[key]
    if get_origin(hint) is tuple:
        return "a list, such as [safetensors], of " + ", ".join(get_args(get_args(hint)[0]))
    choices = [arg for arg in get_args(hint) if isinstance(arg, str)]
    if choices:
        return "one of " + ", ".join(choices)
    kinds = set(get_args(hint)) or {hint}
    noun = "true or false" if bool in kinds else "a whole number" if int in kinds else "a number" if float in kinds else "text"
    return noun + _bounds_text(opt) + (" or null" if type(None) in kinds else "")


def _bounds_text(opt: dataclasses.Field[Any]) -> str:
    least, above, below = (opt.metadata[name] for name in ("least", "above", "below"))
    if least is not None:
        return f" of at least {least:g}" + (f" and below {below:g}" if below is not None else "")
    if above is not None and below not in (None, math.inf):
        return f" between {above:g} and {below:g}, both excluded"
    return f" above {above:g}" if above is not None else ""


def _check_bounds(key: str, opt: dataclasses.Field[Any], value: Any) -> None:
    if value is None or isinstance(value, str | bool | tuple):
        return
    least, above, below = (opt.metadata[name] for name in ("least", "above", "below"))
    if isinstance(value, int) and value > _MOST_INT:
        raise ConfigError(key, "a whole number below 2^64", _show(value), f"change {key}: {opt.metadata['help']}")
    right = (least is None or value >= least) and (above is None or value > above) and (below is None or value < below)
    if not right or math.isnan(value):
        raise ConfigError(key, _describe(key, opt), _show(value), f"change {key}: {opt.metadata['help']}")


def _check_consistency(config: RunConfig) -> None:
    data, batch = config.dataset, config.train.batch
    shortest = MIN_LENGTH[data.variant]
    if data.t < shortest:
        raise ConfigError("dataset.t", f"at least {shortest} steps for the variant {data.variant!r}", str(data.t),
                          "raise dataset.t or choose another dataset.variant")
    if not data.stream and (data.n_train < batch or data.n_held_out < 1):
        raise ConfigError("dataset.dt_length",
                          f"a batch of {batch} training sequences and a held-out one after the split",
                          f"{data.dt_length}, split into {data.n_train} and {data.n_held_out}",
                          "raise dataset.dt_length, or change train.batch or dataset.validation_split")
    zoo.check(config.model.name, config.model.given)
    if config.model.layout != "btc" and config.model.name in zoo.FAMILIES:
        raise ConfigError("model.layout", "btc for a model of the zoo", config.model.layout, "leave model.layout out")
    if config.curriculum.start is not None and not data.stream:
        raise ConfigError("curriculum.start", "null where the data set is fixed", str(config.curriculum.start),
                          "set dataset.stream to true, or curriculum.start to null")
    if config.curriculum.start is not None and config.curriculum.start < shortest:
        raise ConfigError("curriculum.start", f"at least {shortest} steps for the variant {data.variant!r}",
                          str(config.curriculum.start), "raise curriculum.start")
    if config.curriculum.shortest > 1:
        raise ConfigError("curriculum.shortest", "a share, at most 1", str(config.curriculum.shortest),
                          "change curriculum.shortest: 1 takes every sequence at the full length")
    if config.curriculum.shortest < 1 and not data.stream:
        raise ConfigError("curriculum.shortest", "1 where the data set is fixed", str(config.curriculum.shortest),
                          "set dataset.stream to true, or curriculum.shortest to 1")
    if config.train.glimpse is not None and config.train.stop_val_loss is None:
        raise ConfigError("train.glimpse", "null where train.stop_val_loss is null", str(config.train.glimpse),
                          "set train.stop_val_loss, or train.glimpse to null")
    if config.validate.seed == config.seed:
        raise ConfigError("validate.seed", "another seed than the training seed", f"{config.seed} for both",
                          "change validate.seed: scoring on the training data shows nothing")
    if "safetensors" not in config.model_formats:
        raise ConfigError("model_formats", "safetensors among them", _show(list(config.model_formats)),
                          "add safetensors: every command reads the model from there")
    if not config.artifacts.strip() or "\0" in config.artifacts:
        raise ConfigError("artifacts", "the path of a folder", _show(config.artifacts), "give the folder a name")


def _show(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # a whole number of thousands of digits
        text = "a number too long to show"
    return text if len(text) <= 60 else text[:57] + "..."
