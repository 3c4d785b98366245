"""How sure a run is: by clusters that it was not trained on last; told where it cannot be said; in its report."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch

import reseen
from command_runs import done
from galleries import calibration
from reseen.commands import report
from reseen.config import resolve
from reseen.errors import ReseenError
from reseen.files import to_json
from reseen.methods import METHODS
from reseen.metrics.calibration import Calibration, bin_of
from reseen.reports import draw
from reseen.tasks import read_calibration
from reseen.tasks.calibrated import Calibrated
from reseen.training import LAST, read_checkpoint
from reseen.training.checkpoint import write_checkpoint
from test_cli import tiny
from worlds import people

PERSONS = 36


@pytest.fixture(autouse=True)
def few_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a report's pictures only the one that is asked for here: t-SNE takes seconds."""

    def draw_calibrated(run_dir: Path, pictures: Iterable[object]) -> list[Path]:
        return draw(run_dir, [picture for picture in pictures if isinstance(picture, Calibrated)])

    monkeypatch.setattr(report, "draw", draw_calibrated)


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """36 striped people under two cameras, in Market-1501's layout."""
    root = tmp_path_factory.mktemp("crowd")
    people(root / "bounding_box_train", identities=PERSONS)
    people(root / "bounding_box_test", identities=20, per_camera=2, seed=1)
    (root / "query").mkdir()
    for first in (root / "bounding_box_test").glob("*_000000_00.png"):
        first.rename(root / "query" / first.name)
    return root


@pytest.fixture(scope="module")
def run(crowd: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One branch after a step; the labels of its checkpoint are then those of a clustering that got it right."""
    run_dir = tmp_path_factory.mktemp("runs") / "single"
    settings = tiny("train.epochs=1", "train.evaluate_every=0", "cluster.eps=0.5")
    given = ("--data", crowd, "--run", run_dir, "--weights", "none", "--recipe", "cacl-single", *settings)
    said = done("train", "cacl", *given)
    path = run_dir / "checkpoint" / LAST
    checkpoint = read_checkpoint(path)
    identities = torch.arange(PERSONS).repeat_interleave(4)  # as sorted names come
    write_checkpoint(path, {**checkpoint.tensors, "labels": identities}, checkpoint.state)
    assert "calibration" not in said
    return run_dir


def calibration_of(run: Path) -> Calibration | None:
    return read_calibration(run, reseen.Embedder.load(run))


def test_a_report_says_how_sure_the_run_is(run: Path, crowd: Path) -> None:
    done("report", run, "--data", crowd)
    calibration = calibration_of(run)
    assert calibration is not None
    assert (calibration.clusters, calibration.groups) == (PERSONS, "cameras")
    assert calibration.log_ratio[bin_of(1.0)] > calibration.log_ratio[bin_of(0.0)]
    tree = json.loads((run / "calibration.json").read_text())
    assert tree["judged_by"] == "clusters of the epoch before"
    assert sum(tree["test"]["pairs"]) == 20 * 2 * 20  # each query across cameras: one image of each person
    assert tree["test"]["true"][-1] is None or 0 <= tree["test"]["true"][-1] <= 1
    groups = run.parent / "groups.csv"
    done("cluster", run, "--data", crowd, "--out", groups)
    with open(groups, newline="") as file:
        rows = list(csv.DictReader(file))
    assert all((row["group"] == "") == (row["probability"] == "") for row in rows)
    assert any(0 <= float(row["probability"]) <= 1 for row in rows if row["probability"])
    page = (run / "report" / "index.html").read_text()
    assert "How sure" in page
    assert "across cameras" in page
    out = run.parent / "ranked.csv"
    done("evaluate", run, "--data", crowd, "--lists", out)
    with open(out, newline="") as file:
        rows = list(csv.DictReader(file))
    similarity, said = (
        np.array([float(row[name]) for row in rows]) for name in ("similarity", "probability")
    )
    expected = calibration.probability(similarity, tree["test"]["prior"])[
        0
    ]  # of the same queries and gallery
    assert said == pytest.approx(expected, abs=1e-4)
    done("evaluate", run, "--data", crowd, "--lists", out, "--view", "grey")  # what nobody fitted
    with open(out, newline="") as file:
        assert {row["probability"] for row in csv.DictReader(file)} == {""}


def test_what_the_labels_say_is_what_is_fitted(run: Path, crowd: Path, tmp_path: Path) -> None:
    """Labels at random: no similarity says anything, and the probability says that."""
    copy = shutil.copytree(run, tmp_path / "run")
    path = copy / "checkpoint" / LAST
    checkpoint = read_checkpoint(path)
    shuffled = torch.from_numpy(np.random.default_rng(0).permutation(PERSONS * 4) % PERSONS)
    write_checkpoint(path, {**checkpoint.tensors, "labels": shuffled}, checkpoint.state)
    done("report", copy, "--data", crowd)
    right, wrong = calibration_of(run), calibration_of(copy)
    assert right is not None
    assert wrong is not None
    assert right.log_ratio.max() > 2 > wrong.log_ratio.max()


def test_two_branches_judge_each_other(crowd: Path, tmp_path: Path) -> None:
    settings = tiny("train.epochs=1", "train.evaluate_every=0", "cluster.eps=0.3")
    given = ("--data", crowd, "--run", tmp_path / "run", "--weights", "none", *settings)
    said = done("train", "cacl", *given)
    if "no probability" in said:
        assert "are needed" in said
        assert calibration_of(tmp_path / "run") is None
    else:
        tree = json.loads((tmp_path / "run" / "calibration.json").read_text())
        assert "second branch" in tree["judged_by"]


def test_where_nothing_can_be_said_a_line_says_why(
    run: Path, finished: Path, world: Path, tmp_path: Path
) -> None:
    said = done("report", finished, "--data", world)
    assert "no probability beside similarities" in said
    assert "and 30 are needed" in said
    assert calibration_of(finished) is None
    other = shutil.copytree(run, tmp_path / "other")
    said = done("report", other, "--data", world)
    assert "not the images that the run was trained on" in said


def test_in_two_steps_it_is_the_second_that_is_sure(run: Path, tmp_path: Path) -> None:
    model = reseen.Embedder.load(run)
    (tmp_path / "reid").mkdir()
    tree = {**calibration().as_json(), "model": model.fingerprint}
    (tmp_path / "reid" / "calibration.json").write_text(to_json(tree))
    config, method = (
        resolve("street-search", None, ["search.channels=16", "search.dim=32"]),
        METHODS["r-siamnet"],
    )
    network = method.shipped(config, method.encoder(config))
    assert read_calibration(tmp_path, reseen.PersonSearcher(network, config, second=model)) is not None
    assert read_calibration(tmp_path / "reid", reseen.PersonSearcher(network, config)) is None


def test_a_damaged_calibration_is_told(run: Path, tmp_path: Path) -> None:
    model = reseen.Embedder.load(run)
    (tmp_path / "calibration.json").write_text(to_json({"log_ratio": [1.0]}))
    with pytest.raises(ReseenError, match="damaged: make it again with reseen report"):
        read_calibration(tmp_path, model)
    (tmp_path / "calibration.json").write_text("{")
    with pytest.raises(ReseenError, match="make it again with reseen report"):
        read_calibration(tmp_path, model)
