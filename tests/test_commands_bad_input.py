"""Every input of a command that cannot be used is answered in one line, and what is there is kept."""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from command_runs import ONE_EPOCH, contents, done, lines
from test_cli import refused, tiny
from worlds import people

CHECKPOINTS = ("start", "last", "label-free", "best-on-test")


# --- data that cannot be used ---


@pytest.mark.parametrize("command", ["train", "cluster", "evaluate", "doctor"])
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda place: None, "check the path"),
        (lambda place: place.mkdir(), "holds no image"),
        (
            lambda place: (place / "inner").mkdir(parents=True) or (place / "notes.txt").touch(),
            "holds no image",
        ),
        (lambda place: (place / "query").mkdir(parents=True), "holds no image"),
        (lambda place: (place / "bounding_box_train").mkdir(parents=True), "0002_c1s1_000451_03.jpg"),
        (lambda place: place.write_text("text"), "folder of images or a .csv manifest"),
    ],
    ids=["missing", "empty", "no image", "an empty part", "an empty benchmark", "a file"],
)
def test_a_place_without_images_is_named(command, make, said, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "data"
    make(place)
    before = sorted(tmp_path.rglob("*"))
    words = {
        "train": ("train", "cacl", "--weights", "none", "--data", place),
        "cluster": ("cluster", trained[0], "--data", place),
        "evaluate": ("evaluate", trained[0], "--data", place),
        "doctor": ("doctor", place),
    }
    line = refused(*words[command])
    assert said in line
    assert str(place) in line
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "column 'path'"),
        (b"path\n", "lists no image"),
        (b"where,camera\na.png,1\n", "column 'path'"),
        (b"path,camra\na.png,1\n", "did you mean 'camera'?"),
        (b"path,camera\na.png,1,2\n", "line 2"),
        (b"path,split\na.png,tset\n", "train, train_all, validation, query, gallery"),
        (b"path\nno-such.png\n", "none of its 1 images exists"),
        (b"\xff\xfe\x00a", "UTF-8"),
    ],
    ids=["empty", "header only", "no path", "typo", "too many fields", "split", "missing images", "binary"],
)
def test_a_manifest_with_bad_columns_is_answered_in_one_line(content, said, tmp_path):
    manifest, run = tmp_path / "list.csv", tmp_path / "run"
    manifest.write_bytes(content)
    line = refused("train", "cacl", "--data", manifest, "--run", run, "--weights", "none")
    assert said in line
    assert str(manifest) in line
    assert not run.exists()


def truncated(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def huge(path: Path) -> None:
    """A PNG that declares 60,000 x 60,000 pixels, in its header alone."""
    whole = bytearray(path.read_bytes())
    whole[16:24] = (60_000).to_bytes(4, "big") * 2
    path.write_bytes(whole)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "truncated": truncated,
    "zero bytes": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("not an image"),
    "huge": huge,
}


def test_a_few_unreadable_images_are_named_and_left_out(world, tmp_path):
    root = shutil.copytree(world, tmp_path / "data")
    damaged = []
    for part in ("bounding_box_train", "query", "bounding_box_test"):
        files = sorted((root / part).iterdir())
        for path, damage in zip((files[0], files[-1]), DAMAGE.values(), strict=False):
            damage(path)
            damaged.append(path)
    words = ("--data", root, "--run", tmp_path / "run", *ONE_EPOCH, "--set", "data.max_bad_share=0.3")
    said = done("train", "cacl", *words)
    for path in damaged:
        assert f"skipped: {path}" in said
    assert lines(tmp_path / "run" / "metrics.jsonl")[-1]["images"] == 30
    assert "mAP" in said
    page = tmp_path / "run" / "report" / "index.html"
    page.unlink()
    done("report", tmp_path / "run", "--data", root)  # the pictures leave them out too
    assert page.exists()
    done("evaluate", tmp_path / "run", "--data", root)
    done("cluster", tmp_path / "run", "--data", root, "--out", tmp_path / "groups.csv")
    assert (tmp_path / "groups.csv").read_text().count("\n") == 31
    assert f"{len(damaged)} damaged images" in done("doctor", root)


