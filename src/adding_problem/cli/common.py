"""What several commands share: options, the configuration that they ask for, and hints."""

from __future__ import annotations

import math
import shlex
from argparse import Namespace
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from adding_problem import config
from adding_problem.config import COMMAND_LINE, RunConfig, families
from adding_problem.config.values import Count, Real, leaves
from adding_problem.errors import ConfigError
from adding_problem.runs import atomic_io
from adding_problem.system.output import say
from adding_problem.task.thresholds import PLATEAU
from adding_problem.task.variants import MIN_LENGTH

if TYPE_CHECKING:
    from rich.console import Console

    from adding_problem.analysis.tables import Table
    from adding_problem.cli.parsing import CommandParser
    from adding_problem.experiments.sweep.engines import Choice
    from adding_problem.runs.folder import RunFolder
    from adding_problem.runs.records import Budget, RunResult
    from adding_problem.training.loop import Listener

__all__ = [
    "ORACLE",
    "PICTURES",
    "add_engine",
    "add_safety",
    "budget_of",
    "configuration_of",
    "engine_of",
    "follow",
    "out_file",
    "plateau_hints",
    "refuse_keys",
    "require_trust",
    "say_if_on_plateau",
    "show_table",
]

ORACLE = families.described_init("oracle")
PICTURES = (".png", ".pdf", ".svg")
"""The endings of the pictures that can be drawn."""

_NAME_WIDTH = 18  # of a table's first column, which is not made narrower


def add_safety(
    parser: CommandParser, *, overwrite: str | None = None, without: str | None = None
) -> None:
    """Take --trust and, with the name of what it deletes, --overwrite."""
    if overwrite:
        parser.flag("--overwrite", f"delete the {overwrite} that the folder holds", without=without)
    parser.flag("--trust", "import and run a model that only a file names")


def add_engine(parser: CommandParser, work: str) -> None:
    """Take what says where work is done, which a text names: see `engine_of`."""
    engines = Literal["local", "ray"]
    parser.option("--engine", "processes here, or a Ray cluster", engines, default="local")
    parser.option("--workers", f"{work}s at a time (default: as many as fit)", Count)
    parser.option("--address", "with ray: a running cluster (default: a new one)")
    parser.option("--gpus", f"with ray: GPUs of each {work} (default: by device)", Real)
    parser.option("--storage", "with ray: path or URL that all nodes reach")


def engine_of(arguments: Namespace) -> Choice:
    """The engine that was asked for.

    Raises:
        ConfigError: when the options contradict each other.
    """
    from adding_problem.experiments.sweep.engines import Choice

    return Choice(
        arguments.engine, arguments.workers, arguments.address, arguments.gpus, arguments.storage
    )


def configuration_of(arguments: Namespace) -> RunConfig | None:
    """The configuration that the arguments ask for; None when it was only to be printed."""
    result = config.load(arguments.config, arguments.overrides)
    if arguments.print_config:
        say(*config.to_yaml(result).splitlines())
        return None
    require_trust([result], arguments)
    return result


def budget_of(arguments: Namespace, usual: Budget) -> Budget:
    """What --minutes or --budget says, or else the usual budget.

    Raises:
        ConfigError: when both are given.
    """
    from adding_problem.runs.records import Budget

    if arguments.budget and arguments.minutes:
        hint = "give one of them"
        raise ConfigError("--minutes", "no --budget beside it", "both", hint, COMMAND_LINE)
    if arguments.budget or arguments.minutes:
        return Budget(arguments.minutes, arguments.budget)
    return usual


def require_trust(run_configs: Iterable[RunConfig], arguments: Namespace) -> None:
    """Raise ConfigError unless the command line names every custom model, or gives --trust.

    A file may be an untrusted one, the user's own or the copy in a run folder alike.
    """
    names = {run_config.model.name for run_config in run_configs}
    known = {*families.FAMILIES, arguments.overrides.get("model.name")}
    for name in sorted(names - known):
        if not arguments.trust:
            raise ConfigError(
                "model.name",
                "a model of the zoo, unless the command line names it too",
                f"{name!r}, which would be imported and run",
                families.trust_hint(name if len(names) == 1 else None),
                arguments.config,
            )


def refuse_keys(arguments: Namespace, what: str, instead: Mapping[str, str]) -> None:
    """Raise ConfigError if a key is given that a command sets itself.

    Args:
        arguments: of the command.
        what: sets them, such as ``a horizon run``.
        instead: by key, what to do about it.
    """
    for key, hint in instead.items():
        if key in arguments.overrides:
            expected = f"no value, for {what} sets it"
            raise ConfigError(f"--{key}", expected, "one", hint, COMMAND_LINE)


