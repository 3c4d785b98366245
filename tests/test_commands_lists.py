"""`reseen evaluate --lists`: what was found for each query, for people who look at images, with labels and without."""

from __future__ import annotations

import csv
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from command_runs import contents, done, lines
from reseen.commands.lists import write_lists
from reseen.evaluation import lists as ranked
from reseen.evaluation import open_test
from reseen.evaluation.reid import ranked_lists
from reseen.inference import Embedder
from reseen.metrics.counting import exact_similarities
from reseen.records import Crop
from reseen.tasks.opening import open_crops
from test_cli import refused
from worlds import people


def table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.DictReader(file))


def test_lists_of_a_test_part_are_what_the_scores_count(finished: Path, world: Path, tmp_path: Path) -> None:
    out = tmp_path / "ranked.csv"
    said = done("evaluate", finished, "--data", world, "--lists", out, "--top", 3)
    assert f"lists: 10 queries, 3 images each at most -> {out}" in said
    rows = table(out)
    assert list(rows[0]) == ["query", "rank", "gallery", "similarity", "probability", "answer"]
    assert [row["rank"] for row in rows] == ["1", "2", "3"] * 10
    first = [row for row in rows if row["rank"] == "1"]
    (scored,) = lines(finished / "evaluations.jsonl")
    assert np.mean([row["answer"] == "right" for row in first]) == pytest.approx(scored["rank1"])
    embedder = Embedder.load(finished)
    for row in rows[:6]:
        a, b = embedder([world / row["query"], world / row["gallery"]])
        assert float(row["similarity"]) == pytest.approx(a @ b, abs=1e-5)
        person = [Path(row[side]).name[:4] for side in ("query", "gallery")]
        assert row["answer"] == ("right" if person[0] == person[1] else "wrong")


def test_without_labels_every_image_is_a_query_and_never_its_own_answer(
    finished: Path, tmp_path: Path
) -> None:
    crops, _ = people(tmp_path / "photos", identities=3)
    for number, crop in enumerate(crops):
        crop.path.rename(crop.path.with_name(f"shot {number:02d}.png"))
    shutil.copy(tmp_path / "photos" / "shot 00.png", tmp_path / "photos" / "twice.png")
    before, out = contents(finished), tmp_path / "ranked.csv"
    done("evaluate", finished, "--data", tmp_path / "photos", "--lists", out, "--top", 100)
    rows = table(out)
    count = len(crops) + 1
    assert {row["answer"] for row in rows} == {"unknown"}
    assert len(rows) == count * (count - 1) - 2  # in all others, and of two copies neither finds the other
    assert all(row["query"] != row["gallery"] for row in rows)
    assert {row["gallery"] for row in rows if row["query"] == "twice.png"} == {
        f"shot {number:02d}.png" for number in range(1, len(crops))
    }
    assert contents(finished) == before


def test_a_folder_of_queries_against_a_folder_of_images(finished: Path, world: Path, tmp_path: Path) -> None:
    people(tmp_path / "asked", identities=1, cameras=1)
    photos = shutil.copytree(world / "bounding_box_train", tmp_path / "photos")
    out = tmp_path / "ranked.csv"
    done("evaluate", finished, "--data", photos, "--queries", tmp_path / "asked", "--lists", out)
    rows = table(out)
    assert len(rows) == 2 * 10
    assert {row["query"] for row in rows} == {"0001_c1s1_000000_00.png", "0001_c1s1_000001_00.png"}
    similarity = [float(row["similarity"]) for row in rows[:10]]
    assert similarity == sorted(similarity, reverse=True)
    assert "--queries is for --lists" in refused("evaluate", finished, "--data", photos, "--queries", photos)
    assert "--top is for --lists" in refused("evaluate", finished, "--data", world, "--top", 3)
    assert "--top 0" in refused("evaluate", finished, "--data", world, "--lists", out, "--top", 0)
    assert "--lists" in refused("evaluate", finished, "--data", world, "--lists", tmp_path / "no" / "a.csv")
    assert "query and gallery" in refused("evaluate", finished, "--data", photos)


HOSTILE = [
    "=cmd|' C'!A0.png",
    "+1.png",
    "-1.png",
    "@SUM(A1).png",
    "\t=1.png",
    'a,"b";=2.png',
    "two\nlines.png",
]


