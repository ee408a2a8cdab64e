"""One process at a time in a folder, on network file systems too.

The lock is a folder that is made elsewhere, complete with the name of its owner, and renamed into its place: only one of
several renames succeeds, on every file system. Its owner touches it every few seconds. A lock whose owner is dead for sure
(its process ran on this machine and is gone) is taken. Of one whose owner only gives no sign of life, nobody can know: it is
taken when the user says so. An owner that lost its lock notices before its next write.

A lock folder without the name of an owner is free. Files in it that this module did not write, as a file manager or a backup
may leave them, are never deleted: they stay in `.lock`, and keep nobody out.
"""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import socket
import stat
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from adding_problem.errors import LockError
from adding_problem.runs import atomic_io

__all__ = ["FolderLock", "held"]

_BEAT_SECONDS = 10.0
_STALE_SECONDS = (
    120.0  # a dozen missed beats: longer than a busy machine or network file system lets one wait
)
_MAX_BYTES = 4096
_LOCK, _OWNER = ".lock", "owner"
_LEFTOVER = re.compile(r"\.lock\.[0-9a-f]{16}(\.taken\d*)?")
_log = logging.getLogger(__name__)


def held(folder: Path) -> bool:
    """Whether a process holds the folder, as far as this machine can tell."""
    lock = folder / _LOCK
    return lock.is_dir() and not _is_free(lock) and not _dead(_owner(lock))


