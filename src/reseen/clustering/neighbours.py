"""Exact nearest neighbours of every row among all rows, in a fixed order.
 The order is that of the exact inner products: a float32 matrix product finds candidates, their inner
products are taken again in float64, and a bound on the error of the first shows for each row that no other
row can belong to its list. A row without that proof (many copies of one image, collapsed features) is
searched again in float64. So the answer depends neither on block sizes nor on the device nor on the number
of threads.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reseen.clustering.compiled import compiled, compiled_sums, over_rows
from reseen.errors import ReseenError

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

BLOCK = 2048  # rows a side of one product on the CPU: 16 MiB of similarities
SPARE = 16  # candidates beyond k; the k-th must beat the last of them by more than the error bound
SEARCH_BYTES = 1 << 28  # similarities held at once on an accelerator
UNIT_ROUNDOFF = 2.0**-24  # float32


def nearest_neighbours(
    features: Any, k: int, *, rows: slice | None = None, device: torch.device | str | None = None
) -> tuple[Ints, Floats]:
    """Return the k most similar rows of each row, itself included where it belongs.

    Args:
        features: rows ``[M, D]``, array or tensor on any device; taken as float32. L2-normalised rows make
            the inner product the cosine.
        k: list length, at least 1. More than M gives lists of M.
        rows: the rows whose lists are wanted, a slice without a step: R of them. None means all. Lists of
            parts, one below the other, equal the lists of the whole.
        device: where the large product is taken. By default where ``features`` is.

    Returns:
        ``indices`` int64 ``[R, min(k, M)]`` and ``similarities`` float32 of the same shape: inner products
        summed in float64, rounded once. Each list is sorted by similarity, descending; equal similarities by
        index, ascending. So with copies of an image a row need not come first in its own list, and with more
        than k copies it can be missing.

    Raises:
        ReseenError: features are not ``[M, D]`` with M, D >= 1, or hold NaN or infinity; or k < 1.
    """
    everyone, tensor = as_features(features)
    if k < 1:
        raise ReseenError(f"a neighbour list needs k >= 1, not {k}")
    count, dim = everyone.shape
    first, last, step = (rows or slice(None)).indices(count)
    if step != 1:
        raise ReseenError(f"rows of a neighbour search are a slice without a step, not {rows}")
    chosen = max(0, last - first)
    k = min(k, count)
    width = min(k + SPARE, count)
    place = torch.device(device) if device is not None else tensor.device
    with _full_precision():
        if place.type == "cpu" and chosen == count:
            values, candidates = _symmetric_candidates(everyone, width)
        else:
            values, candidates = _streamed_candidates(tensor.to(place), slice(first, last), width)

    indices = np.empty((chosen, k), dtype=np.int64)
    similarities = np.empty((chosen, k), dtype=np.float32)
    lengths = np.sqrt(np.einsum("md,md->m", everyone, everyone, dtype=np.float64))
    bounds = 2 * dim * UNIT_ROUNDOFF * lengths[first:last] * float(lengths.max())
    proven = np.empty(chosen, dtype=np.bool_)
    settle = partial(_settle, everyone, first, values, candidates, bounds, indices, similarities, proven)
    over_rows(settle, chosen)
    open_rows = np.flatnonzero(~proven)
    if len(open_rows):
        indices[open_rows], similarities[open_rows] = _search_in_float64(everyone, first + open_rows, k)
    return indices, similarities


def as_features(features: Any) -> tuple[Floats, Tensor]:
    """Check features and return them as a contiguous float32 array, and as a float32 tensor where they
    are."""
    tensor = torch.as_tensor(features).detach()
    if tensor.ndim != 2 or 0 in tensor.shape:
        raise ReseenError(
            f"features must have shape [M, D] with at least one row and column, not {list(tensor.shape)}"
        )
    if not tensor.is_floating_point():
        raise ReseenError(f"features must be floating point numbers, not {tensor.dtype}")
    tensor = tensor.to(torch.float32).contiguous()
    rows = tensor.cpu().numpy()
    finite = np.isfinite(rows).all(axis=1)
    if not finite.all():
        bad = np.flatnonzero(~finite)
        raise ReseenError(
            f"features hold NaN or infinity in {len(bad)} of {len(rows)} rows, first in row {bad[0]}: "
            "lower the learning rate, or turn mixed precision off, and start from an earlier checkpoint"
        )
    return rows, tensor


@contextmanager
def _full_precision() -> Iterator[None]:
    """Shut out TF32 and bf16 products, which the error bound does not cover."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _symmetric_candidates(rows: Floats, width: int) -> tuple[Floats, NDArray[np.int32]]:
    """Candidates on the CPU. Each block of products serves its rows and, transposed, its columns."""
    count = len(rows)
    tensor = torch.from_numpy(rows)
    values = np.full((count, width), -np.inf, dtype=np.float32)
    candidates = np.zeros((count, width), dtype=np.int32)
    for top in range(0, count, BLOCK):
        below = min(top + BLOCK, count)
        for left in range(top, count, BLOCK):
            right = min(left + BLOCK, count)
            products = torch.mm(tensor[top:below], tensor[left:right].T).numpy()
            over_rows(partial(_offer_rows, products, top, left, values, candidates), below - top)
            if left > top:
                over_rows(partial(_offer_columns, products, top, left, values, candidates), right - left)
    return values, candidates


