"""The page of variants: its formulas against drawn targets, its code, and the golden vectors."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from adding_problem.task.baselines import target_moments
from adding_problem.task.sampling import sample_batch_numpy
from adding_problem.task.thresholds import HIT_TOLERANCE
from adding_problem.task.variants import Task
from tests.helpers.documents import DOCS, require_links, rows, run_code, script
from tests.helpers.tasks import TARGETS

PAGE = DOCS / "specification.md"
T, N = 1_000, 400_000

Drawn = NDArray[np.float64]
Draw = Callable[[np.random.Generator], Drawn]


def uniform(rng: np.random.Generator, low: float = 0, high: float = 1) -> tuple[Drawn, Drawn]:
    """N pairs of marked values."""
    x, y = rng.uniform(low, high, (2, N))
    return x, y


def hs1997(rng: np.random.Generator) -> Drawn:
    """Targets by the words of the paper: steps are drawn, and a marked first step counts as 0."""
    first = rng.integers(0, 10, N)
    second = rng.integers(0, T // 2 - 1, N)
    while (same := second == first).any():
        second[same] = rng.integers(0, T // 2 - 1, same.sum())
    x, y = uniform(rng, -1)
    return 0.5 + (x * (first > 0) + y * (second > 0)) / 4


def total(rng: np.random.Generator, low: float = 0, high: float = 1) -> Drawn:
    """Sums of two marked values."""
    x, y = uniform(rng, low, high)
    return x + y


DRAWS: dict[str, Draw] = {
    "1": total,
    "2": total,
    "3": hs1997,
    "4": lambda rng: 0.5 + total(rng, -1) / 4,
    "5": lambda rng: total(rng) / 2,
    "6": lambda rng: total(rng) - 1,
    "7": lambda rng: total(rng, -0.5, 0.5),
    "8": lambda rng: 0.5 + total(rng, -1) / 4,
    "9": lambda rng: total(rng, -1),
    "10": lambda rng: np.prod(uniform(rng), axis=0),
    "11": lambda rng: np.subtract(*uniform(rng)),
    "12": lambda rng: uniform(rng)[0],
}


def value(formula: str, **names: float) -> float:
    """The number of a formula as the page writes it."""
    for written, code in (("·", "*"), ("²", "**2"), ("δ", "d")):
        formula = formula.replace(written, code)
    formula = re.sub(r"(\d)([dpq])", r"\1*\2", formula)
    known = {"F": lambda x: x - x * math.log(x), "d": HIT_TOLERANCE}
    return float(eval(formula, {"__builtins__": {}}, known | names))


def baseline_rows() -> dict[str, list[str]]:
    """The page's table of baselines by number."""
    found = rows(PAGE.read_text("utf-8"), "| no. | mean |")
    return {
        cells[0].strip("| "): [cells[1], *cells[2].split(" = "), *cells[3].split(" = ")]
        for cells in found
    }


def page_p() -> float:
    """The probability that a mark of variant 3 falls on the first step, as the page gives it."""
    (formula,) = re.findall(r"p = (1/10 \+ .*\));", PAGE.read_text("utf-8"))
    return value(formula.replace("T", str(T)))


def test_every_variant_has_a_baseline() -> None:
    variants = rows(PAGE.read_text("utf-8"), "| no. | values and marks |")
    assert [cells[0].strip("| ") for cells in variants] == list(DRAWS) == list(baseline_rows())


@pytest.mark.parametrize("number", DRAWS)
def test_the_formulas_are_those_of_drawn_targets(number: str) -> None:
    mean, mse, mse_written, share, share_written = baseline_rows()[number]
    target = DRAWS[number](np.random.default_rng(int(number)))
    centre, p = value(mean), page_p()
    squared, hits = (target - centre) ** 2, np.abs(target - centre) < HIT_TOLERANCE
    assert abs(target.mean() - centre) < 4 * target.std() / math.sqrt(N)
    assert abs(squared.mean() - value(mse, p=p)) < 4 * squared.std() / math.sqrt(N)
    assert abs(hits.mean() - value(share, p=p)) < 4 * hits.std() / math.sqrt(N)
    assert f"{value(mse, p=p):.4f}" == mse_written
    assert f"{value(share, p=p):.2%}" == share_written


