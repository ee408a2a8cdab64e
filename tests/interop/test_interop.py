"""Import and export: each reader on another program's files, each export in its own runtime."""

from __future__ import annotations

import gzip
import importlib.util
import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from adding_problem import Task, cli, interop, load_model, sample_batch_numpy
from adding_problem.errors import ConfigError, InteropError, LockError, RunFolderError
from adding_problem.experiments.train import train
from adding_problem.interop import architecture, exporting, importing, keras_worker, saved_model
from adding_problem.runs.folder import RunFolder
from tests.conftest import REPOSITORY
from tests.helpers.interop import needs
from tests.helpers.training import small

FOREIGN = REPOSITORY / "tests" / "data" / "foreign"  # made by make_foreign.py
ORIGINAL = FOREIGN / "original"


def predictions(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The predictions for the stored sequences by a run folder's model, and by Keras."""
    with np.load(FOREIGN / "predictions.npz") as stored:
        return load_model(str(folder))(torch.from_numpy(stored["x"])).detach().numpy(), stored[
            "prediction"
        ]


def edited(tmp_path: Path, file: str, change: Callable[[bytes], bytes]) -> Path:
    """A copy of the original's folder with one file changed."""
    folder = tmp_path / "edited"
    shutil.copytree(ORIGINAL, folder)
    (folder / file).write_bytes(change((folder / file).read_bytes()))
    return folder


def varint(value: int) -> bytes:
    return bytes([value & 0x7F | 0x80]) + varint(value >> 7) if value > 0x7F else bytes([value])


# --- import ------------------------------------------------------------------------------------


@pytest.fixture
def commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Run `adding-problem` in this process; what it printed, after the exit code of an error."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> str:
        code = cli.main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return f"{code}: {err}" if code else out

    return run


@needs("tensorflow")
def test_the_originals_folder_becomes_a_run(tmp_path: Path, commands: Callable[..., str]) -> None:
    assert "the model matches its log" in commands("import", ORIGINAL, "--out", "run")
    run = tmp_path / "run"
    ours, keras = predictions(run)
    assert np.abs(ours - keras).max() < 1e-6
    rows = RunFolder(run).read_history()
    assert [row.sequences for row in rows] == [
        30_000,
        60_000,
        90_000,
    ]  # 100,000 sequences, 70% of them held out
    losses = pickle.loads((ORIGINAL / "loss.pkl").read_bytes())  # noqa: S301  (a fixture of ours)
    assert [row.val_loss for row in rows] == losses["val_loss"]
    assert RunFolder(run).read_result().best_epoch == 3
    assert "test set: 500 sequences, T = 12" in commands(
        "validate", "--config", "run/config_copy.yaml", "--validate.dt_length", 500
    )
    assert f"{losses['val_loss'][2]:.2e}" in commands("compare", "run")
    assert "1 runs" in commands(
        "report", "run", "--sequences", 20, "--lengths", 12
    )  # which has no times to show
    assert "imported" in commands("train", "--config", "run/config_copy.yaml")
    assert commands("import", ORIGINAL, "--out", "run").startswith(
        "2: error: run: holds a finished run"
    )


@needs("tensorflow")
def test_a_model_that_does_not_match_its_log_is_told(
    tmp_path: Path, commands: Callable[..., str]
) -> None:
    better = {"loss": [1e-1, 1e-3, 1e-5], "val_loss": [1e-1, 1e-3, 1e-5]}
    folder = edited(tmp_path, "loss.pkl", lambda _: pickle.dumps(better))
    assert "does NOT match its log" in commands("import", folder, "--out", "run")
    imported = RunFolder(tmp_path / "run").read_result().imported
    assert imported is not None
    assert imported["agrees_with_its_log"] is False


@needs("h5py")
def test_a_keras_file(tmp_path: Path) -> None:
    found = interop.import_model(FOREIGN / "model.keras", tmp_path / "run")
    assert (found.kind, found.t, found.hidden, found.logged) == ("keras", 12, 4, None)
    ours, keras = predictions(tmp_path / "run")
    assert np.abs(ours - keras).max() < 1e-6


def changed_keras_file(tmp_path: Path, member: str, change: Callable[[bytes], bytes]) -> Path:
    path = tmp_path / "changed.keras"
    with zipfile.ZipFile(FOREIGN / "model.keras") as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            target.writestr(
                name, change(source.read(name)) if name == member else source.read(name)
            )
    return path


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (
            b'"activation": "tanh"',
            b'"activation": "relu"',
            "lstm: LSTM.activation: expected 'tanh', found 'relu'",
        ),
        (
            b'"class_name": "LSTM"',
            b'"class_name": "Lambda"',
            "the layers: expected LSTM and Dense, found 'InputLayer, Lambda, Dense'",
        ),
        (
            b'"go_backwards": false',
            b'"new_in_keras_5": 0.5',
            "lstm: LSTM.new_in_keras_5: expected it off, found 0.5",
        ),
        (b'"use_bias": true', b'"use_bias": 1', "lstm: LSTM.use_bias: expected True, found 1"),
        (
            b'"dtype": "float32"',
            b'"dtype": "int32"',
            "InputLayer.dtype: expected 'float32', found 'int32'",
        ),
        (
            b'"module": "keras.layers", "class_name": "LSTM"',
            b'"module": "mine", "class_name": "LSTM"',
            "the layer LSTM of Keras",
        ),
        (b'"units": 4', b'"units": 0', "lstm: units: expected a whole number from 1"),
        pytest.param(
            b'"units": 4',
            b'"units": 5',
            r"expected float32 \(2, 20\)",
            marks=needs("h5py"),
        ),
        (b"{", b"[", "found what cannot be read as that"),
        (b'"layers"', b'"tiers"', "expected the configuration of a Keras model"),
    ],
)
def test_a_keras_file_of_another_architecture_is_refused(
    tmp_path: Path, old: bytes, new: bytes, problem: str
) -> None:
    path = changed_keras_file(tmp_path, "config.json", lambda text: text.replace(old, new))
    with pytest.raises(InteropError, match=problem):
        interop.import_model(path, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_keras_file_whose_compressed_members_are_damaged_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "damaged.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", "{" + " " * 5000 + "}")
    whole = bytearray(path.read_bytes())
    for place in range(30 + len("config.json"), 30 + len("config.json") + 8):
        path.write_bytes(whole[:place] + b"\xff" + whole[place + 1 :])
        with pytest.raises(InteropError, match="found what cannot be read as that"):
            interop.import_model(path, tmp_path / "run")


