"""Predictions: collected, and streamed into a pickle for the original's users, never read here."""

from __future__ import annotations

import pickle
import struct
from typing import IO

import numpy as np
from numpy.typing import NDArray

__all__ = ["PredictionWriter", "Predictions"]

Float32 = NDArray[np.float32]


class Predictions:
    """Targets and predictions of n sequences, collected batch by batch.

    Their arrays are there from the start. A small one kept for every batch, among the large ones
    that the model frees, would keep glibc from using the memory of those again (measured: 5 GB
    after 90 batches of a minGRU).

    Attributes:
        y, y_hat: float32 (n,).
        count: sequences so far.
    """

    def __init__(self, n: int) -> None:
        self.y, self.y_hat = np.empty(n, np.float32), np.empty(n, np.float32)
        self.count = 0

    def add(self, y: Float32, y_hat: Float32) -> None:
        """The next k targets and predictions, each (k, 1) or (k,)."""
        here = slice(self.count, self.count + len(y))
        self.y[here], self.y_hat[here] = y.reshape(-1), y_hat.reshape(-1)
        self.count += len(y)


class PredictionWriter:
    """Streams ``{"x": (n, W, C), "y": (n,), "y_hat": (n,)}``, float32, into a pickle.

    NumPy alone can read it. `pickle.dump` would need the whole of x in memory, twice. The opcodes
    written here build each array as ``numpy.ndarray(shape, "<f4", bytearray)``, a public
    constructor of every NumPy version.
    """

    def __init__(self, stream: IO[bytes], n: int, width: int, columns: int = 2) -> None:
        self._stream, self._n = stream, n
        self.written = Predictions(n)
        stream.write(pickle.PROTO + b"\x05" + pickle.EMPTY_DICT + pickle.MARK)
        self._begin_array("x", (n, width, columns))

    @staticmethod
    def size(n: int, width: int, columns: int) -> int:
        """Bytes of all the numbers."""
        return 4 * n * (columns * width + 2)

    def add(self, x: Float32, y: Float32, y_hat: Float32) -> None:
        """The next sequences (k, W, C), their targets and predictions, each (k, 1) or (k,)."""
        self._stream.write(np.ascontiguousarray(x, "<f4").data)
        self.written.add(y, y_hat)

    def finish(self) -> None:
        """Close x and write y and y_hat."""
        if self.written.count != self._n:
            raise ValueError(f"expected {self._n} sequences, found {self.written.count}")
        self._end_array()
        for name, array in (("y", self.written.y), ("y_hat", self.written.y_hat)):
            self._begin_array(name, (self._n,))
            self._stream.write(np.ascontiguousarray(array, "<f4").data)
            self._end_array()
        self._stream.write(pickle.SETITEMS + pickle.STOP)

    def _begin_array(self, name: str, shape: tuple[int, ...]) -> None:
        self._stream.write(_pickled_text(name) + pickle.GLOBAL + b"numpy\nndarray\n" + pickle.MARK)
        self._stream.write(
            pickle.MARK + b"".join(_pickled_int(size) for size in shape) + pickle.TUPLE
        )
        self._stream.write(
            _pickled_text("<f4") + pickle.BYTEARRAY8 + struct.pack("<Q", 4 * int(np.prod(shape)))
        )

    def _end_array(self) -> None:
        self._stream.write(pickle.TUPLE + pickle.REDUCE)


def _pickled_text(text: str) -> bytes:
    return pickle.SHORT_BINUNICODE + bytes([len(text)]) + text.encode()


def _pickled_int(value: int) -> bytes:
    return pickle.LONG1 + b"\x08" + struct.pack("<q", value)
