"""Which weights a run begins with: recipe, `--weights`, and what a run folder remembers when it goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from reseen.config import resolve, to_yaml
from reseen.config.sections import LITE
from reseen.errors import ReseenError
from reseen.records import ReidData
from reseen.tasks import Settings
from reseen.tasks.configure import configuration
from reseen.tasks.crops import train
from reseen.tasks.two_step.config import TWO_STEP, two_step_configuration, two_step_yaml
from worlds import people


def asked(folder: Path, weights: str | None = None, *settings: str, resume: bool = True):
    return configuration("spcl", folder, resume, Settings(settings=settings, weights=weights))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run that stopped before its first epoch was finished."""
    (tmp_path / "config.yaml").write_text(to_yaml(resolve("spcl", weights="/some/where/mine.pth")))
    return tmp_path


def test_the_option_is_over_the_recipe(tmp_path: Path) -> None:
    assert asked(tmp_path).weights == "imagenet"
    assert asked(tmp_path, None, "weights=none").weights == "none"
    assert asked(tmp_path, "lite", "weights=none").model.backbone == LITE


def test_an_interrupted_start_begins_again_with_the_same(folder: Path) -> None:
    assert asked(folder).weights == "/some/where/mine.pth"
    assert asked(folder, None, "seed=1").weights == "/some/where/mine.pth"
    assert asked(folder, "none").weights == "none"
    assert asked(folder, "none", "seed=1").weights == "none"
    assert asked(folder, None, resume=False).weights == "imagenet"
    with pytest.raises(ReseenError, match="--weights lite is for"):
        asked(folder, "lite")


def test_a_run_with_a_checkpoint_keeps_what_it_began_with(folder: Path) -> None:
    (folder / "checkpoint").mkdir()
    (folder / "checkpoint" / "last.safetensors").touch()
    assert asked(folder, "none").weights == "/some/where/mine.pth"


def test_a_folder_from_before_the_key(folder: Path) -> None:
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(text.replace("weights: /some/where/mine.pth\n", ""))
    assert asked(folder).weights == "imagenet"
    (folder / "environment.json").write_text(json.dumps({"weights": "old.pth"}))
    assert asked(folder).weights == "old.pth"
    assert asked(folder, "none").weights == "none"


def test_both_steps_begin_with_the_same_unless_told_otherwise(tmp_path: Path) -> None:
    def both(weights: str | None = None, *settings: str, resume: bool = False):
        return two_step_configuration(
            TWO_STEP, tmp_path, resume, Settings(settings=settings, weights=weights)
        )

    found = both("lite")
    assert found.detector.model.backbone == found.reid.model.backbone == LITE
    found = both(None, "reid.weights=lite")
    assert (found.detector.weights, found.reid.weights) == ("imagenet", "lite")
    (tmp_path / "config.yaml").write_text(two_step_yaml(found))
    assert both(resume=True) == found
    assert both("none", "reid.model.backbone=street", resume=True).reid.weights == "none"


def test_a_two_step_folder_from_before_the_key(tmp_path: Path) -> None:
    found = two_step_configuration(TWO_STEP, tmp_path, False, Settings())
    tree = yaml.safe_load(two_step_yaml(found))
    for step in ("detector", "reid"):
        del tree[step]["weights"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    (tmp_path / "environment.json").write_text(json.dumps({"weights": "none"}))
    again = two_step_configuration(TWO_STEP, tmp_path, True, Settings())
    assert (again.detector.weights, again.reid.weights) == ("none", "none")


def test_too_few_images_are_refused_where_their_number_decides_too(tmp_path: Path) -> None:
    crops, _ = people(tmp_path / "photos", identities=2)
    images = ReidData("photos", tmp_path / "photos", crops)
    settings = ("cluster.k1=auto", "train.iterations=auto", "train.instances=2", "model.backbone=street")
    config = resolve("cpu", None, [*settings, "weights=none"])
    with pytest.raises(ReseenError, match=r"8 usable images, no more than cluster\.k1 = 10 neighbours"):
        train(config, images, tmp_path / "run", False)
    assert not (tmp_path / "run").exists()
