"""From files to rows: what is listed at a path, who is found in it, and what a row says of them."""

from __future__ import annotations

import io
import json
import math
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from films import cut, film
from reseen.errors import ReseenError
from reseen.footage import STILL, Finder, Rows, Sampling, finder, joined, open_footage, persons_in
from reseen.inference import Embedder, PersonSearcher, load_model
from reseen.street import draw_walks
from scene_worlds import prw

USUAL = Sampling()


@pytest.fixture(scope="module")
def embedder(trained: tuple[Path, str]) -> Embedder:
    model = load_model(trained[0])
    assert isinstance(model, Embedder)
    return model


@pytest.fixture(scope="module")
def searcher(searched: tuple[Path, str]) -> PersonSearcher:
    model = load_model(searched[0])
    assert isinstance(model, PersonSearcher)
    return model


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds of the drawn street at four frames a second."""
    frames = draw_walks(1, 1, [1, 2, 3], seconds=3, rate=4)
    return film(
        tmp_path_factory.mktemp("walk") / "c2_20260131_120000.mkv",
        (np.asarray(f.image) for f in frames),
        rate=4,
    )


def rows_of(path: Path, who: Finder, sampling: Sampling = USUAL, **options: Any) -> tuple[Rows, list[str]]:
    parts = [part for job in open_footage(path, **options).jobs for part in persons_in(job, who, sampling)]
    return joined([part.rows for part in parts]), [line for part in parts for line in part.problems]


# --- what there is at a path ---


def test_a_folder_holds_images_and_films_at_any_depth(tmp_path: Path, walk: Path) -> None:
    for name in ("b/c1_x.jpg", "a.PNG", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "b" / walk.name).write_bytes(walk.read_bytes())
    footage = open_footage(tmp_path, whole=False, camera_pattern=r"c(\d)_", time_pattern=r"(\d{8}_\d{6})")
    assert footage.root == tmp_path
    assert [[source.name for source in job] for job in footage.jobs] == [
        ["a.PNG", "b/c1_x.jpg"],
        [f"b/{walk.name}"],
    ]
    assert [source.camera for source in footage.sources] == [-1, 1, 2]
    assert math.isnan(footage.sources[0].start)
    assert footage.sources[2].start == datetime(2026, 1, 31, 12, tzinfo=UTC).timestamp()
    assert footage.skipped == ("notes.txt: no image's or video's file name",)


def test_one_file_is_footage_too(walk: Path) -> None:
    (job,) = open_footage(walk, whole=False).jobs
    assert [(source.path, source.name) for source in job] == [(walk, walk.name)]


def test_a_benchmark_of_crops_gives_all_its_parts_with_their_cameras(world: Path) -> None:
    footage = open_footage(world, whole=True)
    assert len(footage.sources) == len(list(world.rglob("*.png")))
    assert {source.name.split("/")[0] for source in footage.sources} == {
        "bounding_box_train",
        "bounding_box_test",
        "query",
    }
    assert all(f"_c{source.camera}s" in source.name for source in footage.sources)


def test_scenes_have_their_own_boxes_only_where_these_are_wanted(tmp_path: Path) -> None:
    root = prw(tmp_path)
    footage = open_footage(root, whole=False)
    assert {source.name for source in footage.sources} >= {"frames/c1s1_000001.jpg"}
    assert all(source.boxes is None for source in footage.sources)
    annotated = open_footage(root, whole=False, annotated=True)
    assert [source.name for source in annotated.sources] == [source.name for source in footage.sources]
    assert all(source.boxes is not None for source in annotated.sources)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"whole": True}, r"is a video, .*--detector FILE.onnx"),
        ({"whole": False, "annotated": True}, "--annotated is for a COCO"),
        ({"whole": False, "camera_pattern": "x(9)"}, "matches no image"),
        ({"whole": False, "time_pattern": "("}, r"time pattern .* is not a regular expression"),
        ({"whole": False, "time_pattern": "c2"}, "has 0 groups"),
        ({"whole": False, "time_pattern": r"c(\d)"}, "finds no time like"),
    ],
)
def test_what_cannot_be_listed_is_one_line(options: dict[str, Any], why: str, walk: Path) -> None:
    with pytest.raises(ReseenError, match=why):
        open_footage(walk.parent, **options)


def test_nothing_to_embed_is_one_line(tmp_path: Path, scenes_folder: Path) -> None:
    with pytest.raises(ReseenError, match=r"there is no .*nowhere"):
        open_footage(tmp_path / "nowhere", whole=True)
    with pytest.raises(ReseenError, match="holds no image and no video"):
        open_footage(tmp_path, whole=True)
    with pytest.raises(ReseenError, match="holds scenes, and this model embeds crops"):
        open_footage(scenes_folder, whole=True)


# --- crops ---


def test_rows_of_crops_are_what_the_embedder_computes(world: Path, embedder: Embedder) -> None:
    rows, problems = rows_of(world, finder(embedder), whole=True)
    assert problems == []
    paths = [world / name for name in rows.sources]
    np.testing.assert_allclose(rows.features, embedder(paths), atol=1e-5)
    assert (rows.boxes == [0, 0, 16, 32]).all()
    assert (rows.scores == 1).all()
    assert (rows.tracks == STILL).all()
    assert (rows.frames == STILL).all()
    assert np.isnan(rows.seconds).all()
    assert np.isnan(rows.times).all()
    with Image.open(io.BytesIO(rows.thumbnails[0])) as picture, Image.open(paths[0]) as crop:
        assert picture.size == crop.size
        difference = np.asarray(picture.convert("L"), int) - np.asarray(crop.convert("L"), int)
        assert np.abs(difference).mean() < 8


def test_files_that_cannot_be_read_are_said_and_stop_nothing(tmp_path: Path, embedder: Embedder) -> None:
    grey = Image.new("RGB", (16, 32), (90, 120, 60))
    deep = Image.fromarray(np.full((32, 16), 40_000, np.uint16))
    grey.save(tmp_path / "a.png")
    grey.convert("CMYK").save(tmp_path / "b.jpg")
    deep.save(tmp_path / "c.png")
    grey.save(tmp_path / "d.gif", save_all=True, append_images=[Image.new("RGB", (16, 32))])
    (tmp_path / "e.png").write_bytes((tmp_path / "a.png").read_bytes()[:60])
    (tmp_path / "f.jpg").touch()
    (tmp_path / os.fsdecode(b"g\xff.png")).write_bytes((tmp_path / "a.png").read_bytes())
    rows, problems = rows_of(tmp_path, finder(embedder), whole=True)
    assert rows.sources == ("a.png", "b.jpg", "c.png", "d.gif", os.fsdecode(b"g\xff.png"))
    assert [line.split("/")[-1] for line in problems] == [
        "e.png is truncated or damaged: replace or remove it",
        "f.jpg is empty (0 bytes): replace or remove it",
    ]
    assert rows.features[0] @ rows.features[4] > 0.999


def test_a_folder_of_nothing_but_bad_files_gives_no_rows(tmp_path: Path, embedder: Embedder) -> None:
    (tmp_path / "f.jpg").touch()
    rows, problems = rows_of(tmp_path, finder(embedder), whole=True)
    assert (len(rows), rows.features.shape, len(problems)) == (0, (0, embedder.dim), 1)


# --- scenes ---


def test_rows_of_scenes_are_what_the_searcher_finds(scenes_folder: Path, searcher: PersonSearcher) -> None:
    rows, problems = rows_of(scenes_folder, finder(searcher, min_score=0.2), whole=False)
    assert problems == []
    first = rows.sources[0]
    alone = searcher(scenes_folder / first, min_score=0.2)
    mine = [row for row, name in enumerate(rows.sources) if name == first]
    np.testing.assert_allclose(rows.features[mine], alone.features, atol=1e-5)
    np.testing.assert_allclose(rows.boxes[mine], alone.boxes, atol=1e-3)
    assert (rows.scores >= 0.2).all()
    assert len(rows_of(scenes_folder, finder(searcher, min_score=0.9), whole=False)[0]) < len(rows)


@pytest.mark.parametrize("kind", ["embedder", "searcher"])
def test_boxes_that_are_known_are_taken(
    kind: str, scenes_folder: Path, request: pytest.FixtureRequest
) -> None:
    model = request.getfixturevalue(kind)
    rows, _ = rows_of(scenes_folder, finder(model), whole=False, annotated=True)
    coco = [json.loads((scenes_folder / f"{part}.json").read_text()) for part in ("train", "test")]
    assert len(rows) == sum(len(part["annotations"]) for part in coco)
    assert rows.features.shape == (len(rows), model.dim)
    assert (rows.scores == 1).all()


def test_boxes_fit_what_is_seen_where_a_file_is_turned(tmp_path: Path, embedder: Embedder) -> None:
    """A box in an image that its EXIF orientation turns; boxes outside of it are said."""
    upright = np.zeros((40, 60, 3), np.uint8)
    upright[5:35, 40:55] = (200, 30, 30)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    Image.fromarray(np.rot90(upright)).save(tmp_path / "a.png", exif=exif)
    Image.fromarray(upright[5:35, 40:55]).save(tmp_path / "crop.png")
    boxes = [[40, 5, 15, 30], [70, 5, 15, 30]]
    annotations = [{"image_id": 1, "bbox": box} for box in boxes]
    (tmp_path / "coco.json").write_text(
        json.dumps({"images": [{"id": 1, "file_name": "a.png"}], "annotations": annotations})
    )
    rows, problems = rows_of(tmp_path / "coco.json", finder(embedder), whole=False, annotated=True)
    assert rows.boxes.tolist() == [[40, 5, 55, 35]]
    assert rows.features[0] @ embedder(tmp_path / "crop.png")[0] > 0.9999
    assert problems == ["a.png: 1 boxes lie outside of it"]


# --- films ---


def test_rows_of_a_film_say_when_and_who_walks(walk: Path, searcher: PersonSearcher) -> None:
    who = finder(searcher, min_score=0.2)
    rows, problems = rows_of(walk, who, camera_pattern=r"c(\d)_", time_pattern=r"(\d{8}_\d{6})", whole=False)
    assert problems == []
    assert set(rows.frames) <= {0, 2, 4, 6, 8, 10}
    assert len(set(rows.frames)) > 3
    np.testing.assert_allclose(rows.seconds, rows.frames / 4)
    np.testing.assert_allclose(rows.times - rows.seconds, datetime(2026, 1, 31, 12, tzinfo=UTC).timestamp())
    assert (rows.cameras == 2).all()
    assert 0 <= rows.tracks.min() < rows.tracks.max() + 1 < len(rows)
    for number in set(rows.frames):
        here = rows.tracks[rows.frames == number]
        assert len(set(here)) == len(here)  # nobody is twice in a frame
    half, _ = rows_of(walk, who, Sampling(every=1), whole=False)
    assert set(half.frames) <= {0, 4, 8}


def test_a_film_goes_on_where_it_was_stopped_with_the_same_rows(walk: Path, searcher: PersonSearcher) -> None:
    who = finder(searcher, min_score=0.2)
    who = Finder(who.find, who.dim, batch=2)
    (job,) = open_footage(walk, whole=False).jobs
    parts = list(persons_in(job, who, USUAL))
    assert [part.images for part in parts] == [0, 0, 0, 1]
    for done in (1, 2, 3):
        before = joined([part.rows for part in parts[:done]])
        rest = list(persons_in(job, who, USUAL, before=before, frame=parts[done - 1].frame))
        assert len(rest) == len(parts) - done
        for one, other in zip(rest, parts[done:], strict=True):
            for name, column in vars(one.rows).items():
                np.testing.assert_array_equal(column, getattr(other.rows, name), err_msg=name)


def test_a_damaged_film_gives_what_is_left_of_it(
    walk: Path, tmp_path: Path, searcher: PersonSearcher
) -> None:
    (tmp_path / "film.mkv").write_bytes(walk.read_bytes())
    (tmp_path / "none.mp4").write_bytes(b"no film")
    short = cut(tmp_path / "film.mkv", 0.7)
    (tmp_path / "film.mkv").unlink()
    rows, problems = rows_of(tmp_path, finder(searcher, min_score=0.2), whole=False)
    assert set(rows.sources) == {short.name}
    assert len(problems) == 2
    assert "of 3.0 seconds: cut or damaged" in problems[0]
    assert "none.mp4 cannot be read as a video" in problems[1]
