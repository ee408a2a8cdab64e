"""Whether the predictions of a custom model depend on their sequences and the weights alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from adding_problem.config import RunConfig
from adding_problem.errors import ModelError
from adding_problem.models import CustomModel
from adding_problem.system.memory import out_of_memory
from adding_problem.system.seeding import seeded
from adding_problem.task.sampling import sample_batch
from adding_problem.task.variants import MIN_LENGTH, Task

__all__ = [
    "BATCH",
    "FRESH_STATE",
    "HINT_BATCH",
    "INDEPENDENT",
    "NAMED",
    "SAME",
    "SHORT_LENGTHS",
    "changed_by",
    "check_custom",
    "check_predictions",
    "close",
    "model_error",
    "rounding",
]

BATCH = 5
SHORT_LENGTHS = (23, 30)  # of every variant, and unequal to the batch
_FEW_STEPS = (2, 5)  # an untrained LSTM forgets an earlier state within some 20 steps
_CLOSE = 1e-3  # rounding may differ between batches by this, relative and absolute
_UNITS_OF_ROUNDING = 8  # or by so many spacings of the numbers next to 1, where weights are coarser
SAME = 1e-5  # and by this between two calls with one input, which run the same kernels
NAMED = 3  # attributes that a message names, at most
_OF_EVERY_MODULE = frozenset(vars(nn.Module()))

_SAME_PREDICTIONS = "the same predictions for the same input in evaluation mode"
INDEPENDENT = "predictions of a sequence that do not depend on the others in its batch"
HINT_BATCH = (
    "check which axis is the batch (batch_first=True, or model.layout: tbc), and that nothing in "
    "evaluation mode depends on the batch"
)

FRESH_STATE = (
    "start from a fresh state in every forward; keep nothing in self on which a later prediction "
    "depends"
)


def check_predictions(
    model: nn.Module,
    name: str,
    *,
    length: int,
    task: Task,
    earlier: Mapping[int, Tensor] | None = None,
) -> dict[int, Tensor]:
    """Raise unless every prediction depends on its own sequence and on the weights alone.

    Five sequences of each of some lengths from 2 to 30 steps come again after calls of other
    lengths, with other random numbers, and one of them among other sequences. The global random
    state is afterwards as it was.

    Args:
        model: (B, T, 2) -> (B, 1); it is left in evaluation mode.
        name: of the model, for messages.
        length: T that it was built for, which is tried where it takes none of these lengths.
        task: of the sequences.
        earlier: what this function returned for this model; these predictions must still hold.

    Returns:
        Length -> predictions (5, 1), for the lengths that the model takes.

    Raises:
        ModelError: naming the cause: state that is kept between calls, random numbers, the other
            sequences of a batch, or an input changed in place.
    """
    device, least = next(model.parameters()).device, MIN_LENGTH[task.variant]

    def sequences(t: int, start: int = 0) -> Tensor:
        return sample_batch(BATCH, t, seed=0, start=start, task=task, device=device)[0]

    tried = sorted({max(least, min(length, few)) for few in (*_FEW_STEPS, *SHORT_LENGTHS)})
    asked = _Questions(model.eval(), name)
    with torch.no_grad():
        taken = {t: y for t in tried if (y := asked.first(sequences(t))) is not None}
        if not taken and (y := asked.first(sequences(length))) is not None:
            taken = {length: y}
        expected = taken if earlier is None else earlier
        for t in sorted(expected, reverse=True):
            asked.again(sequences(t), expected[t], others=sequences(t, start=BATCH))
    return taken


class _Questions:
    """Asks a model in evaluation mode for predictions, and for the same ones again."""

    def __init__(self, model: nn.Module, name: str) -> None:
        self._model, self._name, self._rounding = model, name, rounding(model)

    def first(self, x: Tensor) -> Tensor | None:
        """Predictions (B, 1) of x (B, T, 2); None where the model does not take such sequences."""
        given = x.clone()
        try:
            y = self._call(given)
        except Exception as error:  # the run may never have sequences of this length
            if out_of_memory(error):
                raise
            return None
        self._require_untouched(given, x)
        return y if y.shape == (len(x), 1) else None

    def again(self, x: Tensor, expected: Tensor, *, others: Tensor) -> None:
        """Raise unless the predictions of x are the expected ones, with other random numbers too,
        and that of its middle sequence among others too."""
        if self._differ(x, expected):
            raise self._state(x, others)
        if self._differ(x, expected, seed=1):
            # Both ask once more: what was asked in between may be the cause.
            raise (
                self._state(x, others)
                if self._differ(x, expected)
                else self._error(
                    x,
                    _SAME_PREDICTIONS,
                    "others with other random numbers: it draws some in evaluation mode",
                    "draw random numbers only while self.training: F.dropout(x, p, self.training)",
                )
            )
        middle = len(x) // 2  # a recurrence over the wrong axis sees only the sequences on one side
        among = others.clone()
        among[middle] = x[middle]
        if not close(self._predict(among)[middle], expected[middle], self._rounding):
            raise (
                self._state(x, others)
                if self._differ(x, expected)
                else self._error(x, INDEPENDENT, "other ones among other sequences", HINT_BATCH)
            )

    def _differ(self, x: Tensor, expected: Tensor, *, seed: int = 0) -> bool:
        return not close(self._predict(x, seed=seed), expected, SAME)

    def _predict(self, x: Tensor, *, seed: int = 0) -> Tensor:
        given = x.clone()
        y = self._call(given, seed=seed)
        self._require_untouched(given, x)
        return y

    def _call(self, x: Tensor, *, seed: int = 0) -> Tensor:
        with seeded(seed):
            return self._model(x)  # type: ignore[no-any-return]

    def _require_untouched(self, given: Tensor, x: Tensor) -> None:
        if not torch.equal(given, x):
            raise self._error(
                x, "an input left as it is", "one changed in place", "work on a copy: x = x.clone()"
            )

    def _state(self, x: Tensor, others: Tensor) -> ModelError:
        where = changed_by(self._model, lambda: self._predict(others))
        return self._error(
            x,
            _SAME_PREDICTIONS,
            f"others when it comes again: the model keeps its state between calls{where}",
            FRESH_STATE,
        )

    def _error(self, x: Tensor, expected: str, found: str, hint: str) -> ModelError:
        return model_error(self._name, x, expected, found, hint)


def changed_by(model: nn.Module, call: Callable[[], object]) -> str:
    """What a call of a model changes in it, as `, in h, c`; empty where nothing is found."""
    before = _attributes(model)
    call()
    after = _attributes(model)
    changed = [name for name, value in after.items() if not _alike(value, before.get(name))]
    return f", in {', '.join(changed[:NAMED])}" if changed else ""


def _attributes(model: nn.Module) -> dict[str, Any]:
    """Name -> value of what a call may change: attributes, buffers and weights of all modules."""
    found: dict[str, Any] = {}
    for path, module in model.named_modules():
        tensors = [*module.named_buffers(recurse=False), *module.named_parameters(recurse=False)]
        own = {key: value for key, value in vars(module).items() if key not in _OF_EVERY_MODULE}
        for key, value in {**own, **dict(tensors)}.items():
            found[f"{path}.{key}".removeprefix(".").removeprefix("inner.")] = _copy(value)
    return found


def _copy(value: Any, depth: int = 3) -> Any:
    """Tensors copied and lists taken apart to some depth; other objects stand for themselves."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if depth and isinstance(value, Mapping):
        return [_copy(item, depth - 1) for item in value.values()]
    if depth and isinstance(value, list | tuple | deque):
        return [_copy(item, depth - 1) for item in value]
    return value


