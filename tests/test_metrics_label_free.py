"""Criteria for choosing an epoch without labels, against scikit-learn and against a loop over the images."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score
from torch.utils._python_dispatch import TorchDispatchMode

from reseen.errors import ReseenError
from reseen.metrics import DEFAULT_CRITERION, label_free, label_free_criteria

Array = NDArray[Any]
NAMES = {"centroid_margin", "clustered_share", "stability"}


def world(seed: int, count: int = 90, dim: int = 6, clusters: int = 12) -> tuple[Array, Array, Array]:
    """Features in groups, not of unit length, labels with outliers, the last labels."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, clusters, count)
    features = rng.standard_normal((clusters, dim))[truth] + 0.7 * rng.standard_normal((count, dim))
    labels = np.where(rng.random(count) < 0.2, -1, truth)
    previous = np.where(rng.random(count) < 0.3, rng.integers(-1, clusters, count), truth)
    return features, labels, previous


def unit(features: Array) -> Array:
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return np.divide(features, lengths, out=np.zeros_like(features), where=lengths > 0)


def clusters_of(labels: Array) -> list[list[int]]:
    """Images of each cluster of two and more."""
    groups = [
        [i for i in range(len(labels)) if labels[i] == name] for name in sorted({*labels.tolist()} - {-1})
    ]
    return [group for group in groups if len(group) > 1]


def slow(features: Array, labels: Array) -> dict[str, float]:
    """The formulas of the docstrings, image by image."""
    groups = clusters_of(labels)
    means = [unit(features[group].mean(0)[None])[0] for group in groups]
    margins = []
    for g, group in enumerate(groups):
        others = [mean for h, mean in enumerate(means) if h != g]
        margins += [
            features[i] @ means[g] - max(features[i] @ mean for mean in others) for i in group if others
        ]
    nothing = -1.0 if (labels >= 0).any() else math.nan
    return {
        "centroid_margin": sum(margins) / len(labels) if margins else nothing,
        "clustered_share": sum(map(len, groups)) / len(labels),
    }


def check(found: dict[str, float], expected: dict[str, float], rounding: float = 1e-6) -> None:
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=rounding, abs=rounding, nan_ok=True), name


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("size", [3, 16, 4096])
def test_all_follow_the_loops_wherever_blocks_end(
    size: int, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(label_free, "BLOCK", size)
    features, labels, previous = world(seed)
    found = label_free_criteria(torch.from_numpy(features), torch.from_numpy(labels), previous)
    check(found, slow(features, labels), 1e-9)
    check(label_free_criteria(features.astype(np.float32), labels, previous), found, 1e-5)
    assert set(found) == NAMES >= {DEFAULT_CRITERION}


small = st.lists(
    st.tuples(
        st.lists(st.integers(-2, 2), min_size=3, max_size=3),  # many copies, ties and zeros
        st.integers(-1, 3),
        st.integers(-1, 3),
    ),
    min_size=1,
    max_size=14,
)


@given(small, st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=150)
def test_copies_ties_and_any_order(images: list[tuple[list[int], int, int]], random: Any) -> None:
    def criteria(rows: list[tuple[list[int], int, int]], offset: int = 0) -> dict[str, float]:
        features, labels, previous = (np.array(column) for column in zip(*rows, strict=True))
        labels = np.where(labels < 0, labels, labels + offset)
        return label_free_criteria(features.astype(np.float64), labels, previous)

    features, labels, previous = (np.array(column) for column in zip(*images, strict=True))
    found = criteria(images)
    check(found, slow(features.astype(np.float64), labels))
    shuffled = random.sample(images, len(images))
    check(criteria(shuffled), found)
    check(criteria(images, offset=7), found)  # names of clusters do not matter
    check(label_free_criteria(features.astype(np.float32), labels, previous), found, 1e-5)


@given(st.lists(st.tuples(st.integers(-1, 4), st.integers(-1, 4)), min_size=1, max_size=25))
@settings(deadline=None, max_examples=100)
def test_stability_is_the_rand_index_with_outliers_as_singletons(rows: list[tuple[int, int]]) -> None:
    now, before = (list(column) for column in zip(*rows, strict=True))
    spelt = [[name if name >= 0 else 100 + i for i, name in enumerate(side)] for side in (before, now)]
    if clusters_of(np.array(now)) or clusters_of(np.array(before)):
        assert label_free.stability(now, before) == pytest.approx(adjusted_rand_score(*spelt))
    else:
        assert math.isnan(label_free.stability(now, before))


def test_stability_begins_with_the_second_epoch() -> None:
    assert math.isnan(label_free.stability([0, 0, 1, 1]))
    assert math.isnan(label_free.stability([0, 0, 1, 1], np.empty(0, dtype=np.int64)))
    assert label_free.stability([0, 0, 1, 1], [5, 5, 2, 2]) == 1.0
    assert label_free.stability([0, 0, -1, -1], [-1, -1, -1, -1]) == 0.0


def test_six_images_by_hand() -> None:
    angles = np.radians([0, 10, 90, 130, 60, 180])
    features = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    found = label_free_criteria(features, [0, 0, 1, 1, -1, 2])
    assert found["clustered_share"] == pytest.approx(4 / 6)
    middle = np.cos(np.radians([[5, 110], [5, 100], [20, 85], [20, 125]]))  # own centroid, the other one
    assert found["centroid_margin"] == pytest.approx((middle[:, 0] - middle[:, 1]).sum() / 6)


def test_better_features_score_higher_by_every_criterion() -> None:
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(15), 8)
    centroids, noise = rng.standard_normal((15, 16)), rng.standard_normal((120, 16))
    mixed = np.where(
        rng.random(120) < 0.3, -1, np.where(rng.random(120) < 0.2, rng.integers(0, 15, 120), truth)
    )
    good = label_free_criteria(centroids[truth] + 0.2 * noise, truth, truth)
    poor = label_free_criteria(centroids[truth] + 1.5 * noise, mixed, truth)
    assert {name for name in NAMES if good[name] > poor[name]} == NAMES


