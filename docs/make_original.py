"""Print docs/original.md from the recorded runs, and with --pictures draw what it shows.

    python docs/make_original.py --pictures >docs/original.md
"""

from __future__ import annotations

import argparse
import json
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adding_problem import plots
from adding_problem.artifacts import SOLVED, THRESHOLDS, EpochRow, RunFolder
from adding_problem.config import RunConfig
from adding_problem.statistics import proportion

DOCS = Path(__file__).parent
PICTURES = DOCS / "pictures" / "original"
COMPARISON = DOCS / "pictures" / "original_comparison.png"
CURVES = DOCS / "original_curves.json"
SCORES = DOCS / "original_scores.json"
SEEDS = DOCS / "original_seeds.json"
RUNS = DOCS / "runs" / "original"
EPOCH = 30_000  # training sequences in an epoch, the original's and ours
COMMITS = {150: "d807c31", 200: "a36e7b9", 250: "a36e7b9", 300: "a36e7b9", 500: "a36e7b9",
           700: "a36e7b9 up to epoch 25, then 7b502f1", 1000: "7b502f1"}  # which a run folder does not tell


@dataclass(frozen=True)
class Run:
    """A run as the tables need it.

    Attributes:
        val_loss: of every epoch.
        patience: whether early stopping ended it.
    """

    t: int
    val_loss: list[float]
    patience: bool

    def first(self, threshold: float) -> int | None:
        """The first epoch whose validation loss is below."""
        return next((epoch for epoch, loss in enumerate(self.val_loss, 1) if loss < threshold), None)


@dataclass(frozen=True)
class Ours(Run):
    """One of our runs, with what its folder says of it."""

    config: RunConfig
    rows: list[EpochRow]
    result: dict[str, Any]


def originals() -> dict[int, Run]:
    """The original's runs by T. At most 100 epochs were asked for: a shorter one was stopped."""
    curves = json.loads(CURVES.read_text(encoding="utf-8"))
    return {int(t): Run(int(t), losses["val_loss"], len(losses["val_loss"]) < 100) for t, losses in curves.items()}


def recorded() -> dict[int, Ours]:
    """Our runs by T."""
    found = {}
    for path in RUNS.iterdir():
        folder = RunFolder(path)
        rows, result = folder.read_history(), folder.read_result()
        patience = result["stop_reason"] == "early_stopping"
        found[result["t"]] = Ours(result["t"], [row.val_loss for row in rows], patience, folder.read_config(), rows, result)
    return dict(sorted(found.items()))


def scientific(value: float) -> str:
    """Such as 4.7e-6."""
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}" if value < 0.1 else f"{value:.2g}"


def exponent_of(costs: dict[int, float]) -> float:
    """The slope of log cost against log T by least squares."""
    logs = [(math.log(t), math.log(cost)) for t, cost in costs.items()]
    x0, y0 = (sum(values) / len(logs) for values in zip(*logs, strict=True))
    return sum((x - x0) * (y - y0) for x, y in logs) / sum((x - x0) ** 2 for x, _ in logs)


def epochs_to(runs: dict[int, Run] | dict[int, Ours], threshold: float = 1e-2) -> dict[int, int]:
    """By T, of the runs that got there."""
    return {t: first for t, run in runs.items() if (first := run.first(threshold))}


# --- the tables ------------------------------------------------------------------------------------------------------


def table_of_runs(theirs: dict[int, Run], ours: dict[int, Ours]) -> str:
    """Epochs and losses, the original's row over ours."""
    scores = json.loads(SCORES.read_text(encoding="utf-8"))
    lines = ["| T | | epochs | lowest validation MSE | first epoch below 1e-2 / 1e-3 | kept weights on new sequences |",
             "|---|---|---|---|---|---|"]
    for t in theirs:
        for name, runs in (("original", theirs), ("ours", ours)):
            if not (run := runs.get(t)):
                continue
            firsts = [run.first(threshold) for threshold in THRESHOLDS.values()]
            reached = " / ".join(map(str, filter(None, firsts))) or "never"
            score = scores[name].get(str(t))
            lines.append(f"| {t:,} | {name} | {len(run.val_loss)}{' (patience)' if run.patience else ''} | {scientific(min(run.val_loss))} "
                         f"| {reached} | {scientific(score) if score else ''} |")
    return "\n".join(lines)


