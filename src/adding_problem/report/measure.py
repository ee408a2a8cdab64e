"""What trained models show when they are scored: errors, other lengths, gradients, cell states."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from adding_problem.errors import AddingProblemError, printable
from adding_problem.evaluation.evaluate import Sequences, evaluate, score_of
from adding_problem.evaluation.load_model import load_model
from adding_problem.models import AddingLSTM
from adding_problem.report.runs import Run
from adding_problem.runs.records import Score
from adding_problem.system.device import resolve_backend
from adding_problem.system.threads import cpu_settings
from adding_problem.task.data_sets import affordable
from adding_problem.task.sampling import sample_batch, unmix
from adding_problem.task.variants import Task

__all__ = ["Measured", "Memory", "default_lengths", "measure", "pack_lstm", "slopes", "thinned"]

# A score costs at most so many sequence-steps, unless the fewest sequences take more.
_SCORE_STEPS, _FEWEST = 500_000, 64
_LONG, _FEWEST_LONG = 20_000, 16  # longer lengths are tested only when they are asked for
_MOST_LENGTHS = 12  # of the trained ones, unless the caller names lengths
_MEMORY_STEPS = 2_000  # longest sequence whose gradient is taken
_COLUMNS, _CELLS = 600, 48  # of the picture of the cell states
_MOST_PLAYED = 128  # cells of a model that runs in the page: 0.4 MB of it


@dataclass(frozen=True)
class Memory:
    """How a prediction depends on each step of one sequence.

    Attributes:
        t: length of the sequence.
        marks: its marked steps.
        target, prediction: the right answer and the model's.
        value_gradient, mark_gradient: (T,), absolute derivatives of the prediction by the value and
            by the mark of each step.
        cells: (C, T), states of the cells of an LSTM that move most; None for other models, and
            where one is not finite.
        right_gradient: absolute derivative of the right answer by the value at each of `marks`.
    """

    t: int
    marks: list[int]
    target: float
    prediction: float
    value_gradient: NDArray[np.float32]
    mark_gradient: NDArray[np.float32]
    cells: NDArray[np.float32] | None
    right_gradient: list[float]


@dataclass(frozen=True)
class Measured:
    """A model's scores, or why there are none.

    Attributes:
        run: whose model it is.
        y, y_hat: targets and predictions (n,) at its own length.
        mse: mean squared error by tested length.
        memory: None for a model without gradients.
        weights: of an LSTM that can run in the page, see `pack_lstm`.
        problem: why there are no scores; empty where there are.
    """

    run: Run
    y: NDArray[np.float32]
    y_hat: NDArray[np.float32]
    mse: dict[int, float]
    memory: Memory | None
    weights: dict[str, Any] | None
    problem: str = ""

    @property
    def score(self) -> Score:
        """At its own length."""
        return _score(self.run, self.run.t, self.y, self.y_hat)


def default_lengths(runs: Sequence[Run]) -> list[int]:
    """The runs' lengths, a dozen at most, and two, five and ten times the longest.

    None is above 20,000.
    """
    lengths = sorted({run.t for run in runs if run.t <= _LONG}) or [_LONG // 20]
    if len(lengths) > _MOST_LENGTHS:
        places = np.linspace(0, len(lengths) - 1, _MOST_LENGTHS)
        lengths = [lengths[round(place)] for place in places]
    longer = [lengths[-1] * factor for factor in (2, 5, 10)]
    return lengths + [t for t in longer if t <= _LONG]


def measure(
    runs: Sequence[Run],
    lengths: Sequence[int],
    n: int,
    *,
    threads: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Measured]:
    """Score the models of these runs. What went wrong with a model is in its `problem`.

    Args:
        runs: finished ones.
        lengths: T to test at; one that a model does not accept is left out.
        n: sequences at each. Long lengths have fewer: about 500,000 sequence-steps, but at least 64
            sequences, or 16 above T = 20,000.
        threads: on the CPU; None is one per core.
        on_progress: is told the number of scores so far, and of all.
    """
    total, done = len(runs) * (len(lengths) + 1), 0

    def step() -> None:
        nonlocal done
        done += 1
        if on_progress:
            on_progress(done, total)

    with cpu_settings(threads):
        return [_measure(run, lengths, n, step) for run in runs]


def _measure(run: Run, lengths: Sequence[int], n: int, step: Callable[[], None]) -> Measured:
    nothing, path = np.empty(0, np.float32), run.record.path
    try:
        # The fastest backend scores; PyTorch's own layer gives gradients and single steps.
        fast = load_model(path, backend=resolve_backend("auto", torch.device("cpu")))
        plain = load_model(path)
        y, y_hat = _predict(fast, run, run.t, n)
        step()
        mse = {}
        for t in lengths:
            # Some lengths are too long or too short for a model or a variant.
            with suppress(RuntimeError, ValueError):
                mse[t] = _score(run, t, *_predict(fast, run, t, n)).mse
            step()
        return Measured(run, y, y_hat, mse, _memory(plain, run), pack_lstm(plain, run))
    except (AddingProblemError, RuntimeError, MemoryError) as error:
        problem = printable(str(error).partition("\n")[0])
        return Measured(run, nothing, nothing, {}, None, None, problem)


def _sequences(run: Run, t: int, n: int) -> Sequences:
    """The first n of the test sequences on which `validate` scores."""
    return Sequences(run.config.task, t, run.config.validate.seed, n)


def _predict(
    model: nn.Module, run: Run, t: int, n: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Targets and predictions (k,) on at most n test sequences."""
    n = affordable(n, t, steps=_SCORE_STEPS, fewest=_FEWEST if t <= _LONG else _FEWEST_LONG)
    found = evaluate(model, _sequences(run, t, n))
    return found.y, found.y_hat


