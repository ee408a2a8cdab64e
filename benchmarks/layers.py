"""How fast are the native layers beside PyTorch's, and up to which number of units?

    python benchmarks/layers.py                                            the LSTM, by its size
    python benchmarks/layers.py --layers LSTM GRU tanh relu --hidden 100 --batch 16 --length 1000

A forward and backward step of the native layer and of PyTorch's (with the tuned allocator),
interleaved in one process, medians; the arithmetic counted is that of the three products of a step.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from adding_problem_native import GRU, LSTM, RNN
from torch import Tensor, nn

from adding_problem.system.device import processor
from adding_problem.system.memory import tune_allocator
from adding_problem.system.threads import usable_cores

Layer = Callable[..., nn.RNNBase]
# Ours, PyTorch's, their arguments and the gates that the arithmetic is counted of.
LAYERS: dict[str, tuple[Layer, Layer, dict[str, str], int]] = {
    "LSTM": (LSTM, nn.LSTM, {}, 4),
    "GRU": (GRU, nn.GRU, {}, 3),
    "tanh": (RNN, nn.RNN, {}, 1),
    "relu": (RNN, nn.RNN, {"nonlinearity": "relu"}, 1),
}


def seconds(module: nn.RNNBase, x: Tensor) -> float:
    """Time of one step with a loss on the last output."""
    begin = time.perf_counter()
    state = module(x)[1]
    (state[0] if isinstance(state, tuple) else state).sum().backward()
    elapsed = time.perf_counter() - begin
    module.zero_grad()
    return elapsed


def main() -> None:
    """Print a line for each layer and size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layers", nargs="+", choices=LAYERS, default=["LSTM"])
    parser.add_argument(
        "--hidden", type=int, nargs="+", default=[64, 100, 128, 256, 512, 768, 1024]
    )
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--length", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=usable_cores())
    arguments = parser.parse_args()
    tune_allocator()
    torch.set_num_threads(arguments.threads)
    torch.set_flush_denormal(True)
    print(
        f"{processor()}, torch {torch.__version__}, {arguments.threads} threads, "
        f"B={arguments.batch}, T={arguments.length}"
    )
    x = torch.rand(arguments.batch, arguments.length, 2, generator=torch.Generator().manual_seed(0))
    for layer in arguments.layers:
        our_class, their_class, options, gates = LAYERS[layer]
        for hidden in arguments.hidden:
            modules = [
                kind(2, hidden, batch_first=True, **options) for kind in (our_class, their_class)
            ]
            rounds = [
                [seconds(module, x) for module in modules] for _ in range(arguments.rounds + 1)
            ][1:]
            native, torchs = (statistics.median(column) for column in zip(*rounds, strict=True))
            operations = 6 * gates * hidden * (hidden + 2) * x.shape[0] * x.shape[1]
            print(
                f"{layer:<4} H={hidden:<5} native {native * 1e3:7.1f} ms "
                f"({operations / native / 1e9:.0f} GFLOP/s)   "
                f"torch {torchs * 1e3:7.1f} ms   x{torchs / native:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