def table_of_costs(theirs: dict[int, Run], ours: dict[int, Ours]) -> str:
    """Epochs and sequence-steps to 1e-2."""
    lines = ["| T | original: epochs | million sequence-steps | ours: epochs | million sequence-steps |", "|---|---|---|---|---|"]
    for t in theirs:
        cells = []
        for runs in (theirs, ours):
            first = runs[t].first(1e-2) if t in runs else None
            cells += [str(first), f"{first * EPOCH * t / 1e6:,.4g}"] if first else ["never", "-"]
        lines.append(f"| {t:,} | {' | '.join(cells)} |")
    return "\n".join(lines)


def table_of_machines(ours: dict[int, Ours]) -> str:
    """Where and how each run was made."""
    lines = ["| T | held-out sequences | epochs | seconds | computed by | processor | commit |", "|---|---|---|---|---|---|---|"]
    for t, run in ours.items():
        result = run.result
        threads = f"{result['threads']} thread{'s' * (result['threads'] != 1)}"
        lines.append(f"| {t:,} | {run.config.dataset.n_held_out:,} | {result['epochs']} | {result['seconds']:,.0f} | "
                     f"{result['backend']}, {threads} | {result['processor']} | {COMMITS.get(t, '')} |")
    return "\n".join(lines)


# --- ten seeds at T = 1000 -------------------------------------------------------------------------------------------

ENDS = {"solved": "below 1e-2", "early_stopping": "patience", "epochs": "100 epochs", "diverged": "diverged"}
ASKED_SEEDS = 10


def section_on_seeds() -> str:
    """What any number of finished seeds says."""
    command = "    python benchmarks/original_seeds.py    # resumable; --workers, --threads, --seeds"
    runs = json.loads(SEEDS.read_text(encoding="utf-8"))["runs"] if SEEDS.exists() else []
    if not runs:
        return f"No seed of this experiment has ended yet.\n\n{command}"
    solved = [run for run in runs if run["reached"]["1e-2"]]
    share = proportion(len(solved), len(runs))
    so_far = "" if len(runs) >= ASKED_SEEDS else " so far"
    lines = [f"**{share.successes} of {share.n} seeds{so_far}** came below a validation MSE of 1e-2 (Wilson's 95% interval of the "
             f"share: {share.low:.0%} to {share.high:.0%})."]
    if solved:
        epochs = sorted(run["reached"]["1e-2"]["epoch"] for run in solved)
        spread = f"epoch {epochs[0]}" if len(epochs) == 1 else f"epochs {', '.join(map(str, epochs))}"
        lines.append(f"They got there in {spread}." if len(epochs) > 1 else f"It got there in {spread}.")
    reasons = Counter(ENDS.get(run["stop_reason"], run["stop_reason"]) for run in runs if not run["reached"]["1e-2"])
    if reasons:
        lines.append("The others ended so: " + ", ".join(f"{n} by {reason}" for reason, n in reasons.items()) + ".")
    head = ["| seed | epochs until below 1e-2 | ended in epoch | by | lowest validation MSE | million sequence-steps | hours | commit |",
            "|---" * 8 + "|"]
    rows = []
    for run in runs:
        reached = run["reached"]["1e-2"]
        rows.append(f"| {run['seed']} | {reached['epoch'] if reached else 'never'} | {run['epochs']} | "
                    f"{ENDS.get(run['stop_reason'], run['stop_reason'])} | {scientific(run['lowest_val_loss'])} | "
                    f"{run['sequence_steps'] / 1e6:,.0f} | {run['seconds'] / 3600:.1f} | `{run['commit']}` |")
    machines = sorted({f"{run['processor']}, {run['backend']}, {run['threads']} thread{'s' * (run['threads'] != 1)}, "
                       f"PyTorch {run['versions']['torch']}" for run in runs})
    return "\n".join([*lines, "", command, "", *head, *rows, "", f"Machine: {'; '.join(machines)}."])


# --- the page --------------------------------------------------------------------------------------------------------


