"""How long does the quick start take, beside the import of what it cannot do without?

    python benchmarks/start.py [--rounds 7] [--config configs/quickstart.yaml]

Timed are whole processes from start to exit: `adding-problem train` on the configuration, and
`import torch, safetensors.torch`. They take turns after a round that is not counted, which fills
the file cache. The times are medians.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from adding_problem.system.device import processor
from adding_problem.system.threads import usable_cores

QUICK_START = Path(__file__).parents[1] / "configs" / "quickstart.yaml"


def seconds(words: Sequence[str]) -> float:
    """Time of a process of this Python from start to exit."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def main() -> None:
    """Print both times and their ratio."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--config", type=Path, default=QUICK_START)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        train = ["-m", "adding_problem", "train", "--config", str(arguments.config)]
        train += ["--artifacts", folder, "--overwrite"]
        programs = [["-c", "import torch, safetensors.torch"], train]
        rounds = [[seconds(words) for words in programs] for _ in range(arguments.rounds + 1)][1:]
    imports, whole = (statistics.median(column) for column in zip(*rounds, strict=True))
    print(f"{processor()}, {usable_cores()} cores, torch {torch.__version__}")
    print(f"imports {imports:.2f} s   quick start {whole:.2f} s   ratio {whole / imports:.2f}")


if __name__ == "__main__":
    main()
