"""Ranking without sorting: how many wrong images stand above each correct one.

The compiled part of :mod:`reseen.metrics.reid`. Queries come in blocks, the gallery in tiles of columns.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reseen.compiled import compiled, inner
from reseen.metrics.arrays import Floats
from reseen.records import Labels

CHUNK = 256  # gallery images that are counted together
Ranked = tuple[NDArray[np.float64], Labels]  # of B queries: average precision (nan: no match), first rank


@compiled
def exact_similarities(query: Floats, gallery: Floats) -> NDArray[np.float32]:
    """Similarity of a query ``[D]`` to every row of the gallery ``[G, D]``, as :func:`reid_scores` has it."""
    similarities = np.empty(gallery.shape[0], dtype=np.float32)
    for g in range(gallery.shape[0]):
        similarities[g] = np.float32(inner(query, gallery[g]))
    return similarities


@compiled
def exact_values(
    queries: Floats, gallery: Floats, pointers: Labels, rows: Labels, values: Floats, start: int, stop: int
) -> None:
    for b in range(start, stop):
        for slot in range(pointers[b], pointers[b + 1]):
            values[slot] = np.float32(inner(queries[b], gallery[rows[slot]]))


@compiled
def _negatives_above(
    row: Floats,
    known: NDArray[np.bool_],
    value: float,
    index: int,
    margin: float,
    query: Floats,
    gallery: Floats,
    columns: Labels,
) -> int:
    """How many entries of ``row`` rank above the positive ``index`` of this exact ``value``.

    Entries that do not count are NaN, which compares as false. ``known`` marks those that are exact already.
    """
    slack = max(margin, 0)
    high, low = row.dtype.type(value + slack), row.dtype.type(value - slack)
    above = 0
    for start in range(0, row.shape[0], CHUNK):
        chunk = row[start : start + CHUNK]
        surely = maybe = 0
        for i in range(chunk.shape[0]):
            surely += chunk[i] > high
            maybe += chunk[i] >= low
        above += surely
        if maybe == surely:
            continue
        for i in range(start, start + chunk.shape[0]):
            if row[i] >= low and not row[i] > high:
                if margin >= 0 and not known[i]:
                    row[i] = np.float32(inner(query, gallery[columns[i]]))
                    known[i] = True
                above += row[i] > value or (row[i] == value and i < index)
    return above


@compiled
def count_above(
    tile: Floats,  # [B, T] similarities; overwritten
    pointers: Labels,
    places: Labels,  # positions less that of the tile's first column: those of other tiles are outside
    correct: NDArray[np.bool_],
    values: Floats,
    above: Labels,  # adds the negatives of this tile above each correct image
    margins: Floats,  # [B] how far an entry may be off; negative: the tile is exact
    queries: Floats,  # [B, D]
    gallery: Floats,  # [G, D]
    columns: Labels,  # [T] gallery rows
    start: int,
    stop: int,
) -> None:
    known = np.empty(tile.shape[1], dtype=np.bool_)
    for b in range(start, stop):
        row = tile[b]
        for slot in range(pointers[b], pointers[b + 1]):
            if 0 <= places[slot] < len(row):
                row[places[slot]] = np.nan
        known[:] = False
        for slot in range(pointers[b], pointers[b + 1]):
            if correct[slot]:
                above[slot] += _negatives_above(
                    row, known, values[slot], places[slot], margins[b], queries[b], gallery, columns
                )


@compiled
def ranked(
    pointers: Labels, positions: Labels, correct: NDArray[np.bool_], values: Floats, above: Labels
) -> Ranked:
    """Average precision and rank of the best correct image from the negatives above each."""
    count = len(pointers) - 1
    average_precision = np.full(count, np.nan)
    first = np.zeros(count, dtype=np.int64)
    for b in range(count):
        slots = pointers[b] + np.flatnonzero(correct[pointers[b] : pointers[b + 1]])
        if len(slots) == 0:
            continue
        order = slots[np.argsort(-values[slots], kind="mergesort")]  # stable: slots are in gallery order
        first[b] = above[order[0]] + 1
        total = 0.0
        for place, slot in enumerate(order):
            total += (place + 1) / (place + 1 + above[slot])
        average_precision[b] = total / len(order)
    return average_precision, first