class FolderLock:
    """Hold the folder while the block runs.

    Args:
        folder: must exist and be writable.
        takeover: take a lock whose owner gives no sign of life.

    Raises:
        LockError: on entering, when another process holds the folder.
    """

    def __init__(self, folder: Path, *, takeover: bool = False) -> None:
        self._folder, self._takeover = folder, takeover
        self._token = secrets.token_hex(8)
        self._path, self._own = folder / _LOCK, folder / f".lock.{self._token}"
        self._aside: list[Path] = []  # locks that were taken, moved out of the way
        self._released = threading.Event()

    def __enter__(self) -> FolderLock:
        try:
            self._own.mkdir()
            (self._own / _OWNER).write_text(
                json.dumps(_myself() | {"token": self._token}), encoding="utf-8"
            )
            self._acquire()
        except OSError as error:
            raise atomic_io.storage_error(self._path, error) from None
        finally:
            for lock in (self._own, *self._aside):
                _remove(lock)
        self._remove_leftovers()
        threading.Thread(target=self._beat, name="lock heartbeat", daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._released.set()
        if _owner(self._path).get("token") == self._token:
            with suppress(OSError):
                (self._path / _OWNER).unlink()
                self._path.rmdir()

    def check(self) -> None:
        """Call before a write.

        Raises:
            LockError: when the lock was taken over or removed.
        """
        owner = _owner(self._path)
        if (
            owner.get("token") != self._token and self._folder.is_dir()
        ):  # a folder that is gone is said by the write
            by = (
                f"was taken over by {_name(owner)}"
                if owner
                else "lost its lock: someone removed it"
            )
            raise LockError(
                self._folder,
                f"{by}; this process writes nothing more there",
                "let the other process go on, or end it and continue here",
            )

    def _acquire(self) -> None:
        now = (
            (self._own / _OWNER).stat().st_mtime
        )  # by the clock of the file system, which may be another machine's
        for _ in range(5):
            with suppress(OSError):
                self._own.rename(self._path)
                return
            if os.path.lexists(self._path):
                self._clear_away(now)
            elif not self._own.is_dir():
                break
        raise LockError(
            self._folder,
            "is fought over by several processes",
            "start them again one after the other",
        )

    def _clear_away(self, now: float) -> None:
        """Move away a lock that may be taken.

        Raises:
            LockError: when it may not.
        """
        try:
            is_folder = stat.S_ISDIR(self._path.lstat().st_mode)
        except FileNotFoundError:  # released by now
            return
        if not is_folder:
            raise LockError(
                self._folder,
                f"holds {_LOCK}, which is not a lock of this program",
                "move that file away, or give another folder",
            )
        owner = _owner(self._path)
        if not _is_free(self._path):
            self._require_abandoned(owner, now - _touched(self._path, now))
        aside = self._own.with_name(f"{self._own.name}.taken{len(self._aside)}")
        with suppress(OSError):
            self._path.rename(aside)
            self._aside.append(aside)
            if (
                _owner(aside) != owner
            ):  # another process was faster: this is its lock, not the one that was judged
                aside.rename(self._path)
                self._aside.remove(aside)

    def _require_abandoned(self, owner: dict[str, Any], age: float) -> None:
        """Raise LockError unless the lock may be taken: its owner is dead, or silent and the user wants it taken.

        Args:
            owner: as the lock names it.
            age: seconds since the owner touched the lock; negative where the clock was set back since. A living owner's
                next touch, within `_BEAT_SECONDS`, brings it back to the present, so that a date far in the future is as
                silent as one in the past.
        """
        if _dead(owner):
            _log.warning(
                "%s: %s is gone and left its lock, which is taken", self._folder, _name(owner)
            )
        elif abs(age) < _STALE_SECONDS:
            raise LockError(
                self._folder,
                f"{_name(owner)} works in it",
                "wait until it has ended, or give another folder (--artifacts; "
                f"sweep: --out). If it died on another machine: --takeover, {_STALE_SECONDS:.0f} s after its death",
            )
        elif not self._takeover:
            silence = (
                f"has given no sign of life for {age:,.0f} s"
                if age > 0
                else (f"its lock is dated {-age:,.0f} s in the future, so that a clock was wrong")
            )
            raise LockError(
                self._folder,
                f"{_name(owner)} holds it, and {silence}",
                "if that process has ended for sure, give --takeover",
            )

    def _remove_leftovers(self) -> None:
        """Delete what processes have left that were killed while they took or released the lock."""
        with suppress(OSError):
            now = _touched(self._path, 0.0)
            for stray in self._folder.glob(f"{_LOCK}.*"):
                if (
                    _LEFTOVER.fullmatch(stray.name)
                    and abs(now - _touched(stray, now)) > _STALE_SECONDS
                ):
                    _remove(stray)

    def _beat(self) -> None:
        while not self._released.wait(_BEAT_SECONDS):
            if _owner(self._path).get("token") == self._token:
                with suppress(OSError):
                    os.utime(self._path / _OWNER)


def _myself() -> dict[str, Any]:
    pid = os.getpid()
    return {
        "host": socket.gethostname(),
        "pid": pid,
        "machine": _machine(),
        "started": _started(pid),
        "since": time.strftime("%Y-%m-%d %H:%M:%S%z"),
    }


def _machine() -> str | None:
    """What two processes share that see each other's ids: the machine, its present start, the name space of ids."""
    with suppress(OSError):
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {Path('/proc/self/ns/pid').readlink()}"
    return socket.gethostname() if os.name == "posix" else None


def _started(pid: int) -> str | None:
    """When a process of this machine was started, in ticks; nothing when it has ended, None when the system does not say."""
    with suppress(OSError, IndexError):
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if state in "ZX" else rest[18]
    return None


def _dead(owner: dict[str, Any]) -> bool:
    """Whether the owner has ended for sure."""
    pid, machine = owner.get("pid"), _machine()
    if (
        not isinstance(pid, int)
        or not 0 < pid < 1 << 31
        or machine is None
        or owner.get("machine") != machine
    ):
        return False
    started = _started(pid)  # which some systems hide of other users' processes
    if started is not None and owner.get("started") is not None:
        return bool(started != owner["started"])
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _owner(lock: Path) -> dict[str, Any]:
    """What a lock says of its owner; nothing where it cannot be read."""
    file = lock / _OWNER
    if atomic_io.is_regular(file) and not atomic_io.escapes(file, lock.parent):
        with suppress(OSError, ValueError, RecursionError):
            owner = json.loads(atomic_io.read_bounded(file, _MAX_BYTES))
            return owner if isinstance(owner, dict) else {}
    return {}


def _name(owner: dict[str, Any]) -> str:
    if not owner:
        return "an unknown process"
    return f"process {str(owner.get('pid'))[:20]} on {str(owner.get('host'))[:100]!r} (since {str(owner.get('since'))[:40]})"


def _touched(lock: Path, otherwise: float) -> float:
    for path in (lock / _OWNER, lock):
        with suppress(OSError):
            return path.lstat().st_mtime
    return otherwise


def _is_free(lock: Path) -> bool:
    """Whether a lock folder names no owner: a lock is complete from the moment that it stands in its place."""
    try:
        (lock / _OWNER).lstat()
    except FileNotFoundError:
        return True
    except OSError:  # a folder that this user may not look into
        pass
    return False


def _remove(lock: Path) -> None:
    """Delete a lock that nobody holds. Files in it that are not a lock's go to where they came from, into `.lock`."""
    home = lock.with_name(_LOCK)
    with suppress(OSError):
        if lock.is_symlink() or not lock.is_dir():
            return
        (lock / _OWNER).unlink(missing_ok=True)
        for foreign in list(lock.iterdir()):
            home.mkdir(exist_ok=True)
            if not os.path.lexists(home / foreign.name):
                foreign.rename(home / foreign.name)
        lock.rmdir()
