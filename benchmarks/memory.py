"""Why is memory hard? The measurements behind docs/why_memory_is_hard.md.

    python benchmarks/memory.py    # all of it, some minutes, into docs/memory.json

LSTM(100) and a tanh RNN of 100 units, T = 100, target `sum`. `docs/make_pictures.py` draws the
record. What is measured:

    sequence    the sequence that the page follows, and the targets of 10,000 others
    gradients   d prediction / d input at every distance from the end, in untrained models
    gate        one cell of a trained LSTM, step by step, and what it would answer at each step
    drop        validation losses with and without a curriculum of lengths
    beyond      errors of two trained models at lengths they have not seen
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

import results
import torch
from torch import Tensor, nn

from adding_problem import build_model, load, load_model, sample_batch, train
from adding_problem.config import RunConfig
from adding_problem.evaluation.lengths import score_at_lengths
from adding_problem.models import AddingLSTM
from adding_problem.runs.folder import RunFolder
from adding_problem.system.device import processor, versions

T = 100
TEST_SEED = 43
SEEDS = 3  # of every curve of `drop`
GRADIENT_T, GRADIENT_SEEDS, GRADIENT_SEQUENCES = 200, 10, 32
TESTED = (100, 200, 500, 1_000, 2_000, 5_000, 10_000)
BEYOND_SEQUENCES = 256
GATE_SEQUENCES = 512

UNTRAINED: dict[str, dict[str, Any]] = {
    "tanh RNN": {"model.name": "rnn", "model.init": None},
    "LSTM, forget bias near 0": {"model.init": "torch"},
    "LSTM, forget bias 1": {"model.init": "keras"},
    "LSTM, forget biases up to log T": {"model.init": "chrono"},
}
_KERAS = {"recipe": "fast", "dataset.t": T, "model.init": "keras", "model.memory": None}
TRAINED: dict[str, dict[str, Any]] = {
    "keras": _KERAS,
    "keyed": {"recipe": "fast", "dataset.t": T},
}
# The first drop is what the page shows: no ending, and a validation loss of 1e-3 is enough.
_DROP = {
    "train.ending_steps": None,
    "train.ending_below": None,
    "train.ending_length": None,
    "train.stop_val_loss": 1e-3,
    "train.val_subset": None,
    "train.epoch_steps": 20,
    "train.budget_steps": 4_000_000,
}
CURVES: dict[str, dict[str, Any]] = {
    "curriculum": _KERAS | _DROP,
    "full length": _KERAS | _DROP | {"curriculum.start": None, "curriculum.shortest": 1},
}


def rounded(values: Tensor) -> list[float]:
    """Four digits of each, which is what a picture can show."""
    return [float(f"{value:.4g}") for value in values.tolist()]


# --- the sequence -------------------------------------------------------------------------------


def followed(n: int = GATE_SEQUENCES) -> tuple[int, list[int]]:
    """Index and marked steps of the test sequence that the page follows.

    Both marked values are above 0.7, so that the answer is far from the mean, and the marks are
    nearest to T/5 and 7T/10.
    """
    x, _ = sample_batch(n, T, seed=TEST_SEED)
    marks = [torch.nonzero(each[:, 1])[:, 0].tolist() for each in x]
    clear = [i for i in range(n) if x[i, marks[i], 0].min() > 0.7]
    best = min(clear, key=lambda i: abs(marks[i][0] - T // 5) + abs(marks[i][1] - 7 * T // 10))
    return best, marks[best]


def measure_sequence() -> dict[str, Any]:
    """The values and marks that the page follows, and a histogram of 10,000 targets."""
    index, marks = followed()
    (x,), (y,) = sample_batch(1, T, seed=TEST_SEED, start=index)
    _, targets = sample_batch(10_000, T, seed=TEST_SEED)
    return {
        "index": index,
        "values": rounded(x[:, 0]),
        "marks": marks,
        "target": round(y.item(), 4),
        "targets": torch.histc(targets, 40, 0, 2).int().tolist(),
    }


# --- gradients ----------------------------------------------------------------------------------


def gradient_norms(model: nn.Module, x: Tensor) -> Tensor:
    """Norms (T,) of the gradients of predictions by the input at each step, averaged over (B,).

    Args:
        model: (B, T, 2) -> (B, 1).
        x: sequences (B, T, 2).
    """
    x = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model(x).sum(), x)
    norms: Tensor = gradient.norm(dim=2).mean(dim=0)
    return norms


def measure_gradients() -> dict[str, Any]:
    """By model, the median over seeds for each distance from the end; float64."""
    x, _ = sample_batch(GRADIENT_SEQUENCES, GRADIENT_T, seed=TEST_SEED)
    curves = {}
    for name, overrides in UNTRAINED.items():
        config = load(overrides=overrides).model
        norms = [
            gradient_norms(
                build_model(config, seed=seed, length=GRADIENT_T).double(), x.double()
            ).flip(0)
            for seed in range(GRADIENT_SEEDS)
        ]
        curves[name] = rounded(torch.stack(norms).median(dim=0).values)
    return {
        "t": GRADIENT_T,
        "seeds": GRADIENT_SEEDS,
        "sequences": GRADIENT_SEQUENCES,
        "by_distance": curves,
    }


# --- a gate -------------------------------------------------------------------------------------


@torch.no_grad()
def trace(model: AddingLSTM, x: Tensor) -> dict[str, Tensor]:
    """Gates and cells (B, T, H) of sequences (B, T, 2), and the answer (B, T) after each step."""
    kernel, recurrent, bias, second_bias = model.lstm.parameters()
    hidden = x.new_zeros(len(x), model.hidden)
    cells = torch.zeros_like(hidden)
    steps: dict[str, list[Tensor]] = {"input": [], "forget": [], "cell": [], "answer": []}
    for at in range(x.shape[1]):
        sums = x[:, at] @ kernel.T + hidden @ recurrent.T + bias + second_bias
        i, f, g, o = sums.chunk(4, dim=1)
        cells = f.sigmoid() * cells + i.sigmoid() * g.tanh()
        hidden = o.sigmoid() * cells.tanh()
        answer = model.readout(hidden)[:, 0]
        for name, value in zip(steps, (i.sigmoid(), f.sigmoid(), cells, answer), strict=True):
            steps[name].append(value)
    return {name: torch.stack(values, dim=1) for name, values in steps.items()}


def telling_cell(gates: Tensor, cells: Tensor, x: Tensor, y: Tensor) -> int:
    """The cell that tells most of the target, among those whose input gates open at the marks.

    Its last state has the highest correlation with the target, of either sign. Its gate is wider
    open at the marks than elsewhere by half.

    Args:
        gates, cells: (B, T, H).
        x: (B, T, 2).
        y: (B, 1).
    """
    marked = x[..., 1] == 1
    opens = gates[marked].mean(dim=0) - gates[~marked].mean(dim=0) > 0.5
    correlations = torch.corrcoef(torch.cat([y.T, cells[:, -1].T]))[0, 1:].abs()
    return int(torch.where(opens, correlations, -1).argmax())


def measure_gate(folder: Path, config: RunConfig) -> dict[str, Any]:
    """One cell of a trained LSTM on the sequence of the page, and its gate before training."""
    trained = load_model(folder)
    untrained = build_model(config.model, seed=config.seed, length=T)
    assert isinstance(trained, AddingLSTM)
    assert isinstance(untrained, AddingLSTM)
    x, y = sample_batch(GATE_SEQUENCES, T, seed=TEST_SEED)
    index, _ = followed()
    after, before = trace(trained, x), trace(untrained, x)
    cell = telling_cell(after["input"], after["cell"], x, y)
    marked = x[..., 1] == 1
    gates = after["input"][..., cell]
    return {
        "cell": cell,
        "mean_at_marks": round(gates[marked].mean().item(), 4),
        "mean_elsewhere": round(gates[~marked].mean().item(), 4),
        "untrained_input": rounded(before["input"][index, :, cell]),
        **{name: rounded(after[name][index, :, cell]) for name in ("input", "forget", "cell")},
        "answer": rounded(after["answer"][index]),
    }


# --- training runs ------------------------------------------------------------------------------


def trained(name: str, overrides: dict[str, Any], folder: Path) -> tuple[Path, RunConfig]:
    """A finished run folder, and its configuration; a run that is there is not made again."""
    config = load(overrides=overrides | {"threads": 1, "artifacts": str(folder / name)})
    train(config)
    return folder / name, config


def measure_drop(folder: Path) -> dict[str, Any]:
    """Validation losses by sequence-steps; and the median over seeds of the steps to 1e-2."""
    curves: dict[str, Any] = {}
    for name, overrides in CURVES.items():
        runs = []
        for seed in range(SEEDS):
            path, _ = trained(
                f"{name}-{seed}".replace(" ", "-"), overrides | {"seed": seed}, folder
            )
            runs.append(
                [
                    [row.sequence_steps, float(f"{row.val_loss:.4g}")]
                    for row in RunFolder(path).read_history()
                ]
            )
        reached = [next((steps for steps, loss in run if loss < 1e-2), None) for run in runs]
        known = [steps for steps in reached if steps is not None]
        curves[name] = {
            "runs": runs,
            "to_1e-2": reached,
            "median": statistics.median(known) if len(known) == SEEDS else None,
        }
    return curves


def measure_beyond(runs: dict[str, tuple[Path, RunConfig]]) -> dict[str, Any]:
    """By model, errors by length on test sequences, and the longest sequence of the training."""
    fields = ("t", "sequences", "mse", "mse_standard_error")
    return {
        name: {
            "longest": RunFolder(path).read_result().longest_length,
            "scores": [
                results.picked(score, fields)
                for score in score_at_lengths(config, TESTED, BEYOND_SEQUENCES)
            ],
        }
        for name, (path, config) in runs.items()
    }


def main() -> None:
    """Measure, and write the record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=Path, default=Path("artifacts/memory"), help="run folders")
    parser.add_argument("--out", type=Path, default=Path("docs/memory.json"))
    arguments = parser.parse_args()
    runs = {name: trained(name, values, arguments.runs) for name, values in TRAINED.items()}
    record = {
        "command": "python benchmarks/memory.py",
        "commit": results.commit(),
        "processor": processor(),
        "threads": 1,
        "versions": versions(),
        "t": T,
        "seeds": {"training": 0, "test": TEST_SEED, "drop": list(range(SEEDS))},
        "sequence": measure_sequence(),
        "gradients": measure_gradients(),
        "gate": measure_gate(*runs["keras"]),
        "drop": measure_drop(arguments.runs),
        "beyond": measure_beyond(runs),
    }
    results.write(arguments.out, record)


if __name__ == "__main__":
    main()
