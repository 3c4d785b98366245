"""The commands on small worlds of files: the whole path, and every input that cannot be used."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from test_cli import call, refused, tiny
from worlds import people

CHECKPOINTS = ("start", "last", "label-free", "best-on-test")
ONE_EPOCH = ("--weights", "none", *tiny("train.epochs=1"))


def market(root: Path) -> Path:
    """Eight striped people in Market-1501's layout: training images, one query per camera, a gallery."""
    people(root / "bounding_box_train", identities=8)
    people(root / "bounding_box_test", identities=5, per_camera=3, seed=1)
    (root / "query").mkdir()
    for first in (root / "bounding_box_test").glob("*_000000_00.png"):
        first.rename(root / "query" / first.name)
    return root


def done(*words: object) -> str:
    """Standard output of a command that has to succeed and to say nothing on standard error."""
    code, out, err = call(*words)
    assert (code, err) == (0, "")
    return out


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    return market(tmp_path_factory.mktemp("market"))


@pytest.fixture(scope="module")
def trained(world, tmp_path_factory) -> tuple[Path, str]:
    """A finished run of two epochs, and what the command said."""
    run = tmp_path_factory.mktemp("runs") / "cacl"
    settings = tiny("train.evaluate_every=1")
    return run, done("train", "cacl", "--data", world, "--run", run, "--weights", "none", *settings)


@pytest.fixture
def finished(trained, tmp_path) -> Path:
    """A copy of the finished run, to do things to."""
    return shutil.copytree(trained[0], tmp_path / "finished")


# --- the whole path ---


def test_a_run_leaves_a_folder_that_describes_itself(trained):
    run, said = trained
    for name in ("config.yaml", "environment.json", "report/index.html"):
        assert (run / name).stat().st_size > 0
    for name in CHECKPOINTS:
        assert (run / "checkpoint" / f"{name}.safetensors").stat().st_size > 0
    assert not list(run.rglob("*partial*"))
    records = lines(run / "metrics.jsonl")
    assert [record["epoch"] for record in records] == [1, 2]
    assert all({"test", "diagnostics", "loss"} <= set(record) for record in records)
    assert "epoch 2/2" in said
    assert str(run / "report" / "index.html") in said
    for picture in ("ranked-lists", "augmentation", "tsne"):
        assert (run / "report" / f"{picture}.png").exists()


def test_evaluate_repeats_the_score_of_the_last_epoch(finished, world):
    out = done("evaluate", finished, "--data", world)
    (scored,) = lines(finished / "evaluations.jsonl")
    measured = lines(finished / "metrics.jsonl")[-1]["test"]
    assert {key: scored[key] for key in measured} == pytest.approx(measured)
    assert (scored["epoch"], scored["branch"], scored["view"]) == (2, "first", "colour")
    assert f"mAP {measured['mean_ap']:.1%}" in out


def test_evaluate_takes_the_chosen_epochs_each_branch_and_view(finished, world):
    records = lines(finished / "metrics.jsonl")
    for chosen in ("best-on-test", "label-free"):
        done("evaluate", finished, "--data", world, "--epoch", chosen)
        scored = lines(finished / "evaluations.jsonl")[-1]
        assert scored["mean_ap"] == pytest.approx(records[scored["epoch"] - 1]["test"]["mean_ap"])
        assert scored["chosen"] == chosen
    assert max(r["test"]["mean_ap"] for r in records) == pytest.approx(
        lines(finished / "evaluations.jsonl")[0]["mean_ap"]
    )
    words = ("evaluate", finished, "--data", world, "--branch", "second")
    scores = []
    for view in (("--view", "grey"), ("--view", "colour"), ()):
        done(*words, *view)
        scores.append(lines(finished / "evaluations.jsonl")[-1])
    assert scores[0]["mean_ap"] != scores[1]["mean_ap"]
    assert scores[2] == scores[0]  # trained on grey images, it is shown grey ones unless somebody asks


def test_a_single_grey_branch_is_shown_grey_images_at_every_chosen_epoch(world, tmp_path):
    run = tmp_path / "run"
    words = ("--data", world, "--run", run, "--recipe", "cacl-single-grey", "--weights", "none")
    done("train", "cacl", *words, *tiny("train.epochs=2", "train.evaluate_every=1"))
    measured = {record["epoch"]: record["test"]["mean_ap"] for record in lines(run / "metrics.jsonl")}
    for epoch in ("last", "best-on-test", "label-free"):
        done("evaluate", run, "--data", world, "--epoch", epoch)
        scored = lines(run / "evaluations.jsonl")[-1]
        assert scored["view"] == "grey", epoch
        assert scored["mean_ap"] == pytest.approx(measured[scored["epoch"]])
    assert scored["epoch"] == 1  # the only network whose clusters two epochs can compare


