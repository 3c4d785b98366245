"""Slow evaluators written from the protocols: loops over everything, a full sort per query."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def reid_average_precision(
    distances: Any, query_ids: Any, gallery_ids: Any, query_cams: Any, gallery_cams: Any
) -> tuple[list[float], list[int]]:
    """Per query: average precision (nan: no valid match) and rank of the first correct image (0: none)."""
    precisions, firsts = [], []
    for q in range(len(query_ids)):
        ranking = sorted(range(len(gallery_ids)), key=lambda g: (distances[q][g], g))
        kept = []
        for g in ranking:
            same_camera = gallery_cams[g] == query_cams[q] and gallery_cams[g] != -1
            if gallery_ids[g] == -1 or (gallery_ids[g] == query_ids[q] and same_camera):
                continue
            kept.append(bool(gallery_ids[g] == query_ids[q]))
        precisions.append(stepwise(kept, list(range(len(kept), 0, -1))))
        firsts.append(kept.index(True) + 1 if True in kept else 0)
    return precisions, firsts


def cmc(firsts: Sequence[int], rank: int) -> float:
    valid = [first for first in firsts if first > 0]
    return sum(first <= rank for first in valid) / len(valid) if valid else math.nan


def stepwise(hits: Sequence[bool], scores: Sequence[float]) -> float:
    """Sum over thresholds of (R_n - R_(n-1)) P_n; nan without a hit."""
    if not any(hits):
        return math.nan
    total, last_recall = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        retrieved = [hit for hit, score in zip(hits, scores, strict=True) if score >= threshold]
        recall = sum(retrieved) / sum(hits)
        total += (recall - last_recall) * sum(retrieved) / len(retrieved)
        last_recall = recall
    return total


def iou(a: Sequence[float], b: Sequence[float]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0.0) * max(height, 0.0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / union if union > 0 else 0.0


def search_one(
    feature: Any, targets: Mapping[str, Any], detections: Mapping[str, Any], min_score: float
) -> tuple[float, int]:
    """Average precision and rank of the first true positive (0: none) of one person search query."""
    hits, similarities = [], []
    wanted = found = 0
    for image, target in targets.items():
        wanted += target is not None
        if image not in detections:
            continue
        scene = detections[image]
        kept = [r for r in range(len(scene.scores)) if scene.scores[r] >= min_score]
        sims = [float(np.float32(np.float64(scene.features[r]) @ np.float64(feature))) for r in kept]
        labels = [False] * len(kept)
        if target is not None:
            w, h = target[2] - target[0], target[3] - target[1]
            enough = min(0.5, w * h / ((w + 10) * (h + 10)))
            for i in sorted(range(len(kept)), key=lambda i: (-sims[i], i)):
                if iou(scene.boxes[kept[i]], target) >= enough:
                    labels[i] = True
                    found += 1
                    break
        hits += labels
        similarities += sims
    if found == 0:
        return 0.0, 0
    ranking = sorted(range(len(hits)), key=lambda i: (-similarities[i], i))
    first = next(place for place, i in enumerate(ranking, start=1) if hits[i])
    return stepwise(hits, similarities) * found / wanted, first


def detection(
    detections: Mapping[str, Any], truth: Mapping[str, Any], min_score: float, min_iou: float
) -> tuple[float, float]:
    """Recall and average precision of boxes."""
    hits, scores = [], []
    total = 0
    for image, boxes in truth.items():
        total += len(boxes)
        if image not in detections:
            continue
        scene = detections[image]
        kept = [r for r in range(len(scene.scores)) if scene.scores[r] >= min_score]
        table = [[iou(box, scene.boxes[r]) for r in kept] for box in boxes]
        for column, r in enumerate(kept):
            hit = False
            for i, row in enumerate(table):
                best_truth = max(range(len(table)), key=lambda n: (table[n][column], -n))
                best_found = max(range(len(kept)), key=lambda n: (row[n], -n))
                hit |= row[column] >= min_iou and best_truth == i and best_found == column
            hits.append(hit)
            scores.append(float(scene.scores[r]))
    recall = sum(hits) / total
    return recall, stepwise(hits, scores) * recall if any(hits) else 0.0


def pair_scores(labels: Sequence[int], identities: Sequence[int]) -> tuple[float, float, float]:
    """Pair precision, recall and F1; an outlier shares a cluster with nobody, identity -1 is left out."""
    clustered = same = both = 0
    for i in range(len(labels)):
        for j in range(i):
            if identities[i] == -1 or identities[j] == -1:
                continue
            in_cluster = labels[i] == labels[j] and labels[i] >= 0
            clustered += in_cluster
            same += identities[i] == identities[j]
            both += in_cluster and identities[i] == identities[j]
    return (
        both / clustered if clustered else math.nan,
        both / same if same else math.nan,
        2 * both / (clustered + same) if clustered + same else math.nan,
    )


def cross_camera_share(labels: Sequence[int], cameras: Sequence[int]) -> float:
    shares = []
    for label in sorted(set(labels) - {-1}):
        views = [c for other, c in zip(labels, cameras, strict=True) if other == label and c != -1]
        if len(views) >= 2:
            shares.append(len(set(views)) > 1)
    return sum(shares) / len(shares) if shares else math.nan