@pytest.mark.parametrize("damage", DAMAGE)
def test_too_many_unreadable_images_stop_before_training(damage, tmp_path):
    crops, _ = people(tmp_path / "data", identities=3)
    for crop in crops[:6]:
        DAMAGE[damage](crop.path)
    line = refused("train", "cacl", "--data", tmp_path / "data", "--run", tmp_path / "run", *ONE_EPOCH)
    assert "6 of 12 images" in line
    assert "data.max_bad_share" in line
    assert str(crops[0].path) in line
    assert not (tmp_path / "run").exists()


def test_odd_images_are_read(tmp_path):
    crops, _ = people(tmp_path / "data")
    pictures = [Image.open(crop.path).convert("RGB") for crop in crops[:5]]
    for crop in crops[:5]:
        crop.path.unlink()
    pictures[0].convert("CMYK").save(crops[0].path.with_suffix(".jpg"))
    deep = np.asarray(pictures[1].convert("L")).astype(np.uint16) * 257
    Image.fromarray(deep).save(crops[1].path)
    pictures[2].save(crops[2].path.with_suffix(".gif"), save_all=True, append_images=pictures)
    pictures[3].convert("RGBA").save(crops[3].path.with_suffix(".webp"))
    pictures[4].resize((1, 1)).save(crops[4].path)
    words = ("--data", tmp_path / "data", "--run", tmp_path / "run", *ONE_EPOCH)
    assert "skipped" not in done("train", "cacl", *words)
    assert lines(tmp_path / "run" / "metrics.jsonl")[-1]["images"] == len(crops)


def test_names_that_are_not_text_go_through(trained, tmp_path):
    crops, _ = people(tmp_path / "data")
    odd = os.fsencode(tmp_path / "data") + b'/sch\xf6n, "schoen"\n.png'
    try:
        os.rename(crops[0].path, odd)
    except OSError:
        pytest.skip("this file system refuses such a name")
    groups = tmp_path / "groups.csv"
    done("cluster", trained[0], "--data", tmp_path / "data", "--out", groups)
    with open(groups, newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = list(csv.DictReader(file))
    assert {row["path"] for row in rows} == set(os.listdir(tmp_path / "data"))
    done("train", "cacl", "--data", tmp_path / "data", "--run", tmp_path / "run", *ONE_EPOCH)


def test_one_camera_trains_and_doctor_warns(tmp_path):
    people(tmp_path / "data", cameras=1, per_camera=4)
    words = ("--data", tmp_path / "data", "--camera-pattern", r"_c(\d)s")
    done("train", "cacl", *words, "--run", tmp_path / "run", *ONE_EPOCH)
    assert lines(tmp_path / "run" / "metrics.jsonl")[-1]["cross_camera_share"] is None
    assert "one camera" in done("doctor", *words[1:])


@pytest.mark.parametrize("count", [1, 5, 12])
def test_no_more_images_than_neighbours_is_said_at_once(count, trained, tmp_path):
    crops, _ = people(tmp_path / "data", identities=3)
    for crop in crops[count:]:
        crop.path.unlink()
    words = ("--data", tmp_path / "data", "--run", tmp_path / "run", *ONE_EPOCH, "--set", "cluster.k1=12")
    line = refused("train", "cacl", *words)
    assert f"{count} usable images" in line
    assert ("cluster.k1 = 12" if count > 1 else "training needs more") in line
    assert not (tmp_path / "run").exists()
    if count < 6:
        groups = ("--data", tmp_path / "data", "--out", tmp_path / "groups.csv")
        assert "cluster.k1" in refused("cluster", trained[0], *groups)
    assert "too few: cluster.k1 is 30" in done("doctor", tmp_path / "data")


# --- runs and checkpoints that cannot be used ---


def flipped(data: bytes) -> bytes:
    return data[:-5] + bytes([data[-5] ^ 1]) + data[-4:]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda data: data[: len(data) // 2], "damaged"),
        (lambda data: b"", "damaged"),
        (flipped, "changed after it was written"),
        (lambda data: b"\x80\x04cos\nsystem\n(S'touch owned'\ntR.", "damaged"),
        (lambda data: b"\xff" * 8 + data[8:], "damaged"),
    ],
    ids=["truncated", "empty", "one bit", "a pickle", "its header"],
)
def test_a_damaged_checkpoint_is_refused_and_kept(damage, said, finished, world, monkeypatch):
    monkeypatch.chdir(finished)
    last = finished / "checkpoint" / "last.safetensors"
    last.write_bytes(damage(last.read_bytes()))
    before = contents(finished)
    for words in (
        ("train", "cacl", "--data", world, "--run", finished, "--resume"),
        ("evaluate", finished, "--data", world),
        ("cluster", finished, "--data", world, "--out", finished / "groups.csv"),
        ("report", finished, "--data", world),
    ):
        line = refused(*words)
        assert said in line
        assert str(last) in line
    assert contents(finished) == before
    done("evaluate", finished, "--data", world, "--epoch", "label-free")  # the others still serve


