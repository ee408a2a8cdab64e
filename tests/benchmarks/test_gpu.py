"""benchmarks/gpu.py on a CPU: its commands, its comparison, and what it says without CUDA."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest
import torch

from tests.conftest import REPOSITORY


@pytest.fixture(scope="module")
def gpu() -> Iterator[ModuleType]:
    sys.path.insert(0, str(REPOSITORY / "benchmarks"))
    yield importlib.import_module("gpu")
    sys.path.pop(0)


def test_a_family_goes_through_every_command(gpu: ModuleType) -> None:
    found = gpu.check("pooling", "cpu")
    assert list(found["seconds"]) == ["train", "resume", "validate", "lengths", "export"]


def test_the_command_that_fails_is_named_with_what_it_said(gpu: ModuleType) -> None:
    found = gpu.check("no-such-family", "cpu")
    assert found["failed"] == "train"
    assert "no-such-family" in found["said"]


def test_every_way_that_a_cpu_has_is_timed(gpu: ModuleType) -> None:
    (row,) = gpu.compare("cpu", ["eager", "cudnn"], [4], 20, 3)
    assert row["batch"] == 4
    assert row["best"] == min(row["ms"], key=row["ms"].get)
    assert all(ms > 0 for ms in row["ms"].values())


def test_without_cuda_it_says_so(
    gpu: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    assert gpu.main() == 0
    assert "no CUDA device" in capsys.readouterr().out
