"""Candidates of the search: the largest products of rows with all rows, a block at a time.

``sign`` -1 turns every product round, so that the largest are those of the rows that are least similar.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reseen.compiled import compiled, over_rows

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Candidates = tuple[Floats, NDArray[np.int32]]  # products, descending, and whose they are: [R, width] each

BLOCK = 2048  # rows a side of one product on the CPU: 16 MiB of float32
SIDE = 8192  # rows of one product on an accelerator
FREE_SHARE = 8  # part of an accelerator's free memory for one product; sorting takes several times that
UNKNOWN_FREE = 1 << 32  # bytes taken to be free where the device does not say


def largest_products(rows: Tensor, chosen: Ints, width: int, sign: int = 1) -> Candidates:
    """For the ``chosen`` of the rows ``[M, d]``, ascending, the ``width`` largest products with all of them."""
    if rows.device.type != "cpu":
        return on_device(rows, chosen, width, sign)
    if len(chosen) == len(rows):
        return among_themselves(rows, width, sign)
    return among_all(rows, chosen, width, sign)


def among_themselves(rows: Tensor, width: int, sign: int = 1) -> Candidates:
    """:func:`largest_products` of all rows, on the CPU.

    Each block of products serves its rows and, transposed, its columns.
    """
    count = len(rows)
    found = _empty(count, width)
    for top in range(0, count, BLOCK):
        some = sign * rows[top : top + BLOCK]
        for left in range(top, count, BLOCK):
            products = torch.mm(some, rows[left : left + BLOCK].T).float().numpy()
            over_rows(partial(_offer_rows, products, top, left, *found), products.shape[0])
            if left > top:
                over_rows(partial(_offer_columns, products, top, left, *found), products.shape[1])
    return found


def among_all(
    rows: Tensor, chosen: Ints, width: int, sign: int = 1, dtype: torch.dtype | None = None
) -> Candidates:
    """:func:`largest_products` of any rows, on the CPU.

    Equal products come in the order of the rows. ``dtype``: multiply in this precision (rounded to float32).
    """
    found = _empty(len(chosen), width)
    for top in range(0, len(chosen), BLOCK):
        some = sign * rows[chosen[top : top + BLOCK]].to(dtype or rows.dtype)
        for left in range(0, len(rows), BLOCK):
            products = torch.mm(some, rows[left : left + BLOCK].to(some.dtype).T).float().numpy()
            over_rows(partial(_offer_rows, products, top, left, *found), len(products))
    return found


def on_device(rows: Tensor, chosen: Ints, width: int, sign: int = 1, memory: int | None = None) -> Candidates:
    """:func:`largest_products` where the rows are, in pieces of ``memory`` bytes; None: a share of what is free."""
    if memory is None:
        free = torch.cuda.mem_get_info(rows.device)[0] if rows.is_cuda else UNKNOWN_FREE
        memory = free // FREE_SHARE
    columns = max(width, memory // (4 * min(SIDE, max(1, len(chosen)))))
    best = []
    for part in torch.split(torch.from_numpy(chosen).to(rows.device), SIDE):
        some = sign * rows[part]
        values, names = some.new_empty(len(part), 0), part.new_empty(len(part), 0)
        for left in range(0, len(rows), columns):
            products = torch.mm(some, rows[left : left + columns].T)
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
