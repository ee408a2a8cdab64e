"""What each command takes, and the table of the commands."""

from __future__ import annotations

import math
from argparse import SUPPRESS, Action
from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple, get_args, get_origin

from jsonargparse import ArgumentParser, DefaultHelpFormatter, Namespace, set_loader

from adding_problem import __version__, config
from adding_problem.cli import certifying, demo, exchange, runs, tables
from adding_problem.config import schema
from adding_problem.task import variants

__all__ = [
    "COMMANDS",
    "DEFAULT_CONFIG",
    "Command",
    "CommandParser",
    "command_parser",
    "main_parser",
    "original_parser",
    "type_of",
]

DEFAULT_CONFIG = "configs/config.yaml"
_EXIT_CODE = "The exit code is 3 when the loss or the score is NaN or infinite; the files are written all the same."

Length = config.Word(int, least=2)  # of a sequence, which has two marks
PositiveInt, NonNegativeInt = config.Word(int, least=1), config.Word(int, least=0)
PositiveFloat = config.Word(float, above=0, below=math.inf)

_AS_WORDS = "as words"
set_loader(
    _AS_WORDS, lambda text: text
)  # the parser reads no YAML: what a word means is decided in one place


class Command(NamedTuple):
    """A command: its line in the list of all, what its own help begins with, its options, what it does."""

    summary: str
    description: str
    add_options: Callable[[ArgumentParser], None]
    run: Callable[[Namespace], None]


class CommandParser(ArgumentParser):
    """A parser that can be asked what it takes.

    Attributes:
        commands: the parsers of its commands by name, of the parser of all.
    """

    commands: dict[str, CommandParser]

    @property
    def taken(self) -> dict[str, Action]:
        """Options and positional arguments by name, dotted and without dashes."""
        return {action.dest: action for action in self._actions if action.help != SUPPRESS}

    @property
    def keys(self) -> set[str]:
        """Those that are keys of the configuration."""
        return _keys(self._actions)

    def fill(self, arguments: Namespace) -> None:
        """Give what the user left out its default; not so the keys of the configuration, which a file may set."""
        for name, action in self.taken.items():
            if name not in self.keys and name not in arguments and action.default != SUPPRESS:
                arguments[name] = action.default


def type_of(action: Action) -> config.Word | None:
    """What reads the argument's value; None where it takes none, or any text."""
    return action.type if isinstance(action.type, config.Word) else None


def _keys(actions: Iterable[Action]) -> set[str]:
    names = {action.dest for action in actions}
    return (
        names & dict(schema.options(config.RunConfig)).keys() if "recipe" in names else set()
    )  # data has a --seed of its own


class _Help(DefaultHelpFormatter):
    """Help in words: no Python types, no defaults that are none, and one word in the usage for all keys of the configuration."""

    def _format_usage(self, usage: str | None, actions: Iterable[Action], *rest: Any) -> str:
        actions = list(actions)
        shown: list[Action] = []
        keys = _keys(actions)
        for action in actions:
            if action.dest not in keys:
                shown.append(action)
            elif action.dest == "recipe":
                shown.append(Action(["--KEY"], "KEY", metavar="VALUE ..."))
        return super()._format_usage(usage, shown, *rest)

    def _get_default_metavar_for_optional(self, action: Action) -> str:
        wanted = type_of(action)
        choices = schema.choices(wanted.hint) if wanted else ()
        return (
            f"{{{','.join(choices)}}}"
            if choices
            else super()._get_default_metavar_for_optional(action)
        )

    def _get_help_string(self, action: Action) -> str:
        wanted = type_of(action) or config.Word(str)
        if action.nargs == 0 or "(default:" in (action.help or ""):
            return action.help or ""
        hint = wanted.hint
        notes = ["required"] if action.required and action.option_strings else []
        if (
            hint not in (str, bool, str | None) and get_origin(hint) is not Literal
        ):  # choices stand beside the name
            notes.append(schema.described(hint, wanted.bounds).removesuffix(" or null"))
        if action.default not in (None, SUPPRESS) or type(None) in get_args(hint):
            notes.append(f"default: {_shown_default(action.default)}")
        return (action.help or "") + (f" ({'; '.join(notes)})" if notes else "")


