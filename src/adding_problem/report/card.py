"""The memory certificate as one HTML page, without scripts."""

from __future__ import annotations

from pathlib import Path

from adding_problem import __version__
from adding_problem.experiments.certificate import SHORT, Certificate, Measured
from adding_problem.report.page import environment
from adding_problem.runs import atomic_io

__all__ = ["render", "write"]


def write(made: Certificate, out: Path) -> None:
    """Write the page.

    Raises:
        StorageError: when it cannot be written.
    """
    atomic_io.write(out, render(made).encode())


def render(made: Certificate) -> str:
    """The page as text."""
    templates = environment()
    templates.filters |= {"error": _error, "count": "{:,}".format}
    template = templates.get_template("certificate.html.j2")
    return template.render(made=made, short=SHORT, version=__version__)


def _error(measured: Measured | None, baseline: float) -> str:
    """The error, and as a share of the mean baseline's."""
    if measured is None:
        return "–"
    if measured.mse is None:
        return "not finite"
    return f"{measured.mse:.1e} ({_share(measured.mse / baseline)})"


def _share(share: float) -> str:
    return f"{share:.0%}" if 0.01 <= share < 10 else f"{share:.0e}"
