"""Whether bytes are still somewhere: what proves that an erasure removed them.

A needle is a name, or one of up to three windows of 16 bytes of a vector or a picture (a torn file may hold a part).
Vectors and names are stored as they are (:func:`reseen.gallery.rows.schema`), and JPEG files cannot be made smaller.

Every byte is read once, eight at a time: wherever a needle of 15 bytes or more stands, one of eight neighbouring words
of it begins at a multiple of eight, and those words are looked for. Shorter needles need smaller steps.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from reseen.compiled import compiled

WINDOW, HEAD = 16, 8  # bytes of a window, and of the words by which needles are looked for
DISTINCT = 6  # different bytes that a window has at least: zeros are everywhere
BITS = 16  # of the hash of a word at least: the table stays in a near cache
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


class Needles:
    """Pieces of at least 8 bytes, prepared to be looked for."""

    def __init__(self, needles: Iterable[bytes]) -> None:
        self.needles = sorted(set(needles))
        lengths = [len(needle) for needle in self.needles]
        self.longest = max(lengths, default=0)
        shortest = min(lengths, default=HEAD)
        self._step = next(step for step in (8, 4, 2, 1) if step <= shortest - HEAD + 1)
        words, owners, offsets = [], [], []
        for owner, needle in enumerate(self.needles):
            # of files in a folder, names begin differently
            first = min(needle.rfind(b"/") + 1, len(needle) - HEAD - self._step + 1)
            for offset in range(first, first + self._step):
                words.append(int.from_bytes(needle[offset : offset + HEAD], "little"))
                owners.append(owner)
                offsets.append(offset)
        order = np.argsort(np.array(words, np.uint64), kind="stable")
        self._words = np.array(words, np.uint64)[order]
        self._owners = np.array(owners, np.int64)[order]
        self._offsets = np.array(offsets, np.int64)[order]
        self._letters = np.frombuffer(b"".join(self.needles), np.uint8)
        self._edges = np.cumsum([0, *lengths])
        self._shift = np.uint64(64 - max(BITS, len(words).bit_length() + 4))
        self._table = np.zeros(2 ** (64 - int(self._shift)), dtype=np.bool_)
        self._table[(self._words * np.uint64(_FACTOR)) >> self._shift] = True

    def within(self, pieces: Iterable[bytes | memoryview]) -> set[bytes]:
        """The needles that stand whole in any of the pieces."""
        found = np.zeros(len(self.needles), dtype=np.bool_)
        for piece in pieces if self.needles else ():
            data = np.frombuffer(piece, np.uint8)
            data.flags.writeable = False  # one kernel for bytes and for buffers
            _look(data, self._step, self._table, self._shift, self._words, self._owners, self._offsets,
                  self._letters, self._edges, found)  # fmt: skip
        return {self.needles[place] for place in np.flatnonzero(found)}


@compiled
def _look(
    data: NDArray[np.uint8],
    step: int,
    table: NDArray[np.bool_],
    shift: np.uint64,
    words: NDArray[np.uint64],
    owners: NDArray[np.int64],
    offsets: NDArray[np.int64],
    letters: NDArray[np.uint8],
    edges: NDArray[np.int64],
    found: NDArray[np.bool_],
) -> None:
    """Mark as found each needle that stands in ``data``: first one of the sorted ``words``, then all around it."""
    for place in range(0, len(data) - HEAD + 1, step):
        # Unsigned, as an index that is not counted from the end: the eight loads become one.
        at = np.uintp(place)
        word = np.uint64(data[at])
        for byte in range(1, HEAD):
            word |= np.uint64(data[at + np.uintp(byte)]) << np.uint64(8 * byte)
        if not table[(word * np.uint64(_FACTOR)) >> shift]:
            continue
        entry = np.searchsorted(words, word)
        while entry < len(words) and words[entry] == word:
            owner, start = owners[entry], place - offsets[entry]
            length = edges[owner + 1] - edges[owner]
            if not found[owner] and start >= 0 and start + length <= len(data):
                same = 0
                while same < length and data[start + same] == letters[edges[owner] + same]:
                    same += 1
                found[owner] = same == length
            entry += 1
