"""The models that a bench compares: by what is typed, and by a width that makes them as large."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from adding_problem import config as configuration
from adding_problem import models
from adding_problem.config import COMMAND_LINE, MOST_EPOCHS, RunConfig, families
from adding_problem.errors import ConfigError, ModelError

__all__ = ["Contender", "contender", "match_parameters", "parameters_of"]

CLOSE = 0.05
"""Share by which parameters may differ and still count as matched."""

_MOST_WIDTH = 1 << 16
_TRIED = 64  # widths in a row, some of which a model may refuse: those that heads do not divide


@dataclass(frozen=True)
class Contender:
    """A model of a bench.

    Attributes:
        label: what was typed, without the folder of a file.
        config: of its runs, but for what a piece of work sets.
        source: digest of a custom model's file.
    """

    label: str
    config: RunConfig
    source: str | None

    @property
    def is_oracle(self) -> bool:
        """Whether it starts with the answer; see `families.is_oracle`."""
        return families.is_oracle(self.config.model.name, self.config.model.init)

    def folder_name(self, budget: str) -> str:
        """Of its work under a budget: the label, and a digest of all that the numbers depend on."""
        all_of_it = json.dumps([self.config.digest, self.source, budget])
        digest = hashlib.sha256(all_of_it.encode()).hexdigest()[:8]
        return f"{re.sub(r'[^A-Za-z0-9.+-]+', '-', self.label)[:40]}-{digest}"


def contender(typed: str, shared: Mapping[str, Any], arguments: Mapping[str, Any]) -> Contender:
    """A contender by what is typed, such as ``gru:hidden=8`` or ``mine.py:Mine:units=8``.

    Args:
        typed: the model's name and, behind a colon, arguments.
        shared: keys of the configuration that all contenders have.
        arguments: more arguments of this model, as ``model.units``.

    Raises:
        ConfigError: when there is no such model or it does not take these arguments.
    """
    name, _, own = typed.rpartition(":")
    if "=" not in own:
        name, own = typed, ""
    given = dict(part.split("=", 1) for part in own.split(",") if "=" in part)
    values = {"recipe": "fast", "train.epochs": MOST_EPOCHS, "threads": 1} | dict(shared)
    values |= {"model.name": name} | {f"model.{key}": value for key, value in given.items()}
    config = configuration.load(None, values | dict(arguments))
    source = None if name in families.FAMILIES else models.source_digest(name)
    where, colon, rest = typed.partition(":")
    label = f"{Path(where).name}{colon}{rest}" if where.endswith(".py") else typed
    return Contender(label, config, source)


# --- size -----------------------------------------------------------------------------------------


def parameters_of(config: RunConfig) -> int:
    """The number of trained parameters of a configuration's model."""
    model = models.build_model(config.model, length=config.dataset.t, input_size=config.task.width)
    return int(models.describe(model)["parameters"])


def match_parameters(
    contenders: Sequence[Contender], reference: str, width: str
) -> tuple[Contender, ...]:
    """The contenders, all but one with the width that comes nearest to that one's parameters.

    Args:
        contenders: of a bench.
        reference: label of the one that stays as it is.
        width: the argument of a custom model that is its width; of the zoo it is `hidden`.

    Raises:
        ConfigError: when there is no such contender, or a model has no such argument.
    """
    found = next((each for each in contenders if each.label == reference), None)
    if found is None:
        labels = ", ".join(each.label for each in contenders)
        hint = "name one of the models of this bench"
        raise ConfigError(
            "--match-parameters", f"one of {labels}", repr(reference), hint, COMMAND_LINE
        )
    target = parameters_of(found.config)
    return tuple(each if each is found else _sized(each, target, width) for each in contenders)


def _sized(contender: Contender, target: int, width: str) -> Contender:
    """The contender with the width whose parameters are the nearest; parameters grow with it."""
    if contender.config.model.name in families.FAMILIES:
        width = "hidden"

    @functools.cache
    def at(least: int) -> tuple[int, RunConfig]:
        """Parameters and configuration of the first width from this one on that the model takes."""
        refused: ConfigError | ModelError | None = None
        for size in range(least, least + _TRIED):
            try:
                config = _with_width(contender.config, width, size)
                return parameters_of(config), config
            except (ConfigError, ModelError) as error:
                refused = refused or error
        raise ConfigError(
            f"model.{width}",
            f"a width of {contender.label}, to give it other parameters",
            str(refused),
            "give --width the name of the constructor's argument that is the width",
        )

    low, high = 1, 2
    while at(high)[0] < target and high < _MOST_WIDTH:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if at(middle)[0] < target else (low, middle)
    nearest = min(at(low), at(high), key=lambda sized: abs(sized[0] - target))
    return replace(contender, config=nearest[1])


def _with_width(config: RunConfig, width: str, size: int) -> RunConfig:
    if width == "hidden":
        return replace(config, model=replace(config.model, hidden=size))
    arguments = {**config.model.arguments, width: size}
    return replace(config, model=replace(config.model, arguments=arguments))
