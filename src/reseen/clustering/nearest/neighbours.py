"""Exact nearest neighbours of every row among all rows, in a fixed order; and how similar the least similar row is.

The order is that of the exact inner products. A sweep over :mod:`~reseen.clustering.nearest.proxies` finds candidates,
their inner products are taken again in float64 for as long as one of them could still belong to the list, and the
bound on what the proxies hide shows for each row that no other row can. A row without that proof (many copies of one
image, collapsed features) is searched again in float32, and then in float64. So the answer depends neither on the
proxies nor on block sizes nor on the device nor on the number of threads.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reseen.clustering.nearest.proxies import Proxies, cheapest_proxies, exact_proxies, half_proxies
from reseen.clustering.nearest.sweep import among_all, largest_products
from reseen.compiled import compiled, inner, over_rows
from reseen.device import full_precision, resolve_device, resolve_precision
from reseen.errors import ReseenError

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

# Candidates beyond k at least, or else k: the k-th must beat the last of them by more than the slack.
SPARE = 16


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
    rows = rows or slice(None)
    if rows.step not in (None, 1):
        raise ReseenError(f"rows of a neighbour search are a slice without a step, not {rows}")
    return _search(everyone, _placed(tensor, device), np.arange(len(everyone))[rows], k, sign=1)


def lowest_similarities(features: Any, *, device: torch.device | str | None = None) -> Floats:
    """The smallest inner product of each row with any row: the unit that re-ranking measures distances in.

    Args:
        features: rows ``[M, D]``, array or tensor on any device; taken as float32.
        device: where the large product is taken. By default where ``features`` is.

    Returns:
        float32 ``[M]``: summed in float64, rounded once.

    Raises:
        ReseenError: features are not ``[M, D]`` with M, D >= 1, or hold NaN or infinity; no such device.
    """
    everyone, tensor = as_features(features)
    return -_search(everyone, _placed(tensor, device), np.arange(len(everyone)), 1, sign=-1)[1][:, 0]


def as_features(features: Any) -> tuple[Floats, Tensor]:
    """Checked features, as a contiguous float32 array and as a float32 tensor on the device where they are."""
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


def _placed(tensor: Tensor, device: torch.device | str | None) -> Tensor:
    return tensor if device is None else tensor.to(resolve_device(device))


def _search(everyone: Floats, tensor: Tensor, chosen: Ints, k: int, sign: int) -> tuple[Ints, Floats]:
    """The k largest products, times ``sign``, of the ``chosen`` rows (ascending) with all rows, and whose they are."""
    k = min(k, len(everyone))
    width = min(k + max(k, SPARE), len(everyone))
    indices = np.empty((len(chosen), k), dtype=np.int64)
    products = np.empty((len(chosen), k), dtype=np.float32)
    left = np.arange(len(chosen))  # places in the lists that have no proof yet
    for proxies in _stages(tensor, width, k, sign):
        with full_precision():
            candidates = largest_products(proxies.rows, chosen[left], width, sign)
        lists = indices, products
        settle = partial(_settle, everyone, sign, proxies.slack, chosen, left, *candidates, *lists)
        left = left[~np.concatenate(over_rows(settle, len(left)))]
        if not len(left):
            return indices, products
    # a float64 product rounded to float32 needs no second look
    products[left], indices[left] = among_all(
        torch.from_numpy(everyone), chosen[left], k, sign, torch.float64
    )
    return indices, products


def _stages(features: Tensor, width: int, k: int, sign: int) -> Iterator[Proxies]:
    """Proxies, cheapest first; the last are the rows themselves. Those of few numbers bound from above only."""
    if features.device.type == "cpu":
        if sign > 0:
            cheap = cheapest_proxies(features, width, k)
            if cheap.rows is not features:
                yield cheap
        elif resolve_precision(features.device, "auto") == "bf16":
            yield half_proxies(features, features.shape[1])
    yield exact_proxies(features)


@compiled
def _settle(
    rows: Floats,
    sign: int,
    slack: NDArray[np.float64],
    chosen: Ints,
    left: Ints,
    values: Floats,
    candidates: NDArray[np.int32],
    indices: Ints,
    similarities: Floats,
    start: int,
    stop: int,
) -> NDArray[np.bool_]:
    """Take the inner products of candidates again and keep the k best. Returns which lists are proven.

    Row ``start`` of the candidates is for list ``left[start]``. Candidates come by proxy, best first, so no row from a
    place on can have a larger product than that proxy and the slack. Once that is below the k-th of the list, the
    list is done.
    """
    k, width = indices.shape[1], candidates.shape[1]
    proven = np.empty(stop - start, dtype=np.bool_)
    for row in range(start, stop):
        own = chosen[left[row]]
        names, best = indices[left[row]], similarities[left[row]]
        kept = 0
        done = width == len(rows)
        for place in range(width):
            if kept == k and values[row, place] + slack[own] < best[k - 1]:
                done = True
                break
            index = candidates[row, place]
            value = np.float32(sign * inner(rows[own], rows[index]))
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
        proven[row - start] = done or values[row, width - 1] + slack[own] < best[k - 1]
    return proven
