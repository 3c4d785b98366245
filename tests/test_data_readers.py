from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from reseen.data import open_data
from reseen.data.numbering import number_cameras, number_identities, number_persons
from reseen.errors import ReseenError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        place = root / name
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 8), (10, 20, 30)).save(place, "JPEG")
    return root


def market(root: Path) -> Path:
    return touch(
        root,
        "bounding_box_train/0002_c1s1_000451_03.jpg",
        "bounding_box_train/0002_c3s2_000551_01.jpg",
        "bounding_box_train/0007_c6s1_000801_01.jpg",
        "query/0001_c1s1_001051_00.jpg",
        "bounding_box_test/-1_c1s1_000401_03.jpg",
        "bounding_box_test/0000_c2s1_000151_01.jpg",
        "bounding_box_test/0001_c2s1_000301_00.jpg.jpg",  # 24 files of the real set end like this
    )


MSMT17_NAMES = {
    "list_train.txt": ["0000/0000_000_01_0303morning_0008_0.jpg 0", "0001/0001_001_15_0302noon_0009_1.jpg 1"],
    "list_val.txt": ["0001/0001_000_12_0303afternoon_0010_0.jpg 1"],
    "list_query.txt": ["0000/0000_004_01_0303morning_0022_0.jpg 0"],
    "list_gallery.txt": [
        "0000/0000_005_02_0303morning_0022_0.jpg 0",
        "0001/0001_006_03_0303morning_0022_0.jpg 1",
    ],
}


def msmt17(root: Path, train: str = "train", test: str = "test") -> Path:
    for listed, lines in MSMT17_NAMES.items():
        folder = train if listed in ("list_train.txt", "list_val.txt") else test
        touch(root / folder, *(line.split()[0] for line in lines))
        (root / listed).write_text("\n".join(lines) + "\n")
    return root


def test_market1501(tmp_path: Path) -> None:
    data = open_data(market(tmp_path))
    assert data.name == "Market-1501"
    assert [crop.path.name for crop in data.train] == [
        "0002_c1s1_000451_03.jpg",
        "0002_c3s2_000551_01.jpg",
        "0007_c6s1_000801_01.jpg",
    ]
    assert [crop.camera for crop in data.train] == [1, 3, 6]  # as in the names
    assert data.train_identities is not None
    assert data.train_identities.tolist() == [2, 2, 7]
    assert data.query is not None
    assert data.gallery is not None
    assert data.query.identities.tolist() == [1]
    assert data.gallery.identities.tolist() == [-1, 0, 1]  # junk and distractor as the benchmark defines them
    assert data.gallery.cameras.tolist() == [1, 2, 2]
    assert data.skipped == ()


def test_the_drawn_street_does_not_pass_for_market1501(tmp_path: Path) -> None:
    (market(tmp_path) / "street.json").write_text("{}")
    assert open_data(tmp_path).name == "street"


def test_dukemtmc(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "bounding_box_train/0001_c2_f0046182.jpg",
        "bounding_box_train/0005_c8_f0046302.jpg",
        "query/0020_c1_f0000001.jpg",
        "bounding_box_test/0020_c4_f0000101.jpg",
    )
    data = open_data(tmp_path)
    assert data.name == "DukeMTMC-reID"
    assert [crop.camera for crop in data.train] == [2, 8]
    assert data.gallery is not None
    assert data.gallery.identities.tolist() == [20]


@pytest.mark.parametrize(("train", "test"), [("train", "test"), ("mask_train_v2", "mask_test_v2")])
def test_msmt17_lists(tmp_path: Path, train: str, test: str) -> None:
    data = open_data(msmt17(tmp_path, train, test))
    assert data.name == "MSMT17"
    assert len(data.train) == 3  # train and val lists together
    assert [crop.camera for crop in data.train] == [1, 15, 12]
    assert data.train_identities is not None
    assert data.train_identities.tolist() == [1, 2, 2]  # its person 0 is a person
    assert data.query is not None
    assert data.gallery is not None
    assert data.query.identities.tolist() == [1]
    assert data.gallery.identities.tolist() == [1, 2]
    assert all(crop.path.is_file() for crop in data.train + data.gallery.crops)


