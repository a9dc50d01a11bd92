"""How a model is driven: the feed's batches, adapting, device and precision, cost, loading."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import config as tf_config

from cnnbench.data.batches import Feed
from cnnbench.data.dataset import Rows, Split
from cnnbench.errors import CnnbenchError
from cnnbench.nn import checkpoints
from cnnbench.system import hardware
from cnnbench.training import build, measure
from cnnbench.training import device as device_module
from cnnbench.training import model as model_module
from cnnbench.training.build import adapt


@pytest.fixture(autouse=True)
def plain_policy() -> Iterator[None]:
    """`prepare` sets what holds for the whole process."""
    yield
    keras.config.set_dtype_policy("float32")


def numbered(examples: int, columns: int = 1) -> Split:
    """Each example holds its own number, and so does its target: ``y = 10 x``."""
    numbers = np.arange(examples)
    x = np.repeat(numbers[:, None], columns, axis=1).astype(np.float32)
    return Split(x, 10 * numbers)


def epoch_of(feed: Feed, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    feed.epoch = epoch
    batches = list(feed.dataset.as_numpy_iterator())
    return np.concatenate([x[:, 0] for x, _ in batches]), np.concatenate([y for _, y in batches])


# ---------------------------------------------------------------- the feed


def test_an_epoch_has_every_example_once_with_its_own_target() -> None:
    feed = Feed(numbered(103), batch_size=10, seed=0)
    x, y = epoch_of(feed, 0)
    assert sorted(x) == list(range(103))
    assert (y == 10 * x).all()
    assert list(x) != sorted(x)


def test_the_last_batch_has_what_is_left() -> None:
    feed = Feed(numbered(103), batch_size=10, seed=0)
    sizes = [len(x) for x, _ in feed.dataset.as_numpy_iterator()]
    assert sizes == [10] * 10 + [3]
    assert feed.steps == len(sizes) == int(feed.dataset.cardinality())
    assert feed.examples == 103


def test_a_batch_may_be_larger_than_the_split() -> None:
    feed = Feed(numbered(3), batch_size=10, seed=0)
    assert [len(x) for x, _ in feed.dataset.as_numpy_iterator()] == [3]


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    split = numbered(50)
    first, again, other = Feed(split, 8, seed=3), Feed(split, 8, seed=3), Feed(split, 8, seed=4)
    orders = {(name, e): epoch_of(feed, e)[0] for name, feed in (("a", first), ("c", other)) for e in (0, 1)}
    # Straight into the second epoch, as a resumed run goes.
    assert (epoch_of(again, 1)[0] == orders["a", 1]).all()
    assert (epoch_of(again, 0)[0] == orders["a", 0]).all()
    assert len({tuple(order) for order in orders.values()}) == 4


def test_balanced_epochs_have_every_class_and_each_example_of_one_equally_often() -> None:
    split = Split(np.arange(103, dtype=np.float32)[:, None], np.repeat([0, 1, 2], [80, 20, 3]))
    feed, again = (Feed(split, 10, seed=3, balanced=True) for _ in range(2))
    orders = []
    for epoch in (0, 1):
        x, y = epoch_of(feed, epoch)
        orders.append(tuple(x))
        assert (x, y.tolist()) == (pytest.approx(x), split.y[x.astype(int)].tolist())
        assert sorted(np.bincount(y)) == [34, 34, 35]
        times = np.bincount(x.astype(int), minlength=103)
        assert [np.ptp(times[split.y == label]) for label in range(3)] == [1, 1, 1]
    assert orders[0] != orders[1]
    assert tuple(epoch_of(again, 1)[0]) == orders[1]  # straight into it, as a resumed run goes
    assert len(orders[0]) == 103


def test_without_a_seed_the_order_stays() -> None:
    feed = Feed(numbered(50), 8)
    for epoch in (0, 1):
        assert (epoch_of(feed, epoch)[0] == np.arange(50)).all()


def test_pixels_stay_bytes_up_to_the_model() -> None:
    split = Split(np.zeros((9, 4, 4, 3), np.uint8), np.arange(9))
    feed = Feed(split, 4, seed=0)
    images, labels = feed.dataset.element_spec
    assert images.dtype == tf.uint8
    assert images.shape.as_list() == [None, 4, 4, 3]
    assert labels.dtype == tf.int64
    assert all(x.dtype == np.uint8 for x, _ in feed.dataset.as_numpy_iterator())


def test_rows_of_a_mapped_file_give_the_batches_that_memory_gives(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 4, 4, 3), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    rows = np.array([3, 1, 4, 15, 9, 2, 6, 5, 35, 8, 39])
    in_file = Feed(Split(Rows(mapped, rows), rows), 4, seed=1)
    in_memory = Feed(Split(images[rows], rows), 4, seed=1)
    for epoch in (0, 1):
        in_file.epoch = in_memory.epoch = epoch
        pairs = list(
            zip(in_file.dataset.as_numpy_iterator(), in_memory.dataset.as_numpy_iterator(), strict=True)
        )
        assert len(pairs) == 3
        for (x, y), (expected_x, expected_y) in pairs:
            assert x.dtype == np.uint8
            assert (x == expected_x).all()
            assert (x == images[y]).all()
            assert (y == expected_y).all()


@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux tells of a process's memory")
def test_rows_that_were_read_do_not_stay_in_the_memory_of_the_process(tmp_path: Path) -> None:
    path = tmp_path / "images.npy"
    np.save(path, np.ones((256, 64, 64, 3), np.uint8))
    feed = Feed(Split(Rows(np.load(path, mmap_mode="r"), np.arange(256)), np.arange(256)), 32, seed=0)
    assert sum(int(x.sum()) for x, _ in feed.dataset.as_numpy_iterator()) == 256 * 64 * 64 * 3
    _, _, mapping = Path("/proc/self/smaps").read_text().partition(str(path))
    resident = re.search(r"Rss: +(\d+) kB", mapping)
    assert resident
    assert int(resident[1]) == 0


def test_pieces_of_large_images_are_smaller() -> None:
    one = np.zeros((1, 1024, 2048, 4), np.uint8)  # 8 MB; seven of them without taking their memory
    images = np.broadcast_to(one, (7, *one.shape[1:]))
    assert [len(piece) for piece in Split(images, np.arange(7)).pieces()] == [2, 2, 2, 1]
    assert [len(piece) for piece in Split(images, np.arange(7)).pieces(most=2)] == [2, 2]
    assert [len(piece) for piece in numbered(5000).pieces()] == [2048, 2048, 904]


def test_no_epoch_waits_for_the_tuner_of_tf_data() -> None:
    assert Feed(numbered(3), 2).dataset.options().autotune.enabled is False


class Counter(keras.Model):
    """Counts how often each example came by, and the steps."""

    def __init__(self, examples: int) -> None:
        super().__init__()
        self.dense = keras.layers.Dense(1)
        self.seen = tf.Variable(tf.zeros(examples, tf.int32))
        self.steps = tf.Variable(0)

    def call(self, x: Any) -> Any:
        return self.dense(x)

    def train_step(self, data: Any) -> Mapping[str, Any]:
        numbers = tf.cast(data[0][:, 0], tf.int32)
        self.seen.scatter_nd_add(numbers[:, None], tf.ones_like(numbers))
        self.steps.assign_add(1)
        return {"loss": tf.reduce_mean(self(data[0]))}


@pytest.mark.parametrize("chained", [1, 4, 11, 50])
def test_fit_sees_every_example_once_an_epoch_however_many_steps_are_chained(chained: int) -> None:
    feed = Feed(numbered(103), batch_size=10, seed=0)  # 11 steps: two chunks of 4 and one of 3
    model = Counter(103)
    model.compile(steps_per_execution=chained, jit_compile=False)
    for epoch in range(2):
        feed.epoch = epoch
        model.fit(feed.dataset, initial_epoch=epoch, epochs=epoch + 1, shuffle=False, verbose=0)
        assert (model.seen.numpy() == epoch + 1).all()
        assert model.steps.numpy() == 11 * (epoch + 1)


def test_the_epoch_set_when_an_epoch_begins_is_the_one_that_fit_draws() -> None:
    drawn: list[list[float]] = []

    class Orders(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.dense = keras.layers.Dense(1)

        def train_step(self, data: Any) -> Mapping[str, Any]:
            tf.py_function(lambda x: drawn[-1].extend(x.numpy()[:, 0]), [data[0]], [])
            return {"loss": tf.reduce_mean(data[0])}

    class Begin(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            feed.epoch = epoch
            drawn.append([])

    feed = Feed(numbered(30), batch_size=8, seed=5)
    model = Orders()
    model.compile(jit_compile=False)
    model.fit(feed.dataset, epochs=3, callbacks=[Begin()], shuffle=False, verbose=0)
    for epoch, order in enumerate(drawn):
        assert order == list(np.random.default_rng([5, epoch]).permutation(30))


def test_predictions_come_in_the_order_of_the_split() -> None:
    model = keras.Sequential([keras.Input((1,)), keras.layers.Rescaling(2.0)])
    forward, numbers = measure.forward_graph(model), numbered(103)
    outputs = measure.predict_outputs(forward, Feed(numbers, 10))
    assert outputs.dtype == np.float32
    others = Split(numbers.x.astype(np.float64), numbers.y)  # somebody's own splits need not be alike
    np.testing.assert_array_equal(measure.predict_outputs(forward, Feed(others, 10)), outputs)
    assert (outputs[:, 0] == 2 * np.arange(103)).all()


# ---------------------------------------------------------------- around the model


def test_a_normalization_gets_mean_and_variance_of_the_training_split() -> None:
    rng = np.random.default_rng(0)
    columns = rng.normal((5.0, -300.0), (2.0, 40.0), (5000, 2)).astype(np.float32)  # several pieces
    inputs = keras.Input((2,))
    scaled = keras.layers.Normalization(axis=-1)(inputs)
    model = keras.Model(inputs, keras.layers.Dense(1)(scaled))
    adapt(model, Split(columns, np.zeros(5000)))
    z = np.asarray(keras.Model(inputs, scaled)(columns))
    assert z.mean(axis=0) == pytest.approx(np.zeros(2), abs=1e-3)
    assert z.var(axis=0) == pytest.approx(np.ones(2), abs=1e-3)


def test_sums_of_raw_pixels_give_the_mean_and_variance_that_keras_finds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pixels = np.random.default_rng(0).integers(0, 90, (2100, 4, 5, 3)).astype(np.uint8) * np.uint8([1, 2, 0])
    found = []
    for is_summed in (True, False):
        model = keras.Sequential([keras.Input((4, 5, 3)), keras.layers.Normalization()])
        if not is_summed:
            monkeypatch.setattr(build, "_sees_channels_of_bytes", lambda *_: False)
        adapt(model, Split(pixels, np.zeros(2100)))
        found.append([*model.layers[0].get_weights()[:2], model(pixels[:10]).numpy()])
    for summed, expected in zip(*found, strict=True):
        np.testing.assert_allclose(summed, expected, rtol=1e-5, atol=1e-5)


def test_a_normalization_in_the_middle_is_adapted_to_what_reaches_it() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (300, 4, 4, 3), dtype=np.uint8)
    inputs = keras.Input((4, 4, 3))
    reaching = keras.layers.Rescaling(1 / 255, offset=3.0)(inputs)
    scaled = keras.layers.Normalization(axis=-1)(reaching)
    model = keras.Model(inputs, keras.layers.Flatten()(scaled))
    adapt(model, Split(pixels, np.zeros(300)))
    z = np.asarray(keras.Model(inputs, scaled)(pixels.astype(np.float32)))
    assert z.mean(axis=(0, 1, 2)) == pytest.approx(np.zeros(3), abs=1e-3)
    assert z.var(axis=(0, 1, 2)) == pytest.approx(np.ones(3), abs=1e-3)


def test_a_normalization_with_given_mean_and_variance_is_left_alone() -> None:
    inputs = keras.Input((1,))
    layer = keras.layers.Normalization(mean=10.0, variance=4.0)
    model = keras.Model(inputs, layer(inputs))
    adapt(model, numbered(50))
    assert float(np.asarray(model(np.array([[12.0]], np.float32)))[0, 0]) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("task", "width", "expected"),
    [
        ("multiclass", 3, np.array([0.090031, 0.244728, 0.665241])),
        ("binary", 1, np.array([0.731059])),
        ("multilabel", 2, np.array([0.731059, 0.880797])),
        ("regression", 1, np.array([1.0])),
    ],
)
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_each_task_gets_its_activation_in_float32(
    task: str, width: int, expected: np.ndarray, policy: str
) -> None:
    keras.config.set_dtype_policy(policy)
    inputs = keras.Input((width,))
    model = model_module.with_activation(
        keras.Model(inputs, keras.layers.Identity()(inputs), name="mine"), task
    )
    logits = np.arange(1, width + 1, dtype=np.float32)[None]
    outputs = np.asarray(model(logits))  # a plain array, at which a model of a list of inputs would warn
    assert outputs.dtype == np.float32
    assert outputs[0] == pytest.approx(expected, abs=1e-5)
    assert model.name == "mine"


@pytest.mark.parametrize("task", ["multiclass", "binary", "multilabel", "regression"])
def test_what_is_followed_has_the_names_that_may_be_monitored(task: str) -> None:
    from cnnbench.runs.metrics import TRAINED

    assert tuple(metric.name for metric in model_module.training_metrics(task)) == TRAINED[task]


def test_several_targets_are_scaled_each_by_its_own() -> None:
    inputs = keras.Input((2,))
    network = keras.Model(inputs, keras.layers.Identity()(inputs))
    y = np.array([[1.0, 100], [3.0, 500]], np.float32)
    model = model_module.with_activation(network, "regression", y)
    found = np.asarray(model(np.array([[0.0, 0.0], [1.0, -1.0]], np.float32)))
    assert found == pytest.approx(np.array([[2, 300], [3, 100]]), rel=1e-6)


def test_mixed_labels_are_right_where_their_largest_share_is() -> None:
    (accuracy,) = model_module.training_metrics("multiclass", soft_labels=True)
    accuracy.update_state(np.array([[0.3, 0.7], [0.6, 0.4]]), np.array([[0.1, 0.9], [0.1, 0.9]]))
    assert accuracy.name == "accuracy"
    assert float(accuracy.result()) == 0.5


# ---------------------------------------------------------------- chained steps


@pytest.mark.parametrize("flops", [1, 10**6, 10**9, 10**13])
@pytest.mark.parametrize("steps", [1, 7, 1000])
@pytest.mark.parametrize("on_gpu", [False, True])
def test_automatic_chaining_is_between_one_step_and_an_epoch(flops: int, steps: int, on_gpu: bool) -> None:
    chained = model_module.steps_per_execution("auto", flops, 64, steps, on_gpu)
    assert isinstance(chained, int)
    assert 1 <= chained <= steps


def test_heavier_steps_are_chained_less() -> None:
    few, many = (
        model_module.steps_per_execution("auto", flops, 64, 10**6, False) for flops in (10**8, 10**5)
    )
    assert few < many


def test_a_number_of_steps_is_taken_as_it_is() -> None:
    assert model_module.steps_per_execution(17, 10**9, 64, 5, False) == 17


# ---------------------------------------------------------------- device and precision


class FakeGpus:
    """What TensorFlow would say about GPUs, and what it was told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capabilities: list[tuple[int, int]]) -> None:
        self.gpus = [SimpleNamespace(name=f"/physical_device:GPU:{i}") for i in range(len(capabilities))]
        self.visible: list[Any] = list(self.gpus)
        self.grows: dict[str, bool] = {}
        details = {
            gpu.name: {"device_name": f"Card {i}", "compute_capability": capability}
            for i, (gpu, capability) in enumerate(zip(self.gpus, capabilities, strict=True))
        }
        config, experimental = tf.config, tf.config.experimental
        monkeypatch.setattr(config, "list_physical_devices", lambda kind=None: list(self.gpus))
        monkeypatch.setattr(config, "set_visible_devices", self.show)
        monkeypatch.setattr(config, "get_visible_devices", lambda kind=None: list(self.visible))
        monkeypatch.setattr(experimental, "set_memory_growth", self.grow)
        monkeypatch.setattr(experimental, "get_device_details", lambda gpu: details[gpu.name])

    def show(self, devices: list[Any], kind: str) -> None:
        assert kind == "GPU"
        self.visible = list(devices)

    def grow(self, gpu: Any, enable: bool) -> None:
        self.grows[gpu.name] = enable


