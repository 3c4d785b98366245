"""Splits by person: nobody is on both sides, whoever is asked for can be found, and a manifest reads back."""

from __future__ import annotations

import csv
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from command_runs import done
from reseen.cli import main
from reseen.data import open_data
from reseen.data.assembly import Row, assemble
from reseen.data.queries import choose_queries
from reseen.data.spelling import value
from reseen.data.split import Shares, split_persons, validation_split, write_manifest
from reseen.errors import ReseenError
from reseen.evaluation.protocol import answers_of
from reseen.records import Crop, ReidData
from test_cli import refused
from worlds import people


@given(
    rows=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 3)), min_size=2, max_size=40),
    held_out=st.integers(1, 8),
)
def test_identities_are_held_out_and_each_camera_gives_one_query(rows: list[tuple[int, int]], held_out: int):
    crops = tuple(Crop(Path(f"{number}.jpg"), camera) for number, (_, camera) in enumerate(rows))
    labels = np.array([identity for identity, _ in rows])
    data = ReidData("some", Path(), crops, labels)
    there = sorted(set(labels.tolist()))
    if held_out >= len(there):
        with pytest.raises(ReseenError, match="training identities: hold out"):
            validation_split(data, held_out)
        return
    parts = validation_split(data, held_out)
    tested = there[-held_out:]
    assert parts.query is not None
    assert parts.gallery is not None
    assert set(parts.train_identities.tolist()) == set(there) - set(tested)
    expected, seen = ([], []), set()
    for crop, identity in zip(crops, labels.tolist(), strict=True):
        if identity in tested:
            expected[(identity, crop.camera) in seen].append((crop, identity))
            seen.add((identity, crop.camera))
    for part, wanted in zip((parts.query, parts.gallery), expected, strict=True):
        assert list(zip(part.crops, part.identities.tolist(), strict=True)) == wanted


def test_the_command_writes_a_manifest_that_reads_back(tmp_path, capsys):
    crops, labels = people(tmp_path / "market" / "bounding_box_train", identities=6)
    out = tmp_path / "split.csv"
    assert (
        main(["split", str(tmp_path / "market"), "--out", str(out), "--held-out", "2", "--identities", "3"])
        == 0
    )
    assert (
        "12 training images of 3 persons; 4 queries and 4 gallery images of 2 others"
        in capsys.readouterr().out
    )
    data = open_data(out)
    assert [crop.path for crop in data.train] == [crop.path.resolve() for crop in crops[:12]]
    assert len(set(data.train_identities.tolist())) == 3
    assert {crop.camera for crop in data.query.crops} == {1, 2}
    assert set(data.query.identities.tolist()) == set(data.gallery.identities.tolist())
    assert len(labels) == 24


def test_images_without_identities_are_refused_in_one_line(tmp_path, capsys):
    people(tmp_path / "photos", identities=2)
    for file in (tmp_path / "photos").iterdir():
        file.rename(file.with_name(f"image{file.name.replace('_', '')}"))
    assert main(["split", str(tmp_path / "photos"), "--out", str(tmp_path / "split.csv")]) == 2
    assert "has no identities" in capsys.readouterr().err
    assert not (tmp_path / "split.csv").exists()


# --- training, validation, query and gallery


def data_of(rows: Sequence[tuple[int, int]]) -> ReidData:
    crops = tuple(Crop(Path(f"{number}.jpg"), camera) for number, (_, camera) in enumerate(rows))
    return ReidData("some", Path(), crops, np.array([identity for identity, _ in rows]))


images = st.lists(st.tuples(st.integers(-1, 9), st.sampled_from((-1, 1, 2, 3))), min_size=1, max_size=60)


@given(images, st.integers(1, 3))
def test_whoever_asks_can_be_found(rows: list[tuple[int, int]], each: int):
    identities, cameras = (np.array(column) for column in zip(*rows, strict=True))
    asked = choose_queries(identities, cameras, each=each)
    seen = {who: {camera for other, camera in rows if other == who} - {-1} for who, _ in rows if who > 0}
    across = any(len(theirs) > 1 for theirs in seen.values())  # else within cameras
    for person, camera in (rows[row] for row in np.flatnonzero(asked)):
        assert person > 0
        left = [other for (who, other), query in zip(rows, asked, strict=True) if who == person and not query]
        assert any(other not in (camera, -1) for other in left) and camera != -1 if across else left
        group = [
            row
            for row in range(len(rows))
            if rows[row][0] == person and (rows[row][1] == camera or not across)
        ]
        assert asked[group].sum() <= each
        assert asked[group[: int(asked[group].sum())]].all()  # the first ones


