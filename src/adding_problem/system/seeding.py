"""Random streams: every stream has its own seed, made from the root seed.

The sequences of a seed are drawn by counters, not streams: see `task/philox.py`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

__all__ = ["seeded", "stream_seed"]

# Spawn keys: new numbers would change the results of every run.
_STREAMS = {
    "initialisation": 1,
    "order": 2,
    "held_out": 3,
    "lengths": 4,
    "model": 5,
    "horizon": 6,
    "certificate": 7,
}


def stream_seed(root: int, stream: str) -> int:
    """A 63-bit seed for one of the streams of a root seed."""
    state = np.random.SeedSequence(root, spawn_key=(_STREAMS[stream],)).generate_state(1, np.uint64)
    return int(state[0] >> 1)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the global random states of torch, NumPy and Python inside the block.

    Afterwards those of NumPy, Python, torch on the CPU and the current CUDA device are as they
    were. The models of this package need only torch; Keras draws its seeds from Python's state.
    """
    python, numpy = random.getstate(), np.random.get_state()
    try:
        # A run on the CPU must not initialise CUDA; CUDA takes a seed set before its start.
        gpu_in_use = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        devices = [torch.cuda.current_device()] if gpu_in_use else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed % 2**32)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
