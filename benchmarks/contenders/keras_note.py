"""Plain Keras as the study note writes it: float copies of the data, `fit` on arrays, best checkpoint."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import recipes
import tensorflow as tf
from keras import layers


def model(wanted: recipes.Given, shape: tuple[int, ...]) -> keras.Model:
    if wanted.recipe.dense_units is None:
        return resnet_20(shape)
    return keras.Sequential(
        [
            keras.Input(shape),
            layers.Normalization(),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(wanted.recipe.dense_units, activation="relu"),
            layers.BatchNormalization(),
            layers.Dense(10, activation="softmax"),
        ]
    )


def resnet_20(shape: tuple[int, ...]) -> keras.Model:
    def convolution(x: Any, filters: int, strides: int = 1) -> Any:
        x = layers.Conv2D(filters, 3, strides, "same", use_bias=False, kernel_initializer="he_normal")(x)
        return layers.BatchNormalization()(x)

    inputs = keras.Input(shape)
    x = layers.ReLU()(convolution(inputs, 16))
    for filters in (16, 32, 64):
        for block in range(3):
            strides = 2 if block == 0 and filters > 16 else 1
            y = convolution(layers.ReLU()(convolution(x, filters, strides)), filters)
            if strides == 2:
                x = keras.ops.pad(x[:, ::2, ::2], ((0, 0), (0, 0), (0, 0), (filters // 4, filters // 4)))
            x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(10, activation="softmax")(x))


class Clock(keras.callbacks.Callback):
    """Seconds of training in each epoch, without its validation."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []
        self.began = 0.0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.began = time.perf_counter()
        self.seconds.append(0.0)

    def on_test_begin(self, logs: Any = None) -> None:
        self.seconds[-1] = time.perf_counter() - self.began


def main() -> None:
    wanted = recipes.given()
    keras.utils.set_random_seed(wanted.seed)
    (x, y), (x_val, y_val), (x_test, y_test) = recipes.load(wanted)
    x, x_val, x_test = x / 255.0, x_val / 255.0, x_test / 255.0
    network = model(wanted, x.shape[1:])
    schedules = keras.optimizers.schedules
    if wanted.recipe.dense_units is None:
        optimizer = keras.optimizers.SGD(recipes.RESNET_LEARNING_RATE, recipes.MOMENTUM, nesterov=True)
    else:
        rate = schedules.ExponentialDecay(recipes.LEARNING_RATE, recipes.DECAY_STEPS, recipes.DECAY_RATE)
        optimizer = keras.optimizers.Adam(rate)
    network.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        best = Path(folder) / "best.keras"
        keep = keras.callbacks.ModelCheckpoint(best, save_best_only=True)
        network.fit(
            x,
            y,
            batch_size=wanted.recipe.batch_size,
            epochs=wanted.epochs,
            validation_data=(x_val, y_val),
            callbacks=[clock, keep],
            verbose=0,
        )
        _, accuracy = keras.models.load_model(best).evaluate(x_test, y_test, verbose=0)
    more = {}
    if tf.config.list_logical_devices("GPU"):
        more["gpu_memory"] = tf.config.experimental.get_memory_info("GPU:0")["peak"]
    recipes.report([len(x) / seconds for seconds in clock.seconds], float(np.asarray(accuracy)), **more)


if __name__ == "__main__":
    main()
