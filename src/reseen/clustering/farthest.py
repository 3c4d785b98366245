"""How far away the farthest row is: what re-ranking measures distances in.

The search of :mod:`~reseen.clustering.neighbours` with the sign turned: proxies find candidates, their inner products
are taken again in float64, and the bound on what the proxies hide shows that nobody else is farther.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reseen.clustering.compiled import compiled, over_rows
from reseen.clustering.neighbours import as_features, inner
from reseen.clustering.proxies import exact_proxies, half_proxies
from reseen.clustering.sweep import BLOCK, Candidates, among_all, offer_columns, offer_rows, on_device
from reseen.models.precision import resolve_precision

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

WIDTH = 16  # candidates; the farthest must beat the last of them by more than the slack


def lowest_similarities(features: Any, *, device: torch.device | str | None = None) -> Floats:
    """The smallest inner product of each row with any row.

    Args:
        features: rows ``[M, D]``, array or tensor on any device; taken as float32.
        device: where the large product is taken. By default where ``features`` is.

    Returns:
        float32 ``[M]``: summed in float64, rounded once.

    Raises:
        ReseenError: features are not ``[M, D]`` with M, D >= 1, or hold NaN or infinity.
    """
    rows, tensor = as_features(features)
    place = torch.device(device) if device is not None else tensor.device
    width = min(WIDTH, len(rows))
    lowest = np.empty(len(rows), dtype=np.float32)
    left = np.arange(len(rows))
    exact = exact_proxies(tensor)
    if place.type != "cpu":
        found = on_device(-tensor.to(place), tensor.to(place), width)
        left = _settled(rows, left, exact.slack, found, lowest)
        tensor = tensor.cpu()
    else:
        half = resolve_precision(place, "auto") == "bf16"
        proxies = half_proxies(tensor, tensor.shape[1]) if half else exact
        left = _settled(rows, left, proxies.slack, _among_themselves(proxies.rows, width), lowest)
    if len(left):
        left = _settled(rows, left, exact.slack, among_all(-tensor[left], tensor, width), lowest)
    if len(left):  # a float64 product rounded to float32 needs no second look
        lowest[left] = -among_all(-tensor[left], tensor, 1, torch.float64)[0][:, 0]
    return lowest


def _among_themselves(rows: Tensor, width: int) -> Candidates:
    """The ``width`` largest negated products of each row, each block serving its rows and its columns."""
    count = len(rows)
    found = np.full((count, width), -np.inf, dtype=np.float32), np.zeros((count, width), dtype=np.int32)
    for top in range(0, count, BLOCK):
        for left in range(top, count, BLOCK):
            products = torch.mm(-rows[top : top + BLOCK], rows[left : left + BLOCK].T).float().numpy()
            over_rows(partial(offer_rows, products, top, left, *found), products.shape[0])
            if left > top:
                over_rows(partial(offer_columns, products, top, left, *found), products.shape[1])
    return found
