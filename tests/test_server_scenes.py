"""Where a row was seen: the whole picture, or the frame of a film, with the person outlined; never another file."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from films import counting, film, number_of
from galleries import DIM
from reseen.config import ClusterConfig
from reseen.data.video import read_frame
from reseen.errors import ReseenError
from reseen.footage.finding import Finder
from reseen.gallery.server import Served
from reseen.gallery.server.scenes import Scenes, outlined
from serving import client_of, encoded, find_people, in_scenes, picture_of


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    root = tmp_path / "photos"
    root.mkdir()
    gallery = in_scenes(tmp_path / "gallery", root)
    film(root / "hall.mp4", counting(12, (120, 90)))
    finder = Finder(find_people, DIM, 8)
    state = Served(gallery, finder, detects=True, cluster=ClusterConfig(), scenes=Scenes({"": root}))
    with client_of(state) as client:
        yield client


def picture(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)


def test_a_person_in_a_scene_is_outlined_in_it(client: TestClient) -> None:
    rows = client.get("/api/rows").json()["rows"]
    assert [row["scene"] for row in rows] == [False, True, False, True, False, False]
    answer = client.get("/api/rows/1/scene")
    assert answer.headers["content-type"] == "image/jpeg"
    seen, before = (
        picture(answer.content),
        np.asarray(picture_of(*((200, 30, 30), (30, 160, 40), (40, 60, 210)))),
    )
    assert seen.shape == before.shape
    changed = np.abs(seen - before).max(2) > 110
    assert changed[10:80, 45:75].any()
    assert not changed[:, :40].any()  # the others
    assert not changed[20:70, 55:65].any()  # and the person in the box stay as they are
    frame = picture(client.get("/api/rows/3/scene").content)
    assert number_of(frame[:10, :40]) == 7


def test_nothing_but_pictures_below_the_folder_is_shown(client: TestClient) -> None:
    for row in (0, 2, 4, 5, 99):
        answer = client.get(f"/api/rows/{row}/scene")
        if row:  # a crop is a picture too; nobody is led to it
            assert answer.status_code == 404, row
            assert str(Path.cwd().anchor + "tmp") not in answer.text


def test_a_folder_that_was_indexed_under_a_name(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(picture_of((200, 30, 30), (40, 60, 210))))
    (tmp_path / "b.png").write_bytes(b"no picture")
    scenes = Scenes({"monday": tmp_path})
    assert [
        scenes._file(name) is not None for name in ("monday/a.png", "a.png", "monday/c.png", "tuesday/a.png")
    ] == [*(True, False, False, False)]
    gallery = in_scenes(tmp_path / "gallery", tmp_path)
    (hit,) = gallery.held.hits(np.array([1]), np.zeros(1, np.float32))
    assert not scenes.shows(hit)
    assert Scenes({"": tmp_path}).shows(hit)


def test_a_large_picture_is_made_smaller_with_its_box() -> None:
    seen = picture(outlined(Image.new("RGB", (4000, 2000), (128, 128, 128)), (2000, 1000, 3000, 1500)))
    assert seen.shape == (800, 1600, 3)
    ys, xs = np.nonzero(np.abs(seen - 128).max(2) > 60)
    assert (xs.min(), xs.max(), ys.min(), ys.max()) == pytest.approx((800, 1200, 400, 600), abs=20)


def test_a_frame_is_found_again_by_its_time(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", counting(12))
    assert [number_of(read_frame(path, number / 10)) for number in (0, 1, 4, 5, 11)] == [0, 1, 4, 5, 11]
    with pytest.raises(ReseenError, match=r"ends before 2\.0 s"):
        read_frame(path, 2.0)
    (tmp_path / "b.mp4").write_bytes(b"no film")
    with pytest.raises(ReseenError, match="cannot be read as a video"):
        read_frame(tmp_path / "b.mp4", 0.0)
