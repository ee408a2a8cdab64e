"""What the files of a run say, as typed records, each with one reader and one writer.

    EpochRow    a row of metrics.csv
    RunResult   result.json
    Score       validation.json
    RunRecord   a run as its folder holds it: configuration, epochs, result, score
    HorizonResult    horizon.json

A file may be an untrusted one: `read_json` checks all types and bounds. JSON has no NaN. A number
that is null is read as NaN.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter, ValidationError

from adding_problem.config import RunConfig, families
from adding_problem.task.baselines import constant_predictor_mse
from adding_problem.task.thresholds import PLATEAU, SOLVED, THRESHOLDS
from adding_problem.task.variants import Mix, Target, Task, Variant

__all__ = [
    "UNITS",
    "Budget",
    "Cost",
    "Count",
    "EpochRow",
    "Finite",
    "HorizonResult",
    "Number",
    "Question",
    "RunRecord",
    "RunResult",
    "Rung",
    "Score",
    "Spent",
    "StopReason",
    "Text",
    "Unit",
    "first_below",
    "longest_within",
    "lowest_val_loss",
    "on_plateau",
    "read_json",
]

Unit = Literal["sequence_steps", "sequences", "seconds"]
UNITS: tuple[Unit, ...] = ("sequence_steps", "sequences", "seconds")
"""What a cost can be counted in."""

StopReason = Literal["epochs", "early_stopping", "solved", "budget", "diverged", "imported"]
"""Why a run ended. `imported`: the model was trained elsewhere, and nobody knows."""


def _check_printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("expected printable text")
    return text


def _check_thresholds(reached: dict[str, Any]) -> dict[str, Any]:
    if not reached.keys() >= THRESHOLDS.keys():
        raise ValueError(f"expected the keys {', '.join(THRESHOLDS)}")
    return reached


Text = Annotated[str, AfterValidator(_check_printable)]
Count = Annotated[int, Field(ge=0, le=1 << 53)]  # larger ones are not exact as floats
Finite = Annotated[float, Field(allow_inf_nan=False)]
Number = Annotated[float, BeforeValidator(lambda value: math.nan if value is None else value)]


@dataclass(frozen=True, slots=True)
class EpochRow:
    """One row of `metrics.csv`. Counts are of training alone, from the start of the run.

    Attributes:
        epoch: counted from 1; 0 is a model that was trained elsewhere.
        loss, val_loss: mean squared errors on the training and the validation set.
        sequences, sequence_steps, seconds: spent.
        val_sequences: that `val_loss` covers.
        longest_length: the longest T of the epoch's sequences; 0 where it was not recorded.
    """

    epoch: int
    loss: float
    val_loss: float
    sequences: int
    sequence_steps: int
    seconds: float
    val_sequences: int = 0
    longest_length: int = 0

    @classmethod
    def of_floats(cls, values: Sequence[float]) -> EpochRow:
        """From its values as floats, which are exact for counts up to 2^53.

        Raises:
            TypeError, ValueError: when there are more or fewer, or a count is NaN.
        """
        epoch, loss, val_loss, sequences, steps, seconds, val_sequences, longest = values
        return cls(
            int(epoch),
            loss,
            val_loss,
            int(sequences),
            int(steps),
            seconds,
            int(val_sequences),
            int(longest),
        )

    @property
    def values(self) -> tuple[float, ...]:
        """In the order of the columns."""
        return (
            self.epoch,
            self.loss,
            self.val_loss,
            self.sequences,
            self.sequence_steps,
            self.seconds,
            self.val_sequences,
            self.longest_length,
        )

    @property
    def cost(self) -> Cost:
        """What training had taken by its end."""
        return Cost(
            self.epoch, self.sequences, self.sequence_steps, self.seconds, self.val_sequences
        )


@dataclass(frozen=True)
class Cost:
    """What training had taken by the end of an epoch, whose validation covered `val_sequences`.

    The seconds of an imported model are NaN.
    """

    epoch: Count
    sequences: Count
    sequence_steps: Count
    seconds: Number
    val_sequences: Count = 0


Reached = Annotated[dict[str, Cost | None], AfterValidator(_check_thresholds)]


@dataclass(frozen=True, kw_only=True)
class Question:
    """The task, see `Task`; what an older file does not say has the task's default."""

    variant: Variant = "any"
    target: Target = "sum"
    noise_columns: Count = 0
    mix: Mix = "none"
    mix_seed: int = 0

    @property
    def task(self) -> Task:
        """What a sequence is and what is asked of it."""
        return Task(self.variant, self.target, self.noise_columns, self.mix, self.mix_seed)


