"""Person search from the command line: evaluation, ranked lists and pictures."""

from __future__ import annotations

import html
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex
from PIL import Image

import reseen
from command_runs import done, lines
from reseen.data import open_search_data
from reseen.errors import ReseenError
from reseen.evaluation.lists import ranked_hits
from reseen.evaluation.search import evaluate_searcher, find_persons
from reseen.inference import load_searcher
from reseen.metrics import SceneDetections, SearchQuery, person_search_scores
from reseen.progress import Progress
from reseen.records import UNLABELLED, SearchData
from reseen.reports.canvas import BLUE, GREEN, VERMILLION
from reseen.reports.figures import search_figure
from reseen.tasks import TASKS, scenes, search_results
from reseen.tasks.pictures import Place
from reseen.training import trained_config
from scene_worlds import cuhk_sysu
from test_cli import refused
from worlds import people


@pytest.fixture(scope="module")
def data(scenes_folder: Path) -> SearchData:
    return open_search_data(scenes_folder)


# --- evaluation ---


def test_evaluate_repeats_the_score_of_each_chosen_epoch(search_run: Path, scenes_folder: Path) -> None:
    records = {record["epoch"]: record for record in lines(search_run / "metrics.jsonl")}
    best = max((r["test"]["mean_ap"], n) for n, r in records.items() if "test" in r)
    for chosen, epoch in (("last", 30), ("best-on-test", best[1])):
        out = done("evaluate", search_run, "--data", scenes_folder, "--epoch", chosen)
        scored, measured = lines(search_run / "evaluations.jsonl")[-1], records[epoch]["test"]
        assert (scored["epoch"], scored["chosen"], scored["paths"]) == (epoch, chosen, "search")
        assert {key: scored[key] for key in measured} == pytest.approx(measured)
        assert f"mAP {measured['mean_ap']:.1%}" in out
        assert f"AP {measured['detection_ap']:.1%}  recall {measured['detection_recall']:.1%}" in out
    assert best[0] > 0  # else the comparison above would be of zeros


def test_evaluate_with_both_paths_joins_their_features(
    search_run: Path, scenes_folder: Path, data: SearchData
) -> None:
    done("evaluate", search_run, "--data", scenes_folder, "--paths", "both")
    (scored,) = lines(search_run / "evaluations.jsonl")
    network, checkpoint = load_searcher(search_run)
    search = checkpoint.config.search
    both = replace(checkpoint.config, search=replace(search, paths_at_test="both"))
    expected = evaluate_searcher(network, data, both)
    assert scored["paths"] == "both"
    assert {k: scored[k] for k in expected} == pytest.approx(expected)
    assert find_persons(network, data.test[:1], data.test_names[:1], both).probes.shape[1] == 2 * search.dim


