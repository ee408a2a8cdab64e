"""Preflight check of a custom model: on a few short lengths, before a run.

A second model is built as the run will build its own. It takes a few random sequences and one
training step, and is discarded.
"""

from __future__ import annotations

import logging
import time

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from adding_problem.config import RunConfig
from adding_problem.errors import ModelError, in_one_line
from adding_problem.evaluation.consistency import (
    BATCH,
    FRESH_STATE,
    HINT_BATCH,
    INDEPENDENT,
    NAMED,
    SAME,
    SHORT_LENGTHS,
    changed_by,
    check_predictions,
    close,
    model_error,
    rounding,
)
from adding_problem.models import PROBED, CustomModel
from adding_problem.system.device import resolve_backend, resolve_device
from adding_problem.system.memory import out_of_memory
from adding_problem.system.seeding import seeded
from adding_problem.system.threads import cpu_settings
from adding_problem.task.sampling import sample_batch
from adding_problem.task.variants import MIN_LENGTH
from adding_problem.training import optim
from adding_problem.training.start import build_model

__all__ = ["check_model"]

_LONG_SECONDS = (
    0.3  # longer sequences are tried, doubling up to dataset.t, until this much time has passed
)
_AWAKE = 0.1  # standard deviation of what replaces weights that are zero

_logger = logging.getLogger(__name__)


def check_model(config: RunConfig) -> None:
    """Try the custom model of a configuration.

    Raises:
        ConfigError, BackendError: when there is no such model, argument, device or backend.
        ModelError: saying what was expected of the model, what came and the hint.
    """
    device = resolve_device(config.device)
    with cpu_settings(config.threads), seeded(config.seed):
        backend = resolve_backend(config.backend, device)
        model = build_model(config, device, backend, seed=config.seed)
        optim.require_training_memory(config.train, model)
        if isinstance(model, CustomModel):
            _note_output(model)
        if not any(p.requires_grad for p in model.parameters()):
            frozen = sum(1 for _ in model.parameters())
            raise ModelError(
                config.model.name,
                "parameters to train",
                f"{frozen} that all have requires_grad=False" if frozen else "none",
                "let some of them be trained"
                if frozen
                else "register them as nn.Parameter or submodules",
            )
        if shapeless := [key for key, p in model.named_parameters() if is_lazy(p)]:
            raise ModelError(
                config.model.name,
                "lazy layers that forward calls, which gives their weights a shape",
                f"{', '.join(shapeless[:NAMED])} without one",
                "call these layers in forward, or remove them",
            )
        trial = _Trial(config, model, device, backend)
        lengths = trial.lengths()
        shortest = trial.answer()
        for length in lengths:
            trial.evaluate(length)
            trial.differentiate(length)
        trial.lengthen(lengths[-1])
        trial.train(lengths[0])
        trial.resume(trial.keep(lengths[0]), shortest)
        trial.wake()
        trial.answer()


def _note_output(model: CustomModel) -> None:
    """Say how the prediction is taken from what the module returns."""
    if model.readout is not None:
        _logger.info(
            "%s gives a sequence of %d units: a linear readout of its last step was added "
            "(%d parameters)",
            model.name,
            model.readout.in_features,
            model.readout.in_features + 1,
        )
    elif model.gives_sequence:
        _logger.info(
            "%s gives one number for every step: that of the last step is its prediction",
            model.name,
        )
    if any(getattr(module, "bidirectional", False) is True for module in model.modules()):
        at_last = (
            "; at the last step, which the prediction is taken from, the backward direction has "
            "seen that step only"
        )
        _logger.info(
            "%s has bidirectional layers, which the built-in models do not have%s",
            model.name,
            at_last if model.gives_sequence else "",
        )


