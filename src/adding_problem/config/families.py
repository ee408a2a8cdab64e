"""The families of models: what each is, takes and prefers. Loads no torch.

A family's class stands in `models/`, and takes exactly the arguments listed here.
"""

from __future__ import annotations

import inspect
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

from adding_problem.errors import ConfigError, nearest

__all__ = [
    "FAMILIES",
    "LONGEST_MEMORY",
    "PLUGINS",
    "TOLD",
    "Family",
    "accepts",
    "check",
    "described_init",
    "is_oracle",
    "name_of",
    "recipe_overrides",
    "title_of",
    "told_by",
    "trust_hint",
    "with_defaults",
]

PLUGINS = "adding_problem.models"
"""The group of entry points by which other packages add models."""


TOLD = {
    "keyed": "told a time scale and to write rarely, each cell by one input column",
    "keyed-directions": "told a time scale and to write rarely",
    "oracle": "input gates preset from the mark column",
}
"""What an initialisation tells its model of the problem. All that is printed of such a model says
so."""


def described_init(init: str) -> str:
    """The initialisation with what it tells the model."""
    return told_by(init) or init


def told_by(init: str | None) -> str:
    """The initialisation with what it tells the model; empty where it tells nothing."""
    return f"{init}: {TOLD[init]}" if init in TOLD else ""


def is_oracle(name: str, init: str | None) -> bool:
    """Whether a model starts with the answer to what it has to learn.

    It is named as such, and never ranked beside learners.
    """
    return name == "lstm" and init == "oracle"


@dataclass(frozen=True)
class Family:
    """A kind of model.

    Attributes:
        title: its name, as the paper writes it.
        home: module and class, ``module:Class``, in `adding_problem.models`.
        paper: where it comes from.
        cost: of one step of one sequence, in words; H is `hidden`.
        defaults: every argument and its default; numbers are positive.
        source: where the defaults come from.
        state: how many numbers a step hands on to the next, by the arguments; None where these
            grow with T.
        parallel: whether the steps of a sequence can be computed at the same time.
        choices: the values that a text argument may have.
        fast: what the recipe `fast` does differently for this family, by dotted key; learning rates
            as tuned in docs/league.json.
    """

    title: str
    home: str
    paper: str
    cost: str
    defaults: Mapping[str, Any]
    source: str
    state: Callable[[Mapping[str, Any]], int] | None
    parallel: bool = False
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    fast: Mapping[str, Any] = field(default_factory=dict)


def _tcn_state(given: Mapping[str, Any]) -> int:
    """The inputs of the past that two dilated convolutions of each level still need."""
    reach: list[int] = [(given["kernel"] - 1) << level for level in range(given["levels"])]
    hidden: int = given["hidden"]
    return hidden * (2 * sum(reach) - reach[0]) + 2 * reach[0]


