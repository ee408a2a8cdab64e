"""The command bench: models compared, and their table printed and written."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from adding_problem.cli import common
from adding_problem.cli.parsing import CommandParser
from adding_problem.config import COMMAND_LINE
from adding_problem.config.values import Count, Length, Minutes, Steps
from adding_problem.errors import AddingProblemError, ConfigError
from adding_problem.system import output
from adding_problem.system.output import say

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from adding_problem.experiments.bench import Contender, Plan, Progress

__all__ = ["DESCRIPTION", "EXAMPLES", "add_arguments", "run"]

DESCRIPTION = (
    "Compare models under the same conditions: --model, which may be left out, and those of "
    "--against. Each is tuned over the same learning rates, makes horizon runs on sum and on "
    "difference, is certified and timed, on one core unless --threads says otherwise. Results stay "
    "in --artifacts (artifacts/bench): repeat the command to continue, or to add models and seeds. "
    "A model may have arguments, such as gru:hidden=64."
)
EXAMPLES = (
    "adding-problem bench --model mine.py:Mine --out table.tex",
    "adding-problem bench --model mine.py:Mine:units=8 --against gru --engine ray",
)
AGAINST = ("lstm", "gru", "mingru")
BUDGET = 1_500_000
_T, _SEEDS = 300, 3
_LONGEST_NOTE = 36  # of the name of a piece of work beside the bar
_SHOWN = ("device", "backend")
_SET_HERE = (
    "dataset.t",
    "dataset.target",
    "dataset.noise_columns",
    "dataset.mix",
    "dataset.mix_seed",
    "model.start_from",
    "train.learning_rate",
    "train.budget_steps",
    "train.budget_minutes",
    "train.only_readout",
    "curriculum.start",
    "seed",
    "recipe",
)


def add_arguments(parser: CommandParser) -> None:
    """What the command takes."""
    parser.option("--against", "models to compare with", many=True, default=list(AGAINST))
    parser.option("--seeds", "seeds of each model and target", Count, default=_SEEDS)
    parser.option("--budget", "sequence-steps of a horizon run (default: 1.5M)", Steps)
    parser.option("--minutes", "minutes of a horizon run, in place of --budget", Minutes)
    parser.option("--t", "T of certificate, costs, solved seeds", Length, default=_T)
    parser.option("--match-parameters", "set the widths of the others for as many parameters")
    parser.option("--width", "a custom model's width argument", default="hidden")
    common.add_engine(parser, "task")
    parser.option("--out", "also write the table: .csv, .json, .tex or .md")
    parser.keys(_SHOWN, recipe="fast", file=None)


def run(arguments: Namespace) -> None:
    """Do all work of the bench, or what is left of it, and print its table."""
    from adding_problem.analysis import tables
    from adding_problem.experiments import bench
    from adding_problem.experiments.bench import pieces
    from adding_problem.experiments.sweep import engines

    out = common.out_file(arguments.out, tables.FORMATS) if arguments.out else None
    plan = _plan(arguments)
    configs = [each.config for each in plan.contenders]
    engine = engines.build(common.engine_of(arguments), configs, pieces.perform)
    console = output.console()
    with _shown(console) as follow:
        failures = bench.run(plan, engine, follow)
    lines = bench.lines_of(plan)
    notes = bench.notes_of(plan, lines, failures, arguments.match_parameters)
    found = bench.tables_of(lines)
    for table in found:
        common.show_table(table, console)
    say(*notes)
    if out is not None:
        tables.write(out, found, [asdict(line) for line in lines], notes)
        say(f"table:   {out}")
    say(f"records: {plan.folder}")
    if failures:
        raise BenchError(f"{len(failures)} pieces of work failed; repeat the command to retry them")


class BenchError(AddingProblemError):
    """Pieces of work of a bench failed; everything else of it is done."""

    exit_code = 1


def _plan(arguments: Namespace) -> Plan:
    from adding_problem.experiments import bench, certificate
    from adding_problem.experiments.train import try_custom
    from adding_problem.runs.records import Budget

    common.refuse_keys(arguments, "a bench", dict.fromkeys(_SET_HERE, "leave it out"))
    if arguments.t <= certificate.SHORT:
        expected = f"more than {certificate.SHORT} steps, the short length of a certificate"
        raise ConfigError("--t", expected, str(arguments.t), "give --t more", COMMAND_LINE)
    budget = common.budget_of(arguments, Budget(steps=BUDGET))
    contenders = _contenders(arguments)
    if reference := arguments.match_parameters:
        contenders = bench.match_parameters(contenders, reference, arguments.width)
    for each in contenders:  # before hours of work of which it can do nothing
        try_custom(each.config)
    folder = Path(arguments.overrides.get("artifacts", "artifacts/bench"))
    return bench.Plan(tuple(contenders), arguments.seeds, budget, arguments.t, folder)


def _contenders(arguments: Namespace) -> tuple[Contender, ...]:
    """The model that --model names, if any, and those that it is compared with."""
    from adding_problem.experiments import bench

    overrides = arguments.overrides
    own = {key: value for key, value in overrides.items() if key.startswith("model.")}
    shared = {"dataset.t": arguments.t} | {
        key: value for key, value in overrides.items() if key not in own and key != "artifacts"
    }
    mine = own.pop("model.name", None)
    if own and mine is None:
        key = next(iter(own))
        hint = "name the model by --model, or write its arguments behind it: --against gru:hidden=8"
        raise ConfigError(f"--{key}", "--model beside it", "none", hint, COMMAND_LINE)
    found = [bench.contender(mine, shared, own)] if mine else []
    found += [bench.contender(name, shared, {}) for name in arguments.against]
    unique = list({each.config.digest: each for each in found}.values())
    labels = [each.label for each in unique]
    return tuple(
        replace(each, label=each.config.model.name) if labels.count(each.label) > 1 else each
        for each in unique
    )


# --- while it works -------------------------------------------------------------------------------


@contextmanager
def _shown(console: Console) -> Iterator[Callable[[Progress], None]]:
    """A bar on a terminal, a line for each finished piece elsewhere."""
    from rich.markup import escape

    from adding_problem.training.progress import bars, time_left

    with bars(console) as bar:
        task = bar.add_task("bench", total=None, count="", note="")

        def follow(progress: Progress) -> None:
            if not console.is_terminal and progress.ended:
                failed = "failed" if progress.ended in progress.failures else "done"
                text = f"{progress.done} of {progress.pieces} done"
                say(f"{failed}  {progress.ended}   ({text}{time_left(progress.seconds_left)})")
            first, *others = progress.running or ("",)
            more = f" and {len(others)} more" if others else ""
            bar.update(
                task,
                total=progress.weight,
                completed=progress.weight_done,
                count=f"{progress.done}/{progress.pieces}",
                left=progress.seconds_left,
                note=escape(output.shorten(first, _LONGEST_NOTE) + more),
            )

        yield follow
