from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from reseen.data import examine
from reseen.errors import ReseenError
from reseen.evaluation.outlook import foresee
from scene_worlds import coco, cuhk_sysu, picture, prw, structs


def test_a_part_of_cuhk_sysu(tmp_path: Path) -> None:
    cuhk_sysu(tmp_path)
    (tmp_path / "Image/SSM/s6.jpg").write_bytes(b"")
    (tmp_path / "Image/SSM/s8.jpg").unlink()
    report = foresee(examine(tmp_path))
    assert report.name == "CUHK-SYSU"
    assert not report.healthy
    text = "\n".join(report.lines())
    for part in (
        "train: 3 scenes, 3 persons, 2 identities on 3 of them, 1 scenes without persons: published are "
        "11,206 scenes, 55,260 persons, 5,532 identities",
        "test: 4 scenes, 6 persons, 2 identities on 5 of them: published are 6,978 scenes",
        "queries: 2, galleries of 50, 100: published are 2,900",
        "s6.jpg is empty",
        "skipped: Image/SSM/s8.jpg: listed in Images.mat, but missing",
        "skipped: 1 box without an area",
        "gallery places",
        "no gallery of 500, 1000, 2000, 4000: TestG500.mat is missing",
        "not the whole CUHK-SYSU",
        "1 damaged image",
    ):
        assert part in text


def test_the_usual_gallery_is_missed(tmp_path: Path) -> None:
    text = "\n".join(examine(cuhk_sysu(tmp_path, sizes=(50,))).lines())
    assert "published results are for galleries of 100" in text


def test_a_damaged_protocol_is_a_warning(tmp_path: Path) -> None:
    cuhk_sysu(tmp_path)
    (tmp_path / "annotation/test/train_test/TestG100.mat").write_bytes(b"nothing")
    assert any("TestG100.mat is damaged" in warning for warning in foresee(examine(tmp_path)).warnings)


def test_a_whole_set_is_recognised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = {"train": {"scenes": 2, "persons": 3}, "test": {"scenes": 4}, "queries": {"": 2}}
    monkeypatch.setattr("reseen.data.scene_doctor.KNOWN", {"PRW": counts})
    report = examine(prw(tmp_path))
    assert report.warnings == ()
    assert sum("as published" in line for line in report.lines()) == 3
    assert (
        "  test: 4 scenes, 6 persons, 2 identities on 6 of them, 1 scenes without persons, 3 cameras (1, 2, 3)"
        in (report.lines()[2])
    )


def test_prw_without_its_test_part(tmp_path: Path) -> None:
    prw(tmp_path)
    (tmp_path / "frame_test.mat").unlink()
    warnings = examine(tmp_path).warnings
    assert "the test part is missing" in warnings
    assert "the queries part is missing" in warnings


def test_scenes_of_ones_own(tmp_path: Path) -> None:
    path = coco(tmp_path / "mine.json", {"a.jpg": [{"bbox": [1, 2, 3, 4]}, {"bbox": [9, 2, 3, 4]}]})
    assert examine(path).healthy
    assert examine(path).lines()[1:] == ["  train: 1 scenes, 2 persons", "  every image can be read"]


@pytest.mark.parametrize(("boxes", "word"), [([], "no person"), ([{"bbox": [1, 2, 3, 4]}], "1 person")])
def test_one_person_or_none_is_a_warning(tmp_path: Path, boxes: list[dict[str, object]], word: str) -> None:
    report = examine(coco(tmp_path / "mine.json", {"a.jpg": boxes}))
    assert [f"there is {word} to train on" in warning for warning in report.warnings] == [True]


def test_boxes_outside_are_counted_once_the_image_is_known(tmp_path: Path) -> None:
    prw(tmp_path)
    savemat(tmp_path / "annotations/c1s1_000001.jpg.mat", {"box_new": np.array([[3, 500, 30, 10, 10]])})
    assert any("1 box outside of their image" in line for line in examine(tmp_path).skipped)


@pytest.mark.parametrize(
    "box", [(np.nan, 3, 5, 5), (10, 10, -5, 8), (10, 10, 5, -8), (10, 10, 0, 8)], ids=str
)
def test_boxes_that_are_no_number_inverted_or_without_an_area_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, box: tuple[float, ...]
) -> None:
    said = "skipped: {} without an area, or no numbers at all (first in {})"
    prw(tmp_path / "prw")
    rows = np.array([[1, 2, 3, 10, 20], [3, *box]])
    savemat(tmp_path / "prw/annotations/c1s1_000001.jpg.mat", {"box_new": rows})
    report = examine(tmp_path / "prw")
    assert "  " + said.format("2 boxes", "c1s1_000001.jpg") in report.lines()  # one of a test frame
    assert report.splits[0].line().startswith("train: 2 scenes, 2 persons")
    cuhk_sysu(tmp_path / "cuhk")
    places = structs([{"idlocate": np.array([box]), "ishard": 0}], ("idlocate", "ishard"))
    images = [{"imname": f"s{n}.jpg", "nAppear": 1, "box": places} for n in range(1, 9)]
    table = {"Img": structs(images, ("imname", "nAppear", "box"))}
    savemat(tmp_path / "cuhk/annotation/Images.mat", table)
    report = examine(tmp_path / "cuhk")
    assert "  " + said.format("8 boxes", "s1.jpg") in report.lines()
    assert any("no person to train on" in warning for warning in report.warnings)


def test_a_scene_that_is_listed_and_not_there_is_named(tmp_path: Path) -> None:
    path = coco(
        tmp_path / "mine.json", {name: [{"bbox": [1, 2, 3, 4]}] for name in ("a.jpg", "b.jpg", "c.jpg")}
    )
    (tmp_path / "images/b.jpg").unlink()
    report = examine(path)
    assert report.skipped == ("mine.json: b.jpg does not exist",)
    assert (report.splits[0].line(), report.healthy) == ("train: 2 scenes, 2 persons", False)


def test_test_scenes_without_queries_are_a_warning(tmp_path: Path) -> None:
    prw(tmp_path)
    (tmp_path / "query_info.txt").unlink()
    assert any("there are no queries" in warning for warning in examine(tmp_path).warnings)


def test_crops_and_scenes_side_by_side_are_told_apart(tmp_path: Path) -> None:
    prw(tmp_path / "scenes")
    picture(tmp_path / "crops/bounding_box_train/0002_c1s1_000451_03.jpg")
    with pytest.raises(ReseenError, match="holds 2 data sets: give one of crops, scenes"):
        examine(tmp_path)
    assert examine(tmp_path / "crops").name == "Market-1501"
    with pytest.raises(ReseenError, match="a pattern for cameras or persons is for plain folders"):
        examine(tmp_path / "scenes", camera_pattern=r"c(\d)")
