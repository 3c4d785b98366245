"""Walks through a video: hits in consecutive sampled frames that are one person get one track."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reseen.footage.rows import Rows
from reseen.records import Labels

GAP = 1.5  # seconds that a person may be out of sight within one track
REACH = 2.0  # widths that a box is widened by on each side, for each second since it was seen
ALIKE = 0.5  # cosine below which two hits are two persons, wherever they are


@dataclass(frozen=True)
class Tracks:
    """The last hit of each of T tracks, and how many there were in all.

    ``numbers`` int64 ``[T]``, ``boxes`` float32 ``[T, 4]`` (xyxy), ``features`` ``[T, D]``, ``seconds`` ``[T]``.
    """

    numbers: Labels
    boxes: NDArray[np.float32]
    features: NDArray[np.float32]
    seconds: NDArray[np.float64]
    count: int = 0

    @classmethod
    def none(cls, dim: int) -> Tracks:
        """Those of a video that has not begun."""
        no = np.zeros(0)
        return cls(no.astype(np.int64), np.zeros((0, 4), np.float32), np.zeros((0, dim), np.float32), no)

    @classmethod
    def of(cls, rows: Rows) -> Tracks:
        """Those of a video up to its last row: nothing else is remembered, so that a stopped one can go on."""
        numbers, first = np.unique(rows.tracks[::-1], return_index=True)
        last = len(rows) - 1 - first
        count = int(numbers.max(initial=-1)) + 1
        return cls(numbers, rows.boxes[last], rows.features[last], rows.seconds[last], count)


def follow(
    tracks: Tracks, boxes: NDArray[np.float32], features: NDArray[np.float32], seconds: float
) -> tuple[Labels, Tracks]:
    """Tracks int64 ``[n]`` of the hits ``boxes`` ``[n, 4]``, ``features`` ``[n, D]`` of one frame, and all tracks then.

    A hit may go on with a track that was seen at most :data:`GAP` seconds ago if their boxes, each widened by
    :data:`REACH` for the time between, overlap and their cosine is at least :data:`ALIKE`. Of these pairs the one
    with the largest sum of overlap (intersection over union) and cosine is taken first, and so on (ties: the earlier
    track, then the earlier hit). What is left begins a track. Widening is that of C-BIoU (Yang et al. 2023).
    """
    age = seconds - tracks.seconds
    overlap = _overlap(tracks.boxes, boxes, REACH * np.maximum(age, 0))
    cosine = tracks.features @ features.T
    possible = (age[:, None] <= GAP) & (overlap > 0) & (cosine >= ALIKE)
    score = np.where(possible, overlap + cosine, -np.inf)
    numbers, goes_on = np.full(len(boxes), -1, dtype=np.int64), np.zeros(len(age), dtype=bool)
    while score.size and (best := int(score.argmax())) >= 0 and score.flat[best] > -np.inf:
        track, hit = divmod(best, score.shape[1])
        numbers[hit], goes_on[track] = tracks.numbers[track], True
        score[track], score[:, hit] = -np.inf, -np.inf
    new = np.flatnonzero(numbers < 0)
    numbers[new] = tracks.count + np.arange(len(new))
    left = (age <= GAP) & ~goes_on  # may still come back
    return numbers, Tracks(
        np.concatenate([tracks.numbers[left], numbers]),
        np.concatenate([tracks.boxes[left], boxes]),
        np.concatenate([tracks.features[left], features]),
        np.concatenate([tracks.seconds[left], np.full(len(boxes), seconds)]),
        tracks.count + len(new),
    )


def _overlap(
    old: NDArray[np.float32], new: NDArray[np.float32], reach: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Intersection over union ``[T, n]`` of boxes that are both widened by ``reach`` ``[T]`` times their widths."""
    first, second = (boxes.astype(np.float64)[:, None] for boxes in (old, new))
    second = second.transpose(1, 0, 2)
    low, high = [], []
    for boxes in (first, second):
        wide = reach[:, None] * (boxes[..., 2] - boxes[..., 0])
        low.append(np.stack([boxes[..., 0] - wide, np.broadcast_to(boxes[..., 1], wide.shape)]))
        high.append(np.stack([boxes[..., 2] + wide, np.broadcast_to(boxes[..., 3], wide.shape)]))
    common = np.maximum(np.minimum(*high) - np.maximum(*low), 0).prod(axis=0)
    areas = [(b - a).prod(axis=0) for a, b in zip(low, high, strict=True)]
    result: NDArray[np.float64] = common / np.maximum(areas[0] + areas[1] - common, 1e-9)
    return result
