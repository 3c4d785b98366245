"""Ranked lists of a person search, for people to look at: the detections most like a query, right or wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reseen.evaluation.search import FoundScenes
from reseen.metrics.search import box_iou
from reseen.records import Probe, Scene, SceneDetections

# (scenes, their names, probes) -> what is found in them
Finder = Callable[[Sequence[Scene], Sequence[str], Sequence[Probe]], FoundScenes]


@dataclass(frozen=True)
class Hit:
    """A detection in a ranked list: scene, ``box`` ``[4]`` (xyxy, pixels), both scores, and whether it is right."""

    scene: str
    box: NDArray[np.float32]
    score: float  # of the detector
    similarity: float  # inner product with the query
    right: bool


def ranked_hits(
    feature: ArrayLike,
    targets: Mapping[str, Any],
    detections: Mapping[str, SceneDetections],
    *,
    top: int,
    min_score: float = 0.5,
) -> list[Hit]:
    """The ``top`` detections of the scenes in ``targets``, most similar first, by the rules of person_search_scores.

    In a scene that shows the person, the most similar detection that overlaps enough is right and no other. May be
    shorter than ``top``.
    """
    query = np.asarray(feature, dtype=np.float64)
    hits: list[Hit] = []
    for name, target in targets.items():
        if name not in detections:
            continue
        found = detections[name]
        scores, boxes = np.asarray(found.scores), np.asarray(found.boxes)
        kept = np.flatnonzero(scores >= min_score)
        if not len(kept):
            continue
        similar = (np.asarray(found.features, dtype=np.float64)[kept] @ query).astype(np.float32)
        order = np.argsort(-similar, kind="stable")
        right = -1
        if target is not None:
            width, height = float(target[2] - target[0]), float(target[3] - target[1])
            enough = min(0.5, width * height / ((width + 10) * (height + 10)))
            overlap = box_iou(boxes[kept[order]], np.asarray(target)[None])[:, 0]
            right = int(np.append(order[overlap >= enough], -1)[0])
        hits += [
            Hit(name, boxes[row], float(scores[row]), float(similar[place]), place == right)
            for place, row in enumerate(kept.tolist())
        ]
    return sorted(hits, key=lambda hit: -hit.similarity)[:top]
