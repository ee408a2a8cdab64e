"""Sweeps: what a file stands for, and that kills, failures and second calls change nothing in the
numbers."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import os
import signal
import subprocess
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from adding_problem import config
from adding_problem.errors import ConfigError, Interrupted
from adding_problem.experiments.sweep import display, driver, engines, plan
from adding_problem.experiments.sweep.job import Job, Outcome, Task, finished, perform
from adding_problem.experiments.sweep.local import LocalEngine
from adding_problem.runs.collection import RunsFolder
from adding_problem.runs.folder import RunFolder
from tests.conftest import REPOSITORY, Command
from tests.helpers.files import contents
from tests.helpers.sweeps import numbers, sweep_words, wait_for

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


# --- the file -------------------------------------------------------------------------------------


def test_a_grid_and_a_list(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "recipe: fast\n"
        "runs:\n"
        "- {model: {hidden: 8}, train.learning_rate: 0.01}\n"
        "- {model.hidden: 9}\n"
        "grid: {dataset: {t: [30, 40]}, seed: [0, 1, 2]}\n",
    )
    runs = plan.read(path, {"train.batch": 4}, "out")
    assert [
        (r.config.model.hidden, r.config.train.learning_rate, r.config.dataset.t, r.config.seed)
        for r in runs
    ] == [
        (hidden, rate, t, seed)
        for hidden, rate in ((8, 0.01), (9, 0.03))
        for t in (30, 40)
        for seed in (0, 1, 2)
    ]
    for run in runs:
        assert run.config.threads == 1
        assert run.config.train.batch == 4
        assert run.config.artifacts == f"out/{run.name}"
        assert run.name.endswith(
            f"t={run.config.dataset.t}_seed={run.config.seed}_{run.config.digest[:8]}"
        )
        expected = config.load(
            None, {"recipe": "fast", "threads": 1, "train.batch": 4, **run.varies}
        )
        assert run.config.digest == expected.digest
    assert len({run.name for run in runs}) == 12


def test_the_seed_of_the_validation_gives_way_unless_it_was_set(tmp_path: Path) -> None:
    runs = plan.read(write(tmp_path, "grid: {seed: [42, 43, 44]}"))
    assert [run.config.validate.seed for run in runs] == [43, 44, 43]
    with pytest.raises(ConfigError, match=r"validate\.seed.*training seed"):
        plan.read(write(tmp_path, "validate: {seed: 7}\ngrid: {seed: [6, 7]}"))


def test_a_run_takes_one_thread_unless_a_number_is_named(tmp_path: Path) -> None:
    for text in ("", "threads: null\n"):
        assert [
            run.config.threads for run in plan.read(write(tmp_path, text + "grid: {seed: [0, 1]}"))
        ] == [1, 1]
    assert [
        run.config.threads for run in plan.read(write(tmp_path, "grid: {threads: [null, 2]}"))
    ] == [1, 2]


def test_values_are_read_as_those_of_a_run(tmp_path: Path) -> None:
    """Of the file once, as YAML: what is quoted there is text."""
    text = "model: {name: mine.py:Mine, norm: 'off'}\n"
    (run,) = plan.read(write(tmp_path, text + "grid: {model.kind: ['no']}"), {"model.depth": "3"})
    assert run.config.model.arguments == {"norm": "off", "kind": "no", "depth": 3}
    (tmp_path / "run.yaml").write_text(text)
    assert config.load(tmp_path / "run.yaml").model.arguments == {"norm": "off"}


def test_names_are_safe_and_short(tmp_path: Path) -> None:
    hostile = "../../x; rm -rf ~ <b> 'ü' " + "y" * 300
    (run,) = plan.read(
        write(tmp_path, json.dumps({"grid": {"model.start_from": [hostile]}})), out="out"
    )
    assert set(run.name) <= set(
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789=_.+-"
    )
    assert len(run.name) < 100
    assert Path(run.config.artifacts).parent == Path("out")


@pytest.mark.parametrize(
    ("text", "overrides", "part"),
    [
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
    ],
)
def test_mistakes_in_the_file(
    text: str, overrides: dict[str, Any], part: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        plan.read(write(tmp_path, text), overrides)
    assert part in str(caught.value)
    assert "hint" in str(caught.value)


def test_the_sweep_of_the_repository() -> None:
    runs = plan.read(REPOSITORY / "configs" / "sweep.yaml")
    assert len(runs) == 35
    assert {run.config.dataset.t for run in runs} == {150, 200, 250, 300, 500, 700, 1000}


# --- the runs -------------------------------------------------------------------------------------


def children(pid: int) -> list[int]:
    """Worker processes: children that run multiprocessing's spawned main."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(int(child))
    return found


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the workers through /proc")
def test_killed_workers_and_a_killed_driver_change_no_number(
    tmp_path: Path, command: Command
) -> None:
    path = write(tmp_path, TINY)
    driver.run(plan.read(path, out=str(tmp_path / "a")), Here())

    out = tmp_path / "b"
    arguments = sweep_words(path, out, "--workers", 1)
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
    before = {
        file: file.stat().st_mtime_ns
        for file in out.rglob("*")
        if file.is_file() and file.name != driver.SWEEP_FILE and not file.name.startswith(".lock")
    }
    again = driver.run(plan.read(path, out=str(out)), Here())
    assert again.counts["done"] == 4
    assert before == {
        file: file.stat().st_mtime_ns for file in before
    }  # nothing was trained or scored again


