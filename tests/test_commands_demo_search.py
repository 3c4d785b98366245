"""The person search demo: what it compares, on which boxes, and that it goes on where it stopped."""

from __future__ import annotations

import dataclasses
import json
import shlex
import shutil
import time
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from command_runs import done
from processes import FORKS, start
from reseen.cli import main
from reseen.commands import demo_search as both
from reseen.commands.demo import refuse_another
from reseen.commands.demo_search import ALONE, demo_search
from reseen.config import differences
from reseen.data import read_image
from reseen.errors import ReseenError
from reseen.evaluation.search import find_persons
from reseen.evaluation.search_baselines import given_record, true_boxes, true_crops
from reseen.inference import load_searcher
from reseen.records import Probe, SearchData
from reseen.street import draw_scenes
from reseen.training import LAST, START, trained_config

STREET = {
    "train_scenes": 4,
    "test_scenes": 6,
    "train_identities": 5,
    "test_identities": 4,
    "cameras": 2,
    "persons": (2, 3),
}
SETTINGS = (
    "train.epochs=2",
    "search.channels=16",
    "search.dim=32",
    "search.long_side=192",
    "search.short_side=128",
    "train.precision=none",
    "train.device=cpu",
)
SCORES = ("mean_ap", "top1", "detection_ap")


@pytest.fixture(scope="module")
def street(tmp_path_factory) -> SearchData:
    return draw_scenes(tmp_path_factory.mktemp("street"), seed=1, **STREET)


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """Folder, rows and what was printed."""
    run, printed = tmp_path_factory.mktemp("demo") / "run", StringIO()
    with redirect_stdout(printed), pytest.MonkeyPatch.context() as patch:
        patch.setattr("reseen.commands.demo_search.multiprocessing.get_context", lambda way: FORKS)
        rows = demo_search(run=run, seed=1, street=STREET, settings=SETTINGS)
    return run, rows, printed.getvalue()


@pytest.fixture
def finished(told):
    return told[:2]


@pytest.fixture
def said(told):
    return told[2]


def one_hot(street: SearchData) -> np.ndarray:
    return np.eye(64, dtype=np.float32)[np.concatenate(street.test_identities)]


def test_features_that_know_the_identity_find_everybody(street):
    record = given_record(street, one_hot(street))
    assert record["mean_ap"] == record["top1"] == 1.0
    assert record["queries"] == len(street.probes)
    assert not any(key.startswith("detection") for key in record)  # nobody was detected


def test_each_true_box_has_the_feature_of_its_row(street):
    record = given_record(street, np.roll(one_hot(street), 1, axis=0))
    assert record["mean_ap"] < 0.9


def test_features_must_be_as_many_as_boxes(street):
    with pytest.raises(ReseenError, match="true boxes"):
        given_record(street, one_hot(street)[1:])


def test_a_query_in_a_box_that_nobody_annotated_is_refused(street):
    moved = Probe(0, street.probes[0].box + 1, 0, street.probes[0].identity)
    with pytest.raises(ReseenError, match="not among"):
        given_record(dataclasses.replace(street, probes=(moved,)), one_hot(street))


def test_crops_are_the_pixels_of_the_boxes(street, tmp_path):
    crops, boxes = true_crops(street, tmp_path), true_boxes(street)
    assert len(crops) == len(boxes) == sum(len(scene.boxes) for scene in street.test)
    assert len({crop.path.name for crop in crops}) == len(crops)
    for crop, probe in zip(crops, boxes, strict=True):
        left, top, right, bottom = (
            int(side) for side in probe.box
        )  # the street's boxes are half pixels at most
        scene = read_image(street.test[probe.scene].path).permute(1, 2, 0).numpy()
        seen = np.asarray(Image.open(crop.path))
        shape = (int(np.ceil(probe.box[3])) - top, int(np.ceil(probe.box[2])) - left)
        assert seen.shape[:2] == shape
        assert (seen[: bottom - top, : right - left] == scene[top:bottom, left:right]).all()
        assert crop.camera == street.test[probe.scene].camera


def test_a_baseline_gets_the_crops_in_the_order_of_the_boxes(street, tmp_path):
    crops = true_crops(street, tmp_path)
    asked = []

    def knows(given):
        asked.extend(given)
        return one_hot(street)

    assert given_record(street, knows(crops))["mean_ap"] == 1.0
    assert tuple(asked) == crops


def test_the_demo_compares_on_true_boxes_and_on_its_own(finished):
    run, rows = finished
    trivial = ["chance", "colour histogram", "striped colour histogram", "normalised thumbnail", "row means"]
    networks = ["untrained network", "L_clu alone", "R-SiamNet"]
    assert [(row["name"], row["boxes"]) for row in rows] == [
        *((name, "true") for name in trivial),
        *((name, boxes) for name in networks for boxes in ("true", "its own")),
    ]
    for row in rows:
        assert ("detection_ap" in row) == (row["boxes"] == "its own")
        assert all(0 <= row[score] <= 1 for score in SCORES if score in row)
    assert json.loads((run / "report" / "comparison.json").read_text()) == rows
    page = (run / "report" / "index.html").read_text()
    assert "colour histogram" in page
    assert "detection AP" in page
    assert (run / "report" / "curves.png").exists()


def test_the_last_rows_are_what_training_measured(finished):
    run, rows = finished
    for row, folder in ((rows[-3], run / ALONE), (rows[-1], run)):
        last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])["test"]
        assert {score: row[score] for score in SCORES} == {score: last[score] for score in SCORES}


