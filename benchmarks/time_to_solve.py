r"""How much does it take to solve the adding problem, over many seeds?

    python benchmarks/time_to_solve.py --lengths 150 1000 1500 --seeds 10 \
        --out artifacts/time_to_solve/any
    python benchmarks/time_to_solve.py --config configs/precise/*.yaml --seeds 3 --minutes 5 \
        --out artifacts/time_to_solve/precise
    # Needs `make peers`.
    python benchmarks/time_to_solve.py --lengths 150 300 --seeds 1 \
        --contenders fast-native fast-torch original-native original-keras \
        --out artifacts/time_to_solve/original
    python benchmarks/time_to_solve.py --table docs/time_to_solve/precise.json

Contenders: the recipe `fast` on the native kernels and on torch; the original's method (recipe
`original`, 30,000 training and 70,000 validation sequences) on the native kernels, on torch, and in
Keras on TensorFlow.

A fast run starts from scratch and ends by the recipe's own rule (validation MSE on its validation
sequences below `train.stop_val_loss`) or at the budget. Solved means: MSE below 1e-3 on 10,000
sequences that nothing else has seen (fewer at lengths above 100,000, or by --sequences); where
--config names one, a validation MSE below its `train.stop_val_loss`. The original's method ends
when its validation MSE is below 1e-3. All runs are reported; costs are medians and ranges over the
solved ones, the share solved carries a 95% Wilson interval. Results are written after every run; a
second call leaves out the runs that the file holds with the same settings, and adds those of other
settings to it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import results

from adding_problem import config
from adding_problem.analysis.statistics import proportion
from adding_problem.evaluation.lengths import score_at_lengths
from adding_problem.experiments.train import train
from adding_problem.system.device import processor, versions
from adding_problem.task.data_sets import affordable
from adding_problem.task.sampling import sample_batch_numpy
from adding_problem.task.thresholds import SOLVED, THRESHOLDS
from adding_problem.task.variants import Task

CONTENDERS = ["fast-native", "fast-torch", "original-native", "original-torch", "original-keras"]
RECORDED = ("sequences", "sequence_steps", "seconds", "reached", "threads")
HERE = Path(__file__).parent


def fast(length: int, seed: int, backend: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """One run of the recipe `fast`, and its test score."""
    n, path = _tested(length, arguments), arguments.config.get(length)
    held_out = (
        {} if path else {"dataset.held_out": affordable(1_000, length, steps=2 * 10**8, fewest=256)}
    )
    run = config.load(
        path,
        {
            "recipe": "fast",
            "dataset.t": length,
            "dataset.variant": arguments.variant,
            "seed": seed,
            "validate.seed": 10_000 + seed,
            "train.budget_minutes": arguments.minutes,
            "backend": backend,
            "threads": arguments.threads,
            **held_out,
            **dict(arguments.set),
        },
    )
    with _folder(arguments, "fast", run) as run:
        result = train(run, resume=True)
        (score,) = score_at_lengths(run, [length], n)
    return {
        "stop_reason": result.stop_reason,
        "mse": score.mse,
        "mse_standard_error": score.mse_standard_error,
        "sequences_tested": n,
        "lowest_val_loss": result.lowest_val_loss,
        "target": run.train.stop_val_loss,
        "solved": result.stop_reason == "solved"
        if length in arguments.config
        else score.mse < SOLVED,
        **results.picked(result, RECORDED),
    }


def original(length: int, seed: int, backend: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """One run of the original's method by this package, until its validation MSE is below 1e-3."""
    run = config.load(
        None,
        {
            "dataset.t": length,
            "dataset.variant": arguments.variant,
            "dataset.validation_split": 0.7,
            "seed": seed,
            "train.stop_val_loss": SOLVED,
            "backend": backend,
            "threads": arguments.threads,
        },
    )
    with _folder(arguments, "original", run) as run:
        result = train(run, resume=True)
    return {
        "stop_reason": result.stop_reason,
        "solved": result.stop_reason == "solved",
        **results.picked(result, (*RECORDED, "lowest_val_loss")),
    }


