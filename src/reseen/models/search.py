"""The R-SiamNet network: detector and re-identification on one feature pyramid, and two paths to a person.

The search path sees a person within the scene, the instance path sees the person alone; both share every weight
(R-SiamNet, ICCV 2021; sizes as in docs/methods/r-siamnet.md). At test time only the search path runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint
from torchvision.ops import roi_align

from reseen.config import Config
from reseen.models.detectors import Detector, build_detector
from reseen.models.detectors.grid import numbered
from reseen.models.pyramid import STRIDES, Pyramid

FINEST = 56  # pixels: boxes are pooled from P3 up to twice this sqrt(w h), from P4 up to four times it, ...
LEVELS = 4  # P3 to P6 serve the search path
CELL = 16  # pixels of a person image per cell of P4
AT_ONCE = 128  # person images whose maps exist together; a published batch shows about 45 persons

CropLevel = Literal["P4", "P3half"]


@dataclass(frozen=True)
class Paths:
    """Features ``[n, dim]`` of the same n persons, L2-normalised: within the scene, and cut out of it."""

    search: Tensor
    instance: Tensor


class SearchNetwork(nn.Module):
    """Scenes to persons: where they are, and features by which to find them again.

    Args:
        pyramid, detector: built for the same number of channels.
        person: height and width of a person image on the instance path, multiples of 16.
        dim: length of a feature.
        crop_level: map of the instance path: ``P4``, or ``P3half``, the finer map halved (one published run).
    """

    def __init__(
        self,
        pyramid: Pyramid,
        detector: Detector,
        *,
        person: tuple[int, int] = (192, 64),
        dim: int = 2048,
        crop_level: CropLevel = "P4",
    ) -> None:
        super().__init__()
        self.pyramid = pyramid
        self.detector = detector
        self.person = person
        self.cells = (person[0] // CELL, person[1] // CELL)
        self.crop_level = crop_level
        self.dim = dim
        self.embedding = nn.Linear(pyramid.channels * self.cells[0] * self.cells[1], dim)

    def search_features(self, maps: Sequence[Tensor], boxes: Sequence[Tensor]) -> Tensor:
        """Features of boxes ``[n, 4]`` (xyxy, pixels of the padded scene) of each scene, from its maps: ``[N, dim]``.

        Each box is pooled from one map, by its size, with half-pixel aligned RoIAlign.
        """
        return self.features_within(maps, numbered(boxes).to(maps[0].device, torch.float32))

    def features_within(self, maps: Sequence[Tensor], rois: Tensor) -> Tensor:
        """The same of ``rois`` float32 ``[N, 5]``: number of the scene, then the box."""
        sides = (rois[:, 3:] - rois[:, 1:3]).clamp(min=0)
        pooled_from = maps[:LEVELS]
        level = torch.log2(sides.prod(dim=1).sqrt() / FINEST + 1e-6).floor().clamp(0, len(pooled_from) - 1)
        pooled = maps[0].new_zeros(rois.shape[0], maps[0].shape[1], *self.cells, dtype=torch.float32)
        for place, level_map in enumerate(pooled_from):
            own = torch.nonzero(level == place).squeeze(1)
            cut = roi_align(level_map.float(), rois[own], self.cells, 1 / STRIDES[place], -1, aligned=True)
            pooled = pooled.index_copy(0, own, cut)
        return self._embed(pooled)

    def instance_features(self, images: Tensor, boxes: Sequence[Tensor]) -> Tensor:
        """The same of the persons alone, cut out of the images ``[B, 3, H, W]``: ``[N, dim]``.

        More than :data:`AT_ONCE` persons go through the pyramid in parts, and for the gradient once more in parts, so
        that a crowd costs time and not memory. In training each part has its own batch statistics.
        """
        crops = cut_persons(images, boxes, self.person)
        if not len(crops):  # no image for the pyramid, yet a part of the graph
            return self._embed(crops.new_zeros(0, self.pyramid.channels, *self.cells))
        crops = crops.contiguous(memory_format=_layout(images))
        if len(crops) <= AT_ONCE:
            return self.features_alone(crops)
        return torch.cat([self._alone_twice(part) for part in torch.split(crops, AT_ONCE)])

    def both_paths(self, maps: Sequence[Tensor], images: Tensor, boxes: Sequence[Tensor]) -> Paths:
        return Paths(self.search_features(maps, boxes), self.instance_features(images, boxes))

    def features_alone(self, crops: Tensor) -> Tensor:
        """The instance path of persons that are cut out ``[N, 3, h, w]``, all at once."""
        fine, coarse = self.pyramid(crops)[:2]
        return self._embed(coarse if self.crop_level == "P4" else fine[:, :, ::2, ::2])

    def _alone_twice(self, crops: Tensor) -> Tensor:
        """Keeps no map: what the gradient needs of them is computed again, when it is needed."""
        features: Tensor = checkpoint(
            self.features_alone,
            crops,
            use_reentrant=False,
            context_fn=lambda: (nullcontext(), _statistics_kept(self.pyramid)),
        )
        return features

    def _embed(self, maps: Tensor) -> Tensor:
        """In float32 also under autocast: clusters and L_int rest on small differences between features."""
        with torch.autocast(maps.device.type, enabled=False):
            return F.normalize(self.embedding(maps.flatten(1).to(self.embedding.weight.dtype)), dim=1)


def build_search_network(config: Config, pyramid: Pyramid) -> SearchNetwork:
    """The network of ``config`` (``data``: size of a person image; ``search``) around a pyramid with its weights."""
    c = config.search
    if c.freeze:
        pyramid.freeze()
    return SearchNetwork(
        pyramid,
        build_detector(c.detector, c.channels),
        person=(config.data.height, config.data.width),
        dim=c.dim,
        crop_level=c.crop_level,
    )


@torch.no_grad()
def cut_persons(images: Tensor, boxes: Sequence[Tensor] | Tensor, person: tuple[int, int]) -> Tensor:
    """Cut exactly the boxes (xyxy, pixels) out of images ``[B, 3, H, W]``, resampled bilinearly: ``[N, 3, h, w]``.

    ``boxes`` are those of each image, or rows ``[N, 5]`` as :func:`numbered` makes them. One sample in the middle of
    each pixel of the result, as an affine grid would take it. What is cut is input: no gradient reaches the image.
    """
    rois = (boxes if isinstance(boxes, Tensor) else numbered(boxes)).to(images)
    cut: Tensor = roi_align(images.contiguous(), rois, person, 1.0, sampling_ratio=1, aligned=True)
    return cut


@contextmanager
def _statistics_kept(module: nn.Module) -> Iterator[None]:
    """Running statistics of batch norm do not move inside: what passes has been counted."""
    layers = [layer for layer in module.modules() if isinstance(layer, _BatchNorm)]
    rates = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer, rate in zip(layers, rates, strict=True):
            layer.momentum = rate


def _layout(images: Tensor) -> torch.memory_format:
    last = images.is_contiguous(memory_format=torch.channels_last) and not images.is_contiguous()
    return torch.channels_last if last else torch.contiguous_format


class Searching(nn.Module):
    """The network, under a name that checkpoints know."""

    def __init__(self, config: Config, pyramid: Pyramid) -> None:
        super().__init__()
        self.network = build_search_network(config, pyramid)

    def shipped(self) -> SearchNetwork:
        return self.network


def rehearse(networks: Searching, config: Config, count: int) -> Tensor:
    """The pyramid on one random scene and ``count`` random persons, to a scalar."""
    network = networks.network
    sides = ((1, config.search.short_side, config.search.long_side), (count, *network.person))
    layout = torch.channels_last if config.train.channels_last else torch.contiguous_format
    sums = []
    for images, height, width in sides:
        padded = (images, 3, -(-height // 32) * 32, -(-width // 32) * 32)
        maps = network.pyramid(torch.rand(padded).contiguous(memory_format=layout))
        sums.append(torch.stack([m.float().sum() for m in maps]).sum())
    return torch.stack(sums).sum()
