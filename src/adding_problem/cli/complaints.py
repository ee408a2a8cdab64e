"""What the parser complains of, in our words: place, expected, found, hint."""

from __future__ import annotations

import re
import shlex
from argparse import ArgumentError
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from adding_problem import config
from adding_problem.cli import options
from adding_problem.config import schema
from adding_problem.errors import ConfigError, closest
from adding_problem.runs import atomic_io

__all__ = ["explained"]


def explained(
    error: ArgumentError, parser: options.CommandParser, given: Sequence[str]
) -> ConfigError:
    """Turn a parser's complaint about the command line into one that names option, expectation, finding and hint."""
    command = _command_of(parser, given)
    for pattern, explain in _COMPLAINTS.items():
        if found := re.match(pattern, str(error)):
            return explain(found, command, given)
    first_line = str(error).strip().splitlines()[0]
    return ConfigError(
        "",
        "valid arguments",
        f"these: {first_line}",
        f"see {command.prog} --help",
        config.COMMAND_LINE,
    )


def _command_of(parser: options.CommandParser, given: Sequence[str]) -> options.CommandParser:
    """The parser of the command that was given, or of all where none was."""
    name = next(iter(given), "")
    return (
        options.command_parser(name)
        if "subcommand" in parser.taken and name in options.COMMANDS
        else parser
    )


def _wrong_value(
    found: re.Match[str], command: options.CommandParser, given: Sequence[str]
) -> ConfigError:
    name, value = found.groups()
    key = name.removeprefix("--")
    if key in command.keys:
        return schema.type_error(config.RunConfig, key, value, config.COMMAND_LINE)
    return ConfigError(
        name,
        _expected(key, command),
        value,
        f"change {name}: {_about(key, command)}",
        config.COMMAND_LINE,
    )


def _expected(key: str, command: options.CommandParser) -> str:
    wanted = options.type_of(command.taken[key]) if key in command.taken else None
    return schema.described(wanted.hint, wanted.bounds) if wanted else "a value"


def _about(key: str, command: options.CommandParser) -> str:
    """What the help says of an argument."""
    return command.taken[key].help or "" if key in command.taken else "an argument of the model"


def _no_value(
    found: re.Match[str], command: options.CommandParser, given: Sequence[str]
) -> ConfigError:
    key = found[1].lstrip("-")
    if key in command.keys:
        return schema.type_error(config.RunConfig, key, "nothing", config.COMMAND_LINE)
    name = next(
        (word for word in reversed(given) if config.spelled_out(word).startswith(f"--{key}.")),
        f"--{key}",
    )
    hint = f"give {name} a value: {_about(key, command)}"
    return ConfigError(name, _expected(key, command), "nothing", hint, config.COMMAND_LINE)


def _a_value(found: re.Match[str], command: options.CommandParser, _: Sequence[str]) -> ConfigError:
    name, value = found.groups()
    return ConfigError(
        name, "no value", value, f"give {name} alone, or leave it out", config.COMMAND_LINE
    )


def _missing(found: re.Match[str], command: options.CommandParser, _: Sequence[str]) -> ConfigError:
    keys = [name.partition(".")[2] for name in found[1].split(", ")]
    names = {key: f"--{key}" if command.taken[key].option_strings else key for key in keys}
    expected = _expected(keys[0], command) if len(keys) == 1 else "a value for each"
    hint = "; ".join(f"give {name}: {_about(key, command)}" for key, name in names.items())
    return ConfigError(", ".join(names.values()), expected, "nothing", hint, config.COMMAND_LINE)


def _both(found: re.Match[str], command: options.CommandParser, _: Sequence[str]) -> ConfigError:
    one, other = found.groups()
    about = [f"{name} ({_about(name.lstrip('-'), command)})" for name in (other, one)]
    return ConfigError(
        one,
        f"no {other} beside it",
        "both",
        f"give one of them: {' or '.join(about)}",
        config.COMMAND_LINE,
    )


def _no_command(
    found: re.Match[str], command: options.CommandParser, _: Sequence[str]
) -> ConfigError:
    name, known = found[1], list(options.COMMANDS)
    near = closest(name, known)
    hint = f"did you mean {near}?" if near else f"give one of {', '.join(known)}."
    return ConfigError(
        "", "a command", repr(name), f"{hint} See {command.prog} --help", config.COMMAND_LINE
    )


def _unknown(
    found: re.Match[str], command: options.CommandParser, given: Sequence[str]
) -> ConfigError:
    left = [word for word in given if f" {config.spelled_out(word)} " in f" {found[1]} "] or [
        found[1]
    ]
    word = next((word for word in left if word.startswith("-")), None)
    if word is None:
        return ConfigError(
            "",
            "nothing but options here",
            f"{left[0]!r}, which is none",
            f"{_instead_of(left[0], command)}. See {command.prog} --help",
            config.COMMAND_LINE,
        )
    name, known = (
        word.partition("=")[0],
        [f"--{key}" for key, action in command.taken.items() if action.option_strings],
    )
    if near := closest(name, known):
        hint = (
            f"did you mean {near} ({_about(near.lstrip('-'), command)})? See {command.prog} --help"
        )
    else:
        hint = (
            f"known are: {', '.join(known)}"
            if len(known) <= 20
            else f"see {command.prog} --help for all that there are"
        )
    return ConfigError("", f"an option of {command.prog}", repr(name), hint, config.COMMAND_LINE)


def _instead_of(word: str, command: options.CommandParser) -> str:
    """What somebody may have meant by a word that belongs to no option."""
    with suppress(OSError, ValueError):  # no name that a file could have
        if "artifacts" in command.taken and Path(word).is_dir():
            return f"name a run folder by --artifacts {shlex.quote(word)}"
    if (
        "config" in command.taken
        and word.endswith((".yaml", ".yml"))
        and atomic_io.is_regular(Path(word))
    ):
        return f"name a file by --config {shlex.quote(word)}"
    return "leave it out, or give the option that it belongs to"


_COMPLAINTS: dict[
    str, Callable[[re.Match[str], options.CommandParser, Sequence[str]], ConfigError]
] = {
    r"(?s)argument (\S+): found (.+)": _wrong_value,
    r"the following arguments are required: (.+)": _missing,
    r"(?s)unrecognized arguments: (.+)": _unknown,
    r"argument COMMAND: invalid choice: '(.*?)'": _no_command,
    r"argument (\S+): not allowed with argument (\S+)": _both,
    r"argument (\S+): ignored explicit argument (.+)": _a_value,
    r"argument (\S+): expected": _no_value,
}
"""How the parser's complaints begin."""
