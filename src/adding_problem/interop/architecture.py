"""The one check that a Keras configuration is LSTM(H) and Dense(1), as `models.lstm` computes them.

The same JSON is in `keras_metadata.pb` of a SavedModel, in `config.json` of a `.keras` file and in
the attribute `model_config` of an `.h5` file, as Keras 2 and Keras 3 write it. Nothing that it
names is made or called.

An option of a layer is accepted where it has the value that our equations need, where it plays no
part in a prediction, or where it is off. So an unknown option of a later Keras refuses a model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adding_problem.errors import shown
from adding_problem.interop.untrusted import reading, refusal

__all__ = ["Architecture", "read"]

_MOST_UNITS = 65_536
_MODELS = ("Sequential", "Functional", "Model")  # Model: Functional before TensorFlow 2.3
_FLOAT32 = {"dtype": "float32"}
_LSTM = {"activation": "tanh", "recurrent_activation": "sigmoid", "use_bias": True}
_DENSE = {"units": 1, "activation": "linear", "use_bias": True}
_NEEDED: dict[str, dict[str, Any]] = {
    "InputLayer": _FLOAT32,
    "LSTM": _FLOAT32 | _LSTM,
    "Dense": _FLOAT32 | _DENSE,
    "Dropout": _FLOAT32,  # passes its input on, except in training
}
_NO_PART_IN_PREDICTIONS = {
    *("name", "trainable", "build_config", "input_dim", "input_length"),
    *("batch_shape", "batch_input_shape"),
    *("dropout", "recurrent_dropout", "rate", "noise_shape", "seed", "unit_forget_bias"),
    *("implementation", "unroll", "use_cudnn"),  # other ways to the same numbers
    "zero_output_for_mask",  # there is no mask
    "units",  # of the LSTM, which may have any number
    *(
        f"{part}{kind}"
        for part in ("", "kernel_", "recurrent_", "bias_", "activity_")
        for kind in ("initializer", "regularizer", "constraint")
    ),
}


@dataclass(frozen=True)
class Architecture:
    """An LSTM and a linear unit.

    Attributes:
        units: number of cells H.
        length: T of the sequences that the model takes; None is any.
        lstm, dense: names of the two layers in the file.
    """

    units: int
    length: int | None
    lstm: str
    dense: str


def read(text: str | bytes, source: object) -> Architecture:
    """The architecture in a Keras configuration.

    Args:
        text: JSON of the class and the configuration of a model.
        source: where it is, for messages.

    Raises:
        InteropError: naming the part that differs from LSTM(H) and Dense(1).
    """
    expected = "the configuration of a Keras model"
    with reading(source, expected, "give a model as Keras saved it"):
        return _architecture(json.loads(text), source)


def _architecture(model: Any, source: object) -> Architecture:
    if model["class_name"] not in _MODELS or _is_custom(model):
        expected = "a Sequential or Functional model of Keras"
        raise refusal(f"{source}: the model", expected, shown(model["class_name"]))
    config = model["config"]
    layers: Sequence[Mapping[str, Any]] = config if isinstance(config, list) else config["layers"]
    found = [str(layer["class_name"]) for layer in layers]
    with_weights = [name for name in found if name not in ("InputLayer", "Dropout")]
    if with_weights != ["LSTM", "Dense"] or "InputLayer" in found[1:]:
        raise refusal(f"{source}: the layers", "LSTM and Dense", shown(", ".join(found)))
    for layer in layers:
        _check_layer(layer, source)
    if model["class_name"] != "Sequential":
        _check_chain(config, layers, source)
    lstm, dense = (layers[found.index(name)]["config"] for name in ("LSTM", "Dense"))
    units = lstm["units"]
    if type(units) is not int or not 1 <= units <= _MOST_UNITS:
        expected = f"a whole number from 1 to {_MOST_UNITS:,}"
        raise refusal(f"{source}: {lstm['name']}: units", expected, shown(units))
    built = {} if isinstance(config, list) else {"batch_shape": config.get("build_input_shape")}
    length = _length(layers[0]["config"]) or _length(built)
    return Architecture(units, length, str(lstm["name"]), str(dense["name"]))


def _is_custom(part: Mapping[str, Any]) -> bool:
    """Whether a custom class bears the name of one of Keras's."""
    module = part.get("module", "keras")  # Keras 2 does not always say
    return not (isinstance(module, str) and module.split(".")[0] in ("keras", "tf_keras"))


def _check_layer(layer: Mapping[str, Any], source: object) -> None:
    kind, config = str(layer["class_name"]), layer["config"]
    place = f"{source}: {config['name']}"
    if _is_custom(layer):
        found = f"a class of the same name in {shown(layer['module'])}"
        raise refusal(place, f"the layer {kind} of Keras", found)
    needed = _NEEDED[kind]
    for option in {**needed, **config}:
        value = _policy(config.get(option)) if option == "dtype" else config.get(option)
        if option in needed:
            if value != needed[option] or type(value) is not type(needed[option]):
                raise refusal(f"{place}: {kind}.{option}", repr(needed[option]), shown(value))
        elif option not in _NO_PART_IN_PREDICTIONS and value not in (False, None):
            raise refusal(f"{place}: {kind}.{option}", "it off", shown(value))


def _policy(dtype: Any) -> Any:
    """The name of a precision; early versions of Keras name none. Policies that quantise stay."""
    if isinstance(dtype, Mapping) and dtype.get("class_name") in ("DTypePolicy", "Policy"):
        return dtype["config"]["name"]
    return "float32" if dtype is None else dtype


def _check_chain(
    config: Mapping[str, Any], layers: Sequence[Mapping[str, Any]], source: object
) -> None:
    """Raise InteropError unless each layer takes the output of the one before, and only that."""
    names = [str(layer["name"]) for layer in layers]
    for layer, before in zip(layers, [None, *names], strict=False):
        found = [_origin(node) for node in layer["inbound_nodes"]]
        if found != ([before] if before else []):
            expected = f"one call, on {before}, in the mode of predictions"
            raise refusal(f"{source}: {layer['name']}", expected, shown(layer["inbound_nodes"]))
    for key, name in (("input_layers", names[0]), ("output_layers", names[-1])):
        if config[key] not in ([name, 0, 0], [[name, 0, 0]]):
            raise refusal(f"{source}: {key}", f"only {name}", shown(config[key]))


def _origin(node: Any) -> str | None:
    """The layer on whose output another one is called; None where there is any other input."""
    if isinstance(node, Mapping):  # Keras 3
        tensors, options = node["args"], node["kwargs"]
        history = tensors[0]["config"]["keras_history"]
    else:
        tensors = node if isinstance(node[0], list) else [node]
        history, options = tensors[0][:3], tensors[0][3] if len(tensors[0]) > 3 else {}
    only = (
        len(tensors) == 1
        and history[1:] == [0, 0]
        and all(value in (None, False) for value in options.values())
    )
    return str(history[0]) if only else None


def _length(options: Mapping[str, Any]) -> int | None:
    """T of the shape (B, T, 2) of the input; a tuple may be written as an object."""
    shape = options.get("batch_shape") or options.get("batch_input_shape")
    if isinstance(shape, Mapping):
        shape = shape["items"]
    return shape[1] if shape and type(shape[1]) is int else None
