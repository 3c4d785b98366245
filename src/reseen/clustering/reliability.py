"""Which members of a cluster to trust: the reliability criterion of SpCL (Ge et al. 2020,
arXiv:2006.02713)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reseen.errors import ReseenError
from reseen.records import OUTLIER, Labels

Scores = NDArray[np.float64]


def spcl_reliability(labels: Any, loose_labels: Any, tight_labels: Any) -> tuple[Scores, Scores]:
    r"""Score how little the cluster of each image changes when eps grows and when it shrinks.

    .. math::
        R_{indep}(i) = \frac{|I(i) \cap I_{loose}(i)|}{|I(i) \cup I_{loose}(i)|}, \qquad
        R_{comp}(i) = \frac{|I(i) \cap I_{tight}(i)|}{|I(i) \cup I_{tight}(i)|}

    where I(i) is the set of images in the cluster of image i, here and at the looser and tighter eps.

    Args:
        labels, loose_labels, tight_labels: int ``[M]``; each -1 is a cluster of one image.

    Returns:
        ``independence`` and ``compactness``, float64 ``[M]`` in (0, 1].

    Raises:
        ReseenError: labels of different lengths.
    """
    own, loose, tight = (
        np.asarray(values, dtype=np.int64) for values in (labels, loose_labels, tight_labels)
    )
    if own.ndim != 1 or not own.shape == loose.shape == tight.shape:
        raise ReseenError(
            "three labellings of the same images are needed, "
            f"not of shapes {own.shape}, {loose.shape} and {tight.shape}"
        )
    return _overlap(own, loose), _overlap(own, tight)


def spcl_alpha(labels: Any, independence: Scores, *, kept_share: float = 0.9) -> float:
    """The least independence that a cluster needs, set before the first epoch and kept (SpCL, Section 3.3).

    The 90 % most independent clusters of two and more images pass. SpCL's other threshold, beta, is no constant
    (see :func:`keep_reliable`).

    Returns:
        alpha for ``min_independence``, inclusive; 0 without any cluster.
    """
    labels = np.asarray(labels, dtype=np.int64)
    names, clusters, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    real = (names >= 0) & (sizes >= 2)
    if not real.any():
        return 0.0
    place = min(int(real.sum()) - 1, round(int(real.sum()) * kept_share))
    return float(np.sort(_largest(clusters, independence, len(names))[real])[::-1][place])


def keep_reliable(
    labels: Any,
    independence: Scores,
    compactness: Scores,
    *,
    min_independence: float,
    min_compactness: float | None = None,
) -> Labels:
    """Turn the unreliable members of clusters into outliers.

    Args:
        labels: int ``[M]``.
        independence, compactness: ``[M]``, from :func:`spcl_reliability`.
        min_independence: alpha. A cluster below it loses all its members; its score is the largest of its
            members' (they differ only where a border image lies between clusters).
        min_compactness: beta. A member below it leaves. None: the largest compactness in its cluster (the
            paper), so that of a cluster that splits only the part that is most like the whole stays.

    Returns:
        int64 ``[M]``: the labels, -1 for the unreliable; may leave gaps.
    """
    labels = np.asarray(labels, dtype=np.int64)
    names, clusters = np.unique(labels, return_inverse=True)
    independent = _largest(clusters, independence, len(names))[clusters] >= min_independence
    least = (
        _largest(clusters, compactness, len(names))[clusters] if min_compactness is None else min_compactness
    )
    return np.where(independent & (compactness >= least), labels, OUTLIER)


def _largest(clusters: Labels, scores: Scores, count: int) -> Scores:
    """Largest score of each cluster's members."""
    result = np.zeros(count)
    np.maximum.at(result, clusters, scores)
    return result


def _overlap(one: Labels, other: Labels) -> Scores:
    """Intersection over union of the two clusters of each image."""
    first, first_sizes = _members(one)
    second, second_sizes = _members(other)
    _, pair, shared = np.unique(first * len(one) + second, return_inverse=True, return_counts=True)
    both = shared[pair]
    overlap: Scores = both / (first_sizes[first] + second_sizes[second] - both)
    return overlap


def _members(labels: Labels) -> tuple[Labels, Labels]:
    """Cluster number of each image, each -1 a cluster of its own, and the sizes of the clusters."""
    alone = np.where(labels < 0, labels.max(initial=-1) + 1 + np.arange(len(labels)), labels)
    _, numbers, sizes = np.unique(alone, return_inverse=True, return_counts=True)
    return numbers, sizes
