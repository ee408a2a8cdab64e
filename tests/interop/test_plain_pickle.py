"""The reader of plain pickles: against pickle itself, and pickles that would run something."""

from __future__ import annotations

import contextlib
import os
import pickle
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adding_problem.errors import InteropError
from adding_problem.interop import plain_pickle
from tests.conftest import REPOSITORY

LOSSES = REPOSITORY / "tests" / "data" / "foreign" / "original" / "loss.pkl"

plain = st.recursive(
    st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@settings(max_examples=200, deadline=None)
@given(plain, st.integers(2, 5))
def test_plain_pickles_are_read_as_pickle_reads_them(
    tmp_path_factory: pytest.TempPathFactory, value: object, protocol: int
) -> None:
    path = tmp_path_factory.mktemp("pickle") / "value.pkl"
    path.write_bytes(pickle.dumps(value, protocol))
    assert plain_pickle.read(path) == value


def test_a_pickle_of_many_marks_takes_no_time(tmp_path: Path) -> None:
    """Each mark is looked for from the top, not through a copy of the whole stack."""
    path = tmp_path / "marks.pkl"
    path.write_bytes(b"]" + b"K\x01" * 200_000 + b"](e" * 200_000 + b".")
    with pytest.raises(InteropError, match="expected a pickle of"):  # more than one value is left
        plain_pickle.read(path)


class Evil:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_that_would_run_something_is_refused_and_runs_nothing(
    tmp_path: Path, protocol: int
) -> None:
    path = tmp_path / "loss.pkl"
    path.write_bytes(
        pickle.dumps({"loss": [1.0, Evil(tmp_path / "made")], "val_loss": [1.0, 1.0]}, protocol)
    )
    instruction = "GLOBAL" if protocol > 0 else "DICT"  # the first that is refused
    with pytest.raises(InteropError, match=f"{instruction} is refused"):
        plain_pickle.read(path)
    assert not (tmp_path / "made").exists()
    pickle.loads(path.read_bytes())  # noqa: S301  (it would have)
    assert (tmp_path / "made").exists()


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 60), st.integers(0, 255))
def test_no_bytes_make_the_pickle_reader_fail_otherwise(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, place: int, byte: int
) -> None:
    whole = bytearray(LOSSES.read_bytes())
    whole[place % len(whole)] = byte
    for content in (noise, bytes(whole)):
        path = tmp_path_factory.mktemp("pickle") / "noise.pkl"
        path.write_bytes(content)
        with contextlib.suppress(InteropError):
            plain_pickle.read(path)
