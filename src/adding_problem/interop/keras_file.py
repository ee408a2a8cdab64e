"""Reader of Keras's own files, without Keras: nothing that a file names is made or called.

.keras         since Keras 2.13 a zip of `config.json` and `model.weights.h5`; before, an HDF5 file
.h5, .hdf5     of any Keras: an HDF5 file of the weights, the configuration is an attribute of it
"""

from __future__ import annotations

import importlib
import io
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from adding_problem.errors import InteropError, to_install
from adding_problem.interop import architecture
from adding_problem.interop.untrusted import MOST_BYTES, MOST_TEXT_BYTES, reading
from adding_problem.interop.weights import Float32, LstmWeights

__all__ = ["SUFFIXES", "read"]

SUFFIXES = (".keras", ".h5", ".hdf5")
_HDF5 = b"\x89HDF\r\n\x1a\n"
_PLACES = (
    "lstm/cell/vars/0",
    "lstm/cell/vars/1",
    "lstm/cell/vars/2",
    "dense/vars/0",
    "dense/vars/1",
)


def read(path: Path) -> tuple[LstmWeights, int | None]:
    """The weights of a file that Keras saved, and the length T that it takes; None is any.

    Raises:
        InteropError: unless it is such a file, and of an LSTM and Dense(1).
    """
    with reading(path, "a model that Keras saved", "save it again with model.save('NAME.keras')"):
        return (_read_hdf5 if _is_hdf5(path) else _read_zip)(path)


def _is_hdf5(path: Path) -> bool:
    """By the ending or by the first bytes: until Keras 2.12 a `.keras` file was one as well."""
    with path.open("rb") as stream:
        return path.suffix != ".keras" or stream.read(len(_HDF5)) == _HDF5


def _read_zip(path: Path) -> tuple[LstmWeights, int | None]:
    with zipfile.ZipFile(path) as archive:
        found = architecture.read(_member(archive, "config.json", MOST_TEXT_BYTES), path)
        weights = _member(archive, "model.weights.h5", MOST_BYTES)
    with _h5py(path).File(io.BytesIO(weights), "r") as stored:
        until_2_13 = "_layer_checkpoint_dependencies"
        root = until_2_13 if until_2_13 in stored else "layers"
        places = [f"{root}/{place}" for place in _PLACES]
        return _weights(path, stored, places, found.units), found.length


def _member(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    if archive.getinfo(name).file_size > most:
        raise ValueError(f"{name} is larger than {most:,} bytes")
    with archive.open(name) as stream:
        return stream.read(most)


def _read_hdf5(path: Path) -> tuple[LstmWeights, int | None]:
    with _h5py(path).File(path, "r") as stored:
        if "model_config" not in stored.attrs:
            raise InteropError(
                f"{path}: expected the attribute model_config, found only weights",
                "save the whole model with model.save('NAME.keras')",
            )
        found = architecture.read(_text(_attribute(stored, "model_config", ())), path)
        places = []
        for layer, count in ((found.lstm, 3), (found.dense, 2)):
            group = f"model_weights/{layer}"
            _require_inside(stored, group)
            names = _attribute(stored[group], "weight_names", (count,))
            places += [f"{group}/{_text(name)}" for name in names]
        return _weights(path, stored, places, found.units), found.length


def _h5py(path: Path) -> Any:
    try:
        return importlib.import_module("h5py")
    except ImportError:
        raise InteropError(f"reading {path.suffix} needs h5py", to_install("keras")) from None


def _attribute(stored: Any, name: str, shape: tuple[int, ...]) -> Any:
    """An attribute of that shape, checked before it is read: many elements could share one text."""
    found = stored.attrs.get_id(name).shape
    if found != shape:
        raise ValueError(f"the attribute {name} has the shape {found}, expected {shape}")
    return stored.attrs[name]


def _text(value: Any) -> str:
    text = value.decode() if isinstance(value, bytes) else value
    if not isinstance(text, str) or len(text) > MOST_TEXT_BYTES:
        raise ValueError(f"an attribute is not a text of at most {MOST_TEXT_BYTES:,} bytes")
    return text


def _weights(path: Path, stored: Any, places: Sequence[str], units: int) -> LstmWeights:
    arrays = {}
    for place, (name, shape) in zip(places, LstmWeights.shapes(units).items(), strict=True):
        arrays[name] = _array(stored, place, shape)
    return LstmWeights.check(path, **arrays)


def _array(stored: Any, place: str, shape: tuple[int, ...]) -> Float32:
    """A dataset whose numbers are all in this file, uncompressed: a small file promises no more."""
    _require_inside(stored, place)
    dataset = stored[place]
    found = f"{dataset.dtype} {dataset.shape}"
    if dataset.external or dataset.is_virtual or found != f"float32 {shape}":
        raise ValueError(f"{place}: expected float32 {shape} in this file, found {found}")
    if dataset.id.get_storage_size() != dataset.nbytes:
        raise ValueError(f"{place} is compressed or not there in full")
    return np.asarray(dataset[()])


def _require_inside(stored: Any, place: str) -> None:
    """Raise ValueError unless every part of the path is in this file: a link may lead to others."""
    hard = importlib.import_module("h5py").HardLink
    parts = place.split("/")
    for depth in range(1, len(parts) + 1):
        if not isinstance(stored.get("/".join(parts[:depth]), getlink=True), hard):
            raise ValueError(f"{place} is missing or a link")
