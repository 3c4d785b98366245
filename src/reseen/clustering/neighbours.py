"""Exact nearest neighbours of every row among all rows, in a fixed order.

The order is that of the exact inner products. A sweep over :mod:`~reseen.clustering.proxies` finds candidates, their
inner products are taken again in float64 for as long as one of them could still belong to the list, and the bound on
what the proxies hide shows for each row that nobody else can. A row without that proof (many copies of one image,
collapsed features) is searched again in float32, and then in float64. So the answer depends neither on the proxies
nor on block sizes nor on the device nor on the number of threads.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reseen.clustering.compiled import compiled, compiled_sums, over_rows
from reseen.clustering.proxies import Proxies, cheapest_proxies, exact_proxies
from reseen.clustering.sweep import Candidates, among_all, among_themselves, on_device
from reseen.device import full_precision, resolve_device
from reseen.errors import ReseenError

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

SPARE = (
    16  # candidates beyond k at least, or else k: the k-th must beat the last of them by more than the slack
)


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
        ReseenError: features are not ``[M, D]`` with M, D >= 1, or hold NaN or infinity; k < 1; no such device.
    """
    everyone, tensor = as_features(features)
    if k < 1:
        raise ReseenError(f"a neighbour list needs k >= 1, not {k}")
    count = len(everyone)
    first, last, step = (rows or slice(None)).indices(count)
    if step != 1:
        raise ReseenError(f"rows of a neighbour search are a slice without a step, not {rows}")
    chosen = np.arange(first, max(first, last))
    k = min(k, count)
    indices = np.empty((len(chosen), k), dtype=np.int64)
    similarities = np.empty((len(chosen), k), dtype=np.float32)
    place = resolve_device(device) if device is not None else tensor.device
    with full_precision():
        proxies, candidates = _sweep(tensor.to(place), slice(first, last), k)
    unproven = _settle_all(everyone, chosen, proxies, candidates, indices, similarities)
    if len(unproven):
        tensor = torch.from_numpy(everyone)
        exact = exact_proxies(tensor)
        with full_precision():
            candidates = among_all(tensor[first + unproven], tensor, _width(k, count))
        lists = indices[unproven], similarities[unproven]
        still = _settle_all(everyone, chosen[unproven], exact, candidates, *lists)
        indices[unproven], similarities[unproven] = lists
        unproven = unproven[still]
    if len(unproven):  # a float64 product rounded to float32 needs no second look
        similarities[unproven], indices[unproven] = among_all(
            tensor[first + unproven], tensor, k, torch.float64
        )
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
    finite = np.concatenate([np.isfinite(part).all(axis=1) for part in np.array_split(rows, _parts(rows))])
    if not finite.all():
        bad = np.flatnonzero(~finite)
        raise ReseenError(
            f"features hold NaN or infinity in {len(bad)} of {len(rows)} rows, first in row {bad[0]}: "
            "lower the learning rate, or turn mixed precision off, and start from an earlier checkpoint"
        )
    return rows, tensor


def _parts(rows: Floats) -> int:
    return max(1, rows.size >> 24)


def _width(k: int, count: int) -> int:
    return min(k + max(k, SPARE), count)


def _sweep(tensor: Tensor, rows: slice, k: int) -> tuple[Proxies, Candidates]:
    """Candidates of some rows, and the proxies that were compared."""
    count = len(tensor)
    width = _width(k, count)
    if tensor.device.type != "cpu":
        proxies = exact_proxies(tensor)
        return proxies, on_device(tensor[rows], tensor, width)
    proxies = cheapest_proxies(tensor, width, k)
    if rows == slice(0, count):
        return proxies, among_themselves(proxies.rows, width)
    return proxies, among_all(proxies.rows[rows], proxies.rows, width)


def _settle_all(
    everyone: Floats,
    chosen: Ints,
    proxies: Proxies,
    candidates: Candidates,
    indices: Ints,
    similarities: Floats,
) -> Ints:
    """Fill in the lists of the ``chosen`` rows. Returns which of them, 0..R-1, have no proof."""
    proven = np.empty(len(chosen), dtype=np.bool_)
    slack = proxies.slack[chosen]
    over_rows(
        partial(_settle, everyone, chosen, slack, *candidates, indices, similarities, proven), len(chosen)
    )
    return np.flatnonzero(~proven)


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
    chosen: Ints,
    slack: NDArray[np.float64],
    values: Floats,
    candidates: NDArray[np.int32],
    indices: Ints,
    similarities: Floats,
    proven: NDArray[np.bool_],
    start: int,
    stop: int,
) -> None:
    """Take the inner products of candidates again, keep the k best, and say whether the list is proven.

    Candidates come by proxy, best first, so nobody from a place on can be more similar than that proxy and the
    slack. Once that is below the k-th of the list, the list is done.
    """
    k, width = indices.shape[1], candidates.shape[1]
    for row in range(start, stop):
        names, best = indices[row], similarities[row]
        kept = 0
        done = width == len(rows)
        for place in range(width):
            if kept == k and values[row, place] + slack[row] < best[k - 1]:
                done = True
                break
            index = candidates[row, place]
            value = np.float32(inner(rows[chosen[row]], rows[index]))
            if kept == k and (value < best[k - 1] or (value == best[k - 1] and index > names[k - 1])):
                continue
            slot = kept if kept < k else k - 1
            while slot > 0 and (
                best[slot - 1] < value or (best[slot - 1] == value and names[slot - 1] > index)
            ):
                best[slot] = best[slot - 1]
                names[slot] = names[slot - 1]
                slot -= 1
            best[slot] = value
            names[slot] = index
            kept = min(kept + 1, k)
        proven[row] = done or values[row, width - 1] + slack[row] < best[k - 1]
