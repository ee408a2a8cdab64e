"""Memory and cores that the kernel leaves a process: against trees of files as it shows them, and against limits of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from adding_problem.errors import BackendError
from adding_problem.experiments.train import train
from adding_problem.system import memory, runtime
from adding_problem.system.memory import Memory
from tests.helpers.training import small

MIB = 1 << 20
V1_MEMORY = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
V1_CPU = (
    "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
)
V2 = "31 23 0:28 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V2_BESIDE_V1 = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
MEMINFO = "MemTotal: 8388608 kB\nMemFree: 1024 kB\nMemAvailable: 4194304 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\nHugePages_Total: 0\n"
MACHINE = 4096  # MiB, of MEMINFO
UNLIMITED_V1 = 9223372036854771712


def tree(
    root: Path, cgroup: str, mounts: str, files: Mapping[str, object], meminfo: str = MEMINFO
) -> Path:
    """A root folder with these files below sys/fs/cgroup, and what /proc says of the process."""
    proc = {"proc/self/cgroup": cgroup, "proc/self/mountinfo": mounts, "proc/meminfo": meminfo}
    for name, content in {
        **proc,
        **{f"sys/fs/cgroup/{name}": content for name, content in files.items()},
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{content}\n")
    return root


def v2(folder: str, most: object, used: int, **others: object) -> dict[str, object]:
    """The files of a group of version 2, in MiB."""
    most = most if most == "max" else int(str(most)) * MIB
    return {
        f"{folder}memory.max": most,
        f"{folder}memory.current": used * MIB,
        **{f"{folder}memory.{name}": value for name, value in others.items()},
    }


def v1(
    folder: str, most: int, used: int, kind: str = "memory", **others: object
) -> dict[str, object]:
    """The files of a group of version 1, in bytes and MiB."""
    return {
        f"{folder}{kind}.limit_in_bytes": most,
        f"{folder}{kind}.usage_in_bytes": used * MIB,
        **{f"{folder}memory.{name}": value for name, value in others.items()},
    }


STAT_2 = (
    f"anon {70 * MIB}\nfile {30 * MIB}\ninactive_file {20 * MIB}\nactive_file {10 * MIB}\nshmem 0"
)
STAT_1 = f"cache {99 * MIB}\ninactive_file 1\ntotal_inactive_file {20 * MIB}\ntotal_active_file {10 * MIB}"


@pytest.mark.parametrize(
    ("cgroup", "mounts", "files", "left"),
    [
        pytest.param("0::/", V2, v2("", 600, 100), 500, id="version 2"),
        pytest.param(
            "0::/", V2, v2("", 600, 100, stat=STAT_2), 530, id="file cache can be taken back"
        ),
        pytest.param("0::/", V2, v2("", "max", 100), MACHINE, id="no limit"),
        pytest.param(
            "0::/a/b",
            V2,
            v2("a/b/", 600, 100) | v2("a/", "max", 100),
            500,
            id="nested: the inner one",
        ),
        pytest.param(
            "0::/a/b",
            V2,
            v2("a/b/", "max", 10) | v2("a/", 300, 50),
            250,
            id="nested: the outer one",
        ),
        pytest.param(
            "0::/a/b",
            V2,
            v2("a/b/", 600, 100) | v2("a/", 700, 650),
            50,
            id="nested: others in the outer one",
        ),
        pytest.param(
            "0::/", V2, v2("", 600, 100, high=200 * MIB), 100, id="slowed before it is killed"
        ),
        pytest.param("0::/", V2, v2("", 600, 700), 0, id="more used than allowed"),
        pytest.param(
            "0::/../../x", V2, v2("", 600, 100), 500, id="a group outside of the namespace"
        ),
        pytest.param("0::/gone", V2, v2("", 600, 100), 500, id="a group that cannot be seen"),
        pytest.param(
            "0::/docker/3f",
            V2.replace(" / ", " /docker/3f "),
            v2("", 600, 100),
            500,
            id="version 2 of a container",
        ),
        pytest.param("0::/a", V2, {}, MACHINE, id="no files"),
        pytest.param("", "", {}, MACHINE, id="no groups"),
        pytest.param("4:memory:/", V1_MEMORY, v1("memory/", 600 * MIB, 100), 500, id="version 1"),
        pytest.param(
            "4:memory:/",
            V1_MEMORY,
            v1("memory/", 600 * MIB, 100, stat=STAT_1),
            530,
            id="version 1: file cache",
        ),
        pytest.param(
            "4:memory:/a",
            V1_MEMORY,
            v1("memory/a/", UNLIMITED_V1, 1) | v1("memory/", UNLIMITED_V1, 1),
            MACHINE,
            id="version 1: no limit",
        ),
        pytest.param(
            "4:memory:/a/b",
            V1_MEMORY,
            v1("memory/a/b/", UNLIMITED_V1, 1) | v1("memory/a/", 300 * MIB, 50),
            250,
            id="version 1: nested",
        ),
        pytest.param(
            "9:memory:/docker/3f",
            V1_MEMORY.replace(" / ", " /docker/3f "),
            v1("memory/", 600 * MIB, 100),
            500,
            id="version 1 of a container",
        ),
        pytest.param(
            "4:memory:/a:b",
            V1_MEMORY,
            v1("memory/a:b/", 600 * MIB, 100),
            500,
            id="a colon in a name",
        ),
        pytest.param(
            "4:memory:/a",
            V1_MEMORY.replace("memory rw", r"my\040own rw"),
            v1("my own/a/", 600 * MIB, 100),
            500,
            id="a space in a name",
        ),
        pytest.param(
            "4:memory:/a\n0::/",
            V1_MEMORY + V2_BESIDE_V1,
            v1("memory/a/", 600 * MIB, 100) | {"unified/cgroup.procs": ""},
            500,
            id="both versions",
        ),
        pytest.param(
            "4:cpuset:/a",
            V1_MEMORY,
            v1("memory/a/", 600 * MIB, 100),
            MACHINE,
            id="another controller's group",
        ),
    ],
)
def test_memory_left(
    cgroup: str, mounts: str, files: dict[str, object], left: int, tmp_path: Path
) -> None:
    found = memory.memory_left(tree(tmp_path, cgroup, mounts, files))
    assert found is not None
    assert found.left == left * MIB
    assert ("control group" in found.limit) == (left != MACHINE)


@pytest.mark.parametrize(
    ("cgroup", "mounts", "files", "left"),
    [
        pytest.param("", "", {}, MACHINE + 1024, id="the machine"),
        pytest.param("0::/", V2, v2("", 600, 100), 500 + 1024, id="version 2: as much as there is"),
        pytest.param(
            "0::/",
            V2,
            v2("", 600, 100) | {"memory.swap.max": 0, "memory.swap.current": 0},
            500,
            id="version 2: none",
        ),
        pytest.param(
            "0::/",
            V2,
            v2("", 600, 100) | {"memory.swap.max": 200 * MIB, "memory.swap.current": 50 * MIB},
            650,
            id="version 2: some",
        ),
        pytest.param(
            "4:memory:/",
            V1_MEMORY,
            v1("memory/", 600 * MIB, 100),
            500 + 1024,
            id="version 1: as much as there is",
        ),
        pytest.param(
            "4:memory:/",
            V1_MEMORY,
            v1("memory/", 600 * MIB, 100) | v1("memory/", 700 * MIB, 150, "memory.memsw"),
            550,
            id="version 1: some",
        ),
    ],
)
def test_free_swap_counts(
    cgroup: str, mounts: str, files: dict[str, object], left: int, tmp_path: Path
) -> None:
    found = memory.memory_left(
        tree(tmp_path, cgroup, mounts, files, MEMINFO.replace("SwapFree: 0", "SwapFree: 1048576"))
    )
    assert found is not None
    assert found.left == left * MIB


def test_a_system_without_proc_says_what_there_is_in_all(tmp_path: Path) -> None:
    found = memory.memory_left(tmp_path)
    assert found == Memory(
        os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), "this machine's memory"
    )


def test_memory_of_this_process_is_no_more_than_the_kernel_says() -> None:
    here = memory.memory_left()
    assert here is not None
    assert 0 < here.left <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="needs Linux")
@pytest.mark.parametrize(("limit", "option"), [("RLIMIT_AS", "-v"), ("RLIMIT_DATA", "-d")])
def test_resource_limits_are_limits(limit: str, option: str) -> None:
    """Of what is said to be left nine tenths can be taken, and eleven tenths cannot."""
    program = (
        "import mmap, resource\n"
        "from adding_problem.system import memory\n"
        f"resource.setrlimit(resource.{limit}, (4 << 30, 4 << 30))\n"
        "left, name = memory.memory_left()\n"
        "assert left < 4 << 30\n"
        "mmap.mmap(-1, left * 9 // 10, mmap.MAP_PRIVATE).close()\n"
        "try: mmap.mmap(-1, left * 11 // 10, mmap.MAP_PRIVATE)\n"
        "except OSError: print(name)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == f"ulimit {option}"


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
    assert memory.usable_cores(tree(tmp_path, cgroup, mounts, files)) == cores


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs a system with affinity")
def test_cores_outside_of_the_affinity_are_not_used() -> None:
    program = (
        "import os\n"
        "from adding_problem.system import memory; from adding_problem.system import runtime\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "with runtime.cpu_settings(None) as threads: print(memory.usable_cores(), threads)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["1", "1"]


def test_threads_are_one_for_each_usable_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "usable_cores", lambda: 3)
    with runtime.cpu_settings(None) as threads:
        assert threads == torch.get_num_threads() == 3


@pytest.mark.parametrize(
    ("keys", "what"),
    [
        ({"dataset__dt_length": 50_000, "dataset__t": 10_000}, "the sequences take 1.31 GiB"),
        ({"model__hidden": 4000}, "to build the model takes 0.95 GiB"),
        ({"model__hidden": 1500}, "to train the model takes 0.87 GiB"),
    ],
)
def test_a_run_that_does_not_fit_into_its_group_is_refused(
    keys: dict[str, int],
    what: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root = tree(tmp_path, "0::/", V2, v2("", 600, 100))
    there = memory.memory_left(root)
    monkeypatch.setattr(memory, "memory_left", lambda: there)
    with pytest.raises(
        BackendError,
        match=rf"{what}, and this process may take 0\.49 GiB more \(the memory limit of the control group",
    ):
        train(small(tmp_path / "run", **keys))
    assert not (tmp_path / "run").exists()
