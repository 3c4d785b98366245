"""Criteria for choosing an epoch without labels, against scikit-learn and against loops over all pairs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score, davies_bouldin_score, silhouette_score
from torch.utils._python_dispatch import TorchDispatchMode

from reseen.errors import ReseenError
from reseen.metrics import DEFAULT_CRITERION, cross_camera_share, label_free, label_free_criteria

Array = NDArray[Any]
NAMES = {
    "centroid_margin",
    "silhouette",
    "davies_bouldin",
    "clustered_share",
    "stability",
    "neighbour_agreement",
    "cross_camera_share",
    "cross_camera_margin",
}


def world(seed: int, count: int = 90, dim: int = 6, clusters: int = 12) -> tuple[Array, Array, Array, Array]:
    """Features in groups, not of unit length, labels with images that are alone, the last labels, cameras."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, clusters, count)
    features = rng.standard_normal((clusters, dim))[truth] + 0.7 * rng.standard_normal((count, dim))
    labels = np.where(rng.random(count) < 0.2, -1, truth)
    previous = np.where(rng.random(count) < 0.3, rng.integers(-1, clusters, count), truth)
    return features, labels, previous, rng.integers(-1, 4, count)


def unit(features: Array) -> Array:
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return np.divide(features, lengths, out=np.zeros_like(features), where=lengths > 0)


def clusters_of(labels: Array) -> list[list[int]]:
    """Images of each cluster of two and more."""
    groups = [
        [i for i in range(len(labels)) if labels[i] == name] for name in sorted({*labels.tolist()} - {-1})
    ]
    return [group for group in groups if len(group) > 1]


def slow(features: Array, labels: Array, cameras: Array) -> dict[str, float]:
    """The formulas of the docstrings, image by image."""
    x, groups = unit(features), clusters_of(labels)
    home = {i: g for g, group in enumerate(groups) for i in group}
    raw = [features[group].mean(0) for group in groups]
    means = [x[group].mean(0) for group in groups]
    scatter = [np.mean([np.linalg.norm(x[i] - means[g]) for i in group]) for g, group in enumerate(groups)]
    margins, outlines, agree, crossing = [], [], [], []
    for i, g in home.items():
        others = [h for h in range(len(groups)) if h != g]
        if others:
            towards = [features[i] @ unit(mean[None])[0] for mean in raw]
            margins.append(towards[g] - max(towards[h] for h in others))
            near = np.mean([1 - x[i] @ x[j] for j in groups[g] if j != i])
            far = min(np.mean([1 - x[i] @ x[j] for j in groups[h]]) for h in others)
            outlines.append((far - near) / max(near, far) if max(near, far) > 1e-6 else 0.0)
        own = [j for j in groups[g] if j != i]
        rest = [j for j in range(len(x)) if j not in groups[g]]
        best = max((x[i] @ x[j] for j in rest), default=-math.inf)
        agree.append(max(x[i] @ x[j] for j in own) >= best - 1e-6)
        own, rest = ([j for j in side if -1 not in (cameras[i], cameras[j])] for side in (own, rest))
        own, rest = ([j for j in side if cameras[j] != cameras[i]] for side in (own, rest))
        if own and rest:
            crossing.append(max(x[i] @ x[j] for j in own) - max(x[i] @ x[j] for j in rest))
    ratios = [
        [
            (scatter[g] + scatter[h]) / distance
            if (distance := np.linalg.norm(means[g] - means[h])) > 1e-6
            else 0.0
            for h in range(len(groups))
        ]
        for g in range(len(groups))
    ]
    apart = any(np.linalg.norm(one - other) > 1e-6 for one in means for other in means)
    return {
        "centroid_margin": sum(margins) / len(labels)
        if margins
        else (-1.0 if (labels >= 0).any() else math.nan),
        "silhouette": float(np.mean(outlines)) if outlines else -1.0,
        "davies_bouldin": -float(np.mean([max(row) for row in ratios])) if apart else math.nan,
        "clustered_share": len(home) / len(labels),
        "neighbour_agreement": float(np.mean(agree)) if agree else math.nan,
        "cross_camera_margin": float(np.mean(crossing)) if crossing else math.nan,
    }


