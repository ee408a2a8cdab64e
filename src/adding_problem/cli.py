"""The commands: parse, call one function, print. All work is done elsewhere, and loaded only when it is needed."""

from __future__ import annotations

import dataclasses
import logging
import math
import shlex
import signal
import sys
from argparse import ArgumentError
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import jsonargparse

from adding_problem import __version__, config, interruption
from adding_problem.config import RunConfig
from adding_problem.errors import AddingProblemError, ConfigError, Interrupted

if TYPE_CHECKING:
    from rich.console import Console

    from adding_problem.artifacts import RunFolder
    from adding_problem.groups import Group

__all__ = ["main", "original_main"]

_DEFAULT_CONFIG = "configs/config.yaml"


def main(argv: Sequence[str] | None = None) -> int:
    """The command `adding-problem`; returns the exit code."""
    commands = {"train": _train, "validate": _validate, "horizon": _horizon, "lengths": _lengths, "compare": _compare,
                "models": _models, "sweep": _sweep, "watch": _watch, "report": _report,
                "export": _export, "import": _import, "data": _data}

    parser = _main_parser()

    def run_command(arguments: jsonargparse.Namespace) -> None:
        if name := arguments.get("subcommand"):
            commands[name](arguments[name])
        else:
            parser.print_help()

    return _guarded(parser, argv, run_command)