def test_evaluate_needs_no_training_images(trained, world, tmp_path):
    for part in ("query", "bounding_box_test"):
        shutil.copytree(world / part, tmp_path / "test" / part)
    last = trained[0] / "checkpoint" / "last.safetensors"
    assert done("evaluate", last, "--data", tmp_path / "test") == done("evaluate", last, "--data", world)
    assert "training" in refused(
        "cluster", last, "--data", tmp_path / "test", "--out", tmp_path / "groups.csv"
    )
    assert "training" in refused(
        "train", "cacl", "--data", tmp_path / "test", "--run", tmp_path / "run", *ONE_EPOCH
    )


def test_cluster_lists_every_image_once(trained, world, tmp_path):
    groups = tmp_path / "groups.csv"
    said = done("cluster", trained[0], "--data", world, "--out", groups)
    with open(groups, newline="") as file:
        rows = list(csv.DictReader(file))
    names = sorted(p.relative_to(world).as_posix() for p in (world / "bounding_box_train").iterdir())
    assert sorted(row["path"] for row in rows) == names
    assert {row["camera"] for row in rows} == {"1", "2"}
    found = [row["group"] for row in rows if row["group"]]
    assert all(found.count(group) > 1 for group in found)
    assert f"{len(rows)} images: {len(set(found))} groups, {len(rows) - len(found)} images in none" in said
    # a radius under which nothing is near: all are alone
    done("cluster", trained[0], "--data", world, "--out", groups, "--eps", "0.021")
    assert groups.read_text().count("\n") == len(rows) + 1
    assert "cluster.eps" in refused("cluster", trained[0], "--data", world, "--out", groups, "--eps", "3")


def test_report_is_written_again_with_and_without_the_data(finished, world):
    shutil.rmtree(finished / "report")
    page = finished / "report" / "index.html"
    assert str(page) in done("report", finished)
    assert "Not shown" in page.read_text()
    done("report", finished, "--data", world)
    assert "Not shown" not in page.read_text()


def test_doctor_says_what_the_folder_is(world):
    said = done("doctor", world)
    assert "Market-1501" in said
    for part in ("train: 32 images, 8 identities, 2 cameras", "query: 10 images", "gallery: 20 images"):
        assert part in said
    assert "every image can be read" in said
    assert "precision" in done("doctor")


def test_a_finished_run_resumes_to_itself(finished, world):
    before = (finished / "checkpoint" / "last.safetensors").read_bytes()
    metrics = lines(finished / "metrics.jsonl")
    said = done("train", "cacl", "--data", world, "--run", finished, "--resume")
    assert "after epoch 2 of 2" in said
    assert (finished / "checkpoint" / "last.safetensors").read_bytes() == before
    assert lines(finished / "metrics.jsonl") == metrics


def test_a_folder_without_labels_and_its_camera_pattern(tmp_path):
    crops, _ = people(tmp_path / "crops")
    for number, crop in enumerate(crops):  # nothing in the names but the camera
        crop.path.rename(crop.path.with_name(f"shot{number:03d} kitchen{crop.camera}.png"))
    run, words = tmp_path / "run", ("--data", tmp_path / "crops", "--camera-pattern", r"kitchen(\d)")
    done("train", "cacl", *words, "--run", run, *ONE_EPOCH)
    (record,) = lines(run / "metrics.jsonl")
    assert record["cross_camera_share"] is not None
    assert not {"test", "diagnostics"} & set(record)
    assert not (run / "checkpoint" / "best-on-test.safetensors").exists()
    done("cluster", run, *words, "--out", tmp_path / "groups.csv")
    with open(tmp_path / "groups.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(crops)
    assert all(row["camera"] == row["path"][-5] for row in rows)
    assert "query and gallery" in refused("evaluate", run, *words)
    assert not (run / "evaluations.jsonl").exists()


def test_a_manifest_of_images_that_lie_elsewhere(tmp_path):
    crops, identities = people(tmp_path / "elsewhere")
    manifest = tmp_path / "lists" / "shop.csv"
    manifest.parent.mkdir()
    near = [os.path.relpath(crop.path, manifest.parent) for crop in crops]
    names = [str(crop.path) if i % 2 else near[i] for i, crop in enumerate(crops)]
    with open(manifest, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "camera", "identity"))
        writer.writerows((n, f"c{c.camera}", i) for n, c, i in zip(names, crops, identities, strict=True))
    run = tmp_path / "run"
    done("train", "cacl", "--data", manifest, "--run", run, *ONE_EPOCH)
    assert "diagnostics" in lines(run / "metrics.jsonl")[0]
    done("cluster", run, "--data", manifest, "--out", tmp_path / "groups.csv")
    with open(tmp_path / "groups.csv", newline="") as file:
        assert [row["path"] for row in csv.DictReader(file)] == names


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
        (b"image,camera\na.png,1\n", "column 'path'"),
        (b"path,camra\na.png,1\n", "did you mean 'camera'?"),
        (b"path,camera\na.png,1,2\n", "line 2"),
        (b"path,split\na.png,test\n", "train, query, gallery"),
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
