"""What counts as found, and of which queries a score speaks: settled before anything is embedded.

Market-1501's protocol finds people *across* cameras: an image of the query's person under the query's own camera is
ignored. Where there is one camera, or nobody knows which one took what, it has nothing to say, and another one has to
be asked for by name. Person search has no such rule: scenes of the query's own camera count there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from reseen.data.benchmarks import KNOWN
from reseen.data.paths import shown
from reseen.data.same import same_pictures
from reseen.errors import ReseenError
from reseen.metrics import Coverage
from reseen.metrics.answers import Answers
from reseen.records import Crop, LabelledCrops, Labels, ReidData

CROSS_CAMERA, SAME_CAMERA = "cross-camera", "same-camera"
PROTOCOLS = (CROSS_CAMERA, SAME_CAMERA)
REASONS = {
    "only_same_camera": "only under the same camera",
    "only_same_picture": "only in the query's own picture",
    "nowhere": "nowhere in the gallery",
}


class NothingToScoreError(ReseenError):
    """A test part of which no query can be scored."""


@dataclass(frozen=True)
class ReidTest:
    """Query and gallery by one protocol. ``same_pictures``: rows (query, gallery image) ``[n, 2]`` that never count.

    By ``same-camera`` the crops have no camera, so that none is ignored for it.
    """

    name: str
    query: LabelledCrops
    gallery: LabelledCrops
    protocol: str
    same_pictures: Labels
    coverage: Coverage

    @property
    def record(self) -> dict[str, Any]:
        """Protocol and coverage as result files have them."""
        return {"protocol": self.protocol, **asdict(self.coverage)}

    @property
    def words(self) -> str:
        """Protocol and coverage for people: ``cross-camera, scored 5 of 6 queries: 1 nowhere in the gallery``."""
        return f"{self.protocol}, {in_words(self.record)}"


def open_test(images: ReidData, protocol: str = CROSS_CAMERA) -> ReidTest:
    """The test part of ``images``.

    Outside the published splits a query's own picture (the same file, or the same bytes) is never an answer.

    Raises:
        NothingToScoreError: no query has an answer; says why not, and the way out.
        ReseenError: no query or gallery, or no such protocol.
    """
    if protocol not in PROTOCOLS:
        raise ReseenError(f"there is no protocol {protocol!r}: choose one of {', '.join(PROTOCOLS)}")
    if not images.query or not images.gallery:
        raise ReseenError(
            f"{shown(images.root)} has no query and gallery: scoring needs a benchmark's layout (docs/data.md); "
            "evaluate --lists FILE ranks images that nobody labelled"
        )
    query, gallery = images.query, images.gallery
    if protocol == SAME_CAMERA:
        query, gallery = without_cameras(query), without_cameras(gallery)
    pairs = own_pictures(images, query, gallery)
    coverage = answers_of(query, gallery, pairs).coverage()
    if protocol == SAME_CAMERA:
        coverage = replace(coverage, unknown_camera=0)
    if coverage.scored == coverage.unknown_camera:
        raise NothingToScoreError(f"{shown(images.root)}: {_nothing(coverage, protocol)}")
    return ReidTest(images.name, query, gallery, protocol, pairs, coverage)


def own_pictures(images: ReidData, query: LabelledCrops, gallery: LabelledCrops) -> Labels:
    """:func:`pairs_of_one` of a part of ``images``; none in a published split, whose protocol knows of none."""
    if is_published(images):
        return np.empty((0, 2), dtype=np.int64)
    asked, found = ([crop.path for crop in part.crops] for part in (query, gallery))
    return pairs_of_one(asked, found)


def pairs_of_one(first: Sequence[Path], second: Sequence[Path]) -> Labels:
    """Rows int64 ``[n, 2]`` of ``first`` and ``second`` that are one picture: the same file, or the same bytes."""
    pairs: list[tuple[int, int]] = []
    for rows in same_pictures([*first, *second]):
        others = [row - len(first) for row in rows if row >= len(first)]
        pairs += [(row, other) for row in rows if row < len(first) for other in others]
    return np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2)


def is_published(images: ReidData) -> bool:
    """Whether scores on ``images`` stand beside published ones: the benchmark's split, by name and number of crops."""
    known = KNOWN.get(images.name)
    parts = {"query": images.query, "gallery": images.gallery}
    return known is not None and all(part and len(part) == known[name][0] for name, part in parts.items())


def answers_of(query: LabelledCrops, gallery: LabelledCrops, pairs: Any = ()) -> Answers:
    """Who answers whom. Raises ReseenError for rows of same pictures that are not there."""
    labels = (query.identities, gallery.identities, query.cameras, gallery.cameras)
    return Answers.of(*labels, same_pictures=pairs)


def in_words(record: Any) -> str:
    """``scored 5 of 6 queries: 1 only under the same camera``, of a record with :class:`Coverage`'s fields."""
    text = f"scored {record['scored']:,} of {record['queries']:,} queries"
    text += f": {why}" if (why := unscored(record)) else ""
    unknown = record.get("unknown_camera")
    return f"{text}; of {unknown:,} no answer has a known camera" if unknown else text


def scored_of(record: Any) -> str | None:
    """``5 of 6``, or ``6`` where all are scored; None where nobody counted."""
    queries, scored = record.get("queries"), record.get("scored")
    if queries is None or scored in (None, queries):  # one that was not counted is from an earlier version
        return None if queries is None else f"{queries:,}"
    return f"{scored:,} of {queries:,}"


def unscored(record: Any) -> str:
    """Why some queries are not scored: ``1 only under the same camera``; empty where all are."""
    return ", ".join(f"{record[key]:,} {reason}" for key, reason in REASONS.items() if record.get(key))


def _nothing(coverage: Coverage, protocol: str) -> str:
    """Why no query can be scored, and the way out."""
    picture = f"{coverage.only_same_picture:,} only in the query's own picture"
    nowhere = f"{coverage.nowhere:,} nowhere in the gallery"
    if protocol == SAME_CAMERA:
        return f"no query has another image of the same person: {picture}, {nowhere}; give more images of each person"
    why = [f"{coverage.only_same_camera:,} only under the same", nowhere]
    why += [picture] if coverage.only_same_picture else []
    why += [f"{coverage.scored:,} under cameras that nobody knows"] if coverage.scored else []
    within = coverage.only_same_camera + coverage.scored
    way = (
        "say which camera took each image (column camera, --camera-pattern)"
        if coverage.scored
        else "give images of another camera"
        if coverage.only_same_camera
        else "give other images of the same persons"
    )
    way += ", or score within cameras: reseen evaluate --protocol same-camera" if within else ""
    return f"no query has an image of the same person under another camera: {', '.join(why)}; {way}"


def without_cameras(part: LabelledCrops) -> LabelledCrops:
    """The same crops, nobody knowing which camera took them: none is ignored for its camera."""
    return LabelledCrops(tuple(Crop(crop.path) for crop in part.crops), part.identities)
