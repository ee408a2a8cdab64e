"""YAML files, trusted or not: read safely, refused with the place of what is wrong.

A text has one meaning, in a file, in a list of a sweep and on the command line: that of YAML 1.2's
core schema, by `scalar`. YAML 1.1, PyYAML's own, reads 010 as 8, 1:40 as 100, and no as false.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml
from yaml.composer import Composer
from yaml.constructor import SafeConstructor
from yaml.parser import Parser
from yaml.reader import Reader
from yaml.resolver import BaseResolver
from yaml.scanner import Scanner

from adding_problem.errors import ConfigError, shown

__all__ = ["NULLS", "AmbiguousWord", "dump", "parse", "read_yaml", "scalar"]

_MAX_BYTES = 1 << 20  # A configuration is a page; a megabyte of YAML is a mistake or an attack.
_TEXT = "tag:yaml.org,2002:str"
NULLS = ("null", "Null", "NULL", "~")
"""Words for None; in a file an empty place too."""

_WORDS = {
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
    **dict.fromkeys(NULLS),
    "": None,
}
# Digits may be grouped, as 100_000: YAML 1.1 and Python read that number.
_DIGITS = "[0-9]+(?:_[0-9]+)*"
_INTEGER = re.compile(rf"[-+]?{_DIGITS}")
_OTHER_BASES = {"0o": (8, re.compile("0o[0-7]+")), "0x": (16, re.compile("0x[0-9a-fA-F]+"))}
_FLOAT = re.compile(rf"[-+]?(?:\.{_DIGITS}|{_DIGITS}(?:\.(?:{_DIGITS})?)?)(?:[eE][-+]?[0-9]+)?")
_NO_NUMBER = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_TRUTH_OF_OLD = re.compile("yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF")


class AmbiguousWord(str):
    """A word without quotes that is a truth value to readers of YAML 1.1: yes, no, on, off."""

    __slots__ = ()


def scalar(text: str) -> Any:
    """What a plain scalar means, one without quotes: a number, a truth value, None, or else text.

    Raises:
        ValueError: when it is a whole number of thousands of digits.

    Examples:
        >>> [scalar(text) for text in ("010", "0x1F", "1_000", "1e3", "true", "~")]
        [10, 31, 1000, 1000.0, True, None]
        >>> [scalar(text) for text in ("1:40", "no", "2026-11-30", "=")]
        ['1:40', 'no', '2026-11-30', '=']
    """
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    base, pattern = _OTHER_BASES.get(text[:2], (10, _INTEGER))
    if pattern.fullmatch(text):
        return int(text, base)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _NO_NUMBER.fullmatch(text):
        return float(text.replace(".", ""))
    return AmbiguousWord(text) if _TRUTH_OF_OLD.fullmatch(text) else text


class _Loader(Reader, Scanner, Parser, Composer, SafeConstructor, BaseResolver):
    """Safe YAML without aliases (which can fill the memory), tags and repeated keys."""

    def __init__(self, stream: str) -> None:
        for part, arguments in (
            (Reader, (stream,)),
            (Scanner, ()),
            (Parser, ()),
            (Composer, ()),
            (SafeConstructor, ()),
            (BaseResolver, ()),
        ):
            part.__init__(self, *arguments)

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.constructor.ConstructorError(
                None,
                None,
                "an alias (*name), which a configuration may not use",
                self.peek_event().start_mark,  # type: ignore[no-untyped-call]
            )
        if getattr(event := self.peek_event(), "tag", None) is not None:  # type: ignore[no-untyped-call]
            raise yaml.constructor.ConstructorError(
                None, None, "a tag (!name), which a configuration may not use", event.start_mark
            )
        return super().compose_node(parent, index)

    def construct_yaml_str(self, node: Any) -> Any:
        try:
            return node.value if node.style else scalar(node.value)
        except ValueError as error:
            raise yaml.constructor.ConstructorError(
                None, None, str(error), node.start_mark
            ) from None

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value
            if not isinstance(key, str) or key in found:
                problem = (
                    f"the key {key!r} a second time"
                    if isinstance(key, str)
                    else "a key that is no word"
                )
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            found[key] = self.construct_object(value_node, deep=deep)
        return found


_Loader.add_constructor(_TEXT, _Loader.construct_yaml_str)  # type: ignore[type-var]


class _Dumper(yaml.SafeDumper):
    """Quotes the text that `scalar`, or a reader of YAML 1.1, would take for something else."""


def _represented(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar(_TEXT, text, style=None if type(_unquoted(text)) is str else "'")


def _unquoted(text: str) -> Any:
    try:
        return scalar(text)
    except ValueError:
        return None


_Dumper.add_representer(str, _represented)


def dump(value: Any, **layout: Any) -> str:
    """YAML that `parse` reads back unchanged; `layout` is what `yaml.dump` takes."""
    text: str = yaml.dump(value, Dumper=_Dumper, **layout)
    return text


def parse(text: str) -> Any:
    """What a text means as JSON or as YAML; JSON may be indented with tabs, which YAML may not.

    Raises:
        yaml.YAMLError, RecursionError, ValueError: when it is neither.
    """
    if not text.lstrip().startswith("{"):
        return _of_yaml(text)
    try:
        return json.loads(text, object_pairs_hook=_without_repetition, parse_constant=_no_json)
    except json.JSONDecodeError as no_json:
        try:
            return _of_yaml(text)
        except yaml.MarkedYAMLError as no_yaml:
            if no_yaml.problem_mark and no_yaml.problem_mark.index >= no_json.pos:
                raise
            raise no_json from None  # whoever wrote it had meant JSON: it goes further as that


def _of_yaml(text: str) -> Any:
    return yaml.load(text, Loader=_Loader)  # type: ignore[arg-type]  # noqa: S506  (of safe parts)


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(
            f"the key {next(name for name in names if names.count(name) > 1)!r} a second time"
        )
    return found


def _no_json(constant: str) -> None:
    raise ValueError(f"{constant}, which is no number of JSON")


def read_yaml(path: Path) -> dict[Any, Any]:
    """A YAML file's top level, read safely; its keys are not checked."""
    source = str(path)
    try:
        with path.open("rb") as stream:
            text = stream.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            "",
            "a readable YAML file",
            error.strerror or str(error),
            "give the path of an existing file to --config",
            source,
        ) from None
    if len(text) > _MAX_BYTES:
        raise ConfigError(
            "",
            "at most 1 MiB of YAML",
            "a larger file",
            "check that this is a configuration",
            source,
        )
    try:
        document = parse(text.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise ConfigError(
            "", "UTF-8 text", "other bytes", "check that this is a configuration", source
        ) from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ConfigError(
            "", "valid YAML", _yaml_problem(error), "mend the file there", source
        ) from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError(
            "",
            "keys and values, such as 'dataset: {t: 150}'",
            shown(document),
            "see --print_config for a complete example",
            source,
        )
    return document


def _yaml_problem(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nesting too deep to read"
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} in line {error.lineno}, column {error.colno}"
    mark = getattr(error, "problem_mark", None)
    where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    return f"{getattr(error, 'problem', None) or error}{where}".replace("\n", " ")
