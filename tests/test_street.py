"""The drawn street: deterministic, drawn once, fair (loose boxes, other people in the test), readable."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import processes
from reseen.data import open_data, open_galleries, open_search_data
from reseen.errors import ReseenError
from reseen.metrics import person_search_scores
from reseen.records import SceneDetections, SearchData, SearchQuery
from reseen.street import draw_crops, draw_scenes
from reseen.street.crops import draw_crop, plan_crops
from reseen.street.people import OUTFITS, TEXTURES, person_of
from reseen.street.scenes import update_scenes
from reseen.tasks.opening import open_crops, open_scenes

small_crops = partial(draw_crops, train_identities=3, test_identities=2, cameras=3, frames=2)
small_scenes = partial(
    draw_scenes,
    train_scenes=6,
    test_scenes=6,
    train_identities=6,
    test_identities=6,
    cameras=2,
    persons=(2, 4),
)


def digest(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("draw", [small_crops, small_scenes], ids=["crops", "scenes"])
def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(
    draw: Callable[..., object], tmp_path: Path
) -> None:
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        draw(tmp_path / name, seed=seed)
    assert digest(tmp_path / "a") == digest(tmp_path / "b")
    common = digest(tmp_path / "a").items() & digest(tmp_path / "c").items()
    assert not [name for name, _ in common if name.endswith(".jpg")]


def test_another_process_draws_the_same_bytes(tmp_path: Path) -> None:
    small_crops(tmp_path / "here", seed=1)
    code = (
        "import sys; from pathlib import Path; from reseen.street import draw_crops;"
        "draw_crops(Path(sys.argv[1]), seed=1, train_identities=3, test_identities=2, cameras=3, frames=2)"
    )
    status, said = processes.start(code, tmp_path / "there").wait()
    assert status == 0, said
    assert digest(tmp_path / "here") == digest(tmp_path / "there")


def test_a_crop_does_not_depend_on_what_was_drawn_before() -> None:
    shots = plan_crops(0, train_identities=2, test_identities=1, cameras=2, frames=2)
    forward = [draw_crop(0, shot, box_jitter=0.08).tobytes() for shot in shots]
    backward = [draw_crop(0, shot, box_jitter=0.08).tobytes() for shot in reversed(shots)]
    assert forward == backward[::-1]


@pytest.mark.parametrize("draw", [small_crops, small_scenes], ids=["crops", "scenes"])
def test_a_finished_street_is_read_and_an_unfinished_one_is_drawn_again(
    draw: Callable[..., object], tmp_path: Path
) -> None:
    calls: list[tuple[int, int]] = []
    draw(tmp_path, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(i + 1, len(calls)) for i in range(len(calls))]
    before = digest(tmp_path)
    draw(tmp_path, progress=lambda *_: pytest.fail("drawn twice"))

    # Killed half way: marker instead of manifest, one image short and one of another drawing.
    manifest = tmp_path / "street.json"
    other = {**json.loads(manifest.read_text()), "seed": 7}
    manifest.with_name("street.unfinished.json").write_text(json.dumps(other))
    manifest.unlink()
    images = sorted(tmp_path.rglob("*.jpg"))
    images[0].unlink()
    images[1].with_name("9999_c1s1_999999_01.jpg").write_bytes(b"left over")
    draw(tmp_path)
    assert digest(tmp_path) == before

    # The same drawing, killed while it wrote an image.
    manifest.rename(manifest.with_name("street.unfinished.json"))
    left = images[1].with_name(f".{images[1].name}.4194305-1.partial")  # no process has that number
    left.mkdir()
    (left / "new").write_bytes(b"half")
    draw(tmp_path)
    assert digest(tmp_path) == before
    assert not left.exists()


@pytest.mark.parametrize("draw", [small_crops, small_scenes], ids=["crops", "scenes"])
def test_other_parameters_other_files_and_damage_are_refused(
    draw: Callable[..., object], tmp_path: Path
) -> None:
    street = tmp_path / "street"
    draw(street, seed=0)
    before = digest(street)
    with pytest.raises(ReseenError, match=r"seed=0.*asked for seed=1"):
        draw(street, seed=1)
    assert digest(street) == before

    next(street.rglob("*.jpg")).unlink()
    with pytest.raises(ReseenError, match="lost 1 drawn file"):
        draw(street, seed=0)
    (street / "street.json").write_text("{")
    with pytest.raises(ReseenError, match="cannot be read"):
        draw(street, seed=0)

    foreign = tmp_path / "photos"
    for folder in (foreign, foreign / "train"):
        folder.mkdir()
        (folder / "holiday.jpg").write_bytes(b"mine")
    with pytest.raises(ReseenError, match="other files"):
        draw(foreign)
    assert (foreign / "holiday.jpg").read_bytes() == b"mine"
    with pytest.raises(ReseenError, match="is a file"):
        draw(foreign / "holiday.jpg")


def test_a_folder_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("a file")
    with pytest.raises(ReseenError, match="name another folder"):
        small_crops(tmp_path / "note.txt" / "street")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": -1}, "seed"),
        ({"cameras": 1}, "cameras"),
        ({"test_identities": 0}, "identity"),
        ({"train_identities": 9999}, "9999"),
        ({"frames": 1}, "frames"),
        ({"box_jitter": 0.5}, "box_jitter"),
    ],
)
def test_impossible_crops_are_refused(options: dict[str, int], message: str, tmp_path: Path) -> None:
    with pytest.raises(ReseenError, match=message):
        draw_crops(tmp_path / "street", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "street").exists()


def test_impossible_scenes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ReseenError, match="a test scene"):
        draw_scenes(tmp_path, test_scenes=0)
    with pytest.raises(ReseenError, match="fewer identities"):
        draw_scenes(tmp_path, train_identities=5, persons=(2, 6))


def test_open_data_reads_the_folder_as_market_1501(tmp_path: Path) -> None:
    drawn, read = small_crops(tmp_path), open_data(tmp_path)
    assert read.train == drawn.train
    for ours, theirs in ((drawn.query, read.query), (drawn.gallery, read.gallery)):
        assert ours is not None
        assert theirs is not None
        assert ours.crops == theirs.crops
        assert ours.identities.tolist() == theirs.identities.tolist()


def test_crops_have_market_1501s_layout_and_the_records_agree_with_the_names(tmp_path: Path) -> None:
    data = small_crops(tmp_path)
    assert data.query is not None
    assert data.gallery is not None
    assert data.train_identities is not None
    for folder, crops, identities in (
        ("bounding_box_train", data.train, data.train_identities),
        ("query", data.query.crops, data.query.identities),
        ("bounding_box_test", data.gallery.crops, data.gallery.identities),
    ):
        assert [crop.path for crop in crops] == sorted((tmp_path / folder).glob("*.jpg"))
        for crop, identity in zip(crops, identities, strict=True):
            match = re.fullmatch(r"(\d{4})_c(\d)s1_\d{6}_\d\d\.jpg", crop.path.name)
            assert match is not None
            assert (int(match[1]), int(match[2])) == (identity, crop.camera)
            with Image.open(crop.path) as image:
                assert (image.size, image.mode) == ((64, 128), "RGB")


@pytest.mark.parametrize("seed", range(4))
def test_the_full_plan_is_a_fair_benchmark(seed: int) -> None:
    shots = plan_crops(seed, train_identities=80, test_identities=60, cameras=4, frames=4)
    train = [shot for shot in shots if shot.folder == "bounding_box_train"]
    query = [shot for shot in shots if shot.folder == "query"]
    gallery = [shot for shot in shots if shot.folder == "bounding_box_test"]
    assert 1100 <= len(train) <= 1300
    assert 200 <= len(query) <= 240
    assert 600 <= len(gallery) <= 740
    assert {shot.identity for shot in train} == set(range(1, 81))
    assert {shot.identity for shot in query} == {shot.identity for shot in gallery} == set(range(81, 141))
    assert len({shot.name for shot in shots}) == len(shots)
    # A query is one frame of a tracklet and is not in the gallery; each has a match in another camera.
    assert len({(shot.identity, shot.camera) for shot in query}) == len(query)
    frames = {(shot.identity, shot.camera, shot.frame) for shot in query}
    assert not frames & {(shot.identity, shot.camera, shot.frame) for shot in gallery}
    places = {(shot.identity, shot.camera) for shot in gallery}
    for shot in query:
        assert any(identity == shot.identity and camera != shot.camera for identity, camera in places)


def test_outfits_are_shared_and_texture_tells_their_wearers_apart() -> None:
    people = [person_of(0, identity) for identity in range(1, 141)]
    outfits = {(person.top, person.accent, person.bottom) for person in people}
    assert len(outfits) == OUTFITS
    looks = {(person.top, person.texture, person.period) for person in people}
    assert len(looks) == len(people)
    assert {person.texture for person in people} == {texture for texture, _ in TEXTURES}
    assert person_of(0, 7) == person_of(0, 7) != person_of(1, 7)


def test_box_jitter_moves_the_person_in_the_box(tmp_path: Path) -> None:
    shots = plan_crops(0, train_identities=6, test_identities=1, cameras=2, frames=2)
    still = [np.asarray(draw_crop(0, shot, box_jitter=0.0), float) for shot in shots]
    loose = [np.asarray(draw_crop(0, shot, box_jitter=0.08), float) for shot in shots]
    assert np.mean([np.abs(a - b).mean() for a, b in zip(still, loose, strict=True)]) > 10
    small_crops(tmp_path, box_jitter=0.05)
    with pytest.raises(ReseenError, match="box_jitter"):
        small_crops(tmp_path)


def test_scene_boxes_are_tight_inside_and_carry_identities_of_their_split(tmp_path: Path) -> None:
    data = small_scenes(tmp_path)
    for scenes, labels, population in (
        (data.train, data.train_identities, range(1, 7)),
        (data.test, data.test_identities, range(7, 13)),
    ):
        assert labels is not None
        assert len(scenes) == 6
        assert {int(i) for identities in labels for i in identities} == set(population)
        assert {scene.camera for scene in scenes} == {1, 2}
        for scene, identities in zip(scenes, labels, strict=True):
            assert scene.boxes.dtype == np.float32
            assert 2 <= len(scene.boxes) <= 4
            assert len(set(identities.tolist())) == len(identities)
            with Image.open(scene.path) as image:
                assert image.size == (640, 360)
            x1, y1, x2, y2 = scene.boxes.T
            assert (x1 >= 0).all()
            assert (y1 >= 0).all()
            assert (x2 <= 640).all()
            assert (y2 <= 360).all()
            assert (x2 - x1 > 8).all()
            assert (y2 - y1 > 40).all()


def test_everybody_passes_every_camera_when_there_are_enough_scenes(tmp_path: Path) -> None:
    data = small_scenes(tmp_path)
    assert data.train_identities is not None
    seen = {
        (int(identity), scene.camera)
        for scene, identities in zip(data.train, data.train_identities, strict=True)
        for identity in identities
    }
    assert seen == {(identity, camera) for identity in range(1, 7) for camera in (1, 2)}


def test_a_scene_box_holds_the_pixels_that_its_person_changes(tmp_path: Path) -> None:
    """Without its one person a scene differs only inside the box (plus shadow below and blur around)."""
    from reseen.street.cameras import SUPERSAMPLE, background_of, camera_of, develop
    from reseen.street.people import SCENE, stream
    from reseen.street.scenes import SceneShot, _placements, draw_scene

    shot = SceneShot("train", 1, 1, (3,))
    image, boxes = draw_scene(0, shot)
    rng = stream(0, SCENE, 0, 1)
    _placements(camera_of(0, 1), [person_of(0, 3)], rng)  # uses up what a scene draws before its noise
    street = background_of(0, 1).resize((640 * SUPERSAMPLE, 360 * SUPERSAMPLE), Image.Resampling.BILINEAR)
    empty = develop(street.reduce(SUPERSAMPLE), camera_of(0, 1), rng)
    changed = np.abs(np.asarray(image, int) - np.asarray(empty, int)).max(axis=2) > 40
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    x1, y1, x2, y2 = boxes[0]
    assert abs(rows[0] - y1) <= 3
    assert abs(columns[0] - x1) <= 3
    assert abs(columns[-1] + 1 - x2) <= 3
    assert rows[-1] + 1 <= y2 + 8


def test_the_manifest_says_what_was_drawn(tmp_path: Path) -> None:
    small_crops(tmp_path, seed=2)
    manifest = json.loads((tmp_path / "street.json").read_text())
    assert manifest["drawn_by"] == "reseen"
    assert (manifest["kind"], manifest["seed"], manifest["box_jitter"]) == ("crops", 2, 0.08)
    assert not (tmp_path / "street.unfinished.json").exists()


SMALL_STREET = {"train_identities": 4, "test_identities": 4, "cameras": 2, "persons": (1, 3)}


def small_street(root: Path) -> SearchData:
    return draw_scenes(root, train_scenes=4, test_scenes=6, **SMALL_STREET)  # type: ignore[arg-type]


def test_the_drawn_street_as_person_search(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    data = draw_scenes(
        tmp_path, train_scenes=4, test_scenes=6, progress=lambda *done: told.append(done), **SMALL_STREET
    )  # type: ignore[arg-type]
    assert told == [(number, 10) for number in range(1, 11)]
    assert (data.name, len(data.train), len(data.test)) == ("street", 4, 6)
    assert data.train_identities is not None
    assert data.test_identities is not None
    assert not set(np.concatenate(data.train_identities)) & set(np.concatenate(data.test_identities))
    found = open_galleries(data)
    assert len(found.probes) == len(data.probes) > 3
    for probe, targets in zip(data.probes, found.targets, strict=True):
        assert len(targets) == 5
        for name, box in targets.items():
            row = data.test_names.index(name)
            here = data.test[row].boxes[data.test_identities[row] == probe.identity]
            assert (box is None and len(here) == 0) or np.array_equal(box, here[0])
    again = open_search_data(tmp_path)
    assert again.train_names == data.train_names
    assert [probe.box.tolist() for probe in again.probes] == [probe.box.tolist() for probe in data.probes]


def test_a_perfect_search_of_the_street_scores_one(tmp_path: Path) -> None:
    """Names, targets and metrics fit together: features that are the identity find everybody."""
    data = small_street(tmp_path)
    assert data.test_identities is not None
    features = np.eye(10, dtype=np.float32)
    detections = {
        name: SceneDetections(scene.boxes, np.ones(len(scene.boxes)), features[labels])
        for name, scene, labels in zip(data.test_names, data.test, data.test_identities, strict=True)
    }
    found = open_galleries(data)
    queries = [
        SearchQuery(features[data.probes[row].identity], targets)
        for row, targets in zip(found.probes, found.targets, strict=True)
    ]
    scores = person_search_scores(queries, detections)
    assert (scores.mean_ap, scores.top1) == (1.0, 1.0)
    wrong = [SearchQuery(np.roll(query.feature, 1), query.targets) for query in queries]
    assert person_search_scores(wrong, detections).mean_ap < 0.6


def test_drawn_scenes_are_coco_json(tmp_path: Path) -> None:
    data = small_street(tmp_path)
    assert data.train_identities is not None
    content = json.loads((tmp_path / "train.json").read_text())
    assert content["categories"] == [{"id": 1, "name": "person"}]
    assert [image["id"] for image in content["images"]] == [1, 2, 3, 4]
    assert [box["id"] for box in content["annotations"]] == list(range(1, data.train_boxes + 1))
    for image, name, scene, people in zip(
        content["images"], data.train_names, data.train, data.train_identities, strict=True
    ):
        assert (image["file_name"], image["camera"]) == (name, scene.camera)
        assert (image["width"], image["height"]) == (640, 360)
        here = [box for box in content["annotations"] if box["image_id"] == image["id"]]
        assert [box["person_id"] for box in here] == people.tolist()
        for box, (x1, y1, x2, y2) in zip(here, scene.boxes.tolist(), strict=True):
            assert box["bbox"] == [x1, y1, x2 - x1, y2 - y1]
            assert (box["area"], box["iscrowd"]) == ((x2 - x1) * (y2 - y1), 0)
    (tmp_path / "test.json").unlink()
    with pytest.raises(ReseenError, match=r"lost 1 drawn files \(first: test.json\)"):
        small_street(tmp_path)


def facts(data: SearchData) -> dict[str, object]:
    """All that a search reads of a street."""
    return {
        "name": data.name,
        "scenes": [(s.path, s.camera, s.boxes.tolist()) for s in (*data.train, *data.test)],
        "names": (data.train_names, data.test_names),
        "people": [labels.tolist() for labels in (*data.train_identities, *data.test_identities)],  # type: ignore[misc]
        "probes": [(probe.scene, probe.identity, probe.box.tolist()) for probe in data.probes],
        "skipped": data.skipped,
    }


def as_drawn_before(root: Path, data: SearchData) -> None:
    """What an earlier version left in place of COCO json: each part with a mark of its own, boxes in it."""
    mark = json.loads((root / "street.json").read_text())
    for split, scenes, labels in (
        ("train", data.train, data.train_identities),
        ("test", data.test, data.test_identities),
    ):
        assert labels is not None
        images = [
            {"file": s.path.name, "camera": s.camera, "identities": who.tolist(), "boxes": s.boxes.tolist()}
            for s, who in zip(scenes, labels, strict=True)
        ]
        old = {key: value for key, value in mark.items() if not key.endswith("_scenes")}
        old |= {"split": split, "scenes": len(scenes), "images": images}
        (root / split / "street.json").write_text(json.dumps(old))
        (root / f"{split}.json").unlink()
    (root / "street.json").unlink()


def test_scenes_that_an_earlier_version_drew_open_as_they_were(tmp_path: Path) -> None:
    data = small_street(tmp_path)
    written, mark = digest(tmp_path), json.loads((tmp_path / "street.json").read_text())
    as_drawn_before(tmp_path, data)
    assert facts(open_scenes(tmp_path, "r-siamnet")) == facts(data)  # as every command opens scenes
    assert json.loads((tmp_path / "street.json").read_text()) == mark
    assert digest(tmp_path).items() >= {k: v for k, v in written.items() if k != "street.json"}.items()

    as_drawn_before(tmp_path, data)
    with pytest.raises(ReseenError, match="holds scenes"):
        open_crops(tmp_path, "cacl")
    as_drawn_before(tmp_path, data)
    with pytest.raises(ReseenError, match=r"seed=0, asked for seed=1"):
        draw_scenes(tmp_path, seed=1, train_scenes=4, test_scenes=6, **SMALL_STREET)  # type: ignore[arg-type]
    never = draw_scenes(
        tmp_path,
        train_scenes=4,
        test_scenes=6,
        progress=lambda *_: pytest.fail("drawn twice"),
        **SMALL_STREET,  # type: ignore[arg-type]
    )
    assert facts(never) == facts(data)

    as_drawn_before(tmp_path, data)
    (tmp_path / "test" / "street.json").write_text("{}")
    with pytest.raises(ReseenError, match="damaged street: delete it"):
        update_scenes(tmp_path)