@needs("h5py")
def test_a_keras_file_that_leads_elsewhere_or_promises_what_it_has_not_is_refused(
    tmp_path: Path,
) -> None:
    import h5py

    def with_readout(put: Callable[[Any], None]) -> Callable[[bytes], bytes]:
        def change(data: bytes) -> bytes:
            memory = io.BytesIO(data)
            with h5py.File(memory, "r+") as stored:
                del stored["layers/dense/vars/0"]
                put(stored["layers/dense/vars"])
            return memory.getvalue()

        return change

    def link(group: Any) -> None:
        group["0"] = h5py.ExternalLink("/etc/passwd", "/")

    def external(group: Any) -> None:
        group.create_dataset("0", (4, 1), "<f4", external=[("/etc/passwd", 0, 16)])

    def empty(group: Any) -> None:
        group.create_dataset("0", (4, 1), "<f4", chunks=(1, 1))

    for put, problem in (
        (link, "missing or a link"),
        (external, "expected float32"),
        (empty, "not there in full"),
    ):
        path = changed_keras_file(tmp_path, "model.weights.h5", with_readout(put))
        with pytest.raises(InteropError, match=problem):
            interop.import_model(path, tmp_path / "run")


def architectures() -> list[Any]:
    """Configurations by Keras, and whether the model predicts as ours; see make_foreign.py."""
    found = json.loads(gzip.decompress((FOREIGN / "architectures.json.gz").read_bytes()))
    return [
        pytest.param(each, id=f"{each['case']}-{each['version']}-{each['file']}") for each in found
    ]


