"""Nothing lost: runs cut anywhere, damaged checkpoints, full disks, two processes on one folder. More: benchmarks/torture.py."""

from __future__ import annotations

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
from adding_problem.cli import parser_of
from adding_problem.config import RunConfig
from adding_problem.errors import (
    BackendError,
    ConfigError,
    Interrupted,
    LockError,
    RunFolderError,
    StorageError,
)
from adding_problem.evaluation import validate
from adding_problem.runs import atomic_io, lock
from adding_problem.runs import folder as run_folder
from adding_problem.runs.folder import EpochRow, RunFolder
from adding_problem.system import signals
from adding_problem.training import loop
from adding_problem.training import state as training_state
from tests.conftest import REPOSITORY, Command
from tests.helpers.faults import Stop, leave_lock
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
    monkeypatch.setattr(training_state, "_MOST_COST", 1e9)


def everything(folder: Path) -> Any:
    """All that must be equal, bit for bit: what a finished run left, without its times."""
    run = RunFolder(folder)
    result = {k: v for k, v in run.read_result().items() if k != "seconds"}
    for cost in result["reached"].values():
        if cost:
            del cost["seconds"]
    rows = [
        (row.epoch, row.loss, row.val_loss, row.sequences, row.sequence_steps, row.val_sequences)
        for row in run.read_history()
    ]
    return run.weights.read_bytes(), rows, result


@pytest.mark.usefixtures("costless")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("recipe", ["original", "fast"])
def test_a_run_killed_inside_an_epoch_continues_there(
    recipe: str, backend: str, tmp_path: Path
) -> None:
    loop.train(make_run(recipe, tmp_path / "uncut", backend=backend))
    cut = make_run(recipe, tmp_path / "cut", backend=backend)
    for epoch, step in ((1, 4), (3, 3)):
        with pytest.raises(KeyboardInterrupt):
            loop.train(cut, resume=True, listener=Stop(epoch, step, die))
    listener = Stop(0, 0, die)
    loop.train(cut, resume=True, listener=listener)
    assert listener.seen[0] == (3, 3)  # the step that was seen and not yet kept is taken again
    assert everything(tmp_path / "cut") == everything(tmp_path / "uncut")


def test_kill_minus_nine_at_any_moment(tmp_path: Path) -> None:
    """Real signals, at random moments and in the middle of writes, by the script that docs/reliability.md is made with."""
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


# --- more epochs -----------------------------------------------------------------------------------------------------


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

    short = loop.train(run("grown", shorter))
    expected = loop.train(run("uncut", longer))
    assert short["epochs"] < expected["epochs"]
    with pytest.raises(
        RunFolderError,
        match=r"(?s)holds a run with a smaller budget \(train\..* there.* now.*give --resume",
    ):
        loop.train(run("grown", longer))
    assert RunFolder(tmp_path / "grown").read_result() == short
    loop.train(run("grown", longer), resume=True)
    assert everything(tmp_path / "grown") == everything(tmp_path / "uncut")
    assert RunFolder(tmp_path / "grown").read_config().digest == run("uncut", longer).digest
    assert RunFolder(tmp_path / "grown").loss_plot.exists()


def test_what_the_shorter_run_left_at_its_end_does_not_outlive_it(tmp_path: Path) -> None:
    loop.train(small(tmp_path, train__epochs=2))
    validate.validate(small(tmp_path, train__epochs=2))
    folder = RunFolder(tmp_path)
    folder.exports["onnx"].write_bytes(b"of the shorter run")
    folder.exports["savedmodel"].mkdir()
    loop.train(small(tmp_path), resume=True)
    left = [
        folder.validation,
        folder.prediction_pickle,
        folder.prediction_plot,
        *folder.exports.values(),
    ]
    assert not [file for file in left if file.exists()]
    assert validate.validate(small(tmp_path))["model"] == small(tmp_path).digest


