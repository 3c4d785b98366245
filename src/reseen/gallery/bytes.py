"""Whether bytes are still somewhere: what proves that an erasure removed them.

A needle is a name, or one of up to three windows of 16 bytes of a vector or a picture (a torn file may hold a part).
Vectors and names are stored as they are (:func:`reseen.gallery.rows.schema`), and JPEG files cannot be made smaller.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from reseen.compiled import compiled

WINDOW, HEAD = 16, 8  # bytes of a window, and of the part by which a needle is looked for
DISTINCT = 6  # different bytes that a window has at least: zeros are everywhere
BITS = 16  # of the hash of a head: the table stays in the nearest cache
_FACTOR = 0x9E3779B97F4A7C15


def windows(content: bytes) -> list[bytes]:
    """Up to three windows: near the beginning, the middle and the end; fewer of what is short or uniform."""
    last = len(content) - WINDOW
    found = []
    for wanted in sorted({last // 8, last // 2, last - last // 8}) if last >= 0 else []:
        for start in range(wanted, min(wanted + 4 * WINDOW, last + 1), WINDOW // 2):
            window = content[start : start + WINDOW]
            if len(set(window)) >= DISTINCT:
                found.append(window)
                break
    return found


def present(needles: Iterable[bytes], pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The needles (of at least 8 bytes) that stand whole in any of the pieces."""
    wanted = set(needles)
    places: dict[
        bytes, set[tuple[int, int]]
    ] = {}  # head -> where it stands in needles, and how long those are
    for needle in wanted:
        offset = min(
            needle.rfind(b"/") + 1, len(needle) - HEAD
        )  # of files in a folder, names begin differently
        places.setdefault(needle[offset : offset + HEAD], set()).add((offset, len(needle)))
    heads = np.unique(np.array([int.from_bytes(head, "little") for head in places], np.uint64))
    table = np.zeros(2**BITS, dtype=np.bool_)
    table[(heads * np.uint64(_FACTOR)) >> np.uint64(64 - BITS)] = True
    for piece in pieces if wanted else ():
        for place in _suspects(np.frombuffer(piece, np.uint8), heads, table):
            for offset, length in places[piece[place : place + HEAD]]:
                start = place - offset
                if start >= 0 and piece[start : start + length] in wanted:
                    yield piece[start : start + length]


@compiled
def _suspects(data: NDArray[np.uint8], heads: NDArray[np.uint64], table: NDArray[np.bool_]) -> list[int]:
    """Where one of the sorted ``heads`` stands."""
    found = [0 for _ in range(0)]
    word = np.uint64(0)
    for place in range(len(data)):
        word = (word >> np.uint64(8)) | (np.uint64(data[place]) << np.uint64(56))
        if place >= HEAD - 1 and table[(word * np.uint64(_FACTOR)) >> np.uint64(64 - BITS)]:
            at = np.searchsorted(heads, word)
            if at < len(heads) and heads[at] == word:
                found.append(place - HEAD + 1)
    return found
