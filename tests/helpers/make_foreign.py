"""Make `tests/data/foreign/`: models as Keras 2 and Keras 3 save them, and their predictions.

    original/               a small model as the original left it: a SavedModel of Keras 2, its
                            configuration and its log
    model.keras             the same in Keras 3
    model_2.h5, model_3.h5  the same in Keras 2 and Keras 3
    predictions.npz         sequences, and what Keras predicts for them with that model
    architectures.json.gz   configurations of many other models, and whether Keras predicts what
                            an LSTM and a linear unit with their weights would

Needs TensorFlow, Keras, and Keras 2 under its present name, tf_keras:

    python tests/helpers/make_foreign.py tests/data/foreign

`saved_model.pb`, the graph, is left out of the original's SavedModel: nothing reads it.
"""

import gzip
import json
import os
import pickle
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ |= {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}

import h5py
import keras
import numpy as np
import tf_keras

HIDDEN, T = 4, 12


def main(out: Path) -> None:
    """Everything, from one model with random weights."""
    keras.utils.set_random_seed(4)
    model, model_2 = plain(keras), plain(tf_keras)
    rng = np.random.default_rng(4)
    weights = [rng.uniform(-0.8, 0.8, weight.shape) for weight in model.get_weights()]
    for each in (model, model_2):
        each.set_weights(weights)
    save_as_the_original(model_2, out / "original")
    model.save(out / "model.keras")
    model_2.save(out / "model_2.h5")
    model.save(out / "model_3.h5")
    x, _ = sequences(8, rng)
    np.savez(out / "predictions.npz", x=x, prediction=model.predict(x, verbose=0))
    found = json.dumps(
        [line for name, build in CASES.items() for line in configurations(name, build)]
    )
    (out / "architectures.json.gz").write_bytes(gzip.compress(found.encode(), mtime=0))


def save_as_the_original(model: Any, out: Path) -> None:
    """Model, configuration and log; the log ends with the loss that Keras finds: they match."""
    (out / "model" / "variables").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        model.save(scratch, save_format="tf")
        for file in (
            "variables/variables.index",
            "variables/variables.data-00000-of-00001",
            "keras_metadata.pb",
        ):
            shutil.copy(Path(scratch) / file, out / "model" / file)
    (out / "config_copy.yaml").write_text(
        f"artifacts: artifacts/{T}\ndataset:\n  dt_length: 100000\n  t: {T}\n"
        "train:\n  batch: 64\n  epochs: 3\n  es_patience: 10\n"
    )
    x, y = sequences(50_000, np.random.default_rng(5))
    loss = float(np.mean((model.predict(x, batch_size=1000, verbose=0) - y) ** 2))
    (out / "loss.pkl").write_bytes(
        pickle.dumps({"loss": [3 * loss, 2 * loss, loss], "val_loss": [3 * loss, 2 * loss, loss]})
    )


