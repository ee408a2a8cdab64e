"""What of the recipe `fast` matters, and what else might help? One change at a time.

    python benchmarks/ablations.py                          # what docs/ablations.json lacks
    python benchmarks/ablations.py --variations base no-recurrence --seeds 8
    python benchmarks/ablations.py --table docs/ablations.json

LSTM(100), T = 1000, target `difference`, six noise columns; odd seeds have value and mark
exchanged. A run ends by the recipe's rule, at the budget of sequence-steps or after 200 epochs, and
is then scored on test sequences. A length is left out once a shorter one has an error above 0.1.
Changes of a configuration key are trained by `train`. The others are trained by `learn`, a short
loop that gives the numbers of `train` where nothing is changed. Runs that the record holds are not
made again.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import results
import torch
from torch import Tensor, nn

from adding_problem import config, models
from adding_problem.analysis.statistics import proportion
from adding_problem.config import RunConfig
from adding_problem.evaluation.lengths import score_at_lengths
from adding_problem.experiments.train import train
from adding_problem.models import AddingLSTM
from adding_problem.runs.folder import RunFolder
from adding_problem.runs.records import RunResult, StopReason
from adding_problem.system.device import processor, resolve_backend, versions
from adding_problem.system.seeding import stream_seed
from adding_problem.system.threads import cpu_settings
from adding_problem.task.sampling import sample_batch
from adding_problem.task.thresholds import SOLVED
from adding_problem.training import optim
from adding_problem.training.schedule import Schedule, advance
from adding_problem.training.state import TrainingState
from adding_problem.training.validation import validate_epoch

T = 1_000
SEQUENCES = {T: 1_000, 10_000: 64, 100_000: 16}  # scored, by length
EPOCHS = 200  # most of a run: one that stays at short lengths spends its time on validation
LOST = 0.1  # an error above which longer sequences need not be tried

Run = dict[str, Any]


# --- ideas: other ways to take a step -------------------------------------------------------------


class Recipe:
    """Adam on the mean squared error, as `train` does it. An idea overrides a part."""

    falling = True  # whether the learning rate falls in the ending

    def __init__(self, wanted: RunConfig, model: AddingLSTM) -> None:
        self.wanted = wanted
        self.model = model
        self.weights = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = optim.optimizer_for(wanted.train, model)

    def step(self, schedule: Schedule, x: Tensor, y: Tensor) -> float:
        """Change the weights by one step; the mean squared error before it."""
        mse, objective = self.losses(x, y)
        self.model.zero_grad()
        objective.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.weights, self.wanted.train.clip_norm or math.inf)
        followed = schedule if self.falling else replace(schedule, decay_steps=0)
        self.descend(followed.learning_rate(self.wanted))
        return mse.item()

    def losses(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The mean squared error, and what is minimised."""
        mse = nn.functional.mse_loss(self.model(x), y)
        return mse, mse

    def descend(self, rate: float) -> None:
        """Change the weights by their gradients."""
        self.optimizer.learning_rate = rate
        self.optimizer.step()

    def evaluation_weights(self) -> AbstractContextManager[None]:
        """A context in which the model has the weights that are validated and kept."""
        return nullcontext()


class ConstantRate(Recipe):
    """The ending's lengths grow, and its rate stays."""

    falling = False


class FewCells(Recipe):
    """Group lasso on the outgoing weights of each cell: a proximal step, which gives exact
    zeros."""

    strength = 0.1

    def descend(self, rate: float) -> None:
        super().descend(rate)
        shrink_cells(self.model, self.strength * rate)


def layer_of(model: AddingLSTM) -> Any:
    """The LSTM layer, of which PyTorch does not declare the weights."""
    return model.lstm


@torch.no_grad()
def shrink_cells(model: AddingLSTM, by: float) -> None:
    """Reduce the norm of each cell's outgoing weights by so much, to no less than 0."""
    outgoing = layer_of(model).weight_hh_l0, model.readout.weight
    kept = (1 - by / torch.cat(outgoing).norm(dim=0)).clamp(min=0)
    for weights in outgoing:
        weights.mul_(kept)


