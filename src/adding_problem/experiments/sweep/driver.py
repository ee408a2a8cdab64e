"""The driver of a sweep: gives runs to an engine until all are done, and keeps `sweep.json`.

Only the run folders say what is done. So a driver that was killed loses nothing: the next one skips
finished runs, resumes cut ones and tries failed ones again. A sweep's folder has one driver at a
time.
"""

from __future__ import annotations

import logging
import signal
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

from adding_problem import models
from adding_problem.config import RunConfig
from adding_problem.config.families import FAMILIES
from adding_problem.errors import AddingProblemError, Interrupted
from adding_problem.experiments.sweep.job import Job, Outcome, finished
from adding_problem.experiments.sweep.plan import PlannedRun, most_sequence_steps
from adding_problem.runs.collection import RunsFolder
from adding_problem.runs.folder import RunFolder

__all__ = ["SWEEP_FILE", "Board", "Engine", "Entry", "State", "SweepError", "raise_failures", "run"]

_log = logging.getLogger(__name__)

SWEEP_FILE = "sweep.json"
State = Literal["queued", "running", "done", "failed", "held"]

_POLL_SECONDS = 0.5
_WRITING_SHARE = 0.05  # of the driver's time that may go into writing sweep.json


class SweepError(AddingProblemError):
    """Runs of a sweep failed; everything else of it is done."""

    exit_code = 1


_Job_contra = TypeVar("_Job_contra", contravariant=True)


class Engine(Protocol[_Job_contra]):
    """Where jobs are done."""

    @property
    def free(self) -> bool:
        """Whether another job can be taken."""

    def submit(self, job: _Job_contra) -> None:
        """Begin a job, or queue it."""

    def running(self) -> set[str]:
        """Names of the jobs under way."""

    def wait(self, seconds: float) -> Sequence[tuple[str, Outcome]]:
        """Jobs that ended, as soon as there is one, at most after so many seconds."""


@dataclass
class Entry:
    """What `sweep.json` says of one run."""

    name: str
    digest: str
    varies: dict[str, Any]
    most_sequence_steps: int
    state: State = "queued"
    deaths: int = 0
    message: str = ""
    traceback: str = ""
    lowest_val_loss: float | None = None
    mse: float | None = None
    seconds: float = 0.0
    sequence_steps: int = 0


@dataclass
class Board:
    """The state of a sweep.

    Attributes:
        place: the sweep's folder, which this process holds.
        entries: by name, in the order of the plan.
        changed: entry that changed last; None when only time has passed.
    """

    place: RunsFolder
    entries: dict[str, Entry]
    changed: Entry | None = None
    begin: float = field(default_factory=time.time)
    counts: Counter[str] = field(init=False)
    _weights: Counter[str] = field(init=False)  # most sequence-steps of the runs in each state
    _weight_before: int = 0
    _next_write: float = 0.0

    def __post_init__(self) -> None:
        # `move` updates them: thousands of runs are not counted again at every change.
        self.counts = Counter(entry.state for entry in self.entries.values())
        self._weights = Counter()
        for entry in self.entries.values():
            self._weights[entry.state] += entry.most_sequence_steps

    @property
    def folder(self) -> Path:
        """The sweep's."""
        return self.place.path

    def move(self, entry: Entry, state: State) -> None:
        """Change a run's state."""
        for tally, weight in ((self.counts, 1), (self._weights, entry.most_sequence_steps)):
            tally[entry.state] -= weight
            tally[state] += weight
        entry.state = state

    def close(self, entry: Entry, outcome: Outcome) -> None:
        """Take what became of a run."""
        self.move(entry, "failed" if outcome.state == "died" else outcome.state)
        entry.message, entry.traceback = outcome.message, outcome.traceback
        entry.lowest_val_loss, entry.mse = outcome.lowest_val_loss, outcome.mse
        entry.seconds, entry.sequence_steps = outcome.seconds, outcome.sequence_steps

    def seconds_left(self) -> float | None:
        """Estimate from the runs done since the start.

        They are weighted by the most sequence-steps that each could take. Runs that other processes
        hold are not counted.
        """
        done = self._weights["done"] + self._weights["failed"] - self._weight_before
        left = self._weights["queued"] + self._weights["running"]
        return (time.time() - self.begin) * left / done if done else None

    def begin_now(self) -> None:
        """What is done by now was done by an earlier call."""
        self._weight_before = self._weights["done"]

    def write(self, *, now: bool) -> None:
        """`sweep.json`; of thousands of runs not at every change, unless it has to be now."""
        if not now and time.time() < self._next_write:
            return
        start = time.time()
        document = {
            "begin": self.begin,
            "updated": start,
            "counts": {state: n for state, n in self.counts.items() if n},
            "runs": [asdict(entry) for entry in self.entries.values()],
        }
        self.place.write(document)
        self._next_write = time.time() + max(_POLL_SECONDS, (time.time() - start) / _WRITING_SHARE)