def original_main(argv: Sequence[str] | None = None) -> int:
    """The original's command, `main.py --mode train|validate --config FILE`; returns the exit code."""
    parser = _parser("Train or validate a model on the adding problem.", prog="main.py")
    parser.add_argument("--mode", type=Literal["train", "validate"], help="what to do (default: train)")
    _add_run_options(parser, f"YAML file (default: {_DEFAULT_CONFIG})")
    _add_train_flags(parser)
    _add_trust(parser)

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
    _add_trust(validate)
    horizon = _parser("Find the longest T that a model learns to solve within a budget of training time, climbing from length "
                      "to length. A second call goes on where the first one ended. The recipe is fast unless given.")
    horizon.add_argument("--minutes", type=float, default=5.0, help="training time for all lengths together")
    horizon.add_argument("--lengths", type=int, nargs="+", help="lengths to try (default: 100, 300, 1000, ... 1000000)")
    _add_takeover(horizon)
    _add_run_options(horizon)
    lengths = _parser("Score trained models at other lengths than their own: a table and a heatmap.")
    lengths.add_argument("folders", type=str, nargs="+", help="run folders")
    lengths.add_argument("--lengths", type=int, nargs="+", default=[150, 500, 1000, 2000, 5000, 10000], help="lengths to test at")
    lengths.add_argument("--sequences", type=int, default=1000, help="new sequences for each")
    lengths.add_argument("--out", type=str, default="lengths.png", help="picture to write: .png, .pdf or .svg")
    _add_trust(lengths)
    compare = _parser("Draw the best validation loss against T, and the curves, of several run folders.")
    compare.add_argument("folders", type=str, nargs="+", help="run folders, such as artifacts/seed/*")
    compare.add_argument("--out", type=str, default="comparison.png", help="picture to write: .png, .pdf or .svg")
    compare.add_argument("--format", type=Literal["png", "pdf", "svg"], help="of the picture, instead of the suffix of --out")
    compare.add_argument("--original", type=str, help="JSON of the original system's curves to draw beside them: "
                                                      "docs/original_curves.json")
    models = _parser("List the models of the zoo. Your own is named --model package.module.Class or --model path/to/file.py:Class.")
    sweep = _parser("Many runs: every combination of the lists in a sweep file's section grid:, and the lines of its section "
                    "runs:, whatever the keys, seeds included. A second call skips finished runs, resumes cut ones and tries "
                    "failed ones again. docs/sweeps.md shows the file, docs/cluster.md Ray.")
    sweep.add_argument("--out", type=str, help="the sweep's folder, a run folder in it for each run (default: the file's artifacts)")
    sweep.add_argument("--engine", type=Literal["local", "ray"], help="processes on this machine, or tasks of a Ray cluster")
    sweep.add_argument("--workers", type=int, help="runs at a time (default: local: cores / threads; ray: all that fit)")
    sweep.add_argument("--address", type=str, help="with ray: a running cluster, such as auto (default: one is started here)")
    sweep.add_argument("--gpus", type=float, help="with ray: GPUs of each run (default: 1 where device is cuda, else 0)")
    sweep.add_argument("--storage", type=str, help="with ray: path or fsspec URL that all nodes reach, for the runs' files on "
                                                   "their way (default: they come through Ray)")
    sweep.add_argument("--retries", type=int, help="how often a run is begun again after its process or node was lost (default: 3)")
    sweep.add_argument("--no_score", action="store_true", help="do not score the trained models on new data")
    sweep.add_argument("--dry_run", action="store_true", help="print the runs and what they may cost, and exit")
    _add_run_options(sweep, "the sweep file: YAML; the options below are stronger, and the same for all runs")
    watch = _parser("Show the runs of a folder while they go on: a sweep's, a folder of run folders, or one run.")
    watch.add_argument("folder", type=str, help="folder")
    watch.add_argument("--once", action="store_true", help="print the table once, all of it, and exit")
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
    export = _parser("Write the trained model of a run folder for another runtime, load it back there and compare 1,000 predictions.")
    export.add_argument("folder", type=str, help="run folder")
    export.add_argument("--to", type=Literal["keras", "savedmodel", "onnx", "torch-export"], required=True, help="the format")
    export.add_argument("--out", type=str, help="file or folder to write (default: in the run folder's model/)")
    _add_trust(export)
    importing = _parser("Make a run folder of a model trained elsewhere: the original's artifact folder or SavedModel, a .keras file, "
                        "or a PyTorch state_dict in .safetensors. The options below override the configuration beside it.")
    importing.add_argument("path", type=str, help="what to import")
    importing.add_argument("--out", type=str, required=True, help="run folder to make")
    importing.add_argument("--overwrite", action="store_true", help="delete the run that the folder holds")
    config.add_options(importing)
    data = _parser("Write sequences to a file for another framework: the ones that training with this seed sees.")
    data.add_argument("--n", type=int, required=True, help="number of sequences")
    data.add_argument("--length", type=int, required=True, help="length T of a sequence, in steps")
    data.add_argument("--out", type=str, required=True, help="file to write: .npz, or .parquet (extra parquet)")
    data.add_argument("--seed", type=int, default=0, help="root seed of the stream (a run trains on that of its own seed)")
    data.add_argument("--start", type=int, default=0, help="index of the first sequence")
    data.add_argument("--variant", type=config.Variant, default="any", help="where the two marks may stand")
    parser = _parser("The adding problem: how far back in time can a sequence model remember?", prog="adding-problem")
    parser.add_argument("--version", action="version", version=f"adding-problem {__version__}")
    commands = parser.add_subcommands(title="commands", metavar="COMMAND", required=False)
    commands.add_subcommand("train", train, help="train a model and leave a run folder")
    commands.add_subcommand("validate", validate, help="score a trained model on new data")
    commands.add_subcommand("horizon", horizon, help="find the longest T that a model solves")
    commands.add_subcommand("sweep", sweep, help="many runs: a grid, on this machine or on a Ray cluster")
    commands.add_subcommand("watch", watch, help="follow runs from another terminal")
    commands.add_subcommand("lengths", lengths, help="score trained models at other lengths than their own")
    commands.add_subcommand("models", models, help="list the models of the zoo")
    commands.add_subcommand("compare", compare, help="draw several runs in one picture")
    commands.add_subcommand("report", report, help="write a page about runs, with a model to play with")
    commands.add_subcommand("export", export, help="write a trained model for Keras, TensorFlow, ONNX or torch.export")
    commands.add_subcommand("import", importing, help="make a run folder of a model trained elsewhere")
    commands.add_subcommand("data", data, help="write sequences to a file for another framework")
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
    _add_takeover(parser)


def _add_takeover(parser: jsonargparse.ArgumentParser) -> None:
    parser.add_argument("--takeover", action="store_true",
                        help="take the folder from a process that gives no sign of life; be sure that it has ended")


def _add_trust(parser: jsonargparse.ArgumentParser) -> None:
    parser.add_argument("--trust", action="store_true", help="import the model that a run folder names, if it is not of the zoo")


