"""The page: figures as JSON beside their tables, put into the templates."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from adding_problem import __version__
from adding_problem import config as configuration
from adding_problem.analysis.aggregate import Group, lengths_in_words
from adding_problem.config import families
from adding_problem.report import figures
from adding_problem.report.measure import Measured, default_lengths, measure
from adding_problem.report.pictures import draw
from adding_problem.report.runs import Collection, Run, collect
from adding_problem.report.summary import (
    Reach,
    distinct,
    finding,
    has_model,
    middle,
    reaches,
    to_score,
    together,
)
from adding_problem.runs import atomic_io
from adding_problem.runs.records import Cost, EpochRow
from adding_problem.task.thresholds import THRESHOLDS

__all__ = ["Table", "environment", "resource", "script_hash", "write"]

_SCRIPTS = (
    "vendor/d3-7.9.2.min.js",
    "vendor/plot-0.6.17.min.js",
    "templates/lstm.js",
    "templates/states.js",
    "templates/charts.js",
    "templates/random.js",
    "templates/playground.js",
    "templates/theme.js",
    "templates/page.js",
)
_MOST_COLUMNS = 10  # of the first figure
_MOST_ROWS = 10_000  # of metrics in the CSV: about a megabyte of the page


@dataclass(frozen=True)
class Table:
    """A table of the page, which can be downloaded: cells are numbers, text, or None."""

    name: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]

    @property
    def csv(self) -> str:
        """With a header; text that a spreadsheet would take for a formula is marked as text."""
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows([_harmless(cell) for cell in row] for row in self.rows)
        return text.getvalue()

    @property
    def href(self) -> str:
        """The CSV as a link that needs no network."""
        encoded = base64.b64encode(self.csv.encode(errors="replace")).decode()
        return f"data:text/csv;charset=utf-8;base64,{encoded}"


def write(
    folders: Sequence[str | Path],
    out: Path,
    *,
    title: str = "The adding problem",
    certificates: Sequence[str | Path] = (),
    lengths: Sequence[int] | None = None,
    sequences: int = 500,
    models: int = 16,
    threads: int | None = None,
    pictures: Path | None = None,
    suffix: str = "png",
    on_progress: Callable[[int, int], None] | None = None,
) -> Collection:
    """Write the report.

    Args:
        folders: run folders, or folders of them such as a sweep's.
        out: the HTML file.
        title: of the page.
        certificates: files of memory certificates, beside those in the folders.
        lengths: T at which the models are tested; None takes the trained ones, and up to ten times
            the longest.
        sequences: test sequences at each length; long lengths have fewer.
        models: how many are scored, at most, see `summary.to_score`.
        threads: on the CPU; None is one per core.
        pictures: folder for the same figures as pictures for papers; None draws none.
        suffix: of these: `png`, `pdf` or `svg`.
        on_progress: is told the number of scores so far, and of all.

    Returns:
        What was found in the folders.

    Raises:
        RunFolderError: when there is no run, or a certificate cannot be read.
    """
    found = collect(folders, certificates)
    shown = to_score(found.runs, models)
    tested = sorted(set(lengths or default_lengths(found.runs)))
    measured = measure(shown, tested, sequences, threads=threads, on_progress=on_progress)
    atomic_io.make_folder(out.parent)
    atomic_io.write(out, render(found, measured, tested, sequences, title).encode())
    if pictures:
        draw(pictures, suffix, found, measured, tested)
    return found


def render(
    found: Collection,
    measured: Sequence[Measured],
    tested: Sequence[int],
    sequences: int,
    title: str,
) -> str:
    """The page as text."""
    far = reaches(found, measured)
    order = {reach.method: place for place, reach in reversed(list(enumerate(far)))}
    groups = sorted(together(found.runs), key=lambda group: (order[group.method], group.t))
    scripts = [Markup(resource(name)) for name in _SCRIPTS]
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            title=title,
            date=datetime.now(UTC).date().isoformat(),
            version=__version__,
            style=Markup(resource("templates/style.css")),
            scripts=scripts,
            script_hashes=[script_hash(str(script)) for script in scripts],
            found=found,
            groups=groups,
            same={
                run.name: [f"T = {other.t:,} ({other.name})" for other in model if other is not run]
                for model in distinct(found.runs)
                for run in model
            },
            finding=finding(far),
            reaches=far,
            told=sorted({families.told_by(run.config.model.init) for run in found.runs} - {""}),
            columns=_columns(far),
            alt=figures.alternatives(found, groups, measured),
            data=figures.data(found, far, groups, measured),
            measured=[one for one in measured if not one.problem],
            problems=[one for one in measured if one.problem],
            played=figures.played(measured),
            tasks=list(dict.fromkeys(replace(run.config.task, mix_seed=0) for run in found.runs)),
            models=len(distinct([run for run in found.runs if has_model(run)])),
            without_model=sum(
                run.record.result is not None and not has_model(run) for run in found.runs
            ),
            tested=tested,
            sequences=sequences,
            epochs=sum(len(run.record.rows) for run in found.runs),
            tables=_tables(found, far, groups, measured, tested),
            several=any(len(group.runs) > 1 for group in groups),
            configurations=[
                (group, configuration.to_yaml(group.runs[0].config)) for group in groups
            ],
        )
    )


def _columns(far: Sequence[Reach]) -> list[int]:
    """The lengths of the first figure, the shortest and the longest among them."""
    lengths = sorted({t for reach in far for t in reach.cells})
    if len(lengths) <= _MOST_COLUMNS:
        return lengths
    return [lengths[round(place)] for place in np.linspace(0, len(lengths) - 1, _MOST_COLUMNS)]


# --- tables ---------------------------------------------------------------------------------------


def _tables(
    found: Collection,
    far: Sequence[Reach],
    groups: Sequence[Group],
    measured: Sequence[Measured],
    tested: Sequence[int],
) -> dict[str, Table]:
    scored = [one for one in measured if not one.problem]
    by_length = [f"T={t}" for t in tested]
    tables = [
        Table("runs", _RUNS, [_run_row(run) for run in found.runs]),
        Table("reach", _REACH, [row for reach in far for row in _reach_rows(reach)]),
        Table("groups", _GROUPS, [_group_row(group) for group in groups]),
        Table("curves", _CURVES, _curve_rows(found.runs)),
        Table(
            "lengths",
            ["run", "method", "longest_trained", *by_length],
            [
                [one.run.name, one.run.method, one.run.record.longest, *map(one.mse.get, tested)]
                for one in scored
            ],
        ),
        Table(
            "predictions",
            ["run", "T", "target", "prediction"],
            [
                [one.run.name, one.run.t, y, y_hat]
                for one in measured
                for y, y_hat in zip(one.y.tolist(), one.y_hat.tolist(), strict=True)
            ],
        ),
        Table(
            "memory",
            ["run", "step", "marked", "gradient_value", "gradient_mark"],
            [row for one in measured for row in _memory_rows(one)],
        ),
        Table("horizon", _HORIZON, _horizon_rows(found)),
        _configuration_table(found.runs),
    ]
    return {table.name: table for table in tables}


_RUNS = (
    "run",
    "method",
    "T",
    "longest_trained",
    "seed",
    "state",
    "best_val_loss",
    "epochs",
    "sequences",
    "sequence_steps",
    "seconds",
    "sequence_steps_to_1e-2",
    "sequence_steps_to_1e-3",
    "seconds_to_1e-3",
    "same_weights_as",
)


def _run_row(run: Run) -> list[Any]:
    record = run.record
    last = record.rows[-1] if record.rows else EpochRow(0, 0, 0, 0, 0, 0.0)
    to_1e2, to_1e3 = (_cost(run, threshold) for threshold in THRESHOLDS)
    return [
        run.name,
        run.method,
        run.t,
        record.longest,
        record.seed,
        figures.state(run),
        run.best,
        len(record.rows),
        last.sequences,
        last.sequence_steps,
        last.seconds,
        to_1e2 and to_1e2.sequence_steps,
        to_1e3 and to_1e3.sequence_steps,
        to_1e3 and to_1e3.seconds,
        run.same_as or None,
    ]


def _cost(run: Run, threshold: str) -> Cost | None:
    """What it took until the validation loss first was below; None where it never was."""
    if run.record.result:
        return run.record.result.reached[threshold]
    row = run.record.first_below(THRESHOLDS[threshold])
    return row.cost if row else None


_GROUPS = (
    "method",
    "T",
    "longest_trained",
    "runs",
    "solved",
    "solved_low",
    "solved_high",
    "median_best_val_loss",
    "loss_low",
    "loss_high",
    "median_sequence_steps_to_1e-3",
    "median_seconds_to_1e-3",
)


def _group_row(group: Group) -> list[Any]:
    solved = group.solved
    return [
        group.method,
        group.t,
        group.longest,
        len(group.runs),
        solved.successes,
        solved.low,
        solved.high,
        group.losses.median,
        *(figures.interval(group) or (None, None)),
        group.cost("1e-3", "sequence_steps").median,
        group.cost("1e-3", "seconds").median,
    ]


_REACH = (
    "method",
    "task",
    "longest_trained",
    "certificate",
    "T",
    "solved",
    "models",
    "median_mse",
    "validated",
)


def _reach_rows(reach: Reach) -> list[list[Any]]:
    verdict = reach.verdict and reach.verdict.word
    return [
        [
            reach.method,
            reach.task.title,
            reach.trained,
            verdict,
            cell.t,
            cell.solved,
            cell.of,
            cell.mse,
            int(cell.validated),
        ]
        for cell in reach.cells.values()
    ]


_CURVES = ("run", *(field.name for field in fields(EpochRow)))


def _curve_rows(runs: Sequence[Run]) -> list[list[Any]]:
    """Every epoch of every run, or every second, third, ... and the last where there are many."""
    stride = math.ceil(sum(len(run.record.rows) for run in runs) / _MOST_ROWS) or 1
    return [
        [run.name, *row.values]
        for run in runs
        for row in [*run.record.rows[:-1:stride], *run.record.rows[-1:]]
    ]


def _memory_rows(one: Measured) -> list[list[Any]]:
    if one.memory is None:
        return []
    gradients = zip(one.memory.value_gradient, one.memory.mark_gradient, strict=True)
    return [
        [one.run.name, step + 1, int(step in one.memory.marks), *(float(f"{g:.4g}") for g in pair)]
        for step, pair in enumerate(gradients)
    ]


_HORIZON = ("folder", "T", "longest_trained", "solved", "mse", "sequence_steps", "seconds")


def _horizon_rows(found: Collection) -> list[list[Any]]:
    return [
        [name, r.t, r.longest_length, r.solved, r.mse, r.sequence_steps, r.seconds]
        for name, horizon in found.horizons.items()
        for r in horizon.result.rungs
    ]


def _configuration_table(runs: Sequence[Run]) -> Table:
    """One row for each run, one column for each key."""
    flats = [run.config.flat() for run in runs]
    keys = list(dict.fromkeys(key for values in flats for key in values))
    rows = [
        [run.name, run.config.digest, *map(values.get, keys)]
        for run, values in zip(runs, flats, strict=True)
    ]
    return Table("configurations", ["run", "digest", *keys], rows)


def _harmless(cell: Any) -> Any:
    """Text that a spreadsheet would take for a formula, marked as text."""
    formula = isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    return f"'{cell}" if formula else cell


# --- templates ------------------------------------------------------------------------------------


def environment() -> jinja2.Environment:
    """The template engine of this package's pages."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("adding_problem.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "steps": _steps,
        "short": figures.short,
        "seconds": figures.seconds,
        "middle": middle,
        "loss": figures.loss,
        "count": figures.count,
        "shade": figures.shade,
        "question": figures.question,
        "perfect_memory": figures.perfect_memory,
    }
    environment.policies["json.dumps_kwargs"] = {
        "sort_keys": False,
        "allow_nan": False,
        "separators": (",", ":"),
    }
    return environment


def _steps(length: int | None) -> str:
    return lengths_in_words([length])


def resource(name: str) -> str:
    """The text of a file of this package, such as ``templates/style.css``."""
    return resources.files("adding_problem.report").joinpath(name).read_text(encoding="utf-8")


def script_hash(text: str) -> str:
    """What the page's content security policy names: scripts with other contents do not run."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
