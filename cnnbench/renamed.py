"""Names of version 0.1.0 and where they are now: saved configs, plugins and scripts keep working."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

# What a config may name as a `_target_`, and what plugins and scripts import.
MODULES = {
    "adapting": "training.build",
    "augmentation": "data.augmentation.operations",
    "augmentation.blending": "data.augmentation.blending",
    "augmentation.draws": "data.augmentation.operations",
    "augmentation.operations": "data.augmentation.operations",
    "augmentation.pixels": "data.augmentation.pixels",
    "callbacks": "training.callbacks",
    "checkpoints": "nn.checkpoints",
    "comparison.compare": "analysis.comparison",
    "comparison.differences": "analysis.diff",
    "comparison.records": "analysis.records",
    "comparison.significance": "analysis.significance",
    "datasets.cifar": "data.sources.cifar",
    "datasets.core": "data.dataset",
    "datasets.digits": "data.sources.digits",
    "datasets.downloads": "data.fetch",
    "datasets.fashion_mnist": "data.sources.mnist",
    "datasets.files": "data.fetch",
    "datasets.idx": "data.sources.mnist",
    "datasets.image_cache": "data.images.cache",
    "datasets.image_decoding": "data.images.decoding",
    "datasets.image_folder": "data.images.folder",
    "datasets.image_layout": "data.images.layout",
    "datasets.locking": "system.locks",
    "datasets.mnist": "data.sources.mnist",
    "datasets.pickles": "data.reading",
    "datasets.reading": "data.reading",
    "datasets.splits": "data.splits",
    "datasets.synthetic": "data.sources.synthetic",
    "datasets.tabular": "data.sources.tables",
    "engine": "training.device",
    "evaluate": "inference.evaluation",
    "feed": "data.batches",
    "files": "system.files",
    "finding": "runs.folder",
    "kernels": "training.kernels",
    "layers": "nn.layers",
    "losses": "nn.losses",
    "metrics": "runs.metrics",
    "models.parts": "models.blocks",
    "optimizers": "nn.optimizers",
    "predict": "inference.prediction",
    "results": "runs.folder",
    "run": "training.run",
    "run_files": "runs.folder",
    "schedules": "nn.schedules",
    "spec": "runs.spec",
    "trackers.core": "reporting.trackers",
    "trackers.mlflow": "reporting.trackers",
    "trackers.tensorboard": "reporting.trackers",
    "trained": "inference.load",
    "verify": "inference.verification",
    "views": "nn.test_time",
}
# What models did before they had such a keyword; configs of that time lack it.
FORMER_VALUES = {
    f"cnnbench.models.{name}": {"momentum": 0.99}
    for name in (
        *("cnn.cnn", "fast.fast_cnn", "mlp.mlp", "resnet.resnet", "resnet.wide_resnet"),
        *("transfer.transfer", "vgg.vgg"),
    )
}
# What they do now, where a YAML of somebody's own lacks it.
TODAYS_VALUES = {target: {"momentum": 0.9} for target in FORMER_VALUES}
# Those of their names that have gone elsewhere, or are called otherwise.
NAMES = {
    "datasets.fashion_mnist.CLASS_NAMES": "data.sources.mnist.FASHION_CLASSES",
    "datasets.idx.layouts": "data.sources.mnist.idx_layouts",
    "datasets.image_cache.default_cache_dir": "system.files.default_cache_dir",
    "datasets.image_cache.usable_cores": "system.hardware.usable_cores",
    "engine.compile_model": "training.model.compile_with",
    "engine.cpu_name": "system.hardware.cpu_name",
    "engine.evaluation_batch": "training.measure.evaluation_batch",
    "engine.forward": "training.measure.forward_graph",
    "engine.load": "nn.checkpoints.load_checkpoint",
    "engine.metrics": "training.model.training_metrics",
    "engine.predict": "training.measure.predict_outputs",
    "engine.prepare": "training.device.prepare_machine",
    "engine.steps_per_execution": "training.model.steps_per_execution",
    "engine.with_activation": "training.model.with_activation",
    "evaluate.as_json": "inference.evaluation.evaluation_as_json",
    "evaluate.evaluate_run": "inference.evaluation.evaluate_checkpoint",
    "files.new_folder": "runs.folder.new_folder",
    "files.new_sweep_folder": "runs.folder.new_sweep_folder",
    "run_files.RunFiles": "runs.folder.RunFolder",
    "trackers.core.flat": "runs.keys.flatten",
    "trained.measure": "training.measure.measure_split",
}


def current_name(dotted: str) -> str:
    """Return today's name of what had this one in version 0.1.0; any other name as it is."""
    package, _, rest = dotted.partition(".")
    module, _, name = rest.rpartition(".")
    if package != "cnnbench":
        return dotted
    if rest in NAMES:
        return f"cnnbench.{NAMES[rest]}"
    return f"cnnbench.{MODULES[module]}.{name}" if module in MODULES else dotted


def with_current_targets(node: Any, tell: Callable[[str, str], object] = lambda old, new: None) -> Any:
    """Copy a config with every `_target_` by its name of today; `tell` gets both where they differ."""
    if isinstance(node, Mapping):
        copy = {key: with_current_targets(value, tell) for key, value in node.items()}
        target = copy.get("_target_")
        if isinstance(target, str) and (new := current_name(target)) != target:
            tell(target, new)
            copy["_target_"] = new
        return copy
    if isinstance(node, list | tuple):
        return [with_current_targets(value, tell) for value in node]
    return node


def with_values_for_new_keywords(
    config: Mapping[str, Any], values: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Copy a config whose model has every keyword, those that it lacks as in `values` of its `_target_`."""
    model = config.get("model")
    missing = values.get(str(model.get("_target_")), {}) if isinstance(model, Mapping) else {}
    return {**config, "model": {**model, **missing, **model}} if missing and model else dict(config)


def stored_config(config: Any) -> Any:
    """Give a config that was written down, perhaps by an earlier version, in the words of today."""
    current = with_current_targets(config)
    is_config = isinstance(current, Mapping)
    return with_values_for_new_keywords(current, FORMER_VALUES) if is_config else current


class _Former(ModuleType):
    """A module of version 0.1.0: gives what is somewhere else now, and says so once."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        dotted = f"{self.__name__}.{name}"
        if dotted in sys.modules:
            return sys.modules[dotted]
        module, _, attribute = current_name(dotted).rpartition(".")
        if module == self.__name__:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        found = getattr(import_module(module), attribute)
        room = ".".join(module.split(".")[:2])
        public = room if getattr(import_module(room), attribute, None) is found else module
        is_first = not any(not key.startswith("__") for key in vars(self))
        setattr(self, name, found)  # the next time it is found without asking
        if is_first:
            text = f"{self.__name__} is gone: from {public} import {attribute}"
            warnings.warn(text, FutureWarning, stacklevel=2)
        return found


def register_former_modules() -> None:
    """Let `import` find the modules of version 0.1.0 that are gone; nothing else about importing changes."""
    for name in MODULES:
        parts = name.split(".")
        for count in range(1, len(parts) + 1):
            dotted = "cnnbench." + ".".join(parts[:count])
            if parts[:count] not in (["models"],):
                sys.modules.setdefault(dotted, _Former(dotted))
