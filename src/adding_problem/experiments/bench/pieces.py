"""The pieces of work of a bench. Each leaves one record, and is done once that is there.

    try_rate       one learning rate on one target
    find_horizon   one seed on one target, and its model at lengths far beyond those of training
    certify        what the initial weights give the model
    measure        parameters, state, FLOPs and speed

A piece has a folder, for its record and its runs. It writes nowhere else, so that another machine
can do it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

from adding_problem.config import RunConfig
from adding_problem.errors import AddingProblemError, RunFolderError, on_one_line
from adding_problem.evaluation.lengths import score_at_lengths
from adding_problem.experiments import certificate, horizon
from adding_problem.experiments.bench import sizes
from adding_problem.experiments.readout import Measured
from adding_problem.experiments.sweep.job import Outcome, outcome_of
from adding_problem.experiments.train import train
from adding_problem.runs import atomic_io
from adding_problem.runs.folder import RunFolder
from adding_problem.runs.records import Budget, Count, Finite, Rung, Text, read_json
from adding_problem.task.data_sets import affordable
from adding_problem.task.thresholds import SOLVED

__all__ = [
    "BEYOND",
    "HorizonRun",
    "Piece",
    "Trial",
    "Verdicts",
    "certify",
    "find_horizon",
    "measure",
    "perform",
    "try_rate",
]

BEYOND = (10, 100)
"""Times the longest trained length, at which the models of the horizon runs are tested."""

_RECORD = "bench.json"
_MAX_BYTES = 1 << 20  # of a record
# Sequences and sequence-steps of a test beyond the trained lengths, and its fewest sequences.
_TESTED, _TEST_STEPS, _FEWEST_TESTED = 1_000, 1_000_000, 16

R = TypeVar("R")


@dataclass(frozen=True)
class Piece(Generic[R]):
    """A piece of work.

    Attributes:
        name: path of its folder in the bench's.
        config: of its runs; `artifacts` is its folder.
        budget: of its training, or of each of its trainings.
        weight: the most training that it takes, in horizon runs.
        kind: of its record, a dataclass.
        make: does it; what was done of it before is kept.
    """

    name: str
    config: RunConfig
    budget: Budget
    weight: float
    kind: type[R]
    make: Callable[[Piece[R]], R]

    @property
    def path(self) -> Path:
        """The record's file."""
        return Path(self.config.artifacts) / _RECORD

    @property
    def is_done(self) -> bool:
        """Whether its record is there."""
        return atomic_io.is_regular(self.path)

    def read(self) -> R:
        """Its record.

        Raises:
            RunFolderError: when the file is none.
        """
        try:
            return read_json(self.kind, atomic_io.read_bounded(self.path, _MAX_BYTES))
        except (OSError, ValueError) as error:
            problem = f"is no record of a bench ({error})"
            raise RunFolderError(self.path, problem, "delete it: it is made again") from None


def perform(piece: Piece[R]) -> Outcome:
    """Do a piece and write its record. Errors become outcomes."""

    def work() -> Outcome:
        record = asdict(piece.make(piece))  # type: ignore[call-overload]
        atomic_io.make_folder(piece.path.parent)
        atomic_io.write_json(piece.path, record)
        return Outcome("done")

    return outcome_of(work)


# --- one learning rate ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Trial:
    """One learning rate, tried on one target.

    Attributes:
        learning_rate: that was tried.
        target: of the sequences.
        val_loss: the lowest; None where none was finite.
        sequence_steps, seconds: spent.
    """

    learning_rate: Finite
    target: Text
    val_loss: Finite | None
    sequence_steps: Count
    seconds: Finite

    @property
    def loss(self) -> float:
        """The lowest validation loss; infinite where there is none."""
        return math.inf if self.val_loss is None else self.val_loss

    @property
    def solved(self) -> bool:
        """Whether that was below 1e-3."""
        return self.loss < SOLVED


def try_rate(piece: Piece[Trial]) -> Trial:
    """Train once."""
    config = piece.config
    result = train(config, resume=True)
    return Trial(
        config.train.learning_rate,
        config.dataset.target,
        result.lowest_val_loss,
        result.sequence_steps,
        result.seconds,
    )


# --- one horizon run ------------------------------------------------------------------------------


@dataclass(frozen=True)
class HorizonRun:
    """One seed on one target.

    Attributes:
        rungs: the lengths, in the order in which they were trained.
        longest: the longest T that the tested weights were trained on.
        beyond: their errors at `BEYOND` times that; a length that is too long is left out.
        notes: what the model or memory did not allow.
    """

    rungs: tuple[Rung, ...]
    longest: Count
    beyond: tuple[Measured, ...]
    notes: tuple[Text, ...]

    @property
    def horizon(self) -> int:
        """The longest solved length; 0 where not even the first was solved."""
        return max((rung.t for rung in self.rungs if rung.solved), default=0)

    def rung(self, t: int) -> Rung | None:
        """What became of a length; None where training did not come to it."""
        return next((rung for rung in self.rungs if rung.t == t), None)

    def error(self, times: int) -> float | None:
        """The error at so many times the longest trained length; None where it was not tested."""
        tested = next((each for each in self.beyond if each.t == times * self.longest), None)
        if tested is None:
            return None
        return math.inf if tested.mse is None else tested.mse


def find_horizon(piece: Piece[HorizonRun]) -> HorizonRun:
    """Train at one length after the other, and test the last model that solved its length."""
    notes: list[str] = []
    rungs = list(
        horizon.find_horizon(
            piece.config,
            minutes=piece.budget.minutes,
            steps=piece.budget.steps,
            lengths=sorted({*horizon.LENGTHS, piece.config.dataset.t}),
            following=lambda _: nullcontext(),
            on_refusal=lambda error: notes.append(f"the horizon run ends: {on_one_line(error)}"),
        )
    )
    best = next((rung for rung in reversed(rungs) if rung.solved), rungs[0])
    trained = replace(RunFolder(best.folder).read_config(), artifacts=best.folder)
    longest = best.longest_length or best.t
    beyond = []
    for t in (times * longest for times in BEYOND if times * longest <= horizon.LENGTHS[-1]):
        n = affordable(_TESTED, t, steps=_TEST_STEPS, fewest=_FEWEST_TESTED)

        def note(t: int, error: AddingProblemError) -> None:
            notes.append(f"T = {t:,} is not tested: {on_one_line(error)}")

        scores = score_at_lengths(trained, [t], n, own=trained.model.name, on_refusal=note)
        beyond += [Measured.of(score.t, score.sequences, score.mse) for score in scores]
    return HorizonRun(tuple(rungs), longest, tuple(beyond), tuple(notes))


# --- what was given, and what it costs ------------------------------------------------------------


@dataclass(frozen=True)
class Verdicts:
    """The certificate's word for each target; see `certificate.judge`."""

    sum: Text
    difference: Text


def certify(piece: Piece[Verdicts]) -> Verdicts:
    """Make the certificate of the first seed, of unchanged inputs alone."""
    made = certificate.certify(
        piece.config,
        following=lambda *_: nullcontext(),
        counting=lambda _: nullcontext(lambda done, total: None),
        plain=True,
    )
    words = {row.name: row.verdict.word for row in made.rows}
    return Verdicts(words["sum"], words["difference"])


def measure(piece: Piece[sizes.Sizes]) -> sizes.Sizes:
    """Count and time the model."""
    return sizes.measure(piece.config)