def _alike(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_alike, one, other))
    if isinstance(one, bool | int | float | str | None):
        return type(one) is type(other) and one == other
    return one is other


def model_error(name: str, x: Tensor, expected: str, found: str, hint: str) -> ModelError:
    return ModelError(name, f"for sequences {tuple(x.shape)} {expected}", found, hint)


def rounding(model: nn.Module) -> float:
    """By how much predictions of other batches may differ, relative and absolute."""
    types = {p.dtype for p in model.parameters() if p.is_floating_point()}
    coarsest = max((torch.finfo(kind).eps for kind in types), default=0.0)
    return max(_CLOSE, _UNITS_OF_ROUNDING * coarsest)


def close(actual: Tensor, expected: Tensor, tolerance: float = _CLOSE) -> bool:
    # A step of training may have blown up.
    return torch.allclose(actual, expected, rtol=tolerance, atol=tolerance, equal_nan=True)


def check_custom(
    model: nn.Module, config: RunConfig, earlier: Mapping[int, Tensor] | None = None
) -> dict[int, Tensor]:
    """What `check_predictions` gives for a custom model; nothing for a built-in one."""
    if not isinstance(model, CustomModel):
        return {}
    return check_predictions(
        model, model.name, length=model.length, task=config.task, earlier=earlier
    )
