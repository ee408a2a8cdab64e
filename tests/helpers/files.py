"""The content of a folder, to compare before and after, and the first bytes of a PNG."""

from __future__ import annotations

from pathlib import Path

PNG = b"\x89PNG\r\n\x1a\n"


def contents(folder: Path) -> dict[str, bytes]:
    """Content by relative name; the lock, which stays, is left out."""
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name != ".lockfile"
    }
