"""The original's method in Keras on TensorFlow, until the validation MSE is below a target; see
time_to_solve.py.

    .peers/bin/python benchmarks/original_keras.py DATA.npz --seed 0 --target 1e-3      (make peers)

DATA.npz: x_train (n, T, 2), y_train (n, 1), x_val, y_val, float32. Prints a line of JSON after
every epoch: sequences, seconds since the start of training, val_loss.
"""

from __future__ import annotations

import argparse
import json
import os
import time

os.environ |= {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}

import keras
import numpy as np


class Report(keras.callbacks.Callback):  # type: ignore[misc]
    """Prints what an epoch came to, and ends the training at the target."""

    def __init__(self, sequences: int, target: float) -> None:
        super().__init__()
        self._sequences, self._target, self._begin = sequences, target, time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """After the validation of an epoch."""
        val_loss = (logs or {})["val_loss"]
        print(
            json.dumps(
                {
                    "sequences": (epoch + 1) * self._sequences,
                    "seconds": time.perf_counter() - self._begin,
                    "val_loss": val_loss,
                }
            ),
            flush=True,
        )
        self.model.stop_training = val_loss < self._target


def main() -> None:
    """Train until the target or for the original's 100 epochs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--target", type=float, default=1e-3)
    arguments = parser.parse_args()
    with np.load(arguments.data, allow_pickle=False) as stored:
        data = {name: stored[name] for name in stored.files}
    keras.utils.set_random_seed(arguments.seed)
    length = data["x_train"].shape[1]
    model = keras.Sequential(
        [keras.Input((length, 2)), keras.layers.LSTM(100), keras.layers.Dense(1)]
    )
    model.compile(optimizer=keras.optimizers.Adam(learning_rate=1e-2, clipvalue=10.0), loss="mse")
    report = Report(len(data["x_train"]), arguments.target)
    model.fit(
        data["x_train"],
        data["y_train"],
        batch_size=64,
        epochs=100,
        verbose=0,
        callbacks=[report],
        validation_data=(data["x_val"], data["y_val"]),
    )


if __name__ == "__main__":
    main()