def _streamed_candidates(tensor: Tensor, rows: slice, width: int) -> tuple[Floats, NDArray[np.int32]]:
    """Candidates on any device: a few rows against all others at a time, the best kept on the device."""
    step = max(1, SEARCH_BYTES // (4 * len(tensor)))
    best = [torch.mm(part, tensor.T).topk(width, dim=1) for part in torch.split(tensor[rows], step)]
    values = torch.cat([part.values for part in best]).cpu().numpy()
    candidates = torch.cat([part.indices.to(torch.int32) for part in best]).cpu().numpy()
    return values, candidates


def _search_in_float64(rows: Floats, chosen: Ints, k: int) -> tuple[Ints, Floats]:
    """Search the lists of some rows anew. A float64 product rounded to float32 needs no second look."""
    values = np.full((len(chosen), k), -np.inf, dtype=np.float32)
    found = np.zeros((len(chosen), k), dtype=np.int32)
    tensor = torch.from_numpy(rows)
    picked = torch.from_numpy(chosen)
    for left in range(0, len(rows), BLOCK):
        columns = tensor[left : left + BLOCK].double().T
        for top in range(0, len(chosen), BLOCK):
            part = tensor[picked[top : top + BLOCK]].double()
            products = torch.mm(part, columns).float().numpy()
            over_rows(partial(_offer_rows, products, top, left, values, found), len(products))
    return found.astype(np.int64), values


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


@compiled_sums
def inner(one: Floats, other: Floats) -> float:
    """Inner product of two float32 rows, summed in float64."""
    total = 0.0
    for place in range(len(one)):
        total += np.float64(one[place]) * np.float64(other[place])
    return total


@compiled
def _settle(
    rows: Floats,
    first: int,
    values: Floats,
    candidates: NDArray[np.int32],
    bounds: NDArray[np.float64],
    indices: Ints,
    similarities: Floats,
    proven: NDArray[np.bool_],
    start: int,
    stop: int,
) -> None:
    """Take the inner products of the candidates again, sort them, keep k, and say whether the list is proven.

    Whoever is not a candidate had a product of at most the last candidate's, so its true one is at most
    that plus the bound. (The bound is doubled where it is made: rounding to float32 comes on top.)
    """
    k, width = indices.shape[1], candidates.shape[1]
    exact = np.empty(width, dtype=np.float32)
    for row in range(start, stop):
        for place in range(width):
            index = candidates[row, place]
            value = np.float32(inner(rows[first + row], rows[index]))
            slot = place
            while slot > 0 and (
                exact[slot - 1] < value or (exact[slot - 1] == value and candidates[row, slot - 1] > index)
            ):
                exact[slot] = exact[slot - 1]
                candidates[row, slot] = candidates[row, slot - 1]
                slot -= 1
            exact[slot] = value
            candidates[row, slot] = index
        for place in range(k):
            indices[row, place] = candidates[row, place]
            similarities[row, place] = exact[place]
        proven[row] = width == len(rows) or values[row, width - 1] + bounds[row] < exact[k - 1]
