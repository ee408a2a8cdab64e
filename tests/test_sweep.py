"""Sweeps: what a file stands for, and that kills, failures and second calls change nothing in the numbers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from adding_problem import config
from adding_problem.artifacts import RunFolder
from adding_problem.errors import ConfigError
from adding_problem.sweep import driver, engines, plan, watch
from adding_problem.sweep.job import Job, Outcome, finished, perform
from adding_problem.sweep.local import LocalEngine
from tests.conftest import REPOSITORY, Command

TINY = """
dataset: {dt_length: 400}
train: {epochs: 12, batch: 8}
model: {hidden: 16}
backend: torch
grid:
  dataset.t: [10, 20]
  seed: [0, 1]
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "sweep.yaml"
    path.write_text(text)
    return path


# --- the file --------------------------------------------------------------------------------------------------------


def test_a_grid_and_a_list(tmp_path: Path) -> None:
    path = write(tmp_path, "recipe: fast\nruns:\n- {model: {hidden: 8}, train.learning_rate: 0.01}\n- {model.hidden: 9}\n"
                           "grid: {dataset: {t: [30, 40]}, seed: [0, 1, 2]}\n")
    runs = plan.read(path, {"train.batch": 4}, "out")
    assert [(r.config.model.hidden, r.config.train.learning_rate, r.config.dataset.t, r.config.seed) for r in runs] == [
        (hidden, rate, t, seed) for hidden, rate in ((8, 0.01), (9, 0.02)) for t in (30, 40) for seed in (0, 1, 2)]
    for run in runs:
        assert run.config.threads == 1
        assert run.config.train.batch == 4
        assert run.config.artifacts == f"out/{run.name}"
        assert run.name.endswith(f"t={run.config.dataset.t}_seed={run.config.seed}_{run.config.digest[:8]}")
        expected = config.load(None, {"recipe": "fast", "threads": 1, "train.batch": 4, **run.varies})
        assert run.config.digest == expected.digest
    assert len({run.name for run in runs}) == 12


def test_the_seed_of_the_validation_gives_way_unless_it_was_set(tmp_path: Path) -> None:
    runs = plan.read(write(tmp_path, "grid: {seed: [42, 43, 44]}"))
    assert [run.config.validate.seed for run in runs] == [43, 44, 43]
    with pytest.raises(ConfigError, match=r"validate\.seed.*training seed"):
        plan.read(write(tmp_path, "validate: {seed: 7}\ngrid: {seed: [6, 7]}"))


