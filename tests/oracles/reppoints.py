"""RepPoints as loops over the specification (docs/methods/detectors.md), on lists of Python floats."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

Box = Sequence[float]
NEGATIVE, IGNORED = -1, -2


def moment_box(points: Sequence[float], theta: Sequence[float]) -> list[float]:
    """``points`` are y1, x1, ..., y9, x9."""
    sides = []
    for axis, log_scale in ((1, theta[0]), (0, theta[1])):  # x first
        values = [points[2 * k + axis] for k in range(9)]
        mean = math.fsum(values) / 9
        deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / 8)
        sides.append((mean, deviation * math.exp(log_scale)))
    (x, half_x), (y, half_y) = sides
    return [x - half_x, y - half_y, x + half_x, y + half_y]


def cells(
    shapes: Sequence[tuple[int, int]], strides: Sequence[int], size: tuple[float, float]
) -> list[tuple[int, int, int, bool]]:
    """x, y, stride and validity of each cell, level by level, row by row."""
    padded = [-(-math.ceil(side) // 32) * 32 for side in size]
    return [
        (column * stride, row * stride, stride, row * stride < padded[0] and column * stride < padded[1])
        for (rows, columns), stride in zip(shapes, strides, strict=True)
        for row in range(rows)
        for column in range(columns)
    ]


def centre(
    truth: Sequence[Box],
    shapes: Sequence[tuple[int, int]],
    strides: Sequence[int],
    size: tuple[float, float],
) -> list[int]:
    grid = cells(shapes, strides, size)
    owners = [NEGATIVE] * len(grid)
    distance_of = [math.inf] * len(grid)
    for number, (x1, y1, x2, y2) in enumerate(truth):
        w, h = x2 - x1, y2 - y1
        level = min(max(math.trunc((math.log2(w / 4) + math.log2(h / 4)) / 2), 3), 7)
        best, place = math.inf, -1
        for cell, (x, y, stride, valid) in enumerate(grid):
            if not valid or stride != 2**level:
                continue
            dx, dy = (x - (x1 + x2) / 2) / w, (y - (y1 + y2) / 2) / h
            distance = dx * dx + dy * dy  # squared: a root would make ties of what differs in its last bit
            if distance < best:
                best, place = distance, cell
        if best < distance_of[place]:
            owners[place], distance_of[place] = number, best
    return owners


def overlap(a: Box, b: Box) -> Fraction:
    a, b = [Fraction(v) for v in a], [Fraction(v) for v in b]
    shared = max(Fraction(0), min(a[2], b[2]) - max(a[0], b[0]))
    shared *= max(Fraction(0), min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / union


def max_iou(proposals: Sequence[Box], truth: Sequence[Box]) -> list[int]:
    table = [[overlap(box, proposal) for box in truth] for proposal in proposals]
    labels = []
    for row in table:
        best = max(row, default=Fraction(0))
        if best >= Fraction(1, 2):
            labels.append(row.index(best))
        else:
            labels.append(NEGATIVE if best < Fraction(2, 5) else IGNORED)
    taken_at = [Fraction(0)] * len(proposals)
    for number in range(len(truth)):
        best = max((row[number] for row in table), default=Fraction(0))
        for place, row in enumerate(table):
            if best > 0 and row[number] == best and best > taken_at[place]:
                labels[place], taken_at[place] = number, best
    return labels


def focal(logits: Sequence[float], positive: Sequence[bool]) -> float:
    total = 0.0
    for logit, truth in zip(logits, positive, strict=True):
        p = 1 / (1 + math.exp(-logit))
        if truth:
            total -= 0.25 * (1 - p) ** 2 * math.log(p)
        else:
            total -= 0.75 * p**2 * math.log(1 - p)
    return total


def smooth_l1(box: Box, truth: Box, stride: int) -> float:
    total = 0.0
    for a, b in zip(box, truth, strict=True):
        error = abs(a - b) / (4 * stride)
        total += 0.5 * error**2 / 0.11 if error < 0.11 else error - 0.5 * 0.11
    return total


def losses(
    logits: Sequence[Sequence[float]],
    first: Sequence[Sequence[Sequence[float]]],
    refined: Sequence[Sequence[Sequence[float]]],
    theta: Sequence[float],
    truths: Sequence[Sequence[Box]],
    shapes: Sequence[tuple[int, int]],
    strides: Sequence[int],
    sizes: Sequence[tuple[float, float]],
) -> dict[str, float]:
    """The three weighted terms from the outputs of each scene's cells: offsets in strides."""
    sums, counts = [0.0, 0.0, 0.0], [0, 0]
    for scene, truth in enumerate(truths):
        grid = cells(shapes, strides, sizes[scene])

        def box(offsets: Sequence[float], cell: int, grid=grid) -> list[float]:
            x, y, stride, _ = grid[cell]
            points = [(y, x)[k % 2] + stride * offset for k, offset in enumerate(offsets)]
            return moment_box(points, theta)

        owners = centre(truth, shapes, strides, sizes[scene])
        positive = [cell for cell in range(len(grid)) if owners[cell] >= 0]
        for cell in positive:
            sums[1] += smooth_l1(box(first[scene][cell], cell), truth[owners[cell]], grid[cell][2])
        counts[0] += max(len(positive), 1)

        valid = [cell for cell in range(len(grid)) if grid[cell][3]]
        labels = max_iou([box(first[scene][cell], cell) for cell in valid], truth)
        found = dict(zip(valid, labels, strict=True))
        for cell, label in found.items():
            if label >= 0:
                sums[2] += smooth_l1(box(refined[scene][cell], cell), truth[label], grid[cell][2])
            if label != IGNORED:
                sums[0] += focal([logits[scene][cell]], [label >= 0])
        counts[1] += max(sum(label >= 0 for label in labels), 1)
    return {
        "classification": sums[0] / counts[1],
        "init": 0.5 * sums[1] / counts[0],
        "refine": sums[2] / counts[1],
    }


def deform_conv(
    maps: Sequence[Sequence[Sequence[float]]],
    offsets: Sequence[Sequence[Sequence[float]]],
    weight: Sequence[Sequence[Sequence[Sequence[float]]]],
) -> list[list[list[float]]]:
    """Maps [C][h][w], offsets [18][h][w] and weights [O][C][3][3] to [O][h][w], zero beyond the border."""
    rows, columns = len(maps[0]), len(maps[0][0])

    def at(channel: int, y: float, x: float) -> float:
        total = 0.0
        for row in range(rows):
            for column in range(columns):
                share = max(0.0, 1 - abs(y - row)) * max(0.0, 1 - abs(x - column))
                total += share * maps[channel][row][column]
        return total

    result = []
    for kernel in weight:
        result.append([[0.0] * columns for _ in range(rows)])
        for row in range(rows):
            for column in range(columns):
                for tap in range(9):
                    y = row + tap // 3 - 1 + offsets[2 * tap][row][column]
                    x = column + tap % 3 - 1 + offsets[2 * tap + 1][row][column]
                    for channel in range(len(maps)):
                        result[-1][row][column] += kernel[channel][tap // 3][tap % 3] * at(channel, y, x)
    return result
