"""How fast is a whole training step of LSTM(100), from fresh data to updated weights, and beside
what?

    make peers    # once: Keras on TensorFlow and on JAX, in an environment of their own
    python benchmarks/lstm_step.py [--quick] [--out docs/performance.json]

Every contender runs in a process of its own, because allocator settings and thread pools are per
process, and waits there for orders: the rounds of all contenders interleave, so that whatever else
slows the machine slows all alike. A step is: draw a fresh batch, forward, mean squared error on the
last output, backward, Adam. Medians over the rounds. GFLOP/s counts 6 * 400 * 102 * B * T. The roof
is a 2048 x 2048 product by torch in the same rounds.

Contenders: native (ours), torch (as installed), torch tuned (glibc keeps freed memory, denormals
are zero), keras-tf, keras-jax.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HIDDEN = 100
ROOT = Path(__file__).parents[1]
PEERS_PYTHON = ROOT / ".peers" / "bin" / "python"
CONTENDERS = ["native", "torch", "torch-tuned", "keras-tf", "keras-jax"]
MOST_STEPS = {name: 400_000 for name in CONTENDERS if name != "native"}
"""Sequence-steps in a batch beyond which a contender is left out.

All steps are in memory at once, at up to 10 KB each.
"""


# --- workers: one process a contender -------------------------------------------------------------


def keep_all_memory() -> None:
    """What is fastest for PyTorch's LSTM where the C library is glibc; see `tune_allocator`
    why training does otherwise."""
    if platform.libc_ver()[0] == "glibc":
        mallopt = ctypes.CDLL(None).mallopt
        m_trim_threshold, m_mmap_max = -1, -4  # names and numbers of <malloc.h>
        mallopt(m_mmap_max, 0)
        mallopt(m_trim_threshold, -1)


def numpy_batch(batch: int, length: int, rng: Any) -> tuple[Any, Any]:
    """Fresh sequences for the peers, drawn as cheaply as NumPy can."""
    import numpy as np

    x = np.zeros((batch, length, 2), np.float32)
    x[:, :, 0] = rng.random((batch, length), np.float32)
    marks = np.argpartition(rng.random((batch, length), np.float32), 2, axis=1)[:, :2]
    np.put_along_axis(x[:, :, 1], marks, 1, axis=1)
    return x, (x[:, :, 0] * x[:, :, 1]).sum(1, keepdims=True)


def torch_step(contender: str, batch: int, length: int) -> Callable[[], None]:
    """One training step of ours or of torch's LSTM."""
    import torch
    from torch import nn

    from adding_problem import models
    from adding_problem.config import ModelConfig
    from adding_problem.task.sampling import sample_batch

    model = models.build_model(
        ModelConfig(), backend="native" if contender.startswith("native") else "torch"
    )
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], fused=True)
    drawn = 0

    def step() -> None:
        nonlocal drawn
        x, y = sample_batch(batch, length, seed=0, start=drawn)
        drawn += batch
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def keras_step(batch: int, length: int) -> Callable[[], None]:
    """One training step of Keras, compiled by its backend."""
    import keras
    import numpy as np

    model = keras.Sequential(
        [keras.Input((length, 2)), keras.layers.LSTM(HIDDEN), keras.layers.Dense(1)]
    )
    model.compile(optimizer="adam", loss="mse")
    rng = np.random.default_rng(0)
    return lambda: model.train_on_batch(*numpy_batch(batch, length, rng))


def roof_step() -> Callable[[], object]:
    """A large matrix product in torch."""
    import torch

    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    return lambda: torch.mm(a, b)


def inference_step(contender: str, batch: int, length: int) -> Callable[[], None]:
    """A forward pass without gradients."""
    import torch

    from adding_problem import models
    from adding_problem.config import ModelConfig
    from adding_problem.task.sampling import sample_batch

    model = models.build_model(
        ModelConfig(), backend="native" if contender.startswith("native") else "torch"
    )
    x, _ = sample_batch(batch, length, seed=0)

    def step() -> None:
        with torch.no_grad():
            model(x)

    return step


