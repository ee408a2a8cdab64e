"""A model that was trained elsewhere becomes a run folder.

    a folder                  the original's artifacts: model/ (SavedModel), config_copy.yaml,
                              loss.pkl; or only a SavedModel
    NAME.keras, .h5, .hdf5    of Keras 2 and 3
    NAME.safetensors          a PyTorch `state_dict` of one `nn.LSTM` layer on two inputs and one
                              `nn.Linear` to one output

A model is accepted when its file says that it is LSTM(H) and Dense(1) with our equations, or when
it predicts the same as elsewhere: in TensorFlow, or in a file of predictions. Nothing that is read
is executed, except for a SavedModel that the user trusts.
"""

from __future__ import annotations

import math
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import nn

from adding_problem import config as configuration
from adding_problem import models
from adding_problem.analysis import plots
from adding_problem.config import RunConfig
from adding_problem.errors import InteropError, RunFolderError
from adding_problem.evaluation.evaluate import evaluate, score_of
from adding_problem.evaluation.validate import new_sequences
from adding_problem.interop import keras_file, plain_pickle, saved_model
from adding_problem.interop.exporting import TOLERANCE
from adding_problem.interop.untrusted import (
    MOST_BYTES,
    OTHER_MODELS,
    reading,
    refusal,
    require_size,
)
from adding_problem.interop.weights import INPUTS, Answers, LstmWeights, largest_difference
from adding_problem.runs.folder import RunFolder
from adding_problem.runs.records import EpochRow, RunResult, Score, StopReason
from adding_problem.system.device import resolve_backend, versions
from adding_problem.system.memory import enough_memory
from adding_problem.system.threads import cpu_settings
from adding_problem.task.data_sets import affordable
from adding_problem.task.sampling import sequence_width

__all__ = ["Imported", "import_model"]

_SCORED, _SCORED_STEPS, _FEWEST_SCORED = 10_000, 10**8, 64  # sequences; fewer where they are long
_LONGEST = 1_000_000  # steps; an untrusted configuration could ask for any memory
_SURE = 5  # standard errors beyond which two means differ; squared errors have long tails
_FEWEST_ANSWERS = 20  # sequences that a file of predictions must hold
_ORIGINAL_SPLIT = 0.7  # the share that the original's code asks Keras for; its comment says 0.3


class _Log(NamedTuple):
    """Losses by epoch, equally many."""

    loss: list[float]
    val_loss: list[float]


@dataclass(frozen=True)
class Imported:
    """The result of an import.

    Attributes:
        folder: the run folder.
        kind: of what was read: `savedmodel`, `keras` or `safetensors`.
        t, hidden: length that the model is for, and number of its cells.
        sequences: that it was scored on.
        mse, standard_error: its score there.
        constant: score of the mean baseline.
        kept: epoch of the log whose weights were kept; None without a log.
        logged: validation loss of that epoch; None without a log.
        agrees: whether the log and the score agree; None without a log.
        difference: largest difference between its predictions here and elsewhere, relative to the
            largest of them where that is above 1; None where the file says what it computes.
        log_problem: why the log was not read; None without a log, or when it was.
    """

    folder: Path
    kind: str
    t: int
    hidden: int
    sequences: int
    mse: float
    standard_error: float
    constant: float
    kept: int | None
    logged: float | None
    agrees: bool | None
    difference: float | None
    log_problem: str | None


@dataclass(frozen=True)
class _Foreign:
    """What a file or folder of another program held."""

    kind: str
    weights: LstmWeights
    length: int | None = None
    config: Path | None = None
    log: _Log | None = None
    log_problem: str | None = None
    answers: Answers | None = None


def import_model(
    path: Path,
    out: Path,
    *,
    overrides: Mapping[str, Any] | None = None,
    predictions: Path | None = None,
    trust: bool = False,
    overwrite: bool = False,
) -> Imported:
    """Make a run folder of a model trained elsewhere, for `validate`, `compare` and the rest.

    The model is scored on test sequences, and the score compared with its log where there is one.
    `metrics.csv` holds that log, without seconds; without a log its only row is epoch 0, the score.

    Args:
        path: see the module.
        out: the run folder to make.
        overrides: configuration by dotted key, such as ``{"dataset.t": 150}``, which a file that
            does not say its T needs.
        predictions: `.npz` of sequences x, float32 (n, T, 2), and the model's predictions y,
            float32 (n, 1). A state_dict needs it: it does not say what is computed with it.
        trust: let TensorFlow run a SavedModel, in a process of its own, and compare predictions.
        overwrite: replace the run that `out` may hold.

    Raises:
        InteropError: when `path` holds nothing that can be imported, or a model that is not known
            to compute the same.
        ConfigError, RunFolderError: when the configuration or `out` cannot serve.
    """
    foreign = _read(path, trust=trust)
    answers = [*(foreign.answers or []), *(_read_predictions(predictions) if predictions else [])]
    if foreign.kind == "safetensors" and not answers:
        raise refusal(
            path,
            "predictions of the model, for a state_dict does not say what is computed with it",
            "none",
            "add --predictions NAME.npz, written with numpy.savez(NAME, x=x, y=model(x)), for "
            "random sequences x",
        )
    config = _config(path, foreign, out, overrides or {})
    backend = resolve_backend(config.backend, torch.device("cpu"))
    model = models.build_model(config.model, backend=backend)
    model.load_state_dict(foreign.weights.to_state_dict())
    model.eval()
    with enough_memory():
        difference = _check_answers(path, model, answers) if answers else None
    folder = RunFolder(out)
    with folder.locked():
        if folder.open(config, overwrite=overwrite) == "finished":
            raise RunFolderError(
                out,
                "holds a finished run of this configuration",
                "give --out another folder, or --overwrite",
            )
        with cpu_settings(config.threads), enough_memory():
            t = config.dataset.t
            n = affordable(_SCORED, t, steps=_SCORED_STEPS, fewest=_FEWEST_SCORED)
            sequences = replace(new_sequences(config), stop=n)
            scored = evaluate(model, sequences)
        score = score_of(sequences, scored.y, scored.y_hat)
        imported = _compare_with_log(foreign, config, score, difference)
        _write(folder, model, config, foreign.log, imported)
    return imported


