"""Models in a program: a scene in, its persons out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import reseen
from reseen.data import open_search_data
from reseen.errors import ReseenError
from reseen.evaluation.search import find_persons
from reseen.records import SearchData
from reseen.training import trained_config


@pytest.fixture(scope="module")
def data(scenes_folder: Path) -> SearchData:
    return open_search_data(scenes_folder)


# --- in a program ---


def test_person_searcher_finds_what_is_scored(search_run: Path, data: SearchData) -> None:
    searcher = reseen.PersonSearcher.load(search_run)
    probe = data.probes[0]
    found = find_persons(
        searcher.network, data.test, data.test_names, trained_config(search_run), probes=data.probes
    )
    scene = data.test[probe.scene]
    expected, seen = found.detections[data.test_names[probe.scene]], searcher(scene.path)
    assert len(seen.boxes) == len(expected.boxes) > 0
    order = np.argsort(-expected.scores, kind="stable")
    np.testing.assert_allclose(seen.boxes, expected.boxes[order], atol=1e-3)
    np.testing.assert_allclose(seen.scores, expected.scores[order], atol=1e-5)
    np.testing.assert_allclose(seen.features, expected.features[order], atol=1e-5)
    np.testing.assert_allclose(searcher.embed(scene.path, probe.box[None])[0], found.probes[0], atol=1e-5)
    sure = searcher(scene.path, min_score=0.5)
    assert len(sure.boxes) == (expected.scores >= 0.5).sum()


def test_a_scene_is_a_path_an_image_or_an_array(search_run: Path, data: SearchData, tmp_path: Path) -> None:
    searcher = reseen.PersonSearcher.load(
        search_run / "checkpoint" / "best-on-test.safetensors", device="cpu"
    )
    path = data.test[0].path
    with Image.open(path) as image:
        scenes = [str(path), image.copy(), np.array(image)]
        turned = image.rotate(90, expand=True)  # upright again by its EXIF orientation
        exif = Image.Exif()
        exif[0x0112] = 6
        turned.save(tmp_path / "turned.png", exif=exif)
    expected = searcher(path)
    with Image.open(tmp_path / "turned.png") as image:
        for scene in (*scenes, image):
            np.testing.assert_array_equal(searcher(scene).boxes, expected.boxes)
    for scene in (np.zeros((4, 5, 3)), np.zeros((3, 4, 5, 3), np.uint8), None, path.parent / "none.png"):
        with pytest.raises(ReseenError):
            searcher(scene)
    assert searcher(np.zeros((40, 60), np.uint8)).features.shape[1] == 16
    assert searcher.embed(path, []).shape == (0, 16)


@pytest.mark.parametrize(
    "box", [[9, 5, 5, 9], [5, 5, 5, 9], [900, 5, 950, 9], [float("nan"), 0, 1, 1]], ids=str
)
def test_a_box_that_shows_nobody_is_one_line(search_run: Path, data: SearchData, box: list[float]) -> None:
    searcher = reseen.PersonSearcher.load(search_run)
    with pytest.raises(ReseenError, match=r"box 1 is .* shows nobody"):
        searcher.embed(data.test[0].path, [[1, 1, 9, 9], box])
    with pytest.raises(ReseenError, match="rows of x1"):
        searcher.embed(data.test[0].path, [1, 2, 3, 4])


def test_a_model_for_crops_is_no_person_searcher(two_step_run: Path) -> None:
    with pytest.raises(ReseenError, match="model for crops"):
        reseen.PersonSearcher.load(two_step_run / "reid")
    with pytest.raises(AttributeError):
        _ = reseen.PersonSeeker
