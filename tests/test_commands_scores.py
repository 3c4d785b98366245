"""What a score speaks of, from the command line: who was scored, who could not be, and what is never an answer."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import reseen
from command_runs import ONE_EPOCH, contents, done, lines
from reseen.data import examine
from reseen.errors import ReseenError
from reseen.evaluation.outlook import foresee
from scene_worlds import coco
from test_cli import call, refused

Row = tuple[str, str, int, object]  # part, file name of the world, identity, camera


def manifest(world: Path, out: Path, rows: Iterable[Row]) -> Path:
    """Training images of ``world``, and the given test images of it."""
    train = [("train", path, "", 1 + n % 2) for n, path in enumerate(sorted_images(world, TRAIN))]
    places = {path.name: path for part in (TEST, QUERY) for path in sorted_images(world, part)}
    with open(out, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("split", "path", "identity", "camera"))
        writer.writerows(train)
        writer.writerows((part, places[name], who, camera) for part, name, who, camera in rows)
    return out


TRAIN, TEST, QUERY = "bounding_box_train", "bounding_box_test", "query"


def sorted_images(world: Path, part: str) -> list[Path]:
    return sorted((world / part).iterdir())


@pytest.fixture
def one_camera(world: Path, tmp_path: Path) -> Path:
    """Two queries, the same two persons in the gallery, all under camera 1."""
    asked = ["0001_c1s1_000000_00.png", "0002_c1s1_000000_00.png"]
    found = ["0001_c1s1_000001_00.png", "0002_c1s1_000001_00.png", "0003_c1s1_000001_00.png"]
    rows = [("query", name, int(name[:4]), 1) for name in asked if (world / QUERY / name).exists()]
    return manifest(world, tmp_path / "one.csv", [*rows, *(("gallery", n, int(n[:4]), 1) for n in found)])


@pytest.fixture
def partial(world: Path, tmp_path: Path) -> Path:
    """Six queries: one has an answer under another camera, three under their own only, one is its own answer only,
    one is nowhere."""
    asked = [(1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (1, 2)]
    rows: list[Row] = [
        ("query", f"{p:04d}_c{c}s1_000000_00.png", 20 + n, c) for n, (p, c) in enumerate(asked)
    ]
    rows += [("gallery", "0001_c2s1_000001_00.png", 20, 2), ("gallery", "0001_c1s1_000001_00.png", 20, 1)]
    rows += [("gallery", f"{p:04d}_c1s1_000001_00.png", 19 + p, 1) for p in (2, 3, 4)]
    rows += [("gallery", "0005_c1s1_000000_00.png", 24, 2)]  # the query's own file, under another camera
    return manifest(world, tmp_path / "partial.csv", rows)


PARTIAL = "scored 1 of 6 queries: 3 only under the same camera, 1 only in the query's own picture, 1 nowhere"
COUNTS = {"queries": 6, "scored": 1, "only_same_camera": 3, "only_same_picture": 1, "nowhere": 1}


def features(data: Path, out: Path) -> Path:
    """Random rows, by path, of every test image of a manifest."""
    arrays: dict[str, Any] = {}
    with open(data, newline="") as file:
        rows = list(csv.DictReader(file))
    for part in ("query", "gallery"):
        names = [row["path"] for row in rows if row["split"] == part]
        arrays |= {part: np.random.default_rng(0).normal(size=(len(names), 4)), f"{part}_names": names}
    np.savez(out, **arrays)
    return out


# --- nothing to score ---


def test_nothing_to_score_is_one_line_that_leaves_nothing(
    finished: Path, one_camera: Path, tmp_path: Path
) -> None:
    before = contents(finished)
    npz = features(one_camera, tmp_path / "f.npz")
    last = finished / "checkpoint" / "last.safetensors"
    for source in ((finished,), (finished, "--rerank"), (last,), ("--features", npz)):
        line = refused("evaluate", *source, "--data", one_camera)
        assert "no query has an image of the same person under another camera" in line
        assert "2 only under the same, 0 nowhere in the gallery" in line
        assert "--protocol same-camera" in line
    with pytest.raises(ReseenError, match="under another camera"):
        reseen.evaluate(finished, one_camera)
    assert contents(finished) == before


def test_within_cameras_is_scored_when_asked_for_by_name(
    finished: Path, one_camera: Path, tmp_path: Path
) -> None:
    words = ("--data", one_camera, "--protocol", "same-camera")
    said = done("evaluate", finished, *words, "--rerank")
    assert said.count("(same-camera, scored 2 of 2 queries)") == 2
    scored = lines(finished / "evaluations.jsonl")
    assert [(line["protocol"], line["queries"], line["scored"]) for line in scored] == [
        ("same-camera", 2, 2)
    ] * 2
    npz = features(one_camera, tmp_path / "f.npz")
    assert "same-camera, scored 2 of 2" in done("evaluate", "--features", npz, *words)
    assert reseen.evaluate(finished, one_camera, protocol="same-camera").mean_ap == scored[0]["mean_ap"]
    with pytest.raises(ReseenError, match="cross-camera, same-camera"):
        reseen.evaluate(finished, one_camera, protocol="same")
    done("report", finished)
    assert "same-camera" in (finished / "report" / "index.html").read_text()


def test_cameras_that_nobody_knows_are_not_taken_for_others(
    finished: Path, world: Path, tmp_path: Path
) -> None:
    """And a gallery of the queries themselves answers nothing, by whatever protocol."""
    rows = [(part, p.name, int(p.name[:4]), "") for part, folder in (("query", QUERY), ("gallery", TEST))
            for p in sorted_images(world, folder)]  # fmt: skip
    unknown = manifest(world, tmp_path / "unknown.csv", rows)
    line = refused("evaluate", finished, "--data", unknown)
    assert "10 under cameras that nobody knows" in line
    assert "--camera-pattern" in line
    assert "scored 10 of 10" in done("evaluate", finished, "--data", unknown, "--protocol", "same-camera")
    itself = [(part, p.name, int(p.name[:4]), "") for part in ("query", "gallery")
              for p in sorted_images(world, QUERY)[::2]]  # fmt: skip
    copies = manifest(world, tmp_path / "copies.csv", itself)
    for protocol in ("same-camera", "cross-camera"):
        line = refused("evaluate", finished, "--data", copies, "--protocol", protocol)
        assert "5 only in the query's own picture" in line


def test_training_says_before_it_begins_that_nothing_will_be_scored(one_camera: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    said = done("train", "cacl", "--data", one_camera, "--run", run, *ONE_EPOCH)
    assert said.index("no scores during training: ") < said.index("epoch 1/1")
    assert "--protocol same-camera" in said
    assert "test" not in lines(run / "metrics.jsonl")[0]
    assert "No test scores" in (run / "report" / "index.html").read_text()
    line = refused(
        "reproduce", "cacl-table3", "--data", one_camera, "--scale", "small", "--run", tmp_path / "out"
    )
    assert "2 only under the same" in line  # before a row is trained
    assert not list((tmp_path / "out").glob("runs/*"))


# --- a part is scored ---


def test_a_part_is_named_wherever_its_score_is(partial: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    said = done("train", "cacl", "--data", partial, "--run", run, *ONE_EPOCH)
    assert said.index(f"will be {PARTIAL}") < said.index("epoch 1/1")
    assert f"({PARTIAL}" not in said
    test = lines(run / "metrics.jsonl")[0]["test"]
    assert COUNTS.items() <= test.items()
    said = done("evaluate", run, "--data", partial)
    assert f"(cross-camera, {PARTIAL} in the gallery)" in said
    assert f"scores: cross-camera, {PARTIAL} in the gallery" in done("doctor", partial)
    (scored,) = lines(run / "evaluations.jsonl")
    assert COUNTS.items() <= scored.items()
    assert scored["mean_ap"] == pytest.approx(test["mean_ap"])
    done("report", run)
    page = (run / "report" / "index.html").read_text()
    assert page.count("1 of 6") == 3  # of both choices of an epoch, and of the evaluation
    assert "3 only under the same camera" in page
    npz = features(partial, tmp_path / "f.npz")
    assert f"(cross-camera, {PARTIAL} in the gallery)" in done(
        "evaluate", "--features", npz, "--data", partial
    )


# --- what the doctor foresees ---


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Six of them, the first two with the same bytes."""
    root = tmp_path_factory.mktemp("pictures")
    for number in range(6):
        Image.new("RGB", (4, 8), (40 * max(1, number), 0, 0)).save(root / f"{number}.png")
    return sorted(root.iterdir())


