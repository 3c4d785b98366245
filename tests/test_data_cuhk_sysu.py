"""CUHK-SYSU: its scenes, its protocol, and the MATLAB files that hold them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from reseen.data import open_galleries, open_search_data
from reseen.data.matfiles import load_variable, stream_records
from reseen.errors import ReseenError
from reseen.records import Scene
from scene_worlds import (
    CUHK_BOXES,
    CUHK_QUERIES,
    as_dict,
    cells,
    corners,
    cuhk_sysu,
    structs,
)

# CUHK-SYSU


@pytest.mark.parametrize("compressed", [True, False])
def test_cuhk_sysu_is_read(tmp_path: Path, compressed: bool) -> None:
    data = open_search_data(cuhk_sysu(tmp_path, compressed=compressed))
    assert data.name == "CUHK-SYSU"
    assert data.train_names == ("s1.jpg", "s2.jpg", "s3.jpg")
    assert data.test_names == ("s4.jpg", "s5.jpg", "s6.jpg", "s7.jpg", "s8.jpg")
    assert data.train[0].boxes.tolist() == [corners(box) for box in CUHK_BOXES["s1.jpg"][:2]]
    assert data.train[0].boxes.dtype == np.float32
    assert data.train[0].path.is_file()
    assert data.train[2].boxes.shape == (0, 4)  # a scene without persons stays
    assert data.train_boxes == 3
    assert data.train_offsets.tolist() == [0, 2, 3, 3]
    assert data.train_identities is not None
    assert [labels.tolist() for labels in data.train_identities] == [[0, 1], [0], []]
    assert data.test_identities is not None  # queries are persons 2 and 3, after the two of training
    assert [labels.tolist() for labels in data.test_identities] == [[2, -1], [3], [3, 2], [3], []]
    assert data.skipped == ("1 box without an area, or no numbers at all (first in s1.jpg)",)
    assert data.gallery_sizes == (50, 100)
    assert [(probe.scene, probe.identity) for probe in data.probes] == [(0, 2), (1, 3)]
    assert data.probes[1].box.tolist() == corners(CUHK_QUERIES[1][1])


def test_training_scenes_have_no_identity_field() -> None:
    assert {field for field in Scene.__dataclass_fields__ if "ident" in field} == set()


def test_cuhk_sysu_galleries_are_those_of_the_files(tmp_path: Path) -> None:
    data = open_search_data(cuhk_sysu(tmp_path))
    small = open_galleries(data, 50)
    assert small.probes.tolist() == [0, 1]
    for (_, _, gallery), targets in zip(CUHK_QUERIES, small.targets, strict=True):
        assert as_dict(targets) == {name: None if box is None else corners(box) for name, box in gallery}
        assert dict(targets).keys() == as_dict(targets).keys()  # iteration, items and look-up agree
        assert all(targets[name] is box for name, box in targets.items())
        assert len(targets) == 3
    assert [targets.found for targets in small.targets] == [1, 2]
    assert list(small.targets[0]) == ["s5.jpg", "s6.jpg", "s7.jpg"]  # not the right image first
    assert "s4.jpg" not in small.targets[0]
    usual = open_galleries(data)  # 100
    assert [list(targets)[:2] for targets in usual.targets] == [["s5.jpg", "s6.jpg"], ["s4.jpg", "s6.jpg"]]
    assert [len(targets) for targets in usual.targets] == [3, 4]  # a name that is listed twice counts once
    with pytest.raises(ReseenError, match="gallery size 70 of CUHK-SYSU is none of 50, 100"):
        open_galleries(data, 70)
    with pytest.raises(ReseenError, match="does not say which camera"):
        open_galleries(data, cross_camera=True)


def test_one_gallery_size_is_read_at_a_time_and_none_before_it_is_asked_for(tmp_path: Path) -> None:
    data = open_search_data(cuhk_sysu(tmp_path))
    (tmp_path / "annotation/test/train_test/TestG100.mat").write_bytes(b"no such thing")
    assert len(open_galleries(data, 50).targets) == 2
    with pytest.raises(ReseenError, match=r"TestG100\.mat is damaged"):
        open_galleries(data, 100)


def test_a_gallery_that_names_a_missing_image_says_so(tmp_path: Path) -> None:
    cuhk_sysu(tmp_path)
    for name in ("s6.jpg", "s2.jpg"):
        (tmp_path / "Image/SSM" / name).unlink()
    data = open_search_data(tmp_path)
    assert data.train_names == ("s1.jpg", "s3.jpg")
    assert "Image/SSM/s6.jpg: listed in Images.mat, but missing" in data.skipped
    found = open_galleries(data, 50)
    assert found.probes.tolist() == [1]  # the other person is nowhere else
    assert as_dict(found.targets[0]) == {"s7.jpg": corners((33, 4, 10, 20)), "s8.jpg": None}
    assert found.skipped == (
        "2 gallery places (2 of them with the target) name 1 images that are not among the test scenes "
        "(first: s6.jpg)",
        "1 queries whose gallery shows the person nowhere",
    )


def test_a_query_in_a_missing_image_keeps_the_others_in_place(tmp_path: Path) -> None:
    cuhk_sysu(tmp_path)
    (tmp_path / "Image/SSM/s4.jpg").unlink()
    data = open_search_data(tmp_path)
    assert "query 1: s4.jpg is not among the test scenes" in data.skipped
    found = open_galleries(data, 50)
    assert as_dict(found.targets[0])["s7.jpg"] == corners((33, 4, 10, 20))  # that of the second query


def test_cuhk_sysu_without_some_files(tmp_path: Path) -> None:
    cuhk_sysu(tmp_path)
    protocols = tmp_path / "annotation/test/train_test"
    for name in ("Train.mat", "TestG50.mat", "TestG100.mat"):
        (protocols / name).unlink()
    data = open_search_data(tmp_path)
    assert data.train_identities is None
    assert data.probes == ()
    assert any("Train.mat: is missing" in line for line in data.skipped)
    with pytest.raises(ReseenError, match="has no queries"):
        open_galleries(data)
    (tmp_path / "annotation/pool.mat").unlink()
    with pytest.raises(ReseenError, match=r"pool\.mat cannot be read"):
        open_search_data(tmp_path)


def test_a_mat_file_with_another_variable_is_one_clear_line(tmp_path: Path) -> None:
    cuhk_sysu(tmp_path)
    savemat(tmp_path / "annotation/Images.mat", {"Image": np.eye(2)})
    with pytest.raises(ReseenError, match=r"Images\.mat has no variable Img \(it holds Image\)"):
        open_search_data(tmp_path)
    savemat(tmp_path / "annotation/Images.mat", {"Img": np.eye(2)})
    with pytest.raises(ReseenError, match=r"Images\.mat holds numbers or text where records should be"):
        open_search_data(tmp_path)
    savemat(tmp_path / "annotation/Images.mat", {"Img": structs([{"a": "s1.jpg"}], ("a",))})
    with pytest.raises(ReseenError, match=r"Images\.mat lacks the field box"):
        open_search_data(tmp_path)
    savemat(
        tmp_path / "annotation/Images.mat",
        {"Img": structs([{"imname": 3.0, "n": 1, "box": []}], ("imname", "n", "box"))},
    )
    with pytest.raises(ReseenError, match="has no text where a name should be"):
        open_search_data(tmp_path)


@pytest.mark.parametrize("content", [{"TestG50": np.eye(3)}, {"Other": np.eye(3)}, {"TestG50": cells(["a"])}])
def test_a_protocol_that_is_none_is_one_clear_line(tmp_path: Path, content: dict[str, Any]) -> None:
    cuhk_sysu(tmp_path)
    savemat(tmp_path / "annotation/test/train_test/TestG50.mat", content)
    with pytest.raises(ReseenError, match=r"TestG50\.mat") as error:
        open_search_data(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
@pytest.mark.parametrize("compressed", [True, False])
def test_a_truncated_mat_file_is_one_clear_line(tmp_path: Path, share: float, compressed: bool) -> None:
    cuhk_sysu(tmp_path, compressed=compressed)
    path = tmp_path / "annotation/test/train_test/TestG50.mat"
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ReseenError, match=r"TestG50\.mat") as error:
        open_search_data(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("compressed", [True, False])
def test_streamed_records_are_those_of_scipy(tmp_path: Path, compressed: bool) -> None:
    path = cuhk_sysu(tmp_path, compressed=compressed) / "annotation/test/train_test/TestG100.mat"
    whole = load_variable(path, "TestG100").ravel()
    streamed = list(stream_records(path, "TestG100"))
    assert len(streamed) == len(whole) == 2
    for record, expected in zip(streamed, whole, strict=True):
        for name in ("Query", "Gallery"):
            assert repr(record[name]) == repr(expected[name])


def test_streamed_records_may_unfold_to_megabytes(tmp_path: Path) -> None:
    big = np.zeros((600, 700))  # packed into a few kilobytes
    big[-1, -1] = 7
    rows = structs([{"Query": big, "Gallery": big + number} for number in range(2)], ("Query", "Gallery"))
    savemat(tmp_path / "TestG50.mat", {"TestG50": rows}, do_compression=True)
    streamed = list(stream_records(tmp_path / "TestG50.mat", "TestG50"))
    assert np.array_equal(streamed[1]["Gallery"], big + 1)


def test_records_in_cells_are_read_whole(tmp_path: Path) -> None:
    rows = [structs([{"Query": 1.0, "Gallery": 2.0}], ("Query", "Gallery")) for _ in range(3)]
    savemat(tmp_path / "TestG50.mat", {"Other": np.eye(2), "TestG50": cells(rows)})
    assert [record["Gallery"].item() for record in stream_records(tmp_path / "TestG50.mat", "TestG50")] == [
        2,
        2,
        2,
    ]


# PRW
