"""The run folder: sole owner of its file names and formats.

    config_copy.yaml         the configuration, re-runnable; written first
    metrics.csv              one row per epoch
    loss.pkl                 dict of two lists of floats, `loss` and `val_loss`, as the original's
    checkpoint.safetensors   what `--resume` continues from
    checkpoint.previous.safetensors   the checkpoint before it
    loss.png                 both losses against the epoch
    model/                   model.safetensors (weights), model.json (architecture, versions)
                             exports: model.keras, saved_model/, model.onnx, model.pt2
    result.json              written last: a folder is complete when it is there
    validation.json, pred.pkl, pred.png    left by validation mode
    scored/                  predictions of long scorings, by a digest of what was scored
    tensorboard/             event files, where the configuration asks for them
    wandb/                   runs of Weights & Biases, likewise; those of older runs stay

Every file is written under a temporary name, flushed to the disk and renamed: a reader never meets
half of one. Pickles are written, for the original's users, and never read. What is read may come
from an untrusted file: regular files inside the folder alone, of bounded size and checked content.
"""

from __future__ import annotations

import csv
import dataclasses
import errno
import hashlib
import io
import json
import logging
import os
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import IO, Any, Literal, TypeVar

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from adding_problem import config as configuration
from adding_problem.config import RunConfig
from adding_problem.errors import ConfigError, RunFolderError
from adding_problem.runs import atomic_io
from adding_problem.runs.lock import lock_folder
from adding_problem.runs.predictions import Predictions, PredictionWriter
from adding_problem.runs.records import (
    EpochRow,
    RunRecord,
    RunResult,
    Score,
    Text,
    read_json,
)
from adding_problem.runs.resume import continues, difference

__all__ = ["HORIZON", "RunFolder"]

HORIZON = "horizon.json"
"""The summary in the folder of a horizon run, beside the run folders of its lengths."""

_EXPORTS = {
    "keras": "model.keras",
    "savedmodel": "saved_model",
    "onnx": "model.onnx",
    "torch-export": "model.pt2",
}
_MAX_JSON_BYTES = 4 << 20  # a real one has a few KiB
_MAX_HISTORY_BYTES = 128 << 20  # the most epochs that there may be, in lines of at most 134 bytes
_MAX_HEADER_BYTES = (
    64 << 20
)  # of a safetensors file: names and shapes, and what a checkpoint holds beside tensors
_log = logging.getLogger(__name__)

_Record = TypeVar("_Record")


def _count(text: str) -> int:
    """A whole number from 0 to 2^53.

    Raises:
        ValueError: when it is none.
    """
    value = int(text)
    if not 0 <= value <= 1 << 53:
        raise ValueError(f"expected a whole number up to 2^53, found {text[:30]!r}")
    return value


_COLUMNS = [column.name for column in dataclasses.fields(EpochRow)]
_PARSERS: list[Callable[[str], Any]] = [_count, float, float, _count, _count, float, _count, _count]


@dataclass(frozen=True)
class _ModelNames:
    """What `model.json` calls the model."""

    family: Text
    name: Text | None = None


