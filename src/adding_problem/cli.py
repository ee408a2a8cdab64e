"""The commands: parse, call one function, print. All work is done elsewhere, and loaded only when it is needed."""

from __future__ import annotations

import dataclasses
import sys
from argparse import ArgumentError
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import jsonargparse

from adding_problem import __version__, config
from adding_problem.config import RunConfig
from adding_problem.errors import AddingProblemError

if TYPE_CHECKING:
    from adding_problem.artifacts import RunFolder

__all__ = ["main", "original_main"]

_DEFAULT_CONFIG = "configs/config.yaml"
_INTERRUPTED = 130  # 128 + SIGINT, as shells report it


def main(argv: Sequence[str] | None = None) -> int:
    """The command `adding-problem`; returns the exit code."""
    commands = {"train": _train, "validate": _validate, "horizon": _horizon, "lengths": _lengths, "compare": _compare,
                "report": _report}

    parser = _main_parser()

    def run_command(arguments: jsonargparse.Namespace) -> None:
        if name := arguments.get("subcommand"):
            commands[name](arguments[name])
        else:
            parser.print_help()

    return _guarded(parser, argv, run_command)


def original_main(argv: Sequence[str] | None = None) -> int:
    """The original's command, `main.py --mode train|validate --config FILE`; returns the exit code."""
    parser = _parser("Train or validate an LSTM on the adding problem.", prog="main.py")
    parser.add_argument("--mode", type=Literal["train", "validate"], help="what to do (default: train)")
    _add_run_options(parser, f"YAML file (default: {_DEFAULT_CONFIG})")
    _add_train_flags(parser)

    def run_mode(arguments: jsonargparse.Namespace) -> None:
        arguments.config = arguments.get("config") or _DEFAULT_CONFIG
        (_validate if arguments.get("mode") == "validate" else _train)(arguments)

    return _guarded(parser, argv, run_mode)


# --- parsing ---------------------------------------------------------------------------------------------------------


def _main_parser() -> jsonargparse.ArgumentParser:
    train = _parser("Train a model and leave a complete run folder.")
    _add_run_options(train)
    _add_train_flags(train)
    validate = _parser("Score the model of a run folder on a new data set of another seed.")
    _add_run_options(validate)
    horizon = _parser("Find the longest T that a model learns to solve within a budget of training time, climbing from length "
                      "to length. A second call goes on where the first one ended. The recipe is fast unless given.")
    horizon.add_argument("--minutes", type=float, default=5.0, help="training time for all lengths together")
    horizon.add_argument("--lengths", type=int, nargs="+", help="lengths to try (default: 100, 300, 1000, ... 1000000)")
    _add_run_options(horizon)
    lengths = _parser("Score trained models at other lengths than their own: a table and a heatmap.")
    lengths.add_argument("folders", type=str, nargs="+", help="run folders")
    lengths.add_argument("--lengths", type=int, nargs="+", default=[150, 500, 1000, 2000, 5000, 10000], help="lengths to test at")
    lengths.add_argument("--sequences", type=int, default=1000, help="new sequences for each")
    lengths.add_argument("--out", type=str, default="lengths.png", help="picture to write: .png, .pdf or .svg")
    compare = _parser("Draw the best validation loss against T, and the curves, of several run folders.")
    compare.add_argument("folders", type=str, nargs="+", help="run folders, such as artifacts/seed/*")
    compare.add_argument("--out", type=str, default="comparison.png", help="picture to write: .png, .pdf or .svg")
    compare.add_argument("--format", type=Literal["png", "pdf", "svg"], help="of the picture, instead of the suffix of --out")
    compare.add_argument("--original", type=str, help="JSON of the original system's curves to draw beside them: "
                                                      "docs/original_curves.json")
    report = _parser("Write one HTML page about runs: curves, lengths, errors, memory, and a model to play with. It needs no network.")
    report.add_argument("folders", type=str, nargs="+", help="run folders, or folders of them such as a sweep's")
    report.add_argument("--out", type=str, default="report.html", help="page to write")
    report.add_argument("--title", type=str, default="The adding problem", help="title of the page")
    report.add_argument("--lengths", type=int, nargs="+", help="lengths to test the models at (default: those trained, and up to ten times the longest)")
    report.add_argument("--sequences", type=int, default=500, help="new sequences for each model")
    report.add_argument("--models", type=int, default=8, help="most models to score: the best run of each method and length")
    report.add_argument("--pictures", type=str, help="folder for the same figures as pictures for papers")
    report.add_argument("--format", type=Literal["png", "pdf", "svg"], default="png", help="of these pictures")
    report.add_argument("--threads", type=int, help="CPU threads (default: one per core)")
    parser = _parser("The adding problem: how far back in time can a sequence model remember?", prog="adding-problem")
    parser.add_argument("--version", action="version", version=f"adding-problem {__version__}")
    commands = parser.add_subcommands(title="commands", metavar="COMMAND", required=False)
    commands.add_subcommand("train", train, help="train a model and leave a run folder")
    commands.add_subcommand("validate", validate, help="score a trained model on new data")
    commands.add_subcommand("horizon", horizon, help="find the longest T that a model solves")
    commands.add_subcommand("lengths", lengths, help="score trained models at other lengths than their own")
    commands.add_subcommand("compare", compare, help="draw several runs in one picture")
    commands.add_subcommand("report", report, help="write a page about runs, with a model to play with")
    return parser


