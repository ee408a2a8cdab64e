"""Every picture of the documentation shows today's records, and can be seen to be older."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from tests.helpers.documents import DOCS, script


@pytest.fixture
def pictures(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """docs/make_pictures.py."""
    monkeypatch.syspath_prepend(str(DOCS))
    return script(DOCS / "make_pictures.py", monkeypatch)


def test_no_picture_is_older_than_its_data(pictures: ModuleType) -> None:
    assert pictures.stale() == [], "python docs/make_pictures.py"


def test_every_picture_of_docs_is_among_them(pictures: ModuleType) -> None:
    there = {path.relative_to(pictures.FOLDER).as_posix() for path in DOCS.rglob("*.png")}
    assert there == set(pictures.PICTURES)


def test_other_data_makes_a_picture_stale_until_it_is_drawn(
    pictures: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "FOLDER", tmp_path)
    record = tmp_path / "metrics.csv"
    record.write_text("1")
    drawn = []

    def draw(path: Path, data: object) -> None:
        drawn.append(data)
        with pictures.style.new_figure(path, (2, 2), "a finding"):
            pass

    numbers, file = [1.5, 2], [record]
    monkeypatch.setattr(
        pictures,
        "PICTURES",
        {
            "a/numbers.png": pictures.Picture(lambda: numbers, draw),
            "file.png": pictures.Picture(lambda: file, draw),
        },
    )
    assert pictures.stale() == ["a/numbers.png", "file.png"]
    for name in pictures.PICTURES:
        pictures.make(name)
    assert pictures.stale() == []
    assert drawn == [numbers, file]
    record.write_text("2")
    assert pictures.stale() == ["file.png"]
    numbers.append(3)
    assert pictures.stale() == ["a/numbers.png", "file.png"]
    pictures.make("a/numbers.png")
    assert pictures.stale() == ["file.png"]


def test_a_finding_follows_the_data(pictures: ModuleType) -> None:
    """Which start solves which length is counted, not written down."""

    def run(start: str, seed: int, **errors: float) -> dict[str, object]:
        found = {length[1:]: {"mse": error} for length, error in errors.items()}
        return {"row": start, "seed": seed, "errors": found}

    runs = [
        run("keras", 0, t100=1e-4, t1000=1e-4),
        run("keras", 1, t100=1e-4, t1000=1e-4),
        run("keras", 2, t100=1e-4, t1000=1e-1),
        run("keyed", 0, t100=1e-1, t1000=1e-4),
        run("long", 0, t100=1e-4, t1000=2e-3),
    ]
    assert pictures.answers(runs) == [
        (1000, "2 of 3 seeds", "keras"),
        (100, "1 of 1 seeds", "long"),
        (0, "", "keyed"),
    ]
