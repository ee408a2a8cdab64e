"""The machine under a run: which backend and device, and what happens when they are not there."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from adding_problem.errors import BackendError
from adding_problem.experiments.train import train
from adding_problem.system import runtime
from tests.helpers.training import needs_native, small

CPU = torch.device("cpu")


@needs_native
def test_auto_takes_the_native_kernels_on_a_cpu_and_records_it(tmp_path: Path) -> None:
    assert runtime.resolve_backend("auto", CPU) == "native"
    assert runtime.resolve_backend("torch", CPU) == "torch"
    assert train(small(tmp_path / "a", train__epochs=1)).backend == "native"
    assert train(small(tmp_path / "b", train__epochs=1, backend="torch")).backend == "torch"


def test_without_kernels_auto_is_torch_and_native_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runtime, "NATIVE_PACKAGE", "a_package_that_nobody_has")
    runtime._native_problem.cache_clear()
    try:
        assert runtime.resolve_backend("auto", CPU) == "torch"
        with pytest.raises(BackendError, match=r"pip install \./native"):
            runtime.resolve_backend("native", CPU)
    finally:
        runtime._native_problem.cache_clear()


def test_the_kernels_are_not_for_a_gpu() -> None:
    assert runtime.resolve_backend("auto", torch.device("cuda")) == "torch"
    with pytest.raises(BackendError, match="run on the CPU, not on 'cuda'"):
        runtime.resolve_backend("native", torch.device("cuda"))


def test_threads_are_set_and_restored() -> None:
    before = torch.get_num_threads()
    with runtime.cpu_settings(3) as threads:
        assert threads == torch.get_num_threads() == 3
    assert torch.get_num_threads() == before


def test_denormals_are_zero_inside_and_numbers_again_after() -> None:
    tiny = torch.tensor([1e-39])
    assert tiny.mul(0.5).item() > 0
    with runtime.cpu_settings(1):
        assert tiny.mul(0.5).item() == 0
        with runtime.cpu_settings(1):
            pass
        assert tiny.mul(0.5).item() == 0
    assert tiny.mul(0.5).item() > 0


def test_threads_that_torch_starts_inside_have_no_denormals_either() -> None:
    """In a process of its own, whose torch has started no thread yet."""
    program = (
        "import torch\n"
        "from adding_problem.system import runtime\n"
        "with runtime.cpu_settings(2):\n"
        "    print(int(torch.full((1_000_000,), 1e-39).mul(0.5).count_nonzero()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) == 0


def page_faults(program: str) -> int:
    """Of the tenth round of a program, in a process of its own, whose allocator nothing has tuned yet.

    The memory that is kept has found its layout after two to four rounds.
    """
    rounds = (
        "import resource\n"
        "from adding_problem.system import runtime\n"
        "import torch\n"
        "with runtime.cpu_settings(1):\n"
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
    """What a batch of 16 sequences of 60,000 steps keeps for its backward pass does not fit into the 4 GiB that the process may have."""
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


def test_what_a_result_records() -> None:
    assert runtime.processor()
    assert {"python", "platform", "adding-problem", "torch", "numpy"} <= runtime.versions().keys()
