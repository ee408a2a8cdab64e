"""Make `tests/foreign/`: a small model as the original left it, the same as a `.keras` file, and what Keras predicts with it.

Needs Keras and TensorFlow:

    python tests/make_foreign.py tests/foreign

The names of the variables are those that Keras 2.10 gave the original's SavedModel. `saved_model.pb`, the graph, is left
out: nothing reads it.
"""

import os
import pickle
import sys
from pathlib import Path

os.environ |= {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}

import keras
import numpy as np
import tensorflow as tf

HIDDEN, T = 4, 12


def main(out: Path) -> None:
    """Everything, from one model with random weights."""
    keras.utils.set_random_seed(4)
    model = keras.Sequential([keras.Input((T, 2)), keras.layers.LSTM(HIDDEN), keras.layers.Dense(1)])
    rng = np.random.default_rng(4)
    model.set_weights([rng.uniform(-0.8, 0.8, weight.shape) for weight in model.get_weights()])
    save_as_the_original(model, out / "original")
    model.save(out / "model.keras")
    x, _ = sequences(8, rng)
    np.savez(out / "predictions.npz", x=x, prediction=model.predict(x, verbose=0))


def save_as_the_original(model: keras.Model, out: Path) -> None:
    """Checkpoint, configuration and log; the log ends with the loss that Keras finds, so that the model matches it."""
    (out / "model" / "variables").mkdir(parents=True, exist_ok=True)
    kernel, recurrent, bias, readout, readout_bias = (tf.Variable(weight) for weight in model.get_weights())
    dense = tf.train.Checkpoint(kernel=readout, bias=readout_bias)
    tf.train.Checkpoint(variables=[kernel, recurrent, bias], **{"layer_with_weights-1": dense}).write(
        str(out / "model" / "variables" / "variables"))
    (out / "config_copy.yaml").write_text(
        f"artifacts: artifacts/{T}\ndataset:\n  dt_length: 100000\n  t: {T}\ntrain:\n  batch: 64\n  epochs: 3\n  es_patience: 10\n")
    x, y = sequences(50_000, np.random.default_rng(5))
    loss = float(np.mean((model.predict(x, batch_size=1000, verbose=0) - y) ** 2))
    (out / "loss.pkl").write_bytes(pickle.dumps({"loss": [3 * loss, 2 * loss, loss], "val_loss": [3 * loss, 2 * loss, loss]}))


def sequences(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """x (n, T, 2) and y (n, 1), variant any."""
    x = np.zeros((n, T, 2), np.float32)
    x[:, :, 0] = rng.random((n, T))
    marks = rng.permuted(np.tile(np.arange(T), (n, 1)), axis=1)[:, :2]
    np.put_along_axis(x[:, :, 1], marks, 1, axis=1)
    return x, (x[:, :, 0] * x[:, :, 1]).sum(1, keepdims=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