def findings(theirs: dict[int, Run], ours: dict[int, Ours]) -> dict[str, str]:
    """The sentences that titles and text share, from the figures."""
    their_costs, our_costs = epochs_to(theirs), epochs_to(ours)
    steps = exponent_of({t: float(n * t) for t, n in our_costs.items()})
    first, last = min(our_costs), max(our_costs)
    solved = [t for t, run in ours.items() if min(run.val_loss) < SOLVED]
    return {
        "comparison": (f"The method solves {len(solved)} of {len(ours)} lengths, T = {max(solved):,} too, "
                       "where the original's run was stopped on the plateau"),
        "costs": (f"Longer sequences take more epochs, {our_costs[first]} at T = {first:,} and {our_costs[last]} at T = {last:,}; "
                  f"sequence-steps grow as T to the power of {steps:.1f}"),
        "power": f"{steps:.1f}",
        "their_power": f"{exponent_of({t: float(n * t) for t, n in their_costs.items()}):.1f}",
        "plateau": plateau_of(theirs, ours),
    }


def plateau_of(theirs: dict[int, Run], ours: dict[int, Ours]) -> str:
    """How much longer our plateau lasts, at the lengths that both solved."""
    a, b = epochs_to(theirs), epochs_to(ours)
    return ", ".join(f"{b[t] - a[t]} at {t:,}" for t in sorted(a.keys() & b.keys()))


def title_of(theirs: Run | None, ours: Ours) -> str:
    """Of the picture of one length."""
    def told(run: Run) -> str:
        first = run.first(1e-2)
        return f"epoch {first}" if first else f"never in {len(run.val_loss)} epochs"
    original = f"; the original's: {told(theirs)}" if theirs else ""
    return f"T = {ours.t:,}: validation MSE below 1e-2 in {told(ours)}{original}"


def draw(theirs: dict[int, Run], ours: dict[int, Ours], told: dict[str, str]) -> None:
    """All pictures of the page."""
    folders = [RUNS / str(t) for t in ours]
    PICTURES.mkdir(exist_ok=True)
    plots.draw_comparison(COMPARISON, folders, CURVES, title=told["comparison"])
    plots.draw_costs(PICTURES / "costs.png", folders, CURVES, told["costs"])
    for t, run in ours.items():
        plots.draw_curves(PICTURES / f"{t}.png", RUNS / str(t), CURVES, title_of(theirs.get(t), run))


