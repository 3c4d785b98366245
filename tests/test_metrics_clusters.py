"""Diagnostics of pseudo labels and features against loops over all pairs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from oracles import metrics as oracle
from reseen.errors import ReseenError
from reseen.metrics import clustering_scores, cross_camera_share, feature_spread

labelled = st.lists(st.tuples(st.integers(-1, 4), st.integers(-1, 4)), min_size=1, max_size=30)


@given(labelled)
@settings(deadline=None, max_examples=100)
def test_pairs_agree_with_the_oracle(rows: list[tuple[int, int]]) -> None:
    labels, identities = (list(column) for column in zip(*rows, strict=True))
    scores = clustering_scores(torch.tensor(labels), np.array(identities))
    expected = oracle.pair_scores(labels, identities)
    assert (scores.pair_precision, scores.pair_recall, scores.pair_f1) == pytest.approx(expected, nan_ok=True)
    known = [label for label, identity in rows if identity != -1]
    assert scores.clusters == len(set(known) - {-1})
    assert scores.outliers == known.count(-1)


def test_outliers_are_clusters_of_one_image() -> None:
    identities = [1, 1, 1, 2, 2, 3]
    scores = clustering_scores([0, 0, -1, 1, -1, -1], identities)
    spelt_out = [0, 0, 2, 1, 3, 4]
    assert scores.ari == pytest.approx(adjusted_rand_score(identities, spelt_out))
    assert scores.nmi == pytest.approx(normalized_mutual_info_score(identities, spelt_out))
    assert scores.pair_precision == 1.0
    assert scores.pair_recall == pytest.approx(1 / 4)


@given(labelled)
@settings(deadline=None, max_examples=100)
def test_both_indices_are_those_of_scikit_learn(rows: list[tuple[int, int]]) -> None:
    labels, identities = (np.array(column) for column in zip(*rows, strict=True))
    scores = clustering_scores(labels, identities)
    known, alone = identities != -1, labels < 0
    labels[alone] = 5 + np.arange(alone.sum())
    if not known.any():
        assert np.isnan([scores.ari, scores.nmi]).all()
        return
    pair = identities[known], labels[known]
    assert scores.ari == pytest.approx(adjusted_rand_score(*pair))
    assert scores.nmi == pytest.approx(normalized_mutual_info_score(*pair), abs=1e-12)


def test_a_perfect_clustering_scores_one_whatever_its_numbers() -> None:
    scores = clustering_scores([5, 5, 2, 2, 9], [1, 1, 2, 2, 3])
    assert (scores.ari, scores.nmi, scores.pair_f1) == pytest.approx((1.0, 1.0, 1.0))
    assert (scores.clusters, scores.outliers) == (3, 0)


@given(labelled)
@settings(deadline=None, max_examples=100)
def test_cross_camera_share_agrees_with_the_oracle(rows: list[tuple[int, int]]) -> None:
    labels, cameras = (list(column) for column in zip(*rows, strict=True))
    expected = oracle.cross_camera_share(labels, cameras)
    assert cross_camera_share(labels, cameras) == pytest.approx(expected, nan_ok=True)


def test_cross_camera_share_of_three_clusters() -> None:
    # Cluster 0 spans two cameras, cluster 1 one, cluster 2 has a single image, the rest are outliers.
    assert cross_camera_share([0, 0, 1, 1, 2, -1, -1], [1, 2, 3, 3, 1, 1, 2]) == 0.5
    assert np.isnan(cross_camera_share([0, 0, 1, 1], [-1, -1, -1, -1]))
    assert np.isnan(cross_camera_share([-1, -1], [1, 2]))


def test_spread_is_the_mean_cosine_distance_of_all_pairs() -> None:
    features = np.random.default_rng(0).standard_normal((30, 5)) + 1
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    expected = np.mean([[1 - a @ b for b in unit] for a in unit])
    assert feature_spread(features) == pytest.approx(expected)
    assert feature_spread(torch.from_numpy(features)) == pytest.approx(expected)


def test_spread_tells_collapse_from_a_full_sphere() -> None:
    rng = np.random.default_rng(1)
    assert feature_spread(rng.standard_normal((2000, 64))) > 0.99
    assert feature_spread(np.ones((50, 64)) + 1e-3 * rng.standard_normal((50, 64))) < 0.01
    assert np.isnan(feature_spread(np.zeros((0, 4))))


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(ReseenError, match="identities"):
        clustering_scores([0, 1], [1])
    with pytest.raises(ReseenError, match="cameras"):
        cross_camera_share([0, 1], [1])
    with pytest.raises(ReseenError, match="diverged"):
        feature_spread([[np.inf, 1.0]])
