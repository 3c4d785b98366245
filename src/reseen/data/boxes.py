"""Boxes as annotators leave them: what can be used, and what is dropped and counted."""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reseen.pixels import Boxes as Boxes
from reseen.pixels import cut_to_image as cut_to_image
from reseen.pixels import has_area as has_area
from reseen.pixels import shown
from reseen.records import Labels


def corners(boxes: ArrayLike) -> NDArray[np.float64]:
    """x, y, width, height ``[n, 4]`` to x1, y1, x2, y2."""
    result = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    result[:, 2:] += result[:, :2]
    return result


class Dropped:
    """Counts boxes that a reader leaves out, by reason, and remembers where the first one was."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._first: dict[str, str] = {}

    def add(self, name: str, count: int, reason: str) -> None:
        if count:
            self._counts[reason] += count
            self._first.setdefault(reason, name)

    def keep(self, boxes: NDArray[np.floating], name: str) -> tuple[Boxes, Labels]:
        """The usable ones of the xyxy boxes of image ``name`` as float32 ``[n', 4]``, and their rows ``[n']``."""
        with np.errstate(over="ignore", invalid="ignore"):  # beyond float32 is as bad as infinite
            rounded = boxes.astype(np.float32)
        good = has_area(rounded)
        self.add(name, int((~good).sum()), "without an area, or no numbers at all")
        kept = np.flatnonzero(good).astype(np.int64)
        return rounded[kept], kept

    def lines(self) -> tuple[str, ...]:
        """One line per reason, for ``SearchData.skipped``."""
        return tuple(
            f"{count:,} {'box' if count == 1 else 'boxes'} {reason} (first in {shown(self._first[reason])})"
            for reason, count in self._counts.items()
        )
