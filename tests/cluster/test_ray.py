"""A sweep on a real Ray cluster on this machine, while a worker, a node and the driver are killed.

Not part of `make test`, which needs no Ray: `make test-cluster` installs it and runs this.
"""

from __future__ import annotations

import csv
import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adding_problem.experiments.sweep import driver, plan
from adding_problem.experiments.sweep.local import LocalEngine
from adding_problem.runs.folder import RunFolder
from adding_problem.runs.records import EpochRow
from adding_problem.system.threads import usable_cores
from tests.helpers.sweeps import numbers, sweep_words, wait_for

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed: make test-cluster"
)

SLOW = """
dataset: {dt_length: 1000}
train: {epochs: 20, batch: 8, es_patience: null}
model: {hidden: 16}
backend: torch
grid: {dataset.t: [40, 60], seed: [0, 1, 2]}
"""


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A head that takes no runs, and two nodes that take one each."""
    from ray.cluster_utils import Cluster

    # A lost node is noticed after five seconds instead of half a minute.
    checks = {
        "health_check_initial_delay_ms": 0,
        "health_check_period_ms": 1000,
        "health_check_failure_threshold": 5,
    }
    found: Any = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "include_dashboard": False, "_system_config": checks},
    )
    nodes = [found.add_node(num_cpus=1) for _ in range(2)]
    found.wait_for_nodes()
    found.spare = nodes[1]
    yield found
    found.shutdown()


class Sweep:
    """The command, as a process of its own."""

    def __init__(self, path: Path, out: Path, address: str, *more: str) -> None:
        self.out, self.log = out, out.with_suffix(".log")
        with self.log.open("a") as log:
            self._process = subprocess.Popen(
                sweep_words(path, out, "--engine", "ray", "--address", address, *more),
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def end(self, seconds: float = 400) -> None:
        assert self._process.wait(seconds) == 0, self.log.read_text()

    def under_way(self) -> list[Path]:
        """Runs that are not finished, of which a checkpoint with finished epochs has come to the
        driver."""
        return [
            path
            for path in self.out.glob("t=*")
            if not RunFolder(path).result.exists() and epochs_kept(path)
        ]


def workers_on(runs: list[Path], raylet: int | None = None) -> list[tuple[str, int]]:
    """Runs that a Ray worker does now, on the node of this raylet or on any, with the worker's
    process."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                title = (entry / "cmdline").read_bytes().decode(errors="replace")
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            if raylet in (None, parent):
                found += [
                    (run.name, int(entry.name))
                    for run in runs
                    if title.startswith(f"ray::{run.name}")
                ]
    return found


def epochs_kept(run: Path) -> list[EpochRow]:
    """The epochs of the checkpoint, which metrics.csv may be ahead of: it is written, and travels,
    before it."""
    folder = RunFolder(run)
    return (
        [EpochRow.of_floats(row) for row in folder.read_checkpoint()[0]["rows"].tolist()]
        if folder.checkpoint.exists()
        else []
    )


def test_killed_worker_node_and_driver_change_no_number(tmp_path: Path, cluster: Any) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(SLOW)
    driver.run(
        plan.read(path, out=str(tmp_path / "undisturbed")), LocalEngine(min(2, usable_cores()))
    )

    sweep = Sweep(path, tmp_path / "out", cluster.address)
    name, worker = wait_for(lambda: workers_on(sweep.under_way()))[0]
    before_worker = {name: epochs_kept(sweep.out / name)}
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: f"lost  {name}" in sweep.log.read_text())

    # A node is lost with all its processes while it has a run: without one nobody would notice.
    raylet = cluster.spare.all_processes["raylet"][0].process.pid
    every_run = list((tmp_path / "undisturbed").glob("t=*"))
    _, worker = wait_for(lambda: workers_on(every_run, raylet))[0]
    os.kill(raylet, signal.SIGKILL)
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: sweep.log.read_text().count("lost  ") >= 2)

    before_driver = wait_for(
        lambda: {run.name: rows for run in sweep.under_way() if (rows := epochs_kept(run))}
    )
    sweep.kill()
    assert not all((sweep.out / run.name / "result.json").exists() for run in every_run)
    cluster.add_node(num_cpus=1)
    Sweep(path, tmp_path / "out", cluster.address).end()

    assert numbers(tmp_path / "out") == numbers(tmp_path / "undisturbed")
    assert len(numbers(tmp_path / "out")) == 6
    # Epochs whose checkpoints had reached the driver were not trained again: they took as long.
    for before in (before_worker, before_driver):
        for run, rows in before.items():
            assert rows
            assert RunFolder(tmp_path / "out" / run).read_history()[: len(rows)] == rows
    config = RunFolder(tmp_path / "out" / name).read_config()
    assert config.artifacts == str(tmp_path / "out" / name)


