"""One self-contained HTML page about any number of runs, with a trained model that runs in it.

    runs.py       reads run folders; damaged ones are named and left out
    summary.py    runs put together: by method and length, by model, and how far each method reaches
    measure.py    scores trained models: other lengths, errors, gradients, states
    figures.py    what the charts draw, as values and in words
    pictures.py   the same figures for papers, by matplotlib
    page.py       all of it as one page, from templates/ and vendor/ (Observable Plot and D3, ISC)
    live.py       another page, in which two LSTMs learn
    card.py       another page: a memory certificate

Nothing is trained here. Nothing is written but the page and the pictures that are asked for. The
page works without a network, and its content security policy lets no script run but its own.
"""

from __future__ import annotations

from adding_problem.report.page import write

__all__ = ["write"]
