"""Recipes: named methods, as plain values that the file and the command line can override."""

from __future__ import annotations

from typing import Any

from adding_problem.config import families
from adding_problem.config.run_config import KEYS
from adding_problem.task.variants import MIN_LENGTH

__all__ = ["RECIPES", "defaults_of", "values_of"]

RECIPES: dict[str, dict[str, Any]] = {
    "original": {},
    "fast": {
        "dataset.stream": True,
        "dataset.held_out": 256,
        "validate.dt_length": 10_000,
        "model.init": "keyed",
        "model.memory": 1_000_000_000,
        "train.epochs": 1_000,
        "train.epoch_steps": 10,
        "train.batch": 16,
        "train.es_patience": None,
        "train.es_monitor": "val_loss",
        "train.learning_rate": 3e-2,
        "train.clip_value": None,
        "train.clip_norm": 1.0,
        "train.warmup_steps": 50,
        "train.decay_steps": 400,
        "train.stop_val_loss": 5e-4,
        "train.ending_below": 3e-3,
        "train.ending_steps": 300,
        "train.ending_length": 1_000,
        "train.val_subset": 32,
        "curriculum.start": 20,
        "curriculum.shortest": 0.1,
    },
}
"""Partial configurations by dotted key. `original` is all defaults."""


def values_of(recipe: Any, model: Any, variant: Any) -> dict[str, Any]:
    """The values of a recipe for a model and a variant; none of a recipe that there is not.

    What the model does not take is left out. What its family prefers comes in. The first length is
    one that the variant has.
    """
    if not isinstance(recipe, str):
        return {}
    values = {
        key: value
        for key, value in RECIPES.get(recipe, {}).items()
        if not key.startswith("model.")
        or families.accepts(model, key.removeprefix("model."), value)
    }
    if recipe != "fast":
        return values
    shortest = MIN_LENGTH.get(variant, 0) if isinstance(variant, str) else 0
    first = max(values["curriculum.start"], shortest)
    return values | {"curriculum.start": first} | families.recipe_overrides(model)


def defaults_of(recipe: str) -> dict[str, Any]:
    """What a recipe gives every key where nothing else is set, as `RunConfig.flat` would."""
    usual = {key.name: key.default for key in KEYS.values()} | {"recipe": recipe}
    model, variant = usual["model.name"], usual["dataset.variant"]
    own = {f"model.{name}": value for name, value in families.with_defaults(model, {}).items()}
    return usual | own | values_of(recipe, model, variant)
