"""How fast is h_t = a_t h_{t-1} + b_t, forward and backward, beside what plain PyTorch can do?

    python benchmarks/linear_scan.py [--rounds 7] [--threads 2]

Contenders, in turns in one process: the native kernel; a Python loop; a two-level scan (chunks of
sqrt(T) steps side by side, then their ends); a scan by doubling (Hillis & Steele 1986). A copy of
one of the arrays is timed with them, and shows what the memory delivers. Times are medians, ratios
are against the best PyTorch.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable

import torch
from adding_problem_native import linear_scan, linear_scan_reference
from torch import Tensor

from adding_problem.system.device import processor, versions
from adding_problem.system.memory import tune_allocator


def two_level(a: Tensor, b: Tensor) -> Tensor:
    """Scan chunks of about sqrt(T) steps at once, then carry their ends along."""
    batch, steps, features = a.shape
    size = next(n for n in range(math.isqrt(steps), 0, -1) if steps % n == 0)
    a, b = (t.view(batch, steps // size, size, features) for t in (a, b))
    h, decay = b[:, :, 0], a[:, :, 0]
    local, decays = [h], [decay]
    for k in range(1, size):
        h, decay = a[:, :, k] * h + b[:, :, k], decay * a[:, :, k]
        local.append(h)
        decays.append(decay)
    inner, factor = torch.stack(local, 2), torch.stack(decays, 2)
    carry = torch.zeros_like(h[:, 0])
    carries = []
    for k in range(steps // size):
        carries.append(carry)
        carry = decay[:, k] * carry + h[:, k]
    return (inner + factor * torch.stack(carries, 1)[:, :, None]).view(batch, steps, features)


def doubling(a: Tensor, b: Tensor) -> Tensor:
    """Combine with the neighbour 1, 2, 4, ... steps back."""
    shift = 1
    while shift < a.shape[1]:
        b = torch.cat([b[:, :shift], a[:, shift:] * b[:, :-shift] + b[:, shift:]], dim=1)
        a = torch.cat([a[:, :shift], a[:, shift:] * a[:, :-shift]], dim=1)
        shift *= 2
    return b


def train(
    scan: Callable[[Tensor, Tensor], Tensor], a: Tensor, b: Tensor, weight: Tensor
) -> Callable[[], object]:
    """Forward and backward with fresh gradients."""
    return lambda: torch.autograd.grad(scan(a, b), [a, b], weight)


def main() -> None:
    """Print one line per contender."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--size", type=int, nargs=3, default=[32, 10_000, 64], metavar=("B", "T", "H")
    )
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    tune_allocator()  # for PyTorch's sake
    torch.manual_seed(0)
    a, b = (torch.rand(*arguments.size).requires_grad_() for _ in range(2))
    weight = torch.rand(*arguments.size)
    calls: dict[str, Callable[[], object]] = {
        "native": train(linear_scan, a, b, weight),
        "loop": train(linear_scan_reference, a, b, weight),
        "two-level": train(two_level, a, b, weight),
        "doubling": train(doubling, a, b, weight),
        "copy": weight.clone,
    }
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(arguments.rounds + 1):
        for name, call in calls.items():
            begin = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - begin)
    median = {name: statistics.median(values[1:]) for name, values in times.items()}
    best = min(median[name] for name in ("loop", "two-level", "doubling"))
    megabytes = 4 * a.numel() / 1e6
    print(f"{processor()}, {arguments.threads} threads, {versions()}")
    print(
        f"B, T, H = {arguments.size}; an array has {megabytes:.0f} MB; a copy moves "
        f"{2 * megabytes / median['copy'] / 1e3:.1f} GB/s"
    )
    for name, seconds in median.items():
        moved = (
            8 * megabytes / seconds / 1e3
        )  # forward reads a, b, writes h; backward reads a, h, dh, writes da, db
        note = (
            f"   {best / seconds:5.1f} x the best of PyTorch, {moved:.1f} GB/s"
            if name == "native"
            else ""
        )
        print(f"{name:<10} {1e3 * seconds:9.1f} ms{note}")


if __name__ == "__main__":
    main()
