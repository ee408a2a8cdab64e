"""The engine of a Ray cluster: every run, or piece of work of a bench, is a task.

A task works in a temporary folder of its node. Every few seconds its changed files, checkpoints
among them, are sent to the driver's folder or to a storage. A task that begins again, on whatever
node, first fetches these. So a lost worker or node costs the work since the last checkpoint that
was sent. The numbers are those of a run that was never disturbed.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from adding_problem import config as configuration
from adding_problem.config import COMMAND_LINE
from adding_problem.errors import BackendError, ConfigError, LockError, to_install
from adding_problem.experiments.sweep.job import Outcome, Task, Work, perform
from adding_problem.runs import transport
from adding_problem.runs.collection import run_inside
from adding_problem.runs.folder import RunFolder
from adding_problem.system.threads import usable_cores

__all__ = ["RayEngine"]

# Between looks at a run's files; after a slow transfer ten times as long as that took.
_SYNC_SECONDS = 5.0
_MOST_SYNC_SECONDS = 60.0
_ASK_SECONDS = 0.5
_TRY_SECONDS = 5.0  # between looks at the head, and the most that one takes
# Of the head; after 60 Ray ends the driver's process, and no hint is printed.
_SILENCE_SECONDS = 30.0
_log = logging.getLogger(__name__)
_ENDED_AT_ONCE = 256  # outcomes that one call fetches


class _Place(Protocol):
    """Where the files of runs are kept while and after tasks work on them."""

    def load(self, name: str) -> dict[str, bytes]:
        """The files of a run so far."""

    def save(self, name: str, files: dict[str, bytes]) -> None:
        """Keep these files of a run, each complete."""


class RayEngine:
    """Ray core tasks.

    Args:
        workers: most runs at a time; None is as many as the cluster has room for.
        address: of a running cluster (`auto` finds it on this machine); None starts one here, for
            the sweep only.
        cpus: of the cluster that is started here; None is as many as this process may use.
        gpus: of each run; None is 1 where the configuration's device is cuda, else 0.
        storage: path or fsspec URL for the files that all nodes reach; None sends them through Ray.
        task: what is done with a job.

    Raises:
        BackendError: when Ray is not installed, or the cluster does not answer.
        ConfigError: for a `ray://` address, whose driver is not on the cluster.
    """

    def __init__(
        self,
        workers: int | None = None,
        address: str | None = None,
        cpus: int | None = None,
        gpus: float | None = None,
        storage: str | None = None,
        task: Task = perform,
    ) -> None:
        if address is not None and address.startswith("ray://"):
            raise ConfigError(
                "--address",
                "the address of a cluster that this machine is a node of",
                repr(address),
                "start the sweep on a node of the cluster, such as by ray job submit",
                COMMAND_LINE,
            )
        self._workers, self._address, self._cpus, self._gpus = workers, address, cpus, gpus
        # Workers have other working directories than the driver.
        self._storage = (
            storage if storage is None or "://" in storage else str(Path(storage).resolve())
        )
        self._task = task
        self._pending: dict[Any, Work] = {}
        self._ray: Any = None
        self._desk: Any = None
        self._begun: set[str] = set()  # names of the pending jobs that a worker has taken
        self._begun_reply: Any = None  # reference to the desk's answer that is under way
        self._begun_asked_at = 0.0  # these times are time.monotonic's
        self._head_address = ""  # of the cluster's control service, host:port
        self._head_tried_at = self._head_heard_at = 0.0

    def __enter__(self) -> RayEngine:
        try:
            import ray
        except ImportError:
            raise BackendError("engine: Ray is not installed", to_install("ray")) from None
        here: dict[str, Any] = (
            {}
            if self._address
            else {"num_cpus": self._cpus or usable_cores(), "include_dashboard": False}
        )
        on_sigterm = signal.getsignal(signal.SIGTERM)
        try:
            # "local", for without an address Ray joins a cluster that it finds.
            ray.init(
                address=self._address or "local",
                log_to_driver=False,
                logging_level=logging.ERROR,
                **here,
            )
        except (ConnectionError, ValueError, RuntimeError) as error:
            cluster = self._address or "of this machine"
            raise BackendError(
                f"engine: the Ray cluster {cluster} does not answer ({error})",
                "check --address; ray status shows a running cluster",
            ) from None
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_sigterm)  # Ray has put its own there
        self._ray = ray
        self._head_address = ray.get_runtime_context().gcs_address
        self._head_heard_at = time.monotonic()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ray.shutdown()

    @property
    def free(self) -> bool:
        """Whether another job can be taken. Ray queues them: only `workers` limits their number."""
        return self._workers is None or len(self._pending) < self._workers

    def submit(self, job: Work) -> None:
        """Queue a job; Ray gives it a node that has its CPUs and GPUs."""
        if self._desk is None:
            self._desk = self._open_desk(job)
            self._warn_of_waiting(job)
        gpus = self._gpus_of(job)
        # Lost tasks are begun again by the driver of the sweep, which counts and tells them.
        remote = self._ray.remote(_remote).options(
            num_cpus=job.config.threads or 1, num_gpus=gpus, max_retries=0, name=job.name
        )
        self._pending[remote.remote(job, self._desk, self._storage, self._task)] = job

    def running(self) -> set[str]:
        """Names of the jobs that a worker has begun.

        Raises:
            BackendError: when the cluster is gone.
        """
        if (
            self._begun_reply is None
            and self._desk is not None
            and time.monotonic() - self._begun_asked_at > _ASK_SECONDS
        ):
            self._begun_reply, self._begun_asked_at = self._desk.begun.remote(), time.monotonic()
        if self._begun_reply is not None:
            self._listen()
        if time.monotonic() - self._head_tried_at > _TRY_SECONDS:
            self._head_tried_at = time.monotonic()
            if (
                not self._head_answers()
                and self._head_tried_at - self._head_heard_at > _SILENCE_SECONDS
            ):
                raise _lost(f"no answer from {self._head_address}")
        return self._begun

    def _listen(self) -> None:
        """Take the desk's answer if it is there. From a cluster that is gone none would come."""
        answered, _ = self._ray.wait([self._begun_reply], timeout=0)
        if answered:
            try:
                begun = self._ray.get(self._begun_reply)
            except self._ray.exceptions.RayError as error:
                raise _lost(type(error).__name__) from None
            self._begun |= begun & {job.name for job in self._pending.values()}
            self._begun_reply = None

    def _head_answers(self) -> bool:
        host, _, port = self._head_address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), _TRY_SECONDS).close()
        except OSError:
            return False
        self._head_heard_at = time.monotonic()
        return True

    def wait(self, seconds: float) -> Sequence[tuple[str, Outcome]]:
        """Jobs that ended, as soon as there is one, at most after so many seconds.

        Raises:
            BackendError: when the cluster is gone.
        """
        waiting = list(self._pending)
        ended, _ = self._ray.wait(waiting, num_returns=1, timeout=seconds)
        if ended:  # then whatever else has ended too
            ended, _ = self._ray.wait(
                waiting, num_returns=min(len(waiting), _ENDED_AT_ONCE), timeout=0
            )
        return [self._outcome(reference) for reference in ended]

    def _outcome(self, reference: Any) -> tuple[str, Outcome]:
        job = self._pending.pop(reference)
        self._begun.discard(job.name)
        try:
            outcome: Outcome = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, LockError):  # of the run's folder on the driver's machine
                return job.name, Outcome("held", str(error.cause))
            return job.name, Outcome("failed", str(error.cause), str(error))
        except self._ray.exceptions.RayError as error:
            # The driver's own node is gone, or the head: nothing can be begun again.
            if (
                isinstance(error, self._ray.exceptions.LocalRayletDiedError)
                or not self._head_answers()
            ):
                raise _lost(type(error).__name__) from None
            return job.name, Outcome(
                "died", f"its worker or node was lost ({type(error).__name__})"
            )
        if self._storage and outcome.state == "done":
            kept = _Files(self._storage).load(job.name)
            try:
                _Desk(str(_root(job))).save(job.name, kept)
            except LockError as error:
                return job.name, Outcome("held", str(error))
            if not job.is_done:
                return job.name, Outcome(
                    "failed",
                    f"its files are not in {self._storage}, where its worker wrote them: "
                    "give --storage a place that all nodes reach",
                )
        return job.name, outcome

    def _gpus_of(self, job: Work) -> float:
        return self._gpus if self._gpus is not None else float(job.config.device == "cuda")

    def _warn_of_waiting(self, job: Work) -> None:
        """Log a warning where no node has what a run asks for.

        An autoscaler may add one. Without one, the run would wait forever and nothing would say so.
        """
        cpus, gpus = job.config.threads or 1, self._gpus_of(job)
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        if not any(node.get("CPU", 0) >= cpus and node.get("GPU", 0) >= gpus for node in nodes):
            _log.warning(
                "no node of the cluster has %s CPUs and %s GPUs now: runs wait until one comes",
                cpus,
                gpus,
            )

    def _open_desk(self, job: Work) -> Any:
        """The actor on the driver's node that receives files; Ray restarts a killed one."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(
            self._ray.get_runtime_context().get_node_id(), soft=False
        )
        return (
            self._ray.remote(_Desk)
            .options(num_cpus=0, scheduling_strategy=here, max_restarts=-1, max_task_retries=-1)
            .remote(str(_root(job)))
        )


def _lost(why: str) -> BackendError:
    return BackendError(
        f"engine: the Ray cluster was lost ({why})",
        "start it again, then repeat the command: each run continues",
    )


def _root(job: Work) -> Path:
    """The folder that its name is a path in."""
    return Path(job.config.artifacts).resolve().parents[job.name.count("/")]


def _inside(folder: Path, name: str) -> RunFolder:
    """As `run_inside`; the name may be a path."""
    *above, last = name.split("/")
    for part in above:
        folder = run_inside(folder, part).path
    return run_inside(folder, last)


class _Desk:
    """An actor on the driver's node: it knows what has begun, and writes the runs' files."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self._files, self._begun = _Files(folder), set[str]()

    def begin(self, name: str) -> None:
        self._begun.add(name)

    def begun(self) -> set[str]:
        """Since the last call."""
        new, self._begun = self._begun, set()
        return new

    def load(self, name: str) -> dict[str, bytes]:
        return self._files.load(name)

    def save(self, name: str, files: dict[str, bytes]) -> None:
        with _inside(self._folder, name).locked():
            self._files.save(name, files)


