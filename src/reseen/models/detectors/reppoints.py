"""RepPoints (Yang et al. 2019, arXiv:1904.11490) for one class: a person as nine points on a feature pyramid.

Written from the paper and from ``docs/methods/detectors.md``; points, boxes and layout are explained there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import sigmoid_focal_loss

from reseen.models.detectors.assign import IGNORED, centre_assignment, max_iou_assignment
from reseen.models.detectors.deform import TAPS, DeformConv, Taps, regular_grid
from reseen.models.detectors.grid import Dense, Detections, Grid, best_of_levels, keep_best, scene_sizes
from reseen.models.pyramid import STRIDES, norm_groups

POINT_GRADIENT = 0.1  # of the offsets' gradient reaches the first stage's points through the convolutions
MOMENT_GRADIENT = 0.01  # of its own gradient moves theta
FOCAL_ALPHA, FOCAL_GAMMA = 0.25, 2.0
SMOOTH_L1_BETA = 0.11
BASE_SCALE = 4  # boxes are compared in units of this many strides
INIT_WEIGHT, REFINE_WEIGHT = 0.5, 1.0
PRIOR = 0.01  # score of every cell before training


class _Level(NamedTuple):
    """One map's (or all maps') outputs, float32: offsets in strides, (y1, x1, ..., y9, x9) from the cell's point."""

    logits: Tensor  # [B, P]
    first: Tensor  # [B, P, 18]
    refined: Tensor  # [B, P, 18]


class RepPoints(nn.Module):
    """The head: maps of a :class:`reseen.models.pyramid.Pyramid` to losses or to boxes. Weights serve all levels."""

    def __init__(self, channels: int = 256, strides: Sequence[int] = STRIDES) -> None:
        super().__init__()
        self.strides = tuple(strides)
        # 0.01 at 256 channels; a narrower head keeps the variance of its outputs
        std = 0.01 * math.sqrt(256 / channels)
        self.class_tower = _tower(channels)
        self.point_tower = _tower(channels)
        self.first_conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.first_points = nn.Conv2d(channels, 2 * TAPS, 1)
        self.class_conv = DeformConv(channels, channels, std)
        self.class_logit = nn.Conv2d(channels, 1, 1)
        self.refine_conv = DeformConv(channels, channels, std)
        self.refine_points = nn.Conv2d(channels, 2 * TAPS, 1)
        self.theta = nn.Parameter(torch.zeros(2))  # log scale of the boxes' width and height
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=std)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        assert self.class_logit.bias is not None
        nn.init.constant_(self.class_logit.bias, -math.log(1 / PRIOR - 1))

    def losses(self, maps: Sequence[Tensor], sizes: Tensor, boxes: Sequence[Tensor]) -> dict[str, Tensor]:
        """The three terms, weighted: their sum is the detection loss. Float32 scalars, finite without a person.

        Args:
            maps: P3 to P7 of a batch, ``[B, C, h, w]`` each.
            sizes: height and width of each scene before padding, ``[B, 2]``.
            boxes: every person of each scene, ``[n, 4]`` (xyxy, pixels, sides over 0).

        Returns:
            "classification" (focal), "init" and "refine" (smooth L1 of the boxes of either stage), each a
            sum over cells divided by the sum over scenes of max(positive cells of its stage, 1).
        """
        # to train, a gather keeps nine maps for the way back: on a GPU the kernel, which keeps one
        on_cpu = maps[0].device.type == "cpu"
        levels = [self._level(level, gather=on_cpu) for level in maps]
        out = _Level(*(torch.cat(parts, dim=1) for parts in zip(*levels, strict=True)))
        grid = Grid.of(maps, self.strides)
        focal, first, refine, first_count, refine_count = [], [], [], 0, 0
        for i, (size, truth) in enumerate(zip(scene_sizes(sizes), boxes, strict=True)):
            truth = truth.to(out.logits)
            owners = centre_assignment(truth, grid, size)
            cells = (owners >= 0).nonzero()[:, 0]
            first.append(self._box_error(out.first[i], grid, cells, truth[owners[cells]]))
            first_count += max(len(cells), 1)

            with torch.no_grad():
                valid = grid.valid(size).nonzero()[:, 0]
                labels = max_iou_assignment(self._boxes(out.first[i, valid], grid, valid), truth)
            cells, rows = valid[labels >= 0], labels[labels >= 0]
            refine.append(self._box_error(out.refined[i], grid, cells, truth[rows]))
            refine_count += max(len(cells), 1)

            counted = labels != IGNORED
            focal.append(focal_loss(out.logits[i, valid[counted]], labels[counted] >= 0))
        return {
            "classification": torch.stack(focal).sum() / refine_count,
            "init": INIT_WEIGHT * torch.stack(first).sum() / first_count,
            "refine": REFINE_WEIGHT * torch.stack(refine).sum() / refine_count,
        }

    def forward(self, maps: Sequence[Tensor]) -> Dense:
        """Box and logit of every cell, of maps ``[B, C, h, w]`` each."""
        # an exported graph has an operator for the kernel and none for the gather
        gather = not torch.compiler.is_exporting()
        levels = [self._level(level, gather=gather) for level in maps]
        out = _Level(*(torch.cat(parts, dim=1) for parts in zip(*levels, strict=True)))
        grid = Grid.of(maps, self.strides)
        return Dense(self._boxes(out.refined, grid), out.logits)

    @torch.no_grad()
    def detect(self, maps: Sequence[Tensor], sizes: Tensor) -> list[Detections]:
        """Up to 100 persons of each scene: boxes ``[R, 4]`` inside it and scores ``[R]``, the best first."""
        boxes, logits = self(maps)
        grid = Grid.of(maps, self.strides)
        found = []
        for box, logit, size in zip(boxes, logits, scene_sizes(sizes), strict=True):
            # cells in the padding of the batch learn nothing, so what they say means nothing
            scores = torch.where(grid.valid(size), logit.sigmoid(), 0)
            found.append(keep_best(*best_of_levels(box, scores, grid.counts), size))
        return found

    def _level(self, level: Tensor, *, gather: bool) -> _Level:
        classes, points = self.class_tower(level), self.point_tower(level)
        first = _in_float32(self.first_points, F.relu(self.first_conv(points)))
        # the gradient multiplier: the same value, a tenth of the gradient
        offsets = scaled_gradient(first, POINT_GRADIENT) - regular_grid(level.device).reshape(1, -1, 1, 1)
        if gather:
            taps = Taps(offsets)
            classes, points = self.class_conv.gather(classes, taps), self.refine_conv.gather(points, taps)
        else:
            classes, points = self.class_conv(classes, offsets), self.refine_conv(points, offsets)
        logits = _in_float32(self.class_logit, F.relu(classes))
        refined = _in_float32(self.refine_points, F.relu(points)) + first.detach()
        return _Level(logits.flatten(1), *(x.flatten(2).transpose(1, 2) for x in (first, refined)))

    def _boxes(self, offsets: Tensor, grid: Grid, cells: Tensor | slice = slice(None)) -> Tensor:
        """Boxes ``[..., n, 4]`` (pixels) of the offsets ``[..., n, 18]`` of ``cells`` ``[n]``."""
        points = grid.cells[cells].flip(1).repeat(1, TAPS) + grid.cell_strides[cells, None] * offsets
        return moment_boxes(points, self.theta)

    def _box_error(self, offsets: Tensor, grid: Grid, cells: Tensor, truth: Tensor) -> Tensor:
        """Smooth L1 between the boxes of ``cells`` and ``truth`` ``[n, 4]``, in units of 4 strides, summed."""
        units = BASE_SCALE * grid.cell_strides[cells, None]
        boxes = self._boxes(offsets[cells], grid, cells)
        return F.smooth_l1_loss(boxes / units, truth / units, beta=SMOOTH_L1_BETA, reduction="sum")


