"""A loop written by hand in TensorFlow on cnnbench's own feeding: what `fit` costs beside it.

Whole epochs in one graph, with the same model, optimizer and loss as `cnnbench` would compile.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import keras
import numpy as np
import recipes
import tensorflow as tf

from cnnbench.data.batches import Feed
from cnnbench.data.dataset import Split
from cnnbench.models.cnn import cnn
from cnnbench.models.resnet import resnet
from cnnbench.training import measure
from cnnbench.training import model as model_module
from cnnbench.training.build import adapt
from cnnbench.training.kernels import use_fast_kernels


def main() -> None:
    wanted = recipes.given()
    keras.utils.set_random_seed(wanted.seed)
    keras.config.set_dtype_policy(json.load(sys.stdin)["precision"])
    (x, y), _, (x_test, y_test) = recipes.load(wanted)
    train = Split(x, y.astype(np.int32))
    if wanted.recipe.dense_units is None:
        built = resnet(x.shape[1:], 10)
        optimizer = keras.optimizers.SGD(recipes.RESNET_LEARNING_RATE, recipes.MOMENTUM, nesterov=True)
    else:
        built = cnn(
            x.shape[1:],
            10,
            padding="valid",
            batch_normalization=False,
            dense_batch_normalization="after_activation",
            dense_units=(wanted.recipe.dense_units,),
        )
        rate = keras.optimizers.schedules.ExponentialDecay(
            recipes.LEARNING_RATE, recipes.DECAY_STEPS, recipes.DECAY_RATE
        )
        optimizer = keras.optimizers.Adam(rate)
    model = model_module.with_activation(built, "multiclass")
    adapt(model, train)
    use_fast_kernels(model)
    loss_of, hits = keras.losses.SparseCategoricalCrossentropy(), keras.metrics.SparseCategoricalAccuracy()
    optimizer.build(model.trainable_variables)
    feed = Feed(train, wanted.recipe.batch_size, wanted.seed)

    @tf.function
    def epoch(batches: Any) -> None:
        for images, labels in batches:
            with tf.GradientTape() as tape:
                outputs = model(images, training=True)
                loss = loss_of(labels, outputs)
            variables = model.trainable_variables
            optimizer.apply(tape.gradient(loss, variables), variables)
            hits.update_state(labels, outputs)

    rates = []
    for number in range(wanted.epochs):
        feed.epoch = number
        began = time.perf_counter()
        epoch(feed.dataset)
        rates.append(len(x) / (time.perf_counter() - began))
    outputs = measure.predict_outputs(measure.forward_graph(model), Feed(Split(x_test, y_test), 512))
    recipes.report(rates, float((outputs.argmax(1) == y_test).mean()))


if __name__ == "__main__":
    main()
