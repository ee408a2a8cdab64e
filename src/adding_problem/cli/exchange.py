"""Commands that carry models and data to other frameworks and back: export, import, data."""

from __future__ import annotations

from pathlib import Path

from jsonargparse import Namespace

from adding_problem import config
from adding_problem.errors import ConfigError
from adding_problem.system import output
from adding_problem.system.output import say
from adding_problem.task.variants import Task

__all__ = ["data", "export", "import_"]


def export(arguments: Namespace) -> None:
    """Export, and print how closely the predictions agree."""
    from adding_problem import interop
    from adding_problem.runs.folder import RunFolder

    out = arguments.out
    done = interop.export(
        RunFolder(arguments.folder),
        arguments.to,
        Path(out) if out else None,
        trust=arguments.trust,
        takeover=arguments.takeover,
    )
    say(
        f"{done.sequences:,} sequences of {done.lengths[0]:,} and {done.lengths[1]:,} steps, loaded back and predicted there: "
        f"largest difference {done.difference:.1e}"
    )
    say(f"{arguments.to}: {done.path}")


def import_(arguments: Namespace) -> None:
    """Import, and print how the model fits its log."""
    from adding_problem import interop
    from adding_problem.runs.folder import RunFolder

    found = interop.import_model(
        Path(arguments.path),
        Path(arguments.out),
        overrides=config.overrides_of(arguments),
        predictions=Path(arguments.predictions) if arguments.predictions else None,
        trust=arguments.trust,
        overwrite=arguments.overwrite,
        takeover=arguments.takeover,
    )
    say(f"{found.kind}: LSTM({found.hidden}), T = {found.t:,}")
    say(
        f"on {found.sequences:,} new sequences: MSE {found.mse:.2e} ± {found.standard_error:.0e} (mean baseline: {found.constant:.4f})"
    )
    if found.difference is not None:
        say(f"it predicts the same here and there: largest difference {found.difference:.1e}")
    if found.log_problem is not None:
        say(
            "WARNING: the run has no history, for the log beside the model was not read.",
            f"  {found.log_problem}",
        )
    if found.logged is not None:
        say(
            f"its log, epoch {found.kept}, whose weights were kept: validation MSE {found.logged:.2e}"
        )
        say(
            *["the model matches its log"]
            if found.agrees
            else [
                f"WARNING: the model does NOT match its log: its error is {_ratio(found.mse, found.logged)} times the logged one.",
                "  The weights in the file are not those of the log. Trust the score.",
            ]
        )
    say(
        f"run:     {found.folder}   (next: adding-problem validate --config {RunFolder(found.folder).config_copy})"
    )


def _ratio(error: float, logged: float) -> str:
    return f"{error / logged:,.3g}" if logged else "infinitely many"


def data(arguments: Namespace) -> None:
    """Write the data file and print its size.

    Raises:
        ConfigError: naming the option that is wrong.
    """

    from adding_problem import interop
    from adding_problem.training import progress

    out, n = Path(arguments.out), arguments.n
    task = Task(
        arguments.variant,
        arguments.target,
        arguments.noise_columns,
        arguments.mix,
        arguments.mix_seed or 0,
    )
    try:
        with progress.counting("writing", output.console()) as counter:
            interop.write_data(
                out,
                n,
                arguments.length,
                seed=arguments.seed,
                start=arguments.start,
                task=task,
                on_progress=counter,
            )
    except ConfigError as error:
        raise ConfigError(
            f"--{error.key}", error.expected, error.found, error.hint, config.COMMAND_LINE
        ) from None
    say(f"{n:,} sequences, T = {arguments.length:,}: {out} ({out.stat().st_size / 1e6:,.1f} MB)")
