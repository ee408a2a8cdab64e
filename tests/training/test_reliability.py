"""Nothing lost: runs cut anywhere, damaged checkpoints, full disks, two processes on one folder.
More: benchmarks/torture.py."""

from __future__ import annotations

import dataclasses
import errno
import importlib
import itertools
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from adding_problem import config
from adding_problem.config import RunConfig
from adding_problem.errors import (
    BackendError,
    ConfigError,
    Interrupted,
    RunFolderError,
    StorageError,
)
from adding_problem.evaluation import validate
from adding_problem.experiments.train import fit, train
from adding_problem.runs import atomic_io
from adding_problem.runs import folder as run_folder
from adding_problem.runs.folder import RunFolder
from adding_problem.runs.records import EpochRow
from adding_problem.system import signals
from adding_problem.training import checkpoints as module
from adding_problem.training import optim
from adding_problem.training.checkpoints import Checkpoints
from adding_problem.training.state import TrainingState
from tests.conftest import REPOSITORY, Command
from tests.helpers.faults import Stop
from tests.helpers.files import contents
from tests.helpers.schedules import SMALL, fast
from tests.helpers.training import needs_native, small

BACKENDS = ["torch", pytest.param("native", marks=needs_native)]


def die() -> None:
    """As far as the run can tell, kill -9: nothing of it runs after this."""
    raise KeyboardInterrupt


def make_run(recipe: str, folder: Path, **changes: Any) -> RunConfig:
    values = {"train__checkpoint_minutes": 1e-9, "artifacts": str(folder), **changes}
    if recipe == "fast":
        return fast(
            **{
                **SMALL,
                "train__stop_val_loss": 1e-9,
                "train__epochs": 4,
                "train__epoch_steps": 6,
                **values,
            }
        )
    return small(**{"folder": folder, **{k: v for k, v in values.items() if k != "artifacts"}})


@pytest.fixture
def costless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints are written after every step, whatever that costs."""
    monkeypatch.setattr(module, "_MOST_COST", 1e9)


def everything(folder: Path) -> Any:
    """All that must be equal, bit for bit: what a finished run left, without its times."""
    run = RunFolder(folder)
    result = dataclasses.asdict(run.read_result())
    for timed in (result, *filter(None, result["reached"].values())):
        del timed["seconds"]
    rows = [
        (row.epoch, row.loss, row.val_loss, row.sequences, row.sequence_steps, row.val_sequences)
        for row in run.read_history()
    ]
    return run.weights.read_bytes(), rows, result


@pytest.fixture(scope="module")
def uncut(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What the small run leaves that was never cut."""
    path = tmp_path_factory.mktemp("uncut")
    fit(small(path))
    return everything(path)


@pytest.mark.usefixtures("costless")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("recipe", ["original", "fast"])
def test_a_run_killed_inside_an_epoch_continues_there(
    recipe: str, backend: str, tmp_path: Path
) -> None:
    train(make_run(recipe, tmp_path / "uncut", backend=backend))
    cut = make_run(recipe, tmp_path / "cut", backend=backend)
    for epoch, step in ((1, 4), (3, 3)):
        with pytest.raises(KeyboardInterrupt):
            train(cut, resume=True, listener=Stop(epoch, step, die))
    listener = Stop(0, 0, die)
    train(cut, resume=True, listener=listener)
    assert listener.seen[0] == (3, 3)  # the step that was seen and not yet kept is taken again
    assert everything(tmp_path / "cut") == everything(tmp_path / "uncut")