def test_names_are_safe_and_short(tmp_path: Path) -> None:
    hostile = "../../x; rm -rf ~ <b> 'ü' " + "y" * 300
    (run,) = plan.read(write(tmp_path, json.dumps({"grid": {"model.start_from": [hostile]}})), out="out")
    assert set(run.name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789=_.+-")
    assert len(run.name) < 100
    assert Path(run.config.artifacts).parent == Path("out")


@pytest.mark.parametrize(("text", "overrides", "part"), [
    ("grid: {dataset.tt: [1]}", {}, "did you mean 'dataset.t'?"),
    ("gird: {dataset.t: [10]}", {}, "did you mean 'grid'?"),
    ("grid: {seed: 3}", {}, "a list of values"),
    ("grid: [seed]", {}, "keys with lists"),
    ("runs: {seed: 3}", {}, "a list of keys"),
    ("seed: 3", {}, "says what varies"),
    ("grid: {dataset.t: [10, 1]}", {}, "dataset.t: expected a whole number of at least 2"),
    ("grid: {seed: [1]}", {"seed": 2}, "command line: seed: expected a key that either varies"),
    ("seed: 3\ngrid: {seed: [1]}", {}, "remove seed"),
    ("runs: [{seed: 3}]\ngrid: {seed: [1]}", {}, "one in both"),
    ("grid: {seed: [1, 2, 1]}", {}, "the same twice"),
    ("grid: {artifacts: [a, b]}", {}, "one folder for the whole sweep"),
])
def test_mistakes_in_the_file(text: str, overrides: dict[str, Any], part: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        plan.read(write(tmp_path, text), overrides)
    assert part in str(caught.value)
    assert "remedy" in str(caught.value)


def test_the_sweep_of_the_repository() -> None:
    runs = plan.read(REPOSITORY / "configs" / "sweep.yaml")
    assert len(runs) == 35
    assert {run.config.dataset.t for run in runs} == {150, 200, 250, 300, 500, 700, 1000}


# --- the runs --------------------------------------------------------------------------------------------------------


def numbers(folder: Path) -> dict[str, Any]:
    """All that a sweep's runs found, wall time left out."""
    found = {}
    for path in sorted(folder.glob("t=*")):
        run = RunFolder(path)
        result, score = run.read_result(), run.read_validation()
        found[path.name] = [result[key] for key in ("best_val_loss", "best_loss", "sequences", "sequence_steps", "epochs")] + [
            score["mse"], [(row.loss, row.val_loss, row.sequences) for row in run.read_history()]]
    return found


def wait_for(condition: Any, seconds: float = 120) -> Any:
    """What the condition gives, once that is true."""
    end = time.time() + seconds
    while not (found := condition()):
        assert time.time() < end, "waited in vain"
        time.sleep(0.02)
    return found


def children(pid: int) -> list[int]:
    """Worker processes: children that run multiprocessing's spawned main."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(int(child))
    return found


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the workers through /proc")
def test_killed_workers_and_a_killed_driver_change_no_number(tmp_path: Path, command: Command) -> None:
    path = write(tmp_path, TINY)
    driver.run(plan.read(path, out=str(tmp_path / "a")), LocalEngine(1))

    out = tmp_path / "b"
    arguments = [sys.executable, "-m", "adding_problem", "sweep", "--config", str(path), "--out", str(out), "--workers", "1"]
    cut = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    wait_for(lambda: list(out.glob("t=*/checkpoint*")))
    (worker,) = children(cut.pid)
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: len(list(out.glob("t=*/result.json"))) >= 2)
    orphans = children(cut.pid)
    cut.kill()
    output = cut.communicate()[0]
    assert "SIGKILL" in output
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in orphans))
    assert len(list(out.glob("t=*/result.json"))) < 4

    resumed = command("sweep", "--config", path, "--out", out, "--workers", 1)
    assert resumed.returncode == 0, resumed.stderr
    assert numbers(out) == numbers(tmp_path / "a")
    assert len(numbers(out)) == 4
    before = {file: file.stat().st_mtime_ns for file in out.rglob("*") if file.is_file() and file.name != driver.SWEEP_FILE}
    again = driver.run(plan.read(path, out=str(out)), LocalEngine(1))
    assert again.counts["done"] == 4
    assert before == {file: file.stat().st_mtime_ns for file in before}  # nothing was trained or scored again
    shown = command("watch", out, "--once")
    assert shown.returncode == 0
    assert shown.stdout.count(" done ") >= 4


def test_failures_are_listed_and_tried_again(tmp_path: Path, command: Command) -> None:
    path = write(tmp_path, "dataset: {dt_length: 200}\ntrain: {epochs: 1}\nmodel: {hidden: 4}\n"
                           "grid: {dataset.t: [10], seed: [0, 1]}\n")
    broken = Path(plan.read(path, {}, str(tmp_path / "out"))[0].config.artifacts)
    broken.mkdir(parents=True)
    (broken / "config_copy.yaml").write_text("seed: 5\n")
    done = command("sweep", "--config", path, "--out", "out")
    assert done.returncode == 1
    assert "1 of 2 runs failed" in done.stderr
    assert f"{broken.name}" in done.stderr
    assert "holds a run of another configuration" in done.stderr
    state = json.loads((tmp_path / "out" / "sweep.json").read_text())
    assert state["counts"] == {"failed": 1, "done": 1}
    assert "failed" in command("watch", "out", "--once").stdout
    (broken / "config_copy.yaml").unlink()
    mended = command("sweep", "--config", path, "--out", "out")
    assert mended.returncode == 0, mended.stderr
    assert "2 done" in mended.stdout


def test_dry_run_trains_nothing(tmp_path: Path, command: Command) -> None:
    done = command("sweep", "--config", write(tmp_path, TINY), "--out", "out", "--dry_run")
    assert done.returncode == 0, done.stderr
    # 280 training sequences, 12 epochs, two seeds at T = 10 and two at T = 20
    assert f"at most {280 * 12 * 2 * 30 / 1e3:.0f}k sequence-steps" in done.stdout
    assert done.stdout.count("to do") == 5
    assert not (tmp_path / "out").exists()


# --- engines ---------------------------------------------------------------------------------------------------------


def dies_once(job: Job) -> Outcome:
    """A task that takes its process with it the first time."""
    marker = Path(job.config.artifacts)
    if not marker.exists():
        marker.mkdir(parents=True)
        os.kill(os.getpid(), signal.SIGKILL)
    return Outcome("done", best_val_loss=0.1)


def always_dies(job: Job) -> Outcome:
    os._exit(3)


def test_a_run_that_always_kills_its_process_fails_in_the_end(tmp_path: Path) -> None:
    runs = plan.read(write(tmp_path, "grid: {seed: [0, 1]}"), out=str(tmp_path / "a"))
    board = driver.run(runs, LocalEngine(2, dies_once), score=False)
    assert [(entry.state, entry.deaths) for entry in board.entries.values()] == [("done", 1), ("done", 1)]
    runs = plan.read(write(tmp_path, "grid: {seed: [0]}"), out=str(tmp_path / "b"))
    board = driver.run(runs, LocalEngine(1, always_dies), score=False, retries=1)
    (entry,) = board.entries.values()
    assert entry.state == "failed"
    assert "lost 2 times, last because its process ended with exit code 3" in entry.message
    with pytest.raises(driver.SweepError, match="lost 2 times"):
        driver.raise_failures(board)


class Interrupted(LocalEngine):
    """An engine during whose work the user presses Ctrl-C."""

    def wait(self, seconds: float) -> Any:
        raise KeyboardInterrupt


def test_an_interrupted_sweep_says_that_it_can_go_on(tmp_path: Path) -> None:
    runs = plan.read(write(tmp_path, "grid: {seed: [0, 1]}"), out=str(tmp_path / "a"))
    with pytest.raises(driver.SweepCutError, match="goes on where each run stood") as caught:
        driver.run(runs, Interrupted(1, always_dies), score=False)
    assert caught.value.exit_code == 130
    assert json.loads((tmp_path / "a" / "sweep.json").read_text())["counts"] == {"queued": 2}


def test_workers_times_threads_stay_within_the_cores(tmp_path: Path) -> None:
    cores = len(os.sched_getaffinity(0))
    runs = plan.read(write(tmp_path, f"threads: {cores}\ngrid: {{seed: [0]}}"))
    assert isinstance(engine := engines.build(engines.Choice("local"), runs), LocalEngine)
    assert engine.workers == 1
    with pytest.raises(ConfigError, match="at most 1"):
        engines.build(engines.Choice("local", workers=2), runs)
    with pytest.raises(ConfigError, match="engine ray"):
        engines.Choice("local", address="auto")


def test_time_left_is_weighted_by_cost(tmp_path: Path) -> None:
    runs = plan.read(write(tmp_path, "grid: {dataset.t: [100, 300]}"), out=str(tmp_path))
    entries = {r.name: driver.Entry(r.name, "", {}, plan.most_sequence_steps(r.config)) for r in runs}
    board = driver.Board(tmp_path, entries, begin=time.time() - 10)
    assert board.seconds_left() is None
    board.move(next(iter(entries.values())), "done")
    assert board.seconds_left() == pytest.approx(30, rel=0.01)


def test_a_score_at_another_length_is_made_again(tmp_path: Path) -> None:
    text = "dataset: {dt_length: 200}\ntrain: {epochs: 1}\nmodel: {hidden: 4}\ngrid: {dataset.t: [10]}\n"
    (run,) = plan.read(write(tmp_path, text), out=str(tmp_path / "a"))
    job = Job(run.name, run.config, score=True)
    assert finished(job) is None
    first = perform(job)
    assert (first.state, finished(job)) == ("done", first)
    folder = RunFolder(run.config.artifacts)
    folder.write_validation(folder.read_validation() | {"t": 40, "mse": 1.0})
    assert finished(job) is None
    assert perform(job) == first


def test_watching_a_folder_of_runs(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="neither a sweep nor a run"):
        watch.look(tmp_path)
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "config_copy.yaml").write_text("")
    (line,) = watch.look(tmp_path)
    assert (line.name, line.state) == ("x", "running")
    os.utime(tmp_path / "x" / "config_copy.yaml", (0, 0))
    (line,) = watch.look(tmp_path)
    assert line.state == "silent"
