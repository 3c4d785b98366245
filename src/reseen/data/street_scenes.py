"""Scenes of the drawn street: several walkers in perspective before one camera, with tight boxes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from reseen.data.street_cameras import (
    SCENE_HEIGHT,
    SCENE_WIDTH,
    SUPERSAMPLE,
    Camera,
    background_of,
    body_height,
    camera_of,
    develop,
)
from reseen.data.street_figure import REACH, Pen, Pose, draw_person
from reseen.data.street_people import DECK, SCENE, Person, person_of, stream

MAX_HIDDEN = 0.6  # of a box by one nearer box; placements that hide more are tried again
_TRIES = 30

SPLITS = ("train", "test")


@dataclass(frozen=True)
class SceneShot:
    """One scene to draw: file name within its split, camera, and who is in it."""

    split: str  # train or test; the two have random streams of their own
    number: int
    camera: int
    identities: tuple[int, ...]

    @property
    def name(self) -> str:
        return f"c{self.camera}_s{self.number:06d}.jpg"


@dataclass(frozen=True)
class _Standing:
    x: float  # of the foot point, scene pixels
    ground: float  # y of the foot point, scene pixels
    height: float  # scene pixels
    yaw: float  # radians
    phase: float  # radians


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
        boxes[i] = _paint(canvas, people[i], standing[i])
    return develop(canvas.reduce(SUPERSAMPLE), camera, rng), boxes


def _placements(camera: Camera, people: list[Person], rng: np.random.Generator) -> list[_Standing]:
    """Places for everybody such that nobody is nearly hidden; after 30 tries the last place is taken."""
    placed: list[_Standing] = []
    for person in people:
        for _ in range(_TRIES):
            ground = float(rng.uniform(*camera.ground))
            yaw = camera.yaw if rng.random() < 0.5 else float(rng.uniform(0, 2 * np.pi))
            candidate = _Standing(
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


def _hidden_share(a: _Standing, b: _Standing) -> float:
    """Share of the farther figure's rough box that the nearer one's covers."""
    far, near = (a, b) if a.ground < b.ground else (b, a)
    half_far, half_near = 0.16 * far.height, 0.16 * near.height
    wide = min(far.x + half_far, near.x + half_near) - max(far.x - half_far, near.x - half_near)
    high = min(far.ground, near.ground) - max(far.ground - far.height, near.ground - near.height)
    return max(0.0, wide) * max(0.0, high) / (2 * half_far * far.height)


def _paint(canvas: Image.Image, person: Person, where: _Standing) -> tuple[float, float, float, float]:
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
