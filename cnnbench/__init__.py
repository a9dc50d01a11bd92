"""Config-driven experiments with convolutional networks."""

from importlib import import_module

import wrapt

__version__ = "0.1.0"


@wrapt.when_imported("keras")
def _register_keras_objects(_keras: object) -> None:
    # `import cnnbench` is enough to load a checkpoint that holds our layers or losses, and yet costs
    # nothing where Keras is never needed (`cnnbench list`).
    for name in ("layers", "losses"):
        import_module(f"cnnbench.{name}")