def _check_answers(path: Path, model: nn.Module, answers: Answers) -> float:
    """The largest difference from the answers, relative to the largest of them above 1.

    Raises:
        InteropError: when it is more than `TOLERANCE`, or answers and sequences do not match.
    """
    for x, y in answers:
        if x.shape[2:] != (INPUTS,) or y.shape != (len(x), 1) or not np.isfinite(y).all():
            expected = "finite predictions (B, 1) of sequences (B, T, 2)"
            raise refusal(path, expected, f"{y.shape} of {x.shape}")
    difference = largest_difference(model, answers)
    difference /= max(1.0, *(float(np.abs(y).max()) for _, y in answers))
    if not difference <= TOLERANCE:
        raise refusal(
            path,
            "an LSTM and a linear unit, which predict the same here and there",
            f"predictions that differ by up to {difference:.1e}",
            f"{OTHER_MODELS}; where its layers are these, predict on the CPU in float32",
        )
    return difference


# --- reading ----------------------------------------------------------------------------------


def _read(path: Path, *, trust: bool) -> _Foreign:
    formats = "a SavedModel folder, a .keras, an .h5 or a .safetensors file"
    if path.is_dir():
        return _read_folder(path, trust=trust)
    if not path.is_file():
        raise refusal(path, formats, "nothing", "check the path")
    require_size(path)
    if path.suffix in keras_file.SUFFIXES:
        weights, length = keras_file.read(path)
        return _Foreign("keras", weights, length)
    if path.suffix == ".safetensors":
        return _Foreign("safetensors", _read_state_dict(path))
    hint = "save the model in one of these; a pickle (.pt, .pth, .pkl) is not read"
    raise refusal(path, formats, f"the ending {path.suffix!r}", hint)


def _read_folder(path: Path, *, trust: bool) -> _Foreign:
    """The original's artifact folder, or a SavedModel."""
    model = path if (path / "variables").is_dir() else path / "model"
    if not saved_model.is_saved_model(model):
        expected = "a SavedModel (variables/variables.index and its data file)"
        hint = "give the original's artifact folder, or the folder that Keras or TensorFlow wrote"
        raise refusal(path, expected, "none", hint)
    read = saved_model.run if trust else saved_model.read
    weights, length, answers = read(model)
    config, losses = path / "config_copy.yaml", path / "loss.pkl"
    log, problem = None, None
    if losses.is_file():
        try:
            log = _read_log(losses)
        except InteropError as error:  # the model beside it is as good without
            problem = str(error)
    beside = config if config.is_file() else None
    return _Foreign("savedmodel", weights, length, beside, log, problem, answers)


def _read_log(path: Path) -> _Log:
    expected = "a dict of the lists of numbers loss and val_loss, equally long"
    with reading(path, expected, "give the loss.pkl that the original wrote"):
        content = plain_pickle.read(path)
        log = _Log(*([float(value) for value in content[name]] for name in _Log._fields))
        if not log.loss or len(log.loss) != len(log.val_loss):
            raise ValueError(f"{len(log.loss)} and {len(log.val_loss)} numbers")
        return log


def _read_predictions(path: Path) -> Answers:
    """Sequences, and what a model predicts for them elsewhere."""
    expected = (
        f"a .npz file of x, float32 (n, T, 2) with n of at least {_FEWEST_ANSWERS}, and y, "
        "float32 (n, 1)"
    )
    with reading(path, expected, "write it with numpy.savez(NAME, x=x, y=model(x))"):
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > MOST_BYTES:
                raise ValueError(f"it is larger than {MOST_BYTES:,} bytes")
        with np.load(path, allow_pickle=False) as stored:
            x, y = stored["x"], stored["y"]
        float32 = x.dtype == np.float32 and y.dtype == np.float32
        if not float32 or x.ndim != 3 or len(x) < _FEWEST_ANSWERS or x.shape[1] < 2:
            raise ValueError(f"x is {x.dtype} {x.shape}, y is {y.dtype} {y.shape}")
        return [(x, y)]


