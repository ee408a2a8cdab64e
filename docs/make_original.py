"""Print docs/original.md from its text and the recorded runs.

python docs/make_original.py >docs/original.md
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

from adding_problem.analysis.statistics import proportion
from adding_problem.runs.folder import RunFolder
from adding_problem.runs.records import EpochRow, RunResult
from adding_problem.task.thresholds import SOLVED, THRESHOLDS

DOCS = Path(__file__).parent
CURVES = DOCS / "original_curves.json"
SCORES = DOCS / "original_scores.json"
TEXT = DOCS / "original.md.in"
SEEDS = DOCS / "original_seeds.json"
RUNS = DOCS / "runs" / "original"
EPOCH = 30_000  # training sequences in an epoch, the original's and ours
COMMITS = (  # which a run folder does not tell
    "`d807c31` (150), `7b502f1` (1,000), `a36e7b9` (the others; 700 from epoch 26 on `7b502f1`)"
)


@dataclass(frozen=True)
class Run:
    """A run as the tables need it.

    Attributes:
        val_loss: of every epoch.
        patience: whether early stopping ended it.
    """

    t: int
    val_loss: list[float]
    patience: bool

    def first(self, threshold: float) -> int | None:
        """The first epoch whose validation loss is below."""
        return next(
            (epoch for epoch, loss in enumerate(self.val_loss, 1) if loss < threshold), None
        )


@dataclass(frozen=True)
class Ours(Run):
    """One of our runs, with what its folder says of it."""

    rows: list[EpochRow]
    result: RunResult


def originals() -> dict[int, Run]:
    """The original's runs by T. At most 100 epochs were asked for: a shorter one was stopped."""
    curves = json.loads(CURVES.read_text(encoding="utf-8"))
    return {
        int(t): Run(int(t), losses["val_loss"], len(losses["val_loss"]) < 100)
        for t, losses in curves.items()
    }


def recorded() -> dict[int, Ours]:
    """Our runs by T."""
    found = {}
    for path in RUNS.iterdir():
        folder = RunFolder(path)
        rows, result = folder.read_history(), folder.read_result()
        patience = result.stop_reason == "early_stopping"
        found[result.t] = Ours(
            result.t,
            [row.val_loss for row in rows],
            patience,
            rows,
            result,
        )
    return dict(sorted(found.items()))


def scientific(value: float | None) -> str:
    """Such as 4.7e-6; empty for None."""
    if value is None:
        return ""
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}" if value < 0.1 else f"{value:.2g}"


def exponent_of(costs: dict[int, float]) -> float:
    """The slope of log cost against log T by least squares."""
    logs = [(math.log(t), math.log(cost)) for t, cost in costs.items()]
    x0, y0 = (sum(values) / len(logs) for values in zip(*logs, strict=True))
    return sum((x - x0) * (y - y0) for x, y in logs) / sum((x - x0) ** 2 for x, _ in logs)


def epochs_to(runs: dict[int, Run] | dict[int, Ours], threshold: float = 1e-2) -> dict[int, int]:
    """By T, of the runs that got there."""
    return {t: first for t, run in runs.items() if (first := run.first(threshold))}


# --- the tables --------------------------------------------------------------------------------


def table(head: str, rows: Iterable[Iterable[object]]) -> str:
    """Markdown."""
    columns = head.split("|")
    lines = [head, "|".join(["---"] * len(columns)), *(" | ".join(map(str, row)) for row in rows)]
    return "\n".join(f"| {line} |" if line[0] != "-" else f"|{line}|" for line in lines)


def table_of_runs(theirs: dict[int, Run], ours: dict[int, Ours]) -> str:
    """Epochs, losses and costs, the original's row over ours."""
    scores = json.loads(SCORES.read_text(encoding="utf-8"))

    def row(name: str, run: Run) -> list[object]:
        reached = [first for threshold in THRESHOLDS.values() if (first := run.first(threshold))]
        return [
            f"{run.t:,}",
            name,
            f"{len(run.val_loss)}{' (patience)' if run.patience else ''}",
            scientific(min(run.val_loss)),
            ", ".join(map(str, reached)) or "never",
            f"{reached[0] * EPOCH * run.t / 1e6:,.4g}" if reached else "-",
            scientific(scores[name].get(str(run.t))),
        ]

    head = (
        "T | | epochs | lowest validation MSE | first epoch below 1e-2, 1e-3 "
        "| million sequence-steps to 1e-2 | test MSE"
    )
    pairs = [("original", theirs), ("ours", ours)]
    return table(head, [row(name, runs[t]) for t in theirs for name, runs in pairs if t in runs])


def threads_of(backend: str, threads: int) -> str:
    """Such as `native, 1 thread`."""
    return f"{backend}, {threads} thread{'s' * (threads != 1)}"


# --- ten seeds at T = 1000 -----------------------------------------------------------------------

ENDS = {
    "solved": "below 1e-2",
    "early_stopping": "by patience",
    "epochs": "after 100 epochs",
    "diverged": "diverged",
}
ASKED_SEEDS = 10