def test_true_boxes_of_the_untrained_network_are_its_features(finished):
    run, rows = finished
    street = draw_scenes(run / "street", seed=1, **STREET)
    network, checkpoint = load_searcher(run / "checkpoint" / START)
    found = find_persons(
        network, street.test, street.test_names, checkpoint.config, probes=true_boxes(street)
    )
    assert given_record(street, found.probes.numpy())["mean_ap"] == pytest.approx(rows[5]["mean_ap"])


def test_the_second_training_lacks_the_instance_losses_and_nothing_else(finished):
    run, _ = finished
    whole, alone = trained_config(run), trained_config(run / ALONE)
    assert differences(whole, alone) == [
        "train.evaluate_every",  # diagnostics
        "search.self_instance",
        "search.inter_instance",
    ]
    assert not alone.search.self_instance
    assert not alone.search.inter_instance
    assert alone.search.cluster


def test_the_detector_is_told_after_every_epoch(said):
    for epoch in (1, 2):
        assert (
            said.count(f"persons found after epoch {epoch}: AP") == 1
        )  # R-SiamNet's; the other one is quiet


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for child processes in /proc")
def test_the_second_training_ends_with_the_first(tmp_path):
    """A demo that is killed leaves no process behind that writes into its folder."""
    words = ["train.epochs=500", *SETTINGS[1:]]
    call = f"demo_search(run=Path({str(tmp_path / 'run')!r}), seed=1, street={STREET!r}, settings={words!r})"
    # Forked instead of spawned: the imports are there, and what ends the child is the same.
    forked = (
        "import multiprocessing as mp\nfork = mp.get_context('fork')\nmp.get_context = lambda way: fork\n"
    )
    demo = start(
        f"{forked}from pathlib import Path\nfrom reseen.commands.demo_search import demo_search\n{call}"
    )
    metrics = tmp_path / "run" / ALONE / "metrics.jsonl"
    try:
        _wait(lambda: metrics.exists() and metrics.read_text() != "")
        pid = demo.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    finally:
        demo.kill()
    assert children
    _wait(lambda: not any(Path(f"/proc/{child}").exists() for child in children))


def _wait(done, seconds: float = 180.0) -> None:
    until = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < until
        time.sleep(0.2)


@pytest.mark.parametrize(
    ("words", "called", "folder"), [((), "demo", "demo"), (("--search",), "demo_search", "demo-search")]
)
def test_the_command_line_has_both_demos(words, called, folder, monkeypatch):
    asked = []
    for name in ("demo", "demo_search"):
        monkeypatch.setattr(both, name, lambda name=name, **given: asked.append((name, given)))
    assert main(["demo", *words, "--seed", "4"]) == 0
    assert main(["demo", *words, "--run", "mine", "--resume"]) == 0
    assert asked == [
        (called, {"run": Path("runs") / folder, "seed": 4, "resume": False}),
        (called, {"run": Path("mine"), "seed": 3, "resume": True}),
    ]


def test_a_demo_goes_on_where_it_stopped_and_not_before(finished, tmp_path, monkeypatch):
    monkeypatch.setattr("reseen.commands.demo_search.report_on", lambda *given: None)  # seconds of pictures
    half = shutil.copytree(finished[0], tmp_path / "half")
    shutil.rmtree(half / ALONE)
    before = (half / "checkpoint" / LAST).stat().st_mtime_ns
    with pytest.raises(ReseenError, match="another --run"):
        demo_search(run=half, seed=1, street=STREET, settings=SETTINGS)
    monkeypatch.setattr("reseen.commands.demo_search.multiprocessing.get_context", lambda way: FORKS)
    assert demo_search(run=half, seed=1, resume=True, street=STREET, settings=SETTINGS) == finished[1]
    assert (half / "checkpoint" / LAST).stat().st_mtime_ns == before


def test_it_ends_with_commands_that_open_the_page_on_what_it_trained(told, monkeypatch):
    run, _, said = told
    index, serve = (shlex.split(line)[1:] for line in said.splitlines() if line.startswith("  reseen "))
    assert said.endswith(f"reseen serve {run / 'gallery'} --images {run / 'street'}\n")
    done(*index, "--annotated")  # after two epochs it finds nobody by itself
    apps = []
    monkeypatch.setattr("uvicorn.Server.run", lambda self, sockets: apps.append(self.config.app))
    assert "http://127.0.0.1:" in done(*serve, "--port", 0)
    with TestClient(apps[0], base_url="http://127.0.0.1") as client:
        rows = client.get("/api/rows").json()["rows"]
        assert all(row["scene"] for row in rows)
        assert client.get(f"/api/rows/{rows[0]['row']}/scene").content[:2] == b"\xff\xd8"


@pytest.mark.parametrize(
    ("page", "way_out"), [(True, "look at .*index.html"), (False, "go on with --resume")]
)
def test_a_demo_that_was_begun_is_not_begun_again(page, way_out, tmp_path):
    refuse_another(tmp_path, tmp_path, tmp_path / ALONE)
    for file in [f"{ALONE}/checkpoint/{LAST}"] + ["report/index.html"] * page:
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).touch()
    with pytest.raises(ReseenError, match=f"already holds a demo: .*{way_out}, or choose another --run"):
        refuse_another(tmp_path, tmp_path, tmp_path / ALONE)
