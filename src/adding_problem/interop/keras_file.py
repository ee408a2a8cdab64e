"""Reader of Keras's own files, without Keras: no layer, function or lambda that a file names is ever made.

.keras         from Keras 2.13 a zip of `config.json`, `metadata.json` and `model.weights.h5`; earlier an HDF5 file
.h5, .hdf5     of any Keras: the configuration is an attribute of the HDF5 file that holds the weights
"""

from __future__ import annotations

import importlib
import io
import json
import lzma
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from adding_problem.errors import InteropError, to_install
from adding_problem.interop import architecture
from adding_problem.interop.architecture import Architecture
from adding_problem.interop.weights import Float32, LstmWeights

__all__ = ["SUFFIXES", "read"]

SUFFIXES = (".keras", ".h5", ".hdf5")
_HDF5 = b"\x89HDF\r\n\x1a\n"
_MAX_CONFIG_BYTES, _MAX_WEIGHT_BYTES = 16 << 20, 1 << 30
_DAMAGE = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    IndexError,
    RecursionError,
    zipfile.BadZipFile,
    NotImplementedError,
    RuntimeError,
    EOFError,
    zlib.error,
    lzma.LZMAError,
)
_LAYERS = ("layers", "_layer_checkpoint_dependencies")  # the latter until Keras 2.13
_NAMES = ("kernel", "recurrent", "bias", "readout", "readout_bias")
_PLACES = dict(
    zip(
        _NAMES,
        (
            "lstm/cell/vars/0",
            "lstm/cell/vars/1",
            "lstm/cell/vars/2",
            "dense/vars/0",
            "dense/vars/1",
        ),
        strict=True,
    )
)


def read(path: Path) -> tuple[LstmWeights, int | None]:
    """The weights of a file that Keras saved, and the length T that it was made for; None is any.

    Raises:
        InteropError: when it is no such file, or holds another architecture than LSTM and Dense(1).
    """
    try:
        found, arrays = (_hdf5 if _is_hdf5(path) else _zip)(path)
        return LstmWeights.checked(path, **arrays), found.length
    except _DAMAGE as error:
        raise InteropError(
            f"{path}: expected a model that Keras saved, found a file that cannot be read as one ({error})",
            "save it anew with model.save('NAME.keras')",
        ) from None


def _is_hdf5(path: Path) -> bool:
    """By the ending or by the first bytes: until Keras 2.12 a `.keras` file was one as well."""
    with path.open("rb") as stream:
        return path.suffix != ".keras" or stream.read(len(_HDF5)) == _HDF5


def _h5py(path: Path) -> Any:
    try:
        return importlib.import_module("h5py")
    except ImportError:
        raise InteropError(f"reading {path.suffix} needs h5py", to_install("keras")) from None


# --- .keras ----------------------------------------------------------------------------------------------------------


def _zip(path: Path) -> tuple[Architecture, dict[str, Float32]]:
    with zipfile.ZipFile(path) as archive:
        config = json.loads(_member(archive, "config.json", _MAX_CONFIG_BYTES))
        found = architecture.read(config, path)
        weights = _member(archive, "model.weights.h5", _MAX_WEIGHT_BYTES)
    h5py = _h5py(path)
    with h5py.File(io.BytesIO(weights), "r") as stored:
        root = next((name for name in _LAYERS if name in stored), _LAYERS[0])
        return found, _arrays(
            h5py, stored, found, {name: f"{root}/{place}" for name, place in _PLACES.items()}
        )


def _member(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    if archive.getinfo(name).file_size > most:
        raise ValueError(f"{name} is larger than {most >> 20} MiB")
    with archive.open(name) as stream:
        return stream.read(most)


# --- .h5 -------------------------------------------------------------------------------------------------------------


def _hdf5(path: Path) -> tuple[Architecture, dict[str, Float32]]:
    h5py = _h5py(path)
    with h5py.File(path, "r") as stored:
        if "model_config" not in stored.attrs:
            raise InteropError(
                f"{path}: expected the configuration of the model, the attribute model_config, found weights alone",
                "save the whole model with model.save('NAME.keras')",
            )
        found = architecture.read(json.loads(_text(_attribute(stored, "model_config", ()))), path)
        places = [
            f"model_weights/{layer}/{name}"
            for layer, count in ((found.lstm, 3), (found.dense, 2))
            for name in _weight_names(h5py, stored, f"model_weights/{layer}", count)
        ]
        return found, _arrays(h5py, stored, found, dict(zip(_NAMES, places, strict=True)))


def _weight_names(h5py: Any, stored: Any, layer: str, count: int) -> list[str]:
    _check_path(h5py, stored, layer)
    return [_text(name) for name in _attribute(stored[layer], "weight_names", (count,))]


def _attribute(stored: Any, name: str, shape: tuple[int, ...]) -> Any:
    """An attribute whose shape was looked at before it is read: many could point to one text."""
    if stored.attrs.get_id(name).shape != shape:
        raise ValueError(
            f"the attribute {name} has the shape {stored.attrs.get_id(name).shape}, expected {shape}"
        )
    return stored.attrs[name]


def _text(value: Any) -> str:
    text = value.decode() if isinstance(value, bytes) else value
    if not isinstance(text, str) or len(text) > _MAX_CONFIG_BYTES:
        raise ValueError("an attribute is no text, or one of more than 16 MiB")
    return text


# --- weights ---------------------------------------------------------------------------------------------------------


def _arrays(
    h5py: Any, stored: Any, found: Architecture, places: Mapping[str, str]
) -> dict[str, Float32]:
    shapes = LstmWeights.shapes(found.units)
    return {name: _array(h5py, stored, places[name], shapes[name]) for name in _NAMES}


def _array(h5py: Any, stored: Any, place: str, shape: tuple[int, ...]) -> Float32:
    """A dataset that lies in this very file: links and external storage could lead to others."""
    _check_path(h5py, stored, place)
    dataset = stored[place]
    if (
        dataset.external
        or dataset.is_virtual
        or dataset.shape != shape
        or dataset.dtype != np.float32
    ):
        raise ValueError(
            f"{place}: expected float32 of shape {shape}, found {dataset.dtype} {dataset.shape}"
        )
    if (
        dataset.id.get_storage_size() != dataset.nbytes
    ):  # a small file can promise any amount of zeros
        raise ValueError(f"{place} is compressed or not there in full")
    array: Float32 = dataset[()]
    return array


def _check_path(h5py: Any, stored: Any, place: str) -> None:
    parts = place.split("/")
    for depth in range(1, len(parts) + 1):
        if not isinstance(stored.get("/".join(parts[:depth]), getlink=True), h5py.HardLink):
            raise ValueError(f"{place} is missing or a link")