@pytest.mark.parametrize(("capability", "precision"), [((9, 0), "mixed_bfloat16"), ((7, 5), "float32")])
@pytest.mark.parametrize("device", ["auto", "gpu"])
def test_a_gpu_is_used_grows_its_memory_and_decides_the_precision(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], precision: str, device: str
) -> None:
    fake = FakeGpus(monkeypatch, [capability])
    machine = device_module.prepare_machine(0, False, device, "auto")
    assert machine == device_module.Machine("GPU: Card 0", True, precision)
    assert fake.grows == {"/physical_device:GPU:0": True}
    assert keras.config.dtype_policy().name == precision


def test_the_oldest_of_several_gpus_decides_the_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeGpus(monkeypatch, [(9, 0), (7, 5)])
    assert device_module.prepare_machine(0, False, "auto", "auto") == device_module.Machine(
        "GPU: Card 0, Card 1", True, "float32"
    )
    assert len(fake.grows) == 2


def test_a_precision_that_was_asked_for_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeGpus(monkeypatch, [(9, 0)])
    assert device_module.prepare_machine(0, False, "auto", "float32").precision == "float32"
    assert keras.config.dtype_policy().name == "float32"


def test_device_cpu_hides_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeGpus(monkeypatch, [(9, 0)])
    machine = device_module.prepare_machine(0, False, "cpu", "auto")
    assert fake.visible == []
    assert machine.device.startswith("CPU: ")
    assert not machine.on_gpu
    assert machine.precision == "float32"


