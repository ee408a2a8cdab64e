"""A program of its own: builds, saves, loads and runs models in Keras and TensorFlow.

    python -P keras_worker.py VERB KIND MODEL GIVEN.npz ANSWERED.npz

    save       write the model of the given weights                      keras, savedmodel
    predict    load a model written here; predictions of given inputs    keras, savedmodel
    read       configuration and variables; executes nothing             savedmodel
    run        execute the graph; variables, inputs and predictions      savedmodel

The backend of Keras can be chosen once in a process, and TensorFlow takes the signals and threads
of its host: hence a separate process. It imports nothing of this package.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]

_VARIABLE = r"(variables/\d{1,6}|layer_with_weights-1/(kernel|bias))/\.ATTRIBUTES/VARIABLE_VALUE"
_MOST_NUMBERS = 1 << 28  # 1 GiB
_MOST_STEPS = 10**6
# Several calls: a model that keeps its state between calls does not predict the same again.
_BATCHES, _LENGTHS = (40, 17, 3), (30, 11)


def save(kind: str, path: str, weights: Arrays) -> Arrays:
    """Write LSTM(H) and Dense(1) with these weights; B and T stay open."""
    import keras

    kernel, recurrent, *_ = arrays = list(weights.values())
    model = keras.Sequential(
        [
            keras.Input((None, len(kernel))),
            keras.layers.LSTM(len(recurrent)),
            keras.layers.Dense(1),
        ]
    )
    model.set_weights(arrays)
    if kind == "keras":
        model.save(path)
    else:
        model.export(path, format="tf_saved_model", verbose=False)
    return {}


def predict(kind: str, path: str, inputs: Arrays) -> Arrays:
    """The predictions for each array of inputs by a model that `save` wrote."""
    model: Any
    if kind == "keras":
        import keras

        model = keras.saving.load_model(path, safe_mode=True)
        return {name: np.asarray(model.predict_on_batch(x)) for name, x in inputs.items()}
    import tensorflow as tf

    model = tf.saved_model.load(path)
    return {name: model.serve(x).numpy() for name, x in inputs.items()}


def read(kind: str, path: str, given: Arrays) -> Arrays:
    """Keras 2's configuration, and the variables of an LSTM and a readout, the kernel first."""
    import tensorflow as tf

    reader = tf.train.load_checkpoint(f"{path}/variables/variables")
    shapes, types = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
    names = [name for name in shapes if re.fullmatch(_VARIABLE, name) and types[name] == tf.float32]
    numbers = sum(np.prod(shapes[name], dtype=np.float64) for name in names)
    if numbers > _MOST_NUMBERS:
        raise ValueError(f"expected at most {_MOST_NUMBERS:,} weights, found {numbers:.3g}")
    names.sort(key=lambda name: [int(part) for part in re.findall(r"^variables/(\d+)", name)])
    weights = {f"weight{index}": reader.get_tensor(name) for index, name in enumerate(names)}
    return {"config": np.array(_configuration(Path(path) / "keras_metadata.pb")), **weights}


def _configuration(path: Path) -> str:
    """JSON of the whole model: the root of Keras's `SavedMetadata` (saved_metadata.proto)."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory  # of TensorFlow

    text = {"type": descriptor_pb2.FieldDescriptorProto.TYPE_STRING, "label": 1}  # 1: optional
    schema = descriptor_pb2.FileDescriptorProto(name="metadata", package="k", syntax="proto3")
    node = schema.message_type.add(name="Node")
    node.field.add(name="node_path", number=3, **text)
    node.field.add(name="metadata", number=5, **text)
    nodes = {"type": descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE, "label": 3}  # 3: repeated
    metadata = schema.message_type.add(name="Metadata")
    metadata.field.add(name="nodes", number=1, type_name=".k.Node", **nodes)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(schema)
    message = message_factory.GetMessageClass(pool.FindMessageTypeByName("k.Metadata"))
    found: Any = message.FromString(path.read_bytes())
    (root,) = (node.metadata for node in found.nodes if node.node_path == "root")
    return str(root)


def run(kind: str, path: str, given: Arrays) -> Arrays:
    """The variables of any SavedModel, its length T (0 is any), and predictions by its graph."""
    import tensorflow as tf

    model: Any = tf.saved_model.load(path)  # keeps the variables of the graph alive
    graph = model.signatures["serving_default"]
    ((name, spec),) = graph.structured_input_signature[1].items()
    size, length, _ = spec.shape
    variables = sorted(graph.variables, key=lambda variable: "recurrent" in variable.name)
    found: Arrays = {f"weight{index}": each.numpy() for index, each in enumerate(variables)}
    found["length"] = np.array(length or 0)
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
        found |= {f"x{index}": x, f"y{index}": y.numpy()}
    return found


def main(verb: str, kind: str, path: str, given: str, answered: str) -> None:
    """Read the given arrays, do what the verb says, write what it answers."""
    verbs: dict[str, Callable[[str, str, Arrays], Arrays]] = {
        "save": save,
        "predict": predict,
        "read": read,
        "run": run,
    }
    with np.load(given, allow_pickle=False) as stored:
        arrays = dict(stored)
    np.savez(answered, **verbs[verb](kind, path, arrays))  # type: ignore[arg-type]


if __name__ == "__main__":
    main(*sys.argv[1:])
