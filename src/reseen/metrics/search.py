"""Person search and person detection, by the protocol that CUHK-SYSU and PRW share.

A query is found when the most similar detections of the gallery scenes include the right box; every detection
counts, also those in scenes without the person. The definitions are worked out in docs/metrics.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reseen.errors import ReseenError
from reseen.metrics.arrays import Floats, to_features, to_floats
from reseen.records import Labels, SceneDetections, SearchQuery

BLOCK = 2**22  # entries of the query x detection matrix that exist at a time


@dataclass(frozen=True)
class SearchScores:
    """``top[k]``: share of queries with the right person among the k most similar detections.
    ``average_precision`` ``[Q]`` already carries the recall of the detector."""

    mean_ap: float
    top: dict[int, float]
    average_precision: NDArray[np.float64]

    @property
    def top1(self) -> float:
        return self.top[1]


@dataclass(frozen=True)
class DetectionScores:
    """``average_precision`` is the step-wise average precision times ``recall``."""

    recall: float
    average_precision: float


@dataclass(frozen=True)
class _Pool:
    """Detections of all scenes in one table. Rows ``offsets[i]:offsets[i + 1]`` belong to scene number i."""

    numbers: dict[str, int]
    offsets: Labels  # [S + 1]
    boxes: Floats  # [T, 4]
    features: NDArray[np.float64]  # [T, D]


def person_search_scores(
    queries: Sequence[SearchQuery],
    detections: Mapping[str, SceneDetections],
    *,
    min_score: float = 0.5,
    ranks: Iterable[int] = (1, 5, 10),
) -> SearchScores:
    """Search every query among the detections of its own gallery scenes and score the ranking.

    The keys of ``query.targets`` are that gallery; the value is the true box (xyxy, pixels) or None.
    Detections under ``min_score`` are dropped. In a scene with a true box of w x h, the most similar
    detection with IoU >= min(0.5, w h / ((w + 10) (h + 10))) to it is correct and every other one is wrong.
    AP is step-wise (equal similarities form one step) times the share of true boxes that were found at all,
    0 when none was. Scenes without a detection, or missing from ``detections``, count as not found.
    For top-k, equal similarities keep the order of the gallery and of the detections in a scene.

    A similarity is the inner product in double precision, rounded to float32. Scores are nan without queries.
    Raises ReseenError on shapes that do not match.
    """
    ranks = [int(rank) for rank in ranks]
    pool = _pool(detections, min_score)
    average_precision = np.zeros(len(queries))
    first = np.full(len(queries), np.inf)
    size = max(1, BLOCK // max(1, len(pool.features)))
    for start in range(0, len(queries), size):
        block = queries[start : start + size]
        features = to_features(
            np.stack([to_floats(q.feature, "a query's feature", ndim=1) for q in block]), "q"
        )
        if len(pool.features) and features.shape[1] != pool.features.shape[1]:
            raise ReseenError(
                f"queries have {features.shape[1]} dimensions and detections {pool.features.shape[1]}: "
                "embed both with the same model"
            )
        if len(pool.features):
            similarities = (features.astype(np.float64) @ pool.features.T).astype(np.float32)
        else:
            similarities = np.empty((len(block), 0), dtype=np.float32)
        for i, query in enumerate(block):
            average_precision[start + i], first[start + i] = _search_one(query, similarities[i], pool)
    if not len(queries):
        return SearchScores(float("nan"), dict.fromkeys(ranks, float("nan")), average_precision)
    top = {rank: float((first <= rank).mean()) for rank in ranks}
    return SearchScores(float(average_precision.mean()), top, average_precision)


def detection_scores(
    detections: Mapping[str, SceneDetections],
    ground_truth: Mapping[str, Any],
    *,
    min_score: float = 0.5,
    min_iou: float = 0.5,
) -> DetectionScores:
    """Recall and average precision of person boxes over the scenes of ``ground_truth``.

    ``ground_truth`` is ``{image: boxes [n, 4]}``. A detection and a true box match if each is the other's
    best overlap (the first of equals) and their IoU is at least ``min_iou``. Scenes of ``detections`` that
    nobody annotated are ignored. Both scores are nan without a true box. Raises ReseenError on wrong shapes.
    """
    hits, scores, total = [], [], 0
    for image, boxes in ground_truth.items():
        truth = _boxes(boxes, f"true boxes of {image}")
        total += len(truth)
        if image not in detections:
            continue
        found = detections[image]
        confidence = to_floats(found.scores, f"scores of {image}", ndim=1)
        kept = confidence >= min_score
        overlap = box_iou(truth, _boxes(found.boxes, f"boxes of {image}")[kept])  # [n, R]
        hit = np.zeros(overlap.shape[1], dtype=bool)
        if overlap.size:
            best = overlap.argmax(axis=0)  # [R] true box of each detection
            columns = np.arange(overlap.shape[1])
            hit = (overlap.argmax(axis=1)[best] == columns) & (overlap[best, columns] >= min_iou)
        hits.append(hit)
        scores.append(confidence[kept].astype(np.float64))
    if total == 0:
        return DetectionScores(float("nan"), float("nan"))
    hit, score = np.concatenate([np.zeros(0, bool), *hits]), np.concatenate([np.zeros(0), *scores])
    recall = float(hit.sum() / total)
    return DetectionScores(recall, _stepwise_ap(hit, score) * recall)


def box_iou(first: Floats, second: Floats) -> NDArray[np.float64]:
    """Intersection over union ``[n, m]`` of xyxy boxes ``[n, 4]`` and ``[m, 4]``, no "+1"; 0 if empty."""
    a, b = first[:, None].astype(np.float64), second[None].astype(np.float64)
    sides = np.clip(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), 0, None)
    shared = sides.prod(axis=-1)
    union = (a[..., 2:] - a[..., :2]).prod(axis=-1) + (b[..., 2:] - b[..., :2]).prod(axis=-1) - shared
    shares: NDArray[np.float64] = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return shares


def _boxes(values: Any, what: str) -> Floats:
    boxes = to_floats(values, what) if len(values) else np.zeros((0, 4))
    if boxes.shape[1] != 4:
        raise ReseenError(f"{what} must have the shape [n, 4], not {boxes.shape}")
    return boxes


def _pool(detections: Mapping[str, SceneDetections], min_score: float) -> _Pool:
    boxes, features, counts = [np.zeros((0, 4))], [], [0]
    for image, found in detections.items():
        kept = to_floats(found.scores, f"scores of {image}", ndim=1) >= min_score
        counts.append(int(kept.sum()))
        if counts[-1]:
            boxes.append(_boxes(found.boxes, f"boxes of {image}")[kept])
            features.append(to_features(found.features, f"features of {image}")[kept].astype(np.float64))
    if len({rows.shape[1] for rows in features}) > 1:
        raise ReseenError("features of the scenes differ in dimension: embed them with one model")
    return _Pool(
        numbers={image: number for number, image in enumerate(detections)},
        offsets=np.cumsum(counts, dtype=np.int64),
        boxes=np.concatenate(boxes),
        features=np.concatenate(features) if features else np.zeros((0, 0)),
    )


def _search_one(query: SearchQuery, similarities: NDArray[np.float32], pool: _Pool) -> tuple[float, float]:
    """Average precision and rank of the first correct detection (inf: none) of one query."""
    scenes: list[int] = []
    wanted: list[tuple[str, Any, int]] = []  # scene, true box, place among `scenes` or -1
    for image, target in query.targets.items():
        number = pool.numbers.get(image)
        if number is not None:
            scenes.append(number)
        if target is not None:
            wanted.append((image, target, len(scenes) - 1 if number is not None else -1))
    numbers = np.array(scenes, dtype=np.int64)
    counts = pool.offsets[numbers + 1] - pool.offsets[numbers]
    places = np.cumsum(counts) - counts  # where each scene's detections start in this query's gallery
    rows = np.arange(counts.sum()) + np.repeat(pool.offsets[numbers] - places, counts)
    ranked = similarities[rows]
    hit = np.zeros(len(rows), dtype=bool)
    for image, target, scene in wanted:
        place, count = (int(places[scene]), int(counts[scene])) if scene >= 0 else (0, 0)
        box = to_floats(target, f"target in {image}", ndim=1)[None]
        if box.shape != (1, 4):
            raise ReseenError(
                f"the target in {image} must be one box x1, y1, x2, y2, not {box.shape[1]} numbers"
            )
        width, height = float(box[0, 2] - box[0, 0]), float(box[0, 3] - box[0, 1])
        enough = min(0.5, width * height / ((width + 10) * (height + 10)))  # lenient with small boxes
        overlap = box_iou(pool.boxes[rows[place : place + count]], box)[:, 0]
        by_similarity = np.argsort(-ranked[place : place + count], kind="stable")
        right = by_similarity[overlap[by_similarity] >= enough]
        hit[place + right[:1]] = True
    if not hit.any():
        return 0.0, float("inf")
    recall = hit.sum() / len(wanted)
    best = np.flatnonzero(hit)[ranked[hit].argmax()]
    first = 1 + (ranked > ranked[best]).sum() + (ranked[:best] == ranked[best]).sum()
    return float(_stepwise_ap(hit, ranked) * recall), float(first)


def _stepwise_ap(hit: NDArray[np.bool_], scores: NDArray[Any]) -> float:
    """Sum of (R_n - R_(n-1)) P_n, equal scores at one threshold: the mean precision at each hit's score."""
    if not hit.any():
        return 0.0
    thresholds, found = np.sort(scores), np.sort(scores[hit])
    retrieved = len(scores) - np.searchsorted(thresholds, found, side="left")
    correct = len(found) - np.searchsorted(found, found, side="left")
    return float((correct / retrieved).mean())
