"""The command horizon."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from adding_problem import config
from adding_problem.cli import common
from adding_problem.cli.parsing import CommandParser
from adding_problem.config.values import Count, Length, Minutes, Steps
from adding_problem.errors import AddingProblemError
from adding_problem.runs.records import Budget
from adding_problem.system import output
from adding_problem.system.output import say

if TYPE_CHECKING:
    from rich.console import Console

    from adding_problem.analysis.tables import Table
    from adding_problem.config import RunConfig
    from adding_problem.runs.records import Rung
    from adding_problem.training.loop import Listener

__all__ = ["DESCRIPTION", "EXAMPLES", "add_arguments", "run"]

DESCRIPTION = (
    "Find the longest T that a model learns within a training budget. It trains at one length "
    "after another, each time from the weights that solved the one before. Repeat the command to "
    "continue an interrupted horizon run; a larger budget counts from its start. The command sets "
    "dataset.t, train.epochs, the budget and the curriculum's start. Long T are scored on fewer "
    "sequences. The default recipe is fast."
)
EXAMPLES = (
    "adding-problem horizon --minutes 5",
    "adding-problem horizon --model gru --budget 20M --seeds 3 --out horizon.tex",
)
_SHOWN = ("recipe", "model.name", "model.hidden", "train.learning_rate", "seed", "artifacts")
_SET_HERE = {
    "dataset.t": "give --lengths in its place",
    "train.budget_minutes": "give --minutes in its place",
    "train.budget_steps": "give --budget in its place",
}
_MINUTES = 5.0


def add_arguments(parser: CommandParser) -> None:
    """What the command takes."""
    parser.option(
        "--minutes", f"training time for all lengths together (default: {_MINUTES:g})", Minutes
    )
    parser.option("--budget", "sequence-steps in place of --minutes, such as 20M", Steps)
    parser.option("--lengths", "lengths to try (100, 300, 1000, ... 1000000)", Length, many=True)
    parser.option("--seeds", "horizon runs, each of a seed from --seed on", Count, default=1)
    parser.option("--out", "also write the table: .csv, .json, .tex or .md")
    common.add_safety(parser, overwrite="horizon run")
    parser.keys(_SHOWN, recipe="fast")


def run(arguments: Namespace) -> None:
    """Train at one length after the other, print every one, and put the seeds together."""
    run_config = _configuration(arguments)
    if run_config is None:
        return
    from adding_problem.analysis import tables

    console = output.console()
    out = common.out_file(arguments.out, tables.FORMATS) if arguments.out else None
    budget = common.budget_of(arguments, Budget(_MINUTES))
    rungs = {
        each: list(_rungs(each, budget, arguments, console))
        for each in _seeds(run_config, arguments.seeds)
    }
    table = _table(run_config, rungs)
    common.show_table(table, console)
    for each, found in rungs.items():
        _say_horizon(each, found, budget, several=arguments.seeds > 1)
    if out is not None:
        records = [
            {"model": each.model.title, "seed": each.seed, **asdict(rung)}
            for each, found in rungs.items()
            for rung in found
        ]
        tables.write(out, [table], records, [f"Each seed: {budget} of training."])
        say(f"table:   {out}")


def _seeds(config: RunConfig, seeds: int) -> Iterator[RunConfig]:
    """The horizon run itself, or one of each seed in a folder of its own."""
    for seed in range(config.seed, config.seed + seeds):
        test_seed = config.validate.seed + (config.validate.seed == seed)
        yield replace(
            config,
            seed=seed,
            validate=replace(config.validate, seed=test_seed),
            artifacts=config.artifacts if seeds == 1 else f"{config.artifacts}/seed{seed}",
        )


def _rungs(
    config: RunConfig, budget: Budget, arguments: Namespace, console: Console
) -> Iterator[Rung]:
    """The lengths of one horizon run, shown while it goes on."""
    from rich.markup import escape

    from adding_problem.experiments import horizon

    rungs: list[Rung] = []
    lengths = arguments.lengths or horizon.LENGTHS
    output.announce(console, *_announcement(config, lengths, budget))

    @contextmanager
    def following(run: RunConfig) -> Iterator[Listener | None]:
        again = run.seed != config.seed
        why = ", on to a lower goal: test sequences are not solved yet" if again else ""
        left = budget.without(rungs[-1]) if rungs else budget
        if again:
            left = Budget(run.train.budget_minutes, run.train.budget_steps)
        console.print(f"{_ladder(rungs)}trying {run.dataset.t:,}{why}", style="bold")
        with common.follow(run, console, budget.amount - left.amount) as listener:
            yield listener

    def refused(error: AddingProblemError) -> None:
        console.print(f"note: the horizon run ends here: {escape(str(error))}")

    for rung in horizon.find_horizon(
        config,
        minutes=budget.minutes,
        steps=budget.steps,
        lengths=lengths,
        following=following,
        overwrite=arguments.overwrite,
        on_refusal=refused,
    ):
        rungs.append(rung)
        yield rung


def _announcement(config: RunConfig, lengths: Sequence[int], budget: Budget) -> tuple[str, str]:
    from adding_problem.task.baselines import constant_predictor_mse

    return (
        f"{config.model.title} on the adding problem ({config.task.title}), "
        f"recipe {config.recipe}, seed {config.seed}",
        f"  budget: {budget} of training, from T = {min(lengths):,} up to {max(lengths):,}; "
        f"mean baseline: {constant_predictor_mse(config.task):.4f}",
    )


def _ladder(rungs: Sequence[Rung]) -> str:
    """The lengths that were solved so far."""
    return f"solved {', '.join(f'{rung.t:,}' for rung in rungs)} -> " if rungs else ""


def _say_horizon(
    config: RunConfig, rungs: Sequence[Rung], budget: Budget, *, several: bool
) -> None:
    from adding_problem.experiments import horizon

    name = f"horizon, seed {config.seed}" if several else "horizon"
    farthest = next((rung for rung in reversed(rungs) if rung.solved), None)
    if farthest is None:
        say(f"{name}: none of the lengths was solved")
    else:  # the budget ends training, not the validation that is under way: it can be passed
        spent = f"{farthest.sequence_steps:,} sequence-steps and {farthest.seconds:,.1f} s"
        say(f"{name}: T = {farthest.t:,} after {spent}, of a budget of {budget}")
    folder = Path(config.artifacts)
    say(f"runs:    {folder}", f"picture: {folder / horizon.PICTURE}")


def _table(config: RunConfig, rungs: Mapping[RunConfig, Sequence[Rung]]) -> Table:
    from adding_problem.analysis.tables import Table

    seed = ("seed",) if len(rungs) > 1 else ()
    heading = ("tested T", "longest trained", "to 1e-2", "to 1e-3", "MSE on the test set", "")
    rows = [
        ((str(each.seed),) if seed else ()) + tuple(_cells(rung))
        for each, found in rungs.items()
        for rung in found
    ]
    title = f"{config.model.title}: from the start of the horizon run"
    return Table(title, (*seed, *heading), tuple(rows))


def _configuration(arguments: Namespace) -> RunConfig | None:
    common.refuse_keys(arguments, "a horizon run", _SET_HERE)
    overrides = arguments.overrides
    if arguments.config is None:
        name = overrides.get("model.name", config.ModelConfig().name)
        overrides.setdefault("recipe", "fast")
        folder = f"artifacts/horizon/{name.replace(':', '.').rpartition('.')[2]}"
        overrides.setdefault("artifacts", folder)
    return common.configuration_of(arguments)


def _cells(rung: Rung) -> list[str]:
    from adding_problem.analysis.aggregate import lengths_in_words
    from adding_problem.config.values import short_count

    costs = [
        f"{short_count(cost.sequence_steps)} steps, {cost.seconds:,.1f} s" if cost else "never"
        for cost in rung.reached.values()
    ]
    return [
        f"{rung.t:,}",
        lengths_in_words([rung.longest_length]),
        *costs,
        f"{rung.mse:.1e} ± {rung.mse_standard_error:.0e}",
        "solved" if rung.solved else f"not solved ({rung.stop_reason})",
    ]
