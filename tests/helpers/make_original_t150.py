"""Make `original_t150.npz`: the weights of the original's T=150 model and what TensorFlow predicts
with them.

Needs TensorFlow, and the original's SavedModel folder:

    python tests/make_original_t150.py PATH/TO/150/model tests/original_t150.npz
"""

import sys

import numpy as np
import tensorflow as tf

VARIABLES = {
    "kernel": "variables/0",
    "recurrent": "variables/1",
    "bias": "variables/2",
    "readout": "layer_with_weights-1/kernel",
    "readout_bias": "layer_with_weights-1/bias",
}


def main(model_folder: str, out: str) -> None:
    """Read the variables, draw eight sequences, run the model's own serving function on them."""
    checkpoint = tf.train.load_checkpoint(f"{model_folder}/variables/variables")
    weights = {
        name: checkpoint.get_tensor(f"{key}/.ATTRIBUTES/VARIABLE_VALUE")
        for name, key in VARIABLES.items()
    }
    rng = np.random.default_rng(150)
    x = np.zeros((8, 150, 2), np.float32)
    x[:, :, 0] = rng.random((8, 150))
    for marks in x[:, :, 1]:
        marks[rng.choice(150, 2, replace=False)] = 1
    np.savez(out, x=x, prediction=serve(model_folder, x), **weights)


def serve(model_folder: str, x: np.ndarray) -> np.ndarray:
    """The model's answers, through TensorFlow 1's session: version 2 stumbles over the old
    optimiser's slots."""
    v1 = tf.compat.v1
    with v1.Session(graph=tf.Graph()) as session:
        signature = v1.saved_model.load(session, ["serve"], model_folder).signature_def[
            "serving_default"
        ]
        (argument,), (answer,) = signature.inputs.values(), signature.outputs.values()
        predictions: np.ndarray = session.run(answer.name, {argument.name: x})
        return predictions


if __name__ == "__main__":
    main(*sys.argv[1:])
