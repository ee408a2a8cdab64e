"""Cores that this process may use, and torch's threads and denormals."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from adding_problem.system import threads
from tests.helpers.control_groups import V1_CPU, V2, V2_BESIDE_V1, tree


@pytest.mark.parametrize(
    ("cgroup", "mounts", "files", "cores"),
    [
        pytest.param("", "", {}, 16, id="no groups"),
        pytest.param("0::/a", V2, {"a/cpu.max": "200000 100000"}, 2, id="version 2"),
        pytest.param("0::/a", V2, {"a/cpu.max": "150000 100000"}, 2, id="a share of a core"),
        pytest.param("0::/a", V2, {"a/cpu.max": "1000 100000"}, 1, id="less than a core"),
        pytest.param("0::/a", V2, {"a/cpu.max": "max 100000"}, 16, id="no limit"),
        pytest.param("0::/a", V2, {"a/cpu.max": "9900000 100000"}, 16, id="more than there are"),
        pytest.param(
            "0::/a/b",
            V2,
            {"a/b/cpu.max": "max 100000", "a/cpu.max": "300000 100000"},
            3,
            id="nested",
        ),
        pytest.param("0::/a", V2, {"a/cpu.max": ""}, 16, id="an empty file"),
        pytest.param(
            "3:cpu,cpuacct:/a",
            V1_CPU,
            {"cpu,cpuacct/a/cpu.cfs_quota_us": 250000, "cpu,cpuacct/a/cpu.cfs_period_us": 50000},
            5,
            id="version 1",
        ),
        pytest.param(
            "3:cpu,cpuacct:/a",
            V1_CPU,
            {"cpu,cpuacct/a/cpu.cfs_quota_us": -1, "cpu,cpuacct/a/cpu.cfs_period_us": 50000},
            16,
            id="version 1: no limit",
        ),
        pytest.param(
            "3:cpu,cpuacct:/a\n0::/",
            V1_CPU + V2_BESIDE_V1,
            {"cpu,cpuacct/a/cpu.cfs_quota_us": 100000, "cpu,cpuacct/a/cpu.cfs_period_us": 100000},
            1,
            id="both versions",
        ),
    ],
)
def test_usable_cores(
    cgroup: str,
    mounts: str,
    files: dict[str, object],
    cores: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(16)), raising=False)
    assert threads.usable_cores(tree(tmp_path, cgroup, mounts, files)) == cores


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs a system with affinity")
def test_cores_outside_of_the_affinity_are_not_used() -> None:
    program = (
        "import os\n"
        "from adding_problem.system import threads\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "with threads.cpu_settings(None) as count: print(threads.usable_cores(), count)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["1", "1"]


def test_threads_are_one_for_each_usable_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "usable_cores", lambda: 3)
    with threads.cpu_settings(None) as count:
        assert count == torch.get_num_threads() == 3


def test_threads_are_set_and_restored() -> None:
    before = torch.get_num_threads()
    with threads.cpu_settings(3) as count:
        assert count == torch.get_num_threads() == 3
    assert torch.get_num_threads() == before


def test_denormals_are_zero_inside_and_numbers_again_after() -> None:
    tiny = torch.tensor([1e-39])
    assert tiny.mul(0.5).item() > 0
    with threads.cpu_settings(1):
        assert tiny.mul(0.5).item() == 0
        with threads.cpu_settings(1):
            pass
        assert tiny.mul(0.5).item() == 0
    assert tiny.mul(0.5).item() > 0


def test_threads_that_torch_starts_inside_have_no_denormals_either() -> None:
    """In a process of its own, whose torch has started no thread yet."""
    program = (
        "import torch\n"
        "from adding_problem.system import threads\n"
        "with threads.cpu_settings(2):\n"
        "    print(int(torch.full((1_000_000,), 1e-39).mul(0.5).count_nonzero()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) == 0
