"""The ladder of knowledge: what does an LSTM need to be told to solve T = 1000, and how far does it hold?

    python benchmarks/ladder.py --out docs/ladder.json                       # all rows and questions, ten seeds
    python benchmarks/ladder.py --rows keyed oracle --questions sum --seeds 3 --out artifacts/ladder.json
    python benchmarks/ladder.py --table docs/ladder.json

LSTM(100), recipe `fast`, T = 1000. The rows differ in the initialisation alone, the questions in the target and in columns of
noise. Every second seed has value and mark exchanged, but for the oracle, which names the mark's column. A run ends by the
recipe's rule, or at the budget of sequence-steps. Its weights are then scored on new sequences of T = 1000 (10,000
sequences) and beyond (256 at 10^4 and 10^5, and at 10^6 as --at-a-million says); a length is left out once a shorter one has
an error above 0.1. Runs that the record holds are not made again. The runs go two at a time on a thread each.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import tempfile
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import results

from adding_problem import config, runtime, train, validate
from adding_problem.artifacts import SOLVED
from adding_problem.statistics import proportion

T, TESTED = 1_000, (10_000, 100_000, 1_000_000)
LOST = 0.1  # an error above which longer sequences need not be tried


@dataclass(frozen=True)
class Row:
    """A start: its name, the keys that make it, and what it tells the model."""

    name: str
    values: dict[str, Any]
    told: str


SCALE = "a time scale of 10^9 steps"
ROWS = {row.name: row for row in (
    Row("keras", {"model.init": "keras", "model.memory": None}, "a curriculum of lengths, as all rows"),
    Row("chrono", {"model.init": "chrono", "model.memory": None}, "a time scale of T"),
    Row("long", {"model.init": "long", "model.memory": None}, "a time scale of T, small recurrent weights"),
    Row("keyed", {"model.init": "keyed"}, f"{SCALE}; to write rarely, by one input column"),
    Row("keyed-directions", {"model.init": "keyed-directions"}, f"{SCALE}; to write rarely"),
    Row("oracle", {"model.init": "oracle"}, f"which column holds the marks; {SCALE}"),
)}
QUESTIONS: dict[str, dict[str, Any]] = {
    "sum": {},
    "difference": {"dataset.target": "difference"},
    "difference, 6 noise columns": {"dataset.target": "difference", "dataset.noise_columns": 6},
}


def run_one(row: str, question: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train one model and score its weights at all lengths."""
    mix = "swap" if seed % 2 and row != "oracle" else "none"
    values = ROWS[row].values | QUESTIONS[question] | {"dataset.mix": mix}
    with tempfile.TemporaryDirectory() as folder:
        run = config.load(None, {
            "recipe": "fast", "dataset.t": T, "seed": seed, "validate.seed": 10_000 + seed, "threads": arguments.threads,
            "train.budget_steps": arguments.budget, "train.epochs": 1_000_000, "artifacts": folder, **values,
        })
        result = train.run(run)
        errors = {}
        for length, n in ((T, 10_000), *zip(TESTED, (256, 256, arguments.at_a_million), strict=True)):
            (score,) = validate.scores(run, [length], n)
            errors[str(length)] = {key: score[key] for key in ("mse", "mse_standard_error", "sequences")}
            if not score["mse"] < LOST:
                break
    return {"row": row, "question": question, "seed": seed, "mix": mix, "told": ROWS[row].told, "errors": errors,
            **{key: result[key] for key in ("stop_reason", "reached", "sequence_steps", "seconds", "longest_length")},
            "budget": arguments.budget, "threads": arguments.threads, "commit": results.commit(),
            "processor": runtime.processor(), "versions": runtime.versions()}


def table(runs: list[dict[str, Any]]) -> str:
    """Markdown: a row for each start and question."""
    head = ["start", "told", "question", "solved at T = 1,000", "sequence-steps to 1e-3", "seconds to 1e-3",
            *(f"T = {length:,}" for length in TESTED)]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for question in QUESTIONS:
        for row in ROWS.values():
            group = [run for run in runs if (run["row"], run["question"]) == (row.name, question)]
            if group:
                lines.append("| " + " | ".join([row.name, row.told, question, *_cells(group)]) + " |")
    return "\n".join(lines)


def _cells(group: list[dict[str, Any]]) -> list[str]:
    solved = [run for run in group if run["errors"][str(T)]["mse"] < SOLVED]
    costs = [run["reached"]["1e-3"] for run in solved if run["reached"]["1e-3"]]
    cells = [str(proportion(len(solved), len(group)))]
    for key in ("sequence_steps", "seconds"):
        found = sorted(cost[key] for cost in costs)
        never = f"; {len(group) - len(found)} never, up to {group[0]['budget']:,} steps" if len(found) < len(group) else ""
        cells.append(f"{statistics.median(found):,.4g} ({found[0]:,.4g} to {found[-1]:,.4g}){never}" if found else "-")
    for length in TESTED:
        errors = [run["errors"].get(str(length), {"mse": float("inf")})["mse"] for run in group]
        below = sum(error < SOLVED for error in errors)
        median = statistics.median(errors)
        cells.append(f"{median:.1e}; {below} of {len(group)} below 1e-3" if median < 1e3 else f"lost; {below} of {len(group)}")
    return cells


def main() -> None:
    """Make the runs that the record lacks, or print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--questions", nargs="+", default=list(QUESTIONS), choices=list(QUESTIONS))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--budget", type=int, default=10_000_000, help="sequence-steps of a run")
    parser.add_argument("--at-a-million", type=int, default=16, help="sequences of T = 1,000,000")
    parser.add_argument("--threads", type=int, default=1, help="of a run")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("artifacts/ladder.json"))
    parser.add_argument("--table", type=Path, help="print the table of this record, and make no runs")
    arguments = parser.parse_args()
    if arguments.table:
        print(table(json.loads(arguments.table.read_text())["runs"]))
        return
    runs = json.loads(arguments.out.read_text())["runs"] if arguments.out.exists() else []
    held = {(run["row"], run["question"], run["seed"]) for run in runs}
    asked = [(row, question, seed) for seed in range(arguments.seeds) for question in arguments.questions
             for row in arguments.rows if (row, question, seed) not in held]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.workers, mp_context=context) as pool:
        for future in as_completed([pool.submit(run_one, *one, arguments) for one in asked]):
            runs.append(future.result())
            runs.sort(key=lambda run: (run["question"], run["row"], run["seed"]))
            results.write(arguments.out, {"command": "python benchmarks/ladder.py", "runs": runs})
            last = runs[[*map(id, runs)].index(id(future.result()))]
            print(f"{len(runs)}: {last['row']}, {last['question']}, seed {last['seed']}: {last['stop_reason']}, "
                  + ", ".join(f"{key}: {value['mse']:.1e}" for key, value in last["errors"].items()), flush=True)
    print(table(runs))


if __name__ == "__main__":
    main()