def sequences(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """x (n, T, 2) and y (n, 1), variant any."""
    x = np.zeros((n, T, 2), np.float32)
    x[:, :, 0] = rng.random((n, T))
    marks = rng.permuted(np.tile(np.arange(T), (n, 1)), axis=1)[:, :2]
    np.put_along_axis(x[:, :, 1], marks, 1, axis=1)
    return x, (x[:, :, 0] * x[:, :, 1]).sum(1, keepdims=True)


# --- other models ------------------------------------------------------------------------------


def plain(k: Any, between: list[Any] | None = None, lstm: Any = None, **options: Any) -> Any:
    """Input, LSTM and Dense(1), with other layers in front and behind; options of the readout."""
    return k.Sequential(
        [
            k.Input((T, 2)),
            lstm or k.layers.LSTM(HIDDEN),
            *(between or []),
            k.layers.Dense(**{"units": 1} | options),
        ]
    )


def with_lstm(**options: Any) -> Callable[[Any], Any]:
    """A model whose LSTM has other options."""
    return lambda k: plain(k, lstm=k.layers.LSTM(HIDDEN, **options))


def with_readout(**options: Any) -> Callable[[Any], Any]:
    """A model whose readout has other options."""
    return lambda k: plain(k, **options)


def functional(build: Callable[[Any, Any], Any]) -> Callable[[Any], Any]:
    """A functional model of an input."""

    def model(k: Any) -> Any:
        x = k.Input((T, 2))
        return k.Model(x, build(k, x))

    return model


def in_front(layer: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A model with a layer before the LSTM."""
    return lambda k: k.Sequential(
        [k.Input((T, 2)), layer(k), k.layers.LSTM(HIDDEN), k.layers.Dense(1)]
    )


def named_like_keras(k: Any) -> Any:
    """A custom class that has the name of one of Keras's and computes something else."""

    class LSTM(k.layers.LSTM):  # type: ignore[misc]
        def call(self, inputs: Any, **options: Any) -> Any:
            return 2 * super().call(inputs, **options)

    return plain(k, lstm=LSTM(HIDDEN))


def without_input_layer(k: Any) -> Any:
    """As in most examples: Keras learns the shape from the data."""
    model = k.Sequential([k.layers.LSTM(HIDDEN), k.layers.Dense(1)])
    model.build((None, T, 2))
    return model


def quantized(k: Any) -> Any:
    """Only in Keras 3."""
    model = plain(k)
    model.quantize("int8")
    return model


CASES: dict[str, Callable[[Any], Any]] = {
    "plain": plain,
    "without_input_layer": without_input_layer,
    "functional": functional(lambda k, x: k.layers.Dense(1)(k.layers.LSTM(HIDDEN)(x))),
    "fixed_batch": lambda k: k.Sequential(
        [
            k.layers.InputLayer(
                **{"batch_shape" if k is keras else "batch_input_shape": (8, T, 2)}
            ),
            k.layers.LSTM(HIDDEN),
            k.layers.Dense(1),
        ]
    ),
    "dropout": with_lstm(dropout=0.2, recurrent_dropout=0.3),
    "dropout_layer": lambda k: plain(k, [k.layers.Dropout(0.2)]),
    "no_forget_bias": with_lstm(unit_forget_bias=False),
    "unroll": with_lstm(unroll=True),
    "regularized": with_lstm(
        kernel_regularizer="l2", recurrent_constraint="max_norm", bias_initializer="ones"
    ),
    "implementation_1": lambda k: plain(k, lstm=k.layers.LSTM(HIDDEN, implementation=1)),
    "hard_sigmoid": with_lstm(recurrent_activation="hard_sigmoid"),
    "relu_cell": with_lstm(activation="relu"),
    "no_activation": with_lstm(activation=None),
    "go_backwards": with_lstm(go_backwards=True),
    "no_lstm_bias": with_lstm(use_bias=False),
    "stateful": lambda k: k.Sequential(
        [
            k.layers.InputLayer(
                **{"batch_shape" if k is keras else "batch_input_shape": (8, T, 2)}
            ),
            k.layers.LSTM(HIDDEN, stateful=True),
            k.layers.Dense(1),
        ]
    ),
    "time_major": with_lstm(time_major=True),
    "float16": with_lstm(dtype="mixed_float16"),
    "float64": with_readout(dtype="float64"),
    "pooled": lambda k: plain(
        k, [k.layers.GlobalAveragePooling1D()], k.layers.LSTM(HIDDEN, return_sequences=True)
    ),
    "every_step": with_lstm(return_sequences=True),
    "softplus_readout": with_readout(activation="softplus"),
    "sigmoid_readout": with_readout(activation="sigmoid"),
    "relu_readout": with_readout(activation="relu"),
    "two_units": with_readout(units=2),
    "no_readout_bias": with_readout(use_bias=False),
    "activation_layer": lambda k: k.Sequential(
        [k.Input((T, 2)), k.layers.LSTM(HIDDEN), k.layers.Dense(1), k.layers.Activation("relu")]
    ),
    "two_readouts": lambda k: plain(k, [k.layers.Dense(HIDDEN)]),
    "stacked": lambda k: plain(
        k, [k.layers.LSTM(HIDDEN)], k.layers.LSTM(HIDDEN, return_sequences=True)
    ),
    "bidirectional": lambda k: plain(k, lstm=k.layers.Bidirectional(k.layers.LSTM(HIDDEN))),
    "gru": lambda k: plain(k, lstm=k.layers.GRU(HIDDEN)),
    "simple_rnn": lambda k: plain(k, lstm=k.layers.SimpleRNN(HIDDEN)),
    "mask": in_front(lambda k: k.layers.Masking(0.5)),
    "normalized": in_front(lambda k: k.layers.BatchNormalization()),
    "scaled": in_front(lambda k: k.layers.Rescaling(2.0)),
    "swapped": functional(
        lambda k, x: k.layers.Dense(1)(
            k.layers.LSTM(HIDDEN)(
                k.layers.Concatenate()([k.layers.Cropping1D(0)(x)[:, :, 1:], x[:, :, :1]])
            )
        )
    ),
    "dropout_always": functional(
        lambda k, x: k.layers.Dense(1)(
            k.layers.Dropout(0.5)(k.layers.LSTM(HIDDEN)(x), training=True)
        )
    ),
    "dropout_in_cell_always": functional(
        lambda k, x: k.layers.Dense(1)(k.layers.LSTM(HIDDEN, dropout=0.5)(x, training=True))
    ),
    "two_outputs": functional(lambda k, x: [h := k.layers.LSTM(HIDDEN)(x), k.layers.Dense(1)(h)]),
    "nested": lambda k: k.Sequential([k.Input((T, 2)), plain(k), k.layers.Dense(1)]),
    "class_named_like_keras": named_like_keras,
    "quantized": quantized,
}
"""Those that a version of Keras cannot build are left out for that version."""


def configurations(name: str, build: Callable[[Any], Any]) -> list[dict[str, Any]]:
    """How Keras describes a model in its files, and whether it predicts as an LSTM would."""
    found = []
    for k, version in ((tf_keras, "2"), (keras, "3")):
        try:
            model = build(k)
        except (TypeError, ValueError, AttributeError) as error:
            print(f"{name}: not in Keras {version}: {error}")
            continue
        same = predicts_as_an_lstm(model)
        files = {"keras": json.loads(model.to_json())}
        if build is not named_like_keras:  # the older form does not tell it apart
            with tempfile.TemporaryDirectory() as scratch:
                model.save(f"{scratch}/model.h5")
                with h5py.File(f"{scratch}/model.h5") as stored:
                    files["h5"] = json.loads(stored.attrs["model_config"])
        found += [
            {"case": name, "version": version, "file": file, "same": same, "config": config}
            for file, config in files.items()
        ]
        print(name, version, same)
    return found


def predicts_as_an_lstm(model: Any) -> bool:
    """Whether a model predicts what LSTM and Dense(1) with its first five arrays would, twice."""
    rng = np.random.default_rng(6)
    arrays = [np.asarray(array, np.float64) for array in model.get_weights()[:5]]
    if [array.shape for array in arrays] != [
        (2, 4 * HIDDEN),
        (HIDDEN, 4 * HIDDEN),
        (4 * HIDDEN,),
        (HIDDEN, 1),
        (1,),
    ]:
        return False
    model.set_weights([rng.uniform(-1.5, 1.5, weight.shape) for weight in model.get_weights()])
    kernel, recurrent, bias, readout, readout_bias = (
        np.asarray(array, np.float64) for array in model.get_weights()[:5]
    )
    for _ in range(2):
        x, _ = sequences(8, rng)
        h = c = np.zeros((8, HIDDEN))
        for step in range(T):
            i, f, g, o = np.split(x[:, step] @ kernel + h @ recurrent + bias, 4, axis=1)
            c = c / (1 + np.exp(-f)) + np.tanh(g) / (1 + np.exp(-i))
            h = np.tanh(c) / (1 + np.exp(-o))
        answers = model.predict_on_batch(x)
        if (
            isinstance(answers, list)
            or np.shape(answers) != (8, 1)
            or np.abs(answers - h @ readout - readout_bias).max() > 1e-5
        ):
            return False
    return True


if __name__ == "__main__":
    main(Path(sys.argv[1]))
