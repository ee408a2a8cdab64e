"""The command validate: a score on a test set, or scores at several lengths."""

from __future__ import annotations

import functools
import math
from argparse import Namespace
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from adding_problem.cli import common
from adding_problem.cli.parsing import CommandParser
from adding_problem.cli.train import EXIT_CODE
from adding_problem.config import COMMAND_LINE, RunConfig, families, load
from adding_problem.config.values import Count, Length
from adding_problem.errors import AddingProblemError, ConfigError, DivergedError, on_one_line
from adding_problem.runs import atomic_io
from adding_problem.system import output
from adding_problem.system.output import say
from adding_problem.task.variants import MIN_LENGTH

if TYPE_CHECKING:
    from rich.console import Console

    from adding_problem.analysis.tables import Table
    from adding_problem.runs.records import RunRecord

__all__ = ["DESCRIPTION", "EXAMPLES", "add_arguments", "run", "score"]

DESCRIPTION = (
    "Score the model of a run folder on a test set, drawn with another seed. With --lengths, score "
    f"the models of several folders at other lengths: a table, and a heatmap or a file. {EXIT_CODE}"
)
EXAMPLES = (
    "adding-problem validate artifacts/150",
    "adding-problem validate artifacts/* --lengths 1000 10000 --out lengths.tex",
)
_SHOWN = ("dataset.t", "model.name", "validate.seed", "validate.dt_length", "threads", "artifacts")
_SEQUENCES, _OUT = 1000, "lengths.png"


def add_arguments(parser: CommandParser) -> None:
    """What the command takes."""
    parser.positional("runs", "run folders; without --lengths only one", many=True, required=False)
    parser.option("--lengths", "lengths to test at", Length, many=True)
    parser.option("--sequences", f"with --lengths: sequences of each ({_SEQUENCES})", Count)
    parser.option(
        "--out",
        f"with --lengths: picture ({_OUT}) or table to write: .csv, .json, .tex or .md",
    )
    common.add_safety(parser)
    parser.keys(_SHOWN)


def run(arguments: Namespace) -> None:
    """Score one model, or several at several lengths."""
    if arguments.lengths:
        _score_lengths(arguments)
        return
    for name in ("sequences", "out"):
        if getattr(arguments, name) is not None:
            hint = f"add --lengths, or leave --{name} out"
            raise ConfigError(f"--{name}", "--lengths beside it", "none", hint, COMMAND_LINE)
    if len(arguments.runs) > 1:
        hint = "name one, or add --lengths"
        raise ConfigError("runs", "one run folder", str(len(arguments.runs)), hint, COMMAND_LINE)
    if arguments.runs:
        if "artifacts" in arguments.overrides:
            hint = "leave one of them out"
            raise ConfigError("runs", "no --artifacts beside it", "both", hint, COMMAND_LINE)
        arguments.overrides["artifacts"] = arguments.runs[0]
    score(arguments)


# --- one model on its test set -------------------------------------------------------------------


def score(arguments: Namespace) -> None:
    """Score a trained model and print the score."""
    from adding_problem.runs.folder import RunFolder

    folder = RunFolder(arguments.overrides.get("artifacts") or RunConfig().artifacts)
    if arguments.config is None and atomic_io.is_regular(folder.config_copy):
        folder.read_config()  # refuses links that lead elsewhere
        arguments.config = str(folder.config_copy)
    run_config = common.configuration_of(arguments)
    if run_config is None:
        return
    _require_same_model(run_config, arguments.overrides)

    from adding_problem.evaluation import validate
    from adding_problem.training import progress

    with progress.counting("scoring", output.console()) as counter:
        found = validate.validate(run_config, trust=arguments.trust, on_progress=counter)
    folder = RunFolder(run_config.artifacts)
    say(
        f"test set: {found.sequences:,} sequences, T = {found.t:,} "
        f"({found.task.title}), seed {found.seed}",
        f"MSE      {found.mse:.3e} ± {found.mse_standard_error:.1e}",
        f"RMSE     {found.rmse:.3e}",
        f"within {found.tolerance}: {found.within_tolerance:.2%}",
        f"mean baseline: MSE {found.constant_predictor_mse:.4f} ± "
        f"{found.constant_predictor_standard_error:.4f}",
    )
    say(f"data:    {folder.prediction_pickle}", f"picture: {folder.prediction_plot}")
    common.say_if_on_plateau(folder, "MSE", found.mse, found.constant_predictor_mse)
    if not math.isfinite(found.mse):
        problem = "the model's predictions on these sequences are not all finite"
        raise DivergedError(folder.path, problem)


def _require_same_model(run_config: RunConfig, asked: Iterable[str]) -> None:
    """Raise ConfigError if another model is asked for than the folder holds.

    Its score would be taken for the other one's.
    """
    from adding_problem.runs.folder import RunFolder

    folder, name = RunFolder(run_config.artifacts), run_config.model.name
    if not atomic_io.is_regular(folder.config_copy):
        return
    trained = folder.read_config()
    hint = "leave it out, or give --artifacts the folder of another run"
    if trained.model.name != name and {trained.model.name, name} & set(families.FAMILIES):
        expected = f"{trained.model.name!r}, which {folder.path} holds"
        raise ConfigError("model.name", expected, repr(name), hint)
    had = trained.flat()
    for asked_key in asked:
        if not asked_key.startswith("model.") or asked_key in ("model.name", "model.start_from"):
            continue
        value = run_config.get(asked_key)
        if had.get(asked_key) != value:
            expected = f"{had.get(asked_key)!r}, with which {folder.path} was trained"
            raise ConfigError(asked_key, expected, repr(value), hint, COMMAND_LINE)


