"""Candidates for neighbour lists: the largest products of rows with all rows, a block at a time."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reseen.clustering.compiled import compiled, over_rows

Floats = NDArray[np.float32]
Candidates = tuple[Floats, NDArray[np.int32]]  # products, descending, and whose they are: [R, width] each

BLOCK = 2048  # rows a side of one product on the CPU: 16 MiB of float32
SIDE = 8192  # rows of one product on an accelerator
FREE_SHARE = (
    8  # part of an accelerator's free memory that one product may take; sorting takes several times that
)

UNKNOWN_FREE = 1 << 32  # bytes taken to be free where the device does not say


def among_themselves(rows: Tensor, width: int) -> Candidates:
    """For each of the rows ``[M, d]`` the ``width`` largest products with all of them, on the CPU.

    Each block of products serves its rows and, transposed, its columns.
    """
    count = len(rows)
    found = _empty(count, width)
    for top in range(0, count, BLOCK):
        for left in range(top, count, BLOCK):
            products = torch.mm(rows[top : top + BLOCK], rows[left : left + BLOCK].T).float().numpy()
            over_rows(partial(_offer_rows, products, top, left, *found), products.shape[0])
            if left > top:
                over_rows(partial(_offer_columns, products, top, left, *found), products.shape[1])
    return found


def among_all(some: Tensor, everyone: Tensor, width: int, dtype: torch.dtype | None = None) -> Candidates:
    """The same for some rows ``[R, d]`` among all ``[M, d]``, on the CPU.

    Equal products come in the order of the rows. ``dtype``: multiply in this precision (rounded to float32).
    """
    found = _empty(len(some), width)
    for left in range(0, len(everyone), BLOCK):
        columns = everyone[left : left + BLOCK].to(dtype or everyone.dtype).T
        for top in range(0, len(some), BLOCK):
            rows = some[top : top + BLOCK].to(columns.dtype)
            products = torch.mm(rows, columns).float().numpy()
            over_rows(partial(_offer_rows, products, top, left, *found), len(products))
    return found


def on_device(some: Tensor, everyone: Tensor, width: int, memory: int | None = None) -> Candidates:
    """The same where the tensors are, in pieces of ``memory`` bytes; None takes a share of what is free."""
    if memory is None:
        free = torch.cuda.mem_get_info(everyone.device)[0] if everyone.is_cuda else UNKNOWN_FREE
        memory = free // FREE_SHARE
    columns = max(width, memory // (4 * min(SIDE, max(1, len(some)))))
    best = []
    for part in torch.split(some, SIDE):
        values, names = part.new_empty(len(part), 0), torch.empty(len(part), 0, dtype=torch.int64)
        names = names.to(part.device)
        for left in range(0, len(everyone), columns):
            products = torch.mm(part, everyone[left : left + columns].T)
            top, place = products.topk(min(width, products.shape[1]), dim=1)
            values, names = torch.cat([values, top], dim=1), torch.cat([names, place + left], dim=1)
            values, place = values.topk(min(width, values.shape[1]), dim=1)
            names = names.gather(1, place)
        best.append((values.cpu(), names.to(torch.int32).cpu()))
    return torch.cat([v for v, _ in best]).numpy(), torch.cat([n for _, n in best]).numpy()


def _empty(count: int, width: int) -> Candidates:
    return np.full((count, width), -np.inf, dtype=np.float32), np.zeros((count, width), dtype=np.int32)


@compiled
def _insert(value: float, index: int, values: Floats, found: NDArray[np.int32]) -> None:
    """Put a value that beats the last of a sorted list in its place, after its equals."""
    place = len(values) - 1
    while place > 0 and values[place - 1] < value:
        values[place] = values[place - 1]
        found[place] = found[place - 1]
        place -= 1
    values[place] = value
    found[place] = index


@compiled
def _offer_rows(
    products: Floats,
    top: int,
    left: int,
    values: Floats,
    found: NDArray[np.int32],
    start: int,
    stop: int,
) -> None:
    """Offer the columns of a block to its rows. Columns come in ascending order, so equals keep theirs."""
    last = values.shape[1] - 1
    for row in range(start, stop):
        kept, names, line = values[top + row], found[top + row], products[row]
        worst = kept[last]
        for column in range(products.shape[1]):
            if line[column] > worst:
                _insert(line[column], left + column, kept, names)
                worst = kept[last]


@compiled
def _offer_columns(
    products: Floats,
    top: int,
    left: int,
    values: Floats,
    found: NDArray[np.int32],
    start: int,
    stop: int,
) -> None:
    """Offer the rows of a block to its columns. Order among equals is settled later."""
    last = values.shape[1] - 1
    worst = values[left + start : left + stop, last].copy()
    for row in range(products.shape[0]):
        line = products[row, start:stop]
        for column in range(stop - start):
            if line[column] > worst[column]:
                target = left + start + column
                _insert(line[column], top + row, values[target], found[target])
                worst[column] = values[target, last]
