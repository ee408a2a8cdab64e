"""Files that nobody loses and nobody is led astray by.

Files are written under a temporary name that cannot exist yet, flushed to the disk and renamed. A
reader never meets half a file, and a full disk leaves the old one. Only regular files inside their
folder are read, and their sizes are bounded before memory is taken.
"""

from __future__ import annotations

import errno
import json
import math
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from adding_problem.errors import StorageError

__all__ = [
    "DRAFTS",
    "escapes",
    "is_regular",
    "json_text",
    "make_folder",
    "place",
    "read_bounded",
    "remove",
    "replacing",
    "require_room",
    "storage_error",
    "unique_names",
    "utf8_path",
    "write",
    "write_json",
]

DRAFTS = ".export-"
"""How the names of folders begin in which exports are made."""

_REMEDIES = {
    errno.ENOSPC: "make room on the disk, then continue",
    errno.EDQUOT: "make room within the quota, then continue",
    errno.EFBIG: "raise the limit on the size of files, then continue",
    errno.EROFS: "make the file system writable, then continue",
    errno.EACCES: "mend the permissions, then continue",
    errno.EPERM: "mend the permissions, then continue",
    errno.ENOENT: "do not remove the folder while something writes there; put it back, or start "
    "again",
}


def unique_names(paths: Sequence[Path]) -> list[str]:
    """A name for each of these paths: what lies below the folder that they share.

    The name of a path alone is its own last part.

    Bytes that are no letters are replaced: names can be written anywhere.
    """
    resolved = [path.resolve() for path in paths]
    shared = Path(os.path.commonpath(resolved)) if resolved else Path()
    names = [full.relative_to(shared) if full != shared else Path(shared.name) for full in resolved]
    return [os.fsencode(name).decode("utf-8", "replace") for name in names]


@contextmanager
def replacing(path: Path, keep: Path | None = None) -> Iterator[IO[bytes]]:
    """A file that replaces `path` when the block ends well, and vanishes when it does not.

    Args:
        path: the file.
        keep: where the file that stood at `path` until now goes.

    Raises:
        StorageError: when the disk is full, the folder gone or not writable. `path` is unchanged.
    """
    # A name of its own, made exclusively: a link in the folder is never written through.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        if keep is not None and is_regular(path):
            path.replace(keep)
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise storage_error(path, error) from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write(path: Path, data: bytes) -> None:
    """Write a file in one piece; see `replacing`."""
    with replacing(path) as stream:
        stream.write(data)


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write a JSON document in one piece; see `replacing`."""
    write(path, json_text(document))


def json_text(document: Mapping[str, Any]) -> bytes:
    """JSON as this package writes it: NaN and infinity, which JSON lacks, become null."""
    return (json.dumps(_finite(document), indent=2, allow_nan=False) + "\n").encode()


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, where there is none.

    Raises:
        StorageError: when that cannot be done.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(path, error) from None


def require_room(path: Path, size: int, hint: str) -> None:
    """Raise StorageError unless the disk has room for a large file.

    Args:
        path: the file, in a folder that is there.
        size: the least that it takes, in bytes.
        hint: what to do where there is less.

    Raises:
        StorageError: when there is less.
    """
    disk = shutil.disk_usage(path.parent)
    if disk.total and size > disk.free:  # some network file systems do not tell their size
        raise StorageError(
            path,
            f"it needs {size / 1e9:,.1f} GB, and the disk has {disk.free / 1e9:,.1f} GB free",
            hint,
        )


def place(draft: Path, path: Path) -> None:
    """Move a file or a folder made elsewhere on this file system to `path`, which it replaces.

    A file replaces a file in one step; a folder cannot, so the old one goes first.

    Raises:
        StorageError: when that cannot be done.
    """
    if draft.is_file():
        with draft.open("rb") as source, replacing(path) as stream:
            shutil.copyfileobj(source, stream)
        return
    remove(path, folder=True)
    try:
        draft.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise storage_error(path, error) from None


def remove(path: Path, *, folder: bool = False) -> None:
    """Delete a file where there is one; of a link, the link alone.

    Args:
        path: the file.
        folder: it may be a folder, and then goes with all that is in it.

    Raises:
        StorageError: when that cannot be done.
    """
    try:
        if folder and path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise storage_error(path, error) from None


def storage_error(path: Path, error: OSError) -> StorageError:
    """What the system said about a path, with what to do about it."""
    gone = error.errno == errno.ENOENT and not path.parent.is_dir()
    reason = f"the folder {path.parent} is gone" if gone else error.strerror or str(error)
    return StorageError(path, reason, _REMEDIES.get(error.errno or 0, "mend that, then continue"))


def remove_leftovers(folder: Path) -> None:
    """Delete the temporary files and folders that killed processes have left in a run folder."""
    for draft in folder.glob(f"model/{DRAFTS}*"):
        if not escapes(draft, folder):
            shutil.rmtree(draft, ignore_errors=True)
    ours = f".*.{'[0-9a-f]' * 16}.tmp"
    with suppress(OSError):
        for stray in [*folder.glob(ours), *folder.glob(f"model/{ours}")]:
            if not escapes(stray.parent, folder):
                stray.unlink(missing_ok=True)


def is_regular(path: Path) -> bool:
    """Whether there is a file: no folder, no pipe, no device, and a path that the system takes."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def escapes(path: Path, folder: Path) -> bool:
    """Whether a path, its symbolic links followed, lies outside of a folder."""
    try:
        return not path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # a loop of links
        return True


@contextmanager
def utf8_path(path: Path) -> Iterator[Path]:
    """A path to an existing file for a library that takes UTF-8 only.

    Other paths go by the open file.

    Raises:
        OSError: when the file cannot be opened, or this system has no path to an open file.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        with path.open("rb") as stream:
            opened = Path(f"/dev/fd/{stream.fileno()}")
            if not opened.exists():
                raise OSError(errno.EILSEQ, "its path is not UTF-8; rename the folder") from None
            yield opened
    else:
        yield path


def read_bounded(path: Path, most: int) -> bytes:
    """The content of a file of at most so many bytes.

    Raises:
        ValueError: when it is larger.
        OSError: when it cannot be read.
    """
    with path.open("rb") as stream:
        data = stream.read(most + 1)
    if len(data) > most:
        raise ValueError(f"larger than {most >> 10:,} KiB")
    return data


def _sync_folder(folder: Path) -> None:
    """Have the new name itself on the disk, where the system can do that."""
    if not hasattr(os, "O_DIRECTORY"):  # Windows has no such call and needs none
        return
    with suppress(OSError):  # some network file systems refuse; the file itself is safe already
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