def test_hostile_names_stay_names(tmp_path: Path) -> None:
    """No cell begins like a formula, every name leads to its file again, and what is not UTF-8 stays as it is."""
    names = [os.fsencode(name) for name in HOSTILE] + [b"sch\xf6n.png"]
    paths = [tmp_path / os.fsdecode(name) for name in names]
    for number, path in enumerate(paths):
        Image.new("RGB", (4, 8), (20 * number, 0, 0)).save(path)
    part = ranked.nameless(tuple(Crop(path) for path in paths))
    features = np.eye(len(paths), dtype=np.float32)
    lists = ranked.crop_lists(features, features, part, part, (), judged=False)
    out = write_lists(tmp_path / "out.csv", lists, [tmp_path], 1)
    rows = table(out)
    assert [row["query"] for row in rows] == [row["gallery"] for row in rows]
    assert not [cell for row in rows for cell in row.values() if cell[:1] in [*"=+-@\t\r"]]
    for row, path in zip(rows, paths, strict=True):
        assert (tmp_path / row["query"]).samefile(path)
    assert b"sch\xf6n" in out.read_bytes()


def test_scenes_are_named_with_their_boxes(search_run: Path, scenes_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "ranked.csv"
    done("evaluate", search_run, "--data", scenes_folder, "--lists", out, "--top", 2)
    rows = table(out)
    assert {"query", "query_x1", "rank", "gallery", "x1", "y2", "detection", "similarity", "answer"} <= set(
        rows[0]
    )
    assert {row["answer"] for row in rows} <= {"right", "wrong"}
    (scored,) = lines(search_run / "evaluations.jsonl")
    right = [row["answer"] == "right" for row in rows if row["rank"] == "1"]
    assert sum(right) == pytest.approx(scored["top1"] * scored["scored"])
    for row in rows:
        assert (scenes_folder / row["query"]).is_file()
        assert (scenes_folder / row["gallery"]).is_file()
        assert float(row["x1"]) < float(row["x2"])


def test_persons_of_scenes_that_nobody_named_are_searched_for_in_the_others(
    search_run: Path, two_step_run: Path, scenes_folder: Path, tmp_path: Path
) -> None:
    only = tmp_path / "scenes"
    shutil.copytree(scenes_folder / "train", only / "train")
    shutil.copy(scenes_folder / "train.json", only)
    for run in (search_run, two_step_run):
        out = tmp_path / f"{run.name}.csv"
        done("evaluate", run, "--data", only, "--lists", out)
        rows = table(out)
        assert {row["answer"] for row in rows} == {"unknown"}
        assert all(row["query"] != row["gallery"] for row in rows)
        done("evaluate", run, "--data", only, "--queries", scenes_folder, "--lists", out)
        assert {row["query"].split("/")[0] for row in table(out)} == {"test"}


def test_the_nearest_are_found_exactly_however_close(world: Path) -> None:
    """A product in float32 only says who may be near: ties and near ties are settled one by one."""
    rng = np.random.default_rng(0)
    test = open_test(open_crops(world, "a test"))
    base = rng.normal(size=(1, 64)).astype(np.float32)
    gallery = (base + rng.normal(size=(len(test.gallery), 64)) * 1e-7).astype(np.float32)
    queries = np.repeat(base, len(test.query), axis=0)
    found = ranked_lists(queries, gallery, top=4)
    exact = exact_similarities(base[0], gallery)
    assert found.rows[0].tolist() == np.argsort(-exact, kind="stable")[:4].tolist()


def test_a_report_names_the_images_of_its_pictures(
    trained: tuple[Path, str], searched: tuple[Path, str], world: Path, scenes_folder: Path
) -> None:
    for run, name, data in (
        (trained[0], "ranked-lists", world),
        (searched[0], "search-result", scenes_folder),
    ):
        rows = table(run / "report" / f"{name}.csv")
        assert list(rows[0]) == ["query", "model", "rank", "image", "answer"]
        page = (run / "report" / "index.html").read_text()
        for row in rows[:3]:
            for side in ("query", "image"):
                assert (data / row[side]).is_file()
                assert row[side] in page
        assert str(data) not in page