def test_failures_are_listed_and_tried_again(tmp_path: Path, command: Command) -> None:
    path = write(
        tmp_path,
        "dataset: {dt_length: 200}\ntrain: {epochs: 1}\nmodel: {hidden: 4}\n"
        "grid: {dataset.t: [10], seed: [0, 1]}\n",
    )
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
    assert "1 failed, 1 done" in done.stdout
    assert "next: adding-problem report out" in done.stdout
    (broken / "config_copy.yaml").unlink()
    mended = command("sweep", "--config", path, "--out", "out")
    assert mended.returncode == 0, mended.stderr
    assert "2 done" in mended.stdout


class Here:
    """An engine that does its jobs in this process, one by one."""

    def __init__(self, task: Task = perform) -> None:
        self._task, self._jobs = task, list[Job]()

    def __enter__(self) -> Here:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    @property
    def free(self) -> bool:
        return not self._jobs

    def submit(self, job: Job) -> None:
        self._jobs.append(job)

    def running(self) -> set[str]:
        return {job.name for job in self._jobs}

    def wait(self, seconds: float) -> list[tuple[str, Outcome]]:
        job = self._jobs.pop()
        return [(job.name, self._task(job))]


ONE_EPOCH = "train: {epochs: 1}\nmodel: {hidden: 4}\n"
QUICK = ONE_EPOCH + "dataset: {dt_length: 200, t: 10}\ngrid: {seed: [0, 1]}\n"


def test_the_second_of_two_sweeps_on_a_folder_is_refused_and_the_first_goes_on(
    tmp_path: Path, command: Command
) -> None:
    path, refused = write(tmp_path, QUICK), []

    def beside_a_second_one(job: Job) -> Outcome:
        state = (tmp_path / "out" / "sweep.json").read_bytes()
        refused.append(command("sweep", "--config", path, "--out", "out", "--workers", 1))
        assert (tmp_path / "out" / "sweep.json").read_bytes() == state
        return perform(job)

    board = driver.run(plan.read(path, out=str(tmp_path / "out")), Here(beside_a_second_one))
    assert board.counts["done"] == 2
    assert json.loads((tmp_path / "out" / "sweep.json").read_text())["counts"] == {"done": 2}
    assert [second.returncode for second in refused] == [2, 2]
    assert all(
        f"out: process {os.getpid()} on" in second.stderr and "is at work in it" in second.stderr
        for second in refused
    )
    assert [second.stdout for second in refused] == ["", ""]


def test_a_run_that_another_process_holds_is_not_a_failed_one(tmp_path: Path) -> None:
    runs = plan.read(write(tmp_path, QUICK), out=str(tmp_path / "out"))
    held, free = (RunFolder(run.config.artifacts) for run in runs)
    with held.locked():
        board = driver.run(runs, Here())
        with pytest.raises(
            driver.SweepError,
            match=r"^1 of 2 runs were left to the processes that work in their folders",
        ) as told:
            driver.raise_failures(board)
        assert f"process {os.getpid()} on" in str(told.value)
        assert "failed" not in str(told.value)
        assert json.loads((tmp_path / "out" / "sweep.json").read_text())["counts"] == {
            "held": 1,
            "done": 1,
        }
    assert free.result.is_file()
    assert not held.result.exists()
    assert driver.run(runs, Here()).counts["done"] == 2
    assert held.result.is_file()


def held_at_first(job: Job) -> Outcome:
    """A task whose first run is held until the second one is done."""
    there = Path(job.config.artifacts).parent / "ended"
    if job.config.seed == 0 and not there.exists():
        return Outcome("held", "process 1 works in it")
    there.touch()
    return Outcome("done", lowest_val_loss=0.1)


