"""What memory costs that comes from the system again with every step: models of the zoo with and
without `tune_allocator` and huge pages.

    python benchmarks/allocator.py

A training step (forward and backward) and an inference of fresh weights, B=16, on the kernels that
there are; both settings in turns, each time in a process of its own, for the setting is the
process's; medians of all steps.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

import torch
from torch import nn

from adding_problem import config, models
from adding_problem.system.device import processor, resolve_backend
from adding_problem.system.memory import tune_allocator
from adding_problem.system.threads import usable_cores
from adding_problem.task.sampling import sample_batch

BATCH, STEPS = 16, 3


def measure(name: str, length: int, threads: int, *, kept: bool) -> dict[str, list[float]]:
    """Seconds of `STEPS` training steps and as many inferences, after one of each."""
    if kept:
        tune_allocator()
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    backend = resolve_backend("auto", torch.device("cpu"))
    model = models.build_model(
        config.load(None, {"model.name": name}).model, seed=0, backend=backend, length=length
    )
    x, y = sample_batch(BATCH, length, seed=0)
    seconds: dict[str, list[float]] = {"training": [], "inference": []}
    for _ in range(1 + STEPS):
        begin = time.perf_counter()
        nn.functional.mse_loss(model(x), y).backward()  # type: ignore[no-untyped-call]
        seconds["training"].append(time.perf_counter() - begin)
        with torch.no_grad():
            begin = time.perf_counter()
            model(x)
            seconds["inference"].append(time.perf_counter() - begin)
    return {part: times[1:] for part, times in seconds.items()}


def main() -> None:
    """Print a line for each model and length."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--models",
        nargs="+",
        default=["lstm", "gru", "mingru", "minlstm", "lru", "s6", "attention"],
    )
    parser.add_argument("--lengths", type=int, nargs="+", default=[1_000, 10_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--worker", choices=["given-back", "kept"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        print(
            json.dumps(
                measure(
                    arguments.models[0],
                    arguments.lengths[0],
                    arguments.threads,
                    kept=arguments.worker == "kept",
                )
            )
        )
        return
    print(
        f"{processor()}, torch {torch.__version__}, {arguments.threads} threads, B={BATCH}, seed 0"
    )
    for name in arguments.models:
        for length in arguments.lengths:
            found: dict[str, dict[str, list[float]]] = {}
            for setting in ["given-back", "kept"] * arguments.rounds:
                command = [
                    sys.executable,
                    __file__,
                    "--worker",
                    setting,
                    "--models",
                    name,
                    "--lengths",
                    str(length),
                    "--threads",
                    str(arguments.threads),
                ]
                pages = os.environ | {"THP_MEM_ALLOC_ENABLE": str(int(setting == "kept"))}
                done = subprocess.run(
                    command, stdout=subprocess.PIPE, text=True, check=True, env=pages
                )
                for part, times in json.loads(done.stdout).items():
                    found.setdefault(part, {}).setdefault(setting, []).extend(times)
            parts = []
            for part, times in found.items():
                given_back, kept = (
                    statistics.median(times["given-back"]),
                    statistics.median(times["kept"]),
                )
                parts.append(
                    f"{part} {given_back * 1e3:8.0f} ms, kept {kept * 1e3:8.0f} ms, "
                    f"x{given_back / kept:.2f}"
                )
            print(f"{name:<9} T={length:<6} {'   '.join(parts)}", flush=True)


if __name__ == "__main__":
    main()
