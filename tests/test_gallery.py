"""What a gallery promises, wherever it is kept: a second store has to pass the tests that take ``place`` too."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import reseen
from galleries import DIM, MODEL, bucket, calibration, filled, oracle, qdrant, some_features
from reseen.errors import ReseenError
from reseen.gallery import Gallery
from reseen.gallery.files import Files


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch, bucket(patch) as address:
        yield address


@pytest.fixture(scope="module")
def points() -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch, qdrant(patch) as address:
        yield address


@pytest.fixture(params=["folder", "s3", "points"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "folder":
        return str(tmp_path / "gallery")
    return f"{request.getfixturevalue(request.param)}/{request.node.name.replace('[', '-').rstrip(']')}"


def found(hits: list[reseen.gallery.Hit]) -> list[tuple[int, float]]:
    return [(hit.row, hit.similarity) for hit in hits]


# --- the contract ---


def test_what_is_added_is_found_by_everybody_in_the_same_order(place: str) -> None:
    gallery, features = filled(place)
    query = some_features(1, seed=5)[0]
    expected = oracle(features, query, 8)
    assert found(gallery.search(query, 8)) == expected
    again = Gallery.open(place, MODEL)
    assert found(again.search(query, 8)) == expected
    hit = Gallery.open(place).search(query, 1)[0]  # holds rows of one model: whose is clear
    row = hit.row
    assert dataclasses.astuple(hit)[2:4] == (f"site 0/{row:04d}.jpg", -1)
    assert (hit.camera, hit.time, hit.track, hit.box) == (row % 3 + 1, 1000.0 + row, -1, (0, 0, 0, 0))
    assert again.thumbnails([row, 999]) == {row: np.random.default_rng(row).bytes(200)}


def test_rows_that_tie_come_in_the_order_of_their_numbers(place: str) -> None:
    one = some_features(1)
    gallery = Gallery.open(place, MODEL)
    for _ in range(3):
        gallery.add(np.concatenate([one, -one, one * 3]), sources=["a.jpg", "b.jpg", "c.jpg"])
    assert [hit.row for hit in gallery.search(one[0], 7)] == [0, 2, 3, 5, 6, 8, 1]
    assert [hit.row for hit in Gallery.open(place).search(one[0], 7)] == [0, 2, 3, 5, 6, 8, 1]


def test_filters(place: str) -> None:
    gallery, features = filled(place)
    query, rows = features[10], np.arange(60)
    cameras, times = rows % 3 + 1, 1000.0 + rows
    for given, passes in (
        ({"cameras": 2}, cameras == 2),
        ({"cameras": [1, 3]}, cameras != 2),
        ({"not_cameras": 2}, cameras != 2),
        ({"not_cameras": [1, 3], "after": 1010.0}, (cameras == 2) & (times >= 1010)),
        ({"before": datetime.fromtimestamp(1020, UTC)}, times < 1020),
        (
            {"after": "1970-01-01T00:17:00", "before": "1970-01-01T01:17:10+01:00"},
            (times >= 1020) & (times < 1030),
        ),
        ({"sources": "site 0/0007.jpg"}, rows == 7),
        ({"sources": ["site 0/"], "cameras": 9}, rows < 0),
        ({"sources": "site"}, rows < 0),
        ({"sources": "x' OR 1=1 --\""}, rows < 0),
    ):
        assert found(gallery.search(query, 60, **given)) == oracle(features, query, 60, passes), given


def test_several_queries_at_once_are_as_each_alone(place: str) -> None:
    gallery, _ = filled(place)
    queries = some_features(9, seed=3)
    together = [found(hits) for hits in gallery.search_many(queries, 5, cameras=[1, 2])]
    assert together == [found(gallery.search(query, 5, cameras=[1, 2])) for query in queries]
    assert gallery.search_many(np.zeros((0, DIM), np.float32)) == []


def test_what_others_add_is_found(place: str) -> None:
    gallery, features = filled(place)
    more = some_features(5, seed=8)
    numbers = Gallery.open(place, MODEL).add(more, sources=["later.mp4"] * 5, frames=range(5))
    assert numbers.tolist() == [60, 61, 62, 63, 64]
    gallery.refresh()
    assert found(gallery.search(more[2], 4)) == oracle(np.concatenate([features, more]), more[2], 4)
    assert gallery.add(more[:1], sources=["last.jpg"]).tolist() == [65]


def test_what_is_erased_is_found_by_nobody_and_its_number_is_not_given_again(place: str) -> None:
    gallery, features = filled(place)
    reader = Gallery.open(place, MODEL)
    receipt = gallery.forget([5, 59])
    assert receipt is not None
    assert receipt.rows == 2
    reader.refresh()
    kept = np.isin(np.arange(60), [5, 59], invert=True)
    for one in (gallery, reader, Gallery.open(place, MODEL)):
        assert found(one.search(features[5], 60)) == oracle(features, features[5], 60, kept)
        assert one.thumbnails([5, 59]) == {}
        assert one.unfinished == 0
    assert gallery.add(features[:1], sources=["new.jpg"]).tolist() == [60]
    lines = gallery._store.files.read("audit.jsonl").decode().splitlines()
    assert [json.loads(line)["rows"] for line in lines] == [2]


def test_thumbnails_are_those_of_their_rows_also_when_others_were_just_erased(place: str) -> None:
    gallery, _ = filled(place)
    expected = {row: np.random.default_rng(row).bytes(200) for row in (59, 3, 30)}
    assert gallery.thumbnails([59, 3, 30]) == expected
    Gallery.open(place, MODEL).forget(
        [2, 30]
    )  # rows behind them lie elsewhere now, which this one has not seen
    del expected[30]
    assert gallery.thumbnails([59, 3, 30, 999]) == expected


def test_the_calibration_of_a_model_stays_with_its_rows(place: str) -> None:
    gallery, features = filled(place)
    gallery.keep_calibration(calibration())
    said = gallery.search(features[7], 1)[0].probability
    assert said > 0.8
    gallery.forget([3])
    gallery.add(features[:1], sources=["new.jpg"])
    again = Gallery.open(place, MODEL).search(features[7], 1)[0].probability
    assert again == pytest.approx(said, rel=0.05)


def test_rows_that_an_image_is_like_by_similarity(place: str) -> None:
    gallery, features = filled(place)
    alike = [row for row, similarity in oracle(features, features[9], 60) if similarity >= 0.5]
    assert gallery.matching(like=features[9], above_similarity=0.5).tolist() == sorted(alike)
    assert 1 < len(alike) < 60


def test_reranking_orders_the_shortlist_by_reciprocal_neighbours(place: str) -> None:
    from reseen.evaluation.rerank import rerank

    gallery, features = filled(place)
    query = some_features(1, seed=2)[0]
    kept = features.astype(np.float16).astype(np.float32)
    order = [row for row, _ in oracle(features, query, 60)]
    (distances,) = rerank(query[None], kept[order])
    expected = [order[place] for place in np.argsort(distances[0], kind="stable")]
    assert [hit.row for hit in gallery.search(query, 10, rerank=True)] == expected[:10]
    assert expected[:10] != order[:10]


def test_names_that_are_not_utf8_come_back(place: str) -> None:
    gallery = Gallery.open(place, MODEL)
    name = "kam\udce9ra/'1'.jpg"
    gallery.add(some_features(1), sources=[name])
    assert Gallery.open(place).search(some_features(1)[0])[0].source == name
    assert gallery.search(some_features(1)[0], sources="kam\udce9ra")[0].row == 0


def test_adding_while_searching_in_two_threads(place: str) -> None:
    """Every answer is that of some moment: exact over the rows that it can have seen, in the order of additions."""
    gallery, features = filled(place, 30)
    parts = [some_features(20, seed=seed) for seed in range(10, 16)]
    whole = np.concatenate([features, *parts])
    moments = [oracle(whole[:end], whole[3], 6) for end in range(30, len(whole) + 1, 20)]
    answers, errors = [], []

    def search() -> None:
        try:
            while len(gallery) < len(whole) or not answers:
                answers.append(found(gallery.search(whole[3], 6)))
        except BaseException as error:
            errors.append(error)
            raise

    thread = threading.Thread(target=search)
    thread.start()
    for number, part in enumerate(parts):
        gallery.add(part, sources=[f"part {number}"] * len(part))
    thread.join()
    assert not errors
    assert found(gallery.search(whole[3], 6)) == moments[-1]
    order = [moments.index(answer) for answer in answers]
    assert order == sorted(order)


# --- one store is enough for the rest ---


def test_an_empty_gallery_answers_with_nothing(tmp_path: Path) -> None:
    gallery = Gallery.open(tmp_path / "new", MODEL)
    assert gallery.search(some_features(1)[0]) == []
    assert not (tmp_path / "new").exists()
    assert gallery.add(np.zeros((0, DIM), np.float32), sources=[]).tolist() == []
    assert Gallery.open(tmp_path / "new").search(some_features(1)[0], 3) == []


def test_what_is_held_is_no_window_on_all_that_was_read(tmp_path: Path) -> None:
    """Batches share what was read in one go: held as they come, they were twice the rows."""
    filled(tmp_path / "gallery", 3000)
    before = pa.total_allocated_bytes()
    held = Gallery.open(tmp_path / "gallery", MODEL).held
    assert all(block.flags.owndata for block in held.blocks)
    assert held.table is not None
    assert pa.total_allocated_bytes() - before >= held.table.nbytes


def test_rows_of_one_track_count_once_by_the_best_of_them(tmp_path: Path) -> None:
    features = some_features(40)
    tracks = np.arange(40) // 10  # two videos with tracks 0 and 1 each, and stills
    tracks = np.where(tracks < 2, tracks, tracks - 2)
    tracks[36:] = -1
    sources = ["a.mp4"] * 20 + ["b.mp4"] * 20
    gallery = Gallery.open(tmp_path / "gallery", MODEL)
    gallery.add(features, sources=sources, tracks=tracks)
    query = some_features(1, seed=9)[0]
    keys = [(sources[row], tracks[row]) if tracks[row] >= 0 else row for row in range(40)]
    ranked, first = oracle(features, query, 40), {}
    for row, _ in ranked:
        first.setdefault(keys[row], row)
    expected = list(first.values())
    hits = gallery.search(query, 8)
    assert [hit.row for hit in hits] == expected
    assert len(expected) == 8
    assert sorted(row for hit in hits for row in (hit.row, *hit.track_rows)) == list(range(40))
    assert [hit.row for hit in gallery.search(query, 2)] == expected[:2]


def test_what_has_expired_is_not_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the time of day, also where the clock is put forward and back."""
    gallery, _ = filled(tmp_path / "gallery", 9, expiries=[1.0, np.nan, 4e9] * 3)
    for now, there in ((3e9, {1, 2}), (5e9, {1}), (2e9, {1, 2})):
        monkeypatch.setattr("time.time", lambda now=now: now)
        assert {hit.row % 3 for hit in gallery.search(some_features(1)[0], 9)} == there


