"""Print docs/configuration.md: every key, what the recipes set, and what values it takes.

make docs
"""

from __future__ import annotations

from adding_problem import config
from adding_problem.config import families, schema

HEADER = """# The configuration, key by key

Made from the source by `make docs`. `original` is the default recipe, the original's method; a dash in the column `fast` says that it sets the same.
Every key can be set in the file and on the command line, where it is stronger; `adding-problem train --config FILE --print_config` prints
what a run would use. Sweeps have two more sections ([many runs](sweeps.md)).

| key | original | fast | a value is | what it says |
|---|---|---|---|---|"""
FAMILIES = """
## What `fast` sets for other families than the LSTM

Sizes and initialisations are each family's own (`adding-problem models`); your model's are its own too, and the rest as the LSTM's.

| family | what differs |
|---|---|"""


def main() -> None:
    """The page, on standard output."""
    original, fast = (
        config.load(None, {"recipe": recipe}).flat() for recipe in ("original", "fast")
    )
    types = dict(schema.types(config.RunConfig))
    print(HEADER)
    for key, opt in schema.options(config.RunConfig):
        changed = shown(fast[key]) if fast[key] != original[key] and key != "recipe" else "-"
        print(
            f"| `{key}` | {shown(original[key])} | {changed} | {schema.described(types[key], opt.metadata)} | {opt.metadata['help']} |"
        )
    print(FAMILIES)
    for name in families.FAMILIES:
        own = config.load(None, {"recipe": "fast", "model.name": name}).flat()
        differs = [
            f"`{key}: {shown(own[key])}`"
            for key in fast
            if own.get(key) != fast[key] and not key.startswith("model.")
        ]
        print(f"| {name} | {', '.join(differs) or 'nothing'} |")


def shown(value: object) -> str:
    """A value as it stands in YAML."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
