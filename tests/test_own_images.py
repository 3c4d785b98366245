"""A user's way: a folder per person, damaged and doubled as folders are, to groups and honest scores."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest

from command_runs import done, lines
from reseen.data import open_data
from reseen.street import draw_crops
from test_cli import refused, tiny

PATTERN = ("--camera-pattern", r"cam(\d)")


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn crops in folders per person, the camera in the name; one of them damaged, one twice, one in two folders."""
    root = tmp_path_factory.mktemp("own")
    street = draw_crops(root / "street", train_identities=11, test_identities=1, cameras=2, frames=3)
    assert street.train_identities is not None
    for crop, identity in zip(street.train, street.train_identities, strict=True):
        place = root / "people" / f"person-{identity}" / f"cam{crop.camera}_{crop.path.stem[-9:]}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        crop.path.rename(place)
    first, second, third = (sorted((root / "people" / f"person-{n}").iterdir()) for n in (1, 2, 3))
    shutil.copy(first[0], first[0].with_name("cam1_copy.jpg"))
    shutil.copy(second[0], third[0].with_name("cam1_mistake.jpg"))
    third[-1].write_bytes(third[-1].read_bytes()[:400])
    return root / "people"


def test_from_a_folder_per_person_to_scores_and_groups(people: Path, tmp_path: Path) -> None:
    said = done("doctor", people, *PATTERN)
    assert "one folder of images" in said
    assert "each sub-folder would be a person" in said
    assert "1 damaged images" in said
    assert "2 pictures more than once" in said
    assert "2 cameras (1, 2)" in said
    assert rf"reseen train cacl --data {people} --camera-pattern 'cam(\d)' --recipe" in said

    table = tmp_path / "split.csv"
    said = done("split", people, *PATTERN, "--validation", "0.2", "--seed", "1", "--out", table)
    assert "cam1_mistake.jpg" in said
    assert "is truncated or damaged" in said
    data = open_data(table)
    assert data.validation is not None
    listed = [
        crop.path for part in (data.validation, data.query, data.gallery) if part for crop in part.crops
    ]
    every = [*listed, *(crop.path for crop in data.train)]
    assert (
        len(every) == len(set(every)) == len(list(people.rglob("*.jpg"))) - 1 - 1 - 2
    )  # damaged, copy, mistake

    run = tmp_path / "run"
    words = ("--data", table, "--run", run, "--recipe", "cpu", "--weights", "none")
    assert "mAP" in done("train", "cacl", *words, *tiny("train.epochs=1"))
    assert "mAP" in done("evaluate", run, "--data", table)
    assert "mAP" in done("evaluate", run, "--data", table, "--test-on", "validation")
    assert len(lines(run / "evaluations.jsonl")) == 2
    groups = tmp_path / "groups.csv"
    done("cluster", run, "--data", people, *PATTERN, "--out", groups)
    with open(groups) as file:
        rows = list(csv.DictReader(file))
    assert {row["camera"] for row in rows} == {"1", "2"}
    assert len(rows) == len(list(people.rglob("*.jpg"))) - 1


def test_what_is_tested_is_trained_on_only_by_name(people: Path, tmp_path: Path) -> None:
    """Whoever puts the whole folder beside its own test part is told so."""
    shutil.copytree(people, tmp_path / "data" / "train")
    shutil.copytree(people / "person-4", tmp_path / "data" / "test" / "person-4")
    line = refused(
        "train", "cacl", "--data", tmp_path / "data", "--run", tmp_path / "run", "--weights", "none"
    )
    assert "also to be tested on" in line
    assert "--train-on-test" in line
    assert ": training needs --train-on-test" in done("doctor", tmp_path / "data")
