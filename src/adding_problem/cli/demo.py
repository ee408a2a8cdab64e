"""The command that shows an LSTM learning: demo."""

from __future__ import annotations

import webbrowser
from pathlib import Path

from jsonargparse import Namespace

from adding_problem.system.output import say

__all__ = ["demo"]


def demo(arguments: Namespace) -> None:
    """Write the page and open it in the browser."""
    from adding_problem.report import live

    out = Path(arguments.out)
    live.write(out)
    say(f"page:    {out}")
    if not arguments.no_open and not webbrowser.open(out.resolve().as_uri()):
        say("no browser was found: open the page in one yourself")
