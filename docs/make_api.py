"""Print docs/api.md: the public names and their docstrings, by griffe2md.

make docs
"""

from __future__ import annotations

import logging
import re
from pathlib import Path

import griffe
import griffe2md

import adding_problem

SOURCES = Path(__file__).parents[1] / "src"
GROUPS = {
    "Data": [
        "Task",
        "sample_batch",
        "sample_batch_numpy",
        "AddingDataset",
        "AddingStream",
        "constant_predictor_mse",
        "constant_predictor_standard_error",
    ],
    "Runs": ["load", "RunConfig", "train", "validate"],
    "Models": ["build_model", "load_model"],
}
ERRORS = [
    "AddingProblemError",
    "ConfigError",
    "RunFolderError",
    "BackendError",
    "ModelError",
    "InteropError",
    "StorageError",
    "Interrupted",
]
STYLE = griffe2md.ConfigDict(
    heading_level=3,
    show_root_full_path=False,
    show_signature_annotations=False,
    summary=False,
    members=False,
    docstring_section_style="list",
    show_bases=False,
    signature_crossrefs=False,
    line_length=100,
)
PRIVATE = re.compile(r"\n*#### `[\w.]+\._\w+`\n+```python\n.*?```", re.DOTALL)
LINK = re.compile(r"\[([^\[\]]+)\]\(#[\w.]+\)")
RAISES = re.compile(r"\n*\*\*Raises:\*\*\n(?:\n- .*(?:\n\S.*)*)+")
ARGUMENT = re.compile(r"^- \*\*([^*]+)\*\* (?:\(<code>(.*?)</code>\) )?– ", re.MULTILINE)
RETURNED = re.compile(r"^- <code>(.*?)</code> – ", re.MULTILINE)
HEADER = """# The Python API

Made from the docstrings by `make docs`. All names can be imported from `adding_problem`. `help` of
a name adds what it raises. The examples are run by the tests.
"""
ERRORS_HEADER = """## Errors

All but the last are `AddingProblemError`s, whose text says what is wrong and gives a hint.

| error | meaning |
|---|---|"""


def argument(found: re.Match[str]) -> str:
    """The beginning of a line about an argument: its name, and its type where it has one."""
    name, kind = found.groups()
    return f"- `{name}` ({kind}): " if kind else f"- `{name}`: "


def main() -> None:
    """The page, on standard output."""
    logging.disable(logging.WARNING)
    package = griffe.load("adding_problem", search_paths=[SOURCES], docstring_parser="google")
    print(HEADER)
    for title, names in GROUPS.items():
        print(f"## {title}\n")
        for name in names:
            documented = package[f"{adding_problem.HOMES[name]}.{name}"]
            text = griffe2md.render_object_docs(documented, STYLE, format_md=False).strip()
            text = RAISES.sub("", PRIVATE.sub("", text))
            text = LINK.sub(r"\1", text)  # to pages that are not there
            print(RETURNED.sub(r"- `\1`: ", ARGUMENT.sub(argument, text)) + "\n")
    print(ERRORS_HEADER)
    for name in ERRORS:
        docstring = package[f"{adding_problem.HOMES[name]}.{name}"].docstring.value
        print(f"| `{name}` | {docstring.splitlines()[0]} |")


if __name__ == "__main__":
    main()
