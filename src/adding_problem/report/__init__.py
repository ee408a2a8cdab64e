"""One self-contained HTML page about any number of runs: charts, tables, and a trained model that runs in the page.

    runs.py       run folders, read: what a page can show of each; damaged ones are named and left out
    summary.py    runs that differ in their seeds alone, put together: solved share, cost, loss
    measure.py    what trained models show when they are scored: other lengths, errors, gradients, states
    pictures.py   the same figures for papers, by matplotlib
    page.py       all of it as one page, from templates/ and vendor/ (Observable Plot and D3, ISC licence)
    live.py       another page, in which two LSTMs learn

Nothing is trained here, and nothing is written but the page and the pictures that are asked for. The page loads nothing: it works without a network, and its
content security policy lets no script run but its own.
"""

from __future__ import annotations

from adding_problem.report.page import write

__all__ = ["write"]
