"""The memory certificate of a model: what its initial weights give it, and what it learned.

A model may solve the adding problem for three reasons. Its initial weights hold the answer, and a
linear readout finds it. It sums over the steps, which needs no memory. Or training made its memory.
The certificate measures each:

    readout fitted    ridge regression on the untrained model's features, at a short length and at T
    readout trained   the body frozen, the readout trained by the same recipe and budget
    inputs changed    value and mark exchanged, all columns rotated, six columns of noise added
    difference        a target that depends on the order of the marks, beside the sum
    pooling           a model without order, trained by the same recipe and budget

The untrained model has the initial weights that a run of the seed trains. From these numbers comes
one word for each question, see `judge`.

    certificate.json, certificate.html    in the folder, and
    runs/                                 the run folder of every training

A call that was cut goes on: finished runs are kept.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Literal

from torch import nn

from adding_problem import config as configuration
from adding_problem import models
from adding_problem.config import RunConfig
from adding_problem.errors import AddingProblemError, ConfigError, RunFolderError, printable
from adding_problem.evaluation import validate
from adding_problem.evaluation.lengths import score_at_lengths
from adding_problem.experiments.readout import (
    SHORT,
    Measured,
    Readout,
    fit_readouts,
    order_effect,
    tested_at,
)
from adding_problem.experiments.train import train
from adding_problem.runs import atomic_io
from adding_problem.runs.collection import RunsFolder, run_inside
from adding_problem.runs.folder import RunFolder
from adding_problem.runs.records import Count, Finite, Text, read_json
from adding_problem.system.device import resolve_backend, resolve_device
from adding_problem.system.memory import enough_memory
from adding_problem.system.seeding import stream_seed
from adding_problem.system.threads import cpu_settings
from adding_problem.task.baselines import constant_predictor_mse
from adding_problem.task.thresholds import SOLVED
from adding_problem.task.variants import Task
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
    "Judged",
    "Measured",
    "Readout",
    "Row",
    "Training",
    "Verdict",
    "certify",
    "forget",
    "judge",
    "read",
    "read_judged",
]

RECORD, CARD, RUNS = "certificate.json", "certificate.html", "runs"
"""What a certificate leaves in its folder."""

RUNS_RECORD = "runs.json"
"""The file that records the runs of a certificate, in their folder."""

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
Counting = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]
Following = Callable[[str, RunConfig], AbstractContextManager[Listener | None]]

# Name, task beside the variant, and whether the readout is trained alone too. Questions of the same
# inputs stand together: they share the features.
_QUESTIONS = (
    ("sum", Task(), True),
    ("difference", Task(target="difference"), True),
    ("difference, exchanged", Task(target="difference", mix="swap"), False),
    ("difference, rotated", Task(target="difference", mix="rotate"), False),
    (
        f"difference, {NOISE_COLUMNS} noise columns",
        Task(target="difference", noise_columns=NOISE_COLUMNS),
        True,
    ),
)
_PLAIN = _QUESTIONS[:2]
_CONTROLS = (("pooling, sum", Task()), ("pooling, difference", Task(target="difference")))
_CONTROL_KEYS = (
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
_ROUNDING = 1e-3  # of the features' spread; sums of 30 numbers in float32 differ by about 1e-6
_MAX_BYTES = 4 << 20  # of a record, which has some 20 KiB


# --- the record -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Training:
    """A training run and its scores.

    Attributes:
        error, beyond: at T and at ten times T; `beyond` is None where there is no score.
        longest: longest T that it was trained on.
        sequence_steps: spent.
        to_solved: sequence-steps until the validation loss was first below 1e-3; None where it
            never was.
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
    """One question: a target, and the inputs from which it is to be predicted.

    Attributes:
        name: the target, and how the inputs are changed.
        task: of its sequences.
        baseline: the mean baseline.
        short, full: readouts fitted at `SHORT` and at T; None where the model does not accept the
            length.
        frozen: the training of the readout alone; None where there is none.
        trained: the training of all weights.
        verdict: on the model.
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
        """The error at the length `tested` of the readout fitted at `at`; None without one."""
        readout = next((one for one in (self.short, self.full) if one and one.t == at), None)
        return readout.at(tested) if readout else None

    @property
    def alone(self) -> Measured | None:
        """The error at T of the readout that was trained alone; None without one."""
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
        digest: of the configuration.
        model_source: digest of a custom model's file. With `digest` it identifies a certificate.
        parameters: trained ones.
        recipe, seed: of the trainings.
        t: the tested length.
        budget: of each training, in sequence-steps.
        features: what the readouts are fitted on, in words.
        order: how much the features change when the steps are permuted, see `order_effect`.
        rows: the questions.
        pooling: the pooling model on two of them.
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
    def judged(self) -> Judged:
        """The verdicts alone."""
        verdicts = {row.task: row.verdict for row in self.rows}
        return Judged(self.title, self.recipe, self.model_source, self.seed, self.t, verdicts)

    @property
    def summary(self) -> str:
        """The verdicts in a line."""
        return "; ".join(f"{row.name}: {row.verdict.word}" for row in self.rows)

    def to_json(self) -> bytes:
        """The record, for `read`."""
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


@dataclass(frozen=True)
class Judged:
    """The verdicts on a model, by task; see `Certificate`."""

    title: str
    recipe: str
    model_source: str | None
    seed: int
    t: int
    verdicts: Mapping[Task, Verdict]


@dataclass(frozen=True)
class _RecordedRow:
    question: Text
    verdict: Word
    reason: Text


@dataclass(frozen=True)
class _Recorded:
    """What `_Record` keeps of a certificate; recipe and seed are the command's defaults."""

    title: Text
    t: Count
    rows: tuple[_RecordedRow, ...]
    recipe: Text = "fast"
    seed: Count = 0

    @property
    def judged(self) -> Judged:
        tasks = {name: task for name, task, _ in _QUESTIONS}
        verdicts = {
            tasks[row.question]: Verdict(row.verdict, row.reason)
            for row in self.rows
            if row.question in tasks
        }
        return Judged(self.title, self.recipe, None, self.seed, self.t, verdicts)


