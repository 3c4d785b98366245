"""Rows in the order of their numbers, which is not always that of the table."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


def in_order(blocks: list[NDArray[Any]], table: pa.Table) -> tuple[list[NDArray[Any]], pa.Table]:
    """Blocks of vectors and their columns, piece by piece: an erasure rewrites the files that held the rows, and Lance
    puts what is rewritten last. Nothing is copied but pointers; pieces that overlap stay out of order.

    Args:
        blocks: ``[n, D]`` each, together as long as ``table``; none where vectors are elsewhere.
    """
    rows = table["row"].to_numpy()
    bounds = [0, *(np.flatnonzero(np.diff(rows) < 0) + 1).tolist(), len(rows)]
    if len(bounds) == 2:
        return blocks, table
    pieces = sorted(itertools.pairwise(bounds), key=lambda piece: int(rows[piece[0]]))
    edges = np.cumsum([0, *map(len, blocks)])[:-1].tolist()
    parts = [
        block[max(0, start - edge) : max(0, end - edge)]
        for start, end in pieces
        for block, edge in zip(blocks, edges, strict=True)
    ]
    ordered = pa.concat_tables([table.slice(start, end - start) for start, end in pieces])
    return [part for part in parts if len(part)], ordered
