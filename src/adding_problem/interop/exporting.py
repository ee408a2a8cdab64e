"""The trained model for other runtimes: each export is loaded back there and compared.

    keras          Keras 3, `.keras`, any backend                      extra `keras`
    savedmodel     TensorFlow SavedModel, a folder, call `.serve(x)`   extra `tensorflow`
    onnx           ONNX, operator LSTM                                 extra `onnx`
    torch-export   `torch.export`, `.pt2`                              nothing

All take float32 (B, T, 2) and give (B, 1), for every B and T. The last takes every model that
`torch.export` can trace; the others take the LSTM.
"""

from __future__ import annotations

import importlib
import importlib.util
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from adding_problem.errors import ConfigError, InteropError, in_one_line, to_install
from adding_problem.evaluation.load_model import load_model
from adding_problem.interop import keras_process
from adding_problem.interop.weights import INPUTS, Float32, LstmWeights, largest_difference
from adding_problem.models import AddingLSTM
from adding_problem.runs import atomic_io
from adding_problem.runs.folder import RunFolder
from adding_problem.task.sampling import sample_batch
from adding_problem.task.variants import MIN_LENGTH, Task

__all__ = ["TOLERANCE", "Exported", "Format", "export"]

Format = Literal["keras", "savedmodel", "onnx", "torch-export"]

TOLERANCE = 1e-5
"""Largest difference of a prediction in the other runtime from the one here."""

_LONGEST_CHECK = 1000  # steps
_CHECK_BATCHES = (200, 200, 64, 36)  # 500 sequences at each of two lengths
_CHECK_SEED = 1


@dataclass(frozen=True)
class Exported:
    """The result of an export.

    Attributes:
        path: the file or folder.
        difference: largest absolute difference of a prediction from this package's.
        sequences, lengths: number and lengths of the sequences compared.
    """

    path: Path
    difference: float
    sequences: int
    lengths: tuple[int, ...]


class _Runtime(NamedTuple):
    """How a format is written and run, and the modules and the extra that this needs."""

    save: Callable[[nn.Module, Path], None]
    predict: Callable[[Path, Sequence[Float32]], list[Float32]]
    modules: tuple[str, ...] = ()
    extra: str = ""
    only_lstm: bool = True


def export(
    folder: RunFolder,
    name: Format,
    out: Path | None = None,
    *,
    trust: bool = False,
) -> Exported:
    """Write the trained model of a run folder in another format, load it back there and compare.

    Args:
        folder: a finished run.
        name: the format.
        out: file or folder to write; None is the model folder's place for it. A file or a
            SavedModel there is replaced.
        trust: import whatever custom model the folder names; see `validate.load_model`.

    Raises:
        ConfigError: when `out` is a folder with something else in it, or of a name that the format
            cannot have.
        InteropError: when an extra is missing, the format cannot hold the model, or the
            predictions differ by more than `TOLERANCE`; then nothing is written.
        RunFolderError: when the folder holds no finished run.
        StorageError: when the disk is full or not writable.
    """
    config = folder.read_config()
    model = load_model(folder.path, trust=trust)
    _require(name, model, config.model.name)
    runtime = _RUNTIMES[name]
    inputs = _check_inputs(config.dataset.t, config.task)
    place = out or folder.exports[name]
    _check_place(name, place)
    with (
        nullcontext() if out else folder.locked(),
        _scratch(place.parent) as scratch,
    ):
        draft = scratch / place.name
        runtime.save(model, draft)
        found = runtime.predict(draft, inputs)
        difference = largest_difference(model, list(zip(inputs, found, strict=True)))
        if not difference <= TOLERANCE:
            raise InteropError(
                f"{name}: expected predictions that differ from those here by at most "
                f"{TOLERANCE:g}, found {difference:.1e}; nothing was written",
                "report this model as a defect",
            )
        if out:
            atomic_io.place(draft, out)
        else:
            folder.place_export(name, draft)
    lengths = sorted({x.shape[1] for x in inputs})
    return Exported(place, difference, sum(map(len, inputs)), tuple(lengths))


