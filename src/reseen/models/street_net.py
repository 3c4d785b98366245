"""A network small enough to train from scratch on two CPU cores, for the drawn street and for tests."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class Block(nn.Module):
    """Residual block of two 3x3 convolutions (He et al. 2016)."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels_out:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels_in, channels_out, 1, stride, bias=False), nn.BatchNorm2d(channels_out)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return F.relu(self.bn2(self.conv2(y)) + self.downsample(x), inplace=True)


class StreetNet(nn.Module):
    """Stem 5x5 with stride 2, then one block per stage: images [N, 3, h, w] to maps [N, 4w, h/8, w/8].

    0.17 million parameters at ``width`` 24.
    """

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.num_features = 4 * width
        self.stem = nn.Conv2d(3, width, 5, 2, 2, bias=False)
        self.bn = nn.BatchNorm2d(width)
        self.stages = nn.Sequential(
            Block(width, width, 1), Block(width, 2 * width, 2), Block(2 * width, 4 * width, 2)
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward_features(self, images: Tensor) -> Tensor:
        maps: Tensor = self.stages(F.relu(self.bn(self.stem(images)), inplace=True))
        return maps