OURS = {
    "plain",
    "without_input_layer",
    "functional",
    "fixed_batch",
    "dropout",
    "dropout_layer",
    "no_forget_bias",
    "unroll",
    "regularized",
    "implementation_1",
}
TOLD = {  # of these, a part of the reason
    "hard_sigmoid": "expected 'sigmoid', found 'hard_sigmoid'",
    "relu_cell": "expected 'tanh', found 'relu'",
    "no_activation": "LSTM.activation: expected 'tanh', found 'linear'",
    "go_backwards": "go_backwards: expected it off, found True",
    "stateful": "stateful: expected it off",
    "time_major": "time_major: expected it off",
    "no_lstm_bias": "LSTM.use_bias",
    "float16": "expected 'float32', found 'mixed_float16'",
    "float64": "Dense.dtype: expected 'float32', found 'float64'",
    "every_step": "return_sequences: expected it off",
    "softplus_readout": "Dense.activation: expected 'linear', found 'softplus'",
    "two_units": "Dense.units: expected 1, found 2",
    "bidirectional": "found 'InputLayer, Bidirectional, Dense'",
    "gru": "found 'InputLayer, GRU, Dense'",
    "mask": "Masking",
    "dropout_always": "in the mode of predictions",
    "dropout_in_cell_always": "in the mode of predictions",
    "two_outputs": "output_layers: expected",
    "class_named_like_keras": "the layer LSTM of Keras",
    "quantized": "float32",
}


def root_metadata(config: Any) -> bytes:
    """A `keras_metadata.pb` of one node, the model itself."""
    parts = (
        b"\x1a" + varint(4) + b"root",
        b"*" + varint(len(text := json.dumps(config).encode())) + text,
    )
    return b"\n" + varint(sum(map(len, parts))) + b"".join(parts)


@pytest.mark.parametrize("case", architectures())
def test_a_model_is_accepted_only_where_keras_predicts_as_an_lstm_and_a_linear_unit(
    tmp_path: Path, case: dict[str, Any]
) -> None:
    text = json.dumps(case["config"]).encode()
    if case["case"] in OURS:
        assert case["same"]
        expected = architecture.Architecture(4, 12, *names(case["config"]))
        assert architecture.read(text, "file") == expected
        return
    with pytest.raises(InteropError) as refusal:
        architecture.read(text, "file")
    assert TOLD.get(case["case"], "expected") in str(refusal.value)
    path = changed_keras_file(tmp_path, "config.json", lambda _: text)
    with pytest.raises(InteropError, match="expected"):
        interop.import_model(path, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def names(config: Any) -> list[str]:
    layers = config["config"]["layers"]
    return [
        layer["config"]["name"]
        for kind in ("LSTM", "Dense")
        for layer in layers
        if layer["class_name"] == kind
    ]


def test_every_case_is_known_and_every_reason_told() -> None:
    cases = {each.values[0]["case"] for each in architectures()}
    assert OURS | set(TOLD) <= cases
    same = {each.values[0]["case"] for each in architectures() if each.values[0]["same"]}
    assert same - OURS == {
        "float64",
        "mask",
        "dropout_always",
        "dropout_in_cell_always",
    }  # the last two only in Keras 3


def configuration(name: str) -> Any:
    (config,) = (each.values[0]["config"] for each in architectures() if each.id == name)
    return config


def called_twice(_: Any, dense: Any) -> None:
    dense["inbound_nodes"] *= 2


def called_with_a_state(lstm: Any, _: Any) -> None:
    lstm["inbound_nodes"][0]["args"] *= 2


def called_with_a_mask(lstm: Any, _: Any) -> None:
    lstm["inbound_nodes"][0]["kwargs"]["mask"] = {"class_name": "__keras_tensor__"}


def called_on_another_output(_: Any, dense: Any) -> None:
    dense["inbound_nodes"][0]["args"][0]["config"]["keras_history"] = ["lstm", 0, 1]


@pytest.mark.parametrize(
    "change", [called_twice, called_with_a_state, called_with_a_mask, called_on_another_output]
)
def test_a_functional_model_whose_layers_are_no_chain_is_refused(
    change: Callable[[Any, Any], None],
) -> None:
    config = configuration("functional-3-keras")
    change(*config["config"]["layers"][1:])
    with pytest.raises(InteropError, match="in the mode of predictions"):
        architecture.read(json.dumps(config), "file")


@pytest.mark.parametrize(
    "text", [b"", b"[]", b'{"class_name": "Sequential"}', b"[" * 100_000, b"\xff"]
)
def test_a_configuration_that_says_nothing_is_refused(text: bytes) -> None:
    with pytest.raises(InteropError, match=r"file: expected the configuration of a Keras model"):
        architecture.read(text, "file")


def test_a_custom_model_is_refused() -> None:
    with pytest.raises(InteropError, match="expected a Sequential or Functional model of Keras"):
        architecture.read('{"class_name": "MyModel", "config": {}}', "file")


@needs("tensorflow")
@pytest.mark.parametrize("case", ["gru-2-keras", "softplus_readout-2-keras"])
def test_a_saved_model_of_another_architecture_is_refused(tmp_path: Path, case: str) -> None:
    metadata = root_metadata(configuration(case))
    folder = edited(tmp_path, "model/keras_metadata.pb", lambda _: metadata)
    with pytest.raises(InteropError, match=r"keras_metadata\.pb: .*expected") as refusal:
        interop.import_model(folder, tmp_path / "run")
    assert TOLD[case.partition("-")[0]] in str(refusal.value)


def test_a_saved_model_that_does_not_say_what_it_computes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = edited(tmp_path, "model/keras_metadata.pb", lambda _: b"")
    (folder / "model" / "keras_metadata.pb").unlink()
    with pytest.raises(InteropError, match=r"what layers the weights belong to(.|\n)*--trust"):
        interop.import_model(folder, tmp_path / "run")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InteropError, match="needs tensorflow"):
        interop.import_model(folder, tmp_path / "run", trust=True)


