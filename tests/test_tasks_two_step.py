"""Person search in two steps, from the command line: settings, crops, scores, and what is made again."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import reseen
from command_runs import contents, done, lines, two_steps, words
from reseen.commands import report
from reseen.data import open_data, open_search_data, read_image
from reseen.errors import ReseenError
from reseen.evaluation.search import find_persons
from reseen.evaluation.two_steps import Found, cut_out
from reseen.inference import load_encoder, load_searcher, two_step_finder
from reseen.metrics import SearchQuery, person_search_scores
from reseen.metrics.search import box_iou
from reseen.records import SearchData
from reseen.tasks import Settings, method_of_run
from reseen.tasks.two_step import run as two_step
from reseen.tasks.two_step.config import (
    TwoStepConfig,
    read_two_step,
    two_step_configuration,
    two_step_yaml,
)
from reseen.tasks.two_step.crops import complete, write_crops
from test_cli import refused


@pytest.fixture(scope="module")
def data(scenes_folder: Path) -> SearchData:
    return open_search_data(scenes_folder)


def configured(run_dir: Path, **given: Any) -> TwoStepConfig:
    return two_step_configuration("two-step", run_dir, False, Settings(**given))


# --- in two steps: configuration ---


def test_settings_go_to_the_step_they_name(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "seed: 5\nreid: {recipe: cluster-contrast, train: {epochs: 9}}\ndetector: {train.epochs: 4}\n"
    )
    settings = ["train.lr=0.5", "reid.train.lr=0.25", "detector.search.detector=faster-rcnn"]
    both = configured(tmp_path, config=file, settings=tuple(settings))
    assert (both.detector.seed, both.reid.seed) == (5, 5)
    assert (both.detector.train.epochs, both.reid.train.epochs) == (4, 9)
    assert (both.detector.train.lr, both.reid.train.lr) == (0.5, 0.25)
    assert both.detector.search.detector == "faster-rcnn"
    assert both.reid.method == "cluster-contrast"
    assert not both.detector.search.reidentifies
    plain = configured(tmp_path)
    assert (plain.detector.recipe, plain.reid.recipe) == ("r-siamnet", "spcl")
    assert configured(tmp_path, recipe="cacl").reid.method == "cacl"


def test_a_two_step_configuration_survives_its_file(tmp_path: Path) -> None:
    both = configured(tmp_path, recipe="cacl-strong", settings=("reid.train.lr_steps=[0.3,0.6]",))
    (tmp_path / "config.yaml").write_text(two_step_yaml(both))
    assert method_of_run(tmp_path) == "two-step"
    assert read_two_step(tmp_path) == both
    assert two_step_configuration("two-step", tmp_path, True, Settings()) == both
    (tmp_path / "config.yaml").write_text("method: two-step\ndetector: 3\n")
    with pytest.raises(ReseenError, match="not that of a two-step run"):
        read_two_step(tmp_path)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--set", "reid.train.epoch=2"), "reid: --set: unknown key 'train.epoch'"),
        (("--set", "detector.search.cluster=true"), "leave detector.method"),
        (("--set", "detector.method=spcl"), "detector: search.* is for r-siamnet"),
        (("--recipe", "r-siamnet"), "needs a recipe for crops"),
        (("--recipe", "spcll"), "did you mean spcl?"),
        (("--config", "none.yaml"), "cannot read"),
        (("--camera-pattern", "c(.)"), "--camera-pattern is not for two-step"),
    ],
    ids=str,
)
def test_a_wrong_setting_names_its_step(scenes_folder: Path, tmp_path: Path, given: Any, said: str) -> None:
    run = tmp_path / "run"
    assert said in refused(
        "train", "two-step", "--data", scenes_folder, "--run", run, "--weights", "none", *given
    )
    assert not run.exists()


# --- in two steps: the run ---


def rows_of(search_run: Path) -> list[dict[str, str]]:
    with open(search_run / "crops" / "crops.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_crops_are_cut_by_the_detectors_boxes(stepped: tuple[Path, str], data: SearchData) -> None:
    run, said = stepped
    network, checkpoint = load_searcher(run / "detector")
    assert not checkpoint.config.search.reidentifies
    found = find_persons(network, data.train, data.train_names, checkpoint.config).detections
    rows = rows_of(run)
    assert set(rows[0]) == {"path", "camera", "scene", "x1", "y1", "x2", "y2", "score"}  # and no identity
    for name, scene in zip(data.train_names, data.train, strict=True):
        sure = found[name].scores >= 0.5
        own = [row for row in rows if row["scene"] == name]
        assert len(own) == sure.sum()
        boxes = np.array([[float(r[k]) for k in ("x1", "y1", "x2", "y2")] for r in own]).reshape(-1, 4)
        np.testing.assert_allclose(boxes, found[name].boxes[sure], atol=0.01)
        assert all(int(row["camera"]) == scene.camera for row in own)
        image = read_image(scene.path)
        for row, crop in zip(own, cut_out(image, found[name].boxes[sure]), strict=True):
            assert torch.equal(read_image(run / "crops" / row["path"]), crop)
    crops = open_data(run / "crops" / "crops.csv")
    assert (len(crops.train), crops.train_identities) == (len(rows), None)
    summary = json.loads((run / "crops" / "summary.json").read_text())
    assert (summary["found"], summary["annotated"]) == (len(rows), data.train_boxes)
    assert f"{len(rows)} crops of detected persons" in said


def test_a_disk_that_is_full_while_crops_are_cut(
    data: SearchData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [Found(scene.boxes, np.ones(len(scene.boxes), np.float32)) for scene in data.train]

    def full(image: object, path: Path, kind: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("PIL.Image.Image.save", full)
    with pytest.raises(
        ReseenError, match=r"^cannot write .*_000\.png \(No space left on device\): free space"
    ):
        write_crops(tmp_path / "crops", data, found)
    assert not complete(tmp_path / "crops")


def test_cut_out_takes_whole_pixels() -> None:
    image = torch.arange(3 * 20 * 30, dtype=torch.int64).remainder(256).to(torch.uint8).view(3, 20, 30)
    boxes = [[2.2, 3.7, 5.1, 8.0], [-4, -4, 2, 2], [25, 15, 40, 40], [7.5, 7.5, 7.5, 7.5], [30, 20, 33, 22]]
    first, second, third, point, corner = cut_out(image, np.array(boxes, np.float32))
    assert torch.equal(first, image[:, 3:8, 2:6])
    assert torch.equal(second, image[:, :2, :2])
    assert torch.equal(third, image[:, 15:, 25:])
    assert torch.equal(point, image[:, 7:8, 7:8])
    assert torch.equal(corner, image[:, 19:, 29:])


def test_ground_truth_boxes_of_test_scenes_are_not_looked_at(two_step_run: Path, data: SearchData) -> None:
    """At test only the query's own box is given: without any annotation the same is found."""
    bare = tuple(replace(scene, boxes=np.zeros((0, 4), np.float32)) for scene in data.test)
    _, find = two_step_finder(two_step_run)
    first = find(data.test, data.test_names, data.probes)
    second = find(bare, data.test_names, data.probes)
    assert torch.equal(first.probes, second.probes)
    truth = {name: scene.boxes for name, scene in zip(data.test_names, data.test, strict=True)}
    loose = 0
    for name, one in first.detections.items():
        other = second.detections[name]
        np.testing.assert_array_equal(one.boxes, other.boxes)
        np.testing.assert_array_equal(one.features, other.features)
        loose += int((box_iou(one.boxes, truth[name]) < 0.999).all(axis=1).sum())
    assert loose == sum(len(one.boxes) for one in first.detections.values()) > 0
    moved = (replace(data.probes[0], box=data.probes[0].box + 9), *data.probes[1:])
    assert not torch.equal(find(data.test, data.test_names, moved).probes[0], first.probes[0])


