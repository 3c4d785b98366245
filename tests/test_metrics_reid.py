"""The Market-1501 protocol against an evaluator that sorts every row, and where evaluators differ."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

import reseen.metrics.reid as reid
from oracles.metrics import cmc, reid_average_precision
from reseen.errors import ReseenError
from reseen.metrics import ReidScores, reid_scores, reid_scores_from_distances
from reseen.metrics.answers import Answers
from reseen.metrics.reid import reid_scores_by_answers


def unit_rows(rng: np.random.Generator, rows: int, dim: int) -> Any:
    features = rng.standard_normal((rows, dim)).astype(np.float32)
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def check(scores: ReidScores, distances: Any, *labels: Any) -> None:
    precisions, firsts = reid_average_precision(distances, *labels)
    np.testing.assert_allclose(scores.average_precision, precisions, rtol=1e-12)
    for rank, share in scores.cmc.items():
        assert share == pytest.approx(cmc(firsts, rank), nan_ok=True)
    valid = [value for value in precisions if value == value]
    assert scores.mean_ap == pytest.approx(np.mean(valid) if valid else float("nan"), nan_ok=True)
    assert scores.valid_queries == len(valid)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[int, int, np.random.Generator]:
    """Number of queries, of gallery images (often fewer than the largest rank), and what draws the rest."""
    return (
        draw(st.integers(1, 6)),
        draw(st.integers(1, 25)),
        np.random.default_rng(draw(st.integers(0, 10**6))),
    )


def draw_labels(rng: np.random.Generator, queries: int, gallery: int) -> tuple[Any, ...]:
    """Few identities and cameras: junk, distractors, no valid match and unknown cameras occur."""
    return (
        rng.integers(1, 4, queries),
        rng.integers(-1, 4, gallery),
        rng.integers(-1, 3, queries),
        rng.integers(-1, 3, gallery),
    )


@given(worlds(), st.integers(1, 8))
@settings(deadline=None, max_examples=80)
def test_distances_with_ties_agree_with_the_oracle(
    world: tuple[int, int, np.random.Generator], values: int
) -> None:
    queries, gallery, rng = world
    distances = rng.integers(0, values, (queries, gallery)).astype(np.float32)
    labels = draw_labels(rng, queries, gallery)
    check(reid_scores_from_distances(distances, *labels), distances, *labels)


@given(worlds(), st.sampled_from([np.float32, np.float64]), st.booleans())
@settings(deadline=None, max_examples=80)
def test_features_with_duplicates_agree_with_the_oracle(
    world: tuple[int, int, np.random.Generator], dtype: Any, tensors: bool
) -> None:
    queries, gallery, rng = world
    pool = unit_rows(rng, 6, 5).astype(dtype)  # few distinct rows: exact ties everywhere
    query, found = pool[rng.integers(0, 6, queries)], pool[rng.integers(0, 6, gallery)]
    labels = draw_labels(rng, queries, gallery)
    given_as = torch.from_numpy if tensors else np.asarray
    scores = reid_scores(given_as(query), given_as(found), *(given_as(x) for x in labels))
    similarities = np.array([[np.sum(q.astype(np.float64) * g) for g in found] for q in query], np.float32)
    check(scores, -similarities, *labels)


def test_random_features_agree_with_the_oracle_and_with_distances() -> None:
    rng = np.random.default_rng(0)
    query, gallery = unit_rows(rng, 40, 16), unit_rows(rng, 700, 16)
    labels = (
        rng.integers(1, 20, 40),
        rng.integers(-1, 20, 700),
        rng.integers(0, 4, 40),
        rng.integers(0, 4, 700),
    )
    distances = -(query.astype(np.float64) @ gallery.T.astype(np.float64)).astype(np.float32)
    scores = reid_scores(query, gallery, *labels, ranks=(1, 5, 10, 20))
    check(scores, distances, *labels)
    same = reid_scores_from_distances(distances, *labels, ranks=(1, 5, 10, 20))
    np.testing.assert_array_equal(scores.average_precision, same.average_precision)
    assert scores.cmc == same.cmc
    assert scores.rank1 == scores.cmc[1]


@pytest.mark.parametrize("collapse", [0.0, 0.999, 1.0])
@pytest.mark.parametrize("dim", [3, 200])
def test_block_size_changes_nothing(monkeypatch: pytest.MonkeyPatch, collapse: float, dim: int) -> None:
    """Also for features so much alike that float32 products differ by rounding alone."""
    rng = np.random.default_rng(1)
    query = unit_rows(rng, 33, dim) * (1 - collapse) + collapse
    gallery = unit_rows(rng, 517, dim) * (1 - collapse) + collapse
    gallery[200:300] = gallery[:100]  # copies, whose products may be rounded differently by BLAS
    query, gallery = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (query, gallery))
    labels = (rng.integers(1, 9, 33), rng.integers(1, 9, 517), np.zeros(33, int), np.ones(517, int))
    whole = reid_scores(query, gallery, *labels)
    for block in (1, 517 * 7, 517 * 32):
        monkeypatch.setattr(reid, "BLOCK", block)
        streamed = reid_scores(query, gallery, *labels)
        np.testing.assert_array_equal(streamed.average_precision, whole.average_precision)
        assert streamed.cmc == whole.cmc
    exact = -(query.astype(np.float64) @ gallery.T.astype(np.float64)).astype(np.float32)
    check(whole, exact, *labels)


def test_filtering_junk_beforehand_equals_ignoring_it() -> None:
    rng = np.random.default_rng(2)
    query, gallery = unit_rows(rng, 20, 8), unit_rows(rng, 300, 8)
    query_ids, gallery_ids = rng.integers(1, 10, 20), rng.integers(-1, 10, 300)
    query_cams, gallery_cams = rng.integers(0, 3, 20), rng.integers(0, 3, 300)
    kept = gallery_ids != -1
    ignored = reid_scores(query, gallery, query_ids, gallery_ids, query_cams, gallery_cams)
    filtered = reid_scores(query, gallery[kept], query_ids, gallery_ids[kept], query_cams, gallery_cams[kept])
    np.testing.assert_array_equal(ignored.average_precision, filtered.average_precision)
    assert ignored.cmc == filtered.cmc
    assert (~kept).any()


def test_ranks_are_1_5_and_10_where_no_others_are_asked_for() -> None:
    labels = [7], [0, 0, 7], [1], [2, 2, 2]
    rows, distances, answers = np.eye(3, dtype=np.float32), np.zeros((1, 3)), Answers.of(*labels)
    for scores in (
        reid_scores(rows[:1], rows, *labels),
        reid_scores_from_distances(distances, *labels),
        reid_scores_by_answers(rows[:1], rows, answers),
        reid.reid_scores_from_blocks([distances], *labels),
        reid.reid_scores_from_blocks_by_answers([distances], answers),
    ):
        assert list(scores.cmc) == [1, 5, 10]


def test_distractors_count_as_wrong() -> None:
    scores = reid_scores_from_distances([[0.1, 0.2, 0.3]], [7], [0, 0, 7], [1], [2, 2, 2])
    assert scores.mean_ap == pytest.approx(1 / 3)
    assert scores.cmc == {1: 0.0, 5: 1.0, 10: 1.0}


def test_same_camera_is_ignored_only_for_the_same_identity() -> None:
    # Same identity in the same camera first (ignored), another person in the same camera second (wrong).
    scores = reid_scores_from_distances([[0.1, 0.2, 0.3]], [7], [7, 8, 7], [1], [1, 1, 2])
    assert scores.mean_ap == pytest.approx(1 / 2)


def test_unknown_cameras_are_never_the_same() -> None:
    assert reid_scores_from_distances([[0.1, 0.2]], [7], [7, 8], [-1], [-1, -1]).mean_ap == 1.0


def test_ties_keep_the_order_of_the_gallery() -> None:
    assert reid_scores_from_distances([[0.5, 0.5]], [7], [7, 8], [1], [2, 2]).mean_ap == 1.0
    assert reid_scores_from_distances([[0.5, 0.5]], [7], [8, 7], [1], [2, 2]).mean_ap == 0.5


def test_queries_without_a_match_are_left_out_of_the_means() -> None:
    scores = reid_scores_from_distances([[0.1, 0.2], [0.1, 0.2]], [7, 9], [7, 8], [1, 1], [2, 2])
    np.testing.assert_array_equal(scores.average_precision, [1.0, np.nan])
    assert (scores.mean_ap, scores.rank1, scores.valid_queries) == (1.0, 1.0, 1)


def test_without_any_valid_query_scores_are_nan() -> None:
    scores = reid_scores_from_distances([[0.1]], [7], [7], [1], [1])
    assert np.isnan([scores.mean_ap, *scores.cmc.values()]).all()
    empty = reid_scores(np.zeros((2, 4)), np.zeros((0, 4)), [1, 2], [], [0, 0], [])
    assert np.isnan(empty.mean_ap)


def test_average_precision_is_that_of_scikit_learn_without_ties() -> None:
    rng = np.random.default_rng(3)
    distances = rng.permuted(np.tile(np.arange(100.0), (5, 1)), axis=1)
    gallery_ids = rng.integers(1, 5, 100)
    scores = reid_scores_from_distances(
        distances, [1, 2, 3, 4, 1], gallery_ids, np.zeros(5, int), np.ones(100, int)
    )
    expected = [
        average_precision_score(gallery_ids == q, -row)
        for q, row in zip([1, 2, 3, 4, 1], distances, strict=True)
    ]
    np.testing.assert_allclose(scores.average_precision, expected, rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_float_tensor_will_do(dtype: torch.dtype) -> None:
    query, gallery = torch.eye(3, dtype=dtype), torch.eye(3, dtype=dtype)
    scores = reid_scores(query, gallery, [1, 2, 3], [1, 2, 3], [0, 0, 0], [1, 1, 1])
    assert scores.mean_ap == 1.0


def test_inputs_are_left_as_they_were() -> None:
    rng = np.random.default_rng(4)
    distances = rng.random((3, 9)).astype(np.float32)
    before = distances.copy()
    reid_scores_from_distances(distances, [1, 2, 1], rng.integers(-1, 3, 9), [0, 0, 0], rng.integers(0, 2, 9))
    np.testing.assert_array_equal(distances, before)


def test_what_does_not_fit_is_named() -> None:
    eye = np.eye(3, dtype=np.float32)
    with pytest.raises(ReseenError, match="same model"):
        reid_scores(eye, np.eye(4), [1, 2, 3], [1, 2, 3, 4], [0, 0, 0], [1, 1, 1, 1])
    with pytest.raises(ReseenError, match="gallery cameras"):
        reid_scores(eye, eye, [1, 2, 3], [1, 2, 3], [0, 0, 0], [1, 1])
    with pytest.raises(ReseenError, match="diverged"):
        reid_scores(eye * np.nan, eye, [1, 2, 3], [1, 2, 3], [0, 0, 0], [1, 1, 1])
    with pytest.raises(ReseenError, match="NaN"):
        reid_scores_from_distances([[np.nan]], [1], [1], [0], [1])


@pytest.mark.parametrize("which", ["no oneDNN", "bf16 allowed"])
def test_the_library_of_the_product_changes_nothing(monkeypatch: pytest.MonkeyPatch, which: str) -> None:
    rng = np.random.default_rng(5)
    pool = unit_rows(rng, 400, 48)
    query, gallery = pool[rng.integers(0, 400, 50)], pool[rng.integers(0, 400, 900)]
    labels = (
        rng.integers(1, 9, 50),
        rng.integers(-1, 9, 900),
        rng.integers(0, 3, 50),
        rng.integers(0, 3, 900),
    )
    before = reid_scores(query, gallery, *labels)
    calls: list[int] = []
    matmul = np.matmul
    monkeypatch.setattr(reid.np, "matmul", lambda *given: calls.append(1) or matmul(*given))
    allowed = torch.get_float32_matmul_precision()
    try:
        if which == "no oneDNN":
            monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
        else:
            torch.set_float32_matmul_precision("medium")
        after = reid_scores(query, gallery, *labels)
    finally:
        torch.set_float32_matmul_precision(allowed)
    assert calls
    np.testing.assert_array_equal(before.average_precision, after.average_precision)
    assert before.cmc == after.cmc


def test_read_only_features_are_fine_and_tiles_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(6)
    query, gallery = unit_rows(rng, 30, 8), unit_rows(rng, 200, 8)
    labels = (
        rng.integers(1, 9, 30),
        rng.integers(-1, 9, 200),
        rng.integers(0, 3, 30),
        rng.integers(0, 3, 200),
    )
    whole = reid_scores(query, gallery, *labels)
    query.flags.writeable = gallery.flags.writeable = False
    for columns in (1, 7, 64):
        monkeypatch.setattr(reid, "COLUMNS", columns)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            tiled = reid_scores(query, gallery, *labels)
        np.testing.assert_array_equal(tiled.average_precision, whole.average_precision)
