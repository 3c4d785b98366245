"""Person re-identification: mean average precision and CMC by the protocol of Market-1501.

Source: Zheng et al., "Scalable Person Re-identification: A Benchmark", ICCV 2015; step-wise average precision
as in scikit-learn and every recent paper of the field. Nothing is sorted over the gallery: the rank of a
correct image is 1 + the number of images above it, so counting negatives above each positive is enough.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from reseen.compiled import over_rows
from reseen.errors import ReseenError
from reseen.metrics.answers import Answers, Same
from reseen.metrics.arrays import Floats, to_features, to_floats
from reseen.metrics.counting import Ranked, count_above, exact_values, ranked

BLOCK = 2**22  # entries of the query x gallery matrix that exist at a time: 16 MiB of float32
COLUMNS = 1024  # gallery images of one matrix product: more are not faster
UNIT_ROUNDOFF = 2.0**-24  # of float32
EXACT = ("none", "ieee")  # what torch calls it when nobody has allowed float32 products in fewer bits


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

    The matrix is streamed: at most :data:`BLOCK` similarities exist at a time, and junk is left out of the
    product. A similarity is the inner product in double precision, rounded to float32. The matrix product only
    finds out where the order is beyond doubt; closer calls are computed one by one, so block size, threads and
    BLAS change no score.

    Raises ReseenError on lengths or dimensions that do not match and on features that are not finite.
    """
    queries, gallery = _comparable(query_features, gallery_features)
    answers = Answers.of(
        query_identities, gallery_identities, query_cameras, gallery_cameras, len(queries), len(gallery)
    )
    return _summary(_rank_by_features(queries, gallery, answers), ranks)


def reid_scores_by_answers(
    query_features: Any, gallery_features: Any, answers: Answers, *, ranks: Iterable[int] = (1, 5, 10)
) -> ReidScores:
    """:func:`reid_scores` where it is already settled what answers each query.

    Raises ReseenError as there, and where there are other numbers of features.
    """
    queries, gallery = _comparable(query_features, gallery_features)
    for side, images, features in (
        ("query", len(answers), queries),
        ("gallery", answers.gallery_size, gallery),
    ):
        if len(features) != images:
            raise ReseenError(
                f"{side} identities must be one per image: {images}, and {len(features)} features"
            )
    return _summary(_rank_by_features(queries, gallery, answers), ranks)


def reid_scores_from_distances(
    distances: Any,
    query_identities: Any,
    gallery_identities: Any,
    query_cameras: Any,
    gallery_cameras: Any,
    *,
    ranks: Iterable[int] = (1, 5, 10),
) -> ReidScores:
    """:func:`reid_scores` for a ready matrix of distances ``[Q, G]``, smaller = more similar. They are
    compared as they are, equal ones keep the gallery's order; NaN is refused."""
    labels = (query_identities, gallery_identities, query_cameras, gallery_cameras)
    return reid_scores_from_blocks([to_floats(distances, "distances")], *labels, ranks=ranks)


def reid_scores_from_blocks(
    blocks: Iterable[Any],
    query_identities: Any,
    gallery_identities: Any,
    query_cameras: Any,
    gallery_cameras: Any,
    *,
    ranks: Iterable[int] = (1, 5, 10),
) -> ReidScores:
    """:func:`reid_scores_from_distances` for a matrix that comes in ``blocks`` ``[B, G]`` of queries, in their
    order: after re-ranking, say. A block is used up before the next one is asked for.

    Raises ReseenError on NaN and on blocks that are not one row per query and one column per gallery image.
    """
    answers = Answers.of(query_identities, gallery_identities, query_cameras, gallery_cameras)
    return reid_scores_from_blocks_by_answers(blocks, answers, ranks=ranks)


def reid_scores_from_blocks_by_answers(
    blocks: Iterable[Any], answers: Answers, *, ranks: Iterable[int] = (1, 5, 10)
) -> ReidScores:
    """:func:`reid_scores_from_blocks` where it is already settled what answers each query."""
    return _summary(_rank_by_distances(blocks, answers), ranks)


def _comparable(query_features: Any, gallery_features: Any) -> tuple[Floats, Floats]:
    queries = to_features(query_features, "query features")
    gallery = to_features(gallery_features, "gallery features")
    if queries.shape[1] != gallery.shape[1]:
        raise ReseenError(
            f"query features have {queries.shape[1]} dimensions and gallery features {gallery.shape[1]}: "
            "embed both with the same model"
        )
    dtype = np.result_type(queries, gallery)
    return queries.astype(dtype, copy=False), gallery.astype(dtype, copy=False)