def test_device_gpu_without_a_gpu_is_wrong_input(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeGpus(monkeypatch, [])
    with pytest.raises(CnnbenchError, match="sees no GPU"):
        device_module.prepare_machine(0, False, "gpu", "auto")


def test_device_cpu_after_the_gpu_was_used_is_wrong_input(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeGpus(monkeypatch, [(9, 0)])

    def too_late(devices: list[Any], kind: str) -> None:
        raise RuntimeError("Visible devices cannot be modified after being initialized")

    monkeypatch.setattr(tf.config, "set_visible_devices", too_late)
    with pytest.raises(CnnbenchError, match="too late"):
        device_module.prepare_machine(0, False, "cpu", "auto")
    assert device_module.prepare_machine(0, False, "gpu", "auto").on_gpu  # it is visible already
    assert fake.visible == fake.gpus


def test_without_a_gpu_the_processor_is_named_with_its_usable_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeGpus(monkeypatch, [])
    monkeypatch.setattr(device_module, "usable_cores", lambda: 3)
    device = device_module.prepare_machine(0, False, "auto", "auto").device
    assert device.startswith("CPU: ")
    assert device.endswith(", 3 cores")


def test_the_seed_decides_weights_and_dropout() -> None:
    def drawn(seed: int) -> np.ndarray:
        device_module.prepare_machine(seed, False, "auto", "float32")
        inputs = keras.Input((4,))
        hidden = keras.layers.Dropout(0.5)(keras.layers.Dense(8)(inputs))
        return np.asarray(keras.Model(inputs, hidden)(np.ones((2, 4), np.float32), training=True))

    assert (drawn(1) == drawn(1)).all()
    assert (drawn(1) != drawn(2)).any()


# ---------------------------------------------------------------- cost


def test_operations_of_dense_and_convolution_are_two_per_multiplication_and_one_per_bias() -> None:
    dense = keras.Sequential([keras.Input((10,)), keras.layers.Dense(7)])
    assert measure.count_flops(dense) == 2 * 10 * 7 + 7
    convolution = keras.Sequential(
        [keras.Input((8, 6, 3)), keras.layers.Conv2D(5, 3, padding="same", use_bias=False)]
    )
    assert measure.count_flops(convolution) == 2 * (3 * 3 * 3) * 5 * (8 * 6)


def test_a_gpu_left_out_by_an_earlier_run_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def too_late(*_: Any) -> None:
        raise RuntimeError("Visible devices cannot be modified after being initialized")

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: ["GPU:0"])
    monkeypatch.setattr(tf.config, "set_visible_devices", too_late)
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind=None: [])
    assert device_module.prepare_machine(0, False, "auto", "float32").on_gpu is False
    assert "device=auto takes the CPU: an earlier run" in caplog.text
    with pytest.raises(CnnbenchError, match="device=gpu comes too late"):
        device_module.prepare_machine(0, False, "gpu", "float32")