def test_a_search_in_two_steps_is_scored_like_any_other(
    two_step_run: Path, scenes_folder: Path, data: SearchData
) -> None:
    (measured,) = lines(two_step_run / "metrics.jsonl")
    _, find = two_step_finder(two_step_run)
    found = find(data.test, data.test_names, data.probes)
    galleries = reseen.data.open_galleries(data)
    queries = [
        SearchQuery(found.probes[p], t)
        for p, t in zip(galleries.probes.tolist(), galleries.targets, strict=True)
    ]
    expected = person_search_scores(queries, found.detections)
    assert measured["test"]["mean_ap"] == pytest.approx(expected.mean_ap)
    assert measured["test"]["detection_ap"] > 0
    out = done("evaluate", two_step_run, "--data", scenes_folder)
    assert f"mAP {expected.mean_ap:.1%}" in out
    first, second = lines(two_step_run / "evaluations.jsonl")  # of training, and of this command
    assert first == second
    assert (first["chosen"], first["epoch"]) == ("last", 1)
    for choice in ("label-free", "best-on-test"):  # one epoch is nothing to choose from
        assert f"chose no {choice}" in refused(
            "evaluate", two_step_run, "--data", scenes_folder, "--epoch", choice
        )


def test_the_page_of_two_steps(two_step_run: Path, scenes_folder: Path) -> None:
    shutil.rmtree(two_step_run / "report")
    done("report", two_step_run, "--data", scenes_folder)
    page = (two_step_run / "report" / "index.html").read_text()
    assert (two_step_run / "report" / "search-result.png").exists()
    for text in ("crops of detected persons", "reid/report/index.html", "two-step"):
        assert text in page
    for step in ("detector", "reid"):
        assert (two_step_run / step / "report" / "index.html").exists()


