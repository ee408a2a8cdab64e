"""The command demo."""

from __future__ import annotations

import webbrowser
from argparse import Namespace
from pathlib import Path

from adding_problem.cli.parsing import CommandParser
from adding_problem.system.output import say

__all__ = ["DESCRIPTION", "EXAMPLES", "add_arguments", "run"]

DESCRIPTION = (
    "Write one HTML page in which two LSTMs learn side by side, and open it in the browser. It "
    "needs no network."
)
EXAMPLES = ("adding-problem demo", "adding-problem demo --out page.html --no-open")


def add_arguments(parser: CommandParser) -> None:
    """What the command takes."""
    parser.option("--out", "page to write", default="demo.html")
    parser.flag("--no-open", "do not open the page in the browser")


def run(arguments: Namespace) -> None:
    """Write the page and open it in the browser."""
    from adding_problem.report import live

    out = Path(arguments.out)
    live.write(out)
    say(f"page:    {out}")
    if not arguments.no_open and not webbrowser.open(out.resolve().as_uri()):
        say("no browser was found: open the page in one yourself")
