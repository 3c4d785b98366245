"""Boxes as annotators leave them: what can be used, and what is dropped and counted."""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reseen.data.paths import shown
from reseen.records import Labels

Boxes = NDArray[np.float32]  # [n, 4], xyxy, pixels


def corners(boxes: ArrayLike) -> NDArray[np.float64]:
    """x, y, width, height ``[n, 4]`` to x1, y1, x2, y2."""
    result = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    result[:, 2:] += result[:, :2]
    return result


def has_area(boxes: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Which xyxy boxes ``[n, 4]`` are finite, not inverted and not empty."""
    finite: NDArray[np.bool_] = np.isfinite(boxes).all(axis=1)
    return finite & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])


def cut_to_image(boxes: Boxes, height: int, width: int) -> tuple[Boxes, Labels]:
    """Boxes cut at the borders of their image ``[n', 4]`` and the rows ``[n']`` of those that are left of n."""
    limit = np.array([width, height, width, height], dtype=np.float32)
    inside = np.clip(boxes, 0, limit)  # NaN stays
    kept = np.flatnonzero(has_area(inside)).astype(np.int64)
    return inside[kept], kept


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
