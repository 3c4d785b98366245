r"""Step 5 of the k-reciprocal Jaccard distance (see :mod:`reseen.clustering.jaccard`): weights to distances.

m_ij = sum_l min(V_il, V_jl) is the overlap of two rows of weights, each of which sums to 1. Pairs are found by the
inverted lists of V: the rows that hold a column l. Overlaps are added up in float64 in the order of the columns, so
a distance has the same bits however its pair was found.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array, csr_array

from reseen.clustering.weights import Csr, Floats, Indices, Pointers, join
from reseen.compiled import compiled, over_rows

LEFT_OUT = 0.5  # of a row's weight at most, in columns that many rows hold; .3 to .55 were tried
ROUNDING = 1e-5  # of an overlap: weights are float32


def distances_of_pairs(weights: Csr, columns: int, limit: float, ends: Pointers | None = None) -> csr_array:
    r"""Distances of pairs that are nearer than 1 and at most ``limit`` apart.

    A distance of at most eps needs an overlap of at least t = 2 (1 - eps) / (2 - eps), .57 at eps = .6. So a cut
    search need not look through all columns. Order them by how many rows hold them, and leave out the last ones of
    each row, of weight s_i < t together: everything that i and j share beyond the columns that both keep stands
    behind the point where the first of them stops keeping, so it weighs at most max(s_i, s_j) (prefix filtering,
    Bayardo et al. 2007). Only a pair that could still reach t is added up over all columns.

    Args:
        weights: V as CSR: pointers ``[M + 1]``, columns and values.
        columns: width of V.
        ends: look only at pairs i < j < ends[i]; int64 ``[M]``. None means M.

    Returns:
        float32 ``[M, M]``, symmetric, the diagonal as explicit 0, columns sorted.
    """
    count = len(weights[0]) - 1
    needed = 2 * (1 - limit) / (2 - limit) - ROUNDING if limit < 1 else 0.0
    whole = needed <= 0
    lists, left_out = _inverted(weights, columns, min(LEFT_OUT, 0.9 * max(needed, 0)))
    by_row = weights if whole else _by_row(lists, count)
    if ends is None:
        ends = np.full(count, count, dtype=np.int64)
    kernel = partial(
        _overlapping, weights, by_row, lists, left_out, whole, ends, needed, np.float32(limit), columns
    )
    triangle = join(over_rows(kernel, count))
    return csr_array(_mirror(*triangle)[::-1], shape=(count, count))


def _inverted(weights: Csr, columns: int, left_out: float) -> tuple[Csr, NDArray[np.float64]]:
    """The rows that keep each column, rarest column first, and the weight each row leaves out: ``[M]``."""
    pointers, indices, data = weights
    count = len(pointers) - 1
    shape = (count, columns)
    if left_out == 0:
        lists = csr_array((data, indices, pointers), shape=shape).tocsc()
        return _parts(lists), np.zeros(count)
    rank = np.empty(columns, dtype=np.int32)
    rank[np.argsort(np.bincount(indices, minlength=columns), kind="stable")] = np.arange(columns)
    lists = csr_array((data, rank[indices], pointers), shape=shape).tocsc()
    keep, weight = _leave_out(lists.indices, lists.data, count, left_out)
    kept = np.concatenate([[0], np.cumsum(keep)])[lists.indptr]
    return (kept.astype(np.int64), lists.indices[keep].astype(np.int32), lists.data[keep]), weight


def _by_row(lists: Csr, count: int) -> Csr:
    pointers, rows, data = lists
    return _parts(csc_array((data, rows, pointers), shape=(count, len(pointers) - 1)).tocsr())


def _parts(matrix: csr_array | csc_array) -> Csr:
    return matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32), matrix.data


@compiled
def _leave_out(
    rows: Indices, data: Floats, count: int, most: float
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Walk the entries from the commonest column down; each row leaves out what it meets while it may."""
    keep = np.ones(len(rows), dtype=np.bool_)
    weight = np.zeros(count, dtype=np.float64)
    open_rows = np.ones(count, dtype=np.bool_)
    for entry in range(len(rows) - 1, -1, -1):
        row = rows[entry]
        if open_rows[row] and weight[row] + data[entry] <= most:
            weight[row] += data[entry]
            keep[entry] = False
        else:
            open_rows[row] = False
    return keep, weight