def make_step(order: dict[str, Any]) -> Callable[[], object]:
    """What an order asks for."""
    contender = order["contender"]
    if order["kind"] == "roof":
        return roof_step()
    if order["kind"] == "inference":
        return inference_step(contender, order["batch"], order["length"])
    if contender.startswith("keras"):
        return keras_step(order["batch"], order["length"])
    if contender == "native-kept":  # every state kept, no checkpoints, whatever the memory
        from adding_problem_native import _layer

        _layer.MEMORY_BUDGET = 1 << 60
    elif contender == "native-checkpointed":
        from adding_problem_native import _layer

        _layer.MEMORY_BUDGET = 0
    return torch_step(contender, order["batch"], order["length"])


def worker(contender: str, threads: int) -> None:
    """Obey orders, one JSON object a line: prepare a case, or run steps of it and tell the time."""
    if not contender.startswith("keras"):
        if contender == "torch":
            os.environ["THP_MEM_ALLOC_ENABLE"] = "0"  # as it is without this package
        import torch

        if contender == "torch-tuned":
            keep_all_memory()
            torch.set_flush_denormal(True)  # before any other thread starts, which then has it too
        torch.set_num_threads(threads)
    elif contender == "keras-tf":
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    step: Callable[[], object] | None = None
    base = 0.0
    for line in sys.stdin:
        order = json.loads(line)
        if order["kind"] == "run":
            assert step is not None
            begin = time.perf_counter()
            for _ in range(order["steps"]):
                step()
            seconds = (time.perf_counter() - begin) / order["steps"]
            reply: dict[str, Any] = {"seconds": seconds, "peak_mb": peak_mb(), "base_mb": base}
        else:
            step = None
            step = make_step(order)
            base = peak_mb()
            step()
            reply = {"ready": True}
        print("REPLY " + json.dumps(reply), flush=True)