def test_two_steps_in_a_program(two_step_run: Path, data: SearchData) -> None:
    searcher = reseen.PersonSearcher.load(two_step_run)
    _, find = two_step_finder(two_step_run)
    found = find(data.test, data.test_names, data.probes)
    probe = data.probes[0]
    name, path = data.test_names[probe.scene], data.test[probe.scene].path
    seen = searcher(path, min_score=0.5)
    order = np.argsort(-found.detections[name].scores, kind="stable")
    assert len(seen.boxes) == len(order) > 0
    np.testing.assert_allclose(seen.features, found.detections[name].features[order], atol=1e-5)
    np.testing.assert_allclose(searcher.embed(path, probe.box[None])[0], found.probes[0], atol=1e-5)


def test_a_finished_part_is_not_made_again(
    two_step_run: Path, scenes_folder: Path, stepped: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Path] = []
    monkeypatch.setattr(report, "draw", lambda run, found: None)
    monkeypatch.setattr(report, "write_page", lambda run, task: drawn.append(run))
    before = contents(stepped[0])
    again = ("train", "two-step", "--data", scenes_folder, "--run", two_step_run)
    assert "already holds a run" in refused(*again)
    done(*again, "--resume")
    after = contents(two_step_run)
    assert set(after) == set(before)
    same = [name for name in before if not name.endswith(("metrics.jsonl", "index.html"))]
    assert len(same) > 12
    assert [name for name in same if after[name] != before[name]] == []
    assert drawn == [two_step_run / "detector", two_step_run / "reid", two_step_run]

    shutil.rmtree(two_step_run / "reid")  # killed between the steps
    (two_step_run / "metrics.jsonl").unlink()
    (two_step_run / "evaluations.jsonl").unlink()
    monkeypatch.setattr(two_step, "detect_persons", None)  # crops are there
    out = done(*again, "--resume")
    assert "after epoch 30 of 30" in out
    after = contents(two_step_run)
    kept = [name for name in before if name.startswith(("detector/checkpoint", "crops")) or "eval" in name]
    assert [name for name in kept if after[name] != before[name]] == []
    (first, _), (second, _) = (load_encoder(run / "reid") for run in (stepped[0], two_step_run))
    for name, weights in first.state_dict().items():
        assert torch.equal(second.state_dict()[name], weights), name


def test_a_detector_that_finds_nobody_ends_in_one_line(scenes_folder: Path, tmp_path: Path) -> None:
    given = ("--data", scenes_folder, "--run", tmp_path / "run", "--weights", "none")
    less = words(("train.epochs=1", "train.lr=1e-6"), "detector.")
    line = refused("train", "two-step", *given, *two_steps(), *less)
    assert "the detector found nobody in 8 training scenes" in line
    assert "detector.train.epochs" in line


def test_crops_too_few_for_the_second_step_name_it(two_step_run: Path, scenes_folder: Path) -> None:
    shutil.rmtree(two_step_run / "reid")
    given = ("train", "two-step", "--data", scenes_folder, "--run", two_step_run, "--resume")
    assert refused(*given, *two_steps("reid.cluster.k1=500")).startswith("reid: ")