def _parser(description: str, prog: str | None = None) -> jsonargparse.ArgumentParser:
    return jsonargparse.ArgumentParser(prog=prog, description=description, exit_on_error=False, allow_abbrev=False)


def _add_run_options(
    parser: jsonargparse.ArgumentParser, file_help: str = "YAML file; the options below are stronger"
) -> None:
    parser.add_argument("--config", type=str, help=file_help)
    # jsonargparse rewrites a bare --print_config to --print_config=, so it has to take an (empty) value.
    parser.add_argument("--print_config", nargs="?", type=str, metavar="", help="print the configuration and exit")
    config.add_options(parser)


def _add_train_flags(parser: jsonargparse.ArgumentParser) -> None:
    parser.add_argument("--resume", action="store_true", help="continue a cut run from its checkpoint")
    parser.add_argument("--overwrite", action="store_true", help="delete the run that the folder holds")


def _guarded(
    parser: jsonargparse.ArgumentParser,
    argv: Sequence[str] | None,
    command: Callable[[jsonargparse.Namespace], None],
) -> int:
    """Parse and run; an error that the user can mend becomes a message and an exit code, never a traceback."""
    argv = [_spelled_out(word) for word in (sys.argv[1:] if argv is None else argv)]
    try:
        try:
            # Without defaults, so that what the user gave can be told from what nobody gave.
            arguments = parser.parse_args(argv, defaults=False)
        except ArgumentError as error:
            raise config.explain(error, argv) from None
        command(arguments)
    except AddingProblemError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted; the last finished epoch is kept: --resume continues after it", file=sys.stderr)
        return _INTERRUPTED
    return 0


def _spelled_out(word: str) -> str:
    """`--model NAME` is short for the key `model.name`."""
    return word.replace("--model", "--model.name", 1) if word.partition("=")[0] == "--model" else word


def _run_config(arguments: jsonargparse.Namespace) -> RunConfig | None:
    """The configuration that the arguments ask for; None when it was only to be printed."""
    result = config.load(arguments.get("config"), config.overrides_of(arguments))
    if "print_config" in arguments:
        print(config.to_yaml(result), end="")
        return None
    return result


# --- commands --------------------------------------------------------------------------------------------------------


def _train(arguments: jsonargparse.Namespace) -> None:
    run_config = _run_config(arguments)
    if run_config is None:
        return
    from rich.console import Console

    from adding_problem import display, train
    from adding_problem.artifacts import RunFolder

    overwrite = bool(arguments.get("overwrite"))
    folder = RunFolder(run_config.artifacts)
    if not overwrite and folder.holds_finished(run_config):
        print(f"{folder.path} already holds this run, finished; it is not trained again (--overwrite would).")
        _print_result(folder, folder.read_result())
        return
    data = run_config.dataset
    training = "fresh" if data.stream else f"{data.n_train:,}"
    print(f"LSTM({run_config.model.hidden}) on the adding problem, T = {data.t:,} ({data.variant}): "
          f"{training} training and {data.n_held_out:,} held-out sequences, seed {run_config.seed}", flush=True)
    with display.TrainingDisplay(run_config, Console()) as listener:
        result = train.run(run_config, resume=bool(arguments.get("resume")), overwrite=overwrite, listener=listener)
    _print_result(folder, result)


def _print_result(folder: RunFolder, result: dict[str, Any]) -> None:
    print(f"best epoch {result['best_epoch']} of {result['epochs']}: validation MSE {result['best_val_loss']:.2e} "
          f"(always the mean: {result['constant_predictor_mse']:.4f}); "
          f"{result['seconds']:.1f} s, {result['threads']} threads, {result['backend']} on {result['device']}")
    for threshold, cost in result["reached"].items():
        print(f"  below {threshold}: " + (
            f"after {cost['sequences']:,} sequences = {cost['sequence_steps']:,} sequence-steps, "
            f"{cost['seconds']:.1f} s" if cost else "never"))
    print(f"model:   {folder.model}\npicture: {folder.loss_plot}")


def _validate(arguments: jsonargparse.Namespace) -> None:
    run_config = _run_config(arguments)
    if run_config is None:
        return
    from rich.console import Console

    from adding_problem import display, validate
    from adding_problem.artifacts import RunFolder

    with display.counting("scoring", Console()) as counter:
        score = validate.run(run_config, on_progress=counter)
    folder = RunFolder(run_config.artifacts)
    print(f"{score['sequences']:,} new sequences, T = {score['t']:,} ({score['variant']}), seed {score['seed']}")
    print(f"MSE      {score['mse']:.3e} ± {score['mse_standard_error']:.1e}")
    print(f"RMSE     {score['rmse']:.3e}")
    print(f"within {score['tolerance']}: {score['within_tolerance']:.2%}")
    print(f"always the mean: MSE {score['constant_predictor_mse']:.4f} ± "
          f"{score['constant_predictor_standard_error']:.4f}")
    print(f"data:    {folder.prediction_pickle}\npicture: {folder.prediction_plot}")