@given(images, st.sampled_from((0.2, 0.5)), st.sampled_from((0.0, 0.3)), st.integers(1, 2), st.integers(0, 3))
def test_nobody_is_in_two_parts(rows, test: float, validation: float, queries: int, seed: int):
    data, shares = data_of(rows), Shares(test, validation, queries, seed)
    try:
        parts = split_persons(data, shares)
    except ReseenError:
        persons = {label for label, _ in rows if label > 0}
        cameras = np.array([camera for _, camera in rows])
        across = len({camera for who, camera in rows if who > 0} - {-1}) > 1
        answered = choose_queries(data.train_identities, cameras, across=across)
        wanted = max(2, round(test * len(persons))) + (
            max(2, round(validation * len(persons))) if validation else 0
        )
        assert len(persons) < wanted + 2 or len({rows[row][0] for row in np.flatnonzero(answered)}) < wanted
        return
    assert parts.query is not None
    assert parts.gallery is not None
    held = set() if parts.validation is None else set(parts.validation.identities.tolist())
    tested, trained = set(parts.gallery.identities.tolist()), set(parts.train_identities.tolist())
    assert not tested & trained
    assert not (tested | trained) & held
    assert set(parts.query.identities.tolist()) == tested
    assert bool(held) == bool(validation)
    assert min(map(len, (tested, trained))) >= 2
    found = answers_of(parts.query, parts.gallery).coverage()
    assert found.nowhere == 0
    if len({camera for who, camera in rows if who > 0} - {-1}) > 1:
        assert (found.scored, found.unknown_camera) == (found.queries, 0)
    given_out = [*parts.train, *parts.query.crops, *parts.gallery.crops]
    given_out += [] if parts.validation is None else parts.validation.crops
    assert sorted(crop.path for crop in given_out) == sorted(
        crop.path for crop, label in zip(data.train, data.train_identities, strict=True) if label > 0
    )
    again = split_persons(data, shares)
    assert again.query.crops == parts.query.crops


def by_person(root: Path, **sizes: int) -> Path:
    """Striped people in a folder each, the camera in the name."""
    crops, labels = people(root, **sizes)
    for crop, label in zip(crops, labels.tolist(), strict=True):
        place = root / f"person {label}" / f"cam{crop.camera}{crop.path.name[7:]}"
        place.parent.mkdir(exist_ok=True)
        crop.path.rename(place)
    return root


def test_a_folder_per_person_is_split_and_reads_back(tmp_path, capsys):
    root = by_person(tmp_path / "people", identities=10, per_camera=3)
    shutil.copy(
        root / "person 1" / next(iter(sorted((root / "person 1").iterdir()))), root / "person 1" / "again.png"
    )
    shutil.copy(next((root / "person 2").iterdir()), root / "person 3" / "mistake.png")
    (root / "person 4" / "cam1s1_000000_00.png").write_bytes(b"no image")
    out = tmp_path / "split.csv"
    words = ["split", str(root), "--camera-pattern", r"cam(\d)", "--out", str(out)]
    assert main([*words, "--queries", "2", "--validation", "0.2", "--seed", "5"]) == 0
    said = capsys.readouterr().out
    assert "each sub-folder is a person" in said
    assert "again.png" in said
    assert "the same picture under two persons" in said
    assert "cam1s1_000000_00.png" in said
    with open(out, newline="") as file:
        rows = list(csv.DictReader(file))
    assert all(row["identity"] == Path(row["path"]).parent.name for row in rows)
    data, held = open_data(out), open_data(out, test_on="validation")
    assert len(set(data.query.identities.tolist())) == 3
    assert len(data.query) + len(data.gallery) + len(data.train) + len(data.validation) == 60 - 1 - 1
    assert len(set(held.query.identities.tolist())) == 2
    assert answers_of(data.query, data.gallery).coverage().scored == len(data.query) > 8
    written = out.read_bytes()
    assert main([*words, "--queries", "2", "--validation", "0.2", "--seed", "5"]) == 0
    assert out.read_bytes() == written
    assert main([*words, "--queries", "2", "--validation", "0.2", "--seed", "6"]) == 0
    assert out.read_bytes() != written


NAMES = ("Ann", "B, C", 'D "E"', "e\u0301", "07", "7", "nan", "distractor", "x\u2028y", "l\nm", "0", "1")


