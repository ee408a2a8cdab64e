"""The command data."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from adding_problem.cli.parsing import CommandParser
from adding_problem.config import COMMAND_LINE
from adding_problem.config.values import Count, Index, Length
from adding_problem.errors import ConfigError
from adding_problem.system import output
from adding_problem.system.output import say
from adding_problem.task.variants import Mix, Target, Task, Variant

__all__ = ["DESCRIPTION", "EXAMPLES", "add_arguments", "run"]

DESCRIPTION = (
    "Write the sequences of a seed to a file for another framework. The recipe original with that "
    "seed trains on the same ones."
)
EXAMPLES = (
    "adding-problem data --n 100000 --length 150 --out train.npz",
    "adding-problem data --n 10000 --length 150 --seed 1 --out test.parquet",
)


def add_arguments(parser: CommandParser) -> None:
    """What the command takes."""
    parser.option("--n", "number of sequences", Count, required=True)
    parser.option("--length", "length T of a sequence, in steps", Length, required=True)
    parser.option("--out", "file to write: .npz, or .parquet (extra parquet)", required=True)
    parser.option("--seed", "root seed of the sequences", Index, default=0)
    parser.option("--start", "index of the first sequence", Index, default=0)
    parser.option("--variant", "where the two marks may stand", Variant, default="any")
    parser.option("--target", "what is asked of the two marked values", Target, default="sum")
    about_noise = "columns of U[0, 1) noise beside value and mark"
    parser.option("--noise_columns", about_noise, Index, default=0)
    parser.option("--mix", "what is done to the input columns", Mix, default="none")
    parser.option("--mix_seed", "seed of the rotation, with --mix rotate", Index, default=0)


def run(arguments: Namespace) -> None:
    """Write the data file and print its size.

    Raises:
        ConfigError: naming the option that is wrong.
    """
    from adding_problem import interop
    from adding_problem.training import progress

    out, n, length = Path(arguments.out), arguments.n, arguments.length
    task = Task(
        arguments.variant,
        arguments.target,
        arguments.noise_columns,
        arguments.mix,
        arguments.mix_seed,
    )
    try:
        with progress.counting("writing", output.console()) as counter:
            interop.write_data(
                out,
                n,
                length,
                seed=arguments.seed,
                start=arguments.start,
                task=task,
                on_progress=counter,
            )
    except ConfigError as error:
        raise ConfigError(
            f"--{error.key}", error.expected, error.found, error.hint, COMMAND_LINE
        ) from None
    say(f"{n:,} sequences, T = {length:,}: {out} ({out.stat().st_size / 1e6:,.1f} MB)")
