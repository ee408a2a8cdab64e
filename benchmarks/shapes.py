"""Is a native layer slower than PyTorch's at any shape?

    python benchmarks/shapes.py [--rounds 25] [--threads 2]
    python docs/make_pictures.py shapes.png

Forty shapes of an LSTM layer, six of a GRU and six of a tanh RNN; a forward and backward step with
a loss on the last output. PyTorch has the allocator that training sets (`tune_allocator`), and
denormals are zero. In a round every shape has its turn, and the two layers take turns within it;
the next round begins with the other. The times are medians over the rounds. The record has every
shape's speedup, PyTorch's time divided by ours, and which path ran: the kernels, or PyTorch where
the package hands the shape over.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import results
import torch
from adding_problem_native import GRU, LSTM, RNN, selected_isa
from torch import Tensor, nn

from adding_problem.system.device import processor, versions
from adding_problem.system.memory import tune_allocator
from adding_problem.system.threads import usable_cores

Layer = Callable[..., nn.RNNBase]
LAYERS: dict[str, tuple[Layer, Layer]] = {
    "LSTM": (LSTM, nn.LSTM),
    "GRU": (GRU, nn.GRU),
    "RNN": (RNN, nn.RNN),
}
BAR = 1 / 1.03  # at most 3% slower
TURN_SECONDS = 0.02


class Shape(NamedTuple):
    """The sizes of a layer and its input."""

    inputs: int
    hidden: int
    batch: int
    steps: int

    def __str__(self) -> str:
        return f"{self.inputs} → {self.hidden}, B={self.batch}, T={self.steps:,}"


LSTM_SHAPES = [
    Shape(1, 1, 1, 20),
    Shape(1, 1, 256, 1000),
    Shape(2, 8, 16, 150),
    Shape(2, 8, 256, 200),
    Shape(64, 8, 32, 200),
    Shape(16, 16, 1, 1000),
    Shape(2, 32, 1, 150),
    Shape(2, 32, 64, 500),
    Shape(128, 32, 16, 200),
    Shape(1, 64, 1, 1000),
    Shape(2, 64, 32, 150),
    Shape(64, 64, 64, 200),
    Shape(512, 64, 32, 100),
    Shape(2, 100, 1, 20),
    Shape(2, 100, 1, 1000),
    Shape(2, 100, 16, 30),
    Shape(2, 100, 16, 150),
    Shape(2, 100, 16, 1000),
    Shape(2, 100, 64, 150),
    Shape(2, 100, 64, 1000),
    Shape(2, 100, 256, 150),
    Shape(2, 100, 256, 500),
    Shape(100, 100, 4, 500),
    Shape(128, 128, 1, 100),
    Shape(128, 128, 32, 200),
    Shape(512, 128, 64, 100),
    Shape(64, 200, 20, 50),
    Shape(256, 256, 1, 200),
    Shape(256, 256, 32, 100),
    Shape(2, 256, 64, 150),
    Shape(256, 256, 256, 20),
    Shape(2, 512, 1, 50),
    Shape(512, 512, 8, 50),
    Shape(512, 512, 32, 60),
    Shape(2, 512, 128, 40),
    Shape(2, 768, 64, 20),
    Shape(1, 1024, 1, 20),
    Shape(512, 1024, 4, 40),
    Shape(2, 1024, 16, 40),
    Shape(512, 1024, 32, 20),
]
OTHER_SHAPES = [
    Shape(2, 8, 16, 150),
    Shape(2, 100, 16, 150),
    Shape(2, 100, 64, 500),
    Shape(128, 128, 32, 100),
    Shape(256, 256, 1, 100),
    Shape(512, 512, 32, 30),
]


class Case:
    """The two layers at one shape, and the seconds a step of each took in every round."""

    def __init__(self, layer: str, shape: Shape) -> None:
        self.layer = layer
        self.shape = shape
        native, torchs = LAYERS[layer]
        sizes = shape.inputs, shape.hidden
        self.modules = [native(*sizes, batch_first=True), torchs(*sizes, batch_first=True)]
        generator = torch.Generator().manual_seed(0)
        self.x = torch.rand(shape.batch, shape.steps, shape.inputs, generator=generator)
        self.seconds: list[list[float]] = [[], []]

    def play(self, *, torch_first: bool) -> None:
        """One round: a turn of each."""
        for which in (1, 0) if torch_first else (0, 1):
            self.seconds[which].append(turn(self.modules[which], self.x))

    def row(self) -> dict[str, Any]:
        """What the record has of it."""
        native, torchs = map(statistics.median, self.seconds)
        return {
            "layer": self.layer,
            **self.shape._asdict(),
            "native_ms": round(native * 1e3, 4),
            "torch_ms": round(torchs * 1e3, 4),
            "speedup": round(torchs / native, 3),
            "path": "kernels" if runs_on_kernels(self.modules[0], self.x) else "PyTorch",
        }


def runs_on_kernels(module: nn.Module, x: Tensor) -> bool:
    """Whether the output of a native module has the gradient of a kernel."""
    function = module(x)[0].grad_fn
    return type(function).__name__ == "_LayerBackward"


def turn(module: nn.Module, x: Tensor) -> float:
    """Seconds of a step, the mean of as many as fill `TURN_SECONDS` after one that warms up."""
    step(module, x)
    steps = 0
    elapsed = 0.0
    begin = time.perf_counter()
    while elapsed < TURN_SECONDS:
        step(module, x)
        steps += 1
        elapsed = time.perf_counter() - begin
    return elapsed / steps


def step(module: nn.Module, x: Tensor) -> None:
    """Forward and backward with a loss on the last output."""
    module.zero_grad()
    state = module(x)[1]
    (state[0] if isinstance(state, tuple) else state).sum().backward()


def label(row: dict[str, Any]) -> str:
    """A row of the record in words."""
    shape = Shape(*(row[size] for size in Shape._fields))
    return f"{row['layer']} {shape}"


def main() -> None:
    """Print a line for each shape; write the record and the picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--out", type=Path, default=Path("docs/shapes.json"))
    arguments = parser.parse_args()
    tune_allocator()
    torch.set_num_threads(arguments.threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    wanted = [("LSTM", LSTM_SHAPES), ("GRU", OTHER_SHAPES), ("RNN", OTHER_SHAPES)]
    cases = [Case(layer, shape) for layer, shapes in wanted for shape in shapes]
    for number in range(arguments.rounds):
        for case in cases:
            case.play(torch_first=bool(number % 2))
        print(f"round {number + 1} of {arguments.rounds}", flush=True)
    rows = [case.row() for case in cases]
    for row in rows:
        print(
            f"{label(row):<32} native {row['native_ms']:8.2f} ms   torch {row['torch_ms']:8.2f} ms"
            f"   x{row['speedup']:.2f}   {row['path']}"
        )
    below = [row for row in rows if row["speedup"] < BAR]
    print(f"{len(below)} of {len(rows)} shapes are more than 3% slower than PyTorch")
    machine = {
        "processor": processor(),
        "threads": arguments.threads,
        "isa": selected_isa(),
        "versions": versions(),
        "commit": results.commit(),
        "rounds": arguments.rounds,
    }
    results.write(arguments.out, {"machine": machine, "rows": rows})
    print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()
