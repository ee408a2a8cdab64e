"""Which engine does a sweep or a bench, with how many workers."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

from adding_problem.config import COMMAND_LINE, RunConfig
from adding_problem.errors import ConfigError
from adding_problem.experiments.sweep.driver import Engine
from adding_problem.experiments.sweep.job import Task, perform
from adding_problem.experiments.sweep.local import LocalEngine
from adding_problem.system.device import resolve_device
from adding_problem.system.threads import usable_cores

__all__ = ["Choice", "build"]


@dataclass(frozen=True)
class Choice:
    """What the user asked for; None is the default.

    Attributes:
        engine: processes here, or Ray.
        workers: runs at a time.
        address, gpus, storage: Ray's; see `cluster.RayEngine`.

    Raises:
        ConfigError: when the options contradict each other.
    """

    engine: Literal["local", "ray"]
    workers: int | None = None
    address: str | None = None
    gpus: float | None = None
    storage: str | None = None

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise ConfigError(
                "--workers",
                "a whole number of at least 1",
                str(self.workers),
                "give 1 or more, or leave it out",
                COMMAND_LINE,
            )
        if self.gpus is not None and not (
            0 <= self.gpus <= 1 or (self.gpus > 1 and float(self.gpus).is_integer())
        ):
            raise ConfigError(
                "--gpus",
                "a share of one from 0 to 1, or a whole number",
                f"{self.gpus:g}",
                "give a share such as 0.25, or a whole number",
                COMMAND_LINE,
            )
        for name in ("address", "gpus", "storage"):
            if self.engine == "local" and getattr(self, name) is not None:
                raise ConfigError(
                    f"--{name}",
                    "--engine ray beside it",
                    "the engine local",
                    "add --engine ray",
                    COMMAND_LINE,
                )

    def describe(self, configs: Sequence[RunConfig]) -> str:
        """How many runs at a time, and where."""
        if self.engine == "ray":
            cluster = self.address or "a Ray cluster that is started here"
            return f"{self.workers or 'as many as fit'} at a time on {cluster}"
        return f"{_local_workers(self, configs)} at a time on this machine"


def build(
    choice: Choice, configs: Sequence[RunConfig], task: Task = perform
) -> AbstractContextManager[Engine[Any]]:
    """The engine for work of these configurations.

    Args:
        choice: of the user.
        configs: of the runs, of which threads and device matter.
        task: what is done with a job.

    Raises:
        ConfigError: when so many workers need more cores than there are.
        BackendError: when Ray was asked for and is not installed, or its cluster does not answer.
    """
    if choice.engine == "ray":
        from adding_problem.experiments.sweep.cluster import RayEngine

        here = choice.address is None and choice.workers is not None
        cpus = _workers(choice.workers, _threads(configs)) * _threads(configs) if here else None
        return RayEngine(choice.workers, choice.address, cpus, choice.gpus, choice.storage, task)
    return LocalEngine(_local_workers(choice, configs), task)


def _local_workers(choice: Choice, configs: Sequence[RunConfig]) -> int:
    """As many as the cores can serve; one where runs share another device.

    Only the user knows how many runs that device can hold.
    """
    devices = {config.device for config in configs} if choice.workers is None else set()
    if any(resolve_device(device).type != "cpu" for device in devices):
        return 1
    return _workers(choice.workers, _threads(configs))


def _threads(configs: Sequence[RunConfig]) -> int:
    return max(config.threads or 1 for config in configs)


def _workers(workers: int | None, threads: int) -> int:
    """As many as the cores can serve."""
    cores = usable_cores()
    if workers is not None and workers > 1 and workers * threads > cores:
        raise ConfigError(
            "--workers",
            f"at most {max(1, cores // threads)}: {cores} cores, {threads} threads for each run",
            str(workers),
            "give fewer workers, or runs of fewer threads",
            COMMAND_LINE,
        )
    return workers or max(1, cores // threads)
