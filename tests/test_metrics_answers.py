"""Who answers a query, whom a score speaks of, and a picture that is never its own answer; against slow counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oracles.metrics import reid_average_precision
from reseen.data import benchmarks
from reseen.errors import ReseenError
from reseen.evaluation import evaluate_features, evaluate_reranked, open_test, ranked_lists
from reseen.evaluation.protocol import in_words, own_pictures, pairs_of_one
from reseen.metrics import Coverage
from reseen.metrics.answers import Answers
from reseen.metrics.reid import reid_scores_by_answers
from reseen.records import Crop, LabelledCrops, ReidData


def draw(seed: int) -> tuple[Any, ...]:
    """Features, identities (junk and distractors too), cameras (unknown ones too), and some pairs of one picture."""
    rng = np.random.default_rng(seed)
    asked, found = int(rng.integers(1, 6)), int(rng.integers(1, 12))
    features = [rng.integers(-2, 3, (n, 3)).astype(np.float32) for n in (asked, found)]
    labels = [rng.integers(1, 4, asked), rng.integers(-1, 4, found)]
    cameras = [rng.integers(-1, 3, n) for n in (asked, found)]
    pairs = np.argwhere(rng.random((asked, found)) < 0.2)
    return features, labels, cameras, pairs


def slow_coverage(labels: Any, cameras: Any, pairs: Any) -> Coverage:
    own = {tuple(pair) for pair in np.asarray(pairs).tolist()}
    counts = dict.fromkeys(
        ("scored", "only_same_camera", "only_same_picture", "nowhere", "unknown_camera"), 0
    )
    for q, (person, camera) in enumerate(zip(labels[0], cameras[0], strict=True)):
        theirs = [g for g, other in enumerate(labels[1]) if other == person]
        others = [g for g in theirs if (q, g) not in own]
        answers = [g for g in others if cameras[1][g] == -1 or cameras[1][g] != camera]
        if answers:
            counts["scored"] += 1
            counts["unknown_camera"] += all(-1 in (camera, cameras[1][g]) for g in answers)
        else:
            counts["nowhere" if not theirs else "only_same_camera" if others else "only_same_picture"] += 1
    return Coverage(len(labels[0]), **counts)


@given(st.integers(0, 10**6))
def test_coverage_and_scores_agree_with_slow_ones(seed: int) -> None:
    (asked, found), labels, cameras, pairs = draw(seed)
    answers = Answers.of(*labels, *cameras, same_pictures=pairs)
    assert answers.coverage() == slow_coverage(labels, cameras, pairs)
    scores = reid_scores_by_answers(asked, found, answers)
    assert scores.valid_queries == answers.coverage().scored
    for q in range(len(asked)):  # each query by itself, in a gallery without its own pictures
        kept = np.setdiff1d(np.arange(len(found)), pairs[pairs[:, 0] == q, 1])
        alone = (labels[0][q : q + 1], labels[1][kept], cameras[0][q : q + 1], cameras[1][kept])
        expected = reid_average_precision(-(asked[q : q + 1] @ found[kept].T), *alone)[0]
        np.testing.assert_allclose(scores.average_precision[q], expected[0], rtol=1e-12)


def test_blocks_of_queries_change_no_coverage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reseen.metrics.answers.BLOCK", 2)
    for seed in range(40):
        _, labels, cameras, pairs = draw(seed)
        found = Answers.of(*labels, *cameras, same_pictures=pairs).coverage()
        assert found == slow_coverage(labels, cameras, pairs)


def test_pairs_that_are_not_there_are_refused() -> None:
    with pytest.raises(ReseenError, match="rows of 1 queries and 2 gallery images"):
        Answers.of([1], [1, 1], [1], [1, 2], same_pictures=[(0, 2)])
    with pytest.raises(ReseenError, match="gallery identities"):
        reid_scores_by_answers(np.eye(1), np.eye(1), Answers.of([1], [1, 1], [1], [1, 2]))


# --- pictures ---


def test_one_picture_is_the_same_file_a_link_to_it_or_the_same_bytes(tmp_path: Path) -> None:
    for name, content in (("a", "one"), ("b", "two"), ("c", "one"), ("d", "three"), ("e", "six")):
        (tmp_path / name).write_text(content)
    (tmp_path / "link").symlink_to(tmp_path / "b")
    (tmp_path / "hard").hardlink_to(tmp_path / "d")
    (tmp_path / "sub").mkdir()
    first = [tmp_path / name for name in ("a", "b", "d", "absent")]
    second = [tmp_path / name for name in ("sub/../a", "link", "c", "e", "hard", "absent")]
    assert pairs_of_one(first, second).tolist() == [[0, 0], [0, 2], [1, 1], [2, 4]]
    assert pairs_of_one([], second).shape == (0, 2)


def crops(folder: Path, persons: list[int], cameras: list[int], contents: str) -> LabelledCrops:
    folder.mkdir()
    paths = [folder / f"{row}.jpg" for row in range(len(persons))]
    for path, content in zip(paths, contents, strict=True):
        path.write_text(content)
    return LabelledCrops(
        tuple(Crop(path, camera) for path, camera in zip(paths, cameras, strict=True)), np.array(persons)
    )


@pytest.fixture
def images(tmp_path: Path) -> ReidData:
    """Query 0 is in the gallery as it is, query 1 under the name of somebody else; both have another answer."""
    query = crops(tmp_path / "query", [1, 2], [1, 1], "ab")
    gallery = crops(tmp_path / "gallery", [1, 1, 2, 3, 3], [2, 2, 2, 2, 2], "axybz")
    return ReidData("mine", tmp_path, (), query=query, gallery=gallery)


def test_a_copy_of_a_query_is_neither_right_nor_wrong(images: ReidData) -> None:
    test = open_test(images)
    assert test.same_pictures.tolist() == [[0, 0], [1, 3]]
    assert test.coverage == Coverage(2, 2)
    asked = np.eye(3, dtype=np.float32)[:2]
    found = np.array([[1, 0, 0], [0.6, 0, 0.8], [0, 0.6, 0.8], [0, 1, 0], [0.8, 0.6, 0]], dtype=np.float32)
    own = {"same_pictures": test.same_pictures}
    with_copies = evaluate_features(asked, found, test.query, test.gallery)
    without = evaluate_features(asked, found, test.query, test.gallery, **own)
    assert with_copies.average_precision.tolist() == pytest.approx([(1 + 2 / 3) / 2, 1 / 2])
    assert without.average_precision.tolist() == pytest.approx([1 / 2, 1])
    lists = ranked_lists(asked, found, test.query, test.gallery, top=3, **own)
    assert lists.rows.tolist() == [[4, 1, 2], [2, 4, 0]]
    assert ranked_lists(asked, found, top=1, **own).rows.tolist() == [[4], [2]]  # also where nobody is named
    reranked = evaluate_reranked(asked, found, test.query, test.gallery, **own)
    assert reranked.valid_queries == 2
    assert (
        reranked.average_precision[0]
        != evaluate_reranked(asked, found, test.query, test.gallery).average_precision[0]
    )


def test_published_splits_are_scored_as_ever(images: ReidData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(benchmarks.KNOWN, "mine", {"train": (0, 0), "query": (2, 2), "gallery": (5, 3)})
    assert images.query is not None
    assert images.gallery is not None
    assert len(own_pictures(images, images.query, images.gallery)) == 0
    assert open_test(images).coverage == Coverage(2, 2)
    monkeypatch.setitem(benchmarks.KNOWN, "mine", {"train": (0, 0), "query": (2, 2), "gallery": (6, 3)})
    assert len(own_pictures(images, images.query, images.gallery)) == 2  # a set of one's own under its names


def test_what_is_not_scored_is_said_in_words() -> None:
    record = {"queries": 1200, "scored": 1000, "only_same_camera": 150, "nowhere": 50, "unknown_camera": 7}
    assert in_words(record) == (
        "scored 1,000 of 1,200 queries: 150 only under the same camera, 50 nowhere in the gallery; "
        "of 7 no answer has a known camera"
    )
    assert in_words({"queries": 3, "scored": 3}) == "scored 3 of 3 queries"
