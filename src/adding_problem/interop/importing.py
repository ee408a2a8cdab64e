"""A model that was trained elsewhere becomes a run folder.

    a folder                   the original's artifacts: model/ (SavedModel), config_copy.yaml, loss.pkl; or a SavedModel alone
    NAME.keras, .h5, .hdf5     of Keras 2 and 3
    NAME.safetensors           a PyTorch `state_dict` of one `nn.LSTM` layer on two inputs and one `nn.Linear` to one output

A model is accepted when its file says that it is LSTM(H) and Dense(1) with our equations, or when it predicts the same
where it comes from: in TensorFlow, or in a file of predictions. Of what is read nothing can execute, but for a SavedModel
that the user trusts.
"""

from __future__ import annotations

import math
import re
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

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
from adding_problem.evaluation.evaluate import Sequences, evaluate, score_of
from adding_problem.interop import keras_file, plain_pickle, saved_model
from adding_problem.interop.exporting import TOLERANCE
from adding_problem.interop.weights import INPUTS, OTHER_MODELS, Answers, LstmWeights
from adding_problem.runs.folder import RunFolder
from adding_problem.runs.records import EpochRow, RunResult, Score, StopReason
from adding_problem.system.device import resolve_backend, versions
from adding_problem.system.memory import enough_memory
from adding_problem.system.threads import cpu_settings
from adding_problem.task.baselines import constant_predictor_mse
from adding_problem.task.data_sets import affordable
from adding_problem.task.sampling import sequence_width

__all__ = ["Imported", "import_model"]

_SCORED, _SCORED_STEPS, _FEWEST_SCORED = (
    10_000,
    10**8,
    64,
)  # new sequences; fewer where they are long
_LONGEST = 1_000_000  # steps; a configuration from elsewhere could ask for any memory
_SURE = 5  # standard errors beyond which two means differ; squared errors have long tails
_MAX_PREDICTION_BYTES = 1 << 30
_FEWEST_ANSWERS = 20  # sequences that a file of predictions must hold
_ORIGINAL_SPLIT = 0.7  # the original's code asked Keras for this share, where its comment says 0.3
Losses = dict[str, list[float]]