@pytest.mark.parametrize("moment", range(8))
def test_a_run_killed_while_it_is_given_more_epochs_goes_on(
    moment: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before each of the files that the change deletes and writes: with the old number of epochs as well as with the new one."""
    loop.train(small(tmp_path / "uncut"))
    loop.train(small(tmp_path / "cut", train__epochs=2))
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
            loop.train(small(tmp_path / "cut"), resume=True, listener=Stop(3, 1, die))
    shutil.copytree(tmp_path / "cut", tmp_path / "back")
    loop.train(small(tmp_path / "cut"), resume=True)
    assert everything(tmp_path / "cut") == everything(tmp_path / "uncut")
    if RunFolder(tmp_path / "back").read_config().train.epochs == 2:
        loop.train(small(tmp_path / "back", train__epochs=2), resume=True)
        assert everything(tmp_path / "back") == short


def test_a_cut_run_may_be_given_more_epochs_too(tmp_path: Path) -> None:
    loop.train(small(tmp_path / "uncut"))
    with pytest.raises(KeyboardInterrupt):
        loop.train(small(tmp_path / "cut", train__epochs=3), listener=Stop(2, 3, die))
    loop.train(small(tmp_path / "cut"), resume=True)
    assert everything(tmp_path / "cut") == everything(tmp_path / "uncut")


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
    result = loop.train(small(tmp_path))
    with pytest.raises(RunFolderError, match="holds a run of another configuration"):
        loop.train(small(tmp_path, **changes), resume=True)
    assert RunFolder(tmp_path).read_result() == result


def test_a_lower_goal_with_a_glimpse_is_another_run(tmp_path: Path) -> None:
    """Which epochs are validated on all sequences depends on the goal."""
    loop.train(make_run("fast", tmp_path, train__glimpse=8, train__stop_val_loss=10.0))
    with pytest.raises(RunFolderError, match="holds a run of another configuration"):
        loop.train(
            make_run("fast", tmp_path, train__glimpse=8, train__stop_val_loss=1e-9), resume=True
        )


@pytest.mark.parametrize("change", ["gone", "damaged", "of another version"])
def test_without_a_checkpoint_the_finished_run_stays_as_it_is(change: str, tmp_path: Path) -> None:
    result = loop.train(small(tmp_path))
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
        loop.train(small(tmp_path, train__epochs=6), resume=True)
    assert loop.train(small(tmp_path)) == result


# --- damage and what is none -----------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system takes no such name")
def test_a_folder_whose_name_is_not_utf8(tmp_path: Path, command: Command) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9")
    loop.train(small(tmp_path / "uncut"))
    with pytest.raises(KeyboardInterrupt):
        loop.train(small(path), listener=Stop(3, 2, die))
    loop.train(small(path), resume=True)
    assert everything(path) == everything(tmp_path / "uncut")
    loop.train(small(path, train__epochs=5), resume=True)
    assert validate.validate(small(path, train__epochs=5))["sequences"] == 300
    told = command("report", path, "--lengths", 12, "--sequences", 10, "--out", "report.html")
    assert told.returncode == 0, told.stderr


@pytest.mark.usefixtures("costless")
@pytest.mark.parametrize(
    "name", ["checkpoint.safetensors", "metrics.csv", "result.json", "model/model.safetensors"]
)
def test_what_the_system_does_not_give_is_not_called_damaged(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As without permission, or where a disk fails: nothing is deleted, nor taken from an older checkpoint."""
    loop.train(small(tmp_path))
    folder, original = RunFolder(tmp_path), Path.open
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

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
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_too_little_memory_for_a_checkpoint_is_not_called_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KeyboardInterrupt):
        loop.train(small(tmp_path), listener=Stop(2, 3, die))

    def full(*words: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.optim.Optimizer, "load_state_dict", full)
    with pytest.raises(BackendError, match="memory"):
        loop.train(small(tmp_path), resume=True)


def test_the_history_of_as_many_epochs_as_there_may_be(tmp_path: Path) -> None:
    """With fields at their widest, both files that hold it are within the bounds of their readers."""
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
    state = loop._fresh(small(tmp_path), torch.device("cpu"), "torch")
    state.rows = rows
    _, values = state.pack()
    assert len(json.dumps(values)) < 4096  # however many epochs there are, the header does not grow
    tensors, _ = state.pack()
    again = loop._fresh(small(tmp_path), torch.device("cpu"), "torch")
    again.unpack(tensors, values)
    assert again.rows == rows


def test_more_epochs_than_can_be_read_again_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"train\.epochs: expected a whole number from 1 to 1,000,000"):
        config.load(None, {"train.epochs": config.MOST_EPOCHS + 1})


