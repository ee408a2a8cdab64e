"""Which program made a record."""

from __future__ import annotations

import subprocess

__all__ = ["commit"]


def commit() -> str:
    """The short hash of the commit that is checked out; empty outside a git checkout."""
    return subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