FAMILIES: dict[str, Family] = {
    "lstm": Family(
        title="LSTM",
        home="lstm:AddingLSTM",
        paper="Hochreiter & Schmidhuber 1997; Gers et al. 2000",
        cost="four H x H products",
        defaults={"hidden": 100, "init": "keras", "memory": None},
        choices={
            "init": ("keras", "torch", "chrono", "long", "keyed", "keyed-directions", "oracle")
        },
        source="the original system",
        state=lambda given: 2 * given["hidden"],
    ),
    "gru": Family(
        title="GRU",
        home="gru:AddingGRU",
        paper="Cho et al. 2014",
        cost="three H x H products",
        defaults={"hidden": 100, "init": "torch", "memory": None},
        choices={"init": ("torch", "chrono", "keyed")},
        source="the LSTM's; PyTorch",
        state=lambda given: given["hidden"],
        fast={"train.learning_rate": 2e-2, "model.init": "chrono", "model.memory": None},
    ),
    "rnn": Family(
        title="RNN",
        home="rnn:AddingRNN",
        paper="Elman 1990",
        cost="one H x H product",
        defaults={"hidden": 100},
        source="Le et al. 2015; PyTorch",
        state=lambda given: given["hidden"],
        fast={"train.learning_rate": 1e-3},
    ),
    "irnn": Family(
        title="IRNN",
        home="rnn:AddingIRNN",
        paper="Le, Jaitly & Hinton 2015",
        cost="one H x H product",
        defaults={"hidden": 100},
        source="the paper, section 4.1",
        state=lambda given: given["hidden"],
        fast={"train.learning_rate": 5e-3},
    ),
    "indrnn": Family(
        title="IndRNN",
        home="indrnn:AddingIndRNN",
        paper="Li et al. 2018",
        cost="one H x H product for each layer but the first, parallel over T; H multiplications",
        defaults={"hidden": 128, "layers": 2},
        source="the paper, section 5.1",
        state=lambda given: given["layers"] * given["hidden"],
        fast={"train.learning_rate": 1e-3},
    ),
    "exprnn": Family(
        title="expRNN",
        home="exprnn:AddingExpRNN",
        paper="Lezcano-Casado & Martinez-Rubio 2019",
        cost="one H x H product; once for each batch a matrix exponential",
        defaults={"hidden": 128},
        source="our choice; the paper has no adding problem",
        state=lambda given: given["hidden"],
        fast={"train.learning_rate": 5e-3},
    ),
    "cornn": Family(
        title="coRNN",
        home="cornn:AddingCoRNN",
        paper="Rusch & Mishra 2021",
        cost="two H x H products",
        defaults={"hidden": 128, "dt": 6e-2, "gamma": 66.0, "epsilon": 15.0},
        source="the authors' code for this problem",
        state=lambda given: 2 * given["hidden"],
        fast={"train.learning_rate": 2e-2},
    ),
    "lem": Family(
        title="LEM",
        home="lem:AddingLEM",
        paper="Rusch et al. 2022",
        cost="four H x H products",
        defaults={"hidden": 128, "dt": 2.42e-2},
        source="the authors' code for this problem, T = 10,000",
        state=lambda given: 2 * given["hidden"],
        fast={"train.learning_rate": 2e-2},
    ),
    "mingru": Family(
        title="minGRU",
        home="mingru:AddingMinGRU",
        paper="Feng et al. 2024",
        cost="two H x H products for each layer but the first; H multiplications",
        parallel=True,
        defaults={"hidden": 128, "layers": 2, "init": "torch", "memory": None},
        choices={"init": ("torch", "chrono")},
        source="our choice; the paper has no adding problem",
        state=lambda given: given["layers"] * given["hidden"],
        fast={"train.learning_rate": 2e-2, "model.memory": None},
    ),
    "minlstm": Family(
        title="minLSTM",
        home="mingru:AddingMinLSTM",
        paper="Feng et al. 2024",
        cost="three H x H products for each layer but the first; H multiplications",
        parallel=True,
        defaults={"hidden": 128, "layers": 2, "init": "torch", "memory": None},
        choices={"init": ("torch", "chrono")},
        source="our choice; the paper has no adding problem",
        state=lambda given: given["layers"] * given["hidden"],
        fast={"train.learning_rate": 2e-2, "model.memory": None},
    ),
    "lru": Family(
        title="LRU",
        home="lru:AddingLRU",
        paper="Orvieto et al. 2023",
        cost="for each layer six H x H products; 2 N multiplications",
        parallel=True,
        defaults={
            "hidden": 64,
            "states": 64,
            "layers": 2,
            "r_min": 0.9,
            "r_max": 0.999,
            "max_phase": 0.314,
        },
        source="the ring as the paper's for long sequences; sizes our choice",
        state=lambda given: 2 * given["layers"] * given["states"],  # complex
        fast={"train.learning_rate": 5e-3},
    ),
    "s6": Family(
        title="S6",
        home="s6:AddingS6",
        paper="Gu & Dao 2023 (Mamba)",
        cost="for each layer four H x H products; 3 N H multiplications",
        parallel=True,
        defaults={"hidden": 32, "states": 8, "layers": 2, "init": "mamba", "memory": None},
        choices={"init": ("mamba", "keyed")},
        source="time steps and A as Mamba's; sizes our choice",
        state=lambda given: given["layers"] * given["states"] * given["hidden"],
        fast={"model.init": None, "model.memory": None, "train.learning_rate": 5e-3},
    ),
    "slstm": Family(
        title="sLSTM",
        home="slstm:AddingSLSTM",
        paper="Beck et al. 2024 (xLSTM)",
        cost="four H x H / heads products",
        defaults={"hidden": 128, "heads": 4},
        source="heads as in the authors' library; size and biases our choice",
        state=lambda given: 4 * given["hidden"],  # h, c, n and m
        fast={"train.learning_rate": 2e-2},
    ),
    "tcn": Family(
        title="TCN",
        home="tcn:AddingTCN",
        paper="Bai, Kolter & Koltun 2018",
        cost="two convolutions of K H x H products for each level",
        parallel=True,
        defaults={"hidden": 30, "levels": 8, "kernel": 7},
        source="the authors' code for this problem",
        state=_tcn_state,
        fast={"train.learning_rate": 2e-2},
    ),
    "transformer": Family(
        title="Transformer",
        home="transformer:AddingTransformer",
        paper="Vaswani et al. 2017; Su et al. 2021 (rotary positions)",
        cost="for each layer twelve H x H products and T x H multiplications",
        parallel=True,
        defaults={"hidden": 64, "layers": 2, "heads": 4},
        source="our choice",
        state=None,
        fast={"train.learning_rate": 5e-3},
    ),
    "attention": Family(
        title="Attention",
        home="attention:AddingAttention",
        paper="Raffel & Ellis 2016",
        cost="3 H multiplications; once for each sequence one H x H product",
        parallel=True,
        defaults={"hidden": 100},
        source="the paper, section 2",
        state=lambda given: given["hidden"] + 1,  # the weighted sum and the sum of the weights
        fast={"train.learning_rate": 2e-2},
    ),
    "pooling": Family(
        title="Pooling",
        home="pooling:AddingPooling",
        paper="Zaheer et al. 2017 (Deep Sets)",
        cost="4 H multiplications",
        parallel=True,
        defaults={"hidden": 100},
        source="our choice; the paper's sums have no marks",
        state=lambda given: given["hidden"],
        fast={"train.learning_rate": 2e-2},
    ),
}

