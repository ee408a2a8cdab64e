"""One process at a time in a folder, and the message that a second one gets."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from adding_problem.errors import LockError
from adding_problem.evaluation.validate import validate
from adding_problem.experiments.train import train
from adding_problem.runs.folder import RunFolder
from adding_problem.runs.lock import lock_folder
from tests.helpers.faults import held
from tests.helpers.training import small


def test_the_second_process_is_refused_and_a_killed_one_holds_nothing(tmp_path: Path) -> None:
    with held(tmp_path) as process:
        told = rf"process {process.pid} on '.*' \(since .*\) is at work in it"
        with pytest.raises(LockError, match=told):
            train(small(tmp_path))
        assert not RunFolder(tmp_path).config_copy.exists()
        process.kill()
        process.wait()
    assert train(small(tmp_path)).stop_reason == "epochs"


def test_a_folder_is_held_once_within_a_process_too(tmp_path: Path) -> None:
    with (
        lock_folder(tmp_path),
        pytest.raises(LockError, match=f"process {os.getpid()} on"),
        lock_folder(tmp_path),
    ):
        pass
    with lock_folder(tmp_path):
        pass


def test_a_score_keeps_other_processes_out(tmp_path: Path) -> None:
    run = small(tmp_path)
    train(run)
    with held(tmp_path), pytest.raises(LockError, match="is at work in it"):
        validate(run)
    assert not RunFolder(tmp_path).validation.exists()
    assert validate(run).sequences > 0


@pytest.mark.parametrize("content", ["", "{", "[]", '{"process": "x"}', "a\x1b]0;b\x07"])
def test_a_damaged_name_of_the_holder_is_not_shown(tmp_path: Path, content: str) -> None:
    with lock_folder(tmp_path):
        (tmp_path / ".lock-holder.json").write_text(content)
        with pytest.raises(LockError, match="another process is at work"), lock_folder(tmp_path):
            pass


def test_a_link_in_the_place_of_the_lock_is_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious.txt"
    precious.write_text("my thesis")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lockfile").symlink_to(precious)
    with pytest.raises(LockError, match="a link in the place of"), lock_folder(tmp_path / "run"):
        pass
    assert precious.read_text() == "my thesis"


def test_a_lock_is_no_file_of_the_run(tmp_path: Path) -> None:
    """It is left out of what travels, and a folder that holds nothing else is a fresh one."""
    with lock_folder(tmp_path):
        pass
    assert train(small(tmp_path)).stop_reason == "epochs"