def _score(run: Run, t: int, y: NDArray[np.float32], y_hat: NDArray[np.float32]) -> Score:
    return score_of(_sequences(run, t, len(y)), y, y_hat)


def _memory(model: nn.Module, run: Run) -> Memory | None:
    """The gradient of one prediction; None where the model has none.

    Of the first 64 test sequences it is the one whose marks are farthest apart. It has the run's
    length, but at most 2,000 steps.
    """
    task = run.config.task
    x, y = sample_batch(64, min(run.t, _MEMORY_STEPS), seed=run.config.validate.seed, task=task)
    plain = unmix(x.numpy(), task)
    places = [np.flatnonzero(marks == 1) for marks in plain[..., 1].round(3)]
    farthest = max(range(64), key=lambda item: int(places[item][-1] - places[item][0]))
    x, y = x[farthest : farthest + 1].requires_grad_(), y[farthest]
    try:
        prediction = model(x)
        (gradient,) = torch.autograd.grad(prediction.sum(), x)
    except RuntimeError:
        return None
    values, marks = np.abs(unmix(gradient[0].numpy(), task)).T[:2]
    marked = plain[farthest, places[farthest], 0].tolist()
    return Memory(
        x.shape[1],
        places[farthest].tolist(),
        y.item(),
        prediction.item(),
        values,
        marks,
        _moving(_cell_states(model, x.detach())) if isinstance(model, AddingLSTM) else None,
        np.abs(slopes(task, marked)).tolist(),
    )


def slopes(task: Task, marked: Sequence[float]) -> list[float]:
    """The derivatives of the right answer by the marked values.

    Args:
        task: of the sequence.
        marked: in the order of their steps. In hs1997 there may be one only: the other, at the
            first pair, counts as zero.
    """
    first, second = ([0.0, *marked])[-2:]
    by_both = {
        "sum": (1.0, 1.0),
        "difference": (1.0, -1.0),
        "product": (second, first),
        "first": (1.0, 0.0),
    }[task.target]
    scale = 0.25 if task.variant == "hs1997" else 1.0
    return [scale * slope for slope in by_both[-len(marked) :]]


@torch.no_grad()
def _cell_states(model: AddingLSTM, x: Tensor) -> NDArray[np.float32]:
    """Cell states (H, T) of one sequence (1, T, C), step by step."""

    def states() -> Iterator[Tensor]:
        state = None
        for t in range(x.shape[1]):
            _, state = model.lstm(x[:, t : t + 1], state)
            yield state[1][0, 0]

    return torch.stack(list(states()), dim=1).numpy()


def _moving(cells: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """The rows that vary most, those first; None where the model diverged."""
    if not np.isfinite(cells).all():
        return None
    return cells[np.argsort(-cells.std(axis=1), kind="stable")[:_CELLS]]


def pack_lstm(model: nn.Module, run: Run) -> dict[str, Any] | None:
    """Weights of an LSTM for the page, base64 of little-endian float32.

    They are, in this order: input kernel (4H, 2), recurrent kernel (4H, H), bias (4H,), readout
    (H,), its bias (1,); gates i, f, g, o. Where inputs are mixed the weights are those for plain
    ones: value and mark.

    Returns:
        The weights and the number of cells. None for other models, for more than 128 cells, for
        `hs1997`, and for noise columns.
    """
    task = run.config.task
    if (
        not isinstance(model, AddingLSTM)
        or model.hidden > _MOST_PLAYED
        or task.variant == "hs1997"
        or task.noise_columns
    ):
        return None
    kernel, recurrent, bias, second_bias = (each.detach() for each in model.lstm.parameters())
    kernel = torch.from_numpy(unmix(kernel.numpy(), task).copy())
    parts = [
        kernel,
        recurrent,
        bias + second_bias,
        model.readout.weight.detach(),
        model.readout.bias.detach(),
    ]
    packed = torch.cat([part.reshape(-1) for part in parts]).numpy().astype("<f4").tobytes()
    return {"hidden": model.hidden, "weights": base64.b64encode(packed).decode()}


def thinned(values: NDArray[np.float32], columns: int = _COLUMNS) -> NDArray[np.float32]:
    """(..., T) as (..., columns) at most: of each stretch the value of largest size."""
    edges = np.linspace(0, values.shape[-1], min(columns, values.shape[-1]) + 1).astype(int)
    largest = []
    for a, b in pairwise(edges):
        part = values[..., a:b]
        place = np.abs(part).argmax(-1, keepdims=True)
        largest.append(np.take_along_axis(part, place, -1)[..., 0])
    return np.stack(largest, -1)