LONGEST_MEMORY = 10**12
"""Largest `model.memory`, in steps: it takes no memory, but must fit a float."""

_LARGEST = 1 << 20  # of a whole number: with it every tensor's size in bytes is one of 64 bits
_LARGEST_OF = {
    "layers": 1000,
    "kernel": 1 << 16,
    "memory": LONGEST_MEMORY,
}  # a layer takes milliseconds to build, however small it is


def accepts(name: str, argument: str, value: Any = None) -> bool:
    """Whether a model takes an argument and, where only some values are known, this one.

    Of custom models nothing is known.
    """
    family = FAMILIES.get(name)
    if family is None or argument not in family.defaults:
        return False
    return argument not in family.choices or value is None or value in family.choices[argument]


def with_defaults(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments, and the family's defaults for those that nobody has set."""
    family = FAMILIES.get(name)
    if family is None:
        return dict(arguments)
    return {
        **family.defaults,
        **{
            key: float(value)
            if isinstance(family.defaults.get(key), float) and type(value) is int
            else value
            for key, value in arguments.items()
        },
    }


def title_of(name: str) -> str:
    """The name of a model as its paper writes it; a custom model's own name."""
    return FAMILIES[name].title if name in FAMILIES else name


def recipe_overrides(name: str) -> dict[str, Any]:
    """What the recipe `fast` does differently for a model, by dotted key."""
    return dict(FAMILIES[name].fast) if name in FAMILIES else {}


def name_of(model: Any) -> Any:
    """The name of a class or function that makes a model, by which it is found again.

    It is ``module:Name``; of a script or a notebook the module is ``__main__``. A name is returned
    as it is.

    Raises:
        ConfigError: for an instance, whose weights would not come from the seed of the run, and
            for what no name leads to: a lambda, or a class made inside a function.
    """
    if not (inspect.isclass(model) or inspect.isroutine(model)):
        if callable(model):
            raise ConfigError(
                "model.name",
                "a name, a class or a function that makes the model",
                f"an instance of {type(model).__name__}",
                "give the class itself, and its arguments by keys such as model.units: every run "
                "draws its initial weights from its own seed",
            )
        return model
    path = f"{model.__module__}:{model.__qualname__}"
    found: Any = sys.modules.get(model.__module__)
    for part in model.__qualname__.split("."):
        found = getattr(found, part, None)
    if found is not model:
        raise ConfigError(
            "model.name",
            "a class or a function at the top level of a module",
            path,
            "define it there, and give what varies as arguments: model.KEY",
        )
    return path


def trust_hint(name: str | None = None) -> str:
    """What to type where a file alone names code; with its name where the command takes --model."""
    by_name = f", or name the model yourself: add --model {shlex.quote(name)}" if name else ""
    return f"if you trust that code and this file, add --trust{by_name}"


def check(name: str, arguments: Mapping[str, Any]) -> None:
    """Raise ConfigError unless there is such a model, and it takes these arguments.

    Custom models are found and their arguments checked when they are built, not here.

    Raises:
        ConfigError: naming the key and what was expected.
    """
    if name not in FAMILIES:
        if not (
            "." in name
            or ":" in name
            or name in (plugins := metadata.entry_points(group=PLUGINS).names)
        ):
            known = [*FAMILIES, *sorted(plugins)]
            raise ConfigError(
                "model.name",
                f"one of {', '.join(known)}, package.module.Class or path/to/file.py:Class",
                repr(name),
                nearest(name, known),
            )
        return
    family = FAMILIES[name]
    for argument, value in arguments.items():
        if argument not in family.defaults:
            known = [f"model.{known}" for known in ("name", *family.defaults)]
            raise ConfigError(
                f"model.{argument}",
                f"an argument of {name}",
                f"the unknown argument {argument!r}",
                nearest(f"model.{argument}", known),
            )
        _check_value(
            f"model.{argument}", value, family.defaults[argument], family.choices.get(argument, ())
        )


def _check_value(key: str, value: Any, default: Any, choices: tuple[str, ...]) -> None:
    if choices:
        expected, right = f"one of {', '.join(choices)}", value in choices
    elif isinstance(default, float):
        expected = "a number above 0"
        right = isinstance(value, int | float) and not isinstance(value, bool) and value > 0
    else:
        most = _LARGEST_OF.get(key.rpartition(".")[2], _LARGEST)
        expected = f"a whole number from 1 to {most:,}"
        right = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most
    if not right and not (value is None and default is None):
        raise ConfigError(key, expected, repr(value), f"change {key}; its default is {default!r}")
