"""How far away the farthest row is: the unit that re-ranking measures distances in.

The search of :mod:`~reseen.clustering.neighbours` with the sign turned: proxies find candidates, their inner products
are taken again in float64, and the bound on what the proxies hide shows that nobody else is farther. Rows without
that proof are searched with dearer proxies, and in the end in float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reseen.clustering.compiled import compiled, over_rows
from reseen.clustering.neighbours import as_features, inner
from reseen.clustering.proxies import Proxies, exact_proxies, half_proxies
from reseen.clustering.sweep import among_all, on_device
from reseen.device import full_precision, resolve_device, resolve_precision

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

WIDTH = 16  # candidates; the farthest must beat the last of them by more than the slack
PIECE = 4096  # rows that are searched together: what is copied of them stays small


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
    tensor = tensor.to(tensor.device if device is None else resolve_device(device))
    lowest = np.empty(len(rows), dtype=np.float32)
    left = np.arange(len(rows))
    search = among_all if tensor.device.type == "cpu" else on_device
    for proxies in _stages(tensor):
        proven = np.zeros(len(left), dtype=np.bool_)
        for top in range(0, len(left), PIECE):
            some = left[top : top + PIECE]
            with full_precision():
                values, names = search(-proxies.rows[some], proxies.rows, min(WIDTH, len(rows)))
            found = (proxies.slack[some], values, names, lowest, proven[top : top + PIECE])
            over_rows(partial(_settle, rows, some, *found), len(some))
        left = left[~proven]
    everyone = torch.from_numpy(rows)
    for top in range(0, len(left), PIECE):  # a float64 product rounded to float32 needs no second look
        some = left[top : top + PIECE]
        lowest[some] = -among_all(-everyone[some], everyone, 1, torch.float64)[0][:, 0]
    return lowest


def _stages(features: Tensor) -> Iterator[Proxies]:
    """Proxies, cheapest first."""
    if features.device.type == "cpu" and resolve_precision(features.device, "auto") == "bf16":
        yield half_proxies(features, features.shape[1])
    yield exact_proxies(features)


@compiled
def _settle(
    rows: Floats,
    chosen: Ints,
    slack: NDArray[np.float64],
    values: Floats,
    candidates: NDArray[np.int32],
    lowest: Floats,
    proven: NDArray[np.bool_],
    start: int,
    stop: int,
) -> None:
    """Candidates come by proxy, lowest first: from a place on, nobody can be lower than proxy and slack allow."""
    width = candidates.shape[1]
    for row in range(start, stop):
        least = np.float32(np.inf)
        proven[row] = width == len(rows)
        for place in range(width):
            if -values[row, place] - slack[row] > least:
                proven[row] = True
                break
            least = min(least, np.float32(inner(rows[chosen[row]], rows[candidates[row, place]])))
        lowest[chosen[row]] = least