def test_determinism_ends_with_the_run_that_wanted_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    device_module.prepare_machine(0, True, "cpu", "float32")
    assert tf_config.is_op_determinism_enabled()
    with monkeypatch.context() as other:  # of TensorFlow
        other.delattr(tf_config, "disable_op_determinism")
        device_module.prepare_machine(0, False, "cpu", "float32")
    assert "stays deterministic" in caplog.text
    device_module.prepare_machine(0, False, "cpu", "float32")
    assert not tf_config.is_op_determinism_enabled()


def test_operations_are_of_one_example() -> None:
    inputs = keras.Input((10,), batch_size=None)
    model = keras.Model(inputs, keras.layers.Dense(1, use_bias=False)(inputs))
    model(np.zeros((64, 10), np.float32))
    assert measure.count_flops(model) == 20


def test_latency_is_a_time_of_raw_bytes_to_output() -> None:
    model = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(1)])
    forward = measure.forward_graph(model)
    assert measure.measure_latency(forward, np.zeros((4, 4, 1), np.uint8), repeats=3) > 0


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="Linux can reset the peak")
def test_the_peak_of_memory_is_that_since_the_run_began() -> None:
    np.ones(2**28, np.uint8)  # 256 MiB of an earlier run, given back
    memory = hardware.PeakMemory()
    before = memory.bytes()
    block = np.ones(2**27, np.uint8)  # 128 MiB, touched
    assert 100 * 2**20 < memory.bytes() - before < 200 * 2**20
    del block


