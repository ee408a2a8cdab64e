"""The trained model for other runtimes. Nothing is left behind that has not been loaded back and compared.

    keras          Keras 3, `.keras`, any backend                      extra `keras`
    savedmodel     TensorFlow SavedModel, a folder, call `.serve(x)`   extra `tensorflow`
    onnx           ONNX, operator LSTM                                 extra `onnx`
    torch-export   `torch.export`, `.pt2`                              nothing

All take float32 (B, T, 2) and give (B, 1), for every B and T. The last works for every model that `torch.export` can
trace; the others know the LSTM.
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
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from adding_problem.config import ModelFormat, RunConfig
from adding_problem.errors import ConfigError, InteropError, to_install
from adding_problem.evaluation.load_model import load_model
from adding_problem.interop import keras_process
from adding_problem.interop.weights import INPUTS, Float32, LstmWeights
from adding_problem.models import AddingLSTM
from adding_problem.runs import atomic_io
from adding_problem.runs.folder import RunFolder
from adding_problem.task.sampling import sample_batch
from adding_problem.task.variants import MIN_LENGTH, Task

__all__ = ["TOLERANCE", "Exported", "export", "export_missing", "require"]

TOLERANCE = 1e-5
"""Largest difference between a prediction here and in the other runtime with which an export is handed out."""

_LONGEST_CHECK = 1000  # steps
_CHECK_BATCHES = (
    200,
    200,
    64,
    36,
)  # 500 sequences at each of two lengths, in batches of several sizes
_CHECK_SEED = 1


@dataclass(frozen=True)
class Exported:
    """What an export came to.

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
    """How a format is written and run, the modules that both need, the extra that brings them, what models it can hold."""

    save: Callable[[nn.Module, Path], None]
    predict: Callable[[Path, Sequence[Float32]], list[Float32]]
    modules: tuple[str, ...]
    extra: str
    lstm_alone: bool = True


def require(formats: Sequence[ModelFormat], model: str) -> None:
    """Make sure, before hours of training, that a model can be written in these formats here.

    Args:
        formats: names of formats.
        model: the model's name in the configuration.

    Raises:
        InteropError: when the model has no such form; or naming the command that installs what is missing.
    """
    for name in formats:
        if name not in _RUNTIMES:
            continue
        runtime = _RUNTIMES[name]
        if runtime.lstm_alone and model != "lstm":
            raise _no_such_form(name, model)
        missing = [module for module in runtime.modules if importlib.util.find_spec(module) is None]
        if missing:
            raise InteropError(
                f"exporting to {name} needs {' and '.join(missing)}", to_install(runtime.extra)
            )


def export_missing(config: RunConfig) -> list[Exported]:
    """Put those of the configuration's formats into the model folder of its finished run that are not there yet.

    Raises:
        InteropError, RunFolderError, StorageError: see `export`.
    """
    folder = RunFolder(config.artifacts)
    return [
        export(folder, name, own=config.model.name)
        for name in config.model_formats
        if name in folder.exports and not folder.exports[name].exists()
    ]


def export(
    folder: RunFolder,
    name: ModelFormat,
    out: Path | None = None,
    *,
    trust: bool = False,
    own: str | None = None,
    takeover: bool = False,
) -> Exported:
    """Write the trained model of a run folder in another format, load it back there and compare.

    Args:
        folder: a finished run.
        name: the format.
        out: file or folder to write; None is the model folder's place for it. A file or a SavedModel there is replaced.
        trust, own: what may be imported to build a model that is not of the zoo; see `validate.load_model`.
        takeover: take the run folder from a process that gives no sign of life.

    Raises:
        ConfigError: when `out` is a folder with something else in it, or of a name that the format cannot have.
        InteropError: when an extra is missing, the model has no such form, or the predictions differ by more than
            `TOLERANCE`; then nothing is written.
        RunFolderError: when the folder holds no finished run.
        StorageError: when the disk is full or not writable.
    """
    if name not in _RUNTIMES:
        raise InteropError(f"{name} is what every run folder holds already", "name another format")
    config = folder.read_config()
    require([name], config.model.name)
    model, inputs = (
        load_model(folder.path, trust=trust, own=own),
        _check_inputs(config.dataset.t, config.task),
    )
    place = out or folder.exports[name]
    _check_place(name, place)
    with (
        nullcontext() if out else folder.locked(takeover=takeover),
        _scratch(place.parent) as scratch,
    ):
        draft = scratch / place.name
        difference = _save_and_compare(name, model, draft, inputs)
        if out:
            atomic_io.place(draft, out)
        else:
            folder.place_export(name, draft)
    return Exported(
        place, difference, sum(map(len, inputs)), tuple(sorted({x.shape[1] for x in inputs}))
    )


