"""The command sweep."""

from __future__ import annotations

from argparse import Namespace

from adding_problem import config
from adding_problem.cli import common
from adding_problem.cli.parsing import CommandParser
from adding_problem.config import COMMAND_LINE
from adding_problem.config.values import Whole
from adding_problem.errors import ConfigError
from adding_problem.system import output
from adding_problem.system.output import say

__all__ = ["DESCRIPTION", "EXAMPLES", "add_arguments", "run"]

DESCRIPTION = (
    "Train every combination of the lists under grid: in a sweep file, and every line under runs:. "
    "Repeat the command to skip finished runs, resume interrupted ones and retry failed ones. "
    "docs/sweeps.md shows the file, docs/cluster.md Ray."
)
EXAMPLES = (
    "adding-problem sweep --config configs/sweep.yaml --dry_run",
    "adding-problem sweep --config configs/sweep.yaml --workers 4",
)


def add_arguments(parser: CommandParser) -> None:
    """What the command takes."""
    parser.option("--out", "the sweep's folder (default: the file's artifacts)")
    common.add_engine(parser, "run")
    parser.option("--retries", "restarts of a lost run", Whole, default=3)
    parser.flag("--no_score", "do not score the trained models")
    parser.flag("--dry_run", "print the runs and what they may cost, and exit")
    common.add_safety(parser)
    parser.keys(
        ("recipe", "model.name", "seed", "device"),
        file="the sweep file; the options are for all runs",
    )


def run(arguments: Namespace) -> None:
    """Run a sweep, or what is left of it, and print what it found."""
    if arguments.config is None:
        hint = "give one, such as configs/sweep.yaml"
        raise ConfigError("--config", "a sweep file", "none", hint, COMMAND_LINE)
    from adding_problem.experiments.sweep import plan

    runs = plan.read(arguments.config, arguments.overrides, arguments.out)
    if arguments.print_config:
        say(*config.to_yaml(runs[0].config).splitlines())
        return

    from adding_problem.experiments.sweep import display, driver, engines

    chosen, configs = common.engine_of(arguments), [planned.config for planned in runs]
    console = output.console()
    if arguments.dry_run:
        console.print(display.dry_run(runs, chosen.describe(configs)))
        return
    common.require_trust(configs, arguments)
    with display.SweepDisplay(console) as shown:
        board = driver.run(
            runs,
            engines.build(chosen, configs),
            score=not arguments.no_score,
            retries=arguments.retries,
            follow=shown.follow,
        )
    display.show_results(runs, board, console)
    driver.raise_failures(board)
