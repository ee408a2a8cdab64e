"""The page: figures as JSON beside their tables, put into the templates."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from adding_problem import __version__
from adding_problem import config as configuration
from adding_problem.analysis.aggregate import lengths_in_words
from adding_problem.report import figures
from adding_problem.report.measure import Measured, default_lengths, measure
from adding_problem.report.pictures import draw
from adding_problem.report.runs import Collection, Run, collect
from adding_problem.report.summary import RunGroup, distinct, representatives, together
from adding_problem.runs import atomic_io
from adding_problem.runs.records import THRESHOLDS

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
_MOST_ROWS = 10_000  # of metrics in the CSV: about a megabyte of the page


@dataclass(frozen=True)
class Table:
    """A table that can be read in the page and downloaded: cells are numbers, text, or None for nothing."""

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
        return (
            "data:text/csv;charset=utf-8;base64,"
            + base64.b64encode(self.csv.encode(errors="replace")).decode()
        )


def write(
    folders: Sequence[str | Path],
    out: Path,
    *,
    title: str = "The adding problem",
    lengths: Sequence[int] | None = None,
    sequences: int = 500,
    models: int = 8,
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
        lengths: T at which the models are tested; None takes the trained ones, and up to ten times the longest.
        sequences: new ones at each model's own length; other lengths have fewer where they are long.
        models: how many are scored, at most.
        threads: on the CPU; None is one per core.
        pictures: folder for the same figures as pictures for papers; None draws none.
        suffix: of these: `png`, `pdf` or `svg`.
        on_progress: is told the number of scores so far, and of all.

    Returns:
        What was found in the folders.

    Raises:
        RunFolderError: when there is no run.
    """
    found = collect(folders)
    shown = representatives(together(found.runs), models)
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
    groups = together(found.runs)
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
            apart=_apart,
            same={
                run.name: [f"T = {other.t:,} ({other.name})" for other in model if other is not run]
                for model in distinct(found.runs)
                for run in model
            },
            headline=figures.headline(found, groups, measured),
            alt=figures.alternatives(found, groups, measured),
            data=figures.data(found, groups, measured),
            measured=[one for one in measured if not one.problem],
            problems=[one for one in measured if one.problem],
            played=figures.played(measured),
            tasks=list(dict.fromkeys(replace(run.config.task, mix_seed=0) for run in found.runs)),
            tested=tested,
            sequences=sequences,
            epochs=sum(len(run.rows) for run in found.runs),
            tables=_tables(found, groups, measured, tested),
            several=any(len(group.runs) > 1 for group in groups),
            configurations=[
                (group, configuration.to_yaml(group.runs[0].config)) for group in groups
            ],
        )
    )


def _apart(oracles: Sequence[bool], index: int) -> bool:
    """Whether a rule stands above a row: it is the first oracle below learners."""
    return index > 0 and oracles[index] and not oracles[index - 1]


# --- tables ----------------------------------------------------------------------------------------------------------


def _tables(
    found: Collection,
    groups: Sequence[RunGroup],
    measured: Sequence[Measured],
    tested: Sequence[int],
) -> dict[str, Table]:
    tables = [
        Table(
            "runs",
            [
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
            ],
            [_run_row(run) for run in found.runs],
        ),
        Table(
            "groups",
            [
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
            ],
            [_group_row(group) for group in groups],
        ),
        _curves_table(found.runs),
        Table(
            "lengths",
            ["run", "method", "longest_trained", *(f"T={t}" for t in tested)],
            [
                [one.run.name, one.run.method, one.run.longest, *(one.mse.get(t) for t in tested)]
                for one in measured
                if not one.problem
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
            _memory_rows(measured),
        ),
        Table(
            "horizon",
            ["folder", "T", "longest_trained", "solved", "mse", "sequence_steps", "seconds"],
            [
                [
                    name,
                    rung.t,
                    rung.longest_length,
                    rung.solved,
                    rung.mse,
                    rung.sequence_steps,
                    rung.seconds,
                ]
                for name, horizon in found.horizons.items()
                for rung in horizon.result.rungs
            ],
        ),
        _configuration_table(found.runs),
    ]
    return {table.name: table for table in tables}


def _run_row(run: Run) -> list[Any]:
    cost = [run.reached(threshold) for threshold in THRESHOLDS]
    return [
        run.name,
        run.method,
        run.t,
        run.longest,
        run.config.seed,
        figures.state(run),
        run.best,
        len(run.rows),
        *(int(run.spent(unit)) for unit in ("sequences", "sequence_steps")),
        run.spent("seconds"),
        *(c and int(c["sequence_steps"]) for c in cost),
        cost[1] and cost[1]["seconds"],
        run.same_as or None,
    ]


def _group_row(group: RunGroup) -> list[Any]:
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
        *(group.interval or (None, None)),
        group.cost("1e-3", "sequence_steps").median,
        group.cost("1e-3", "seconds").median,
    ]


def _curves_table(runs: Sequence[Run]) -> Table:
    """Every epoch of every run, or every second, third, ... and the last where there are too many."""
    stride = math.ceil(sum(len(run.rows) for run in runs) / _MOST_ROWS) or 1
    rows = [
        [run.name, *row.values] for run in runs for row in [*run.rows[:-1:stride], *run.rows[-1:]]
    ]
    return Table(
        "curves",
        [
            "run",
            "epoch",
            "loss",
            "val_loss",
            "sequences",
            "sequence_steps",
            "seconds",
            "val_sequences",
            "longest_length",
        ],
        rows,
    )


def _memory_rows(measured: Sequence[Measured]) -> list[list[Any]]:
    return [
        [
            one.run.name,
            step + 1,
            int(step in one.memory.marks),
            float(f"{value:.4g}"),
            float(f"{mark:.4g}"),
        ]
        for one in measured
        if one.memory
        for step, (value, mark) in enumerate(
            zip(one.memory.value_gradient, one.memory.mark_gradient, strict=True)
        )
    ]


def _configuration_table(runs: Sequence[Run]) -> Table:
    """One row for each run, one column for each key."""
    flats = [run.config.flat() for run in runs]
    keys = list(dict.fromkeys(key for values in flats for key in values))
    rows = [
        [run.name, run.config.digest, *(values.get(key) for key in keys)]
        for run, values in zip(runs, flats, strict=True)
    ]
    return Table("configurations", ["run", "digest", *keys], rows)


def _harmless(cell: Any) -> Any:
    return (
        f"'{cell}"
        if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r"))
        else cell
    )


# --- templates -------------------------------------------------------------------------------------------------------


def environment() -> jinja2.Environment:
    """What fills the templates of the report and of the page that trains."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("adding_problem.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "steps": _steps,
        "number": figures.number,
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
