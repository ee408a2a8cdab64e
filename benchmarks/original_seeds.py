"""How often does the original's method solve T = 1000? Ten seeds, each to its end.

    python benchmarks/original_seeds.py                          # seeds 0 to 9, one after the other
    python benchmarks/original_seeds.py --workers 2 --threads 1  # two at a time
    python docs/make_original.py --pictures >docs/original.md    # the page that shows the record

A run is configs/original/1000.yaml with its 30,000 training sequences, but 10,000 validation
sequences. It ends once the validation MSE is below 1e-2, by the published patience of ten epochs,
or after 100 epochs. Its folder is artifacts/original_seeds/SEED. The record is written after every
run. The same command, with as many threads, continues what was cut; runs that the record holds are
not made again. Seed 0 is the run of docs/runs/original/1000, which differs in one thing: it went on
below 1e-2.
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import results

from adding_problem import config
from adding_problem.experiments.train import train
from adding_problem.runs.folder import RunFolder
from adding_problem.system.threads import usable_cores

CONFIG = Path(__file__).parents[1] / "configs" / "original" / "1000.yaml"
RUNS = Path("artifacts") / "original_seeds"
SEED_0 = Path(__file__).parents[1] / "docs" / "runs" / "original" / "1000"
SEED_0_COMMIT = "7b502f1"
CHANGES = {"dataset.dt_length": 40_000, "dataset.held_out": 10_000, "train.stop_val_loss": 1e-2}
RECORDED = (
    "seed",
    "t",
    "stop_reason",
    "epochs",
    "best_val_loss",
    "lowest_val_loss",
    "reached",
    "sequences",
    "sequence_steps",
    "seconds",
    "backend",
    "device",
    "threads",
    "processor",
    "versions",
    "digest",
)


def run_one(seed: int, threads: int) -> dict[str, Any]:
    """Train, or continue, the run of a seed, and return its entry in the record."""
    if seed == 0:
        return {
            **results.picked(RunFolder(SEED_0).read_result(), RECORDED),
            "commit": SEED_0_COMMIT,
        }
    values = CHANGES | {"seed": seed, "threads": threads, "artifacts": str(RUNS / str(seed))}
    result = train(config.load(CONFIG, values), resume=True)
    return {**results.picked(result, RECORDED), "commit": results.commit()}


def entries(seeds: Sequence[int], workers: int, threads: int) -> Iterator[dict[str, Any]]:
    """The entry of each run as it ends.

    With one worker the runs are in this process, where a signal leaves a checkpoint.
    """
    if workers == 1:
        for seed in seeds:
            yield run_one(seed, threads)
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        for future in as_completed([pool.submit(run_one, seed, threads) for seed in seeds]):
            yield future.result()


def main() -> None:
    """Make the runs that the record lacks."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--workers", type=int, default=1, help="runs at a time")
    parser.add_argument(
        "--threads", type=int, help="of a run (default: the cores, shared among the workers)"
    )
    parser.add_argument("--out", type=Path, default=Path("docs/original_seeds.json"))
    arguments = parser.parse_args()
    runs = results.read(arguments.out)
    held = {run["seed"] for run in runs}
    asked = [seed for seed in arguments.seeds if seed not in held]
    threads = arguments.threads or max(1, usable_cores() // arguments.workers)
    for entry in entries(asked, arguments.workers, threads):
        runs = sorted([*runs, entry], key=lambda run: run["seed"])
        results.write(
            arguments.out, {"command": "python benchmarks/original_seeds.py", "runs": runs}
        )
        print(
            f"{len(runs)}: seed {entry['seed']}: {entry['stop_reason']}, epoch {entry['epochs']}, "
            f"validation MSE {entry['lowest_val_loss']:.2e}, {entry['seconds']:,.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
