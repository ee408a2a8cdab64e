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
| 128 + n | signal n; 141 when the reader of the output has gone |
"""
PAGES = {
    "train": "train_and_validate.md",
    "validate": "train_and_validate.md#the-two-commands",
    "certify": "certificate.md",
    "bench": "own_model.md#the-table",
    "diagnose": "own_model.md#why-it-fails-beyond-its-length",
    "sweep": "sweeps.md",
    "compare": "sweeps.md#what-compare-computes",
    "export": "interop.md#export-the-trained-model-for-other-runtimes",
    "import": "interop.md#import-a-model-trained-elsewhere-becomes-a-run",
    "data": "interop.md#data-the-same-sequences-in-a-file",
}
"""Where a command has a page, which says what it does."""

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
        line = COMMANDS[name][0].upper() + COMMANDS[name][1:]
        about = f"[{line}]({PAGES[name]})." if name in PAGES else parser.description
        print(f"## {name}\n\n{about}\n\n```text\n{options_of(parser)}\n```\n")
    print("## main.py\n\n`python main.py --mode train|validate --config FILE` is `train` and")
    print("`validate` under the original program's names.")


if __name__ == "__main__":
    main()
