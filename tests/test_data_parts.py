"""Folders with labels: a folder per person, parts in the common spellings, and nothing tested that was trained on."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from command_runs import ONE_EPOCH, done
from reseen.data import open_data
from reseen.errors import ReseenError
from reseen.records import LabelledCrops, ReidData
from test_cli import refused
from worlds import people


def draw(root: Path, *names: str) -> Path:
    """An image of its own for each name."""
    for name in names:
        place = root / name
        place.parent.mkdir(parents=True, exist_ok=True)
        colour = np.random.default_rng([ord(letter) for letter in name]).integers(0, 255, (8, 4, 3))
        Image.fromarray(colour.astype(np.uint8)).save(place, "PNG")
    return root


def names(data: ReidData, part: LabelledCrops | None) -> list[str]:
    return [] if part is None else [crop.path.relative_to(data.root).as_posix() for crop in part.crops]


def trained(data: ReidData) -> list[str]:
    return [crop.path.relative_to(data.root).as_posix() for crop in data.train]


LABELLED = ("ann/1.png", "ann/2.png", "bob/1.png", "bob/2.png")
SPELLINGS = [
    ("train", "query", "gallery"),
    ("Train", "probe", "Gallery"),
    ("bounding_box_train", "query", "bounding_box_test"),
    ("training_set", "queries", "test"),
    ("images/train", "images/query", "images/test"),
    ("train", "test/query", "test/gallery"),
]


@pytest.mark.parametrize("spelled", SPELLINGS, ids=str)
def test_parts_are_parts_and_a_folder_is_a_person(tmp_path: Path, spelled: tuple[str, str, str]) -> None:
    train, query, gallery = spelled
    draw(tmp_path, *(f"{train}/{name}" for name in LABELLED))
    draw(tmp_path, f"{query}/cat/1.png", f"{gallery}/cat/2.png", f"{gallery}/-1/3.png", f"{gallery}/0/4.png")
    data = open_data(tmp_path)
    inner = "images/" if train.startswith("images/") else ""
    assert [f"{inner}{name}" for name in trained(data)] == [f"{train}/{name}" for name in LABELLED]
    assert data.train_identities is not None
    assert data.train_identities.tolist() == [1, 1, 2, 2]
    assert [f"{inner}{name}" for name in names(data, data.query)] == [f"{query}/cat/1.png"]
    assert data.query is not None
    assert data.gallery is not None
    assert data.query.identities.tolist() == [3]
    assert data.gallery.identities.tolist() == [-1, 0, 3]  # junk, a distractor, and the query's person


def layumi(root: Path) -> Path:
    """The folder that layumi's prepare.py makes of Market-1501: train and val are train_all, in folders per person."""
    train = ("0002/0002_c1s1_000451_03.png", "0002/0002_c3s2_000551_01.png", "0007/0007_c6s1_000801_01.png")
    draw(root, *(f"train_all/{name}" for name in train))
    for part, rows in (("train", train[1:]), ("val", train[:1])):
        for name in rows:
            (root / part / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / "train_all" / name, root / part / name)
    draw(root, "query/0001/0001_c1s1_001051_00.png", "gallery/-1/-1_c1s1_000401_03.png")
    return draw(root, "gallery/0000/0000_c2s1_000151_01.png", "gallery/0001/0001_c2s1_000301_00.png")


def test_layumis_layout(tmp_path: Path) -> None:
    data = open_data(layumi(tmp_path / "pytorch"))
    assert trained(data) == ["train/0002/0002_c3s2_000551_01.png", "train/0007/0007_c6s1_000801_01.png"]
    assert [crop.camera for crop in data.train] == [3, 6]  # as the names have it
    assert names(data, data.validation) == ["val/0002/0002_c1s1_000451_03.png"]
    assert data.gallery is not None
    assert data.gallery.identities.tolist() == [-1, 0, 1]
    assert data.gallery.cameras.tolist() == [1, 2, 2]
    assert "train_all: 3 images, not trained on beside train" in data.skipped
    shutil.rmtree(tmp_path / "pytorch" / "train")
    assert len(open_data(tmp_path).train) == 3  # train_all alone, and the folder above will do


def test_unlabelled_training_beside_a_labelled_test_folder(tmp_path: Path) -> None:
    draw(tmp_path, "train/x1.png", "train/x2.png")
    draw(tmp_path, *(f"test/{name}" for name in LABELLED))
    data = open_data(tmp_path)
    assert (len(data.train), data.train_identities) == (2, None)
    assert names(data, data.query) == ["test/ann/1.png", "test/bob/1.png"]
    assert names(data, data.gallery) == ["test/ann/2.png", "test/bob/2.png"]
    assert any("test has no queries of its own" in line for line in data.skipped)


def test_patterns_are_searched_within_a_part(tmp_path: Path) -> None:
    draw(tmp_path, "train/cam2_ann_1.png", "train/cam1_bob_1.png", "train/holiday.png")
    draw(tmp_path, "query/cam1_ann_2.png", "gallery/cam2_ann_3.png", "gallery/holiday.png")
    data = open_data(tmp_path, camera_pattern=r"^cam(\d)", identity_pattern=r"cam\d_(\w+)_")
    assert data.train_identities is not None
    assert data.train_identities.tolist() == [2, 1, -1]  # of the holiday nobody said it
    assert [crop.camera for crop in data.train] == [1, 2, -1]
    assert names(data, data.gallery) == ["gallery/cam2_ann_3.png"]
    assert any("gallery/holiday.png: nothing says who it is" in line for line in data.skipped)