# --- what is refused ---


def test_features_of_another_model_are_refused_by_name(tmp_path: Path) -> None:
    gallery, features = filled(tmp_path / "gallery", 5)
    other = Gallery.open(tmp_path / "gallery", "b2" * 20)
    with pytest.raises(
        ReseenError, match=r"holds rows of .*a1a1a1a1a1a1.* none of .*b2b2b2b2b2b2.*cannot be compared"
    ):
        other.search(features[0])
    with pytest.raises(ReseenError, match=r"features have 7 dimensions .*cannot be compared"):
        gallery.search(features[0][:7])
    with pytest.raises(ReseenError, match="features have 7 dimensions"):
        gallery.add(features[:, :7], sources=["a"] * 5)
    other.add(features, sources=["a.jpg"] * 5)
    assert len(other) == len(Gallery.open(tmp_path / "gallery", MODEL)) == 5
    with pytest.raises(ReseenError, match=r"holds rows of .*say of which model"):
        Gallery.open(tmp_path / "gallery")
    with pytest.raises(ReseenError, match="opened with their model"):
        gallery.search("person.jpg")


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 0.0])
def test_a_feature_that_is_not_finite_is_refused_and_nothing_is_added(wrong: float, tmp_path: Path) -> None:
    gallery, features = filled(tmp_path / "gallery", 5)
    bad = features.copy()
    bad[3] = wrong
    with pytest.raises(ReseenError, match="feature 3 of 5 is zero or not finite"):
        gallery.add(bad, sources=["a.jpg"] * 5)
    with pytest.raises(ReseenError, match="zero or not finite"):
        gallery.search(bad[3])
    assert len(Gallery.open(tmp_path / "gallery")) == 5