class _Files:
    """A `_Place`: a folder, or an fsspec URL; one folder below it for each run."""

    def __init__(self, url: str) -> None:
        self._url = url

    def load(self, name: str) -> dict[str, bytes]:
        if "://" not in self._url:
            folder = _inside(Path(self._url), name)
            return (
                transport.snapshot(folder.path, transport.stamps(folder.path))
                if folder.path.is_dir()
                else {}
            )
        import fsspec

        files, root = fsspec.core.url_to_fs(f"{self._url.rstrip('/')}/{name}")
        return (
            {path[len(root) :].lstrip("/"): files.cat_file(path) for path in files.find(root)}
            if files.exists(root)
            else {}
        )

    def save(self, name: str, files: dict[str, bytes]) -> None:
        if "://" not in self._url:
            transport.restore(_inside(Path(self._url), name), files)
            return
        import fsspec

        stored, root = fsspec.core.url_to_fs(f"{self._url.rstrip('/')}/{name}")
        for file, content in transport.in_order(files):
            stored.makedirs(f"{root}/{file}".rpartition("/")[0], exist_ok=True)
            stored.pipe_file(f"{root}/{file}", content)


class _AtDesk:
    """A `_Place`: the driver's folder, by way of its actor."""

    def __init__(self, desk: Any) -> None:
        self._desk = desk

    def load(self, name: str) -> dict[str, bytes]:
        import ray

        found: dict[str, bytes] = ray.get(self._desk.load.remote(name))
        return found

    def save(self, name: str, files: dict[str, bytes]) -> None:
        import ray

        ray.get(self._desk.save.remote(name, files))


