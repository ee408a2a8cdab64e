"""Print docs/commands.md: what every command does, and the options that it alone has.

make docs
"""

from __future__ import annotations

import argparse
import os

from adding_problem.cli import COMMANDS, parser_of

HEADER = """# Commands

Made from the source by `make docs`. `adding-problem COMMAND --help` adds examples and the settings
that matter most; every setting is a key of the [configuration](configuration.md). Shared options,
where a command has them:

```text
--config FILE   YAML file; the options are stronger
--print_config  print the configuration and exit
--help-all      show every key of the configuration
--trust         import and run a model that only a file names
--overwrite     delete the run that the folder holds
```

| exit code | after |
|---|---|
| 0 | success |
| 1 | failed runs of a sweep |
| 2 | a wrong setting, file or folder |
| 3 | a loss, score or prediction that is NaN or infinite; the files are written |
| 74 | a file that cannot be written |
| 128 + n | signal n |
"""
SHARED = {"--help", "--help-all", "--config", "--print_config", "--trust", "--overwrite"}


def options_of(parser: argparse.ArgumentParser) -> str:
    """The arguments that are neither shared nor keys of the configuration, as --help shows them."""
    formatter = argparse.HelpFormatter(parser.prog, 2, 18, 80)
    for group in parser._action_groups[:2]:  # positional arguments, options
        own = [each for each in group._group_actions if not SHARED & {*each.option_strings}]
        formatter.add_arguments(own)
    return formatter.format_help().strip("\n")


def main() -> None:
    """The page, on standard output."""
    os.environ["COLUMNS"] = "80"
    print(HEADER)
    for name in COMMANDS:
        parser = parser_of(name)
        print(f"## {name}\n\n{parser.description}\n\n```text\n{options_of(parser)}\n```\n")
    print("## main.py\n\n`python main.py --mode train|validate --config FILE` is `train` and")
    print("`validate` under the original program's names.")


if __name__ == "__main__":
    main()
