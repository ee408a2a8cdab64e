"""The report's figures for papers, drawn by matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from adding_problem import plots
from adding_problem.errors import RunFolderError
from adding_problem.report.measure import Measured
from adding_problem.report.runs import Collection
from adding_problem.task import HIT_TOLERANCE, constant_predictor_mse

__all__ = ["draw"]


def draw(folder: Path, suffix: str, found: Collection, measured: Sequence[Measured], tested: Sequence[int]) -> list[Path]:
    """`comparison`, `lengths`, `horizon` and, for each model that was scored, `predictions`.

    Args:
        folder: where they go; it is made where it is missing.
        suffix: `png`, `pdf` or `svg`.
        found, measured, tested: what the page shows.

    Returns:
        The files.

    Raises:
        RunFolderError: when they cannot be written.
    """
    scored = [one for one in measured if not one.problem]
    files = []

    def file(name: str) -> Path:
        files.append(folder / f"{name}.{suffix}")
        return files[-1]

    try:
        folder.mkdir(parents=True, exist_ok=True)
        if drawn := [run.path for run in found.runs if run.rows]:
            plots.draw_comparison(file("comparison"), drawn)
        if scored:
            plots.draw_lengths(file("lengths"), [f"{one.run.t:,} ({one.run.path.name})" for one in scored], tested,
                               [[one.mse.get(t, np.nan) for t in tested] for one in scored])
        for index, document in enumerate(found.horizons.values(), 1):
            plots.draw_horizon(file(f"horizon-{index}"), document)
        for index, one in enumerate(scored, 1):
            plots.draw_predictions(file(f"predictions-{index}-t{one.run.t}"), one.y, one.y_hat, _score(one))
    except OSError as error:
        raise RunFolderError(folder, f"cannot be written ({error.strerror})", "give --pictures another path") from None
    return files


def _score(one: Measured) -> dict[str, object]:
    """What `plots.draw_predictions` says beside the dots; see `validate.run`."""
    data = one.run.config.dataset
    return {"t": data.t, "variant": data.variant, "seed": one.run.config.validate.seed, "mse": one.own_mse,
            "within_tolerance": one.within_tolerance, "tolerance": HIT_TOLERANCE,
            "constant_predictor_mse": constant_predictor_mse(data.variant, data.t)}
