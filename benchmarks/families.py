"""How much faster does every family of the zoo train on the native kernels than on PyTorch alone?

    python benchmarks/families.py                           all of them
    python benchmarks/families.py lem slstm --threads 1

A training step's forward and backward pass of the same model on both backends, at its default size,
interleaved in one process, medians.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from torch import Tensor, nn

from adding_problem import sample_batch
from adding_problem.config import ModelConfig
from adding_problem.config.families import FAMILIES
from adding_problem.models import build_model
from adding_problem.system.device import processor
from adding_problem.system.threads import cpu_settings, usable_cores

BACKENDS = ("native", "torch")


def seconds(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """Time of one forward and backward pass."""
    begin = time.perf_counter()
    nn.functional.mse_loss(model(x), y).backward()  # type: ignore[no-untyped-call]
    elapsed = time.perf_counter() - begin
    model.zero_grad()
    return elapsed


def main() -> None:
    """Print a line for each family."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("families", nargs="*", metavar="family", help="of the zoo")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--length", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=usable_cores())
    arguments = parser.parse_args()
    if unknown := set(arguments.families) - set(FAMILIES):
        parser.error(
            f"expected families of {', '.join(FAMILIES)}, found {', '.join(sorted(unknown))}"
        )
    x, y = sample_batch(arguments.batch, arguments.length, seed=0)
    print(
        f"{processor()}, torch {torch.__version__}, {arguments.threads} threads, "
        f"B={arguments.batch}, T={arguments.length}"
    )
    with cpu_settings(arguments.threads):
        for family in arguments.families or FAMILIES:
            models = [
                build_model(ModelConfig(family), backend=backend, length=arguments.length)
                for backend in BACKENDS
            ]
            if not hasattr(models[0], "backend"):
                print(f"{family:<12} has no kernel")
                continue
            rounds = [
                [seconds(model, x, y) for model in models] for _ in range(arguments.rounds + 1)
            ][1:]
            native, torchs = (statistics.median(column) for column in zip(*rounds, strict=True))
            print(
                f"{family:<12} native {native * 1e3:8.1f} ms "
                f"({x.shape[0] * x.shape[1] / native / 1e3:6.0f} thousand steps/s)   "
                f"torch {torchs * 1e3:8.1f} ms   x{torchs / native:.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
