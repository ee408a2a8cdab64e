"""Memory that this process may take: against trees of files, against limits, and in full runs."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from adding_problem.errors import BackendError
from adding_problem.experiments.train import train
from adding_problem.system import memory
from adding_problem.system.memory import Memory, memory_left
from tests.helpers.control_groups import MEMINFO, V1_MEMORY, V2, V2_BESIDE_V1, tree
from tests.helpers.training import needs_native, small

MIB = 1 << 20
MACHINE = 4096  # MiB, of MEMINFO
UNLIMITED_V1 = 9223372036854771712


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
STAT_1 = (
    f"cache {99 * MIB}\ninactive_file 1\n"
    f"total_inactive_file {20 * MIB}\ntotal_active_file {10 * MIB}"
)


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
    found = memory_left(tree(tmp_path, cgroup, mounts, files))
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
    found = memory_left(
        tree(tmp_path, cgroup, mounts, files, MEMINFO.replace("SwapFree: 0", "SwapFree: 1048576"))
    )
    assert found is not None
    assert found.left == left * MIB


def test_a_system_without_proc_says_what_there_is_in_all(tmp_path: Path) -> None:
    found = memory_left(tmp_path)
    assert found == Memory(
        os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), "this machine's memory"
    )


def test_memory_of_this_process_is_no_more_than_the_kernel_says() -> None:
    here = memory_left()
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
    there = memory_left(root)
    monkeypatch.setattr(memory, "memory_left", lambda: there)
    with pytest.raises(
        BackendError,
        match=rf"{what}, and this process may take 0\.49 GiB more \(the memory limit of the",
    ):
        train(small(tmp_path / "run", **keys))
    assert not (tmp_path / "run").exists()


def page_faults(program: str) -> int:
    """Of the tenth round of a program, in a process of its own, whose allocator is not tuned yet.

    The layout of the memory that is kept settles after two to four rounds.
    """
    rounds = (
        "import resource\n"
        "from adding_problem.system.threads import cpu_settings\n"
        "import torch\n"
        "with cpu_settings(1):\n"
        "    for _ in range(10):\n"
        "        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        f"        {program}\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", rounds], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_memory_is_kept_for_the_next_step() -> None:
    assert (
        page_faults("[torch.ones(6 << 20) for _ in range(4)]") < 100
    )  # thousands where 96 MiB come anew


HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


@pytest.mark.skipif(
    not HUGE_PAGES.is_file() or "[never]" in HUGE_PAGES.read_text(),
    reason="needs a system with huge pages",
)
def test_large_tensors_have_huge_pages() -> None:
    assert (
        page_faults("torch.ones(1 << 26)") < 10_000
    )  # 65,536 where 256 MiB come in pages of 4 KiB


@pytest.mark.parametrize("backend", ["torch", pytest.param("native", marks=needs_native)])
def test_memory_that_does_not_suffice_is_told(backend: str, tmp_path: Path) -> None:
    """A batch of 16 sequences of 60,000 steps keeps more than 4 GiB for its backward pass."""
    program = (
        "import resource, sys\n"
        "from adding_problem.cli import main\n"
        "resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    options = [
        "--model",
        "s6",
        "--recipe",
        "fast",
        "--curriculum.start",
        "null",
        "--curriculum.shortest",
        "1",
        "--dataset.t",
        "60000",
        "--threads",
        "1",
        "--backend",
        backend,
        "--artifacts",
        "run",
    ]
    done = subprocess.run(
        [sys.executable, "-c", program, "train", *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "memory: there is not enough" in done.stderr, done.stderr
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
