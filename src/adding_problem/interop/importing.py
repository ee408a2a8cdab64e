"""A model that was trained elsewhere becomes a run folder. Nothing of what is read can execute.

    a folder          the original's artifacts: model/ (TensorFlow SavedModel), config_copy.yaml, loss.pkl; or the
                      SavedModel alone
    NAME.keras        Keras 3, LSTM and Dense(1)
    NAME.safetensors  a PyTorch `state_dict` of one `nn.LSTM` layer on two inputs and one `nn.Linear` to one output
"""

from __future__ import annotations

import math
import re
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
from adding_problem import models, plots, runtime
from adding_problem.artifacts import EpochRow, RunFolder, milestones
from adding_problem.config import RunConfig
from adding_problem.errors import InteropError, RunFolderError
from adding_problem.interop import keras_file, plain_pickle, tensor_bundle
from adding_problem.interop.weights import OTHER_MODELS, LstmWeights
from adding_problem.task import affordable, batches, constant_predictor_mse, evaluation_batch, sequence_width
from adding_problem.validate import score_of

__all__ = ["Imported", "import_model"]

_SCORED, _SCORED_STEPS, _FEWEST_SCORED = 10_000, 10**8, 64  # new sequences; fewer where they are long
_LONGEST = 1_000_000  # steps; a configuration from elsewhere could ask for any memory
_SURE = 5  # standard errors beyond which two means differ; squared errors have long tails
_MAX_FILE_BYTES = 1 << 30
_ORIGINAL_SPLIT = 0.7  # the original's code asked Keras for this share, where its comment says 0.3
_VARIABLE = "/.ATTRIBUTES/VARIABLE_VALUE"
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


@dataclass(frozen=True)
class _Foreign:
    """What a file or folder of another program held."""

    kind: str
    weights: LstmWeights
    length: int | None = None
    config: Path | None = None
    losses: Losses | None = None


def import_model(
    path: Path, out: Path, *, overrides: Mapping[str, Any] | None = None, overwrite: bool = False, takeover: bool = False
) -> Imported:
    """Make a run folder of a model trained elsewhere; `validate`, `compare` and the rest then take it as their own.

    The model is scored on new sequences, and the score held against the model's own log where there is one.
    `metrics.csv` holds that log, without seconds; without a log its only row is epoch 0, the score on new sequences.

    Args:
        path: see the module.
        out: the run folder to make.
        overrides: configuration by dotted key, such as ``{"dataset.t": 150}``, which a file that does not say its T needs.
        overwrite: replace the run that `out` may hold.
        takeover: take `out` from a process that gives no sign of life.

    Raises:
        InteropError: when `path` holds nothing that can be imported.
        ConfigError, RunFolderError: when the configuration or `out` cannot serve.
    """
    foreign = _read(path)
    config = _config(path, foreign, out, overrides or {})
    model = models.build_model(config.model, backend=runtime.resolve_backend(config.backend, torch.device("cpu")))
    model.load_state_dict(foreign.weights.state_dict())
    folder = RunFolder(out)
    with folder.locked(takeover=takeover):
        if folder.open(config, overwrite=overwrite) == "finished":
            raise RunFolderError(out, "holds a finished run of this configuration", "give --out another folder, or --overwrite")
        with runtime.cpu_settings(config.threads), runtime.enough_memory():
            summary = _compared_with_log(foreign, config, _score(model, config))
        _write(folder, model, config, _rows(config, foreign.losses) or [EpochRow(0, summary.mse, summary.mse, 0, 0, math.nan)], summary)
    return summary


def _compared_with_log(foreign: _Foreign, config: RunConfig, score: Mapping[str, Any]) -> Imported:
    data, losses, kept = config.dataset, foreign.losses, _kept_epoch(config, foreign.losses)
    return Imported(Path(config.artifacts), foreign.kind, data.t, foreign.weights.hidden, score["sequences"], score["mse"],
                    score["mse_standard_error"], constant_predictor_mse(config.task, data.t), kept,
                    losses["val_loss"][kept - 1] if losses and kept else None, _agrees(config, losses, kept, score))


# --- reading ---------------------------------------------------------------------------------------------------------