def _remote(job: Work, desk: Any, storage: str | None, task: Task) -> Outcome:
    """What a Ray worker does with a job."""
    import ray

    if not ray.get_gpu_ids():
        # None was asked for: `device: auto` must not take one that Ray has given to other tasks.
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    desk.begin.remote(job.name)
    place: _Place = _Files(storage) if storage else _AtDesk(desk)
    with tempfile.TemporaryDirectory(prefix="adding-problem-") as path:
        folder = RunFolder(path)
        transport.restore(folder, place.load(job.name))
        there = dataclasses.replace(job.config, artifacts=path)
        here = dataclasses.replace(job, config=there)  # type: ignore[type-var]
        with _Sender(folder, job, place):
            return task(here)


class _Sender:
    """Sends the files of a run that have changed, while the block runs and once more at its end."""

    def __init__(self, folder: RunFolder, job: Work, place: _Place) -> None:
        self._folder, self._job, self._place = folder, job, place
        self._sent = transport.stamps(folder.path)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._send_until_the_end, daemon=True)

    def __enter__(self) -> _Sender:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._end.set()
        self._thread.join()
        self._send()

    def _send_until_the_end(self) -> None:
        pause = 0.0
        while not self._end.wait(pause):
            begin = time.monotonic()
            # What a storage or the desk does not take now is sent next time, and at the end.
            with suppress(Exception):
                self._send()
            usual = min(_SYNC_SECONDS, 2 * pause + 1)  # sooner at first, for short runs
            pause = min(_MOST_SYNC_SECONDS, max(usual, 10 * (time.monotonic() - begin)))

    def _send(self) -> None:
        # The stamps are taken first: a file that changes meanwhile is sent again next time.
        stamps = transport.stamps(self._folder.path)
        changed = [name for name, stamp in stamps.items() if self._sent.get(name) != stamp]
        if not changed:
            return
        files = transport.snapshot(self._folder.path, changed)
        config_copy = self._folder.config_copy.name
        if config_copy in files:  # it names the folder: the driver's, not this one
            files[config_copy] = configuration.to_yaml(self._job.config).encode()
        self._place.save(self._job.name, files)
        self._sent = stamps
