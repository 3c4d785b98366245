"""Erasing rows so that their bytes are gone, which a database's delete is not: it marks.

1. A note says which rows have to go and which pieces of them are looked for, so that whoever comes after a killed
   eraser finishes its work, and the proof.
2. The rows are deleted (from here on nobody finds them) and every fragment that holds a deleted row is rewritten,
   however few they are: Lance does so by itself only above a tenth of the fragment.
3. Old versions go, and with them the files that held the rows; also what killed writers left, which is safe because
   the writers' lock is held.
4. Every file of the gallery is read for the bytes of the rows. What is found and belongs to no row that stays is an
   error; else a receipt is written, with counts and without any name.

Each step can be cut short: the table is the one before or the one after, and the note is still there.

On Qdrant the second and third are the server's affair, and no file can be read: the receipt says so, with no files.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from reseen.errors import ReseenError
from reseen.files import to_json
from reseen.gallery.bytes import HEAD, Needles, windows
from reseen.gallery.places import Rows
from reseen.gallery.rows import Held

AUDIT = "audit.jsonl"


@dataclass(frozen=True)
class Receipt:
    """What an erasure did: ``rows`` that went, ``needles`` of theirs that were looked for in ``files`` of ``bytes``
    together and not found, but for ``shared`` ones, which rows that stay have too: in the name, or a copy."""

    time: str
    why: str
    rows: int
    needles: int
    shared: int
    files: int
    bytes: int
    seconds: float


def named_rows(
    held: Held,
    rows: Sequence[int],
    sources: str | Iterable[str],
    tracks: Iterable[tuple[str, int]],
    *,
    expired: bool,
) -> NDArray[np.bool_]:
    """Which rows are named ``[N]``, as :meth:`reseen.Gallery.matching` takes it.

    Raises:
        ReseenError: a number of no row.
    """
    numbers, sources = held.column("row"), [sources] if isinstance(sources, str) else list(sources)
    lost = sorted(set(rows) - set(numbers.tolist()))
    if lost:
        raise ReseenError(f"the gallery has no row {lost[0]}: reseen search shows the numbers of rows")
    chosen = np.isin(numbers, rows)
    if sources:
        chosen |= held.where(sources=sources)
    for source, track in tracks:
        chosen |= held.where(sources=source) & (held.column("track") == track)
    if expired:
        chosen |= held.column("expiry") <= time.time()
    return chosen


def check_likeness(like: bool, above: float | None, above_similarity: float | None) -> None:
    """Raise ReseenError unless somebody who is like an image is named by it and one number, or not at all."""
    if like != (above is not None) + (above_similarity is not None):
        raise ReseenError(
            "who is like somebody is said by two things: the image, and the probability above which (--above), or the "
            "similarity (--above-similarity)"
        )
    if above is not None and not 0 < above <= 1:
        raise ReseenError(f"{above:g} is no probability: give one above 0 and up to 1, like 0.9")


def erase(store: Rows, rows: Sequence[int], why: str) -> Receipt:
    """Erase rows by number; the caller holds the writers' lock. Rows that are no more do not disturb it.

    Raises:
        ReseenError: no space for the copy without them (the rows are not found any more, their bytes are still there),
            or bytes that are still somewhere. Either way the next call finishes the work.
    """
    started = time.perf_counter()
    others, pieces = _noted(store)
    rows = sorted({*map(int, rows), *others})
    wanted = Needles([*pieces, *needles_of(store.contents(rows))])
    encoded = [base64.b64encode(needle).decode() for needle in wanted.needles]
    store.files.write(_note(store), to_json({"rows": rows, "why": why, "needles": encoded}))
    count = store.delete(rows)
    store.compact(erased=True)
    proof = store.proof(wanted)
    receipt = Receipt(
        datetime.now(UTC).isoformat(timespec="seconds"),
        why,
        count,
        len(wanted.needles),
        proof.shared,
        proof.files,
        proof.bytes,
        round(time.perf_counter() - started, 3),
    )
    audit = store.files.read(AUDIT).decode()  # neither object storage nor Qdrant can append
    store.files.write(AUDIT, f"{audit}{to_json(asdict(receipt))}\n")
    store.files.remove(_note(store))
    return receipt


def unfinished(store: Rows) -> list[int]:
    """Rows that an eraser was told to erase before it was killed or had no space; their bytes may still be there."""
    return _noted(store)[0]


def _noted(store: Rows) -> tuple[list[int], list[bytes]]:
    """Rows and needles of the note; nothing where it was torn, for then nothing was deleted yet."""
    note = store.files.read(_note(store))
    try:
        words = json.loads(note) if note else {"rows": []}
        needles = [base64.b64decode(needle) for needle in words.get("needles", [])]
        return [int(row) for row in words["rows"]], needles
    except (ValueError, KeyError, TypeError, AttributeError):
        return [], []


def needles_of(rows: Iterable[tuple[bytes, bytes, bytes]]) -> Iterator[bytes]:
    """What is looked for of rows: windows of vector and picture, and the whole name."""
    for vector, picture, name in rows:
        yield from windows(vector)
        # not the tables of a JPEG file, which are those of every other one
        yield from windows(picture[max(0, picture.rfind(b"\xff\xda")) :])
        if len(name) >= HEAD:
            yield name


def _note(store: Rows) -> str:
    return f"erasing-{store.about.fingerprint[:12]}.json"
