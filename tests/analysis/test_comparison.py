"""The comparison of many methods, on a terminal and as a picture."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import matplotlib
import pytest
from rich.console import Console

from adding_problem.analysis import plots
from adding_problem.analysis.aggregate import Group, finding, group_runs, table_rows
from adding_problem.analysis.plots import comparison
from adding_problem.cli import compare
from adding_problem.errors import ConfigError
from adding_problem.runs.records import RunRecord
from adding_problem.system.output import say
from tests.helpers.made_runs import LENGTHS, many


@pytest.fixture(scope="module")
def runs() -> list[RunRecord]:
    return many()


@pytest.fixture(scope="module")
def groups(runs: list[RunRecord]) -> list[Group]:
    return group_runs(runs)


@pytest.mark.parametrize("width", [80, 120])
def test_seventeen_methods_fit_a_screen(
    width: int, runs: list[RunRecord], groups: list[Group], capsys: pytest.CaptureFixture[str]
) -> None:
    console = Console(width=width)
    compare._print_runs(table_rows(runs), console)
    compare._print_groups(groups, console)
    say(*compare._remarks(groups))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) < 60
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    assert "255 runs" in lines[0]
    assert all(f"{t:,}" in text for t in LENGTHS)
    # RNN, the third method, solves T = 300 and not T = 1,000: medians 1.1 times 5.2e-4 and 0.07
    (row,) = (index for index, line in enumerate(lines) if line.startswith(" RNN, fast"))
    cells = re.findall(r"\d/3|\d\.\de-\d", " ".join(lines[row : row + (2 if width < 100 else 1)]))
    assert sorted(cells) == sorted(
        ["2/3", "2/3", "0/3", "0/3", "0/3", *2 * ["5.7e-4"], *3 * ["7.7e-2"]]
    )


def test_four_methods_with_their_seeds_fit_a_screen(
    runs: list[RunRecord], capsys: pytest.CaptureFixture[str]
) -> None:
    """What does not fit a terminal is cut off without a word: the last column must be there."""
    few = [run for run in runs if run.t == LENGTHS[0]][:12]
    groups = group_runs(few)
    assert len(groups) == 4
    console = Console(width=80)
    compare._print_runs(table_rows(few), console)
    compare._print_groups(groups, console)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) < 60
    assert max(map(len, lines)) <= 80
    cost = str(groups[-1].cost("1e-3", "sequence_steps"))
    middle, least, most = re.findall(r"[\d.]+[kMG]?", cost)
    assert [lines[-4 + row].split()[-1] for row in range(3)] == [middle, least, most]


def test_two_methods_are_tested_by_name(groups: list[Group]) -> None:
    assert compare._tested(groups, None) == []
    named = compare._tested(groups, ["GRU, fast", "LSTM, original"])
    assert {group.method for group in named} == {"GRU, fast", "LSTM, original"}
    assert len(named) == 2 * len(LENGTHS)
    few = [group for group in groups if group.method in ("GRU, fast", "RNN, fast", "S6, fast")]
    assert compare._tested(few, None) == few
    with pytest.raises(ConfigError, match="did you mean 'GRU, fast'"):
        compare._tested(groups, ["GRU, fas", "LSTM, original"])
    with pytest.raises(ConfigError, match="--test: expected two methods"):
        compare._tested(groups, ["GRU, fast"])


def test_the_picture_names_eight_methods_and_counts_the_others(
    groups: list[Group], tmp_path: Path
) -> None:
    looks = comparison._looks(groups, 8)
    assert len(looks) == 8
    assert len({look.color for look in looks.values()}) == 8
    assert len({look.marker for look in looks.values()}) == 8
    # the methods from index 7 on solve all lengths; the lowest medians are of the first of them
    assert "minLSTM, fast" not in {name for name, _ in comparison._looks(groups, 2)}
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        drawn = [group for group in groups if group.t in (300, 10_000)]  # all take a minute
        plots.draw_comparison(tmp_path / "many.svg", drawn)
    text = (tmp_path / "many.svg").read_text()
    assert len(re.findall(r"\(3 seeds\)", text)) == 8
    for part in (
        "+9 more",
        "sequence-steps",
        "10 of 17 methods solve T = 10,000",
        "no bar: one seed",
    ):
        assert part in text, part
    for t in (300, 10_000):
        assert text.count(f">T = {t:,}<") == 2


def test_the_finding_is_the_longest_length_that_most_seeds_solve(groups: list[Group]) -> None:
    def of(*methods: str) -> list[Group]:
        return [group for group in groups if group.method in methods]

    assert finding(of("RNN, fast")) == "RNN, fast solves T = 300 (2 of 3 seeds)"
    assert finding(of("RNN, fast", "GRU, fast")) == "RNN, fast solves T = 300 (2 of 3 seeds)"
    assert finding(of("RNN, fast", "IRNN, fast")) == "2 of 2 methods solve T = 300"
    (lstm,) = (one for one in of("LSTM, fast, init keyed") if one.t == 100)
    assert finding([lstm]) == "LSTM, fast, init keyed does not solve T = 100"
    oracles = [replace(one, oracle=True) for one in of("RNN, fast")]
    assert finding([lstm, *oracles]).endswith("; oracles: RNN, fast solves T = 300 (2 of 3 seeds)")
