"""Scenes of the drawn street: several walkers in perspective before one camera, with tight boxes, as COCO json."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from reseen.data.layouts import STREET_MARK
from reseen.data.paths import shown
from reseen.data.scenes import open_search_data
from reseen.errors import ReseenError, require
from reseen.files import from_json
from reseen.records import SearchData
from reseen.street.cameras import (
    SCENE_HEIGHT,
    SCENE_WIDTH,
    SUPERSAMPLE,
    Camera,
    background_of,
    body_height,
    camera_of,
    develop,
)
from reseen.street.figure import REACH, Pen, Pose, draw_person
from reseen.street.people import DECK, SCENE, Person, person_of, stream
from reseen.street.store import DRAWN, Progress, make_once, require_files, write_images, write_json

MAX_HIDDEN = 0.6  # of a box by one nearer box; placements that hide more are tried again
_TRIES = 30

SPLITS = ("train", "test")


@dataclass(frozen=True)
class SceneShot:
    """One scene to draw: its file, its camera, and who is in it."""

    split: str  # train or test; the two have random streams of their own
    number: int
    camera: int
    identities: tuple[int, ...]

    @property
    def name(self) -> str:
        return f"{self.split}/images/{self.file}"

    @property
    def file(self) -> str:
        return f"c{self.camera}_s{self.number:06d}.jpg"


@dataclass(frozen=True)
class Standing:
    """Where a figure stands, and how."""

    x: float  # of the foot point, scene pixels
    ground: float  # y of the foot point, scene pixels
    height: float  # scene pixels
    yaw: float  # radians
    phase: float  # radians


def draw_scenes(
    root: Path,
    *,
    seed: int = 0,
    train_scenes: int = 200,
    test_scenes: int = 100,
    train_identities: int = 40,
    test_identities: int = 30,
    cameras: int = 4,
    persons: tuple[int, int] = (2, 6),
    progress: Progress | None = None,
) -> SearchData:
    """Whole scenes, 640 x 360 pixels, with tight boxes and identities, as COCO json below ``root``, read from there.

    Training scenes show identities 1..train, test scenes the following ones; with equal seeds they are the
    people of :func:`reseen.street.draw_crops`. A scene has ``persons[0]`` to ``persons[1]`` people. Boxes hold the
    whole figure even where others hide it, and end at the border. Everybody passes every camera if
    ``scenes * persons[0] >= identities * cameras``. Queries are the first box of each test person and camera,
    their gallery all test scenes but their own.

    Raises:
        ReseenError: as :func:`reseen.street.draw_crops`. A street with equal parameters is read.
    """
    root = Path(root)
    require(seed >= 0, f"seed must be 0 or more, not {seed}")
    require(min(train_scenes, test_scenes) >= 1, "the street needs a training and a test scene or more")
    require(1 <= cameras <= 9, f"cameras must be 1 to 9, not {cameras}")
    require(1 <= persons[0] <= persons[1], f"persons must be (fewest, most), not {persons}")
    require(min(train_identities, test_identities) >= persons[1], "fewer identities than persons in a scene")
    people = range(1, train_identities + test_identities + 1)
    train, test = (
        plan_scenes(seed, split=split, scenes=scenes, identities=who, cameras=cameras, persons=persons)
        for split, scenes, who in (
            ("train", train_scenes, people[:train_identities]),
            ("test", test_scenes, people[train_identities:]),
        )
    )
    boxes: dict[SceneShot, NDArray[np.float32]] = {}

    def draw(shot: SceneShot) -> Image.Image:
        image, boxes[shot] = draw_scene(seed, shot)
        return image

    def make() -> None:
        write_images(root, [*train, *test], draw, progress)
        for split, shots in zip(SPLITS, (train, test), strict=True):
            entries = [(shot.file, shot.camera, shot.identities, boxes[shot].tolist()) for shot in shots]
            _write_coco(root / f"{split}.json", entries)

    sizes = {"train_scenes": train_scenes, "test_scenes": test_scenes, "cameras": cameras, "persons": persons}
    identities = {"train_identities": train_identities, "test_identities": test_identities}
    parameters = {**DRAWN, "kind": "scenes", "seed": seed, **sizes, **identities}
    update_scenes(root)
    make_once(root, STREET_MARK, parameters, [f"{split}/images" for split in SPLITS], make)
    require_files(root, [*(f"{split}.json" for split in SPLITS), *(shot.name for shot in (*train, *test))])
    return open_search_data(root)


def update_scenes(root: Path) -> None:
    """Write what scenes lack that were drawn before they were COCO json: then each part had a mark with its boxes.

    Raises:
        ReseenError: such a drawing is damaged.
    """
    marks = [root / split / STREET_MARK for split in SPLITS]
    if (root / STREET_MARK).exists() or not all(mark.is_file() for mark in marks):
        return
    try:
        train, test = (from_json(mark.read_text(encoding="utf-8")) for mark in marks)
        street = {key: train[key] for key in train if key not in ("split", "scenes", "images")}
        if any(test[key] != value for key, value in street.items()):
            raise ValueError("two streets")
        for split, part in zip(SPLITS, (train, test), strict=True):
            entries = [(e["file"], e["camera"], e["identities"], e["boxes"]) for e in part["images"]]
            _write_coco(root / f"{split}.json", entries)
        sizes = {"train_scenes": train["scenes"], "test_scenes": test["scenes"]}
        write_json(root / STREET_MARK, {**street, **sizes})
    except (ValueError, LookupError, TypeError) as error:
        raise ReseenError(f"{shown(root)} is a damaged street: delete it and draw it again") from error


def _write_coco(path: Path, scenes: Iterable[tuple[str, int, Iterable[int], list[list[float]]]]) -> None:
    """``scenes``: file name, camera, identities and boxes (xyxy, pixels) of each."""
    size = {"width": SCENE_WIDTH, "height": SCENE_HEIGHT}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (file, camera, identities, boxes) in enumerate(scenes, start=1):
        images.append({"id": number, "file_name": file, **size, "camera": camera})
        for person, (x1, y1, x2, y2) in zip(identities, boxes, strict=True):
            wide, high = x2 - x1, y2 - y1
            whose = {"id": len(annotations) + 1, "image_id": number, "category_id": 1, "person_id": person}
            annotations.append({**whose, "bbox": [x1, y1, wide, high], "area": wide * high, "iscrowd": 0})
    categories = [{"id": 1, "name": "person"}]
    write_json(path, {"images": images, "annotations": annotations, "categories": categories})


def plan_scenes(
    seed: int, *, split: str, scenes: int, identities: range, cameras: int, persons: tuple[int, int]
) -> list[SceneShot]:
    """Who is in which scene. Scenes go round the cameras; each camera deals its own shuffled deck of people.

    So everybody passes every camera once before anybody passes it twice, and nobody is twice in a scene.
    """
    decks: dict[int, list[int]] = {camera: [] for camera in range(1, cameras + 1)}
    dealers = {camera: stream(seed, DECK, SPLITS.index(split), camera) for camera in decks}
    shots = []
    for index in range(scenes):
        camera = index % cameras + 1
        deck, rng = decks[camera], dealers[camera]
        count = min(int(rng.integers(persons[0], persons[1] + 1)), len(identities))
        present: list[int] = []
        while len(present) < count:
            if not deck:
                # Whoever is already in this scene goes to the bottom of the new deck.
                fresh = [identities[int(i)] for i in rng.permutation(len(identities))]
                deck[:] = [i for i in fresh if i not in present] + [i for i in fresh if i in present]
            present.append(deck.pop(0))
        shots.append(SceneShot(split, index + 1, camera, tuple(present)))
    return shots


def draw_scene(seed: int, shot: SceneShot) -> tuple[Image.Image, NDArray[np.float32]]:
    """Draw one scene, RGB 640 x 360, and its tight boxes ``[n, 4]`` (xyxy, pixels).

    Boxes are in the order of ``shot.identities``; each holds the whole figure, also what others hide of
    it, and ends at the border of the image.
    """
    camera = camera_of(seed, shot.camera)
    rng = stream(seed, SCENE, SPLITS.index(shot.split), shot.number)
    people = [person_of(seed, identity) for identity in shot.identities]
    standing = _placements(camera, people, rng)
    size = (SCENE_WIDTH * SUPERSAMPLE, SCENE_HEIGHT * SUPERSAMPLE)
    canvas = background_of(seed, shot.camera).resize(size, Image.Resampling.BILINEAR)
    boxes = np.zeros((len(standing), 4), dtype=np.float32)
    for i in sorted(range(len(standing)), key=lambda k: standing[k].ground):  # the far ones first
        boxes[i] = paint(canvas, people[i], standing[i])
    return develop(canvas.reduce(SUPERSAMPLE), camera, rng), boxes


def _placements(camera: Camera, people: list[Person], rng: np.random.Generator) -> list[Standing]:
    """Places for everybody such that nobody is nearly hidden; after 30 tries the last place is taken."""
    placed: list[Standing] = []
    for person in people:
        for _ in range(_TRIES):
            ground = float(rng.uniform(*camera.ground))
            yaw = camera.yaw if rng.random() < 0.5 else float(rng.uniform(0, 2 * np.pi))
            candidate = Standing(
                x=float(rng.uniform(0.02, 0.98)) * SCENE_WIDTH,
                ground=ground,
                height=body_height(camera, ground) * person.stature,
                yaw=float(yaw + rng.normal(0, 0.3)) * float(rng.choice((-1, 1))),
                phase=float(rng.uniform(0, 2 * np.pi)),
            )
            if all(_hidden_share(candidate, other) <= MAX_HIDDEN for other in placed):
                break
        placed.append(candidate)
    return placed


def _hidden_share(a: Standing, b: Standing) -> float:
    """Share of the farther figure's rough box that the nearer one's covers."""
    far, near = (a, b) if a.ground < b.ground else (b, a)
    half_far, half_near = 0.16 * far.height, 0.16 * near.height
    wide = min(far.x + half_far, near.x + half_near) - max(far.x - half_far, near.x - half_near)
    high = min(far.ground, near.ground) - max(far.ground - far.height, near.ground - near.height)
    return max(0.0, wide) * max(0.0, high) / (2 * half_far * far.height)


def paint(canvas: Image.Image, person: Person, where: Standing) -> tuple[float, float, float, float]:
    """Paint a figure with its shadow; its box in scene pixels, cut at the border."""
    scale = where.height * SUPERSAMPLE
    left, down, right, up = (reach * scale for reach in REACH)
    sprite = Image.new("RGBA", (round(left + right), round(up + down)), (0, 0, 0, 0))
    # Whole pixels, so that the box read from the sprite is the box in the scene.
    x0, y0 = round(where.x * SUPERSAMPLE - left), round(where.ground * SUPERSAMPLE - up)
    draw_person(Pen(sprite, (left, up), (scale, scale)), person, Pose(where.yaw, where.phase))
    tight = sprite.getchannel("A").getbbox()
    assert tight is not None, "a figure has at least one pixel"
    shadow = Image.new("L", sprite.size, 0)
    Pen(shadow, (left, up), (scale, scale)).draw.ellipse(
        (left - 0.17 * scale, up - 0.025 * scale, left + 0.21 * scale, up + 0.02 * scale), fill=90
    )
    canvas.paste((40, 40, 44), (x0, y0), shadow.filter(ImageFilter.BoxBlur(3)))
    canvas.paste(sprite, (x0, y0), sprite)
    return (
        max(0.0, (x0 + tight[0]) / SUPERSAMPLE),
        max(0.0, (y0 + tight[1]) / SUPERSAMPLE),
        min(float(SCENE_WIDTH), (x0 + tight[2]) / SUPERSAMPLE),
        min(float(SCENE_HEIGHT), (y0 + tight[3]) / SUPERSAMPLE),
    )
