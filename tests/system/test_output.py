"""What is printed: clean whatever is in it, and no reason for a run to end."""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import pty
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest

from adding_problem.errors import ConfigError, RunFolderError, StorageError
from adding_problem.experiments.train import train
from adding_problem.runs import atomic_io
from adding_problem.system import output
from adding_problem.training import progress
from tests.conftest import Command
from tests.helpers.training import small

HOSTILE = "e\x1b[31mX\x9b2J\x7f\u202eb\rc"
CONTROLS = "\x1b\x9b\x7f\u202e\r"
SMALL = [
    "--dataset.t",
    "8",
    "--dataset.dt_length",
    "60",
    "--train.epochs",
    "3",
    "--model.hidden",
    "4",
    "--threads",
    "1",
]


class Lossy(io.StringIO):
    """A disk that is full at some times."""

    def __init__(self, number: int, full: bool = True) -> None:
        super().__init__()
        self.number, self.full = number, full

    def write(self, text: str) -> int:
        if self.full:
            raise OSError(self.number, os.strerror(self.number))
        return super().write(text)


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A finished run in a folder whose name no terminal should be sent."""
    folder = tmp_path / HOSTILE
    train(small(folder, train__epochs=1))
    return folder


@pytest.mark.filterwarnings("ignore:Glyph")
def test_no_command_sends_a_terminal_what_a_name_holds(
    hostile: Path, command: Command, tmp_path: Path
) -> None:
    file = tmp_path / "hostile.yaml"
    file.write_text((hostile / "config_copy.yaml").read_text())
    weights = next((hostile / "model").glob("*.safetensors"))
    said = []
    for words in (
        ["train", "--config", file],
        ["train", "--config", file, "--overwrite"],
        ["train", "--config", file, "--train.batch", "7"],
        ["validate", "--config", file],
        ["validate", "--artifacts", hostile / "not there"],
        [
            "horizon",
            *SMALL[2:],
            "--lengths",
            "8",
            "--minutes",
            "0.01",
            "--artifacts",
            f"climb{HOSTILE}",
        ],
        ["export", hostile, "--to", "torch-export", "--out", f"out{HOSTILE}.pt2"],
        ["import", weights, "--out", f"imported{HOSTILE}", "--dataset.t", "8"],
        ["import", f"nothing{HOSTILE}", "--out", "x"],
        ["data", "--n", "2", "--length", "5", "--out", f"data{HOSTILE}.npz"],
        ["data", "--n", "2", "--length", HOSTILE, "--out", "x.npz"],
        [
            "validate",
            hostile,
            "--lengths",
            "8",
            "--sequences",
            "5",
            "--out",
            f"lengths{HOSTILE}.png",
        ],
        ["compare", hostile, "--out", f"compared{HOSTILE}.png"],
        [HOSTILE],
        ["train", HOSTILE],
        ["train", f"--{HOSTILE}"],
        ["train", "--model", HOSTILE],
        ["train", "--seed", HOSTILE],
        ["train", "--config", HOSTILE],
    ):
        done = command(*words)
        assert done.returncode in (0, 2), (words, done.stderr)
        said.append(done.stdout + done.stderr)
    assert not [text for text in said if set(text) & set(CONTROLS)]
    assert sum("\N{REPLACEMENT CHARACTER}" in text for text in said) >= 12  # the names were there


def test_what_libraries_and_faults_print_is_clean_too(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from adding_problem.cli import models

    def faulty(_: object) -> None:
        logging.getLogger("adding_problem.training.loop").warning("a %s\nnote: forged", HOSTILE)
        warnings.warn(HOSTILE, stacklevel=1)
        print(HOSTILE)
        output.console().print(HOSTILE, style="bold")
        raise RuntimeError(HOSTILE)

    monkeypatch.setattr(models, "run", faulty)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        done = command("models")
    assert done.returncode == 1
    assert "RuntimeError: e\N{REPLACEMENT CHARACTER}[31mX" in done.stderr
    assert "UserWarning" not in done.stderr
    assert done.stdout.count("[31mX") == 3
    assert not set(done.stdout + done.stderr) & set(CONTROLS)
    assert "\nnote: forged" not in "\n" + done.stdout


def test_no_name_begins_a_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    output.say("picture: a\nerror: forged", "next")
    assert capsys.readouterr().out == "picture: a\N{REPLACEMENT CHARACTER}error: forged\nnext\n"
    for error in (
        ConfigError("k", "e", "f\nerror: forged", "r\r\nerror: forged"),
        RunFolderError("f\u2028x", "p\n\terror: forged", "r"),
    ):
        lines = str(error).splitlines()
        assert len(lines) == 2
        assert lines[1].startswith("  hint: r")


def test_a_terminal_gets_the_controls_of_bars_and_no_others(tmp_path: Path) -> None:
    """On a terminal of its own, whose other end this test reads."""
    program = (
        "from adding_problem.training import progress; from adding_problem.system import output\n"
        "with output.guarded():\n"
        f"    with progress.counting({HOSTILE!r}, output.console()) as counter:\n"
        "        counter(1, 2)\n"
        f"        output.say({HOSTILE!r})\n"
        f"        print({HOSTILE!r})\n"
        f"    output.console().print({HOSTILE!r}, style='bold')\n"
    )
    ours, theirs = pty.openpty()
    subprocess.run(
        [sys.executable, "-c", program],
        stdout=theirs,
        stderr=theirs,
        check=True,
        timeout=60,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
    )
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 65536):
            shown += piece
    except OSError:  # so a terminal ends on Linux
        pass
    os.close(ours)
    text = shown.decode()
    assert "\x1b[?25l" in text  # the bar hides the cursor
    assert "\x1b[1m" in text  # and bold is bold
    assert text.count("X\N{REPLACEMENT CHARACTER}2J") >= 4
    assert "\x1b[31m" not in text
    assert not set(text) & {"\x9b", "\x7f", "\u202e"}


@pytest.mark.parametrize(
    ("number", "code"), [(errno.ENOSPC, 74), (errno.EPIPE, 141), (errno.EIO, 74)]
)
def test_output_that_fails_ends_no_training(
    number: int, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from adding_problem.cli import main

    complained = io.StringIO()
    monkeypatch.setattr(sys, "stdout", Lossy(number))
    monkeypatch.setattr(sys, "stderr", complained)
    assert main(["train", *SMALL, "--artifacts", str(tmp_path / "run")]) == code
    assert json.loads((tmp_path / "run" / "result.json").read_text())["epochs"] == 3
    expected = "" if code == 141 else "error: standard output: could not be written"
    assert complained.getvalue().startswith(expected)
    assert "Traceback" not in complained.getvalue()
    monkeypatch.setattr(sys, "stderr", Lossy(number))
    assert main(["validate", "--artifacts", str(tmp_path / "run")]) == code
    assert main(["validate", "--artifacts", str(tmp_path / "nowhere")]) == 2
    assert main(["--help"]) == code


def test_a_log_disk_that_is_full_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """During training: what is printed while it is full is lost; later output is there."""
    from adding_problem.cli import main

    log = Lossy(errno.ENOSPC, full=False)
    monkeypatch.setattr(sys, "stdout", log)

    class Filling(progress.TrainingDisplay):
        def on_epoch(self, row: object) -> None:
            log.full = row.epoch == 2  # type: ignore[attr-defined]
            super().on_epoch(row)  # type: ignore[arg-type]

    monkeypatch.setattr(progress, "TrainingDisplay", Filling)
    assert main(["train", *SMALL, "--artifacts", str(tmp_path / "run")]) == 74
    lines = [
        line.split(" ")[1] for line in log.getvalue().splitlines() if line.startswith("epoch ")
    ]
    assert lines == ["1/3", "3/3"]
    assert any(line.startswith("picture: ") for line in log.getvalue().splitlines())


def test_a_full_device_and_a_narrow_encoding_in_a_process_of_its_own(tmp_path: Path) -> None:
    arguments = [
        sys.executable,
        "-m",
        "adding_problem",
        "data",
        "--n",
        "2",
        "--length",
        "5",
        "--out",
        str(tmp_path / "\u00e9.npz"),
    ]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            arguments, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 74
    assert done.stderr.count("\n") == 2
    assert done.stderr.startswith(
        "error: standard output: could not be written (No space left on device)"
    )
    plain = subprocess.run(
        arguments, capture_output=True, check=False, env={**os.environ, "PYTHONIOENCODING": "ascii"}
    )
    assert (plain.returncode, plain.stderr) == (0, b"")
    assert b"/\\xe9.npz (" in plain.stdout


def test_an_encoding_without_the_sign_of_a_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from adding_problem.cli import main

    train(small(tmp_path / "run", train__epochs=1))
    said = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(said, "ascii"))
    assert main(["validate", "--artifacts", str(tmp_path / "run")]) == 0
    assert b" \\xb1 " in said.getvalue()


def test_streams_that_python_found_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from adding_problem.cli import main

    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert main(["data", "--n", "2", "--length", "5", "--out", str(tmp_path / "x.npz")]) == 0
    assert main(["teach"]) == 2


def test_a_score_that_does_not_fit_the_disk_is_refused_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from adding_problem.evaluation import validate

    config = small(tmp_path / "run", train__epochs=1)
    train(config)
    wrote = validate.validate(config)
    taken = (tmp_path / "run" / "pred.pkl").stat().st_size
    (tmp_path / "run" / "pred.pkl").unlink()
    for free, fits in ((taken, True), (taken - 1000, False)):
        monkeypatch.setattr(
            shutil, "disk_usage", lambda _, free=free: SimpleNamespace(total=1 << 40, free=free)
        )
        if fits:
            assert validate.validate(config) == wrote
        else:
            with pytest.raises(
                StorageError,
                match=r"pred\.pkl: could not be written \(it needs .* GB, and the disk has",
            ):
                validate.validate(config)
    with pytest.raises(StorageError):
        atomic_io.require_room(tmp_path / "x", 1 << 40, "make room")


@pytest.mark.parametrize("seed", [2**63, 2**64 - 1])
def test_every_seed_below_2_64_trains(seed: int, tmp_path: Path, command: Command) -> None:
    done = command(
        "train", *SMALL, "--seed", seed, "--validate.seed", 2**64 - 2, "--artifacts", "run"
    )
    assert done.returncode == 0, done.stderr
    assert command("validate", "--artifacts", "run").returncode == 0
    done = command("train", *SMALL, "--seed", 2**64, "--artifacts", "other")
    assert done.returncode == 2
    assert "seed: expected a whole number below 2^64" in done.stderr
    done = command("data", "--n", 2, "--length", 5, "--out", "x.npz", "--start", 2**64)
    assert "--start: expected a whole number below 2^64, found 18446744073709551616" in done.stderr
