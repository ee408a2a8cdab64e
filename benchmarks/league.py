r"""The league: how far does every model of the zoo remember, under the same budgets for all?

    # All of it: five hours on two cores, resumable.
    python benchmarks/league.py
    # Your model: less than half an hour.
    python benchmarks/league.py --models mine.py:Mine
    # Two models for a minute each.
    python benchmarks/league.py --models gru lstm:init=long --minutes 1 --seeds 1 \
        --out artifacts/short --keep artifacts/short
    # Only print and draw the results in the file.
    python benchmarks/league.py --table docs/league.json

A model may carry arguments, as `lstm:init=long,memory=null` or `mine.py:Mine:units=32`. For every
one:

1. Tuning: each of the learning rates RATES for at most `--tuning` minutes at T = 100 (recipe
   `fast`, seed 1000). The one that solves it soonest is taken. Where none does, the one with the
   lowest validation loss is taken. The JSON has all that were tried.
2. For every seed one horizon run (`adding_problem.experiments.horizon`) of `--minutes` of training
   over LENGTHS. It gives:
   - the horizon, which is the longest T with a mean squared error below 1e-3 on new sequences. A
     validation that has begun when the time is up is finished. It does not count if it ends after
     more than GRACE times `--minutes`;
   - the sequence-steps from the start of the run to 1e-3 at T = 200, 1000 and 5000;
   - the model of T = 500, which is tested at T = 5000.
3. Speed: sequence-steps per second in training and inference at batch 16, T = 1000, when nothing
   else runs.

`--workers` of these run at the same time, each on `--threads` cores of its own. A second call
leaves out what the file holds, and must be given the same budgets and threads.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import results
import torch
from torch import nn

from adding_problem import config, models
from adding_problem.config import families
from adding_problem.errors import AddingProblemError
from adding_problem.evaluation.lengths import score_at_lengths
from adding_problem.experiments import horizon
from adding_problem.experiments.sweep.local import end_with_parent
from adding_problem.experiments.train import train
from adding_problem.runs.folder import RunFolder
from adding_problem.system.device import processor, resolve_backend, versions
from adding_problem.system.threads import cpu_settings
from adding_problem.task.sampling import sample_batch
from adding_problem.task.thresholds import SOLVED

ENTRANTS = [
    "lstm:init=oracle",
    "lstm:init=long,memory=null",
    *(name for name in families.FAMILIES if name != "lstm"),
]
"""The zoo, and below it the oracle: the LSTM with its input gates preset from the mark column."""
RATES = (1e-3, 5e-3, 2e-2)
TUNING_LENGTH, TUNING_SEED = 100, 1000
LENGTHS = (100, 200, 500, 1_000, 2_000, 5_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
COSTS_AT = (200, 1_000, 5_000)
TRAINED, TESTED = 500, 5_000
SPEED_BATCH, SPEED_LENGTH = 16, 1_000
GRACE = 1.1
SEQUENCES = 1_000  # new ones for every test, at most
_Outcome = TypeVar("_Outcome")


def base(entrant: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """The configuration that all models share, and what this one sets."""
    model, settings = _parts(entrant)
    return {
        "recipe": "fast",
        "model.name": model,
        "seed": seed,
        "validate.seed": seed + 1,
        "threads": arguments.threads,
        "validate.dt_length": SEQUENCES,
    } | {f"model.{key}": value for key, value in settings.items()}


def _parts(entrant: str) -> tuple[str, dict[str, str]]:
    """The model's name, which may itself have a colon, and the arguments behind it."""
    model, _, own = entrant.rpartition(":")
    return (
        (model, dict(setting.split("=", 1) for setting in own.split(",")))
        if "=" in own
        else (entrant, {})
    )


def _folder(entrant: str, part: str, arguments: argparse.Namespace) -> Path:
    name = entrant.translate(str.maketrans(":=,/\\", "-----"))
    return Path(arguments.keep) / f"{name}-{part}"


def tune(entrant: str, arguments: argparse.Namespace) -> list[dict[str, float]]:
    """What each learning rate came to."""
    trials = []
    for rate in RATES:
        result = train(
            config.load(
                None,
                base(entrant, TUNING_SEED, arguments)
                | {
                    "dataset.t": TUNING_LENGTH,
                    "train.learning_rate": rate,
                    "train.budget_minutes": arguments.tuning,
                    "artifacts": str(_folder(entrant, f"tuning-{rate:g}", arguments)),
                },
            ),
            resume=True,
        )
        trials.append(
            {
                "learning_rate": rate,
                "val_loss": result.lowest_val_loss or math.inf,
                "seconds": result.seconds,
                "sequence_steps": result.sequence_steps,
            }
        )
    return trials


