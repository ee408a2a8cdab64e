"""What a bench does for every model: the same tuning, seeds, budgets and tests."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from adding_problem.config import RunConfig
from adding_problem.experiments.bench import pieces
from adding_problem.experiments.bench.contenders import Contender
from adding_problem.experiments.bench.pieces import HorizonRun, Piece, Trial, Verdicts
from adding_problem.experiments.bench.sizes import Sizes
from adding_problem.runs.records import Budget
from adding_problem.task.variants import Target

__all__ = ["RATES", "TARGETS", "Plan", "best_rate"]

RATES = (1e-3, 3e-3, 1e-2, 3e-2)
"""The learning rates that are tried for every model: half a decade apart.

They cover the rates of all families of the zoo (`families.FAMILIES`). A grid gives every model the
same trials, which a search that adapts to its results does not. One seed and one length tell rates
apart by no less than half a decade, so a finer search would follow luck.
"""

TARGETS: tuple[Target, ...] = ("sum", "difference")
"""What is asked. An order-free model can answer the first alone."""

CERTIFIED = 5_000_000
"""Sequence-steps of each training of a certificate where the budget is in minutes."""

TUNING_SHARE = 4
"""A trial may take the budget over this."""

TUNING_T = 100
"""Of the trials, where the plan's T is not shorter."""

_TUNING_SEED = 1_000_000  # no seed of a horizon run
_CERTIFICATE_WEIGHT = 4.0  # its trainings


@dataclass(frozen=True)
class Plan:
    """What all models of a bench share.

    Attributes:
        contenders: the models.
        seeds: of the horizon runs; in every second one value and mark are exchanged.
        budget: of a horizon run, and of each training of a certificate.
        t: length of the certificate, the costs and the count of solved seeds.
        folder: of everything that the bench leaves.
    """

    contenders: tuple[Contender, ...]
    seeds: int
    budget: Budget
    t: int
    folder: Path

    def tuning(self, contender: Contender) -> list[Piece[Trial]]:
        """Each of `RATES` on each target, at a short length and with a seed of its own."""
        budget = _share(self.budget)
        return [
            self._piece(
                contender,
                f"tuning-{target}-{rate:g}",
                _within(
                    _asking(contender.config, target, _TUNING_SEED, t=min(TUNING_T, self.t)),
                    budget,
                    rate,
                ),
                budget,
                1 / TUNING_SHARE,
                Trial,
                pieces.try_rate,
            )
            for target in TARGETS
            for rate in RATES
        ]

    def horizons(
        self, contender: Contender, target: Target, rate: float
    ) -> list[Piece[HorizonRun]]:
        """A horizon run of each seed."""
        return [
            self._piece(
                contender,
                f"horizon-{target}-{seed}-{rate:g}",
                _with_rate(_asking(contender.config, target, seed, exchange=seed % 2 == 1), rate),
                self.budget,
                1.0,
                HorizonRun,
                pieces.find_horizon,
            )
            for seed in range(self.seeds)
        ]

    def certificate(self, contender: Contender, rate: float) -> Piece[Verdicts]:
        """The certificate."""
        budget = self.budget if self.budget.steps else Budget(steps=CERTIFIED)
        config = _within(contender.config, budget, rate)
        return self._piece(
            contender,
            f"certificate-{rate:g}",
            config,
            budget,
            _CERTIFICATE_WEIGHT,
            Verdicts,
            pieces.certify,
        )

    def sizes(self, contender: Contender) -> Piece[Sizes]:
        """The measurement of the model, which needs the machine for itself."""
        return self._piece(
            contender, "sizes", contender.config, self.budget, 0.01, Sizes, pieces.measure
        )

    def rate(self, contender: Contender) -> float | None:
        """The learning rate that its trials found; None before they are done."""
        trials = self.tuning(contender)
        return best_rate([t.read() for t in trials]) if all(t.is_done for t in trials) else None

    def trained(self, contender: Contender, rate: float) -> Iterator[Piece[Any]]:
        """What follows the tuning, the longest piece first."""
        yield self.certificate(contender, rate)
        for target in TARGETS:
            yield from self.horizons(contender, target, rate)

    def _piece(self, contender: Contender, name: str, config: RunConfig, *rest: Any) -> Piece[Any]:
        name = f"{contender.folder_name(str(self.budget))}/{name}"
        return Piece(name, replace(config, artifacts=str(self.folder / name)), *rest)


def best_rate(trials: Sequence[Trial]) -> float:
    """The rate that solved the most targets; of these the one that took the fewest sequence-steps.

    Where none solved any, the one with the lowest geometric mean of the losses.
    """

    def cost(rate: float) -> tuple[int, float]:
        tried = [trial for trial in trials if trial.learning_rate == rate]
        solved = sum(trial.solved for trial in tried)
        spent = sum(trial.sequence_steps for trial in tried)
        return -solved, spent if solved else sum(math.log(trial.loss) for trial in tried)

    return min((trial.learning_rate for trial in trials), key=cost)


def _share(budget: Budget) -> Budget:
    if budget.steps is not None:
        return Budget(steps=max(1, budget.steps // TUNING_SHARE))
    return Budget((budget.minutes or 0.0) / TUNING_SHARE)


def _asking(
    config: RunConfig, target: Target, seed: int, *, t: int | None = None, exchange: bool = False
) -> RunConfig:
    """The configuration with this target, seed and T; with value and mark exchanged if asked."""
    data = replace(
        config.dataset,
        target=target,
        mix="swap" if exchange else "none",
        t=t or config.dataset.t,
    )
    test_seed = config.validate.seed + (config.validate.seed == seed)
    return replace(
        config, dataset=data, seed=seed, validate=replace(config.validate, seed=test_seed)
    )


def _with_rate(config: RunConfig, rate: float) -> RunConfig:
    return replace(config, train=replace(config.train, learning_rate=rate))


def _within(config: RunConfig, budget: Budget, rate: float) -> RunConfig:
    train = replace(config.train, budget_minutes=budget.minutes, budget_steps=budget.steps)
    return _with_rate(replace(config, train=train), rate)
