"""What a training shows, on consoles of several widths."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from adding_problem.runs.records import EpochRow
from adding_problem.training import progress
from adding_problem.training.state import StepEvent
from tests.helpers.training import small


def drawn(shown: progress.TrainingDisplay, width: int) -> list[str]:
    """The lines of a display as a terminal of this width has them."""
    console = Console(width=width, force_terminal=True, record=True, file=io.StringIO())
    console.print(shown._progress.get_renderable())
    return console.export_text().splitlines()


def display(
    folder: Path, monkeypatch: pytest.MonkeyPatch, spent: float = 0.0, **changes: Any
) -> progress.TrainingDisplay:
    """In the sixth epoch of 50, at step 3 of 10, 61 seconds after its begin."""
    monkeypatch.setattr(progress, "_REFRESH_SECONDS", 0.0)
    run = small(folder, recipe="fast", dataset__t=1000, train__epochs=50, **changes)
    console = Console(width=80, force_terminal=True, file=io.StringIO())
    shown = progress.TrainingDisplay(run, console, spent)
    shown.on_step(StepEvent(1, 1, 10, 0.17, 16, 320, 20, 30, 10.0))
    shown.on_epoch(EpochRow(5, 0.066, 0.014, 800, 16_000, 60.0))
    shown.on_step(StepEvent(6, 3, 10, 0.05, 848, 16_960, 20, 30, 61.0))
    return shown


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_bar_gives_way_and_nothing_else(
    width: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = drawn(display(tmp_path, monkeypatch), width)
    upper, lower = (re.sub("[━╸╺]+", "BAR", line).split() for line in lines)
    assert upper[:3] == ["epoch", "BAR", "5/50"]
    assert re.fullmatch(r"\d:\d\d:\d\d|-:--:--", upper[3])
    assert upper[4:] == ["loss", "6.6e-2", "val", "1.4e-2"]
    assert (lower[:3], lower[4:6]) == (["step", "BAR", "3/10"], ["T", "30/1,000"])
    assert lower[-1] == "seq/s"
    widths = {len(re.findall("[━╸╺]", line)) for line in lines}
    assert len(widths) == 1
    assert widths.pop() >= min(30, width - 55)


def test_a_budget_is_counted_down_with_what_other_runs_took_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = display(tmp_path, monkeypatch, spent=100.0, train__budget_minutes=2)
    upper = re.sub("[━╸╺]+", "BAR", drawn(shown, 80)[0]).split()
    assert upper[:5] == ["budget", "BAR", "161/220", "s", "0:00:59"]


def test_a_budget_of_steps_is_counted_likewise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = display(tmp_path, monkeypatch, spent=3_040, train__budget_steps=36_960)
    upper = re.sub("[━╸╺]+", "BAR", drawn(shown, 80)[0]).split()
    assert upper[:3] == ["budget", "BAR", "20k/40k"]


def test_before_the_first_epoch_the_loss_is_that_of_a_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_REFRESH_SECONDS", 0.0)
    console = Console(width=80, force_terminal=True, file=io.StringIO())
    shown = progress.TrainingDisplay(small(tmp_path), console)
    shown.on_step(StepEvent(1, 1, 7, 0.17, 32, 384, 12, 12, 1.0))
    upper, lower = drawn(shown, 80)
    assert "0/4" in upper
    assert upper.rstrip().endswith("loss of this batch 1.7e-1")
    assert "T " not in lower  # no curriculum


def test_a_long_label_leaves_room_for_its_bar() -> None:
    console = Console(width=80, force_terminal=True, record=True, file=io.StringIO())
    with progress.counting("artifacts/" + "n" * 90 + "/t=1000[0]", console) as counter:
        counter(3, 10)
    (line, *_) = [one for one in console.export_text().splitlines() if "3/10" in one]
    assert line.startswith("artifacts/nnn…")
    assert "t=1000[0] ━" in line
    assert line.count("━") > 20


def test_elsewhere_an_epoch_is_a_plain_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress.TrainingDisplay(small(tmp_path), Console(file=io.StringIO())) as shown:
        shown.on_epoch(EpochRow(2, 0.066, float("nan"), 800, 16_000, 8.0))
    assert capsys.readouterr().out == "epoch 2/4  loss 6.6e-2  val nan  100 seq/s  8 s\n"