def test_nothing_one_cluster_and_collapse_have_defined_values() -> None:
    features = np.random.default_rng(0).standard_normal((6, 4))
    alone = {"centroid_margin": math.nan, "clustered_share": 0.0, "stability": math.nan}
    check(label_free_criteria(features, [-1] * 6, [-1] * 6), alone, 0)
    check(label_free_criteria(features, range(6), range(6)), alone | {"centroid_margin": -1.0}, 0)
    one = {"centroid_margin": -1.0, "clustered_share": 1.0, "stability": 1.0}
    check(label_free_criteria(features, [3] * 6, [0] * 6), one, 0)
    check(label_free_criteria(np.ones((6, 4)), [0, 0, 0, 1, 1, 1]), {"centroid_margin": 0.0}, 1e-6)
    check(label_free_criteria(np.zeros((0, 4)), [], []), alone | {"clustered_share": math.nan}, 0)


def test_the_criteria_one_by_one_are_those_of_all() -> None:
    features, labels, previous = world(1)
    found = label_free_criteria(features, labels, previous)
    assert label_free.centroid_margin(features, labels) == found["centroid_margin"]
    assert label_free.clustered_share(labels) == found["clustered_share"]
    assert label_free.stability(labels, previous) == found["stability"]


def test_half_precision_is_raised() -> None:
    features, labels, previous = world(2)
    half = torch.from_numpy(features).bfloat16()
    assert label_free_criteria(half, labels, previous) == label_free_criteria(half.float(), labels, previous)


class Largest(TorchDispatchMode):
    """Number of elements of the largest tensor that any operation returns."""

    size = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.size = max(self.size, result.numel())
        return result


def test_no_matrix_of_all_pairs_exists() -> None:
    rng = np.random.default_rng(0)
    features = rng.standard_normal((5000, 8), dtype=np.float32)
    for labels in (rng.integers(-1, 50, 5000), np.zeros(5000, dtype=np.int64)):
        with Largest() as seen:
            label_free_criteria(features, labels, labels)
        assert 0 < seen.size < 5000 * 5000 / 10


def test_what_does_not_fit_is_named() -> None:
    features = np.eye(4)
    with pytest.raises(ReseenError, match="diverged"):
        label_free_criteria(torch.tensor([[math.nan, 1.0]]), [0])
    with pytest.raises(ReseenError, match="dimension"):
        label_free_criteria(torch.ones(4), [0, 0, 1, 1])
    with pytest.raises(ReseenError, match="pseudo labels"):
        label_free_criteria(features, [0, 0, 1])
    with pytest.raises(ReseenError, match="previous pseudo labels"):
        label_free_criteria(features, [0, 0, 1, 1], [0, 0, 1])
