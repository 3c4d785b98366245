"""Who is named to be erased: rows by number, source, track or time, or by whom they are like."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from reseen.errors import ReseenError
from reseen.gallery.rows import Held


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