def part(
    name: str, identities: tuple[object, ...]
) -> st.SearchStrategy[list[tuple[str, int, object, object]]]:
    image = st.tuples(
        st.just(name), st.integers(0, 5), st.sampled_from(identities), st.sampled_from(("", 1, 2))
    )
    return st.lists(image, min_size=1, max_size=5, unique_by=lambda row: row[1])


@settings(max_examples=60)
@given(asked=part("query", (1, 2, 3)), searched=part("gallery", (-1, 0, 1, 2, 3)))
def test_the_doctor_foresees_what_evaluate_says(
    pictures: list[Path],
    asked: list[tuple[str, int, object, object]],
    searched: list[tuple[str, int, object, object]],
) -> None:
    """Word by word, by both protocols: unknown cameras, junk, distractors and copies included."""
    data = pictures[0].parent.parent / "mine.csv"
    with open(data, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("split", "path", "identity", "camera"))
        writer.writerows((name, pictures[row], who, camera) for name, row, who, camera in asked + searched)
    npz = features(data, data.with_suffix(".npz"))
    report = foresee(examine(data))
    facts = [fact for fact in report.facts if fact.startswith("scores: ")]
    words = ("evaluate", "--features", npz, "--data", data, "--protocol")
    code, out, err = call(*words, "cross-camera")
    if code:
        assert err.removeprefix("reseen: ").rstrip() in report.warnings
        assert not any("cross-camera" in fact for fact in facts)
    else:
        assert f"scores: {scored_in(out)}" in facts
    if not code and "only under the same camera" not in out:
        return  # the other protocol scores no more
    code, out, _ = call(*words, "same-camera")
    assert facts[-1] == ("scores: none" if code else f"scores: {scored_in(out)} (--protocol same-camera)")


