"""Re-ranking written from the paper (Zhong et al. 2017, sections 3.2 to 3.5): sets, loops, dense float64."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from oracles.clustering import neighbours


def rerank(
    query: Any,
    gallery: Any,
    *,
    k1: int = 20,
    k2: int = 6,
    original_weight: float = 0.3,
    squared: bool = True,
    copies: Sequence[int] = (),
) -> np.ndarray:
    """d* of every query to every gallery image, ``[Q, G]``, then to ``copies``, more of the gallery's images that are
    the pictures of these queries: ``[Q, G + n]``.

    N(p, k) holds p itself, so lists are k1 + 1 long, and those of the expansion round(k1 / 2) + 1. Among more than
    k1 + 1 copies some are in nobody's list, their own included: these have an empty R and a vector of zeros.
    """
    features = np.concatenate([query, gallery]).astype(np.float32)
    count, queries = len(features), len(query)
    order, ordered = neighbours(features, count)
    similarities = np.empty((count, count))
    np.put_along_axis(similarities, order, ordered.astype(np.float64), axis=1)

    original = np.maximum(2 - 2 * similarities, 0) ** (2 if squared else 1)
    for row in original:
        if row.max() > 0:
            row /= row.max()
    lists = order.tolist()

    def reciprocal(p: int, k: int) -> set[int]:
        return {g for g in lists[p][:k] if p in lists[g][:k]}

    feature_vectors = np.zeros((count, count))
    for p in range(count):
        robust = reciprocal(p, k1 + 1)
        for q in reciprocal(p, k1 + 1):
            candidate = reciprocal(q, round(k1 / 2) + 1)
            if 3 * len(reciprocal(p, k1 + 1) & candidate) > 2 * len(candidate):
                robust |= candidate
        for g in robust:
            feature_vectors[p, g] = math.exp(-original[p, g])
        feature_vectors[p] /= feature_vectors[p].sum() if robust else 1

    if k2 > 1:
        feature_vectors = np.array([feature_vectors[lists[p][:k2]].mean(axis=0) for p in range(count)])
    columns = [*range(queries, count), *copies]
    final = np.empty((queries, len(columns)))
    for p in range(queries):
        for place, g in enumerate(columns):
            shared = np.minimum(feature_vectors[p], feature_vectors[g]).sum()
            jaccard = 1 - shared / (2 - shared)  # of vectors that sum to 1, the sum of maxima
            final[p, place] = (1 - original_weight) * jaccard + original_weight * original[p, g]
    return final
