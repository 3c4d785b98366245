"""Rows on disk: one LanceDB table for each model, in a folder or on object storage."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from reseen.errors import ReseenError
from reseen.gallery.bytes import Needles
from reseen.gallery.files import Files
from reseen.gallery.rows import HELD, schema, vectors_of

FORMAT = "1"  # of a table; other ones are refused
NEXT = "reseen.next_row"  # in a table's configuration, once rows were erased
CALIBRATION = "reseen.calibration"  # likewise, once its model has one
FRAGMENT = 2**13  # rows of a file, once it is compacted: what an erasure of one row rewrites
SMALL_FRAGMENTS = 100  # that additions may leave before they are joined
BATCH = 8192  # rows that are read together
COPIED = 128  # rows that are rewritten together: they stay in the processor's cache, and cost half as much


@dataclass(frozen=True)
class About:
    """Whose features a table holds: the model's fingerprint and name, D, and where it lies relative to the gallery
    ("" where that is not known)."""

    fingerprint: str
    name: str
    dim: int
    run: str = ""

    def __str__(self) -> str:
        return f"{self.name} ({self.fingerprint[:12]})"


@dataclass(frozen=True)
class Proof:
    """Of an erasure: ``files`` of ``bytes`` together were read, and hold pieces of the rows only where rows that stay
    have the same, which are ``shared``."""

    shared: int
    files: int
    bytes: int


class Store:
    """The table of one model: see :class:`reseen.gallery.places.Rows`. Every error of the database is one line that
    names the gallery."""

    def __init__(self, place: str, about: About, table: Any) -> None:
        self.place, self.about, self._table = place, about, table
        self.files, self.away = Files(place), None  # vectors are read into memory

    @classmethod
    def all(cls, place: str) -> list[Store]:
        """The tables at ``place``, by name; none where nothing is yet.

        Raises:
            ReseenError: what is there is no gallery, or of another version, or cannot be read.
        """
        with answering(place):
            files = Files(place)
            names = files.names()
            tops = {name.partition("/")[0] for name in names if "/" in name}
            tables = sorted(top.removesuffix(".lance") for top in tops if top.endswith(".lance"))
            if names and not tables and "writer.lock" not in names:
                raise ReseenError(f"{place} holds other files and no gallery: give another folder")
            database = _connect(place) if tables else None
            return [cls(place, *_opened(place, database, name)) for name in tables if database is not None]

    @classmethod
    def new(cls, place: str, about: About) -> Store:
        with answering(place):
            words = {"reseen.gallery": FORMAT, "fingerprint": about.fingerprint, "name": about.name}
            table = _connect(place).create_table(
                f"model-{about.fingerprint.replace('+', '-')}",
                schema=schema(about.dim, words | {"run": about.run}),
            )
            return cls(place, about, table)

    def latest(self) -> Any:
        """The Lance dataset as it is now; it does not follow later changes."""
        with answering(self.place):
            self._table.checkout_latest()
            return self._table.to_lance()

    def batches(self, dataset: Any, *, after: int = -1) -> Iterator[pa.RecordBatch]:
        """Rows with numbers above ``after``, in order within each file, without their thumbnails."""
        with answering(self.place):
            columns, above = ["vector", *HELD, "digest"], None if after < 0 else f"row > {after}"
            yield from dataset.scanner(columns, filter=above, batch_size=BATCH).to_batches()

    def kept(self, dataset: Any, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        with answering(self.place):
            if int(dataset.count_rows()) == len(rows):
                return np.ones(len(rows), dtype=np.bool_)
            return np.isin(rows, _numbers(dataset))

    def append(self, rows: pa.Table) -> None:
        with answering(self.place):
            self._table.add(rows)

    def next_number(self, free: int) -> int:
        return max(free, int(self.latest().config().get(NEXT, "0")))

    def whole(self) -> Iterator[pa.Table]:
        with answering(self.place):
            for batch in self.latest().scanner(batch_size=BATCH).to_batches():
                yield pa.Table.from_batches([batch])

    def calibration(self, dataset: Any) -> str:
        with answering(self.place):
            return str(dataset.config().get(CALIBRATION, ""))

    def keep_calibration(self, text: str) -> None:
        with answering(self.place):
            self.latest().update_config({CALIBRATION: text})

    # --- erasing: see erasing.py ---

    def contents(self, rows: Sequence[int] | None) -> Iterator[tuple[bytes, bytes, bytes]]:
        """Vector, thumbnail and source of some rows, or of all, as bytes."""
        with answering(self.place):
            columns, dataset = ["vector", "thumbnail", "source"], self.latest()
            for some in _in_clause(rows) if rows is not None else [None]:
                for batch in dataset.scanner(columns, filter=some, batch_size=BATCH).to_batches():
                    vectors = [vector.tobytes() for vector in vectors_of(batch)]
                    pictures, names = (batch.column(name).to_pylist() for name in columns[1:])
                    yield from zip(vectors, pictures, names, strict=True)

    def delete(self, rows: Sequence[int]) -> int:
        """Mark rows as deleted; how many there were. Their numbers are not given again."""
        with answering(self.place):
            dataset = self.latest()
            before = int(dataset.count_rows())
            last = int(_numbers(dataset).max(initial=-1))
            dataset.update_config({NEXT: str(max(self.next_number(0), last + 1))})
            for some in _in_clause(rows):
                dataset.delete(some)
            return before - int(dataset.count_rows())

    def compact(self, *, erased: bool = False) -> None:
        """Rewrite what holds deleted rows, join small fragments (not to erase: only what has to be is rewritten then),
        and remove every file that is then of no use."""
        with answering(self.place):
            dataset = self.latest()
            untouched = [one.fragment_id for one in dataset.get_fragments() if not one.num_deletions]
            dataset.optimize.compact_files(
                target_rows_per_fragment=FRAGMENT,
                materialize_deletions=True,
                materialize_deletions_threshold=0.0,
                batch_size=COPIED,
                excluded_fragment_ids=untouched if erased else [],
            )
            dataset.cleanup_old_versions(older_than=timedelta(0), delete_unverified=True)
            used = {file.path for fragment in dataset.get_fragments() for file in fragment.data_files()}
            data = f"{self._table.name}.lance/data/"
            for name in self.files.names():
                if name.startswith(data) and name.removeprefix(data) not in used:  # a killed writer's
                    self.files.remove(name)

    def proof(self, wanted: Needles) -> Proof:
        """Read every file for pieces of rows that were erased.

        Raises:
            ReseenError: one is left, and belongs to no row that stays.
        """
        left: dict[bytes, str] = {}
        names = self.files.names()
        for name in names:
            if not name.startswith("erasing-"):  # the note of what is being erased
                left |= dict.fromkeys(wanted.within(self.files.chunks(name, wanted.longest)), name)
        shared = Needles(left).within(_together(self.contents(None))) if left else set()
        gone_wrong = [name for needle, name in left.items() if needle not in shared]
        if gone_wrong:
            raise ReseenError(
                f"bytes of erased rows are still in {self.place}/{gone_wrong[0]}: run reseen forget {self.place} "
                "--finish; if that does not help, index again into another gallery and delete this one"
            )
        return Proof(len(shared), len(names), self.files.size())

    def scattered(self) -> bool:
        """Whether small additions left many more files than the rows need."""
        with answering(self.place):
            dataset = self.latest()
            return len(dataset.get_fragments()) > SMALL_FRAGMENTS + int(dataset.count_rows()) // FRAGMENT

    def thumbnails(self, rows: Sequence[int], places: Sequence[int] = ()) -> dict[int, bytes]:
        """Read at ``places``, and the whole column of numbers only for rows that are not there any more, because others
        before them were erased."""
        with answering(self.place):
            dataset, columns = self.latest(), ["row", "thumbnail"]
            count = int(dataset.count_rows())
            found = _by_row(dataset.take([place for place in places if place < count], columns=columns))
            found = {row: found[row] for row in rows if row in found}
            for some in _in_clause([row for row in rows if row not in found]):
                found |= _by_row(dataset.to_table(columns=columns, filter=some))
            return found


def _by_row(table: pa.Table) -> dict[int, bytes]:
    return dict(zip(table["row"].to_pylist(), table["thumbnail"].to_pylist(), strict=True))


@contextlib.contextmanager
def answering(place: str) -> Iterator[None]:
    """Turn whatever the database says into one line."""
    try:
        yield
    except (ReseenError, GeneratorExit, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # Rust's panics are no Exception
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        first = re.split(r", /|\n|, [\w/-]+\.rs:", str(error))[0][:200]
        full = "No space left" in str(error) or "os error 28" in str(error)
        remedy = "free space and try again" if full else "check the path and its permissions, or index again"
        raise ReseenError(f"the gallery {place} cannot be used ({first}): {remedy}") from error


def _connect(place: str) -> Any:
    import lancedb

    return lancedb.connect(place)


def _opened(place: str, database: Any, name: str) -> tuple[About, Any]:
    table = database.open_table(name)
    words = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    version = words.get("reseen.gallery")
    if version != FORMAT:
        what = "no gallery of reseen" if version is None else f"of version {version}"
        raise ReseenError(
            f"{place} is {what}, and this reseen reads version {FORMAT}: index again into another"
        )
    dim = table.schema.field("vector").type.list_size
    return About(words["fingerprint"], words["name"], dim, words.get("run", "")), table


def give_back() -> None:
    """Return to the system what reading left with the allocator: half as much again as the rows, with glibc."""
    with contextlib.suppress(OSError, AttributeError, TypeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def _numbers(dataset: Any) -> NDArray[np.int64]:
    numbers: NDArray[np.int64] = dataset.to_table(columns=["row"])["row"].to_numpy()
    return numbers


def _together(rows: Iterator[tuple[bytes, bytes, bytes]], size: int = 4096) -> Iterator[bytes]:
    """Vectors, pictures and names of some rows at a time, one behind the other as in a file."""
    while some := list(itertools.islice(rows, size)):
        yield from (b"".join(column) for column in zip(*some, strict=True))


def _in_clause(rows: Sequence[int], size: int = 10_000) -> list[str]:
    """Filters that together pass the rows of these numbers."""
    numbers = [str(int(row)) for row in rows]
    return [f"row IN ({', '.join(numbers[start : start + size])})" for start in range(0, len(numbers), size)]
