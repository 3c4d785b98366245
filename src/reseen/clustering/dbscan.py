"""DBSCAN (Ester et al. 1996) on sparse distances, with scikit-learn's labels and numbering."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array, issparse

from reseen.compiled import compiled
from reseen.errors import ReseenError

Labels = NDArray[np.int64]


def dbscan(distances: Any, *, eps: float = 0.6, min_samples: int = 4) -> Labels:
    """Cluster by density: a row with ``min_samples`` rows within ``eps``, itself counted, is a core.

    Cores within ``eps`` of each other share a cluster, and a row near a core belongs to the first such
    cluster.

    Args:
        distances: ``[M, M]``, sparse or dense. In a sparse matrix an absent entry is farther than ``eps``,
            an explicit 0 is a distance of 0 (copies), and a row is within reach of itself whether its
            diagonal is stored or not. With :func:`~reseen.clustering.jaccard_distance` that means eps < 1,
            and at most its ``max_distance``.
        eps: largest distance of neighbours, compared in the precision of ``distances``; inclusive.
        min_samples: rows in a core's neighbourhood, itself included; at least 1.

    Returns:
        int64 ``[M]``: clusters 0..K-1 by their smallest core, -1 for outliers: what scikit-learn's DBSCAN
        with ``metric="precomputed"`` returns.

    Raises:
        ReseenError: distances that are not square or hold NaN; eps or min_samples out of range.
    """
    if not eps > 0 or min_samples < 1:
        raise ReseenError(f"dbscan needs eps > 0 and min_samples >= 1, not {eps} and {min_samples}")
    matrix = as_square(distances)
    if np.isnan(matrix.data).any():
        raise ReseenError("distances hold NaN: check the features they were made from")
    within = matrix.data <= matrix.data.dtype.type(eps)
    pointers = np.concatenate([[0], np.cumsum(within)]).astype(np.int64)[matrix.indptr]
    return _grow(pointers, matrix.indices[within].astype(np.int32), min_samples)


def as_square(distances: Any) -> csr_array:
    """Check distances and return them as CSR. Every entry of a dense matrix is kept, zeros too."""
    if len(distances.shape) != 2 or distances.shape[0] != distances.shape[1]:
        raise ReseenError(f"distances must have shape [M, M], not {list(distances.shape)}")
    if issparse(distances):
        return csr_array(distances)
    dense = distances.cpu().numpy() if isinstance(distances, torch.Tensor) else np.asarray(distances)
    count = len(dense)
    columns = np.tile(np.arange(count, dtype=np.int32), count)
    return csr_array(
        (dense.reshape(-1), columns, np.arange(count + 1, dtype=np.int64) * count), shape=dense.shape
    )


@compiled
def _grow(pointers: NDArray[np.int64], indices: NDArray[np.int32], min_samples: int) -> Labels:
    count = len(pointers) - 1
    core = np.empty(count, dtype=np.bool_)
    for row in range(count):
        reached = 1
        for slot in range(pointers[row], pointers[row + 1]):
            reached += indices[slot] != row
        core[row] = reached >= min_samples
    labels = np.full(count, -1, dtype=np.int64)
    stack = np.empty(count, dtype=np.int32)
    cluster = 0
    for seed in range(count):
        if labels[seed] >= 0 or not core[seed]:
            continue
        labels[seed] = cluster
        stack[0] = seed
        depth = 1
        while depth:
            depth -= 1
            row = stack[depth]
            for slot in range(pointers[row], pointers[row + 1]):
                other = indices[slot]
                if labels[other] < 0:
                    labels[other] = cluster
                    if core[other]:
                        stack[depth] = other
                        depth += 1
        cluster += 1
    return labels
