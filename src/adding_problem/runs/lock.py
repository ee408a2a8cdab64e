"""One process at a time in a folder.

The lock is the operating system's, on a file in the folder: it ends with the process that holds it,
however that ends. Beside it stands who the holder is, for the message that another process gets.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from filelock import FileLock, Timeout
from pydantic import Field

from adding_problem.errors import LockError
from adding_problem.runs import atomic_io
from adding_problem.runs.records import Count, Text, read_json

__all__ = ["lock_folder"]

_LOCK, _HOLDER = ".lockfile", ".lock-holder.json"
_MAX_BYTES = 4096


@dataclass(frozen=True)
class _Holder:
    """Who holds a folder."""

    process: Count
    host: Text
    since: Annotated[float, Field(ge=0, lt=1e12)]

    def __str__(self) -> str:
        since = time.strftime("%Y-%m-%d %H:%M:%S%z", time.localtime(self.since))
        return f"process {self.process} on {self.host!r} (since {since})"


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Hold a folder, which exists and can be written, while the block runs.

    Raises:
        LockError: when another process holds it, or its file system has no locks.
        StorageError: when it cannot be written.
    """
    if (folder / _LOCK).is_symlink():
        raise LockError(folder, f"holds a link in the place of {_LOCK}", "delete that link")
    lock, holder = FileLock(folder / _LOCK, timeout=0), folder / _HOLDER
    try:
        lock.acquire()
    except Timeout:
        raise LockError(
            folder, f"{_holder(holder)} is at work in it", "wait until that has ended, or end it"
        ) from None
    except OSError as error:
        raise atomic_io.storage_error(folder / _LOCK, error) from None
    except NotImplementedError:
        raise LockError(
            folder, "lies on a file system without locks", "give a folder on another one"
        ) from None
    try:
        me = _Holder(os.getpid(), socket.gethostname(), time.time())
        atomic_io.write_json(holder, asdict(me))
        yield
    finally:
        with suppress(OSError):
            holder.unlink(missing_ok=True)
        lock.release()


def _holder(file: Path) -> _Holder | str:
    with suppress(OSError, ValueError):
        return read_json(_Holder, atomic_io.read_bounded(file, _MAX_BYTES))
    return "another process"
