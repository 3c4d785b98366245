"""The two paths to a person as loops over pixels, on lists of Python floats; and the scores of a tiny search."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

Map = Sequence[Sequence[float]]  # rows of one channel
Box = Sequence[float]  # x1, y1, x2, y2


def bilinear(channel: Map, y: float, x: float) -> float:
    """Value at (y, x), pixel centres at whole numbers; beyond the outermost centres their value goes on."""
    y = min(max(y, 0.0), len(channel) - 1.0)
    x = min(max(x, 0.0), len(channel[0]) - 1.0)
    top, left = min(int(y), max(len(channel) - 2, 0)), min(int(x), max(len(channel[0]) - 2, 0))
    down, right = min(top + 1, len(channel) - 1), min(left + 1, len(channel[0]) - 1)
    dy, dx = y - top, x - left
    above = (1 - dx) * channel[top][left] + dx * channel[top][right]
    below = (1 - dx) * channel[down][left] + dx * channel[down][right]
    return (1 - dy) * above + dy * below


def look(channel: Map, y: float, x: float) -> float:
    """:func:`bilinear`, and 0 a pixel and more away from the map."""
    outside = not (-1 <= y <= len(channel) and -1 <= x <= len(channel[0]))
    return 0.0 if outside else bilinear(channel, y, x)


def cut(channel: Map, box: Box, height: int, width: int) -> list[list[float]]:
    """The box at ``height`` x ``width`` pixels: one look in the middle of each of them."""
    x1, y1, x2, y2 = box
    return [
        [
            look(
                channel,
                y1 + (row + 0.5) * (y2 - y1) / height - 0.5,
                x1 + (column + 0.5) * (x2 - x1) / width - 0.5,
            )
            for column in range(width)
        ]
        for row in range(height)
    ]


def level(box: Box) -> int:
    """Which of P3, P4, P5, P6 a box is pooled from: 0 to 3."""
    side = math.sqrt((box[2] - box[0]) * (box[3] - box[1]))
    return min(max(math.floor(math.log2(side / 56 + 1e-6)), 0), 3)


def pooled(channel: Map, box: Box, stride: int, height: int, width: int) -> list[list[float]]:
    """RoIAlign, half-pixel aligned: the mean of as many looks into each cell as it has pixels, rounded up."""
    x1, y1, x2, y2 = (side / stride - 0.5 for side in box)
    tall, wide = (y2 - y1) / height, (x2 - x1) / width
    rows, columns = math.ceil(tall), math.ceil(wide)
    result = []
    for row in range(height):
        line = []
        for column in range(width):
            looks = []
            for i in range(rows):
                for j in range(columns):
                    y = y1 + row * tall + (i + 0.5) * tall / rows
                    x = x1 + column * wide + (j + 0.5) * wide / columns
                    looks.append(look(channel, y, x))
            line.append(math.fsum(looks) / len(looks))
        result.append(line)
    return result


def search_feature(
    maps: Sequence[Sequence[Map]], box: Box, cells: tuple[int, int], weight: Any, bias: Any
) -> list[float]:
    """The box's map by its level, flattened channel by channel, one linear layer, unit length."""
    place = level(box)
    flat = [
        value
        for channel in maps[place]
        for line in pooled(channel, box, 8 * 2**place, *cells)
        for value in line
    ]
    raw = [
        math.fsum(w * v for w, v in zip(row, flat, strict=True)) + b
        for row, b in zip(weight, bias, strict=True)
    ]
    length = math.sqrt(math.fsum(value * value for value in raw))
    return [value / length for value in raw]