def _guarded(
    parser: jsonargparse.ArgumentParser,
    argv: Sequence[str] | None,
    command: Callable[[jsonargparse.Namespace], None],
) -> int:
    """Parse and run; an error that the user can mend becomes a message and an exit code, never a traceback."""
    argv = [config.spelled_out(word) for word in (sys.argv[1:] if argv is None else argv)]
    try:
        try:
            # Without defaults, so that what the user gave can be told from what nobody gave.
            arguments = parser.parse_args(argv, defaults=False)
        except ArgumentError as error:
            raise config.explain(error, argv) from None
        _show_notes()
        with interruption.at_once():
            command(arguments)
    except AddingProblemError as error:
        print(f"error: {_printable(str(error))}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt as stop:
        stop = stop if isinstance(stop, Interrupted) else Interrupted(signal.SIGINT)
        print(f"{stop}\n  to continue: {_continuing(parser, argv)}", file=sys.stderr)
        return stop.exit_code
    return 0


def _printable(text: str) -> str:
    """Without the control characters that a stranger's file may have brought into a message."""
    return "".join(letter if letter.isprintable() or letter == "\n" else "\N{REPLACEMENT CHARACTER}" for letter in text)


def _continuing(parser: jsonargparse.ArgumentParser, argv: Sequence[str]) -> str:
    """The command that goes on where this one was stopped."""
    words = [word for word in argv if word not in ("--overwrite", "--resume", "--takeover")]
    program = ["python", parser.prog] if parser.prog.endswith(".py") else [parser.prog]
    trains = "train" in words[:1] or (program[0] == "python" and "validate" not in words)
    return shlex.join([*program, *words, *(["--resume"] if trains else [])])


def _show_notes() -> None:
    """What the package notes on the way is printed among the command's own lines."""
    notes = logging.StreamHandler(sys.stdout)
    notes.setFormatter(logging.Formatter("note: %(message)s"))
    logger = logging.getLogger("adding_problem")
    logger.handlers[:] = [notes]
    logger.setLevel(logging.INFO)


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

    from adding_problem import display, interop, loggers, train
    from adding_problem.artifacts import RunFolder

    overwrite = bool(arguments.get("overwrite"))
    folder = RunFolder(run_config.artifacts)
    if not overwrite and folder.holds_finished(run_config):
        interop.complete(run_config)
        print(f"{folder.path} already holds this run, finished; it is not trained again (--overwrite would).")
        _print_result(folder, folder.read_result())
        return
    data = run_config.dataset
    training = "fresh" if data.stream else f"{data.n_train:,}"
    print(f"{run_config.model.title} on the adding problem, T = {data.t:,} ({data.variant}): "
          f"{training} training and {data.n_held_out:,} held-out sequences, seed {run_config.seed}", flush=True)
    with display.TrainingDisplay(run_config, Console()) as shown, loggers.attached(run_config, shown) as listener:
        result = train.run(run_config, resume=bool(arguments.get("resume")), overwrite=overwrite,
                           takeover=bool(arguments.get("takeover")), listener=listener)
    _print_result(folder, result)


def _print_result(folder: RunFolder, result: dict[str, Any]) -> None:
    where = "imported" if "imported" in result else (
        f"{result['seconds']:.1f} s, {result['threads']} threads, {result['backend']} on {result['device']}")
    print(f"best epoch {result['best_epoch']} of {result['epochs']}: validation MSE {result['best_val_loss']:.2e} "
          f"(always the mean: {result['constant_predictor_mse']:.4f}); {where}")
    for threshold, cost in result["reached"].items():
        print(f"  below {threshold}: " + (
            f"after {cost['sequences']:,} sequences = {cost['sequence_steps']:,} sequence-steps"
            + (f", {cost['seconds']:.1f} s" if math.isfinite(cost["seconds"]) else "") if cost else "never"))
    print(f"model:   {folder.model}\npicture: {folder.loss_plot}")


def _validate(arguments: jsonargparse.Namespace) -> None:
    run_config = _run_config(arguments)
    if run_config is None:
        return
    from rich.console import Console

    from adding_problem import display, validate
    from adding_problem.artifacts import RunFolder

    with display.counting("scoring", Console()) as counter:
        score = validate.run(run_config, trust=bool(arguments.get("trust")), on_progress=counter)
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
    for rung in horizon.climb(run_config, minutes=minutes, lengths=lengths, following=following,
                              takeover=bool(arguments.get("takeover"))):
        cells = [f"{cost['sequence_steps'] / 1e6:,.1f} M steps, {cost['seconds']:,.0f} s" if cost else "never"
                 for cost in rung.reached.values()]
        table.add_row(f"{rung.t:,}", *cells, f"{rung.mse:.1e} ± {rung.mse_standard_error:.0e}",
                      "solved" if rung.solved else f"not solved ({rung.stop_reason})")
        found = rung.t if rung.solved else found
    console.print(table)
    print(f"horizon: T = {found:,} within {minutes:g} minutes of training" if found else "horizon: none of the lengths was solved")
    print(f"runs:    {run_config.artifacts}\npicture: {Path(run_config.artifacts) / 'horizon.png'}")


def _sweep(arguments: jsonargparse.Namespace) -> None:
    if "config" not in arguments:
        raise ConfigError("--config", "a sweep file", "none", "give one, such as configs/sweep.yaml", config.COMMAND_LINE)
    from adding_problem.sweep import plan

    runs = plan.read(arguments.config, config.overrides_of(arguments), arguments.get("out"))
    if "print_config" in arguments:
        print(config.to_yaml(runs[0].config), end="")
        return
    from rich.console import Console

    from adding_problem.sweep import driver, engines, watch

    chosen = engines.Choice(arguments.get("engine") or "local", **{
        name: arguments.get(name) for name in ("workers", "address", "gpus", "storage")})
    console = Console()
    if arguments.get("dry_run"):
        console.print(watch.dry_run(runs, chosen.describe(runs)))
        return
    with watch.SweepDisplay(console) as display:
        board = driver.run(runs, engines.build(chosen, runs), score=not arguments.get("no_score"),
                           retries=3 if arguments.get("retries") is None else arguments.retries, follow=display.follow)
    console.print(watch.render(str(board.folder), watch.look(board.folder)))
    driver.raise_failures(board)


def _watch(arguments: jsonargparse.Namespace) -> None:
    from rich.console import Console

    from adding_problem.sweep import watch

    console, folder = Console(), Path(arguments.folder)
    if arguments.get("once"):
        console.print(watch.render(str(folder), watch.look(folder)))
    else:
        watch.follow(folder, console)


def _lengths(arguments: jsonargparse.Namespace) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from adding_problem import display, plots, validate
    from adding_problem.artifacts import RunFolder

    out, tested = Path(arguments.get("out") or "lengths.png"), arguments.get("lengths") or [150, 500, 1000, 2000, 5000, 10_000]
    n, console = arguments.get("sequences") or 1000, Console()
    table = Table("trained at T", "run", *(f"{t:,}" for t in tested), title=f"MSE on {n:,} new sequences")
    rows: list[tuple[str, list[float]]] = []
    for path in arguments.folders:
        run_config = dataclasses.replace(RunFolder(path).read_config(), artifacts=path)
        with display.counting(escape(path), console) as counter:
            found = validate.scores(run_config, tested, n, trust=bool(arguments.get("trust")), on_progress=counter)
        rows.append((f"{run_config.dataset.t:,} ({Path(path).name})", [score["mse"] for score in found]))
        table.add_row(f"{run_config.dataset.t:,}", escape(path), *(f"{mse:.1e}" for mse in rows[-1][1]))
    plots.draw_lengths(out, [name for name, _ in rows], tested, [mse for _, mse in rows])
    console.print(table)
    print(f"picture: {out}")


def _models(arguments: jsonargparse.Namespace) -> None:
    from rich.console import Console
    from rich.table import Column, Table

    from adding_problem import models

    table = Table(Column("name", no_wrap=True), Column("parameters", justify="right"), "paper", "cost of a step", "defaults, and where from",
                  show_lines=True)
    for name, family in models.FAMILIES.items():
        size = models.describe(models.build_model(config.ModelConfig(name)))["parameters"]
        defaults = ", ".join(f"{key} {'-' if value is None else value}" for key, value in family.defaults.items())
        parallel = "; steps in parallel" if family.parallel else "; step after step"
        table.add_row(name, f"{size:,}", family.paper, family.cost + parallel, f"{defaults}; from {family.source}")
    Console().print(table)


def _compare(arguments: jsonargparse.Namespace) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from adding_problem import groups, plots

    out, original = Path(arguments.get("out") or "comparison.png"), arguments.get("original")
    if arguments.get("format"):
        out = out.with_suffix(f".{arguments.format}")
    curves = plots.draw_comparison(out, [Path(f) for f in arguments.folders], Path(original) if original else None)
    table = Table("T", "run", "epochs", "best validation MSE")
    for row in curves:
        table.add_row(f"{row['t']:,}", escape(row["name"]), str(row["epochs"]), f"{row['best_val_loss']:.2e}")
    Console().print(table)
    _print_groups(groups.collect(arguments.folders), Console())
    print(f"picture: {out}")


def _print_groups(found: list[Group], console: Console) -> None:
    """What several seeds say together, and two methods on the same seeds."""
    from rich.table import Table

    from adding_problem.groups import comparisons

    if max(len(group.seeds) for group in found) > 1:
        table = Table("T", "method", "solved", "median MSE", "steps and sequences to 1e-2", "to 1e-3",
                      title="Over the seeds, with 95% intervals; costs: median (range), unsolved runs censored")
        for group in found:
            table.add_row(f"{group.t:,}", f"{group.method}, {group.variant}", str(group.solved).replace(" (", "\n("),
                          f"{group.losses}".replace(" (", "\n(") + f"\n{group.measure}", *(
                              f"{group.cost(name, 'sequence_steps')}\n{group.cost(name, 'sequences')}"
                              for name in ("1e-2", "1e-3")))
        console.print(table)
    for remark in sorted({f"{group.method}, T = {group.t:,}: {group.remark}" for group in found if group.remark}):
        print(remark)
    sentences = comparisons(found)
    if len(sentences) > 1:
        print(f"{len(sentences)} comparisons, p-values not corrected for their number:")
    print("\n".join(sentences), end="\n" if sentences else "")


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


def _export(arguments: jsonargparse.Namespace) -> None:
    from adding_problem import interop
    from adding_problem.artifacts import RunFolder

    out = arguments.get("out")
    done = interop.export(RunFolder(arguments.folder), arguments.to, Path(out) if out else None,
                          trust=bool(arguments.get("trust")))
    print(f"{done.sequences:,} sequences of {done.lengths[0]:,} and {done.lengths[1]:,} steps, loaded back and predicted there: "
          f"largest difference {done.difference:.1e}")
    print(f"{arguments.to}: {done.path}")


def _import(arguments: jsonargparse.Namespace) -> None:
    from adding_problem import interop

    found = interop.import_model(Path(arguments.path), Path(arguments.out), overrides=config.overrides_of(arguments),
                                 overwrite=bool(arguments.get("overwrite")))
    print(f"{found.kind}: LSTM({found.hidden}), T = {found.t:,}")
    print(f"on {found.sequences:,} new sequences: MSE {found.mse:.2e} ± {found.standard_error:.0e} (always the mean: {found.constant:.4f})")
    if found.logged is not None:
        print(f"its log, epoch {found.kept}, whose weights were kept: validation MSE {found.logged:.2e}")
        print("the model matches its log" if found.agrees else
              f"WARNING: the model does NOT match its log: its error is {found.mse / found.logged:,.3g} times the logged one.\n"
              "  The file is whole (its checksums are right), so other weights were saved than the log tells of. Trust the score.")
    print(f"run:     {found.folder}   (next: adding-problem validate --config {found.folder / 'config_copy.yaml'})")


def _data(arguments: jsonargparse.Namespace) -> None:
    from rich.console import Console

    from adding_problem import display, interop

    out, n = Path(arguments.out), arguments.n
    with display.counting("writing", Console()) as counter:
        interop.write_data(out, n, arguments.length, seed=arguments.get("seed") or 0, start=arguments.get("start") or 0,
                           variant=arguments.get("variant") or "any", on_progress=counter)
    print(f"{n:,} sequences, T = {arguments.length:,}: {out} ({out.stat().st_size / 1e6:,.1f} MB)")


if __name__ == "__main__":
    sys.exit(main())