def original_keras(length: int, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """One run of the original's method in Keras, on the same sequences."""
    with tempfile.TemporaryDirectory() as folder:
        x, y = sample_batch_numpy(100_000, length, seed=seed, task=Task(variant=arguments.variant))
        np.savez(
            f"{folder}/data.npz",
            x_train=x[:30_000],
            y_train=y[:30_000],
            x_val=x[30_000:],
            y_val=y[30_000:],
        )
        del x
        lines = subprocess.run(
            [
                str(HERE.parent / ".peers/bin/python"),
                str(HERE / "original_keras.py"),
                f"{folder}/data.npz",
                "--seed",
                str(seed),
                "--target",
                str(SOLVED),
            ],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
    epochs = [
        json.loads(line) | {"sequence_steps": json.loads(line)["sequences"] * length}
        for line in lines
    ]
    reached = {
        name: next((epoch for epoch in epochs if epoch["val_loss"] < value), None)
        for name, value in THRESHOLDS.items()
    }
    return {
        "stop_reason": "solved" if reached["1e-3"] else "epochs",
        "solved": reached["1e-3"] is not None,
        "reached": reached,
        **{key: epochs[-1][key] for key in ("sequences", "sequence_steps", "seconds")},
        "lowest_val_loss": min(epoch["val_loss"] for epoch in epochs),
    }


@contextmanager
def _folder(
    arguments: argparse.Namespace, method: str, run: config.RunConfig
) -> Iterator[config.RunConfig]:
    """The run with a folder for its files: kept where the user said so, so that a cut run can go
    on."""
    data = run.dataset
    name = f"{method}-{run.backend}-{data.variant}-{data.t}-{run.seed}-{run.digest[:8]}"
    with (
        tempfile.TemporaryDirectory()
        if arguments.keep is None
        else nullcontext(str(Path(arguments.keep) / name)) as folder
    ):
        yield replace(run, artifacts=folder)


def _tested(length: int, arguments: argparse.Namespace) -> int:
    """How many test sequences decide whether a fast run has solved it."""
    return affordable(arguments.sequences, length, steps=10**9, fewest=256)


def experiment(contender: str, length: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """What runs have in common that differ in their seed alone."""
    return {
        "contender": contender,
        "length": length,
        "variant": arguments.variant,
        "settings": _settings(contender, length, arguments),
    }


def _settings(contender: str, length: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Whatever else the user can choose that the contender's numbers depend on."""
    method, backend = contender.split("-")
    if backend == "keras":
        return {}
    if method == "original":
        return {"threads": arguments.threads}
    path = arguments.config.get(length)
    return {
        "threads": arguments.threads,
        "minutes": arguments.minutes,
        "sequences": _tested(length, arguments),
        "set": dict(arguments.set),
        "config": path and f"{path.name} {config.load(path).digest[:8]}",
    }


def summary(runs: list[dict[str, Any]]) -> str:
    """One line about all seeds of a length."""
    solved = [run for run in runs if run["solved"]]
    interval = proportion(len(solved), len(runs))
    text = (
        f"solved {len(solved)} of {len(runs)} "
        f"(95% Wilson {interval.low:.2f} to {interval.high:.2f})"
    )
    if solved:
        steps = [run["sequence_steps"] / 1e6 for run in solved]
        seconds = [run["seconds"] for run in solved]
        text += (
            f"; median {statistics.median(steps):.3g} million sequence-steps "
            f"({min(steps):.3g} to {max(steps):.3g}), "
            f"{statistics.median(seconds):.1f} s ({min(seconds):.1f} to {max(seconds):.1f})"
        )
    return text


def table(runs: list[dict[str, Any]]) -> str:
    """Markdown: a row for each contender, variant, length and choice of settings."""
    rows = [
        "| T | variant | contender | solved | sequence-steps, median (range) "
        "| training time, median (range) | test MSE, median (worst) |",
        "|---|---|---|---|---|---|---|",
    ]
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for run in runs:
        groups.setdefault(
            (run["length"], run["variant"], run["contender"], _shown(run, runs)), []
        ).append(run)
    for (length, variant, contender, chosen), group in sorted(groups.items()):
        solved = [run for run in group if run["solved"]]
        interval = proportion(len(solved), len(group))
        errors = [run["mse"] for run in group if "mse" in run]
        rows.append(
            f"| {length:,} | {variant} | {contender}{chosen} "
            f"| {len(solved)} of {len(group)} ({interval.low:.2f} to {interval.high:.2f}) "
            f"| {_spread([run['sequence_steps'] for run in solved], ',.0f')} "
            f"| {_spread([run['seconds'] for run in solved], '.1f')} s | {_worst(errors)} |"
        )
    return "\n".join(rows)


def _shown(run: dict[str, Any], runs: list[dict[str, Any]]) -> str:
    """A run's settings, where others of the same contender and length have other ones (those of old
    files are not known)."""
    same = [
        other.get("settings")
        for other in runs
        if all(other[key] == run[key] for key in ("length", "variant", "contender"))
    ]
    if all(other == same[0] for other in same):
        return ""
    return (
        f" ({json.dumps(run['settings'])[1:-1]})"
        if "settings" in run
        else " (settings not recorded)"
    )


def _spread(values: list[float], form: str) -> str:
    if not values:
        return "-"
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def _worst(errors: list[float]) -> str:
    return f"{statistics.median(errors):.1e} ({max(errors):.1e})" if errors else "-"


def line(run: dict[str, Any]) -> str:
    """One line about a run."""
    error = f"test MSE {run['mse']:.2e} ± {run['mse_standard_error']:.0e}, " if "mse" in run else ""
    costs = "; ".join(
        f"{name}: {cost['sequences']:,} sequences, {cost['sequence_steps'] / 1e6:.3g} M steps, "
        f"{cost['seconds']:.1f} s"
        if cost
        else f"{name}: never"
        for name, cost in run["reached"].items()
    )
    return (
        f"{run['contender']:<15} T={run['length']:<7} seed {run['seed']}: "
        f"{error}{run['sequence_steps'] / 1e6:.3g} million "
        f"sequence-steps, {run['seconds']:.1f} s, {run['stop_reason']} ({costs})"
    )


def main() -> None:
    """Run every contender, length and seed; print a line each; write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lengths", type=int, nargs="+", default=[150, 1000, 1500])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=["fast-native"])
    parser.add_argument("--variant", default="any", choices=["any", "halves", "hs1997"])
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--minutes", type=float, default=10.0, help="budget of one fast run")
    parser.add_argument(
        "--sequences",
        type=int,
        default=10_000,
        help="test sequences that decide whether a fast run has solved it; "
        "at lengths above 100,000 a billion steps together",
    )
    parser.add_argument(
        "--set",
        type=lambda text: text.split("=", 1),
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="configuration keys of the fast runs to change",
    )
    parser.add_argument("--keep", help="folder for the run folders; a cut run there is resumed")
    parser.add_argument("--out", default="time_to_solve", help="JSON: this name with .json")
    parser.add_argument(
        "--config", type=Path, nargs="+", default=[], help="YAML of fast runs, one for each length"
    )
    parser.add_argument(
        "--table",
        type=Path,
        nargs="+",
        help="only print these results, JSON of earlier calls, as Markdown",
    )
    arguments = parser.parse_args()
    if arguments.table:
        for path in arguments.table:
            print(f"\n{path}\n\n{table(json.loads(path.read_text())['runs'])}")
        return
    arguments.config = {config.load(path).dataset.t: path for path in arguments.config}
    lengths = sorted(arguments.config) or arguments.lengths
    out = Path(f"{arguments.out}.json")
    runs: list[dict[str, Any]] = json.loads(out.read_text())["runs"] if out.exists() else []
    commit = results.commit()
    machine = {"processor": processor(), "versions": versions()}
    print(json.dumps(machine | {"commit": commit}), flush=True)
    for length in lengths:
        for seed in range(arguments.seeds):
            for contender in arguments.contenders:
                name = experiment(contender, length, arguments) | {"seed": seed}
                if any(name.items() <= run.items() for run in runs):
                    continue
                method, backend = contender.split("-")
                run = (
                    original_keras(length, seed, arguments)
                    if backend == "keras"
                    else fast(length, seed, backend, arguments)
                    if method == "fast"
                    else original(length, seed, backend, arguments)
                )
                runs.append(
                    name
                    | run
                    | {
                        "commit": commit,
                        "processor": machine["processor"],
                        "finished": time.strftime("%Y-%m-%d %H:%M"),
                    }
                )
                results.write(out, {"machine": machine, "runs": runs})
                print(line(runs[-1]), flush=True)
        for contender in arguments.contenders:
            group = [
                run
                for run in runs
                if experiment(contender, length, arguments).items() <= run.items()
            ]
            print(
                f"{contender:<15} T={length:<7} {arguments.variant}: {summary(group)}", flush=True
            )


if __name__ == "__main__":
    main()
