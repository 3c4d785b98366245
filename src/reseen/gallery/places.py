"""Where galleries are kept: in a folder or on object storage (LanceDB), or on a Qdrant server or cluster.

:class:`Rows` is all that a gallery asks of either, and what a third would have to answer; the tests of
tests/test_gallery.py that take a ``place`` say what is promised.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from reseen.errors import ReseenError
from reseen.gallery.bytes import Needles
from reseen.gallery.files import Files, is_qdrant, is_remote
from reseen.gallery.rows import Away
from reseen.gallery.store import About, Proof, Store


class Notes(Protocol):
    """Small texts beside the rows: what is being erased, and what was."""

    def read(self, name: str) -> bytes: ...
    def write(self, name: str, content: str) -> None: ...
    def remove(self, name: str) -> None: ...


class Rows(Protocol):
    """The rows of one model. Whoever changes them holds the lock (:func:`reseen.gallery.files.locked`)."""

    place: str
    about: About
    away: Away | None  # what compares vectors that are not read into memory

    @property
    def files(self) -> Notes: ...
    def latest(self) -> Any:
        """The rows as they are now; its ``version`` is another one after any change."""

    def batches(self, now: Any, *, after: int = -1) -> Iterator[pa.RecordBatch]:
        """Rows with numbers above ``after``, in order, without thumbnails; without vectors where they are away."""

    def kept(self, now: Any, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of these rows, that once were there, still are."""

    def whole(self) -> Iterator[pa.Table]:
        """All columns of all rows, some at a time, in order."""

    def append(self, rows: pa.Table) -> None:
        """All rows or none."""

    def next_number(self, free: int) -> int:
        """The number of the next row, ``free`` or above: those of erased rows are not given again."""

    def calibration(self, now: Any) -> str:
        """What :meth:`keep_calibration` was given last; "" where it never was."""

    def keep_calibration(self, text: str) -> None:
        """Note how sure the model of these rows is; seen with their next version."""

    def thumbnails(self, rows: Sequence[int], places: Sequence[int] = ()) -> dict[int, bytes]:
        """JPEG files by row number, of rows that are there; ``places``: which of all rows they were, by what was read
        last, where that helps to find them."""

    def scattered(self) -> bool: ...
    def compact(self, *, erased: bool = False) -> None: ...
    def contents(self, rows: Sequence[int]) -> Iterator[tuple[bytes, bytes, bytes]]:
        """Vector, thumbnail and source of rows, as they are looked for once they are erased."""

    def delete(self, rows: Sequence[int]) -> int: ...
    def proof(self, wanted: Needles) -> Proof:
        """What is still there of rows that were erased; raises ReseenError where that is more than it may be."""


def rows_at(place: str) -> list[Rows]:
    """The rows of each model at ``place``; none where nothing is yet.

    Raises:
        ReseenError: what is there is no gallery, or of another version, or cannot be read.
    """
    return [*_kind(place).all(place)]


def new_rows_at(place: str, about: About) -> Rows:
    rows: Rows = _kind(place).new(place, about)
    return rows


def models_in(place: str) -> list[About]:
    """Whose rows a gallery holds."""
    return [rows.about for rows in rows_at(place)]


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


def copied(rows: Rows, place: str) -> int:
    """All rows, with their numbers, into another place; how many."""
    run = rows.about.run
    if run and not (is_remote(place) or is_remote(rows.place)):
        run = os.path.relpath(os.path.join(rows.place, run), place)
    other, count = new_rows_at(place, replace(rows.about, run=run)), 0
    for some in rows.whole():
        other.append(some)
        count += len(some)
    if text := rows.calibration(rows.latest()):
        other.keep_calibration(text)
    return count


def taken(place: str) -> str:
    """How much a gallery that holds rows takes, in words."""
    if is_qdrant(place):
        return f"{_kind(place).all(place)[0].layout()} at {place}"
    return f"{Files(place).size() / 1e6:.1f} MB in {place}"


def _kind(place: str) -> Any:
    if not is_qdrant(place):
        return Store
    from reseen.gallery.qdrant import Collection  # an extra of its own

    return Collection
