"""The work of one run of a sweep: train, score, return the outcome."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from adding_problem.config import RunConfig
from adding_problem.errors import AddingProblemError, LockError, RunFolderError
from adding_problem.evaluation import validate
from adding_problem.experiments.train import train
from adding_problem.runs.folder import RunFolder
from adding_problem.training import loggers

__all__ = ["Job", "Named", "Outcome", "Task", "Work", "finished", "outcome_of", "perform"]


class Named(Protocol):
    """What an engine of this machine takes: anything that can be pickled and has a name."""

    @property
    def name(self) -> str:
        """By which its outcome is told."""


class Work(Named, Protocol):
    """What any engine takes: a dataclass that does all of its work in one folder.

    That folder is `config.artifacts`, whose last parts are the name's. The engine of a cluster puts
    another one there.
    """

    @property
    def config(self) -> RunConfig:
        """Its folder, threads and device."""

    @property
    def is_done(self) -> bool:
        """Whether its folder holds all that it makes."""


@dataclass(frozen=True)
class Job:
    """A run to be done.

    Attributes:
        name: of its folder.
        config: its `artifacts` is where the driver wants the folder.
        score: whether the trained model is scored on a test set.
    """

    name: str
    config: RunConfig
    score: bool

    @property
    def is_done(self) -> bool:
        """Whether its folder holds a complete run; the score may be missing."""
        return RunFolder(self.config.artifacts).holds_finished(self.config)


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes:
        state: `died` when its process is gone: the next attempt resumes from its checkpoint. `held`
            when another process works in its folder, which is no failure of the run.
        message, traceback: of a failure, or who holds the folder.
        lowest_val_loss: on the validation set.
        mse: on the test set; None without a score.
        seconds, sequence_steps: of training.
    """

    state: Literal["done", "failed", "died", "held"]
    message: str = ""
    traceback: str = ""
    lowest_val_loss: float | None = None
    mse: float | None = None
    seconds: float = 0.0
    sequence_steps: int = 0


Task = Callable[[Any], Outcome]


def perform(job: Job) -> Outcome:
    """Train or resume, unless it is finished; then score. Errors become outcomes."""

    def work() -> Outcome:
        with loggers.attach(job.config) as listener:
            train(job.config, resume=True, listener=listener)
        if job.score:
            validate.score_once(job.config)
        return _read(job)

    return outcome_of(work)


def outcome_of(work: Callable[[], Outcome]) -> Outcome:
    """The outcome that the work gives, or what its error says."""
    try:
        return work()
    except LockError as error:
        return Outcome("held", str(error))
    except AddingProblemError as error:
        return Outcome("failed", str(error))
    except Exception as error:  # a mistake in a user's model must end its own run, not the sweep
        return Outcome("failed", f"{type(error).__name__}: {error}", traceback.format_exc())


def finished(job: Job) -> Outcome | None:
    """The outcome of a job that was done earlier; None where there is still something to do."""
    folder = RunFolder(job.config.artifacts)
    with suppress(RunFolderError):  # damaged: the job itself will say so
        if (
            folder.result.is_file()
            and folder.read_result().digest == job.config.digest
            and (not job.score or validate.score_kept(job.config))
        ):
            return _read(job)
    return None


def _read(job: Job) -> Outcome:
    folder = RunFolder(job.config.artifacts)
    result = folder.read_result()
    return Outcome(
        "done",
        lowest_val_loss=result.lowest_val_loss,
        mse=folder.read_score().mse if job.score else None,
        seconds=result.seconds,
        sequence_steps=result.sequence_steps,
    )
