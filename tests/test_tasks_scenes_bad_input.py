"""Person search on bad data, from the command: what is left out is said, what cannot be mended is one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

import scene_worlds
from reseen.commands import train as command
from reseen.data import open_galleries, open_search_data, scan_scenes
from reseen.tasks import TASKS
from scene_worlds import cells, coco, cuhk_sysu, picture, prw
from test_cli import call, refused
from worlds import TINY_SEARCH

SMALL = (
    *(*TINY_SEARCH, "search.channels=8", "search.dim=8", "data.height=32", "data.width=16"),
    "search.cluster=false",  # three persons are one cluster, with which nothing can be compared
)
NAN = float("nan")
TWO = [{"bbox": [3, 4, 10, 20]}, {"bbox": [30, 4, 10, 20]}]


def words(data: Path, run: Path, *settings: str) -> list[str]:
    given = ["--data", str(data), "--run", str(run), "--weights", "none"]
    return [*given, *(word for setting in (*SMALL, *settings) for word in ("--set", setting))]


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "report_on", lambda *given: None)


def train(data: Path, run: Path, *settings: str) -> tuple[str, list[dict[str, Any]]]:
    """What the command said, and the records of the run's epochs."""
    torch.set_num_threads(1)
    code, out, err = call("train", "r-siamnet", *words(data, run, *settings))
    assert (code, err) == (0, ""), err
    return out, [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


# --- left out, and said ---


def bad_prw(root: Path) -> Path:
    """PRW with each kind of bad box, and with frames that are missing, huge, unreadable, empty or badly annotated."""
    prw(root)
    listed = ("c1s1_000001", "c2s1_000002", "huge", "missing", "variable", "nobody")
    savemat(root / "frame_train.mat", {"img_index_train": cells(listed)})
    for name in ("huge", "variable", "nobody"):
        picture(root / "frames" / f"{name}.jpg")
        table = {"boxes" if name == "variable" else "box_new": np.zeros((0, 5))}
        savemat(root / "annotations" / f"{name}.jpg.mat", table)
    Image.new("L", (12_000, 9_000)).save(root / "frames/huge.jpg")
    rows = [
        *[(1, 2, 3, 10, 20), (8, 50, 30, 100, 100)],  # usable, the second ends at the border
        *[(3, NAN, 3, 5, 5), (4, 10, 10, -5, 8), (5, 10, 10, 0, 8)],  # no number, inverted, without an area
        (6, 200, 3, 5, 5),  # outside
    ]
    savemat(root / "annotations/c1s1_000001.jpg.mat", {"box_new": np.array(rows, dtype=np.float64)})
    (root / "frames/c1s1_000011.jpg").write_bytes(b"\xff\xd8 and no more")  # that of the second query
    return root


@pytest.mark.usefixtures("no_pictures")
def test_training_goes_past_bad_frames_and_boxes_and_says_each(tmp_path: Path) -> None:
    out, records = train(bad_prw(tmp_path / "prw"), tmp_path / "run", "data.max_bad_share=0.5")
    for said in (
        "frames/missing.jpg: listed in frame_train.mat, but missing",
        "frames/variable.jpg: ",
        "has no variable box_new or anno_file or anno_previous (it holds boxes)",
        "huge.jpg declares 12000 x 9000 pixels, more than 100,000,000",
        "c1s1_000011.jpg is",
        "4 boxes without an area, or no numbers at all (first in c1s1_000001.jpg)",  # one is of a test frame
        "1 box outside of their image (first in c1s1_000001.jpg)",
        "1 queries in images that cannot be read, or outside of their image",
    ):
        assert said in out, said
    assert [record["images"] for record in records] == [3, 3]
    assert records[-1]["test"]["queries"] == 1
    assert records[-1]["test"]["detection_recall"] >= 0  # not unknown: test frames have persons
    code, out, err = call("evaluate", tmp_path / "run", "--data", tmp_path / "prw")
    assert (code, err) == (0, ""), err
    assert "(scored 1 of 1 queries)" in out


@pytest.mark.usefixtures("no_pictures")
def test_a_gallery_with_a_missing_image_is_scored_without_it_and_says_so(tmp_path: Path) -> None:
    data = cuhk_sysu(tmp_path / "cuhk")
    (data / "Image/SSM/s6.jpg").unlink()
    train(data, tmp_path / "run")
    code, out, err = call("evaluate", tmp_path / "run", "--data", data, "--gallery-size", 50)
    assert (code, err) == (0, ""), err
    assert "skipped: Image/SSM/s6.jpg: listed in Images.mat, but missing" in out
    assert "left out: 2 gallery places (2 of them with the target) name 1 images" in out
    assert "left out: 1 queries whose gallery shows the person nowhere" in out


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("detector", ["reppoints", "retinanet", "faster-rcnn"])
def test_thousands_of_boxes_in_one_scene_are_trained_on(detector: str, tmp_path: Path) -> None:
    boxes = [{"bbox": [n % 50, n % 30, 5 + n % 4, 7]} for n in range(2_000)]
    data = coco(tmp_path / "mine.json", {"crowd.jpg": boxes, "nobody.jpg": []})
    small = ("search.long_side=96", "search.short_side=64", "search.cluster=true", "train.epochs=1")
    _, (record,) = train(data, tmp_path / "run", f"search.detector={detector}", *small)
    assert record["images"] == 2_000
    assert np.isfinite(list(record["loss"].values())).all()


# --- one line ---


def scenes(*counts: int) -> Callable[[Path], Path]:
    return lambda root: coco(root / "mine.json", {f"{n}.jpg": TWO[:count] for n, count in enumerate(counts)})


def damaged(write: Callable[[Path], Any]) -> Callable[[Path], Path]:
    def make(root: Path) -> Path:
        data = coco(root / "mine.json", {f"{n}.jpg": TWO for n in range(3)})
        write(root / "images/1.jpg")
        return data

    return make


def other_variable(root: Path) -> Path:
    savemat(prw(root / "prw") / "frame_train.mat", {"frames": cells(["c1s1_000001"])})
    return root / "prw"


def no_frames(root: Path) -> Path:
    for frame in (prw(root / "prw") / "frames").iterdir():
        frame.unlink()
    return root / "prw"


@pytest.mark.parametrize("method", ["r-siamnet", "two-step"])
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (scenes(1), "1 persons to train on: give scenes with more boxes"),
        (scenes(0, 0), "0 persons to train on: give scenes with more boxes"),
        (damaged(lambda path: path.write_bytes(b"")), "1 of 3 scenes are unusable"),
        (damaged(lambda path: Image.new("L", (12_000, 9_000)).save(path)), "12000 x 9000 pixels"),
        (other_variable, "frame_train.mat has no variable img_index_train (it holds frames)"),
        (no_frames, "no frame that it lists can be used"),
    ],
    ids=["one person", "nobody", "unreadable", "huge", "variable", "no frames"],
)
def test_what_cannot_be_trained_on_is_one_line(
    method: str, make: Callable[[Path], Path], said: str, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    given = words(make(tmp_path), run)
    if method == "two-step":
        given = [f"detector.{word}" if word in SMALL else word for word in given]
    assert said in refused("train", method, *given)
    assert not (run / "detector").exists()
    assert not (run / "checkpoint").exists()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_scene_that_is_damaged_while_training_is_one_line(
    workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a worker process meets it."""
    data, real = scenes(2, 2, 2)(tmp_path), TASKS["scenes"]

    def then_damaged(*given: Any, **more: Any) -> Any:
        usable = real.usable(*given, **more)
        (tmp_path / "images/1.jpg").write_bytes(b"\xff\xd8 and no more")
        return usable

    monkeypatch.setitem(TASKS, "scenes", replace(real, usable=then_damaged))
    line = refused("train", "r-siamnet", *words(data, tmp_path / "run", f"data.workers={workers}"))
    assert "1.jpg is" in line


# --- queries, targets and clusters that lead nowhere ---


def test_persons_who_are_all_one_cluster_are_one_line_with_settings_that_exist(tmp_path: Path) -> None:
    data = scenes(1, 1, 1)(tmp_path)
    line = refused("train", "r-siamnet", *words(data, tmp_path / "run", "search.cluster=true"))
    assert "1 classes are left" in line
    assert "cluster.k1" not in line.replace("search.cluster", "")


@pytest.mark.usefixtures("no_pictures")
def test_queries_that_nobody_answers_do_not_cost_the_run(tmp_path: Path) -> None:
    """Marked by hand, a person may be seen once only."""
    coco(tmp_path / "train.json", {"a.jpg": TWO, "b.jpg": TWO})
    coco(tmp_path / "test.json", {"c.jpg": [{"bbox": [1, 2, 9, 20], "person_id": 1, "query": True}]})
    _, records = train(tmp_path, tmp_path / "run")
    assert "test" not in records[-1]


@pytest.mark.parametrize("box", [(33, 4, 0, 20), (33, 4, -5, 20), (300, 4, 10, 20)], ids=str)
def test_a_target_that_no_detection_can_hit_is_left_out_and_said(
    box: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an area any detection would be right, inverted or outside none could be."""
    first, (name, own, gallery) = scene_worlds.CUHK_QUERIES
    changed = [(image, box if image == "s7.jpg" else place) for image, place in gallery]
    monkeypatch.setattr(scene_worlds, "CUHK_QUERIES", [first, (name, own, changed)])
    data, _ = scan_scenes(open_search_data(cuhk_sysu(tmp_path)), max_bad_share=0)
    found = open_galleries(data, 50)
    assert found.targets[1]["s7.jpg"] is None
    assert any("target" in line for line in found.skipped)


# --- several sets, or a part of one, from the command line ---


@pytest.mark.usefixtures("no_pictures")
def test_several_sets_and_a_share_of_them_are_trained_on(tmp_path: Path) -> None:
    first, second = tmp_path / "first" / "train.json", tmp_path / "second" / "train.json"
    coco(first, {"a.jpg": TWO, "b.jpg": TWO})
    coco(second, {"c.jpg": TWO, "d.jpg": TWO, "e.jpg": TWO})

    def persons(name: str, *more: object) -> int:
        torch.set_num_threads(1)
        run = tmp_path / name
        code, _, err = call("train", "r-siamnet", *words(first.parent, run), *more)
        assert (code, err) == (0, ""), err
        return int(json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])["images"])

    assert persons("one") == 4
    assert persons("both", "--also", second.parent) == 10
    assert persons("part", "--also", second.parent, "--share", "0.4") == 4  # two scenes of five
    for name, more, said in (
        ("r-siamnet", ("--also", first.parent), "in two of the sets"),
        ("r-siamnet", ("--share", "0"), "a share above 0 and up to 1"),
        ("cacl", ("--also", second.parent), "--also is not for cacl"),
    ):
        line = refused("train", name, "--data", first.parent, "--run", tmp_path / "run", *more)
        assert said in line
