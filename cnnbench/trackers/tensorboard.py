"""Event files in the run's folder, for `tensorboard --logdir outputs`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cnnbench.trackers.core import Tracked, Tracker


class TensorBoard(Tracker):
    """Scalars of every epoch, the config as text, and the final metrics at the last epoch.

    TensorFlow writes the files itself: the package `tensorboard` is needed to look at them only.
    """

    def __init__(self) -> None:
        self._writer: Any = None
        self._epoch = 0

    def begin(self, run: Tracked) -> None:
        import tensorflow as tf

        self._writer = tf.summary.create_file_writer(str(run.folder.events))
        rows = "\n".join(f"    {key}: {value}" for key, value in run.config.items())  # as code, in Markdown
        self._write("config", rows, 0, "text")

    def epoch(self, entry: Mapping[str, float]) -> None:
        self._epoch = int(entry["epoch"])
        for name, value in entry.items():
            if name != "epoch":
                self._write(name, value, self._epoch, "scalars")
        self._writer.flush()

    def end(self, status: str, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            self._write(f"final/{name}", value, self._epoch, "scalars")
        self._writer.close()

    def _write(self, name: str, value: float | str, step: int, plugin: str) -> None:
        """As `tf.summary.scalar` and `.text` do, which need the package `tensorboard`."""
        import tensorflow as tf

        metadata = tf.compat.v1.SummaryMetadata(
            plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name=plugin)
        )
        kind = tf.string if isinstance(value, str) else tf.float32
        with self._writer.as_default(step=step):
            tf.summary.write(name, tf.constant(value, kind), metadata=metadata)