def test_a_held_run_is_tried_again_when_the_others_are_done(tmp_path: Path) -> None:
    runs = plan.read(write(tmp_path, "grid: {seed: [0, 1]}"), out=str(tmp_path / "a"))
    board = driver.run(runs, Here(held_at_first), score=False)
    assert board.counts["done"] == 2
    assert {entry.message for entry in board.entries.values()} == {""}


@pytest.mark.parametrize("target", ["elsewhere", "out/mine"])
def test_a_sweep_writes_through_no_link(target: str, tmp_path: Path, command: Command) -> None:
    path, precious = write(tmp_path, QUICK), tmp_path / target
    (linked, _) = (Path(run.config.artifacts) for run in plan.read(path, out=str(tmp_path / "out")))
    precious.mkdir(parents=True)
    (tmp_path / "out").mkdir(exist_ok=True)
    linked.symlink_to(precious)
    done = command("sweep", "--config", path, "--out", "out", "--workers", 1)
    assert done.returncode == 2
    assert f"{linked.name}: is a link" in done.stderr
    assert list(precious.iterdir()) == []
    assert not (tmp_path / "out" / "sweep.json").exists()


def test_the_folder_of_a_sweep_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to("disk")
    board = driver.run(plan.read(write(tmp_path, QUICK), out=str(tmp_path / "out")), Here())
    assert board.counts["done"] == 2
    assert len(list((tmp_path / "disk").glob("seed=*/result.json"))) == 2