@dataclass(frozen=True, kw_only=True)
class RunResult(Question):
    """`result.json`: how a run ended.

    Attributes:
        t: of the validation sequences.
        digest: of the configuration.
        seed: root seed.
        stream: whether it trained on fresh sequences.
        constant_predictor_mse: the mean baseline.
        stop_reason: see `StopReason`.
        epochs, best_epoch: finished, and the one whose weights are kept.
        best_loss, best_val_loss: of that epoch.
        lowest_val_loss: of all epochs; None where none is a number.
        reached: name of a threshold -> cost until the validation loss was first below it.
        sequences, sequence_steps, seconds: spent on training.
        longest_length: the longest T that the kept weights were trained on; None where unknown.
        parameters: trained ones.
        device, backend, threads, processor, versions: what it was computed on.
        model_source: digest of a custom model's file.
        started_from: digest of the run that the first weights are from.
        imported: of a model that was trained elsewhere: where it is from, and its score.
    """

    t: Count
    digest: Text
    seed: int = 0
    stream: bool = False
    constant_predictor_mse: Number
    stop_reason: StopReason
    epochs: Count
    best_epoch: Count
    best_loss: Number
    best_val_loss: Number
    lowest_val_loss: float | None = None
    reached: Reached
    sequences: Count
    sequence_steps: Count
    longest_length: Count | None = None
    seconds: Number
    parameters: Count = 0
    device: Text
    backend: Text
    threads: Count
    model_source: Text | None = None
    started_from: Text | None = None
    processor: Text = ""
    versions: Mapping[Text, Text] = field(default_factory=dict)
    imported: Mapping[str, Any] | None = None

    @classmethod
    def of(
        cls,
        config: RunConfig,
        rows: Sequence[EpochRow],
        best_epoch: int,
        stop_reason: StopReason,
        **rest: Any,
    ) -> RunResult:
        """The result of these epochs.

        Args:
            config: of the run.
            rows: its epochs.
            best_epoch: whose weights are kept.
            stop_reason: why it ended.
            rest: the fields that neither of these tells.
        """
        last = rows[-1]
        best = next(row for row in rows if row.epoch == best_epoch)
        lowest = lowest_val_loss(rows)
        first = {name: first_below(rows, threshold) for name, threshold in THRESHOLDS.items()}
        return cls(
            t=config.dataset.t,
            **config.task.to_record(),
            digest=config.digest,
            seed=config.seed,
            stream=config.dataset.stream,
            constant_predictor_mse=constant_predictor_mse(config.task, config.dataset.t),
            stop_reason=stop_reason,
            epochs=last.epoch,
            best_epoch=best.epoch,
            best_loss=best.loss,
            best_val_loss=best.val_loss,
            lowest_val_loss=lowest if math.isfinite(lowest) else None,
            reached={name: row.cost if row else None for name, row in first.items()},
            sequences=last.sequences,
            sequence_steps=last.sequence_steps,
            seconds=last.seconds,
            **rest,
        )

    @property
    def on_plateau(self) -> bool:
        """Whether the weights that were kept have learned nothing."""
        return on_plateau(self.best_val_loss, self.constant_predictor_mse)

    @property
    def machine(self) -> str:
        """What it was computed on, in words."""
        return ", ".join(filter(None, (self.processor, self.device, self.backend)))


