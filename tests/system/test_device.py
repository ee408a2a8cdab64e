"""Backend and device: what is chosen, and what can be tested about GPUs without one.

PyTorch's device `meta`, which computes only shapes, stands in for a GPU.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from adding_problem import models
from adding_problem.config import ModelConfig
from adding_problem.errors import BackendError
from adding_problem.experiments.sweep import engines, plan
from adding_problem.experiments.sweep.local import LocalEngine
from adding_problem.experiments.train import train
from adding_problem.models import CustomModel
from adding_problem.runs.folder import RunFolder
from adding_problem.system import device
from adding_problem.system.threads import usable_cores
from tests.conftest import Command
from tests.helpers.training import needs_native, small

CPU = torch.device("cpu")


@needs_native
def test_auto_takes_the_native_kernels_on_a_cpu_and_records_it(tmp_path: Path) -> None:
    assert device.resolve_backend("auto", CPU) == "native"
    assert device.resolve_backend("torch", CPU) == "torch"
    assert train(small(tmp_path / "a", train__epochs=1)).backend == "native"
    assert train(small(tmp_path / "b", train__epochs=1, backend="torch")).backend == "torch"


def test_without_kernels_auto_is_torch_and_native_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(device, "NATIVE_PACKAGE", "a_package_that_nobody_has")
    device._native_problem.cache_clear()
    try:
        assert device.resolve_backend("auto", CPU) == "torch"
        with pytest.raises(BackendError, match=r"pip install \./native"):
            device.resolve_backend("native", CPU)
    finally:
        device._native_problem.cache_clear()


def test_the_kernels_are_not_for_a_gpu() -> None:
    assert device.resolve_backend("auto", torch.device("cuda")) == "torch"
    with pytest.raises(BackendError, match="run on the CPU, not on 'cuda'"):
        device.resolve_backend("native", torch.device("cuda"))


def test_what_a_result_records() -> None:
    assert device.processor()
    assert {"python", "platform", "adding-problem", "torch", "numpy"} <= device.versions().keys()


@pytest.fixture(autouse=True)
def keras_stays_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first model looked up sets Keras's device for the whole process; undo it after a test."""
    monkeypatch.setenv("KERAS_TORCH_DEVICE", "cpu")


ELSEWHERE = '''
import torch
from torch import nn

class StateOfItsOwn(nn.Module):
    """Makes its state on the GPU, as people write it."""
    def __init__(self):
        super().__init__()
        self.cell = nn.GRUCell(2, 4)
    def forward(self, x):
        state = torch.zeros(len(x), 4, device="meta")
        for step in x.unbind(1):
            state = self.cell(step, state)
        return state[:, None].expand(-1, x.shape[1], -1)
'''


def test_a_run_on_the_cpu_opens_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def opened() -> None:
        raise AssertionError("CUDA was opened")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "_lazy_init", opened)
    train(small(tmp_path / "run", train__epochs=1, device="cpu"))


def test_models_of_the_zoo_are_built_for_another_device() -> None:
    for name in ("lstm", "s6"):
        model = models.build_model(ModelConfig(name), device="meta")
        assert {p.device.type for p in model.parameters()} == {"meta"}
        assert model(torch.rand(3, 20, 2, device="meta")).shape == (3, 1)


def test_a_users_model_is_tried_where_it_will_run(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(ELSEWHERE)
    model = models.build_model(ModelConfig(f"{tmp_path / 'mine.py'}:StateOfItsOwn"), device="meta")
    assert isinstance(model, CustomModel)
    assert model.readout is not None
    assert model(torch.rand(3, 20, 2, device="meta")).shape == (3, 1)


def test_runs_that_share_a_gpu_go_one_at_a_time_unless_the_user_says_more(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "sweep.yaml").write_text("threads: 1\ngrid: {seed: [0, 1]}\n")
    runs = [run.config for run in plan.read(tmp_path / "sweep.yaml")]
    for there, workers in ((False, usable_cores()), (True, 1)):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert isinstance(engine := engines.build(engines.Choice("local"), runs), LocalEngine)
        assert engine.workers == workers
    assert isinstance(
        engine := engines.build(engines.Choice("local", workers=usable_cores()), runs),
        LocalEngine,
    )
    assert engine.workers == usable_cores()


def test_lengths_scores_here_what_was_trained_on_a_gpu(tmp_path: Path, command: Command) -> None:
    folder = RunFolder(tmp_path / "run")
    train(small(folder.path, train__epochs=1))
    folder.config_copy.write_text(
        folder.config_copy.read_text().replace("device: auto", "device: cuda")
    )
    folder.result.write_text(json.dumps(json.loads(folder.result.read_text()) | {"device": "cuda"}))
    done = command("validate", "run", "--lengths", 10, "--sequences", 20, "--out", "heat.png")
    assert done.returncode == 0, done.stderr
