"""What the kernels' test files share.

Without a compiler there are no kernels, and nothing of them to test.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import pytest
import torch

if importlib.util.find_spec("adding_problem_native") is None:
    collect_ignore_glob = ["test_*.py"]
else:
    from adding_problem_native import available_isas

    @pytest.fixture(params=available_isas())
    def isa(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
        """Each build that this processor runs, in use for the test."""
        monkeypatch.setenv("ADDING_PROBLEM_NATIVE_ISA", request.param)
        return str(request.param)


@pytest.fixture(autouse=True)
def seeded_and_restored() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(
        1
    )  # PyTorch's own threads meet at every step, which takes long where a core is busy
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)
