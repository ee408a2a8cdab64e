"""Print docs/configuration.md: every key, what the recipes set, and what it means.

make docs
"""

from __future__ import annotations

from adding_problem import config
from adding_problem.config.values import choices

HEADER = """# The configuration, key by key

Made from the source by `make docs`. A default is that of the recipe `original`; where `fast` has
another, it stands behind an arrow. Every key can be set in the file and on the command line, where
it is stronger. `adding-problem train --config FILE --print_config` prints what a run would use;
`--help-all` adds types and bounds. Sweeps have two more sections ([many runs](sweeps.md)).

The column is the LSTM's. `fast` gives every other family its own learning rate, size and
initialisation; `adding-problem models NAME` prints them.

| key | default | meaning |
|---|---|---|"""


def main() -> None:
    """The page, on standard output."""
    original, fast = (
        config.load(None, {"recipe": recipe}).flat() for recipe in ("original", "fast")
    )
    print(HEADER)
    for name, key in config.KEYS.items():
        default = shown(original[name])
        if fast[name] != original[name] and name != "recipe":
            default += f" → {shown(fast[name])}"
        words = ", ".join(f"`{word}`" for word in choices(key.kind))
        meaning = f"{words}: {key.help}" if words and key.kind is not bool else key.help
        print(f"| `{name}` | {default} | {meaning} |")


def shown(value: object) -> str:
    """A value as it stands in YAML."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