def peak_mb() -> float:
    """Most memory that this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


# --- the driver -----------------------------------------------------------------------------------


class Process:
    """A contender at work in another process, on the first `threads` cores."""

    def __init__(self, contender: str, threads: int, isa: str | None = None) -> None:
        python = str(PEERS_PYTHON) if contender.startswith("keras") else sys.executable
        environment = dict(
            os.environ,
            OMP_NUM_THREADS=str(threads),
            TF_CPP_MIN_LOG_LEVEL="3",
            CUDA_VISIBLE_DEVICES="",
            KERAS_BACKEND="jax" if contender == "keras-jax" else "tensorflow",
        )
        if isa:
            environment["ADDING_PROBLEM_NATIVE_ISA"] = isa
        cores = ",".join(map(str, sorted(os.sched_getaffinity(0))[:threads]))
        self.process = subprocess.Popen(
            [
                "taskset",
                "-c",
                cores,
                python,
                __file__,
                "--worker",
                contender,
                "--threads",
                str(threads),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )

    def order(self, **order: Any) -> dict[str, Any] | None:
        """Send an order and wait for its reply; None when the process has died of it."""
        assert self.process.stdin and self.process.stdout
        try:
            self.process.stdin.write(json.dumps(order) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return None
        for line in self.process.stdout:
            if line.startswith("REPLY "):
                reply: dict[str, Any] = json.loads(line[6:])
                return reply
        return None

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait()


def compare(
    orders: dict[str, dict[str, Any]], threads: int, rounds: int
) -> dict[str, dict[str, Any]]:
    """Interleaved rounds of several contenders; name -> median seconds of a step, peak memory."""
    processes, steps = {}, {}
    for name, order in orders.items():
        process = Process(order["contender"], threads, order.get("isa"))
        if process.order(**order) is None:
            process.close()
            continue
        processes[name] = process
        first = process.order(kind="run", steps=1)
        steps[name] = max(1, min(200, round(0.3 / first["seconds"]))) if first else 1
    times: dict[str, list[float]] = {name: [] for name in processes}
    memory: dict[str, dict[str, Any]] = {}
    for _ in range(rounds):
        for name, process in processes.items():
            reply = process.order(kind="run", steps=steps[name])
            if reply:
                times[name].append(reply["seconds"])
                memory[name] = reply
    for process in processes.values():
        process.close()
    return {
        name: {
            "seconds": statistics.median(values),
            "rounds": len(values),
            "peak_mb": round(memory[name]["peak_mb"]),
            "above_mb": round(memory[name]["peak_mb"] - memory[name]["base_mb"]),
        }
        for name, values in times.items()
        if values
    }


def case(threads: int, batch: int, length: int, rounds: int) -> list[dict[str, Any]]:
    """All contenders at one size, and the roof."""
    orders: dict[str, dict[str, Any]] = {"roof": {"kind": "roof", "contender": "torch-tuned"}}
    for contender in CONTENDERS:
        peer = contender.startswith("keras")
        if batch * length <= MOST_STEPS.get(contender, 10**9) and (
            not peer or PEERS_PYTHON.exists()
        ):
            orders[contender] = {
                "kind": "step",
                "contender": contender,
                "batch": batch,
                "length": length,
            }
    results = compare(orders, threads, rounds)
    roof = 2 * 2048**3 / results.pop("roof")["seconds"] / 1e9
    rows = []
    for contender, result in results.items():
        gflops = 6 * 4 * HIDDEN * (HIDDEN + 2) * batch * length / result["seconds"] / 1e9
        rows.append(
            {
                "threads": threads,
                "batch": batch,
                "length": length,
                "contender": contender,
                **result,
                "steps_per_second": batch * length / result["seconds"],
                "gflops": gflops,
                "roof_gflops": roof,
                "share_of_roof": gflops / roof,
                "times_native": result["seconds"] / results["native"]["seconds"],
            }
        )
    for row in rows:
        print(
            f"{threads} threads  B={batch:<4} T={length:<6} {row['contender']:<12} "
            f"{1e3 * row['seconds']:9.2f} ms  "
            f"{row['steps_per_second'] / 1e6:5.2f} M steps/s  {row['gflops']:5.0f} GFLOP/s  "
            f"{row['share_of_roof']:4.0%} of sgemm  {row['peak_mb']:6} MB  "
            f"x{row['times_native']:.2f}",
            flush=True,
        )
    return rows


def extras(threads: int, rounds: int, quick: bool) -> dict[str, Any]:
    """Memory with checkpoints, a million steps, inference, the narrower build."""
    found: dict[str, Any] = {}
    size = {"batch": 32, "length": 10_000}
    found["checkpoints"] = compare(
        {
            name: {"kind": "step", "contender": name, **size}
            for name in ("native-kept", "native-checkpointed")
        },
        threads,
        max(3, rounds // 3),
    )
    found["inference"] = compare(
        {
            name: {"kind": "inference", "contender": name, "batch": 64, "length": 1000}
            for name in ("native", "torch", "torch-tuned")
        },
        threads,
        rounds,
    )
    found["builds"] = compare(
        {
            isa: {"kind": "step", "contender": "native", "batch": 64, "length": 1000, "isa": isa}
            for isa in ("x86-64-v4", "x86-64-v3", "generic")
        },
        threads,
        rounds,
    )
    if not quick:
        found["million"] = compare(
            {"native": {"kind": "step", "contender": "native", "batch": 16, "length": 1_000_000}},
            threads,
            1,
        )
    for title, results in found.items():
        for name, result in results.items():
            print(
                f"{title:<12} {name:<20} {1e3 * result['seconds']:10.1f} ms  "
                f"peak {result['peak_mb']} MB  above the start {result['above_mb']} MB",
                flush=True,
            )
    return found


def main() -> None:
    """Run everything; print a table; write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="two sizes, three rounds, no million steps"
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--out", type=Path, default=Path("docs/performance.json"), help="JSON to write"
    )
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        return worker(arguments.worker, arguments.threads)
    import results

    from adding_problem.system.device import processor, versions

    machine: dict[str, Any] = {
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "versions": versions(),
        "commit": results.commit(),
        "peers": PEERS_PYTHON.exists(),
    }
    print(json.dumps(machine), flush=True)
    sizes = (
        [(64, 1000), (16, 150)]
        if arguments.quick
        else [(b, t) for t in (150, 1000, 10_000) for b in (16, 64, 256)]
    )
    rounds = 3 if arguments.quick else arguments.rounds
    rows = [
        row
        for threads in (1, min(2, machine["cores"]))
        for batch, length in sizes
        for row in case(threads, batch, length, rounds if batch * length < 10**6 else 3)
    ]
    report = {
        "machine": machine,
        "rows": rows,
        "extras": extras(min(2, machine["cores"]), rounds, arguments.quick),
    }
    results.write(arguments.out, report)
    print(f"wrote {arguments.out}")
    return None


if __name__ == "__main__":
    main()
