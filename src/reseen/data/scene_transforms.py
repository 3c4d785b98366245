"""What a network sees of a scene: resized, perhaps mirrored, normalised; the boxes follow the pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F
from torchvision.tv_tensors import BoundingBoxes, BoundingBoxFormat

from reseen.config import Config, DataConfig
from reseen.data.transforms import normalised
from reseen.errors import ReseenError
from reseen.pixels import scene_size

STRIDE = 32  # sides of a batch are multiples of it, so that every level of a pyramid divides them


@dataclass(frozen=True)
class SceneView:
    """Scenes are resized, up or down, until the longer side is ``long`` or the shorter one ``short`` pixels.

    1333 x 800 is the papers' usual size, 1500 x 900 their large one. ``data`` says how pixels are normalised.
    """

    long: int = 1333
    short: int = 800
    data: DataConfig = field(default_factory=DataConfig)

    def __post_init__(self) -> None:
        if not 1 <= self.short <= self.long:
            raise ReseenError(
                f"scenes cannot be {self.long} x {self.short} pixels: give the longer side first, both above 0"
            )

    @classmethod
    def of_config(cls, config: Config) -> SceneView:
        return cls(config.search.long_side, config.search.short_side, config.data)

    def of(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of a scene of that height and width: same ratio, within both limits."""
        return scene_size(height, width, self.long, self.short)


@dataclass(frozen=True)
class SeenScene:
    """One scene as a network sees it.

    ``image`` float32 ``[3, h, w]``, normalised; ``boxes`` float32 ``[n', 4]`` (xyxy, its pixels); ``kept`` int64
    ``[n']``: which of the n boxes they are; ``scale`` float32 ``[2]`` (x, y): its pixels per pixel of the file.
    """

    image: Tensor
    boxes: Tensor
    kept: Tensor
    scale: Tensor


def seen_scene(image: Tensor, boxes: Tensor, size: SceneView, *, mirrored: bool) -> SeenScene:
    """Resize (bilinear, antialiased), mirror if asked, and normalise a scene uint8 ``[3, H, W]``.

    Boxes float32 ``[n, 4]`` (xyxy, pixels) end at the border of the image; those that vanish (outside, without an
    area, or NaN) are dropped.
    """
    before = (image.shape[-2], image.shape[-1])
    after = size.of(*before)
    follow = BoundingBoxes(boxes, format=BoundingBoxFormat.XYXY, canvas_size=before)
    if after != before:
        image = F.resize(image, list(after), interpolation=InterpolationMode.BILINEAR, antialias=True)
        follow = F.resize(follow, list(after))
    follow = F.clamp_bounding_boxes(follow)
    if mirrored:
        image, follow = F.horizontal_flip(image), F.horizontal_flip(follow)
    corners = follow.as_subclass(Tensor)
    there = corners.isfinite().all(dim=1) & (corners[:, 2:] > corners[:, :2]).all(dim=1)
    return SeenScene(
        image=normalised(image.float().div_(255), size.data),
        boxes=corners[there],
        kept=there.nonzero()[:, 0],
        scale=torch.tensor([after[1] / before[1], after[0] / before[0]]),
    )


def padded(images: Sequence[Tensor]) -> Tensor:
    """Normalised images ``[3, h, w]`` as one batch ``[B, 3, H, W]``: zeros (the mean colour) right and below.

    H and W are the smallest multiples of :data:`STRIDE` that hold all of them.
    """
    height = max((image.shape[1] for image in images), default=1)
    width = max((image.shape[2] for image in images), default=1)
    batch = torch.zeros(len(images), 3, -(-height // STRIDE) * STRIDE, -(-width // STRIDE) * STRIDE)
    for row, image in enumerate(images):
        batch[row, :, : image.shape[1], : image.shape[2]] = image
    return batch


def in_file_pixels(boxes: Tensor, scale: Tensor) -> Tensor:
    """Boxes ``[n, 4]`` that were found in a seen scene, in pixels of its file. ``scale`` ``[2]`` as (x, y)."""
    return boxes / scale.to(boxes).repeat(2)