def test_a_pattern_names_the_persons_of_any_folder(tmp_path: Path) -> None:
    draw(tmp_path, *LABELLED)
    assert open_data(tmp_path).train_identities is None
    data = open_data(tmp_path, identity_pattern="^([^/]+)/")
    assert data.train_identities is not None
    assert data.train_identities.tolist() == [1, 1, 2, 2]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (("train/a.png", "query/a.png", "gallery/b.png"), "who is who cannot be told"),
        (("train/a.png", "test/ann/1.png", "test/2.png"), "some are not"),
        (("train/a.png", "test/cam1/1.png", "test/cam2/2.png"), "called like cameras"),
        (("train/ann/1.png", "Train/bob/1.png", "test/ann/2.png"), "are one part"),
        (("train/ann/1.png", "test/ann/2.png", "gallery/ann/3.png"), "which one is searched"),
        (("val/query/ann/1.png", "val/gallery/ann/2.png", "train/x.png"), "val holds parts itself"),
        (("a.png", "site/train/ann/1.png", "site/test/ann/2.png"), "parts of data sets further below"),
        (("one/train/a.png", "one/test/a/1.png", "two/train/a.png", "two/test/a/1.png"), "2 data sets"),
        (
            ("train/0000/0000_000_01_0303morning_0008_0.png", "test/0000/0000_001_01_0303noon_0008_0.png"),
            "MSMT17 without its lists",
        ),
    ],
    ids=str,
)
@pytest.mark.parametrize("command", ["train", "doctor", "split"])
def test_what_cannot_be_told_apart_is_refused(
    tmp_path: Path, command: str, files: tuple[str, ...], said: str
):
    data = draw(tmp_path / "data", *files)
    words = {
        "train": ("train", "cacl", "--data", data, "--run", tmp_path / "run", "--weights", "none"),
        "doctor": ("doctor", data),
        "split": ("split", data, "--out", tmp_path / "split.csv"),
    }
    assert said in refused(*words[command])
    assert sorted(tmp_path.iterdir()) == [data]


def test_what_lies_beside_the_parts_is_said(tmp_path: Path) -> None:
    draw(tmp_path, "train/ann/1.png", "test/ann/2.png", "test/ann/3.png", "holidays/x.png", "y.png")
    skipped = open_data(tmp_path).skipped
    assert "holidays: 1 images, in none of the parts" in skipped
    assert "1 images beside the parts, in none of them" in skipped


def test_the_same_picture_is_not_trained_on_and_tested_on_unless_asked(tmp_path: Path) -> None:
    """By folder and by table; the same bytes under another name."""
    people(tmp_path / "data" / "train", identities=8)
    people(tmp_path / "data" / "test", identities=3, seed=1)
    double = tmp_path / "data" / "train" / "copy.png"
    shutil.copy(tmp_path / "data" / "test" / "0001_c1s1_000000_00.png", double)
    table = tmp_path / "data.csv"
    rows = [
        f"{path},{path.name[:4]},{path.name[6]},{part}"
        for part in ("train", "test")
        for path in sorted((tmp_path / "data" / part).iterdir())
        if path != double
    ]
    again = next((tmp_path / "data" / "test").iterdir())
    table.write_text("\n".join(["path,pid,camid,split", *rows, f"{again},1,1,train"]))
    for data in (tmp_path / "data", table):
        words = ("train", "cacl", "--data", data, "--run", tmp_path / data.name.replace(".", "-"), *ONE_EPOCH)
        line = refused(*words)
        assert "1 training picture is also to be tested on" in line
        assert "--train-on-test" in line
    assert "mAP" in done(*words, "--train-on-test")


def test_scenes_to_train_on_that_are_those_to_be_tested_on(tmp_path: Path, scenes_folder: Path) -> None:
    root = shutil.copytree(scenes_folder, tmp_path / "scenes")
    train, test = (sorted((root / part / "images").iterdir())[0] for part in ("train", "test"))
    shutil.copy(test, train)
    line = refused("train", "r-siamnet", "--data", root, "--run", tmp_path / "run", "--weights", "none")
    assert "1 training picture is also to be tested on" in line
    assert "1 picture of train also in test" in done("doctor", root)


def test_a_part_for_validation_is_tested_on_when_asked(tmp_path: Path) -> None:
    draw(tmp_path, "train/x.png", *(f"val/{name}" for name in LABELLED))
    draw(tmp_path, "query/cat/1.png", "gallery/cat/2.png")
    data = open_data(tmp_path, test_on="validation")
    assert names(data, data.query) == ["val/ann/1.png", "val/bob/1.png"]
    assert names(data, data.gallery) == ["val/ann/2.png", "val/bob/2.png"]
    shutil.rmtree(tmp_path / "val")
    with pytest.raises(ReseenError, match="no validation part"):
        open_data(tmp_path, test_on="validation")