@dataclass(frozen=True, kw_only=True)
class Score(Question):
    """`validation.json`: the errors of a model on test sequences.

    Attributes:
        t: of the sequences.
        seed: of their stream.
        sequences: number of them.
        mse, mse_standard_error, rmse: NaN or infinite where a prediction is not finite.
        within_tolerance: share of the predictions closer to the target than `tolerance`.
        constant_predictor_mse, constant_predictor_standard_error: of the mean baseline.
        model: digest of the run whose model it is.
    """

    t: Count
    seed: int = 0
    sequences: Count
    mse: Number
    mse_standard_error: Number
    rmse: Number = math.nan
    within_tolerance: Number = math.nan
    tolerance: Number = math.nan
    constant_predictor_mse: Number = math.nan
    constant_predictor_standard_error: Number = math.nan
    model: Text


@dataclass(frozen=True)
class RunRecord:
    """A run as its folder holds it, finished or not; see `RunFolder.read`.

    Attributes:
        path: the folder.
        config: its configuration.
        rows: its epochs.
        result: None until it has ended.
        score: of this model at its own T and task; None where there is none.
        weights_digest: of the trained weights; None where unknown.
    """

    path: Path
    config: RunConfig
    rows: tuple[EpochRow, ...]
    result: RunResult | None
    score: Score | None
    _: KW_ONLY
    weights_digest: str | None = None

    @property
    def seed(self) -> int:
        """Root seed."""
        return self.config.seed

    @property
    def t(self) -> int:
        """T of the validation sequences; training may have seen shorter ones alone."""
        return self.config.dataset.t

    @property
    def lowest(self) -> float:
        """Lowest validation loss; infinite where there is none."""
        return lowest_val_loss(self.rows)

    @property
    def best(self) -> float:
        """Validation loss of the kept weights; of an unfinished run the lowest; NaN without any."""
        if self.result:
            return self.result.best_val_loss
        return self.lowest if math.isfinite(self.lowest) else math.nan

    @property
    def failed(self) -> bool:
        """Whether it ended on a loss that is not finite, or without progress for too long."""
        stopped_early = self.result is not None and self.result.stop_reason == "early_stopping"
        return stopped_early or (bool(self.rows) and not math.isfinite(self.rows[-1].loss))

    @property
    def longest(self) -> int | None:
        """Longest T that its weights were trained on, the first ones included; None if unknown."""
        if self.result and self.result.imported:
            return None
        if self.result and self.result.longest_length:
            return self.result.longest_length
        started = self.config.model.start_from is not None
        return None if started else longest_within(self.rows, self.config)

    @property
    def model_source(self) -> str | None:
        """Digest of a custom model's file."""
        return self.result.model_source if self.result else None

    @property
    def weights(self) -> Hashable:
        """What two finished runs share whose models are the same; None where unknown."""
        if not (self.result and self.weights_digest):
            return None
        return self.weights_digest, self.config.model.name, self.model_source

    @property
    def oracle(self) -> bool:
        """Whether the model starts with the answer, see `families.is_oracle`."""
        return families.is_oracle(self.config.model.name, self.config.model.init)

    def first_below(self, threshold: float) -> EpochRow | None:
        """The first epoch whose validation loss is below."""
        return first_below(self.rows, threshold)

    def spent(self, unit: Unit) -> float | None:
        """What the run took; None where unknown, since the model was trained elsewhere."""
        if not self.rows:
            return 0.0
        last = float(getattr(self.rows[-1], unit))
        return last if self.rows[-1].epoch and math.isfinite(last) else None


@dataclass(frozen=True)
class Spent:
    """Training from the start of a horizon run."""

    sequence_steps: Count
    seconds: Finite


@dataclass(frozen=True, kw_only=True)
class Rung:
    """What became of one length of a horizon run.

    Attributes:
        t: the length.
        longest_length: the longest T that was trained on up to here; None where unknown.
        mse, mse_standard_error, sequences_tested: on test sequences, after training.
        solved: whether that is below 1e-3.
        reached: name of a threshold -> what was spent until the validation loss first was below.
        sequence_steps, seconds: spent from the start until this length was left.
        stop_reason: of the length's last run.
        folder: that run's folder.
    """

    t: Count
    longest_length: Count | None = None
    mse: Number
    mse_standard_error: Number = math.nan
    sequences_tested: Count = 0
    solved: bool
    reached: Annotated[dict[str, Spent | None], AfterValidator(_check_thresholds)]
    sequence_steps: Count
    seconds: Finite
    stop_reason: str = ""
    folder: str = ""