@pytest.mark.parametrize(
    "names",
    [
        ("0000_c1_0000.jpg", "0001_c14_0030.jpg", "0000_c1_0007.jpg", "0000_c2_0003.jpg"),
        (
            "0000_000_01_0303morning_0008_0.jpg",
            "0001_000_14_0303noon_0008_0.jpg",
            "0000_001_01_0303morning_0008_0.jpg",
            "0000_002_02_0303morning_0008_0.jpg",
        ),
    ],
    ids=["short names", "own names"],
)
def test_msmt17_renamed(tmp_path: Path, names: tuple[str, ...]) -> None:
    places = ("bounding_box_train", "bounding_box_train", "query", "bounding_box_test")
    data = open_data(touch(tmp_path, *(f"{place}/{name}" for place, name in zip(places, names, strict=True))))
    assert data.name == (
        "MSMT17" if "morning" in names[0] else "Market-1501 style"
    )  # CUHK03-NP has short ones, too
    assert [crop.camera for crop in data.train] == [1, 14]
    assert data.train_identities is not None
    assert data.gallery is not None
    assert data.train_identities.tolist() == [1, 2]
    assert data.gallery.identities.tolist() == [1]  # a person, not a distractor


def test_a_listed_image_that_is_missing_is_named(tmp_path: Path) -> None:
    msmt17(tmp_path)
    (tmp_path / "train/0001/0001_001_15_0302noon_0009_1.jpg").unlink()
    (tmp_path / "list_val.txt").unlink()
    with (tmp_path / "list_gallery.txt").open("a") as file:
        file.write(
            "0002/holiday.jpg 2\nnonsense\n0000/0000_005_02_0303morning_0022_0.jpg\t99999999999999999999\n"
        )
    data = open_data(tmp_path)
    assert len(data.train) == 1
    said = " | ".join(data.skipped)
    for part in (
        "0001_001_15_0302noon_0009_1.jpg",
        "list_val.txt: is missing",
        "list_gallery.txt line 3",
        "line 4",
        "line 5",
    ):
        assert part in said


def test_names_that_do_not_match_are_skipped_by_name(tmp_path: Path) -> None:
    market(tmp_path)
    touch(
        tmp_path, "bounding_box_train/holiday.jpg", "bounding_box_train/-1_c1s1_000001_00.jpg", "query/x.jpg"
    )
    touch(tmp_path, "query/0000_c1s1_000001_00.jpg", "query/99999999999999999999_c1s1_000001_00.jpg")
    (tmp_path / "bounding_box_train/Thumbs.db").write_bytes(b"x")
    data = open_data(tmp_path)
    assert len(data.train) == 3
    assert data.train_identities is not None
    assert data.train_identities.tolist() == [2, 2, 7]  # a stray 0000 does not renumber Market-1501
    assert len(data.skipped) == 5
    assert any("holiday.jpg" in line for line in data.skipped)


def test_a_set_of_ones_own_in_this_style(tmp_path: Path) -> None:
    data = open_data(
        touch(
            tmp_path,
            "bounding_box_train/12_c3_shop-a.png",
            "bounding_box_test/12_c10.jpg",
            "query/12_c3-b.jpg",
        )
    )
    assert data.name == "Market-1501 style"
    assert [crop.camera for crop in data.train] == [3]
    assert data.gallery is not None
    assert data.gallery.cameras.tolist() == [10]


def test_nothing_matches(tmp_path: Path) -> None:
    with pytest.raises(ReseenError, match=r"named like 0002_c1s1.*not like a\.jpg"):
        open_data(touch(tmp_path, "bounding_box_train/a.jpg"))
    (tmp_path / "m" / "mask_train_v2").mkdir(parents=True)
    with pytest.raises(ReseenError, match=r"list_train\.txt: is missing"):
        open_data(tmp_path / "m")


def test_parents_do_not_confuse(tmp_path: Path) -> None:
    """Only what lies in the folder decides, not the names above it."""
    odd = tmp_path / "MSMT17_V1" / "bounding_box_train" / "0009_c9s9_000001_01.jpg"
    data = open_data(market(odd / "inner"))
    assert data.name == "Market-1501"
    assert [crop.camera for crop in data.train] == [1, 3, 6]
    plain = open_data(touch(odd / "plain", "a.jpg", "deep/b.PNG"), camera_pattern=r"^(\w)")
    assert [crop.path.name for crop in plain.train] == ["a.jpg", "b.PNG"]
    assert plain.train_identities is None