@pytest.mark.usefixtures("costless")
@pytest.mark.parametrize("how", ["truncated", "flipped"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    how: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    loop.train(small(tmp_path / "uncut"))
    run = make_run("original", tmp_path / "cut")
    with pytest.raises(KeyboardInterrupt):
        loop.train(run, listener=Stop(2, 5, die))
    shutil.copytree(tmp_path / "cut", tmp_path / "both")
    spoil(tmp_path / "cut" / "checkpoint.safetensors", how)
    with caplog.at_level(logging.WARNING):
        loop.train(run, resume=True)
    assert "checkpoint.safetensors is damaged" in caplog.text
    assert "the one before it is taken" in caplog.text
    assert everything(tmp_path / "cut") == everything(tmp_path / "uncut")
    for file in (tmp_path / "both").glob("checkpoint*"):
        spoil(file, how)
    with pytest.raises(
        RunFolderError, match=r"checkpoint\.safetensors is damaged .* and checkpoint\.previous"
    ):
        loop.train(make_run("original", tmp_path / "both"), resume=True)


@pytest.mark.usefixtures("costless")
def test_the_next_checkpoint_does_not_push_out_the_good_one(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        loop.train(make_run("original", tmp_path), listener=Stop(2, 5, die))
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
    """The original left a configuration of the same form, its losses and its model, in the folder that its file names."""
    theirs = tmp_path / "12"
    shutil.copytree(REPOSITORY / "tests" / "data" / "foreign" / "original", theirs)
    before = {path: path.read_bytes() for path in theirs.rglob("*") if path.is_file()}
    run = config.load(
        theirs / "config_copy.yaml",
        {"artifacts": str(theirs), "dataset.dt_length": 200, "train.epochs": 1},
    )
    (theirs / "config_copy.yaml").write_text(config.to_yaml(run))
    before[theirs / "config_copy.yaml"] = (theirs / "config_copy.yaml").read_bytes()
    with pytest.raises(RunFolderError, match=r"(?s)another program's run.*adding-problem import"):
        loop.train(run)
    assert {path: path.read_bytes() for path in theirs.rglob("*") if path.is_file()} == before


def test_checkpoints_cost_no_more_than_their_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a clock that says a write takes 1 s and a step 0.5 s: one write in 100 s, however often one is asked for."""
    now = [0.0]
    written = []

    class Slow(RunFolder):
        def write_history(self, rows: Any) -> None:
            pass

        def write_checkpoint(self, tensors: Any, state: Any) -> None:
            now[0] += 1.0
            written.append(now[0])

    monkeypatch.setattr(training_state.time, "perf_counter", lambda: now[0])
    state = loop._fresh(small(tmp_path), loop.torch.device("cpu"), "torch")
    checkpoints = training_state.Checkpoints(Slow(tmp_path), state, minutes=1e-3, machine={})
    for _ in range(1000):
        now[0] += 0.5
        checkpoints.after_step()
        checkpoints.after_epoch()
    assert 4 <= len(written) <= 6
    assert all(later - earlier >= 100 for earlier, later in itertools.pairwise(written))


# --- signals ---------------------------------------------------------------------------------------------------------


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
    assert not (run / ".lock").exists()
    tensors, _ = RunFolder(run).read_checkpoint()
    assert len(tensors["rows"]) >= 2


def test_a_run_that_a_signal_ended_continues(tmp_path: Path) -> None:
    loop.train(small(tmp_path / "uncut"))
    with pytest.raises(
        Interrupted, match="stopped by SIGTERM; a checkpoint is written, at step 3 of epoch 2"
    ) as stopped:
        loop.train(
            small(tmp_path / "cut"),
            listener=Stop(2, 3, lambda: signal.raise_signal(signal.SIGTERM)),
        )
    assert stopped.value.exit_code == 143
    loop.train(small(tmp_path / "cut"), resume=True)
    assert everything(tmp_path / "cut") == everything(tmp_path / "uncut")


def test_the_second_signal_is_the_systems_to_obey() -> None:
    before = signal.getsignal(signal.SIGINT)
    with signals.deferred() as interrupted:
        interrupted.check()
        signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) == signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        with pytest.raises(Interrupted):
            interrupted.check()
    assert signal.getsignal(signal.SIGINT) == before


# --- the disk --------------------------------------------------------------------------------------------------------


def test_a_full_disk_leaves_the_last_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loop.train(small(tmp_path / "uncut"))

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(training_state, "_MOST_COST", 1e9)
    with pytest.raises(StorageError, match=r"metrics\.csv.*No space left.*intact") as refused:
        loop.train(
            small(tmp_path / "cut"),
            listener=Stop(3, 2, lambda: monkeypatch.setattr(os, "fsync", full)),
        )
    assert refused.value.exit_code == 74
    assert "make room on the disk" in str(refused.value)
    assert not [file for file in (tmp_path / "cut").iterdir() if file.name.endswith(".tmp")]
    monkeypatch.undo()
    loop.train(small(tmp_path / "cut"), resume=True)
    assert everything(tmp_path / "cut") == everything(tmp_path / "uncut")


def test_a_folder_removed_while_the_run_goes_on(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"the folder .*run is gone"):
        loop.train(
            small(tmp_path / "run"), listener=Stop(1, 2, lambda: shutil.rmtree(tmp_path / "run"))
        )


def test_temporary_files_of_a_killed_process_are_swept(tmp_path: Path) -> None:
    stray = tmp_path / ".metrics.csv.0123456789abcdef.tmp"
    stray.write_bytes(b"half")
    loop.train(small(tmp_path, train__epochs=1))
    assert not stray.exists()


def test_files_that_are_no_runs_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text("my thesis")
    for overwrite in (False, True):
        with pytest.raises(
            RunFolderError, match=r"is no run folder, yet holds a file result\.json"
        ):
            loop.train(small(tmp_path), overwrite=overwrite)
    assert (tmp_path / "result.json").read_text() == "my thesis"


# --- two processes ---------------------------------------------------------------------------------------------------


def test_the_second_process_is_refused(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom pathlib import Path\nfrom adding_problem.runs.lock import FolderLock\n"
        "with FolderLock(Path(sys.argv[1])):\n    print('held', flush=True)\n    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(
            LockError, match=rf"process {process.pid} on '.*' \(since .*\) works in it"
        ):
            loop.train(small(tmp_path), takeover=True)
        process.kill()  # -9: the lock stays behind, and its owner is known to be dead
        process.wait()
        assert (tmp_path / ".lock").exists()
    loop.train(small(tmp_path))
    assert not list(tmp_path.glob(".lock*"))


def test_a_lock_from_elsewhere_is_taken_over_only_when_told(tmp_path: Path) -> None:
    leave_lock(tmp_path, machine="another", host="far")
    for takeover in (False, True):
        with pytest.raises(LockError, match=r"on 'far' .* works in it"):
            loop.train(small(tmp_path), takeover=takeover)
    shutil.rmtree(tmp_path / ".lock")
    leave_lock(tmp_path, age=1000, machine="another", host="far")
    with pytest.raises(LockError, match=r"no sign of life for 1,0\d\d s.*\n.*--takeover"):
        loop.train(small(tmp_path))
    loop.train(small(tmp_path), takeover=True)
    leave_lock(tmp_path, age=1000, machine="another", host="far")
    with pytest.raises(LockError, match="--takeover"):
        validate.validate(small(tmp_path))
    assert validate.validate(small(tmp_path), takeover=True)["sequences"] > 0


@pytest.mark.parametrize("command", ["train", "validate", "horizon", "sweep", "export", "import"])
def test_commands_that_lock_a_folder_take_the_option_that_their_message_names(command: str) -> None:
    assert "--takeover" in parser_of(command).about


def test_a_process_id_that_was_given_again_is_no_owner(tmp_path: Path) -> None:
    leave_lock(tmp_path, started="1")
    with lock.FolderLock(tmp_path):
        pass


def test_an_owner_whose_process_the_system_hides_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with other users' processes where /proc is mounted with hidepid."""
    leave_lock(tmp_path)
    monkeypatch.setattr(lock, "_started", lambda pid: None)
    with pytest.raises(LockError, match="works in it"), lock.FolderLock(tmp_path):
        pass


@pytest.mark.parametrize("ahead", [200.0, 1e6])
def test_a_lock_dated_in_the_future_is_one_without_a_sign_of_life(
    ahead: float, tmp_path: Path
) -> None:
    """As after a wrong clock was set right."""
    leave_lock(tmp_path, age=-ahead, machine="another", host="far")
    with (
        pytest.raises(LockError, match=r"is dated [0-9,]+ s in the future.*\n.*--takeover"),
        lock.FolderLock(tmp_path),
    ):
        pass
    with lock.FolderLock(tmp_path, takeover=True) as taken:
        taken.check()
    assert not list(tmp_path.iterdir())


def test_a_living_owner_whose_clock_was_set_back_keeps_its_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "_BEAT_SECONDS", 0.01)
    monkeypatch.setattr(lock, "_machine", lambda: None)  # nobody can tell by the process
    with lock.FolderLock(tmp_path) as held:
        owner, now = tmp_path / ".lock" / "owner", time.time()
        os.utime(owner, (now + 1e6, now + 1e6))
        for _ in range(500):
            if owner.stat().st_mtime < now + 1e5:
                break
            time.sleep(0.01)
        with (
            pytest.raises(LockError, match="works in it"),
            lock.FolderLock(tmp_path, takeover=True),
        ):
            pass
        held.check()


@pytest.mark.parametrize("owner", ["dead", "silent", "none"])
def test_a_foreign_file_in_a_lock_is_kept_and_keeps_nobody_out(owner: str, tmp_path: Path) -> None:
    if owner == "none":
        (tmp_path / ".lock").mkdir()
    else:
        leave_lock(
            tmp_path, age=1000, **({"started": "1"} if owner == "dead" else {"machine": "another"})
        )
    (tmp_path / ".lock" / ".DS_Store").write_text("a file manager's")
    (tmp_path / ".lock" / "folder").mkdir()
    for _ in range(2):
        assert lock.held(tmp_path) == (owner == "silent")
        with lock.FolderLock(tmp_path, takeover=True) as taken:
            taken.check()
            assert lock.held(tmp_path)
            with (
                pytest.raises(LockError, match="works in it"),
                lock.FolderLock(tmp_path, takeover=True),
            ):
                pass
        owner = "none"
        assert sorted(path.name for path in tmp_path.rglob("*")) == [".DS_Store", ".lock", "folder"]
    assert (tmp_path / ".lock" / ".DS_Store").read_text() == "a file manager's"


def test_a_foreign_file_that_comes_into_a_held_lock_is_kept(tmp_path: Path) -> None:
    with lock.FolderLock(tmp_path):
        (tmp_path / ".lock" / "notes.txt").write_text("mine")
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == [
        ".lock",
        ".lock/notes.txt",
    ]
    with lock.FolderLock(tmp_path):
        assert (tmp_path / ".lock" / "notes.txt").read_text() == "mine"


def test_what_is_no_lock_is_neither_taken_nor_deleted(tmp_path: Path) -> None:
    """Other programs have files of this name; a link would lead elsewhere."""
    (tmp_path / "elsewhere").mkdir()
    for make in (
        lambda file: file.write_text("another program's"),
        lambda file: file.symlink_to(tmp_path / "elsewhere"),
    ):
        make(tmp_path / ".lock")
        os.utime(tmp_path / ".lock", (0, 0), follow_symlinks=False)
        with (
            pytest.raises(LockError, match="is not a lock of this program"),
            lock.FolderLock(tmp_path, takeover=True),
        ):
            pass
        (tmp_path / ".lock").unlink()


def test_leftovers_of_killed_processes_go_and_other_files_stay(tmp_path: Path) -> None:
    for name in (
        ".lock.0123456789abcdef",
        ".lock.0123456789abcdef.taken",
        ".lock.0123456789abcdef.taken1",
        ".lock.other",
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "owner").touch()
        os.utime(tmp_path / name / "owner", (0, 0))
    (tmp_path / ".lock.bak").write_text("mine")
    os.utime(tmp_path / ".lock.bak", (0, 0))
    with lock.FolderLock(tmp_path):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock.bak", ".lock.other"]


def test_a_score_keeps_other_processes_out(tmp_path: Path) -> None:
    run = small(tmp_path)
    loop.train(run)
    leave_lock(tmp_path, machine="another", host="far")
    with pytest.raises(LockError, match="works in it"):
        validate.validate(run)
    assert not RunFolder(tmp_path).validation.exists()
    shutil.rmtree(tmp_path / ".lock")
    validate.validate(run)
    assert not list(tmp_path.glob(".lock*"))


def test_an_owner_notices_that_its_lock_was_taken(tmp_path: Path) -> None:
    def take_over() -> None:
        shutil.rmtree(tmp_path / "run" / ".lock")
        leave_lock(tmp_path / "run", host="far", machine="another")

    with pytest.raises(LockError, match=r"was taken over by process .* on 'far'"):
        loop.train(small(tmp_path / "run"), listener=Stop(1, 2, take_over))
    assert (tmp_path / "run" / ".lock" / "owner").exists()
    assert not RunFolder(tmp_path / "run").metrics.exists()


def test_a_living_owner_touches_its_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "_BEAT_SECONDS", 0.01)
    with lock.FolderLock(tmp_path):
        owner = tmp_path / ".lock" / "owner"
        os.utime(owner, (0, 0))
        for _ in range(500):
            if owner.stat().st_mtime > 0:
                break
            signal.sigtimedwait([], 0.01)
        assert owner.stat().st_mtime > 0
