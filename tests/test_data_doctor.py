from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest
from PIL import Image

from reseen.data import examine
from reseen.data.benchmarks import KNOWN
from reseen.data.doctor import FEW
from reseen.errors import ReseenError
from reseen.evaluation.outlook import foresee


def touch(root: Path, *names: str) -> Path:
    for name in names:
        place = root / name
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.frombytes("RGB", (4, 8), hashlib.sha256(name.encode()).digest() * 3).save(place, "PNG")
    return root


def test_a_part_of_market(tmp_path: Path) -> None:
    touch(tmp_path, *(f"bounding_box_train/0002_c{camera}s1_000451_03.jpg" for camera in (1, 2, 3)))
    touch(tmp_path, "bounding_box_train/0007_c1s1_000451_03.jpg", "bounding_box_train/holiday.jpg")
    touch(tmp_path, "bounding_box_test/-1_c1s1_000401_03.jpg", "bounding_box_test/0000_c2s1_000151_01.jpg")
    (tmp_path / "bounding_box_test/0001_c2s1_000301_00.jpg").write_bytes(b"")
    report = examine(tmp_path)
    assert report.name == "Market-1501"
    assert not report.healthy
    assert report.splits[0].counts["images"] == 4
    text = "\n".join(report.lines())
    for part in (
        "train: 4 images, 2 identities, 3 cameras (1, 2, 3): published are 12,936 images, 751 identities",
        "gallery: 3 images, 1 identity (1 distractors, 1 junk), 2 cameras",
        "damaged: ",
        "0001_c2s1_000301_00.jpg is empty",
        "skipped: bounding_box_train/holiday.jpg",
        "the query part is missing: 3,368 images of 750 identities are published",
        "not the whole Market-1501",
        "3 of 6 cameras",
        "4 images to train on are too few: cluster.k1 is 30",
        "1 damaged image",
    ):
        assert part in text


def test_a_healthy_folder_of_ones_own(tmp_path: Path) -> None:
    touch(tmp_path, *(f"cam{number % 2}_{number}.jpg" for number in range(40)))
    report = foresee(examine(tmp_path, camera_pattern=r"cam(\d)"))
    assert report.healthy
    assert report.lines()[1:] == [
        "  train: 40 images, 2 cameras (0, 1)",
        "  sizes, width x height: 4x8 in the middle, 4x8 to 4x8",
        "  scores: none, nobody has said who is who (--identity-pattern, a folder per person, or a column identity)",
        "  every image can be read",
    ]


@pytest.mark.parametrize(
    ("pattern", "warning"),
    [(None, "no camera is known"), (r"(cam)", "all training images are of one camera")],
)
def test_camera_warnings(tmp_path: Path, pattern: str | None, warning: str) -> None:
    touch(tmp_path, *(f"cam{number}.jpg" for number in range(31)))
    report = examine(tmp_path, camera_pattern=pattern)
    assert len(report.warnings) == 1
    assert warning in report.warnings[0]


def test_a_whole_benchmark_is_recognised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = {"train": (31, 1), "query": (1, 1), "gallery": (2, 1)}
    monkeypatch.setitem(KNOWN, "DukeMTMC-reID", counts)
    touch(tmp_path, *(f"bounding_box_train/0001_c{n % 8 + 1}_f{n:07}.jpg" for n in range(31)))
    touch(tmp_path, "query/0002_c1_f0000001.jpg")
    touch(tmp_path, "bounding_box_test/0002_c2_f0000001.jpg", "bounding_box_test/-1_c2_f0000009.jpg")
    report = examine(tmp_path)
    assert report.healthy
    assert sum("as published" in line for line in report.lines()) == 3


def test_long_lists_are_cut_and_progress_is_told(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    for number in range(FEW + 5):
        (tmp_path / f"{number:03}.jpg").write_bytes(b"")
    told = []
    report = examine(tmp_path, progress=lambda done, total: told.append((done, total)))
    assert len(report.damaged) == FEW + 5
    assert "  damaged: and 5 more" in report.lines()
    assert told[-1] == (FEW + 6, FEW + 6)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(ReseenError, match="no folder"):
        examine(tmp_path / "nowhere")


def test_nothing_to_train_on(tmp_path: Path) -> None:
    touch(tmp_path, "bounding_box_test/0002_c2_f0000001.jpg")
    assert "there is nothing to train on" in examine(tmp_path).warnings


def test_pictures_that_are_twice_are_named_by_part(tmp_path: Path) -> None:
    touch(tmp_path, "train/ann/1.png", "train/ann/2.png", "query/bob/1.png", "gallery/bob/2.png")
    for here, there in (
        ("train/ann/1.png", "train/ann/3.png"),
        ("train/ann/2.png", "gallery/ann/4.png"),
        ("query/bob/1.png", "gallery/bob/5.png"),
    ):
        (tmp_path / there).parent.mkdir(exist_ok=True)
        shutil.copy(tmp_path / here, tmp_path / there)
    said = "\n".join(examine(tmp_path).warnings)
    assert "1 picture more than once in train" in said
    assert "1 picture of train also in gallery" in said
    assert "4.png): training needs --train-on-test" in said
    assert "5.png): never an answer to itself" in said


@pytest.mark.parametrize(
    ("names", "pattern", "scores", "warning"),
    [
        (
            ("ann/1", "ann/2", "bob/1"),
            None,
            "which reseen split makes; each sub-folder would be a person",
            None,
        ),
        (
            ("train/a/c1_1", "query/b/c1_1", "gallery/b/c2_1"),
            r"c(\d)",
            "cross-camera, scored 1 of 1 queries",
            None,
        ),
        (
            ("train/a/c1_1", "query/b/c1_1", "gallery/b/c1_2", "query/x/c1_1", "gallery/y/c1_2"),
            r"c(\d)",
            "same-camera, scored 1 of 2 queries: 1 nowhere in the gallery (--protocol same-camera)",
            "camera: 1 only under the same, 1 nowhere in the gallery; give images of another camera, or score",
        ),
        (
            ("train/a/1", "test/b/1", "test/b/2"),
            None,
            "same-camera, scored 1 of 1 queries (--protocol same-camera)",
            "1 under cameras that nobody knows; say which camera took each image",
        ),
        (
            ("train/b/1", "query/b/2", "gallery/b/3"),
            None,
            "same-camera, scored 1 of 1 queries",
            "1 persons are trained on and tested on",
        ),
        (("query/b/2", "train/b/1"), None, "the gallery part is missing", None),
    ],
    ids=str,
)
def test_what_can_be_scored_is_foreseen(
    tmp_path: Path, names: tuple[str, ...], pattern: str | None, scores: str, warning: str | None
) -> None:
    report = foresee(examine(touch(tmp_path, *(f"{name}.png" for name in names)), camera_pattern=pattern))
    assert scores in report.facts[1]
    assert warning is None or any(warning in line for line in report.warnings)


def test_an_answer_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    root = touch(tmp_path, *(f"{name}.png" for name in ("train/a/c1_1", "query/b/c1_1", "gallery/b/c2_1")))
    (root / "gallery/b/c2_1.png").write_bytes(b"damaged")
    touch(root, "gallery/d/c2_1.png")
    (warning,) = foresee(examine(root, camera_pattern=r"c(\d)")).warnings[-1:]
    assert "0 only under the same, 1 nowhere in the gallery" in warning


def test_images_that_are_hardly_crops_are_a_warning(tmp_path: Path) -> None:
    Image.new("RGB", (640, 360)).save(tmp_path / "a.png")
    assert any("100% of the images are wider than high" in warning for warning in examine(tmp_path).warnings)