def scored_in(said: str) -> str:
    """Protocol and coverage behind the scores of the last line."""
    return said.rstrip().rpartition("  (")[2].removesuffix(")")


# --- scenes ---


def scenes(root: Path, test: dict[str, list[int]], copies: dict[str, str]) -> Path:
    """Training scenes of two persons, and test scenes by name, each with one box a person; copies have other names."""

    def boxes(persons: list[int]) -> list[dict[str, Any]]:
        return [{"bbox": [4 + 20 * n, 3, 12, 30], "person_id": person} for n, person in enumerate(persons)]

    root.mkdir()
    coco(root / "train.json", {f"t{n}.png": boxes([1, 2]) for n in range(4)}, images="train")
    path = coco(root / "test.json", {name: boxes(persons) for name, persons in test.items()}, images="test")
    for name, source in copies.items():
        shutil.copy(root / "test" / source, root / "test" / name)
    told = json.loads(path.read_text())
    for box in told["annotations"]:
        box["query"] = told["images"][box["image_id"]]["file_name"].startswith("q")
    path.write_text(json.dumps(told))
    return root


def test_a_copy_of_the_querys_scene_is_no_answer(
    search_run: Path, two_step_run: Path, tmp_path: Path
) -> None:
    some = {
        "q1.png": [1],
        "q2.png": [2],
        "q3.png": [3],
        "copy1.png": [1],
        "other2.png": [2],
        "copy2.png": [2],
    }
    data = scenes(tmp_path / "some", some, {"copy1.png": "q1.png", "copy2.png": "q2.png"})
    words = "scored 1 of 3 queries: 1 only in the query's own picture, 1 nowhere in the gallery"
    assert f"scores: {words}" in done("doctor", data)
    for run in (search_run, two_step_run):
        said = done("evaluate", run, "--data", data)
        assert words in said
        scored = lines(run / "evaluations.jsonl")[-1]
        assert (scored["queries"], scored["scored"], scored["only_same_picture"], scored["nowhere"]) == (
            3,
            1,
            1,
            1,
        )
        done("report", run)
        assert "1 of 3" in (run / "report" / "index.html").read_text()
    only = scenes(tmp_path / "only", {"q1.png": [1], "copy1.png": [1]}, {"copy1.png": "q1.png"})
    foreseen = done("doctor", only)
    for run in (search_run, two_step_run):
        before = contents(run)
        line = refused("evaluate", run, "--data", only)
        assert "1 only in a copy of the query's own scene, 0 nowhere in the gallery" in line
        assert f"warning: {line}" in foreseen
        assert contents(run) == before
        assert "--protocol is not for" in refused(
            "evaluate", run, "--data", data, "--protocol", "same-camera"
        )


# --- run folders with what earlier versions wrote ---


def test_a_run_folder_with_a_nan_is_reported_resumed_and_scored(finished: Path, world: Path) -> None:
    """Scores that could not be computed were written as NaN, which is no JSON."""
    (finished / "evaluations.jsonl").write_text('{"data": "mine", "mean_ap": NaN, "rank1": NaN}\n{"torn')
    metrics = finished / "metrics.jsonl"
    metrics.write_text(metrics.read_text().replace('"mean_ap": ', '"mean_ap": NaN, "was": ', 1))
    done("report", finished)
    page = (finished / "report" / "index.html").read_text()
    assert "evaluations.jsonl, line 1" in page
    assert "evaluations.jsonl, line 2" in page
    done("evaluate", finished, "--data", world)
    done("train", "cacl", "--data", world, "--run", finished, "--resume")
    assert "NaN" not in metrics.read_text()
    assert [record["epoch"] for record in lines(metrics)] == [1, 2]
    assert (finished / "evaluations.jsonl").read_text().count("\n") == 3