def test_the_parent_of_a_data_set_will_do(tmp_path: Path) -> None:
    msmt17(tmp_path / "MSMT17_V1")
    (tmp_path / "MSMT17_V1.zip").write_bytes(b"x")
    assert open_data(tmp_path).root == tmp_path / "MSMT17_V1"
    market(tmp_path / "market")
    with pytest.raises(ReseenError, match="2 data sets: give one of MSMT17_V1, market"):
        open_data(tmp_path)


def test_any_folder(tmp_path: Path) -> None:
    touch(tmp_path, "b/2.jpg", "a/10.jpg", "a/9.jpg", ".hidden/x.jpg")
    (tmp_path / "notes.txt").write_text("x")
    data = open_data(tmp_path)
    assert [crop.path.relative_to(tmp_path).as_posix() for crop in data.train] == [
        "a/10.jpg",
        "a/9.jpg",
        "b/2.jpg",
    ]
    assert {crop.camera for crop in data.train} == {-1}
    assert data.train_identities is None
    assert data.skipped == ("notes.txt: not an image's file name",)


@pytest.mark.parametrize(
    ("pattern", "cameras"),
    [
        (r"cam(\d+)", [10, 9, -1]),
        (r"(?P<camera>cam\d+)(_.*)?", [1, 2, -1]),  # names are numbered in sorted order
        (r"^(.)", [1, 1, 2]),
    ],
)
def test_camera_pattern(tmp_path: Path, pattern: str, cameras: list[int]) -> None:
    data = open_data(touch(tmp_path, "cam10_a.jpg", "cam9_b.jpg", "x.jpg"), camera_pattern=pattern)
    assert [crop.camera for crop in data.train] == cameras


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("cam(", "not a regular expression"),
        (r"cam\d", "0 groups"),
        (r"(a)(b)", "2 groups"),
        ("z(9)", "matches no"),
    ],
)
def test_bad_camera_patterns(tmp_path: Path, pattern: str, message: str) -> None:
    touch(tmp_path, "cam1.jpg")
    with pytest.raises(ReseenError, match=message):
        open_data(tmp_path, camera_pattern=pattern)


def test_a_pattern_is_refused_where_it_would_not_be_read(tmp_path: Path) -> None:
    with pytest.raises(ReseenError, match="plain folders"):
        open_data(market(tmp_path), camera_pattern="(.)")


def test_missing_and_empty(tmp_path: Path) -> None:
    with pytest.raises(ReseenError, match="there is no folder"):
        open_data(tmp_path / "nowhere")
    with pytest.raises(ReseenError, match="holds no image"):
        open_data(tmp_path)
    (tmp_path / "x.txt").write_text("x")
    with pytest.raises(ReseenError, match="is a file"):
        open_data(tmp_path / "x.txt")
    with pytest.raises(ReseenError, match="there is no folder"):
        open_data("x" * 5000)