def focal_loss(logits: Tensor, positive: Tensor) -> Tensor:
    """Sum over cells ``[n]`` of -a (1 - p)^2 log p, p the probability of the truth, a .25 if positive, else .75."""
    loss: Tensor = sigmoid_focal_loss(
        logits, positive.to(logits), alpha=FOCAL_ALPHA, gamma=FOCAL_GAMMA, reduction="sum"
    )
    return loss


def moment_boxes(points: Tensor, theta: Tensor) -> Tensor:
    """Boxes ``[..., 4]`` (xyxy) of point sets ``[..., 18]`` (y1, x1, ..., y9, x9): the moment transform.

    The centre is the mean of the points; half a side is their standard deviation (n - 1) times exp(theta),
    ``theta`` being ``[2]`` for x and y. Only a hundredth of theta's gradient reaches it.
    """
    y, x = points[..., 0::2], points[..., 1::2]
    scale = scaled_gradient(theta, MOMENT_GRADIENT).exp()
    centre_x, centre_y = x.mean(dim=-1), y.mean(dim=-1)
    half_x, half_y = _deviation(x, centre_x) * scale[0], _deviation(y, centre_y) * scale[1]
    return torch.stack([centre_x - half_x, centre_y - half_y, centre_x + half_x, centre_y + half_y], dim=-1)


def _deviation(values: Tensor, mean: Tensor) -> Tensor:
    """Standard deviation (n - 1) along the last axis; its gradient is 0 where all values are equal."""
    length: Tensor = torch.linalg.vector_norm(values - mean[..., None], dim=-1)
    return length / math.sqrt(TAPS - 1)


def scaled_gradient(value: Tensor, share: float) -> Tensor:
    """``value``, with ``share`` of the gradient."""
    return share * value + (1 - share) * value.detach()


def _tower(channels: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(3):
        layers += [
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.GroupNorm(norm_groups(channels), channels),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


def _in_float32(conv: nn.Conv2d, maps: Tensor) -> Tensor:
    """A last layer: small, and bfloat16 would move points by a hundredth of a person's size."""
    with torch.autocast(maps.device.type, enabled=False):
        result: Tensor = conv(maps.float())
    return result
