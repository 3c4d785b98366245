"""Where the cells of a pyramid's maps lie in the image, and the last steps of every dense detector."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import clip_boxes_to_image, nms, remove_small_boxes

PAD = 32  # scenes are padded to multiples of it
TOP_PER_LEVEL = 1000  # of one map go into non-maximum suppression
MIN_SCORE = 0.05
MIN_SIDE = 1.0  # pixels inside the scene: from less nothing can be cut
MAX_OVERLAP = 0.5  # IoU of two boxes that are both kept
MAX_DETECTIONS = 100  # of one scene

Detections = tuple[Tensor, Tensor]  # boxes [R, 4] (xyxy, pixels) and scores [R] in (0, 1], the best first


class Dense(NamedTuple):
    """What a detector says of every place of every map, level by level, float32."""

    boxes: Tensor  # [B, P, 4] (xyxy, pixels), not cut at the border
    logits: Tensor  # [B, P] of a person


@dataclass(frozen=True)
class Grid:
    """The cells of all levels in one row, P in all: level by level, row by row."""

    shapes: tuple[tuple[int, int], ...]  # rows and columns of each map
    strides: tuple[int, ...]
    cells: Tensor  # [P, 2] x and y of each cell's point, pixels
    cell_strides: Tensor  # [P]

    @classmethod
    def of(cls, maps: Sequence[Tensor], strides: Sequence[int]) -> Grid:
        """The grid of ``maps`` ``[B, C, h, w]``. A cell's point is (column, row) * stride, no half-cell shift."""
        device = maps[0].device
        shapes = tuple((level.shape[2], level.shape[3]) for level in maps)
        cells, cell_strides = [], []
        for (rows, columns), stride in zip(shapes, strides, strict=True):
            y, x = torch.meshgrid(
                torch.arange(rows, device=device), torch.arange(columns, device=device), indexing="ij"
            )
            cells.append(torch.stack([x, y], dim=-1).reshape(-1, 2) * float(stride))
            cell_strides.append(torch.full((rows * columns,), float(stride), device=device))
        return cls(shapes, tuple(strides), torch.cat(cells), torch.cat(cell_strides))

    @property
    def counts(self) -> list[int]:
        """Number of cells of each level."""
        return [rows * columns for rows, columns in self.shapes]

    def valid_shapes(self, size: tuple[float, float]) -> list[tuple[int, int]]:
        """Rows and columns of each level whose points are inside a scene of ``size`` (height, width).

        Inside means inside the scene padded to multiples of 32, not inside the batch, which is as large as
        its largest scene.
        """
        padded = [math.ceil(side / PAD) * PAD for side in size]
        return [
            (min(rows, math.ceil(padded[0] / stride)), min(columns, math.ceil(padded[1] / stride)))
            for (rows, columns), stride in zip(self.shapes, self.strides, strict=True)
        ]

    def valid(self, size: tuple[float, float]) -> Tensor:
        """bool ``[P]``: the cells inside a scene of ``size`` (height, width), see :meth:`valid_shapes`."""
        rows_columns = torch.tensor(self.valid_shapes(size), device=self.cells.device)
        limit = rows_columns.flip(1).repeat_interleave(
            torch.tensor(self.counts, device=self.cells.device), dim=0
        )
        inside: Tensor = (self.cells < limit * self.cell_strides[:, None]).all(dim=1)
        return inside


def numbered(boxes: Sequence[Tensor]) -> Tensor:
    """Boxes ``[n, 4]`` of each scene as rows ``[N, 5]`` of all: number of the scene, then the box."""
    return torch.cat([F.pad(box, (1, 0), value=scene) for scene, box in enumerate(boxes)])


def scene_sizes(sizes: Tensor) -> list[tuple[float, float]]:
    """``sizes`` ``[B, 2]`` (height, width) as numbers."""
    return [(float(height), float(width)) for height, width in sizes.tolist()]


def best_of_levels(boxes: Tensor, scores: Tensor, counts: list[int]) -> Detections:
    """The 1000 best places of each level of one scene, whose levels have ``counts`` of P places."""
    best_boxes, best_scores = [], []
    for box, score in zip(torch.split(boxes, counts), torch.split(scores, counts), strict=True):
        score, best = score.topk(min(TOP_PER_LEVEL, len(score)))
        best_boxes.append(box[best])
        best_scores.append(score)
    return torch.cat(best_boxes), torch.cat(best_scores)


def keep_best(boxes: Tensor, scores: Tensor, size: tuple[float, float]) -> Detections:
    """Clip to the scene, drop scores up to 0.05, suppress overlaps over 0.5, keep the best 100.

    ``boxes`` ``[n, 4]`` and ``scores`` ``[n]`` are the best of each level of one scene of ``size`` (height,
    width). Boxes of which less than a pixel is inside the scene are dropped: nothing can be cut from them.
    """
    boxes = clip_boxes_to_image(boxes, (size[0], size[1]))
    sure = scores > MIN_SCORE
    boxes, scores = boxes[sure], scores[sure]
    large = remove_small_boxes(boxes, MIN_SIDE)
    boxes, scores = boxes[large], scores[large]
    kept = nms(boxes, scores, MAX_OVERLAP)[:MAX_DETECTIONS]
    return boxes[kept], scores[kept]