def _check_place(name: ModelFormat, place: Path) -> None:
    """Whether an export can stand there; nobody loses a folder of other things by naming it."""
    if place.is_dir() and (
        name != "savedmodel" or (any(place.iterdir()) and not (place / "saved_model.pb").is_file())
    ):
        raise ConfigError(
            "out",
            "a path where nothing stands, or an export to replace",
            f"the folder {place}",
            "change --out",
        )
    if name == "keras" and place.suffix != ".keras":
        raise ConfigError(
            "out", "a file that ends in .keras, which Keras asks for", str(place), "change --out"
        )


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """A hidden folder inside another one, for what is moved into that when it is right."""
    atomic_io.make_folder(folder)
    try:
        with tempfile.TemporaryDirectory(prefix=atomic_io.DRAFTS, dir=folder) as scratch:
            yield Path(scratch)
    except OSError as error:
        raise atomic_io.storage_error(folder, error) from None


def _save_and_compare(
    name: ModelFormat, model: nn.Module, draft: Path, inputs: Sequence[Float32]
) -> float:
    """Write the draft and return the largest difference of its predictions from the model's."""
    _RUNTIMES[name].save(model, draft)
    difference = _difference(model, _RUNTIMES[name].predict(draft, inputs), inputs)
    if not difference <= TOLERANCE:
        raise InteropError(
            f"{name}: predictions there differ from those here by up to {difference:.1e}, more than "
            f"{TOLERANCE:g}; nothing was written",
            "please report this model as a defect",
        )
    return difference