class ShutGates(Recipe):
    """A penalty on the mean activity of the input gates."""

    strength = 1e-2

    def losses(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        outputs, _ = layer_of(self.model)(x)
        mse = nn.functional.mse_loss(self.model.readout(outputs[:, -1]), y)
        return mse, mse + self.strength * input_gates(self.model, x, outputs).mean()


def input_gates(model: AddingLSTM, x: Tensor, outputs: Tensor) -> Tensor:
    """Activities (B, T, H) of the input gates over sequences x (B, T, I) with outputs (B, T, H)."""
    lstm, hidden = layer_of(model), model.hidden
    previous = nn.functional.pad(outputs[:, :-1], (0, 0, 1, 0))
    driven = nn.functional.linear(x, lstm.weight_ih_l0[:hidden], lstm.bias_ih_l0[:hidden])
    return torch.sigmoid(driven + nn.functional.linear(previous, lstm.weight_hh_l0[:hidden]))


class StatePassing(Recipe):
    """Half of each batch starts from the state after a stretch without marks.

    The stretch is four times as long as the batch's sequences and is passed without gradient. See
    Buitrago Ruiz & Gu 2025 (arXiv 2507.02782). The budget does not count its steps.
    """

    stretch = 4

    def __init__(self, wanted: RunConfig, model: AddingLSTM) -> None:
        super().__init__(wanted, model)
        self.seen = 0

    def losses(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        state = self.state_after_stretch(len(x) // 2, self.stretch * x.shape[1])
        fresh = len(x) - len(x) // 2
        h, c = (nn.functional.pad(part, (0, 0, fresh, 0)) for part in state)
        mse = nn.functional.mse_loss(self.model.answer(self.model.advance(x, (h, c))), y)
        return mse, mse

    @torch.no_grad()
    def state_after_stretch(self, n: int, length: int) -> tuple[Tensor, Tensor]:
        """The state (1, n, H) twice, h and c, after so many steps of which none is marked."""
        task = self.wanted.task
        seed = self.wanted.seed + 20_000  # of sequences that nothing else uses
        x, _ = sample_batch(n, length, seed=seed, start=self.seen, task=task)
        self.seen += n
        x[..., 0 if task.mix == "swap" else 1] = 0
        state = self.model.advance(x)
        assert isinstance(state, tuple)
        return state


class Average(Recipe):
    """The weights are averaged over the ending, its last hundred steps or so counting most."""

    window = 100

    def __init__(self, wanted: RunConfig, model: AddingLSTM) -> None:
        super().__init__(wanted, model)
        self.mean = [w.detach().clone() for w in self.weights]
        self.averaged = 0

    def step(self, schedule: Schedule, x: Tensor, y: Tensor) -> float:
        mse = super().step(schedule, x, y)
        self.averaged = min(self.window, self.averaged + 1) if schedule.decay_steps else 1
        for mean, weights in zip(self.mean, self.weights, strict=True):
            mean.lerp_(weights.detach(), 1 / self.averaged)
        return mse

    def evaluation_weights(self) -> AbstractContextManager[None]:
        return set_weights(self.weights, self.mean)


class AverageForRate(Average):
    """The same in place of a rate that falls."""

    falling = False


class ScheduleFree(Recipe):
    """Schedule-free Adam (Defazio et al. 2024, arXiv 2405.15682): the mean in place of a falling
    rate.

    z takes Adam's steps without momentum, x is the mean of z, and gradients are taken between them.
    """

    falling = False
    towards_mean = 0.9
    decay, epsilon = 0.999, 1e-7

    def __init__(self, wanted: RunConfig, model: AddingLSTM) -> None:
        super().__init__(wanted, model)
        self.z = [w.detach().clone() for w in self.weights]
        self.x = [w.detach().clone() for w in self.weights]
        self.squares = [torch.zeros_like(w) for w in self.weights]
        self.steps = 0
        self.total = 0.0

    @torch.no_grad()
    def descend(self, rate: float) -> None:
        self.steps += 1
        self.total += rate**2
        correction = 1 - self.decay**self.steps
        for y, z, x, squares in zip(self.weights, self.z, self.x, self.squares, strict=True):
            assert y.grad is not None
            squares.lerp_(y.grad**2, 1 - self.decay)
            z.addcdiv_(y.grad, (squares / correction).sqrt() + self.epsilon, value=-rate)
            x.lerp_(z, rate**2 / self.total)
            y.copy_(z.lerp(x, self.towards_mean))

    def evaluation_weights(self) -> AbstractContextManager[None]:
        return set_weights(self.weights, self.x)


class Muon(Recipe):
    """Muon (Jordan et al. 2024) for both kernels of the LSTM, Adam for its biases and the readout.

    A step of an (R, C) kernel has the root mean square `size`, by the scale of Liu et al. 2025
    (arXiv 2502.16982). With their 0.2 the loss stays at 1e-2 at T = 20 (seed 0). PyTorch's Muon
    computes in bfloat16, which is slow on a CPU.
    """

    momentum, size = 0.95, 0.05

    def __init__(self, wanted: RunConfig, model: AddingLSTM) -> None:
        super().__init__(wanted, model)
        lstm = layer_of(model)
        self.kernels: list[nn.Parameter] = [lstm.weight_ih_l0, lstm.weight_hh_l0]
        self.means = [torch.zeros_like(kernel) for kernel in self.kernels]
        self.optimizer.parameters = [
            w for w in self.weights if all(w is not k for k in self.kernels)
        ]

    @torch.no_grad()
    def descend(self, rate: float) -> None:
        super().descend(rate)
        for kernel, mean in zip(self.kernels, self.means, strict=True):
            assert kernel.grad is not None
            mean.lerp_(kernel.grad, 1 - self.momentum)
            direction = orthogonal(kernel.grad.lerp(mean, self.momentum))
            kernel.sub_(direction, alpha=rate * self.size * math.sqrt(max(kernel.shape)))


def orthogonal(matrix: Tensor) -> Tensor:
    """About U V' of the singular value decomposition U S V' of a tall matrix, by Newton and Schulz.

    Five iterations of Jordan's polynomial take singular values from 0.01 to 1 of the norm to 0.7 to
    1.2.
    """
    wide: Tensor = matrix.T / (matrix.norm() + 1e-7)
    for _ in range(5):
        gram = wide @ wide.T
        wide = 3.4445 * wide + (2.0315 * gram @ gram - 4.775 * gram) @ wide
    return wide.T


@contextmanager
def set_weights(weights: list[nn.Parameter], values: list[Tensor]) -> Iterator[None]:
    """Give weights other values inside the block."""
    kept = [w.detach().clone() for w in weights]
    with torch.no_grad():
        for w, value in zip(weights, values, strict=True):
            w.copy_(value)
        yield
        for w, value in zip(weights, kept, strict=True):
            w.copy_(value)


# --- ablations: other initial weights -------------------------------------------------------------


Start = Callable[[AddingLSTM, torch.Generator], None]


def gates_open(model: AddingLSTM, generator: torch.Generator) -> None:
    layer_of(model).bias_ih_l0[: model.hidden] = 0


def keys_of_all_columns(model: AddingLSTM, generator: torch.Generator) -> None:
    limit = 2 * math.log(model.memory or T)
    layer_of(model).weight_ih_l0[: model.hidden].uniform_(-limit, limit, generator=generator)


def no_keys(model: AddingLSTM, generator: torch.Generator) -> None:
    layer_of(model).weight_ih_l0[: model.hidden].uniform_(-0.1, 0.1, generator=generator)


def no_recurrence(model: AddingLSTM, generator: torch.Generator) -> None:
    layer_of(model).weight_hh_l0.zero_()


def full_recurrence(model: AddingLSTM, generator: torch.Generator) -> None:
    layer_of(model).weight_hh_l0.mul_(1 / 0.3)


@dataclass(frozen=True)
class Variation:
    """One change against the recipe.

    Attributes:
        values: configuration keys.
        start: changes the initial weights.
        learner: how a step is taken.
        seeds: as many as are run unless the command says otherwise.
    """

    name: str
    change: str
    values: dict[str, Any] = field(default_factory=dict)
    start: Start | None = None
    learner: type[Recipe] = Recipe
    seeds: int = 5


def _memory(exponent: int) -> Variation:
    change = f"memory 10^{exponent} in place of 10^9"
    return Variation(f"memory-1e{exponent}", change, {"model.memory": 10**exponent})


def _noise(columns: int) -> Variation:
    change = f"{columns} noise columns in place of 6"
    return Variation(f"noise-{columns}", change, {"dataset.noise_columns": columns})


def _initial(name: str, change: str, start: Start) -> Variation:
    return Variation(name, change, start=start)


def _idea(name: str, change: str, learner: type[Recipe]) -> Variation:
    return Variation(name, change, learner=learner, seeds=4)


_VARIATIONS = (
    Variation("base", "none", seeds=8),
    _memory(3),
    _memory(6),
    _memory(12),
    _initial("gates-open", "input gates not shut: bias 0 in place of -L", gates_open),
    _initial("all-columns", "keys U(-2L, 2L) in all columns", keys_of_all_columns),
    _initial("no-keys", "weights U(-0.1, 0.1) in place of keys, gates shut", no_keys),
    _initial("no-recurrence", "recurrent weights begin at 0 in place of 0.3", no_recurrence),
    _initial("full-recurrence", "recurrent weights of scale 1 in place of 0.3", full_recurrence),
    Variation("no-ending", "no ending", {"train.ending_steps": None}),
    Variation("constant-ending", "the rate stays in the ending", learner=ConstantRate),
    _noise(0),
    _noise(2),
    _noise(15),
    _noise(30),
    _idea("group-lasso", "group lasso on each cell's outgoing weights", FewCells),
    _idea("gate-penalty", "penalty on the mean activity of the input gates", ShutGates),
    _idea(
        "state-passing",
        "half of each batch starts from the state after unmarked steps",
        StatePassing,
    ),
    _idea("average", "weights averaged over the ending", Average),
    _idea("average-for-rate", "the same, and the rate stays", AverageForRate),
    _idea("schedule-free", "schedule-free Adam", ScheduleFree),
    _idea("muon", "Muon for the kernels", Muon),
)
VARIATIONS = {variation.name: variation for variation in _VARIATIONS}


# --- training and scoring -------------------------------------------------------------------------


def configuration(run: Run, arguments: argparse.Namespace) -> RunConfig:
    """What a run of the record trains; of a change that is no key, what it is a change of."""
    name, seed = run["variation"], run["seed"]
    exchanged = {"dataset.mix": "swap"} if seed % 2 else {}
    values = {
        "recipe": "fast",
        "dataset.t": T,
        "dataset.target": "difference",
        "dataset.noise_columns": 6,
        "seed": seed,
        "validate.seed": 10_000 + seed,
        "threads": 1,
        "train.budget_steps": arguments.budget,
        "train.epochs": EPOCHS,
        "artifacts": str(arguments.runs / name / str(seed)),
    }
    return config.load(None, values | exchanged | VARIATIONS[name].values)


def make(run: Run, arguments: argparse.Namespace) -> Run:
    """The run, trained and scored."""
    wanted, variation = configuration(run, arguments), VARIATIONS[run["variation"]]
    if variation.start is None and variation.learner is Recipe:
        result = train(wanted, resume=True)
    else:
        result = learn(wanted, variation)
    kept = ("stop_reason", "reached", "sequence_steps", "seconds", "longest_length", "threads")
    machine = ("processor", "versions")
    errors: dict[str, Any] = {}
    for length, n in SEQUENCES.items():
        (score,) = score_at_lengths(wanted, [length], n)
        errors[str(length)] = results.picked(score, ("mse", "mse_standard_error", "sequences"))
        if not score.mse < LOST:
            break
    return run | {
        "mix": wanted.dataset.mix,
        "budget": arguments.budget,
        "workers": arguments.workers,
        "commit": results.commit(),
        **results.picked(result, (*kept, *machine)),
        "cells": cells_in_use(RunFolder(wanted.artifacts)),
        "errors": errors,
    }


def cells_in_use(folder: RunFolder) -> int:
    """Cells of a trained LSTM with an outgoing weight that is not 0."""
    weights, _ = folder.read_model()
    outgoing = torch.cat([weights["lstm.weight_hh_l0"], weights["readout.weight"]])
    return int(outgoing.any(dim=0).sum())


def learn(wanted: RunConfig, variation: Variation) -> RunResult:
    """Train with a change and leave a run folder; an interrupted run starts again.

    Without a change the losses and the weights are those of `train`.

    Args:
        wanted: a configuration of the LSTM on fresh sequences, whose run has an ending.
        variation: of which `start` and `learner` are used.
    """
    folder = RunFolder(wanted.artifacts)
    with cpu_settings(wanted.threads) as threads, folder.locked():
        folder.open(wanted, overwrite=True)
        state, reason = _train(wanted, variation)
        folder.write_history(state.rows)
        description = models.describe(state.model) | {"versions": versions()}
        folder.write_model(state.best_weights, description)
        best = max(state.stopping.best_epoch, 1)
        result = RunResult.of(
            wanted,
            state.rows,
            best,
            reason,
            longest_length=max(row.longest_length for row in state.rows[:best]),
            parameters=description["parameters"],
            device="cpu",
            backend=getattr(state.model, "backend", "torch"),
            threads=threads,
            processor=processor(),
            versions=versions(),
        )
        folder.write_result(result)
    return result


def _train(wanted: RunConfig, variation: Variation) -> tuple[TrainingState, StopReason]:
    """The loop: epochs of training and validation until the run ends, and why it ended."""
    cpu = torch.device("cpu")
    state = TrainingState.fresh(wanted, cpu, resolve_backend(wanted.backend, cpu))
    model = state.model
    assert isinstance(model, AddingLSTM)
    if variation.start is not None:
        seed = stream_seed(wanted.seed, "initialisation")
        with torch.no_grad():
            variation.start(model, torch.Generator().manual_seed(seed))
    learner = variation.learner(wanted, model)
    state.start_clock()
    while (reason := state.stop_reason()) is None:
        model.train()
        while (batch := state.next_batch()) is not None:
            loss = learner.step(state.schedule, batch.x, batch.y)
            state.schedule = advance(state.schedule, loss, wanted)
            state.sums = state.sums.plus(loss, batch)
        with learner.evaluation_weights():
            validation = validate_epoch(model, wanted, state.rows, state.schedule, lambda: None)
            state.end_epoch(validation)
    return state, reason


# --- the table ------------------------------------------------------------------------------------


def table(runs: list[Run]) -> str:
    """Markdown: a row for each variation; medians, and ranges in parentheses."""
    head = [
        "variation",
        "change",
        "solved at T = 1,000",
        "sequence-steps to 1e-3",
        *(f"error at {length:,}" for length in SEQUENCES),
        "hold at 100,000",
        "cells in use",
    ]
    rows = []
    for variation in VARIATIONS.values():
        group = [run for run in runs if run["variation"] == variation.name]
        if group:
            rows.append([f"`{variation.name}`", variation.change, *_cells(group)])
    return results.markdown(head, rows)


def _cells(group: list[Run]) -> Iterator[str]:
    yield _proportion([run["errors"][str(T)]["mse"] < SOLVED for run in group])
    costs = [cost["sequence_steps"] for run in group if (cost := run["reached"]["1e-3"])]
    yield results.median_and_range(costs, "{:,.0f}".format) if costs else "never"
    for length in SEQUENCES:
        scored = [
            run["errors"][str(length)]["mse"] for run in group if str(length) in run["errors"]
        ]
        finite = [mse for mse in scored if math.isfinite(mse)]
        spread = [results.median_and_range(finite, "{:.1e}".format)] if finite else []
        lost = [f"{len(group) - len(finite)} lost"] if len(finite) < len(group) else []
        yield "; ".join(spread + lost)
    yield _proportion([_holds(run, max(SEQUENCES)) for run in group])
    yield results.median_and_range([run["cells"] for run in group], "{:.0f}".format)


def _holds(run: Run, length: int) -> bool:
    """Whether the 95% interval of the error lies below 1e-3."""
    error = run["errors"].get(str(length))
    return bool(error) and results.upper_bound(error) < SOLVED


def _proportion(came: list[bool]) -> str:
    return str(proportion(sum(came), len(came)))


# --- the command ----------------------------------------------------------------------------------


def main() -> None:
    """Make what the record lacks, or print its table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--variations", nargs="+", default=list(VARIATIONS), choices=list(VARIATIONS))
    add("--seeds", type=int, help="of each; default: 8 of base, 5 of an ablation, 4 of an idea")
    add("--budget", type=int, default=2_000_000, help="sequence-steps of a run")
    add("--workers", type=int, default=2, help="runs at a time, of one thread each")
    add("--runs", type=Path, default=Path("artifacts/ablations"), help="where the run folders go")
    add("--out", type=Path, default=Path("docs/ablations.json"))
    add("--table", type=Path, help="print the table of this record, and make no runs")
    arguments = parser.parse_args()
    if arguments.table:
        print(table(results.read(arguments.table)))
        return
    held = {_key(run) for run in results.read(arguments.out)}
    asked = [
        {"variation": name, "seed": seed}
        for name in arguments.variations
        for seed in range(arguments.seeds or VARIATIONS[name].seeds)
    ]
    todo = sorted((run for run in asked if _key(run) not in held), key=lambda run: run["seed"])
    _make_all(todo, arguments)
    print(table(results.read(arguments.out)))


def _make_all(todo: list[Run], arguments: argparse.Namespace) -> None:
    """Make these runs, and write the record after each."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.workers, mp_context=context) as pool:
        futures = [pool.submit(make, run, arguments) for run in todo]
        for number, future in enumerate(as_completed(futures), 1):
            done = future.result()
            runs = sorted([*results.read(arguments.out), done], key=_key)
            results.write(
                arguments.out, {"command": "python benchmarks/ablations.py", "runs": runs}
            )
            errors = ", ".join(f"{t}: {error['mse']:.1e}" for t, error in done["errors"].items())
            print(
                f"{number} of {len(todo)}: {done['variation']}, seed {done['seed']}: "
                f"{done['stop_reason']}, {done['sequence_steps']:,} sequence-steps, "
                f"{done['seconds']:.1f} s; {errors}",
                flush=True,
            )


def _key(run: Run) -> tuple[str, int]:
    return run["variation"], run["seed"]


if __name__ == "__main__":
    main()
