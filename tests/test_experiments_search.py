"""Person search from the command line: evaluation, pictures, two steps, and a scene in a program."""

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
from matplotlib.colors import to_hex
from PIL import Image
from reseen.tasks.two_step.search import cut_out, two_step_finder

import reseen
from reseen.commands import run_report, search_report
from reseen.data import open_data, open_search_data, read_image
from reseen.errors import ReseenError
from reseen.evaluation.search import evaluate_searcher, find_persons
from reseen.evaluation.search_lists import ranked_hits
from reseen.metrics import SceneDetections, SearchQuery, person_search_scores
from reseen.metrics.search import box_iou
from reseen.records import UNLABELLED, SearchData
from reseen.reports.canvas import BLUE, GREEN, VERMILLION
from reseen.reports.search_figures import Place, search_results
from reseen.street import draw_scenes
from reseen.tasks.two_step import run as two_step
from reseen.tasks.two_step.config import (
    is_two_step,
    read_two_step,
    two_step_configuration,
    two_step_yaml,
)
from reseen.training import load_encoder, load_searcher, trained_config
from scene_worlds import cuhk_sysu
from test_cli import call, refused
from worlds import people

SMALL = (
    *("model.backbone=test_resnet.r160_in1k", "data.height=64", "data.width=32", "data.workers=0"),
    *("search.freeze=false", "search.channels=16", "search.dim=16", "search.long_side=192"),
    *("search.short_side=128", "search.detector=retinanet", "train.batch_size=4", "train.warmup=5"),
    *(
        "train.precision=none",
        "train.device=cpu",
        "train.lr=0.05",
        "train.clip_norm=5",
        "train.evaluate_every=10",
    ),
)
CROPS = (
    *("model.backbone=street", "data.height=32", "data.width=16", "data.workers=0", "cluster.k1=5"),
    *("cluster.k2=2", "cluster.min_samples=2", "train.epochs=1", "train.iterations=2", "train.batch_size=8"),
    *("train.instances=2", "train.precision=none", "train.device=cpu"),
)


def words(settings: tuple[str, ...], prefix: str = "") -> list[str]:
    return [word for setting in settings for word in ("--set", prefix + setting)]


def two_steps(*more: str) -> list[str]:
    both = [*words(SMALL, "detector."), *words(("train.epochs=30",), "detector."), *words(CROPS, "reid.")]
    return [*both, *words(more)]


def done(*given: object) -> str:
    code, out, err = call(*given)
    assert (code, err) == (0, ""), err
    return out


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("street")
    draw_scenes(
        root,
        seed=1,
        train_scenes=8,
        test_scenes=6,
        train_identities=5,
        test_identities=3,
        cameras=2,
        persons=(1, 3),
    )
    return root


@pytest.fixture(scope="module")
def data(street: Path) -> SearchData:
    return open_search_data(street)


