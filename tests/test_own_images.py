"""A user's way, as docs/own-images.md has it: a folder per person, damaged and doubled, to honest scores and groups."""

from __future__ import annotations

import contextlib
import csv
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest

from command_runs import done, lines
from reseen.data import open_data
from reseen.records import Crop
from test_cli import refused
from test_docs import ROOT, blocks, commands

Page = tuple[Path, dict[str, list[str]]]  # where it ran, and what its commands said
PYTHON = "python - <<'END'\n"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    """The marked blocks of the page, run once in order in a folder of their own."""
    root = tmp_path_factory.mktemp("own")
    said: dict[str, list[str]] = {}
    with contextlib.chdir(root):
        for block in blocks((ROOT / "docs" / "own-images.md").read_text()):
            if block.run is None:
                continue
            if block.body.startswith(PYTHON):
                exec(block.body.removeprefix(PYTHON).rpartition("END\n")[0], {})
                continue
            for line in commands(block).splitlines():
                program, *words = shlex.split(line)
                assert program == "reseen"
                said.setdefault(words[0], []).append(done(*words))
    return root, said


def table(path: Path) -> list[dict[str, Any]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_the_doctor_says_what_is_there_and_what_to_do(page: Page) -> None:
    (said,) = page[1]["doctor"]
    for part in (
        "people: people (one folder of images)",
        "2 cameras (1, 2)",
        "scores: none without a test part, which reseen split makes; each sub-folder would be a person",
        "is truncated or damaged",
        "2 pictures more than once in train",
        r"to train: reseen train cacl --data people --camera-pattern 'cam(\d)' --recipe",
    ):
        assert part in said


def test_the_split_holds_each_picture_once_and_keeps_the_names(page: Page) -> None:
    root, (said,) = page[0], page[1]["split"]
    for part in (
        "truncated or damaged",
        "cam1_copy.jpg",
        "cam1_mistake.jpg",
        "the same picture under two persons",
    ):
        assert part in said
    rows = table(root / "split.csv")
    assert all(Path(row["path"]).parent.name == row["identity"] for row in rows)
    assert len(rows) == len(list((root / "people").rglob("*.jpg"))) - 1 - 1 - 2  # damaged, copy, mistake
    data = open_data(root / "split.csv")
    assert data.query is not None
    assert data.gallery is not None
    assert data.validation is not None
    parts: list[tuple[Crop, ...]] = [
        data.train,
        (*data.query.crops, *data.gallery.crops),
        data.validation.crops,
    ]
    persons = [{crop.path.parent.name for crop in crops} for crops in parts]
    assert sum(map(len, persons)) == len(set.union(*persons)) == 12


def test_the_scores_are_those_that_the_doctor_foresees(page: Page) -> None:
    root, said = page
    with contextlib.chdir(root):
        foreseen = done("doctor", "split.csv")
    validation, test, start = said["evaluate"]
    for scored in (validation, test, start):
        assert "read split (a manifest): " in scored
        assert "mAP" in scored
    (fact,) = (line.strip() for line in foreseen.splitlines() if "scores: " in line)
    assert f"({fact.removeprefix('scores: ')})" in test
    run = root / "runs" / "people"
    held, tested = lines(run / "evaluations.jsonl")[:2]
    assert (held["scored"], tested["scored"]) == (held["queries"], tested["queries"])
    assert held["queries"] != tested["queries"]
    assert tested["mean_ap"] == lines(run / "metrics.jsonl")[-1]["test"]["mean_ap"]


def test_the_lists_name_the_files_and_say_what_is_right(page: Page) -> None:
    rows = table(page[0] / "ranked.csv")
    parts = {row["identity"]: row["split"] for row in table(page[0] / "split.csv")}
    for row in rows:
        asked, found = (Path(row[side]).parent.name for side in ("query", "gallery"))
        assert row["answer"] == ("right" if asked == found else "wrong")
        assert parts[asked] in ("query", "gallery")
    assert {row["answer"] for row in rows} == {"right", "wrong"}


def test_the_groups_are_of_all_images_that_can_be_read(page: Page) -> None:
    rows = table(page[0] / "groups.csv")
    assert list(rows[0]) == ["path", "group", "camera", "probability"]
    assert {row["camera"] for row in rows} == {"1", "2"}
    assert len(rows) == len(list((page[0] / "people").rglob("*.jpg"))) - 1


def test_what_is_tested_is_trained_on_only_by_name(page: Page, tmp_path: Path) -> None:
    """Whoever puts the whole folder beside its own test part is told so."""
    people = page[0] / "people"
    shutil.copytree(people, tmp_path / "data" / "train")
    shutil.copytree(people / "person-4", tmp_path / "data" / "test" / "person-4")
    line = refused(
        "train", "cacl", "--data", tmp_path / "data", "--run", tmp_path / "run", "--weights", "none"
    )
    assert "also to be tested on" in line
    assert "--train-on-test" in line
    assert ": training needs --train-on-test" in done("doctor", tmp_path / "data")
