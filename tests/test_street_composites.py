"""Composites: real crops in drawn scenes, in PRW's layout, honest about what they are."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reseen.cli import main
from reseen.data import open_galleries, open_search_data
from reseen.errors import ReseenError
from reseen.records import SearchData
from reseen.street import Composition, compose
from reseen.street.composite_frames import Deck

SMALL = Composition(
    train_scenes=6, test_scenes=8, sizes=((160, 90), (120, 80)), persons=(1, 3), heights=(0.3, 0.5)
)
COLOURS = {
    person: tuple(int(level) for level in np.random.default_rng(person).integers(0, 256, 3))
    for person in range(1, 9)
}


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Persons 1..4 for training, 5..8 for testing; two cameras, six plain crops of each; junk, distractors."""
    root = tmp_path_factory.mktemp("market")
    for folder in ("bounding_box_train", "query", "bounding_box_test"):
        (root / folder).mkdir()
    for person, colour in COLOURS.items():
        for camera in (1, 2):
            for shot in range(6):
                folder = "bounding_box_train" if person < 5 else "query" if shot == 0 else "bounding_box_test"
                name = f"{person:04d}_c{camera}s1_{shot:06d}_00.png"
                Image.new("RGB", (8, 16), colour).save(root / folder / name)
    for identity in ("-1", "0000"):
        Image.new("RGB", (8, 16)).save(root / "bounding_box_test" / f"{identity}_c1s1_000001_00.png")
    return root


