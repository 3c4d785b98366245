"""Ranked lists, for people who look at images: what was found for each query, best first, also as rows of a table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reseen.evaluation.protocol import pairs_of_one
from reseen.evaluation.reid import ranked_lists
from reseen.evaluation.search import Finder, FoundScenes, SearchTest
from reseen.evaluation.search_baselines import true_boxes
from reseen.metrics import box_iou
from reseen.metrics.calibration import Sure
from reseen.records import Crop, LabelledCrops, Probe, SceneDetections, SearchData

RIGHT, WRONG, UNKNOWN = "right", "wrong", "unknown"
TOP = 10  # images of a list, unless another number is asked for
BLOCK = 256  # queries that are ranked together
OF_CROPS = ("query", "rank", "gallery", "similarity", "probability", "answer")
OF_SCENES = (
    *("query", "query_x1", "query_y1", "query_x2", "query_y2", "rank"),
    *("gallery", "x1", "y1", "x2", "y2", "detection", "similarity", "answer"),
)
Row = Sequence[Any]


@dataclass(frozen=True)
class Lists:
    """A table whose ``rows(top)`` are those of ``queries`` ranked lists; images are named by their paths."""

    columns: tuple[str, ...]
    queries: int
    rows: Callable[[int], Iterator[Row]]


def crop_lists(
    query_features: Any,
    gallery_features: Any,
    query: LabelledCrops,
    gallery: LabelledCrops,
    pairs: Any,
    *,
    sure: Sure | None = None,
    judged: bool = True,
) -> Lists:
    """Lists of crops, without what the protocol ignores.

    Args:
        pairs: rows (query, gallery image) ``[n, 2]`` that are one picture.
        sure: how probable each similarity makes it that both images show one person; None: nobody knows.
        judged: False where nobody said who is who: nothing is ignored but own pictures, and nothing is right or wrong.
    """
    labels = (query, gallery) if judged else (None, None)

    def ranked(top: int) -> Iterator[Row]:
        for start in range(0, len(query), BLOCK):
            rows = np.arange(start, min(start + BLOCK, len(query)))
            found = ranked_lists(
                query_features, gallery_features, *labels, top=top, queries=rows, same_pictures=pairs
            )
            for place, row in enumerate(rows.tolist()):
                for rank, other in enumerate(found.rows[place].tolist(), start=1):
                    if other < 0:
                        break
                    answer = (RIGHT if found.correct[place, rank - 1] else WRONG) if judged else UNKNOWN
                    similarity = found.similarities[place, rank - 1]
                    probability = "" if sure is None else f"{float(sure(similarity)[0]):.4f}"
                    images = (query.crops[row].path, rank, gallery.crops[other].path)
                    yield *images, f"{similarity:.6f}", probability, answer

    return Lists(OF_CROPS, len(query), ranked)


def nameless(crops: tuple[Crop, ...]) -> LabelledCrops:
    """Crops of which nobody said who they show."""
    return LabelledCrops(crops, np.zeros(len(crops), dtype=np.int64))


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


def scene_lists(
    data: SearchData,
    detections: Mapping[str, SceneDetections],
    queries: Sequence[tuple[Path, Probe, Any]],
    gallery_of: Callable[[int], Mapping[str, Any]],
    *,
    judged: bool = True,
) -> Lists:
    """Lists of the persons that were found in the test scenes of ``data``.

    Args:
        queries: of each its scene's path, the probe and its feature ``[D]``.
        gallery_of: row of a query to its scenes and its box in them (see :class:`reseen.records.SearchQuery`).
        judged: False where nobody said who is who: nothing is right or wrong.
    """
    paths = {name: scene.path for name, scene in zip(data.test_names, data.test, strict=True)}

    def ranked(top: int) -> Iterator[Row]:
        for row, (path, probe, feature) in enumerate(queries):
            for rank, hit in enumerate(ranked_hits(feature, gallery_of(row), detections, top=top), start=1):
                answer = (RIGHT if hit.right else WRONG) if judged else UNKNOWN
                scores = (f"{hit.score:.4f}", f"{hit.similarity:.6f}")
                yield path, *_corners(probe.box), rank, paths[hit.scene], *_corners(hit.box), *scores, answer

    return Lists(OF_SCENES, len(queries), ranked)


def answered_lists(data: SearchData, found: FoundScenes, test: SearchTest) -> Lists:
    """:func:`scene_lists` of the queries of ``test``, each in its own gallery."""
    queries = [
        (data.test[data.probes[row].scene].path, data.probes[row], found.probes[row].numpy())
        for row in test.probes
    ]
    return scene_lists(data, found.detections, queries, test.targets.__getitem__)


def open_lists(data: SearchData, asked: SearchData | None, find: Finder) -> Lists:
    """:func:`scene_lists` where nobody said who is who: each person in all scenes but the own one and its copies.

    Args:
        data: where to search: its test scenes, or where it has none those for training.
        asked: whose queries are searched for, or where nobody marked any every box; None: those of ``data``.
    """
    data = _to_search(data)
    whose = data if asked is None else _to_search(asked)
    probes = whose.probes or true_boxes(whose)
    found = find(data.test, data.test_names, probes if asked is None else ())
    features = (found if asked is None else find(whose.test, whose.test_names, probes)).probes
    paths = [whose.test[probe.scene].path for probe in probes]
    queries = [(path, probe, f.numpy()) for path, probe, f in zip(paths, probes, features, strict=True)]
    own: dict[int, set[str]] = {}
    for row, scene in pairs_of_one(paths, [scene.path for scene in data.test]).tolist():
        own.setdefault(row, set()).add(data.test_names[scene])

    def gallery_of(row: int) -> dict[str, None]:
        return {name: None for name in data.test_names if name not in own.get(row, ())}

    return scene_lists(data, found.detections, queries, gallery_of, judged=False)


def _to_search(data: SearchData) -> SearchData:
    if data.test:
        return data
    return replace(data, test=data.train, test_names=data.train_names, test_identities=None, probes=())


def _corners(box: Any) -> list[str]:
    return [f"{value:.2f}" for value in np.asarray(box).tolist()]
