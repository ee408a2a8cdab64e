"""The driver of a bench: gives pieces of work to an engine until all are done."""

from __future__ import annotations

import signal
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from adding_problem.errors import Interrupted
from adding_problem.experiments.bench.pieces import Piece
from adding_problem.experiments.bench.plan import Plan
from adding_problem.experiments.sweep.driver import Engine
from adding_problem.runs.folder import RunFolder

__all__ = ["Progress", "run"]

_POLL_SECONDS = 0.5
_RETRIES = 3  # of a piece whose process or node was lost; it goes on from its checkpoint


@dataclass
class Progress:
    """How far a bench is.

    Attributes:
        pieces, done: number of all, and of those that are done or failed.
        weight, weight_done: the same in the most training that each takes, see `Piece.weight`.
        running: names of those under way.
        failures: what those that failed say, by name.
        ended: the piece that ended last; empty when only time has passed.
        earlier: of `weight_done`, by earlier calls.
    """

    pieces: int = 0
    done: int = 0
    weight: float = 0.0
    weight_done: float = 0.0
    running: tuple[str, ...] = ()
    failures: dict[str, str] = field(default_factory=dict)
    ended: str = ""
    earlier: float = 0.0
    begin: float = field(default_factory=time.monotonic)

    @property
    def seconds_left(self) -> float | None:
        """At the pace of the pieces that this call has done; None before the first."""
        done = self.weight_done - self.earlier
        left = max(0.0, self.weight - self.weight_done)  # sums of shares are not exact
        return (time.monotonic() - self.begin) * left / done if done else None


def run(
    plan: Plan,
    engine: AbstractContextManager[Engine[Piece[Any]]],
    follow: Callable[[Progress], None] = lambda progress: None,
) -> dict[str, str]:
    """Do all pieces of a plan whose records are not there yet.

    First every model is tuned. Then come certificates and horizon runs, with the rates so found. At
    last the models are timed, one after the other, when nothing else runs.

    Args:
        plan: of the bench.
        engine: where; it is entered when there is something to do.
        follow: is called at every change, and every half second.

    Returns:
        What the pieces that failed say, by name. What rests on them is left out.

    Raises:
        ConfigError, LockError: when the folder cannot be written, or another process works in it.
        Interrupted: when a signal ended it; the same call goes on.
    """
    with RunFolder(plan.folder).locked():
        work = _Work(plan, follow)
        if work.progress.done == work.progress.pieces:
            return {}
        try:
            with engine as entered:
                work.do(entered)
        except KeyboardInterrupt as stop:
            number = stop.number if isinstance(stop, Interrupted) else signal.SIGINT
            done = f"{work.progress.done} of {work.progress.pieces} pieces of work are done"
            raise Interrupted(number, f"{done}, the others go on where each stood") from None
        return work.progress.failures


class _Work:
    """The pieces of a plan, and how far they are."""

    def __init__(self, plan: Plan, follow: Callable[[Progress], None]) -> None:
        self._plan, self._follow, self.progress = plan, follow, Progress()
        self._deaths = Counter[str]()
        for contender in plan.contenders:
            # Before the tuning is done its rate is unknown, and pieces are counted by any rate.
            rate = plan.rate(contender) or contender.config.train.learning_rate
            for piece in (
                *plan.tuning(contender),
                *plan.trained(contender, rate),
                plan.sizes(contender),
            ):
                self.progress.pieces += 1
                self.progress.weight += piece.weight
                if piece.is_done:
                    self._count(piece)
        self.progress.earlier = self.progress.weight_done

    def do(self, engine: Engine[Piece[Any]]) -> None:
        """All of them."""
        plan = self._plan
        self._perform(engine, [piece for each in plan.contenders for piece in plan.tuning(each)])
        tuned = [(each, rate) for each in plan.contenders if (rate := plan.rate(each))]
        trained = [piece for each, rate in tuned for piece in plan.trained(each, rate)]
        self._perform(engine, sorted(trained, key=lambda piece: -piece.weight))
        for each in plan.contenders:
            self._perform(engine, [plan.sizes(each)])

    def _perform(self, engine: Engine[Piece[Any]], pieces: Sequence[Piece[Any]]) -> None:
        """Do those that are not done."""
        under_way: dict[str, Piece[Any]] = {}
        waiting = deque(piece for piece in pieces if not piece.is_done)
        while waiting or under_way:
            while waiting and engine.free:
                piece = waiting.popleft()
                under_way[piece.name] = piece
                engine.submit(piece)
            self._tell("", engine)
            for name, outcome in engine.wait(_POLL_SECONDS):
                piece = under_way.pop(name)
                self._deaths[name] += outcome.state == "died"
                if outcome.state == "died" and self._deaths[name] <= _RETRIES:
                    waiting.append(piece)
                    continue
                self._count(piece)
                if outcome.state != "done":
                    self.progress.failures[name] = outcome.message
                self._tell(name, engine)

    def _count(self, piece: Piece[Any]) -> None:
        self.progress.done += 1
        self.progress.weight_done += piece.weight

    def _tell(self, ended: str, engine: Engine[Piece[Any]]) -> None:
        self.progress.ended, self.progress.running = ended, tuple(sorted(engine.running()))
        self._follow(self.progress)
