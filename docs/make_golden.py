"""Print docs/golden.json: the first sequences of seed 0 of every variant, with all targets.

python docs/make_golden.py >docs/golden.json

Any other implementation can be checked against it: docs/specification.md says how. Numbers are
float32, written with the fewest digits that give the same float32 again.
"""

from __future__ import annotations

import json
from typing import Any, get_args

import numpy as np

from adding_problem.task.philox import Float32
from adding_problem.task.sampling import sample_batch_numpy
from adding_problem.task.variants import Target, Task, Variant

SEED, SEQUENCES, T = 0, 2, 22  # 22 is the shortest T of hs1997
MIXED = (Task(noise_columns=2), Task(mix="swap"))  # a rotation may round differently elsewhere


def numbers(array: Float32) -> Any:
    """Nested lists of the array's numbers."""
    if array.ndim:
        return [numbers(part) for part in array]
    return float(str(np.float32(array)))


def entry(task: Task) -> dict[str, Any]:
    """Inputs (n, W, C) of a task, and the targets (n,) of every question about them."""
    x, _ = sample_batch_numpy(SEQUENCES, T, seed=SEED, task=task)
    targets = {}
    for target in get_args(Target):
        record = task.to_record() | {"target": target}
        _, y = sample_batch_numpy(SEQUENCES, T, seed=SEED, task=Task(**record))
        targets[target] = numbers(y[:, 0])
    task_record = {key: value for key, value in task.to_record().items() if key != "target"}
    return {"task": task_record, "x": numbers(x), "targets": targets}


def main() -> None:
    """The record, on standard output: a line for each sequence."""
    tasks = [*(Task(variant=variant) for variant in get_args(Variant)), *MIXED]
    entries = []
    for task in tasks:
        made = entry(task)
        head, targets = (json.dumps(made[key]) for key in ("task", "targets"))
        sequences = ",\n   ".join(json.dumps(each) for each in made["x"])
        entries.append(
            f'  {{"task": {head},\n   "targets": {targets},\n   "x": [\n   {sequences}]}}'
        )
    head = f'"command": "python docs/make_golden.py", "seed": {SEED}, "t": {T}'
    print(f'{{{head},\n "entries": [\n' + ",\n".join(entries) + "\n]}")


if __name__ == "__main__":
    main()
