"""Does drawing the data cost at most 5% of a training step?

    python benchmarks/data_generation.py [--threads 1] [--rounds 15]

Draws a fresh batch, gathers a batch of a fixed data set, and takes a training step (forward,
backward, clip, Adam) on LSTM(100), B=64, in turns in one process; prints medians and shares.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from adding_problem import models
from adding_problem.config import ModelConfig
from adding_problem.system.device import processor, resolve_backend, versions
from adding_problem.system.memory import tune_allocator
from adding_problem.task.data_sets import AddingDataset
from adding_problem.task.sampling import sample_batch

BATCH = 64


def seconds(call: Callable[[], object]) -> float:
    """Time of one call."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def calls_at(length: int, backend: str) -> dict[str, Callable[[], object]]:
    """The three things to time at one length."""
    model = models.build_model(ModelConfig(), backend=backend)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], fused=True)
    data = AddingDataset(5000, length, seed=0)
    rng = np.random.default_rng(0)
    x, y = sample_batch(BATCH, length, seed=1)

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_value_(model.parameters(), 10)
        optimizer.step()

    return {
        "step": step,
        "draw": lambda: sample_batch(BATCH, length, seed=0, start=int(rng.integers(10**6))),
        "gather": lambda: data.batch(rng.integers(0, 5000, BATCH)),
    }


def main() -> None:
    """Print one line per length."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    tune_allocator()
    backend = resolve_backend("auto", torch.device("cpu"))
    print(f"{processor()}, {arguments.threads} threads, backend {backend}, {versions()}")
    for length in (150, 1000):
        calls = calls_at(length, backend)
        times: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(arguments.rounds + 2):
            for name, call in calls.items():
                times[name].append(seconds(call))
        median = {
            name: statistics.median(values[2:]) for name, values in times.items()
        }  # two rounds warm up
        print(
            f"B={BATCH} T={length}: step {1e3 * median['step']:.1f} ms; "
            + "; ".join(
                f"{name} {1e6 * median[name]:.0f} us = "
                f"{median[name] / median['step']:.2%} of a step"
                for name in ("draw", "gather")
            )
        )


if __name__ == "__main__":
    main()
