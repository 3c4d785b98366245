"""Which cell learns which person: the two assignments of RepPoints (Yang et al. 2019), on one scene each."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import box_iou

from reseen.models.detectors.grid import Grid

NEGATIVE, IGNORED = -1, -2
POSITIVE_IOU, NEGATIVE_IOU = 0.5, 0.4
_MIN_LEVEL, _MAX_LEVEL = 3, 7  # strides 8 and 128
_BLOCK = 256  # persons whose overlaps with every cell exist at a time


def centre_assignment(truth: Tensor, grid: Grid, size: tuple[float, float]) -> Tensor:
    """Row of ``truth`` that each cell learns in the first stage, int64 ``[P]``; :data:`NEGATIVE` elsewhere.

    A person belongs to the level trunc((log2(w / 4) + log2(h / 4)) / 2), cut to [3, 7], where 2^level is the
    stride, and there to the cell at the smallest ``|(cell - centre) / (w, h)|`` (of equals, the one farther
    up, then left). A cell that several want goes to the closest (of equals, the first); the others go
    without. ``truth`` is ``[n, 4]`` (xyxy, pixels), ``size`` the scene's (height, width): padding of the
    batch is never assigned. All of it is computed in float64, in which float32 boxes that differ by one bit
    are told apart: in float32 who is first would depend on how a device rounds.
    """
    owners = torch.full((len(grid.cells),), NEGATIVE, dtype=torch.int64, device=truth.device)
    if not len(truth):
        return owners
    truth = truth.to(torch.float32 if truth.device.type == "mps" else torch.float64)  # mps has no float64
    sides = (truth[:, 2:] - truth[:, :2]).clamp(min=1e-6)
    levels = ((sides / 4).log2().sum(dim=1) / 2).clamp(_MIN_LEVEL, _MAX_LEVEL).long() - _MIN_LEVEL
    strides = torch.tensor(grid.strides, device=truth.device)[levels]
    # The distance is smallest where it is smallest along x and along y: no search through all cells.
    limits = torch.tensor(grid.valid_shapes(size), device=truth.device)[levels].flip(1)  # columns, rows
    centres = (truth[:, :2] + truth[:, 2:]) / 2
    nearest = (centres / strides[:, None] - 0.5).ceil().clamp(min=0).long().minimum(limits - 1)
    starts = torch.tensor([0, *grid.counts], device=truth.device).cumsum(0)[levels]
    columns = torch.tensor([columns for _, columns in grid.shapes], device=truth.device)[levels]
    cells = starts + nearest[:, 1] * columns + nearest[:, 0]
    distances = ((nearest * strides[:, None] - centres) / sides).square().sum(dim=1)  # squares order alike

    closest = distances.new_full((len(owners),), torch.inf).scatter_reduce(0, cells, distances, "amin")
    rows = torch.arange(len(truth), device=truth.device)
    rows = torch.where(distances == closest[cells], rows, len(truth))
    first = torch.full_like(owners, len(truth)).scatter_reduce(0, cells, rows, "amin")
    return torch.where(first < len(truth), first, owners)


def max_iou_assignment(proposals: Tensor, truth: Tensor) -> Tensor:
    """Row of ``truth`` that each proposal learns in the second stage, int64 ``[P]``.

    The person of the largest IoU (of equals, the first) where that is at least 0.5, :data:`NEGATIVE` where it
    is under 0.4, :data:`IGNORED` between. Then every person takes the proposals of the best IoU with it,
    whatever they were; of several persons that take one proposal, the one of the larger IoU has it (of
    equals, the first). A person that no proposal touches takes none: otherwise its best IoU of 0 would make
    every disjoint proposal positive. Boxes are ``[P, 4]`` and ``[n, 4]`` (xyxy, pixels).
    """
    best = proposals.new_zeros(len(proposals))
    claim = proposals.new_zeros(len(proposals))
    owners = torch.zeros(len(proposals), dtype=torch.int64, device=proposals.device)
    claimants = torch.zeros_like(owners)
    for start in range(0, len(truth), _BLOCK):
        overlap = box_iou(truth[start : start + _BLOCK], proposals)  # [n, P]
        value, row = overlap.max(dim=0)
        owners = torch.where(value > best, row + start, owners)
        best = torch.maximum(best, value)
        most = overlap.amax(dim=1, keepdim=True)
        value, row = torch.where(overlap == most, overlap, 0).max(dim=0)  # an overlap of 0 claims nothing
        claimants = torch.where(value > claim, row + start, claimants)
        claim = torch.maximum(claim, value)
    labels = torch.where(best >= POSITIVE_IOU, owners, IGNORED)
    labels = torch.where(best < NEGATIVE_IOU, NEGATIVE, labels)
    return torch.where(claim > 0, claimants, labels)
