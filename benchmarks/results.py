"""The JSON records that the benchmarks leave, and which program made them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

__all__ = ["commit", "write"]


def commit() -> str:
    """The short hash of the commit that is checked out; empty outside a git checkout."""
    return subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()


def write(path: Path, document: dict[str, Any]) -> None:
    """Write a record, and the folder that it goes into where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n")