def best(trials: list[dict[str, float]]) -> float:
    """The learning rate that solved T = 100 soonest; where none did, the one that came nearest."""

    def cost(trial: dict[str, float]) -> tuple[bool, float]:
        solved = trial["val_loss"] < SOLVED
        return not solved, trial["seconds"] if solved else trial["val_loss"]

    return min(trials, key=cost)["learning_rate"]


def find_horizon(
    entrant: str, seed: int, rate: float, arguments: argparse.Namespace
) -> dict[str, Any]:
    """One horizon run, and the score of the model of T = 500 at T = 5000.

    A length that the model does not take, or the memory does not hold, ends it.
    """

    def refused(t: int | str, error: AddingProblemError) -> None:
        print(f"{entrant} seed {seed}, {t}: {error}", flush=True)

    folder = _folder(entrant, str(seed), arguments)
    run = config.load(
        None,
        base(entrant, seed, arguments) | {"train.learning_rate": rate, "artifacts": str(folder)},
    )
    rungs = list(
        horizon.find_horizon(
            run,
            minutes=arguments.minutes,
            lengths=LENGTHS,
            following=lambda _: nullcontext(),
            on_refusal=partial(refused, "the end of the horizon run"),
        )
    )
    result: dict[str, Any] = {
        "steps": {
            str(rung.t): spent.sequence_steps if (spent := rung.reached["1e-3"]) else None
            for rung in rungs
            if rung.t in COSTS_AT
        },
        "rungs": [
            {key: value for key, value in asdict(rung).items() if key != "folder"} for rung in rungs
        ],
    }
    if at := next((rung for rung in rungs if rung.t == TRAINED), None):
        trained = RunFolder(at.folder)
        at_500 = config.load(trained.config_copy, {"artifacts": str(trained.path)})
        for score in score_at_lengths(
            at_500, [TESTED], 256, own=at_500.model.name, on_refusal=refused
        ):
            result["extrapolation"] = score.mse
    return result


def speed(entrant: str, arguments: argparse.Namespace) -> dict[str, float]:
    """Sequence-steps per second, medians of five."""
    run = config.load(None, base(entrant, 0, arguments))
    backend = resolve_backend("auto", torch.device("cpu"))
    x, y = sample_batch(SPEED_BATCH, SPEED_LENGTH, seed=0)
    with cpu_settings(arguments.threads):
        network = models.build_model(run.model, seed=0, backend=backend, length=SPEED_LENGTH)

        def training() -> None:
            nn.functional.mse_loss(network(x), y).backward()  # type: ignore[no-untyped-call]

        @torch.no_grad()
        def inference() -> None:
            network(x)

        parameters = sum(p.numel() for p in network.parameters() if p.requires_grad)
        return {
            "parameters": parameters,
            "training": _per_second(training),
            "inference": _per_second(inference),
        }


def _per_second(step: Callable[[], None]) -> float:
    step()
    times = []
    for _ in range(5):
        begin = time.perf_counter()
        step()
        times.append(time.perf_counter() - begin)
    return SPEED_BATCH * SPEED_LENGTH / statistics.median(times)


def table(league: dict[str, Any]) -> str:
    """Markdown, the farthest first; oracles, which are not ranked, in a table of their own
    below."""
    ranking = _ranking(league)
    learners, oracles = (
        [item for item in ranking if _is_oracle(item[0]) == told] for told in (False, True)
    )
    parts = [_rows(learners, league["minutes"])]
    if oracles:
        parts += [
            "",
            "Not ranked, since it is told which column holds the marks:",
            "",
            _rows(oracles, league["minutes"]),
        ]
    return "\n".join(parts)


