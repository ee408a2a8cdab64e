"""Reader of TensorFlow's SavedModels, by TensorFlow in a process of its own.

Keras 2 writes the configuration of every layer into `keras_metadata.pb` beside the graph. Of such a
folder TensorFlow reads that file and the variables, and executes nothing. In other folders only the
graph says what is computed: TensorFlow loads and runs it, if the user trusts the file.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from adding_problem.errors import InteropError, to_install
from adding_problem.interop import architecture, keras_process
from adding_problem.interop.untrusted import MOST_TEXT_BYTES, refusal, require_size
from adding_problem.interop.weights import Answers, Float32, LstmWeights

__all__ = ["is_saved_model", "read", "run"]

_MOST_INDEX_BYTES = 64 << 10  # names share their beginnings: few bytes can stand for many names
_READ_SECONDS = 300  # an index can name the same names over and over


def is_saved_model(folder: Path) -> bool:
    """Whether a folder holds the variables of a SavedModel."""
    return all(path.is_file() for path in _variable_files(folder))


def read(folder: Path) -> tuple[LstmWeights, int | None, None]:
    """The weights of a SavedModel of Keras 2, the length T that it takes (None is any), and None.

    The graph is not loaded.

    Raises:
        InteropError: unless the folder says that it is LSTM(H) and Dense(1), and is intact; or
            when TensorFlow is missing.
    """
    metadata = folder / "keras_metadata.pb"
    if not metadata.is_file():
        raise refusal(
            folder,
            "keras_metadata.pb, which says what layers the weights belong to",
            "none",
            "if you trust the model, add --trust: TensorFlow then runs it and its predictions are "
            "compared; or save it in Keras with model.save('NAME.keras')",
        )
    index, data = _variable_files(folder)
    for path, most in ((metadata, MOST_TEXT_BYTES), (index, _MOST_INDEX_BYTES)):
        require_size(path, most)
    require_size(data)
    content = _call("read", folder, seconds=_READ_SECONDS)
    found = architecture.read(str(content["config"]), metadata)
    return _by_shape(folder, _numbered(content, "weight"), found.units), found.length, None


def run(folder: Path) -> tuple[LstmWeights, int | None, Answers]:
    """What `read` gives, with predictions by the graph, which may do whatever TensorFlow can.

    Raises:
        InteropError: when TensorFlow is missing or cannot run the model, or when its weights are
            not those of LSTM(H) and Dense(1).
    """
    content = _call("run", folder)
    weights = _numbered(content, "weight")
    units = max((len(array) // 4 for array in weights if array.ndim == 1), default=0)
    answers = list(zip(_numbered(content, "x"), _numbered(content, "y"), strict=True))
    return _by_shape(folder, weights, units), int(content["length"]) or None, answers


def _call(verb: str, folder: Path, seconds: float | None = None) -> dict[str, Any]:
    if importlib.util.find_spec("tensorflow") is None:
        raise InteropError("reading a SavedModel needs tensorflow", to_install("tensorflow"))
    return keras_process.call(verb, "savedmodel", folder, seconds=seconds)


def _numbered(content: dict[str, Any], name: str) -> list[Float32]:
    """The arrays name0, name1, ..."""
    return [content[key] for key in content if key.rstrip("0123456789") == name]


def _variable_files(folder: Path) -> tuple[Path, Path]:
    variables = folder / "variables"
    return variables / "variables.index", variables / "variables.data-00000-of-00001"


def _by_shape(folder: Path, arrays: list[Float32], units: int) -> LstmWeights:
    """Arrays in any order, but kernel before recurrent kernel: for two cells their shapes agree."""
    rest = list(arrays)
    named: dict[str, Float32] = {}
    for name, shape in LstmWeights.shapes(units).items():
        places = [place for place, array in enumerate(rest) if array.shape == shape]
        if len(arrays) != 5 or not places:
            shapes = ", ".join(str(array.shape) for array in arrays[:12])
            expected = f"the five arrays of an LSTM of {units} cells and Dense(1)"
            raise refusal(folder, expected, f"{len(arrays)}: {shapes}")
        named[name] = rest.pop(places[0])
    return LstmWeights.check(folder, **named)