# --- several models at several lengths -----------------------------------------------------------


@dataclass(frozen=True)
class _Scored:
    """A line of the table."""

    path: str
    name: str
    longest: str
    oracle: bool
    mse: Mapping[int, float]

    @property
    def told(self) -> str:
        return f", {common.ORACLE}" if self.oracle else ""


def _score_lengths(arguments: Namespace) -> None:
    """Score models at several lengths; print a table and draw it."""
    from adding_problem.analysis import plots, tables
    from adding_problem.analysis.aggregate import equals, lengths_in_words
    from adding_problem.runs.folder import RunFolder

    _check_alone(arguments)
    threads = load(None, arguments.overrides).threads
    out = common.out_file(arguments.out or _OUT, (*common.PICTURES, *tables.FORMATS))
    lengths = arguments.lengths
    n, console = arguments.sequences or _SEQUENCES, output.console()
    given = {path: RunFolder(path).read(score=False) for path in arguments.runs}
    _check_lengths(lengths, given)
    runs = dict(sorted(given.items(), key=lambda item: item[1].oracle))
    paths = list(runs)
    same = equals([run.weights and (run.weights, run.config.task) for run in runs.values()])
    names = atomic_io.unique_names([Path(path) for path in paths])
    scored: list[_Scored] = []
    remarks: list[str] = []
    for path, name, first in zip(paths, names, same, strict=True):
        if first is not None:
            remarks.append(f"{path}: same weights as {paths[first]}, shown once")
            continue
        run = runs[path]
        # Where it was trained, a GPU for example, need not be here.
        here = {"artifacts": path, "device": "auto", "backend": "auto"}
        run_config = replace(run.config, **here, threads=threads or run.config.threads)
        mse = _score_run(run_config, lengths, n, arguments.trust, console)
        scored.append(_Scored(path, name, lengths_in_words([run.longest]), run.oracle, mse))
    table = _table(scored, lengths, n)
    common.show_table(table, console)
    say(*remarks)
    if out.suffix in tables.FORMATS:
        tables.write(out, [table], [_record(line, t) for line in scored for t in lengths], remarks)
        say(f"table:   {out}")
        return
    plots.draw_lengths(
        out,
        [f"{line.name} ({line.longest}{line.told})" for line in scored],
        lengths,
        [[line.mse.get(t, math.nan) for t in lengths] for line in scored],
        [run.config.task for run in runs.values()],
    )
    say(f"picture: {out}")


def _check_alone(arguments: Namespace) -> None:
    """Raise ConfigError unless there are run folders, and no other configuration than theirs."""
    if not arguments.runs:
        hint = "name them: adding-problem validate RUN... --lengths 1000 10000"
        raise ConfigError("runs", "run folders to score at --lengths", "none", hint, COMMAND_LINE)
    others = [f"--{name}" for name in arguments.overrides if name != "threads"]
    others += ["--config"] if arguments.config is not None else []
    if others or arguments.print_config:
        name = next(iter(others), "--print_config")
        hint = f"leave {name} out: every run is scored as it was trained"
        raise ConfigError(name, "no --lengths beside it", "both", hint, COMMAND_LINE)


def _check_lengths(lengths: Sequence[int], runs: Mapping[str, RunRecord]) -> None:
    """Raise ConfigError unless there are sequences of these lengths in the variants of all runs."""
    for path, run in runs.items():
        variant = run.config.dataset.variant
        if min(lengths) < (least := MIN_LENGTH[variant]):
            expected = f"at least {least} steps, as the variant {variant!r} of {path} has"
            hint = "leave out what is shorter"
            raise ConfigError("--lengths", expected, str(min(lengths)), hint, COMMAND_LINE)


def _score_run(
    run_config: RunConfig, lengths: Sequence[int], n: int, trust: bool, console: Console
) -> dict[int, float]:
    """Mean squared errors by T; a T that the model does not take is left out."""
    from adding_problem.evaluation.lengths import score_at_lengths
    from adding_problem.training import progress

    path = run_config.artifacts
    with progress.counting(path, console) as counter:
        scores = score_at_lengths(
            run_config,
            lengths,
            n,
            trust=trust,
            on_progress=counter,
            on_refusal=functools.partial(_note_refusal, path),
        )
    return {score.t: score.mse for score in scores}


def _note_refusal(path: str, t: int, error: AddingProblemError) -> None:
    say(f"note: {path}, T = {t:,}: {on_one_line(error)}", error=True)


def _table(scored: Sequence[_Scored], lengths: Sequence[int], n: int) -> Table:
    from adding_problem.analysis.tables import Table, rule_above

    rows = [
        (
            line.path + line.told.replace(", ", "\n"),
            line.longest,
            *(f"{line.mse[t]:.1e}" if t in line.mse else "-" for t in lengths),
        )
        for line in scored
    ]
    return Table(
        f"MSE on {n:,} test sequences, by tested T",
        ("run", "longest trained", *(f"{t:,}" for t in lengths)),
        tuple(rows),
        rule=rule_above(line.oracle for line in scored),
    )


def _record(line: _Scored, t: int) -> dict[str, object]:
    """A run and a length, for .csv and .json."""
    found = {"run": line.path, "longest": line.longest, "oracle": line.oracle, "t": t}
    return found | {"mse": line.mse.get(t)}