def check(found: dict[str, float], expected: dict[str, float], rounding: float = 1e-6) -> None:
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=rounding, abs=rounding, nan_ok=True), name


@pytest.mark.parametrize("seed", range(5))
def test_silhouette_and_davies_bouldin_are_scikit_learns(seed: int) -> None:
    features, labels, _, _ = world(seed)
    kept = np.concatenate(clusters_of(labels))
    x, names = unit(features)[kept], labels[kept]
    expected = {
        "silhouette": silhouette_score(x, names, metric="cosine"),
        "davies_bouldin": -davies_bouldin_score(x, names),
    }
    check(label_free_criteria(features, labels), expected, 1e-9)
    check(label_free_criteria(features.astype(np.float32), labels), expected, 1e-5)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("size", [3, 16, 4096])
def test_all_follow_the_loops_wherever_blocks_end(
    size: int, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(label_free, "TILE", size)
    monkeypatch.setattr(label_free, "BLOCK", 4 * size)
    features, labels, previous, cameras = world(seed)
    found = label_free_criteria(torch.from_numpy(features), torch.from_numpy(labels), previous, cameras)
    check(found, slow(features, labels, cameras), 1e-9)
    assert found["cross_camera_share"] == cross_camera_share(labels, cameras)
    assert set(found) == NAMES >= {DEFAULT_CRITERION}


small = st.lists(
    st.tuples(
        st.lists(st.integers(-2, 2), min_size=3, max_size=3),  # many copies, ties and zeros
        st.integers(-1, 3),
        st.integers(-1, 3),
        st.integers(-1, 2),
    ),
    min_size=1,
    max_size=14,
)


@given(small, st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=150)
def test_copies_ties_and_any_order(images: list[tuple[list[int], int, int, int]], random: Any) -> None:
    def criteria(rows: list[tuple[list[int], int, int, int]], offset: int = 0) -> dict[str, float]:
        features, labels, previous, cameras = (np.array(column) for column in zip(*rows, strict=True))
        labels = np.where(labels < 0, labels, labels + offset)
        return label_free_criteria(features.astype(np.float64), labels, previous, cameras)

    features, labels, previous, cameras = (np.array(column) for column in zip(*images, strict=True))
    found = criteria(images)
    check(found, slow(features.astype(np.float64), labels, cameras))
    shuffled = random.sample(images, len(images))
    check(criteria(shuffled), found)
    check(criteria(images, offset=7), found)  # names of clusters do not matter
    single = label_free_criteria(features.astype(np.float32), labels, previous, cameras)
    check(single, {name: found[name] for name in NAMES - {"davies_bouldin"}}, 1e-5)
    assert -1 <= found["silhouette"] <= 1
    assert not found["davies_bouldin"] > 0


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
    angles = np.radians([0, 10, 90, 130, 60, 180])  # the image at 60 is nearer to the one at 90 than 130 is
    features = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    labels, cameras = [0, 0, 1, 1, -1, 2], [1, 2, 1, 2, 2, 1]
    found = label_free_criteria(features, labels, None, cameras)
    assert found["clustered_share"] == pytest.approx(4 / 6)
    assert found["neighbour_agreement"] == pytest.approx(3 / 4)
    cosines = np.cos(np.radians([[10, 60], [10, 80], [40, 30], [40, 50]]))  # own, nearest elsewhere
    assert found["cross_camera_margin"] == pytest.approx((cosines[:, 0] - cosines[:, 1]).mean())
    assert found["cross_camera_share"] == 1.0
    middle = np.cos(np.radians([[5, 110], [5, 100], [20, 85], [20, 125]]))  # own centroid, the other one
    assert found["centroid_margin"] == pytest.approx((middle[:, 0] - middle[:, 1]).sum() / 6)


def test_better_features_score_higher_by_every_criterion() -> None:
    rng = np.random.default_rng(0)
    truth, cameras = np.repeat(np.arange(15), 8), np.tile([1, 2], 60)
    centres, noise = rng.standard_normal((15, 16)), rng.standard_normal((120, 16))
    mixed = np.where(
        rng.random(120) < 0.3, -1, np.where(rng.random(120) < 0.2, rng.integers(0, 15, 120), truth)
    )
    good = label_free_criteria(centres[truth] + 0.2 * noise, truth, truth, cameras)
    poor = label_free_criteria(centres[truth] + 1.5 * noise, mixed, truth, cameras)
    assert {name for name in NAMES if good[name] > poor[name]} == NAMES


def test_nothing_one_cluster_and_collapse_have_defined_values() -> None:
    features = np.random.default_rng(0).standard_normal((6, 4))
    nan = math.nan
    alone = {"centroid_margin": nan, "silhouette": -1.0, "davies_bouldin": nan, "clustered_share": 0.0}
    alone |= {
        "stability": nan,
        "neighbour_agreement": nan,
        "cross_camera_share": nan,
        "cross_camera_margin": nan,
    }
    check(label_free_criteria(features, [-1] * 6, [-1] * 6, [1, 2] * 3), alone, 0)
    singles = alone | {"centroid_margin": -1.0}
    check(label_free_criteria(features, range(6), range(6), [1, 2] * 3), singles, 0)
    one = {"centroid_margin": -1.0, "silhouette": -1.0, "davies_bouldin": nan, "clustered_share": 1.0}
    one |= {
        "neighbour_agreement": 1.0,
        "cross_camera_share": 1.0,
        "cross_camera_margin": nan,
        "stability": 1.0,
    }
    check(label_free_criteria(features, [3] * 6, [0] * 6, [1, 2] * 3), one, 0)
    same = label_free_criteria(np.ones((6, 4)), [0, 0, 0, 1, 1, 1])
    flat = {"centroid_margin": 0.0, "silhouette": 0.0, "davies_bouldin": nan, "neighbour_agreement": 1.0}
    check(same, flat, 1e-6)
    empty = label_free_criteria(np.zeros((0, 4)), [], [], [])
    check(empty, alone | {"clustered_share": nan}, 0)


def test_without_cameras_nothing_is_said_of_them() -> None:
    features, labels, _, _ = world(0)
    for cameras in (None, np.full(len(labels), -1)):
        found = label_free_criteria(features, labels, None, cameras)
        assert math.isnan(found["cross_camera_margin"])
        assert math.isnan(found["cross_camera_share"])
        assert found["neighbour_agreement"] > 0


def test_the_criteria_one_by_one_are_those_of_all() -> None:
    features, labels, previous, cameras = world(1)
    found = label_free_criteria(features, labels, previous, cameras)
    for name in ("centroid_margin", "silhouette", "davies_bouldin", "neighbour_agreement"):
        assert getattr(label_free, name)(features, labels) == found[name]
    assert label_free.cross_camera_margin(features, labels, cameras) == found["cross_camera_margin"]
    assert label_free.stability(labels, previous) == found["stability"]
    assert math.isnan(label_free.cross_camera_margin(features, labels))


def test_half_precision_is_raised() -> None:
    features, labels, previous, cameras = world(2)
    half = torch.from_numpy(features).bfloat16()
    assert label_free_criteria(half, labels, previous, cameras) == label_free_criteria(
        half.float(), labels, previous, cameras
    )


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
            label_free_criteria(features, labels, labels, rng.integers(1, 4, 5000))
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
    with pytest.raises(ReseenError, match="cameras"):
        label_free_criteria(features, [0, 0, 1, 1], None, [1, 2])
