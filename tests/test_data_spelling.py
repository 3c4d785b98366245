"""One value in several spellings: every entrance reads the same persons, cameras, boxes and paths, or says why not."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from command_runs import done
from reseen.data import examine, open_data, open_search_data
from reseen.data.spelling import PARTS, meanings, part_of, value
from reseen.records import ReidData
from scene_worlds import coco
from test_cli import refused


def draw(root: Path, *names: str) -> Path:
    for name in names:
        place = root / name
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 8), tuple(name.encode()[-7:-4])).save(place, "JPEG")
    return root


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (7, "7"),
        (7.0, "7"),
        ("07", "7"),
        (" 7.0 ", "7"),
        ("+7", "7"),
        ("-1.0", "-1"),
        (7.5, "7.5"),
        ("Ann ", "Ann"),
    ]
    + [(nobody, "") for nobody in (None, "", "nan", float("nan"), "None", "N/A", True, [7], {})]
    + [("e\u0301", "\u00e9")],
)
def test_a_value_has_one_text(written: object, read: str) -> None:
    assert value(written) == read


def test_columns_are_known_by_their_usual_names() -> None:
    assert meanings(["File Name", "camID", "person-id", "Set", "id"]) == {
        "path": "File Name",
        "camera": "camID",
        "identity": "person-id",
        "split": "Set",
    }
    assert meanings(["img", "label"])["identity"] == "label"
    assert [part_of(word) for word in ("Bounding_Box_Train", "probe", "val_set", "holiday")] == [
        "train",
        "query",
        "validation",
        None,
    ]
    assert all(part_of(part) == part for part in PARTS)


# --- tables


def told(data: ReidData) -> list[tuple[str, int, int, str]]:
    """Part, identity, camera and path of every image."""
    nobody = np.full(len(data.train), -1)
    rows = [("train", data.train, nobody if data.train_identities is None else data.train_identities)]
    rows += [
        (name, part.crops, part.identities)
        for name, part in (("validation", data.validation), ("query", data.query), ("gallery", data.gallery))
        if part is not None
    ]
    return [
        (name, int(identity), crop.camera, os.path.relpath(crop.path, data.root))
        for name, crops, identities in rows
        for crop, identity in zip(crops, identities, strict=True)
    ]


CANONICAL = "path,identity,camera,split\na/1.jpg,3,1,train\na/2.jpg,4,2,query\na/3.jpg,4,1,gallery\n"


@pytest.mark.parametrize(
    "text",
    [
        "file,pid,camid,part\na/1.jpg,3,1,Training\na/2.jpg,4,2,probe\na/3.jpg,4,1,test\n",
        "Image Path;Person ID;Cam;Split\na/1.jpg;3;1;train\na/2.jpg;4;2;query\na/3.jpg;4;1;gallery\n",
        "filename\tlabel\tcamera_id\tset\na\\1.jpg\t3.0\t1.0\ttrain\na\\2.jpg\t04\t2\tquery\n.\\a\\3.jpg\t4\t1\tgallery\n",
        "sep=;\nimg;id;cam;split\n./a/1.jpg;3;1;train\na//2.jpg;4;2;query\na/../a/3.jpg;4;1;gallery\n",
    ],
    ids=["names", "semicolons", "tabs and backslashes", "declared"],
)
def test_a_table_in_other_words_is_the_same_table(tmp_path: Path, text: str) -> None:
    draw(tmp_path, "a/1.jpg", "a/2.jpg", "a/3.jpg")
    (tmp_path / "plain.csv").write_text(CANONICAL)
    (tmp_path / "other.csv").write_text(text)
    assert told(open_data(tmp_path / "other.csv")) == told(open_data(tmp_path / "plain.csv"))
    assert len(told(open_data(tmp_path / "plain.csv"))) == 3


def test_columns_that_are_not_read_are_said_and_the_reading_ends_with_a_summary(
    world: Path, trained, tmp_path
) -> None:
    rows = [
        f"{path};{number};x" for number, path in enumerate(sorted((world / "bounding_box_train").iterdir()))
    ]
    table = tmp_path / "list.csv"
    table.write_text("\n".join(["image;age;note", *rows]))
    said = done("cluster", trained[0], "--data", table, "--out", tmp_path / "groups.csv")
    assert "skipped: list.csv: the column 'age' is not read" in said
    assert f"read list (a manifest): {len(rows)} training images; 2 things are left out, named above" in said


# --- COCO


BOX = {"bbox": [1, 2, 3, 4]}


def test_an_image_id_as_text_and_as_number_is_one(tmp_path: Path) -> None:
    content = {
        "images": [
            {"id": 1, "file_name": ".\\a.jpg", "cam": "2"},
            {"id": "2", "file_name": "b.jpg", "cam": 2.0},
        ],
        "annotations": [{**BOX, "image_id": "1", "pid": 7.0}, {**BOX, "image_id": 2.0, "pid": "07"}],
    }
    draw(tmp_path, "images/a.jpg", "images/b.jpg")
    (tmp_path / "mine.json").write_text(json.dumps(content))
    data = open_search_data(tmp_path / "mine.json")
    assert data.train_names == ("a.jpg", "b.jpg")
    assert [len(scene.boxes) for scene in data.train] == [1, 1]
    assert [scene.camera for scene in data.train] == [2, 2]
    assert data.train_identities is not None
    assert [labels.tolist() for labels in data.train_identities] == [[7], [7]]
    content["images"][1]["id"] = "1"
    (tmp_path / "mine.json").write_text(json.dumps(content))
    assert "needs an id of its own" in refused("doctor", tmp_path / "mine.json")


@pytest.mark.parametrize("name", ["person", "Pedestrian", "human", "People", "persons"])
def test_categories_are_told_by_name(tmp_path: Path, name: str) -> None:
    boxes = [{**BOX, "category_id": "1"}, {**BOX, "category_id": 2}]
    categories = [{"id": 1, "name": name}, {"id": 2, "name": "car"}]
    report = examine(coco(tmp_path / "mine.json", {"a.jpg": boxes}, categories=categories))
    assert report.splits[0].line() == "train: 1 scenes, 1 persons"
    assert report.skipped == ("1 box of the category car (first in mine.json)",)


def test_a_file_without_persons_is_refused_with_what_it_has(tmp_path: Path) -> None:
    categories = [{"id": 1, "name": "car"}, {"id": 2, "name": "dog"}]
    path = coco(tmp_path / "mine.json", {"a.jpg": [{**BOX, "category_id": 1}]}, categories=categories)
    for words in (("doctor", path), ("train", "r-siamnet", "--data", path, "--run", tmp_path / "run")):
        assert "none of its categories is a person (car, dog)" in refused(*words)


# --- lists


def test_lists_know_the_spellings_of_paths_too(tmp_path: Path) -> None:
    name = "0000/0000_000_01_0303morning_0008_0.jpg"
    draw(tmp_path, f"train/{name}")
    for written in (name, name.replace("/", "\\"), f"./{name}", f".\\{name}"):
        (tmp_path / "list_train.txt").write_text(f"\ufeff{written} 0\r\n")
        assert told(open_data(tmp_path)) == [("train", 1, 1, f"train/{name}")]


# --- names of sets, and the small things


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("0003_c1_21.png", "0003_c2_22.png"), ""),  # CUHK03-NP, which was taken for MSMT17
        (
            ("0003_c9_f0046182.jpg", "0003_c2_f0046183.jpg"),
            "camera 9 is not one of its 8 (first: bounding_box_train/0003_c9",
        ),
        (("1601_c1s1_000451_03.jpg", "1601_c7s1_000451_03.jpg"), "camera 7 is not one of its 6"),
    ],
    ids=["CUHK03-NP", "camera 9", "camera 7"],
)
def test_a_set_has_a_benchmarks_name_only_where_it_can_be_it(
    tmp_path: Path, names: tuple[str, ...], said: str
) -> None:
    draw(tmp_path, *(f"bounding_box_train/{name}" for name in names))
    report = examine(tmp_path)
    assert report.name == "Market-1501 style"
    text = "\n".join(report.lines())
    assert "published" not in text
    assert said in text


def test_jfif_is_read(tmp_path: Path) -> None:
    draw(tmp_path, "a.jpg")
    (tmp_path / "a.jpg").rename(tmp_path / "a.JFIF")
    assert len(open_data(tmp_path).train) == 1


def test_cluster_takes_any_radius(world: Path, trained, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "groups.csv")
    assert "images: " in done("cluster", trained[0], "--data", world, "--eps", "0.01", *out)
    assert "--eps 1: give a Jaccard distance" in refused(
        "cluster", trained[0], "--data", world, "--eps", "1", *out
    )