@dataclass(frozen=True)
class _Record:
    """The verdicts of several certificates, such as docs/certificates.json."""

    certificates: tuple[_Recorded, ...]


def read_judged(path: Path) -> list[Judged]:
    """The verdicts of a certificate's JSON file, or of a record of several certificates.

    Raises:
        RunFolderError: when it is neither.
    """
    try:
        record = read_json(_Record, atomic_io.read_bounded(path, _MAX_BYTES))
    except (OSError, ValueError):
        return [read(path).judged]
    return [each.judged for each in record.certificates]


# --- the rule -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Evidence:
    """The errors at T that a verdict rests on; infinite where there is none.

    Attributes:
        short: of a readout fitted on the untrained model at `SHORT`.
        full: of one fitted at T.
        frozen: of the readout trained alone.
        trained: of the training of all weights.
        order_free: permuting the steps changes the untrained model's features by rounding alone.
        difference: of the training of all weights on the target `difference`.
    """

    short: float
    full: float
    frozen: float
    trained: float
    order_free: bool
    difference: float


def judge(found: Evidence, *, t: int, budget: str) -> Verdict:
    """The verdict: the first that holds. Solved is an error below 1e-3.

    pooled: training solves the question but not `difference`, and the model ignores the order.
    oracle: a readout fitted at the short length solves T. Memory and selection are given.
    reservoir: a readout fitted or trained at up to T solves it. Memory is given, selection is not.
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
            f"training reaches {found.trained:.1e}, and on difference {found.difference:.1e}; "
            "permuting the steps does not change the untrained model's features",
        )
    if found.short < SOLVED:
        return Verdict(
            "oracle",
            f"a readout fitted on the untrained model at T = {SHORT} scores {found.short:.1e} "
            f"at T = {t:,}",
        )
    before = f"fitted at T = {SHORT} it scores {_error(found.short)}"
    if found.full < SOLVED:
        scored = f"a readout fitted on the untrained model at T = {t:,} scores {found.full:.1e}"
        return Verdict("reservoir", f"{scored}; {before}")
    if found.frozen < SOLVED:
        reached = f"a readout trained alone, the body frozen, reaches {found.frozen:.1e}"
        return Verdict("reservoir", f"{reached}; {before}")
    alone = f"a readout alone scores {_error(min(found.full, found.frozen))}"
    if found.trained < SOLVED:
        return Verdict("learned", f"training reaches {found.trained:.1e}; {alone}")
    return Verdict("not solved", f"training stands at {_error(found.trained)} {budget}; {alone}")


def _error(mse: float) -> str:
    return f"{mse:.1e}" if math.isfinite(mse) else "nothing finite"


def _mse(measured: Measured | None) -> float:
    return math.inf if measured is None or measured.mse is None else measured.mse


def _verdict(row: Row, order_free: bool, difference: float, t: int) -> Verdict:
    ends = {"budget": "when its budget is spent", "epochs": "after the recipe's last epoch"}
    reason = row.trained.stop_reason
    end = ends.get(reason, f"at its end ({reason})")
    found = Evidence(
        short=_mse(row.fitted(SHORT, t)),
        full=_mse(row.fitted(t, t)),
        frozen=_mse(row.alone),
        trained=_mse(row.trained.error),
        order_free=order_free,
        difference=difference,
    )
    return judge(found, t=t, budget=f"{end}, {row.trained.sequence_steps:,} sequence-steps")


# --- the call -------------------------------------------------------------------------------------


def certify(
    config: RunConfig, *, following: Following, counting: Counting, plain: bool = False
) -> Certificate:
    """Measure all that the certificate says; leave its record and its runs in `config.artifacts`.

    A finished certificate of the same configuration is read, not made again. So is a finished run.

    Args:
        config: of all trainings. `dataset.t` is the tested length, `train.budget_steps` the budget
            of each. The other keys of `SET_HERE` are set here.
        following: gives the listener of a training, by its name.
        counting: gives a progress callback for a measurement, by its name.
        plain: ask for the sum and the difference of unchanged inputs alone, without the control.

    Raises:
        ConfigError: when T is too short, no budget is given, or weights to begin with are.
        ModelError, BackendError, RunFolderError, StorageError: see `adding_problem.errors`.
    """
    _check(config)
    folder = Path(config.artifacts)
    with RunFolder(folder).locked():
        if atomic_io.is_regular(folder / RECORD):
            there = read(folder / RECORD)
            found = (there.digest, there.model_source, len(there.rows) == len(_PLAIN))
            if found == (config.digest, _source(config), plain):
                return there
        runs = RunsFolder(run_inside(folder, RUNS).path, RUNS_RECORD)
        with runs.locked():
            made = _Call(config, runs, following, counting, plain).certificate()
        atomic_io.write(folder / RECORD, made.to_json())
        return made


def forget(folder: Path) -> None:
    """Delete the certificate that a folder holds, and the runs that it records.

    Raises:
        RunFolderError: before anything is deleted, when a run or the folder of all runs is a link
            that leads out.
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
    """Raise ConfigError unless a certificate can be made of it."""
    t, start_from = config.dataset.t, config.model.start_from
    if t <= SHORT:
        expected = f"more than {SHORT} steps, the short length of a certificate"
        raise ConfigError("dataset.t", expected, str(t), "give --t more")
    if config.train.budget_steps is None:
        expected = "a budget of sequence-steps for each training"
        raise ConfigError("train.budget_steps", expected, "none", "set train.budget_steps")
    if start_from is not None:
        expected = "null: a certificate begins with an untrained model"
        hint = "leave model.start_from out"
        raise ConfigError("model.start_from", expected, repr(start_from), hint)