@pytest.mark.parametrize("text", ['{"method": "bayes"}', "[]", "notes"])
def test_a_sweep_file_of_another_program_is_not_replaced(
    text: str, tmp_path: Path, command: Command
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sweep.json").write_text(text)
    done = command("sweep", "--config", write(tmp_path, QUICK), "--out", "out")
    assert done.returncode == 2
    assert "sweep.json is damaged, or another program's" in done.stderr
    assert contents(tmp_path / "out") == {"sweep.json": text.encode()}


def test_dry_run_trains_nothing(tmp_path: Path, command: Command) -> None:
    done = command("sweep", "--config", write(tmp_path, TINY), "--out", "out", "--dry_run")
    assert done.returncode == 0, done.stderr
    # 280 training sequences, 12 epochs, two seeds at T = 10 and two at T = 20
    assert f"at most {280 * 12 * 2 * 30 / 1e3:.0f}k sequence-steps" in done.stdout
    assert done.stdout.count("to do") == 5
    assert not (tmp_path / "out").exists()


# --- engines --------------------------------------------------------------------------------------


def dies_once(job: Job) -> Outcome:
    """A task that takes its process with it the first time."""
    marker = Path(job.config.artifacts)
    if not marker.exists():
        marker.mkdir(parents=True)
        os.kill(os.getpid(), signal.SIGKILL)
    return Outcome("done", lowest_val_loss=0.1)


def always_dies(job: Job) -> Outcome:
    os._exit(3)


def test_a_run_that_always_kills_its_process_fails_in_the_end(tmp_path: Path) -> None:
    runs = plan.read(write(tmp_path, "grid: {seed: [0, 1]}"), out=str(tmp_path / "a"))
    board = driver.run(runs, LocalEngine(2, dies_once), score=False)
    assert [(entry.state, entry.deaths) for entry in board.entries.values()] == [
        ("done", 1),
        ("done", 1),
    ]
    runs = plan.read(write(tmp_path, "grid: {seed: [0]}"), out=str(tmp_path / "b"))
    board = driver.run(runs, LocalEngine(1, always_dies), score=False, retries=0)
    (entry,) = board.entries.values()
    assert entry.state == "failed"
    assert "lost 1 times, last because its process ended with exit code 3" in entry.message
    with pytest.raises(driver.SweepError, match="lost 1 times"):
        driver.raise_failures(board)


@pytest.mark.parametrize(
    ("signal_number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_an_interrupted_sweep_says_that_it_can_go_on(
    signal_number: int, exit_code: int, tmp_path: Path
) -> None:
    class Cut(LocalEngine):
        """An engine during whose work the signal comes."""

        def wait(self, seconds: float) -> Any:
            raise (
                KeyboardInterrupt if signal_number == signal.SIGINT else Interrupted(signal_number)
            )

    runs = plan.read(write(tmp_path, "grid: {seed: [0, 1]}"), out=str(tmp_path / "a"))
    with pytest.raises(
        Interrupted, match="0 of 2 runs are done, the others go on where each stood"
    ) as caught:
        driver.run(runs, Cut(1, always_dies), score=False)
    assert caught.value.exit_code == exit_code
    assert json.loads((tmp_path / "a" / "sweep.json").read_text())["counts"] == {"queued": 2}


def test_workers_times_threads_stay_within_the_cores(tmp_path: Path) -> None:
    cores = len(os.sched_getaffinity(0))
    runs = plan.read(write(tmp_path, f"threads: {cores}\ngrid: {{seed: [0]}}"))
    configs = [run.config for run in runs]
    assert isinstance(engine := engines.build(engines.Choice("local"), configs), LocalEngine)
    assert engine.workers == 1
    with pytest.raises(ConfigError, match="at most 1"):
        engines.build(engines.Choice("local", workers=2), configs)
    with pytest.raises(ConfigError, match="engine ray"):
        engines.Choice("local", address="auto")


def test_an_interrupted_sweep_shows_no_traceback_of_a_worker(tmp_path: Path) -> None:
    out = tmp_path / "a"
    path = write(tmp_path, TINY.replace("epochs: 12", "epochs: 100_000"))
    arguments = sweep_words(path, out, "--workers", 1)
    cut = subprocess.Popen(
        arguments,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell that runs these tests in the background has them ignore Ctrl-C.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )
    wait_for(lambda: list(out.glob("t=*/checkpoint*")))
    os.killpg(cut.pid, signal.SIGINT)  # as a terminal does
    errors = cut.communicate(timeout=60)[1]
    assert cut.returncode == 130
    assert "Traceback" not in errors
    assert "0 of 4 runs are done" in errors


def notes_its_process(job: Job) -> Outcome:
    """A task that leaves the id of its process."""
    return Outcome("done", message=str(os.getpid()))


def test_a_worker_does_not_hear_ctrl_c_not_even_at_its_start(tmp_path: Path) -> None:
    (run,) = plan.read(write(tmp_path, "grid: {seed: [0]}"))
    with LocalEngine(1, notes_its_process) as engine:
        engine.submit(Job(run.name, run.config, score=False))
        ((worker, _),) = engine._busy.values()
        pid = worker._process.pid
        assert pid
        os.kill(pid, signal.SIGINT)
        ((_, outcome),) = wait_for(lambda: engine.wait(1))
    assert outcome == Outcome("done", message=str(pid))


def test_an_idle_worker_that_was_killed_is_replaced(tmp_path: Path) -> None:
    jobs = [
        Job(run.name, run.config, score=False)
        for run in plan.read(write(tmp_path, "grid: {seed: [0, 1]}"))
    ]
    with LocalEngine(1, notes_its_process) as engine:
        engine.submit(jobs[0])
        ((_, first),) = wait_for(lambda: engine.wait(1))
        os.kill(int(first.message), signal.SIGKILL)
        wait_for(lambda: not engine._idle[0]._process.is_alive())
        engine.submit(jobs[1])
        ((name, second),) = wait_for(lambda: engine.wait(1))
    assert (name, second.state) == (jobs[1].name, "done")
    assert second.message != first.message


def test_most_sequence_steps_counts_the_steps_that_a_variant_adds(tmp_path: Path) -> None:
    """Hochreiter and Schmidhuber's sequences of nominal length T have up to T + T // 10 steps."""
    text = TINY.replace("dt_length: 400", "dt_length: 400, variant: hs1997").replace(
        "[10, 20]", "[25, 40]"
    )
    runs = plan.read(write(tmp_path, text))
    assert [plan.most_sequence_steps(run.config) for run in runs[::2]] == [
        280 * 12 * 27,
        280 * 12 * 44,
    ]


def test_a_budget_ends_with_an_epoch(tmp_path: Path) -> None:
    """Of 280 sequences of 10 steps, 2800 sequence-steps, two are begun within 3000."""
    (run,) = plan.read(
        write(
            tmp_path,
            "dataset: {dt_length: 400, t: 10}\ntrain: {budget_steps: 3000}\ngrid: {seed: [0]}\n",
        )
    )
    assert plan.most_sequence_steps(run.config) == 5600


def test_time_left_is_weighted_by_cost(tmp_path: Path) -> None:
    runs = plan.read(write(tmp_path, "grid: {dataset.t: [100, 300]}"), out=str(tmp_path))
    entries = {
        r.name: driver.Entry(r.name, "", {}, plan.most_sequence_steps(r.config)) for r in runs
    }
    board = driver.Board(RunsFolder(tmp_path, driver.SWEEP_FILE), entries, begin=time.time() - 10)
    assert board.seconds_left() is None
    board.move(next(iter(entries.values())), "done")
    assert board.seconds_left() == pytest.approx(30, rel=0.01)


def test_a_score_at_another_length_is_made_again(tmp_path: Path) -> None:
    text = ONE_EPOCH + "dataset: {dt_length: 200}\ngrid: {dataset.t: [10]}\n"
    (run,) = plan.read(write(tmp_path, text), out=str(tmp_path / "a"))
    job = Job(run.name, run.config, score=True)
    assert finished(job) is None
    first = perform(job)
    assert (first.state, finished(job)) == ("done", first)
    folder = RunFolder(run.config.artifacts)
    folder.write_score(dataclasses.replace(folder.read_score(), t=40, mse=1.0))
    assert finished(job) is None
    assert perform(job) == first
    folder.validation.write_text("{")
    assert finished(job) is None
    assert perform(job) == first


def board_of(tmp_path: Path, *entries: driver.Entry) -> driver.Board:
    place = RunsFolder(tmp_path, driver.SWEEP_FILE)
    return driver.Board(place, {entry.name: entry for entry in entries})


@pytest.mark.parametrize(
    ("width", "columns"),
    [
        (200, "run state steps seconds validation test"),
        (75, "run state steps validation test"),
        (60, "run state validation test"),
        (40, "run state"),
    ],
)
def test_a_narrow_terminal_goes_without_columns(tmp_path: Path, width: int, columns: str) -> None:
    entry = driver.Entry("n" * 50, "", {}, 1, "done", seconds=1234.5, sequence_steps=12_345_678)
    entry.lowest_val_loss, entry.mse = 1e-4, 1e-4
    console = Console(record=True, width=width, force_terminal=True, file=io.StringIO())
    console.print(display.render(board_of(tmp_path, entry)))
    lines = console.export_text(clear=False).splitlines()
    (heading,) = [line for line in lines if line.startswith("┃")]
    assert heading.replace("┃", " ").split() == columns.split()
    assert "│ " + "n" * 20 in console.export_text()


def test_the_bar_of_a_sweep_fits_80_columns(tmp_path: Path) -> None:
    """Three of ten runs have ended, in ten seconds; the other seven cost as much each."""
    states: list[driver.State] = ["done", "done", "failed", "running", "running"]
    states += ["queued" for _ in range(5)]
    entries = [driver.Entry(f"r{i}", "", {}, 1, state) for i, state in enumerate(states)]
    entries[0].mse = 3e-4
    board = board_of(tmp_path / "sweep", *entries)
    board.begin = time.time() - 30
    console = Console(record=True, width=80, force_terminal=True, file=io.StringIO())
    console.print(display.SweepDisplay(console)._drawn(board))
    bar = console.export_text().splitlines()[0]
    assert bar.split()[2:] == ["3/10", "0:01:10", "1", "failed", "best", "MSE", "3.0e-4"]
    assert bar.count("━") > 4


def test_a_sweep_ends_with_medians_and_the_next_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two methods with three seeds; one run failed and has no part in them."""
    path = write(tmp_path, "dataset: {t: 20}\ngrid: {model.hidden: [4, 100], seed: [0, 1, 2]}\n")
    runs = plan.read(path, out=str(tmp_path / "a b"))
    entries = [
        driver.Entry(run.name, "", {}, 1, "done", mse=mse, sequence_steps=steps)
        for run, mse, steps in zip(
            runs,
            [0.1, 0.2, math.nan, 5e-4, 7e-4, None],
            [1000, 3000, 2000, 4000, 6000, 0],
            strict=True,
        )
    ]
    entries[-1].state = "failed"
    display.show_results(runs, board_of(tmp_path / "a b", *entries), Console(width=80))
    lines = capsys.readouterr().out.splitlines()
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line]
    assert rows == [
        ["LSTM, original, hidden 4", "20", "0 of 3", "2.0e-1", "1.0e-1 to inf", "2k"],
        ["LSTM, original", "20", "2 of 2", "6.0e-4", "5.0e-4 to 7.0e-4", "5k"],
    ]
    assert lines[0] == f"{tmp_path / 'a b'}: 1 failed, 5 done"
    assert lines[-1] == f"next: adding-problem report '{tmp_path / 'a b'}'"


def test_a_message_cannot_speak_to_the_terminal(tmp_path: Path) -> None:
    entry = driver.Entry("t=10", "", {}, 1, "failed", message="a\x1b]0;b\x07")
    console = Console(record=True, width=80)
    console.print(display.render(board_of(tmp_path, entry)))
    assert "\x1b" not in console.export_text()
