"""Features of a frozen backbone: computed once for each picture."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from cnnbench.data import Feed, Split
from cnnbench.training.measure import evaluation_batch


def features_of(extractor: keras.Model, pictures: Any) -> np.ndarray:
    """Return the features of pictures, in their order, each picture computed once on this machine.

    Args:
        extractor: from pixels 0…255 to features ``(batch, channels)``, frozen.
        pictures: ``(n, height, width, channels)`` uint8, in memory or mapped.

    Returns:
        ``(n, channels)`` float32.
    """
    split = Split(pictures, np.zeros(len(pictures), np.int64))
    feed = Feed(split, evaluation_batch(64, pictures.shape[1:]))
    return np.asarray(extractor.predict(feed.dataset, verbose=0), dtype=np.float32)
