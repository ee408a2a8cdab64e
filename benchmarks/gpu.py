"""Does every family run on a GPU, and which way of training LSTM(100) is the fastest there?

    python benchmarks/gpu.py [--minutes 9] [--out docs/gpu]

Every family is trained, resumed, validated, validated at other lengths and exported, by the
commands that a user gives. A step (forward, mean squared error, backward, Adam) at T=1000 is timed
in four ways: `eager`, PyTorch's own CUDA cells; `cudnn`, PyTorch as installed; `compile`, that
model through `torch.compile`; `graph`, its whole step as one CUDA graph. They take turns; the times
are medians. Without CUDA it says so and ends. After `--minutes` no further family is begun. It
exits with 1 when a command failed or a family is missing.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import results
import torch
from torch import nn

from adding_problem import cli, sample_batch
from adding_problem.config import ModelConfig
from adding_problem.config.families import FAMILIES
from adding_problem.models import build_model
from adding_problem.system.device import versions

Step = Callable[[], Any]
UNTRACEABLE = "expected a model that can be traced"
"""How the command export refuses a loop over the steps, on every device."""


# --- the commands, family by family ---


def commands(family: str, device: str, folder: Path) -> dict[str, list[str]]:
    """The words of every command, in the order in which they build on one another."""
    sizes = ["--dataset.t", "30", "--train.epoch_steps", "20", "--dataset.held_out", "100"]
    train = ["train", "--recipe", "fast", "--model", family, *sizes]
    train += ["--device", device, "--artifacts", str(folder)]
    picture = str(folder / "lengths.png")
    return {
        "train": [*train, "--train.epochs", "2"],
        "resume": [*train, "--train.epochs", "3", "--resume"],
        "validate": ["validate", str(folder), "--validate.dt_length", "1000"],
        "lengths": ["validate", str(folder), "--lengths", "30", "60", "--out", picture],
        "export": ["export", str(folder), "--to", "torch-export"],
    }


def check(family: str, device: str) -> dict[str, Any]:
    """Run the commands of a family. Seconds of each; the first that fails ends them.

    A family that `torch.export` cannot trace has no seconds of its export.
    """
    with tempfile.TemporaryDirectory() as place:
        seconds: dict[str, float] = {}
        for name, words in commands(family, device, Path(place) / family).items():
            said = io.StringIO()
            begin = time.perf_counter()
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                code = cli.main(words)
            if name == "export" and UNTRACEABLE in said.getvalue():
                continue
            if code:
                return {"family": family, "failed": name, "said": said.getvalue()[-2000:]}
            seconds[name] = round(time.perf_counter() - begin, 2)
    return {"family": family, "seconds": seconds}


# --- ways to make a step ---


def plain_step(device: str, batch: int, length: int, *, compiled: bool = False) -> Step:
    """A step of the model and Adam, one operation after another."""
    model: nn.Module = build_model(ModelConfig("lstm"), seed=0, backend="torch", length=length)
    model.to(device)
    # A graph needs what it changes to lie on the device.
    optimizer = torch.optim.Adam(model.parameters(), capturable=device == "cuda")
    predict = torch.compile(model) if compiled else model
    x, y = (tensor.to(device) for tensor in sample_batch(batch, length, seed=0))

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.mse_loss(predict(x), y).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def without_cudnn(device: str, batch: int, length: int) -> Step:
    """The same on PyTorch's own cells."""
    plain = plain_step(device, batch, length)

    def step() -> None:
        with torch.backends.cudnn.flags(enabled=False):
            plain()

    return step


def compiled_step(device: str, batch: int, length: int) -> Step:
    """The same with the model compiled."""
    return plain_step(device, batch, length, compiled=True)


def graphed_step(device: str, batch: int, length: int) -> Step:
    """The same, recorded once and replayed."""
    step = plain_step(device, batch, length)
    beside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    with torch.cuda.stream(beside):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


WAYS: dict[str, Callable[[str, int, int], Step]] = {
    "eager": without_cudnn,
    "cudnn": plain_step,
    "compile": compiled_step,
    "graph": graphed_step,
}


def compare(
    device: str, ways: Sequence[str], batches: Sequence[int], length: int, rounds: int
) -> Iterator[dict[str, Any]]:
    """A row for each batch: the median time of a step in ms, by way."""
    for batch in batches:
        steps = {way: WAYS[way](device, batch, length) for way in ways}
        times: dict[str, list[float]] = {way: [] for way in ways}
        for number in range(rounds + 1):
            for way, step in steps.items():
                elapsed = seconds(step, device)
                if number:  # the first compiles and warms up
                    times[way].append(elapsed)
        medians = {way: 1e3 * statistics.median(column) for way, column in times.items()}
        yield {
            "batch": batch,
            "length": length,
            "ms": medians,
            "best": min(medians, key=medians.__getitem__),
        }


def seconds(step: Step, device: str) -> float:
    """Time of a step until the device is done with it."""
    wait = torch.cuda.synchronize if device == "cuda" else torch.cpu.synchronize
    wait()
    begin = time.perf_counter()
    step()
    wait()
    return time.perf_counter() - begin


def main() -> int:
    """Print a line for each batch and family, and write the record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=9)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", default="gpu", help="the record: this name with .json")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("PyTorch finds no CUDA device here: nothing was run.")
        return 0
    end = time.monotonic() + 60 * arguments.minutes
    rows = []
    for row in compare("cuda", list(WAYS), (16, 64, 256), 1000, arguments.rounds):
        rows.append(row)
        times = "   ".join(f"{way} {ms:.1f} ms" for way, ms in row["ms"].items())
        print(f"B={row['batch']:<4} {times}   best: {row['best']}", flush=True)
    families = []
    for family in FAMILIES:
        if time.monotonic() > end:
            break
        families.append(check(family, "cuda"))
        print(families[-1], flush=True)
    machine = {"device": torch.cuda.get_device_name(), "versions": versions()}
    machine["commit"] = results.commit()
    record = {"machine": machine, "steps": rows, "families": families}
    results.write(Path(f"{arguments.out}.json"), record)
    passed = sum("seconds" in family for family in families)
    print(f"{passed} of {len(FAMILIES)} families ran every command; wrote {arguments.out}.json")
    return int(passed < len(FAMILIES))


if __name__ == "__main__":
    sys.exit(main())