def page(theirs: dict[int, Run], ours: dict[int, Ours], told: dict[str, str]) -> str:
    """The page in Markdown."""
    single = ", ".join(f"[{t:,}](pictures/original/{t}.png)" for t in ours)
    return f"""# The original, run again

Made from recorded runs by `make docs`; do not edit it here.

*The original* is the Keras program that this package rebuilds: an LSTM of 100 cells and one linear unit, trained with Adam
at a rate of 1e-2 on seven lengths, T = 150 to 1000. Gradients are clipped to ±10. A batch has 64 sequences. At most 100
epochs follow each other, fewer when the training loss has not fallen in ten. Always predicting the mean scores 1/6.

## Its commands

    pip install -r requirements.txt
    python main.py --mode train --config configs/config.yaml
    python main.py --mode validate --config configs/config.yaml

The YAML has the original's keys: `dataset: dt_length, t`, `train: epochs, batch, es_patience`, `artifacts`. Its seven
experiments are in [`configs/original`](../configs/original), `adding-problem train --config configs/original/300.yaml`.
Every other key is optional ([configuration](configuration.md)). `recipe: original` is the default.

## What it leaves

| the original's file | ours | what is in it |
|---|---|---|
| `config_copy.yaml` | `config_copy.yaml` | the configuration, with every default written out; it can be run again |
| `loss.pkl` | `loss.pkl` | a dict of two lists, `loss` and `val_loss`, one value an epoch |
| `loss.png` | `loss.png` | both losses, and the mean baseline |
| `model/` (TensorFlow SavedModel) | `model/` | `model.safetensors` and `model.json`; as a SavedModel: see below |
| `pred.pkl` | `pred.pkl` | a dict of arrays, `x`, `y` and `y_hat` |
| | `metrics.csv`, `result.json`, `validation.json`, `pred.png` | losses and costs, the scores, their picture |

`adding-problem import FOLDER --out RUN` makes a run folder of the original's artifacts ([import](interop.md)).

**The SavedModel.** One line more, after `pip install --constraint constraints.txt '.[tensorflow]'`, writes it:

    adding-problem export artifacts/config --to savedmodel    # artifacts/config/model/saved_model: saved_model.pb, variables/

`tf.saved_model.load("artifacts/config/model/saved_model").serve(x)` takes float32 (B, T, 2). `--to keras` writes a `.keras`
file. With `model_formats: [safetensors, savedmodel]` in the YAML, training itself leaves it.

## Its experiments

![{told["comparison"]}](pictures/original_comparison.png)

Each length on its own, with the training losses: T = {single}.

{table_of_runs(theirs, ours)}

Ours: seed 0, one run a length, scored on 100,000 new sequences; the original's saved models on 10,000. Its weights of
T = 700 are not those of its log.

    adding-problem train   --config configs/original/T.yaml --dataset.dt_length 40000 --dataset.held_out 10000 \\
        --artifacts artifacts/original/T
    adding-problem lengths artifacts/original/T --lengths T --sequences 100000
    adding-problem compare docs/runs/original/* --original docs/original_curves.json --out comparison.png

{table_of_machines(ours)}

All have 30,000 training sequences. The machines did other work too, so that the seconds are upper bounds.

## What differs

- Its comment says that 30% of the sequences are held out; its code held out 70%, and trained on 30,000 of 100,000. The
  recipe `original` holds out 30%. The files in `configs/original` hold out 70%, as its code did.
- We keep the weights of the epoch with the lowest training loss, however the run ends. The original did so only where
  it stopped early, and otherwise kept its last epoch's. The epoch that is kept is rarely the one with the lowest validation loss.
- Its masks came from a generator without a seed: its very runs cannot be made again. Here item i of a data set depends on
  the seed and i alone.
- Our plateau at 1/6 lasts longer, in epochs until below 1e-2: {told["plateau"]}. These runs are not
  independent, for all begin with the same weights. The same method in Keras 3.15 needs 4 epochs at T = 150 and 7 at T = 300
  ([one seed](results.md#against-the-originals-method-in-keras)), so that our implementation is not the whole reason.
- After the plateau the curves run together: jagged, between 1e-4 and 1e-6, with factors of ten from epoch to epoch.

## What we found of its three results

1. **The LSTM solves T = 150 to 700.** Confirmed: so do all of our runs, with lowest losses on the original's level.
2. **It fails at T = 1000.** Not confirmed. The original was stopped after epoch {len(theirs[1000].val_loss)}, when its training loss had not fallen in ten
   epochs. On the plateau that loss falls or rises by chance. Ours stood there for {ours[1000].first(1e-2) - 1} epochs, happened to be lowest late
   enough, left in epoch {ours[1000].first(1e-2)} and ended at {scientific(min(ours[1000].val_loss))}. One seed shows that the method can, not how often: see below.
3. **Difficulty grows with T.** Confirmed, in the time on the plateau and not in the error that is reached. By least squares
   over the lengths solved, sequence-steps to 1e-2 grow as T to the power of {told["power"]} in ours and of {told["their_power"]} in the original's.

![{told["costs"]}](pictures/original/costs.png)

{table_of_costs(theirs, ours)}

An epoch is 30,000 training sequences, so that a count is known to one epoch at best.

## How often does the method solve T = 1000?

Ten seeds with 30,000 training and 10,000 held-out sequences. A run ends once the validation MSE is below 1e-2, or by the
original's patience of ten epochs, or after 100 epochs.

{section_on_seeds()}"""


def main() -> None:
    """The page, on standard output."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", action="store_true", help="draw the pictures too, into docs/pictures")
    arguments = parser.parse_args()
    theirs, ours = originals(), recorded()
    told = findings(theirs, ours)
    if arguments.pictures:
        draw(theirs, ours, told)
    print(page(theirs, ours, told))


if __name__ == "__main__":
    main()