def _check_inputs(t: int, task: Task) -> list[Float32]:
    """Sequences of two lengths in batches of several sizes."""
    longest = max(min(t, _LONGEST_CHECK), MIN_LENGTH[task.variant] + 1)
    lengths = (max(longest // 2, MIN_LENGTH[task.variant]), longest)
    starts = np.cumsum([0, *_CHECK_BATCHES]).tolist()
    return [
        sample_batch(size, length, seed=_CHECK_SEED, start=start, task=task)[0].numpy()
        for length in lengths
        for start, size in zip(starts, _CHECK_BATCHES, strict=False)
    ]


@torch.no_grad()
def _difference(model: nn.Module, found: Sequence[Float32], inputs: Sequence[Float32]) -> float:
    differences = [
        np.abs(model(torch.from_numpy(x)).numpy() - y_hat).max()
        for x, y_hat in zip(inputs, found, strict=True)
    ]
    return float(np.max(differences))  # NaN where one is


def _lstm_weights(model: nn.Module, name: str) -> LstmWeights:
    if not isinstance(model, AddingLSTM):
        raise _no_such_form(name, type(model).__name__)
    return LstmWeights.of(model.state_dict())


def _no_such_form(name: str, model: str) -> InteropError:
    return InteropError(
        f"{name}: there is no such form of the model {model}; only lstm has one", "use torch-export"
    )


# --- Keras and TensorFlow --------------------------------------------------------------------------------------------


def _save_through_keras(kind: str, model: nn.Module, path: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        weights = Path(scratch) / "weights.npz"
        np.savez(weights, **_lstm_weights(model, kind).arrays())  # type: ignore[arg-type]
        keras_process.run("save", kind, weights, path)


def _predict_through_keras(kind: str, path: Path, inputs: Sequence[Float32]) -> list[Float32]:
    with tempfile.TemporaryDirectory() as scratch:
        given, answered = Path(scratch) / "inputs.npz", Path(scratch) / "outputs.npz"
        np.savez(given, *inputs)
        keras_process.run("predict", kind, path, given, answered)
        with np.load(answered, allow_pickle=False) as outputs:
            return [outputs[f"arr_{index}"] for index in range(len(inputs))]


# --- ONNX ------------------------------------------------------------------------------------------------------------


_OPSET = 17  # onnxruntime 1.12 and newer


def _save_onnx(model: nn.Module, path: Path) -> None:
    """One LSTM operator and one Gemm. ONNX orders the gates i, o, f, g (operator LSTM, its letters iofc)."""
    onnx = importlib.import_module("onnx")
    helper, weights = onnx.helper, _lstm_weights(model, "onnx")
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
    nodes = [
        helper.make_node("Transpose", ["x"], ["steps"], perm=[1, 0, 2]),
        helper.make_node(
            "LSTM", ["steps", "kernel", "recurrent", "bias"], ["", "last"], hidden_size=hidden
        ),
        helper.make_node("Squeeze", ["last", "directions"], ["h"]),
        helper.make_node("Gemm", ["h", "readout", "readout_bias"], ["y"]),
    ]
    kind = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "adding_problem",
        [helper.make_tensor_value_info("x", kind, ["batch", "time", weights.inputs])],
        [helper.make_tensor_value_info("y", kind, ["batch", 1])],
        [
            onnx.numpy_helper.from_array(np.ascontiguousarray(array), name)
            for name, array in arrays.items()
        ],
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


# --- torch.export ----------------------------------------------------------------------------------------------------


class _ScannedLSTM(nn.Module):
    """`AddingLSTM` as a scan over the steps: `torch.export` writes `torch.nn.LSTM` out step by step, for one T alone."""

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
            return (h, c), h.new_zeros(1)  # what a scan stacks up; nothing of it is wanted

        start = x.new_zeros(x.shape[0], self.recurrent.shape[0])
        (h, _), _ = scan(step, (start, start.clone()), x.transpose(0, 1))
        return h @ self.readout + self.readout_bias  # type: ignore[no-any-return]


def _save_torch_export(model: nn.Module, path: Path) -> None:
    columns = getattr(model, "input_size", INPUTS)
    if isinstance(model, AddingLSTM):
        model = _ScannedLSTM(LstmWeights.of(model.state_dict()))
    dynamic = torch.export.Dim
    try:
        program = torch.export.export(
            model.eval(),
            (torch.zeros(3, 50, columns),),
            dynamic_shapes=({0: dynamic("batch", min=1), 1: dynamic("time", min=1)},),
        )
    except Exception as error:  # whatever a model's own code may raise under tracing
        raise InteropError(
            f"torch-export: {type(model).__name__} cannot be traced for every B and T: "
            f"{str(error).strip().splitlines()[0]}",
            "write its loop over T as a scan",
        ) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pytree's internals
        torch.export.save(program, path)


@torch.no_grad()
def _predict_torch_export(path: Path, inputs: Sequence[Float32]) -> list[Float32]:
    module = torch.export.load(path).module()
    return [module(torch.from_numpy(x)).numpy() for x in inputs]


_RUNTIMES: dict[str, _Runtime] = {
    "keras": _Runtime(
        partial(_save_through_keras, "keras"),
        partial(_predict_through_keras, "keras"),
        ("keras", "h5py"),
        "keras",
    ),
    "savedmodel": _Runtime(
        partial(_save_through_keras, "savedmodel"),
        partial(_predict_through_keras, "savedmodel"),
        ("keras", "tensorflow"),
        "tensorflow",
    ),
    "onnx": _Runtime(_save_onnx, _predict_onnx, ("onnx", "onnxruntime"), "onnx"),
    "torch-export": _Runtime(_save_torch_export, _predict_torch_export, (), "", lstm_alone=False),
}
