"""Rows of a gallery: as they lie on disk, and as they are held in memory to be searched."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike, NDArray

from reseen.compiled import compiled
from reseen.errors import ReseenError
from reseen.gallery import scoring
from reseen.gallery.ordering import in_order
from reseen.gallery.scoring import Block
from reseen.records import UNKNOWN_CAMERA

NONE = -1  # frame and track of a person who was seen in an image
SMALL = 4096  # rows: a block below takes those that follow, or many small additions make many blocks
# Everything but the vector, and what stands where nothing is known. Names of files are bytes: not all are UTF-8.
DETAILS: dict[str, tuple[pa.DataType, Any]] = {
    "source": (pa.binary(), b""),  # path of the image or video relative to the root that was indexed
    "frame": (pa.int64(), NONE),
    "seconds": (pa.float64(), math.nan),  # since the beginning of the video
    "time": (pa.float64(), math.nan),  # by the clock: seconds since 1970, UTC
    "camera": (pa.int64(), UNKNOWN_CAMERA),
    "box": (pa.list_(pa.float32(), 4), (0.0,) * 4),  # xyxy, pixels
    "score": (pa.float32(), math.nan),
    "track": (pa.int64(), NONE),  # one number for each walk through a video
    "expiry": (pa.float64(), math.nan),  # when the row has to go: seconds since 1970, UTC
}
IRREGULAR = {"seconds": "seconds", "box": "boxes", "expiry": "expiries"}
PLURALS = {name: IRREGULAR.get(name, f"{name}s") for name in DETAILS}  # as they are given, of many rows
HELD = ["row", *DETAILS]  # in memory, beside the vectors
When = float | str | datetime


class DamagedError(Exception):
    """What is on disk is not what was written."""


@dataclass(frozen=True)
class Hit:
    """A row that was found: its number, its similarity (-1 to 1, not a probability) and what is known about it.

    ``box`` is xyxy in pixels of the image or frame. ``track_rows`` are the other rows of its track that a search came
    across, less similar ones. ``probability``: that it shows the person of the query, with the ends of its interval.
    What is not known is nan, or -1.
    """

    row: int
    similarity: float
    source: str
    frame: int
    seconds: float
    time: float
    camera: int
    box: tuple[float, float, float, float]
    score: float
    track: int
    expiry: float
    track_rows: tuple[int, ...] = ()
    probability: float = math.nan
    probability_low: float = math.nan
    probability_high: float = math.nan


def schema(dim: int, about: dict[str, str] | None = None) -> pa.Schema:
    """Of the table on disk. Vectors, names and thumbnails lie there as they are, so that an erasure can be proven."""
    plain = {"lance-encoding:compression": "none"}
    fields = [pa.field("row", pa.int64()), pa.field("vector", pa.list_(pa.float16(), dim), metadata=plain)]
    fields += [pa.field(name, kind, metadata=plain) for name, (kind, _) in DETAILS.items()]
    fields += [pa.field("thumbnail", pa.binary(), metadata=plain), pa.field("digest", pa.int64())]
    return pa.schema(fields, about)


def new_rows(features: ArrayLike, details: dict[str, Any], thumbnails: Sequence[bytes] | None) -> pa.Table:
    """A table of rows without numbers, of features ``[n, D]`` (any length) and their details, checked.

    Raises:
        ReseenError: another shape or number of values, NaN or infinity, a row of zeros.
    """
    vectors = unit(features)
    count, dim = vectors.shape
    columns: dict[str, Any] = {
        "row": pa.array(np.zeros(count, np.int64)),
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.astype(np.float16).ravel()), dim),
        "thumbnail": [b""] * count if thumbnails is None else list(thumbnails),
    }
    for name, (kind, nothing) in DETAILS.items():
        given = details.pop(PLURALS[name], None)
        if given is None and name == "source":
            raise ReseenError("rows need sources: the path of each image, relative to a root")
        try:
            columns[name] = _column(name, kind, [nothing] * count if given is None else given)
        except (TypeError, ValueError, pa.ArrowException) as error:
            raise ReseenError(f"{PLURALS[name]} of rows cannot be used ({error})") from error
    if details:
        known = ", ".join(PLURALS.values())
        raise ReseenError(f"rows have no {sorted(details)[0]}: they have {known}, thumbnails")
    wrong = {name: len(column) for name, column in columns.items() if len(column) != count}
    if wrong:
        raise ReseenError(f"{count} features need as many details, not {wrong}")
    columns["digest"] = pa.array(np.zeros(count, np.int64))
    return pa.table(columns, schema=schema(dim))


def _column(name: str, kind: pa.DataType, values: Any) -> pa.Array:
    if name == "source":
        return pa.array([os.fsencode(value) for value in values], kind)
    if name == "box":
        flat = np.asarray(values, dtype=np.float32).reshape(len(values), 4).ravel()
        return pa.FixedSizeListArray.from_arrays(pa.array(flat), 4)
    return pa.array(np.asarray(values, dtype=kind.to_pandas_dtype()))


def numbered(rows: pa.Table, first: int) -> pa.Table:
    """The rows with numbers from ``first`` on, and with their digests."""
    numbers = pa.array(np.arange(first, first + len(rows)))
    rows = rows.set_column(0, rows.schema.field(0), numbers)
    return rows.set_column(len(rows.schema) - 1, rows.schema.field("digest"), pa.array(_digests(rows)))


def unit(features: ArrayLike) -> NDArray[np.float32]:
    """Rows of length 1. Raises ReseenError for another shape, NaN, infinity or zeros."""
    array = np.asarray(features)
    if array.ndim != 2 or array.dtype.kind != "f" or not array.shape[1]:
        raise ReseenError(f"features are numbers [N, D], not {array.dtype} {list(array.shape)}")
    wide = array.astype(np.float64)
    lengths = np.sqrt(np.einsum("nd,nd->n", wide, wide))
    wrong = np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))
    if len(wrong):
        raise ReseenError(
            f"feature {wrong[0]} of {len(array)} is zero or not finite: the model is damaged, or the image empty"
        )
    result: NDArray[np.float32] = (wide / lengths[:, None]).astype(np.float32)
    return result


class Away(Protocol):
    """Vectors that are not held here, and what compares them; ``rows`` are numbers."""

    def vectors(self, rows: NDArray[np.int64]) -> NDArray[np.float32]: ...
    def similarities(self, rows: NDArray[np.int64], query: NDArray[np.float32]) -> NDArray[np.float32]: ...
    def nearest(
        self, rows: NDArray[np.int64], query: NDArray[np.float32], k: int, chosen: NDArray[np.int64] | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]: ...


@dataclass(frozen=True)
class Held:
    """What a gallery answers from: an unchanging picture of its rows, in the order of their numbers.

    ``blocks`` hold the vectors (bits of float16 ``[n, D]``) unless they are ``away``, ``table`` the columns
    :data:`HELD`.
    """

    blocks: tuple[Block, ...] = ()
    table: pa.Table | None = None
    away: Away | None = None

    def __len__(self) -> int:
        return 0 if self.table is None else len(self.table)

    def column(self, name: str) -> NDArray[Any]:
        if self.table is None:
            return np.zeros(0, DETAILS[name][0].to_pandas_dtype() if name != "row" else np.int64)
        values: NDArray[Any] = self.table[name].to_numpy()
        return values

    def and_more(self, batches: Iterable[pa.RecordBatch]) -> Held:
        """With the rows of ``batches`` below. Raises DamagedError: a row was changed, or two have one number.

        They are copied: a batch is a window on all that was read with it, which stays in memory as long as a part does.
        """
        blocks, tables = list(self.blocks), [] if self.table is None else [self.table]
        for batch in batches:
            if not len(batch):
                continue
            if self.away is None:
                wrong = np.flatnonzero(_digests(batch) != batch.column("digest").to_numpy())
                if len(wrong):
                    raise DamagedError(
                        f"row {batch.column('row')[int(wrong[0])].as_py()} was changed on disk"
                    )
                block = vectors_of(batch).copy()
                if blocks and len(blocks[-1]) < SMALL:
                    block = np.concatenate([blocks.pop(), block])
                blocks.append(block)
            tables.append(pa.Table.from_batches([batch.select(HELD).take(pa.array(np.arange(len(batch))))]))
        table = pa.concat_tables(tables) if tables else None
        if table is not None:
            blocks, table = in_order(blocks, table)
            table = table.combine_chunks() if table["row"].num_chunks > 64 else table
        held = replace(self, blocks=tuple(blocks), table=table)
        if (np.diff(held.column("row")) <= 0).any():
            raise DamagedError("two writers numbered their rows at once")
        return held

    def only(self, kept: NDArray[np.bool_]) -> Held:
        """Without the rows where ``kept`` ``[N]`` is false."""
        if self.table is None or kept.all():
            return self
        blocks, start = [], 0
        for block in self.blocks:
            part = kept[start : start + len(block)]
            start += len(block)
            if part.any():
                blocks.append(block if part.all() else block[part])
        return replace(self, blocks=tuple(blocks), table=self.table.filter(pa.array(kept)).combine_chunks())

    def nearest(
        self, queries: NDArray[np.float32], k: int, chosen: NDArray[np.int64] | None
    ) -> list[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """As :func:`reseen.gallery.scoring.nearest`: places and similarities, for each query ``[Q, D]``."""
        if self.away is None:
            return scoring.nearest(self.blocks, queries, k, chosen)
        return [self.away.nearest(self.column("row"), query, k, chosen) for query in queries]

    def similarities(self, query: NDArray[np.float32]) -> NDArray[np.float32]:
        """Of the query ``[D]`` to every row."""
        if self.away is None:
            return scoring.similarities(self.blocks, query)
        return self.away.similarities(self.column("row"), query)

    def vectors(self, places: NDArray[np.int64]) -> NDArray[np.float32]:
        """Rows ``[n, D]`` in float32, at some places."""
        if self.away is not None:
            return self.away.vectors(self.column("row")[places])
        edges = np.cumsum([0, *map(len, self.blocks)])
        within = np.searchsorted(edges, places, side="right") - 1
        rows = [self.blocks[b][p - edges[b]].view(np.float16) for b, p in zip(within, places, strict=True)]
        return np.stack(rows).astype(np.float32)

    def where(
        self,
        *,
        cameras: int | Iterable[int] | None = None,
        not_cameras: int | Iterable[int] | None = None,
        after: When | None = None,
        before: When | None = None,
        sources: str | Iterable[str] | None = None,
        now: float = -math.inf,
    ) -> NDArray[np.bool_]:
        """Whether a row passes ``[N]``: by camera, ``after <= time < before``, source, and not expired ``now``.

        A source is a file, or a folder with all below it. Rows without a time pass no bound on it.
        """
        passes = ~(self.column("expiry") <= now)
        if cameras is not None:
            passes &= np.isin(self.column("camera"), _several(cameras))
        if not_cameras is not None:
            passes &= ~np.isin(self.column("camera"), _several(not_cameras))
        if after is not None:
            passes &= self.column("time") >= seconds_since_1970(after)
        if before is not None:
            passes &= self.column("time") < seconds_since_1970(before)
        if sources is not None and self.table is not None:
            names, column = [sources] if isinstance(sources, str) else list(sources), self.table["source"]
            inside = np.zeros(len(self), dtype=bool)
            for name in map(os.fsencode, names):
                inside |= pc.equal(column, pa.scalar(name, pa.binary())).to_numpy()
                inside |= pc.starts_with(column, name.rstrip(b"/") + b"/").to_numpy()
            passes &= inside
        return passes

    def hits(self, places: NDArray[np.int64], similarities: NDArray[np.float32]) -> list[Hit]:
        if self.table is None:
            return []
        found = self.table.take(pa.array(places)).to_pylist()
        for one in found:
            one["source"], one["box"] = os.fsdecode(one["source"]), tuple(one["box"])
        return [Hit(similarity=float(s), **one) for one, s in zip(found, similarities, strict=True)]


def vectors_of(batch: pa.RecordBatch) -> Block:
    """The bits of its vectors ``[n, D]``, not copied."""
    column = batch.column("vector")
    bits: Block = column.flatten().to_numpy().view(np.uint16).reshape(len(batch), column.type.list_size)
    return bits


def seconds_since_1970(when: When) -> float:
    """A time as seconds since 1970: a number is that already; without a time zone, a clock shows UTC.

    Raises:
        ReseenError: no time.
    """
    if isinstance(when, int | float):
        return float(when)
    try:
        clock = when if isinstance(when, datetime) else datetime.fromisoformat(when)
    except ValueError:
        raise ReseenError(
            f"{when!r} is no time: give one like 2026-05-01T14:30 (UTC) or 2026-05-01T14:30+02:00"
        ) from None
    return (clock if clock.tzinfo else clock.replace(tzinfo=UTC)).timestamp()


def _several(cameras: int | Iterable[int]) -> list[int]:
    return [cameras] if isinstance(cameras, int | np.integer) else list(cameras)


def _digests(rows: pa.Table | pa.RecordBatch) -> NDArray[np.int64]:
    """A number for each row that changes with any bit of it, the thumbnail apart: what disks get wrong is noticed."""
    batch = rows.combine_chunks().to_batches()[0] if isinstance(rows, pa.Table) and len(rows) else rows
    if not len(batch):
        return np.zeros(0, np.int64)
    plain = [name for name in HELD if name not in ("source", "box")]
    numbers = np.stack([batch.column(name).to_numpy().astype(np.float64) for name in plain], axis=1)
    boxes = batch.column("box").flatten().to_numpy().reshape(len(batch), 4)
    vectors = vectors_of(batch)
    source = batch.column("source")
    offsets = np.frombuffer(source.buffers()[1], np.int32)[source.offset : source.offset + len(batch) + 1]
    letters = np.frombuffer(source.buffers()[2] or b"", np.uint8)
    result = np.zeros(len(batch), np.uint64)
    _stir(result, vectors.view(np.uint64) if vectors.shape[1] % 4 == 0 else vectors)
    _stir(result, numbers.view(np.uint64))
    _stir(result, np.ascontiguousarray(boxes).view(np.uint64))
    _stir_letters(result, offsets, letters)
    return result.view(np.int64)


@compiled
def _stir(digests: NDArray[np.uint64], words: NDArray[Any]) -> None:
    """FNV-1a by words: each step is one-to-one, so that a word that differs alone makes the digest differ."""
    for row in range(len(words)):
        digest = digests[row]
        for word in words[row]:
            digest = (digest ^ np.uint64(word)) * np.uint64(1099511628211)
        digests[row] = digest


@compiled
def _stir_letters(
    digests: NDArray[np.uint64], offsets: NDArray[np.int32], letters: NDArray[np.uint8]
) -> None:
    for row in range(len(digests)):
        digest = digests[row] ^ np.uint64(offsets[row + 1] - offsets[row])
        for place in range(offsets[row], offsets[row + 1]):
            digest = (digest ^ np.uint64(letters[place])) * np.uint64(1099511628211)
        digests[row] = digest
