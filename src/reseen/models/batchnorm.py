"""Batch normalisation whose statistics come from small contiguous groups of the batch.

The published numbers of this family were reached with 16 images per device, each device normalising its
own slice of the batch; one device with the whole batch loses tens of points (docs/methods/cacl.md). Groups
give the same statistics on any number of devices.
"""

from __future__ import annotations

from typing import TypeVar

import torch
import torch.nn.functional as F
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from reseen.errors import ReseenError


class _Grouped(_BatchNorm):
    """A batch norm over groups of ``group_size`` rows or images; made by :func:`convert`."""

    group_size = 0

    def forward(self, x: Tensor) -> Tensor:
        sizes = group_sizes(len(x), self.group_size) if self.training else []
        return super().forward(x) if len(sizes) < 2 else self.after(_normalise_groups(self, x, sizes))

    def after(self, normalised: Tensor) -> Tensor:
        return normalised


class GroupedBatchNorm1d(_Grouped, nn.BatchNorm1d):
    """:class:`torch.nn.BatchNorm1d` in groups."""


class GroupedBatchNorm2d(_Grouped, nn.BatchNorm2d):
    """:class:`torch.nn.BatchNorm2d` in groups."""


class GroupedBatchNormAct2d(_Grouped, BatchNormAct2d):  # type: ignore[misc]  # timm has no types
    """timm's batch norm with its activation (DenseNet and others) in groups."""

    drop: nn.Module
    act: nn.Module

    def after(self, normalised: Tensor) -> Tensor:
        result: Tensor = self.act(self.drop(normalised))
        return result


M = TypeVar("M", bound=nn.Module)

_GROUPED: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm1d: GroupedBatchNorm1d,
    nn.BatchNorm2d: GroupedBatchNorm2d,
    BatchNormAct2d: GroupedBatchNormAct2d,
}


def convert(module: M, group_size: int) -> M:
    """Make every batch norm in ``module`` a grouped one, in place, and return ``module``.

    Parameters, buffers and their names stay, so a state dict fits before and after. ``group_size`` 0 means
    the whole batch (plain batch norm). Other subclasses (synchronised, frozen) are left alone.

    Raises:
        ReseenError: ``group_size`` is negative or 1 (one row has no variance).
    """
    if group_size < 0 or group_size == 1:
        raise ReseenError(
            f"model.bn_group_size is {group_size}: use 0 (whole batch) or at least 2; 16 is usual"
        )
    for layer in module.modules():
        if type(layer) in _GROUPED:
            layer.__class__ = _GROUPED[type(layer)]  # only forward changes: tensors, hooks and mode stay
        if type(layer) in _GROUPED.values():
            layer.group_size = group_size  # type: ignore[assignment]
    return module


def group_sizes(count: int, group_size: int) -> list[int]:
    """Sizes of the contiguous groups of ``count`` images; a last group of one joins the group before it.

    >>> group_sizes(36, 16), group_sizes(33, 16), group_sizes(33, 0)
    ([16, 16, 4], [16, 17], [33])
    """
    if group_size == 0 or count <= group_size:
        return [count]
    full, rest = divmod(count, group_size)
    sizes = [group_size] * full
    if rest == 1:
        sizes[-1] += 1
    elif rest:
        sizes.append(rest)
    return sizes


def _normalise_groups(layer: _BatchNorm, x: Tensor, sizes: list[int]) -> Tensor:
    """Normalise each slice of ``x`` by its own statistics; running statistics move by the groups' mean.

    Splitting, and not folding groups into channels for one kernel: folding copies every map twice and
    took 1.7 to 1.9 times as long as plain batch norm on a CPU, where splitting takes 1.0 to 1.1
    (DenseNet-121 and ResNet-50, 64 images of 128x64, bf16).
    """
    parts = torch.split(x, sizes)
    weight, bias, eps = layer.weight, layer.bias, layer.eps
    if layer.running_mean is None or layer.running_var is None or layer.num_batches_tracked is None:
        return torch.cat([F.batch_norm(part, None, None, weight, bias, True, 0.0, eps) for part in parts])
    layer.num_batches_tracked.add_(1)
    momentum = 1 / float(layer.num_batches_tracked) if layer.momentum is None else layer.momentum
    means = layer.running_mean.repeat(len(sizes), 1)
    variances = layer.running_var.repeat(len(sizes), 1)
    result = torch.cat(
        [
            F.batch_norm(part, mean, variance, weight, bias, True, momentum, eps)
            for part, mean, variance in zip(parts, means, variances, strict=True)
        ]
    )
    with torch.no_grad():
        layer.running_mean.copy_(means.mean(0))
        layer.running_var.copy_(variances.mean(0))
    return result
