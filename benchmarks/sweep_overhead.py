r"""What does a sweep cost beside its runs, with thousands of them queued?

    python benchmarks/sweep_overhead.py --runs 10000 --engines local ray --workers 2 \
        --out artifacts/sweep_overhead.json

The runs are dummies: a task that does nothing, in the same driver, with the same engines and the
same sweep.json. Reported are the time to read the plan, the time to do all runs divided by their
number, and the largest memory of the driver above that of a sweep of one run.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import results

from adding_problem.experiments.sweep import driver, plan
from adding_problem.experiments.sweep.cluster import RayEngine
from adding_problem.experiments.sweep.job import Job, Outcome
from adding_problem.experiments.sweep.local import LocalEngine
from adding_problem.system.device import processor, versions


def nothing(job: Job) -> Outcome:
    """A run that takes no time."""
    return Outcome("done", lowest_val_loss=1e-4, seconds=0.0)


def measure(engine: str, n: int, workers: int) -> dict[str, float]:
    """One sweep in this process, which is to do nothing else: its memory is measured."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "sweep.yaml"
        file.write_text(f"recipe: fast\ngrid: {{seed: [{', '.join(map(str, range(n)))}]}}\n")
        begin = time.perf_counter()
        runs = plan.read(file, out=f"{folder}/out")
        planned = time.perf_counter()
        chosen = (
            LocalEngine(workers, nothing)
            if engine == "local"
            else RayEngine(workers, cpus=workers, task=nothing)
        )
        board = driver.run(runs, chosen, score=False)
        end = time.perf_counter()
        if board.counts["done"] != n:
            raise RuntimeError(f"expected {n} runs done, found {board.counts}")
    return {
        "plan_seconds": planned - begin,
        "seconds": end - planned,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def measured(engine: str, n: int, workers: int) -> dict[str, float]:
    """`measure` in a process of its own."""
    command = [
        sys.executable,
        __file__,
        "--engines",
        engine,
        "--runs",
        str(n),
        "--workers",
        str(workers),
        "--alone",
    ]
    lines = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True
    ).stdout.splitlines()
    return dict(json.loads(lines[-1]))


def main() -> None:
    """Measure, print, write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--engines", nargs="+", choices=["local", "ray"], default=["local", "ray"])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path)
    parser.add_argument(
        "--alone", action="store_true", help="one sweep of the first engine in this very process"
    )
    arguments = parser.parse_args()
    if arguments.alone:
        print(json.dumps(measure(arguments.engines[0], arguments.runs, arguments.workers)))
        return
    document: dict[str, Any] = {
        "processor": processor(),
        "versions": versions(),
        "commit": results.commit(),
        "workers": arguments.workers,
        "engines": {},
    }
    for engine in arguments.engines:
        one, many = (measured(engine, n, arguments.workers) for n in (1, arguments.runs))
        document["engines"][engine] = {
            "runs": arguments.runs,
            "plan_seconds": many["plan_seconds"],
            "seconds": many["seconds"],
            "start_seconds": one["seconds"],
            "milliseconds_per_run": 1e3 * (many["seconds"] - one["seconds"]) / (arguments.runs - 1),
            "peak_mib": many["peak_mib"],
            "kib_per_run": 1024 * (many["peak_mib"] - one["peak_mib"]) / (arguments.runs - 1),
        }
        print(engine, json.dumps(document["engines"][engine]), flush=True)
    if arguments.out:
        results.write(arguments.out, document)


if __name__ == "__main__":
    main()