def _horizon(arguments: jsonargparse.Namespace) -> None:
    if "recipe" not in arguments and arguments.get("config") is None:
        arguments.recipe = "fast"
    if "artifacts" not in arguments and arguments.get("config") is None:
        arguments.artifacts = "artifacts/horizon"
    run_config = _run_config(arguments)
    if run_config is None:
        return
    from rich.console import Console
    from rich.table import Table

    from adding_problem import display, horizon

    console, minutes = Console(), arguments.get("minutes") or 5.0

    def following(run: RunConfig) -> display.TrainingDisplay:
        console.print(f"T = {run.dataset.t:,}", style="bold")
        return display.TrainingDisplay(run, console)

    table = Table("T", "to 1e-2", "to 1e-3", "MSE on new data", "", title="From the start of the climb")
    lengths = arguments.get("lengths") or horizon.LENGTHS
    found = 0
    for rung in horizon.climb(run_config, minutes=minutes, lengths=lengths, following=following):
        cells = [f"{cost['sequence_steps'] / 1e6:,.1f} M steps, {cost['seconds']:,.0f} s" if cost else "never"
                 for cost in rung.reached.values()]
        table.add_row(f"{rung.t:,}", *cells, f"{rung.mse:.1e} ± {rung.mse_standard_error:.0e}",
                      "solved" if rung.solved else f"not solved ({rung.stop_reason})")
        found = rung.t if rung.solved else found
    console.print(table)
    print(f"horizon: T = {found:,} within {minutes:g} minutes of training" if found else "horizon: none of the lengths was solved")
    print(f"runs:    {run_config.artifacts}\npicture: {Path(run_config.artifacts) / 'horizon.png'}")


def _lengths(arguments: jsonargparse.Namespace) -> None:
    from rich.console import Console
    from rich.table import Table

    from adding_problem import display, plots, validate
    from adding_problem.artifacts import RunFolder

    out, tested = Path(arguments.get("out") or "lengths.png"), arguments.get("lengths") or [150, 500, 1000, 2000, 5000, 10_000]
    n, console = arguments.get("sequences") or 1000, Console()
    table = Table("trained at T", "run", *(f"{t:,}" for t in tested), title=f"MSE on {n:,} new sequences")
    rows: list[tuple[int, list[float]]] = []
    for path in arguments.folders:
        run_config = dataclasses.replace(RunFolder(path).read_config(), artifacts=path)
        with display.counting(path, console) as counter:
            rows.append((run_config.dataset.t, [score["mse"] for score in validate.scores(run_config, tested, n, on_progress=counter)]))
        table.add_row(f"{run_config.dataset.t:,}", path, *(f"{mse:.1e}" for mse in rows[-1][1]))
    plots.draw_lengths(out, [t for t, _ in rows], tested, [mse for _, mse in rows])
    console.print(table)
    print(f"picture: {out}")


def _compare(arguments: jsonargparse.Namespace) -> None:
    from rich.console import Console
    from rich.table import Table

    from adding_problem import plots

    out, original = Path(arguments.get("out") or "comparison.png"), arguments.get("original")
    if arguments.get("format"):
        out = out.with_suffix(f".{arguments.format}")
    curves = plots.draw_comparison(out, [Path(f) for f in arguments.folders], Path(original) if original else None)
    table = Table("T", "run", "epochs", "best validation MSE")
    for row in curves:
        table.add_row(f"{row['t']:,}", row["name"], str(row["epochs"]), f"{row['best_val_loss']:.2e}")
    Console().print(table)
    print(f"picture: {out}")


def _report(arguments: jsonargparse.Namespace) -> None:
    from rich.console import Console

    from adding_problem import display, report

    out = Path(arguments.get("out") or "report.html")
    options = {key: arguments[key] for key in ("title", "lengths", "sequences", "models", "threads") if arguments.get(key) is not None}
    pictures = Path(arguments.pictures) if arguments.get("pictures") else None
    with display.counting("scoring", Console()) as counter:
        found = report.write(arguments.folders, out, pictures=pictures, suffix=arguments.get("format") or "png", on_progress=counter, **options)
    for problem in found.left_out:
        print(f"left out: {problem}", file=sys.stderr)
    print(f"{len(found.runs)} runs, {sum(run.solved for run in found.runs)} solved")
    print(f"page:    {out} ({out.stat().st_size / 1e6:.1f} MB)" + (f"\npictures: {pictures}" if pictures else ""))


if __name__ == "__main__":
    sys.exit(main())