def section_on_seeds() -> str:
    """What any number of finished seeds says."""
    runs = json.loads(SEEDS.read_text(encoding="utf-8"))["runs"] if SEEDS.exists() else []
    if not runs:
        return "No seed of this experiment has ended yet."
    solved = [run for run in runs if run["reached"]["1e-2"]]
    share = proportion(len(solved), len(runs))
    so_far = "" if len(runs) >= ASKED_SEEDS else " so far"
    lines = [
        f"**{share.successes} of {share.n} seeds{so_far}** came below a validation MSE of 1e-2.",
        f"Wilson's 95% interval of the share: {share.low:.0%} to {share.high:.0%}.",
    ]
    epochs = sorted(run["reached"]["1e-2"]["epoch"] for run in solved)
    if len(epochs) == 1:
        lines.append(f"It got there in epoch {epochs[0]}.")
    elif epochs:
        lines.append(f"They got there in epochs {', '.join(map(str, epochs))}.")
    reasons = Counter(end_of(run) for run in runs if not run["reached"]["1e-2"])
    if reasons:
        counts = ", ".join(f"{n} {reason}" for reason, n in reasons.items())
        lines.append(f"The others ended so: {counts}.")
    machines = {
        f"{run['processor']}, {threads_of(run['backend'], run['threads'])}, "
        f"PyTorch {run['versions']['torch']}"
        for run in runs
    }
    machine = f"Machine: {'; '.join(sorted(machines))}."
    return "\n".join([*lines, "", table_of_seeds(runs), "", machine])


def end_of(run: dict[str, Any]) -> str:
    """Why a run ended, in words."""
    return ENDS.get(run["stop_reason"], run["stop_reason"])


def table_of_seeds(runs: list[dict[str, Any]]) -> str:
    """A row for each seed."""
    head = (
        "seed | epochs until below 1e-2 | ended in epoch | end | lowest validation MSE "
        "| million sequence-steps | hours | commit"
    )
    return table(
        head,
        [
            [
                run["seed"],
                (run["reached"]["1e-2"] or {"epoch": "never"})["epoch"],
                run["epochs"],
                end_of(run),
                scientific(run["lowest_val_loss"]),
                f"{run['sequence_steps'] / 1e6:,.0f}",
                f"{run['seconds'] / 3600:.1f}",
                f"`{run['commit']}`",
            ]
            for run in runs
        ],
    )


# --- the page ------------------------------------------------------------------------------------


def titles(ours: dict[int, Ours]) -> dict[str, str]:
    """What the pictures of all lengths show, from the figures."""
    costs = epochs_to(ours)
    first, last = min(costs), max(costs)
    solved = [t for t, run in ours.items() if min(run.val_loss) < SOLVED]
    return {
        "comparison": (
            f"Recipe original solves {len(solved)} of {len(ours)} lengths up to T = "
            f"{max(solved):,}; the original's run of T = 1,000 was stopped on the plateau"
        ),
        "costs": (
            "By recipe original longer sequences take more epochs, "
            f"{costs[first]} at T = {first:,} and {costs[last]} at T = {last:,}; "
            f"sequence-steps grow as T to the power of {power(ours)}"
        ),
    }


def power(runs: dict[int, Run] | dict[int, Ours]) -> str:
    """With which power of T the sequence-steps to 1e-2 grow."""
    return f"{exponent_of({t: float(n * t) for t, n in epochs_to(runs).items()}):.1f}"


def title_of(theirs: Run | None, ours: Ours) -> str:
    """Of the picture of one length."""

    def told(run: Run) -> str:
        first = run.first(1e-2)
        spent = (first or len(run.val_loss)) * EPOCH * run.t
        return f"{'after' if first else 'not in'} {spent / 1e6:,.4g} million"

    original = f", the original's {told(theirs)}" if theirs else ""
    return (
        f"T = {ours.t:,}, recipe original, seed {ours.result.seed}: validation MSE below 1e-2 "
        f"{told(ours)} sequence-steps{original}"
    )


def page(theirs: dict[int, Run], ours: dict[int, Ours]) -> str:
    """The page in Markdown."""
    a, b = epochs_to(theirs), epochs_to(ours)
    longest = ours[1000]
    left = longest.first(1e-2) or len(longest.val_loss) + 1
    return Template(TEXT.read_text(encoding="utf-8")).substitute(
        titles(ours),
        pictures="T = " + ", ".join(f"[{t:,}](pictures/original/{t}.png)" for t in ours),
        runs=table_of_runs(theirs, ours),
        commits=COMMITS,
        plateau=", ".join(f"{b[t] - a[t]} at T = {t:,}" for t in sorted(a.keys() & b.keys())),
        stopped=len(theirs[1000].val_loss),
        left=left,
        lowest=scientific(min(longest.val_loss)),
        power=power(ours),
        their_power=power(theirs),
        seeds=section_on_seeds(),
    )


def main() -> None:
    """The page, on standard output."""
    print(page(originals(), recorded()), end="")


if __name__ == "__main__":
    main()
