"""Short names of methods: the model, the recipe, and the keys that tell methods apart."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import cache
from typing import Any

from adding_problem import config as configuration
from adding_problem.config import WITHOUT_EFFECT, RunConfig, families
from adding_problem.config.values import short_number

__all__ = ["NOT_THE_METHOD", "method_names"]

NOT_THE_METHOD = (
    *WITHOUT_EFFECT,
    "seed",
    "threads",
    "device",
    "backend",
    "validate.seed",
    "validate.dt_length",
)
"""Keys of the seeds, and of where and how a run is computed and scored.

Runs that differ in these alone are of one method.
"""

_PLACE = ("dataset.variant", "dataset.target", "dataset.noise_columns", "dataset.mix", "dataset.t")
# Keys of the data set's size, for which two counts stand.
_SIZES = ("dataset.dt_length", "dataset.validation_split", "dataset.held_out")
_COUNTS = {"train": "training sequences", "held out": "validation sequences"}
_NOT_NAMED = {*NOT_THE_METHOD, *_PLACE, *_SIZES, "model.name", "recipe"}


def method_names(configs: Sequence[RunConfig]) -> list[str]:
    """A name for each configuration, such as ``LSTM, original, learning_rate 0.001``.

    A key is named where configurations of one model and recipe differ in it at the same task and T,
    for those whose value is not the recipe's own. So runs of one name at one task and T are of one
    method. Between lengths other keys may differ, such as the size of the data set. An
    initialisation that tells its model something (`families.TOLD`) is always named.
    """
    methods = [_values(config) for config in configs]
    kinds = [(config.model.name, config.recipe) for config in configs]
    together: dict[tuple[Hashable, ...], list[dict[str, Hashable]]] = {}
    for config, kind, values in zip(configs, kinds, methods, strict=True):
        flat = config.flat()
        together.setdefault((kind, *(flat[key] for key in _PLACE)), []).append(values)
    telling: dict[Hashable, set[str]] = {kind: set() for kind in kinds}
    for place, found in together.items():
        telling[place[0]] |= _differing(found)
    models = _model_names([config.model.name for config in configs])
    return [
        _name(config, models[config.model.name], values, telling[kind])
        for config, kind, values in zip(configs, kinds, methods, strict=True)
    ]


def _values(config: RunConfig) -> dict[str, Hashable]:
    """What makes the method beside model and recipe, by dotted key; sizes as counts."""
    data = config.dataset
    found: dict[str, Hashable] = {
        key: value if isinstance(value, int | float | str | None) else repr(value)
        for key, value in config.flat().items()
        if key not in _NOT_NAMED
    }
    return found | {"train": None if data.stream else data.n_train, "held out": data.n_held_out}


@cache
def _usual(recipe: str, model: str) -> dict[str, Hashable]:
    """The values of a recipe."""
    return _values(configuration.load(None, {"recipe": recipe, "model.name": model}))


def _differing(methods: Sequence[dict[str, Hashable]]) -> set[str]:
    """The keys in which methods differ; the number of validation sequences if nothing else does."""
    keys = {key for values in methods for key in values}
    differing = {key for key in keys if len({values.get(key) for values in methods}) > 1}
    fewer = differing - {"held out"}

    def distinct(named: set[str]) -> int:
        return len({tuple(values.get(key) for key in sorted(named)) for values in methods})

    return fewer if distinct(fewer) == distinct(differing) else differing


def _model_names(models: Sequence[str]) -> dict[str, str]:
    """Names by `model.name`: as papers write them; of a custom model its class."""
    short = {
        name: families.title_of(name).rpartition(":")[2].rpartition(".")[2] for name in {*models}
    }
    found = list(short.values())
    return {name: name if found.count(one) > 1 else one for name, one in short.items()}


def _name(config: RunConfig, model: str, values: dict[str, Hashable], telling: set[str]) -> str:
    told = {"model.init"} if values.get("model.init") in families.TOLD else set()
    usual = _usual(config.recipe, config.model.name)
    named = sorted(telling | told, key=lambda key: (key not in told, key))
    parts = [
        _part(key, values.get(key))
        for key in named
        if key in told or values.get(key) != usual.get(key)
    ]
    return ", ".join([model, config.recipe, *parts])


def _part(key: str, value: Any) -> str:
    if key in _COUNTS:
        return f"{'fresh' if value is None else format(value, ',')} {_COUNTS[key]}"
    if key == "model.init" and value == "oracle":
        value = families.described_init(value)  # never shown without what it is told
    shown = "none" if value is None else short_number(value)
    return f"{key.rpartition('.')[2]} {shown.lower() if isinstance(value, bool) else shown}"
