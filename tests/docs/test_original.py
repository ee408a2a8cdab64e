"""The page of the original's experiments: its figures, and its words for any number of seeds."""

from __future__ import annotations

import csv
import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import matplotlib
import pytest

from adding_problem.analysis import plots
from adding_problem.analysis.original import read_original
from adding_problem.runs.folder import RunFolder
from tests.conftest import REPOSITORY

RUNS = REPOSITORY / "docs" / "runs" / "original"
CURVES = REPOSITORY / "docs" / "original_curves.json"


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """docs/make_original.py as a module, with a record of seeds of its own."""
    spec = importlib.util.spec_from_file_location(
        "make_original", REPOSITORY / "docs" / "make_original.py"
    )
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(
        sys.modules, "make_original", module
    )  # dataclasses look themselves up there
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "SEEDS", tmp_path / "seeds.json")
    return module


def seed_record(seed: int, epoch: int | None, **changes: Any) -> dict[str, Any]:
    """An entry as benchmarks/original_seeds.py writes it."""
    reached = {"1e-2": {"epoch": epoch} if epoch else None, "1e-3": None}
    return {
        "seed": seed,
        "reached": reached,
        "epochs": epoch or 16,
        "stop_reason": "solved" if epoch else "early_stopping",
        "lowest_val_loss": 5e-3 if epoch else 0.166,
        "sequence_steps": 480e6,
        "seconds": 3600.0,
        "commit": "abc",
        "processor": "X",
        "backend": "native",
        "threads": 1,
        "versions": {"torch": "2.13.0"},
        **changes,
    }


def test_the_page_speaks_the_truth_for_any_number_of_seeds(page: ModuleType) -> None:
    assert "No seed of this experiment has ended yet." in page.section_on_seeds()

    def told(*runs: dict[str, Any]) -> str:
        page.SEEDS.write_text(json.dumps({"runs": runs}))
        return str(page.section_on_seeds())

    one = told(seed_record(0, 12))
    assert "**1 of 1 seeds so far**" in one
    assert "It got there in epoch 12." in one
    assert "others" not in one
    three = told(seed_record(0, 12), seed_record(1, None), seed_record(2, 20))
    assert "**2 of 3 seeds so far** came below a validation MSE of 1e-2." in three
    # Wilson's interval by hand, with z = 1.96, p = 2/3 and n = 3:
    # (p + z^2 / 2n ± z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)
    assert "Wilson's 95% interval of the share: 21% to 94%." in three
    assert "They got there in epochs 12, 20." in three
    assert "The others ended so: 1 by patience." in three
    assert "| 1 | never | 16 | by patience | 0.17 |" in three
    none = told(seed_record(0, None))
    assert "**0 of 1 seeds so far**" in none
    assert "got there" not in none
    assert "so far" not in told(*(seed_record(seed, 10 + seed) for seed in range(10)))


def test_the_tables_are_the_records(page: ModuleType) -> None:
    theirs, ours = page.originals(), page.recorded()
    assert list(theirs) == list(ours) == [150, 200, 250, 300, 500, 700, 1000]
    runs = page.table_of_runs(theirs, ours)
    for t in theirs:
        with (RUNS / str(t) / "metrics.csv").open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        first = next(row for row in rows if float(row["val_loss"]) < 1e-2)
        (cells,) = re.findall(rf"^\| {t:,} \| ours \| (.*) \|$", runs, re.MULTILINE)
        epochs, lowest, reached, cost = cells.split(" | ")[:4]
        assert epochs.split()[0] == str(len(rows))
        assert float(lowest) == pytest.approx(min(float(row["val_loss"]) for row in rows), rel=0.05)
        assert reached.split(", ")[0] == first["epoch"]
        assert float(cost) * 1e6 == float(first["sequence_steps"])


def test_the_power_of_a_power_law(page: ModuleType) -> None:
    assert page.exponent_of({t: 3.0 * t**1.7 for t in (150, 300, 1000)}) == pytest.approx(1.7)


def test_what_the_page_links_to_is_there() -> None:
    text = (REPOSITORY / "docs" / "original.md").read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text) if "://" not in link]
    assert len(links) > 8
    for link in links:
        assert (REPOSITORY / "docs" / link).exists(), link


def test_the_pictures_draw_both_runs_and_the_plateau(tmp_path: Path) -> None:
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        originals = read_original(CURVES)
        runs = [RunFolder(path).read() for path in sorted(RUNS.iterdir())]
        (longest,) = (run for run in runs if run.t == 1000)
        plots.draw_curves(tmp_path / "curves.svg", longest, originals, "the finding")
        plots.draw_costs(tmp_path / "costs.svg", runs, originals, "what it costs")
    curves, costs = ((tmp_path / f"{name}.svg").read_text() for name in ("curves", "costs"))
    for part in (
        "the finding",
        "ours, training loss",
        "the original, validation loss",
        "mean baseline (0.167)",
    ):
        assert part in curves
    for part in (
        "what it costs",
        "the original: ended before",
        "epochs until the validation MSE is below 1e-2",
    ):
        assert part in costs
    assert "ours: ended before" not in costs
