"""What survives kills, damage, full disks, untrusted files and known faults? Each loss is counted.

    # Everything, about an hour on two cores.
    python benchmarks/torture.py
    # A part of it; results are added up in the JSON.
    python benchmarks/torture.py --part kills --n 20 --seed 3
    # The table of docs/reliability.md, from the record.
    python benchmarks/torture.py --table --out docs/torture.json

    kills     SIGKILL at random moments and at random operations on files, over both recipes and
              both backends; the run is resumed until it ends, and its weights, losses and result
              compared bit by bit with the run that was never cut
    damage    checkpoints truncated and with bits flipped, then resumed and compared likewise;
              weights likewise, then read
    disk      the n-th operation on files fails because the disk is full, for every n; and a real
              file system of 2 MB
    configs   mutated and generated YAML, loaded
    folders   mutated run folders, read by every reader: model, result, history, checkpoint,
              comparison, resumption
    cost      share of the time that checkpoints take, at the settings of `make run`
    commands  SIGKILL at every operation on files of a command, which is repeated to its end; see
              `torture_commands`
    faults    a fixture for each kind of fault that was ever found, through the command line; see
              `torture_faults`

A trial is lost when the numbers differ or the last good state is gone. A traceback is any exception
that is not one of `adding_problem.errors`. Peak memory and time are those of the worst trial (of
kills: of the worst process).
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import sys
import tempfile
import time
from pathlib import Path

import matplotlib.figure  # noqa: F401  (here, so that forked trials need not load it)
import results
import torch
import torture_commands
import torture_table
from torture_faults import faults
from torture_files import configs, folders
from torture_runs import cost, damage, disk, kills
from torture_trials import Budget, Outcome

from adding_problem.system.device import processor, versions

DEFAULT_TRIALS = {
    "kills": 200,
    "damage": 50,
    "configs": 10_000,
    "folders": 2_000,
    "cost": 4,
}  # of the others, all that there are
PARTS = {
    "kills": kills,
    "damage": damage,
    "disk": disk,
    "configs": configs,
    "folders": folders,
    "cost": cost,
    **torture_commands.parts(),
    "faults": faults,
}


def main() -> int:
    """Run parts, add their outcomes to the JSON, print them; exit with 1 if anything was lost."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--part",
        help="one part, or a group by the name before its colon "
        f"(default: all): {', '.join(PARTS)}",
    )
    parser.add_argument(
        "--n",
        type=int,
        help="number of trials; 0: all that there are (default: as in docs/reliability.md)",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--seconds", type=float, default=1e9, help="begin no trial after so many seconds of a part"
    )
    parser.add_argument("--out", type=Path, default=Path("artifacts/torture.json"))
    parser.add_argument(
        "--table", action="store_true", help="print the record as a table, and try nothing"
    )
    arguments = parser.parse_args()
    if arguments.table:
        print(torture_table.table(json.loads(arguments.out.read_text())))
        return 0
    chosen = [name for name in PARTS if arguments.part in (None, name, name.partition(":")[0])]
    if not chosen:
        parser.error(f"there is no part {arguments.part!r}")
    torch.set_num_threads(1)
    logging.disable()  # that a lock was left by a killed process is no news here
    bad, commit = 0, results.commit()
    for name in chosen:
        n = arguments.n if arguments.n is not None else DEFAULT_TRIALS.get(name, 0)
        with tempfile.TemporaryDirectory() as folder:
            begin = time.perf_counter()
            outcome = PARTS[name](
                Budget(n, arguments.seconds),
                random.Random(f"{name} {arguments.seed}"),
                Path(folder),
            )
            outcome["wall_seconds"] = time.perf_counter() - begin
        record(arguments.out, name, arguments.seed, outcome, commit)
        print(
            f"{name} (seed {arguments.seed}): "
            + ", ".join(
                f"{key} {value:,.4g}" if isinstance(value, float) else f"{key} {value:,}"
                for key, value in outcome.items()
            ),
            flush=True,
        )
        bad += sum(
            outcome.get(key, 0)
            for key in ("lost", "tracebacks", "escaped", "wrong_without_a_word", "unexpected")
        )
    return 1 if bad else 0


def record(path: Path, part: str, seed: int, outcome: Outcome, commit: str) -> None:
    """Keep the outcome of a part and seed, and the sums over seeds."""
    document = json.loads(path.read_text()) if path.exists() else {"parts": {}}
    document["machine"] = {"processor": processor(), "cores": os.cpu_count()}
    document["versions"] = versions()
    entry = document["parts"].setdefault(part, {"seeds": {}})
    entry["seeds"][str(seed)] = outcome
    entry["commit"] = commit
    entry["all"] = {
        key: (max if key.startswith(("peak", "worst", "largest", "operations")) else sum)(
            each[key] for each in entry["seeds"].values()
        )
        for key in outcome
    }
    results.write(path, document)


if __name__ == "__main__":
    sys.exit(main())
