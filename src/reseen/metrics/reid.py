"""Person re-identification: mean average precision and CMC by the protocol of Market-1501.

Source: Zheng et al., "Scalable Person Re-identification: A Benchmark", ICCV 2015; step-wise average precision
as in scikit-learn and every recent paper of the field. Nothing is sorted over the gallery: the rank of a
correct image is 1 + the number of images above it, so counting negatives above each positive is enough.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reseen.clustering.compiled import compiled, compiled_sums
from reseen.errors import ReseenError
from reseen.metrics.arrays import Floats, to_features, to_floats, to_labels
from reseen.records import JUNK, UNKNOWN_CAMERA, Labels

BLOCK = 2**22  # entries of the query x gallery matrix that exist at a time: 16 MiB of float32
CHUNK = 256  # gallery images that are counted together
UNIT_ROUNDOFF = 2.0**-24  # of float32


@dataclass(frozen=True)
class ReidScores:
    """``cmc[k]``: share of queries with a correct image among the first k. ``average_precision`` ``[Q]`` is
    nan for queries without a valid match. The means leave those out and are nan when nothing is left."""

    mean_ap: float
    cmc: dict[int, float]
    average_precision: NDArray[np.float64]

    @property
    def rank1(self) -> float:
        return self.cmc[1]

    @property
    def valid_queries(self) -> int:
        return int(np.isfinite(self.average_precision).sum())


def reid_scores(
    query_features: Any,
    gallery_features: Any,
    query_identities: Any,
    gallery_identities: Any,
    query_cameras: Any,
    gallery_cameras: Any,
    *,
    ranks: Iterable[int] = (1, 5, 10),
) -> ReidScores:
    """Rank the gallery for every query and score the ranking (Market-1501 protocol).

    Features ``[Q, D]`` and ``[G, D]`` have L2-normalised rows, so that the inner product orders as cosine and
    Euclidean distance do; identities and cameras are integer vectors. Arrays and tensors are both fine.

    For each query, gallery images of the same identity *and* the same camera are ignored, and so is junk
    (identity -1); an unknown camera (-1) is never "the same". Distractors (identity 0) stay: no query has
    identity 0, so they are wrong for everyone. Equal similarities keep the order of the gallery.

    Queries are streamed: at most :data:`BLOCK` similarities (or one row) exist at a time. A similarity is the
    inner product in double precision, rounded to float32. The matrix product only finds out where the order
    is beyond doubt; closer calls are computed one by one, so block size, threads and BLAS change no score.

    Raises ReseenError on lengths or dimensions that do not match and on features that are not finite.
    """
    queries = to_features(query_features, "query features")
    gallery = to_features(gallery_features, "gallery features")
    if queries.shape[1] != gallery.shape[1]:
        raise ReseenError(
            f"query features have {queries.shape[1]} dimensions and gallery features {gallery.shape[1]}: "
            "embed both with the same model"
        )
    dtype = np.result_type(queries, gallery)
    queries, gallery = queries.astype(dtype, copy=False), gallery.astype(dtype, copy=False)
    protocol = _Protocol.of(
        query_identities, gallery_identities, query_cameras, gallery_cameras, len(queries), len(gallery)
    )
    # Rounding of the product in float32: D roundings that add up at random stay far below 2 sqrt(D) units.
    longest = float(np.linalg.norm(gallery, axis=1).max(initial=0.0))
    lengths = np.linalg.norm(queries, axis=1)
    margins = ((8 + 2 * np.sqrt(gallery.shape[1])) * UNIT_ROUNDOFF * longest * lengths).astype(np.float32)
    return protocol.score(_similarity_blocks(queries, gallery), queries, gallery, margins, ranks)


def reid_scores_from_distances(
    distances: Any,
    query_identities: Any,
    gallery_identities: Any,
    query_cameras: Any,
    gallery_cameras: Any,
    *,
    ranks: Iterable[int] = (1, 5, 10),
) -> ReidScores:
    """:func:`reid_scores` for a ready matrix of distances ``[Q, G]``, smaller = more similar: after
    re-ranking, say. They are compared as they are, equal ones keep the gallery's order; NaN is refused."""
    matrix = to_floats(distances, "distances")
    num_queries, num_gallery = matrix.shape
    protocol = _Protocol.of(
        query_identities, gallery_identities, query_cameras, gallery_cameras, num_queries, num_gallery
    )
    unused = np.empty((num_queries, 0), dtype=np.float32)
    exact = np.full(num_queries, -1, dtype=np.float32)  # the mark of "nothing to compute again"
    return protocol.score(_negated_blocks(matrix), unused, unused, exact, ranks)


