"""Rows on disk: one LanceDB table for each model, in a folder or on object storage."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from reseen.errors import ReseenError
from reseen.gallery.files import Files, is_remote
from reseen.gallery.rows import HELD, schema, vectors_of

FORMAT = "1"  # of a table; other ones are refused
NEXT = "reseen.next_row"  # in a table's configuration, once rows were erased
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


class Store:
    """The table of one model. Every error of the database is one line that names the gallery."""

    def __init__(self, place: str, about: About, table: Any) -> None:
        self.place, self.about, self._table = place, about, table
        self.files = Files(place)

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
        """Rows with numbers above ``after``, in order, without their thumbnails."""
        with answering(self.place):
            columns, above = ["vector", *HELD, "digest"], None if after < 0 else f"row > {after}"
            yield from dataset.scanner(columns, filter=above, batch_size=BATCH).to_batches()

    def count(self, dataset: Any) -> int:
        with answering(self.place):
            return int(dataset.count_rows())

    def numbers(self, dataset: Any) -> NDArray[np.int64]:
        with answering(self.place):
            numbers: NDArray[np.int64] = dataset.to_table(columns=["row"])["row"].to_numpy()
            return numbers

    def append(self, rows: pa.Table) -> None:
        """All rows or none."""
        with answering(self.place):
            self._table.add(rows)

    def next_number(self, free: int) -> int:
        """The number of the next row, ``free`` or above: those of erased rows are not given again."""
        return max(free, int(self.latest().config().get(NEXT, "0")))

    def copy_to(self, place: str) -> int:
        """All rows into a new table elsewhere; how many."""
        run = self.about.run
        if run and not (is_remote(place) or is_remote(self.place)):
            run = os.path.relpath(os.path.join(self.place, run), place)
        other, dataset = Store.new(place, replace(self.about, run=run)), self.latest()
        with answering(place):
            for batch in dataset.scanner(batch_size=BATCH).to_batches():
                other.append(pa.Table.from_batches([batch]))
            return self.count(dataset)

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
            before = self.count(dataset)
            last = self.numbers(dataset)[-1:].tolist()
            dataset.update_config({NEXT: str(max([self.next_number(0), *(row + 1 for row in last)]))})
            for some in _in_clause(rows):
                dataset.delete(some)
            return before - self.count(dataset)

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

    def scattered(self) -> bool:
        """Whether small additions left many more files than the rows need."""
        with answering(self.place):
            dataset = self.latest()
            return len(dataset.get_fragments()) > SMALL_FRAGMENTS + self.count(dataset) // FRAGMENT

    def thumbnails(self, rows: Sequence[int]) -> dict[int, bytes]:
        """JPEG files by row number; rows that are no more are left out."""
        numbers = ", ".join(str(int(row)) for row in rows) or "-1"
        with answering(self.place):
            found = self.latest().to_table(columns=["row", "thumbnail"], filter=f"row IN ({numbers})")
            return dict(zip(found["row"].to_pylist(), found["thumbnail"].to_pylist(), strict=True))


def models_in(place: str) -> list[About]:
    """Whose rows a gallery holds."""
    return [store.about for store in Store.all(place)]


def only_model(place: str) -> About:
    """Whose rows a gallery holds. Raises ReseenError where that is nobody's, or those of several."""
    models = models_in(place)
    if not models:
        raise ReseenError(f"{place} is no gallery yet: reseen index RUN PATH --gallery {place} begins one")
    if len(models) > 1:
        raise ReseenError(
            f"{place} holds rows of {' and of '.join(map(str, models))}: say of which model with its run"
        )
    return models[0]


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
    if words.get("reseen.gallery") != FORMAT:
        what = (
            f"of version {words['reseen.gallery']}" if "reseen.gallery" in words else "no gallery of reseen"
        )
        raise ReseenError(
            f"{place} is {what}, and this reseen reads version {FORMAT}: index again into another"
        )
    dim = table.schema.field("vector").type.list_size
    return About(words["fingerprint"], words["name"], dim, words.get("run", "")), table


def give_back() -> None:
    """Return to the system what reading left with the allocator: half as much again as the rows, with glibc."""
    with contextlib.suppress(OSError, AttributeError, TypeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def _in_clause(rows: Sequence[int], size: int = 10_000) -> list[str]:
    """Filters that together pass the rows of these numbers."""
    numbers = [str(int(row)) for row in rows]
    return [f"row IN ({', '.join(numbers[start : start + size])})" for start in range(0, len(numbers), size)]
