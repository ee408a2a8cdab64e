"""The page in which two LSTMs learn: from templates alone, the same for everyone."""

from __future__ import annotations

from pathlib import Path

from markupsafe import Markup

from adding_problem import __version__
from adding_problem.report.page import environment, resource, script_hash
from adding_problem.runs import atomic_io

__all__ = ["render", "write"]

_SCRIPTS = ("templates/states.js", "templates/theme.js", "templates/live.js")
_TRAINER = ("templates/random.js", "templates/training.js", "templates/live_worker.js")
"""What runs in the workers. It stands in the page as text, and each worker is made from it."""


def write(out: Path) -> None:
    """Write the page.

    Raises:
        StorageError: when it cannot be written.
    """
    atomic_io.make_folder(out.parent)
    atomic_io.write(out, render().encode())


def render() -> str:
    """The page as text."""
    scripts = [Markup(resource(name)) for name in _SCRIPTS]
    return (
        environment()
        .get_template("live.html.j2")
        .render(
            version=__version__,
            style=Markup(resource("templates/style.css") + resource("templates/live.css")),
            trainer=Markup("\n".join(map(resource, _TRAINER))),
            scripts=scripts,
            script_hashes=[script_hash(str(script)) for script in scripts],
        )
    )
