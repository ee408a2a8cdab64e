"""Reader of `.keras` files (Keras 3): a zip of `config.json`, `metadata.json` and `model.weights.h5`.

Keras is not asked, so no layer, function or lambda that the file names is ever made.
"""

from __future__ import annotations

import importlib
import io
import json
import lzma
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from adding_problem.errors import InteropError, to_install
from adding_problem.interop.weights import Float32, LstmWeights

__all__ = ["read"]

_MAX_CONFIG_BYTES, _MAX_WEIGHT_BYTES = 16 << 20, 1 << 30
_LSTM: dict[str, Any] = {"activation": "tanh", "recurrent_activation": "sigmoid", "use_bias": True, "go_backwards": False,
                         "return_sequences": False, "return_state": False, "stateful": False}
_DENSE: dict[str, Any] = {"units": 1, "activation": "linear", "use_bias": True}
_PLACES = {"kernel": "lstm/cell/vars/0", "recurrent": "lstm/cell/vars/1", "bias": "lstm/cell/vars/2",
           "readout": "dense/vars/0", "readout_bias": "dense/vars/1"}


def read(path: Path) -> tuple[LstmWeights, int | None]:
    """The weights of a `.keras` file, and the length T that it was made for; None is any.

    Raises:
        InteropError: when it is no such file, or holds another architecture than LSTM and Dense(1).
    """
    try:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(_member(archive, "config.json", _MAX_CONFIG_BYTES))
            weights = _member(archive, "model.weights.h5", _MAX_WEIGHT_BYTES)
        units, length = _architecture(config)
        return LstmWeights.checked(path, **_arrays(weights, units)), length
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError, zipfile.BadZipFile,
            NotImplementedError, RuntimeError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise InteropError(f"{path}: is no .keras file of an LSTM and Dense(1) ({error})",
                           "save such a model with model.save('NAME.keras') in Keras 3") from None


def _member(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    if archive.getinfo(name).file_size > most:
        raise ValueError(f"{name} is larger than {most >> 20} MiB")
    with archive.open(name) as stream:
        return stream.read(most)


def _architecture(config: dict[str, Any]) -> tuple[int, int | None]:
    """Number of cells and length; the layers are compared with the only ones that this package has equations for."""
    layers = {layer["class_name"]: layer["config"] for layer in config["config"]["layers"]}
    names = [layer["class_name"] for layer in config["config"]["layers"]]
    if names not in (["InputLayer", "LSTM", "Dense"], ["LSTM", "Dense"]):
        raise ValueError(f"its layers are {', '.join(map(str, names))}")
    for name, expected in (("LSTM", _LSTM), ("Dense", _DENSE)):
        for key, value in expected.items():
            if layers[name][key] != value:
                raise ValueError(f"{name}.{key} is {layers[name][key]!r}, expected {value!r}")
    units = layers["LSTM"]["units"]
    if type(units) is not int or not 1 <= units <= 65_536:
        raise ValueError(f"LSTM.units is {units!r}")
    shape = layers.get("InputLayer", {}).get("batch_shape") or [None, None, 2]
    return units, shape[1] if type(shape[1]) is int else None


def _arrays(data: bytes, units: int) -> dict[str, Float32]:
    try:
        h5py = importlib.import_module("h5py")
    except ImportError:
        raise InteropError("reading a .keras file needs h5py", to_install("keras")) from None
    shapes = {"kernel": (2, 4 * units), "recurrent": (units, 4 * units), "bias": (4 * units,), "readout": (units, 1),
              "readout_bias": (1,)}
    with h5py.File(io.BytesIO(data), "r") as stored:
        return {name: _array(h5py, stored, f"layers/{place}", shapes[name]) for name, place in _PLACES.items()}


def _array(h5py: Any, stored: Any, place: str, shape: tuple[int, ...]) -> Float32:
    """A dataset that lies in this very file: links and external storage could lead to others."""
    parts = place.split("/")
    for depth in range(1, len(parts) + 1):
        if not isinstance(stored.get("/".join(parts[:depth]), getlink=True), h5py.HardLink):
            raise ValueError(f"{place} is missing or a link")
    dataset = stored[place]
    if dataset.external or dataset.is_virtual or dataset.shape != shape or dataset.dtype != np.float32:
        raise ValueError(f"{place}: expected float32 of shape {shape}, found {dataset.dtype} {dataset.shape}")
    if dataset.id.get_storage_size() != dataset.nbytes:  # a small file can promise any amount of zeros
        raise ValueError(f"{place} is compressed or not there in full")
    array: Float32 = dataset[()]
    return array