def test_kill_minus_nine_at_any_moment(tmp_path: Path) -> None:
    """Real signals, at random moments and in the middle of writes, by the script that
    docs/reliability.md is made with."""
    out = tmp_path / "torture.json"
    done = subprocess.run(
        [
            sys.executable,
            REPOSITORY / "benchmarks" / "torture.py",
            "--part",
            "kills",
            "--n",
            "2",
            "--out",
            out,
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    outcome = json.loads(out.read_text())["parts"]["kills"]["all"]
    assert (outcome["trials"], outcome["lost"], outcome["tracebacks"]) == (2, 0, 0)


def test_the_published_table_is_that_of_the_record() -> None:
    sys.path.insert(0, str(REPOSITORY / "benchmarks"))
    try:
        table = importlib.import_module("torture_table").table
    finally:
        sys.path.pop(0)
    docs = REPOSITORY / "docs"
    record = json.loads((docs / "torture.json").read_text())
    assert table(record) in (docs / "reliability.md").read_text()
    harm = ("lost", "tracebacks", "escaped", "wrong_without_a_word", "unexpected")
    assert {
        key: part["all"][key]
        for part in record["parts"].values()
        for key in harm
        if part["all"].get(key)
    } == {}


def spoil(file: Path, how: str) -> None:
    data = bytearray(file.read_bytes())
    if how == "truncated":
        del data[len(data) // 2 :]
    else:
        data[-5] ^= 1  # in a tensor: no parser would notice
    file.write_bytes(data)


# --- more epochs ----------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("recipe", "changes", "shorter", "longer"),
    [
        ("original", {"learning_rate": 0.3}, {"epochs": 2}, {"epochs": 7}),
        ("original", {"learning_rate": 0.3, "epochs": 8}, {"es_patience": 0}, {"es_patience": 3}),
        ("original", {}, {"stop_val_loss": 10.0}, {"stop_val_loss": None}),
        ("original", {}, {"budget_steps": 1}, {"budget_steps": 6000, "epochs": 5}),
        ("original", {}, {"budget_minutes": 1e-9}, {"budget_minutes": 100.0}),
        (
            "fast",
            {"decay_steps": 7, "decay_below": 1.0},
            {"epochs": 2},
            {"epochs": 4},
        ),  # the decay goes on over the end
        (
            "fast",
            {"val_subset": 8, "stop_val_loss": 1e-9},
            {"epochs": 2},
            {"epochs": 4},
        ),  # at its end the short one has a look at all
    ],
)
def test_a_finished_run_with_a_larger_budget_is_the_one_that_had_it_from_the_start(
    recipe: str,
    changes: dict[str, Any],
    shorter: dict[str, Any],
    longer: dict[str, Any],
    backend: str,
    tmp_path: Path,
) -> None:
    def run(name: str, budget: dict[str, Any]) -> RunConfig:
        values = {f"train__{key}": value for key, value in {**changes, **budget}.items()}
        return make_run(recipe, tmp_path / name, backend=backend, **values)

    short = train(run("grown", shorter))
    expected = train(run("uncut", longer))
    assert short.epochs < expected.epochs
    with pytest.raises(
        RunFolderError,
        match=r"(?s)holds a run with a smaller budget \(train\..* there.* now.*give --resume",
    ):
        train(run("grown", longer))
    assert RunFolder(tmp_path / "grown").read_result() == short
    train(run("grown", longer), resume=True)
    assert everything(tmp_path / "grown") == everything(tmp_path / "uncut")
    assert RunFolder(tmp_path / "grown").read_config().digest == run("uncut", longer).digest
    assert RunFolder(tmp_path / "grown").loss_plot.exists()


def test_what_the_shorter_run_left_at_its_end_does_not_outlive_it(tmp_path: Path) -> None:
    train(small(tmp_path, train__epochs=2))
    validate.validate(small(tmp_path, train__epochs=2))
    folder = RunFolder(tmp_path)
    folder.exports["onnx"].write_bytes(b"of the shorter run")
    folder.exports["savedmodel"].mkdir()
    train(small(tmp_path), resume=True)
    left = [
        folder.validation,
        folder.prediction_pickle,
        folder.prediction_plot,
        *folder.exports.values(),
    ]
    assert not [file for file in left if file.exists()]
    assert validate.validate(small(tmp_path)).model == small(tmp_path).digest


@pytest.mark.parametrize("moment", range(8))
def test_a_run_killed_while_it_is_given_more_epochs_goes_on(
    moment: int, uncut: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before each of the files that the change deletes and writes: with the old number of epochs as
    well as with the new one."""
    train(small(tmp_path / "cut", train__epochs=2))
    short = everything(tmp_path / "cut")
    count = itertools.count()
    with monkeypatch.context() as here:
        for name in ("remove", "replacing"):
            original = getattr(atomic_io, name)

            def dying(*words: Any, original: Any = original, **named: Any) -> Any:
                if next(count) == moment:
                    die()
                return original(*words, **named)

            here.setattr(atomic_io, name, dying)
        with pytest.raises(KeyboardInterrupt):
            train(small(tmp_path / "cut"), resume=True, listener=Stop(3, 1, die))
    shutil.copytree(tmp_path / "cut", tmp_path / "back")
    train(small(tmp_path / "cut"), resume=True)
    assert everything(tmp_path / "cut") == uncut
    if RunFolder(tmp_path / "back").read_config().train.epochs == 2:
        train(small(tmp_path / "back", train__epochs=2), resume=True)
        assert everything(tmp_path / "back") == short


def test_a_cut_run_may_be_given_more_epochs_too(uncut: Any, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(small(tmp_path / "cut", train__epochs=3), listener=Stop(2, 3, die))
    train(small(tmp_path / "cut"), resume=True)
    assert everything(tmp_path / "cut") == uncut


@pytest.mark.parametrize(
    "changes",
    [
        {"train__epochs": 3},
        {"train__epochs": 6, "seed": 1},
        {"train__epochs": 6, "train__es_patience": 1},
        {"train__stop_val_loss": 1.0},
    ],
)
def test_what_is_no_larger_budget_is_another_run(changes: dict[str, Any], tmp_path: Path) -> None:
    result = train(small(tmp_path))
    with pytest.raises(RunFolderError, match="holds a run of another configuration"):
        train(small(tmp_path, **changes), resume=True)
    assert RunFolder(tmp_path).read_result() == result


def test_a_lower_goal_with_a_validation_subset_is_another_run(tmp_path: Path) -> None:
    """Which epochs are validated on all sequences depends on the goal."""
    train(make_run("fast", tmp_path, train__val_subset=8, train__stop_val_loss=10.0))
    with pytest.raises(RunFolderError, match="holds a run of another configuration"):
        train(
            make_run("fast", tmp_path, train__val_subset=8, train__stop_val_loss=1e-9), resume=True
        )


@pytest.mark.parametrize("change", ["gone", "damaged", "of another version"])
def test_without_a_checkpoint_the_finished_run_stays_as_it_is(change: str, tmp_path: Path) -> None:
    result = train(small(tmp_path))
    folder = RunFolder(tmp_path)
    folder.write_checkpoint({}, {})
    folder.write_checkpoint({}, {})  # both are what another version may have written
    for file in (folder.checkpoint, folder.previous_checkpoint):
        if change == "gone":
            file.unlink()
        elif change == "damaged":
            spoil(file, "truncated")
    with pytest.raises(
        RunFolderError, match="no checkpoint to continue from" if change == "gone" else change
    ):
        train(small(tmp_path, train__epochs=6), resume=True)
    assert train(small(tmp_path)) == result


# --- damage and what is none ----------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system takes no such name")
def test_a_folder_whose_name_is_not_utf8(uncut: Any, tmp_path: Path, command: Command) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9")
    with pytest.raises(KeyboardInterrupt):
        train(small(path), listener=Stop(3, 2, die))
    train(small(path), resume=True)
    assert everything(path) == uncut
    train(small(path, train__epochs=5), resume=True)
    assert validate.validate(small(path, train__epochs=5)).sequences == 300
    told = command("report", path, "--lengths", 12, "--sequences", 10, "--out", "report.html")
    assert told.returncode == 0, told.stderr


@pytest.mark.usefixtures("costless")
@pytest.mark.parametrize(
    "name", ["checkpoint.safetensors", "metrics.csv", "result.json", "model/model.safetensors"]
)
def test_what_the_system_does_not_give_is_not_called_damaged(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As without permission, or where a disk fails: nothing is deleted, nor taken from an older
    checkpoint."""
    train(small(tmp_path))
    folder, original = RunFolder(tmp_path), Path.open
    before = contents(tmp_path)

    def refused(path: Path, *words: Any, **named: Any) -> Any:
        if path == tmp_path / name:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return original(path, *words, **named)

    read = {
        "checkpoint.safetensors": folder.read_checkpoint,
        "metrics.csv": folder.read_history,
        "result.json": folder.read_result,
        "model/model.safetensors": folder.read_model,
    }[name]
    with monkeypatch.context() as here:
        here.setattr(Path, "open", refused)
        with (
            pytest.raises(
                RunFolderError, match=r"could not be read \(Permission denied\)"
            ) as error,
            folder.locked(),
        ):
            read()
    assert "damaged" not in str(error.value)
    assert "--overwrite" not in str(error.value)
    assert contents(tmp_path) == before


def test_too_little_memory_for_a_checkpoint_is_not_called_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(small(tmp_path), listener=Stop(2, 3, die))

    def full(*words: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(optim.Optimizer, "load_moments", full)
    with pytest.raises(BackendError, match="memory"):
        train(small(tmp_path), resume=True)


def test_the_history_of_as_many_epochs_as_there_may_be(tmp_path: Path) -> None:
    """With fields at their widest, both files that hold it are within the bounds of their
    readers."""
    n = config.MOST_EPOCHS
    wide = (
        1.2345678901234567e-300,
        -1.2345678901234567e-300,
        2**53,
        2**53,
        1.2345678901234567e-300,
        2**53,
    )
    rows = [EpochRow(epoch, *wide) for epoch in (1, n)]
    folder = RunFolder(tmp_path)
    folder.write_history(rows)
    line = max(map(len, folder.metrics.read_bytes().splitlines(keepends=True)[1:]))
    assert n * line + 100 < run_folder._MAX_HISTORY_BYTES
    assert folder.read_history() == rows
    state = TrainingState.fresh(small(tmp_path), torch.device("cpu"), "torch")
    state.rows = rows
    _, values = state.pack()
    assert len(json.dumps(values)) < 4096  # however many epochs there are, the header does not grow
    tensors, _ = state.pack()
    again = TrainingState.fresh(small(tmp_path), torch.device("cpu"), "torch")
    again.unpack(tensors, values)
    assert again.rows == rows


def test_more_epochs_than_can_be_read_again_are_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"train\.epochs: expected a whole number from 1 to 1,000,000"
    ):
        config.load(None, {"train.epochs": config.MOST_EPOCHS + 1})


@pytest.mark.usefixtures("costless")
@pytest.mark.parametrize("how", ["truncated", "flipped"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    how: str, uncut: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = make_run("original", tmp_path / "cut")
    with pytest.raises(KeyboardInterrupt):
        train(run, listener=Stop(2, 5, die))
    shutil.copytree(tmp_path / "cut", tmp_path / "both")
    spoil(tmp_path / "cut" / "checkpoint.safetensors", how)
    with caplog.at_level(logging.WARNING):
        train(run, resume=True)
    assert "checkpoint.safetensors is damaged" in caplog.text
    assert "the one before it is taken" in caplog.text
    assert everything(tmp_path / "cut") == uncut
    for file in (tmp_path / "both").glob("checkpoint*"):
        spoil(file, how)
    with pytest.raises(
        RunFolderError, match=r"checkpoint\.safetensors is damaged .* and checkpoint\.previous"
    ):
        train(make_run("original", tmp_path / "both"), resume=True)


@pytest.mark.usefixtures("costless")
def test_the_next_checkpoint_does_not_push_out_the_good_one(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(make_run("original", tmp_path), listener=Stop(2, 5, die))
    folder = RunFolder(tmp_path)
    spoil(folder.checkpoint, "truncated")
    good = folder.previous_checkpoint.read_bytes()
    folder.read_checkpoint()
    assert folder.checkpoint.exists()  # who only looks changes nothing
    with folder.locked():
        tensors, state = folder.read_checkpoint()
        folder.write_checkpoint(tensors, state)
    assert folder.previous_checkpoint.read_bytes() == good
    assert folder.read_checkpoint()[1] == state


def test_another_programs_run_is_not_written_over(tmp_path: Path) -> None:
    """The original left a configuration of the same form, its losses and its model, in the folder
    that its file names."""
    theirs = tmp_path / "12"
    shutil.copytree(REPOSITORY / "tests" / "data" / "foreign" / "original", theirs)
    before = contents(theirs)
    run = config.load(
        theirs / "config_copy.yaml",
        {"artifacts": str(theirs), "dataset.dt_length": 200, "train.epochs": 1},
    )
    (theirs / "config_copy.yaml").write_text(config.to_yaml(run))
    before["config_copy.yaml"] = (theirs / "config_copy.yaml").read_bytes()
    with pytest.raises(RunFolderError, match=r"(?s)another program's run.*adding-problem import"):
        train(run)
    assert contents(theirs) == before


def test_checkpoints_cost_no_more_than_their_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a clock that says a write takes 1 s and a step 0.5 s: one write in 100 s, however often
    one is asked for."""
    now = [0.0]
    written = []

    class Slow(RunFolder):
        def write_history(self, rows: Any) -> None:
            pass

        def write_checkpoint(self, tensors: Any, state: Any) -> None:
            now[0] += 1.0
            written.append(now[0])

    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    run = small(tmp_path, train__checkpoint_minutes=1e-3)
    state = TrainingState.fresh(run, torch.device("cpu"), "torch")
    checkpoints = Checkpoints(Slow(tmp_path), state, machine={})
    for _ in range(1000):
        now[0] += 0.5
        checkpoints.after_step()
        checkpoints.after_epoch()
    assert 4 <= len(written) <= 6
    assert all(later - earlier >= 100 for earlier, later in itertools.pairwise(written))


# --- signals --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_after_the_step_with_a_checkpoint(
    number: int, code: int, small_config: Path
) -> None:
    words = [
        "train",
        "--config",
        str(small_config),
        "--train.epochs",
        "400",
        "--train.es_patience",
        "400",
    ]
    program = [sys.executable, "-m", "adding_problem", *words]
    with subprocess.Popen(
        program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        while "epoch 2/400" not in (line := process.stdout.readline()):
            assert line, process.stderr.read()  # type: ignore[union-attr]
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert process.returncode == code, said
    assert "a checkpoint is written, at step" in said
    assert f"to continue: adding-problem {' '.join(words)} --resume" in said
    assert "Traceback" not in said
    run = small_config.parent / "run"
    with RunFolder(run).locked():
        pass
    tensors, _ = RunFolder(run).read_checkpoint()
    assert len(tensors["rows"]) >= 2


def test_a_run_that_a_signal_ended_continues(uncut: Any, tmp_path: Path) -> None:
    with pytest.raises(
        Interrupted, match="stopped by SIGTERM; a checkpoint is written, at step 3 of epoch 2"
    ) as stopped:
        train(
            small(tmp_path / "cut"),
            listener=Stop(2, 3, lambda: signal.raise_signal(signal.SIGTERM)),
        )
    assert stopped.value.exit_code == 143
    train(small(tmp_path / "cut"), resume=True)
    assert everything(tmp_path / "cut") == uncut


def test_the_second_signal_is_the_systems_to_obey() -> None:
    before = signal.getsignal(signal.SIGINT)
    with signals.deferred() as interrupted:
        interrupted.check()
        signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) == signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        with pytest.raises(Interrupted):
            interrupted.check()
    assert signal.getsignal(signal.SIGINT) == before


# --- the disk -------------------------------------------------------------------------------------


def test_a_full_disk_leaves_the_last_state(
    uncut: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module, "_MOST_COST", 1e9)
    with pytest.raises(StorageError, match=r"metrics\.csv.*No space left.*intact") as refused:
        train(
            small(tmp_path / "cut"),
            listener=Stop(3, 2, lambda: monkeypatch.setattr(os, "fsync", full)),
        )
    assert refused.value.exit_code == 74
    assert "make room on the disk" in str(refused.value)
    assert not [file for file in (tmp_path / "cut").iterdir() if file.name.endswith(".tmp")]
    monkeypatch.undo()
    train(small(tmp_path / "cut"), resume=True)
    assert everything(tmp_path / "cut") == uncut


def test_a_folder_removed_while_the_run_goes_on(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"the folder .*run is gone"):
        train(small(tmp_path / "run"), listener=Stop(1, 2, lambda: shutil.rmtree(tmp_path / "run")))


def test_temporary_files_of_a_killed_process_are_swept(tmp_path: Path) -> None:
    stray = tmp_path / ".metrics.csv.0123456789abcdef.tmp"
    stray.write_bytes(b"half")
    train(small(tmp_path, train__epochs=1))
    assert not stray.exists()


def test_files_that_are_no_runs_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text("my thesis")
    for overwrite in (False, True):
        with pytest.raises(
            RunFolderError, match=r"is no run folder, yet holds a file result\.json"
        ):
            train(small(tmp_path), overwrite=overwrite)
    assert (tmp_path / "result.json").read_text() == "my thesis"
