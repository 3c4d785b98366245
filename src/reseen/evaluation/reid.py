"""A benchmark's query and gallery: scores of features, and the ranked lists that people look at."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reseen.errors import ReseenError
from reseen.evaluation.protocol import answers_of
from reseen.evaluation.rerank import rerank
from reseen.metrics import ReidScores
from reseen.metrics.arrays import to_features, to_labels, to_numpy
from reseen.metrics.counting import exact_similarities
from reseen.metrics.reid import UNIT_ROUNDOFF, reid_scores_by_answers, reid_scores_from_blocks_by_answers
from reseen.records import JUNK, UNKNOWN_CAMERA, LabelledCrops, Labels


@dataclass(frozen=True)
class RankedLists:
    """Nearest gallery images of some queries, best first.

    ``rows`` ``[q, top]`` are gallery rows, -1 where a list is shorter; ``similarities`` ``[q, top]`` are nan
    there. ``correct`` ``[q, top]`` marks the identity of the query, and nothing where nobody knows it.
    """

    queries: Labels
    rows: Labels
    correct: NDArray[np.bool_]
    similarities: NDArray[np.float32]


def evaluate_features(
    query_features: Any,
    gallery_features: Any,
    query: LabelledCrops,
    gallery: LabelledCrops,
    *,
    ranks: Iterable[int] = (1, 5, 10),
    same_pictures: Any = (),
) -> ReidScores:
    """mAP and CMC of L2-normalised features ``[Q, D]`` and ``[G, D]``, in the order of the crops.

    The Market-1501 protocol, see :func:`reseen.metrics.reid_scores`; ReseenError on wrong lengths.

    Args:
        same_pictures: rows (query, gallery image) ``[n, 2]`` that never count (:func:`reseen.evaluation.open_test`).
    """
    answers = answers_of(query, gallery, same_pictures)
    return reid_scores_by_answers(query_features, gallery_features, answers, ranks=ranks)


def evaluate_reranked(
    query_features: Any,
    gallery_features: Any,
    query: LabelledCrops,
    gallery: LabelledCrops,
    *,
    ranks: Iterable[int] = (1, 5, 10),
    device: Any = None,
    same_pictures: Any = (),
) -> ReidScores:
    """:func:`evaluate_features` after re-ranking (:func:`reseen.evaluation.rerank`, with its defaults).

    Junk is left out before, so that it is nobody's neighbour: the figures people compare with come from readers
    that skip it. A query's own picture is one image with the query there, and no answer to it. ``device``: where
    neighbours are searched.

    Raises ReseenError on wrong lengths and on features that are not L2-normalised.
    """
    if len(gallery) != len(gallery_features):
        raise ReseenError(f"gallery: {len(gallery)} images but {len(gallery_features)} features")
    kept = np.flatnonzero(gallery.identities != JUNK)
    found = gallery_features if len(kept) == len(gallery) else gallery_features[kept]
    pairs = to_numpy(same_pictures).astype(np.int64).reshape(-1, 2)
    pairs = pairs[np.isin(pairs[:, 1], kept)]
    pairs = np.stack([pairs[:, 0], np.searchsorted(kept, pairs[:, 1])], axis=1)
    answers = answers_of(query, gallery.take(kept), pairs)
    distances = rerank(query_features, found, same_pictures=pairs, device=device)
    return reid_scores_from_blocks_by_answers(distances, answers, ranks=ranks)


def ranked_lists(
    query_features: Any,
    gallery_features: Any,
    query: LabelledCrops | None = None,
    gallery: LabelledCrops | None = None,
    *,
    top: int = 10,
    queries: Any = None,
    same_pictures: Any = (),
) -> RankedLists:
    """The ``top`` nearest gallery images of the ``queries`` (rows of the query set; None = all of them).

    With ``query`` and ``gallery``, images that the protocol ignores are left out: junk, and the query's
    identity seen by the query's camera. Without them nothing is known and nothing is called correct. The query's own
    pictures (``same_pictures``, rows ``[n, 2]``) are left out either way. Order and ties are those of
    :func:`reseen.metrics.reid_scores`.

    Raises ReseenError when only one side is labelled, and on lengths or rows that do not fit.
    """
    if (query is None) != (gallery is None):
        raise ReseenError("ranked lists need labels of both query and gallery, or of neither")
    asked = to_features(query_features, "query features")
    found = to_features(gallery_features, "gallery features")
    for side, labelled, features in (("query", query, asked), ("gallery", gallery, found)):
        if labelled is not None and len(labelled) != len(features):
            raise ReseenError(f"{side}: {len(labelled)} images but {len(features)} features")
    if asked.shape[1] != found.shape[1]:
        raise ReseenError(f"queries have {asked.shape[1]} dimensions and the gallery {found.shape[1]}")
    chosen = np.arange(len(asked)) if queries is None else to_labels(queries, "rows of queries")
    if ((chosen < 0) | (chosen >= len(asked))).any():
        raise ReseenError(f"rows of queries must be in 0..{len(asked) - 1}")

    own = to_numpy(same_pictures).astype(np.int64).reshape(-1, 2)
    rows = np.full((len(chosen), top), -1, dtype=np.int64)
    similarities = np.full((len(chosen), top), np.nan, dtype=np.float32)
    correct = np.zeros((len(chosen), top), dtype=bool)
    longest = float(np.sqrt(np.einsum("gd,gd->g", found, found)).max(initial=0.0))
    for i, q in enumerate(chosen):
        same, counts = _same_and_counting(int(q), query, gallery, len(found))
        counts[own[own[:, 0] == q, 1]] = False
        candidates = _nearest(asked[q], found, np.flatnonzero(counts), top, longest)
        exact = exact_similarities(asked[q], found[candidates])
        order = np.argsort(-exact, kind="stable")[:top]
        rows[i, : len(order)] = best = candidates[order]
        similarities[i, : len(order)] = exact[order]
        correct[i, : len(order)] = same[best]
    return RankedLists(chosen, rows, correct, similarities)


def _nearest(query: Any, gallery: Any, candidates: Labels, top: int, longest: float) -> Labels:
    """Those of the ``candidates`` that may be among the ``top`` nearest, ascending: a product in float32 settles what
    is beyond its rounding, D roundings that add up at random and so stay far below 2 sqrt(D) units."""
    if len(candidates) <= top:
        return candidates
    product = (gallery @ query).astype(np.float32)[candidates]
    slack = (8 + 2 * np.sqrt(len(query))) * UNIT_ROUNDOFF * longest * float(np.linalg.norm(query))
    kept: Labels = candidates[product >= np.partition(product, -top)[-top] - 2 * slack]
    return kept


def _same_and_counting(
    q: int, query: LabelledCrops | None, gallery: LabelledCrops | None, count: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which of ``count`` gallery images show query ``q``'s identity, and which ones the protocol looks at."""
    if query is None or gallery is None:
        return np.zeros(count, dtype=bool), np.ones(count, dtype=bool)
    same = gallery.identities == query.identities[q]
    camera = query.crops[q].camera
    same_camera = (gallery.cameras == camera) & (camera != UNKNOWN_CAMERA)
    return same, (gallery.identities != JUNK) & ~(same & same_camera)
