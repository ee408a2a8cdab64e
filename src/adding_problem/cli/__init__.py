"""The commands: parse, call one function, print. All work is done elsewhere, and loaded only when it is needed.

    options        what each command takes, and the table of all
    runs           train, validate, horizon, sweep, watch
    tables         lengths, models, compare, report
    exchange       export, import, data
"""

from __future__ import annotations

import logging
import shlex
import signal
import sys
from argparse import ArgumentError
from collections.abc import Callable, Sequence

from jsonargparse import ArgumentParser, Namespace

from adding_problem import config, interruption, schema
from adding_problem.cli import options, runs
from adding_problem.errors import AddingProblemError, ConfigError, Interrupted, nearest

__all__ = ["main", "original_main"]


def main(argv: Sequence[str] | None = None) -> int:
    """The command `adding-problem`; returns the exit code."""
    parser = options.main_parser()

    def run_command(arguments: Namespace) -> None:
        if name := arguments.get("subcommand"):
            options.COMMANDS[name].run(arguments[name])
        else:
            parser.print_help()

    return _guarded(parser, argv, run_command)


def original_main(argv: Sequence[str] | None = None) -> int:
    """The original's command, `main.py --mode train|validate --config FILE`; returns the exit code."""

    def run_mode(arguments: Namespace) -> None:
        arguments.config = arguments.get("config") or options.DEFAULT_CONFIG
        (runs.validate if arguments.get("mode") == "validate" else runs.train)(arguments)

    return _guarded(options.original_parser(), argv, run_mode)


def _guarded(
    parser: ArgumentParser,
    argv: Sequence[str] | None,
    command: Callable[[Namespace], None],
) -> int:
    """Parse and run; an error that the user can mend becomes a message and an exit code, never a traceback."""
    argv = [config.spelled_out(word) for word in (sys.argv[1:] if argv is None else argv)]
    try:
        try:
            # Without defaults, so that what the user gave can be told from what nobody gave.
            arguments = parser.parse_args(argv, defaults=False)
        except ArgumentError as error:
            raise _explained(error, argv) from None
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


def _explained(error: ArgumentError, argv: Sequence[str]) -> ConfigError:
    """Turn a parser's complaint about the command line into one that names key, expectation, finding and remedy."""
    message = str(error)
    for key, _ in schema.options(config.RunConfig):
        if f'Parser key "{key}"' in message:
            return schema.type_error(config.RunConfig, key, _argument_value(key, argv), config.COMMAND_LINE)
    if "unrecognized arguments" in message:
        unknown = next((word for word in message.split() if word.startswith("--")), message.rsplit(maxsplit=1)[-1])
        name = unknown.lstrip("-").partition("=")[0]
        keys = [key for key, _ in schema.options(config.RunConfig)]
        return ConfigError(name, "a known option", repr(unknown), nearest(name, keys) + " See --help", config.COMMAND_LINE)
    first_line = message.strip().splitlines()[0]
    return ConfigError("", "valid arguments", f"these: {first_line}", "see --help", config.COMMAND_LINE)


def _argument_value(key: str, argv: Sequence[str]) -> str:
    for position, word in enumerate(argv):
        if word == f"--{key}":
            return argv[position + 1] if position + 1 < len(argv) else "nothing"
        if word.startswith(f"--{key}="):
            return word.partition("=")[2]
    return "another type"


def _printable(text: str) -> str:
    """Without the control characters that a stranger's file may have brought into a message."""
    return "".join(letter if letter.isprintable() or letter == "\n" else "\N{REPLACEMENT CHARACTER}" for letter in text)


def _continuing(parser: ArgumentParser, argv: Sequence[str]) -> str:
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
