"""The memory certificate of a model: what was given to it, and what it learned.

A model may solve the adding problem for three reasons: its initial weights hold the answer, and a linear readout finds it;
it sums over the steps, which needs no memory; or training made its memory. The certificate measures each:

    readout fitted    ridge regression on the untrained model's features, at a short length and at T
    readout trained   the body frozen, the readout trained by the same recipe and budget
    inputs changed    value and mark exchanged, all columns rotated, six columns of noise added
    difference        a target that depends on the order of the marks, beside the sum
    pooling           a model without order, trained by the same recipe and budget

The features are the input of the readout, of an untrained model: with the initial weights that a run of the seed trains.
From these numbers comes one word for each question, see `judge`.

    certificate.json, certificate.html    in the folder, and
    runs/                                 the run folder of every training: a cut call goes on, finished runs are kept
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from adding_problem import config as configuration
from adding_problem import models
from adding_problem.config import RunConfig
from adding_problem.errors import (
    AddingProblemError,
    BackendError,
    ConfigError,
    ModelError,
    RunFolderError,
    printable,
)
from adding_problem.evaluation import validate
from adding_problem.experiments.train import train
from adding_problem.runs import atomic_io
from adding_problem.runs.collection import RunsFolder, run_inside
from adding_problem.runs.folder import RunFolder
from adding_problem.runs.records import SOLVED, Count, Finite, Text, read_json
from adding_problem.system.device import resolve_backend, resolve_device
from adding_problem.system.memory import enough_memory, require_memory
from adding_problem.system.seeding import stream_seed
from adding_problem.system.threads import cpu_settings
from adding_problem.task.baselines import constant_predictor_mse
from adding_problem.task.data_sets import affordable, evaluation_batch
from adding_problem.task.sampling import sample_batch, sequence_width
from adding_problem.task.variants import Target, Task
from adding_problem.training.loop import Listener

__all__ = [
    "CARD",
    "NOISE_COLUMNS",
    "RECORD",
    "RUNS",
    "SET_HERE",
    "SHORT",
    "Certificate",
    "Control",
    "Evidence",
    "Measured",
    "Readout",
    "Ridge",
    "Row",
    "Training",
    "Verdict",
    "certify",
    "forget",
    "judge",
    "read",
]

RECORD, CARD, RUNS = "certificate.json", "certificate.html", "runs"
"""What a certificate leaves in its folder."""

RUNS_RECORD = "runs.json"
"""What its folder of runs holds beside them: which of them are its own."""

SHORT = 30
"""The short length at which a readout is fitted."""

NOISE_COLUMNS = 6

SET_HERE = (
    "dataset.target",
    "dataset.noise_columns",
    "dataset.mix",
    "dataset.mix_seed",
    "model.start_from",
    "train.budget_steps",
    "train.only_readout",
    "artifacts",
)
"""Keys of the configuration that the certificate sets itself."""

Word = Literal["pooled", "oracle", "reservoir", "learned", "not solved"]
Float64 = NDArray[np.float64]
Counting = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]
Following = Callable[[str, RunConfig], AbstractContextManager[Listener | None]]

# Sequences and sequence-steps of the readout's three sets, and of the scores of trained models: assumed ample.
_FIT, _FIT_STEPS, _FEWEST_FIT = 3_000, 3_000_000, 500
_TEST, _TEST_STEPS, _FEWEST_TESTED = 1_000, 2_000_000, 100
_PENALTIES = tuple(
    10.0**k for k in range(-16, 1)
)  # times the largest eigenvalue of the features' scatter matrix
_ORDER_SEQUENCES = 64
_ROUNDING = 1e-3  # of the features' spread; sums of 30 numbers in float32 differ by about 1e-6
_MAX_BYTES = 4 << 20  # of a record, which has some 20 KiB


# --- the record ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measured:
    """A mean squared error on new sequences; None where it is not finite."""

    t: Count
    sequences: Count
    mse: Finite | None


@dataclass(frozen=True)
class Readout:
    """A readout fitted by ridge regression on the features of the untrained model.

    Attributes:
        t, sequences: what it was fitted on.
        penalty: the best of several on a selection set, times the largest eigenvalue of the features' scatter matrix.
        errors: on test sets.
    """

    t: Count
    sequences: Count
    penalty: Finite
    errors: tuple[Measured, ...]

    def at(self, t: int) -> Measured | None:
        """The error at a length; None where the model does not take it or memory does not hold it."""
        return next((error for error in self.errors if error.t == t), None)


@dataclass(frozen=True)
class Training:
    """A training run and its scores.

    Attributes:
        error, beyond: at T and at ten times T; `beyond` is None where that was not or could not be scored.
        longest: longest sequences that it was trained on, in steps.
        sequence_steps: spent.
        to_solved: sequence-steps until the validation loss was first below 1e-3; None where it never was.
        stop_reason: see `records.StopReason`.
        folder: the run folder's name in runs/.
    """

    error: Measured
    beyond: Measured | None
    longest: Count | None
    sequence_steps: Count
    to_solved: Count | None
    stop_reason: Text
    folder: Text


@dataclass(frozen=True)
class Verdict:
    """One word, and the numbers that it rests on."""

    word: Word
    reason: Text


@dataclass(frozen=True)
class Row:
    """One question: a target and the inputs that it is asked of.

    Attributes:
        name: the target, and what was done to the inputs: value and mark exchanged, all columns rotated, noise columns added.
        baseline: mean squared error of the mean baseline.
        short, full: readouts fitted at `SHORT` and at T; None where the model does not take the length.
        frozen: the training of the readout alone; None where it was not done.
        trained: the training of all weights.
    """

    name: Text
    task: Task
    baseline: Finite
    short: Readout | None
    full: Readout | None
    frozen: Training | None
    trained: Training
    verdict: Verdict

    def fitted(self, at: int, tested: int) -> Measured | None:
        """The error at a length of the readout that was fitted at another or the same; None where there is none."""
        readout = next((one for one in (self.short, self.full) if one and one.t == at), None)
        return readout.at(tested) if readout else None

    @property
    def alone(self) -> Measured | None:
        """The error at T of the readout trained alone; None where there is none."""
        return self.frozen.error if self.frozen else None


@dataclass(frozen=True)
class Control:
    """The pooling model on one question."""

    name: Text
    baseline: Finite
    trained: Training


@dataclass(frozen=True)
class Certificate:
    """The certificate of a model.

    Attributes:
        title: the model in a few words.
        digest: of the configuration; with it and `model_source`, that of a custom model's file, a certificate is known again.
        parameters: trained ones.
        t: the tested length.
        budget: of each training, in sequence-steps.
        features: what the readouts are fitted on, in words.
        order: how much the features change when the steps are permuted, as a share of their spread; None where they have none.
        notes: what could not be done, and why.
    """

    title: Text
    digest: Text
    model_source: Text | None
    parameters: Count
    recipe: Text
    seed: Count
    t: Count
    budget: Count
    features: Text
    order: Finite | None
    rows: tuple[Row, ...]
    pooling: tuple[Control, ...]
    notes: tuple[Text, ...]

    @property
    def order_free(self) -> bool:
        """Whether permuting the steps changes the features by rounding alone."""
        return self.order is not None and self.order < _ROUNDING

    @property
    def summary(self) -> str:
        """The verdicts in a line."""
        return "; ".join(f"{row.name}: {row.verdict.word}" for row in self.rows)

    def to_json(self) -> bytes:
        """The record as `read` takes it."""
        return atomic_io.json_text(dataclasses.asdict(self))


def read(path: Path) -> Certificate:
    """A certificate from its JSON file, which may be an untrusted one.

    Raises:
        RunFolderError: when it is not a certificate.
    """
    try:
        return read_json(Certificate, atomic_io.read_bounded(path, _MAX_BYTES))
    except (OSError, ValueError) as error:
        raise RunFolderError(
            path, f"is not a certificate ({error})", "give --out another folder, or --overwrite"
        ) from None


# --- the rule --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Evidence:
    """The errors at T that a verdict rests on; infinite where there is none.

    Attributes:
        short: of a readout fitted on the untrained model at `SHORT`.
        full: of one fitted at T.
        frozen: of the readout trained alone.
        trained: of the training of all weights.
        order_free: permuting the steps does not change the untrained model's features beyond rounding.
        difference: of the training of all weights on the target `difference`.
    """

    short: float
    full: float
    frozen: float
    trained: float
    order_free: bool
    difference: float


def judge(found: Evidence, *, t: int, budget: str) -> Verdict:
    """The verdict: the first that holds, solved meaning an error below 1e-3.

    pooled: training solves the question, but not `difference`, and the order of the steps does not matter to the model.
    oracle: a readout fitted on the untrained model at the short length solves T. Memory and selection are given.
    reservoir: a readout alone solves it when it is fitted or trained up to T. Memory is given, selection is not.
    learned: no readout on the untrained model solves it, and training does.
    not solved: none of these, within the budget.

    Args:
        found: the errors.
        t: the tested length.
        budget: of training, in words.
    """
    if found.order_free and found.trained < SOLVED <= found.difference:
        return Verdict(
            "pooled",
            f"training reaches {found.trained:.1e}, and on difference {found.difference:.1e}; permuting the steps does "
            "not change the untrained model's features",
        )
    if found.short < SOLVED:
        return Verdict(
            "oracle",
            f"a readout fitted on the untrained model at T = {SHORT} scores {found.short:.1e} at T = {t:,}",
        )
    before = f"fitted at T = {SHORT} it scores {_error(found.short)}"
    if found.full < SOLVED:
        return Verdict(
            "reservoir",
            f"a readout fitted on the untrained model at T = {t:,} scores {found.full:.1e}; {before}",
        )
    if found.frozen < SOLVED:
        return Verdict(
            "reservoir",
            f"a readout trained alone, the body frozen, reaches {found.frozen:.1e}; {before}",
        )
    alone = f"a readout alone scores {_error(min(found.full, found.frozen))}"
    if found.trained < SOLVED:
        return Verdict("learned", f"training reaches {found.trained:.1e}; {alone}")
    return Verdict("not solved", f"training stands at {_error(found.trained)} {budget}; {alone}")


def _error(mse: float) -> str:
    return f"{mse:.1e}" if math.isfinite(mse) else "nothing finite"


def _mse(measured: Measured | None) -> float:
    return math.inf if measured is None or measured.mse is None else measured.mse


def _verdict(row: Row, order_free: bool, difference: float, t: int) -> Verdict:
    spent = {"budget": "when its budget is spent", "epochs": "after the recipe's last epoch"}.get(
        row.trained.stop_reason, f"at its end ({row.trained.stop_reason})"
    )
    found = Evidence(
        short=_mse(row.fitted(SHORT, t)),
        full=_mse(row.fitted(t, t)),
        frozen=_mse(row.alone),
        trained=_mse(row.trained.error),
        order_free=order_free,
        difference=difference,
    )
    return judge(found, t=t, budget=f"{spent}, {row.trained.sequence_steps:,} sequence-steps")


# --- the call --------------------------------------------------------------------------------------------------------


def certify(config: RunConfig, *, following: Following, counting: Counting) -> Certificate:
    """Measure all that the certificate says, and leave its record and its runs in `config.artifacts`.

    A finished certificate of the same configuration is read and not made again; nor is a finished run.

    Args:
        config: of all trainings; `dataset.t` is the tested length, `train.budget_steps` the budget of each. What `SET_HERE`
            names beside these is set here.
        following: gives the listener of a training, by its name.
        counting: gives a progress callback for the sequence-steps of a measurement, by its name.

    Raises:
        ConfigError: when T is too short, no budget is given, or weights to begin with are.
        ModelError, BackendError, RunFolderError, StorageError: see `adding_problem.errors`.
    """
    _check(config)
    folder = Path(config.artifacts)
    with RunFolder(folder).locked():
        if atomic_io.is_regular(folder / RECORD):
            there = read(folder / RECORD)
            if (there.digest, there.model_source) == (config.digest, _source(config)):
                return there
        runs = RunsFolder(run_inside(folder, RUNS).path, RUNS_RECORD)
        with runs.locked():
            made = _Call(config, runs, following, counting).certificate()
        atomic_io.write(folder / RECORD, made.to_json())
        return made


def forget(folder: Path) -> None:
    """Delete the certificate that a folder holds, and the runs that it records.

    Raises:
        RunFolderError: before anything is deleted, when a run or the folder of all runs is a link that leads out.
    """
    if not (folder / RUNS).is_dir():
        return
    runs = RunsFolder(run_inside(folder, RUNS).path, RUNS_RECORD)
    with runs.locked():
        runs.delete()
        runs.write({"runs": runs.records})
    for name in (RECORD, CARD):
        atomic_io.remove(folder / name)


def _check(config: RunConfig) -> None:
    if config.dataset.t <= SHORT:
        raise ConfigError(
            "dataset.t",
            f"more than {SHORT} steps, the short length of a certificate",
            str(config.dataset.t),
            "give --t more",
        )
    if config.train.budget_steps is None:
        raise ConfigError(
            "train.budget_steps",
            "a budget of sequence-steps for each training",
            "none",
            "set train.budget_steps",
        )
    if config.model.start_from is not None:
        raise ConfigError(
            "model.start_from",
            "null: a certificate begins with an untrained model",
            repr(config.model.start_from),
            "leave model.start_from out",
        )


def _source(config: RunConfig) -> str | None:
    return None if config.model.name in models.FAMILIES else models.source_digest(config.model.name)


@dataclass(frozen=True)
class _Call:
    """What all measurements of a call share."""

    config: RunConfig
    runs: RunsFolder
    following: Following
    counting: Counting

    def certificate(self) -> Certificate:
        config, t = self.config, self.config.dataset.t
        notes: list[str] = []
        with self._untrained(2) as model:
            readout = models.readout_of(model)
            features, order = _describe_features(config, readout), _order(model, config)
            parameters = int(models.describe(model)["parameters"])
        if readout is None:
            notes.append(
                "the readout cannot be trained alone: no nn.Linear of one output on one vector for each sequence was found"
            )
        rows: list[Row] = []
        rows += self._rows(
            {"sum": "sum", "difference": "difference"},
            Task(config.dataset.variant),
            notes,
            frozen=readout is not None,
        )
        rows += self._rows(
            {"difference, exchanged": "difference"}, Task(config.dataset.variant, mix="swap"), notes
        )
        rows += self._rows(
            {"difference, rotated": "difference"},
            Task(config.dataset.variant, mix="rotate", mix_seed=config.seed),
            notes,
        )
        if self._takes_noise(notes):
            rows += self._rows(
                {f"difference, {NOISE_COLUMNS} noise columns": "difference"},
                Task(config.dataset.variant, noise_columns=NOISE_COLUMNS),
                notes,
                frozen=readout is not None,
            )
        draft = Certificate(
            title=_in_a_line(config.model.title),
            digest=config.digest,
            model_source=_source(config),
            parameters=parameters,
            recipe=config.recipe,
            seed=config.seed,
            t=t,
            budget=config.train.budget_steps or 0,
            features=features,
            order=order,
            rows=(),
            pooling=self._pooling(notes),
            notes=(),
        )
        difference = _mse(rows[1].trained.error)
        if difference < SOLVED <= _mse(rows[2].trained.error):
            notes.append(
                "difference is solved, and with value and mark exchanged it is not: either the initial weights know which column holds "
                "the marks, or the budget is too small"
            )
        judged = tuple(
            replace(row, verdict=_verdict(row, draft.order_free, difference, t)) for row in rows
        )
        return replace(draft, rows=judged, notes=tuple(dict.fromkeys(notes)))

    @contextmanager
    def _untrained(self, width: int) -> Iterator[nn.Module]:
        """The model with the initial weights that a run of the seed trains, ready to be evaluated."""
        config = self.config
        device = resolve_device(config.device)
        backend = resolve_backend(config.backend, device)
        with cpu_settings(config.threads), enough_memory():
            yield models.build_model(
                config.model,
                seed=stream_seed(config.seed, "initialisation"),
                backend=backend,
                length=config.dataset.t,
                input_size=width,
                device=device,
            ).eval()

    def _takes_noise(self, notes: list[str]) -> bool:
        try:
            with self._untrained(2 + NOISE_COLUMNS):
                return True
        except ConfigError as error:
            if error.key != "dataset.noise_columns":
                raise
            notes.append(_in_a_line(f"noise columns do not apply: expected {error.expected}"))
            return False

    def _rows(
        self, asked: Mapping[str, Target], inputs: Task, notes: list[str], *, frozen: bool = False
    ) -> list[Row]:
        """Questions about the same inputs, which share the untrained model's features."""
        tasks = {name: replace(inputs, target=target) for name, target in asked.items()}
        fitted = self._readouts(", ".join(asked), list(tasks.values()), notes)
        rows = []
        for (name, task), (short, full) in zip(tasks.items(), fitted, strict=True):
            run = self._run_of(self.config, task)
            alone = (
                self._trained(
                    f"{name}, readout alone",
                    replace(run, train=replace(run.train, only_readout=True)),
                    None,
                )
                if frozen
                else None
            )
            trained = self._trained(name, run, notes)
            rows.append(
                Row(
                    name,
                    task,
                    constant_predictor_mse(task, self.config.dataset.t),
                    short,
                    full,
                    alone,
                    trained,
                    Verdict("not solved", ""),
                )
            )
        return rows

    # --- trainings ---

    def _run_of(self, config: RunConfig, task: Task) -> RunConfig:
        data = replace(
            config.dataset,
            target=task.target,
            noise_columns=task.noise_columns,
            mix=task.mix,
            mix_seed=None,
        )
        return replace(
            config,
            dataset=data,
            validate=replace(config.validate, dt_length=_tested(config.dataset.t)),
        )

    def _trained(self, name: str, run: RunConfig, notes: list[str] | None) -> Training:
        """Train, or read what was trained, and score at T and, where there is a place for notes, at ten times T."""
        folder = self.runs.run(name.replace(", ", "-").replace(" ", "_"))
        run = replace(run, artifacts=str(folder.path))
        if not self.runs.owns(folder.path.name):
            self.runs.record(run)
            self.runs.write({"runs": self.runs.records})
        with self.following(name, run) as shown:
            result = train(run, resume=True, listener=shown)
        score, t = validate.score_once(run), run.dataset.t
        beyond = None if notes is None else self._beyond(name, run, notes)
        reached = result.reached["1e-3"]
        return Training(
            Measured(t, score.sequences, _finite(score.mse)),
            beyond,
            result.longest_length,
            result.sequence_steps,
            reached.sequence_steps if reached else None,
            result.stop_reason,
            folder.path.name,
        )

    def _beyond(self, name: str, run: RunConfig, notes: list[str]) -> Measured | None:
        ten = 10 * run.dataset.t
        with self.counting(f"{name}, T = {ten:,}") as step:
            found = validate.score_at_lengths(
                run,
                [ten],
                _tested(ten),
                own=run.model.name,
                on_progress=step,
                on_refusal=lambda t, error: notes.append(_refusal(t, error)),
            )
        return Measured(ten, found[0].sequences, _finite(found[0].mse)) if found else None

    def _pooling(self, notes: list[str]) -> tuple[Control, ...]:
        """The pooling model by the same recipe, with what of the configuration is not about the model."""
        config = self.config
        if config.model.name == "pooling":
            return ()
        keys = (
            "recipe",
            "seed",
            "threads",
            "device",
            "dataset.t",
            "dataset.variant",
            "train.budget_steps",
            "validate.seed",
            "artifacts",
        )
        run = configuration.load(
            None, {"model.name": "pooling"} | {key: config.get(key) for key in keys}
        )
        targets: tuple[Target, Target] = ("sum", "difference")
        tasks = {f"pooling, {target}": Task(config.dataset.variant, target) for target in targets}
        return tuple(
            Control(
                name,
                constant_predictor_mse(task, config.dataset.t),
                self._trained(name, self._run_of(run, task), notes),
            )
            for name, task in tasks.items()
        )

    # --- readouts of the untrained model ---

    def _readouts(
        self, name: str, tasks: Sequence[Task], notes: list[str]
    ) -> list[tuple[Readout | None, Readout | None]]:
        """For each task of the same inputs the readouts fitted at `SHORT` and at T."""
        t = self.config.dataset.t
        lengths = (SHORT, t, 10 * t)
        with self._untrained(tasks[0].width) as model, self.counting(f"untrained: {name}") as count:
            total = sum(_fitted(length) + _tested(length) for length in lengths[:2]) + sum(
                map(_tested, lengths)
            )
            done = 0

            def step(more: int) -> None:
                nonlocal done
                done += more
                count(done, total)

            fits = {
                length: self._samples(model, tasks, length, 0, _fitted(length), step, notes)
                for length in lengths[:2]
            }
            selections = {
                length: self._samples(
                    model, tasks, length, _fitted(length), _tested(length), step, notes
                )
                for length in lengths[:2]
            }
            tests = {
                length: self._samples(
                    model,
                    tasks,
                    length,
                    _fitted(length) + _tested(length),
                    _tested(length),
                    step,
                    notes,
                )
                for length in lengths
            }
        return [
            (
                _fit_and_test(SHORT, lengths, index, fits, selections, tests),
                _fit_and_test(t, (t,), index, fits, selections, tests),
            )
            for index in range(len(tasks))
        ]

    @torch.no_grad()
    def _samples(
        self,
        model: nn.Module,
        tasks: Sequence[Task],
        t: int,
        start: int,
        n: int,
        step: Callable[[int], None],
        notes: list[str],
    ) -> _Samples | None:
        """Features of the untrained model and targets of every task; None where the model or memory does not take the length."""
        seed, width = (
            stream_seed(self.config.seed, "certificate"),
            sequence_width(t, tasks[0].variant),
        )
        size, found, targets = evaluation_batch(t), [], []
        device = next(model.parameters()).device
        try:
            with enough_memory():
                require_memory(
                    4 * tasks[0].width * size * width, "a batch of these sequences takes"
                )
                for first in range(start, start + n, size):
                    count = min(size, start + n - first)
                    drawn = [
                        sample_batch(count, t, seed=seed, start=first, task=task) for task in tasks
                    ]
                    found.append(_features(model, drawn[0][0].to(device)))
                    targets.append(
                        np.concatenate([y.numpy() for _, y in drawn], axis=1).astype(np.float64)
                    )
                    step(count)
        except (ModelError, BackendError) as error:
            notes.append(_refusal(t, error))
            return None
        return _Samples(np.concatenate(found), np.concatenate(targets))


