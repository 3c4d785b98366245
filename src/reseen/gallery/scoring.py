"""The most similar rows of a matrix in half precision, exactly.

Rows lie in blocks uint16 ``[n, D]``, the bits of float16: half the memory, and the processor converts as it multiplies
(F16C, on every x86 of the last ten years). Similarity is the inner product of a row and a query in float32, summed in
float64 and rounded to float32; ties go to the row that comes first. Sums in float32 find who may be among the first k,
with a bound on their rounding, and only those are summed again. Where the processor multiplies bfloat16, many queries
at once are compared in that first: their bound is wider, and so is what is summed again.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from llvmlite import binding, ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from reseen.compiled import compiled, compiled_sums, over_rows

Block = NDArray[np.uint16]
Floats = NDArray[np.float32]
Indices = NDArray[np.int64]

SCORES = 2**24  # that exist at a time: 64 MiB
RAISED = 512  # rows that are converted together for many queries: 4 MiB of 2048 dimensions, in the cache
GROUPS = 1024  # of scores, at least, the best of each of which bound the k-th best of all
# without it bfloat16 is 4 times slower than float32
BFLOAT16 = bool(binding.get_host_cpu_features().get("avx512bf16"))


def nearest(
    blocks: Sequence[Block], queries: Floats, k: int, chosen: Indices | None = None
) -> list[tuple[Indices, Floats]]:
    """The k most similar rows of each query and their similarities, best first; fewer where there are no more.

    Args:
        blocks: rows ``[n, D]``, one below the other, as bits of float16.
        queries: ``[Q, D]``, unit rows.
        chosen: positions of the rows that may be found, rising; None: all.
    """
    parts = _parts(blocks, chosen)
    count = sum(len(rows) for _, rows in parts)
    positions = np.arange(count) if chosen is None else chosen
    if count == 0 or k < 1:
        return [(np.zeros(0, np.int64), np.zeros(0, np.float32)) for _ in queries]
    together = max(1, SCORES // count)
    result = []
    for top in range(0, len(queries), together):
        some = np.ascontiguousarray(queries[top : top + together], dtype=np.float32)
        scores = np.empty((len(some), count), dtype=np.float32)
        start = 0
        for block, rows in parts:
            part = scores[:, start : start + len(rows)]
            if len(some) > 1:
                _score_many(block, rows, some, part)
            else:
                one = _score if chosen is None else _score_scattered
                over_rows(partial(one, block, rows, some[0], part[0]), len(rows), smallest=4096)
            start += len(rows)
        off = off_by(some.shape[1], narrow=BFLOAT16 and len(some) > 1)
        for query, line in zip(some, scores, strict=True):
            places, similarities = _settled(parts, query, line, min(k, count), off)
            result.append((positions[places], similarities))
    return result


def similarities(blocks: Sequence[Block], query: Floats, chosen: Indices | None = None) -> Floats:
    """Similarity of the query ``[D]`` to every row, or to those that are chosen."""
    parts = _parts(blocks, chosen)
    return np.concatenate([np.zeros(0, np.float32), *(_exact_all(b, rows, query) for b, rows in parts)])


def _parts(blocks: Sequence[Block], chosen: Indices | None) -> list[tuple[Block, Indices]]:
    """Each block with the rows of it that count."""
    edges = np.cumsum([0, *(len(block) for block in blocks)])
    if chosen is None:
        return [(block, np.arange(len(block))) for block in blocks]
    cuts = np.searchsorted(chosen, edges)
    return [
        (block, chosen[first:last] - edge)
        for block, edge, first, last in zip(blocks, edges[:-1], cuts[:-1], cuts[1:], strict=True)
        if first < last
    ]


def off_by(dim: int, *, narrow: bool = False) -> float:
    """How far a score may be from the similarity, for rows and queries of length 1.

    D products and sums in float32 are off by at most D u |row| |query| with u = 2^-24 (Higham 2002, section 3.1), of
    which 1 % more is for what is not linear, and 0.1 % for lengths. ``narrow``: rows, queries and scores are rounded to
    bfloat16 besides, each by a share of 2^-8.
    """
    return 1.01 * 1.001 * (dim * 2.0**-24 + (3 * 2.0**-8 if narrow else 0))


def _settled(
    parts: Sequence[tuple[Block, Indices]], query: Floats, scores: Floats, k: int, off: float
) -> tuple[Indices, Floats]:
    """Places of the best k among all that count, by exact similarity, then place."""
    places = np.flatnonzero(scores >= _reached(scores, k) - 2 * off)
    exact = np.empty(len(places), dtype=np.float32)
    edges = np.cumsum([0, *(len(rows) for _, rows in parts)])
    cuts = np.searchsorted(places, edges)
    for (block, rows), edge, first, last in zip(parts, edges[:-1], cuts[:-1], cuts[1:], strict=True):
        exact[first:last] = _exact_all(block, rows[places[first:last] - edge], query)
    best = np.lexsort((places, -exact))[:k]
    return places[best], exact[best]


def _reached(scores: Floats, k: int) -> float:
    """A number that k scores or more reach: the k-th best, or that of the best of each of many groups.

    Groups are quicker by ten. Neighbours, who are often one person, are in different ones, so that little is lost.
    """
    if k >= len(scores):
        return -np.inf
    groups = max(GROUPS, 16 * k)
    if len(scores) >= 4 * groups:
        scores = scores[: len(scores) // groups * groups].reshape(-1, groups).max(axis=0)
    return float(np.partition(scores, len(scores) - k)[len(scores) - k])


def _half(typing: Any, bits: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        return builder.fpext(builder.bitcast(given[0], ir.HalfType()), ir.FloatType())

    return types.float32(types.uint16), code


half = intrinsic(_half)  # the number that 16 bits stand for


@compiled_sums
def _score(block: Block, rows: Indices, query: Floats, out: Floats, start: int, stop: int) -> None:
    for place in range(start, stop):
        row = block[rows[place]]
        total = np.float32(0)
        for d in range(len(query)):
            total += half(row[d]) * query[d]
        out[place] = total


@compiled_sums
def _score_scattered(block: Block, rows: Indices, query: Floats, out: Floats, start: int, stop: int) -> None:
    """Rows that do not follow each other, four at a time: the memory is waited for once (3.9 ms in place of 6.5)."""
    for place in range(start, stop, 4):
        places = (place, min(place + 1, stop - 1), min(place + 2, stop - 1), min(place + 3, stop - 1))
        a, b = block[rows[places[0]]], block[rows[places[1]]]
        c, d = block[rows[places[2]]], block[rows[places[3]]]
        totals = (np.float32(0), np.float32(0), np.float32(0), np.float32(0))
        for i in range(len(query)):
            value = query[i]
            totals = (
                totals[0] + half(a[i]) * value,
                totals[1] + half(b[i]) * value,
                totals[2] + half(c[i]) * value,
                totals[3] + half(d[i]) * value,
            )
        for one in range(4):
            out[places[one]] = totals[one]


def _score_many(block: Block, rows: Indices, queries: Floats, out: Floats) -> None:
    """Scores ``[Q, n]`` of some rows; torch shares each product among its threads."""
    kind = torch.bfloat16 if BFLOAT16 else torch.float32
    raised = np.empty((RAISED, queries.shape[1]), dtype=np.float32)
    asked, scores = torch.from_numpy(queries).to(kind), torch.from_numpy(out)
    for top in range(0, len(rows), RAISED):
        some = rows[top : top + RAISED]
        _raise(block, some, raised)
        scores[:, top : top + len(some)] = asked @ torch.from_numpy(raised[: len(some)]).to(kind).T


@compiled
def _raise(block: Block, rows: Indices, out: Floats) -> None:
    for place in range(len(rows)):
        row = block[rows[place]]
        for d in range(len(row)):
            out[place, d] = half(row[d])


@compiled_sums
def _exact_all(block: Block, rows: Indices, query: Floats) -> Floats:
    out = np.empty(len(rows), dtype=np.float32)
    for place in range(len(rows)):
        row = block[rows[place]]
        total = 0.0
        for d in range(len(query)):
            total += np.float64(half(row[d])) * np.float64(query[d])
        out[place] = np.float32(total)
    return out
