"""Re-ranking: streamed and sparse against the paper's formulas, and what is scored of it."""

from __future__ import annotations

import shutil
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from command_runs import ONE_EPOCH, done, lines, market
from oracles import rerank as oracle
from oracles.metrics import reid_average_precision
from reseen.clustering.nearest import lowest_similarities, neighbours, proxies, sweep
from reseen.data import open_data
from reseen.errors import ReseenError
from reseen.evaluation import embed_crops, evaluate_features, evaluate_reranked, rerank
from reseen.inference import load_encoder
from reseen.metrics import reid_scores_from_blocks, reid_scores_from_distances
from reseen.records import Crop, LabelledCrops

module = sys.modules[rerank.__module__]  # the package's `rerank` is the function


def unit(rows: Any) -> Any:
    rows = np.asarray(rows, dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def people(queries: int, gallery: int, *, identities: int = 12, dim: int = 12, seed: int = 0) -> Any:
    """Features of a query and a gallery set, and identities and cameras of both, junk and distractors too."""
    rng = np.random.default_rng(seed)
    count = queries + gallery
    labels = rng.integers(1, identities + 1, count)
    labels[queries:] = np.where(rng.random(gallery) < 0.2, rng.integers(-1, 1, gallery), labels[queries:])
    cameras = rng.integers(-1, 3, count)
    centres = rng.normal(size=(identities + 2, dim))
    rows = unit(centres[labels] + 0.4 * centres[cameras] + 0.5 * rng.normal(size=(count, dim)))
    return (
        rows[:queries],
        rows[queries:],
        (labels[:queries], labels[queries:], cameras[:queries], cameras[queries:]),
    )


def whole(query: Any, gallery: Any, **options: Any) -> Any:
    return np.concatenate([np.empty((0, len(gallery))), *rerank(query, gallery, **options)])


@st.composite
def lattices(draw: st.DrawFn) -> tuple[Any, Any]:
    """Query and gallery rows from a small lattice: copies and ties everywhere, groups larger than k1."""
    count, dim = draw(st.integers(2, 28)), draw(st.integers(1, 3))
    row = st.lists(st.integers(-1, 2), min_size=dim, max_size=dim).filter(any)
    rows = unit(draw(st.lists(row, min_size=count, max_size=count)))
    queries = draw(st.integers(1, count - 1))
    return rows[:queries], rows[queries:]


# --- the distances ---


@settings(deadline=None, max_examples=80)
@given(
    lattices(), st.integers(1, 40), st.integers(1, 9), st.sampled_from([0.0, 0.3, 0.8, 1.0]), st.booleans()
)
def test_equals_the_paper_with_copies_and_ties(
    sides: tuple[Any, Any], k1: int, k2: int, original_weight: float, squared: bool
) -> None:
    options = {"k1": k1, "k2": k2, "original_weight": original_weight, "squared": squared}
    np.testing.assert_allclose(whole(*sides, **options), oracle.rerank(*sides, **options), atol=1e-6)


@settings(deadline=None, max_examples=12)
@given(st.integers(1, 30), st.integers(1, 90), st.integers(2, 25), st.integers(1, 8), st.integers(0, 1000))
def test_equals_the_paper_on_people(queries: int, gallery: int, k1: int, k2: int, seed: int) -> None:
    query, found, _ = people(queries, gallery, seed=seed)
    expected = oracle.rerank(query, found, k1=k1, k2=k2)
    np.testing.assert_allclose(whole(query, found, k1=k1, k2=k2), expected, atol=1e-6)


@settings(deadline=None, max_examples=30)
@given(lattices(), st.data(), st.integers(1, 12), st.integers(1, 9))
def test_a_querys_own_picture_is_one_image_with_it(
    sides: tuple[Any, Any], data: st.DataObject, k1: int, k2: int
) -> None:
    """The graph is that of a gallery without them; whoever else asks finds them where the query is."""
    query, gallery = sides
    copies = data.draw(st.lists(st.integers(0, len(query) - 1), max_size=4))
    pairs = [(row, len(gallery) + place) for place, row in enumerate(copies)]
    found = whole(query, np.concatenate([gallery, query[copies]]), k1=k1, k2=k2, same_pictures=pairs)
    np.testing.assert_allclose(found, oracle.rerank(query, gallery, k1=k1, k2=k2, copies=copies), atol=1e-6)


def test_two_queries_of_one_picture_are_one_image_too() -> None:
    query, gallery, _ = people(6, 40)
    both, shown = np.concatenate([query, query[[2]]]), np.concatenate([gallery, query[[2]]])
    found = whole(both, shown, same_pictures=[(2, 40), (6, 40)])
    np.testing.assert_allclose(found[:6], oracle.rerank(query, gallery, copies=[2]), atol=1e-6)
    np.testing.assert_array_equal(found[6], found[2])


def test_the_defaults_are_the_papers() -> None:
    query, gallery, _ = people(20, 130)
    expected = oracle.rerank(query, gallery, k1=20, k2=6, original_weight=0.3, squared=True)
    assert np.abs(whole(query, gallery) - expected).max() < 1e-6
    assert 0.02 < (expected < 0.5).mean() < 0.98  # neither empty nor full


@pytest.mark.parametrize("option", [{"k1": 19}, {"k2": 5}, {"original_weight": 0.2}, {"squared": False}])
def test_every_option_changes_the_distances(option: dict[str, Any]) -> None:
    query, gallery, _ = people(20, 130)
    assert np.abs(whole(query, gallery, **option) - whole(query, gallery)).max() > 1e-3


def test_weight_one_keeps_the_original_order() -> None:
    query, gallery, _ = people(15, 60)
    order = np.argsort(-(query @ gallery.T), axis=1)
    np.testing.assert_array_equal(np.argsort(whole(query, gallery, original_weight=1.0), axis=1), order)


@pytest.mark.parametrize("copies", [0, 45])
def test_blocks_and_threads_change_nothing(monkeypatch: pytest.MonkeyPatch, copies: int) -> None:
    """Bit by bit, with groups of copies that products of other shapes may round differently."""
    query, gallery, _ = people(70, 400, identities=40, dim=33)
    gallery[:copies] = gallery[0]
    query[: copies // 10] = gallery[0]
    expected = whole(query, gallery)
    monkeypatch.setattr(module, "BLOCK", 1)
    monkeypatch.setattr(sweep, "BLOCK", 7)
    before = torch.get_num_threads()
    try:
        for fewest, columns, threads in ((1, 400, 1), (3, 7, 3), (70, 64, 2)):
            monkeypatch.setattr(module, "FEWEST", fewest)
            monkeypatch.setattr(module, "COLUMNS", columns)
            torch.set_num_threads(threads)
            blocks = list(rerank(query, gallery))
            assert [len(b) for b in blocks[:-1]] == [fewest] * (len(blocks) - 1)
            np.testing.assert_array_equal(np.concatenate(blocks), expected)
    finally:
        torch.set_num_threads(before)


def test_tensors_and_other_dtypes_will_do() -> None:
    query, gallery, _ = people(10, 40)
    expected = whole(query, gallery)
    np.testing.assert_array_equal(whole(torch.from_numpy(query), torch.from_numpy(gallery)), expected)
    np.testing.assert_array_equal(whole(query.astype(np.float64), np.asfortranarray(gallery)), expected)


def test_one_image_in_many_copies_is_at_distance_zero_or_one() -> None:
    """No row is farther than any other: d is 0, not 0 / 0. Copies beyond the lists are in nobody's."""
    rows = np.tile(unit([[1, 2, 2]]), (30, 1))
    np.testing.assert_allclose(whole(rows[:2], rows[2:]), oracle.rerank(rows[:2], rows[2:]), atol=1e-6)
    np.testing.assert_allclose(whole(rows[:2], rows[2:15]), 0, atol=1e-6)


def test_sides_may_be_empty() -> None:
    eye = np.eye(3, dtype=np.float32)
    assert [block.shape for block in rerank(eye, eye[:0])] == [(3, 0)]
    assert list(rerank(eye[:0], eye)) == []


@pytest.mark.parametrize(
    ("query", "options", "words"),
    [
        (np.full((2, 3), np.nan), {}, "query features hold NaN"),
        (np.full((2, 3), np.inf), {}, "query features hold NaN or infinity"),
        (np.eye(4), {}, "4 dimensions and gallery features 3"),
        (2 * np.eye(3), {}, "3 of 6 rows.*row 0.*normalize"),
        (np.eye(3), {"k1": 0}, "k1 and k2"),
        (np.eye(3), {"k2": 0}, "k1 and k2"),
        (np.eye(3), {"original_weight": 1.5}, "0 to 1, not 1.5"),
    ],
)
def test_bad_input_is_named_in_one_line_before_the_first_block(
    query: Any, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ReseenError, match=words) as error:
        rerank(query, np.eye(3), **options)
    assert "\n" not in str(error.value)


# --- the farthest row ---


@settings(deadline=None, max_examples=60)
@given(lattices())
def test_the_lowest_similarity_is_that_of_all_products(sides: tuple[Any, Any]) -> None:
    rows = np.concatenate(sides)
    exact = (rows.astype(np.float64) @ rows.T.astype(np.float64)).astype(np.float32)
    np.testing.assert_allclose(lowest_similarities(rows), exact.min(axis=1), rtol=0, atol=1e-7)


@pytest.mark.parametrize("copies", [1, 200])
def test_the_lowest_similarity_of_many_rows_is_exact(copies: int) -> None:
    """More copies of the farthest row than candidates: rows without a proof are searched again."""
    rows = np.random.default_rng(0).normal(size=(600, 64))
    rows[:copies] = -rows.mean(axis=0)
    rows = unit(rows)
    exact = (rows.astype(np.float64) @ rows.T.astype(np.float64)).astype(np.float32)
    np.testing.assert_array_equal(lowest_similarities(rows), exact.min(axis=1))


def test_the_lowest_similarity_is_exact_where_few_numbers_stand_for_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They bound products from above only, which proves nothing of the lowest."""
    rng = np.random.default_rng(3)
    rows = unit(rng.normal(size=(600, 4)) @ rng.normal(size=(4, 64)) + 0.2 * rng.normal(size=(600, 64)))
    for name, value in {"WORTHWHILE": 1, "PROJECT": 1, "DIRECTIONS": (4, 8), "LEARNT_FROM": 200}.items():
        monkeypatch.setattr(proxies, name, value)
    exact = (rows.astype(np.float64) @ rows.T.astype(np.float64)).astype(np.float32)
    np.testing.assert_array_equal(lowest_similarities(rows), exact.min(axis=1))


def test_an_accelerators_search_finds_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its way through the pieces, on the CPU: rows and columns in several."""
    rows = unit(np.random.default_rng(1).normal(size=(90, 8)))
    expected = lowest_similarities(rows)
    monkeypatch.setattr(sweep, "SIDE", 17)
    monkeypatch.setattr(neighbours, "resolve_precision", lambda *_: "none")  # as where the device is no CPU
    monkeypatch.setattr(neighbours, "largest_products", partial(sweep.on_device, memory=4 * 17 * 23))
    np.testing.assert_array_equal(lowest_similarities(rows), expected)


# --- scores ---


def labelled(identities: Any, cameras: Any) -> LabelledCrops:
    crops = tuple(Crop(Path(f"{i}.jpg"), int(camera)) for i, camera in enumerate(cameras))
    return LabelledCrops(crops, np.asarray(identities, dtype=np.int64))


def test_streamed_blocks_score_as_the_whole_matrix() -> None:
    query, gallery, labels = people(40, 200)
    distances = whole(query, gallery)
    streamed = reid_scores_from_blocks(rerank(query, gallery), *labels)
    at_once = reid_scores_from_distances(distances, *labels)
    np.testing.assert_array_equal(streamed.average_precision, at_once.average_precision)
    np.testing.assert_allclose(
        streamed.average_precision, reid_average_precision(distances, *labels)[0], rtol=1e-12
    )
    for cuts in ((0, 40), (1, 2, 40), (0, 39)):  # also blocks without a row
        parts = np.split(distances, cuts)
        np.testing.assert_array_equal(
            reid_scores_from_blocks(iter(parts), *labels, ranks=(3,)).cmc[3],
            reid_scores_from_distances(distances, *labels, ranks=(3,)).cmc[3],
        )


def test_ignoring_after_re_ranking_equals_removing_the_rows_by_hand() -> None:
    query, gallery, (asked, found, own, cameras) = people(40, 200)
    distances = whole(query, gallery)
    scores = reid_scores_from_blocks(rerank(query, gallery), asked, found, own, cameras, ranks=(1, 2))
    removed, firsts = 0, []
    for q in range(40):
        same_camera = (found == asked[q]) & (cameras == own[q]) & (cameras != -1)
        kept = (found != -1) & ~same_camera
        removed += same_camera.sum()
        row = distances[q, kept]
        alone = reid_scores_from_distances(row[None], asked[[q]], found[kept], [-1], cameras[kept])
        np.testing.assert_array_equal(alone.average_precision, scores.average_precision[[q]])
        right = found[kept][np.argsort(row, kind="stable")] == asked[q]
        firsts += [int(np.argmax(right))] if right.any() else []
    assert (found == -1).any()
    assert removed
    assert scores.cmc == {1: np.mean(np.array(firsts) < 1), 2: np.mean(np.array(firsts) < 2)}


def test_junk_is_nobodys_neighbour() -> None:
    """The protocol's re-ranking is over a gallery that never had the junk: as readers leave it out."""
    query, gallery, (asked, found, own, cameras) = people(40, 200)
    kept = found != -1
    scores = evaluate_reranked(
        query, torch.from_numpy(gallery), labelled(asked, own), labelled(found, cameras)
    )
    distances = whole(query, gallery[kept])
    expected = reid_scores_from_distances(distances, asked, found[kept], own, cameras[kept])
    np.testing.assert_array_equal(scores.average_precision, expected.average_precision)
    assert scores.cmc == expected.cmc
    with_junk = reid_scores_from_blocks(rerank(query, gallery), asked, found, own, cameras)
    assert not np.array_equal(scores.average_precision, with_junk.average_precision, equal_nan=True)


def test_a_querys_own_picture_changes_none_of_its_scores() -> None:
    """Neither as an answer nor as a neighbour."""
    query, gallery, (asked, found, own, cameras) = people(20, 100)
    alone = evaluate_reranked(query, gallery, labelled(asked, own), labelled(found, cameras))
    for q in range(0, 20, 3):
        more = labelled(np.append(found, asked[q]), np.append(cameras, -1))
        with_it = (query, np.concatenate([gallery, query[[q]]]), labelled(asked, own), more)
        scores = evaluate_reranked(*with_it, same_pictures=[(q, 100)])
        assert scores.average_precision[q] == alone.average_precision[q]


def test_re_ranking_helps_where_neighbours_agree() -> None:
    query, gallery, (asked, found, own, cameras) = people(60, 400, identities=30)
    sides = labelled(asked, own), labelled(found, cameras)
    plain, better = (score(query, gallery, *sides) for score in (evaluate_features, evaluate_reranked))
    assert better.mean_ap > plain.mean_ap + 0.03


def test_blocks_that_do_not_fit_are_named() -> None:
    labels = ([1, 2], [1, 2, 3], [0, 0], [1, 1, 1])
    row = np.zeros((1, 3))
    for blocks, words in (
        ([row], "2 queries but distances of 1"),
        ([row, row, row], r"shape \(2, 3\)"),
        ([np.zeros((2, 4))], r"shape \(2, 3\)"),
        ([row, np.full((1, 3), np.nan)], "NaN"),
    ):
        with pytest.raises(ReseenError, match=words):
            reid_scores_from_blocks(blocks, *labels)
    with pytest.raises(ReseenError, match="gallery: 3 images but 2 features"):
        evaluate_reranked(np.eye(3)[:1], np.eye(3)[:2], labelled([1], [1]), labelled([1, 2, 3], [1, 1, 1]))


# --- the command ---


def test_the_command_prints_and_records_both(tmp_path: Path) -> None:
    world, run = market(tmp_path / "world"), tmp_path / "run"
    junk = world / "bounding_box_test" / "-1_c1s1_000000_00.png"
    shutil.copy(next((world / "query").iterdir()), junk)
    done("train", "cacl", "--data", world, "--run", run, *ONE_EPOCH)
    plain = done("evaluate", run, "--data", world)
    both = done("evaluate", run, "--data", world, "--rerank")
    assert both.startswith(plain)
    first, again, second = lines(run / "evaluations.jsonl")
    assert first == again
    assert (first.pop("rerank"), second.pop("rerank")) == (False, True)

    images = open_data(world)
    encoder, checkpoint = load_encoder(run / "checkpoint" / "last.safetensors")
    sides = (images.query, images.gallery)
    query, gallery = (embed_crops(encoder, side.crops, checkpoint.config).numpy() for side in sides)
    kept = images.gallery.identities != -1
    assert not kept.all()
    labels = (images.query.identities, images.gallery.identities[kept])
    labels += (images.query.cameras, images.gallery.cameras[kept])
    precisions, firsts = reid_average_precision(oracle.rerank(query, gallery[kept]), *labels)
    assert second["mean_ap"] == pytest.approx(np.mean(precisions), abs=1e-6)
    assert second["rank1"] == np.mean(np.array(firsts) == 1)
    assert f"re-ranked: mAP {second['mean_ap']:.1%}  rank-1 {second['rank1']:.1%}" in both
    assert second["mean_ap"] != first["mean_ap"]
    assert {k: second[k] for k in ("epoch", "chosen", "view")} == {
        k: first[k] for k in ("epoch", "chosen", "view")
    }
