"""The configuration of a run: one frozen, typed object, checked wherever it is made.

The defaults are the original's method, but for the share that is kept for validation: its code took
70% where its text says 30%.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import operator
import os
from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BeforeValidator,
    ConfigDict,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)
from pydantic.dataclasses import dataclass

from adding_problem.config import families
from adding_problem.config.values import (
    QUOTE,
    Key,
    Real,
    Text,
    Truth,
    Whole,
    explain,
    key,
    keys_of,
    leaves,
    short_number,
)
from adding_problem.config.yaml_file import AmbiguousWord
from adding_problem.errors import ConfigError, shown
from adding_problem.task.variants import MIN_LENGTH, Mix, Target, Task, Variant

__all__ = [
    "KEYS",
    "MOST_EPOCHS",
    "SECTIONS",
    "WITHOUT_EFFECT",
    "Backend",
    "CurriculumConfig",
    "DatasetConfig",
    "Device",
    "ModelConfig",
    "RunConfig",
    "TrainConfig",
    "ValidateConfig",
]

Backend = Literal["auto", "native", "torch"]
Device = Literal["auto", "cpu", "cuda", "mps"]

MOST_EPOCHS = 1_000_000
"""Largest `train.epochs`: the history of so many can be written and read again."""

WITHOUT_EFFECT = ("artifacts", "logger", "train.checkpoint_minutes")
"""Keys that say where and how often results are written: no number depends on them."""

# The validators are built when the first configuration is: a command's --help makes none.
_CHECKED = ConfigDict(extra="forbid", defer_build=True)


def _with_mappings(arguments: Any) -> Any:
    """Arguments of a model, those that are dataclasses as mappings."""
    if not isinstance(arguments, Mapping):
        return arguments
    return {
        name: dataclasses.asdict(value)
        if dataclasses.is_dataclass(value) and not isinstance(value, type)
        else value
        for name, value in arguments.items()
    }


class _Section:
    """Keys that are checked together; what pydantic finds becomes a `ConfigError`."""

    _section: ClassVar[str] = ""

    @model_validator(mode="wrap")
    @classmethod
    def _explain(cls, values: Any, check: ModelWrapValidatorHandler[Any]) -> Any:
        try:
            return check(values)
        except ValidationError as error:
            raise explain(error, cls._section, KEYS) from None


@dataclass(frozen=True, config=_CHECKED)
class DatasetConfig(_Section):
    """The sequences: which they are, and how many are for training and for validation."""

    _section: ClassVar[str] = "dataset"

    dt_length: Whole = key(
        100_000,
        "number of sequences, for training and validation together; not with dataset.stream",
        ge=2,
    )
    t: Whole = key(150, "length T of a sequence, in steps", ge=2)
    variant: Variant = key(
        "any", "where the two marks may stand: anywhere, one in each half, or as in 1997"
    )
    target: Target = key(
        "sum",
        "function of the two marked values: their sum, the first minus the second, their "
        "product, or the first",
    )
    noise_columns: Whole = key(0, "columns of U[0, 1) noise beside value and mark", ge=0, le=1_000)
    mix: Mix = key(
        "none",
        "change of the input columns: none, value and mark exchanged (swap), or all turned "
        "by a random rotation (rotate)",
    )
    mix_seed: Whole | None = key(None, "seed of the rotation; null: the run's", ge=0)
    validation_split: Real = key(
        0.3, "share of dt_length for validation, where held_out is null", gt=0, lt=1
    )
    stream: Truth = key(
        False, "train on fresh sequences without end, instead of dt_length fixed ones"
    )
    held_out: Whole | None = key(
        None, "number of validation sequences; null: as validation_split says", ge=1
    )

    @property
    def n_train(self) -> int:
        """Number of fixed training sequences; the split is rounded as Keras rounds it."""
        if self.held_out is not None:
            return self.dt_length - self.held_out
        return math.floor(self.dt_length * (1 - self.validation_split))

    @property
    def n_held_out(self) -> int:
        """Number of validation sequences, whose loss every epoch ends with."""
        return self.held_out or self.dt_length - self.n_train


@dataclass(frozen=True, config=_CHECKED)
class ModelConfig(_Section):
    """The model. Every other key under `model:`, or --model.KEY, is an argument of the model.

    Attributes:
        arguments: further arguments of the model by name: numbers, text, truth values, None, lists
            of them, and mappings and dataclasses of all these. Dataclasses become mappings.
    """

    _section: ClassVar[str] = "model"

    name: Annotated[Text, BeforeValidator(families.name_of)] = key(
        "lstm",
        "model: a built-in one (see: adding-problem models), package.module.Class, "
        "path/to/file.py:Class or a plug-in; --model NAME for short",
    )
    hidden: Whole | None = key(None, "number of units; null: the model's own default", ge=1)
    init: Text | None = key(
        None,
        "initialisation; null: the model's own default. lstm: keras, torch, chrono, long, keyed, "
        "keyed-directions, oracle (docs/train_and_validate.md); gru and s6, as an experiment: "
        "keyed, of the gate that writes and forgets at once",
    )
    memory: Whole | None = key(
        None,
        "longest time scale that the initialisation prepares for, in steps; null: dataset.t",
        ge=2,
        le=families.LONGEST_MEMORY,
    )
    layout: Literal["btc", "tbc", "bct"] = key(
        "btc", "order of the axes that your model takes; btc is (batch, time, 2)"
    )
    start_from: Text | None = key(
        None, "run folder whose trained weights are the start; null: new ones, by init"
    )
    arguments: Annotated[Mapping[str, Any], BeforeValidator(_with_mappings)] = field(
        default_factory=dict, hash=False
    )

    def __post_init__(self) -> None:
        for name, value in self.arguments.items():
            _check_plain(f"model.{name}", value)

    @property
    def given(self) -> dict[str, Any]:
        """All arguments of the model that somebody has set."""
        typed = {"hidden": self.hidden, "init": self.init, "memory": self.memory}
        found = {key: value for key, value in typed.items() if value is not None}
        return found | dict(self.arguments)

    @property
    def title(self) -> str:
        """The model in a few words, such as ``lstm (hidden 100, init keras)``."""
        values = families.with_defaults(self.name, self.given)
        values = {key: value for key, value in leaves(values) if value is not None}
        if "init" in values and self.name in families.FAMILIES:
            values["init"] = families.described_init(values["init"])
        listed = ", ".join(f"{key} {short_number(value)}" for key, value in values.items())
        return f"{self.name} ({listed})" if listed else self.name


@dataclass(frozen=True, config=_CHECKED)
class CurriculumConfig(_Section):
    """Training on short sequences first, with dataset.stream.

    The next length follows when the smoothed loss is low.
    """

    _section: ClassVar[str] = "curriculum"

    start: Whole | None = key(None, "first length; null: train at dataset.t from the start", ge=2)
    factor: Real = key(3.0, "each length is the last one times this, at most dataset.t", gt=1)
    shortest: Real = key(
        1.0,
        "every batch has a length of its own, drawn between this share of the length and "
        "all of it, evenly on a log scale; 1: all of it",
        gt=0,
        le=1,
    )
    threshold: Real = key(3e-3, "smoothed training loss below which the length grows", gt=0)
    smoothing: Real = key(0.95, "weight of the past in the smoothed training loss", gt=0, lt=1)


@dataclass(frozen=True, config=_CHECKED)
class TrainConfig(_Section):
    """Gradient descent on the mean squared error, early stopping, best weights kept."""

    _section: ClassVar[str] = "train"

    epochs: Whole = key(100, "maximum number of epochs", ge=1, le=MOST_EPOCHS)
    epoch_steps: Whole = key(
        100, "with dataset.stream: training steps in an epoch, which ends with a validation", ge=1
    )
    batch: Whole = key(64, "sequences per step", ge=1)
    es_patience: Whole | None = key(
        10, "epochs without improvement of es_monitor before training stops; null: never", ge=0
    )
    es_monitor: Literal["loss", "val_loss"] = key(
        "loss",
        "loss that early stopping watches; the weights of the epoch in which it was lowest "
        "are kept, however the run ends",
    )
    optimizer: Literal["adam", "adamw", "sgd", "rmsprop"] = key(
        "adam", "Adam and AdamW with Keras's epsilon, plain SGD, or RMSprop (decay 0.9)"
    )
    weight_decay: Real = key(
        0.0,
        "adamw: a step also subtracts learning_rate * weight_decay times the weight; the "
        "others: weight_decay times the weight is added to its clipped gradient",
        ge=0,
        lt=math.inf,
    )
    learning_rate: Real = key(1e-2, "learning rate", gt=0, lt=math.inf)
    clip_value: Real | None = key(
        10.0,
        "components of the gradient are clipped to [-clip_value, clip_value]; null: no clipping",
        gt=0,
    )
    clip_norm: Real | None = key(
        None, "largest norm of the whole gradient, which is clipped to it; null: no clipping", gt=0
    )
    warmup_steps: Whole = key(0, "steps in which the learning rate rises linearly from 0", ge=0)
    decay_below: Real = key(
        1e-2,
        "smoothed training loss at full length below which the learning rate begins to fall",
        gt=0,
    )
    decay_steps: Whole | None = key(
        None,
        "steps in which the learning rate falls linearly to 0 once the loss is below "
        "decay_below, and again, from half the rate over twice as many, while the run goes "
        "on; null: it never falls",
        ge=1,
    )
    budget_steps: Whole | None = key(
        None,
        "stop after the epoch that reaches so many sequence-steps; null: no limit",
        ge=1,
    )
    budget_minutes: Real | None = key(
        None,
        "stop after the epoch that reaches so many minutes; null: no limit",
        gt=0,
    )
    checkpoint_minutes: Real = key(
        1.0,
        "minutes between two checkpoints inside an epoch; another is written after an "
        "epoch, unless epochs are very short",
        gt=0,
        lt=math.inf,
    )
    stop_val_loss: Real | None = key(
        None, "stop once the validation loss is below this; null: never", gt=0
    )
    ending_steps: Whole | None = key(
        None,
        "last steps, once the validation loss is below ending_below: the learning rate falls "
        "linearly to 0 and the lengths grow; twice as many after an ending that did not reach "
        "stop_val_loss; null: stop at once",
        ge=1,
    )
    ending_below: Real | None = key(
        None, "validation loss that begins the ending; null: stop_val_loss", gt=0
    )
    ending_length: Whole | None = key(
        None,
        "longest T of these steps, unless the curriculum is further; null: dataset.t",
        ge=2,
    )
    only_readout: Truth = key(
        False, "train the final linear unit only; all other weights keep their initial values"
    )
    val_subset: Whole | None = key(
        None,
        "validation sequences that are scored first, and all of them only when the loss on "
        "these is near stop_val_loss, or first below 1e-3 (metrics.csv: val_sequences); null: "
        "always all",
        ge=1,
    )


@dataclass(frozen=True, config=_CHECKED)
class ValidateConfig(_Section):
    """The test set, on which a trained model is scored: fresh sequences of another seed."""

    _section: ClassVar[str] = "validate"

    seed: Whole = key(
        43,
        "root seed of the test set, another than the training seed; where that is 43 the "
        "default is 44",
        ge=0,
    )
    dt_length: Whole | None = key(
        None, "number of sequences to score; null: as many as dataset.dt_length", ge=2
    )


@dataclass(frozen=True, config=_CHECKED)
class RunConfig(_Section):
    """All that determines a run. Equal configurations give equal numbers.

    `load` is the shortest way to one: it takes the same dotted keys as the command line. What every
    key means, and its default: ``adding-problem train --print_config``.

    Raises:
        ConfigError: when a value is out of its bounds or two values contradict each other.

    Examples:
        >>> from adding_problem import RunConfig
        >>> RunConfig().dataset.t, RunConfig().train.learning_rate
        (150, 0.01)
        >>> RunConfig(seed=-1)
        Traceback (most recent call last):
        adding_problem.errors.ConfigError: seed: expected a whole number of at least 0, found -1.
          hint: change seed: root seed of data, initialisation and order of the sequences
    """

    recipe: Literal["original", "fast"] = key(
        "original", "named values for the keys below: original, the Keras system's method, or fast"
    )
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    curriculum: CurriculumConfig = field(default_factory=CurriculumConfig)
    validate: ValidateConfig = field(default_factory=ValidateConfig)
    seed: Whole = key(0, "root seed of data, initialisation and order of the sequences", ge=0)
    threads: Whole | None = key(None, "CPU threads; null: one per core", ge=1, le=1024)
    device: Device = key("auto", "where to compute; auto: cuda where there is one, else cpu")
    backend: Backend = key(
        "auto",
        "native kernels or torch, on a CPU, for the families that have kernels; auto: native "
        "where installed",
    )
    logger: Literal["tensorboard", "trackio", "wandb"] | None = key(
        None,
        "also log for this tracker, an extra of the same name; null: none",
    )
    artifacts: Text = key("artifacts", "the run folder, for everything that the run writes")

    def __post_init__(self) -> None:
        for error in _contradictions(self):
            raise error

    @property
    def task(self) -> Task:
        """What a sequence is and what is asked of it."""
        data = self.dataset
        seed = self.seed if data.mix_seed is None else data.mix_seed
        mix_seed = seed if data.mix == "rotate" else 0
        return Task(data.variant, data.target, data.noise_columns, data.mix, mix_seed)

    def get(self, key: str) -> Any:
        """The value of a dotted key such as ``dataset.t``, or of a model's argument.

        The fields of an argument that is a mapping have keys such as ``model.config.width``.
        """
        group, *names = key.split(".")
        if group == "model" and names[0] in self.model.arguments:
            return functools.reduce(operator.getitem, names, self.model.arguments)
        section, _, name = key.rpartition(".")
        return getattr(getattr(self, section) if section else self, name)

    def to_dict(self) -> dict[str, Any]:
        """Nested plain values, in the order of the fields."""
        return dataclasses.asdict(self)

    def flat(self) -> dict[str, Any]:
        """Every value by its dotted key; of the model all arguments, its own defaults included."""
        values = {key: self.get(key) for key in KEYS}
        arguments = families.with_defaults(self.model.name, self.model.given)
        return values | dict(leaves(arguments, "model."))

    @property
    def digest(self) -> str:
        """SHA-256 over every value that the numbers depend on, see `WITHOUT_EFFECT`.

        A default of the model counts as if it had been written down.
        """
        values = self.to_dict()
        for without_effect in WITHOUT_EFFECT:
            section, _, name = without_effect.rpartition(".")
            del (values[section] if section else values)[name]
        values["model"]["arguments"] = families.with_defaults(self.model.name, self.model.given)
        for argument in ("hidden", "init", "memory"):
            del values["model"][argument]
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


SECTIONS: dict[str, Any] = {
    cls._section: cls
    for cls in (DatasetConfig, ModelConfig, TrainConfig, CurriculumConfig, ValidateConfig)
}
"""The groups of keys by name."""

KEYS: dict[str, Key] = {key.name: key for key in keys_of(RunConfig)}
"""All keys by dotted name, in the order in which they are listed."""


def _check_plain(key: str, value: Any) -> None:
    """Raise ConfigError unless a value can be an argument of a model."""
    if isinstance(value, list | tuple):
        for item in value:
            _check_plain(key, item)
    elif isinstance(value, Mapping):
        for name, item in value.items():
            if not isinstance(name, str) or "." in name or not name:
                raise ConfigError(key, "names without a dot", shown(name), "rename that field")
            _check_plain(f"{key}.{name}", item)
    elif isinstance(value, AmbiguousWord):
        raise ConfigError(key, "true or false, or text in quotes", str(value), QUOTE)
    elif not (value is None or isinstance(value, str | bool | int)) and not (
        isinstance(value, float) and math.isfinite(value)
    ):
        raise ConfigError(
            key,
            "a number, text, true, false, null, or a list or mapping of them",
            shown(value),
            "give the argument a plain value",
        )


# --- values that contradict each other -----------------------------------------------------------


def _contradictions(config: RunConfig) -> Iterator[ConfigError]:
    families.check(config.model.name, config.model.given)
    yield from _of_the_data(config)
    yield from _of_the_curriculum(config)
    if config.model.layout != "btc" and config.model.name in families.FAMILIES:
        yield ConfigError(
            "model.layout",
            "btc for a model of the zoo",
            config.model.layout,
            "leave model.layout out",
        )
    if config.train.val_subset is not None and config.train.stop_val_loss is None:
        yield ConfigError(
            "train.val_subset",
            "null where train.stop_val_loss is null",
            str(config.train.val_subset),
            "set train.stop_val_loss, or train.val_subset to null",
        )
    if config.validate.seed == config.seed:
        yield ConfigError(
            "validate.seed",
            "another seed than the training seed",
            f"{config.seed} for both",
            "change validate.seed: scoring on the training data shows nothing",
        )
    yield from _of_a_path("artifacts", config.artifacts)
    if config.model.start_from is not None:
        yield from _of_a_path("model.start_from", config.model.start_from)


def _of_the_data(config: RunConfig) -> Iterator[ConfigError]:
    data = config.dataset
    shortest = MIN_LENGTH[data.variant]
    if data.t < shortest:
        yield ConfigError(
            "dataset.t",
            f"at least {shortest} steps for the variant {data.variant!r}",
            str(data.t),
            "raise dataset.t or choose another dataset.variant",
        )
    if data.n_held_out < 1 or (not data.stream and data.n_train < 1):
        yield ConfigError(
            "dataset.dt_length" if data.held_out is None else "dataset.held_out",
            "a training and a validation sequence at least",
            f"{data.dt_length} sequences, split into {data.n_train} and {data.n_held_out}",
            "raise dataset.dt_length, or change dataset.held_out or dataset.validation_split",
        )
    if data.mix_seed is not None and data.mix != "rotate":
        yield ConfigError(
            "dataset.mix_seed",
            "null where dataset.mix is not rotate",
            str(data.mix_seed),
            "leave dataset.mix_seed out, or set dataset.mix to rotate",
        )


def _of_the_curriculum(config: RunConfig) -> Iterator[ConfigError]:
    start, stream = config.curriculum.start, config.dataset.stream
    shortest = MIN_LENGTH[config.dataset.variant]
    if start is not None and not stream:
        yield ConfigError(
            "curriculum.start",
            "null where the data set is fixed",
            str(start),
            "set dataset.stream to true, or curriculum.start to null",
        )
    if start is not None and start < shortest:
        yield ConfigError(
            "curriculum.start",
            f"at least {shortest} steps for the variant {config.dataset.variant!r}",
            str(start),
            "raise curriculum.start",
        )
    if config.curriculum.shortest < 1 and not stream:
        yield ConfigError(
            "curriculum.shortest",
            "1 where the data set is fixed",
            str(config.curriculum.shortest),
            "set dataset.stream to true, or curriculum.shortest to 1",
        )


def _of_a_path(key: str, path: str) -> Iterator[ConfigError]:
    expected = "the path of a folder"
    if not path.strip():
        yield ConfigError(key, expected, shown(path), "give the folder a name")
    if not _can_be_a_path(path):
        hint = "give a name that this system's files can have"
        yield ConfigError(key, expected, shown(path), hint)
    if path.startswith("~"):
        found = f"{path!r}, whose ~ only a shell replaces"
        hint = "write out your home folder, or put ./ before it"
        yield ConfigError(key, expected, found, hint)


def _can_be_a_path(path: str) -> bool:
    try:
        return b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:  # half of a character, or one that the encoding of file names lacks
        return False