def _require(name: Format, model: nn.Module, model_name: str) -> None:
    """Raise InteropError unless the format can hold the model and what it needs is installed."""
    runtime = _RUNTIMES[name]
    if runtime.only_lstm and not isinstance(model, AddingLSTM):
        raise InteropError(
            f"{name}: expected the model lstm, found {model_name}", "use torch-export"
        )
    missing = [module for module in runtime.modules if importlib.util.find_spec(module) is None]
    if missing:
        raise InteropError(
            f"exporting to {name} needs {' and '.join(missing)}", to_install(runtime.extra)
        )


def _check_place(name: Format, place: Path) -> None:
    """Raise ConfigError unless an export can be put there without loss of other files."""
    replaceable = name == "savedmodel" and (
        (place / "saved_model.pb").is_file() or not any(place.glob("*"))
    )
    if place.is_dir() and not replaceable:
        raise ConfigError(
            "out",
            "a path where nothing is, or an export to replace",
            f"the folder {place}",
            "change --out",
        )
    if name == "keras" and place.suffix != ".keras":
        raise ConfigError("out", "a file ending in .keras", str(place), "change --out")


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """A hidden folder inside another one, for a draft that is moved there when it is right."""
    atomic_io.make_folder(folder)
    try:
        with tempfile.TemporaryDirectory(prefix=atomic_io.DRAFTS, dir=folder) as scratch:
            yield Path(scratch)
    except OSError as error:
        raise atomic_io.storage_error(folder, error) from None


