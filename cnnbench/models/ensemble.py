"""Ensembles: one network whose outputs are the mean of those of finished ones, which are parts of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import keras
from keras import layers
from pydantic import Field

from cnnbench.errors import CnnbenchError
from cnnbench.nn import load_checkpoint
from cnnbench.system import sha256


def ensemble(
    input_shape: Sequence[int],
    outputs: int,
    members: Annotated[Sequence[str], Field(min_length=2)],
    digests: Annotated[Sequence[str], Field(min_length=2)],
) -> keras.Model:
    """Build the mean of stored models, which is not trained; it is compiled, as the first of them is.

    Unlike any other model it ends in probabilities, or in values of a regression: the mean is of what each
    member answers, with its own temperature in it.

    Args:
        input_shape: of one example, without the batch.
        outputs: of each member.
        members: their `.keras` files.
        digests: the SHA-256 of each file.

    Raises:
        CnnbenchError: a file is gone, is another by now, or takes or gives something else.
    """
    models = []
    for place, digest in zip(members, digests, strict=True):
        path = Path(place)
        if not path.is_file() or sha256(path) != digest:
            what = "is another file than it was" if path.is_file() else "is gone"
            raise CnnbenchError(
                f"{path}, a member of the ensemble, {what}", "make it anew: cnnbench ensemble RUN …"
            )
        model = load_checkpoint(path)
        shapes = [tuple(tensor.shape[1:]) for tensor in (model.inputs[0], model.outputs[0])]
        if shapes != [tuple(input_shape), (outputs,)]:
            raise CnnbenchError(f"{path} takes {shapes[0]} and gives {shapes[1]}, unlike the other members")
        models.append(model)
    first = models[0].inputs[0]
    inputs = keras.Input(first.shape[1:], dtype=first.dtype, name="inputs")
    # Each is one layer, so that layers of one name stay apart.
    answers = [
        keras.Model(model.inputs[0], model.outputs[0], name=f"member_{number}")(inputs)
        for number, model in enumerate(models)
    ]
    mean = layers.Average(dtype="float32", name="average")(answers)
    averaged = keras.Model(inputs, mean, name="ensemble")
    averaged.compile("sgd", models[0].loss)  # of which nothing has to be stored
    return averaged
