"""How sure a difference between two models is: the same queries under both, resampled together."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ttest_1samp

from reseen.errors import ReseenError
from reseen.metrics.arrays import to_floats


@dataclass(frozen=True)
class PairedDifference:
    """``mean``: of first minus second, over queries, then over seeds. ``by_seed``: of each seed. ``low``, ``high``:
    the middle 95 % of the bootstrap."""

    mean: float
    by_seed: tuple[float, ...]
    low: float
    high: float

    @property
    def spread(self) -> float:
        """Standard deviation over seeds (n - 1); nan for one seed, which says nothing about other ones."""
        return float(np.std(self.by_seed, ddof=1)) if len(self.by_seed) > 1 else float("nan")

    @property
    def p_value(self) -> float:
        """Two-sided t-test that the mean over seeds is 0; nan for one seed. Few seeds make the bootstrap's interval too
        narrow (three can be drawn in ten ways only), and this does not spare them."""
        if len(self.by_seed) < 2:
            return float("nan")
        if len(set(self.by_seed)) == 1:
            return 0.0 if self.mean else 1.0
        with warnings.catch_warnings():  # seeds that differ by rounding alone are no reason for a warning
            warnings.simplefilter("ignore", RuntimeWarning)
            return float(ttest_1samp(self.by_seed, 0.0).pvalue)

    @property
    def sign(self) -> int:
        """1 or -1 where the interval leaves 0 out and every seed agrees, else 0: inside the noise."""
        if self.low > 0 and min(self.by_seed) > 0:
            return 1
        return -1 if self.high < 0 and max(self.by_seed) < 0 else 0


def paired_difference(
    first: Sequence[Any], second: Sequence[Any], *, same_queries: bool, samples: int = 2000, seed: int = 0
) -> PairedDifference:
    """Bootstrap the mean difference of two models' average precision over the same queries.

    Seeds are drawn with replacement, and queries (Efron and Tibshirani 1993, Section 8.3), so that with several seeds
    the interval holds what another training would change, and with one only what other queries would. Seeds that are
    tested on the same queries share their draw: what these queries favour is not averaged away by more seeds.
    Queries without a valid match (nan, under both) are left out.

    Args:
        first, second: for each seed the scores ``[Q]`` of its queries, in the same order.
        same_queries: whether all seeds are tested on one set; else each has its own, and Q may differ.
        samples: bootstrap draws.

    Raises:
        ReseenError: no seed, other queries, or no query that can be scored.
    """
    if not first or len(first) != len(second):
        raise ReseenError(f"a paired difference needs the same seeds, not {len(first)} and {len(second)}")
    differences = []
    for one, other in zip(first, second, strict=True):
        a, b = to_floats(one, "scores", ndim=1), to_floats(other, "scores", ndim=1)
        if a.shape != b.shape or (np.isnan(a) != np.isnan(b)).any():
            raise ReseenError("a paired difference needs the same queries under both models")
        kept = (a - b)[~np.isnan(a)]
        if not len(kept):
            raise ReseenError("no query has a valid match: there is nothing to compare")
        differences.append(kept)
    if same_queries and len({len(part) for part in differences}) > 1:
        raise ReseenError("seeds that share their queries need equally many of them")
    draw = np.random.default_rng(seed)
    count = len(differences)
    total = np.zeros(samples)
    means = _resampled_means(differences, samples, draw, shared=same_queries)  # [S, samples]
    for turn in range(count):
        if turn and not same_queries:  # a seed that is drawn twice has other queries each time
            means = _resampled_means(differences, samples, draw, shared=False)
        total += means[draw.integers(0, count, samples), np.arange(samples)]
    low, high = np.quantile(total / count, (0.025, 0.975))
    by_seed = tuple(float(part.mean()) for part in differences)
    return PairedDifference(float(np.mean(by_seed)), by_seed, float(low), float(high))


def _resampled_means(
    parts: Sequence[Any], samples: int, draw: np.random.Generator, *, shared: bool
) -> NDArray[np.float64]:
    """Means ``[S, samples]`` of queries drawn with replacement, block by block; one draw for all if ``shared``."""
    means = np.empty((len(parts), samples))
    longest = max(map(len, parts))
    block = max(1, 2**22 // longest)
    for start in range(0, samples, block):
        stop = min(start + block, samples)
        rows = draw.integers(0, longest, (stop - start, longest)) if shared else None
        for number, values in enumerate(parts):
            own = draw.integers(0, len(values), (stop - start, len(values))) if rows is None else rows
            means[number, start:stop] = values[own].mean(axis=1)
    return means