def _read(path: Path) -> _Foreign:
    if path.is_dir():
        return _original(path)
    if not path.is_file():
        raise InteropError(f"{path}: there is nothing", "give a SavedModel folder, a .keras or a .safetensors file")
    _check_size(path)
    if path.suffix == ".keras":
        weights, length = keras_file.read(path)
        return _Foreign("keras", weights, length)
    if path.suffix == ".safetensors":
        return _Foreign("safetensors", _state_dict(path))
    raise InteropError(f"{path}: expected a folder, a .keras or a .safetensors file",
                       "save the model in one of these; a pickle (.pt, .pth, .pkl, .h5) is not read")


def _check_size(path: Path) -> None:
    if path.stat().st_size > _MAX_FILE_BYTES:
        raise InteropError(f"{path}: is larger than 1 GiB", "give a model of the adding problem")


def _original(path: Path) -> _Foreign:
    """The original's artifact folder, or a SavedModel."""
    model = path if (path / "variables").is_dir() else path / "model"
    index, data = model / "variables" / "variables.index", model / "variables" / "variables.data-00000-of-00001"
    if not (index.is_file() and data.is_file()):
        raise InteropError(f"{path}: holds no SavedModel (variables/variables.index and its data file)",
                           "give the original's artifact folder, or the folder that tf.saved_model.save wrote")
    _check_size(data)
    entries = tensor_bundle.read_index(index)
    arrays = {name: tensor_bundle.read_array(data, key, entries[key]) for name, key in _variables(model, entries).items()}
    config, losses = path / "config_copy.yaml", path / "loss.pkl"
    return _Foreign("savedmodel", LstmWeights.checked(model, **arrays), config=config if config.is_file() else None,
                    losses=_losses(losses) if losses.is_file() else None)


def _variables(model: Path, entries: Mapping[str, tensor_bundle.Entry]) -> dict[str, str]:
    """Names of the five arrays: Keras 2 numbers the LSTM's and names the readout's; Keras 3 numbers all, in this order."""
    numbered = sorted((key for key in entries if re.fullmatch(rf"variables/\d{{1,6}}{_VARIABLE}", key)),
                      key=lambda key: int(key.split("/")[1]))
    readout = [f"layer_with_weights-1/{name}{_VARIABLE}" for name in ("kernel", "bias")]
    found = numbered + [key for key in readout if key in entries]
    if len(found) != 5:
        raise InteropError(f"{model}: expected the five arrays of an LSTM and Dense(1), found {len(found)}", OTHER_MODELS)
    return dict(zip(("kernel", "recurrent", "bias", "readout", "readout_bias"), found, strict=True))


def _losses(path: Path) -> Losses:
    content = plain_pickle.read(path)
    loss, val_loss = (content.get(name) for name in ("loss", "val_loss")) if isinstance(content, dict) else (None, None)
    if not (_is_column(loss) and _is_column(val_loss) and len(loss) == len(val_loss)):
        raise InteropError(f"{path}: expected a dict of the lists loss and val_loss, equally long", "give the original's loss.pkl")
    try:
        return {"loss": list(map(float, loss)), "val_loss": list(map(float, val_loss))}
    except OverflowError:
        raise InteropError(f"{path}: holds a number that no loss can be: it is beyond floats",
                           "give the original's loss.pkl") from None


def _is_column(values: object) -> TypeGuard[list[float]]:
    return isinstance(values, list) and bool(values) and all(isinstance(value, float | int) for value in values)


def _state_dict(path: Path) -> LstmWeights:
    try:
        state = safetensors.torch.load_file(path)
    except (SafetensorError, OSError) as error:
        raise InteropError(f"{path}: is no safetensors file ({error})", "write it with safetensors.torch.save_file") from None
    recurrent = [key for key in state if re.search(r"(weight|bias)_[ih]h_l\d", key)]
    layers = {key.rpartition(".")[2]: state[key].float() for key in recurrent}
    others = {state[key].dim(): state[key].float() for key in state if key not in recurrent}
    expected = {"weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"}
    if set(layers) != expected or len(recurrent) != 4 or set(others) != {1, 2} or len(state) != 6:
        raise InteropError(f"{path}: expected one nn.LSTM layer ({', '.join(sorted(expected))}) and one nn.Linear, found "
                           f"{', '.join(sorted(state)[:12])}", OTHER_MODELS)
    bias = layers["bias_ih_l0"] + layers["bias_hh_l0"] if layers["bias_ih_l0"].shape == layers["bias_hh_l0"].shape \
        else layers["bias_ih_l0"]
    return LstmWeights.checked(path, kernel=layers["weight_ih_l0"].numpy().T, recurrent=layers["weight_hh_l0"].numpy().T,
                               bias=bias.numpy(), readout=others[2].numpy().T, readout_bias=others[1].numpy())


