"""Anchors for the two detectors that are made of torchvision's parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.anchor_utils import AnchorGenerator

ANCHOR_SCALE = 4  # side of a level's smallest anchor, in strides
ASPECT_RATIOS = (0.5, 1.0, 2.0)  # height / width


class PyramidAnchors(AnchorGenerator):  # type: ignore[misc]  # torchvision has no types
    """Anchors of 4 strides, times ``scales``, at every cell of every level, in three shapes.

    torchvision derives strides from the sizes of image and map, which is wrong where a map is rounded up
    (928 pixels and 8 cells: 116 instead of 128); here they are given.
    """

    def __init__(self, strides: Sequence[int], scales: Sequence[float] = (1.0,)) -> None:
        sizes = tuple(tuple(ANCHOR_SCALE * stride * scale for scale in scales) for stride in strides)
        super().__init__(sizes, (ASPECT_RATIOS,) * len(strides))
        self.strides = tuple(strides)

    def counts(self, maps: Sequence[Tensor]) -> list[int]:
        """Number of anchors of each of the maps ``[B, C, h, w]``."""
        each: list[int] = self.num_anchors_per_location()
        return [n * level.shape[2] * level.shape[3] for n, level in zip(each, maps, strict=True)]

    def forward(self, image_list: Any, feature_maps: list[Tensor]) -> list[Tensor]:
        """The anchors ``[A, 4]`` (xyxy, pixels) of each scene; all scenes have the same."""
        return [self.of(feature_maps)] * len(feature_maps[0])

    def of(self, maps: Sequence[Tensor]) -> Tensor:
        """The anchors ``[A, 4]`` (xyxy, pixels) of maps ``[B, C, h, w]``, level by level."""
        device = maps[0].device
        if self.cell_anchors[0].device != device:
            self.set_cell_anchors(torch.float32, device)
        strides = [[torch.tensor(stride, device=device)] * 2 for stride in self.strides]
        return torch.cat(self.grid_anchors([list(level.shape[2:]) for level in maps], strides))


def decoded(coder: BoxCoder, codes: Tensor, anchors: Tensor) -> Tensor:
    """Boxes ``[B, A, 4]`` (xyxy, pixels) of codes ``[B, A, 4]`` at anchors ``[A, 4]``."""
    boxes: Tensor = coder.decode_single(codes.flatten(0, 1), anchors.repeat(codes.shape[0], 1))
    return boxes.view(codes.shape)