def _rows(ranking: list[tuple[str, dict[str, Any]]], minutes: float) -> str:
    rows = [
        "| model | horizon: median (all seeds) | sequence-steps to 1e-3 at T = 200 / 1000 / 5000 "
        "| model of T = 500, tested at 5000 "
        "| parameters | training, inference: thousand steps/s | learning rate |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, entry in ranking:
        climbs = list(entry["climbs"].values())
        horizons = _horizons(entry, minutes)
        costs = " / ".join(_cost([c["steps"].get(str(t)) for c in climbs]) for t in COSTS_AT)
        beyond = [c["extrapolation"] for c in climbs if "extrapolation" in c]
        pace = entry.get("speed")
        speeds = (
            f"{pace['parameters']:,} "
            f"| {pace['training'] / 1e3:,.0f}, {pace['inference'] / 1e3:,.0f}"
            if pace
            else "- | -"
        )
        rows.append(
            f"| {_shown(name)} | {_median(horizons):,} "
            f"({', '.join(f'{horizon:,}' for horizon in horizons)}) | {costs} "
            f"| {f'{statistics.median(beyond):.1e}' if beyond else '-'} "
            f"| {speeds} | {entry['learning_rate']:g} |"
        )
    return "\n".join(rows)


def _shown(entrant: str) -> str:
    model, settings = _parts(entrant)
    if _is_oracle(entrant):
        return f"{model.upper()}, {families.described_init('oracle')}"
    told = [f"{key} {value}" for key, value in settings.items() if value != "null"]
    return f"{model} ({', '.join(told)})" if told else model


def _is_oracle(entrant: str) -> bool:
    model, settings = _parts(entrant)
    return families.is_oracle(model, settings.get("init"))


def _ranking(league: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Those that have climbed, by the median horizon, the farthest first; where it is the same, by
    all seeds'. Oracles come last."""

    def reach(item: tuple[str, dict[str, Any]]) -> tuple[bool, int, float]:
        horizons = _horizons(item[1], league["minutes"])
        return (
            not _is_oracle(item[0]),
            _median(horizons),
            statistics.geometric_mean(horizon + 1 for horizon in horizons),
        )

    return sorted(
        ((name, entry) for name, entry in league["models"].items() if entry["climbs"]),
        key=reach,
        reverse=True,
    )


def _median(horizons: list[int]) -> int:
    return int(statistics.median_low(horizons))


def _horizons(entry: dict[str, Any], minutes: float) -> list[int]:
    """Of every seed; 0 where not even the first length was solved in time."""
    return [
        max(
            (
                rung["t"]
                for rung in climbed["rungs"]
                if rung["solved"] and rung["seconds"] <= 60 * GRACE * minutes
            ),
            default=0,
        )
        for climbed in entry["climbs"].values()
    ]


def _cost(steps: list[int | None]) -> str:
    """The median, an unsolved run counting as more than all."""
    middle = statistics.median([math.inf if cost is None else cost for cost in steps])
    return "-" if middle == math.inf else f"{float(f'{middle / 1e6:.2g}'):g} M"


def draw(league: dict[str, Any], path: Path) -> None:
    """A dot for every seed, one above the other, and a line at the median; oracles at the bottom,
    below a rule."""
    from matplotlib.figure import Figure

    none = min(LENGTHS) / 2  # where those stand that did not solve even the shortest
    ranking = _ranking(league)[::-1]
    oracles = sum(_is_oracle(name) for name, _ in ranking)
    rows = [row - (row < oracles) for row in range(len(ranking))]  # with room for the rule
    figure = Figure(figsize=(8, 1 + 0.4 * len(ranking)), layout="constrained")
    axes = figure.add_subplot()
    if 0 < oracles < len(ranking):
        axes.axhline(oracles - 1, color="black", linewidth=1)
    for row, (_, entry) in zip(rows, ranking, strict=True):
        horizons = _horizons(entry, league["minutes"])
        places = [horizon or none for horizon in horizons]
        axes.hlines(row, min(places), max(places), color="#56B4E9", linewidth=2)
        axes.vlines(_median(horizons) or none, row - 0.38, row + 0.38, color="#0072B2", linewidth=4)
        axes.plot(
            places,
            [row + 0.22 * (len(places) / 2 - 0.5 - seed) for seed in range(len(places))],
            "o",
            color="#D55E00",
            markersize=4,
        )
    axes.set(
        xscale="log",
        xlim=(none / 1.3, 1.3 * max(LENGTHS)),
        xlabel=(
            f"longest T solved within {league['minutes']:g} minutes of training "
            f"(threads: {league['threads']})\n"
            "dots: seeds, the first on top; bar: their median"
        ),
    )
    axes.set_xticks(
        [none, *(10**k for k in range(2, 7))],
        ["none", "100", "1,000", "10,000", "100,000", "1,000,000"],
    )
    axes.set_xticks([], minor=True)
    axes.margins(y=0.02)
    axes.set_yticks(
        rows,
        [
            _shown(name).replace(": ", ":\n").replace("preset from", "preset\nfrom")
            for name, _ in ranking
        ],
    )
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", alpha=0.25)
    figure.savefig(path, dpi=150)


def hold(arguments: argparse.Namespace, league: dict[str, Any], save: Callable[[], None]) -> None:
    """Tune and climb what the league lacks, several at a time; then time every model, alone."""
    program = _origin()
    entries = {
        entrant: league["models"].setdefault(entrant, {"climbs": {}})
        for entrant in arguments.models
    }
    with ProcessPoolExecutor(
        arguments.workers, multiprocessing.get_context("spawn"), initializer=end_with_parent
    ) as pool:
        trials = {
            pool.submit(tune, entrant, arguments): entrant
            for entrant, entry in entries.items()
            if "tuning" not in entry
        }
        for future in as_completed(trials):
            if (tried := _outcome(future.result, trials[future])) is None:
                del entries[trials[future]], league["models"][trials[future]]
                continue
            entries[trials[future]] |= {"tuning": tried, "learning_rate": best(tried)}
            save()
        climbs: dict[Future[dict[str, Any]], tuple[str, int]] = {
            pool.submit(find_horizon, entrant, seed, entry["learning_rate"], arguments): (
                entrant,
                seed,
            )
            for seed in range(arguments.seeds)
            for entrant, entry in entries.items()
            if str(seed) not in entry["climbs"]
        }
        for done in as_completed(climbs):
            entrant, seed = climbs[done]
            if (climbed := _outcome(done.result, f"{entrant} seed {seed}")) is None:
                continue
            found = entries[entrant]["climbs"][str(seed)] = climbed | program
            save()
            print(
                f"{entrant} seed {seed}: "
                + ", ".join(
                    f"T = {r['t']:,} {'solved' if r['solved'] else 'not solved'} "
                    f"after {r['seconds']:,.0f} s"
                    for r in found["rungs"][-2:]
                ),
                flush=True,
            )
    for entrant, entry in entries.items():
        entry["climbs"] = dict(sorted(entry["climbs"].items(), key=lambda item: int(item[0])))
        if "speed" not in entry and (
            timed := _outcome(partial(speed, entrant, arguments), f"{entrant}'s speed")
        ):
            entry["speed"] = timed
        save()


def _outcome(work: Callable[[], _Outcome], name: str) -> _Outcome | None:
    """What came of it; None, and the reason is said, where the model cannot do what it was
    asked."""
    try:
        return work()
    except AddingProblemError as error:
        print(f"{name} is left out: {error}", flush=True)
        return None


def _origin() -> dict[str, str]:
    """Which program on which processor: a second call may be another's."""
    return {"commit": results.commit(), "processor": processor()}


def opened(out: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """The league so far; ends the program where it was held under other budgets, which all models
    must share."""
    budgets = {
        "minutes": arguments.minutes,
        "tuning_minutes": arguments.tuning,
        "threads": arguments.threads,
    }
    if not out.exists():
        return (
            _origin()
            | {"versions": versions(), "workers": arguments.workers, "models": {}}
            | budgets
        )
    league: dict[str, Any] = json.loads(out.read_text())
    other = [
        f"{name} {league[name]} instead of {value}"
        for name, value in budgets.items()
        if league[name] != value
    ]
    if other:
        sys.exit(
            f"{out} was held with {', '.join(other)}: give the same, or another --out and --keep"
        )
    return league


def main() -> None:
    """Tune, climb and time every model; write JSON after each part."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=ENTRANTS)
    parser.add_argument("--minutes", type=float, default=5.0, help="training time of a climb")
    parser.add_argument("--tuning", type=float, default=0.5, help="minutes for each learning rate")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2, help="of every model")
    parser.add_argument("--workers", type=int, default=1, help="models at the same time")
    parser.add_argument(
        "--keep", type=Path, default=Path("artifacts/league"), help="folder for the run folders"
    )
    parser.add_argument(
        "--out", default="artifacts/league", help="JSON and picture: this name with .json and .png"
    )
    parser.add_argument(
        "--table", type=Path, help="only print the results of this JSON as Markdown, and draw them"
    )
    arguments = parser.parse_args()
    if arguments.table:
        league = json.loads(arguments.table.read_text())
        print(table(league))
        draw(league, arguments.table.with_suffix(".png"))
        return
    out = Path(f"{arguments.out}.json")
    league = opened(out, arguments)

    def save() -> None:
        results.write(out, league)

    hold(arguments, league, save)
    print(table(league))
    draw(league, out.with_suffix(".png"))


if __name__ == "__main__":
    main()
