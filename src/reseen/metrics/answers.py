"""Which gallery images answer a query by the protocol of Market-1501, and whom a score therefore speaks of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reseen.errors import ReseenError
from reseen.metrics.arrays import to_labels, to_numpy
from reseen.records import JUNK, UNKNOWN_CAMERA, Labels

BLOCK = 1024  # queries whose answers are looked at together


@dataclass(frozen=True)
class Coverage:
    """Of how many of its ``queries`` a score speaks, and why not of the others.

    The ``scored`` ones have an answer. Of the rest, the gallery shows the person ``only_same_camera`` (under the
    query's own), ``only_same_picture`` (in the query's own picture), or ``nowhere``. ``unknown_camera`` of those
    that are scored have no answer that is known to be under another camera.
    """

    queries: int
    scored: int
    only_same_camera: int = 0
    only_same_picture: int = 0
    nowhere: int = 0
    unknown_camera: int = 0


@dataclass(frozen=True)
class Same:
    """Images that are right or ignored for each of B queries: query b has ``pointers[b]`` to ``pointers[b + 1]``."""

    pointers: Labels  # [B + 1]
    positions: Labels
    correct: NDArray[np.bool_]  # False: seen by the query's camera, or the query itself, so ignored


@dataclass(frozen=True)
class Answers:
    """Who is correct, ignored or wrong. Positions count the gallery without its junk.

    ``members[start:stop]`` are the positions of a query's identity.
    """

    kept: Labels  # [P] gallery row of each position
    members: Labels  # [P] positions by identity, then by row
    start: Labels  # [Q]
    stop: Labels  # [Q]
    query_cameras: Labels
    cameras: Labels  # [P]
    gallery_size: int
    own: Labels  # sorted; query * P + position of the pairs that are one picture

    @classmethod
    def of(
        cls,
        query_identities: Any,
        gallery_identities: Any,
        query_cameras: Any,
        gallery_cameras: Any,
        num_queries: int | None = None,
        num_gallery: int | None = None,
        same_pictures: Any = (),
    ) -> Answers:
        """
        Args:
            same_pictures: rows (query, gallery image) int64 ``[n, 2]`` that are one picture: ignored, whoever it shows.

        Raises:
            ReseenError: lengths that do not match, or rows that are not there.
        """
        queries = to_labels(query_identities, "query identities", num_queries)
        gallery = to_labels(gallery_identities, "gallery identities", num_gallery)
        cameras = to_labels(gallery_cameras, "gallery cameras", len(gallery))
        kept = np.flatnonzero(gallery != JUNK).astype(np.int64)
        members = np.argsort(gallery[kept], kind="stable").astype(np.int64)
        ordered = gallery[kept[members]]
        return cls(
            kept=kept,
            members=members,
            start=np.searchsorted(ordered, queries, side="left").astype(np.int64),
            stop=np.searchsorted(ordered, queries, side="right").astype(np.int64),
            query_cameras=to_labels(query_cameras, "query cameras", len(queries)),
            cameras=cameras[kept],
            gallery_size=len(gallery),
            own=_keys(same_pictures, len(queries), len(gallery), kept),
        )

    def __len__(self) -> int:
        return len(self.start)

    def same(self, top: int, bottom: int) -> Same:
        """The images of their identity, and their own pictures, for queries ``top`` to ``bottom``."""
        start, stop = self.start[top:bottom], self.stop[top:bottom]
        pointers = np.concatenate([[0], np.cumsum(stop - start)]).astype(np.int64)
        place = np.arange(pointers[-1]) + np.repeat(start - pointers[:-1], stop - start)
        positions = self.members[place]
        theirs, own = self.cameras[positions], np.repeat(self.query_cameras[top:bottom], stop - start)
        same = Same(pointers, positions, (theirs != own) | (theirs == UNKNOWN_CAMERA))
        low, high = np.searchsorted(self.own, np.array([top, top + len(start)]) * len(self.kept))
        return (
            _without(same, self.own[low:high] - top * len(self.kept), len(self.kept)) if high > low else same
        )

    def coverage(self) -> Coverage:
        """Counts over all queries; nothing is ranked for it."""
        count = np.zeros(5, dtype=np.int64)
        for top in range(0, len(self), BLOCK):
            count += self._reasons(top, min(top + BLOCK, len(self)))
        return Coverage(len(self), *count.tolist())

    def _reasons(self, top: int, bottom: int) -> Labels:
        """Counts int64 ``[5]`` in the order of :class:`Coverage`."""
        same, rows = self.same(top, bottom), np.arange(bottom - top)
        query = np.repeat(rows, np.diff(same.pointers))
        known = (self.cameras[same.positions] != UNKNOWN_CAMERA) & (
            self.query_cameras[top:bottom][query] != UNKNOWN_CAMERA
        )
        persons = (self.stop - self.start)[top:bottom]
        # of the query's own pictures some may be labelled as somebody else: they are no images of the person
        others = np.diff(same.pointers) - persons
        whose = self.own // max(1, len(self.kept)) - top
        pictures = np.bincount(whose[(whose >= 0) & (whose < len(rows))], minlength=len(rows)) - others
        answers = np.bincount(query[same.correct], minlength=len(rows))
        surely = np.bincount(query[same.correct & known], minlength=len(rows))
        scored, nowhere = answers > 0, persons == 0
        only_picture = ~scored & ~nowhere & (pictures == persons)
        only_camera = ~scored & ~nowhere & ~only_picture
        parts = (scored, only_camera, only_picture, nowhere, scored & (surely == 0))
        return np.array([int(part.sum()) for part in parts], dtype=np.int64)


def _keys(pairs: Any, queries: int, gallery: int, kept: Labels) -> Labels:
    """Sorted query * P + position of rows (query, gallery image); pairs with junk are ignored anyway."""
    table = to_numpy(pairs).astype(np.int64).reshape(-1, 2)
    if len(table) and not ((table >= 0) & (table < [queries, gallery])).all():
        raise ReseenError(f"same pictures are rows of {queries} queries and {gallery} gallery images")
    place = np.searchsorted(kept, table[:, 1])
    there = np.isin(table[:, 1], kept)
    keys: Labels = np.unique(table[there, 0] * len(kept) + place[there])
    return keys


def _without(same: Same, own: Labels, positions: int) -> Same:
    """``same`` with the pairs ``own`` (query of the block * positions + position) ignored as well."""
    query = np.repeat(np.arange(len(same.pointers) - 1), np.diff(same.pointers))
    keys = query * positions + same.positions
    correct = same.correct & ~np.isin(keys, own)
    more = own[~np.isin(own, keys)]
    keys, correct = np.concatenate([keys, more]), np.concatenate([correct, np.zeros(len(more), dtype=bool)])
    order = np.argsort(keys, kind="stable")
    pointers = np.searchsorted(keys[order], np.arange(len(same.pointers)) * positions).astype(np.int64)
    return Same(pointers, keys[order] % positions, correct[order])