@needs("tensorflow")
def test_a_saved_model_says_its_length(tmp_path: Path) -> None:
    assert (
        interop.import_model(ORIGINAL / "model", tmp_path / "run").t == 12
    )  # no configuration beside it


@needs("h5py")
@pytest.mark.parametrize(
    ("name", "given"),
    [("model_2.h5", "model.h5"), ("model_3.h5", "model.hdf5"), ("model_2.h5", "model.keras")],
)  # the last until Keras 2.12
def test_an_hdf5_file(tmp_path: Path, name: str, given: str) -> None:
    shutil.copy(FOREIGN / name, tmp_path / given)
    found = interop.import_model(tmp_path / given, tmp_path / "run")
    assert (found.kind, found.t, found.hidden) == ("keras", 12, 4)
    ours, keras = predictions(tmp_path / "run")
    assert np.abs(ours - keras).max() < 1e-6


@needs("h5py")
@pytest.mark.parametrize(
    "weights", ["layers", "_layer_checkpoint_dependencies"]
)  # Keras 2.15 and 2.13
def test_a_keras_file_of_keras_2(tmp_path: Path, weights: str) -> None:
    import h5py

    def moved(data: bytes) -> bytes:
        memory = io.BytesIO(data)
        with h5py.File(memory, "r+") as stored:
            stored.move("layers", weights)
        return memory.getvalue()

    path = changed_keras_file(
        tmp_path, "model.weights.h5", moved if weights != "layers" else lambda data: data
    )
    with zipfile.ZipFile(path) as archive:
        stored = archive.read("model.weights.h5")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps(configuration("plain-2-keras")))
        archive.writestr("model.weights.h5", stored)
    assert interop.import_model(path, tmp_path / "run").t == 12
    ours, keras = predictions(tmp_path / "run")
    assert np.abs(ours - keras).max() < 1e-6


@needs("h5py")
def test_an_hdf5_file_that_cannot_serve_is_refused(tmp_path: Path) -> None:
    import h5py

    def gru(stored: Any) -> None:
        stored.attrs["model_config"] = stored.attrs["model_config"].replace('"LSTM"', '"GRU"')

    def many_texts(stored: Any) -> None:
        stored.attrs.create("model_config", ["{}"] * 1000)

    def link(stored: Any) -> None:
        place = "model_weights/dense/sequential/dense/bias"
        del stored[place]
        stored[place] = h5py.ExternalLink("/etc/passwd", "/")

    def elsewhere(stored: Any) -> None:
        stored["model_weights/dense"].attrs["weight_names"] = ["../../x", "y"]

    def only_weights(stored: Any) -> None:
        del stored.attrs["model_config"]

    for change, problem in (
        (gru, "found 'InputLayer, GRU, Dense'"),
        (many_texts, "has the shape"),
        (link, "missing or a link"),
        (elsewhere, "missing or a link"),
        (only_weights, "found only weights"),
    ):
        path = tmp_path / f"{change.__name__}.h5"
        shutil.copy(FOREIGN / "model_3.h5", path)
        with h5py.File(path, "r+") as stored:
            change(stored)
        with pytest.raises(InteropError, match=problem):
            interop.import_model(path, tmp_path / "run")
    (tmp_path / "noise.h5").write_bytes(b"noise")
    with pytest.raises(InteropError, match="cannot be read as that"):
        interop.import_model(tmp_path / "noise.h5", tmp_path / "run")


