"""The parser of a command: argparse, whose complaints become `ConfigError`.

An option's value stays text for argparse and is read by its own type, so argparse itself has little
to refuse. What a word means is what it would mean in a file.
"""

from __future__ import annotations

import argparse
import shlex
import textwrap
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from adding_problem.config import COMMAND_LINE, KEYS, recipes, values
from adding_problem.config.run_config import SECTIONS
from adding_problem.errors import ConfigError, closest

__all__ = ["CommandParser"]

_MOST_LISTED = 20  # options in a hint
_HELP_COLUMN = 27
_METAVARS = {"a whole number": "N", "a number": "X"}


class CommandParser(argparse.ArgumentParser):
    """The options of one command.

    Args:
        prog: the command as it is typed.
        description: what it does.
        examples: lines that show it.
        every: whether the help lists every key of the configuration.

    Attributes:
        about: the help text of every option and positional argument, by its name as it is typed.
        kinds: the type of every one that takes a value.
    """

    def __init__(
        self, prog: str, description: str, examples: Sequence[str] = (), *, every: bool = False
    ) -> None:
        shown = "\n".join(["examples:", *(f"  {example}" for example in examples)])
        super().__init__(
            prog=prog,
            description=textwrap.fill(description, 78),
            epilog=shown if examples else None,
            add_help=False,
            allow_abbrev=False,
            exit_on_error=False,
            formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(
                prog, 2, _HELP_COLUMN
            ),
        )
        self.usage = f"{prog} [options]"
        self.about: dict[str, str] = {}
        self.kinds: dict[str, Any] = {}
        self._every = every
        self._takes_keys = False
        self._positional: tuple[str, bool] | None = None
        self._required: list[str] = []
        self._exclusive: list[tuple[str, str]] = []
        self.about["--help"] = "show this and exit"
        self.add_argument("-h", "--help", action="help", help=self.about["--help"])

    # --- what a command takes ---

    def positional(
        self, name: str, help: str, *, many: bool = False, required: bool = True
    ) -> None:
        """Take words that belong to no option, as a list where they may be several."""
        self._positional = name, many
        if required:
            self._required.append(name)
        self.about[name], self.kinds[name] = help, None
        metavar = name.removesuffix("s").upper()
        dots, brackets = ("..." if many else ""), ("" if required else "[]")
        self.usage = f"{self.prog} {brackets[:1]}{metavar}{dots}{brackets[1:]} [options]"
        self.add_argument(name, nargs="*", help=_escaped(help), metavar=f"{metavar}{dots}")

    def option(
        self,
        name: str,
        help: str,
        kind: Any = values.Text,
        *,
        default: Any = None,
        many: bool = False,
        required: bool = False,
    ) -> None:
        """Take an option with a value of a type, or with several."""
        self.about[name], self.kinds[name] = help, kind
        if required:
            self._required.append(name)
        note = "(required)" if required else _default(default)
        self.add_argument(
            name,
            action=_Read,
            nargs="+" if many else None,
            default=default,
            metavar=_metavar(name, kind),
            help=_escaped(f"{help} {note}".strip()),
        )

    def flag(self, name: str, help: str, *, without: str | None = None) -> None:
        """Take an option without a value, and not beside another one."""
        self.about[name] = help
        self.add_argument(name, action="store_true", help=_escaped(help))
        if without:
            self._exclusive.append((name, without))

    def keys(
        self,
        shown: Sequence[str] = (),
        *,
        recipe: str = "original",
        file: str | None = "YAML file; the options are stronger",
    ) -> None:
        """Take every key of the configuration, and a file of them.

        Args:
            shown: those that the help lists.
            recipe: whose values are the defaults in the help.
            file: the help text of --config; None where the command takes no file.
        """
        self._takes_keys = True
        if file is not None:
            self.option("--config", file)
            self.flag("--print_config", "print the configuration and exit")
        self.add_argument("--help-all", action="help", help="show every key of the configuration")
        usual = recipes.defaults_of(recipe)
        groups = {
            "": self.add_argument_group(f"configuration, with the defaults of recipe {recipe}")
        }
        for key in KEYS.values():
            section = key.name.rpartition(".")[0]
            if self._every and section not in groups:
                about = SECTIONS[section].__doc__.partition("\n\n")[0]
                groups[section] = self.add_argument_group(section, about)
            group = groups.get(section, groups[""])
            text = self._text(key, usual[key.name]) if self._every or key.name in shown else None
            if key.name == "model.name":
                self._override("--model", key.name, text, group)
                text = None
            self._override(f"--{key.name}", key.name, text, group)

    def _text(self, key: values.Key, default: Any) -> str:
        """The help of a key: all of it with --help-all, else its first clause."""
        if self._every:
            default = "null" if default is None else default
            return f"{key.help}; {values.described(key.kind)} {_default(default)}"
        first, _, rest = key.help.partition(";")
        if default is None and rest.startswith(" null: "):
            default = rest.removeprefix(" null: ")
        return f"{first} {_default(default)}"

    def _override(self, name: str, dest: str, help: str | None, group: Any) -> None:
        """Take an option for a key of the configuration, or for an argument of a model."""
        key = KEYS.get(dest)
        self.about[name] = key.help if key else "an argument of the model"
        self.kinds[name] = key.kind if key else None
        group.add_argument(
            name,
            action=_Override,
            dest=dest,
            metavar=_metavar(name, self.kinds[name]),
            default=argparse.SUPPRESS,
            help=_escaped(help) if help else argparse.SUPPRESS,
        )

    # --- what it was given ---

    def read(self, words: Sequence[str]) -> argparse.Namespace:
        """What the words say: an attribute for each option, and `overrides`: text by dotted key.

        Raises:
            ConfigError: naming the option, what was expected, what was found and the hint.
            SystemExit: once the help was asked for and printed.
        """
        self._take_arguments_of_the_model(words)
        try:
            found, rest = self.parse_known_args(words, argparse.Namespace(overrides={}))
        except argparse.ArgumentError as error:
            raise self._refused(error, words) from None
        rest = self._place(found, rest)
        if rest:
            raise self._unknown(rest)
        for one, other in self._exclusive:
            if getattr(found, _dest(one)) and getattr(found, _dest(other)):
                raise self._both(one, other)
        for name in self._required:
            if not getattr(found, _dest(name)):
                raise self._nothing(name)
        return found

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print."""
        raise ConfigError(
            "", "valid arguments", f"these: {message}", f"see {self.prog} --help", COMMAND_LINE
        )

    def _take_arguments_of_the_model(self, words: Iterable[str]) -> None:
        """--model.KEY, whatever the KEY: what a custom model takes is not known here."""
        names = dict.fromkeys(word.partition("=")[0] for word in words)
        for name in names:
            if self._takes_keys and name.startswith("--model.") and name not in self.about:
                self._override(name, name.removeprefix("--"), None, self)

    def _place(self, found: argparse.Namespace, rest: list[str]) -> list[str]:
        """Give the positional argument the words that stand behind options; return what is left."""
        if self._positional is None:
            return rest
        name, many = self._positional
        given = getattr(found, name)
        if not any(word.startswith("-") for word in rest):
            given, rest = [*given, *rest], []
        if many:
            setattr(found, name, given)
            return rest
        setattr(found, name, given[0] if given else None)
        return [*given[1:], *rest]

    # --- what is wrong with it ---

    def _refused(self, error: argparse.ArgumentError, words: Sequence[str]) -> ConfigError:
        """What argparse refuses: an option without its value, or a flag with one."""
        names = (error.argument_name or "").split("/")
        name = names[-1]
        if name in self.kinds:
            return self._nothing(name)
        given = [word.partition("=") for word in words]
        value = next((value for flag, _, value in given if flag in names and value), "one")
        hint = f"give {name} alone, or leave it out"
        return ConfigError(name, "no value", repr(value), hint, COMMAND_LINE)

    def _nothing(self, name: str) -> ConfigError:
        kind, about = self.kinds[name], self.about[name]
        key = KEYS.get(name.removeprefix("--")) if self._takes_keys else None
        if key:
            return values.wrong_value(key, "nothing", COMMAND_LINE)
        expected = "a value" if kind in (None, values.Text) else values.described(kind)
        return ConfigError(name, expected, "nothing", f"give {name} a value: {about}", COMMAND_LINE)

    def _both(self, one: str, other: str) -> ConfigError:
        about = " or ".join(f"{name} ({self.about[name]})" for name in (other, one))
        hint = f"give one of them: {about}"
        return ConfigError(one, f"no {other} beside it", "both", hint, COMMAND_LINE)

    def _unknown(self, rest: Sequence[str]) -> ConfigError:
        word = next((word for word in rest if word.startswith("-")), None)
        if word is None:
            found, expected = f"{rest[0]!r}, which is none", "nothing but options here"
            hint = f"{self._instead_of(rest[0])}. See {self.prog} --help"
            return ConfigError("", expected, found, hint, COMMAND_LINE)
        name = word.partition("=")[0]
        known = [name for name in self.about if name.startswith("--")]
        near = closest(name, known)
        if near:
            hint = f"did you mean {near} ({self.about[near]})? See {self.prog} --help"
        elif len(known) <= _MOST_LISTED:
            hint = f"known are: {', '.join(known)}"
        else:
            hint = f"see {self.prog} --help-all for all that there are"
        return ConfigError("", f"an option of {self.prog}", repr(name), hint, COMMAND_LINE)

    def _instead_of(self, word: str) -> str:
        """What somebody may have meant by a word that belongs to no option."""
        with suppress(OSError, ValueError):  # no name that a file could have
            if self._takes_keys and Path(word).is_dir():
                return f"name a run folder by --artifacts {shlex.quote(word)}"
            is_yaml = word.endswith((".yaml", ".yml")) and Path(word).is_file()
            if "--config" in self.about and is_yaml:
                return f"name a file by --config {shlex.quote(word)}"
        return "leave it out, or give the option that it belongs to"


class _Read(argparse.Action):
    """Reads an option's words by its type."""

    def __call__(
        self, parser: Any, namespace: argparse.Namespace, words: Any, name: str | None = None
    ) -> None:
        many = isinstance(words, list)
        read = [self._value(parser, str(name), word) for word in (words if many else [words])]
        setattr(namespace, self.dest, read if many else read[0])

    def _value(self, parser: CommandParser, name: str, word: str) -> Any:
        kind = parser.kinds[name]
        try:
            return values.read_word(kind, word)
        except ValueError as error:
            expected, found = values.expected(kind, error), values.word_shown(word)
            hint = f"change {name}: {parser.about[name]}"
            raise ConfigError(name, expected, found, hint, COMMAND_LINE) from None


class _Override(argparse.Action):
    """Keeps the word for a key of the configuration, which is read and checked with all others."""

    def __call__(
        self, parser: Any, namespace: argparse.Namespace, words: Any, name: str | None = None
    ) -> None:
        namespace.overrides[self.dest] = words


def _dest(name: str) -> str:
    return name.lstrip("-").replace("-", "_")


def _metavar(name: str, kind: Any) -> str:
    """What stands for the value in the help: the choices, a letter for a number, or the name."""
    if kind is not None and (choices := values.choices(kind)):
        return f"{{{','.join(choices)}}}"
    described = values.described(kind) if kind is not None else ""
    short = next((letter for noun, letter in _METAVARS.items() if described.startswith(noun)), None)
    return short or name.lstrip("-").rpartition(".")[2].upper()


def _default(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return f"(default: {str(value).lower()})"
    listed = isinstance(value, list | tuple)
    return f"(default: {' '.join(map(str, value)) if listed else value})"


def _escaped(text: str) -> str:
    """A help text for argparse, which replaces what follows a percent sign."""
    return text.replace("%", "%%")