class RunFolder:
    """The files of one run.

    Reading raises RunFolderError where they are missing or damaged, writing StorageError.

    Args:
        path: the folder; it need not exist yet.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config_copy = self.path / "config_copy.yaml"
        self.metrics = self.path / "metrics.csv"
        self.loss_pickle = self.path / "loss.pkl"
        self.checkpoint = self.path / "checkpoint.safetensors"
        self.previous_checkpoint = self.path / "checkpoint.previous.safetensors"
        self.loss_plot = self.path / "loss.png"
        self.model = self.path / "model"
        self.weights = self.model / "model.safetensors"
        self.model_description = self.model / "model.json"
        self.exports = {name: self.model / file for name, file in _EXPORTS.items()}
        self.result = self.path / "result.json"
        self.validation = self.path / "validation.json"
        self.prediction_pickle = self.path / "pred.pkl"
        self.prediction_plot = self.path / "pred.png"
        self.tensorboard = self.path / "tensorboard"
        self.wandb = self.path / "wandb"
        self.scored = self.path / "scored"
        self._held = False

    # --- the life of a run ---

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Make the folder and keep other processes out while the block runs.

        Raises:
            ConfigError: when the path cannot be a folder or cannot be written.
            LockError: when another process holds the folder.
        """
        self._make_writable()
        with lock_folder(self.path):
            self._held = True
            try:
                atomic_io.remove_leftovers(self.path)
                yield
            finally:
                self._held = False

    def open(
        self, config: RunConfig, *, resume: bool = False, overwrite: bool = False
    ) -> Literal["fresh", "resumed", "finished"]:
        """Make the folder ready for a run of this configuration.

        Returns:
            `finished` when it already holds this very run; `resumed` when there is a checkpoint to
            continue from, of this run or of one that differs in a smaller budget alone (see
            `adopt`); else `fresh`, with the configuration written.

        Raises:
            RunFolderError: when it holds another run, or an unfinished one and neither flag was
                given, or files of these names that are no run's.
        """
        self._make_writable()
        if not self.config_copy.exists() and (
            foreign := next((file for file in self._own_files() if file.exists()), None)
        ):
            raise RunFolderError(
                self.path,
                f"is no run folder, yet holds a file {foreign.name}, which a run would replace",
                "give --artifacts another folder",
            )
        if overwrite:
            self.clear()
        elif (
            self.loss_pickle.exists() and not self.metrics.exists()
        ):  # ours comes after metrics.csv
            raise RunFolderError(
                self.path,
                "holds another program's run, with a loss.pkl and no metrics.csv",
                "give --artifacts another folder; adding-problem import reads the original's",
            )
        elif self.config_copy.exists():
            if (there := self.read_config()).digest != config.digest:
                if not continues(there, config):
                    raise RunFolderError(
                        self.path,
                        f"holds a run of another configuration ({difference(there, config)})",
                        "give --artifacts another folder, or delete that run (--overwrite does)",
                    )
                if self.has_checkpoint or atomic_io.is_regular(self.result):
                    return self._open_to_go_on(difference(there, config), resume=resume)
            elif self.holds_finished(config):
                return "finished"
            if resume and self.has_checkpoint:
                return "resumed"
            if self.has_checkpoint:
                raise RunFolderError(
                    self.path,
                    "holds an unfinished run of this configuration",
                    "give --resume to continue it, or --overwrite to start again",
                )
        self._write(self.config_copy, configuration.to_yaml(config).encode())
        return "fresh"

    def _open_to_go_on(self, difference: str, *, resume: bool) -> Literal["resumed"]:
        problem = f"holds a run with a smaller budget ({difference})"
        if not self.has_checkpoint:
            raise RunFolderError(
                self.path,
                f"{problem}, and no checkpoint to continue from",
                "give --artifacts another folder, or --overwrite to train again",
            )
        if not resume:
            raise RunFolderError(
                self.path,
                problem,
                "give --resume to continue it, --artifacts another folder, or --overwrite "
                "to start again",
            )
        return "resumed"

    def adopt(self, config: RunConfig) -> None:
        """Make a run with a smaller budget this one.

        Its result, its scores and the exports of its model are deleted.

        Call it when the checkpoint is read. Cut at any moment, the folder holds an unfinished run.
        """
        if self.read_config().digest == config.digest:
            return
        self._delete(
            [
                self.result,
                self.validation,
                self.prediction_pickle,
                self.prediction_plot,
                self.loss_plot,
                *self.exports.values(),
            ]
        )
        self._write(self.config_copy, configuration.to_yaml(config).encode())

    @property
    def has_checkpoint(self) -> bool:
        """Whether there is something to resume from."""
        return atomic_io.is_regular(self.checkpoint) or atomic_io.is_regular(
            self.previous_checkpoint
        )

    def holds_finished(self, config: RunConfig) -> bool:
        """Whether the folder holds a complete run of this very configuration."""
        return (
            atomic_io.is_regular(self.result)
            and self.config_copy.exists()
            and self.read_config().digest == config.digest
        )

    def _make_writable(self) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if not os.access(self.path, os.W_OK):
                raise PermissionError(errno.EACCES, "no permission to write there")
        except (FileExistsError, NotADirectoryError):
            raise ConfigError(
                "artifacts",
                "a folder or a path where one can be made",
                f"a file on {self.path}",
                "give artifacts another path",
            ) from None
        except (OSError, ValueError) as error:
            raise ConfigError(
                "artifacts",
                "a folder that can be written",
                f"{self.path}: {getattr(error, 'strerror', None) or error}",
                "give artifacts another path, or fix its permissions",
            ) from None

    def _own_files(self) -> list[Path]:
        return [
            self.result,
            self.metrics,
            self.loss_pickle,
            self.checkpoint,
            self.previous_checkpoint,
            self.loss_plot,
            self.weights,
            self.model_description,
            self.validation,
            self.prediction_pickle,
            self.prediction_plot,
            *self.exports.values(),
            *self.tensorboard.glob("events.out.tfevents.*"),
            *self.scored.glob("*.safetensors"),
        ]

    def clear(self) -> None:
        """Delete the files of a run, the result first, the configuration last, and no others."""
        self.check_own_files()
        self._delete([*self._own_files(), self.config_copy])

    def _delete(self, own: Iterable[Path]) -> None:
        for file in own:
            self._check_own(file)
            atomic_io.remove(file, folder=file == self.exports["savedmodel"])

    def check_own_files(self) -> None:
        """Raise RunFolderError if a folder of the run's files is a link that leads out."""
        for file in [*self._own_files(), self.config_copy]:
            self.check_inside(file.parent)

    # --- writing ---

    def write_history(self, rows: Sequence[EpochRow]) -> None:
        """`metrics.csv` and `loss.pkl`."""
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(_COLUMNS)
        writer.writerows(row.values for row in rows)
        self._write(self.metrics, text.getvalue().encode())
        losses = {"loss": [row.loss for row in rows], "val_loss": [row.val_loss for row in rows]}
        self._write(self.loss_pickle, pickle.dumps(losses, protocol=2))

    def write_checkpoint(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Named tensors, and everything else as JSON in the file's header, under a digest.

        The last checkpoint is kept.
        """
        text = json.dumps(state)
        data = safetensors.torch.save(
            dict(tensors), {"state": text, "digest": _digest(tensors, text)}
        )
        with self._replacing(self.checkpoint, keep=self.previous_checkpoint) as stream:
            stream.write(data)

    def write_model(self, weights: Mapping[str, Tensor], description: Mapping[str, Any]) -> None:
        """The `model` folder; the description is given a digest of the weights."""
        atomic_io.make_folder(self.model)
        self._write(self.weights, safetensors.torch.save(dict(weights)))
        self._write_json(
            self.model_description, dict(description) | {"weights_digest": _digest(weights)}
        )

    def place_export(self, name: str, draft: Path) -> None:
        """Move a model in another format, a file or a folder, to its place `exports[name]`."""
        self._check_own(self.exports[name])
        atomic_io.place(draft, self.exports[name])

    def write_result(self, result: RunResult) -> None:
        """`result.json`: call it last."""
        self._write_json(self.result, dataclasses.asdict(result))

    def write_score(self, score: Score) -> None:
        """`validation.json`."""
        self._write_json(self.validation, dataclasses.asdict(score))

    def write_scored(self, key: str, scored: Predictions) -> None:
        """The targets and predictions so far of a long scoring, under a key that says of what."""
        arrays = {"y": scored.y[: scored.count], "y_hat": scored.y_hat[: scored.count]}
        tensors = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
        atomic_io.make_folder(self.scored)
        self._write(
            self._scored_file(key), safetensors.torch.save(tensors, {"digest": _digest(tensors)})
        )

    @contextmanager
    def predictions(self, n: int, width: int, columns: int) -> Iterator[PredictionWriter]:
        """Write `pred.pkl` batch by batch: n sequences of `width` steps and so many input columns.

        Raises:
            StorageError: when the disk has less room than it needs.
        """
        atomic_io.require_room(
            self.prediction_pickle,
            PredictionWriter.size(n, width, columns),
            "score fewer sequences (validate.dt_length), or move the run folder to another disk",
        )
        with self._replacing(self.prediction_pickle) as stream:
            writer = PredictionWriter(stream, n, width, columns)
            yield writer
            writer.finish()

    def write_file(self, name: str, content: bytes) -> None:
        """A file that another machine has sent, by its path relative to the folder.

        Raises:
            RunFolderError: when it would lie outside.
        """
        parts = PurePosixPath(name).parts
        if not parts or ".." in parts or name.startswith("/"):
            raise RunFolderError(
                self.path,
                f"was sent a file of the name {name!r}, which would be outside",
                "see that every node has the same version of this package, then start the sweep "
                "again",
            )
        target = self.path.joinpath(*parts)
        self.check_inside(target.parent)
        target.parent.mkdir(parents=True, exist_ok=True)
        self._write(target, content)

    @contextmanager
    def _replacing(self, file: Path, keep: Path | None = None) -> Iterator[IO[bytes]]:
        self._check_own(file)
        with atomic_io.replacing(file, keep) as stream:
            yield stream
            self._check_own(file)  # again: what takes long to write may have been overtaken

    def _check_own(self, file: Path) -> None:
        """Raise RunFolderError unless a file may be written here."""
        self.check_inside(file.parent)

    def _write(self, file: Path, data: bytes) -> None:
        with self._replacing(file) as stream:
            stream.write(data)

    def _write_json(self, file: Path, document: Mapping[str, Any]) -> None:
        self._write(file, atomic_io.json_text(document))

    # --- reading ---

    def read_config(self) -> RunConfig:
        """The configuration that the folder was made with."""
        if not atomic_io.is_regular(self.config_copy):
            raise RunFolderError(
                self.path,
                "is no run folder: it has no config_copy.yaml",
                "train first: adding-problem train --config FILE",
            )
        self.check_inside(self.config_copy)
        return configuration.load(self.config_copy)

    def read_history(self) -> list[EpochRow]:
        """The rows of `metrics.csv`; none of a run whose first epoch is under way."""
        if not (
            atomic_io.is_regular(self.metrics) or atomic_io.is_regular(self.result)
        ) and atomic_io.is_regular(self.config_copy):
            return []
        try:
            text = self._read(self.metrics, _MAX_HISTORY_BYTES).decode()
            lines = csv.reader(io.StringIO(text, newline=""))
            header = next(lines, [])
            if header not in (
                _COLUMNS,
                _COLUMNS[:-1],
                _COLUMNS[:-2],
            ):  # the last two came later than the others
                raise ValueError(f"expected the columns {', '.join(_COLUMNS)}")
            parsers = _PARSERS[: len(header)]
            most = islice(lines, configuration.MOST_EPOCHS)
            rows = [
                EpochRow(*(parse(cell) for parse, cell in zip(parsers, line, strict=True)))
                for line in most
            ]
            if next(lines, None) is not None:
                raise ValueError(f"more than {configuration.MOST_EPOCHS:,} epochs")
            return rows
        except (ValueError, csv.Error) as error:
            raise self._damaged(self.metrics, error) from None

    def read_checkpoint(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What `write_checkpoint` was given last, or, where that file is damaged, the time before.

        The log tells of a damaged file. A process that holds the folder removes it: the next that
        is written must not push the good one out.

        Raises:
            RunFolderError: when there is none that is intact.
        """
        damage = ""
        for file in (self.checkpoint, self.previous_checkpoint):
            if not atomic_io.is_regular(file):
                continue
            try:
                found = self._read_one_checkpoint(file)
            except OSError as error:
                raise self._unreadable(file, error) from None
            except (SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
                damage += f"{' and ' if damage else ''}{file.name} is damaged ({error})"
                _log.warning(
                    "%s: %s is damaged (%s)%s",
                    self.path,
                    file.name,
                    error,
                    "; the one before it is taken" if file == self.checkpoint else "",
                )
                continue
            if damage and self._held:
                atomic_io.remove(self.checkpoint)
            return found
        raise RunFolderError(
            self.path,
            damage or "holds no checkpoint",
            "train again with --overwrite, or restore the file",
        )

    def _read_one_checkpoint(self, file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors, metadata = self._read_safetensors(file)
        if metadata.get("digest") != _digest(tensors, metadata["state"]):
            raise ValueError("its digest is another")
        return tensors, json.loads(metadata["state"])

    def read_model(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Weights and description of the trained model."""
        if not atomic_io.is_regular(self.result):
            raise RunFolderError(
                self.path,
                "holds no finished run: it has no result.json",
                "give the folder of a finished run (--artifacts), or train first: adding-problem "
                "train --config FILE (--resume continues "
                "a cut run)",
            )
        description = self._read_json(self.model_description, dict)
        self._read_json(self.model_description, _ModelNames)
        try:
            weights, _ = self._read_safetensors(self.weights)
            if description.get("weights_digest", _digest(weights)) != _digest(weights):
                raise ValueError("its digest is not that of model.json")
        except OSError as error:
            raise self._unreadable(self.weights, error) from None
        except (SafetensorError, TypeError, ValueError) as error:
            raise self._damaged(self.weights, error) from None
        return weights, description

    def weights_digest(self) -> str | None:
        """Of the trained weights, as `model.json` says; None where it does not."""
        with suppress(RunFolderError):
            digest = self._read_json(self.model_description, dict).get("weights_digest")
            return digest if isinstance(digest, str) else None
        return None

    def read_scored(self, key: str, scored: Predictions) -> None:
        """Fill in what an earlier scoring of this key has left, unless that is damaged."""
        file = self._scored_file(key)
        if not atomic_io.is_regular(file):
            return
        with suppress(OSError, RunFolderError, SafetensorError, KeyError, TypeError, ValueError):
            tensors, metadata = self._read_safetensors(file)
            y, y_hat = (tensors[name].numpy()[: len(scored.y)] for name in ("y", "y_hat"))
            if (
                metadata["digest"] == _digest(tensors)
                and y.dtype == y_hat.dtype == scored.y.dtype
                and y.shape == y_hat.shape == (len(y),)
            ):
                scored.add(y, y_hat)

    def _scored_file(self, key: str) -> Path:
        return self.scored / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.safetensors"

    def read(self, *, score: bool = True) -> RunRecord:
        """The run as the folder holds it, finished or not.

        Args:
            score: read `validation.json` too, which may be damaged where nobody asks for it.
        """
        config, rows = self.read_config(), self.read_history()
        result = self.read_result() if atomic_io.is_regular(self.result) else None
        digest = self.weights_digest() if result else None
        found = self._own_score(result) if score else None
        return RunRecord(self.path, config, tuple(rows), result, found, weights_digest=digest)

    def _own_score(self, result: RunResult | None) -> Score | None:
        """`validation.json`, unless it is of another model, T or task than the result."""
        if result is None or not atomic_io.is_regular(self.validation):
            return None
        score = self.read_score()
        same = (score.model, score.t, score.task) == (result.digest, result.t, result.task)
        return score if same else None

    def read_result(self) -> RunResult:
        """`result.json`."""
        return self._read_json(self.result, RunResult)

    def read_score(self) -> Score:
        """`validation.json`."""
        return self._read_json(self.validation, Score)

    def _read_json(self, file: Path, kind: type[_Record]) -> _Record:
        try:
            return read_json(kind, self._read(file, _MAX_JSON_BYTES))
        except ValueError as error:
            raise self._damaged(file, error) from None

    def _read_safetensors(self, file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Tensors and metadata; the library checks that shapes add up to the size of the file."""
        self._require(file)
        with file.open("rb") as stream:
            header = stream.read(8)
        if len(header) < 8 or int.from_bytes(header, "little") > min(
            _MAX_HEADER_BYTES, file.stat().st_size
        ):
            raise ValueError("its header is larger than the file may have")
        with (
            atomic_io.utf8_path(file) as path,
            safetensors.safe_open(path, framework="pt") as stored,
        ):
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
            return tensors, stored.metadata() or {}

    def _read(self, file: Path, most: int) -> bytes:
        self._require(file)
        try:
            return atomic_io.read_bounded(file, most)
        except OSError as error:
            raise self._unreadable(file, error) from None

    def _require(self, file: Path) -> None:
        if not atomic_io.is_regular(file):
            raise RunFolderError(
                self.path,
                f"lacks {file.relative_to(self.path)}",
                "train first, or point at the folder of a finished run",
            )
        self.check_inside(file)

    def check_inside(self, path: Path) -> None:
        """Whether a path leads to nothing outside of the folder, as a link that came with it may.

        Raises:
            RunFolderError: when it does.
        """
        if atomic_io.escapes(path, self.path):
            raise RunFolderError(
                self.path,
                f"{path.relative_to(self.path)} is a link that leads out of the folder",
                "put the files themselves into the folder",
            )

    def _unreadable(self, file: Path, error: OSError) -> RunFolderError:
        """What the system says of a file whose content nobody has seen."""
        return RunFolderError(
            self.path,
            f"{file.relative_to(self.path)} could not be read ({error.strerror or error})",
            "mend that, then do the same again; the file may be intact",
        )

    def _damaged(self, file: Path, error: Exception) -> RunFolderError:
        return RunFolderError(
            self.path,
            f"{file.relative_to(self.path)} is damaged ({error})",
            "train again with --overwrite, or restore the file",
        )


def _digest(tensors: Mapping[str, Tensor], text: str = "") -> str:
    """SHA-256 over names, types, shapes and bytes of tensors, and a text."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"\0{name}\0{tensor.dtype}\0{list(tensor.shape)}\0".encode())
        digest.update(tensor.view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
