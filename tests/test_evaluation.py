"""The protocol on labelled crops, and ranked lists against a sort of every row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from oracles.metrics import reid_average_precision
from reseen.config import resolve
from reseen.errors import ReseenError
from reseen.evaluation import evaluate_features, ranked_lists
from reseen.evaluation.encoders import embedding_batch
from reseen.records import Crop, LabelledCrops


def labelled(identities: Any, cameras: Any) -> LabelledCrops:
    crops = tuple(Crop(Path(f"{i}.jpg"), int(camera)) for i, camera in enumerate(cameras))
    return LabelledCrops(crops, np.asarray(identities, dtype=np.int64))


def draw(seed: int) -> tuple[Any, Any, LabelledCrops, LabelledCrops]:
    rng = np.random.default_rng(seed)
    pool = rng.standard_normal((7, 4))
    pool /= np.linalg.norm(pool, axis=1, keepdims=True)
    sizes = rng.integers(1, 6), rng.integers(1, 20)
    query, gallery = (pool[rng.integers(0, 7, size)] for size in sizes)
    asked = labelled(rng.integers(1, 4, sizes[0]), rng.integers(-1, 3, sizes[0]))
    return query, gallery, asked, labelled(rng.integers(-1, 4, sizes[1]), rng.integers(-1, 3, sizes[1]))


def slow_lists(
    query: Any, gallery: Any, asked: LabelledCrops, found: LabelledCrops, top: int
) -> list[list[int]]:
    lists = []
    for q, feature in enumerate(query):
        kept = [
            g
            for g in range(len(gallery))
            if found.identities[g] != -1
            and not (
                found.identities[g] == asked.identities[q]
                and found.cameras[g] == asked.cameras[q]
                and found.cameras[g] != -1
            )
        ]
        lists.append(sorted(kept, key=lambda g: (-np.float32(np.sum(feature * gallery[g])), g))[:top])
    return lists


@given(st.integers(0, 10**6))
@settings(deadline=None, max_examples=80)
def test_lists_and_scores_agree_with_the_oracles(seed: int) -> None:
    query, gallery, asked, found = draw(seed)
    lists = ranked_lists(query, torch.from_numpy(gallery), asked, found, top=5)
    expected = slow_lists(query, gallery, asked, found, 5)
    for row, right, similar, best, identity in zip(
        lists.rows, lists.correct, lists.similarities, expected, asked.identities, strict=True
    ):
        assert row.tolist() == best + [-1] * (5 - len(best))
        assert right[: len(best)].tolist() == (found.identities[best] == identity).tolist()
        assert not right[len(best) :].any()
        assert np.isnan(similar).sum() == 5 - len(best)

    scores = evaluate_features(query, gallery, asked, found)
    similarities = np.array([[np.sum(q * g) for g in gallery] for q in query], dtype=np.float32)
    labels = (asked.identities, found.identities, asked.cameras, found.cameras)
    np.testing.assert_allclose(
        scores.average_precision, reid_average_precision(-similarities, *labels)[0], rtol=1e-12
    )
    valid = np.isfinite(scores.average_precision)
    if valid.any():  # the lists show what the scores count
        assert scores.cmc[1] == pytest.approx(lists.correct[valid, 0].mean())


def test_only_the_queries_asked_for_are_ranked() -> None:
    query, gallery, asked, found = draw(3)
    whole = ranked_lists(query, gallery, asked, found, top=4)
    rows = np.array([len(query) - 1, 0])
    some = ranked_lists(query, gallery, asked, found, top=4, queries=rows)
    np.testing.assert_array_equal(some.queries, rows)
    np.testing.assert_array_equal(some.rows, whole.rows[rows])
    np.testing.assert_array_equal(some.correct, whole.correct[rows])


def test_without_labels_nothing_is_left_out_or_called_correct() -> None:
    eye = np.eye(3, dtype=np.float32)
    lists = ranked_lists(eye, eye[[2, 1, 0, 0]], top=3)
    assert lists.rows.tolist() == [[2, 3, 0], [1, 0, 2], [0, 1, 2]]
    assert not lists.correct.any()


def test_ranks_can_be_chosen() -> None:
    query, gallery, asked, found = draw(5)
    assert list(evaluate_features(query, gallery, asked, found, ranks=(2, 7)).cmc) == [2, 7]


def test_what_does_not_fit_is_named() -> None:
    eye = np.eye(3)
    people = labelled([1, 2, 3], [1, 1, 1])
    with pytest.raises(ReseenError, match="both query and gallery"):
        ranked_lists(eye, eye, people)
    with pytest.raises(ReseenError, match="gallery: 3 images but 2 features"):
        ranked_lists(eye, eye[:2], people, people)
    with pytest.raises(ReseenError, match="dimensions"):
        ranked_lists(eye, np.eye(4))
    with pytest.raises(ReseenError, match=r"0\.\.2"):
        ranked_lists(eye, eye, queries=[3])
    with pytest.raises(ReseenError, match="query identities"):
        evaluate_features(eye[:2], eye, people, people)


@pytest.mark.parametrize(
    ("size", "device", "images"),
    [((128, 64), "cpu", 32), ((256, 128), "cpu", 8), ((64, 32), "cpu", 128), ((256, 128), "cuda", 128)],
)
def test_a_cpu_embeds_few_large_images_at_a_time(size, device, images):
    config = resolve("cacl", None, [f"data.height={size[0]}", f"data.width={size[1]}"])
    assert embedding_batch(config, torch.device(device)) == images