def _refusal(t: int, error: AddingProblemError) -> str:
    return _in_a_line(f"T = {t:,} was left out: {error}")


def _in_a_line(text: str) -> str:
    return " ".join(printable(text).split())


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _fitted(t: int) -> int:
    return affordable(_FIT, t, steps=_FIT_STEPS, fewest=_FEWEST_FIT)


def _tested(t: int) -> int:
    return affordable(_TEST, t, steps=_TEST_STEPS, fewest=_FEWEST_TESTED)


# --- features and ridge regression -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Samples:
    """Features (n, F) and targets (n, K) of the same sequences, float64."""

    features: Float64
    targets: Float64


def _describe_features(config: RunConfig, readout: nn.Linear | None) -> str:
    if readout is None:
        return "the model's output: no final nn.Linear was found"
    where = "the readout" if config.model.name in models.FAMILIES else "the final nn.Linear"
    return f"the {readout.in_features:,} inputs of {where}"


def _features(model: nn.Module, x: Tensor) -> Float64:
    """What the readout is given for sequences (B, T, C), (B, F); where there is no readout, the output (B, 1)."""
    readout = models.readout_of(model)
    seen: list[Tensor] = []
    if readout is None:
        seen.append(model(x))
    else:
        hook = readout.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        try:
            model(x)
        finally:
            hook.remove()
    return seen[-1].detach().double().cpu().numpy()