def test_galleries_of_several_sizes_are_searched_in_features_computed_once(
    search_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    monkeypatch.setattr(
        "reseen.tasks.scenes.find_persons", lambda *a, **k: calls.append(1) or find_persons(*a, **k)
    )
    world = cuhk_sysu(tmp_path / "cuhk")
    out = done("evaluate", search_run, "--data", world, "--gallery-size", 50, "--gallery-size", 100)
    assert len(calls) == 1
    assert [line["gallery"] for line in lines(search_run / "evaluations.jsonl")] == ["50", "100"]
    assert [line["queries"] for line in lines(search_run / "evaluations.jsonl")] == [2, 2]
    assert "gallery of 50: mAP" in out
    done("evaluate", search_run, "--data", world)
    assert lines(search_run / "evaluations.jsonl")[-1]["gallery"] == "100"  # the benchmark's usual one
    assert "give 50, 100" in refused("evaluate", search_run, "--data", world, "--gallery-size", 70)
    assert len(calls) == 2  # a size that is not there is said before hours of work


def test_a_size_where_there_is_one_gallery_is_refused(search_run: Path, scenes_folder: Path) -> None:
    assert "it has one gallery" in refused(
        "evaluate", search_run, "--data", scenes_folder, "--gallery-size", 100
    )


def test_crops_for_scenes_and_scenes_for_crops_are_one_line(
    search_run: Path, two_step_run: Path, scenes_folder: Path, tmp_path: Path
) -> None:
    people(tmp_path / "crops")
    crops, new = tmp_path / "crops", ("--run", tmp_path / "new")
    for line in (
        refused("train", "r-siamnet", "--data", crops, *new),
        refused("train", "two-step", "--data", crops, *new),
        refused("evaluate", search_run, "--data", crops),
        refused("evaluate", two_step_run, "--data", crops),
        refused("report", search_run, "--data", crops),
    ):
        assert "holds none with person boxes" in line
    for line in (
        refused("train", "cacl", "--data", scenes_folder, *new),
        refused("evaluate", two_step_run / "reid", "--data", scenes_folder),
        refused("cluster", two_step_run / "reid", "--data", scenes_folder),
        refused("report", two_step_run / "reid", "--data", scenes_folder),
    ):
        assert "works on crops" in line
    assert "searches scenes" in refused("cluster", search_run, "--data", crops)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("option", [("--rerank",), ("--branch", "second"), ("--view", "grey")], ids=str)
def test_options_of_the_other_kind_are_refused(
    search_run: Path, two_step_run: Path, scenes_folder: Path, option: Any
) -> None:
    for folder in (search_run, two_step_run):
        assert f"{option[0]} is not for" in refused("evaluate", folder, "--data", scenes_folder, *option)
    for word in (("--paths", "both"), ("--gallery-size", 50)):
        assert f"{word[0]} is not for" in refused(
            "evaluate", two_step_run / "reid", "--data", scenes_folder, *word
        )


def test_scenes_without_queries_cannot_be_scored(search_run: Path, tmp_path: Path) -> None:
    from scene_worlds import coco

    coco(tmp_path / "train.json", {"a.jpg": [{"bbox": [1, 2, 10, 20]}], "b.jpg": [{"bbox": [1, 2, 9, 20]}]})
    assert "no test scenes with queries" in refused("evaluate", search_run, "--data", tmp_path)


def test_the_header_of_a_checkpoint_says_how_it_was_trained(search_run: Path, tmp_path: Path) -> None:
    assert trained_config(search_run) == load_searcher(search_run)[1].config
    file = tmp_path / "damaged.safetensors"
    file.write_bytes((search_run / "checkpoint" / "last.safetensors").read_bytes()[:500])
    with pytest.raises(ReseenError, match="damaged"):
        trained_config(file)


def test_a_choice_that_was_not_made_is_said(search_run: Path, scenes_folder: Path) -> None:
    (search_run / "checkpoint" / "label-free.safetensors").unlink()
    assert "chose no label-free" in refused(
        "evaluate", search_run, "--data", scenes_folder, "--epoch", "label-free"
    )


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
    figure = search_figure([Place(scene, box, ("in 5 scenes,",))] * 2, [hits, []], top=3)
    (axes,) = figure.axes
    whole = ("-", "solid")
    frames = [(to_hex(p.get_edgecolor()).upper(), p.get_linestyle() in whole) for p in axes.patches]
    assert frames.count((BLUE, True)) == 4  # box and person of both queries
    assert frames.count((GREEN, True)) == 2
    assert (frames.count((VERMILLION, False)), frames.count((VERMILLION, True))) == (2, 0)
    texts = [text.get_text() for text in axes.texts]
    assert {"✓", "✗", "similarity 0.9", "nobody else was found", "nobody was found"} <= set(texts)
    with pytest.raises(ReseenError, match="one at least"):
        search_figure([], [])


def test_a_box_stands_where_it_is_in_the_scene(tmp_path: Path) -> None:
    scene = tmp_path / "scene.png"
    Image.new("RGB", (300, 150)).save(scene)
    figure = search_figure([Place(scene, np.array([30, 15, 90, 120], np.float32))], [[]], top=2)
    (axes,) = figure.axes
    left, right, bottom, top = axes.images[0].get_extent()
    box = axes.patches[1]
    x, y = (box.get_x() - left) / (right - left), (box.get_y() - top) / (bottom - top)
    assert (x, y) == pytest.approx((0.1, 0.1))
    assert box.get_width() / (right - left) == pytest.approx(0.2)
    assert box.get_height() / (bottom - top) == pytest.approx(0.7)


def test_the_report_of_a_run_has_its_pictures(searched: tuple[Path, str]) -> None:
    run, said = searched
    page = (run / "report" / "index.html").read_text()
    for name in ("search-result", "tsne", "curves"):
        assert (run / "report" / f"{name}.png").stat().st_size > 5_000
    assert "No picture was saved" not in page
    assert str(run / "report" / "index.html") in said
    for text in ("persons in scenes, without identities", "detection AP", "top\u20111", "not picked"):
        assert text in html.unescape(page)
    assert ">no</td>" in page  # camera ids were not read
    assert "T'" not in html.unescape(page)  # nor is there a panel of augmented crops


def test_a_part_of_a_large_gallery_is_searched_for_the_picture() -> None:
    from reseen.data import Targets

    names = tuple(f"{n}.jpg" for n in range(400))
    boxes = {row: np.zeros(4, np.float32) for row in range(100, 140)}
    rows = np.arange(400, dtype=np.int32)
    part = search_results.some_scenes(Targets(names, {n: i for i, n in enumerate(names)}, rows, boxes))
    assert part == sorted(set(part))
    assert len(part) == search_results.SCENES
    assert sum(row in boxes for row in part) == search_results.SHOWING
    few = search_results.some_scenes(Targets(names, {n: i for i, n in enumerate(names)}, rows[:9], {}))
    assert few == list(range(9))


def test_tsne_takes_the_persons_with_most_boxes(
    search_run: Path, data: SearchData, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert data.train_identities is not None
    monkeypatch.setattr(scenes, "TSNE_PEOPLE", 2)
    monkeypatch.setattr(scenes, "TSNE_BOXES", 3)
    labels = np.concatenate(data.train_identities)
    nobody = replace(
        data, train_identities=tuple(np.full_like(part, UNLABELLED) for part in data.train_identities)
    )
    searcher = reseen.PersonSearcher.load(search_run)
    with Progress(quiet=True) as progress:
        for unknown in (nobody, replace(data, train_identities=None)):
            assert scenes.feature_map(unknown, {"a": searcher}, 0, progress) is None
        shown = scenes.feature_map(data, {"a": searcher}, 0, progress)
    assert shown is not None
    counts = sorted(np.bincount(labels).tolist(), reverse=True)
    assert sorted(np.bincount(shown.identities).tolist(), reverse=True)[:2] == [
        min(count, 3) for count in counts[:2]
    ]
    # features are those of the boxes that the identities belong to
    first = next(
        (scene, row)
        for scene, part in enumerate(data.train_identities)
        for row, person in enumerate(part)
        if person == shown.identities[0]
    )
    expected = searcher.embed(data.train[first[0]].path, data.train[first[0]].boxes[first[1]][None])
    np.testing.assert_allclose(shown.features["a"][0], expected[0], atol=1e-5)


def test_without_the_data_a_report_draws_no_scene(search_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*given: Any, **more: Any) -> None:
        raise AssertionError(given)

    monkeypatch.setitem(TASKS, "scenes", replace(TASKS["scenes"], pictures=fail))
    assert done("report", search_run) == f"report: {search_run / 'report' / 'index.html'}\n"
