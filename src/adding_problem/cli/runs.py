"""Commands that train and score: train, validate, horizon, sweep, watch."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import Namespace

from adding_problem import config
from adding_problem.config import RunConfig, families
from adding_problem.errors import AddingProblemError, ConfigError, DivergedError
from adding_problem.runs import atomic_io
from adding_problem.system import output
from adding_problem.system.output import say
from adding_problem.task.variants import MIN_LENGTH

if TYPE_CHECKING:
    from adding_problem.runs.folder import RunFolder
    from adding_problem.runs.records import RunResult
    from adding_problem.training.loop import Listener

__all__ = ["configuration_of", "horizon", "sweep", "train", "validate", "watch"]


def train(arguments: Namespace) -> None:
    """Train, or say that it is done already, and print the result."""
    run_config = configuration_of(arguments)
    if run_config is None:
        return

    from adding_problem.experiments.train import train as train_run
    from adding_problem.runs.folder import RunFolder
    from adding_problem.training import loggers, progress

    overwrite = arguments.overwrite
    folder = RunFolder(run_config.artifacts)
    if not overwrite and folder.holds_finished(run_config):
        result = train_run(run_config)
        say(
            f"{folder.path} already holds this run, finished; it is not trained again (--overwrite would)."
        )
        _print_result(folder, result)
        return
    if arguments.resume and not folder.has_checkpoint:
        say(f"note: {folder.path} holds nothing to resume: a new run begins")
    data = run_config.dataset
    training = "fresh" if data.stream else f"{data.n_train:,}"
    few = run_config.train.val_subset or data.n_held_out
    looked_at = (
        f" (the first {few:,} alone until the goal is near)" if few < data.n_held_out else ""
    )
    say(
        f"{run_config.model.title} on the adding problem, T = {data.t:,} ({run_config.task.title}): "
        f"{training} training and {data.n_held_out:,} held-out sequences{looked_at}, seed {run_config.seed}"
    )
    with (
        progress.TrainingDisplay(run_config, output.console()) as shown,
        loggers.attach(run_config, shown) as listener,
    ):
        result = train_run(
            run_config,
            resume=arguments.resume,
            overwrite=overwrite,
            takeover=arguments.takeover,
            listener=listener,
        )
    _print_result(folder, result)


_ENDINGS = {
    "early_stopping": "no progress in train.es_patience epochs",
    "budget": "the budget is spent",
}


def _print_result(folder: RunFolder, result: RunResult) -> None:
    from adding_problem.analysis.aggregate import lengths_in_words

    where = (
        "imported"
        if result.imported
        else (
            f"{result.seconds:.1f} s, {result.threads} thread{'s' * (result.threads != 1)}, {result.backend} on {result.device}"
        )
    )
    say(
        f"best epoch {result.best_epoch} of {result.epochs}: validation MSE {result.best_val_loss:.2e} "
        f"(mean baseline: {result.constant_predictor_mse:.4f}); {where}"
    )
    if remark := _ENDINGS.get(result.stop_reason):
        say(f"  ended in epoch {result.epochs}: {remark}")
    for threshold, cost in result.reached.items():
        say(
            f"  below {threshold}: "
            + (
                f"after {cost.sequences:,} sequences = {cost.sequence_steps:,} sequence-steps"
                + (f", {cost.seconds:.1f} s" if math.isfinite(cost.seconds) else "")
                if cost
                else "never"
            )
        )
    longest = lengths_in_words([folder.read().longest])
    say(f"  longest trained {longest}, tested T = {result.t:,}")
    _say_if_on_plateau(
        folder, "validation MSE", result.best_val_loss, result.constant_predictor_mse
    )
    say(f"model:   {folder.model}", f"picture: {folder.loss_plot}")
    if result.stop_reason == "diverged":
        raise DivergedError(
            folder.path,
            f"the run diverged: in epoch {result.epochs} its loss became NaN or infinite",
        )


def _say_if_on_plateau(folder: RunFolder, name: str, mse: float, baseline: float) -> None:
    """Say that a model does no better than the mean baseline, and what is most likely to help."""
    from adding_problem.runs.records import PLATEAU, on_plateau

    if not math.isfinite(mse) or not on_plateau(mse, baseline):
        return
    say(
        f"still at the mean baseline: the {name} is not below {PLATEAU * baseline:.3g}, "
        f"{PLATEAU:.0%} of what always predicting the mean scores"
    )
    run_config, result = folder.read_config(), folder.read_result()
    if not result.imported:
        say(*(f"  hint: {hint}" for hint in plateau_hints(run_config, result)))


# Times T. Measured: the original's method leaves it after 7 to 19 times T (docs/original.md).
_STEPS_ON_PLATEAU = 30


_KEPT = ("dataset.variant", "dataset.target", "dataset.noise_columns", "dataset.mix", "model.name")


def plateau_hints(run_config: RunConfig, result: RunResult) -> tuple[str, str]:
    """The two settings that are most likely to take a run off the plateau, the surer one first.

    Args:
        run_config: of the run.
        result: its `result.json`.
    """
    longer = _longer(run_config, result)
    if run_config.recipe != "fast":
        # A file's own keys would stand above the recipe's: the command names no file.
        usual = RunConfig()
        kept = {key: value for key in _KEPT if (value := run_config.get(key)) != usual.get(key)}
        values = {
            "recipe": "fast",
            "dataset.t": run_config.dataset.t,
            **kept,
            "artifacts": f"{run_config.artifacts}_fast",
        }
        words = (word for key, value in values.items() for word in (f"--{key}", str(value)))
        return f"the recipe fast: {shlex.join(['adding-problem', 'train', *words])}", longer
    if (result.longest_length or 0) <= (run_config.curriculum.start or 0):
        rate = f"--train.learning_rate {run_config.train.learning_rate / 4:g}"
        return f"another learning rate, for the first length was not learned: {rate}", longer
    shorter = max(run_config.dataset.t // 3, MIN_LENGTH[run_config.dataset.variant])
    return longer, f"shorter sequences: --dataset.t {shorter}"


def _longer(run_config: RunConfig, result: RunResult) -> str:
    """More of what ended the run, which can be resumed with it."""
    train, reason = run_config.train, result.stop_reason
    if reason == "early_stopping":
        return f"more patience: --train.es_patience {3 * max(train.es_patience or 1, 1)} --resume"
    if reason == "budget":
        steps_spent = result.sequence_steps >= (train.budget_steps or math.inf)
        key = "budget_steps" if steps_spent else "budget_minutes"
        return f"a larger budget: --train.{key} {3 * getattr(train, key)} --resume"
    data = run_config.dataset
    steps = train.epoch_steps if data.stream else math.ceil(data.n_train / train.batch)
    needed = 0 if run_config.recipe == "fast" else math.ceil(_STEPS_ON_PLATEAU * data.t / steps)
    epochs = min(max(2 * train.epochs, needed), config.MOST_EPOCHS)
    return f"more epochs: --train.epochs {epochs} --resume"


def validate(arguments: Namespace) -> None:
    """Score a trained model and print the score."""
    from adding_problem.runs.folder import RunFolder

    folder = RunFolder(arguments.get("artifacts") or RunConfig().artifacts)
    if arguments.config is None and atomic_io.is_regular(folder.config_copy):
        folder.read_config()  # refuses links that lead elsewhere
        arguments.config = str(folder.config_copy)
    run_config = configuration_of(arguments)
    if run_config is None:
        return
    _require_same_model(run_config, config.overrides_of(arguments))

    from adding_problem.evaluation import validate
    from adding_problem.training import progress

    with progress.counting("scoring", output.console()) as counter:
        score = validate.validate(
            run_config, trust=arguments.trust, takeover=arguments.takeover, on_progress=counter
        )
    folder = RunFolder(run_config.artifacts)
    say(
        f"{score.sequences:,} new sequences, T = {score.t:,} ({score.task.title}), seed {score.seed}"
    )
    say(f"MSE      {score.mse:.3e} ± {score.mse_standard_error:.1e}")
    say(f"RMSE     {score.rmse:.3e}")
    say(f"within {score.tolerance}: {score.within_tolerance:.2%}")
    say(
        f"mean baseline: MSE {score.constant_predictor_mse:.4f} ± "
        f"{score.constant_predictor_standard_error:.4f}"
    )
    _say_if_on_plateau(folder, "MSE", score.mse, score.constant_predictor_mse)
    say(f"data:    {folder.prediction_pickle}", f"picture: {folder.prediction_plot}")
    if not math.isfinite(score.mse):
        raise DivergedError(
            folder.path, "the model's predictions on these sequences are not all finite"
        )


def _require_same_model(run_config: RunConfig, asked: Iterable[str]) -> None:
    """Refuse the name or the arguments of one model for the folder of another, whose score would be taken for it.

    Raises:
        ConfigError: when either name is of the zoo and they differ, or an argument on the command line does.
    """
    from adding_problem.runs.folder import RunFolder

    folder, name = RunFolder(run_config.artifacts), run_config.model.name
    if not atomic_io.is_regular(folder.config_copy):
        return
    trained, hint = (
        folder.read_config(),
        "leave it out, or give --artifacts the folder of another run",
    )
    if trained.model.name != name and {trained.model.name, name} & set(families.FAMILIES):
        raise ConfigError(
            "model.name", f"{trained.model.name!r}, which {folder.path} holds", repr(name), hint
        )
    had = trained.flat()
    for key in asked:
        if (
            key.startswith("model.")
            and key not in ("model.name", "model.start_from")
            and had.get(key) != (value := run_config.get(key))
        ):
            raise ConfigError(
                key,
                f"{had.get(key)!r}, with which {folder.path} was trained",
                repr(value),
                hint,
                config.COMMAND_LINE,
            )


def horizon(arguments: Namespace) -> None:
    """Climb, and print every rung."""
    for key, instead in (("dataset.t", "--lengths"), ("train.budget_minutes", "--minutes")):
        if key in arguments:
            raise ConfigError(
                f"--{key}",
                "no value, for a climb sets it",
                "one",
                f"give {instead} in its place",
                config.COMMAND_LINE,
            )
    if "recipe" not in arguments and arguments.config is None:
        arguments.recipe = "fast"
    if "artifacts" not in arguments and arguments.config is None:
        name = arguments.get("model.name") or config.ModelConfig().name
        arguments.artifacts = f"artifacts/horizon/{name.replace(':', '.').rpartition('.')[2]}"
    run_config = configuration_of(arguments)
    if run_config is None:
        return
    from rich.markup import escape
    from rich.table import Table

    from adding_problem.analysis.aggregate import lengths_in_words
    from adding_problem.analysis.statistics import short_count
    from adding_problem.experiments import horizon
    from adding_problem.training import loggers, progress

    console, minutes = output.console(), arguments.minutes

    @contextmanager
    def following(run: RunConfig) -> Iterator[Listener | None]:
        console.print(
            f"T = {run.dataset.t:,}"
            + (
                ", on to a lower goal: new sequences are not solved yet"
                if run.seed != run_config.seed
                else ""
            ),
            style="bold",
        )
        with (
            progress.TrainingDisplay(run, console) as shown,
            loggers.attach(run, shown) as listener,
        ):
            yield listener

    def refused(error: AddingProblemError) -> None:
        console.print(f"note: the climb ends here: {escape(str(error))}")

    table = Table(
        "tested T",
        "longest trained",
        "to 1e-2",
        "to 1e-3",
        "MSE on new data",
        "",
        title=f"{run_config.model.title}: from the start of the climb",
    )
    lengths = arguments.lengths or horizon.LENGTHS
    farthest: horizon.Rung | None = None
    for rung in horizon.find_horizon(
        run_config,
        minutes=minutes,
        lengths=lengths,
        following=following,
        overwrite=arguments.overwrite,
        takeover=arguments.takeover,
        on_refusal=refused,
    ):
        cells = [
            f"{short_count(cost.sequence_steps)} steps, {cost.seconds:,.1f} s" if cost else "never"
            for cost in rung.reached.values()
        ]
        table.add_row(
            f"{rung.t:,}",
            lengths_in_words([rung.longest_length]),
            *cells,
            f"{rung.mse:.1e} ± {rung.mse_standard_error:.0e}",
            "solved" if rung.solved else f"not solved ({rung.stop_reason})",
        )
        farthest = rung if rung.solved else farthest
    console.print(table)
    if farthest is None:
        say("horizon: none of the lengths was solved")
    else:  # the budget ends training, not the validation that is under way: it can be passed
        say(
            f"horizon: T = {farthest.t:,} after {farthest.seconds:,.1f} s of a budget of {60 * minutes:,.0f} s"
        )
    say(
        f"runs:    {run_config.artifacts}",
        f"picture: {Path(run_config.artifacts) / horizon.PICTURE}",
    )


def sweep(arguments: Namespace) -> None:
    """Run a sweep, or what is left of it, and print its table."""
    if arguments.config is None:
        raise ConfigError(
            "--config",
            "a sweep file",
            "none",
            "give one, such as configs/sweep.yaml",
            config.COMMAND_LINE,
        )
    from adding_problem.experiments.sweep import plan

    runs = plan.read(arguments.config, config.overrides_of(arguments), arguments.out)
    if arguments.print_config is not None:
        say(*config.to_yaml(runs[0].config).splitlines())
        return

    from adding_problem.experiments.sweep import driver, engines, watch

    chosen = engines.Choice(
        arguments.engine, arguments.workers, arguments.address, arguments.gpus, arguments.storage
    )
    console = output.console()
    if arguments.dry_run:
        console.print(watch.dry_run(runs, chosen.describe(runs)))
        return
    _require_trust([planned.config for planned in runs], arguments)
    with watch.SweepDisplay(console) as display:
        board = driver.run(
            runs,
            engines.build(chosen, runs),
            score=not arguments.no_score,
            retries=arguments.retries,
            takeover=arguments.takeover,
            follow=display.follow,
        )
    console.print(watch.render(str(board.folder), watch.look(board.folder)))
    driver.raise_failures(board)


def watch(arguments: Namespace) -> None:
    """Print the table of the runs in a folder, once or as it changes."""
    from adding_problem.experiments.sweep import watch

    console, folder = output.console(), Path(arguments.folder)
    if arguments.once:
        console.print(watch.render(str(folder), watch.look(folder)))
    else:
        watch.follow(folder, console)


def configuration_of(arguments: Namespace) -> RunConfig | None:
    """The configuration that the arguments ask for; None when it was only to be printed."""
    result = config.load(arguments.config, config.overrides_of(arguments))
    if arguments.print_config is not None:
        say(*config.to_yaml(result).splitlines())
        return None
    _require_trust([result], arguments)
    return result


def _require_trust(run_configs: Iterable[RunConfig], arguments: Namespace) -> None:
    """Raise unless every model that would be imported is named on the command line, or --trust is given.

    A file may be an untrusted one, the user's own or the copy in a run folder alike.

    Raises:
        ConfigError: when a file alone names a model that is not of the zoo.
    """
    names = {run_config.model.name for run_config in run_configs}
    for name in sorted(names):
        if not arguments.trust and name not in {*families.FAMILIES, arguments.get("model.name")}:
            raise ConfigError(
                "model.name",
                "a model of the zoo, unless the command line names it too",
                f"{name!r}, which would be imported and run",
                families.trust_hint(name if len(names) == 1 else None),
                arguments.config,
            )