def run(
    runs: Sequence[PlannedRun],
    engine: AbstractContextManager[Engine[Job]],
    *,
    score: bool = True,
    retries: int = 3,
    follow: Callable[[Board], None] = lambda board: None,
) -> Board:
    """Do all runs, each in its folder.

    Args:
        runs: of one sweep, see `plan.read`.
        engine: where; it is entered when there is something to do.
        score: whether trained models are scored on a test set, into `validation.json`.
        retries: how often a run is resumed after the process or node that had it was lost.
        follow: is called at every change, and every half second.

    Returns:
        The final state; failed runs are in it, and those that other processes hold.

    Raises:
        ConfigError: when the sweep's folder cannot be one or cannot be written.
        LockError: when another sweep works in it; nothing there is changed.
        RunFolderError: when a link is in the place of a run, or `sweep.json` is another program's.
        Interrupted: when a signal ended it.
    """
    place = RunsFolder(Path(runs[0].config.artifacts).parent, SWEEP_FILE)
    with place.locked():
        for planned in runs:
            place.run(planned.name)
        return _run(place, runs, engine, score, retries, follow)


def _run(
    place: RunsFolder,
    runs: Sequence[PlannedRun],
    engine: AbstractContextManager[Engine[Job]],
    score: bool,
    retries: int,
    follow: Callable[[Board], None],
) -> Board:
    """As `run`, in a folder that this process holds."""
    board = Board(
        place,
        {
            r.name: Entry(r.name, r.config.digest, r.varies, most_sequence_steps(r.config))
            for r in runs
        },
    )
    jobs = {r.name: Job(r.name, r.config, score) for r in runs}
    for name, job in jobs.items():
        if outcome := finished(job):
            board.close(board.entries[name], outcome)
    _note_changed_code(
        [jobs[name].config for name, entry in board.entries.items() if entry.state == "done"]
    )
    board.begin_now()
    waiting = deque(job for name, job in jobs.items() if board.entries[name].state == "queued")
    board.write(now=True)
    follow(board)
    try:
        if waiting:
            with engine as entered:
                _drive(board, jobs, waiting, entered, retries, follow)
    except KeyboardInterrupt as stop:
        number = stop.number if isinstance(stop, Interrupted) else signal.SIGINT
        raise Interrupted(
            number,
            f"{board.counts['done']} of {len(runs)} runs are done, "
            "the others go on where each stood",
        ) from None
    finally:
        for entry in board.entries.values():
            if entry.state == "running":
                board.move(entry, "queued")
        board.write(now=True)
    return board


def _note_changed_code(done: Sequence[RunConfig]) -> None:
    """Log which custom models have changed since finished runs trained them."""
    for name in sorted({config.model.name for config in done} - FAMILIES.keys()):
        digests = {
            RunFolder(config.artifacts).read_result().model_source
            for config in done
            if config.model.name == name
        }
        if any(models.changed_since(name, digest) for digest in digests):
            _log.warning(
                "the code of %s has changed since finished runs of this sweep: those that begin "
                "now train the new one; give the sweep another --out, or the new code another name",
                name,
            )


def raise_failures(board: Board) -> None:
    """Raise SweepError, which lists them, if runs failed or other processes hold some."""
    problems, hints = [], []
    for state, what, hint in (
        (
            "failed",
            "failed",
            f"fix what they say, then repeat the command (tracebacks: {board.folder / SWEEP_FILE})",
        ),
        (
            "held",
            "were left to the processes that work in their folders",
            "wait until these processes have ended, then repeat the command to continue",
        ),
    ):
        if found := [entry for entry in board.entries.values() if entry.state == state]:
            listed = "\n".join(
                f"  {board.folder / entry.name}\n    "
                + entry.message.strip().replace("\n", "\n    ")
                for entry in found
            )
            problems.append(f"{len(found)} of {len(board.entries)} runs {what}:\n{listed}")
            hints.append(hint)
    if problems:
        raise SweepError("\n".join(problems) + f"\n  hint: {'; '.join(hints)}")


def _drive(
    board: Board,
    jobs: dict[str, Job],
    waiting: deque[Job],
    engine: Engine[Job],
    retries: int,
    follow: Callable[[Board], None],
) -> None:
    under_way, held, tried_again = 0, deque[Job](), False
    while waiting or under_way or (held and not tried_again):
        if not (waiting or under_way):  # who held these may have ended while the others were done
            waiting, held, tried_again = held, deque(), True
        while waiting and engine.free:
            engine.submit(waiting.popleft())
            under_way += 1
        ended = engine.wait(_POLL_SECONDS)
        under_way -= len(ended)
        for name, outcome in ended:
            entry = board.entries[name]
            if outcome.state == "died" and entry.deaths < retries:
                entry.deaths, entry.message = entry.deaths + 1, outcome.message
                board.move(entry, "queued")
                waiting.append(jobs[name])
            elif outcome.state == "held":
                board.close(entry, outcome)
                held.append(jobs[name])
            else:
                board.close(entry, outcome)
                if outcome.state == "died":
                    entry.message = f"lost {entry.deaths + 1} times, last because {outcome.message}"
            _tell(board, entry, follow)
        _mark_running(board, engine.running())
        _tell(board, None, follow)


def _mark_running(board: Board, running: set[str]) -> None:
    for name in running:
        if board.entries[name].state in ("queued", "held"):
            board.move(board.entries[name], "running")


def _tell(board: Board, changed: Entry | None, follow: Callable[[Board], None]) -> None:
    board.changed = changed
    board.write(now=False)
    follow(board)