def test_a_model_without_an_architecture_is_accepted_by_its_predictions(
    tmp_path: Path, commands: Callable[..., str]
) -> None:
    lstm, linear = torch.nn.LSTM(2, 6, batch_first=True), torch.nn.Linear(6, 1)
    safetensors.torch.save_file(
        {**lstm.state_dict(), **linear.state_dict()}, tmp_path / "model.safetensors"
    )
    x = torch.from_numpy(sample_batch_numpy(50, 20, seed=9)[0])
    order = ("import", "model.safetensors", "--out", "run", "--dataset.t", 20)
    with torch.no_grad():
        y = linear(lstm(x)[1][0][0])
    assert "add --predictions" in commands(*order)
    for answers, problem in (
        (torch.sigmoid(y), "predictions that differ by"),
        (y[:30], "expected finite predictions"),
        (y.double(), "y is float64"),
        (y * torch.nan, "finite predictions"),
    ):
        np.savez(tmp_path / "answers.npz", x=x, y=answers)
        told = commands(*order, "--predictions", "answers.npz")
        assert told.startswith("2: ")
        assert problem in told
    np.savez(tmp_path / "answers.npz", x=x[:5], y=y[:5])
    assert "n of at least 20" in commands(*order, "--predictions", "answers.npz")
    (tmp_path / "noise.npz").write_bytes(b"noise")
    assert "expected a .npz file" in commands(*order, "--predictions", "noise.npz")
    assert not (tmp_path / "run").exists()
    np.savez(tmp_path / "answers.npz", x=x, y=y)
    assert "it predicts the same where it comes from" in commands(
        *order, "--predictions", "answers.npz"
    )
    imported = RunFolder(tmp_path / "run").read_result().imported
    assert imported is not None
    assert imported["largest_difference"] < 1e-5


def of_a_state_dict(tmp_path: Path, x: torch.Tensor, y: torch.Tensor) -> Path:
    np.savez(tmp_path / "answers.npz", x=x, y=y.detach())
    return tmp_path / "answers.npz"


def test_a_state_dict(tmp_path: Path) -> None:
    lstm, linear = torch.nn.LSTM(2, 6, batch_first=True), torch.nn.Linear(6, 1)
    state = {f"net.rnn.{k}": v for k, v in lstm.state_dict().items()} | {
        f"net.out.{k}": v for k, v in linear.state_dict().items()
    }
    safetensors.torch.save_file(state, tmp_path / "model.safetensors")
    x = torch.rand(25, 20, 2)
    answers = of_a_state_dict(tmp_path, x, linear(lstm(x)[1][0][0]))
    with pytest.raises(InteropError, match=r"add --dataset\.t"):
        interop.import_model(tmp_path / "model.safetensors", tmp_path / "run", predictions=answers)
    found = interop.import_model(
        tmp_path / "model.safetensors",
        tmp_path / "run",
        overrides={"dataset.t": 20},
        predictions=answers,
    )
    assert torch.allclose(load_model(str(tmp_path / "run"))(x), linear(lstm(x)[1][0][0]), atol=1e-6)
    (row,) = RunFolder(tmp_path / "run").read_history()
    assert (row.epoch, row.val_loss, row.sequences) == (0, found.mse, 0)
    safetensors.torch.save_file(state | {"extra": torch.zeros(3)}, tmp_path / "model.safetensors")
    with pytest.raises(InteropError, match=r"one nn\.LSTM layer"):
        interop.import_model(
            tmp_path / "model.safetensors", tmp_path / "other", overrides={"dataset.t": 20}
        )


def test_what_cannot_be_imported_is_told(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"")
    for path, problem in (
        (tmp_path / "none", "found nothing"),
        (tmp_path, "expected a SavedModel"),
        (tmp_path / "model.pt", "a pickle .* is not read"),
    ):
        with pytest.raises(InteropError, match=problem):
            interop.import_model(path, tmp_path / "run")