@dataclass(frozen=True)
class Imported:
    """What an import came to.

    Attributes:
        folder: the run folder.
        kind: of what was read: `savedmodel`, `keras` or `safetensors`.
        t, hidden: length that the model is for, and number of its cells.
        mse, standard_error: on `sequences` new sequences.
        constant: what always answering the mean scores.
        logged: validation loss that its own log gives for the weights that were kept, after epoch `kept`; None without log.
        agrees: whether the two fit; None without log.
        difference: largest difference between its predictions here and where it comes from, relative to the largest of
            them where that is above 1; None where the file says what it computes.
        log_problem: why its log was not read; None without log, or when it was.
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
    """What a file or folder of another program held; `answers` are needed where the file does not say what it computes."""

    kind: str
    weights: LstmWeights
    length: int | None = None
    config: Path | None = None
    losses: Losses | None = None
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
    takeover: bool = False,
) -> Imported:
    """Make a run folder of a model trained elsewhere; `validate`, `compare` and the rest then take it as their own.

    The model is scored on new sequences, and the score held against the model's own log where there is one.
    `metrics.csv` holds that log, without seconds; without a log its only row is epoch 0, the score on new sequences.

    Args:
        path: see the module.
        out: the run folder to make.
        overrides: configuration by dotted key, such as ``{"dataset.t": 150}``, which a file that does not say its T needs.
        predictions: `.npz` of sequences x, float32 (n, T, 2), and what the model predicts for them where it comes from, y,
            float32 (n, 1). A state_dict needs it, for it does not say what is computed with it.
        trust: let TensorFlow load and run a SavedModel, in a process of its own, and compare its predictions.
        overwrite: replace the run that `out` may hold.
        takeover: take `out` from a process that gives no sign of life.

    Raises:
        InteropError: when `path` holds nothing that can be imported, or a model that is not known to compute the same.
        ConfigError, RunFolderError: when the configuration or `out` cannot serve.
    """
    foreign = _read(path, trust=trust)
    answers = [*(foreign.answers or []), *(_predictions(predictions) if predictions else [])]
    if foreign.kind == "safetensors" and not answers:
        raise InteropError(
            f"{path}: expected to be told what the model predicts, for a state_dict does not say what is computed "
            "with it; found no predictions",
            "add --predictions NAME.npz, written with numpy.savez(NAME, x=x, y=model(x)), for random sequences x",
        )
    config = _config(path, foreign, out, overrides or {})
    model = models.build_model(
        config.model, backend=resolve_backend(config.backend, torch.device("cpu"))
    )
    model.load_state_dict(foreign.weights.state_dict())
    with enough_memory():
        difference = _check_answers(path, model, answers) if answers else None
    folder = RunFolder(out)
    with folder.locked(takeover=takeover):
        if folder.open(config, overwrite=overwrite) == "finished":
            raise RunFolderError(
                out,
                "holds a finished run of this configuration",
                "give --out another folder, or --overwrite",
            )
        with cpu_settings(config.threads), enough_memory():
            summary = _compared_with_log(foreign, config, _score(model, config), difference)
        _write(
            folder,
            model,
            config,
            _rows(config, foreign.losses)
            or [EpochRow(0, summary.mse, summary.mse, 0, 0, math.nan)],
            summary,
        )
    return summary


@torch.no_grad()
def _check_answers(path: Path, model: nn.Module, answers: Answers) -> float:
    """The largest difference from what the model predicts where it comes from."""
    difference, size = 0.0, 1.0
    for x, y in answers:
        if x.shape[2:] != (INPUTS,) or y.shape != (len(x), 1) or not np.isfinite(y).all():
            raise InteropError(
                f"{path}: expected predictions (B, 1) of sequences (B, T, 2), all of them finite, found "
                f"{y.shape} of {x.shape}",
                OTHER_MODELS,
            )
        difference = max(difference, float(np.abs(model(torch.from_numpy(x)).numpy() - y).max()))
        size = max(size, float(np.abs(y).max()))
    if not difference <= TOLERANCE * size:
        raise InteropError(
            f"{path}: expected an LSTM and a linear unit, which predict the same here and where they come from; "
            f"found predictions that differ by up to {difference:.1e}",
            f"{OTHER_MODELS}; where its layers are these, predict on the CPU in float32",
        )
    return difference / size


def _compared_with_log(
    foreign: _Foreign, config: RunConfig, score: Score, difference: float | None
) -> Imported:
    data, losses, kept = config.dataset, foreign.losses, _kept_epoch(config, foreign.losses)
    return Imported(
        Path(config.artifacts),
        foreign.kind,
        data.t,
        foreign.weights.hidden,
        score.sequences,
        score.mse,
        score.mse_standard_error,
        constant_predictor_mse(config.task, data.t),
        kept,
        losses["val_loss"][kept - 1] if losses and kept else None,
        _agrees(config, losses, kept, score),
        difference,
        foreign.log_problem,
    )


# --- reading ---------------------------------------------------------------------------------------------------------


def _read(path: Path, *, trust: bool) -> _Foreign:
    if path.is_dir():
        return _original(path, trust=trust)
    if not path.is_file():
        raise InteropError(
            f"{path}: there is nothing",
            "give a SavedModel folder, a .keras, an .h5 or a .safetensors file",
        )
    saved_model.check_size(path)
    if path.suffix in keras_file.SUFFIXES:
        weights, length = keras_file.read(path)
        return _Foreign("keras", weights, length)
    if path.suffix == ".safetensors":
        return _Foreign("safetensors", _state_dict(path))
    raise InteropError(
        f"{path}: expected a folder, a .keras, an .h5 or a .safetensors file, found another ending",
        "save the model in one of these; a pickle (.pt, .pth, .pkl) is not read",
    )


def _original(path: Path, *, trust: bool) -> _Foreign:
    """The original's artifact folder, or a SavedModel."""
    model = path if (path / "variables").is_dir() else path / "model"
    if not saved_model.is_saved_model(model):
        raise InteropError(
            f"{path}: holds no SavedModel (variables/variables.index and its data file)",
            "give the original's artifact folder, or the folder that Keras or TensorFlow wrote",
        )
    weights, length, answers = saved_model.run(model) if trust else (*saved_model.read(model), None)
    config, log = path / "config_copy.yaml", path / "loss.pkl"
    losses, problem = _log(log) if log.is_file() else (None, None)
    return _Foreign(
        "savedmodel",
        weights,
        length,
        config if config.is_file() else None,
        losses,
        problem,
        answers,
    )


