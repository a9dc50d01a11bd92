"""Near-duplicates and outliers among pictures: perceptual hashes, distances of features, plain statistics."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cnnbench import data

NEIGHBOURS = 10
# Bits of 64 by which the hashes of two pictures that show the same differ at most, and the distance of their
# features, in usual ones to a tenth neighbour: saved again, and more and more cut or changed.
ALIKE = ((2, 2.0), (4, 1.0), (8, 0.5), (12, 0.35))
OUT = 5.0  # robust deviations of the logarithm of the distance to neighbours
NEIGHBOUR_AXES = 64  # of features, in which neighbours are looked for


@dataclass(frozen=True)
class Neighbours:
    """The nearest examples of each in the space of features.

    Attributes:
        rows: ``(n, neighbours)``, the nearest first, none itself.
        distances: ``(n, neighbours)``.
        usual: distance of a tenth neighbour, the median of all.
    """

    rows: np.ndarray
    distances: np.ndarray
    usual: float

    @classmethod
    def of(cls, features: np.ndarray) -> Neighbours:
        """Find them for features ``(n, columns)``."""
        from sklearn.neighbors import NearestNeighbors

        count = min(NEIGHBOURS, len(features) - 1)
        found = NearestNeighbors(n_neighbors=count, algorithm="brute").fit(features)
        distances, rows = found.kneighbors()
        return cls(rows, distances, float(np.median(distances[:, -1])))


def outliers(neighbours: Neighbours) -> list[tuple[int, float]]:
    """Return the rows that lie far from all others, and by how many robust deviations, the farthest first."""
    from scipy.stats import median_abs_deviation

    distance = np.log(np.maximum(neighbours.distances.mean(axis=1), 1e-12))
    spread = float(median_abs_deviation(distance, scale="normal"))
    far = (distance - np.median(distance)) / max(spread, 1e-12)
    rows = np.flatnonzero(far > OUT)
    return [(int(row), float(far[row])) for row in rows[np.argsort(-far[rows], kind="stable")]]


def near_duplicates(
    hashes: np.ndarray, features: np.ndarray, neighbours: Neighbours, informative: np.ndarray
) -> list[tuple[int, int, float]]:
    """Return the pairs of examples that show the same, each with the distance of their features.

    Args:
        hashes: ``(n,)`` uint64, perceptual.
        features: ``(n, columns)``, of the same space as the neighbours.
        neighbours: of each example.
        informative: ``(n,)`` whether a hash says something; of a blank picture it does not.
    """
    nearest = ((row, int(other)) for row, others in enumerate(neighbours.rows) for other in others)
    candidates = {(min(pair), max(pair)) for pair in nearest} | {*data.alike(hashes, 8)}
    if not candidates:
        return []
    pairs = np.array(sorted(candidates))
    pairs = pairs[informative[pairs].all(axis=1)]
    bits = np.bitwise_count(hashes[pairs[:, 0]] ^ hashes[pairs[:, 1]])
    apart = np.linalg.norm(features[pairs[:, 0]] - features[pairs[:, 1]], axis=1) / max(
        neighbours.usual, 1e-12
    )
    same = np.any([(bits <= most) & (apart < near) for most, near in ALIKE], axis=0)
    return [(int(a), int(b), float(d)) for (a, b), d in zip(pairs[same], apart[same], strict=True)]