@torch.no_grad()
def _order(model: nn.Module, config: RunConfig) -> float | None:
    """How much permuting the steps changes the features, by their spread over sequences; both are root mean squares."""
    try:
        x, _ = sample_batch(
            _ORDER_SEQUENCES,
            SHORT,
            seed=stream_seed(config.seed, "certificate"),
            task=Task(config.dataset.variant),
        )
        permuted = x[:, np.random.Generator(np.random.Philox(0)).permutation(x.shape[1])]
        device = next(model.parameters()).device
        before, after = _features(model, x.to(device)), _features(model, permuted.to(device))
    except ModelError:
        return None
    spread = float(np.linalg.norm(before - before.mean(axis=0)))
    change = float(np.linalg.norm(after - before))
    return change / spread if spread > 0 and math.isfinite(change / spread) else None


class Ridge:
    """Ridge regression on features (n, F) with an intercept that is not penalised, for any number of targets and penalties.

    Examples:
        >>> x = np.arange(6.0)[:, None]
        >>> weights, intercept = Ridge(x).solve(2 * x[:, 0] + 1, 1e-12)
        >>> round(float(weights[0]), 6), round(intercept, 6)
        (2.0, 1.0)
    """

    def __init__(self, features: Float64) -> None:
        self._mean = features.mean(axis=0)
        self._left, self._values, self._right = np.linalg.svd(
            features - self._mean, full_matrices=False
        )

    def solve(self, targets: Float64, penalty: float) -> tuple[Float64, float]:
        """Weights (F,) and the intercept for targets (n,).

        They minimise |y - X w - b|^2 + penalty s^2 |w|^2, s the largest singular value of the centred features.
        """
        mean, scale = float(targets.mean()), self._values[0] ** 2
        if not scale > 0:  # features that are the same for every sequence
            return np.zeros(len(self._mean)), mean
        shrunk = self._values / (self._values**2 + penalty * scale)
        weights: Float64 = (shrunk * (self._left.T @ (targets - mean))) @ self._right
        return weights, mean - float(self._mean @ weights)


