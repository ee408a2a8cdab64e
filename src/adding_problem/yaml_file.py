"""YAML files that people and strangers write: read safely, refused with the place of what is wrong."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from adding_problem.errors import ConfigError, shown

__all__ = ["dump", "parse", "read_yaml"]

_MAX_BYTES = 1 << 20  # A configuration is a page; a megabyte of YAML is a mistake or an attack.


class _Loader(yaml.SafeLoader):
    """Safe YAML without aliases (a few lines of them can fill the memory), without tags and without repeated keys."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.constructor.ConstructorError(
                None, None, "an alias (*name), which a configuration may not use", self.peek_event().start_mark)  # type: ignore[no-untyped-call]
        if getattr(event := self.peek_event(), "tag", None) is not None:  # type: ignore[no-untyped-call]
            raise yaml.constructor.ConstructorError(
                None, None, "a tag (!name), which a configuration may not use", event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            key = key_node.value
            if not isinstance(key, str) or key in seen:
                problem = f"the key {key!r} a second time" if isinstance(key, str) else "a key that is no word"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Quotes the text that `_Loader` would take for a number."""


for both in (_Loader, _Dumper):  # YAML 1.1 takes 1e-3, without a dot, for text
    both.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789"))


def dump(value: Any, **layout: Any) -> str:
    """YAML that `parse` reads back unchanged; `layout` is what `yaml.dump` takes."""
    text: str = yaml.dump(value, Dumper=_Dumper, **layout)
    return text


def parse(text: str) -> Any:
    """What a text means as YAML.

    Raises:
        yaml.YAMLError, RecursionError, ValueError: when it is none.
    """
    return yaml.load(text, Loader=_Loader)  # noqa: S506  (a SafeLoader)


def read_yaml(path: Path) -> dict[Any, Any]:
    """A YAML file's top level, read safely; its keys are not checked."""
    source = str(path)
    try:
        with path.open("rb") as stream:
            text = stream.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError("", "a readable YAML file", error.strerror or str(error),
                          "give the path of an existing file to --config", source) from None
    if len(text) > _MAX_BYTES:
        raise ConfigError("", "at most 1 MiB of YAML", "a larger file", "check that this is a configuration", source)
    try:
        document = parse(text.decode("utf-8"))
    except UnicodeDecodeError:
        raise ConfigError("", "UTF-8 text", "other bytes", "check that this is a configuration", source) from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ConfigError("", "valid YAML", _yaml_problem(error), "mend the file there", source) from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError("", "keys and values, such as 'dataset: {t: 150}'", shown(document),
                          "see --print_config for a complete example", source)
    return document


def _yaml_problem(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nesting too deep to read"
    mark = getattr(error, "problem_mark", None)
    where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    return f"{getattr(error, 'problem', None) or error}{where}".replace("\n", " ")
