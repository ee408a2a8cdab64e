"""Train a Keras model on the very sequences that `adding-problem train` sees, from a file.

    pip install '.[keras]'
    adding-problem data --n 3000 --length 20 --out data.npz
    KERAS_BACKEND=torch python examples/keras_data.py data.npz --epochs 20

Or any other backend that is installed (KERAS_BACKEND=tensorflow|jax). x is float32 (n, T, 2), y is
float32 (n, 1).
"""

import argparse

import keras
import numpy as np


def main() -> None:
    """Read, train, print the validation error beside the mean baseline."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data")
    parser.add_argument("--epochs", type=int, default=20)
    arguments = parser.parse_args()
    with np.load(arguments.data, allow_pickle=False) as stored:
        x, y = stored["x"], stored["y"]
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((None, 2)), keras.layers.LSTM(32), keras.layers.Dense(1)])
    model.compile(optimizer=keras.optimizers.Adam(1e-2, clipnorm=1.0), loss="mse")
    history = model.fit(
        x, y, batch_size=64, epochs=arguments.epochs, validation_split=0.2, verbose=0
    )
    print(f"validation MSE {history.history['val_loss'][-1]:.4f} (mean baseline: {1 / 6:.4f})")


if __name__ == "__main__":
    main()
