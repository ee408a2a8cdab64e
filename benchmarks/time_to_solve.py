"""How much does it take to solve the adding problem with the recipe `fast`, over many seeds?

    python benchmarks/time_to_solve.py --lengths 150 1000 1500 --seeds 10 --out docs/time_to_solve

Every run starts from scratch and ends by the recipe's own rule (validation MSE on its 1,000 held-out sequences below
`train.stop_val_loss`) or at the budget. Solved means: MSE below 1e-3 on 10,000 sequences that nothing else has seen. All
runs are reported; costs are medians and ranges over the solved ones, the share solved carries a 95% Wilson interval.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from scipy.stats import binomtest

from adding_problem import config, runtime, train, validate

SOLVED = 1e-3


def solve(length: int, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """One run from scratch, and its score on new data."""
    with tempfile.TemporaryDirectory() as folder:
        run = config.load(None, {
            "recipe": "fast", "dataset.t": length, "dataset.variant": arguments.variant, "seed": seed,
            "validate.seed": 10_000 + seed, "train.budget_minutes": arguments.minutes, "backend": arguments.backend,
            "threads": arguments.threads, "artifacts": folder,
        })
        result = train.run(run)
        score = validate.run(run)
    return {"length": length, "seed": seed, "stop_reason": result["stop_reason"], "mse": score["mse"],
            "mse_standard_error": score["mse_standard_error"], "sequences": result["sequences"],
            "sequence_steps": result["sequence_steps"], "seconds": result["seconds"], "reached": result["reached"],
            "backend": result["backend"], "threads": result["threads"]}


def summary(runs: list[dict[str, Any]]) -> str:
    """One line about all seeds of a length."""
    solved = [run for run in runs if run["mse"] < SOLVED]
    interval = binomtest(len(solved), len(runs)).proportion_ci(method="wilson")
    text = f"solved {len(solved)} of {len(runs)} (95% Wilson {interval.low:.2f} to {interval.high:.2f})"
    if solved:
        steps = [run["sequence_steps"] / 1e6 for run in solved]
        seconds = [run["seconds"] for run in solved]
        text += (f"; median {statistics.median(steps):.2f} million sequence-steps ({min(steps):.2f} to {max(steps):.2f}), "
                 f"{statistics.median(seconds):.1f} s ({min(seconds):.1f} to {max(seconds):.1f})")
    return text


def main() -> None:
    """Run every length and seed; print a line each; write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[150, 1000, 1500])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--variant", default="any", choices=["any", "halves", "hs1997"])
    parser.add_argument("--backend", default="auto", choices=["auto", "native", "torch"])
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--minutes", type=float, default=10.0, help="budget of one run")
    parser.add_argument("--out", default="time_to_solve", help="JSON: this name with .json")
    arguments = parser.parse_args()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout
    machine = {"processor": runtime.processor(), "versions": runtime.versions(), "commit": commit.strip()}
    print(json.dumps(machine), flush=True)
    runs = []
    for length in arguments.lengths:
        for seed in range(arguments.seeds):
            runs.append(solve(length, seed, arguments))
            run = runs[-1]
            print(f"T={length:<7} seed {seed}: MSE on new data {run['mse']:.2e} ± {run['mse_standard_error']:.0e}, "
                  f"{run['sequence_steps'] / 1e6:.2f} million sequence-steps, {run['seconds']:.1f} s, "
                  f"{run['stop_reason']}", flush=True)
        print(f"T={length:<7} {arguments.variant}: {summary([r for r in runs if r['length'] == length])}", flush=True)
    Path(f"{arguments.out}.json").write_text(json.dumps({"machine": machine, "runs": runs}, indent=1) + "\n")


if __name__ == "__main__":
    main()
