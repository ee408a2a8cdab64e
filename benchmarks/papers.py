"""The papers' tables, made anew: runs the sweeps of configs/papers and prints what came of them as Markdown.

    python benchmarks/papers.py --out docs/papers                   every paper, resumable: hours on two cores
    python benchmarks/papers.py tallec2018 le2015 --out docs/papers these
    python benchmarks/papers.py --table                             only print what is there

Solved: a mean squared error below 1e-3 on the new sequences of `validate` (of the run's own length). Costs are those at which the
validation error first was below a threshold: median and range, Kaplan and Meier's where not every seed got there.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import origin

from adding_problem import runtime
from adding_problem.groups import THRESHOLDS, Group, collect

CONFIGS = Path(__file__).parent.parent / "configs" / "papers"


def table(folder: Path) -> str:
    """A row for each method and length among a sweep's finished runs."""
    rows = ["| T | method | solved, 95% interval | MSE on new data: median, least to most | sequences to 1e-2 | sequences to 1e-3 | sequences trained on, at most |",
            "|---|---|---|---|---|---|---|"]
    return "\n".join(rows + [_row(group) for group in collect([result.parent for result in folder.glob("*/result.json")])])


def _row(group: Group) -> str:
    losses = group.losses
    most = max(seed.rows[-1].sequences for seed in group.seeds)
    return (f"| {group.t:,} | {group.method} | {group.solved} | {losses.median:.1e}, {losses.least:.1e} to {losses.most:.1e} "
            f"| {group.cost('1e-2', 'sequences')} | {group.cost('1e-3', 'sequences')} | {most:,} |")


def record(paper: str, folder: Path, out: Path) -> None:
    """Keep every finished run of a paper's sweep as JSON, beside those of the other papers."""
    document = json.loads(out.read_text()) if out.exists() else {}
    runs = [{"method": group.method, "variant": group.variant, "t": group.t, "seed": seed.seed, "mse": seed.mse,
             "lowest_val_loss": seed.lowest, "stop_reason": seed.stop_reason,
             "sequences": seed.rows[-1].sequences, "sequence_steps": seed.rows[-1].sequence_steps, "seconds": seed.rows[-1].seconds,
             "sequences_to": {name: (row := seed.first_below(value)) and row.sequences for name, value in THRESHOLDS.items()}}
            for group in collect([result.parent for result in folder.glob("*/result.json")]) for seed in group.seeds]
    document[paper] = {"commit": origin.commit(), "processor": runtime.processor(), "versions": runtime.versions(), "runs": runs}
    out.write_text(json.dumps(document, indent=1) + "\n")


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("papers", nargs="*", default=sorted(path.stem for path in CONFIGS.glob("*.yaml")))
    parser.add_argument("--keep", type=Path, default=Path("artifacts/papers"), help="folder for the sweeps' folders")
    parser.add_argument("--out", default="papers", help="JSON of every run: this name with .json")
    parser.add_argument("--table", action="store_true", help="train nothing, only print what is there")
    arguments = parser.parse_args()
    failed = []
    for paper in arguments.papers:
        if not arguments.table:
            done = subprocess.run([sys.executable, "-m", "adding_problem", "sweep", "--config", str(CONFIGS / f"{paper}.yaml"),
                                   "--out", str(arguments.keep / paper)], check=False)
            failed += [f"{paper} (exit code {done.returncode})"] if done.returncode else []
            record(paper, arguments.keep / paper, Path(f"{arguments.out}.json"))
        print(f"\n{paper}\n\n{table(arguments.keep / paper)}", flush=True)
    if failed:
        sys.exit(f"failed, at least in part: {', '.join(failed)}; what the sweeps said stands above")


if __name__ == "__main__":
    main()
