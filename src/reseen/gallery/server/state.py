"""What the server works with: the gallery, the model, and what it remembers for a while."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from reseen.config import ClusterConfig
from reseen.errors import ReseenError
from reseen.footage.finding import Finder
from reseen.footage.rows import thumbnail
from reseen.gallery.gallery import Gallery
from reseen.gallery.how_sure import REFINED
from reseen.gallery.rows import NONE, Hit, unit
from reseen.gallery.server.grouping import LEAST_ROWS, MOST_ROWS, Groups, groups_of
from reseen.gallery.server.jobs import Jobs
from reseen.gallery.server.memory import SECONDS, Queries, Recent
from reseen.gallery.server.paging import Cursor, page_of
from reseen.gallery.server.problems import ProblemError
from reseen.gallery.server.scenes import NO_SCENES, Scenes
from reseen.gallery.server.schemas import JobBody, Naming
from reseen.gallery.server.uploads import Limits, boxes_of, picture_of
from reseen.records import SceneDetections

WRONG = 0.2  # weight of the wrong beside the right: 0.15 / 0.75, the usual constants of Rocchio's (Manning et al. 2008)
THUMBNAILS = 4000  # in memory, some 3 kB each
Indices = NDArray[np.int64]


class Served:
    """One gallery with the model of its rows, for any number of threads.

    Args:
        finder: finds and embeds the persons of a picture, with the gallery's model.
        detects: whether it detects them; else the picture is the person.
        cluster: how the gallery is grouped.
        scenes: where the pictures are that rows were seen in.
    """

    def __init__(
        self,
        gallery: Gallery,
        finder: Finder,
        *,
        detects: bool,
        cluster: ClusterConfig,
        scenes: Scenes = NO_SCENES,
        limits: Limits | None = None,
    ) -> None:
        self.gallery, self.finder, self.detects, self.cluster = gallery, finder, detects, cluster
        self.scenes, self.limits = scenes, limits or Limits()
        self.queries, self.jobs = Queries(), Jobs()
        self.groups: Groups | None = None
        self._grouping: JobBody | None = None
        self._thumbnails: Recent[int, bytes] = Recent(THUMBNAILS, SECONDS)
        self._model = threading.Lock()

    # --- pictures ---

    def find(self, data: bytes, boxes: Sequence[str]) -> tuple[tuple[int, int], SceneDetections, int]:
        """Width and height of the picture, its persons (surest first), and how many more there were.

        Raises:
            ProblemError: no usable picture or box, or more boxes than :class:`Limits` has persons.
        """
        picture, found, left_out = self._found(data, boxes)
        height, width = picture.shape[1:]
        return (width, height), found, left_out

    def add(
        self, data: bytes, boxes: Sequence[str], camera: int | None, when: float | None
    ) -> tuple[Indices, str]:
        """Add the persons of a picture to the gallery; their numbers, and the source that they are noted under."""
        picture, found, _ = self._found(data, boxes)
        source = f"added/{secrets.token_hex(8)}"  # a name of ours: none comes from a client
        count = len(found.boxes)
        if not count:
            raise ProblemError(422, "nobody is found in the picture: give boxes")
        rows = self.gallery.add(
            found.features,
            thumbnails=[thumbnail(picture, box) for box in found.boxes],
            sources=[source] * count,
            boxes=found.boxes,
            scores=found.scores,
            cameras=None if camera is None else [camera] * count,
            times=None if when is None else [when] * count,
        )
        return rows, source

    def _found(self, data: bytes, texts: Sequence[str]) -> tuple[Tensor, SceneDetections, int]:
        """The picture, its persons up to the limit, and how many more there were."""
        most = self.limits.persons
        if len(texts) > most:
            raise ProblemError(413, f"give at most {most} boxes")
        with self._model:  # one picture is decoded at a time
            picture = picture_of(data, self.limits)
            (found,) = self.finder.find([picture], [boxes_of(texts, picture)])
        kept = SceneDetections(found.boxes[:most], found.scores[:most], found.features[:most])
        return picture, kept, len(found.boxes) - len(kept.boxes)

    # --- searching ---

    def search(
        self, query: str, limit: int, cursor: Cursor, filters: dict[str, Any]
    ) -> tuple[list[Hit], Cursor | None]:
        """A page of hits; their thumbnails are fetched at once, for they are asked for next."""
        hits, following = page_of(lambda k: self.first(query, k, filters), cursor, limit)
        self.fetch(hit.row for hit in hits)
        return hits, following

    def first(self, query: str, k: int, filters: dict[str, Any]) -> list[Hit]:
        asked = self.queries[query]
        return self.gallery.search_many(asked.feature[None], k, refined=asked.refined, **filters)[0]

    def why_no_probability(self, query: str) -> str | None:
        """Of the matches of a query; None where they have one."""
        return REFINED if self.queries[query].refined else self.gallery.why_no_probability or None

    def refine(self, query: str | None, right: Sequence[int], wrong: Sequence[int]) -> str:
        """A query of its own: the mean of the right features (with that of ``query``) minus a part of the wrong ones'.

        Raises:
            ProblemError: nothing is right, a row that is no more, or nothing is left.
        """
        asked = None if query is None else self.queries[query]
        good = np.array([*([] if asked is None else [asked.feature]), *self._vectors(right)])
        bad = self._vectors(wrong)
        if not len(good):
            raise ProblemError(
                422, "name a query or right rows: what is only wrong says nothing about whom to find"
            )
        mean = good.mean(axis=0) - (WRONG * bad.mean(axis=0) if len(bad) else 0)
        try:
            (feature,) = unit(mean[None].astype(np.float32))
        except ReseenError as error:
            raise ProblemError(422, "right and wrong rows cancel each other: mark others") from error
        refined = len(good) + len(bad) > 1 or (asked is not None and asked.refined)
        return self.queries.remember(feature, refined=refined)

    # --- rows ---

    def rows(self, numbers: Sequence[int]) -> list[Hit]:
        """Rows by number, in their order; those that are no more, or have expired, are left out."""
        held = self.gallery.held
        places = np.searchsorted(held.column("row"), numbers)
        inside = places < len(held)
        places = places[inside][held.column("row")[places[inside]] == np.asarray(numbers)[inside]]
        places = places[~(held.column("expiry")[places] <= time.time())]
        return held.hits(places, np.zeros(len(places), np.float32))

    def rows_from(self, start: int, limit: int) -> tuple[list[Hit], int | None]:
        """The first ``limit`` rows numbered ``start`` or above, and where the next page starts."""
        self.gallery.look()
        held = self.gallery.held
        first = int(np.searchsorted(held.column("row"), start))
        places = np.flatnonzero(held.where(now=time.time())[first:])[: limit + 1] + first
        following = int(held.column("row")[places[limit]]) if len(places) > limit else None
        return held.hits(places[:limit], np.zeros(len(places[:limit]), np.float32)), following

    def thumbnail(self, row: int) -> bytes:
        """JPEG of a row. Raises ProblemError where there is none."""
        if not self.rows([row]):
            self._thumbnails.pop(row)
            raise ProblemError(404, f"there is no row {row}")
        self.fetch([row])
        picture = self._thumbnails.get(row)
        if not picture:
            raise ProblemError(404, f"row {row} has no picture")
        return picture

    def row(self, number: int) -> Hit:
        """Raises ProblemError where there is none."""
        found = self.rows([number])
        if not found:
            raise ProblemError(404, f"there is no row {number}")
        return found[0]

    def fetch(self, rows: Iterable[int]) -> None:
        """Have thumbnails in memory."""
        wanted = [row for row in rows if self._thumbnails.get(row) is None]
        if wanted:
            for row, picture in self.gallery.thumbnails(wanted).items():
                self._thumbnails[row] = picture

    def _vectors(self, rows: Sequence[int]) -> NDArray[np.float32]:
        held = self.gallery.held
        present = [hit.row for hit in self.rows(rows)]
        lost = sorted({*rows} - {*present})
        if lost:
            raise ProblemError(404, f"there is no row {lost[0]}")
        if not present:
            return np.zeros((0, self.finder.dim), np.float32)
        return held.vectors(np.searchsorted(held.column("row"), present))

    # --- jobs ---

    def start_groups(self) -> JobBody:
        """Group the whole gallery, unless that was done since its last change or is being done."""
        self.gallery.look()
        held, last = self.gallery.held, self._grouping
        current = self.groups is not None and self.groups.held is held
        if last is not None and (last.state in ("waiting", "running") or (last.state == "done" and current)):
            return last
        places = np.flatnonzero(held.where(now=time.time()))
        if not LEAST_ROWS <= len(places) <= MOST_ROWS:
            raise ProblemError(
                409,
                f"galleries of {LEAST_ROWS} to {MOST_ROWS:,} rows are grouped, and this one has {len(places):,}: "
                "reseen cluster groups larger ones",
            )

        def work() -> str:
            self.groups = groups_of(held, places, self.cluster)
            return f"{len(self.groups.members)} groups, {self.groups.alone} rows in none"

        self._grouping = self.jobs.start("groups", work)
        return self._grouping

    def named(self, given: Naming) -> list[int]:
        """Numbers of rows that are to be erased.

        Raises:
            ProblemError: none of them is there, or who is like a query is not said, or cannot be.
        """
        if (given.query is not None) != (given.above is not None) + (given.above_similarity is not None):
            raise ProblemError(
                422,
                "who is like somebody is said by two things: a query, and above which probability or similarity",
            )
        self.gallery.look()
        present = self.rows(given.rows)
        walks = {(hit.source, hit.track) for hit in present if given.tracks and hit.track != NONE}
        if not present and given.query is None:
            raise ProblemError(404, "none of these rows is there")
        like: dict[str, Any] = {"above": given.above, "above_similarity": given.above_similarity}
        if given.query is not None:
            like["like"] = self.queries[given.query].feature
            if given.above is not None and (why := self.why_no_probability(given.query)):
                raise ProblemError(422, f"no probability: {why}; give above_similarity")
        found = self.gallery.matching([hit.row for hit in present], tracks=walks, **like)
        return [int(row) for row in found]

    def start_forget(self, rows: Sequence[int]) -> JobBody:
        """Erase rows for good; those that are no more do not disturb it."""

        def work() -> str:
            self.gallery.refresh()
            present = [hit.row for hit in self.rows(rows)]
            receipt = self.gallery.forget(present) if present else None
            for row in rows:
                self._thumbnails.pop(row)
            self.groups = None
            if receipt is None:
                return "none of these rows was there"
            proof = f"{receipt.files} files were read and hold none of their bytes"
            return f"{receipt.rows} rows are erased; {proof if receipt.files else 'Qdrant answers with none of them'}"

        return self.jobs.start("forget", work)
