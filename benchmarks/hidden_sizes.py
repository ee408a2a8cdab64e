"""Up to which number of cells is the native LSTM the faster one?

    python benchmarks/hidden_sizes.py

A forward and backward step of the native layer and of torch.nn.LSTM (with the tuned allocator), interleaved in one process,
medians; the arithmetic counted is that of the three products of a step.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from adding_problem_native import LSTM
from torch import nn

from adding_problem import runtime


def seconds(module: nn.LSTM, x: torch.Tensor) -> float:
    """Time of one step with a loss on the last output."""
    begin = time.perf_counter()
    module(x)[1][0].sum().backward()  # type: ignore[no-untyped-call]
    elapsed = time.perf_counter() - begin
    module.zero_grad()
    return elapsed


def main() -> None:
    """Print a line for each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=int, nargs="+", default=[64, 100, 128, 256, 512, 768, 1024])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--length", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    runtime.tune_allocator()
    print(f"{runtime.processor()}, torch {torch.__version__}, {torch.get_num_threads()} threads, "
          f"B={arguments.batch}, T={arguments.length}")
    x = torch.rand(arguments.batch, arguments.length, 2, generator=torch.Generator().manual_seed(0))
    for hidden in arguments.hidden:
        modules = [LSTM(2, hidden, batch_first=True), nn.LSTM(2, hidden, batch_first=True)]
        rounds = [[seconds(module, x) for module in modules] for _ in range(arguments.rounds + 1)][1:]
        native, torchs = (statistics.median(column) for column in zip(*rounds, strict=True))
        operations = 6 * 4 * hidden * (hidden + 2) * x.shape[0] * x.shape[1]
        print(f"H={hidden:<5} native {native * 1e3:7.1f} ms ({operations / native / 1e9:.0f} GFLOP/s)   "
              f"torch {torchs * 1e3:7.1f} ms   x{torchs / native:.2f}", flush=True)


if __name__ == "__main__":
    main()
