"""What do denormal numbers cost the recurrent networks of PyTorch and of the zoo?

    python benchmarks/denormals.py

A gradient that vanishes over T steps passes through numbers below 1e-38, with which some processors
compute in microcode. `threads.cpu_settings` flushes them to zero. Timed are the forward and
backward pass at fresh weights, with and without them, at B=64, with native kernels off. One thread,
because the setting is a thread's. Both settings take turns in one process; the times are medians.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from torch import nn

from adding_problem import config, models
from adding_problem.system.device import processor
from adding_problem.system.memory import tune_allocator
from adding_problem.task.sampling import sample_batch


def seconds(model: nn.Module, x: torch.Tensor, y: torch.Tensor, *, flush: bool) -> float:
    """Time of one forward and backward."""
    torch.set_flush_denormal(flush)
    begin = time.perf_counter()
    nn.functional.mse_loss(model(x), y).backward()  # type: ignore[no-untyped-call]
    return time.perf_counter() - begin


def main() -> None:
    """Print a line for each model and length."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=["lstm", "gru", "rnn", "irnn", "lem"])
    parser.add_argument("--lengths", type=int, nargs="+", default=[150, 1000])
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    tune_allocator()
    print(f"{processor()}, torch {torch.__version__}, 1 thread, B=64, seed 0")
    for name in arguments.models:
        for length in arguments.lengths:
            run = config.load(None, {"model.name": name, "dataset.t": length})
            model = models.build_model(run.model, seed=0, length=length)
            x, y = sample_batch(64, length, seed=0)
            rounds = [
                [seconds(model, x, y, flush=flush) for flush in (False, True)]
                for _ in range(arguments.rounds + 1)
            ][1:]
            kept, flushed = (statistics.median(column) for column in zip(*rounds, strict=True))
            print(
                f"{name:<6} T={length:<6} denormals kept {kept * 1e3:8.1f} ms   "
                f"flushed {flushed * 1e3:8.1f} ms   x{kept / flushed:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
