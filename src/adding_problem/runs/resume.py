"""Which run another one may continue: the resume policy of a run folder."""

from __future__ import annotations

from adding_problem.config import WITHOUT_EFFECT, RunConfig

__all__ = ["continues", "difference"]

_BUDGETS = ("train.epochs", "train.budget_steps", "train.budget_minutes", "train.es_patience")


def _differing(there: RunConfig, here: RunConfig) -> list[str]:
    """The keys in which two configurations differ, but for those without effect on the numbers."""
    old, new = there.flat(), here.flat()
    return [
        key for key in {**old, **new} if old.get(key) != new.get(key) and key not in WITHOUT_EFFECT
    ]


def continues(there: RunConfig, here: RunConfig) -> bool:
    """Whether a run of `here` passes through every state of one of `there`, and ends later."""
    old, new = there.flat(), here.flat()

    def later(key: str) -> bool:
        if key in _BUDGETS:  # None has no end
            return old[key] is not None and (new[key] is None or new[key] > old[key])
        if (
            key == "train.stop_val_loss" and there.train.val_subset is None
        ):  # with it, it decides what a validation covers
            return old[key] is not None and (new[key] is None or new[key] < old[key])
        return False

    return all(map(later, _differing(there, here)))


def difference(there: RunConfig, here: RunConfig) -> str:
    """The first few keys in which two configurations differ."""
    old, new, differing = there.flat(), here.flat(), _differing(there, here)
    named = [
        f"{key}: {old.get(key)!s:.40} there, {new.get(key)!s:.40} now" for key in differing[:3]
    ]
    return "; ".join(named + [f"and {len(differing) - 3} more"] * (len(differing) > 3))