@pytest.mark.parametrize(
    ("number", "task"),
    [
        ("1", Task()),
        ("2", Task(variant="halves")),
        ("3", Task(variant="hs1997")),
        ("10", Task(target="product")),
        ("11", Task(target="difference")),
        ("12", Task(target="first")),
    ],
)
def test_the_formulas_are_those_of_the_package(number: str, task: Task) -> None:
    mean, mse, _, share, _ = baseline_rows()[number]
    moments = target_moments(task, T)
    assert moments.mean == pytest.approx(value(mean), rel=1e-12)
    assert moments.second == pytest.approx(value(mse, p=page_p()), rel=1e-12)
    n = 20_000
    _, y = sample_batch_numpy(n, T, seed=11, task=task)
    expected = value(share, p=page_p())
    hits = np.abs(y - moments.mean) < HIT_TOLERANCE
    assert abs(hits.mean() - expected) < 4 * math.sqrt(expected * (1 - expected) / n)


def test_the_other_targets_of_hs1997() -> None:
    ((product, first),) = re.findall(
        r"of the product (\S+ - \S+), of the\s+first (\S+ - p\)/\d+)", PAGE.read_text("utf-8")
    )
    for task, formula in (
        (Task(variant="hs1997", target="product"), product),
        (Task(variant="hs1997", target="first"), first),
    ):
        moments = target_moments(task, T)
        assert moments.second == pytest.approx(value(formula, p=page_p()), rel=1e-12)
    same = [target_moments(Task(variant="hs1997", target=each), T) for each in TARGETS[:2]]
    assert same[0] == same[1]


def test_the_error_of_two_marks_on_one_step() -> None:
    ((twice, once),) = re.findall(
        r"MSE (.*?) if the value counts twice, (.*?) if it counts once", PAGE.read_text("utf-8")
    )
    rng, steps = np.random.default_rng(0), 5
    first, second = rng.integers(0, steps, (2, N))
    x, y = uniform(rng)
    same = first == second
    for formula, target in (
        (twice, np.where(same, 2 * x, x + y)),
        (once, np.where(same, x, x + y)),
    ):
        squared = (target - target.mean()) ** 2
        error = 4 * squared.std() / math.sqrt(N)
        assert abs(squared.mean() - value(formula, q=1 / steps)) < error


def test_the_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = run_code(PAGE, tmp_path, monkeypatch)
    x, _ = sample_batch_numpy(3, 57, seed=9)
    for index in range(3):
        assert np.array_equal(names["sequence"](index, 57, seed=9), x[index])


def test_the_links_lead_somewhere() -> None:
    require_links(PAGE)


def test_the_golden_vectors_are_the_samplers_bit_for_bit() -> None:
    golden = json.loads((DOCS / "golden.json").read_text())
    assert {entry["task"]["variant"] for entry in golden["entries"]} == {"any", "halves", "hs1997"}
    for entry in golden["entries"]:
        x = np.array(entry["x"], np.float32)
        for target, written in entry["targets"].items():
            task = Task(**entry["task"], target=target)
            drawn, y = sample_batch_numpy(len(x), golden["t"], seed=golden["seed"], task=task)
            assert np.array_equal(x, drawn)
            assert np.array_equal(np.array(written, np.float32), y[:, 0])


def test_the_golden_file_is_what_its_script_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = io.StringIO()
    module: Any = script(DOCS / "make_golden.py", monkeypatch)
    with redirect_stdout(printed):
        module.main()
    assert printed.getvalue() == (DOCS / "golden.json").read_text()