def test_linked_folders_that_form_a_circle(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg")
    os.symlink(tmp_path, tmp_path / "a" / "again")
    assert len(open_data(tmp_path).train) == 1


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    with open(os.fsencode(tmp_path) + b"/\xff\n.txt", "wb"):
        pass
    line = open_data(tmp_path).skipped[0]
    assert line.encode("utf-8")
    assert "\n" not in line


# --- manifests


def manifest(tmp_path: Path, text: str) -> Path:
    touch(tmp_path, "a.jpg", "b.jpg", "c/d.jpg", "e,f.jpg")
    (tmp_path / "people.csv").write_text(text, encoding="utf-8")
    return tmp_path / "people.csv"


def test_manifest_with_everything(tmp_path: Path) -> None:
    data = open_data(
        manifest(
            tmp_path,
            "path,camera,identity,split,extra\n"
            "a.jpg,door,ann,train,1\n"
            "b.jpg,yard,bob,query,\n"
            '"e,f.jpg",door,bob,gallery,\n'
            f"{tmp_path / 'c/d.jpg'},door,distractor,gallery,\n",
        )
    )
    assert data.name == "people"
    assert data.root == tmp_path
    assert [crop.camera for crop in data.train] == [1]
    assert data.train_identities is not None
    assert data.train_identities.tolist() == [1]
    assert data.query is not None
    assert data.gallery is not None
    assert data.query.identities.tolist() == [2]
    assert data.query.cameras.tolist() == [2]
    assert data.gallery.identities.tolist() == [2, 0]


def test_manifest_with_paths_only(tmp_path: Path) -> None:
    data = open_data(manifest(tmp_path, "\ufeffPath\na.jpg\n\nb.jpg\nghost.jpg\na.jpg\n"))
    assert len(data.train) == 2
    assert data.train_identities is None
    assert data.query is None
    assert "line 5: " in data.skipped[0]
    assert "ghost.jpg does not exist" in data.skipped[0]
    assert "listed twice" in data.skipped[1]


def test_manifest_persons_from_zero(tmp_path: Path) -> None:
    """Only a gallery row can be a distractor: a 0 elsewhere says that persons are numbered from 0."""
    text = "path,identity,split,camera\na.jpg,0,query,0\nb.jpg,0.0,gallery,1.0\nc/d.jpg,-1,gallery,1\n"
    data = open_data(manifest(tmp_path, text))
    assert data.query is not None
    assert data.gallery is not None
    assert data.query.identities.tolist() == [1]
    assert data.gallery.identities.tolist() == [1, -1]
    assert data.gallery.cameras.tolist() == [1, 1]
    data = open_data(manifest(tmp_path, text.replace("a.jpg,0", "a.jpg,4")))
    assert data.gallery is not None
    assert data.gallery.identities.tolist() == [0, -1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "found: nothing"),
        ("where,camera\na.jpg,1\n", "column 'path'; found: where, camera"),
        ("path,identiy\na.jpg,1\n", "did you mean 'identity'"),
        ("path,path\na.jpg,a.jpg\n", "'path' and 'path' both mean path"),
        ("path;camera\na.jpg,1\n", "line 2 has 1 fields, its header 2: quote fields that hold ';'"),
        ("path,pid,identity\na.jpg,1,1\n", "'pid' and 'identity' both mean identity"),
        ("path,id\na.jpg,1\nb.jpg,2\n", "'id' differs in every row"),
        ("path\n", "lists no image"),
        ("path,camera\na.jpg\n", "line 2 has 1 fields, its header 2"),
        ("path,split\na.jpg,tset\n", "'tset' is none of train, train_all, validation, query, gallery"),
        ("path,camera\na.jpg,-4\n", "camera cannot be -4"),
        ("path,identity\na.jpg,-4\n", "identity cannot be -4"),
        ("path,split\na.jpg,query\n", "line 2: a query needs"),
        ("path,split\na.jpg,gallery\n", "line 2: a gallery image needs"),
        ("path,camera\n,1\n", "line 2: the path is empty"),
        ("path\nghost.jpg\n", "none of its 1 images exists"),
    ],
)
def test_bad_manifests(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ReseenError, match=message):
        open_data(manifest(tmp_path, text))


@pytest.mark.parametrize("junk", [b"\xff\xfe\x00path", b"path\n\x00\n", bytes(range(256))])
def test_a_manifest_that_is_no_text(tmp_path: Path, junk: bytes) -> None:
    (tmp_path / "m.csv").write_bytes(junk)
    with pytest.raises(ReseenError):
        open_data(tmp_path / "m.csv")


# --- numbering


@settings(deadline=None, max_examples=60)
@given(st.lists(st.one_of(st.none(), st.text("ab12", max_size=2)), max_size=8))
def test_cameras_stay_apart(names: list[str | None]) -> None:
    numbers = number_cameras(names)
    for name, number in zip(names, numbers, strict=True):
        assert (number == -1) == (not name)
    known = {name for name in names if name}
    if not all(name.isdecimal() for name in known):
        assert len({number for number in numbers if number >= 0}) == len(known)


def test_identities_as_numbers_and_names() -> None:
    assert number_identities(["7", "-1", "0", "7"]).tolist() == [7, -1, 0, 7]
    assert number_identities(["bob", "ann", "", "junk", "distractor"]).tolist() == [2, 1, -1, -1, 0]


def test_persons_from_one_keeps_junk_and_real_distractors() -> None:
    parts = np.array(["train", "query", "gallery", "gallery", "gallery"], dtype=object)
    assert number_persons(["3", "4", "0", "-1", "4"], parts).tolist() == [3, 4, 0, -1, 4]
    assert number_persons(["0", "4", "0", "-1", "4"], parts).tolist() == [1, 5, 1, -1, 5]
