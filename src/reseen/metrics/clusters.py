"""How good pseudo labels and features are: diagnostics for people, never an input of training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reseen.metrics.arrays import to_features, to_labels
from reseen.records import JUNK, UNKNOWN_CAMERA, Labels


@dataclass(frozen=True)
class ClusteringScores:
    """Pseudo labels against identities. Outliers count as clusters of one image.

    ``ari``: adjusted Rand index. ``nmi``: normalised mutual information, which rises with the number of
    clusters: read it beside the others. Of all pairs of images that share a cluster, ``pair_precision`` share
    the identity; of all that share the identity, ``pair_recall`` share a cluster; ``pair_f1`` is their
    harmonic mean. A share of no pairs is nan. ``clusters`` counts labels >= 0, ``outliers`` images.
    """

    ari: float
    nmi: float
    pair_precision: float
    pair_recall: float
    pair_f1: float
    clusters: int
    outliers: int


def clustering_scores(pseudo_labels: Any, identities: Any) -> ClusteringScores:
    """Compare pseudo labels ``[M]`` (-1 = outlier) with identities ``[M]`` (-1 = nobody knows: left out).

    Raises ReseenError when the lengths differ. Needs memory for the pairs (cluster, identity) that occur.
    """
    labels = to_labels(pseudo_labels, "pseudo labels")
    people = to_labels(identities, "identities", len(labels))
    labels, people = labels[people != JUNK], people[people != JUNK]
    outliers = labels < 0
    singles = labels.copy()
    singles[outliers] = labels.max(initial=-1) + 1 + np.arange(int(outliers.sum()))

    cells = _cells(singles, people)
    together, clustered, same = _pairs(cells), _pairs(singles), _pairs(people)
    return ClusteringScores(
        ari=_adjusted_rand(together, clustered, same, len(people)),
        nmi=_normalised_information(cells, singles, people),
        pair_precision=_share(together, clustered),
        pair_recall=_share(together, same),
        pair_f1=_share(2 * together, clustered + same),
        clusters=len(np.unique(labels[~outliers])),
        outliers=int(outliers.sum()),
    )


def adjusted_rand_index(first: Labels, second: Labels) -> float:
    """Of two partitions ``[M]`` (Hubert and Arabie 1985): 1 where they are equal, 0 expected by chance; nan of nothing.

    Written here because what pairs count is known here: scikit-learn, which agrees, takes a second to import.
    """
    return _adjusted_rand(_pairs(_cells(first, second)), _pairs(first), _pairs(second), len(first))


def _adjusted_rand(both: int, ones: int, others: int, count: int) -> float:
    """From the pairs that share a label in both partitions of ``count`` entries, in the one, in the other."""
    if not count:
        return float("nan")
    rows = count * (count - 1) // 2
    by_chance, most = 2 * ones * others, (ones + others) * rows  # each twice, times all pairs: whole numbers
    return (2 * both * rows - by_chance) / (most - by_chance) if most > by_chance else 1.0


def cross_camera_share(pseudo_labels: Any, cameras: Any) -> float:
    """Share of the clusters of at least two images that span more than one camera; nan without any.

    ``pseudo_labels`` and ``cameras`` are ``[M]``. Outliers and images of unknown camera (both -1) are left
    out. A share near 0 says that clusters are cameras, not people. Raises ReseenError when lengths differ.
    """
    labels = to_labels(pseudo_labels, "pseudo labels")
    seen_by = to_labels(cameras, "cameras", len(labels))
    usable = (labels >= 0) & (seen_by != UNKNOWN_CAMERA)
    clusters, counts = np.unique(labels[usable], return_counts=True)
    pairs = np.unique(np.stack([labels[usable], seen_by[usable]]), axis=1)
    _, views = np.unique(pairs[0], return_counts=True)  # cameras of each cluster, in the order of `clusters`
    large = counts >= 2
    return float((views[large] > 1).mean()) if len(clusters) and large.any() else float("nan")


def feature_spread(features: Any) -> float:
    """How far unit features ``[M, D]`` spread over the sphere: 1 - |mean|^2, from 0 (collapsed) to 1.

    It is the mean cosine distance over all pairs of images, and it does not depend on the basis, unlike
    SimSiam's mean standard deviation per dimension. Rows are L2-normalised here. nan without rows.
    Raises ReseenError for features that are not finite.
    """
    rows = to_features(features, "features").astype(np.float64)
    if not len(rows):
        return float("nan")
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    mean = (rows / np.maximum(lengths, np.finfo(np.float64).tiny)).mean(axis=0)
    return float(1.0 - mean @ mean)


def _pairs(labels: NDArray[Any] | Labels) -> int:
    """Unordered pairs of entries with the same label."""
    counts = np.unique(labels, return_counts=True)[1].astype(np.int64)
    return int((counts * (counts - 1) // 2).sum())


def _cells(first: Labels, second: Labels) -> Labels:
    """A number for each pair of labels that occurs."""
    _, rows = np.unique(first, return_inverse=True)
    _, columns = np.unique(second, return_inverse=True)
    return rows.astype(np.int64) * (int(columns.max(initial=0)) + 1) + columns


def _normalised_information(cells: Labels, first: Labels, second: Labels) -> float:
    """Mutual information over the mean of both entropies; 1 where neither divides anything, nan of nothing."""
    if not len(cells):
        return float("nan")
    both, *alone = (_entropy(labels) for labels in (cells, first, second))
    return min(1.0, max(0.0, 2 - 2 * both / sum(alone))) if sum(alone) else 1.0


def _entropy(labels: Labels) -> float:
    """In nats."""
    share = np.unique(labels, return_counts=True)[1] / len(labels)
    return float(-(share * np.log(share)).sum())


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
