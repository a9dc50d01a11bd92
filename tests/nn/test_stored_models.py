"""What a stored model needs to be loaded: nothing of ours for a standard one, else `import cnnbench.nn`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import keras
import numpy as np
import pytest

from cnnbench.inference import formats
from cnnbench.models.cnn import cnn
from cnnbench.models.mlp import mlp
from cnnbench.models.resnet import resnet
from cnnbench.models.transfer import transfer
from cnnbench.models.vgg import vgg
from cnnbench.nn import losses, with_test_time_augmentation
from cnnbench.training import model as build

SMALL = partial(transfer, weights=None)
STANDARD: dict[str, Callable[..., keras.Model]] = {
    "mlp": mlp,
    "cnn": cnn,
    "resnet": resnet,
    "vgg": partial(vgg, depth=11, width=4, dense_units=[4]),
    "transfer": partial(SMALL, backbone="MobileNet", backbone_arguments={"alpha": 0.25}),
    "transfer from BGR": partial(SMALL, backbone="VGG16"),
    "transfer from torch": partial(SMALL, backbone="TorchMobileNetV2"),
}
LOAD = """
import sys, keras, numpy as np
for path in sys.argv[1:]:
    model = keras.models.load_model(path)
    data = np.load(path + ".npz")
    outputs = model(data["x"].astype("float32"), training=False)
    assert np.allclose(outputs, data["outputs"], atol=1e-5), path
    assert np.isfinite(model.compute_loss(None, data["y"], outputs)), path
    assert model.optimizer is not None
    assert ours or not any(name.startswith("cnnbench") for name in sys.modules)
"""
WITHOUT = """
import sys, keras
try:
    keras.models.load_model(sys.argv[1])
except TypeError as error:
    assert "Could not locate class 'TestTimeViews'" in str(error)
import cnnbench.nn as ours
"""


def store(model: keras.Model, path: Path, loss: keras.losses.Loss) -> None:
    """A model as a run stores it, and what it says of some examples."""
    model = build.with_activation(model, "multiclass")
    metrics = build.training_metrics("multiclass")
    build.compile_with(model, keras.optimizers.Adam(), loss, metrics, 1, False)
    model.save(path)
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (4, *model.input_shape[1:])).astype(np.uint8)
    np.savez(f"{path}.npz", x=x, outputs=model(x.astype("float32"), training=False), y=np.array([0, 1, 2, 0]))


def load(*paths: Path, first: str = "ours = None") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", f"{first}\n{LOAD}", *map(str, paths)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_standard_models_load_with_keras_alone(tmp_path: Path) -> None:
    paths = []
    for name, make in STANDARD.items():
        paths.append(tmp_path / f"{name}.keras")
        store(make(input_shape=(32, 32, 3), outputs=3), paths[-1], losses.for_task("multiclass"))
    done = load(*paths)
    assert done.returncode == 0, done.stderr


def test_models_with_parts_of_ours_need_one_import(tmp_path: Path) -> None:
    own = with_test_time_augmentation(cnn(input_shape=(8, 8, 1), outputs=3), "mirror")
    store(own, tmp_path / "own.keras", losses.SmoothedCrossentropy(0.1))
    done = load(tmp_path / "own.keras", first=WITHOUT)
    assert done.returncode == 0, done.stderr


def test_importing_the_package_imports_no_keras(
    run_python: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    code = "import sys, cnnbench; assert 'keras' not in sys.modules; print(len(sys.meta_path))"
    assert run_python(code).out == run_python("import sys; print(len(sys.meta_path))").out


def test_the_reversed_channels_of_a_backbone_survive_every_copy() -> None:
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = SMALL(input_shape=(32, 32, 3), outputs=2, backbone="VGG16")
    finally:
        keras.config.set_dtype_policy("float32")
    x = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.float32)
    expected = model(x, training=False).numpy().astype(np.float32)
    exported, _ = formats.ready_for_export(model)
    assert exported(x, training=False).numpy() == pytest.approx(expected, rel=0.1, abs=0.1)
    views = with_test_time_augmentation(model, "mirror")(x, training=False).numpy()
    mirrored = model(x[:, :, ::-1], training=False).numpy().astype(np.float32)
    assert views == pytest.approx((expected + mirrored) / 2, rel=0.1, abs=0.1)
