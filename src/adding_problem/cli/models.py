"""The command models."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from importlib import metadata
from typing import TYPE_CHECKING, Any

from adding_problem import config
from adding_problem.cli.parsing import CommandParser
from adding_problem.config import COMMAND_LINE, families
from adding_problem.errors import ConfigError, nearest
from adding_problem.system import output
from adding_problem.system.output import say

if TYPE_CHECKING:
    from adding_problem.config.families import Family

__all__ = ["DESCRIPTION", "EXAMPLES", "add_arguments", "run"]

DESCRIPTION = (
    "List the models of the zoo: paper, parameters, cost, defaults and where these come from. A "
    "custom model is named --model package.module.Class or --model path/to/file.py:Class."
)
EXAMPLES = ("adding-problem models", "adding-problem models lstm gru")


def add_arguments(parser: CommandParser) -> None:
    """What the command takes."""
    parser.positional("models", "models to tell about (default: all)", many=True, required=False)


def run(arguments: Namespace) -> None:
    """Print the zoo, or the models of it that were named, and the names of installed plug-ins."""
    known = families.FAMILIES
    for name in arguments.models:
        if name not in known:
            hint = nearest(name, list(known))
            raise ConfigError("models", "models of the zoo", repr(name), hint, COMMAND_LINE)
    from rich.table import Column, Table

    name_column = Column(no_wrap=True, style="bold")
    table = Table(name_column, "", box=None, show_header=False, padding=(0, 2, 1, 0))
    for name in arguments.models or known:
        table.add_row(name, _about(name, known[name]))
    output.console(highlight=False).print(table)
    if plugins := sorted(metadata.entry_points(group=families.PLUGINS).names):
        say(f"installed plug-ins: {', '.join(plugins)}")


def _about(name: str, family: Family) -> str:
    """What there is to know of a model, a line each."""
    from adding_problem.models import build_model, describe

    size = describe(build_model(config.ModelConfig(name)))["parameters"]
    order = "parallel over T" if family.parallel else "sequential"
    lines = [
        family.paper,
        f"{size:,} parameters; {order}; a step costs {family.cost}",
        f"{_listed(family.defaults)} ({family.source})",
    ]
    lines += [f"{key}: {', '.join(values)}" for key, values in family.choices.items()]
    if preferred := {key: value for key, value in family.fast.items() if value is not None}:
        lines.append(f"with recipe fast: {_listed(preferred)}")
    return "\n".join(lines)


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{key.removeprefix('model.')} {'-' if value is None else value}"
        for key, value in values.items()
    )
