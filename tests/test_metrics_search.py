"""Person search and detection scores against loops written from the protocol (spec: section 6 and 8.6)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

import reseen.metrics.search as search
from oracles.metrics import detection, iou, search_one
from reseen.errors import ReseenError
from reseen.metrics import SceneDetections, SearchQuery, box_iou, detection_scores, person_search_scores

PERSON = [10.0, 10.0, 50.0, 110.0]
OTHER = [200.0, 10.0, 240.0, 110.0]
EAST, NORTH = [1.0, 0.0], [0.0, 1.0]


def scene(boxes: Any, features: Any, scores: Any = None) -> SceneDetections:
    scores = np.ones(len(boxes)) if scores is None else np.asarray(scores)
    return SceneDetections(np.reshape(boxes, (-1, 4)), scores, np.reshape(features, (len(boxes), -1)))


def draw_search(
    rng: np.random.Generator,
) -> tuple[list[SearchQuery], dict[str, SceneDetections], dict[str, Any]]:
    """Few places and few features, so that overlaps and equal similarities and scores are common."""
    pool = rng.integers(-2, 3, (5, 3)) / 4.0
    detections, truth = {}, {}
    for image in "abcdef":
        corners = rng.integers(0, 4, (rng.integers(0, 6), 2)) * 6.0
        sizes = rng.integers(1, 5, (len(corners), 2)) * 6.0
        features = pool[rng.integers(0, 5, len(corners))]
        detections[image] = SceneDetections(
            np.hstack([corners, corners + sizes]), rng.integers(3, 9, len(corners)) / 8, features
        )
        corners = rng.integers(0, 4, (rng.integers(0, 4), 2)) * 6.0
        truth[image] = np.hstack([corners, corners + rng.integers(1, 5, (len(corners), 2)) * 6.0])
    del detections["f"]  # a scene that was never seen
    queries = []
    for _ in range(rng.integers(1, 5)):
        images = rng.permutation(list("abcdef"))[: rng.integers(0, 7)]
        targets = {
            str(image): truth[str(image)][0] if len(truth[str(image)]) and rng.random() < 0.7 else None
            for image in images
        }
        queries.append(SearchQuery(pool[rng.integers(0, 5)], targets))
    return queries, detections, truth


@given(st.integers(0, 10**6), st.booleans())
@settings(deadline=None, max_examples=150)
def test_search_agrees_with_the_oracle(seed: int, tensors: bool) -> None:
    queries, detections, _ = draw_search(np.random.default_rng(seed))
    expected = [search_one(query.feature, query.targets, detections, 0.5) for query in queries]
    if tensors:
        queries = [
            SearchQuery(
                torch.tensor(q.feature),
                {k: None if v is None else torch.tensor(v) for k, v in q.targets.items()},
            )
            for q in queries
        ]
        detections = {
            k: SceneDetections(torch.tensor(v.boxes), torch.tensor(v.scores), torch.tensor(v.features))
            for k, v in detections.items()
        }
    scores = person_search_scores(queries, detections)
    np.testing.assert_allclose(scores.average_precision, [ap for ap, _ in expected], rtol=1e-12)
    assert scores.mean_ap == pytest.approx(np.mean([ap for ap, _ in expected]))
    for rank in (1, 5, 10):
        assert scores.top[rank] == pytest.approx(np.mean([0 < first <= rank for _, first in expected]))
    assert scores.top1 == scores.top[1]


@given(st.integers(0, 10**6), st.sampled_from([0.3, 0.5]), st.sampled_from([0.4, 0.5, 0.75]))
@settings(deadline=None, max_examples=150)
def test_detection_agrees_with_the_oracle(seed: int, min_iou: float, min_score: float) -> None:
    _, detections, truth = draw_search(np.random.default_rng(seed))
    scores = detection_scores(detections, truth, min_score=min_score, min_iou=min_iou)
    if sum(map(len, truth.values())) == 0:
        assert np.isnan([scores.recall, scores.average_precision]).all()
        return
    expected = detection(detections, truth, min_score, min_iou)
    assert (scores.recall, scores.average_precision) == pytest.approx(expected)


def test_perfect_detections_and_features_score_one() -> None:
    detections = {name: scene([PERSON, OTHER], [EAST, NORTH]) for name in "abc"}
    query = SearchQuery(EAST, {"a": PERSON, "b": PERSON, "c": PERSON})
    scores = person_search_scores([query], detections)
    assert (scores.mean_ap, scores.top[1]) == (1.0, 1.0)
    found = detection_scores(detections, {name: np.array([PERSON, OTHER]) for name in "abc"})
    assert (found.recall, found.average_precision) == (1.0, 1.0)


def test_a_lost_target_costs_its_share_of_recall() -> None:
    detections = {"a": scene([PERSON], [EAST]), "b": scene([OTHER], [NORTH])}
    scores = person_search_scores([SearchQuery(EAST, {"a": PERSON, "b": PERSON})], detections)
    assert scores.mean_ap == pytest.approx(0.5)
    assert scores.top1 == 1.0


@pytest.mark.parametrize(("shift", "found"), [(4.0, True), (7.0, False)])
def test_a_small_target_may_overlap_less(shift: float, found: bool) -> None:
    """10 x 10 pixels: IoU 0.25 is enough (100 / 400). Shifted by 4 it is .43, by 7 it is .18."""
    small = [0.0, 0.0, 10.0, 10.0]
    detections = {"a": scene([[shift, 0.0, 10.0 + shift, 10.0]], [EAST])}
    scores = person_search_scores([SearchQuery(EAST, {"a": small})], detections)
    assert scores.mean_ap == float(found)


def test_only_the_most_similar_overlapping_box_is_right() -> None:
    near = [12.0, 10.0, 52.0, 110.0]
    detections = {"a": scene([PERSON, near], [[0.8, 0.6], EAST])}
    scores = person_search_scores([SearchQuery(EAST, {"a": PERSON})], detections)
    assert scores.mean_ap == 1.0  # `near` is more similar, so it is the hit, and the exact box comes second
    detections = {"a": scene([PERSON, near], [[0.8, 0.6], EAST]), "b": scene([OTHER], [[0.9, 0.4]])}
    assert person_search_scores([SearchQuery(EAST, {"a": PERSON, "b": None})], detections).mean_ap == 1.0


def test_only_the_gallery_of_the_query_counts() -> None:
    detections = {"a": scene([PERSON], [[0.6, 0.8]]), "b": scene([OTHER], [EAST])}
    assert person_search_scores([SearchQuery(EAST, {"a": PERSON})], detections).top1 == 1.0
    assert person_search_scores([SearchQuery(EAST, {"a": PERSON, "b": None})], detections).top1 == 0.0


def test_min_score_drops_detections() -> None:
    detections = {"a": scene([PERSON], [EAST], [0.4])}
    query = SearchQuery(EAST, {"a": PERSON})
    assert person_search_scores([query], detections).mean_ap == 0.0
    assert person_search_scores([query], detections, min_score=0.4).mean_ap == 1.0
    assert detection_scores(detections, {"a": [PERSON]}).recall == 0.0
    assert detection_scores(detections, {"a": [PERSON]}, min_score=0.4).recall == 1.0


def test_block_size_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    detections = {
        str(i): scene(np.tile(PERSON, (4, 1)), rng.standard_normal((4, 33)), rng.random(4)) for i in range(50)
    }
    targets = {str(i): PERSON if i % 3 == 0 else None for i in range(50)}
    queries = [SearchQuery(rng.standard_normal(33), targets) for _ in range(9)]
    whole = person_search_scores(queries, detections)
    monkeypatch.setattr(search, "BLOCK", 1)
    np.testing.assert_array_equal(
        person_search_scores(queries, detections).average_precision, whole.average_precision
    )


def test_average_precision_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(6)
    detections = {
        str(i): scene([PERSON, OTHER], rng.integers(-4, 5, (2, 1)) / 4, [1.0, 1.0]) for i in range(40)
    }
    targets = {str(i): PERSON if i % 2 else None for i in range(40)}
    hits = np.array([[i % 2, 0] for i in range(40)]).ravel()
    similarities = np.concatenate([found.features[:, 0] for found in detections.values()])
    scores = person_search_scores([SearchQuery([1.0], targets)], detections)
    assert scores.mean_ap == pytest.approx(average_precision_score(hits, similarities))


def test_empty_scenes_and_no_queries() -> None:
    empty = {"a": SceneDetections(np.zeros((0, 4)), np.zeros(0), np.zeros((0, 2)))}
    assert person_search_scores([SearchQuery(EAST, {"a": PERSON})], empty).mean_ap == 0.0
    assert person_search_scores([SearchQuery(EAST, {})], {}).mean_ap == 0.0
    assert np.isnan(person_search_scores([], empty).mean_ap)
    assert detection_scores({}, {"a": [PERSON]}).recall == 0.0
    # An image without persons has no recall to lose, but its detections are false alarms.
    found = {"a": scene([PERSON], [EAST], [0.8]), "b": scene([PERSON], [EAST], [0.9])}
    assert detection_scores(found, {"a": [PERSON], "b": np.zeros((0, 4))}).average_precision == 0.5


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(ReseenError, match="one box"):
        person_search_scores([SearchQuery(EAST, {"a": [1.0, 2.0]})], {"a": scene([PERSON], [EAST])})
    with pytest.raises(ReseenError, match="same model"):
        person_search_scores([SearchQuery([1.0], {"a": None})], {"a": scene([PERSON], [EAST])})
    with pytest.raises(ReseenError, match="true boxes of a"):
        detection_scores({}, {"a": [[1.0, 2.0]]})


@given(st.integers(0, 10**6))
@settings(deadline=None, max_examples=40)
def test_iou_agrees_with_the_oracle(seed: int) -> None:
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, 5, (7, 2)).astype(float)
    boxes = np.hstack([corners, corners + rng.integers(0, 5, (7, 2))])
    expected = [[iou(a, b) for b in boxes] for a in boxes]
    np.testing.assert_allclose(box_iou(boxes, boxes), expected)
