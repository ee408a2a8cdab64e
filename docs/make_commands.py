"""Print docs/commands.md: what `--help` says of every command.

make docs
"""

from __future__ import annotations

import os

from adding_problem.cli import COMMANDS, parser_of

HEADER = """# Commands

Made from the source by `make docs`. `--help-all` lists every setting as well; they are the keys of
the [configuration](configuration.md). The exit code is 0 after success, 2 where a setting, a file
or a folder is at fault, 3 where a loss, a score or a prediction is NaN or infinite, 74 where a file
cannot be written, and 128 plus the signal's number after a signal.
"""


def main() -> None:
    """The page, on standard output."""
    os.environ["COLUMNS"] = "80"
    print(HEADER)
    for name in COMMANDS:
        print(f"## {name}\n\n```text\n{parser_of(name).format_help().strip()}\n```\n")
    print("## main.py\n\n`python main.py --mode train|validate --config FILE` is `train` and")
    print("`validate` under the original program's names.")


if __name__ == "__main__":
    main()
