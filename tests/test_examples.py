"""Every example runs as its first lines say, on a small drawn street; the loop in sight computes what CACL computes."""

from __future__ import annotations

import csv
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from reseen.config import resolve
from reseen.data import open_data
from reseen.methods.cacl import METHOD
from reseen.records import SceneDetections, SearchData
from reseen.street import draw_crops
from reseen.training import fit
from worlds import TINY, TINY_SEARCH

EXAMPLES = Path(__file__).parents[1] / "examples"
CROPS = [*TINY, "weights=none"]
SCENES = [*TINY_SEARCH, "weights=none", "train.epochs=1"]


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("crops") / "street"
    draw_crops(folder, train_identities=6, test_identities=3, cameras=2, frames=2)
    return folder


@pytest.fixture
def run_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run an example as a program, in an empty folder; returns its names."""
    monkeypatch.chdir(tmp_path)

    def run(name: str, *words: object) -> dict[str, Any]:
        monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
        return runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")

    return run


def test_each_example_is_short_and_has_a_test() -> None:
    examples = sorted(EXAMPLES.glob("*.py"))
    assert [path.name for path in examples if path.read_text().count("\n") > 80] == []
    tests = Path(__file__).read_text()
    assert [path.stem for path in examples if f'run_example("{path.stem}"' not in tests] == []


def test_the_loop_in_sight_is_cacl(run_example: Any, crops: Path, tmp_path: Path) -> None:
    """Two epochs of the example and of ``reseen train cacl`` give the same network, bit for bit."""
    run_example("cacl_from_parts", crops, *CROPS)
    ours = torch.load(tmp_path / "cacl.pt", weights_only=True)
    images = open_data(crops)
    config = resolve("cacl", None, [*CROPS, "train.channels_last=false"])
    run = fit(config, images.train, METHOD, folder=tmp_path / "run", root=images.root, say=lambda line: None)
    theirs = METHOD.deployed(run.networks).state_dict()
    assert ours.keys() == theirs.keys()
    assert [name for name, tensor in theirs.items() if not torch.equal(ours[name], tensor)] == []


def test_a_method_of_ones_own(run_example: Any, crops: Path, tmp_path: Path) -> None:
    words = [*CROPS, "train.batch_size=8", "train.instances=2"]
    names = run_example("your_own_method", crops, tmp_path / "run", *words)
    again = names["main"](crops, tmp_path / "run", words)  # a finished run is loaded
    assert 0 < again.mean_ap <= 1
    assert (tmp_path / "run" / "metrics.jsonl").read_text().count("triplet") == 2

    x = torch.nn.functional.normalize(torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), dim=1)
    labels = torch.tensor([0, 0, 1, 1, 1, 2])
    expected = []
    for i in range(6):
        distances = [(a - x[i]).norm().item() for a in x]
        positive = max(d for d, label in zip(distances, labels, strict=True) if label == labels[i])
        negative = min(d for d, label in zip(distances, labels, strict=True) if label != labels[i])
        expected.append(np.log1p(np.exp(positive - negative)))
    assert names["triplet_loss"](x, labels).item() == pytest.approx(np.mean(expected), abs=1e-3)


def test_a_folder_is_grouped(run_example: Any, crops: Path, tmp_path: Path) -> None:
    run_example("group_a_folder", crops, tmp_path / "run", *CROPS)
    with open(tmp_path / "run" / "groups.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["path"] for row in rows) == sorted(str(crop.path) for crop in open_data(crops).train)
    groups = [int(row["group"]) for row in rows]
    known = [group for group in groups if group >= 0]
    assert known == sorted(known)
    assert groups == known + [-1] * (len(groups) - len(known))  # who is in none comes last
    assert set(known) == set(range(max(known) + 1))


class Knows:
    """A searcher that finds every person of the drawn scenes, with their identity as the feature."""

    def __init__(self, scenes: SearchData) -> None:
        assert scenes.test_identities is not None
        self.persons = {
            scene.path: SceneDetections(scene.boxes, np.ones(len(who)), np.eye(20)[who])
            for scene, who in zip(scenes.test, scenes.test_identities, strict=True)
        }

    def __call__(self, path: Path, *, min_score: float) -> SceneDetections:
        return self.persons[path]

    def embed(self, path: Path, boxes: Any) -> Any:
        persons = self.persons[path]
        return persons.features[[np.flatnonzero((persons.boxes == box).all(1))[0] for box in boxes]]


def test_a_person_is_searched_in_other_scenes(run_example: Any, street: SearchData, tmp_path: Path) -> None:
    names = run_example("search_a_scene", street.root, tmp_path / "run", *SCENES)
    made = (tmp_path / "run" / "config.yaml").stat().st_mtime_ns
    names["main"](street.root, tmp_path / "run", {})
    assert (
        tmp_path / "run" / "config.yaml"
    ).stat().st_mtime_ns == made  # a run that is there is not trained again
    with Image.open(tmp_path / "run" / "found.png") as picture:
        assert picture.height == 256

    assert street.test_identities is not None
    who = {s.path: labels.tolist() for s, labels in zip(street.test, street.test_identities, strict=True)}
    for probe in street.probes:
        scene = street.test[probe.scene].path
        others = [path for path in who if path != scene]
        found = names["search"](Knows(street), scene, probe.box, others, top=len(others))
        shown = [similarity == 1 for similarity, _, _ in found]
        assert shown == sorted((probe.identity in who[path] for path in others), reverse=True)
        for _, path, box in found[: sum(shown)]:
            boxes = next(s.boxes for s in street.test if s.path == path)
            np.testing.assert_array_equal(box, boxes[who[path].index(probe.identity)])
