"""The commands: parse, call one function, print. All work is done elsewhere, and loaded only when it is needed.

options        what each command takes, and the table of all
complaints     what the parser complains of, in our words
runs           train, validate, horizon, sweep, watch
certifying     certify
tables         lengths, models, compare, report
demo           demo
exchange       export, import, data
"""

from __future__ import annotations

import logging
import shlex
import signal
import sys
import traceback
from argparse import ArgumentError
from collections.abc import Callable, Sequence
from typing import Any

from jsonargparse import Namespace

from adding_problem import config
from adding_problem.cli import complaints, options, runs
from adding_problem.errors import AddingProblemError, Interrupted, on_one_line
from adding_problem.system import output, signals
from adding_problem.system.output import say

__all__ = ["main", "original_main"]


def main(argv: Sequence[str] | None = None) -> int:
    """The command `adding-problem`; returns the exit code."""
    parser = options.main_parser()

    def run_command(arguments: Namespace) -> None:
        if name := arguments.get("subcommand"):
            parser.commands[name].fill(arguments[name])
            options.COMMANDS[name].run(arguments[name])
        else:
            parser.print_help()

    return _guarded(parser, argv, run_command)


def original_main(argv: Sequence[str] | None = None) -> int:
    """The original's command, `main.py --mode train|validate --config FILE`; returns the exit code."""

    parser = options.original_parser()

    def run_mode(arguments: Namespace) -> None:
        parser.fill(arguments)
        arguments.config = arguments.config or options.DEFAULT_CONFIG
        (runs.validate if arguments.mode == "validate" else runs.train)(arguments)

    return _guarded(parser, argv, run_mode)


def _guarded(
    parser: options.CommandParser,
    argv: Sequence[str] | None,
    command: Callable[[Namespace], None],
) -> int:
    """Parse and run, with all that is printed guarded."""
    given = list(sys.argv[1:] if argv is None else argv)
    with output.guarded() as guard:
        return guard.exit_code(_exit_code(parser, given, command))


def _exit_code(
    parser: options.CommandParser, given: list[str], command: Callable[[Namespace], None]
) -> int:
    """An error that the user can mend becomes a message and an exit code, never a traceback."""
    try:
        try:
            # Without defaults, so that what the user gave can be told from what nobody gave.
            arguments = parser.parse_args(
                [config.spelled_out(word) for word in given], defaults=False
            )
        except ArgumentError as error:
            raise complaints.explained(error, parser, given) from None
        _make_plain(arguments)
        _show_notes()
        with signals.at_once():
            command(arguments)
    except AddingProblemError as error:
        say(*f"error: {error}".split("\n"), error=True)
        return error.exit_code
    except KeyboardInterrupt as stop:
        stop = stop if isinstance(stop, Interrupted) else Interrupted(signal.SIGINT)
        say(str(stop), f"  {_continuing(parser, given)}", error=True)
        return stop.exit_code
    except SystemExit as end:  # of --help and --version
        if not isinstance(end.code, int | None):
            raise
        return end.code or 0
    except Exception:  # a fault of ours or of a user's model: what it says is cleaned as all is
        traceback.print_exc()
        return 1
    return 0


def _make_plain(arguments: Namespace) -> None:
    """Turn the parser's bounded numbers, which are of its own classes and unknown to YAML, into Python's."""
    for key, value in list(arguments.items()):
        arguments[key] = (
            [_plain(item) for item in value] if isinstance(value, list) else _plain(value)
        )


def _plain(value: Any) -> Any:
    kind = next((kind for kind in (bool, int, float) if isinstance(value, kind)), None)
    return kind(value) if kind else value


def _continuing(parser: options.CommandParser, given: Sequence[str]) -> str:
    """The command that goes on where this one was stopped, or does it anew where nothing was kept."""
    original = parser.prog.endswith(".py")
    program = ["python", parser.prog] if original else [parser.prog]
    name = (
        ("validate" if {"validate", "--mode=validate"} & set(given) else "train")
        if original
        else next(iter(given), "")
    )
    if name not in ("train", "horizon", "certify", "sweep"):
        return f"to start again: {shlex.join([*program, *given])}"
    words = [word for word in given if word not in ("--overwrite", "--resume", "--takeover")]
    return (
        f"to continue: {shlex.join([*program, *words, *(['--resume'] if name == 'train' else [])])}"
    )


def _show_notes() -> None:
    """What the package notes on the way is printed among the command's own lines."""
    logger = logging.getLogger("adding_problem")
    logger.handlers[:] = [_Notes()]
    logger.setLevel(logging.INFO)


class _Notes(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say(f"note: {on_one_line(record.getMessage())}")
