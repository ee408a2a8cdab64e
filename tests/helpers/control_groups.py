"""Trees of files as the kernel shows them to a process in control groups."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

V1_MEMORY = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
V1_CPU = (
    "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
)
V2 = "31 23 0:28 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V2_BESIDE_V1 = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
MEMINFO = (
    "MemTotal: 8388608 kB\nMemFree: 1024 kB\nMemAvailable: 4194304 kB\n"
    "SwapTotal: 0 kB\nSwapFree: 0 kB\nHugePages_Total: 0\n"
)


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