def digest(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def labels(data: SearchData, part: str) -> list[np.ndarray]:
    found = data.train_identities if part == "train" else data.test_identities
    assert found is not None
    return list(found)


def test_the_same_seed_gives_the_same_bytes(market: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        compose(market, tmp_path / name, replace(SMALL, seed=seed))
    assert digest(tmp_path / "a") == digest(tmp_path / "b")
    assert b"Created on" not in (tmp_path / "a" / "frame_train.mat").read_bytes()[:128]  # no time of day
    common = digest(tmp_path / "a").items() & digest(tmp_path / "c").items()
    assert not [name for name, _ in common if name.endswith(".jpg")]


def test_who_is_where(market: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    data = compose(market, tmp_path / "out", SMALL, progress=lambda *done: told.append(done))
    assert told == [(number, 14) for number in range(1, 15)]
    assert data.name == "composite"
    assert (len(data.train), len(data.test)) == (6, 8)
    assert set(np.concatenate(labels(data, "train")).tolist()) <= {1, 2, 3, 4}
    assert set(np.concatenate(labels(data, "test")).tolist()) <= {5, 6, 7, 8}
    for part, scenes in (("train", data.train), ("test", data.test)):
        assert [scene.camera for scene in scenes] == [1 + number % 2 for number in range(len(scenes))]
        for scene, people in zip(scenes, labels(data, part), strict=True):
            assert 1 <= len(people) == len(set(people.tolist())) <= 3
            with Image.open(scene.path) as image:
                assert image.size == SMALL.sizes[scene.camera - 1]
                pixels = np.asarray(image).astype(int)
            for box, person in zip(scene.boxes.astype(int), people.tolist(), strict=True):
                assert (box >= 0).all()
                assert box[2] <= image.size[0]
                assert box[3] <= image.size[1]
                high = (box[3] - box[1]) / image.size[1]
                assert 0.28 <= high <= 0.52
                assert (box[3] - box[1]) == pytest.approx(2 * (box[2] - box[0]), abs=2)  # the crop's ratio
                if box[3] == scene.boxes[:, 3].max():  # nobody in front: the middle of the box is the crop
                    middle = pixels[(box[1] + box[3]) // 2, (box[0] + box[2]) // 2]
                    assert np.abs(middle - COLOURS[person]).max() < 12
    assert open_search_data(tmp_path / "out").test_names == data.test_names


def test_people_overlap_no_more_than_is_allowed(market: Path, tmp_path: Path) -> None:
    wide = replace(SMALL, max_overlap=0.1, persons=(3, 4), heights=(0.4, 0.6))
    for scene in compose(market, tmp_path / "out", wide).train:
        for number, one in enumerate(scene.boxes):
            for other in scene.boxes[number + 1 :]:
                sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
                smaller = min(np.prod(one[2:] - one[:2]), np.prod(other[2:] - other[:2]))
                assert np.prod(sides.clip(0)) <= 0.1 * smaller + 1e-6


def test_the_nearer_person_is_in_front(market: Path, tmp_path: Path) -> None:
    crowd = replace(SMALL, max_overlap=0.9, persons=(4, 4), heights=(0.5, 0.8), feather=0.0)
    data = compose(market, tmp_path / "out", crowd)
    seen = 0
    for scene, people in zip(data.train, labels(data, "train"), strict=True):
        with Image.open(scene.path) as image:
            pixels = np.asarray(image).astype(int)
        near = int(scene.boxes[:, 3].argmax())
        boxes = scene.boxes.astype(int)
        for far in set(range(len(people))) - {near}:
            x1, y1 = np.maximum(boxes[far, :2], boxes[near, :2])
            x2, y2 = np.minimum(boxes[far, 2:], boxes[near, 2:])
            if x2 - x1 > 6 and y2 - y1 > 6 and boxes[far, 3] < boxes[near, 3]:
                both = pixels[(y1 + y2) // 2, (x1 + x2) // 2]
                assert np.abs(both - COLOURS[int(people[near])]).max() < 12
                seen += 1
    assert seen > 2


def test_every_query_has_somebody_to_find(market: Path, tmp_path: Path) -> None:
    data = compose(market, tmp_path / "out", SMALL)
    found = open_galleries(data)
    assert len(found.probes) == len(data.probes) > 0
    for probe in data.probes:
        here = data.test[probe.scene].boxes[labels(data, "test")[probe.scene] == probe.identity]
        assert np.array_equal(here, [probe.box])


def test_no_crop_is_pasted_twice_and_running_out_says_so(market: Path, tmp_path: Path) -> None:
    paths = [(person, Path(f"{person}-{shot}")) for person in range(3) for shot in range(2)]
    deck = Deck(paths, np.random.default_rng(0))
    drawn = [deck.deal(set()) for _ in range(6)]
    assert sorted(pair for pair in drawn if pair is not None) == sorted(paths)
    assert {pair[0] for pair in drawn[:3] if pair is not None} == {
        0,
        1,
        2,
    }  # everybody once before anybody twice
    assert deck.deal(set()) is None
    with pytest.raises(ReseenError, match=r"the crops of camera \d are used up after \d+ of 60 scenes"):
        compose(market, tmp_path / "out", replace(SMALL, train_scenes=60))
    compose(market, tmp_path / "out", SMALL)  # what was interrupted is done again


def test_who_found_no_room_comes_first_next_time() -> None:
    deck = Deck([(1, Path("a")), (2, Path("b"))], np.random.default_rng(0))
    first = deck.deal(set())
    assert first is not None
    deck.put_back(*first)
    assert deck.deal(set()) == first
    assert deck.deal({1, 2}) is None
    assert deck.deal({first[0]}) is not None


def test_fewer_identities_and_plain_scenes(market: Path, tmp_path: Path) -> None:
    few = replace(SMALL, train_identities=2, test_identities=1, persons=(1, 2), background="plain")
    data = compose(market, tmp_path / "out", few)
    assert len(set(np.concatenate(labels(data, "train")).tolist())) == 2
    assert len(set(np.concatenate(labels(data, "test")).tolist())) == 1
    street = compose(market, tmp_path / "street", replace(few, background="street"))
    assert digest(tmp_path / "out" / "frames") != digest(tmp_path / "street" / "frames")
    assert [scene.boxes.tolist() for scene in street.train] == [scene.boxes.tolist() for scene in data.train]


def test_edges_fade_into_the_scene(market: Path, tmp_path: Path) -> None:
    hard = compose(market, tmp_path / "hard", replace(SMALL, feather=0.0, persons=(1, 1)))
    soft = compose(market, tmp_path / "soft", replace(SMALL, feather=0.4, persons=(1, 1)))
    levels = []
    for data in (hard, soft):
        scene, person = data.train[0], int(labels(data, "train")[0][0])
        x1, y1, x2, _ = scene.boxes[0].astype(int)
        with Image.open(scene.path) as image:
            corner = np.asarray(image)[y1 : y1 + 2, x1 : x1 + 2].astype(int)
        levels.append(np.abs(corner - COLOURS[person]).mean())
        assert x2 > x1 + 4
    assert levels[0] < levels[1]


def test_a_finished_composite_is_read_and_others_are_not_touched(market: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    compose(market, out, SMALL)
    before = digest(out)
    again = compose(market, out, SMALL, progress=lambda *_: pytest.fail("composed twice"))
    assert len(again.train) == 6
    with pytest.raises(
        ReseenError, match=r"another composite \(seed=0, persons=.*asked for seed=9, persons="
    ):
        compose(market, out, replace(SMALL, seed=9, persons=(1, 2)))
    assert digest(out) == before
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "holiday.jpg").write_bytes(b"mine")
    with pytest.raises(ReseenError, match="holds other files"):
        compose(market, tmp_path / "photos", SMALL)
    with pytest.raises(ReseenError, match="is a file"):
        compose(market, tmp_path / "photos" / "holiday.jpg", SMALL)
    (out / "composite.json").write_text("{")
    with pytest.raises(ReseenError, match="cannot be read"):
        compose(market, out, SMALL)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"seed": -1}, "seed"),
        ({"test_scenes": 0}, "test scene"),
        ({"train_identities": 0}, "identity"),
        ({"sizes": ()}, "sizes"),
        ({"sizes": ((10, 10),)}, "64 to 8192"),
        ({"persons": (3, 2)}, "persons"),
        ({"heights": (0.5, 0.2)}, "heights"),
        ({"max_overlap": 1.0}, "max_overlap"),
        ({"feather": float("nan")}, "feather"),
        ({"background": "beach"}, "background"),
    ],
)
def test_impossible_compositions_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ReseenError, match=message):
        Composition(**wrong)  # type: ignore[arg-type]