def _shown_default(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def main_parser() -> CommandParser:
    """The parser of `adding-problem`, with all commands."""
    parser = _parser(
        "The adding problem: how far back in time can a sequence model remember?",
        prog="adding-problem",
    )
    parser.add_argument("--version", action="version", version=f"adding-problem {__version__}")
    commands = parser.add_subcommands(title="commands", metavar="COMMAND", required=False)
    parser.commands = {name: command_parser(name) for name in COMMANDS}
    for name, inner in parser.commands.items():
        commands.add_subcommand(name, inner, help=COMMANDS[name].summary)
        inner.prog = f"{parser.prog} {name}"  # jsonargparse has put [options] between
    return parser


def command_parser(name: str) -> CommandParser:
    """The parser of one command."""
    parser = _parser(COMMANDS[name].description, prog=f"adding-problem {name}")
    COMMANDS[name].add_options(parser)
    return parser


def original_parser() -> CommandParser:
    """The parser of `main.py`."""
    parser = _parser(
        "Train or validate a model on the adding problem. " + _EXIT_CODE, prog="main.py"
    )
    parser.add_argument(
        "--mode", type=config.Word(Literal["train", "validate"]), default="train", help="what to do"
    )
    _add_run_options(parser, f"YAML file (default: {DEFAULT_CONFIG})")
    _add_train_flags(parser)
    return parser


def _parser(description: str, prog: str) -> CommandParser:
    return CommandParser(
        prog=prog,
        description=description,
        exit_on_error=False,
        allow_abbrev=False,
        formatter_class=_Help,
        parser_mode=_AS_WORDS,
    )


# --- what several commands take --------------------------------------------------------------------------------------


def _add_run_options(
    parser: ArgumentParser, file_help: str = "YAML file; the options below are stronger"
) -> None:
    parser.add_argument("--config", type=str, metavar="FILE", help=file_help)
    # jsonargparse rewrites a bare --print_config to --print_config=, so it has to take an (empty) value.
    parser.add_argument(
        "--print_config", nargs="?", type=str, metavar="", help="print the configuration and exit"
    )
    config.add_options(parser)


def _add_train_flags(parser: ArgumentParser) -> None:
    either = parser.add_mutually_exclusive_group()
    either.add_argument(
        "--resume",
        action="store_true",
        help="continue a cut run from its checkpoint, or a finished one that is given more train.epochs "
        "or another larger budget",
    )
    _add_overwrite(either, "run")
    _add_takeover(parser)
    _add_trust(parser)


def _add_overwrite(parser: Any, what: str) -> None:
    parser.add_argument(
        "--overwrite", action="store_true", help=f"delete the {what} that the folder holds"
    )


def _add_takeover(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--takeover",
        action="store_true",
        help="take a run folder from a process that gives no sign of life; be sure that it has ended",
    )


def _add_trust(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--trust",
        action="store_true",
        help="import and run the model that a file or a run folder names, whatever it is",
    )


# --- what each takes -------------------------------------------------------------------------------------------------


def _train(parser: ArgumentParser) -> None:
    _add_run_options(parser)
    _add_train_flags(parser)


def _validate(parser: ArgumentParser) -> None:
    _add_run_options(parser)
    _add_takeover(parser)
    _add_trust(parser)


def _horizon(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--minutes", type=PositiveFloat, default=5.0, help="training time for all lengths together"
    )
    parser.add_argument(
        "--lengths",
        type=Length,
        nargs="+",
        help="lengths to try (default: 100, 300, 1000, ... 1000000)",
    )
    _add_overwrite(parser, "climb")
    _add_takeover(parser)
    _add_trust(parser)
    _add_run_options(parser)


def _certify(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--t", type=Length, help="tested length T (default: that of --config, else 1000)"
    )
    parser.add_argument(
        "--budget",
        type=PositiveInt,
        default=certifying.BUDGET,
        help="sequence-steps that each training may take",
    )
    parser.add_argument(
        "--out", type=str, default=certifying.OUT, help="folder for the certificate and its runs"
    )
    _add_overwrite(parser, "certificate")
    _add_takeover(parser)
    _add_trust(parser)
    _add_run_options(parser)


def _sweep(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--out",
        type=str,
        help="the sweep's folder, a run folder in it for each run (default: the file's artifacts)",
    )
    parser.add_argument(
        "--engine",
        type=config.Word(Literal["local", "ray"]),
        default="local",
        help="processes on this machine, or tasks of a Ray cluster",
    )
    parser.add_argument(
        "--workers",
        type=PositiveInt,
        help="runs at a time (default: local: cores / threads; ray: all that fit)",
    )
    parser.add_argument(
        "--address",
        type=str,
        help="with ray: a running cluster, such as auto (default: one is started here)",
    )
    parser.add_argument(
        "--gpus",
        type=config.Word(float),
        help="with ray: GPUs of each run (default: 1 where device is cuda, else 0)",
    )
    parser.add_argument(
        "--storage",
        type=str,
        help="with ray: path or fsspec URL that all nodes reach, for the runs' files on "
        "their way (default: they come through Ray)",
    )
    parser.add_argument(
        "--retries",
        type=config.Word(int),
        default=3,
        help="how often a run is begun again after its process or node was lost",
    )
    parser.add_argument(
        "--no_score", action="store_true", help="do not score the trained models on new data"
    )
    parser.add_argument(
        "--dry_run", action="store_true", help="print the runs and what they may cost, and exit"
    )
    _add_takeover(parser)
    _add_trust(parser)
    _add_run_options(
        parser, "the sweep file: YAML; the options below are stronger, and the same for all runs"
    )


def _watch(parser: ArgumentParser) -> None:
    parser.add_argument("folder", type=str, help="folder")
    parser.add_argument(
        "--once", action="store_true", help="print the table once, all of it, and exit"
    )


def _lengths(parser: ArgumentParser) -> None:
    parser.add_argument("folders", type=str, nargs="+", help="run folders")
    parser.add_argument(
        "--lengths",
        type=Length,
        nargs="+",
        default=[150, 500, 1000, 2000, 5000, 10000],
        help="lengths to test at",
    )
    parser.add_argument(
        "--sequences", type=PositiveInt, default=1000, help="new sequences for each"
    )
    parser.add_argument(
        "--out", type=str, default="lengths.png", help="picture to write: .png, .pdf or .svg"
    )
    parser.add_argument(
        "--threads", type=PositiveInt, help="CPU threads (default: those of each run)"
    )
    _add_trust(parser)


def _models(parser: ArgumentParser) -> None:
    parser.add_argument("names", type=str, nargs="*", help="models to tell about (default: all)")


def _compare(parser: ArgumentParser) -> None:
    parser.add_argument(
        "folders", type=str, nargs="+", help="run folders, such as artifacts/original/*"
    )
    parser.add_argument(
        "--out", type=str, default="comparison.png", help="picture to write: .png, .pdf or .svg"
    )
    parser.add_argument(
        "--format",
        type=config.Word(Literal["png", "pdf", "svg"]),
        help="of the picture, instead of the suffix of --out",
    )
    parser.add_argument(
        "--original",
        type=str,
        help="JSON of the original system's curves to draw beside them: docs/original_curves.json",
    )


def _report(parser: ArgumentParser) -> None:
    parser.add_argument(
        "folders", type=str, nargs="+", help="run folders, or folders of them such as a sweep's"
    )
    parser.add_argument("--out", type=str, default="report.html", help="page to write")
    parser.add_argument("--title", type=str, default="The adding problem", help="title of the page")
    parser.add_argument(
        "--lengths",
        type=Length,
        nargs="+",
        help="lengths to test the models at (default: those trained, and up to ten times the longest)",
    )
    parser.add_argument(
        "--sequences", type=PositiveInt, default=500, help="new sequences for each model"
    )
    parser.add_argument(
        "--models",
        type=PositiveInt,
        default=8,
        help="most models to score: the best run of each method and length",
    )
    parser.add_argument(
        "--pictures", type=str, help="folder for the same figures as pictures for papers"
    )
    parser.add_argument(
        "--format",
        type=config.Word(Literal["png", "pdf", "svg"]),
        default="png",
        help="of these pictures",
    )
    parser.add_argument("--threads", type=PositiveInt, help="CPU threads (default: one per core)")


def _demo(parser: ArgumentParser) -> None:
    parser.add_argument("--out", type=str, default="demo.html", help="page to write")
    parser.add_argument(
        "--no-open", action="store_true", help="do not open the page in the browser"
    )


def _export(parser: ArgumentParser) -> None:
    parser.add_argument("folder", type=str, help="run folder")
    parser.add_argument(
        "--to",
        type=config.Word(Literal["keras", "savedmodel", "onnx", "torch-export"]),
        required=True,
        help="the format",
    )
    parser.add_argument(
        "--out", type=str, help="file or folder to write (default: in the run folder's model/)"
    )
    _add_takeover(parser)
    _add_trust(parser)


def _import(parser: ArgumentParser) -> None:
    parser.add_argument("path", type=str, help="what to import")
    parser.add_argument("--out", type=str, required=True, help="run folder to make")
    parser.add_argument(
        "--predictions",
        type=str,
        help=".npz of sequences x (n, T, 2) and what the model predicts for them where it comes from, "
        "y (n, 1), both float32; a state_dict needs it",
    )
    parser.add_argument(
        "--trust",
        action="store_true",
        help="let TensorFlow load and run a SavedModel, in a process of its own, and compare its predictions",
    )
    _add_overwrite(parser, "run")
    _add_takeover(parser)
    config.add_options(parser)


def _data(parser: ArgumentParser) -> None:
    parser.add_argument("--n", type=PositiveInt, required=True, help="number of sequences")
    parser.add_argument(
        "--length", type=Length, required=True, help="length T of a sequence, in steps"
    )
    parser.add_argument(
        "--out", type=str, required=True, help="file to write: .npz, or .parquet (extra parquet)"
    )
    parser.add_argument(
        "--seed",
        type=NonNegativeInt,
        default=0,
        help="root seed of the stream; a run trains on that of its own seed",
    )
    parser.add_argument(
        "--start", type=NonNegativeInt, default=0, help="index of the first sequence"
    )
    parser.add_argument(
        "--variant",
        type=config.Word(variants.Variant),
        default="any",
        help="where the two marks may stand",
    )
    parser.add_argument(
        "--target",
        type=config.Word(variants.Target),
        default="sum",
        help="what is asked of the two marked values",
    )
    parser.add_argument(
        "--noise_columns",
        type=NonNegativeInt,
        default=0,
        help="columns of U[0, 1) noise beside value and mark",
    )
    parser.add_argument(
        "--mix",
        type=config.Word(variants.Mix),
        default="none",
        help="what is done to the input columns",
    )
    parser.add_argument(
        "--mix_seed", type=NonNegativeInt, default=0, help="seed of the rotation, with --mix rotate"
    )


COMMANDS = {
    "train": Command(
        "train a model and leave a run folder",
        "Train a model and leave a complete run folder. " + _EXIT_CODE,
        _train,
        runs.train,
    ),
    "validate": Command(
        "score a trained model on new data",
        "Score the model of a run folder on a new data set of another seed. " + _EXIT_CODE,
        _validate,
        runs.validate,
    ),
    "horizon": Command(
        "find the longest T that a model solves",
        "Find the longest T that a model learns to solve within a budget of training time, climbing from length to length. "
        "The same call again continues a climb that was cut. With more --minutes, which count from its start, it goes on: solved lengths are kept, and "
        "the one that was not solved is trained again from its beginning. Set by the climb itself: dataset.t, train.budget_minutes, train.epochs and "
        "the curriculum's start; held-out and new sequences become fewer at long T. Without --recipe and --config the recipe is fast; the defaults "
        "below are those of the recipe original.",
        _horizon,
        runs.horizon,
    ),
    "certify": Command(
        "say what a model was given, and what it learned",
        "Certify a model's memory: fit a readout on the untrained model, train the readout alone, change the inputs, ask for an order, and train. "
        "Says of each question whether the answer was given (oracle, reservoir), pooled or learned. Takes minutes; the same call again continues "
        "one that was cut. Without --recipe and --config the recipe is fast; the defaults below are those of the recipe original.",
        _certify,
        certifying.certify,
    ),
    "sweep": Command(
        "many runs: a grid, on this machine or on a Ray cluster",
        "Many runs: every combination of the lists in a sweep file's section grid:, and the lines of its section runs:, "
        "whatever the keys, seeds included. A second call skips finished runs, resumes cut ones and tries failed ones again. "
        "docs/sweeps.md shows the file, docs/cluster.md Ray.",
        _sweep,
        runs.sweep,
    ),
    "watch": Command(
        "follow runs from another terminal",
        "Show the runs of a folder while they go on: a sweep's, a folder of run folders, or one run.",
        _watch,
        runs.watch,
    ),
    "lengths": Command(
        "score trained models at other lengths than their own",
        "Score trained models at other lengths than their own: a table and a heatmap.",
        _lengths,
        tables.lengths,
    ),
    "models": Command(
        "list the models of the zoo",
        "List the models of the zoo: paper, parameters, cost, defaults and where these come from. Your own is named --model package.module.Class or --model path/to/file.py:Class.",
        _models,
        tables.models,
    ),
    "compare": Command(
        "draw several runs in one picture",
        "Draw the best validation loss against T, and the curves, of several run folders.",
        _compare,
        tables.compare,
    ),
    "report": Command(
        "write a page about runs, with a model to play with",
        "Write one HTML page about runs: curves, lengths, errors, memory, and a model to play with. It needs no network.",
        _report,
        tables.report,
    ),
    "demo": Command(
        "write a page in which two LSTMs learn, and open it",
        "Write one HTML page in which two LSTMs learn side by side, and open it in the browser. It needs no network.",
        _demo,
        demo.demo,
    ),
    "export": Command(
        "write a trained model for Keras, TensorFlow, ONNX or torch.export",
        "Write the trained model of a run folder for another runtime, load it back there and compare 1,000 predictions.",
        _export,
        exchange.export,
    ),
    "import": Command(
        "make a run folder of a model trained elsewhere",
        "Make a run folder of a model trained elsewhere: the original's artifact folder or SavedModel, a .keras or .h5 file, or a "
        "PyTorch state_dict in .safetensors. It must be an LSTM and a linear unit, and is refused where nothing shows that. The options below override the configuration beside it.",
        _import,
        exchange.import_,
    ),
    "data": Command(
        "write sequences to a file for another framework",
        "Write sequences to a file for another framework: those of a seed, on which training by the recipe original with that seed goes.",
        _data,
        exchange.data,
    ),
}
"""In the order in which `--help` lists them."""
