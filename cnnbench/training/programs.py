"""Programs that the runs of one process share: to trace a small network takes longer than to train it.

A program is bound to the variables of its model. So a model stays when its run has ended, and a run whose
own would be traced to the same program takes it instead, with all variables set to those of its own. That is
what a resumed run does with those of a file.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from cnnbench.nn import layers_of
from cnnbench.training.precision import digest

MODELS, BYTES = 4, 2**26  # that are kept, of models and of one model's variables
KNOWN = ("keras", "cnnbench")  # what their parts compute is all in their configs
_kept: OrderedDict[str, keras.Model] = OrderedDict()


def program_name(model: keras.Model, parts: Sequence[Any], *told: Any) -> str | None:
    """Return a name that models share whose programs are the same; None where that cannot be known.

    Args:
        model: compiled.
        parts: what else takes part in the training: callbacks, augmentation.
        told: what else goes into the programs; its text says all.
    """
    parts = [*layers_of(model), model.optimizer, *parts]
    config = {"model": model.get_config(), "compiled": model.get_compile_config()}
    if not all(type(one).__module__.partition(".")[0] in KNOWN for one in parts if one is not None):
        return None
    if not all(map(_is_known, _objects(config))):
        return None
    size = sum(_bytes(one) for one in (*model.variables, *model.optimizer.variables))
    if size > BYTES:
        return None
    settings = config["compiled"]["optimizer"]["config"]
    if isinstance(settings.get("learning_rate"), float):  # it is a variable
        settings["learning_rate"] = None
    return digest(json.dumps(config, sort_keys=True, default=repr), list(map(repr, told)))


def _bytes(variable: Any) -> int:
    return int(tf.TensorShape(variable.shape).num_elements() * tf.as_dtype(variable.dtype).size)


def _objects(config: Any) -> Iterator[Mapping[str, Any]]:
    """Yield every serialized object in a config; tensors and tuples come from no module."""
    if isinstance(config, Mapping):
        if "class_name" in config and "module" in config:
            yield config
        for inner in config.values():
            yield from _objects(inner)
    elif isinstance(config, list | tuple):
        for inner in config:
            yield from _objects(inner)


def _is_known(config: Mapping[str, Any]) -> bool:
    if str(config.get("registered_name")).startswith("cnnbench>"):
        return True
    return str(config["module"] or "").partition(".")[0] in KNOWN


def take(name: str | None, model: keras.Model) -> keras.Model:
    """Return the model that is kept under a name, with the values of `model`; `model` where there is none."""
    kept = _kept.pop(name, None) if name else None
    if kept is None:
        return model
    for before, now in zip(_state(kept), _state(model), strict=True):
        before.assign(now)
    kept.reset_metrics()
    return kept


def keep(name: str | None, model: keras.Model) -> None:
    """Keep a model, whose training has ended well, for the next run with programs of that name."""
    if name is None:
        return
    _kept[name] = model
    while len(_kept) > MODELS:
        _kept.popitem(last=False)


def _state(model: keras.Model) -> list[Any]:
    return [*model.variables, *model.optimizer.variables, *statistics(model)]


# -- Statistics ------------------------------------------------------------------------------------


def hold_statistics(model: keras.Model) -> None:
    """Put the statistics of adapted `Normalization` layers into variables: Keras has constants of a graph."""
    for layer in _adapted(model):
        layer.mean, layer.variance = (
            tf.Variable(one, trainable=False) for one in (layer.mean, layer.variance)
        )


def statistics(model: keras.Model) -> list[tf.Variable]:
    """Return the variables with the statistics of adapted layers, and those of their faster kernels."""
    return [
        one
        for layer in _adapted(model)
        for one in (layer.mean, layer.variance, *getattr(layer.call, "statistics", ()))
    ]


def _adapted(model: keras.Model) -> Iterator[Any]:
    for layer in layers_of(model):
        if isinstance(layer, keras.layers.Normalization) and layer.built and layer.input_mean is None:
            yield layer
