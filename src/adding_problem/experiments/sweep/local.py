"""The engine of this machine: one process per worker, each doing one run after another.

A pool of `concurrent.futures` would lose all runs under way when one process dies, and would not
say how it died.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import connection, resource_tracker
from typing import Any

from adding_problem.errors import Interrupted
from adding_problem.experiments.sweep.job import Named, Outcome, Task, perform
from adding_problem.system.output import guarded

__all__ = ["LocalEngine", "end_with_parent"]

_GRACE_SECONDS = 5.0


class LocalEngine:
    """Worker processes that outlive their runs. One that dies loses its run, and is replaced.

    Args:
        workers: how many.
        task: what each does with a job.
    """

    def __init__(self, workers: int, task: Task = perform) -> None:
        self.workers, self._task = workers, task
        self._idle: list[_Worker] = []
        self._busy: dict[Any, tuple[_Worker, Named]] = {}

    def __enter__(self) -> LocalEngine:
        return self

    def __exit__(self, *exception: object) -> None:
        workers = [*self._idle, *(worker for worker, _ in self._busy.values())]
        for worker in workers:
            worker.ask_to_end()
        for worker in workers:
            worker.stop()

    @property
    def free(self) -> bool:
        """Whether another job can be taken."""
        return len(self._busy) < self.workers

    def submit(self, job: Named) -> None:
        """Begin a job."""
        worker = self._taken_by_an_idle_one(job)
        if worker is None:
            worker = _Worker(self._task)
            worker.pipe.send(job)
        self._busy[worker.pipe] = (worker, job)

    def running(self) -> set[str]:
        """Names of the jobs under way."""
        return {job.name for _, job in self._busy.values()}

    def wait(self, seconds: float) -> Sequence[tuple[str, Outcome]]:
        """Jobs that ended, as soon as there is one, at most after so many seconds."""
        ended = []
        for pipe in connection.wait(list(self._busy), seconds):
            worker, job = self._busy.pop(pipe)
            try:
                outcome = worker.pipe.recv()
                self._idle.append(worker)
            except (EOFError, OSError):
                outcome = Outcome("died", worker.obituary())
            ended.append((job.name, outcome))
        return ended

    def _taken_by_an_idle_one(self, job: Named) -> _Worker | None:
        """Give the job to an idle worker, if there is one.

        Workers that were killed while idle are dropped. That counts against no run.
        """
        while self._idle:
            worker = self._idle.pop()
            try:
                worker.pipe.send(job)
                return worker
            except OSError:
                worker.ask_to_end()
                worker.stop()
        return None


class _Worker:
    """A process and the pipe to it."""

    def __init__(self, task: Task) -> None:
        # spawn: a forked child of a process with running threads may hang.
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, task), daemon=True)
        with _without_ctrl_c():
            self._process.start()
        theirs.close()

    def obituary(self) -> str:
        """Why the process is gone."""
        self._process.join(_GRACE_SECONDS)
        code = self._process.exitcode
        if code is not None and code < 0:
            hint = " (out of memory?)" if -code == signal.SIGKILL else ""
            return f"its process was ended by {signal.Signals(-code).name}{hint}"
        return f"its process ended with exit code {code}"

    def ask_to_end(self) -> None:
        """The run that it may have goes on from its checkpoint next time."""
        self.pipe.close()
        self._process.terminate()

    def stop(self) -> None:
        """Wait for the end that was asked for; bring it about where it does not come."""
        self._process.join(_GRACE_SECONDS)
        if self._process.is_alive():
            self._process.kill()


@contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """Start processes that never get a Ctrl-C: one that is importing would print a traceback."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # Or else the first start does this, and older Pythons let the signal in again there.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(pipe: Any, task: Task) -> None:
    """What a worker process does: jobs, until the pipe is closed."""
    if hasattr(os, "setpgrp"):
        os.setpgrp()  # Ctrl-C reaches the whole group of a terminal; the driver alone answers it
    end_with_parent()
    try:
        with guarded():
            while True:
                pipe.send(task(pipe.recv()))
    except (EOFError, ConnectionError):  # the driver has closed the pipe
        return
    except KeyboardInterrupt as stop:
        # The checkpoint is written. A traceback would only hide what the driver says.
        sys.exit(stop.exit_code if isinstance(stop, Interrupted) else 128 + signal.SIGINT)


def end_with_parent() -> None:
    """End this process when its parent is gone.

    The worker of a killed driver must not write where those of the next one write.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
