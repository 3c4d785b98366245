"""From queries to hits: the nearest rows, one for each track, re-ranked where that is asked for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from reseen.gallery.rows import NONE, Held, Hit

SHORTLIST = 200  # rows that re-ranking compares, or ten for each hit that is asked for
Indices = NDArray[np.int64]
Floats = NDArray[np.float32]


def hits_of(
    held: Held, queries: Floats, k: int, chosen: Indices | None, *, reranked: bool = False
) -> list[list[Hit]]:
    """The first k hits of each query ``[Q, D]`` (unit rows) among all rows of ``held``, or those at ``chosen``."""
    wanted = max(SHORTLIST, 10 * k) if reranked else k
    count = len(held) if chosen is None else len(chosen)
    tracked = bool((held.column("track") != NONE).any())
    take = min(count, 4 * wanted if tracked else wanted)
    ranked: list[tuple[Indices, Floats, list[tuple[int, ...]]]] = []
    for query, found in zip(queries, held.nearest(queries, take, chosen), strict=True):
        (places, similarities), most = found, take
        walks = walks_of(held, places) if tracked else [[place] for place in range(len(places))]
        while len(walks) < wanted and most < count:
            most = min(count, 4 * most)
            places, similarities = held.nearest(query[None], most, chosen)[0]
            walks = walks_of(held, places)
        if reranked and len(walks) > 1:
            walks = _reranked(held, query, places, walks[:wanted])
        walks = walks[:k]
        first = np.array([walk[0] for walk in walks], dtype=np.int64)
        numbers = held.column("row")[places] if tracked else places
        behind = [tuple(int(numbers[place]) for place in walk[1:]) for walk in walks]
        ranked.append((places[first], similarities[first], behind))
    return _hits(held, ranked)


def _hits(held: Held, ranked: list[tuple[Indices, Floats, list[tuple[int, ...]]]]) -> list[list[Hit]]:
    """Details of all rows that were found, read together."""
    if not ranked:
        return []
    hits = iter(held.hits(*(np.concatenate([one[part] for one in ranked]) for part in (0, 1))))
    return [
        [replace(next(hits), track_rows=rows) if rows else next(hits) for rows in one[2]] for one in ranked
    ]


def walks_of(held: Held, places: Indices) -> list[list[int]]:
    """Indices into ``places`` by track, in the order of the first of each; who is on no track walks alone."""
    assert held.table is not None
    rows = held.table.select(["source", "track"]).take(pa.array(places))
    walks: dict[object, list[int]] = {}
    for index, row in enumerate(zip(rows["source"].to_pylist(), rows["track"].to_pylist(), strict=True)):
        walks.setdefault(index if row[1] == NONE else row, []).append(index)
    return list(walks.values())


def _reranked(held: Held, query: Floats, places: Indices, walks: list[list[int]]) -> list[list[int]]:
    from reseen.evaluation.rerank import rerank  # with the model zoo, which takes seconds

    shortlist = held.vectors(places[[walk[0] for walk in walks]])
    (distances,) = rerank(query[None], shortlist)
    return [walks[index] for index in np.argsort(distances[0], kind="stable")]