def test_crops_without_labels_and_damaged_ones_are_one_clear_line(market: Path, tmp_path: Path) -> None:
    Image.new("RGB", (8, 16)).save(tmp_path / "a.jpg")
    with pytest.raises(ReseenError, match="lacks labelled training, query or gallery crops"):
        compose(tmp_path, tmp_path / "out", SMALL)
    broken = tmp_path / "broken"
    for path in market.rglob("*.png"):
        place = broken / path.relative_to(market)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b"")
    with pytest.raises(ReseenError, match=r"\.png is empty"):
        compose(broken, tmp_path / "out", SMALL)


def test_nobody_in_two_test_scenes_is_an_error(market: Path, tmp_path: Path) -> None:
    with pytest.raises(ReseenError, match="nobody is in two test scenes"):
        compose(market, tmp_path / "out", replace(SMALL, test_scenes=1))


def test_the_command(market: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["compose", str(market), str(tmp_path / "out"), "--train-scenes", "4", "--test-scenes", "6"]
    assert main([*words, "--size", "120x80", "--persons", "1", "2", "--max-overlap", "0.2"]) == 0
    assert "composite, 4 training scenes with " in capsys.readouterr().out
    told = json.loads((tmp_path / "out" / "composite.json").read_text())
    given = {"train_scenes": 4, "test_scenes": 6, "sizes": [[120, 80]], "persons": [1, 2], "max_overlap": 0.2}
    assert {key: told[key] for key in given} == given
    assert told["feather"] == Composition().feather
    assert main([*words, "--persons", "2", "1"]) == 2
    assert capsys.readouterr().err.startswith("reseen: persons must be")
    assert main([*words, "--size", "120"]) == 2
    assert capsys.readouterr().err == "reseen: --size 120: give WIDTHxHEIGHT in pixels, e.g. 960x540\n"
