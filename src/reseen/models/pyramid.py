"""A backbone with a feature pyramid: scene images to five maps that detector and re-identification share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from reseen.config import ModelConfig
from reseen.errors import ReseenError
from reseen.models.encoders import build_encoder, evaluation_mode
from reseen.models.weights import WeightsReport, load_weights

STRIDES = (8, 16, 32, 64, 128)  # of P3 to P7, pixels per cell
GROUP = 8  # channels of one group of a group norm
_STEM, _PROBE = 4, 128  # stride up to which pretrained layers stay; side of the image that finds the maps


class Pyramid(nn.Module):
    """Images ``[B, 3, H, W]`` to the maps P3 to P7, each ``[B, channels, h, w]`` with h = ceil(H / stride).

    Lin et al. 2017 on C3 to C5, with P6 from C5 and P7 from P6 by convolutions of stride 2, group norm after
    every convolution and no activation, as in RepPoints (Yang et al. 2019). ``backbone`` is a timm model.

    Raises:
        ReseenError: the backbone has no maps at strides 8, 16 and 32, or ``channels`` is no multiple of 8.
    """

    strides = STRIDES

    def __init__(self, backbone: nn.Module, channels: int = 256) -> None:
        super().__init__()
        if channels < GROUP or channels % GROUP:
            raise ReseenError(
                f"a pyramid's channels must be a multiple of {GROUP}, such as 256, not {channels}"
            )
        self.backbone = backbone
        self.channels = channels
        self.frozen = False
        self._indices, widths = _feature_maps(backbone)
        self.laterals = nn.ModuleList(_conv(width, channels, 1) for width in widths)
        self.outputs = nn.ModuleList(_conv(channels, channels, 3) for _ in widths)
        self.extras = nn.ModuleList(
            [_conv(widths[-1], channels, 3, stride=2), _conv(channels, channels, 3, stride=2)]
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """P3 to P7. Pad a batch of scenes to multiples of 32 with 0 at the right and at the bottom."""
        backbone: Any = self.backbone
        stages: list[Tensor] = backbone.forward_intermediates(
            images, indices=self._indices, intermediates_only=True
        )
        tops = [lateral(stage) for lateral, stage in zip(self.laterals, stages, strict=True)]
        for level in (1, 0):
            tops[level] = tops[level] + F.interpolate(tops[level + 1], size=tops[level].shape[2:])
        maps = [output(top) for output, top in zip(self.outputs, tops, strict=True)]
        maps.append(self.extras[0](stages[-1]))
        maps.append(self.extras[1](maps[-1]))
        return maps

    def freeze(self) -> None:
        """Keep what was learnt on millions of images: for a backbone with pretrained weights.

        The stem and the first stage (everything up to stride 4) no longer train. Every batch norm stays in
        evaluation mode, also after ``train()``, so that running statistics are fixed; behind the first
        stage its scale and shift still train. A few scenes are too small a batch for statistics.
        """
        self.frozen = True
        for parameter in _stem_parameters(self.backbone):
            parameter.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Pyramid:
        super().train(mode)
        if self.frozen:
            for layer in self.backbone.modules():
                if isinstance(layer, _BatchNorm):
                    layer.eval()
        return self


def build_pyramid(
    backbone: str = "resnet50", *, channels: int = 256, weights: str | Path = "imagenet"
) -> tuple[Pyramid, WeightsReport]:
    """A pyramid over any timm backbone with maps at strides 8, 16 and 32, and what became of its weights.

    ``weights`` is as in :func:`reseen.models.load_weights`: "imagenet", a file, or "none". Pretrained weights
    are frozen (:meth:`Pyramid.freeze`); a network from scratch trains whole, batch statistics included.
    A layer that a file leaves out keeps batch norm with mean 0 and variance 1: a scale and a shift that train.

    Raises:
        ReseenError: unknown backbone, one without such maps, or weights that do not fit.
    """
    encoder = build_encoder(ModelConfig(backbone=backbone, last_stride=2, bn_group_size=0))
    pyramid = Pyramid(encoder.backbone, channels)
    report = load_weights(pyramid, weights)
    if weights != "none":
        pyramid.freeze()
    return pyramid, report


def norm_groups(channels: int) -> int:
    """Groups of a group norm: 32 for 256 channels, and as many channels in each at any width."""
    return channels // GROUP


def _conv(channels_in: int, channels_out: int, size: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(channels_in, channels_out, size, stride, size // 2, bias=False)
    nn.init.xavier_uniform_(conv.weight)
    return nn.Sequential(conv, nn.GroupNorm(norm_groups(channels_out), channels_out))


def _feature_maps(backbone: nn.Module) -> tuple[Sequence[int], list[int]]:
    """Which of timm's intermediate maps have strides 8, 16 and 32, and their channels.

    Read from the maps themselves: an image goes through once. Layers behind the last map are removed.
    """
    maps = _probe(backbone)
    by_stride = {_PROBE // m.shape[2]: i for i, m in enumerate(maps) if m.shape[2] == m.shape[3]}
    if not all(stride in by_stride for stride in STRIDES[:3]):
        raise ReseenError(
            f"a detector needs maps at strides 8, 16 and 32; this backbone has {sorted(by_stride) or 'none'}: "
            "use resnet50 or another convolutional network of timm"
        )
    indices = [by_stride[stride] for stride in STRIDES[:3]]
    taken: Sequence[int] = cast(Any, backbone).prune_intermediate_layers(indices, prune_head=True)
    return taken, [maps[i].shape[1] for i in indices]


def _stem_parameters(backbone: nn.Module) -> list[nn.Parameter]:
    """The parameters that the last map of stride 4 depends on: of a ResNet, the stem and stage 1."""
    parameters = [p for p in backbone.parameters() if p.requires_grad]
    early = [m for m in _probe(backbone) if m.shape[2] * _STEM >= _PROBE]
    if not early:
        return []
    gradients = torch.autograd.grad(early[-1].sum(), parameters, allow_unused=True)
    return [p for p, gradient in zip(parameters, gradients, strict=True) if gradient is not None]


def _probe(backbone: nn.Module) -> list[Tensor]:
    """Every intermediate map of one black image, in evaluation mode; empty where there is none."""
    parameter = next(backbone.parameters())
    image = torch.zeros(1, 3, _PROBE, _PROBE, device=parameter.device, dtype=parameter.dtype)
    try:
        with evaluation_mode(backbone):
            maps: list[Tensor] = cast(Any, backbone).forward_intermediates(image, intermediates_only=True)
    except (AttributeError, AssertionError, RuntimeError):  # no such method, or no image of this size
        return []
    return maps
