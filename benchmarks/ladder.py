r"""The ladder of knowledge: what is an LSTM told, does it solve T = 1000, and how far does it hold?

    # Train all rows on three questions, then score.
    python benchmarks/ladder.py --out docs/ladder.json
    # Train one row on one question.
    python benchmarks/ladder.py --rows keyed --questions sum --seeds 20 --threads 2 --workers 1 \
        --phases train
    # Score what was trained, where scores are missing.
    python benchmarks/ladder.py --phases score --sequences 256
    # Write the tables of a page, from the two records in docs.
    python benchmarks/ladder.py --page docs/results.md
    python benchmarks/ladder.py --page README.md

LSTM(100), recipe `fast`, T = 1000. The rows differ in the initialisation alone, the questions in
the task. Odd seeds have value and mark exchanged, but for the oracle, which names the mark's
column, and where the question turns the inputs itself. A run ends by the recipe's rule or at the
budget of sequence-steps. Its weights are then scored on test sequences: 2,000 of T = 1000, and
--sequences of each longer T. A length is left out once a shorter one has an error above 0.1. Runs,
and scores of at least as many sequences, that the record holds are not made again.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import statistics
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import results

from adding_problem import config
from adding_problem.analysis.statistics import proportion
from adding_problem.config import RunConfig
from adding_problem.evaluation.lengths import score_at_lengths
from adding_problem.experiments.train import train
from adding_problem.task.thresholds import SOLVED

T, TESTED = 1_000, (10_000, 100_000, 1_000_000)
LOST = 0.1  # an error above which longer sequences need not be tried

Run = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """A start: its name, the keys that make it, and what it tells the model."""

    name: str
    values: dict[str, Any]
    told: str


_NO_MEMORY = {"model.memory": None}
ROWS = {
    row.name: row
    for row in (
        Row("keras", {"model.init": "keras", **_NO_MEMORY}, "nothing but the recipe"),
        Row("chrono", {"model.init": "chrono", **_NO_MEMORY}, "a time scale of T"),
        Row("long", {"model.init": "long", **_NO_MEMORY}, "a time scale of T"),
        Row("keyed", {"model.init": "keyed"}, "a time scale of 10^9; write rarely, by one column"),
        Row(
            "keyed-directions",
            {"model.init": "keyed-directions"},
            "a time scale of 10^9; write rarely",
        ),
        Row(
            "oracle", {"model.init": "oracle"}, "which column holds the marks; a time scale of 10^9"
        ),
    )
}
_DIFFERENCE = {"dataset.target": "difference"}
QUESTIONS: dict[str, dict[str, Any]] = {
    "sum": {},
    "difference": _DIFFERENCE,
    "difference, 6 noise columns": _DIFFERENCE | {"dataset.noise_columns": 6},
    "difference, rotated": _DIFFERENCE | {"dataset.mix": "rotate"},
    "product": {"dataset.target": "product"},
    "first": {"dataset.target": "first"},
    "sum, halves": {"dataset.variant": "halves"},
    "sum, hs1997": {"dataset.variant": "hs1997"},
}
LADDER = ("sum", "difference", "difference, 6 noise columns")


def configuration(run: Run, arguments: argparse.Namespace) -> RunConfig:
    """What a run of the record trains."""
    row, question, seed = run["row"], run["question"], run["seed"]
    exchanged = {"dataset.mix": "swap"} if seed % 2 and row != "oracle" else {}
    folder = arguments.runs / question.replace(", ", "-").replace(" ", "-") / row / str(seed)
    return config.load(
        None,
        {
            "recipe": "fast",
            "dataset.t": T,
            "seed": seed,
            "validate.seed": 10_000 + seed,
            "threads": run.get("threads", arguments.threads),
            "train.budget_steps": run.get("budget", arguments.budget),
            "train.epochs": 1_000_000,
            "artifacts": str(folder),
            **exchanged,
            **ROWS[row].values,
            **QUESTIONS[question],
        },
    )


def trained(run: Run, arguments: argparse.Namespace) -> Run:
    """The run, trained and scored at T."""
    wanted = configuration(run, arguments)
    result = train(wanted, resume=True)
    kept = (
        "stop_reason",
        "reached",
        "sequence_steps",
        "seconds",
        "longest_length",
        "threads",
        "processor",
        "versions",
    )
    return run | {
        "mix": wanted.dataset.mix,
        **results.picked(result, kept),
        "budget": arguments.budget,
        "workers": arguments.workers,
        "commit": results.commit(),
        "errors": {str(T): _score(wanted, T, 2_000)},
    }


def scored(run: Run, arguments: argparse.Namespace) -> Run:
    """The run, scored at the lengths that it may still be asked for."""
    errors = dict(run["errors"])
    wanted = configuration(run, arguments)
    again = train(wanted, resume=True)  # at once where the run's folder is there
    if again.sequence_steps != run["sequence_steps"]:  # on another processor, perhaps
        raise SystemExit(f"{wanted.artifacts} is not the run of the record: remove it there")
    for length in missing(run, arguments):
        if not errors[max(errors, key=int)]["mse"] < LOST:
            break
        errors[str(length)] = _score(wanted, length, arguments.sequences)
    return run | {"errors": errors}


def _score(wanted: RunConfig, length: int, n: int) -> dict[str, Any]:
    (score,) = score_at_lengths(wanted, [length], n)
    return results.picked(score, ("mse", "mse_standard_error", "sequences"))


def missing(run: Run, arguments: argparse.Namespace) -> list[int]:
    """The lengths that lack a score of so many sequences; none of a run that is lost already."""
    errors = run["errors"]
    if _lost(run):
        return []
    return [
        length
        for length in arguments.lengths
        if errors.get(str(length), {"sequences": 0})["sequences"] < arguments.sequences
    ]


def with_tables(text: str, docs: Path) -> str:
    """A page with the tables of the records in docs between its marks."""
    runs = results.read(docs / "ladder.json")
    certificates = results.read(docs / "certificates.json", "certificates")
    made = {
        "ladder": "\n\n".join([told(certificates), table(runs)]),
        "ladder, short": short_table(runs),
    }
    for name, tables in made.items():
        opening, closing = f"<!-- {name} -->", f"<!-- /{name} -->"
        if opening in text:
            before, _, rest = text.partition(opening)
            _, _, after = rest.partition(closing)
            text = f"{before}{opening}\n\n{tables}\n\n{closing}{after}"
    return text


# --- the table ------------------------------------------------------------------------------------


def table(runs: list[Run]) -> str:
    """Markdown: a row for each question and start."""
    head = [
        "question",
        "start",
        "solved at T = 1,000",
        "sequence-steps to 1e-3",
        "seconds",
        "longest trained",
        *(f"T = {length:,}" for length in TESTED),
    ]
    rows = []
    for question in QUESTIONS:
        for row in ROWS.values():
            group = [run for run in runs if (run["row"], run["question"]) == (row.name, question)]
            if group:
                rows.append([question, f"`{row.name}`", *_cells(group)])
    return results.markdown(head, rows)


HARDEST = "difference, 6 noise columns"
SHORT = ("keras", "long", "keyed-directions", "keyed", "oracle")


def short_table(runs: list[Run]) -> str:
    """Markdown: five starts on the hardest question."""
    head = ["start", "what it is told", "solved", "sequence-steps", "error at T = 100,000"]
    rows = []
    for name in SHORT:
        group = [run for run in runs if (run["row"], run["question"]) == (name, HARDEST)]
        solved = [run for run in group if run["errors"][str(T)]["mse"] < SOLVED]
        reached = [cost for run in solved if (cost := run["reached"]["1e-3"])]
        costs = [cost["sequence_steps"] for cost in reached]
        errors = [error["mse"] for run in group if (error := run["errors"].get("100000"))]
        rows.append(
            [
                f"`{name}`",
                ROWS[name].told,
                f"{len(solved)} of {len(group)}",
                f"{statistics.median(costs):,.0f}" if costs else "-",
                f"{statistics.median(errors):.1e}" if errors else "-",
            ]
        )
    return results.markdown(head, rows)


def told(certificates: list[dict[str, Any]]) -> str:
    """Markdown: what each start tells the model, and the verdicts of its certificate at T."""
    verdicts = {
        entry["init"]: {row["question"]: row["verdict"] for row in entry["rows"]}
        for entry in certificates
        if (entry["model"], entry["t"]) == ("lstm", T)
    }
    asked = list(dict.fromkeys(question for found in verdicts.values() for question in found))
    rows = [
        [
            f"`{row.name}`",
            row.told,
            *(verdicts.get(row.name, {}).get(question, "-") for question in asked),
        ]
        for row in ROWS.values()
    ]
    return results.markdown(["start", "what it is told", *asked], rows)


def _cells(group: list[Run]) -> Iterator[str]:
    solved = [run for run in group if run["errors"][str(T)]["mse"] < SOLVED]
    costs = [run["reached"]["1e-3"] for run in solved if run["reached"]["1e-3"]]
    yield str(proportion(len(solved), len(group)))
    for key in ("sequence_steps", "seconds"):
        yield _spread(
            [cost[key] for cost in costs],
            lambda cost: f"{cost:,.3g}" if cost < 100 else f"{cost:,.0f}",
        )
    longest = sorted({run["longest_length"] for run in group})
    yield f"{longest[0]:,}" if len(longest) == 1 else f"{longest[0]:,} to {longest[-1]:,}"
    for length in TESTED:
        errors = [error for run in group if (error := run["errors"].get(str(length)))]
        if not errors:
            yield "lost" if any(map(_lost, group)) else "-"
            continue
        holds = sum(results.upper_bound(error) < SOLVED for error in errors)
        spread = _spread([error["mse"] for error in errors], "{:.1e}".format)
        tried = sum(str(length) in run["errors"] or _lost(run) for run in group)
        fewest = min(error["sequences"] for error in errors)
        yield f"{spread}; {holds} of {tried} hold ({fewest} sequences)"


def _lost(run: Run) -> bool:
    return not all(error["mse"] < LOST for error in run["errors"].values())


def _spread(values: list[float], written: Callable[[float], str]) -> str:
    """Median and range."""
    found = [value for value in values if math.isfinite(value)]
    if not found:
        return "never" if not values else "lost"
    return results.median_and_range(found, written)


# --- the command ----------------------------------------------------------------------------------


def main() -> None:
    """Make what the record lacks, or print its table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--questions", nargs="+", default=list(LADDER), choices=list(QUESTIONS))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument(
        "--phases", nargs="+", default=["train", "score"], choices=["train", "score"]
    )
    parser.add_argument("--budget", type=int, default=10_000_000, help="sequence-steps of a run")
    parser.add_argument(
        "--lengths", nargs="+", type=int, default=list(TESTED), help="to score at, beside T"
    )
    parser.add_argument("--sequences", type=int, default=64, help="of each of these lengths")
    parser.add_argument("--threads", type=int, default=1, help="of a run")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--runs", type=Path, default=Path("artifacts/ladder"), help="where the run folders go"
    )
    parser.add_argument("--out", type=Path, default=Path("docs/ladder.json"))
    parser.add_argument(
        "--page",
        type=Path,
        help="write the record's tables between this page's marks, and make no runs",
    )
    arguments = parser.parse_args()
    if arguments.page:
        page = arguments.page
        page.write_text(with_tables(page.read_text(), arguments.out.parent))
        return
    asked = [
        (row, question, seed)
        for question in arguments.questions
        for row in arguments.rows
        for seed in range(arguments.seeds)
    ]
    if "train" in arguments.phases:
        held = {_key(run) for run in results.read(arguments.out)}
        new = [{"row": row, "question": question, "seed": seed} for row, question, seed in asked]
        _all(trained, [run for run in new if _key(run) not in held], arguments)
    if "score" in arguments.phases:
        held_runs = [
            run
            for run in results.read(arguments.out)
            if _key(run) in asked and missing(run, arguments)
        ]
        _all(scored, sorted(held_runs, key=lambda run: run["seed"]), arguments)
    print(table(results.read(arguments.out)))


def _all(
    task: Callable[[Run, argparse.Namespace], Run], todo: list[Run], arguments: argparse.Namespace
) -> None:
    """Do a task for all of these runs, and write the record after each."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.workers, mp_context=context) as pool:
        for number, future in enumerate(
            as_completed([pool.submit(task, run, arguments) for run in todo]), 1
        ):
            done = future.result()
            others = [run for run in results.read(arguments.out) if _key(run) != _key(done)]
            runs = sorted(
                [*others, done], key=lambda run: (run["question"], run["row"], run["seed"])
            )
            results.write(arguments.out, {"command": "python benchmarks/ladder.py", "runs": runs})
            errors = ", ".join(
                f"{length}: {error['mse']:.1e}" for length, error in done["errors"].items()
            )
            print(
                f"{number} of {len(todo)}: {done['row']}, {done['question']}, seed {done['seed']}: "
                f"{done['stop_reason']}, {done['seconds']:.1f} s; {errors}",
                flush=True,
            )


def _key(run: Run) -> tuple[str, str, int]:
    return run["row"], run["question"], run["seed"]


if __name__ == "__main__":
    main()