def _read_state_dict(path: Path) -> LstmWeights:
    hint = "write it with safetensors.torch.save_file"
    try:
        state = safetensors.torch.load_file(path)
    except (SafetensorError, OSError) as error:
        raise refusal(path, "a safetensors file", f"another ({error})", hint) from None
    named = {}
    for key, tensor in state.items():
        recurrent = re.search(r"(weight|bias)_[ih]h_l\d", key)
        readout = "weight" if tensor.dim() == 2 else "bias"
        named[f"lstm.{key.rpartition('.')[2]}" if recurrent else f"readout.{readout}"] = tensor
    lstm = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    expected = f"one nn.LSTM layer ({', '.join(lstm)}) and one nn.Linear"
    names = {*(f"lstm.{name}" for name in lstm), "readout.weight", "readout.bias"}
    if named.keys() != names or len(state) != len(names):
        raise refusal(path, expected, ", ".join(sorted(state)[:12]))
    with reading(path, expected, OTHER_MODELS):
        return LstmWeights.from_state_dict(named, path, INPUTS)


# --- the run folder ---------------------------------------------------------------------------


def _config(path: Path, foreign: _Foreign, out: Path, overrides: Mapping[str, Any]) -> RunConfig:
    """The configuration beside the model, what the file itself says, and, before all, overrides."""
    values: dict[str, Any] = {"dataset.t": foreign.length} if foreign.length else {}
    if foreign.config:
        values["dataset.validation_split"] = _ORIGINAL_SPLIT
    hidden = foreign.weights.hidden
    values |= {**overrides, "model.name": "lstm", "model.hidden": hidden, "artifacts": str(out)}
    if foreign.config is None and "dataset.t" not in values:
        expected = "the length T that the model was trained for"
        raise refusal(path, expected, "none", "add --dataset.t T")
    config = configuration.load(foreign.config, values)
    if config.dataset.t > _LONGEST:
        limit = f"T of at most {_LONGEST:,}"
        raise refusal(path, limit, f"{config.dataset.t:,}", "give a shorter --dataset.t")
    return config


def _compare_with_log(
    foreign: _Foreign, config: RunConfig, score: Score, difference: float | None
) -> Imported:
    """Whether the log and the score agree, as far as sampling lets one tell."""
    mse, standard_error, n = score.mse, score.mse_standard_error, score.sequences
    kept = logged = agrees = None
    if foreign.log:
        epochs = len(foreign.log.loss)
        # Keras restores the best weights when it stops early, else it keeps the last ones.
        best = foreign.log.loss.index(min(foreign.log.loss)) + 1
        kept = epochs if epochs >= config.train.epochs else best
        logged = foreign.log.val_loss[kept - 1]
        both = standard_error * math.sqrt(1 + n / config.dataset.n_held_out)
        agrees = bool(abs(mse - logged) <= _SURE * both)
    return Imported(
        Path(config.artifacts),
        foreign.kind,
        config.dataset.t,
        foreign.weights.hidden,
        n,
        mse,
        standard_error,
        score.constant_predictor_mse,
        kept,
        logged,
        agrees,
        difference,
        foreign.log_problem,
    )


def _write(
    folder: RunFolder, model: nn.Module, config: RunConfig, log: _Log | None, imported: Imported
) -> None:
    """The history, the model, the picture and, last, the result."""
    data = config.dataset
    rows = [EpochRow(0, imported.mse, imported.mse, 0, 0, math.nan)]
    reason: StopReason = "imported"
    if log:
        steps = data.n_train * sequence_width(data.t, data.variant)
        losses = enumerate(zip(*log, strict=True), start=1)
        rows = [
            EpochRow(epoch, loss, val_loss, epoch * data.n_train, epoch * steps, math.nan)
            for epoch, (loss, val_loss) in losses
        ]
        reason = "epochs" if len(rows) >= config.train.epochs else "early_stopping"
    kept = rows[(imported.kept or 1) - 1]
    description = models.describe(model) | {"versions": versions()}
    result = RunResult.of(
        config,
        rows,
        kept.epoch,
        reason,
        parameters=description["parameters"],
        device="unknown",
        backend="unknown",
        threads=0,
        imported={
            "from": imported.kind,
            "mse": imported.mse,
            "mse_standard_error": imported.standard_error,
            "sequences": imported.sequences,
            "agrees_with_its_log": imported.agrees,
            "largest_difference": imported.difference,
        },
        versions=versions(),
    )
    folder.write_history(rows)
    folder.write_model(model.state_dict(), description)
    plots.draw_loss(folder.loss_plot, rows, result)
    folder.write_result(result)
