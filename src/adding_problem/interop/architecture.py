"""Reads from a Keras configuration whether a model is LSTM(H) and Dense(1), with the equations of `models.lstm`.

The same JSON lies in `keras_metadata.pb` of a SavedModel, in `config.json` of a `.keras` file and in the attribute
`model_config` of an `.h5` file, as Keras 2 and Keras 3 write it. Nothing that it names is made or called.

An option of a layer is accepted only where it is known: it has the value that our equations need, or it plays no part
in a prediction, or it is off. So an option of a later Keras refuses a model rather than changing it silently.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adding_problem.errors import InteropError, shown
from adding_problem.interop.weights import OTHER_MODELS

__all__ = ["Architecture", "read"]

_MOST_UNITS = 65_536
_MODELS = (
    "Sequential",
    "Functional",
    "Model",
)  # Model is what Keras called Functional before TensorFlow 2.3
_OURS: dict[
    str, dict[str, Any]
] = {  # an option that must be off may be missing: earlier versions did not have it
    "InputLayer": {"dtype": "float32"},
    "LSTM": {
        "activation": "tanh",
        "recurrent_activation": "sigmoid",
        "use_bias": True,
        "dtype": "float32",
    },
    "Dense": {"units": 1, "activation": "linear", "use_bias": True, "dtype": "float32"},
    "Dropout": {"dtype": "float32"},  # passes its input on, except in training
}
_NO_PART_IN_PREDICTIONS = {
    *(
        "name",
        "trainable",
        "batch_shape",
        "batch_input_shape",
        "input_dim",
        "input_length",
        "build_config",
    ),
    *(
        f"{part}{kind}"
        for part in ("", "kernel_", "recurrent_", "bias_", "activity_")
        for kind in ("initializer", "regularizer", "constraint")
    ),
    *(
        "dropout",
        "recurrent_dropout",
        "rate",
        "noise_shape",
        "seed",
        "unit_forget_bias",
    ),  # in training
    *("implementation", "unroll", "use_cudnn"),  # other ways to the same numbers
    "zero_output_for_mask",  # there is no mask
    "units",  # of the LSTM, which may have any number
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


def read(model: object, source: object) -> Architecture:
    """The architecture in a Keras configuration.

    Args:
        model: what the JSON holds: the class and the configuration of a model.
        source: where it lies, for messages.

    Raises:
        InteropError: naming the part that differs from LSTM(H) and Dense(1).
    """
    try:
        return _architecture(model, source)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise InteropError(
            f"{source}: expected the configuration of a Keras model, found something else ({error!r})",
            "give a model as Keras saved it",
        ) from None


def _architecture(model: Any, source: object) -> Architecture:
    if model["class_name"] not in _MODELS or _is_not_keras(model):
        raise _refused(
            source, "the model", "a Sequential or Functional model of Keras", model["class_name"]
        )
    config = model["config"]
    layers: Sequence[Mapping[str, Any]] = config if isinstance(config, list) else config["layers"]
    found = [str(layer["class_name"]) for layer in layers]
    with_weights = [name for name in found if name not in ("InputLayer", "Dropout")]
    if with_weights != ["LSTM", "Dense"] or "InputLayer" in found[1:]:
        raise InteropError(
            f"{source}: the layers: expected LSTM and Dense, found {shown(', '.join(found))}",
            OTHER_MODELS,
        )
    for layer in layers:
        _check_layer(layer, source)
    if model["class_name"] != "Sequential":
        _check_chain(config, layers, source)
    lstm, dense = (layers[found.index(name)]["config"] for name in ("LSTM", "Dense"))
    units = lstm["units"]
    if type(units) is not int or not 1 <= units <= _MOST_UNITS:
        raise _refused(
            source, f"{lstm['name']}: units", f"a whole number up to {_MOST_UNITS:,}", units
        )
    built = {} if isinstance(config, list) else {"batch_shape": config.get("build_input_shape")}
    length = _length(layers[0]["config"]) or _length(built)
    return Architecture(units, length, str(lstm["name"]), str(dense["name"]))


def _is_not_keras(part: Mapping[str, Any]) -> bool:
    """Whether a class of somebody's own bears the name of one of Keras's."""
    module = part.get("module", "keras")  # Keras 2 does not always say
    return not (isinstance(module, str) and module.split(".")[0] in ("keras", "tf_keras"))


def _check_layer(layer: Mapping[str, Any], source: object) -> None:
    kind, config = str(layer["class_name"]), layer["config"]
    if _is_not_keras(layer):
        raise _refused(
            source,
            str(config["name"]),
            f"the layer {kind} of Keras",
            f"a class of the same name in {layer['module']}",
        )
    expected = _OURS[kind]
    for option in {**expected, **config}:
        value = _policy(config.get(option)) if option == "dtype" else config.get(option)
        place = f"{config['name']}: {kind}.{option}"
        if option in expected:
            if value != expected[option] or type(value) is not type(expected[option]):
                raise _refused(source, place, repr(expected[option]), value)
        elif option not in _NO_PART_IN_PREDICTIONS and value not in (False, None):
            raise _refused(source, place, "it off", value)


def _policy(dtype: Any) -> Any:
    """The name of a precision; a policy that quantises has none of ours, and early versions of Keras name none."""
    if isinstance(dtype, Mapping) and dtype.get("class_name") in ("DTypePolicy", "Policy"):
        return dtype["config"]["name"]
    return "float32" if dtype is None else dtype


def _check_chain(
    config: Mapping[str, Any], layers: Sequence[Mapping[str, Any]], source: object
) -> None:
    """Every layer of a functional model takes what the one before it gives, and the last one is the only output."""
    names = [str(layer["name"]) for layer in layers]
    for layer, before in zip(layers, [None, *names], strict=False):
        found = [_origin(node) for node in layer["inbound_nodes"]]
        if found != ([before] if before else []):
            raise _refused(
                source,
                str(layer["name"]),
                f"one call, on {before}, in the mode of predictions",
                layer["inbound_nodes"],
            )
    for key, name in (("input_layers", names[0]), ("output_layers", names[-1])):
        if config[key] not in ([name, 0, 0], [[name, 0, 0]]):
            raise _refused(source, key, f"{name} alone", config[key])


def _origin(node: Any) -> str | None:
    """The layer on whose output another one is called; None where it takes more than that one input."""
    if isinstance(node, Mapping):  # Keras 3
        tensors, options = node["args"], node["kwargs"]
        history = tensors[0]["config"]["keras_history"]
    else:
        tensors = node if isinstance(node[0], list) else [node]
        history, options = tensors[0][:3], tensors[0][3] if len(tensors[0]) > 3 else {}
    alone = (
        len(tensors) == 1
        and history[1:] == [0, 0]
        and all(value in (None, False) for value in options.values())
    )
    return str(history[0]) if alone else None


def _length(options: Mapping[str, Any]) -> int | None:
    """T of the shape (B, T, 2) of the input; a tuple may be written as an object."""
    shape = options.get("batch_shape") or options.get("batch_input_shape")
    if isinstance(shape, Mapping):
        shape = shape["items"]
    return shape[1] if shape and type(shape[1]) is int else None


def _refused(source: object, place: str, expected: str, found: object) -> InteropError:
    text = found if isinstance(found, str) and " " in found else repr(found)
    return InteropError(f"{source}: {place}: expected {expected}, found {text[:200]}", OTHER_MODELS)