def _fit_and_test(
    t: int,
    tested: Sequence[int],
    index: int,
    fits: Mapping[int, _Samples | None],
    selections: Mapping[int, _Samples | None],
    tests: Mapping[int, _Samples | None],
) -> Readout | None:
    """The readout of one target fitted at a length, with the penalty that is best on the selection set, and its test errors."""
    fit, selection = fits[t], selections[t]
    if fit is None or selection is None:
        return None
    measured = [(length, sample) for length in tested if (sample := tests[length]) is not None]
    if not np.isfinite(fit.features).all():
        return Readout(
            t,
            len(fit.targets),
            _PENALTIES[-1],
            tuple(Measured(length, len(s.targets), None) for length, s in measured),
        )
    ridge = Ridge(fit.features)
    fitted = {penalty: ridge.solve(fit.targets[:, index], penalty) for penalty in _PENALTIES}
    errors = {penalty: _error_of(found, selection, index) for penalty, found in fitted.items()}
    best = min(
        _PENALTIES, key=lambda penalty: (not math.isfinite(errors[penalty]), errors[penalty])
    )
    return Readout(
        t,
        len(fit.targets),
        best,
        tuple(
            Measured(length, len(s.targets), _finite(_error_of(fitted[best], s, index)))
            for length, s in measured
        ),
    )


def _error_of(found: tuple[Float64, float], samples: _Samples, index: int) -> float:
    weights, intercept = found
    with np.errstate(over="ignore", invalid="ignore"):
        return float(
            np.mean((samples.features @ weights + intercept - samples.targets[:, index]) ** 2)
        )
