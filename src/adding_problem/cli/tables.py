"""Commands that compare: lengths, models, compare, report."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import Namespace

from adding_problem import config
from adding_problem.config import families
from adding_problem.errors import AddingProblemError, ConfigError, nearest, on_one_line
from adding_problem.runs import atomic_io
from adding_problem.system import output
from adding_problem.system.output import say
from adding_problem.task.variants import MIN_LENGTH

if TYPE_CHECKING:
    from rich.console import Console

    from adding_problem.analysis.aggregate import Group
    from adding_problem.config import RunConfig
    from adding_problem.config.families import Family

__all__ = ["compare", "lengths", "models", "report"]

_PICTURES = (".png", ".pdf", ".svg")
_ORACLE = families.described_init("oracle")


def lengths(arguments: Namespace) -> None:
    """Score models at several lengths; print a table and draw it."""
    from rich.markup import escape
    from rich.table import Column, Table

    from adding_problem.analysis import plots
    from adding_problem.analysis.aggregate import equals, lengths_in_words
    from adding_problem.evaluation import validate
    from adding_problem.runs.folder import RunFolder
    from adding_problem.training import progress

    out, tested, n, console = (
        _picture(arguments.out),
        arguments.lengths,
        arguments.sequences,
        output.console(),
    )
    table = Table(
        "longest trained",
        Column("run", overflow="fold"),
        *(f"{t:,}" for t in tested),
        title=f"MSE on {n:,} new sequences, by tested T",
    )
    rows: list[tuple[str, list[float]]] = []
    remarks: list[str] = []
    oracles = 0
    given = {path: RunFolder(path).read_config() for path in arguments.folders}
    _check_lengths(tested, given)
    configs = dict(sorted(given.items(), key=lambda item: _oracle(item[1])))
    paths = list(configs)
    runs = [RunFolder(path).read() for path in configs]
    same = equals([run.weights and (run.weights, run.config.task) for run in runs])
    for (path, read), name, first in zip(
        configs.items(), atomic_io.unique_names([Path(path) for path in paths]), same, strict=True
    ):
        if first is not None:
            remarks.append(f"{path}: same weights as {paths[first]}, shown once")
            continue
        told = f", {_ORACLE}" if _oracle(read) else ""
        if told and rows and not oracles:
            table.add_section()
        oracles += bool(told)
        # Where it was trained, a GPU for example, need not be here.
        run_config = dataclasses.replace(
            read,
            artifacts=path,
            device="auto",
            backend="auto",
            threads=arguments.threads or read.threads,
        )
        with progress.counting(escape(path), console) as counter:
            scores = validate.score_at_lengths(
                run_config,
                tested,
                n,
                trust=arguments.trust,
                on_progress=counter,
                on_refusal=functools.partial(_note_refusal, path),
            )
        found = {score.t: score.mse for score in scores}
        longest = lengths_in_words([RunFolder(path).read().longest])
        rows.append((f"{name} ({longest}{told})", [found.get(t, math.nan) for t in tested]))
        table.add_row(
            longest,
            escape(path + told.replace(", ", "\n")),
            *(f"{found[t]:.1e}" if t in found else "-" for t in tested),
        )
    console.print(table)
    say(*remarks)
    plots.draw_lengths(
        out,
        [name for name, _ in rows],
        tested,
        [mse for _, mse in rows],
        [read.task for read in configs.values()],
    )
    say(f"picture: {out}")


def _oracle(run_config: RunConfig) -> bool:
    return families.is_oracle(run_config.model.name, run_config.model.init)


def _check_lengths(tested: Sequence[int], configs: Mapping[str, RunConfig]) -> None:
    """Whether there are sequences of these lengths in the variants of all these runs.

    Raises:
        ConfigError: when there are none.
    """
    for path, run_config in configs.items():
        variant = run_config.dataset.variant
        if min(tested) < (least := MIN_LENGTH[variant]):
            raise ConfigError(
                "--lengths",
                f"at least {least} steps, as the variant {variant!r} of {path} has",
                str(min(tested)),
                "leave out what is shorter",
                config.COMMAND_LINE,
            )


def _note_refusal(path: str, t: int, error: AddingProblemError) -> None:
    say(f"note: {path}, T = {t:,}: {on_one_line(error)}", error=True)


def _picture(name: str, suffix: str | None = None) -> Path:
    """The file to draw into, in a folder that is there.

    Raises:
        ConfigError: when its name says no format that pictures can have.
        StorageError: when its folder cannot be made.
    """
    out = Path(name)
    if suffix:
        out = out.with_suffix(f".{suffix}")
    elif out.suffix not in _PICTURES:
        raise ConfigError(
            "--out",
            f"a file that ends in {', '.join(_PICTURES)}",
            str(out),
            "give the picture one of these endings",
            config.COMMAND_LINE,
        )
    atomic_io.make_folder(out.parent)
    return out


def models(arguments: Namespace) -> None:
    """Print the zoo, or the models of it that were named, and the names of installed plug-ins."""
    names = arguments.names or list(families.FAMILIES)
    for name in names:
        if name not in families.FAMILIES:
            raise ConfigError(
                "models",
                "models of the zoo",
                repr(name),
                nearest(name, list(families.FAMILIES)),
                config.COMMAND_LINE,
            )
    from rich.table import Column, Table

    table = Table(
        Column(no_wrap=True, style="bold"), "", box=None, show_header=False, padding=(0, 2, 1, 0)
    )
    for name in names:
        table.add_row(name, _about(name, families.FAMILIES[name]))
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


def compare(arguments: Namespace) -> None:
    """Print a table of runs and draw them."""
    from rich.markup import escape
    from rich.table import Column, Table

    from adding_problem.analysis import aggregate, plots
    from adding_problem.analysis.original import read_original
    from adding_problem.runs.folder import RunFolder

    out = _picture(arguments.out, arguments.format)
    originals = read_original(Path(arguments.original)) if arguments.original else []
    runs = [RunFolder(folder).read() for folder in arguments.folders]
    groups, rows = aggregate.group_runs(runs), aggregate.table_rows(runs, originals)
    plots.draw_comparison(out, groups, originals)
    table = Table(
        "tested T",
        "longest trained",
        Column("run", overflow="fold"),
        "epochs",
        "lowest validation MSE",
    )
    first = aggregate.equals([row.weights for row in rows])
    for row, above, same in zip(rows, [None, *rows], first, strict=False):
        if above and row.oracle and not above.oracle:
            table.add_section()
        name = [
            row.name,
            *([_ORACLE] if row.oracle else []),
            *([] if same is None else [f"same weights as {rows[same].name}"]),
        ]
        table.add_row(
            f"{row.t:,}",
            aggregate.lengths_in_words([row.longest]),
            escape("\n".join(name)),
            str(row.epochs),
            f"{row.lowest:.2e}",
        )
    output.console().print(table)
    if again := len(first) - first.count(None):
        say(
            f"{len(rows)} runs, {len(rows) - again} models: runs with the same weights are one model"
        )
    _print_groups(groups, output.console())
    say(f"picture: {out}")


def _print_groups(found: list[Group], console: Console) -> None:
    """What several seeds say together, and two methods on the same seeds."""
    from rich.markup import escape
    from rich.table import Table

    from adding_problem.analysis.aggregate import comparisons

    if max(len(group.seeds) for group in found) > 1:
        table = Table(
            "tested\nT",
            "longest\ntrained",
            "method",
            "solved",
            "median MSE",
            "steps and sequences to 1e-2",
            "to 1e-3",
            title="Over the seeds, with 95% intervals; costs: median (range), unsolved runs censored",
        )
        for group, above in zip(found, [None, *found], strict=False):
            if above and group.oracle and not above.oracle:
                table.add_section()
            table.add_row(
                f"{group.t:,}",
                group.longest,
                escape(f"{group.method}, {group.task.title}"),
                str(group.solved).replace(" (", "\n("),
                f"{group.losses}".replace(" (", "\n(") + f"\n{group.measure}",
                *(
                    f"{group.cost(name, 'sequence_steps')}\n{group.cost(name, 'sequences')}"
                    for name in ("1e-2", "1e-3")
                ),
            )
        console.print(table)
    for remark in sorted(
        {f"{group.method}, T = {group.t:,}: {group.remark}" for group in found if group.remark}
    ):
        say(remark)
    sentences = comparisons(found)
    if len(sentences) > 1:
        say(f"{len(sentences)} comparisons, p-values not corrected for their number:")
    say(*sentences)


def report(arguments: Namespace) -> None:
    """Write the page and print where."""

    from adding_problem import report
    from adding_problem.report.summary import all_solved, distinct
    from adding_problem.training import progress

    out, pictures = Path(arguments.out), Path(arguments.pictures) if arguments.pictures else None
    with progress.counting("scoring", output.console()) as counter:
        found = report.write(
            arguments.folders,
            out,
            title=arguments.title,
            lengths=arguments.lengths,
            sequences=arguments.sequences,
            models=arguments.models,
            threads=arguments.threads,
            pictures=pictures,
            suffix=arguments.format,
            on_progress=counter,
        )
    for problem in found.left_out:
        say(f"left out: {on_one_line(problem)}", error=True)
    for told, ours in (
        ("", [run for run in found.runs if not run.oracle]),
        (f" ({_ORACLE})", [run for run in found.runs if run.oracle]),
    ):
        models = distinct(ours)
        several = f" of {len(models)} models" if len(models) < len(ours) else ""
        if ours:
            say(f"{len(ours)} runs{several}, {sum(map(all_solved, models))} solved{told}")
    say(
        f"page:    {out} ({out.stat().st_size / 1e6:.1f} MB)",
        *([f"pictures: {pictures}"] if pictures else []),
    )
