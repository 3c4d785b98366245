"""Pages of hits: a cursor names the last hit that was seen, so that additions and erasures shift nobody."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from reseen.gallery.rows import Hit
from reseen.gallery.server.problems import ProblemError

MOST = 10_000  # hits of a query that can be paged through or exported
CURSOR = r"[0-9a-f]{8}-[0-9]{1,18}-[0-9]{1,5}"  # similarity (the bits of float32), row, hits so far


@dataclass(frozen=True)
class Cursor:
    similarity: float = math.inf
    row: int = -1
    seen: int = 0

    @classmethod
    def read(cls, text: str | None) -> Cursor:
        """Raises ProblemError where it is none of ours."""
        if text is None:
            return cls()
        if not re.fullmatch(CURSOR, text):
            raise ProblemError(422, "this is no cursor: send `next` of the page before")
        bits, row, seen = text.split("-")
        (similarity,) = struct.unpack(">f", bytes.fromhex(bits))
        return cls(similarity, int(row), min(int(seen), MOST))

    def __str__(self) -> str:
        return f"{struct.pack('>f', self.similarity).hex()}-{self.row}-{self.seen}"


def page_of(
    search: Callable[[int], Sequence[Hit]], cursor: Cursor, limit: int
) -> tuple[list[Hit], Cursor | None]:
    """The ``limit`` hits behind ``cursor`` and the next cursor, None at the end.

    Args:
        search: the first k hits, most similar first, ties by row.
    """
    k = cursor.seen + limit + 1
    while True:
        k = min(k, MOST)
        hits = search(k)
        rest = [hit for hit in hits if (-hit.similarity, hit.row) > (-cursor.similarity, cursor.row)]
        if len(rest) > limit or len(hits) < k or k == MOST:
            break
        k *= 2  # rows were added before the cursor
    page = rest[:limit]
    if len(rest) <= limit:
        return page, None
    return page, Cursor(page[-1].similarity, page[-1].row, cursor.seen + limit)
