"""The command train."""

from __future__ import annotations

import math
from argparse import Namespace
from typing import TYPE_CHECKING

from adding_problem.cli import common
from adding_problem.cli.parsing import CommandParser
from adding_problem.errors import DivergedError
from adding_problem.system import output
from adding_problem.system.output import say

if TYPE_CHECKING:
    from adding_problem.config import RunConfig
    from adding_problem.runs.folder import RunFolder
    from adding_problem.runs.records import Cost, RunResult

__all__ = ["DESCRIPTION", "EXAMPLES", "EXIT_CODE", "add_arguments", "run"]

EXIT_CODE = (
    "The exit code is 3 when the loss or the score is NaN or infinite; the files are written."
)
DESCRIPTION = f"Train a model and leave a complete run folder. {EXIT_CODE}"
EXAMPLES = (
    "adding-problem train --recipe fast --dataset.t 1000",
    "adding-problem train --config configs/config.yaml --artifacts artifacts/mine",
)
_SHOWN = (
    "recipe",
    "dataset.t",
    "model.name",
    "train.epochs",
    "train.learning_rate",
    "seed",
    "artifacts",
)
_ENDINGS = {
    "early_stopping": "no progress in train.es_patience epochs",
    "budget": "the budget is spent",
}


def add_arguments(
    parser: CommandParser, *, file: str = "YAML file; the options are stronger"
) -> None:
    """What the command takes."""
    parser.flag(
        "--resume",
        "continue an interrupted run, or a finished one with a larger budget, such as more "
        "train.epochs",
    )
    common.add_safety(parser, overwrite="run", without="--resume")
    parser.keys(_SHOWN, file=file)


def run(arguments: Namespace) -> None:
    """Train, or say that it is done already, and print the result."""
    run_config = common.configuration_of(arguments)
    if run_config is None:
        return

    from adding_problem.experiments.train import fit
    from adding_problem.runs.folder import RunFolder

    folder = RunFolder(run_config.artifacts)
    if not arguments.overwrite and folder.holds_finished(run_config):
        result = fit(run_config)
        say(
            f"{folder.path} already holds this run, finished; "
            "it is not trained again (--overwrite would)."
        )
        _finish(run_config, folder, result)
        return
    if arguments.resume and not folder.has_checkpoint:
        say(f"note: {folder.path} holds nothing to resume: a new run begins")
    console = output.console()
    output.announce(console, *_announcement(run_config))
    with common.follow(run_config, console) as listener:
        result = fit(
            run_config,
            resume=arguments.resume,
            overwrite=arguments.overwrite,
            listener=listener,
        )
    _finish(run_config, folder, result)


def _finish(run_config: RunConfig, folder: RunFolder, result: RunResult) -> None:
    """Print the result before the picture is drawn: to load matplotlib takes time."""
    from adding_problem.experiments.train import draw

    _print_result(folder, result)
    draw(run_config, result)
    if result.stop_reason == "diverged":
        problem = f"in epoch {result.epochs} its loss became NaN or infinite"
        raise DivergedError(folder.path, f"the run diverged: {problem}")


def _announcement(run_config: RunConfig) -> tuple[str, str]:
    from adding_problem.task.baselines import constant_predictor_mse

    data, few = run_config.dataset, run_config.train.val_subset or run_config.dataset.n_held_out
    training = "fresh" if data.stream else f"{data.n_train:,}"
    subset = f" (the first {few:,} until the goal is near)" if few < data.n_held_out else ""
    return (
        f"{run_config.model.title} on the adding problem, T = {data.t:,} "
        f"({run_config.task.title}), recipe {run_config.recipe}, seed {run_config.seed}",
        f"  {training} training and {data.n_held_out:,} validation sequences{subset}; "
        f"mean baseline: {constant_predictor_mse(run_config.task, data.t):.4f}",
    )


def _print_result(folder: RunFolder, result: RunResult) -> None:
    from adding_problem.analysis.aggregate import lengths_in_words

    say(
        f"best epoch {result.best_epoch} of {result.epochs}: validation MSE "
        f"{result.best_val_loss:.2e}; {_where(result)}"
    )
    if remark := _ENDINGS.get(result.stop_reason):
        say(f"  ended in epoch {result.epochs}: {remark}")
    for threshold, cost in result.reached.items():
        say(f"  below {threshold}: {_cost(cost) if cost else 'never'}")
    longest = lengths_in_words([folder.read(score=False).longest])
    say(f"  longest trained {longest}, tested T = {result.t:,}")
    say(f"model:   {folder.model}", f"picture: {folder.loss_plot}")
    baseline = result.constant_predictor_mse
    common.say_if_on_plateau(folder, "validation MSE", result.best_val_loss, baseline)


def _where(result: RunResult) -> str:
    if result.imported:
        return "imported"
    threads = f"{result.threads} thread{'s' * (result.threads != 1)}"
    return f"{result.seconds:.1f} s, {threads}, {result.backend} on {result.device}"


def _cost(cost: Cost) -> str:
    seconds = f", {cost.seconds:.1f} s" if math.isfinite(cost.seconds) else ""
    return f"after {cost.sequences:,} sequences = {cost.sequence_steps:,} sequence-steps{seconds}"