@compiled
def _overlapping(
    weights: Csr,
    by_row: Csr,
    lists: Csr,
    left_out: NDArray[np.float64],
    whole: bool,
    ends: Pointers,
    needed: float,
    limit: np.float32,
    columns: int,
    start: int,
    stop: int,
) -> Csr:
    """Pairs row < other < ends[row] for a share of the rows: the triangle above the diagonal, columns sorted."""
    pointers, indices, data = weights
    kept_pointers, kept_indices, kept_data = by_row
    list_pointers, list_rows, list_data = lists
    count = len(pointers) - 1
    found = np.zeros(stop - start + 1, dtype=np.int64)
    others = np.empty(max(64, (stop - start) * 16), dtype=np.int32)
    distances = np.empty(len(others), dtype=np.float32)
    shared = np.zeros(count, dtype=np.float64)  # overlap with the current row, in the columns that both keep
    mine = np.zeros(columns, dtype=np.float32)  # the current row
    touched = np.empty(count, dtype=np.int32)
    after = list_pointers[:-1].copy()  # first entry of each list that lies below the current row
    used = 0
    for row in range(start, stop):
        seen = 0
        for slot in range(kept_pointers[row], kept_pointers[row + 1]):
            column, weight = kept_indices[slot], kept_data[slot]
            entry, last = after[column], list_pointers[column + 1]
            while entry < last and list_rows[entry] <= row:
                entry += 1
            after[column] = entry
            while entry < last and list_rows[entry] < ends[row]:
                other = list_rows[entry]
                if shared[other] == 0.0:
                    touched[seen] = other
                    seen += 1
                shared[other] += min(weight, list_data[entry])
                entry += 1
        while used + seen > len(others):
            others = np.concatenate((others, np.empty_like(others)))
            distances = np.concatenate((distances, np.empty_like(distances)))
        for slot in range(pointers[row], pointers[row + 1]):
            mine[indices[slot]] = data[slot]
        begin = used
        for place in range(seen):
            other = touched[place]
            overlap = shared[other]
            shared[other] = 0.0
            if overlap + max(left_out[row], left_out[other]) < needed:
                continue
            if not whole:
                own = slice(pointers[other], pointers[other + 1])
                overlap = _overlap(mine, indices[own], data[own])
            distance = np.float32(1 - overlap / (2 - overlap))
            if distance < 1 and distance <= limit:
                others[used] = other
                distances[used] = max(np.float32(0), distance)
                used += 1
        for slot in range(pointers[row], pointers[row + 1]):
            mine[indices[slot]] = 0
        order = np.argsort(others[begin:used])
        others[begin:used] = others[begin:used][order]
        distances[begin:used] = distances[begin:used][order]
        found[row - start + 1] = used
    return found, others[:used].copy(), distances[:used].copy()


@compiled
def _overlap(mine: Floats, indices: Indices, data: Floats) -> float:
    """Overlap of a row that is spread out with another one."""
    total = 0.0
    for slot in range(len(indices)):
        total += min(mine[indices[slot]], data[slot])
    return total


@compiled
def _mirror(pointers: Pointers, indices: Indices, data: Floats) -> Csr:
    """The whole symmetric matrix, diagonal as explicit 0, from the triangle above it; columns sorted."""
    count = len(pointers) - 1
    full = np.zeros(count + 1, dtype=np.int64)
    for row in range(count):
        full[row + 1] += pointers[row + 1] - pointers[row] + 1
        for slot in range(pointers[row], pointers[row + 1]):
            full[indices[slot] + 1] += 1
    for row in range(count):
        full[row + 1] += full[row]
    columns = np.empty(full[count], dtype=np.int32)
    values = np.zeros(full[count], dtype=np.float32)
    free = full[:-1].copy()
    for row in range(count):
        columns[free[row]] = row  # all entries left of the diagonal came from earlier rows
        free[row] += 1
        for slot in range(pointers[row], pointers[row + 1]):
            other = indices[slot]
            columns[free[row]] = other
            values[free[row]] = data[slot]
            free[row] += 1
            columns[free[other]] = row
            values[free[other]] = data[slot]
            free[other] += 1
    return full, columns, values
