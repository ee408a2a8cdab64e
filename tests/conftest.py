"""What several test files share."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import SimpleNamespace

import pytest

from adding_problem.cli import main
from adding_problem.config import RunConfig
from adding_problem.evaluation import validate
from adding_problem.experiments import horizon, train
from adding_problem.runs.folder import RunFolder
from adding_problem.runs.records import RunResult
from tests.helpers.custom_models import MODELS
from tests.helpers.training import small

REPOSITORY = Path(__file__).parents[1]
Command = Callable[..., "subprocess.CompletedProcess[str]"]


SLOW_FIRST = (
    "test_bench",
    "test_sweep",
    "test_certificate",
    "test_reliability",
    "test_memory",
    "test_custom",
    "test_horizon",
    "test_families",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with tests of many seconds come first, or one of these might begin when another core
    has nothing left to do."""
    items.sort(
        key=lambda item: (
            SLOW_FIRST.index(item.path.stem) if item.path.stem in SLOW_FIRST else len(SLOW_FIRST)
        )
    )


@pytest.fixture
def pictures() -> None:
    """Asks for the pictures that training, validation and a horizon run leave."""


@pytest.fixture(autouse=True)
def no_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of tiny runs would spend most of their time on a picture: they leave an empty file
    where nobody asks for it."""

    def touch(path: Path, *_: object) -> None:
        path.touch()

    def draw(config: RunConfig, result: RunResult) -> None:
        touch(RunFolder(config.artifacts).loss_plot)

    if "pictures" not in request.fixturenames:
        monkeypatch.setattr(train, "draw", draw)
        for module, name in ((validate, "draw_predictions"), (horizon, "draw_horizon")):
            monkeypatch.setattr(module, "plots", SimpleNamespace(**{name: touch}))


@pytest.fixture(scope="session")
def finished_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of one epoch, which no test changes."""
    path = tmp_path_factory.mktemp("finished") / "run"
    train.fit(small(path, train__epochs=1))
    return path


@pytest.fixture
def finished(finished_once: Path, tmp_path: Path) -> Path:
    """A finished run of one epoch, the test's own."""
    path = Path(shutil.copytree(finished_once, tmp_path / "run"))
    copy = RunFolder(path).config_copy
    copy.write_text(copy.read_text().replace(str(finished_once), str(path)))
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of custom models."""
    path = tmp_path / "mine.py"
    path.write_text(MODELS)
    return path


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run `adding-problem` as a user would, in an empty folder, but in this process, which has
    torch loaded.

    With program=, as Python's arguments name it, in a process of its own.
    """

    def run(*arguments: object, program: Sequence[object] = ()) -> subprocess.CompletedProcess[str]:
        words = list(map(str, arguments))
        if program:
            return subprocess.run(
                [sys.executable, *map(str, program), *words],
                cwd=tmp_path,
                timeout=120,
                text=True,
                capture_output=True,
                check=False,
                env={**os.environ, "COLUMNS": "120"},
            )
        said, complained = io.StringIO(), io.StringIO()
        with monkeypatch.context() as here, redirect_stdout(said), redirect_stderr(complained):
            here.chdir(tmp_path)
            here.setenv("COLUMNS", "120")
            try:
                code = main(words)
            except SystemExit as end:  # --help and --version
                code = int(end.code or 0)
        return subprocess.CompletedProcess(words, code, said.getvalue(), complained.getvalue())

    return run


@pytest.fixture
def small_config(tmp_path: Path) -> Path:
    """A run of a second."""
    path = tmp_path / "small.yaml"
    path.write_text(
        "dataset: {dt_length: 300, t: 12}\n"
        "train: {epochs: 3, batch: 32, es_patience: 5}\n"
        "model: {hidden: 8}\n"
        "threads: 1\n"
        f"artifacts: {tmp_path / 'run'}\n"
    )
    return path
