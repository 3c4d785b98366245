"""Steps 1 to 4 of the k-reciprocal Jaccard distance (see :mod:`reseen.clustering.jaccard`): lists to
weights."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from reseen.compiled import compiled, inner, over_rows

Floats = NDArray[np.float32]
Indices = NDArray[np.int32]
Pointers = NDArray[np.int64]
Csr = tuple[Pointers, Indices, Floats]  # row pointers, columns (sorted), values


def reciprocal_weights(rows: Floats, ranking: Indices, similarities: Floats, *, k1: int, k2: int) -> Csr:
    """Weights V ``[M, M]`` of M rows from their neighbour lists.

    Args:
        rows: L2-normalised features, ``[M, D]``: similarities of rows outside each other's lists are taken
            anew.
        ranking, similarities: ``[M, min(k1, M)]``, as :func:`~reseen.clustering.nearest_neighbours` returns
            them.
        k1, k2: as in :func:`~reseen.clustering.jaccard_graph`.
    """
    count, listed = ranking.shape
    half = min(round(k1 / 2) + 1, listed)
    near = np.zeros((count, listed), dtype=np.int8)  # 1: reciprocal in k1, 2: in the half list too
    over_rows(partial(_mark_reciprocal, ranking, half, near), count)
    weights = join(over_rows(partial(_expand, rows, ranking, similarities, near, half), count))
    if k2 == 1:
        return weights
    return join(over_rows(partial(_average, ranking[:, :k2].copy(), *weights), count))


def join(parts: list[Csr]) -> Csr:
    """Join shares of rows. The first entry of each share's pointers is 0."""
    lengths = np.concatenate([np.diff(pointers) for pointers, _, _ in parts])
    pointers = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return (
        pointers,
        np.concatenate([indices for _, indices, _ in parts]),
        np.concatenate([data for _, _, data in parts]),
    )


@compiled
def _mark_reciprocal(ranking: Indices, half: int, near: NDArray[np.int8], start: int, stop: int) -> None:
    listed = ranking.shape[1]
    for row in range(start, stop):
        for place in range(listed):
            other = ranking[row, place]
            for back in range(listed):
                if ranking[other, back] == row:
                    near[row, place] = 2 if place < half and back < half else 1
                    break


@compiled
def _expand(
    rows: Floats,
    ranking: Indices,
    similarities: Floats,
    near: NDArray[np.int8],
    half: int,
    start: int,
    stop: int,
) -> Csr:
    """Steps 2 and 3 for a share of the rows."""
    count, listed = ranking.shape
    pointers = np.zeros(stop - start + 1, dtype=np.int64)
    indices = np.empty((stop - start) * listed * 2, dtype=np.int32)
    data = np.empty(len(indices), dtype=np.float32)
    core = np.full(count, -1, dtype=np.int32)  # row whose R(row, k1) holds this one
    place_of = np.empty(count, dtype=np.int32)  # where it stands in that row's list
    inside = np.full(count, -1, dtype=np.int32)  # row whose R*(row) holds this one
    used = 0
    for row in range(start, stop):
        while used + min(count, listed * (half + 1)) > len(indices):
            indices = np.concatenate((indices, np.empty_like(indices)))
            data = np.concatenate((data, np.empty_like(data)))
        begin = used
        for place in range(listed):
            if near[row, place]:
                other = ranking[row, place]
                core[other] = inside[other] = row
                place_of[other] = place
                indices[used] = other
                used += 1
        for place in range(listed):
            if not near[row, place]:
                continue
            other = ranking[row, place]
            size = shared = 0
            for step in range(half):
                if near[other, step] == 2:
                    size += 1
                    shared += core[ranking[other, step]] == row
            if 3 * shared <= 2 * size:
                continue
            for step in range(half):
                if near[other, step] == 2 and inside[ranking[other, step]] != row:
                    inside[ranking[other, step]] = row
                    indices[used] = ranking[other, step]
                    used += 1
        indices[begin:used].sort()
        total = 0.0
        for slot in range(begin, used):
            other = indices[slot]
            if core[other] == row:
                cosine = float(similarities[row, place_of[other]])
            else:
                cosine = inner(rows[row], rows[other])
            weight = np.exp(2 * cosine - 2)
            data[slot] = weight
            total += weight
        for slot in range(begin, used):
            data[slot] = data[slot] / total
        pointers[row - start + 1] = used
    return pointers, indices[:used].copy(), data[:used].copy()


@compiled
def _average(
    nearest: Indices, pointers: Pointers, indices: Indices, data: Floats, start: int, stop: int
) -> Csr:
    """Step 4 for a share of the rows."""
    count = len(pointers) - 1
    room = 0
    for row in range(start, stop):
        for other in nearest[row]:
            room += pointers[other + 1] - pointers[other]
    means = np.zeros(stop - start + 1, dtype=np.int64)
    columns = np.empty(room, dtype=np.int32)
    values = np.empty(room, dtype=np.float32)
    sums = np.zeros(count, dtype=np.float64)
    holder = np.full(count, -1, dtype=np.int32)
    used = 0
    for row in range(start, stop):
        begin = used
        for other in nearest[row]:
            for slot in range(pointers[other], pointers[other + 1]):
                column = indices[slot]
                if holder[column] != row:
                    holder[column] = row
                    sums[column] = 0.0
                    columns[used] = column
                    used += 1
                sums[column] += data[slot]
        columns[begin:used].sort()
        for slot in range(begin, used):
            values[slot] = sums[columns[slot]] / nearest.shape[1]
        means[row - start + 1] = used
    return means, columns[:used].copy(), values[:used].copy()
