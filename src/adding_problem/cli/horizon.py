"""The command horizon."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from adding_problem import config
from adding_problem.cli import common
from adding_problem.cli.parsing import CommandParser
from adding_problem.config.values import Length, Real
from adding_problem.errors import AddingProblemError
from adding_problem.system import output
from adding_problem.system.output import say

if TYPE_CHECKING:
    from adding_problem.config import RunConfig
    from adding_problem.experiments.horizon import Rung
    from adding_problem.training.loop import Listener

__all__ = ["DESCRIPTION", "EXAMPLES", "add_arguments", "run"]

DESCRIPTION = (
    "Find the longest T that a model learns to solve within a budget of training time, from length "
    "to length. The same call again continues a horizon run that was cut; with more --minutes, "
    "which count from its start, it goes on. It sets dataset.t, train.budget_minutes, train.epochs "
    "and the curriculum's start; long T are scored on fewer sequences. Without --recipe and "
    "--config the recipe is fast."
)
EXAMPLES = (
    "adding-problem horizon --minutes 5",
    "adding-problem horizon --model gru --lengths 100 1000 10000",
)
_SHOWN = ("recipe", "model.name", "model.hidden", "train.learning_rate", "seed", "artifacts")
_SET_HERE = {
    "dataset.t": "give --lengths in its place",
    "train.budget_minutes": "give --minutes in its place",
}


def add_arguments(parser: CommandParser) -> None:
    """What the command takes."""
    minutes = Annotated[Real, Field(gt=0, lt=float("inf"))]
    parser.option("--minutes", "training time for all lengths together", minutes, default=5.0)
    parser.option("--lengths", "lengths to try (100, 300, 1000, ... 1000000)", Length, many=True)
    common.add_safety(parser, overwrite="horizon run")
    parser.keys(_SHOWN, recipe="fast")


def run(arguments: Namespace) -> None:
    """Train at one length after the other, and print every one."""
    run_config = _configuration(arguments)
    if run_config is None:
        return
    from rich.markup import escape
    from rich.table import Table

    from adding_problem.experiments import horizon

    console = output.console()

    @contextmanager
    def following(run: RunConfig) -> Iterator[Listener | None]:
        again = run.seed != run_config.seed
        why = ", on to a lower goal: new sequences are not solved yet" if again else ""
        console.print(f"T = {run.dataset.t:,}{why}", style="bold")
        with common.follow(run, console) as listener:
            yield listener

    def refused(error: AddingProblemError) -> None:
        console.print(f"note: the horizon run ends here: {escape(str(error))}")

    table = Table(
        "tested T",
        "longest trained",
        "to 1e-2",
        "to 1e-3",
        "MSE on the test set",
        "",
        title=f"{run_config.model.title}: from the start of the horizon run",
    )
    farthest: Rung | None = None
    for rung in horizon.find_horizon(
        run_config,
        minutes=arguments.minutes,
        lengths=arguments.lengths or horizon.LENGTHS,
        following=following,
        overwrite=arguments.overwrite,
        on_refusal=refused,
    ):
        table.add_row(*_cells(rung))
        farthest = rung if rung.solved else farthest
    console.print(table)
    if farthest is None:
        say("horizon: none of the lengths was solved")
    else:  # the budget ends training, not the validation that is under way: it can be passed
        say(
            f"horizon: T = {farthest.t:,} after {farthest.seconds:,.1f} s "
            f"of a budget of {60 * arguments.minutes:,.0f} s"
        )
    folder = Path(run_config.artifacts)
    say(f"runs:    {folder}", f"picture: {folder / horizon.PICTURE}")


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
    from adding_problem.analysis.statistics import short_count

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
