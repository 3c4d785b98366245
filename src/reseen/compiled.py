"""How loops are compiled and shared among threads, and the one product that every exact similarity is rounded from.

Kernels take a range of rows and release the interpreter lock, so that plain threads run them side by side. That needs
no threading layer of the compiler's own, which would clash with torch's in forked loader workers, and the result does
not depend on the number of threads because no two kernels write to the same row.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, cast

import numba
import numpy as np
import torch
from numpy.typing import NDArray

F = TypeVar("F", bound=Callable[..., Any])

SHARES_PER_THREAD = 4  # rows differ in cost: smaller shares keep all threads busy to the end


def compiled(function: F) -> F:
    """Compile without the interpreter lock."""
    return _compile(function, {"nogil": True, "error_model": "numpy"})


def compiled_sums(function: F) -> F:
    """Like :func:`compiled`, and sums may be regrouped so that they use vector instructions.

    The grouping is a function of the length alone: equal inputs give equal sums wherever they stand.
    """
    return _compile(function, {"nogil": True, "error_model": "numpy", "fastmath": {"reassoc", "contract"}})


def _compile(function: F, options: dict[str, Any]) -> F:
    try:
        return cast(F, numba.njit(cache=True, **options)(function))
    except RuntimeError:
        # neither the package's folder nor the user's cache can be written: compile every time
        return cast(F, numba.njit(**options)(function))


def over_rows(kernel: Callable[[int, int], Any], count: int, *, smallest: int = 256) -> list[Any]:
    """Call ``kernel(start, stop)`` on shares of ``range(count)``, torch's number of threads at a time.

    Returns:
        The kernel's results in the order of the rows.
    """
    threads = torch.get_num_threads()
    shares = 1 if threads == 1 else max(1, min(count // smallest, threads * SHARES_PER_THREAD))
    edges = [count * share // shares for share in range(shares + 1)]
    if shares == 1:
        return [kernel(0, count)]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(kernel, edges[:-1], edges[1:]))


@compiled_sums
def inner(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Inner product of two rows ``[D]``, float32 or float64, summed in float64."""
    total = 0.0
    for place in range(len(one)):
        total += np.float64(one[place]) * np.float64(other[place])
    return total
