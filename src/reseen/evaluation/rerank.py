r"""Re-ranking with k-reciprocal encoding at test time (Zhong et al. 2017, arXiv:1701.08398), sparse and streamed.

All images, queries before gallery, are rows 0..N-1. N(i, k) is the list of the k nearest rows of row i, itself
included where it belongs. With h = round(k1 / 2) + 1,

1. distances d_ij = (2 - 2 cos(x_i, x_j))^2, divided by the largest of row i;
2. reciprocal neighbours R(i, k) = { j in N(i, k) : i in N(j, k) } (Eq. 3);
3. expansion: R*(i) = R(i, k1 + 1) joined with each R(q, h), q in R(i, k1 + 1), of which more than two thirds
   already lie in R(i, k1 + 1) (Eq. 4);
4. weights V_ij = exp(-d_ij) for j in R*(i) (Eq. 7), scaled to sum 1; 0 elsewhere;
5. query expansion: V_i becomes the mean of V_q over q in N(i, k2) (Eq. 11); left out for k2 = 1;
6. m_ij = sum_l min(V_il, V_jl) and J_ij = 1 - m_ij / (2 - m_ij) (Eq. 10: minima over maxima of rows of sum 1);
7. the distance of query i and gallery image j is (1 - w) J_ij + w d_ij (Eq. 12), w the weight of the original.

The paper's d is the squared Euclidean distance. To divide it by the largest of the row is the released code's; to
square it once more is what comes out where evaluators (torchreid, SpCL) hand squared distances to a function that
squares. Published re-ranked numbers are mostly those, so this is the default.

A query's own picture in the gallery (the same file, or the same bytes) is one row with the query: as a row of its
own it would stand among the query's neighbours and vote for whatever is near to it. Other queries find it as before.

Weights are sparse, and distances are formed for the block of queries that is asked for: nothing of size N x N or
Q x G exists. Similarities are summed in double precision and rounded to float32: copies tie, whatever the block.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array

from reseen.clustering.nearest import lowest_similarities, nearest_neighbours
from reseen.clustering.weights import reciprocal_weights
from reseen.compiled import compiled, inner, over_rows
from reseen.errors import ReseenError
from reseen.metrics.arrays import to_features, to_numpy

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Indices = NDArray[np.int32]
Pointers = NDArray[np.int64]

BLOCK = 2**24  # re-ranked distances that exist at a time: 64 MiB
FEWEST = 64  # queries of a block, however large the gallery: with fewer, products are slow
COLUMNS = 2048  # gallery images that are raised to double precision together
UNIT_TOLERANCE = 1e-2  # on the length of a row; half precision stays well inside


def rerank(
    query_features: Any,
    gallery_features: Any,
    *,
    k1: int = 20,
    k2: int = 6,
    original_weight: float = 0.3,
    squared: bool = True,
    same_pictures: Any = (),
    device: torch.device | str | None = None,
) -> Iterator[Floats]:
    """Re-ranked distances of queries to the gallery, in blocks of queries.

    Args:
        query_features, gallery_features: L2-normalised rows ``[Q, D]`` and ``[G, D]``, arrays or tensors.
        k1: length of the neighbour lists, the row itself not counted; more than Q + G - 1 takes all rows.
        k2: rows averaged in the query expansion; 1 leaves it out.
        original_weight: lambda of Eq. (12), 0 to 1: 1 keeps the original order.
        squared: square the squared Euclidean distance, as torchreid and SpCL do; False is the paper's.
        same_pictures: rows (query, gallery image) ``[n, 2]`` that are one picture.
        device: where the neighbour search runs (by default where the features are); the rest is on the CPU.

    Returns:
        float32 blocks ``[B, G]``, smaller = more similar, in the order of the queries: input of
        :func:`reseen.metrics.reid_scores_from_blocks`. The work before the first block is done at once.

    Raises:
        ReseenError: shape, NaN or infinity; a row that is not of unit length; k1, k2 or original_weight out of
            range.
    """
    if k1 < 1 or k2 < 1:
        raise ReseenError(f"re-ranking needs k1 and k2 of at least 1, not {k1} and {k2}")
    if not 0 <= original_weight <= 1:
        raise ReseenError(f"the weight of the original distance is 0 to 1, not {original_weight}")
    images, queries = _together(query_features, gallery_features)
    pictures, row_of = _pictures(same_pictures, queries, len(images))
    rows = images if len(pictures) == len(images) else images[pictures]
    tensor = torch.from_numpy(rows)
    where = device or getattr(query_features, "device", None)
    unit = _distance(lowest_similarities(tensor, device=where).astype(np.float64), squared)
    unit[unit == 0] = 1  # every image is a copy of this one: all distances are 0
    lists, similarities = nearest_neighbours(tensor, max(k1 + 1, k2), device=where)
    ranking = lists.astype(np.int32)
    near, close = ranking[:, : k1 + 1].copy(), similarities[:, : k1 + 1].copy()
    pointers, columns, data = reciprocal_weights(rows, near, close, k1=k1, k2=1)
    over_rows(partial(_weigh, rows, near, close, unit, squared, pointers, columns, data), len(rows))
    weights = csr_array((data, columns, pointers), shape=(len(rows), len(rows)))
    if k2 > 1:
        weights = _expanded(weights, ranking[:, :k2])
    own, others = weights[row_of[:queries]], weights[row_of[queries:]]
    return _blocks(images, queries, own, others, unit[row_of[:queries]], original_weight, squared)


def _together(query_features: Any, gallery_features: Any) -> tuple[Floats, int]:
    """Queries before gallery, float32 ``[N, D]``, checked; and the number of queries."""
    sides = [to_features(query_features, "query features"), to_features(gallery_features, "gallery features")]
    dims = [side.shape[1] for side in sides]
    if dims[0] != dims[1]:
        raise ReseenError(f"query features have {dims[0]} dimensions and gallery features {dims[1]}")
    rows = np.concatenate(sides, dtype=np.float32, casting="same_kind")
    lengths = np.sqrt(np.einsum("nd,nd->n", rows, rows))
    off = np.flatnonzero(np.abs(lengths - 1) > UNIT_TOLERANCE)
    if len(off):
        raise ReseenError(
            f"re-ranking needs L2-normalised features, but {len(off)} of {len(rows)} rows are not of length 1 "
            f"(row {off[0]}, queries first, has {lengths[off[0]]:.4g}): use torch.nn.functional.normalize"
        )
    return rows, len(sides[0])


def _pictures(same_pictures: Any, queries: int, images: int) -> tuple[Pointers, Pointers]:
    """The images that are a row, one for each picture (the first query of it), and the row of each of the N images."""
    asked, found = to_numpy(same_pictures).astype(np.int64).reshape(-1, 2).T
    first = np.arange(images)
    np.minimum.at(first, queries + found, asked)
    np.minimum.at(first, asked, first[queries + found])  # several queries may be one picture
    pictures, row_of = np.unique(first, return_inverse=True)
    return pictures, row_of


def _distance(similarities: Doubles, squared: bool) -> Doubles:
    distances = np.maximum(0, 2 - 2 * similarities)
    return distances**2 if squared else distances


def _expanded(weights: csr_array, nearest: Indices) -> csr_array:
    """Step 5."""
    count, taken = nearest.shape
    pointers = np.arange(count + 1) * taken
    mean = csr_array((np.full(count * taken, 1 / taken), nearest.ravel(), pointers), shape=(count, count))
    expanded = mean @ weights
    expanded.sort_indices()
    return expanded.astype(np.float32)


def _blocks(
    images: Floats,
    queries: int,
    own: csr_array,
    others: csr_array,
    unit: Doubles,
    original_weight: float,
    squared: bool,
) -> Iterator[Floats]:
    """Steps 6 and 7, of the weights of queries (``own``) and gallery images."""
    gallery, inverted = images[queries:], others.tocsc()
    of_queries = (own.indptr.astype(np.int64), own.indices.astype(np.int32), own.data)
    of_gallery = (inverted.indptr.astype(np.int64), inverted.indices.astype(np.int32), inverted.data)
    size = max(FEWEST, BLOCK // max(1, len(gallery)))
    for top in range(0, queries, size):
        part = images[top : min(top + size, queries)].astype(np.float64)
        block = np.empty((len(part), len(gallery)), dtype=np.float32)
        for left in range(0, len(gallery), COLUMNS):
            columns = gallery[left : left + COLUMNS].astype(np.float64)
            block[:, left : left + COLUMNS] = part @ columns.T
        how = (unit, original_weight, squared)
        over_rows(partial(_rerank_rows, block, top, *of_queries, *of_gallery, *how), len(part), smallest=16)
        yield block


@compiled
def _weigh(
    rows: Floats,
    ranking: Indices,
    similarities: Floats,
    unit: Doubles,
    squared: bool,
    pointers: Pointers,
    columns: Indices,
    data: Floats,
    start: int,
    stop: int,
) -> None:
    """Step 4 for a share of the rows, into ``data``; what stood there is not used."""
    for row in range(start, stop):
        total = 0.0
        for slot in range(pointers[row], pointers[row + 1]):
            other = columns[slot]
            similarity = np.float64(np.inf)
            for place in range(ranking.shape[1]):
                if ranking[row, place] == other:
                    similarity = np.float64(similarities[row, place])
                    break
            if similarity == np.inf:
                similarity = np.float64(np.float32(inner(rows[row], rows[other])))
            distance = max(0.0, 2 - 2 * similarity)
            if squared:
                distance *= distance
            weight = np.exp(-distance / unit[row])
            data[slot] = weight
            total += weight
        for slot in range(pointers[row], pointers[row + 1]):
            data[slot] = data[slot] / total


@compiled
def _rerank_rows(
    block: Floats,  # [B, G] similarities in, distances out
    top: int,
    pointers: Pointers,
    columns: Indices,
    data: Floats,
    column_pointers: Pointers,
    column_rows: Indices,
    column_data: Floats,
    unit: Doubles,
    original_weight: float,
    squared: bool,
    start: int,
    stop: int,
) -> None:
    shared = np.empty(block.shape[1], dtype=np.float64)  # m of the current query
    for b in range(start, stop):
        shared[:] = 0.0
        query = top + b
        for slot in range(pointers[query], pointers[query + 1]):
            column, weight = columns[slot], data[slot]
            for entry in range(column_pointers[column], column_pointers[column + 1]):
                shared[column_rows[entry]] += min(weight, column_data[entry])
        line = block[b]
        for g in range(len(line)):
            distance = max(0.0, 2 - 2 * np.float64(line[g]))
            if squared:
                distance *= distance
            jaccard = max(0.0, 1 - shared[g] / (2 - shared[g]))
            line[g] = (1 - original_weight) * jaccard + original_weight * (distance / unit[query])
