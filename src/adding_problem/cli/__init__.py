"""The commands: parse, call one function, print. All work is done elsewhere.

Every command is a module of its own with DESCRIPTION, EXAMPLES, `add_arguments` and `run`, which is
loaded when the command is called and loads torch only when it must.
"""

from __future__ import annotations

import importlib
import logging
import shlex
import signal
import sys
import traceback
from argparse import Namespace
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from adding_problem import __version__
from adding_problem.errors import AddingProblemError, ConfigError, Interrupted, closest, on_one_line
from adding_problem.system import output, signals
from adding_problem.system.output import say

if TYPE_CHECKING:
    from adding_problem.cli.parsing import CommandParser

__all__ = ["COMMANDS", "main", "original_main", "parser_of"]

COMMANDS = {
    "train": "train a model and leave a run folder",
    "validate": "score trained models on a test set, or at other lengths",
    "horizon": "find the longest T that a model solves",
    "certify": "say what a model was given, and what it learned",
    "bench": "compare a model with known ones, under the same conditions",
    "diagnose": "say why a trained model breaks beyond its length, and where",
    "sweep": "many runs: a grid, on this machine or on a Ray cluster",
    "models": "list the models of the zoo",
    "compare": "draw several runs in one picture",
    "report": "write a page about runs, with a model to play with",
    "demo": "write a page in which two LSTMs learn, and open it",
    "export": "write a trained model for Keras, TensorFlow, ONNX or torch.export",
    "import": "make a run folder of a model trained elsewhere",
    "data": "write sequences to a file for another framework",
}
"""Every command with its line in `--help`, in the order of the list."""

_PROGRAM = "adding-problem"
_ORIGINAL = "main.py"
_ORIGINAL_CONFIG = "configs/config.yaml"


def main(argv: Sequence[str] | None = None) -> int:
    """The command `adding-problem`; returns the exit code."""
    return _guarded(_PROGRAM, _run_command, argv)


def original_main(argv: Sequence[str] | None = None) -> int:
    """The original's command, `main.py --mode train|validate --config FILE`."""
    return _guarded(_ORIGINAL, _run_mode, argv)


def parser_of(name: str, *, every: bool = False) -> CommandParser:
    """The parser of a command; with `every` its help lists every key of the configuration."""
    from adding_problem.cli.parsing import CommandParser

    module = _module(name)
    parser = CommandParser(f"{_PROGRAM} {name}", module.DESCRIPTION, module.EXAMPLES, every=every)
    module.add_arguments(parser)
    return parser


def _module(name: str) -> Any:
    """The module of a command; `import` is a word of Python's."""
    return importlib.import_module(f"{__name__}.{'import_' if name == 'import' else name}")


def _run_command(words: list[str]) -> None:
    name = words[0] if words else "--help"
    if name in ("-h", "--help"):
        say(*_overview())
    elif name == "--version":
        say(f"{_PROGRAM} {__version__}")
    elif name in COMMANDS:
        _run(lambda every: parser_of(name, every=every), _module(name).run, words[1:])
    else:
        near = closest(name, list(COMMANDS))
        hint = f"did you mean {near}?" if near else f"give one of {', '.join(COMMANDS)}."
        hint += f" See {_PROGRAM} --help"
        raise ConfigError("", "a command", repr(name), hint, "command line")


def _overview() -> list[str]:
    return [
        f"usage: {_PROGRAM} COMMAND [options]",
        "",
        "The adding problem: how far back in time can a sequence model remember?",
        "",
        "commands:",
        *(f"  {name:<10}{summary}" for name, summary in COMMANDS.items()),
        "",
        f"{_PROGRAM} COMMAND --help says what a command takes.",
    ]


def _run_mode(words: list[str]) -> None:
    train, validate = _module("train"), _module("validate")

    def run(arguments: Namespace) -> None:
        arguments.config = arguments.config or _ORIGINAL_CONFIG
        (validate.score if arguments.mode == "validate" else train.run)(arguments)

    _run(_original_parser, run, words)


def _original_parser(every: bool) -> CommandParser:
    from adding_problem.cli.parsing import CommandParser

    train = _module("train")
    about = f"Train or validate a model on the adding problem. {train.EXIT_CODE}"
    parser = CommandParser(_ORIGINAL, about, every=every)
    mode = Literal["train", "validate"]
    parser.option("--mode", "what to do", mode, default="train")
    train.add_arguments(parser, file=f"YAML file (default: {_ORIGINAL_CONFIG})")
    return parser


def _run(
    parser: Callable[[bool], CommandParser], run: Callable[[Namespace], None], words: list[str]
) -> None:
    if "--help-all" in words:
        parser(True).print_help()
        return
    arguments = parser(False).read(words)
    _show_notes()
    with signals.at_once():
        run(arguments)


# --- how a command ends --------------------------------------------------------------------------


def _guarded(program: str, command: Callable[[list[str]], None], argv: Sequence[str] | None) -> int:
    """Run a command, with all that is printed guarded."""
    words = list(sys.argv[1:] if argv is None else argv)
    with output.guarded() as guard:
        return guard.exit_code(_exit_code(program, command, words))


def _exit_code(program: str, command: Callable[[list[str]], None], words: list[str]) -> int:
    """An error that the user can mend becomes a message and an exit code, never a traceback."""
    try:
        command(words)
    except AddingProblemError as error:
        say(*f"error: {error}".split("\n"), error=True)
        return error.exit_code
    except KeyboardInterrupt as stop:
        stop = stop if isinstance(stop, Interrupted) else Interrupted(signal.SIGINT)
        say(str(stop), f"  {_continuing(program, words)}", error=True)
        return stop.exit_code
    except SystemExit as end:  # of --help
        if not isinstance(end.code, int | None):
            raise
        return end.code or 0
    except Exception:  # a fault of ours or of a user's model: what it says is cleaned as all is
        traceback.print_exc()
        return 1
    return 0


def _continuing(program: str, given: Sequence[str]) -> str:
    """The command that goes on where this one was stopped, or starts again if nothing was kept."""
    name = next(iter(given), "")
    typed = [program]
    if program == _ORIGINAL:
        name = "validate" if {"validate", "--mode=validate"} & set(given) else "train"
        typed = ["python", program]
    if name not in ("train", "horizon", "certify", "bench", "sweep"):
        return f"to start again: {shlex.join([*typed, *given])}"
    words = [word for word in given if word not in ("--overwrite", "--resume")]
    resume = ["--resume"] if name == "train" else []
    return f"to continue: {shlex.join([*typed, *words, *resume])}"


class _Notes(logging.Handler):
    """Prints what the package notes on the way among the command's own lines."""

    def emit(self, record: logging.LogRecord) -> None:
        say(f"note: {on_one_line(record.getMessage())}")


def _show_notes() -> None:
    logger = logging.getLogger("adding_problem")
    logger.handlers[:] = [_Notes()]
    logger.setLevel(logging.INFO)