def test_a_checkpoint_of_other_settings_or_images_is_refused_and_kept(finished, world, tmp_path):
    before = contents(finished)
    words = ("--run", finished, "--weights", "none", "--resume")
    changed = tiny("train.evaluate_every=1", "cluster.eps=0.5")
    line = refused("train", "cacl", "--data", world, *words, *changed)
    assert "cluster.eps" in line
    assert "--run" in line
    assert "spcl" in refused("train", "spcl", "--data", world, *words)
    fewer = shutil.copytree(world, tmp_path / "fewer")
    next((fewer / "bounding_box_train").iterdir()).unlink()
    assert "other images" in refused("train", "cacl", "--data", fewer, *words)
    assert contents(finished) == before


def test_a_folder_that_holds_a_run_is_not_written_over(finished, world):
    before = contents(finished)
    line = refused("train", "cacl", "--data", world, "--run", finished, *ONE_EPOCH)
    assert "--resume" in line
    assert "another --run" in line
    assert contents(finished) == before


def test_a_demo_is_not_drawn_over_anything(finished, tmp_path):
    before = contents(finished)
    assert "another --run" in refused("demo", "--run", finished)
    assert contents(finished) == before
    (tmp_path / "file").write_text("mine")
    assert str(tmp_path / "file") in refused("demo", "--run", tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("command", ["evaluate", "cluster", "report"])
@pytest.mark.parametrize("kind", ["missing", "a folder", "a picture"])
def test_what_is_no_run_is_named(command, kind, world, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "run"
    if kind == "a folder":
        run.mkdir()
    elif kind == "a picture":
        shutil.copy(next((world / "query").iterdir()), run)
    before = sorted(tmp_path.rglob("*"))
    for words in ((command, run, "--data", world), *([("report", run)] if command == "report" else [])):
        assert str(run) in refused(*words)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_broken_settings_file_of_a_run_is_named(finished, world):
    for content in (b"train: [", b"\xff\xfe", b"train:\n  epoch: 1\n"):
        (finished / "config.yaml").write_bytes(content)
        line = refused("train", "cacl", "--data", world, "--run", finished, "--resume")
        assert str(finished / "config.yaml") in line


@pytest.mark.parametrize("kind", ["denied", "a file", "below a file"])
def test_a_place_that_cannot_be_written_is_named(kind, world, finished, tmp_path):
    place = tmp_path / "place"
    if kind == "denied":
        if os.geteuid() == 0:
            pytest.skip("root may write everywhere")
        place.mkdir(mode=0o500)
        run = place / "run"
    else:
        place.write_text("mine")
        run = place if kind == "a file" else place / "run"
    assert str(run) in refused("train", "cacl", "--data", world, "--run", run, *ONE_EPOCH)
    groups = place / "groups.csv"
    line = refused("cluster", finished, "--data", world, "--out", groups)  # before anything is embedded
    assert str(groups) in line
    assert "--out" in line
    if kind != "denied":
        assert place.read_text() == "mine"


def test_cluster_leaves_nothing_half_written(finished, world, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    for out in (tmp_path / "out", tmp_path / "no" / "groups.csv", Path(".")):
        assert "--out" in refused("cluster", finished, "--data", world, "--out", out)

    def full(*paths: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    line = refused("cluster", finished, "--data", world, "--out", tmp_path / "groups.csv")
    assert "No space left" in line
    assert sorted(p.name for p in tmp_path.iterdir()) == ["finished", "out"]
    assert not list((tmp_path / "out").iterdir())