# --- the run folder --------------------------------------------------------------------------------------------------


def _config(path: Path, foreign: _Foreign, out: Path, overrides: Mapping[str, Any]) -> RunConfig:
    """The configuration beside the model, with what the file itself says; the user's word is the strongest."""
    values: dict[str, Any] = {"dataset.t": foreign.length} if foreign.length else {}
    if foreign.config:
        values["dataset.validation_split"] = _ORIGINAL_SPLIT
    values |= {**overrides, "model.name": "lstm", "model.hidden": foreign.weights.hidden, "artifacts": str(out)}
    if foreign.config is None and "dataset.t" not in values:
        raise InteropError(f"{path}: does not say for which length T it was trained", "add --dataset.t T")
    config = configuration.load(foreign.config, values)
    if config.dataset.t > _LONGEST:
        raise InteropError(f"{path}: T = {config.dataset.t:,} is too long to score the model here", f"give --dataset.t up to {_LONGEST:,}")
    return config


def _rows(config: RunConfig, losses: Losses | None) -> list[EpochRow]:
    data, log = config.dataset, losses or {"loss": [], "val_loss": []}
    steps = sequence_width(data.t, data.variant)
    return [EpochRow(epoch, loss, val_loss, epoch * data.n_train, epoch * data.n_train * steps, math.nan)
            for epoch, (loss, val_loss) in enumerate(zip(log["loss"], log["val_loss"], strict=True), start=1)]


def _kept_epoch(config: RunConfig, losses: Losses | None) -> int | None:
    """Keras restores the best weights when it stops early, and keeps the last ones when the epochs end."""
    if losses is None:
        return None
    epochs = len(losses["loss"])
    return epochs if epochs >= config.train.epochs else losses["loss"].index(min(losses["loss"])) + 1


@torch.no_grad()
def _score(model: nn.Module, config: RunConfig) -> dict[str, Any]:
    """What `validation.json` would say, on new sequences."""
    data = config.dataset
    n = affordable(_SCORED, data.t, steps=_SCORED_STEPS, fewest=_FEWEST_SCORED)
    parts = [(y.numpy(), model(x).numpy()) for x, y in batches(
        n, data.t, seed=config.validate.seed, task=config.task, batch=evaluation_batch(data.t))]
    return score_of(config, data.t, *(np.concatenate(column).reshape(-1) for column in zip(*parts, strict=True)))


def _agrees(config: RunConfig, losses: Losses | None, kept: int | None, score: Mapping[str, Any]) -> bool | None:
    """Whether the log's validation loss and the score are of one size, as far as sampling lets that be told."""
    if losses is None or kept is None:
        return None
    both = score["mse_standard_error"] * math.sqrt(1 + score["sequences"] / config.dataset.n_held_out)
    return bool(abs(score["mse"] - losses["val_loss"][kept - 1]) <= _SURE * both)


def _write(folder: RunFolder, model: nn.Module, config: RunConfig, rows: list[EpochRow], summary: Imported) -> None:
    data, log = config.dataset, rows if rows[0].epoch else []
    kept = rows[summary.kept - 1] if summary.kept else rows[0]
    description = models.describe(model) | {"versions": runtime.versions()}
    result = {
        "digest": config.digest, "seed": config.seed, "t": data.t, **config.task.to_record(), "stream": data.stream,
        "constant_predictor_mse": summary.constant,
        "stop_reason": "epochs" if len(log) >= config.train.epochs else "early_stopping" if log else "imported",
        "epochs": len(log), "best_epoch": kept.epoch, "best_loss": kept.loss, "best_val_loss": kept.val_loss,
        **milestones(rows),
        "sequences": rows[-1].sequences, "sequence_steps": rows[-1].sequence_steps, "seconds": math.nan,
        "parameters": description["parameters"], "device": "unknown", "backend": "unknown", "threads": 0, "started_from": None,
        "imported": {"from": summary.kind, "mse": summary.mse, "mse_standard_error": summary.standard_error,
                     "sequences": summary.sequences, "agrees_with_its_log": summary.agrees},
        "processor": None, "versions": runtime.versions(),
    }
    folder.write_history(rows)
    folder.write_model(model.state_dict(), description)
    plots.draw_loss(folder.loss_plot, rows, result)
    folder.write_result(result)