# ---------------------------------------------------------------- loading


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(64)])
    model.save(tmp_path / "best.keras")
    return tmp_path / "best.keras"


def test_a_stored_model_comes_back(stored: Path) -> None:
    assert checkpoints.load_checkpoint(stored).output_shape == (None, 64)


@pytest.mark.parametrize("damage", ["empty", "text", "cut", "flipped", "missing"])
def test_a_damaged_file_is_wrong_input_in_one_line(stored: Path, damage: str) -> None:
    content = bytearray(stored.read_bytes())
    if damage == "missing":
        stored.unlink()
    else:
        content[len(content) // 2] ^= 0xFF
        half = content[: len(content) // 2]
        stored.write_bytes({"empty": b"", "text": b"not a model\n" * 99, "cut": half}.get(damage, content))
    with pytest.raises(CnnbenchError, match=r"cannot load .*best\.keras") as caught:
        checkpoints.load_checkpoint(stored)
    assert "\n" not in str(caught.value)


class Unregistered(keras.layers.Layer):
    def call(self, x: Any) -> Any:
        return x


def test_code_that_nobody_registered_is_wrong_input(tmp_path: Path) -> None:
    keras.Sequential([keras.Input((2,)), Unregistered()]).save(tmp_path / "best.keras")
    with pytest.raises(CnnbenchError, match="plugins"):
        checkpoints.load_checkpoint(tmp_path / "best.keras")


def test_a_normalization_out_of_reach_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    inner = keras.Sequential([keras.Input((2,)), keras.layers.Normalization()], name="inner")
    inputs = keras.Input((2,))
    model = keras.Model(inputs, keras.layers.Dense(1)(inner(inputs)))
    with caplog.at_level("WARNING", logger="cnnbench"):
        adapt(model, Split(np.ones((4, 2), np.float32), np.zeros(4, np.float32)))
    assert "inside inner is not adapted" in caplog.text
