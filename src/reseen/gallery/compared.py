"""The most similar rows among those that a Qdrant server keeps, as exactly as :mod:`reseen.gallery.scoring` finds them.

The server compares every row, in half precision and float32, and says which come first. How far its similarities may be
off is bounded; rows that may belong to the first k by that bound are read and compared here, and more are asked for
until none that was not read can be among them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reseen.gallery import scoring
from reseen.gallery.link import answering

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]
LISTED = 4096  # rows of a filter that are named to the server; beyond, who does not pass is left out here
VECTORS = 256  # that are read in one request
MORE = 16  # rows beyond the first k that are asked for at once


def off_by(dim: int) -> float:
    """How far a similarity of the server may be from the exact one, for rows and queries of length 1: the query is
    rounded to half precision (11 bits; the least ones are 2^-24 apart), and D products are summed in float32."""
    return 1.01 * (2.0**-11 + math.sqrt(dim) * 2.0**-25 + dim * 2.0**-24)


class Compared:
    """Vectors of a collection: see :class:`reseen.gallery.rows.Away`."""

    def __init__(self, place: str, client: Any, collection: str, dim: int) -> None:
        self._place, self._client, self._collection, self._dim = place, client, collection, dim

    def vectors(self, rows: Indices) -> Floats:
        """``[n, D]`` of rows by number; zeros of those that are no more."""
        vectors, (present, found) = np.zeros((len(rows), self._dim), np.float32), self._read(rows)
        order = np.argsort(rows)
        vectors[order[np.searchsorted(rows, present, sorter=order)]] = found
        return vectors

    def similarities(self, rows: Indices, query: Floats) -> Floats:
        """Of the query ``[D]`` to each row ``[n]``. Every vector is read."""
        parts = [rows[start : start + VECTORS] for start in range(0, len(rows), VECTORS)]
        return np.concatenate(
            [np.zeros(0, np.float32), *(_exact(self.vectors(some), query) for some in parts)]
        )

    def nearest(self, rows: Indices, query: Floats, k: int, chosen: Indices | None) -> tuple[Indices, Floats]:
        """Places among ``rows`` (rising numbers) of the k most similar to the query ``[D]``, best first, and their
        similarities. ``chosen``: places of the rows that may be found; None: all."""
        wanted = rows if chosen is None else rows[chosen]
        k, off = min(k, len(wanted)), off_by(len(query))
        if k < 1:
            return np.zeros(0, np.int64), np.zeros(0, np.float32)
        asked = k + MORE
        while True:
            numbers, rough = self._asked(query, asked, wanted if len(wanted) <= LISTED else None)
            least = float(rough[-1]) if len(numbers) == asked else -np.inf  # no other row is thought nearer
            inside = np.isin(numbers, wanted)
            numbers, rough = numbers[inside], rough[inside]
            if len(numbers) >= k:
                maybe = rough >= np.partition(rough, len(rough) - k)[len(rough) - k] - 2 * off
                numbers = numbers[maybe]
            numbers, vectors = self._read(numbers)
            exact = _exact(vectors, query)
            best = np.lexsort((numbers, -exact))[:k]
            if least == -np.inf or (len(best) == k and exact[best[-1]] > least + off):
                return np.searchsorted(rows, numbers[best]), exact[best]
            asked *= 4

    def _asked(self, query: Floats, count: int, listed: Indices | None) -> tuple[Indices, Floats]:
        """Numbers and rough similarities of the ``count`` nearest rows, best first: of all, or of those listed."""
        from qdrant_client import models

        only = None if listed is None else models.Filter(must=[models.HasIdCondition(has_id=listed.tolist())])
        with answering(self._place):
            points = self._client.query_points(
                self._collection,
                query.tolist(),
                query_filter=only,
                search_params=models.SearchParams(exact=True),
                limit=count,
                with_payload=False,
                consistency="majority",
            ).points
        numbers = np.array([point.id for point in points], dtype=np.int64)
        return numbers, np.array([point.score for point in points], dtype=np.float32)

    def _read(self, rows: Indices) -> tuple[Indices, Floats]:
        """Those of the rows that are still there, rising, and their vectors."""
        found: dict[int, Any] = {}
        for start in range(0, len(rows), VECTORS):
            some = rows[start : start + VECTORS].tolist()
            with answering(self._place):
                points = self._client.retrieve(
                    self._collection, some, with_payload=False, with_vectors=True, consistency="majority"
                )
            found |= {point.id: point.vector for point in points}
        present = sorted(found)
        vectors = np.array([found[row] for row in present], dtype=np.float32).reshape(-1, self._dim)
        return np.array(present, dtype=np.int64), vectors


def _exact(vectors: Floats, query: Floats) -> Floats:
    """As a gallery in memory sums them."""
    return scoring.similarities([vectors.astype(np.float16).view(np.uint16)], query)