@dataclass(frozen=True)
class _Protocol:
    """Who is correct, ignored or wrong. ``members[start:stop]``: the gallery rows of a query's identity."""

    members: Labels  # [G] gallery rows by identity, then by row
    start: Labels  # [Q]
    stop: Labels  # [Q]
    junk: Labels  # gallery rows
    query_cameras: Labels
    gallery_cameras: Labels

    @classmethod
    def of(
        cls,
        query_identities: Any,
        gallery_identities: Any,
        query_cameras: Any,
        gallery_cameras: Any,
        num_queries: int,
        num_gallery: int,
    ) -> _Protocol:
        queries = to_labels(query_identities, "query identities", num_queries)
        gallery = to_labels(gallery_identities, "gallery identities", num_gallery)
        members = np.argsort(gallery, kind="stable").astype(np.int64)
        start = np.searchsorted(gallery[members], queries, side="left").astype(np.int64)
        stop = np.searchsorted(gallery[members], queries, side="right").astype(np.int64)
        stop[queries == JUNK] = start[queries == JUNK]  # nobody can be found for a junk query
        return cls(
            members=members,
            start=start,
            stop=stop,
            junk=np.flatnonzero(gallery == JUNK).astype(np.int64),
            query_cameras=to_labels(query_cameras, "query cameras", num_queries),
            gallery_cameras=to_labels(gallery_cameras, "gallery cameras", num_gallery),
        )

    def score(
        self,
        blocks: Iterator[Floats],
        queries: Floats,
        gallery: Floats,
        margins: Floats,
        ranks: Iterable[int],
    ) -> ReidScores:
        num_queries = len(self.start)
        average_precision = np.full(num_queries, np.nan)
        first = np.zeros(num_queries, dtype=np.int64)
        done = 0
        for block in blocks:
            rows = slice(done, done + len(block))
            _score_block(
                block, queries[rows], gallery, margins[rows],
                self.start[rows], self.stop[rows], self.members, self.junk,
                self.query_cameras[rows], self.gallery_cameras,
                average_precision[rows], first[rows],
            )  # fmt: skip
            done += len(block)
        valid = np.isfinite(average_precision)
        if not valid.any():
            return ReidScores(float("nan"), {int(rank): float("nan") for rank in ranks}, average_precision)
        cmc = {int(rank): float((first[valid] <= rank).mean()) for rank in ranks}
        return ReidScores(float(average_precision[valid].mean()), cmc, average_precision)


def _similarity_blocks(queries: Floats, gallery: Floats) -> Iterator[Floats]:
    """Inner products in float32, one block of queries after the other, in a buffer that is used again."""
    columns = gallery.astype(np.float32, copy=False).T
    size = max(1, BLOCK // max(1, len(gallery)))
    buffer = np.empty((min(size, len(queries)), len(gallery)), dtype=np.float32)
    for start in range(0, len(queries), size):
        rows = queries[start : start + size].astype(np.float32, copy=False)
        yield np.matmul(rows, columns, out=buffer[: len(rows)])


def _negated_blocks(distances: Floats) -> Iterator[Floats]:
    size = max(1, BLOCK // max(1, distances.shape[1]))
    for start in range(0, len(distances), size):
        block = distances[start : start + size]
        if np.isnan(block).any():
            raise ReseenError("distances hold NaN: the model that made them has diverged")
        yield -block


@compiled_sums
def _inner(first: Floats, second: Floats) -> np.float32:
    total = 0.0
    for d in range(first.shape[0]):
        total += np.float64(first[d]) * np.float64(second[d])
    return np.float32(total)


@compiled
def exact_similarities(query: Floats, gallery: Floats) -> NDArray[np.float32]:
    """Similarity of a query ``[D]`` to every row of the gallery ``[G, D]``, as :func:`reid_scores` has it."""
    similarities = np.empty(gallery.shape[0], dtype=np.float32)
    for g in range(gallery.shape[0]):
        similarities[g] = _inner(query, gallery[g])
    return similarities


@compiled
def _negatives_above(
    row: Floats,
    known: NDArray[np.bool_],
    value: float,
    index: int,
    margin: float,
    query: Floats,
    gallery: Floats,
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
                    row[i] = _inner(query, gallery[i])
                    known[i] = True
                above += row[i] > value or (row[i] == value and i < index)
    return above


@compiled
def _score_block(
    block: Floats,  # [B, G] similarities; overwritten
    queries: Floats,  # [B, D]
    gallery: Floats,  # [G, D]
    margins: Floats,  # [B] how far an entry may be off; negative: the block is exact
    starts: Labels,
    stops: Labels,
    members: Labels,
    junk: Labels,
    query_cameras: Labels,
    gallery_cameras: Labels,
    average_precision: NDArray[np.float64],  # [B] out; stays nan without a valid match
    first: Labels,  # [B] out: rank of the best correct image
) -> None:
    known = np.zeros(block.shape[1], dtype=np.bool_)
    for b in range(block.shape[0]):
        row, margin, count = block[b], margins[b], 0
        positives = np.empty(stops[b] - starts[b], dtype=np.int64)
        values = np.empty(stops[b] - starts[b], dtype=block.dtype)
        for g in members[starts[b] : stops[b]]:
            camera = gallery_cameras[g]
            if camera != query_cameras[b] or camera == UNKNOWN_CAMERA:
                positives[count] = g
                values[count] = _inner(queries[b], gallery[g]) if margin >= 0 else row[g]
                count += 1
            row[g] = np.nan
        if count == 0:
            continue
        for g in junk:
            row[g] = np.nan
        known[:] = False
        order = np.argsort(-values[:count], kind="mergesort")  # stable: members are in gallery order
        total = 0.0
        for place in range(count):
            j = order[place]
            above = _negatives_above(row, known, values[j], positives[j], margin, queries[b], gallery)
            if place == 0:
                first[b] = above + 1
            total += (place + 1) / (place + 1 + above)
        average_precision[b] = total / count
