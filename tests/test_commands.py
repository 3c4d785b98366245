"""The commands on a small world of files: the whole path."""

from __future__ import annotations

import csv
import os
import re
import shutil

import pytest

from command_runs import ONE_EPOCH, done, lines
from test_cli import refused, tiny
from worlds import people

CHECKPOINTS = ("start", "last", "label-free", "best-on-test")


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
    assert re.search(r"epoch 2/2 .* \| mAP [\d.]+% rank-1 [\d.]+% \|", said)
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
    said = [done("evaluate", last, "--data", data).splitlines()[1:] for data in (tmp_path / "test", world)]
    assert said[0] == said[1]  # but for the line that says what was read
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
    assert "--eps 3" in refused("cluster", trained[0], "--data", world, "--out", groups, "--eps", "3")


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
    assert "scores: cross-camera, scored 10 of 10 queries" in said
    assert "to train: reseen train cacl" in said
    assert "precision" in done("doctor")


def test_doctor_times_a_training_on_the_images_that_are_there(world):
    said = done(
        "doctor", world, "--time", *tiny("train.iterations=7", "train.epochs=300", "train.evaluate_every=0")
    )
    line = next(line for line in said.splitlines() if "here: 300 epochs of 7 steps" in line)
    step, image = (float(re.search(rf"([\d.]+) {unit} each", line)[1]) for unit in ("s", "ms"))
    count = int(re.search(r"([\d,]+) images to embed", line)[1].replace(",", ""))
    seconds = 2100 * step + count * image / 1000
    told = re.search(r"about ([\d.]+) (seconds|minutes|hours)", line)
    unit = {"seconds": 1, "minutes": 60, "hours": 3600}[told[2]]
    assert abs(float(told[1]) * unit - seconds) <= 0.05 * seconds + 2100 * 0.005 + unit
    assert "--time trains a few steps" in refused("doctor", "--time")


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
