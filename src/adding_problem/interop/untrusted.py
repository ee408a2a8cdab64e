"""Reading files that may be damaged, or made to do harm."""

from __future__ import annotations

import lzma
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from adding_problem.errors import InteropError, in_one_line

__all__ = ["MOST_BYTES", "MOST_TEXT_BYTES", "OTHER_MODELS", "reading", "refusal", "require_size"]

OTHER_MODELS = (
    "import one LSTM layer with two inputs and one linear unit; any other model is trained with "
    "--model path/to/file.py:Class"
)
"""The hint where a file holds another model."""

MOST_BYTES = 1 << 30
"""Size of the largest file or array that is read: 1 GiB. A model of 8,000 cells fits."""

MOST_TEXT_BYTES = 16 << 20
"""Size of the largest configuration or log that is read: 16 MiB. Those of Keras have some KiB."""

_DAMAGE = (  # what zipfile, json, h5py and NumPy raise on damaged input
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    OverflowError,
    RuntimeError,
    EOFError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)


def refusal(source: object, expected: str, found: object, hint: str = OTHER_MODELS) -> InteropError:
    """The error of a file that holds something else than what is imported."""
    return InteropError(f"{source}: expected {expected}, found {found}", hint)


@contextmanager
def reading(source: object, expected: str, hint: str) -> Iterator[None]:
    """Raise InteropError in place of what a damaged file makes its reader raise."""
    try:
        yield
    except _DAMAGE as error:
        found = f"what cannot be read as that ({in_one_line(error)})"
        raise refusal(source, expected, found, hint) from None


def require_size(path: Path, most: int = MOST_BYTES) -> None:
    """Raise InteropError unless the file is small enough for a model of the adding problem."""
    size = path.stat().st_size
    if size > most:
        hint = "give a model of the adding problem"
        raise refusal(path, f"at most {most:,} bytes", f"{size:,}", hint)
