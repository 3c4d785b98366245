"""Likelihood ratios, priors and probabilities against loops, closed forms and data whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.isotonic import IsotonicRegression

from reseen.errors import ReseenError
from reseen.metrics.calibration import (
    BINS,
    MIN_CLUSTERS,
    Calibration,
    PairCounts,
    bin_of,
    count_pairs,
    fit_calibration,
    fitted_prior,
    group_probabilities,
    in_words,
    log_ratios,
    reliability,
)

SAME, OTHER, WIDTH = 0.6, 0.1, 0.15  # similarity of two normal distributions: the ratio is known


def drawn_counts(clusters: int, seed: int = 0, pairs: int = 400) -> PairCounts:
    rng = np.random.default_rng(seed)
    counts = [
        np.array(
            [np.bincount(bin_of(rng.normal(mean, WIDTH, pairs)), minlength=BINS) for _ in range(clusters)]
        )
        for mean in (SAME, OTHER)
    ]
    return PairCounts(*counts)


@given(pairs=st.lists(st.tuples(st.integers(0, 40), st.booleans()), max_size=60))
def test_the_ratio_is_the_isotonic_regression_of_scikit_learn(pairs: list[tuple[int, bool]]) -> None:
    """Fitted to the bins in which there are pairs; between two of them along a line, outside as at the last."""
    same, different = (
        np.bincount([bin for bin, kind in pairs if kind is wanted], minlength=BINS).astype(float)
        for wanted in (True, False)
    )
    same_share, different_share = same + np.eye(BINS)[0], different + np.eye(BINS)[-1]
    same_share, different_share = same_share / same_share.sum(), different_share / different_share.sum()
    weight = same_share + different_share
    there = np.flatnonzero(weight)
    fitted = IsotonicRegression().fit(there, (same_share / np.maximum(weight, 1e-300))[there], weight[there])
    expected = fitted.predict(np.arange(BINS))
    assert np.allclose(1 / (1 + np.exp(-log_ratios(same, different))), expected, atol=1e-12)


@given(
    labels=st.lists(st.integers(-1, 4), min_size=2, max_size=24),
    seed=st.integers(0, 99),
    anchors=st.sampled_from([1, 5, 100]),
)
def test_pairs_are_those_of_a_loop(labels: list[int], seed: int, anchors: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    features = F.normalize(torch.randn(len(labels), 3, generator=generator), dim=1)
    cameras = np.random.default_rng(seed).integers(-1, 3, len(labels))
    counts = count_pairs(features, np.array(labels), cameras, anchors=anchors)
    known = [i for i, label in enumerate(labels) if label >= 0 and cameras[i] >= 0]
    same, different = np.zeros(BINS, int), np.zeros(BINS, int)
    for i in known:
        for j in known:
            if cameras[i] != cameras[j]:
                where = bin_of(float(features[i] @ features[j]))
                (same if labels[i] == labels[j] else different)[where] += 1
    total = counts.same.sum(), counts.different.sum()
    if anchors == 100:  # every cluster is drawn
        assert total == (same.sum(), different.sum())
        # a product on the edge of a bin may be rounded to either side
        assert np.abs(np.cumsum(counts.same.sum(0)) - np.cumsum(same)).max(initial=0) <= 2
        assert np.abs(np.cumsum(counts.different.sum(0)) - np.cumsum(different)).max(initial=0) <= 2
    else:
        assert total <= (same.sum(), different.sum())
        assert len(counts.same) <= max(1, anchors)


def test_whole_clusters_are_drawn_until_there_are_as_many_images() -> None:
    features, labels = F.normalize(torch.ones(40, 3), dim=1), np.repeat(np.arange(10), 4)
    for anchors, clusters in ((1, 1), (4, 1), (5, 2), (8, 2), (9, 3), (40, 10), (41, 10)):
        counts = count_pairs(features, labels, np.arange(40) % 4, anchors=anchors)
        assert (len(counts.same), counts.same.sum()) == (clusters, 12 * clusters)


def test_the_ratio_of_two_normal_distributions_is_found() -> None:
    counts = drawn_counts(200)
    calibration = fit_calibration(counts, groups="cameras", replicas=50)
    similarity = np.linspace(0.2, 0.5, 13)
    true = norm.logpdf(similarity, SAME, WIDTH) - norm.logpdf(similarity, OTHER, WIDTH)
    fitted = calibration.log_ratio[bin_of(similarity)]
    assert np.abs(fitted - true).max() < 0.25
    assert (np.diff(calibration.log_ratio) >= 0).all()
    assert (calibration.low <= calibration.high).all()


def test_what_is_said_is_true_where_the_prior_is_the_gallerys() -> None:
    calibration = fit_calibration(drawn_counts(200), groups="cameras", replicas=20)
    rng = np.random.default_rng(5)
    same = np.arange(200_000) < 4_000
    similarity = rng.normal(np.where(same, SAME, OTHER), WIDTH)
    prior = calibration.prior_of(similarity)
    assert prior == pytest.approx(fitted_prior(calibration.log_ratio[bin_of(similarity)]))
    assert prior == pytest.approx(0.02, rel=0.1)
    said, low, high = calibration.probability(similarity, prior)
    assert (low <= said + 1e-9).all()
    assert (said <= high + 1e-9).all()
    diagram = reliability(said, same)
    enough = diagram.pairs > 150
    assert enough.sum() > 4
    assert np.abs(diagram.said - diagram.true)[enough].max() < 0.1
    # another prior would not do: the same pairs, thought to be even
    even = reliability(calibration.probability(similarity, 0.5)[0], same)
    assert np.nanmax(np.abs(even.said - even.true)) > 0.3


def test_each_pair_lies_in_its_interval_of_the_diagram() -> None:
    said = [0.0, 0.005, 0.01, 0.05, 0.2, 0.4, 0.6, 0.8, 0.92, 0.97, 0.995, 1.0]
    diagram = reliability(said, np.arange(12) >= 6)
    assert diagram.pairs.tolist() == [2, 2, 1, 1, 1, 1, 1, 1, 2]
    assert diagram.said == pytest.approx([0.0025, 0.03, 0.2, 0.4, 0.6, 0.8, 0.92, 0.97, 0.9975])
    assert diagram.true.tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 1]


def test_a_probability_has_a_word() -> None:
    words = [in_words(probability) for probability in (1.0, 0.9, 0.89, 0.5, 0.33, 0.32, 0.09, 0.0)]
    likely, even = ["very likely"] * 2 + ["likely"], ["about as likely as not"] * 2
    assert words == [*likely, *even, "unlikely", "very unlikely", "very unlikely"]


@given(
    ratios=st.lists(st.floats(-8, 8), min_size=1, max_size=30),
    weight=st.integers(1, 5),
)
def test_the_prior_is_where_em_ends(ratios: list[float], weight: int) -> None:
    prior = fitted_prior(ratios, np.full(len(ratios), weight))
    share, ratio = 0.25, np.exp(ratios)
    for _ in range(3_000):
        share = float((share * ratio / (share * ratio + 1 - share)).mean())
    least = 1 / max(2, weight * len(ratios))

    def likelihood(p: float) -> float:
        return float(np.log(p * ratio + 1 - p).mean())

    assert likelihood(prior) >= likelihood(float(np.clip(share, least, 0.5))) - 1e-6
    assert least <= prior <= 0.5


def test_no_ratio_is_infinite_and_few_clusters_are_refused() -> None:
    apart = PairCounts(np.zeros((MIN_CLUSTERS, BINS), int), np.zeros((MIN_CLUSTERS, BINS), int))
    apart.same[:, 350] = 100
    apart.different[:, 100] = 100
    ratios = log_ratios(apart.same.sum(0), apart.different.sum(0))
    assert np.isfinite(ratios).all()
    # 3,000 pairs of each kind and one at the wrong end: no more than that many to one
    assert np.abs(ratios).max() <= np.log(3_001) + 1e-6
    few = PairCounts(apart.same[1:], apart.different[1:])
    with pytest.raises(ReseenError, match="29 clusters hold images of two cameras: a probability needs 30"):
        fit_calibration(few, groups="cameras")


def test_a_calibration_is_read_back_and_a_damaged_one_refused() -> None:
    calibration = fit_calibration(drawn_counts(40), groups="folders", replicas=5)
    tree = calibration.as_json()
    again = Calibration.from_json(tree)
    assert np.abs(again.log_ratio - calibration.log_ratio).max() < 1e-4
    assert (again.clusters, again.groups) == (40, "folders")
    for damaged in (None, {}, {**tree, "low": [1.0]}, {**tree, "high": [float("nan")] * BINS}):
        with pytest.raises(ReseenError, match="damaged"):
            Calibration.from_json(damaged)


@given(
    labels=st.lists(st.integers(-1, 3), min_size=2, max_size=16),
    seed=st.integers(0, 99),
    cameras=st.booleans(),
)
def test_probabilities_within_groups_are_those_of_a_loop(labels: list[int], seed: int, cameras: bool) -> None:
    calibration = fit_calibration(drawn_counts(40, pairs=50), groups="cameras", replicas=3)
    generator = torch.Generator().manual_seed(seed)
    features = F.normalize(torch.randn(len(labels), 3, generator=generator), dim=1)
    groups = np.arange(len(labels)) % 2 if cameras else np.full(len(labels), -1)
    found = group_probabilities(calibration, features, np.array(labels), groups)
    everybody = range(len(labels))
    compared = [
        (i, j) for i in everybody for j in everybody if i != j and (not cameras or groups[i] != groups[j])
    ]
    similarity = (features @ features.T).numpy()
    prior = calibration.prior_of(np.array([similarity[pair] for pair in compared]))
    for i in everybody:
        others = [j for j in everybody if j != i and labels[j] == labels[i] >= 0]
        if others:
            mean = np.mean([float(calibration.probability(similarity[i, j], prior)[0]) for j in others])
            assert found[i] == pytest.approx(mean, abs=1e-6)
        else:
            assert np.isnan(found[i])
