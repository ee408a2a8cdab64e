"""Predictions of any number, streamed into a pickle that NumPy alone can read. Written for users; never read here."""

from __future__ import annotations

import pickle
import struct
from typing import IO

import numpy as np
from numpy.typing import NDArray

__all__ = ["PredictionWriter"]

Float32 = NDArray[np.float32]


class PredictionWriter:
    """Streams ``{"x": (n, W, 2), "y": (n,), "y_hat": (n,)}``, float32, into a pickle that NumPy alone can read.

    `pickle.dump` would need the whole of x in memory, twice. The opcodes written here build each array as
    ``numpy.ndarray(shape, "<f4", bytearray)``, a public constructor of every NumPy version.
    """

    def __init__(self, stream: IO[bytes], n: int, width: int) -> None:
        self._stream, self._n = stream, n
        self._y: list[Float32] = []
        self._y_hat: list[Float32] = []
        stream.write(pickle.PROTO + b"\x05" + pickle.EMPTY_DICT + pickle.MARK)
        self._begin_array("x", (n, width, 2))

    def add(self, x: Float32, y: Float32, y_hat: Float32) -> None:
        """The next sequences (k, W, 2), their targets (k, 1) or (k,) and predictions (k, 1) or (k,)."""
        self._stream.write(np.ascontiguousarray(x, "<f4").data)
        self._y.append(y.reshape(-1))
        self._y_hat.append(y_hat.reshape(-1))

    @property
    def y(self) -> Float32:
        """Targets so far, (k,)."""
        return np.concatenate(self._y)

    @property
    def y_hat(self) -> Float32:
        """Predictions so far, (k,)."""
        return np.concatenate(self._y_hat)

    def finish(self) -> None:
        """Close x and write y and y_hat."""
        if len(self.y) != self._n:
            raise ValueError(f"expected {self._n} sequences, found {len(self.y)}")
        self._end_array()
        for name, array in (("y", self.y), ("y_hat", self.y_hat)):
            self._begin_array(name, (self._n,))
            self._stream.write(np.ascontiguousarray(array, "<f4").data)
            self._end_array()
        self._stream.write(pickle.SETITEMS + pickle.STOP)

    def _begin_array(self, name: str, shape: tuple[int, ...]) -> None:
        self._stream.write(_pickled_text(name) + pickle.GLOBAL + b"numpy\nndarray\n" + pickle.MARK)
        self._stream.write(pickle.MARK + b"".join(_pickled_int(size) for size in shape) + pickle.TUPLE)
        self._stream.write(_pickled_text("<f4") + pickle.BYTEARRAY8 + struct.pack("<Q", 4 * int(np.prod(shape))))

    def _end_array(self) -> None:
        self._stream.write(pickle.TUPLE + pickle.REDUCE)


def _pickled_text(text: str) -> bytes:
    return pickle.SHORT_BINUNICODE + bytes([len(text)]) + text.encode()


def _pickled_int(value: int) -> bytes:
    return pickle.LONG1 + b"\x08" + struct.pack("<q", value)
