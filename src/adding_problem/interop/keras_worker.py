"""A program of its own: builds, saves, loads and runs the model in Keras and TensorFlow.

    python -P keras_worker.py save    keras|savedmodel WEIGHTS.npz MODEL
    python -P keras_worker.py predict keras|savedmodel MODEL INPUTS.npz OUTPUTS.npz
    python -P keras_worker.py run     savedmodel       MODEL ANSWERS.npz

The backend of Keras can be chosen once in a process, and TensorFlow takes the signals and threads of its host: hence a
process apart. Of this package nothing is imported.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MOST_STEPS = 10**6
_BATCHES, _LENGTHS = (
    (40, 17, 3),
    (30, 11),
)  # several calls: a model that keeps its state answers another time otherwise
Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def save(kind: str, weights_file: str, out: str) -> None:
    """Write the model with these weights; B and T stay open."""
    import keras

    with np.load(weights_file, allow_pickle=False) as stored:
        weights = [
            stored[name] for name in ("kernel", "recurrent", "bias", "readout", "readout_bias")
        ]
    inputs, hidden = len(weights[0]), len(weights[1])
    model = keras.Sequential(
        [keras.Input((None, inputs)), keras.layers.LSTM(hidden), keras.layers.Dense(1)]
    )
    model.set_weights(weights)
    if kind == "keras":
        model.save(out)
    else:
        model.export(out, format="tf_saved_model", verbose=False)


def predict(kind: str, path: str, inputs_file: str, out: str) -> None:
    """Load the model and write its answers to every array of the inputs."""
    run = _keras(path) if kind == "keras" else _saved_model(path)
    with np.load(inputs_file, allow_pickle=False) as inputs:
        np.savez(out, *(run(inputs[name]) for name in inputs.files))


def _keras(path: str) -> Run:
    import keras

    model = keras.saving.load_model(path, safe_mode=True)
    return lambda x: np.asarray(model.predict_on_batch(x))


def _saved_model(path: str) -> Run:
    import tensorflow as tf

    model: Any = tf.saved_model.load(path)
    return lambda x: model.serve(x).numpy()


def run(kind: str, path: str, out: str) -> None:
    """Write the variables of a SavedModel of anybody, its length T (0 is any), and its answers to random sequences."""
    import tensorflow as tf

    model: Any = tf.saved_model.load(path)  # keeps the variables of the graph alive
    graph = model.signatures["serving_default"]
    ((name, spec),) = graph.structured_input_signature[1].items()
    size, length, _ = spec.shape
    answers: dict[str, NDArray[np.float32]] = {}
    generator = np.random.default_rng(1)
    shapes = [
        (size or max(min(n, _MOST_STEPS // t), 1), t)
        for t in ([length] if length else _LENGTHS)
        for n in _BATCHES
    ]
    for index, (n, t) in enumerate(shapes):
        x = np.zeros((n, t, 2), np.float32)
        x[:, :, 0] = generator.random((n, t))
        np.put_along_axis(x[:, :, 1], generator.random((n, t)).argsort(1)[:, :2], 1, axis=1)
        (y,) = graph(**{name: tf.constant(x)}).values()
        answers |= {f"x{index}": x, f"y{index}": y.numpy()}
    variables = sorted(graph.variables, key=lambda variable: "recurrent" in variable.name)
    weights = {f"weight{index}": variable.numpy() for index, variable in enumerate(variables)}
    np.savez(out, length=np.array(length or 0), **weights, **answers)  # type: ignore[arg-type]


if __name__ == "__main__":
    verbs: dict[str, Callable[..., None]] = {"save": save, "predict": predict, "run": run}
    verbs[sys.argv[1]](*sys.argv[2:])
