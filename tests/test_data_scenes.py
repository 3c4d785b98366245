"""Readers of scenes, their protocols, several sets together, and what happens to bad files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from reseen.data import fraction, join, open_galleries, open_search_data, scan_scenes
from reseen.errors import ReseenError
from reseen.records import Probe, Scene, SearchData
from scene_worlds import (
    as_dict,
    cells,
    coco,
    cuhk_sysu,
    picture,
    prw,
)

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("variable", ["box_new", "anno_file", "anno_previous"])
def test_prw_is_read(tmp_path: Path, variable: str) -> None:
    data = open_search_data(prw(tmp_path, variable=variable))
    assert data.name == "PRW"
    assert data.train_names == ("c1s1_000001.jpg", "c2s1_000002.jpg")
    assert [scene.camera for scene in data.test] == [1, 2, 3, 3]
    assert data.train[0].boxes.tolist() == [[2, 3, 12, 23], [30, 3, 40, 23]]
    # x, y, x + w, y + h, then truncated: 2.6 + 10.5 = 13.1, 3.2 + 20.9 = 24.1
    assert data.train[1].boxes.tolist() == [[2, 3, 13, 24]]
    assert data.test[0].boxes[0].tolist() == [
        0,
        3,
        10,
        23,
    ]  # a negative x becomes 0 before the width is added
    assert data.train_identities is not None
    assert data.test_identities is not None
    assert [labels.tolist() for labels in data.train_identities] == [[1, -1], [1]]
    # 0 is a person; the box without a width is gone with its identity
    assert [labels.tolist() for labels in data.test_identities] == [[0, 7], [0], [0, 0, 7], []]
    assert data.skipped == ("1 box without an area, or no numbers at all (first in c2s1_000012.jpg)",)


@pytest.mark.parametrize(("queries", "ending"), [("query_info.txt", "\r\n"), ("query_info_2057.txt", "\n")])
def test_prw_galleries_are_all_other_frames(tmp_path: Path, queries: str, ending: str) -> None:
    data = open_search_data(prw(tmp_path, queries=queries, ending=ending))
    assert [(probe.scene, probe.identity, probe.box.tolist()) for probe in data.probes] == [
        (1, 0, [4, 4, 14, 24]),
        (0, 7, [20, 3, 30, 23]),
    ]
    found = open_galleries(data)
    assert as_dict(found.targets[0]) == {
        "c1s1_000011.jpg": [0, 3, 10, 23],
        "c3s1_000013.jpg": [5, 5, 15, 25],  # the first of two boxes of this person
        "c3s1_000014.jpg": None,
    }
    assert as_dict(found.targets[1]) == {
        "c2s1_000012.jpg": None,
        "c3s1_000013.jpg": [15, 15, 25, 35],
        "c3s1_000014.jpg": None,
    }
    with pytest.raises(ReseenError, match="it has one gallery"):
        open_galleries(data, 100)


def test_cross_camera_leaves_the_own_camera_out(tmp_path: Path) -> None:
    prw(tmp_path)
    (tmp_path / "query_info.txt").write_text("0 5 5 10 20 c3s1_000013\n7 15 15 10 20 c3s1_000013\n")
    found = open_galleries(open_search_data(tmp_path), cross_camera=True)
    assert list(found.targets[0]) == ["c1s1_000011.jpg", "c2s1_000012.jpg"]
    assert [targets.found for targets in found.targets] == [2, 1]


def test_prw_leaves_out_what_is_missing_and_says_so(tmp_path: Path) -> None:
    prw(tmp_path)
    (tmp_path / "frames/c1s1_000001.jpg").unlink()
    (tmp_path / "annotations/c2s1_000002.jpg.mat").unlink()
    savemat(tmp_path / "annotations/c3s1_000014.jpg.mat", {"boxes": np.zeros((1, 5))})
    savemat(tmp_path / "annotations/c3s1_000013.jpg.mat", {"box_new": np.zeros((2, 4))})
    with (tmp_path / "query_info.txt").open("a") as file:
        file.write("7 20 3 10 20 c9s9_999999\n7 20 3 x 20 c1s1_000011\n7 20 3 nan 20 c1s1_000011\n"
                   "7 20 3 0 20 c1s1_000011\n7 2.0.0 3 5 20 c1s1_000011\n\n")  # fmt: skip
    data = open_search_data(tmp_path)
    assert data.train == ()
    assert data.test_names == ("c1s1_000011.jpg", "c2s1_000012.jpg")
    text = "\n".join(data.skipped)
    for part in (
        "frames/c1s1_000001.jpg: listed in frame_train.mat, but missing",
        "c2s1_000002.jpg.mat cannot be read",
        "has no variable box_new or anno_file or anno_previous (it holds boxes)",
        "c3s1_000013.jpg.mat is no table of id, x, y, width, height",
        "query_info.txt line 3: c9s9_999999.jpg is not among the test frames",
        *(f"query_info.txt line {line}: not 'ID X Y WIDTH HEIGHT FRAME'" for line in (4, 5, 6, 7)),
    ):
        assert part in text
    assert len(data.probes) == 2


def test_prw_of_which_nothing_can_be_used_is_an_error(tmp_path: Path) -> None:
    prw(tmp_path)
    for path in (tmp_path / "frames").iterdir():
        path.unlink()
    with pytest.raises(
        ReseenError, match=r"no frame that it lists can be used: frames/c1s1_000001\.jpg: listed"
    ):
        open_search_data(tmp_path)
    savemat(tmp_path / "frame_train.mat", {"img_index": cells(["c1s1_000001"])})
    with pytest.raises(ReseenError, match=r"frame_train\.mat has no variable img_index_train"):
        open_search_data(tmp_path)
    (tmp_path / "frame_train.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(400))
    with pytest.raises(ReseenError, match=r"save it with the option -v7"):
        open_search_data(tmp_path)


def test_prw_without_a_test_list_or_queries(tmp_path: Path) -> None:
    prw(tmp_path)
    (tmp_path / "query_info.txt").unlink()
    assert open_search_data(tmp_path).read_gallery is None
    (tmp_path / "frame_test.mat").unlink()
    data = open_search_data(tmp_path)
    assert (len(data.train), data.test, data.probes) == (2, (), ())
    assert any("frame_test.mat: is missing" in line for line in data.skipped)


def test_the_real_frames_of_prw() -> None:
    folder = ROOT.parent / "shared" / "data" / "prw-mini"
    if not folder.is_dir():
        pytest.skip("16 real frames of PRW, which may not be passed on, are not here")
    data = open_search_data(folder)
    assert data.train_identities is not None
    labels = np.concatenate(data.train_identities)
    assert (len(data.train), data.train_boxes, len(np.unique(labels[labels >= 0]))) == (16, 61, 18)
    assert len(open_galleries(data).targets) == len(data.probes) == 13
    assert data.skipped == ()


# COCO


def test_coco_boxes_without_identities(tmp_path: Path) -> None:
    path = coco(
        tmp_path / "mine.json",
        {
            "a.jpg": [{"bbox": [1, 2, 10, 20.5]}, {"bbox": [1, 2, 0, 5]}, {"bbox": [9, 9, -3, 5]}],
            "b/c.jpg": [
                {"bbox": [float("nan"), 2, 3, 4]},
                {"bbox": [1, 2, 3]},
                {"bbox": "wide"},
                {"bbox": [1, 1, 1e300, 2]},
            ],
        },
    )
    data = open_search_data(path)
    assert (data.name, data.train_names) == ("mine", ("a.jpg", "b/c.jpg"))
    assert data.train[0].boxes.tolist() == [[1, 2, 11, 22.5]]
    assert data.train[1].boxes.shape == (0, 4)
    assert data.train_identities is None
    assert data.test == ()
    assert data.skipped == ("6 boxes without an area, or no numbers at all (first in a.jpg)",)


def test_coco_keeps_persons_only(tmp_path: Path) -> None:
    path = coco(
        tmp_path / "mine.json",
        {
            "a.jpg": [
                {"bbox": [1, 2, 3, 4], "category_id": 1},
                {"bbox": [1, 2, 3, 5], "category_id": 18},
                {"bbox": [1, 2, 3, 6], "category_id": [1]},
                {"bbox": [1, 2, 3, 7], "category_id": 1, "iscrowd": 1},
                {"bbox": [1, 2, 3, 8], "category_id": 1, "image_id": 77},
            ]
        },
        categories=[{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}],
    )
    data = open_search_data(path)
    assert data.train[0].boxes.tolist() == [[1, 2, 4, 6]]
    assert data.skipped == (
        "1 box of the category dog (first in mine.json)",
        "1 box of a category that is not listed (first in mine.json)",
        "1 box around a crowd (first in mine.json)",
        "1 box of an image that it does not list (first in mine.json)",
    )


def test_coco_with_identities_cameras_and_a_test_part(tmp_path: Path) -> None:
    coco(tmp_path / "train.json", {"a.jpg": [{"bbox": [1, 2, 3, 4], "person_id": 0}, {"bbox": [5, 2, 3, 4]}]})
    box = [1, 2, 3, 4]
    coco(
        tmp_path / "test.json",
        {
            "d.jpg": [{"bbox": box, "person_id": 5}, {"bbox": [9, 9, 3, 4], "person_id": 6}],
            "e.jpg": [{"bbox": box, "person_id": 5}],
            "f.jpg": [{"bbox": box, "person_id": 5}, {"bbox": [9, 9, 3, 4], "person_id": None}],
        },
        cameras={"d.jpg": "door", "e.jpg": "door", "f.jpg": "yard"},
    )
    data = open_search_data(tmp_path)
    assert data.train_identities is not None
    assert data.train_identities[0].tolist() == [0, -1]
    assert [scene.camera for scene in data.test] == [1, 1, 2]
    # one query of person 5 for each camera, none of person 6, who is in one scene only
    assert [(probe.identity, probe.scene) for probe in data.probes] == [(5, 0), (5, 2)]
    assert as_dict(open_galleries(data).targets[1]) == {"d.jpg": [1, 2, 4, 6], "e.jpg": [1, 2, 4, 6]}


def test_coco_queries_that_are_marked(tmp_path: Path) -> None:
    box = {"bbox": [1, 2, 3, 4], "person_id": "ann"}
    coco(tmp_path / "test.json", {"d.jpg": [box], "e.jpg": [{**box, "query": True}], "f.jpg": [box]})
    data = open_search_data(tmp_path)
    assert [(probe.identity, probe.scene) for probe in data.probes] == [(0, 1)]
    assert data.train == ()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", 'has no list "images"'),
        ('{"images": [], "annotations": []}', "lists no image"),
        ('{"images": [3], "annotations": []}', 'has no list "images" of records'),
        ('{"images": [{"id": 1}], "annotations": []}', r"images\[0\] lacks file_name"),
        ('{"images": [{"id": 1, "file_name": 3}], "annotations": []}', "has no text as file_name"),
        ('{"images": [{"id": null, "file_name": "a.jpg"}], "annotations": []}', "needs an id of its own"),
        ('{"images": [{"id": 1, "file_name": "a.jpg"}]}', 'has no list "annotations"'),
        ('{"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [{"bbox": []}]}', "lacks image_id"),
        ('{"images": [{"id": 1, "file_name": "a.jpg", "camera": -4}], "annotations": []}', "cannot be -4"),
        ('{"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": []}', "none of its 1 images exists"),
    ],
)
def test_coco_files_that_cannot_be_used_are_one_clear_line(
    tmp_path: Path, content: str, message: str
) -> None:
    path = tmp_path / "mine.json"
    path.write_text(content)
    with pytest.raises(ReseenError, match=message) as error:
        open_search_data(path)
    assert "\n" not in str(error.value)


def test_two_images_with_one_id_are_refused_and_one_listed_twice_is_left_out(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    images = [{"id": number, "file_name": "a.jpg"} for number in (1, 1)]
    (tmp_path / "mine.json").write_text(json.dumps({"images": images, "annotations": []}))
    with pytest.raises(ReseenError, match=r"images\[1\] needs an id of its own"):
        open_search_data(tmp_path / "mine.json")
    images[1]["id"] = 2
    (tmp_path / "mine.json").write_text(json.dumps({"images": images, "annotations": []}))
    assert open_search_data(tmp_path / "mine.json").skipped == ("mine.json: a.jpg is listed twice",)


# Which folder is which


def test_layouts_are_told_apart(tmp_path: Path) -> None:
    prw(tmp_path / "sets" / "a")
    assert open_search_data(tmp_path / "sets").root == tmp_path / "sets" / "a"
    cuhk_sysu(tmp_path / "sets" / "b")
    with pytest.raises(ReseenError, match="holds 2 data sets with scenes: give one of a, b"):
        open_search_data(tmp_path / "sets")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ReseenError, match="holds no scenes with person boxes"):
        open_search_data(tmp_path / "empty")
    with pytest.raises(ReseenError, match=r"there is no .*nowhere"):
        open_search_data(tmp_path / "nowhere")
    (tmp_path / "note.txt").write_text("a note")
    with pytest.raises(ReseenError, match="holds no scenes"):
        open_search_data(tmp_path / "note.txt")


# Several sets together, and a part of one


def test_sets_are_joined_without_a_collision(tmp_path: Path) -> None:
    first, second = open_search_data(prw(tmp_path / "a")), open_search_data(prw(tmp_path / "b"))
    third = open_search_data(cuhk_sysu(tmp_path / "c"))
    both = join([first, second, third])
    assert both.name == "PRW+PRW-2+CUHK-SYSU"
    assert both.train_names[:3] == ("PRW/c1s1_000001.jpg", "PRW/c2s1_000002.jpg", "PRW-2/c1s1_000001.jpg")
    assert both.train_names[-1] == "CUHK-SYSU/s3.jpg"
    assert both.train_boxes == first.train_boxes + second.train_boxes + third.train_boxes
    assert both.train_offsets.tolist() == [0, 2, 3, 5, 6, 8, 9, 9]
    assert both.train_identities is not None
    assert [labels.tolist() for labels in both.train_identities] == [
        [1, -1],
        [1],
        [3, -1],
        [3],
        [4, 5],
        [4],
        [],
    ]
    assert both.probes == first.probes
    assert len(open_galleries(both).targets) == 2
    assert any(line.startswith("PRW-2: ") for line in both.skipped)
    assert join([first]) is first
    with pytest.raises(ReseenError, match="is in two of the sets"):
        join([first, first])
    with pytest.raises(ReseenError, match="no data set to join"):
        join([])


def test_joining_sets_of_which_one_has_no_identities(tmp_path: Path) -> None:
    named = open_search_data(prw(tmp_path / "a"))
    nameless = open_search_data(coco(tmp_path / "b.json", {"a.jpg": [{"bbox": [1, 2, 3, 4]}]}))
    both = join([nameless, named])
    assert both.train_identities is not None
    assert [labels.tolist() for labels in both.train_identities] == [[-1], [1, -1], [1]]
    assert (
        join([nameless, open_search_data(coco(tmp_path / "c.json", {"c.jpg": []}))]).train_identities is None
    )


def test_a_fraction_is_random_nested_and_repeatable(tmp_path: Path) -> None:
    path = coco(
        tmp_path / "a.json", {f"{n}.jpg": [{"bbox": [n, 1, 2, 3], "person_id": n}] for n in range(20)}
    )
    data = open_search_data(path)
    half, quarter = fraction(data, 0.5, seed=3), fraction(data, 0.25, seed=3)
    assert (len(half.train), len(quarter.train)) == (10, 5)
    assert set(quarter.train_names) < set(half.train_names)
    assert (
        half.train_names == fraction(data, 0.5, seed=3).train_names != fraction(data, 0.5, seed=4).train_names
    )
    assert half.train_identities is not None
    assert [scene.boxes[0, 0] for scene in half.train] == [labels[0] for labels in half.train_identities]
    assert fraction(data, 1, seed=0).train_names == data.train_names
    assert len(fraction(data, 0.001, seed=0).train) == 1
    for share in (0, 1.5, float("nan")):
        with pytest.raises(ReseenError, match="give a share above 0"):
            fraction(data, share, seed=0)


# What can be used


def test_bad_images_and_boxes_outside_are_left_out_and_counted(tmp_path: Path) -> None:
    prw(tmp_path)
    rows = np.array([[4, 60, 3, 5, 5], [5, 10, 200, 5, 5], [3, 50, 30, 100, 100]])
    savemat(tmp_path / "annotations/c1s1_000001.jpg.mat", {"box_new": rows})
    (tmp_path / "frames/c1s1_000011.jpg").write_bytes(b"")
    data = open_search_data(tmp_path)
    with pytest.raises(ReseenError, match=r"1 of 6 scenes are unusable.*c1s1_000011.jpg is empty"):
        scan_scenes(data, max_bad_share=0.1)
    told: list[tuple[int, int]] = []
    usable, problems = scan_scenes(data, max_bad_share=0.5, progress=lambda *done: told.append(done))
    assert told == [(6, 6)]
    assert len(problems) == 1
    assert usable.train[0].boxes.tolist() == [[50, 30, 60, 40]]
    assert usable.train_identities is not None
    assert usable.train_identities[0].tolist() == [3]
    assert usable.test_names == ("c2s1_000012.jpg", "c3s1_000013.jpg", "c3s1_000014.jpg")
    assert usable.skipped[-2:] == (
        "2 boxes outside of their image (first in c1s1_000001.jpg)",
        "1 queries in images that cannot be read, or outside of their image",
    )
    found = open_galleries(usable)  # of the other query, on the scenes that are left
    assert [usable.probes[row].identity for row in found.probes] == [0]
    assert as_dict(found.targets[0]) == {"c3s1_000013.jpg": [5, 5, 15, 25], "c3s1_000014.jpg": None}


def test_a_huge_image_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    path = coco(tmp_path / "mine.json", {"a.jpg": [], "b.jpg": []})
    huge = Image.new("1", (12_000, 9_000))
    huge.save(tmp_path / "images/b.jpg", "PNG")
    _, problems = scan_scenes(open_search_data(path), max_bad_share=1)
    assert len(problems) == 1
    assert "b.jpg" in problems[0]
    assert "more than 100,000,000" in problems[0]


def test_a_set_of_one_person_and_one_of_thousands_in_a_scene(tmp_path: Path) -> None:
    one = open_search_data(coco(tmp_path / "one.json", {"a.jpg": [{"bbox": [1, 2, 3, 4]}]}))
    assert scan_scenes(one, max_bad_share=0)[0].train_boxes == 1
    boxes = [{"bbox": [n % 50, n % 30, 5, 5]} for n in range(5_000)]
    many = open_search_data(coco(tmp_path / "many.json", {"b.jpg": boxes}))
    assert scan_scenes(many, max_bad_share=0)[0].train_boxes == 5_000


def test_records_check_their_shapes(tmp_path: Path) -> None:
    scene = Scene(tmp_path / "a.jpg", np.zeros((2, 4), dtype=np.float32))
    with pytest.raises(ReseenError, match="as many names"):
        SearchData("x", tmp_path, (scene, scene), ("a.jpg", "a.jpg"))
    with pytest.raises(ReseenError, match="2 boxes but 1 identities"):
        SearchData("x", tmp_path, (scene,), ("a.jpg",), (np.zeros(1, dtype=np.int64),))
    with pytest.raises(ReseenError, match="scene"):
        SearchData(
            "x", tmp_path, (), (), test=(scene,), test_names=("a",), probes=(Probe(1, scene.boxes[0], 0),)
        )


def test_a_query_outside_its_image_is_left_out_and_counted(tmp_path):
    path = tmp_path / "scene.png"
    Image.new("RGB", (64, 32)).save(path)
    boxes = np.array([[4, 4, 20, 30]], dtype=np.float32)
    scene = Scene(path, boxes)
    outside = np.array([70, 4, 90, 30], dtype=np.float32)
    probes = (Probe(0, boxes[0], 0), Probe(0, outside, 1))
    data = SearchData("one", tmp_path, (scene,), ("a",), test=(scene,), test_names=("a",), probes=probes)
    checked, problems = scan_scenes(data, max_bad_share=0)
    assert not problems
    assert [probe.row for probe in checked.probes] == [0]
    assert any("1 queries" in line for line in checked.skipped)
