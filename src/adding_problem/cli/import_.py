"""The command import."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from adding_problem.cli.parsing import CommandParser
from adding_problem.system.output import say

if TYPE_CHECKING:
    from adding_problem.interop.importing import Imported

__all__ = ["DESCRIPTION", "EXAMPLES", "add_arguments", "run"]

DESCRIPTION = (
    "Make a run folder of a model trained elsewhere: the original's artifact folder or SavedModel, "
    "a .keras or .h5 file, or a PyTorch state_dict in .safetensors. The model must be equivalent "
    "to an LSTM and a linear unit; otherwise it is refused. Options override the configuration "
    "beside it."
)
EXAMPLES = (
    "adding-problem import original/150 --out artifacts/imported",
    "adding-problem import model.keras --out artifacts/imported --dataset.t 150",
)
_SHOWN = ("dataset.t", "dataset.variant", "dataset.dt_length", "validate.seed", "seed", "threads")


def add_arguments(parser: CommandParser) -> None:
    """What the command takes."""
    parser.positional("path", "file or folder to import")
    parser.option("--out", "run folder to make", required=True)
    parser.option(
        "--predictions",
        ".npz of float32 arrays: sequences x (n, T, 2) and the model's predictions y (n, 1); a "
        "state_dict needs it",
    )
    parser.flag(
        "--trust",
        "let TensorFlow run a SavedModel, in a separate process, and compare predictions",
    )
    parser.flag("--overwrite", "delete the run that the folder holds")
    parser.keys(_SHOWN, file=None)


def run(arguments: Namespace) -> None:
    """Import, and print how the model fits its log."""
    from adding_problem import interop
    from adding_problem.runs.folder import RunFolder

    found = interop.import_model(
        Path(arguments.path),
        Path(arguments.out),
        overrides=arguments.overrides,
        predictions=Path(arguments.predictions) if arguments.predictions else None,
        trust=arguments.trust,
        overwrite=arguments.overwrite,
    )
    say(
        f"{found.kind}: LSTM({found.hidden}), T = {found.t:,}",
        f"on {found.sequences:,} test sequences: MSE {found.mse:.2e} ± {found.standard_error:.0e} "
        f"(mean baseline: {found.constant:.4f})",
    )
    if found.difference is not None:
        say(f"it predicts the same where it comes from: largest difference {found.difference:.1e}")
    say(*_fit(found))
    copy = RunFolder(found.folder).config_copy
    say(f"run:     {found.folder}   (next: adding-problem validate --config {copy})")


def _fit(found: Imported) -> list[str]:
    """How the model's error compares with the one in its log."""
    if found.log_problem is not None:
        return [
            "WARNING: the run has no history, for the log beside the model was not read.",
            f"  {found.log_problem}",
        ]
    if found.logged is None:
        return []
    logged = (
        f"its log, epoch {found.kept}, whose weights were kept: validation MSE {found.logged:.2e}"
    )
    if found.agrees:
        return [logged, "the model matches its log"]
    ratio = f"{found.mse / found.logged:,.3g}" if found.logged else "infinitely many"
    return [
        logged,
        f"WARNING: the model does NOT match its log: its error is {ratio} times the logged one.",
        "  The file is complete (its checksums are right), so other weights were saved than those "
        "of the log. Trust the score.",
    ]