@needs("keras", "tensorflow")
def test_a_saved_model_of_anybody_is_accepted_by_what_tensorflow_predicts(tmp_path: Path) -> None:
    """Such as tf.saved_model.save writes from Keras 3; two cells, and compiled models."""
    made = subprocess.run(
        [sys.executable, "-c", TF_SAVED_MODELS, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "KERAS_BACKEND": "tensorflow"},
    )
    assert made.returncode == 0, made.stderr
    found = interop.import_model(tmp_path / "ours", tmp_path / "run", trust=True)
    assert (found.kind, found.t, found.hidden) == ("savedmodel", 9, 2)
    assert found.difference is not None
    assert found.difference < 1e-6
    with np.load(tmp_path / "answers.npz") as stored:
        ours = load_model(str(tmp_path / "run"))(torch.from_numpy(stored["x"])).detach().numpy()
        assert np.abs(ours - stored["y"]).max() < 1e-6
    with pytest.raises(InteropError, match="predictions that differ by"):
        interop.import_model(tmp_path / "softplus", tmp_path / "other", trust=True)
    with pytest.raises(InteropError, match="the five arrays"):
        interop.import_model(tmp_path / "stacked", tmp_path / "other", trust=True)


TF_SAVED_MODELS = """
import sys, keras, numpy as np, tensorflow as tf
from keras import layers
x = np.random.default_rng(0).random((8, 9, 2)).astype("float32")
def save(name, *tail):
    model = keras.Sequential([keras.Input((9, 2)), *tail])
    model.compile("adam", "mse")
    model.fit(x, x[:, :1, 0], verbose=0)
    tf.saved_model.save(model, f"{sys.argv[1]}/{name}")
    return model
model = save("ours", layers.LSTM(2), layers.Dense(1))
np.savez(f"{sys.argv[1]}/answers.npz", x=x, y=model.predict_on_batch(x))
save("softplus", layers.LSTM(2), layers.Dense(1, activation="softplus"))
save("stacked", layers.LSTM(2, return_sequences=True), layers.LSTM(2), layers.Dense(1))
"""


# --- damage to a SavedModel --------------------------------------------------------------------


VARIABLES = "model/variables/variables"


