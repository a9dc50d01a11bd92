"""Config-driven experiments with convolutional networks."""

import sys
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import lazy_loader

from cnnbench.renamed import register_former_modules

__version__ = "0.1.0"


def _register_keras_objects() -> None:
    for name in ("layers", "losses", "optimizers", "schedules", "test_time"):
        import_module(f"cnnbench.nn.{name}")


class _AfterKeras:
    """Register what is ours of a model as soon as Keras is imported, and not before.

    `import cnnbench` must be enough to load a checkpoint that holds them, and yet cost nothing where
    Keras is never needed, as in `cnnbench list`.
    """

    def __init__(self) -> None:
        self.asking = False

    def find_spec(self, name: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != "keras" or self.asking:
            return None
        self.asking = True
        try:
            spec = find_spec(name)
        finally:
            self.asking = False
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_register(module: ModuleType) -> None:
                sys.meta_path.remove(self)  # not before: who only looks for Keras does not import it
                execute(module)
                _register_keras_objects()

            spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec


if "keras" in sys.modules:
    _register_keras_objects()
else:
    sys.meta_path.insert(0, _AfterKeras())


__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
register_former_modules()
