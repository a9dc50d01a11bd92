"""Temperature: one number that divides the logits of a stored network, in Keras's own layers."""

from __future__ import annotations

import keras

PREDICTIONS = "predictions"  # the activation that ends every network with probabilities
TEMPERATURE = "temperature"


def split_at_logits(model: keras.Model) -> tuple[keras.Model, keras.Model]:
    """Cut a model in two before its last activation: the network that gives logits, and the activation."""
    logits = model.get_layer(PREDICTIONS).input
    network = keras.Model(model.inputs[0], logits, name=f"{model.name}_logits")
    return network, keras.Model(logits, model.outputs[0], name=f"{model.name}_{PREDICTIONS}")


def with_temperature(model: keras.Model, temperature: float) -> keras.Model:
    """Return a model that divides the logits by a temperature before its last activation, in float32.

    It has the layers of the given one, and its loss, metrics and optimizer.
    """
    activation = model.get_layer(PREDICTIONS)
    scaled = keras.layers.Rescaling(1 / temperature, dtype="float32", name=TEMPERATURE)(activation.input)
    # A copy: a layer that stands in two graphs has no one input.
    outputs = type(activation).from_config(activation.get_config())(scaled)
    made = keras.Model(model.inputs[0], outputs, name=model.name)
    made.compile_from_config(model.get_compile_config())
    made.optimizer = model.optimizer  # with what it remembers
    return made