def test_details_that_do_not_fit_are_one_line(tmp_path: Path) -> None:
    gallery, features = filled(tmp_path / "gallery", 3)
    for details, said in (
        ({}, "need sources"),
        ({"sources": ["a"]}, "3 features need as many details"),
        ({"sources": ["a"] * 3, "names": ["b"] * 3}, "rows have no names"),
        ({"sources": ["a"] * 3, "boxes": [[1, 2]] * 3}, "boxes"),
        ({"sources": ["a"] * 3, "cameras": ["front"] * 3}, "cameras"),
        ({"sources": [1, 2, 3]}, "sources"),
    ):
        with pytest.raises(ReseenError, match=rf"^[^\n]*{said}[^\n]*$"):
            gallery.add(features, **details)
    with pytest.raises(ReseenError, match="'noon' is no time"):
        gallery.search(features[0], after="noon")


def test_a_place_that_is_no_gallery_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ReseenError, match="is no gallery yet: reseen index"):
        Gallery.open(tmp_path / "none")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ReseenError, match="holds other files and no gallery"):
        Gallery.open(tmp_path, MODEL)
    with pytest.raises(ReseenError, match=r"^[^\n]+$"):
        Gallery.open(tmp_path / "notes.txt", MODEL).add(some_features(1), sources=["a"])


def test_the_region_is_the_documented_one_where_another_is_set_too(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"AWS_REGION": "eu-west-3", "AWS_DEFAULT_REGION": "eu-west-1"}.items():
        monkeypatch.setenv(name, value)
    assert Files("s3://footage/people").system.region == "eu-west-3"