class _Trial:
    """A model under test. Errors name the model and the shape of the sequences."""

    def __init__(
        self, config: RunConfig, model: nn.Module, device: torch.device, backend: str
    ) -> None:
        self._config, self._model = config, model
        self._device, self._backend = device, backend
        self._rounding = rounding(model)
        self._zero = [p for p in model.parameters() if p.requires_grad and not p.any()]

    def answer(self) -> int:
        """`check_predictions`; the shortest length that the model takes."""
        data, name = self._config.dataset, self._config.model.name
        taken = check_predictions(self._model, name, length=data.t, task=self._config.task)
        return min(taken, default=data.t)

    def wake(self) -> None:
        """Replace weights that began as zero by random ones: they may hide what training shows."""
        with torch.no_grad():
            for parameter in self._zero:
                parameter.normal_(std=_AWAKE)

    def lengths(self) -> list[int]:
        """Two short lengths, or as near to it as the configuration and the model come."""
        t, least = self._config.dataset.t, MIN_LENGTH[self._config.dataset.variant]
        short = sorted({max(least, min(t, length)) for length in SHORT_LENGTHS})
        if self._takes(short[0]):
            return short
        if not self._takes(t):
            x = self._sequences(short[0])
            self._require_accepted(x, before=x[:PROBED])
        if self._config.curriculum.start is not None or self._config.curriculum.shortest < 1:
            raise ModelError(
                self._config.model.name,
                "a model that takes sequences of any length, as the curriculum draws them (of "
                f"{short[0]} "
                "steps, for example)",
                f"one that takes {t:,} steps alone",
                "let it take any length, or set curriculum.start to null "
                "and curriculum.shortest to 1",
            )
        _logger.info(
            "%s takes only sequences of %d steps: it cannot be trained or scored at other lengths",
            self._config.model.name,
            t,
        )
        return [t]

    @torch.no_grad()
    def _require_accepted(self, x: Tensor, before: Tensor) -> None:
        """Raise what the model raises for x, and say so where it is state from a batch before."""
        try:
            self._predict(x)
        except ModelError as error:
            try:
                where = changed_by(self._model, lambda: self._predict(before))
            except ModelError:
                raise error from None
            raise self._error(
                x,
                f"predictions after a batch of {len(before)}",
                f"a model that keeps its state between calls{where}: {error.found}",
                FRESH_STATE,
            ) from error

    def evaluate(self, length: int) -> None:
        """Shape, finite values, and the same predictions of every sequence when it is alone."""
        self._model.eval()
        x = self._sequences(length)
        with torch.no_grad():
            y = self._predict(x)
            self._require(
                tuple(y.shape) == (BATCH, 1),
                x,
                f"shape ({BATCH}, 1)",
                f"shape {tuple(y.shape)}",
                "return one prediction for each sequence",
            )
            self._require(
                bool(torch.isfinite(y).all()),
                x,
                "finite predictions",
                "NaN or infinity",
                "check the initialisation, and divisions and logarithms of zero",
            )
            alone = [self._predict(x[i : i + 1]) for i in range(BATCH)]
            self._require(
                alone[0].shape == (1, 1),
                x[:1],
                "shape (1, 1)",
                f"shape {tuple(alone[0].shape)}",
                "do not squeeze the batch away when it is of one",
            )
            self._require(
                close(torch.cat(alone), y, self._rounding),
                x,
                INDEPENDENT,
                "other ones when each is alone",
                HINT_BATCH,
            )

    def differentiate(self, length: int) -> None:
        """Raise unless the loss can be differentiated and the model looks at its input."""
        self._model.train()
        x, other = self._sequences(length), self._sequences(length, start=BATCH)
        found = [self._gradients(sequences) for sequences in (x, other)]
        self._require(
            all(bool(torch.isfinite(g).all()) for g in found[0]),
            x,
            "finite gradients",
            "NaN or infinity",
            "check square roots and divisions at zero, and the initialisation",
        )
        same = all(torch.equal(a, b) for a, b in zip(*found, strict=True))
        self._require(
            not same,
            x,
            "predictions that depend on the input",
            "the same predictions and gradients for other values and marks",
            "use x in forward",
        )

    def lengthen(self, length: int) -> None:
        """Longer and longer sequences than this, up to dataset.t, as far as the time reaches."""
        self._model.eval()
        begin, longest = time.perf_counter(), self._config.dataset.t
        with torch.no_grad():
            while length < longest and time.perf_counter() - begin < _LONG_SECONDS:
                shorter, length = length, min(2 * length, longest)
                x = self._sequences(length, n=2)
                try:
                    y = self._predict(x)
                except ModelError as error:
                    raise self._error(
                        x,
                        f"predictions, as for sequences of {shorter:,} steps",
                        error.found,
                        "let the model take any length, or keep dataset.t to what it takes",
                    ) from error
                self._require(
                    tuple(y.shape) == (2, 1),
                    x,
                    "shape (2, 1)",
                    "another at this length",
                    "let the model take any length",
                )
                self._require(
                    bool(torch.isfinite(y).all()),
                    x,
                    "finite predictions",
                    "NaN or infinity, unlike at shorter lengths",
                    "check what grows with the length",
                )

    def train(self, length: int) -> None:
        """A step as the run will take it, the last batch of an epoch too."""
        self._model.train()
        x, data, batch = self._sequences(length), self._config.dataset, self._config.train.batch
        self._require_accepted(x[:PROBED], before=x)  # the last batch of an epoch may be smaller
        left = 0 if data.stream else data.n_train % batch
        if 1 in (batch, left):
            try:
                self._predict(x[:1])
            except ModelError as error:
                which, hint = (
                    ("every batch", "choose a larger train.batch")
                    if batch == 1
                    else (
                        "the last batch of an epoch",
                        "choose a train.batch that does not leave one of "
                        f"{data.n_train:,} sequences over",
                    )
                )
                raise self._error(
                    x[:1],
                    f"predictions in training, for {which} is of one sequence",
                    error.found,
                    hint,
                ) from error
        try:
            optimizer = optim.optimizer_for(self._config.train, self._model)
            optim.step(
                self._config.train,
                self._model,
                optimizer,
                x,
                torch.zeros(BATCH, 1, device=self._device),
            )
            weights = self._model.state_dict().items()
            safetensors.torch.save(
                {name: tensor.detach().flatten()[:1].cpu().clone() for name, tensor in weights}
            )
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            if out_of_memory(error):
                raise
            raise self._error(
                x,
                "a step of training, and a state_dict of tensors to keep",
                in_one_line(error),
                "check the types of parameters and gradients (sparse ones are not taken), and what "
                "state_dict() "
                "gives",
            ) from error

    def keep(self, length: int) -> nn.Module:
        """Weights that make a second model, built from another seed, the same.

        That is what validate and --resume do.

        Returns:
            The second model.
        """
        x, other = (
            self._sequences(length),
            build_model(self._config, self._device, self._backend, seed=self._config.seed ^ 1),
        )
        hint = (
            "keep layers in nn.ModuleList, weights in nn.Parameter, and all else that training "
            "changes or chance decides in "
            "register_buffer"
        )
        try:
            other.load_state_dict(self._model.state_dict())
        except RuntimeError as error:
            raise self._error(
                x,
                "a state_dict that a second model of these arguments takes",
                in_one_line(error),
                hint,
            ) from error
        self._model.eval()
        other.eval()
        with torch.no_grad():
            other(
                self._sequences(length, start=BATCH)
            )  # what it may cache differs from this model's
            self._require(
                close(other(x), self._predict(x)),
                x,
                "the same predictions of a second model that is given this one's state_dict",
                "other ones: something is not in it, and would be lost with the run",
                hint,
            )

        return other

    def resume(self, other: nn.Module, length: int) -> None:
        """Warn when a second model of these weights, as --resume makes, differs in training."""
        other.load_state_dict(self._model.state_dict())
        x, found = self._sequences(length), []
        for model in (self._model, other):
            with torch.no_grad(), seeded(self._config.seed):
                found.append(model.train()(x))
        if not close(found[0], found[1], SAME):
            _logger.warning(
                "%s keeps something from one training step to the next that is not in its "
                "state_dict: a run that is cut and resumed may not have the numbers of an uncut "
                "one",
                self._config.model.name,
            )

    def _takes(self, length: int) -> bool:
        try:
            with torch.no_grad():
                self._predict(self._sequences(length))
        except ModelError:
            return False
        return True

    def _gradients(self, x: Tensor) -> list[Tensor]:
        """The predictions, and the gradient of their sum by every parameter.

        What the model draws is the same each time.
        """
        trained = [p for p in self._model.parameters() if p.requires_grad]
        with seeded(self._config.seed):
            y = self._predict(x)
        try:
            grads = torch.autograd.grad(y.sum(), trained, allow_unused=True, materialize_grads=True)
        except RuntimeError as error:
            raise self._error(
                x,
                "predictions that can be differentiated",
                in_one_line(error),
                FRESH_STATE
                if "second time" in str(error)  # the graph of the batch before
                else "compute with torch operations, without detach() and without changing "
                "tensors in place",
            ) from error
        return [y.detach(), *(g.to_dense() for g in grads)]

    def _predict(self, x: Tensor) -> Tensor:
        y = self._model(x)
        self._require(
            isinstance(y, Tensor), x, "a tensor", type(y).__name__, "return predictions (B, 1)"
        )
        return y  # type: ignore[no-any-return]

    def _sequences(self, length: int, *, start: int = 0, n: int = BATCH) -> Tensor:
        return sample_batch(
            n, length, seed=0, start=start, task=self._config.task, device=self._device
        )[0]

    def _require(self, right: bool, x: Tensor, expected: str, found: str, hint: str) -> None:
        if not right:
            raise self._error(x, expected, found, hint)

    def _error(self, x: Tensor, expected: str, found: str, hint: str) -> ModelError:
        return model_error(self._config.model.name, x, expected, found, hint)
