"""Paired bootstrap: the mean is exact, the interval is the plain one, seeds must agree, queries must match."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reseen.errors import ReseenError
from reseen.metrics.bootstrap import paired_difference

SCORES = st.lists(st.floats(0, 1), min_size=1, max_size=30)


def slow_interval(differences: list[np.ndarray], samples: int, seed: int) -> tuple[float, float]:
    """Draw seeds, then queries of each, one number at a time."""
    draw = np.random.default_rng(seed)
    means = []
    for _ in range(samples):
        chosen = draw.integers(0, len(differences), len(differences))
        parts = []
        for number in chosen:
            values = differences[number]
            parts.append(np.mean([values[draw.integers(0, len(values))] for _ in values]))
        means.append(np.mean(parts))
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def test_the_interval_is_that_of_the_slow_bootstrap():
    draw = np.random.default_rng(3)
    first = [draw.uniform(0, 1, 60) for _ in range(3)]
    second = [
        values - shift + draw.normal(0, 0.2, 60) for values, shift in zip(first, (0.0, 0.1, 0.3), strict=True)
    ]
    found = paired_difference(first, second, samples=4000, same_queries=False)
    low, high = slow_interval([a - b for a, b in zip(first, second, strict=True)], 4000, 1)
    assert found.by_seed == pytest.approx([np.mean(a - b) for a, b in zip(first, second, strict=True)])
    assert found.mean == pytest.approx(np.mean(found.by_seed))
    assert found.spread == pytest.approx(np.std(found.by_seed, ddof=1))
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.012)
    # independent draws would be far wider than pairs that move together
    assert paired_difference([first[0]], [first[0] - 0.1], same_queries=False).high == pytest.approx(0.1)


@settings(max_examples=40, deadline=None)
@given(st.lists(SCORES, min_size=1, max_size=4), st.integers(0, 5))
def test_order_sign_and_repetition(scores, seed):
    first = [np.array(values) for values in scores]
    second = [values[::-1].copy() for values in first]
    one = paired_difference(first, second, samples=50, seed=seed, same_queries=False)
    assert one == paired_difference(first, second, samples=50, seed=seed, same_queries=False)
    other = paired_difference(second, first, samples=50, seed=seed, same_queries=False)
    assert other.mean == pytest.approx(-one.mean)
    assert (other.low, other.high) == pytest.approx((-one.high, -one.low))
    assert other.sign == -one.sign
    assert one.low <= one.high


def test_seeds_that_disagree_are_noise_and_one_seed_has_no_spread():
    up, down = np.full(200, 0.5), np.full(200, 0.49)
    assert paired_difference([up, up], [down, down], same_queries=False).sign == 1
    assert paired_difference([up, up, down], [down, down, up], same_queries=False).sign == 0
    assert paired_difference([down], [up], same_queries=False).sign == -1
    assert np.isnan(paired_difference([up], [down], same_queries=False).spread)
    assert np.isnan(paired_difference([up], [down], same_queries=False).p_value)
    assert paired_difference([up, up], [down, down], same_queries=False).p_value == 0
    draw = np.random.default_rng(1)
    noisy = paired_difference([draw.uniform(0, 1, 9) for _ in range(3)], [np.zeros(9)] * 3, same_queries=True)
    t = np.mean(noisy.by_seed) / (np.std(noisy.by_seed, ddof=1) / np.sqrt(3))
    assert noisy.p_value == pytest.approx(
        1 - t / np.sqrt(2 + t * t)
    )  # Student's t with 2 degrees of freedom, closed form


def test_queries_without_a_match_are_left_out_and_others_are_refused():
    first, second = np.array([0.5, np.nan, 0.7]), np.array([0.4, np.nan, 0.7])
    assert paired_difference([first], [second], same_queries=False).mean == pytest.approx(0.05)
    for one, other, message in (
        ([first], [np.array([0.4, 0.1, 0.7])], "same queries"),
        ([first], [first[:2]], "same queries"),
        ([first, first], [second], "same seeds"),
        ([], [], "same seeds"),
        ([np.array([np.nan])], [np.array([np.nan])], "no query"),
    ):
        with pytest.raises(ReseenError, match=message):
            paired_difference(one, other, same_queries=False)


@pytest.mark.parametrize("seeds", [3, 5])
def test_what_the_test_queries_favour_does_not_count_as_sure_with_more_seeds(seeds):
    """Two models that are equal on average, on test sets that each happen to favour one: 95 % should hold 0."""
    draw = np.random.default_rng(seeds)
    covered = 0
    for _ in range(60):
        favour = draw.normal(0, 0.3, 80)  # of the queries, the same for every seed
        first = [favour + draw.normal(0, 0.02, 80) for _ in range(seeds)]
        found = paired_difference(first, [np.zeros(80)] * seeds, same_queries=True, samples=300)
        covered += found.low <= 0 <= found.high
    assert covered >= 52  # independent draws of queries hold 0 in about 43 of 60


def test_shared_queries_need_equally_many():
    with pytest.raises(ReseenError, match="equally many"):
        paired_difference([np.ones(3), np.ones(4)], [np.zeros(3), np.zeros(4)], same_queries=True)
