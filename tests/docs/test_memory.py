"""The page on memory: what its pictures show is measured right, and its code runs."""

from __future__ import annotations

import json
import math
import re
import struct
from pathlib import Path
from types import ModuleType

import matplotlib
import pytest
import torch

from adding_problem import build_model, load, sample_batch
from adding_problem.models import AddingLSTM
from adding_problem.models.rnn import AddingRNN
from tests.conftest import REPOSITORY
from tests.helpers.documents import DOCS, require_links, run_code, script

PAGE = DOCS / "why_memory_is_hard.md"
MOST_WORDS = 1_300


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """benchmarks/memory.py."""
    return script(REPOSITORY / "benchmarks" / "memory.py", monkeypatch)


@pytest.fixture
def pictures(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """docs/make_pictures.py."""
    monkeypatch.syspath_prepend(str(DOCS))
    return script(DOCS / "make_pictures.py", monkeypatch)


def of_page(name: str) -> bool:
    """Whether a picture belongs to this page."""
    return name.startswith("memory/")


def test_gradients_are_the_product_of_the_jacobians(memory: ModuleType) -> None:
    model = build_model(load(overrides={"model.name": "rnn", "model.init": None}).model).double()
    assert isinstance(model, AddingRNN)
    x = sample_batch(1, 12, seed=0)[0].double()
    kernel, recurrent, bias, second_bias = (p.detach() for p in model.rnn.parameters())
    state, states = torch.zeros(len(recurrent), dtype=torch.float64), []
    for step in x[0]:
        state = torch.tanh(kernel @ step + recurrent @ state + bias + second_bias)
        states.append(state)
    back, expected = model.readout.weight.detach()[0], []
    for state in reversed(states):
        through_tanh = back * (1 - state**2)
        expected.append((through_tanh @ kernel).norm())
        back = through_tanh @ recurrent
    torch.testing.assert_close(memory.gradient_norms(model, x).flip(0), torch.stack(expected))


def test_the_trace_ends_in_the_models_answer(memory: ModuleType) -> None:
    model = build_model(load(overrides={"model.hidden": 7}).model, seed=3)
    assert isinstance(model, AddingLSTM)
    x, _ = sample_batch(5, 9, seed=0)
    trace = memory.trace(model, x)
    for steps in (1, 4, 9):
        torch.testing.assert_close(trace["answer"][:, steps - 1], model(x[:, :steps])[:, 0])
    # The cell by its equation needs the candidate alone besides these gates: |g| < 1.
    kept = trace["forget"][:, 1:] * trace["cell"][:, :-1]
    written = (trace["cell"][:, 1:] - kept) / trace["input"][:, 1:]
    assert written.abs().max() < 1


def test_the_telling_cell_opens_at_the_marks_and_follows_the_target(memory: ModuleType) -> None:
    x, y = sample_batch(50, 20, seed=0)
    gates = torch.full((50, 20, 4), 0.5)
    gates[..., 1:3] = x[..., 1:]
    gates[..., 3] = 1 - x[..., 1]
    cells = torch.zeros(50, 20, 4)
    cells[:, -1] = torch.cat([y, y**2, -y, y], dim=1)  # cells 0 and 3 tell it, and never open
    assert memory.telling_cell(gates, cells, x, y) == 2


def test_the_record_is_about_the_sequence_that_it_names(memory: ModuleType) -> None:
    record = json.loads((DOCS / "memory.json").read_text())
    sequence = record["sequence"]
    (x,), (y,) = sample_batch(1, record["t"], seed=record["seeds"]["test"], start=sequence["index"])
    assert torch.nonzero(x[:, 1])[:, 0].tolist() == sequence["marks"]
    assert sequence["target"] == pytest.approx(y.item(), abs=1e-4)
    assert record["gate"]["answer"][-1] == pytest.approx(y.item(), abs=0.1)
    assert {"command", "commit", "processor", "versions", "seeds"} <= set(record)


def test_the_pictures_show_the_records(pictures: ModuleType, tmp_path: Path) -> None:
    record = json.loads((DOCS / "memory.json").read_text())
    certificates = json.loads((DOCS / "certificates.json").read_text())["certificates"]
    (keyed,) = (each for each in certificates if (each["init"], each["t"]) == ("keyed", 1_000))
    first, second = (record["sequence"]["values"][step] for step in record["sequence"]["marks"])
    tanh = record["gradients"]["by_distance"]["tanh RNN"]
    exponent = str(round(math.log10(tanh[100] / tanh[0])))
    longest = record["beyond"]["keras"]["scores"][-1]
    expected = {
        "memory/sequence.png": f"{first:.3f} + {second:.3f}",
        "memory/gradients.png": exponent.translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")),
        "memory/gate.png": f"{record['gate']['mean_at_marks']:.2f} at a mark",
        "memory/drop.png": f"{record['drop']['curriculum']['median'] / 1e6:.2f} million",
        "memory/given.png": f"{keyed['rows'][0]['fitted_at_t']:.1e}",
        "memory/beyond.png": f"{longest['t']:,}",
    }
    assert list(expected) == list(filter(of_page, pictures.PICTURES))
    for name, part in expected.items():
        path = tmp_path / f"{Path(name).stem}.svg"
        with matplotlib.rc_context({"svg.fonttype": "none"}):
            pictures.PICTURES[name].draw(path, pictures.PICTURES[name].data())
        assert part in re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", path.read_text("utf-8"))), name


def test_the_pictures_are_small(pictures: ModuleType) -> None:
    for name in filter(of_page, pictures.PICTURES):
        content = (DOCS / "pictures" / name).read_bytes()
        width, height = struct.unpack(">II", content[16:24])  # PNG's IHDR
        assert height / width <= 320 / 760 + 1e-3, name
        assert len(content) < 120_000, name


def test_the_page_is_short_and_shows_every_picture(pictures: ModuleType) -> None:
    text = PAGE.read_text("utf-8")
    assert len(text.split()) <= MOST_WORDS
    for name in filter(of_page, pictures.PICTURES):
        assert f"](pictures/{name})" in text
    require_links(PAGE)


def test_the_code_runs_and_grows_a_gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = run_code(PAGE, tmp_path, monkeypatch)
    assert names["loss"] < 0.01  # mean baseline: 1/6
    best = names["best"]
    assert names["at_marks"][best] > names["elsewhere"][best] + 0.5
    tanh, lstm = (
        names["gradient"](layer)
        for layer in (torch.nn.RNN(2, 100, batch_first=True), names["lstm"])
    )
    assert tanh[-1] < 1e-12 * tanh[0]
    assert lstm[-1] > 0.1 * lstm[0]