def _check_inputs(t: int, task: Task) -> list[Float32]:
    """Sequences of two lengths in batches of several sizes."""
    shortest = MIN_LENGTH[task.variant]
    longest = max(min(t, _LONGEST_CHECK), shortest + 1)
    starts = np.cumsum([0, *_CHECK_BATCHES]).tolist()
    return [
        sample_batch(size, length, seed=_CHECK_SEED, start=start, task=task)[0].numpy()
        for length in (max(longest // 2, shortest), longest)
        for start, size in zip(starts, _CHECK_BATCHES, strict=False)
    ]


# --- Keras and TensorFlow ---------------------------------------------------------------------


def _save_through_keras(kind: str, model: nn.Module, path: Path) -> None:
    weights = LstmWeights.from_state_dict(model.state_dict())
    keras_process.call("save", kind, path, weights.arrays())


def _predict_through_keras(kind: str, path: Path, inputs: Sequence[Float32]) -> list[Float32]:
    named = {str(index): x for index, x in enumerate(inputs)}
    found = keras_process.call("predict", kind, path, named)
    return [found[name] for name in named]


# --- ONNX -------------------------------------------------------------------------------------


_OPSET = 17  # onnxruntime 1.12 and newer


def _save_onnx(model: nn.Module, path: Path) -> None:
    """One LSTM operator and one Gemm; ONNX orders the gates i, o, f, g (its letters: iofc)."""
    onnx = importlib.import_module("onnx")
    helper = onnx.helper
    weights = LstmWeights.from_state_dict(model.state_dict())
    hidden = weights.hidden
    order = np.concatenate([np.arange(hidden) + gate * hidden for gate in (0, 3, 1, 2)])
    arrays = {
        "kernel": weights.kernel.T[None, order],
        "recurrent": weights.recurrent.T[None, order],
        "bias": np.concatenate([weights.bias[order], np.zeros_like(weights.bias)])[None],
        "readout": weights.readout,
        "readout_bias": weights.readout_bias,
        "directions": np.array([0], np.int64),
    }
    lstm = ["steps", "kernel", "recurrent", "bias"]
    nodes = [
        helper.make_node("Transpose", ["x"], ["steps"], perm=[1, 0, 2]),
        helper.make_node("LSTM", lstm, ["", "last"], hidden_size=hidden),
        helper.make_node("Squeeze", ["last", "directions"], ["h"]),
        helper.make_node("Gemm", ["h", "readout", "readout_bias"], ["y"]),
    ]
    kind, array = onnx.TensorProto.FLOAT, onnx.numpy_helper.from_array
    graph = helper.make_graph(
        nodes,
        "adding_problem",
        [helper.make_tensor_value_info("x", kind, ["batch", "time", weights.inputs])],
        [helper.make_tensor_value_info("y", kind, ["batch", 1])],
        [array(np.ascontiguousarray(value), name) for name, value in arrays.items()],
    )
    document = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=8,
        producer_name="adding-problem",
    )
    onnx.checker.check_model(document, full_check=True)
    onnx.save(document, str(path))


def _predict_onnx(path: Path, inputs: Sequence[Float32]) -> list[Float32]:
    runtime = importlib.import_module("onnxruntime")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return [session.run(["y"], {"x": x})[0] for x in inputs]


# --- torch.export -----------------------------------------------------------------------------


class _ScannedLSTM(nn.Module):
    """`AddingLSTM` as a scan: `torch.export` unrolls `torch.nn.LSTM`, for a single T."""

    def __init__(self, weights: LstmWeights) -> None:
        super().__init__()
        self.kernel, self.recurrent, self.bias, self.readout, self.readout_bias = (
            nn.Buffer(torch.from_numpy(array.copy())) for array in weights.arrays().values()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Predictions (B, 1) of sequences (B, T, 2)."""
        from torch._higher_order_ops.scan import scan  # no public name in PyTorch 2.13

        def step(state: tuple[Tensor, Tensor], x_t: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
            h, c = state
            i, f, g, o = (x_t @ self.kernel + h @ self.recurrent + self.bias).chunk(4, 1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
            return (h, c), h.new_zeros(1)  # a scan stacks this up; none of it is used

        start = x.new_zeros(x.shape[0], self.recurrent.shape[0])
        (h, _), _ = scan(step, (start, start.clone()), x.transpose(0, 1))
        return h @ self.readout + self.readout_bias  # type: ignore[no-any-return]


def _save_torch_export(model: nn.Module, path: Path) -> None:
    columns = getattr(model, "input_size", INPUTS)
    if isinstance(model, AddingLSTM):
        model = _ScannedLSTM(LstmWeights.from_state_dict(model.state_dict()))
    dynamic = torch.export.Dim
    try:
        program = torch.export.export(
            model.eval(),
            (torch.zeros(3, 50, columns),),
            dynamic_shapes=({0: dynamic("batch", min=1), 1: dynamic("time", min=1)},),
        )
    except Exception as error:  # whatever a custom model raises when it is traced
        raise InteropError(
            f"torch-export: {type(model).__name__}: expected a model that can be traced for every "
            f"B and T, found {in_one_line(error)}",
            "write its loop over T as a scan",
        ) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pytree's internals
        torch.export.save(program, path)


@torch.no_grad()
def _predict_torch_export(path: Path, inputs: Sequence[Float32]) -> list[Float32]:
    module = torch.export.load(path).module()
    return [module(torch.from_numpy(x)).numpy() for x in inputs]


def _keras_runtime(kind: str, *modules: str, extra: str) -> _Runtime:
    save, predict = partial(_save_through_keras, kind), partial(_predict_through_keras, kind)
    return _Runtime(save, predict, modules, extra)


_RUNTIMES: dict[str, _Runtime] = {
    "keras": _keras_runtime("keras", "keras", "h5py", extra="keras"),
    "savedmodel": _keras_runtime("savedmodel", "keras", "tensorflow", extra="tensorflow"),
    "onnx": _Runtime(_save_onnx, _predict_onnx, ("onnx", "onnxruntime"), "onnx"),
    "torch-export": _Runtime(_save_torch_export, _predict_torch_export, only_lstm=False),
}
