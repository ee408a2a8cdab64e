"""Print docs/configuration.md: every key, what the recipes set, and what it means.

make docs
"""

from __future__ import annotations

from itertools import groupby

from adding_problem import config
from adding_problem.config.values import choices, short_number

HEADER = """# The configuration, key by key

Made from the source by `make docs`. A default is that of the recipe `original`; where `fast` has
another for the LSTM, it stands behind an arrow. `fast` gives every other family its own learning
rate, size and initialisation; `adding-problem models NAME` prints them.

A key is written `dataset: {t: 100}` in a file, and `--dataset.t 100` on the command line, where it
is stronger. `adding-problem train --config FILE --print_config` prints what a run would use;
`--help-all` adds types and bounds. Sweeps have two more sections ([many runs](sweeps.md))."""
TABLE = """
| key | default | meaning |
|---|---|---|"""
TOP = "at the top"


def main() -> None:
    """The page, on standard output."""
    original, fast = (
        config.load(None, {"recipe": recipe}).flat() for recipe in ("original", "fast")
    )
    print(HEADER)
    keys = sorted(config.KEYS, key=lambda name: "." not in name)  # the sections first
    for section, names in groupby(keys, key=lambda name: name.rpartition(".")[0]):
        print(f"\n## {section or TOP}\n{TABLE}")
        for name in names:
            key, default = config.KEYS[name], shown(original[name])
            if fast[name] != original[name] and name != "recipe":
                default += f" → {shown(fast[name])}"
            words = () if "true" in choices(key.kind) else choices(key.kind)
            listed = ", ".join(f"`{word}`" for word in words)
            meaning = f"{listed}: {key.help}" if listed else key.help
            print(f"| {name.rpartition('.')[2]} | {default} | {meaning} |")


def shown(value: object) -> str:
    """A value as it stands in YAML."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:g}" if isinstance(value, float) else short_number(value)


if __name__ == "__main__":
    main()
