"""The command export."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Literal

from adding_problem.cli import common
from adding_problem.cli.parsing import CommandParser
from adding_problem.system.output import say

__all__ = ["DESCRIPTION", "EXAMPLES", "add_arguments", "run"]

DESCRIPTION = (
    "Write the trained model of a run folder for another runtime, load it there and compare 1,000 "
    "predictions."
)
EXAMPLES = (
    "adding-problem export artifacts/150 --to keras",
    "adding-problem export artifacts/150 --to onnx --out model.onnx",
)


def add_arguments(parser: CommandParser) -> None:
    """What the command takes."""
    parser.positional("folder", "run folder")
    formats = Literal["keras", "savedmodel", "onnx", "torch-export"]
    parser.option("--to", "the format", formats, required=True)
    parser.option("--out", "file or folder to write (default: in the run folder's model/)")
    common.add_safety(parser)


def run(arguments: Namespace) -> None:
    """Export, and print how closely the predictions agree."""
    from adding_problem import interop
    from adding_problem.runs.folder import RunFolder

    done = interop.export(
        RunFolder(arguments.folder),
        arguments.to,
        Path(arguments.out) if arguments.out else None,
        trust=arguments.trust,
    )
    short, long = done.lengths
    say(
        f"{done.sequences:,} sequences of {short:,} and {long:,} steps, loaded back and predicted "
        f"there: largest difference {done.difference:.1e}",
        f"{arguments.to}: {done.path}",
    )