def flipped(place: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def five_cells(metadata: bytes) -> bytes:
    assert b'"units": 4' in metadata
    return metadata.replace(b'"units": 4', b'"units": 5')


@needs("tensorflow")
@pytest.mark.parametrize(
    ("file", "change", "problem"),
    [
        (f"{VARIABLES}.data-00000-of-00001", flipped(40), "hecksum does not match"),
        (f"{VARIABLES}.index", lambda data: data[:200], "TensorFlow could not read the model"),
        (f"{VARIABLES}.index", flipped(40), "checksum mismatch"),
        ("model/keras_metadata.pb", five_cells, "LSTM of 5 cells and Dense.1., found 5: "),
        ("model/keras_metadata.pb", lambda data: b"", "TensorFlow could not read the model"),
    ],
)
def test_a_damaged_saved_model_is_refused(
    tmp_path: Path, file: str, change: Callable[[bytes], bytes], problem: str
) -> None:
    with pytest.raises(InteropError, match=problem):
        interop.import_model(edited(tmp_path, file, change), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("file", [f"{VARIABLES}.index", "model/keras_metadata.pb"])
def test_a_saved_model_of_large_files_is_refused_before_it_is_read(
    tmp_path: Path, file: str
) -> None:
    folder = edited(tmp_path, file, lambda data: data + bytes(17 << 20))
    with pytest.raises(InteropError, match="expected at most"):
        interop.import_model(folder, tmp_path / "run")


@needs("tensorflow")
def test_an_index_cannot_promise_more_than_a_model_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process, so that the limit can be lowered; the arrays hold 117 numbers."""
    for most in (117, 116):
        monkeypatch.setattr(keras_worker, "_MOST_NUMBERS", most)
        if most == 117:
            assert len(keras_worker.read("savedmodel", str(ORIGINAL / "model"), {})) == 6
            continue
        with pytest.raises(ValueError, match="expected at most 116 weights, found 117"):
            keras_worker.read("savedmodel", str(ORIGINAL / "model"), {})


@needs("tensorflow")
def test_a_worker_that_does_not_end_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saved_model, "_READ_SECONDS", 0.01)
    with pytest.raises(InteropError, match=r"it took more than 0\.01 seconds"):
        interop.import_model(ORIGINAL, tmp_path / "run")


@pytest.mark.parametrize(
    ("log", "problem"),
    [
        ({"loss": [10**400], "val_loss": [0.1]}, "OverflowError"),
        ({"loss": [[0.2]], "val_loss": [0.1]}, "TypeError"),
        ({"loss": [0.2, 0.1], "val_loss": [0.1]}, "2 and 1 numbers"),
        ({"loss": [], "val_loss": []}, "0 and 0 numbers"),
        ({"loss": [0.2]}, "KeyError"),
        ([0.2], "TypeError"),
    ],
)
def test_another_log_is_refused(tmp_path: Path, log: object, problem: str) -> None:
    path = tmp_path / "loss.pkl"
    path.write_bytes(pickle.dumps(log))
    with pytest.raises(InteropError, match=f"equally long, found what .*{problem}"):
        importing._read_log(path)


@needs("tensorflow")
def test_a_log_that_cannot_be_read_does_not_keep_back_its_model(
    tmp_path: Path, commands: Callable[..., str]
) -> None:
    """Such as that of ReduceLROnPlateau, which puts NumPy's numbers into it."""
    log = {"loss": [0.2], "val_loss": [0.1], "lr": [np.float32(1e-3)]}
    folder = edited(tmp_path, "loss.pkl", lambda _: pickle.dumps(log))
    told = commands("import", folder, "--out", "run")
    assert "WARNING: the run has no history" in told
    assert "expected a pickle of dicts, lists, texts and numbers" in told
    ours, keras = predictions(tmp_path / "run")
    assert np.abs(ours - keras).max() < 1e-6
    (row,) = RunFolder(tmp_path / "run").read_history()
    assert (row.epoch, row.sequences) == (0, 0)
    assert RunFolder(tmp_path / "run").read_config().dataset.t == 12


# --- export ------------------------------------------------------------------------------------


@pytest.fixture
def finished(finished: Path) -> RunFolder:
    """A finished run of one epoch."""
    return RunFolder(finished)


FORMATS = pytest.mark.parametrize(
    "name",
    [
        pytest.param("onnx", marks=needs("onnx", "onnxruntime")),
        pytest.param("torch-export"),
        pytest.param("keras", marks=needs("keras", "h5py")),
        pytest.param("savedmodel", marks=needs("keras", "tensorflow")),
    ],
)


@FORMATS
def test_an_export_keeps_the_noise_columns(name: interop.Format, tmp_path: Path) -> None:
    run = small(tmp_path / "run", train__epochs=1, dataset__noise_columns=3)
    train(run)
    assert interop.export(RunFolder(run.artifacts), name).difference < 1e-5


@FORMATS
def test_every_export_agrees_in_its_own_runtime(
    finished: RunFolder, name: interop.Format, tmp_path: Path
) -> None:
    done = interop.export(finished, name)
    assert done.path == finished.exports[name]
    assert done.path.exists()
    assert done.sequences == 1000
    assert len(done.lengths) == 2
    assert done.difference < 1e-5
    assert not list(finished.model.glob(".export-*"))
    if name in ("keras", "savedmodel"):  # and the way back
        interop.import_model(
            done.path, tmp_path / "back", overrides={"dataset.t": 12}, trust=name == "savedmodel"
        )
        x = torch.from_numpy(sample_batch_numpy(16, 30, seed=3)[0])
        assert torch.allclose(
            load_model(str(finished.path))(x), load_model(str(tmp_path / "back"))(x), atol=1e-6
        )


def test_an_export_that_differs_is_not_handed_out(
    finished: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = exporting._RUNTIMES["torch-export"]._replace(
        predict=lambda path, inputs: [np.full((len(x), 1), np.nan, np.float32) for x in inputs]
    )
    monkeypatch.setitem(exporting._RUNTIMES, "torch-export", wrong)
    with pytest.raises(InteropError, match="found nan; nothing was written"):
        interop.export(finished, "torch-export")
    assert not finished.exports["torch-export"].exists()


def test_a_missing_extra_names_the_command(
    finished: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(
        exporting._RUNTIMES,
        "onnx",
        exporting._RUNTIMES["onnx"]._replace(modules=("a_module_nobody_has",)),
    )
    with pytest.raises(InteropError, match=r"pip install 'adding-problem\[onnx\]'"):
        interop.export(finished, "onnx")
    assert not finished.exports["onnx"].exists()


@pytest.mark.parametrize("name", ["keras", "savedmodel", "onnx"])
def test_models_without_a_form_in_a_format_are_refused(
    tmp_path: Path, name: interop.Format
) -> None:
    train(small(tmp_path / "run", model__name="gru", train__epochs=1))
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(InteropError, match=f"{name}: expected the model lstm, found gru"):
        interop.export(folder, name)
    assert not folder.exports[name].exists()


def test_overwriting_a_run_deletes_its_exports_and_killed_drafts(finished: RunFolder) -> None:
    interop.export(finished, "torch-export")
    saved, draft = finished.exports["savedmodel"] / "variables", finished.model / ".export-killed"
    for folder in (saved, draft):
        folder.mkdir(parents=True)
        (folder / "part").write_bytes(b"...")
    train(finished.read_config(), overwrite=True)
    assert {file.name for file in finished.model.iterdir()} == {"model.safetensors", "model.json"}


@pytest.mark.parametrize("name", ["torch-export", "savedmodel"])
def test_no_export_takes_the_place_of_a_folder_of_other_things(
    finished: RunFolder, name: interop.Format, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "_require", lambda *_: None)
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "to_mother").write_text("Dear")
    with pytest.raises(ConfigError, match="a path where nothing is"):
        interop.export(finished, name, tmp_path / "letters")
    assert (tmp_path / "letters" / "to_mother").read_text() == "Dear"


def test_keras_files_have_an_ending_of_their_own(
    finished: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "_require", lambda *_: None)
    with pytest.raises(ConfigError, match=r"a file ending in \.keras"):
        interop.export(finished, "keras", tmp_path / "mymodel")


def test_an_export_waits_for_no_other_process_and_overwrites_none(finished: RunFolder) -> None:
    with RunFolder(finished.path).locked(), pytest.raises(LockError):
        interop.export(finished, "torch-export")
    assert not finished.exports["torch-export"].exists()


def test_export_of_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="no run folder"):
        interop.export(RunFolder(tmp_path), "torch-export")


# --- data --------------------------------------------------------------------------------------


def test_data_files_hold_what_training_sees(tmp_path: Path, commands: Callable[..., str]) -> None:
    x, y = sample_batch_numpy(700, 30, seed=5, start=3, task=Task(variant="hs1997"))
    assert "700 sequences, T = 30" in commands(
        "data",
        "--n",
        700,
        "--length",
        30,
        "--seed",
        5,
        "--start",
        3,
        "--variant",
        "hs1997",
        "--out",
        "d.npz",
    )
    with np.load(tmp_path / "d.npz", allow_pickle=False) as stored:
        assert np.array_equal(stored["x"], x)
        assert np.array_equal(stored["y"], y)
        assert stored["x"].dtype == np.float32


@pytest.mark.parametrize(
    ("name", "n", "length", "problem"),
    [
        ("d.csv", 7, 9, r"ending in \.npz or \.parquet"),
        ("d.npz", 0, 9, "at least 1"),
        ("d.npz", 7, 1, "at least 2"),
    ],
)
def test_wrong_orders_for_data(
    tmp_path: Path, name: str, n: int, length: int, problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem):
        interop.write_data(tmp_path / name, n, length)
    assert not list(tmp_path.iterdir())


def test_data_is_written_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from adding_problem.interop import datafile

    monkeypatch.setattr(datafile, "_PIECE_NUMBERS", 200)
    seen: list[int] = []
    interop.write_data(tmp_path / "d.npz", 25, 10, on_progress=lambda done, _: seen.append(done))
    assert seen == [10, 20, 25]
    with np.load(tmp_path / "d.npz", allow_pickle=False) as stored:
        assert np.array_equal(stored["x"], sample_batch_numpy(25, 10, seed=0)[0])


@needs("pyarrow")
def test_parquet(tmp_path: Path) -> None:
    import pyarrow.parquet

    x, y = sample_batch_numpy(50, 10, seed=1)
    interop.write_data(tmp_path / "d.parquet", 50, 10, seed=1)
    table = pyarrow.parquet.read_table(tmp_path / "d.parquet")
    for column, name in enumerate(("value", "mark")):
        assert np.array_equal(np.stack(table[name].to_numpy()), x[:, :, column])
    assert np.array_equal(table["target"].to_numpy(), y[:, 0])
    assert table.schema.metadata[b"adding_problem.seed"] == b"1"