def test_through_a_storage(tmp_path: Path, cluster: Any) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(
        "dataset: {dt_length: 200}\n"
        "train: {epochs: 2}\n"
        "model: {hidden: 4}\n"
        "grid: {dataset.t: [10], seed: [0, 1]}\n"
    )
    driver.run(plan.read(path, out=str(tmp_path / "undisturbed")), LocalEngine(1))
    storage = f"file://{tmp_path / 'storage'}"
    Sweep(path, tmp_path / "out", cluster.address, "--storage", storage, "--workers", "1").end()
    assert numbers(tmp_path / "out") == numbers(tmp_path / "undisturbed")
    assert {p.name for p in (tmp_path / "storage").iterdir()} == {
        p.name for p in (tmp_path / "out").glob("t=*")
    }
    broken = tmp_path / "out2"
    failing = tmp_path / "failing.yaml"
    failing.write_text(
        "model: {start_from: /nowhere, hidden: 4}\ndataset: {dt_length: 200}\ngrid: {seed: [0]}\n"
    )
    with pytest.raises(AssertionError, match="1 of 1 runs failed"):
        Sweep(failing, broken, cluster.address).end()


@pytest.mark.parametrize("all_of_it", [True, False], ids=["all of it", "its head's server alone"])
def test_a_cluster_that_goes_away(tmp_path: Path, cluster: Any, all_of_it: bool) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(SLOW)
    sweep = Sweep(path, tmp_path / "out", cluster.address)
    wait_for(sweep.under_way)
    if all_of_it:
        cluster.shutdown()
    else:  # no run is lost by that, but the driver's own process would be after a minute
        cluster.head_node.kill_gcs_server()
    with pytest.raises(AssertionError, match=r"(?s)the Ray cluster was lost.*hint: start it again"):
        sweep.end()


def test_a_bench(tmp_path: Path, cluster: Any) -> None:
    """On the cluster, with and without a storage, it finds what it finds here."""
    words = [sys.executable, "-m", "adding_problem", "bench", "--against", "gru:hidden=4"]
    words += ["--seeds", "1", "--budget", "4k", "--t", "40", "--backend", "torch"]
    words += ["--dataset.held_out", "32", "--validate.dt_length", "50"]
    ray = ["--engine", "ray", "--address", cluster.address]
    found = {}
    for name, more in {
        "here": ["--workers", "1"],
        "desk": ray,
        "storage": [*ray, "--storage", str(tmp_path / "files")],
    }.items():
        out = ["--artifacts", str(tmp_path / name), "--out", str(tmp_path / f"{name}.csv")]
        done = subprocess.run([*words, *more, *out], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        with (tmp_path / f"{name}.csv").open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        found[name] = [{**row, "steps_per_second": ""} for row in rows]
        assert "12 of 12 done" in done.stdout
    assert found["desk"] == found["storage"] == found["here"]
    trained = [sorted(p.parent.name for p in (tmp_path / n).rglob("result.json")) for n in found]
    assert trained[0] == trained[1] == trained[2]
    again = subprocess.run(
        [*words, *ray, "--artifacts", str(tmp_path / "desk")], capture_output=True, check=True
    )
    assert b"done  " not in again.stdout