@given(
    persons=st.lists(st.sampled_from(NAMES), min_size=4, max_size=8, unique=True),
    cameras=st.lists(st.sampled_from(("yard", "door", "2", "02", "")), min_size=16, max_size=16),
    seed=st.integers(0, 3),
)
def test_names_are_written_and_read_back_as_the_same(persons: list[str], cameras: list[str], seed: int):
    """Persons and cameras keep their names, and are told apart as before."""
    with tempfile.TemporaryDirectory() as place:
        rows = []
        for number, camera in enumerate(cameras):
            path = Path(place) / f"{number}.jpg"
            path.write_bytes(b"%d" % number)
            rows.append(Row(path, "train", persons[number % len(persons)], camera, path.name))
        try:
            data = assemble(rows, name="mine", root=Path(place), layout="rows")
            parts = split_persons(data, Shares(0.3, 0.3, seed=seed))
        except ReseenError:  # too few persons, or none who is seen twice
            return
        write_manifest(Path(place) / "split.csv", parts)
        back = open_data(Path(place) / "split.csv")
    for who in (whose, camera_of):
        pairs = set(zip(who(parts), who(back), strict=True))
        assert len(pairs) == len({one for one, _ in pairs}) == len({other for _, other in pairs})
    if parts.person_names.get(parts.gallery.identities[0]) in ("Ann", "B, C", 'D "E"'):
        assert set(back.person_names.values()) <= set(map(value, persons))


def whose(data: ReidData) -> list[int]:
    parts = (data.validation, data.query, data.gallery)
    return [*data.train_identities.tolist(), *(who for part in parts if part for who in part.identities)]


def camera_of(data: ReidData) -> list[int]:
    parts = (data.validation, data.query, data.gallery)
    return [crop.camera for crops in (data.train, *(part.crops for part in parts if part)) for crop in crops]


def test_a_name_that_a_spreadsheet_would_run_is_a_number(tmp_path):
    people(tmp_path / "crops", identities=6)
    for path in (tmp_path / "crops").iterdir():
        place = tmp_path / "crops" / f"=A{path.name[3]}" / f"door{path.name[6]}_{path.name[7:]}"
        place.parent.mkdir(exist_ok=True)
        path.rename(place)
    done("split", tmp_path / "crops", "--camera-pattern", "(door.)_", "--out", tmp_path / "split.csv")
    with open(tmp_path / "split.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["camera"] for row in rows} == {"door1", "door2"}
    assert {row["identity"] for row in rows} == {"1", "2", "3", "4", "5", "6"}


def test_a_test_part_that_is_there_stays(tmp_path, capsys):
    people(tmp_path / "market" / "bounding_box_train", identities=6)
    people(tmp_path / "market" / "bounding_box_test", identities=2, seed=1)
    (tmp_path / "market" / "query").mkdir()
    first = next((tmp_path / "market" / "bounding_box_test").iterdir())
    first.rename(tmp_path / "market" / "query" / first.name)
    out = tmp_path / "split.csv"
    assert main(["split", str(tmp_path / "market"), "--out", str(out), "--validation", "0.4"]) == 0
    data = open_data(out)
    assert [crop.path.name for crop in data.query.crops] == [first.name]
    assert len(set(data.validation.identities.tolist())) == 2
    assert "which stay" in refused("split", tmp_path / "market", "--out", out, "--test", "0.5")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "too few for 2 to test, 2 to validate"),
        (("--test", "1.5"), "--test 1.5: give a share"),
        (("--queries", "0"), "--queries has to be 1"),
        (("--held-out", "1", "--seed", "1"), "leave --seed out"),
        (("--identities", "1"), "--identities goes with --held-out"),
        (("--out", "nowhere/split.csv"), "name a file in a folder"),
        (("--camera-pattern", r"person \d.cam(1)"), "5 persons, 5 of them seen in two images: too few"),
    ],
    ids=str,
)
def test_too_little_and_the_wrong_words_are_refused(words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    by_person(tmp_path / "people", identities=5)
    assert said in refused("split", "people", *words)
    assert not list(tmp_path.rglob("*.csv"))


def test_folders_called_like_cameras_are_no_persons(tmp_path):
    for camera in (1, 2):
        people(tmp_path / "crops" / f"cam{camera}", identities=3, seed=camera)
        for path in (tmp_path / "crops" / f"cam{camera}").iterdir():
            path.rename(path.with_name(f"x{path.name.replace('_', '')}"))
    assert "has no identities" in refused("split", tmp_path / "crops", "--out", tmp_path / "split.csv")
