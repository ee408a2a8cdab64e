"""The run folder: sole owner of its file names and formats.

    config_copy.yaml         the configuration, re-runnable; written first
    metrics.csv              one row per epoch
    loss.pkl                 dict of two lists of floats, `loss` and `val_loss`, as the original's
    checkpoint.safetensors   what `--resume` continues from
    loss.png                 both losses against the epoch
    model/                   model.safetensors (weights), model.json (architecture, shapes, versions)
    result.json              written last: a folder is complete when it is there
    validation.json, pred.pkl, pred.png    left by validation mode
    tensorboard/             event files, where the configuration asks for them

Every file is written under a temporary name, flushed to the disk and renamed: a reader never meets half of one.
Pickles are written, for the original's users, and never read.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import pickle
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, Literal

import numpy as np
import safetensors.torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor

from adding_problem import config as configuration
from adding_problem.config import RunConfig
from adding_problem.errors import ConfigError, RunFolderError

__all__ = ["EpochRow", "PredictionWriter", "RunFolder", "write_json", "write_picture"]

Float32 = NDArray[np.float32]
_MAX_JSON_BYTES = 64 << 20


@dataclass(frozen=True)
class EpochRow:
    """One row of `metrics.csv`. Sequences and sequence-steps count training alone, from the start of the run."""

    epoch: int
    loss: float
    val_loss: float
    sequences: int
    sequence_steps: int
    seconds: float


_COLUMNS = [column.name for column in dataclasses.fields(EpochRow)]


class RunFolder:
    """The files of one run.

    Args:
        path: the folder; it need not exist yet.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config_copy = self.path / "config_copy.yaml"
        self.metrics = self.path / "metrics.csv"
        self.loss_pickle = self.path / "loss.pkl"
        self.checkpoint = self.path / "checkpoint.safetensors"
        self.loss_plot = self.path / "loss.png"
        self.model = self.path / "model"
        self.weights = self.model / "model.safetensors"
        self.model_description = self.model / "model.json"
        self.result = self.path / "result.json"
        self.validation = self.path / "validation.json"
        self.prediction_pickle = self.path / "pred.pkl"
        self.prediction_plot = self.path / "pred.png"
        self.tensorboard = self.path / "tensorboard"

    # --- the life of a run ---

    def open(self, config: RunConfig, *, resume: bool = False, overwrite: bool = False) -> Literal[
        "fresh", "resumed", "finished"
    ]:
        """Make the folder ready for a run of this configuration.

        Returns:
            `finished` when it already holds this very run; `resumed` when there is a checkpoint to continue from;
            else `fresh`, with the configuration written.

        Raises:
            ConfigError: when the path cannot be a folder or cannot be written.
            RunFolderError: when it holds another run, or an unfinished one and neither flag was given.
        """
        self._make_writable()
        if overwrite:
            self._clear()
        elif self.config_copy.exists():
            if self.read_config().digest != config.digest:
                raise RunFolderError(self.path, "holds a run of another configuration",
                                     "give --artifacts another folder, or --overwrite to delete that run")
            if self.holds_finished(config):
                return "finished"
            if resume and self.checkpoint.exists():
                return "resumed"
            if not resume and self.checkpoint.exists():
                raise RunFolderError(self.path, "holds an unfinished run of this configuration",
                                     "give --resume to continue it, or --overwrite to start again")
        _write(self.config_copy, configuration.to_yaml(config).encode())
        return "fresh"

    def holds_finished(self, config: RunConfig) -> bool:
        """Whether the folder holds a complete run of this very configuration."""
        return self.result.is_file() and self.read_config().digest == config.digest

    def _make_writable(self) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            probe = self.path / ".write-probe"
            probe.touch()
            probe.unlink()
        except (FileExistsError, NotADirectoryError):
            raise ConfigError("artifacts", "a folder or a path where one can be made", f"a file on {self.path}",
                              "give artifacts another path") from None
        except (OSError, ValueError) as error:
            raise ConfigError("artifacts", "a folder that can be written",
                              f"{self.path}: {getattr(error, 'strerror', None) or error}",
                              "give artifacts another path, or mend its permissions") from None

    def _clear(self) -> None:
        """Delete the files of a run, the result first, and nothing that is not ours."""
        for file in (self.result, self.config_copy, self.metrics, self.loss_pickle, self.checkpoint, self.loss_plot,
                     self.weights, self.model_description, self.validation, self.prediction_pickle,
                     self.prediction_plot, *self.tensorboard.glob("events.out.tfevents.*")):
            file.unlink(missing_ok=True)

    # --- writing ---

    def write_history(self, rows: Sequence[EpochRow]) -> None:
        """`metrics.csv` and `loss.pkl`."""
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(_COLUMNS)
        writer.writerows(dataclasses.astuple(row) for row in rows)
        _write(self.metrics, text.getvalue().encode())
        losses = {"loss": [row.loss for row in rows], "val_loss": [row.val_loss for row in rows]}
        _write(self.loss_pickle, pickle.dumps(losses, protocol=2))

    def write_checkpoint(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Named tensors, and everything else as JSON in the file's header."""
        _write(self.checkpoint, safetensors.torch.save(dict(tensors), {"state": json.dumps(state)}))

    def write_model(self, weights: Mapping[str, Tensor], description: Mapping[str, Any]) -> None:
        """The `model` folder."""
        self.model.mkdir(exist_ok=True)
        _write(self.weights, safetensors.torch.save(dict(weights)))
        write_json(self.model_description, description)

    def write_result(self, result: Mapping[str, Any]) -> None:
        """`result.json`: call it last."""
        write_json(self.result, result)

    def write_validation(self, score: Mapping[str, Any]) -> None:
        """`validation.json`."""
        write_json(self.validation, score)

    @contextmanager
    def predictions(self, n: int, width: int) -> Iterator[PredictionWriter]:
        """Write `pred.pkl` batch by batch: n sequences of `width` steps."""
        with _replacing(self.prediction_pickle) as stream:
            writer = PredictionWriter(stream, n, width)
            yield writer
            writer.finish()

    # --- reading ---

    def read_config(self) -> RunConfig:
        """The configuration that the folder was made with."""
        if not self.config_copy.is_file():
            raise RunFolderError(self.path, "is no run folder: it has no config_copy.yaml",
                                 "train first: adding-problem train --config FILE")
        return configuration.load(self.config_copy)

    def read_history(self) -> list[EpochRow]:
        """The rows of `metrics.csv`."""
        self._require(self.metrics)
        with self.metrics.open(newline="") as stream:
            try:
                header, *rows = list(csv.reader(stream))
                if header != _COLUMNS:
                    raise ValueError(f"expected the columns {', '.join(_COLUMNS)}")
                return [
                    EpochRow(int(epoch), float(loss), float(val_loss), int(sequences), int(steps), float(seconds))
                    for epoch, loss, val_loss, sequences, steps, seconds in rows
                ]
            except (ValueError, csv.Error) as error:
                raise self._damaged(self.metrics, error) from None

    def read_checkpoint(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What `write_checkpoint` was given."""
        self._require(self.checkpoint)
        try:
            with safetensors.safe_open(self.checkpoint, framework="pt") as stored:
                tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
                return tensors, json.loads(stored.metadata()["state"])
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise self._damaged(self.checkpoint, error) from None

    def read_model(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Weights and description of the trained model."""
        if not self.result.is_file():
            raise RunFolderError(self.path, "holds no finished run: it has no result.json",
                                 "train first: adding-problem train --config FILE (--resume continues a cut run)")
        self._require(self.weights)
        try:
            return safetensors.torch.load_file(self.weights), self._read_json(self.model_description)
        except SafetensorError as error:
            raise self._damaged(self.weights, error) from None

    def read_result(self) -> dict[str, Any]:
        """`result.json`."""
        return self._read_json(self.result)

    def read_validation(self) -> dict[str, Any]:
        """`validation.json`."""
        return self._read_json(self.validation)

    def _read_json(self, file: Path) -> dict[str, Any]:
        self._require(file)
        try:
            if file.stat().st_size > _MAX_JSON_BYTES:
                raise ValueError("larger than 64 MiB")
            document = json.loads(file.read_text(encoding="utf-8"))
            if not isinstance(document, dict):
                raise ValueError("not a JSON object")
        except (ValueError, RecursionError) as error:
            raise self._damaged(file, error) from None
        return document

    # --- carrying a folder to another machine ---

    def stamps(self) -> dict[str, tuple[int, int]]:
        """Relative name -> (time of change, size) of every file; temporary and hidden ones are left out."""
        found = {}
        for file in self.path.rglob("*"):
            name = file.relative_to(self.path)
            with suppress(FileNotFoundError):  # replaced between listing and looking
                if file.is_file() and not any(part.startswith(".") for part in name.parts):
                    found[name.as_posix()] = (file.stat().st_mtime_ns, file.stat().st_size)
        return found

    def snapshot(self, names: Iterable[str]) -> dict[str, bytes]:
        """The content of these files; each is whole, since files are only ever replaced."""
        return {name: (self.path / name).read_bytes() for name in names}

    def restore(self, files: Mapping[str, bytes]) -> None:
        """Write what `snapshot` gave.

        Raises:
            RunFolderError: when a name would lead out of the folder.
        """
        for name, content in self.in_order(files):
            parts = PurePosixPath(name).parts
            if not parts or ".." in parts or name.startswith("/"):
                raise RunFolderError(self.path, f"was sent a file of the name {name!r}", "expected one inside the folder")
            target = self.path.joinpath(*parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            _write(target, content)

    @staticmethod
    def in_order(files: Mapping[str, bytes]) -> list[tuple[str, bytes]]:
        """As a run writes them: `config_copy.yaml` makes a folder a run's, `result.json` makes it complete."""
        return sorted(files.items(), key=lambda item: {"config_copy.yaml": 0, "result.json": 2}.get(item[0], 1))

    def _require(self, file: Path) -> None:
        if not file.is_file():
            raise RunFolderError(self.path, f"lacks {file.relative_to(self.path)}",
                                 "train first, or point at the folder of a finished run")

    def _damaged(self, file: Path, error: Exception) -> RunFolderError:
        return RunFolderError(self.path, f"{file.relative_to(self.path)} is damaged ({error})",
                              "train again with --overwrite, or restore the file")


class PredictionWriter:
    """Streams ``{"x": (n, W, 2), "y": (n,), "y_hat": (n,)}``, float32, into a pickle that NumPy alone can read.

    `pickle.dump` would need the whole of x in memory, twice. The opcodes written here build each array as
    ``numpy.ndarray(shape, "<f4", bytearray)``, a public constructor of every NumPy version.
    """

    def __init__(self, stream: IO[bytes], n: int, width: int) -> None:
        self._stream, self._n = stream, n
        self._y: list[Float32] = []
        self._y_hat: list[Float32] = []
        stream.write(pickle.PROTO + b"\x05" + pickle.EMPTY_DICT + pickle.MARK)
        self._begin_array("x", (n, width, 2))

    def add(self, x: Float32, y: Float32, y_hat: Float32) -> None:
        """The next sequences (k, W, 2), their targets (k, 1) or (k,) and predictions (k, 1) or (k,)."""
        self._stream.write(np.ascontiguousarray(x, "<f4").data)
        self._y.append(y.reshape(-1))
        self._y_hat.append(y_hat.reshape(-1))

    @property
    def y(self) -> Float32:
        """Targets so far, (k,)."""
        return np.concatenate(self._y)

    @property
    def y_hat(self) -> Float32:
        """Predictions so far, (k,)."""
        return np.concatenate(self._y_hat)

    def finish(self) -> None:
        """Close x and write y and y_hat."""
        if len(self.y) != self._n:
            raise ValueError(f"expected {self._n} sequences, found {len(self.y)}")
        self._end_array()
        for name, array in (("y", self.y), ("y_hat", self.y_hat)):
            self._begin_array(name, (self._n,))
            self._stream.write(np.ascontiguousarray(array, "<f4").data)
            self._end_array()
        self._stream.write(pickle.SETITEMS + pickle.STOP)

    def _begin_array(self, name: str, shape: tuple[int, ...]) -> None:
        self._stream.write(_pickled_text(name) + pickle.GLOBAL + b"numpy\nndarray\n" + pickle.MARK)
        self._stream.write(pickle.MARK + b"".join(_pickled_int(size) for size in shape) + pickle.TUPLE)
        self._stream.write(_pickled_text("<f4") + pickle.BYTEARRAY8 + struct.pack("<Q", 4 * int(np.prod(shape))))

    def _end_array(self) -> None:
        self._stream.write(pickle.TUPLE + pickle.REDUCE)


def _pickled_text(text: str) -> bytes:
    return pickle.SHORT_BINUNICODE + bytes([len(text)]) + text.encode()


def _pickled_int(value: int) -> bytes:
    return pickle.LONG1 + b"\x08" + struct.pack("<q", value)


# --- files -----------------------------------------------------------------------------------------------------------


@contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file that takes the place of `path` when the block ends well, and vanishes when it does not."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _write(path: Path, data: bytes) -> None:
    with _replacing(path) as stream:
        stream.write(data)


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write a JSON document in one piece."""
    _write(path, (json.dumps(document, indent=2) + "\n").encode())


def write_picture(path: Path, data: bytes) -> None:
    """Write an image, like every file here, in one piece."""
    _write(path, data)
