"""Deformable 3x3 convolution (Dai et al. 2017) in two forms of one value: torchvision's kernel and a gather."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import deform_conv2d

TAPS = 9
_BLOCK_VALUES = 2**22  # values gathered at a time: few enough for the cache, enough for several threads
_BLOCK_VALUES_CUDA = 2**26


class DeformConv(nn.Module):
    """3x3, padding 1, no bias, one group: maps ``[B, C, h, w]`` and offsets ``[B, 18, h, w]`` to ``[B, O, h, w]``.

    Offsets are (y1, x1, ..., y9, x9) in cells, taps row by row: torchvision's layout.
    """

    def __init__(self, channels_in: int, channels_out: int, std: float = 0.01) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels_out, channels_in, 3, 3))
        nn.init.normal_(self.weight, std=std)

    def forward(self, maps: Tensor, offsets: Tensor) -> Tensor:
        """By torchvision's kernel, in float32 also under autocast; it has gradients for everything."""
        with torch.autocast(maps.device.type, enabled=False):
            result: Tensor = deform_conv2d(maps.float(), offsets.float(), self.weight, padding=1)
        return result

    def gather(self, maps: Tensor, taps: Taps) -> Tensor:
        """The same values and gradients through :class:`Taps`; without gradients in the precision of autocast.

        A bilinear tap is a weighted sum of four rows of ``maps``; nine of them side by side meet the weights
        in one matrix product, block by block, so that inference holds no buffer of nine maps (training does).
        On a CPU both directions are several times as fast as the kernel (docs/methods/detectors.md).
        """
        device = maps.device.type
        # gradients of rows and shares are sums of many: float32
        lowered = torch.is_autocast_enabled(device) and not torch.is_grad_enabled()
        dtype = torch.get_autocast_dtype(device) if lowered else torch.float32
        batch, channels, rows, columns = maps.shape
        table = maps.permute(0, 2, 3, 1).reshape(-1, channels).to(dtype)  # a view of channels_last maps
        weight = self.weight.permute(2, 3, 1, 0).reshape(TAPS * channels, -1).to(dtype)
        shares = taps.shares.to(dtype)
        values = _BLOCK_VALUES_CUDA if device == "cuda" else _BLOCK_VALUES
        block = max(1, values // weight.shape[0]) * TAPS
        parts = []
        with torch.autocast(device, enabled=False):
            for start in range(0, len(shares), block):
                rows_of = slice(start, start + block)
                gathered = F.embedding_bag(
                    taps.places[rows_of], table, per_sample_weights=shares[rows_of], mode="sum"
                )
                parts.append(gathered.view(-1, weight.shape[0]) @ weight)
        return torch.cat(parts).view(batch, rows, columns, -1).permute(0, 3, 1, 2)


class Taps:
    """Where nine taps of every cell read: ``places`` and ``shares`` ``[B * h * w * 9, 4]``.

    A tap lies between four cells; ``places`` are their rows in the table of all cells of the batch,
    ``shares`` the bilinear weights (float32), 0 for a cell beyond the border. Computed once for several
    convolutions.
    """

    def __init__(self, offsets: Tensor) -> None:
        batch, _, rows, columns = offsets.shape
        device = offsets.device
        taps = offsets.float().permute(0, 2, 3, 1).reshape(batch, rows, columns, TAPS, 2) + regular_grid(
            device
        )
        y = (taps[..., 0] + torch.arange(rows, device=device).view(1, -1, 1, 1)).reshape(-1)
        x = (taps[..., 1] + torch.arange(columns, device=device).view(1, 1, -1, 1)).reshape(-1)
        top, left = y.floor(), x.floor()
        down, right = y - top, x - left  # shares of the lower and of the right neighbour
        first = torch.arange(batch, device=device).repeat_interleave(rows * columns * TAPS) * (rows * columns)
        places, shares = [], []
        for step_y, share_y in ((0, 1 - down), (1, down)):
            for step_x, share_x in ((0, 1 - right), (1, right)):
                row, column = top + step_y, left + step_x
                inside = (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
                shares.append(torch.where(inside, share_y * share_x, 0.0))
                places.append(first + torch.where(inside, row * columns + column, 0).long())
        self.places = torch.stack(places, dim=1)
        self.shares = torch.stack(shares, dim=1)


def regular_grid(device: torch.device) -> Tensor:
    """``[9, 2]``: y and x of the taps of a plain 3x3 convolution, row by row."""
    steps = torch.arange(-1.0, 2.0, device=device)
    return torch.cartesian_prod(steps, steps)