def _source(config: RunConfig) -> str | None:
    return None if config.model.name in models.FAMILIES else models.source_digest(config.model.name)


@dataclass(frozen=True)
class _Call:
    """What all measurements of a call share."""

    config: RunConfig
    runs: RunsFolder
    following: Following
    counting: Counting
    plain: bool
    notes: list[str] = field(default_factory=list)

    def certificate(self) -> Certificate:
        config, t = self.config, self.config.dataset.t
        with self._untrained(2) as model:
            readout = models.readout_of(model)
            order = order_effect(model, config.dataset.variant, self._seed)
            parameters = int(models.describe(model)["parameters"])
        features = "the model's output: no final nn.Linear was found"
        if readout is None:
            self._note(
                "the readout cannot be trained alone: no nn.Linear of one output on one vector "
                "for each sequence was found"
            )
        else:
            known = config.model.name in models.FAMILIES
            where = "the readout" if known else "the final nn.Linear"
            features = f"the {readout.in_features:,} inputs of {where}"
        rows = self._rows(has_readout=readout is not None)
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
            pooling=() if self.plain else self._pooling(),
            notes=(),
        )
        errors = {row.name: _mse(row.trained.error) for row in rows}
        difference = errors["difference"]
        if difference < SOLVED <= errors.get("difference, exchanged", 0.0):
            self._note(
                "difference is solved, and with value and mark exchanged it is not: either the "
                "initial weights know which column holds the marks, or the budget is too small"
            )
        judged = tuple(
            replace(row, verdict=_verdict(row, draft.order_free, difference, t)) for row in rows
        )
        return replace(draft, rows=judged, notes=tuple(dict.fromkeys(self.notes)))

    @property
    def _seed(self) -> int:
        """Of the sequences of the readouts."""
        return stream_seed(self.config.seed, "certificate")

    def _note(self, text: str) -> None:
        self.notes.append(_in_a_line(text))

    def _note_refusal(self, t: int, error: AddingProblemError) -> None:
        self._note(f"T = {t:,} was left out: {error}")

    @contextmanager
    def _untrained(self, width: int) -> Iterator[nn.Module]:
        """The model with the initial weights that a run of the seed trains, for evaluation."""
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

    def _takes_noise(self) -> bool:
        try:
            with self._untrained(2 + NOISE_COLUMNS):
                return True
        except ConfigError as error:
            if error.key != "dataset.noise_columns":
                raise
            self._note(f"noise columns do not apply: expected {error.expected}")
            return False

    def _rows(self, *, has_readout: bool) -> list[Row]:
        """All questions, without their verdicts."""
        rows = []
        for inputs, group in groupby(
            _PLAIN if self.plain else _QUESTIONS,
            lambda question: replace(question[1], target="sum"),
        ):
            if inputs.noise_columns and not self._takes_noise():
                continue
            questions = [(name, self._task(task), frozen) for name, task, frozen in group]
            names, tasks, _ = zip(*questions, strict=True)
            fitted = self._readouts(", ".join(names), tasks)
            for (name, task, frozen), (short, full) in zip(questions, fitted, strict=True):
                run = self._run_of(self.config, task)
                readout_run = replace(run, train=replace(run.train, only_readout=True))
                row = Row(
                    name,
                    task,
                    constant_predictor_mse(task, self.config.dataset.t),
                    short,
                    full,
                    self._trained(f"{name}, readout alone", readout_run, beyond=False)
                    if frozen and has_readout
                    else None,
                    self._trained(name, run),
                    Verdict("not solved", ""),
                )
                rows.append(row)
        return rows

    def _task(self, task: Task) -> Task:
        """The task in the configuration's variant, rotated by its seed."""
        mix_seed = self.config.seed if task.mix == "rotate" else 0
        return replace(task, variant=self.config.dataset.variant, mix_seed=mix_seed)

    def _readouts(
        self, name: str, tasks: tuple[Task, ...]
    ) -> list[tuple[Readout | None, Readout | None]]:
        with (
            self._untrained(tasks[0].width) as model,
            self.counting(f"untrained: {name}") as progress,
        ):
            return fit_readouts(
                model,
                tasks,
                self.config.dataset.t,
                seed=self._seed,
                on_progress=progress,
                on_refusal=self._note_refusal,
            )

    def _run_of(self, config: RunConfig, task: Task) -> RunConfig:
        data = replace(
            config.dataset,
            target=task.target,
            noise_columns=task.noise_columns,
            mix=task.mix,
            mix_seed=None,
        )
        score = replace(config.validate, dt_length=tested_at(config.dataset.t))
        return replace(config, dataset=data, validate=score)

    def _trained(self, name: str, run: RunConfig, *, beyond: bool = True) -> Training:
        """Train, or read what was trained; score at T and, if asked, at ten times T."""
        folder = self.runs.run(name.replace(", ", "-").replace(" ", "_"))
        run = replace(run, artifacts=str(folder.path))
        if not self.runs.owns(folder.path.name):
            self.runs.record(run)
            self.runs.write({"runs": self.runs.records})
        with self.following(name, run) as shown:
            result = train(run, resume=True, listener=shown)
        score, reached = validate.score_once(run), result.reached["1e-3"]
        return Training(
            Measured.of(run.dataset.t, score.sequences, score.mse),
            self._score_beyond(name, run) if beyond else None,
            result.longest_length,
            result.sequence_steps,
            reached.sequence_steps if reached else None,
            result.stop_reason,
            folder.path.name,
        )

    def _score_beyond(self, name: str, run: RunConfig) -> Measured | None:
        t = 10 * run.dataset.t
        with self.counting(f"{name}, T = {t:,}") as progress:
            scores = score_at_lengths(
                run,
                [t],
                tested_at(t),
                own=run.model.name,
                on_progress=progress,
                on_refusal=self._note_refusal,
            )
        return Measured.of(t, scores[0].sequences, scores[0].mse) if scores else None

    def _pooling(self) -> tuple[Control, ...]:
        """The pooling model by the same recipe, with the keys that are not about the model."""
        if self.config.model.name == "pooling":
            return ()
        same = {key: self.config.get(key) for key in _CONTROL_KEYS}
        config = configuration.load(None, {"model.name": "pooling"} | same)
        controls = []
        for name, task in _CONTROLS:
            run = self._run_of(config, self._task(task))
            baseline = constant_predictor_mse(run.task, run.dataset.t)
            controls.append(Control(name, baseline, self._trained(name, run)))
        return tuple(controls)


def _in_a_line(text: str) -> str:
    return " ".join(printable(text).split())