@dataclass(frozen=True)
class Budget:
    """Training that a horizon run may take, over all lengths together.

    Attributes:
        minutes, steps: in minutes, or in sequence-steps; the other is None.

    Raises:
        ValueError: unless one of the two is given.
    """

    minutes: float | None = None
    steps: int | None = None

    def __post_init__(self) -> None:
        if (self.minutes is None) == (self.steps is None):
            raise ValueError("expected a budget in minutes or in sequence-steps")

    def __str__(self) -> str:
        if self.steps is not None:
            return f"{self.steps:,} sequence-steps"
        return f"{self.minutes:,g} minute{'s' if self.minutes != 1 else ''}"

    @property
    def amount(self) -> float:
        """In seconds, or in sequence-steps."""
        return 60 * (self.minutes or 0.0) if self.steps is None else self.steps

    def without(self, spent: Spent | Rung) -> Budget:
        """What is left of it."""
        if self.steps is not None:
            return Budget(steps=self.steps - spent.sequence_steps)
        return Budget((self.minutes or 0.0) - spent.seconds / 60)

    @property
    def is_spent(self) -> bool:
        """Whether nothing is left."""
        return (self.minutes or self.steps or 0) <= 0


@dataclass(frozen=True, kw_only=True)
class HorizonResult(Question):
    """`horizon.json`: how far a model's training came within a budget.

    Attributes:
        horizon: the longest length that was solved; None where none was.
        minutes, steps: the budget, in minutes or in sequence-steps; see `Budget`.
        model: in a few words.
        seed: root seed.
        rungs: the lengths, in the order in which they were trained.
        runs: name and configuration digest of the folders that the horizon run owns.
    """

    horizon: Count | None
    solved_below: float = SOLVED
    minutes: float | None = None
    steps: Count | None = None
    model: Text = ""
    seed: Count = 0
    rungs: tuple[Rung, ...]
    runs: tuple[Mapping[str, Any], ...] = ()

    def __post_init__(self) -> None:
        Budget(self.minutes, self.steps)

    @property
    def budget(self) -> Budget:
        """What its training could take."""
        return Budget(self.minutes, self.steps)


# --- epochs ---------------------------------------------------------------------------------------


def first_below(rows: Iterable[EpochRow], threshold: float) -> EpochRow | None:
    """The first epoch of training whose validation loss is below."""
    return next((row for row in rows if row.epoch and row.val_loss < threshold), None)


def lowest_val_loss(rows: Sequence[EpochRow]) -> float:
    """The lowest finite one of those over the most sequences; infinite where there is none."""
    most = max((row.val_sequences for row in rows), default=0)
    like = (row.val_loss for row in rows if row.val_sequences == most)
    return min(filter(math.isfinite, like), default=math.inf)


def on_plateau(mse: float, baseline: float) -> bool:
    """Whether an error is NaN, or about `baseline`, that of always predicting the mean."""
    return not mse < PLATEAU * baseline


def longest_within(rows: Sequence[EpochRow], config: RunConfig) -> int | None:
    """The longest T of these epochs; None where unknown, as of older runs on fresh sequences."""
    lengths = [row.longest_length for row in rows if row.epoch]
    if lengths and all(lengths):
        return max(lengths)
    return config.dataset.t if lengths and not config.dataset.stream else None


# --- JSON -----------------------------------------------------------------------------------------

Record = TypeVar("Record")


def read_json(kind: type[Record], data: bytes) -> Record:
    """A record from JSON that may be an untrusted file's.

    Raises:
        ValueError: saying which key holds what it should not.
    """
    try:
        record: Record = _adapter(kind).validate_json(data, strict=True)  # type: ignore[arg-type]
        return record
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(f"{place}: {first['msg']}" if place else first["msg"]) from None


@cache
def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