@pytest.fixture(scope="module")
def trained(street: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A finished run that finds some of its persons, and what the command said."""
    run = tmp_path_factory.mktemp("runs") / "search"
    given = ("--data", street, "--run", run, "--weights", "none", *words((*SMALL, "train.epochs=30")))
    return run, done("train", "r-siamnet", *given)


@pytest.fixture
def run(trained: tuple[Path, str], tmp_path: Path) -> Path:
    return shutil.copytree(trained[0], tmp_path / "search")


@pytest.fixture(scope="module")
def stepped(street: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    run = tmp_path_factory.mktemp("runs") / "two"
    return run, done("train", "two-step", "--data", street, "--run", run, "--weights", "none", *two_steps())


@pytest.fixture
def two(stepped: tuple[Path, str], tmp_path: Path) -> Path:
    return shutil.copytree(stepped[0], tmp_path / "two")


# --- evaluation ---


def test_evaluate_repeats_the_score_of_each_chosen_epoch(run: Path, street: Path) -> None:
    records = {record["epoch"]: record for record in lines(run / "metrics.jsonl")}
    best = max((r["test"]["mean_ap"], n) for n, r in records.items() if "test" in r)
    for chosen, epoch in (("last", 30), ("best-on-test", best[1])):
        out = done("evaluate", run, "--data", street, "--epoch", chosen)
        scored, measured = lines(run / "evaluations.jsonl")[-1], records[epoch]["test"]
        assert (scored["epoch"], scored["chosen"], scored["paths"]) == (epoch, chosen, "search")
        assert {key: scored[key] for key in measured} == pytest.approx(measured)
        assert f"mAP {measured['mean_ap']:.1%}" in out
        assert f"AP {measured['detection_ap']:.1%}  recall {measured['detection_recall']:.1%}" in out
    assert best[0] > 0  # else the comparison above would be of zeros


def test_evaluate_with_both_paths_joins_their_features(run: Path, street: Path, data: SearchData) -> None:
    done("evaluate", run, "--data", street, "--paths", "both")
    (scored,) = lines(run / "evaluations.jsonl")
    network, checkpoint = load_searcher(run)
    search = checkpoint.config.search
    both = replace(checkpoint.config, search=replace(search, paths_at_test="both"))
    expected = evaluate_searcher(network, data, both)
    assert scored["paths"] == "both"
    assert {k: scored[k] for k in expected} == pytest.approx(expected)
    assert find_persons(network, data.test[:1], data.test_names[:1], both).probes.shape[1] == 2 * search.dim


def test_galleries_of_several_sizes_are_searched_in_features_computed_once(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from reseen.evaluation import search

    calls = []
    monkeypatch.setattr(search, "find_persons", lambda *a, **k: calls.append(1) or find_persons(*a, **k))
    world = cuhk_sysu(tmp_path / "cuhk")
    out = done("evaluate", run, "--data", world, "--gallery-size", 50, "--gallery-size", 100)
    assert len(calls) == 1
    assert [line["gallery"] for line in lines(run / "evaluations.jsonl")] == ["50", "100"]
    assert [line["queries"] for line in lines(run / "evaluations.jsonl")] == [2, 2]
    assert "gallery of 50: mAP" in out
    done("evaluate", run, "--data", world)
    assert lines(run / "evaluations.jsonl")[-1]["gallery"] == "100"  # the benchmark's usual one
    assert "give 50, 100" in refused("evaluate", run, "--data", world, "--gallery-size", 70)
    assert len(calls) == 2  # a size that is not there is said before hours of work


def test_a_size_where_there_is_one_gallery_is_refused(run: Path, street: Path) -> None:
    assert "it has one gallery" in refused("evaluate", run, "--data", street, "--gallery-size", 100)


def test_crops_for_scenes_and_scenes_for_crops_are_one_line(
    run: Path, two: Path, street: Path, tmp_path: Path
) -> None:
    people(tmp_path / "crops")
    crops, new = tmp_path / "crops", ("--run", tmp_path / "new")
    for line in (
        refused("train", "r-siamnet", "--data", crops, *new),
        refused("train", "two-step", "--data", crops, *new),
        refused("evaluate", run, "--data", crops),
        refused("evaluate", two, "--data", crops),
        refused("report", run, "--data", crops),
    ):
        assert "holds none with person boxes" in line
    for line in (
        refused("train", "cacl", "--data", street, *new),
        refused("evaluate", two / "reid", "--data", street),
        refused("cluster", two / "reid", "--data", street),
        refused("report", two / "reid", "--data", street),
    ):
        assert "works on crops" in line
    assert "searches scenes" in refused("cluster", run, "--data", crops)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("option", [("--rerank",), ("--branch", "second"), ("--view", "grey")], ids=str)
def test_options_of_the_other_kind_are_refused(run: Path, two: Path, street: Path, option: Any) -> None:
    for folder in (run, two):
        assert f"{option[0]} is not for" in refused("evaluate", folder, "--data", street, *option)
    for word in (("--paths", "both"), ("--gallery-size", 50)):
        assert f"{word[0]} is not for" in refused("evaluate", two / "reid", "--data", street, *word)


def test_scenes_without_queries_cannot_be_scored(run: Path, tmp_path: Path) -> None:
    from scene_worlds import coco

    coco(tmp_path / "train.json", {"a.jpg": [{"bbox": [1, 2, 10, 20]}], "b.jpg": [{"bbox": [1, 2, 9, 20]}]})
    assert "no test scenes with queries" in refused("evaluate", run, "--data", tmp_path)


def test_the_header_of_a_checkpoint_says_how_it_was_trained(run: Path, tmp_path: Path) -> None:
    assert trained_config(run) == load_searcher(run)[1].config
    file = tmp_path / "damaged.safetensors"
    file.write_bytes((run / "checkpoint" / "last.safetensors").read_bytes()[:500])
    with pytest.raises(ReseenError, match="damaged"):
        trained_config(file)


def test_a_choice_that_was_not_made_is_said(run: Path, street: Path) -> None:
    (run / "checkpoint" / "label-free.safetensors").unlink()
    assert "chose no label-free" in refused("evaluate", run, "--data", street, "--epoch", "label-free")


# --- ranked lists ---


def test_ranked_hits_follow_the_scores() -> None:
    """A correct detection is among the first k exactly when top-k counts the query as found."""
    random = np.random.default_rng(0)
    found_at = []
    for _ in range(60):
        names = [f"{n}.jpg" for n in range(6)]
        corners = random.uniform(0, 60, (6, 5, 2))
        boxes = np.concatenate([corners, corners + random.uniform(5, 40, (6, 5, 2))], axis=2)
        detections = {
            name: SceneDetections(boxes[n], random.uniform(0.3, 1, 5), random.normal(size=(5, 4)))
            for n, name in enumerate(names)
        }
        targets = {n: boxes[i, 2] + random.normal(0, 4, 4) if i % 2 else None for i, n in enumerate(names)}
        targets["missing.jpg"] = boxes[0, 0]
        query = random.normal(size=4)
        scores = person_search_scores([SearchQuery(query, targets)], detections, ranks=(1, 3, 10))
        hits = ranked_hits(query, targets, detections, top=10)
        assert [h.similarity for h in hits] == sorted((h.similarity for h in hits), reverse=True)
        assert all(hit.score >= 0.5 for hit in hits)
        for k in (1, 3, 10):
            assert any(hit.right for hit in hits[:k]) == bool(scores.top[k])
        short = ranked_hits(query, targets, detections, top=2)
        assert [(h.scene, h.similarity) for h in short] == [(h.scene, h.similarity) for h in hits[:2]]
        found_at.append(next((k for k, hit in enumerate(hits) if hit.right), None))
    assert len(set(found_at)) > 3


# --- pictures ---


def test_search_result_tells_right_from_wrong_by_more_than_colour(tmp_path: Path) -> None:
    scene = tmp_path / "scene.png"
    Image.new("RGB", (200, 100), "grey").save(scene)
    box = np.array([20, 10, 40, 90], np.float32)
    hits = [Place(scene, box, ("similarity 0.9",), True), Place(scene, box + 30, (), False)]
    figure = search_results([Place(scene, box, ("in 5 scenes,",))] * 2, [hits, []], top=3)
    (axes,) = figure.axes
    whole = ("-", "solid")
    frames = [(to_hex(p.get_edgecolor()).upper(), p.get_linestyle() in whole) for p in axes.patches]
    assert frames.count((BLUE, True)) == 4  # box and person of both queries
    assert frames.count((GREEN, True)) == 2
    assert (frames.count((VERMILLION, False)), frames.count((VERMILLION, True))) == (2, 0)
    texts = [text.get_text() for text in axes.texts]
    assert {"✓", "✗", "similarity 0.9", "nobody else was found", "nobody was found"} <= set(texts)
    with pytest.raises(ReseenError, match="one at least"):
        search_results([], [])


def test_a_box_stands_where_it_is_in_the_scene(tmp_path: Path) -> None:
    scene = tmp_path / "scene.png"
    Image.new("RGB", (300, 150)).save(scene)
    figure = search_results([Place(scene, np.array([30, 15, 90, 120], np.float32))], [[]], top=2)
    (axes,) = figure.axes
    left, right, bottom, top = axes.images[0].get_extent()
    box = axes.patches[1]
    x, y = (box.get_x() - left) / (right - left), (box.get_y() - top) / (bottom - top)
    assert (x, y) == pytest.approx((0.1, 0.1))
    assert box.get_width() / (right - left) == pytest.approx(0.2)
    assert box.get_height() / (bottom - top) == pytest.approx(0.7)


def test_the_report_of_a_run_has_its_pictures(trained: tuple[Path, str]) -> None:
    run, said = trained
    page = (run / "report" / "index.html").read_text()
    for name in ("search-result", "tsne", "curves"):
        assert (run / "report" / f"{name}.png").stat().st_size > 5_000
    assert "No picture was saved" not in page
    assert str(run / "report" / "index.html") in said
    for text in ("persons in scenes, without identities", "detection AP", "top&#8209;1", "not picked"):
        assert text in page
    assert ">no</td>" in page  # camera ids were not read
    assert "T&#x27;" not in page  # nor is there a panel of augmented crops


def test_a_part_of_a_large_gallery_is_searched_for_the_picture() -> None:
    from reseen.data import Targets

    names = tuple(f"{n}.jpg" for n in range(400))
    boxes = {row: np.zeros(4, np.float32) for row in range(100, 140)}
    rows = np.arange(400, dtype=np.int32)
    part = search_report.some_scenes(Targets(names, {n: i for i, n in enumerate(names)}, rows, boxes))
    assert part == sorted(set(part))
    assert len(part) == search_report.SCENES
    assert sum(row in boxes for row in part) == search_report.SHOWING
    few = search_report.some_scenes(Targets(names, {n: i for i, n in enumerate(names)}, rows[:9], {}))
    assert few == list(range(9))


def test_tsne_takes_the_persons_with_most_boxes(
    run: Path, data: SearchData, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert data.train_identities is not None
    shown: dict[str, Any] = {}

    def keep(features: Any, identities: Any, **more: Any) -> Any:
        shown.update(features=features, identities=identities)
        return search_results([Place(data.train[0].path, data.train[0].boxes[0])], [[]])

    monkeypatch.setattr(search_report, "tsne", keep)
    monkeypatch.setattr(search_report, "TSNE_PEOPLE", 2)
    monkeypatch.setattr(search_report, "TSNE_BOXES", 3)
    labels = np.concatenate(data.train_identities)
    nobody = replace(
        data, train_identities=tuple(np.full_like(part, UNLABELLED) for part in data.train_identities)
    )
    searcher = reseen.PersonSearcher.load(run)
    search_report.tsne_picture(run, nobody, {"a": searcher}, seed=0)
    search_report.tsne_picture(run, replace(data, train_identities=None), {"a": searcher}, seed=0)
    assert not shown
    search_report.tsne_picture(run, data, {"a": searcher}, seed=0)
    counts = sorted(np.bincount(labels).tolist(), reverse=True)
    assert sorted(np.bincount(shown["identities"]).tolist(), reverse=True)[:2] == [
        min(count, 3) for count in counts[:2]
    ]
    # features are those of the boxes that the identities belong to
    first = next(
        (scene, row)
        for scene, part in enumerate(data.train_identities)
        for row, person in enumerate(part)
        if person == shown["identities"][0]
    )
    expected = searcher.embed(data.train[first[0]].path, data.train[first[0]].boxes[first[1]][None])
    np.testing.assert_allclose(shown["features"]["a"][0], expected[0], atol=1e-5)


# --- in a program ---


def test_person_searcher_finds_what_is_scored(run: Path, data: SearchData) -> None:
    searcher = reseen.PersonSearcher.load(run)
    probe = data.probes[0]
    found = find_persons(
        searcher.network, data.test, data.test_names, trained_config(run), probes=data.probes
    )
    scene = data.test[probe.scene]
    expected, seen = found.detections[data.test_names[probe.scene]], searcher(scene.path)
    assert len(seen.boxes) == len(expected.boxes) > 0
    order = np.argsort(-expected.scores, kind="stable")
    np.testing.assert_allclose(seen.boxes, expected.boxes[order], atol=1e-3)
    np.testing.assert_allclose(seen.scores, expected.scores[order], atol=1e-5)
    np.testing.assert_allclose(seen.features, expected.features[order], atol=1e-5)
    np.testing.assert_allclose(searcher.embed(scene.path, probe.box[None])[0], found.probes[0], atol=1e-5)
    sure = searcher(scene.path, min_score=0.5)
    assert len(sure.boxes) == (expected.scores >= 0.5).sum()


def test_a_scene_is_a_path_an_image_or_an_array(run: Path, data: SearchData, tmp_path: Path) -> None:
    searcher = reseen.PersonSearcher.load(run / "checkpoint" / "best-on-test.safetensors", device="cpu")
    path = data.test[0].path
    with Image.open(path) as image:
        scenes = [str(path), image.copy(), np.array(image)]
        turned = image.rotate(90, expand=True)  # upright again by its EXIF orientation
        exif = Image.Exif()
        exif[0x0112] = 6
        turned.save(tmp_path / "turned.png", exif=exif)
    expected = searcher(path)
    with Image.open(tmp_path / "turned.png") as image:
        for scene in (*scenes, image):
            np.testing.assert_array_equal(searcher(scene).boxes, expected.boxes)
    for scene in (np.zeros((4, 5, 3)), np.zeros((3, 4, 5, 3), np.uint8), None, path.parent / "none.png"):
        with pytest.raises(ReseenError):
            searcher(scene)
    assert searcher(np.zeros((40, 60), np.uint8)).features.shape[1] == 16
    assert searcher.embed(path, []).shape == (0, 16)


@pytest.mark.parametrize(
    "box", [[9, 5, 5, 9], [5, 5, 5, 9], [900, 5, 950, 9], [float("nan"), 0, 1, 1]], ids=str
)
def test_a_box_that_shows_nobody_is_one_line(run: Path, data: SearchData, box: list[float]) -> None:
    searcher = reseen.PersonSearcher.load(run)
    with pytest.raises(ReseenError, match=r"box 1 is .* shows nobody"):
        searcher.embed(data.test[0].path, [[1, 1, 9, 9], box])
    with pytest.raises(ReseenError, match="rows of x1"):
        searcher.embed(data.test[0].path, [1, 2, 3, 4])


def test_a_model_for_crops_is_no_person_searcher(two: Path) -> None:
    with pytest.raises(ReseenError, match="model for crops"):
        reseen.PersonSearcher.load(two / "reid")
    with pytest.raises(AttributeError):
        _ = reseen.PersonSeeker


# --- in two steps: configuration ---


def test_settings_go_to_the_step_they_name(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "seed: 5\nreid: {recipe: cluster-contrast, train: {epochs: 9}}\ndetector: {train.epochs: 4}\n"
    )
    settings = ["train.lr=0.5", "reid.train.lr=0.25", "detector.search.detector=faster-rcnn"]
    both = two_step_configuration(tmp_path, False, None, file, settings)
    assert (both.detector.seed, both.reid.seed) == (5, 5)
    assert (both.detector.train.epochs, both.reid.train.epochs) == (4, 9)
    assert (both.detector.train.lr, both.reid.train.lr) == (0.5, 0.25)
    assert both.detector.search.detector == "faster-rcnn"
    assert both.reid.method == "cluster-contrast"
    assert not both.detector.search.reidentifies
    plain = two_step_configuration(tmp_path, False, None, None, [])
    assert (plain.detector.recipe, plain.reid.recipe) == ("r-siamnet", "spcl")
    assert two_step_configuration(tmp_path, False, "cacl", None, []).reid.method == "cacl"


def test_a_two_step_configuration_survives_its_file(tmp_path: Path) -> None:
    both = two_step_configuration(tmp_path, False, "cacl-strong", None, ["reid.train.lr_steps=[0.3,0.6]"])
    (tmp_path / "config.yaml").write_text(two_step_yaml(both))
    assert is_two_step(tmp_path)
    assert read_two_step(tmp_path) == both
    assert two_step_configuration(tmp_path, True, None, None, []) == both
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
        (("--camera-pattern", "c(.)"), "scenes say their camera"),
    ],
    ids=str,
)
def test_a_wrong_setting_names_its_step(street: Path, tmp_path: Path, given: Any, said: str) -> None:
    run = tmp_path / "run"
    assert said in refused("train", "two-step", "--data", street, "--run", run, "--weights", "none", *given)
    assert not run.exists()


# --- in two steps: the run ---


def rows_of(run: Path) -> list[dict[str, str]]:
    with open(run / "crops" / "crops.csv", newline="") as file:
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


def test_cut_out_takes_whole_pixels() -> None:
    image = torch.arange(3 * 20 * 30, dtype=torch.int64).remainder(256).to(torch.uint8).view(3, 20, 30)
    boxes = [[2.2, 3.7, 5.1, 8.0], [-4, -4, 2, 2], [25, 15, 40, 40], [7.5, 7.5, 7.5, 7.5], [30, 20, 33, 22]]
    first, second, third, point, corner = cut_out(image, np.array(boxes, np.float32))
    assert torch.equal(first, image[:, 3:8, 2:6])
    assert torch.equal(second, image[:, :2, :2])
    assert torch.equal(third, image[:, 15:, 25:])
    assert torch.equal(point, image[:, 7:8, 7:8])
    assert torch.equal(corner, image[:, 19:, 29:])


def test_ground_truth_boxes_of_test_scenes_are_not_looked_at(two: Path, data: SearchData) -> None:
    """At test only the query's own box is given: without any annotation the same is found."""
    bare = tuple(replace(scene, boxes=np.zeros((0, 4), np.float32)) for scene in data.test)
    _, find = two_step_finder(two)
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


def test_a_search_in_two_steps_is_scored_like_any_other(two: Path, street: Path, data: SearchData) -> None:
    (measured,) = lines(two / "metrics.jsonl")
    _, find = two_step_finder(two)
    found = find(data.test, data.test_names, data.probes)
    galleries = reseen.data.open_galleries(data)
    queries = [
        SearchQuery(found.probes[p], t)
        for p, t in zip(galleries.probes.tolist(), galleries.targets, strict=True)
    ]
    expected = person_search_scores(queries, found.detections)
    assert measured["test"]["mean_ap"] == pytest.approx(expected.mean_ap)
    assert measured["test"]["detection_ap"] > 0
    out = done("evaluate", two, "--data", street)
    assert f"mAP {expected.mean_ap:.1%}" in out
    first, second = lines(two / "evaluations.jsonl")  # of training, and of this command
    assert first == second
    assert (first["chosen"], first["epoch"]) == ("last", 1)
    for choice in ("label-free", "best-on-test"):  # one epoch is nothing to choose from
        assert f"chose no {choice}" in refused("evaluate", two, "--data", street, "--epoch", choice)


def test_the_page_of_two_steps(two: Path, street: Path) -> None:
    shutil.rmtree(two / "report")
    done("report", two, "--data", street)
    page = (two / "report" / "index.html").read_text()
    assert (two / "report" / "search-result.png").exists()
    for text in ("crops of detected persons", "reid/report/index.html", "two-step"):
        assert text in page
    for step in ("detector", "reid"):
        assert (two / step / "report" / "index.html").exists()


def test_two_steps_in_a_program(two: Path, data: SearchData) -> None:
    searcher = reseen.PersonSearcher.load(two)
    _, find = two_step_finder(two)
    found = find(data.test, data.test_names, data.probes)
    probe = data.probes[0]
    name, path = data.test_names[probe.scene], data.test[probe.scene].path
    seen = searcher(path, min_score=0.5)
    order = np.argsort(-found.detections[name].scores, kind="stable")
    assert len(seen.boxes) == len(order) > 0
    np.testing.assert_allclose(seen.features, found.detections[name].features[order], atol=1e-5)
    np.testing.assert_allclose(searcher.embed(path, probe.box[None])[0], found.probes[0], atol=1e-5)


def test_a_finished_part_is_not_made_again(
    two: Path, street: Path, stepped: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Path] = []
    monkeypatch.setattr(two_step, "report", lambda run, **more: drawn.append(run))
    before = contents(stepped[0])
    again = ("train", "two-step", "--data", street, "--run", two)
    assert "already holds a run" in refused(*again)
    done(*again, "--resume")
    after = contents(two)
    assert set(after) == set(before)
    same = [name for name in before if not name.endswith(("metrics.jsonl", "index.html"))]
    assert len(same) > 12
    assert [name for name in same if after[name] != before[name]] == []
    assert drawn == [two / "detector", two / "reid", two]

    shutil.rmtree(two / "reid")  # killed between the steps
    (two / "metrics.jsonl").unlink()
    (two / "evaluations.jsonl").unlink()
    monkeypatch.setattr(two_step, "detect_persons", None)  # crops are there
    out = done(*again, "--resume")
    assert "after epoch 30 of 30" in out
    after = contents(two)
    kept = [name for name in before if name.startswith(("detector/checkpoint", "crops")) or "eval" in name]
    assert [name for name in kept if after[name] != before[name]] == []
    (first, _), (second, _) = (load_encoder(run / "reid") for run in (stepped[0], two))
    for name, weights in first.state_dict().items():
        assert torch.equal(second.state_dict()[name], weights), name


def test_a_detector_that_finds_nobody_ends_in_one_line(street: Path, tmp_path: Path) -> None:
    given = ("--data", street, "--run", tmp_path / "run", "--weights", "none")
    less = words(("train.epochs=1", "train.lr=1e-6"), "detector.")
    line = refused("train", "two-step", *given, *two_steps(), *less)
    assert "the detector found nobody in 8 training scenes" in line
    assert "detector.train.epochs" in line


def test_crops_too_few_for_the_second_step_name_it(two: Path, street: Path) -> None:
    shutil.rmtree(two / "reid")
    given = ("train", "two-step", "--data", street, "--run", two, "--resume")
    assert refused(*given, *two_steps("reid.cluster.k1=500")).startswith("reid: ")


def test_without_the_data_a_report_draws_no_scene(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*given: Any, **more: Any) -> None:
        raise AssertionError(given)

    monkeypatch.setattr(run_report, "search_pictures", fail)
    assert done("report", run) == f"report: {run / 'report' / 'index.html'}\n"
