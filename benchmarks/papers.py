"""The papers' tables, made again: runs the sweeps of configs/papers and prints what came of them as
Markdown.

    python benchmarks/papers.py                        every paper: hours on two cores
    python benchmarks/papers.py tallec2018 le2015      these
    python benchmarks/papers.py --out docs/papers --table          only print what this record holds

Every run is recorded as it ends, in one JSON for all papers, `--out`. A second call, on another
machine too, leaves out what is recorded and goes on from the run folders in `--keep` with what is
not.

Solved: a mean squared error below 1e-3 on the test sequences of `validate` (of the run's own
length). Costs are those at which the validation error first was below a threshold: median and
range, Kaplan and Meier's where not every seed got there.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import results
from rich.console import Console

from adding_problem import config
from adding_problem.analysis.aggregate import Group, collect
from adding_problem.experiments.sweep import driver, plan
from adding_problem.experiments.sweep.display import SweepDisplay
from adding_problem.experiments.sweep.local import LocalEngine
from adding_problem.runs.records import EpochRow, RunRecord, RunResult, Score
from adding_problem.system.device import processor, versions
from adding_problem.system.threads import usable_cores
from adding_problem.task.thresholds import THRESHOLDS

CONFIGS = Path(__file__).parent.parent / "configs" / "papers"
Records = dict[str, dict[str, Any]]  # of a paper's runs, by name


def run_missing(
    document: dict[str, Records], arguments: argparse.Namespace, save: Callable[[], None]
) -> list[str]:
    """Do the runs that the record lacks, of all papers in one queue; the names of those that were
    not done."""
    runs: dict[str, plan.PlannedRun] = {}
    records: dict[str, Records] = {}  # of the paper that a run is of
    for paper in arguments.papers:
        for run in plan.read(CONFIGS / f"{paper}.yaml", out=str(arguments.keep)):
            if run.name not in document[paper]:
                runs[run.name], records[run.name] = run, document[paper]
    if not runs:
        return []
    with SweepDisplay(Console()) as display:

        def follow(board: driver.Board) -> None:
            for name in (entry.name for entry in board.entries.values() if entry.state == "done"):
                if name not in records[name]:
                    records[name][name] = record(runs[name])
                    save()
            display.follow(board)

        board = driver.run(list(runs.values()), LocalEngine(arguments.workers), follow=follow)
    return [
        f"{entry.name}: {entry.message}"
        for entry in board.entries.values()
        if entry.state != "done"
    ]


def record(run: plan.PlannedRun) -> dict[str, Any]:
    """What a table asks of a finished run: its score, and the epochs in which it was first below a
    threshold, best, and last."""
    (group,) = collect([run.config.artifacts])
    (ended,) = group.runs
    best = min(
        ended.rows, key=lambda row: row.val_loss if math.isfinite(row.val_loss) else math.inf
    )
    rows = {
        row.epoch: row
        for row in (*map(ended.first_below, THRESHOLDS.values()), best, ended.rows[-1])
        if row
    }
    method = [
        str(value) if key == "model.name" else f"{key.rpartition('.')[2]}={value}"
        for key, value in run.varies.items()
        if key not in ("seed", "dataset.t")
    ]
    return {
        "method": ", ".join(method) or run.config.model.name,
        "variant": group.task.variant,
        "t": group.t,
        "seed": ended.seed,
        "mse": ended.score.mse if ended.score else None,
        "stop_reason": ended.result.stop_reason if ended.result else None,
        "rows": [asdict(rows[epoch]) for epoch in sorted(rows)],
        "commit": results.commit(),
        "processor": processor(),
        "versions": versions(),
    }


def table(records: Records) -> str:
    """A row for each method and length."""
    members: dict[tuple[str, int, str], list[RunRecord]] = {}
    for run in sorted(
        records.values(), key=lambda run: (run["variant"], run["t"], run["method"], run["seed"])
    ):
        key = run["variant"], run["t"], run["method"]
        members.setdefault(key, []).append(_run_of(run))
    rows = [
        "| T | method | solved, 95% interval | test MSE: median, least to most "
        "| sequences to 1e-2 | sequences to 1e-3 | sequences trained on, at most |",
        "|---|---|---|---|---|---|---|",
    ]
    return "\n".join(
        rows
        + [
            _row(
                Group(
                    method,
                    runs[0].config.task,
                    t,
                    tuple(runs),
                    measure="test MSE"
                    if all(run.score for run in runs)
                    else "lowest validation MSE",
                )
            )
            for (_, t, method), runs in members.items()
        ]
    )


def _run_of(entry: dict[str, Any]) -> RunRecord:
    """A run of the record, as its folder held it but for the epochs that are not kept."""
    values = {"seed": entry["seed"], "dataset.t": entry["t"], "dataset.variant": entry["variant"]}
    wanted = config.load(None, values)
    rows = tuple(EpochRow(**row) for row in entry["rows"])
    where: dict[str, Any] = {"device": "", "backend": "", "threads": 0}
    result = RunResult.of(wanted, rows, rows[-1].epoch, entry["stop_reason"], **where)
    score = None
    if entry["mse"] is not None:
        score = Score(
            t=entry["t"],
            **wanted.task.to_record(),
            sequences=wanted.dataset.n_held_out,
            mse=entry["mse"],
            mse_standard_error=math.nan,
            model=result.digest,
        )
    return RunRecord(Path(), wanted, rows, result, score)


def _row(group: Group) -> str:
    losses = group.losses
    most = max(run.rows[-1].sequences for run in group.runs)
    return (
        f"| {group.t:,} | {group.method} | {group.solved} "
        f"| {losses.median:.1e}, {losses.least:.1e} to {losses.most:.1e} "
        f"| {group.cost('1e-2', 'sequences')} | {group.cost('1e-3', 'sequences')} | {most:,} |"
    )


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "papers", nargs="*", default=sorted(path.stem for path in CONFIGS.glob("*.yaml"))
    )
    parser.add_argument(
        "--keep", type=Path, default=Path("artifacts/papers"), help="folder for the run folders"
    )
    parser.add_argument(
        "--out", default="artifacts/papers", help="JSON of every run: this name with .json"
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=usable_cores(),
        help="runs at the same time, of a thread each",
    )
    parser.add_argument(
        "--table", action="store_true", help="train nothing, only print what the record holds"
    )
    arguments = parser.parse_args()
    out = Path(f"{arguments.out}.json")
    document: dict[str, Records] = json.loads(out.read_text()) if out.exists() else {}

    def save() -> None:
        results.write(out, document)

    for paper in arguments.papers:
        document.setdefault(paper, {})
    failed = [] if arguments.table else run_missing(document, arguments, save)
    for paper in arguments.papers:
        print(f"\n{paper}\n\n{table(document[paper])}")
    if failed:
        sys.exit("failed:\n" + "\n".join(failed))


if __name__ == "__main__":
    main()
