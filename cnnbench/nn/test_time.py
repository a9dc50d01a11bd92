"""Test-time augmentation inside a model, which predicts the mean over several views of an image."""

from __future__ import annotations

from typing import Any, Literal

import keras
from keras import ops

from cnnbench.errors import CnnbenchError
from cnnbench.nn.layers import put_first

Views = Literal["mirror", "mirror_translate"]
WEIGHTS = {"mirror": (1 / 2,) * 2, "mirror_translate": (1 / 4,) * 2 + (1 / 8,) * 4}


class _OfViews(keras.layers.Layer):
    """Layer with views; the shape of an example stays, the batch axis is not told."""

    def __init__(self, views: Views = "mirror", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.views = views

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "views": self.views}


@keras.saving.register_keras_serializable("cnnbench")
class TestTimeViews(_OfViews):
    """Layer that gives a network several views of each image in prediction, and the image alone in training.

    `mirror`: the image and its mirror image. `mirror_translate`: these, and both shifted by a pixel up and
    left, down and right, the edge mirrored (Jordan 2024). The views come one after the other along the batch:
    ``(batch, height, width, channels)`` becomes ``(views * batch, …)``, for `MeanOfViews` to take together.

    Args:
        views: `mirror` or `mirror_translate`.
    """

    __test__ = False  # for pytest, which collects what begins with Test

    def call(self, inputs: Any, training: bool = False) -> Any:
        if training:
            return inputs
        shown = [inputs]
        if self.views == "mirror_translate":
            height, width = inputs.shape[1:3]
            padded = ops.pad(inputs, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
            shown += [padded[:, :height, :width], padded[:, 2:, 2:]]
        return ops.concatenate([view for one in shown for view in (one, ops.flip(one, axis=2))], axis=0)


@keras.saving.register_keras_serializable("cnnbench")
class MeanOfViews(_OfViews):
    """Layer that averages outputs over the views of `TestTimeViews`; the unshifted image counts half.

    ``(views * batch, outputs)`` becomes ``(batch, outputs)``; nothing happens in training.

    Args:
        views: as there.
    """

    def call(self, inputs: Any, training: bool = False) -> Any:
        if training:
            return inputs
        weights = WEIGHTS[self.views]
        outputs = ops.split(ops.cast(inputs, "float32"), len(weights), axis=0)
        return sum(weight * output for weight, output in zip(weights, outputs, strict=True))


def with_test_time_augmentation(model: keras.Model, views: Views | None) -> keras.Model:
    """Return a copy of a model that predicts the mean over views of each image; without views, the model."""
    if views is None:
        return model
    if len(model.inputs[0].shape) != 4:
        raise CnnbenchError(
            f"training.test_time_augmentation={views} is for images",
            "use training.test_time_augmentation=null",
        )
    copy = put_first(model, TestTimeViews(views, name="views"), model.inputs[0].shape)
    mean = MeanOfViews(views, name="mean_of_views")(copy.outputs[0])
    return keras.Model(copy.inputs[0], mean, name=model.name)
