"""Reader of TensorFlow's SavedModels: a folder of `saved_model.pb`, `variables/` and, from Keras 2, `keras_metadata.pb`.

Keras 2 writes the configuration of every layer into `keras_metadata.pb`; such a folder is read without TensorFlow.
Elsewhere the graph alone says what is computed. TensorFlow then runs it, in a process of its own, if the user trusts it.
"""

from __future__ import annotations

import importlib.util
import json
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from adding_problem.errors import InteropError, to_install
from adding_problem.interop import architecture, keras_process, tensor_bundle
from adding_problem.interop.protobuf import fields
from adding_problem.interop.weights import OTHER_MODELS, Answers, Float32, LstmWeights

__all__ = ["check_size", "is_saved_model", "read", "run"]

_MAX_DATA_BYTES, _MAX_METADATA_BYTES = 1 << 30, 16 << 20
_VARIABLE = "/.ATTRIBUTES/VARIABLE_VALUE"
_NAMES = ("kernel", "recurrent", "bias", "readout", "readout_bias")


def is_saved_model(folder: Path) -> bool:
    """Whether a folder holds the files of a SavedModel that are read here."""
    return all(path.is_file() for path in _variable_files(folder))


def read(folder: Path) -> tuple[LstmWeights, int | None]:
    """The weights of a SavedModel that Keras 2 wrote, and the length T that it takes; None is any. Nothing is run.

    Raises:
        InteropError: when it does not say that it is LSTM(H) and Dense(1), or its files are damaged.
    """
    metadata = folder / "keras_metadata.pb"
    if not metadata.is_file():
        raise InteropError(
            f"{folder}: expected keras_metadata.pb, which says what layers the weights belong to, found none",
            "if you trust the model, add --trust: TensorFlow then runs it and its predictions are compared; "
            "or save it in Keras with model.save('NAME.keras')",
        )
    found = architecture.read(_configuration(metadata), metadata)
    index, data = _variable_files(folder)
    check_size(data)
    entries = tensor_bundle.read_index(index)
    arrays = {
        name: tensor_bundle.read_array(data, key, entries[key])
        for name, key in _variables(folder, entries).items()
    }
    return LstmWeights.checked(folder, **arrays), found.length


def run(folder: Path) -> tuple[LstmWeights, int | None, Answers]:
    """What `read` gives, and what TensorFlow predicts with the model; the graph may do whatever TensorFlow can.

    Raises:
        InteropError: when TensorFlow is missing, cannot run it, or it has other weights than LSTM(H) and Dense(1).
    """
    if importlib.util.find_spec("tensorflow") is None:
        raise InteropError("running a SavedModel needs tensorflow", to_install("tensorflow"))
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "answers.npz"
        keras_process.run("run", "savedmodel", folder, file)
        with np.load(file, allow_pickle=False) as stored:
            content = {name: stored[name] for name in stored.files}
    weights = [array for name, array in content.items() if name.startswith("weight")]
    answers = [(content[name], content[f"y{name[1:]}"]) for name in content if name.startswith("x")]
    return _by_shape(folder, weights), int(content["length"]) or None, answers


def check_size(path: Path) -> None:
    """Refuse a file that no model of the adding problem needs.

    Raises:
        InteropError: when it is larger than 1 GiB.
    """
    if path.stat().st_size > _MAX_DATA_BYTES:
        raise InteropError(
            f"{path}: expected a file of at most 1 GiB, found a larger one",
            "give a model of the adding problem",
        )


def _variable_files(folder: Path) -> tuple[Path, Path]:
    return (
        folder / "variables" / "variables.index",
        folder / "variables" / "variables.data-00000-of-00001",
    )


def _configuration(path: Path) -> Any:
    """What Keras 2 says of the whole model: the root of a `SavedMetadata`.

    In Keras's saved_metadata.proto, `SavedMetadata` is 1 nodes; a node 2 id, 3 path, 4 identifier, 5 metadata as JSON.
    """
    try:
        if path.stat().st_size > _MAX_METADATA_BYTES:
            raise ValueError("larger than 16 MiB")
        nodes = [
            dict(fields(node))
            for number, node in fields(path.read_bytes())
            if number == 1 and isinstance(node, bytes)
        ]
        (text,) = (node[5] for node in nodes if node.get(3) == b"root")
        return json.loads(text)  # type: ignore[arg-type]  # a number there is a TypeError
    except (OSError, ValueError, IndexError, KeyError, TypeError, RecursionError) as error:
        raise InteropError(
            f"{path}: expected what Keras 2 writes about a model, found something else ({error})",
            "restore the file",
        ) from None


def _variables(folder: Path, entries: Mapping[str, tensor_bundle.Entry]) -> dict[str, str]:
    """Names of the five arrays: Keras 2 numbers the LSTM's, in this order, and names the readout's."""
    numbered = sorted(
        (key for key in entries if re.fullmatch(rf"variables/\d{{1,6}}{_VARIABLE}", key)),
        key=lambda key: int(key.split("/")[1]),
    )
    readout = [f"layer_with_weights-1/{name}{_VARIABLE}" for name in ("kernel", "bias")]
    found = numbered + [key for key in readout if key in entries]
    if len(found) != 5:
        raise InteropError(
            f"{folder}: expected the five arrays of an LSTM and Dense(1), found {len(found)}",
            OTHER_MODELS,
        )
    return dict(zip(_NAMES, found, strict=True))


def _by_shape(folder: Path, arrays: list[Float32]) -> LstmWeights:
    """The weights that a graph uses, in any order but kernel before recurrent kernel: of two cells, the shapes are one."""
    if len(arrays) != 5:
        raise InteropError(
            f"{folder}: expected a graph of the five arrays of an LSTM and Dense(1), found {len(arrays)}",
            OTHER_MODELS,
        )
    hidden = max((len(array) // 4 for array in arrays if array.ndim == 1), default=0)
    rest = list(arrays)
    named: dict[str, Float32] = {}
    for name, shape in LstmWeights.shapes(hidden).items():
        fitting = [place for place, array in enumerate(rest) if array.shape == shape]
        if not fitting:
            raise InteropError(
                f"{folder}: expected {name} of shape {shape} among the arrays of the graph, found "
                f"{', '.join(str(array.shape) for array in arrays)}",
                OTHER_MODELS,
            )
        named[name] = rest.pop(fitting[0])
    return LstmWeights.checked(folder, **named)
