"""Print docs/configuration.md: every key, what the recipes set, and what values it takes.

make docs
"""

from __future__ import annotations

from adding_problem import config
from adding_problem.config import families
from adding_problem.config.values import described

HEADER = """# The configuration, key by key

Made from the source by `make docs`. `original` is the default recipe, the original's method; a
dash in the column `fast` says that it sets the same. Every key can be set in the file and on the
command line, where it is stronger; `adding-problem train --config FILE --print_config` prints what
a run would use. Sweeps have two more sections ([many runs](sweeps.md)).

| key | original | fast | a value is | what it says |
|---|---|---|---|---|"""
FAMILIES = """
## What `fast` sets for other families than the LSTM

Sizes and initialisations are each family's own (`adding-problem models`); those of a custom model
are its own too. The rest is as the LSTM's.

| family | what differs |
|---|---|"""


def main() -> None:
    """The page, on standard output."""
    original, fast = (
        config.load(None, {"recipe": recipe}).flat() for recipe in ("original", "fast")
    )
    print(HEADER)
    for name, key in config.KEYS.items():
        changed = shown(fast[name]) if fast[name] != original[name] and name != "recipe" else "-"
        cells = (f"`{name}`", shown(original[name]), changed, described(key.kind), key.help)
        print(f"| {' | '.join(cells)} |")
    print(FAMILIES)
    for family in families.FAMILIES:
        own = config.load(None, {"recipe": "fast", "model.name": family}).flat()
        differs = [
            f"`{name}: {shown(own[name])}`"
            for name in fast
            if own.get(name) != fast[name] and not name.startswith("model.")
        ]
        print(f"| {family} | {', '.join(differs) or 'nothing'} |")


def shown(value: object) -> str:
    """A value as it stands in YAML."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
