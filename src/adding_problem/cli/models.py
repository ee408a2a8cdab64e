"""The command models."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Mapping
from importlib import metadata
from typing import TYPE_CHECKING, Any

from adding_problem import config
from adding_problem.cli.parsing import CommandParser
from adding_problem.config import COMMAND_LINE, families
from adding_problem.config.values import short_number
from adding_problem.errors import ConfigError, nearest
from adding_problem.system import output
from adding_problem.system.output import say

if TYPE_CHECKING:
    from rich.table import Table

    from adding_problem.config.families import Family

__all__ = ["DESCRIPTION", "EXAMPLES", "add_arguments", "run"]

DESCRIPTION = (
    "List the built-in models. For those that are named, print costs, defaults and sources. A "
    "custom model is named --model package.module.Class or --model path/to/file.py:Class."
)
EXAMPLES = ("adding-problem models", "adding-problem models lstm gru")


def add_arguments(parser: CommandParser) -> None:
    """What the command takes."""
    parser.positional(
        "models", "models to tell about (default: a table of all)", many=True, required=False
    )


def run(arguments: Namespace) -> None:
    """Print the zoo, or the models of it that were named, and the names of installed plug-ins."""
    known = families.FAMILIES
    for name in arguments.models:
        if name not in known:
            hint = nearest(name, list(known))
            raise ConfigError("models", "models of the zoo", repr(name), hint, COMMAND_LINE)
    if arguments.models:
        for name in arguments.models:
            output.announce(output.console(), *_about(name, known[name]))
        return
    output.console(highlight=False).print(_table())
    say("more of one: adding-problem models lstm")
    if plugins := sorted(metadata.entry_points(group=families.PLUGINS).names):
        say(f"installed plug-ins: {', '.join(plugins)}")


def _table() -> Table:
    """A row for each model."""
    from rich.table import Column, Table

    parameters = Column("parameters", justify="right")
    table = Table(Column("--model", no_wrap=True), parameters, "over T", "source")
    for name, family in families.FAMILIES.items():
        order = "parallel" if family.parallel else "in order"
        table.add_row(name, f"{_size(name):,}", order, family.paper)
    return table


def _about(name: str, family: Family) -> Iterator[str]:
    """What there is to know of a model."""
    computed = "all steps at the same time" if family.parallel else "one step after the other"
    yield (
        f"{family.title} (--model {name}), after {family.paper}, has {_size(name):,} parameters. "
        f"It computes {computed}; a step costs {family.cost}."
    )
    yield f"  Its defaults are {_listed(family.defaults)}, from: {family.source}."
    for key, values in family.choices.items():
        yield f"  {key} can be {', '.join(values)}."
    if preferred := {key: value for key, value in family.fast.items() if value is not None}:
        yield f"  The recipe fast sets {_listed(preferred)}."


def _size(name: str) -> int:
    from adding_problem.models import build_model, describe

    return int(describe(build_model(config.ModelConfig(name)))["parameters"])


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{key.removeprefix('model.')} {'none' if value is None else short_number(value)}"
        for key, value in values.items()
    )