def out_file(name: str, endings: Sequence[str]) -> Path:
    """The file to write, in a folder that is there.

    Args:
        name: of the file.
        endings: that it may have, such as `PICTURES` or `tables.FORMATS`.

    Raises:
        ConfigError: when its name has none of these endings.
        StorageError: when its folder cannot be made.
    """
    out = Path(name)
    if out.suffix not in endings:
        expected = f"a file that ends in {', '.join(endings)}"
        raise ConfigError("--out", expected, str(out), "give it one of these endings", COMMAND_LINE)
    atomic_io.make_folder(out.parent)
    return out


def show_table(table: Table, console: Console) -> None:
    """Print a table, its columns of text on the left."""
    from rich.box import Box
    from rich.markup import escape
    from rich.table import Column
    from rich.table import Table as RichTable

    name_width = min(_NAME_WIDTH, max((len(row[0]) for row in table.rows), default=0))
    columns = (
        Column(
            escape(name),
            justify="left" if index < table.labels else "right",
            overflow="fold",
            min_width=name_width if index == 0 else None,
            no_wrap=0 < index < table.labels,
        )
        for index, name in enumerate(table.heading)
    )
    ruled = Box(
        "    \n    \n ── \n    \n ── \n    \n    \n    \n"
    )  # below the heading and a section
    shown = RichTable(*columns, title=escape(table.title), box=ruled, padding=(0, 1, 0, 0))
    for index, row in enumerate(table.rows):
        if index == table.rule:
            shown.add_section()
        shown.add_row(*map(escape, row))
    console.print(shown)


@contextmanager
def follow(
    run_config: RunConfig, console: Console, spent: float = 0.0
) -> Iterator[Listener | None]:
    """Show a training on the console, and log it where the configuration says.

    Args:
        run_config: of the run.
        console: where it is shown.
        spent: seconds or sequence-steps of the budget that went into other runs before.
    """
    from adding_problem.training import loggers, progress

    with (
        progress.TrainingDisplay(run_config, console, spent) as shown,
        loggers.attach(run_config, shown) as listener,
    ):
        yield listener


# --- the plateau ---------------------------------------------------------------------------------

# Times T. Measured: the original's method leaves it after 7 to 19 times T (docs/original.md).
_STEPS_ON_PLATEAU = 30
_KEPT = ("dataset.variant", "dataset.target", "dataset.noise_columns", "dataset.mix", "model.name")


def say_if_on_plateau(folder: RunFolder, name: str, mse: float, baseline: float) -> None:
    """Say that a model does no better than the mean baseline, and what is most likely to help.

    The last line is a command with a lower learning rate.
    """
    from adding_problem.runs.records import on_plateau

    if not math.isfinite(mse) or not on_plateau(mse, baseline):
        return
    say(
        f"still at the mean baseline: the {name} is not below {PLATEAU * baseline:.3g}, "
        f"{PLATEAU:.0%} of what always predicting the mean scores"
    )
    run_config, result = folder.read_config(), folder.read_result()
    if not result.imported:
        say(*(f"  hint: {hint}" for hint in plateau_hints(run_config, result)))


def plateau_hints(run_config: RunConfig, result: RunResult) -> tuple[str, str, str]:
    """Two settings that may take a run off the plateau, and a command with a lower learning rate.

    Args:
        run_config: of the run.
        result: its `result.json`.
    """
    longer = _longer(run_config, result)
    slower = f"a lower learning rate: {_with_lower_rate(run_config)}"
    if run_config.recipe != "fast":
        return f"the recipe fast: {_with_recipe_fast(run_config)}", longer, slower
    shorter = max(run_config.dataset.t // 3, MIN_LENGTH[run_config.dataset.variant])
    return longer, f"shorter sequences: --dataset.t {shorter}", slower


def _with_recipe_fast(run_config: RunConfig) -> str:
    """The command without the run's file, whose own keys would stand above the recipe's."""
    usual = RunConfig()
    kept = {key: value for key in _KEPT if (value := run_config.get(key)) != usual.get(key)}
    values = {
        "recipe": "fast",
        "dataset.t": run_config.dataset.t,
        **kept,
        **dict(leaves(run_config.model.arguments, "model.")),
        "artifacts": f"{run_config.artifacts}_fast",
    }
    return _train_command(values)


def _with_lower_rate(run_config: RunConfig) -> str:
    """The command of the same run with a quarter of its learning rate, in a folder beside it."""
    from adding_problem.runs.folder import RunFolder

    rate, name = f"{run_config.train.learning_rate / 4:g}", run_config.model.name
    return _train_command(
        {
            "config": RunFolder(run_config.artifacts).config_copy,
            **({} if name in families.FAMILIES else {"model": name}),
            "train.learning_rate": rate,
            "artifacts": f"{run_config.artifacts}_rate_{rate}",
        }
    )


def _train_command(values: Mapping[str, object]) -> str:
    words = (word for key, value in values.items() for word in (f"--{key}", str(value)))
    return shlex.join(["adding-problem", "train", *words])


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