def _log(path: Path) -> tuple[Losses | None, str | None]:
    """The losses, or why they cannot be read: the model beside them is as good without."""
    try:
        return _losses(path), None
    except InteropError as error:
        return None, str(error)


def _losses(path: Path) -> Losses:
    content = plain_pickle.read(path)
    loss, val_loss = (
        (content.get(name) for name in ("loss", "val_loss"))
        if isinstance(content, dict)
        else (None, None)
    )
    if not (_is_column(loss) and _is_column(val_loss) and len(loss) == len(val_loss)):
        raise InteropError(
            f"{path}: expected a dict of the lists loss and val_loss, equally long",
            "give the original's loss.pkl",
        )
    try:
        return {"loss": list(map(float, loss)), "val_loss": list(map(float, val_loss))}
    except OverflowError:
        raise InteropError(
            f"{path}: holds a number that no loss can be: it is beyond floats",
            "give the original's loss.pkl",
        ) from None


def _is_column(values: object) -> TypeGuard[list[float]]:
    return (
        isinstance(values, list)
        and bool(values)
        and all(isinstance(value, float | int) for value in values)
    )


def _predictions(path: Path) -> Answers:
    """Sequences, and what a model predicts for them where it comes from."""
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > _MAX_PREDICTION_BYTES:
                raise ValueError("larger than 1 GiB")
        with np.load(path, allow_pickle=False) as stored:
            x, y = stored["x"], stored["y"]
        if (
            x.dtype != np.float32
            or y.dtype != np.float32
            or x.ndim != 3
            or len(x) < _FEWEST_ANSWERS
            or x.shape[1] < 2
        ):
            raise ValueError(f"x is {x.dtype} {x.shape}, y is {y.dtype} {y.shape}")
    except (
        OSError,
        ValueError,
        KeyError,
        EOFError,
        zipfile.BadZipFile,
        zlib.error,
        NotImplementedError,
        RuntimeError,
    ) as error:
        raise InteropError(
            f"{path}: expected a .npz file of x, float32 (n, T, 2) with n of at least {_FEWEST_ANSWERS}, and y, "
            f"float32 (n, 1), found {error}",
            "write it with numpy.savez(NAME, x=x, y=model(x))",
        ) from None
    return [(x, y)]


def _state_dict(path: Path) -> LstmWeights:
    try:
        state = safetensors.torch.load_file(path)
    except (SafetensorError, OSError) as error:
        raise InteropError(
            f"{path}: is no safetensors file ({error})", "write it with safetensors.torch.save_file"
        ) from None
    recurrent = [key for key in state if re.search(r"(weight|bias)_[ih]h_l\d", key)]
    layers = {key.rpartition(".")[2]: state[key].float() for key in recurrent}
    others = {state[key].dim(): state[key].float() for key in state if key not in recurrent}
    expected = {"weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"}
    if set(layers) != expected or len(recurrent) != 4 or set(others) != {1, 2} or len(state) != 6:
        raise InteropError(
            f"{path}: expected one nn.LSTM layer ({', '.join(sorted(expected))}) and one nn.Linear, found "
            f"{', '.join(sorted(state)[:12])}",
            OTHER_MODELS,
        )
    bias = (
        layers["bias_ih_l0"] + layers["bias_hh_l0"]
        if layers["bias_ih_l0"].shape == layers["bias_hh_l0"].shape
        else layers["bias_ih_l0"]
    )
    return LstmWeights.checked(
        path,
        kernel=layers["weight_ih_l0"].numpy().T,
        recurrent=layers["weight_hh_l0"].numpy().T,
        bias=bias.numpy(),
        readout=others[2].numpy().T,
        readout_bias=others[1].numpy(),
    )