def _summary(parts: Iterable[Ranked], ranks: Iterable[int]) -> ReidScores:
    nothing = (np.empty(0), np.empty(0, dtype=np.int64))
    precisions, firsts = zip(nothing, *parts, strict=True)
    average_precision, first = np.concatenate(precisions), np.concatenate(firsts)
    valid = np.isfinite(average_precision)
    if not valid.any():
        return ReidScores(float("nan"), {int(rank): float("nan") for rank in ranks}, average_precision)
    cmc = {int(rank): float((first[valid] <= rank).mean()) for rank in ranks}
    return ReidScores(float(average_precision[valid].mean()), cmc, average_precision)


def _rank_by_features(queries: Floats, gallery: Floats, answers: Answers) -> Iterator[Ranked]:
    # Rounding of the product in float32: D roundings that add up at random stay far below 2 sqrt(D) units.
    longest = float(_lengths(gallery).max(initial=0.0))
    slack = (8 + 2 * np.sqrt(gallery.shape[1])) * UNIT_ROUNDOFF * longest
    margins = (slack * _lengths(queries)).astype(np.float32)
    kept = answers.kept
    size = max(1, BLOCK // max(1, min(COLUMNS, len(kept))))
    for top in range(0, len(queries), size):
        part, same = queries[top : top + size], answers.same(top, top + size)
        values = np.empty(len(same.positions), dtype=np.float32)
        rows = kept[same.positions]
        over_rows(partial(exact_values, part, gallery, same.pointers, rows, values), len(part))
        above = np.zeros(len(values), dtype=np.int64)
        single = np.require(part, np.float32, ["C", "W"])
        for left in range(0, len(kept), COLUMNS):
            columns = kept[left : left + COLUMNS]
            marks = (same.pointers, same.positions - left, same.correct, values, above)
            exact = (margins[top : top + size], part, gallery, columns)
            tile = _products(single, gallery[columns].astype(np.float32, copy=False))
            over_rows(partial(count_above, tile, *marks, *exact), len(part))
            del tile  # before there is another
        yield ranked(same.pointers, same.positions, same.correct, values, above)


def _products(rows: Floats, columns: Floats) -> Floats:
    """Inner products ``[R, C]`` of float32 rows.

    By oneDNN where torch has it: the product behind compiled linear layers has 1.8 times the rate of OpenBLAS and 2.2
    times that of MKL on AMD's Zen 5, and torch uses it for float32 nowhere else. All of them differ in rounding only.
    """
    onednn: Any = torch.backends.mkldnn
    linear: Any = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
    if linear is None or not onednn.is_available() or onednn.matmul.fp32_precision not in EXACT:
        products: Floats = np.matmul(rows, columns.T)
    else:
        products = linear(torch.from_numpy(rows), torch.from_numpy(columns), None, "none", [], "").numpy()
    return products


def _lengths(rows: Floats) -> Floats:
    lengths: Floats = np.sqrt(np.einsum("nd,nd->n", rows, rows))
    return lengths


def _rank_by_distances(blocks: Iterable[Any], answers: Answers) -> Iterator[Ranked]:
    wanted, done = (len(answers), answers.gallery_size), 0
    size = max(1, BLOCK // max(1, wanted[1]))
    for given in blocks:
        block = to_floats(given, "distances")
        if block.shape[1] != wanted[1] or done + len(block) > wanted[0]:
            raise ReseenError(f"distances must have the shape {wanted}, one for each query and gallery image")
        for top in range(0, len(block), size):
            part = block[top : top + size]
            if np.isnan(part).any():
                raise ReseenError("distances hold NaN: the model that made them has diverged")
            yield _rank_exactly(-part[:, answers.kept], answers.same(done + top, done + top + len(part)))
        done += len(block)
    if done != wanted[0]:
        raise ReseenError(f"there are {wanted[0]} queries but distances of {done}")


def _rank_exactly(tile: Floats, same: Same) -> Ranked:
    """Ranking by similarities ``[B, P]`` that are compared as they are."""
    values = tile[np.repeat(np.arange(len(tile)), np.diff(same.pointers)), same.positions]
    above = np.zeros(len(values), dtype=np.int64)
    marks = (same.pointers, same.positions, same.correct, values, above)
    unused = np.empty((len(tile), 0), dtype=np.float32)
    exact = (np.full(len(tile), -1, dtype=np.float32), unused, unused, np.empty(0, dtype=np.int64))
    over_rows(partial(count_above, tile, *marks, *exact), len(tile))
    return ranked(same.pointers, same.positions, same.correct, values, above)
