"""Rows on a Qdrant server or cluster: one collection for each model, and one of notes for all of them.

A point is a row and has its number. A note says which number comes next: rows from there on are none, so that an
addition that was cut short adds nothing; the next one clears them away. Vectors are kept in half precision and stay on
the server: it compares them, exactly (no index is built), and what may be among the first k is compared once more here,
as in :mod:`reseen.gallery.scoring`. So both stores give the same rows with the same similarities in the same order.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any
from urllib.parse import quote_from_bytes, unquote_to_bytes

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from reseen.errors import ReseenError
from reseen.files import from_json, to_json
from reseen.gallery.bytes import Needles
from reseen.gallery.compared import Compared
from reseen.gallery.link import Address, answering, connect, pages, settings_of
from reseen.gallery.rows import DETAILS, HELD, schema, vectors_of
from reseen.gallery.store import FORMAT, About, Proof

PAGE, WHOLE_PAGE = 4096, 256  # rows of a request, without and with vectors and thumbnails
SCHEMA = schema(1)  # of any gallery, but for D
NAMESPACE = uuid.UUID("6f1ad0d7-6d3c-4d36-9a3e-0d6a7f1f6a55")  # of the notes' numbers


class PointNotes:
    """Notes as points without vectors: see :class:`reseen.gallery.places.Notes`."""

    def __init__(self, place: str) -> None:
        self.place, self.address = place, Address.of(place)
        self.client, self.collection = connect(self.address.url), f"{self.address.name}-notes"

    def begin(self) -> None:
        with answering(self.place):
            if not self.client.collection_exists(self.collection):
                settings = settings_of(self.address) | {"shard_number": 1}
                self.client.create_collection(self.collection, vectors_config={}, **settings)

    def all(self) -> dict[str, str]:
        with answering(self.place):
            if not self.client.collection_exists(self.collection):
                return {}
            points = pages(self.client, self.collection, PAGE, with_payload=True)
            notes = [point.payload for page in points for point in page]
            if not all("content" in note for note in notes):
                raise ReseenError(f"{self.place} is no gallery of reseen: give another name")
            return {note["name"]: note["content"] for note in notes}

    def read(self, name: str) -> bytes:
        with answering(self.place):
            found = self.client.retrieve(self.collection, [_note(name)], consistency="majority")
            return str(found[0].payload["content"]).encode() if found else b""

    def write(self, name: str, content: str) -> None:
        from qdrant_client import models

        with answering(self.place):
            point = models.PointStruct(id=_note(name), vector={}, payload={"name": name, "content": content})
            self.client.upsert(self.collection, [point], ordering="strong")

    def remove(self, name: str) -> None:
        with answering(self.place):
            self.client.delete(self.collection, [_note(name)], ordering="strong")


@dataclass(frozen=True)
class Moment:
    """The rows as they were when it was read."""

    next: int  # the number of the next row; no row has it or one above
    erasures: int
    calibration: str = ""

    @property
    def version(self) -> Moment:
        return self


class Collection:
    """The rows of one model: see :class:`reseen.gallery.places.Rows`."""

    def __init__(self, place: str, about: About) -> None:
        self.place, self.about, self.files = place, about, PointNotes(place)
        self._client = self.files.client
        self._name = f"{self.files.address.name}-{about.fingerprint.replace('+', '-')}"
        self._record = f"model-{about.fingerprint}"
        self.away = Compared(place, self._client, self._name, about.dim)
        self._erasures = 0  # of which the rows that are held know
        self._erased: list[int] = []  # last

    @classmethod
    def all(cls, place: str) -> list[Collection]:
        found = []
        for name, content in sorted(PointNotes(place).all().items()):
            if name.startswith("model-"):
                words = from_json(content)
                version = words.pop("reseen.gallery", None)
                if version != FORMAT:
                    raise ReseenError(
                        f"{place} is of version {version}, and this reseen reads version {FORMAT}: index again into "
                        "another"
                    )
                found.append(cls(place, About(**{field.name: words[field.name] for field in fields(About)})))
        return found

    @classmethod
    def new(cls, place: str, about: About) -> Collection:
        from qdrant_client import models

        rows = cls(place, about)
        rows.files.begin()
        with answering(place):
            if not rows._client.collection_exists(rows._name):
                rows._client.create_collection(
                    rows._name,
                    vectors_config=models.VectorParams(
                        size=about.dim, distance=models.Distance.DOT, datatype=models.Datatype.FLOAT16
                    ),
                    hnsw_config=models.HnswConfigDiff(m=0),  # no index: every search is exact
                    # a segment is written anew once one row of it is deleted, or as near to that as can be asked for
                    optimizers_config=models.OptimizersConfigDiff(
                        deleted_threshold=0.0, vacuum_min_vector_number=100
                    ),
                    **settings_of(rows.files.address),
                )
        rows._keep(Moment(0, 0))
        return rows

    # --- reading ---

    def latest(self) -> Moment:
        words = from_json(self.files.read(self._record) or b"{}")
        if "next" not in words:
            raise ReseenError(f"the gallery {self.place} is gone: index again")
        return Moment(words["next"], words["erasures"], words["calibration"])

    def batches(self, now: Moment, *, after: int = -1) -> Iterator[pa.RecordBatch]:
        for points in self._pages(now, after + 1, PAGE, with_payload=HELD):
            yield pa.RecordBatch.from_pydict(_details(points), schema=pa.schema(map(SCHEMA.field, HELD)))

    def kept(self, now: Moment, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        if now.erasures == self._erasures:
            return np.ones(len(rows), dtype=np.bool_)
        numbers = [point.id for points in self._pages(now, 0, PAGE, with_payload=False) for point in points]
        self._erasures = now.erasures
        return np.isin(rows, numbers)

    def whole(self) -> Iterator[pa.Table]:
        pages = self._pages(self.latest(), 0, WHOLE_PAGE, with_payload=True, with_vectors=True)
        for points in pages:
            columns, dim = _details(points), self.about.dim
            flat = pa.array(np.array([point.vector for point in points], dtype=np.float16).ravel())
            columns["vector"] = pa.FixedSizeListArray.from_arrays(flat, dim)
            columns["thumbnail"] = [base64.b64decode(point.payload["thumbnail"]) for point in points]
            columns["digest"] = [point.payload["digest"] for point in points]
            yield pa.table(columns, schema=schema(dim))

    def thumbnails(self, rows: Sequence[int], places: Sequence[int] = ()) -> dict[int, bytes]:
        with answering(self.place):
            found = self._client.retrieve(self._name, [*map(int, rows)], with_payload=["thumbnail"])
            return {point.id: base64.b64decode(point.payload["thumbnail"]) for point in found}

    def _pages(self, now: Moment, first: int, size: int, **what: Any) -> Iterator[list[Any]]:
        with answering(self.place):
            for points in pages(self._client, self._name, size, first, **what):
                inside = [point for point in points if point.id < now.next]
                if inside:
                    yield inside
                if len(inside) < len(points):
                    return

    def layout(self) -> str:
        """Over how much the rows are spread, in words."""
        with answering(self.place):
            how = self._client.get_collection(self._name).config.params
            return f"{how.shard_number or 1} shards, {how.replication_factor or 1} copies of each"

    # --- writing ---

    def next_number(self, free: int) -> int:
        return max(free, self.latest().next)

    def append(self, rows: pa.Table) -> None:
        from qdrant_client import models

        now, numbers = self.latest(), rows["row"].to_pylist()
        with answering(self.place):
            for points in pages(self._client, self._name, PAGE, now.next, with_payload=False):
                self._client.delete(self._name, [point.id for point in points], ordering="strong")
            for start in range(0, len(rows), WHOLE_PAGE):
                some = rows.slice(start, WHOLE_PAGE).combine_chunks()
                vectors = vectors_of(some.to_batches()[0]).view(np.float16).astype(np.float32)
                points = [
                    models.PointStruct(id=row["row"], vector=vector.tolist(), payload=_payload(row))
                    for row, vector in zip(some.drop(["vector"]).to_pylist(), vectors, strict=True)
                ]
                self._client.upsert(self._name, points, wait=True, ordering="strong")
        self._keep(replace(now, next=numbers[-1] + 1))

    def calibration(self, now: Moment) -> str:
        return now.calibration

    def keep_calibration(self, text: str) -> None:
        self._keep(replace(self.latest(), calibration=text))

    def _keep(self, now: Moment) -> None:
        words = {"reseen.gallery": FORMAT, **vars(self.about), **vars(now)}
        self.files.write(self._record, to_json(words))

    # --- erasing ---

    def contents(self, rows: Sequence[int]) -> Iterator[tuple[bytes, bytes, bytes]]:
        """Nothing: there is no file of the server that could be read for it."""
        return iter(())

    def delete(self, rows: Sequence[int]) -> int:
        now, count = self.latest(), 0
        with answering(self.place):
            for start in range(0, len(rows), PAGE):
                some = [*map(int, rows[start : start + PAGE])]
                count += len(self._client.retrieve(self._name, some, with_payload=False))
                self._client.delete(self._name, some, wait=True, ordering="strong")
        self._keep(replace(now, erasures=now.erasures + 1))
        self._erased = [*map(int, rows)]
        return count

    def scattered(self) -> bool:
        return False

    def compact(self, *, erased: bool = False) -> None:
        """The server's own affair: its optimizer writes segments anew, see the settings in :meth:`new`."""

    def proof(self, wanted: Needles) -> Proof:
        """That no replica answers with an erased row. What lies on the disks of its nodes cannot be read from here."""
        with answering(self.place):
            for start in range(0, len(self._erased), PAGE):
                some = self._erased[start : start + PAGE]
                if self._client.retrieve(self._name, some, with_payload=False, consistency=1):
                    raise ReseenError(
                        f"{self.place} still answers with erased rows: run reseen forget {self.place} --finish"
                    )
        return Proof(shared=0, files=0, bytes=0)


def _note(name: str) -> str:
    return str(uuid.uuid5(NAMESPACE, name))


def _payload(row: dict[str, Any]) -> dict[str, Any]:
    """What is known about a row, as JSON: no bytes, no nan."""
    picture = base64.b64encode(row["thumbnail"]).decode()
    words = {"source": quote_from_bytes(row["source"], "/ "), "thumbnail": picture}
    for name, value in row.items():
        nothing = DETAILS[name][1] if name in DETAILS else None
        if name not in ("row", *words) and value != nothing and value == value:
            words[name] = value
    return words


def _details(points: Sequence[Any]) -> dict[str, list[Any]]:
    """The columns :data:`reseen.gallery.rows.HELD` of some points."""
    columns: dict[str, list[Any]] = {"row": [point.id for point in points]}
    for name, (_, nothing) in DETAILS.items():
        columns[name] = [point.payload.get(name, nothing) for point in points]
    columns["source"] = [unquote_to_bytes(name) for name in columns["source"]]
    return columns