# --- the run folder --------------------------------------------------------------------------------------------------


def _config(path: Path, foreign: _Foreign, out: Path, overrides: Mapping[str, Any]) -> RunConfig:
    """The configuration beside the model, with what the file itself says; the user's word is the strongest."""
    values: dict[str, Any] = {"dataset.t": foreign.length} if foreign.length else {}
    if foreign.config:
        values["dataset.validation_split"] = _ORIGINAL_SPLIT
    values |= {
        **overrides,
        "model.name": "lstm",
        "model.hidden": foreign.weights.hidden,
        "artifacts": str(out),
    }
    if foreign.config is None and "dataset.t" not in values:
        raise InteropError(
            f"{path}: does not say for which length T it was trained", "add --dataset.t T"
        )
    config = configuration.load(foreign.config, values)
    if config.dataset.t > _LONGEST:
        raise InteropError(
            f"{path}: T = {config.dataset.t:,} is too long to score the model here",
            f"give --dataset.t up to {_LONGEST:,}",
        )
    return config


def _rows(config: RunConfig, losses: Losses | None) -> list[EpochRow]:
    data, log = config.dataset, losses or {"loss": [], "val_loss": []}
    steps = sequence_width(data.t, data.variant)
    return [
        EpochRow(
            epoch, loss, val_loss, epoch * data.n_train, epoch * data.n_train * steps, math.nan
        )
        for epoch, (loss, val_loss) in enumerate(
            zip(log["loss"], log["val_loss"], strict=True), start=1
        )
    ]


def _kept_epoch(config: RunConfig, losses: Losses | None) -> int | None:
    """Keras restores the best weights when it stops early, and keeps the last ones when the epochs end."""
    if losses is None:
        return None
    epochs = len(losses["loss"])
    return (
        epochs if epochs >= config.train.epochs else losses["loss"].index(min(losses["loss"])) + 1
    )


def _score(model: nn.Module, config: RunConfig) -> Score:
    """The model's errors on new sequences."""
    n = affordable(_SCORED, config.dataset.t, steps=_SCORED_STEPS, fewest=_FEWEST_SCORED)
    sequences = Sequences(config.task, config.dataset.t, config.validate.seed, n)
    scored = evaluate(model, sequences)
    return score_of(sequences, scored.y, scored.y_hat)


def _agrees(
    config: RunConfig, losses: Losses | None, kept: int | None, score: Score
) -> bool | None:
    """Whether the log's validation loss and the score are of one size, as far as sampling lets that be told."""
    if losses is None or kept is None:
        return None
    both = score.mse_standard_error * math.sqrt(1 + score.sequences / config.dataset.n_held_out)
    return bool(abs(score.mse - losses["val_loss"][kept - 1]) <= _SURE * both)


def _write(
    folder: RunFolder, model: nn.Module, config: RunConfig, rows: list[EpochRow], summary: Imported
) -> None:
    log = rows if rows[0].epoch else []
    kept = rows[summary.kept - 1] if summary.kept else rows[0]
    description = models.describe(model) | {"versions": versions()}
    reason: StopReason = "imported"
    if log:
        reason = "epochs" if len(log) >= config.train.epochs else "early_stopping"
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
            "from": summary.kind,
            "mse": summary.mse,
            "mse_standard_error": summary.standard_error,
            "sequences": summary.sequences,
            "agrees_with_its_log": summary.agrees,
            "largest_difference": summary.difference,
        },
        versions=versions(),
    )
    folder.write_history(rows)
    folder.write_model(model.state_dict(), description)
    plots.draw_loss(folder.loss_plot, rows, result)
    folder.write_result(result)
