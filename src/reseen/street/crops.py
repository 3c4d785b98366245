"""Crops of the drawn street: tracklets of one person before one camera, in loose boxes, as Market-1501 names them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from reseen.data.layouts import GALLERY, QUERY, STREET_MARK, TRAIN
from reseen.data.readers import open_data
from reseen.errors import require
from reseen.records import ReidData
from reseen.street.cameras import (
    OCCLUDERS,
    SCENE_HEIGHT,
    SCENE_WIDTH,
    SUPERSAMPLE,
    background_of,
    body_height,
    camera_of,
    develop,
    draw_occluder,
)
from reseen.street.figure import Pen, Pose, draw_person
from reseen.street.people import FRAME, PRESENCE, TRACK, Person, person_of, stream
from reseen.street.store import DRAWN, Progress, make_once, require_files, write_images

CROP_WIDTH, CROP_HEIGHT = 64, 128  # pixels
_BOX_WIDTH, _BOX_HEIGHT = 0.43, 1.06  # an unjittered box, in body heights
_BOX_MIDDLE = 0.5  # height of its middle above the ground, in body heights
VIEW_SHARE = 0.5  # of the tracklets show the side that their camera mostly sees
_STRANGERS = 1_000_000  # identities from here on only pass through the picture


@dataclass(frozen=True)
class Shot:
    """One crop to draw: who, where, and which frame of the tracklet. ``folder`` is Market-1501's."""

    folder: str
    identity: int
    camera: int
    frame: int

    @property
    def name(self) -> str:
        """Market-1501's naming: identity, camera and sequence, frame, number of the box."""
        number = 100 * self.identity + self.frame
        return f"{self.folder}/{self.identity:04d}_c{self.camera}s1_{number:06d}_01.jpg"


@dataclass(frozen=True)
class _Track:
    """What stays the same, or moves evenly, over the frames of one person before one camera."""

    yaw: float
    phase: float
    x: float  # of the foot point in the scene, pixels
    ground: float  # y of the foot point, pixels
    speed: float  # body heights per frame
    box: tuple[float, float, float, float]  # standard normals: shift x, shift y, zoom, aspect
    occluder: str  # "" = none
    occluder_x: float  # body heights
    stranger: Person | None
    stranger_x: float  # body heights
    stranger_pose: Pose
    stranger_in_front: bool


def draw_crops(
    root: Path,
    *,
    seed: int = 0,
    train_identities: int = 80,
    test_identities: int = 60,
    cameras: int = 4,
    frames: int = 4,
    box_jitter: float = 0.08,
    progress: Progress | None = None,
) -> ReidData:
    """Person crops, 64 x 128 pixels, in Market-1501's layout and naming below ``root``, read from there.

    Identities 1..train are in ``bounding_box_train``, the following ones in ``query`` (one image for each
    identity and camera) and ``bounding_box_test``. Tracklets have about ``frames`` images. ``box_jitter`` is
    the standard deviation of a box's shift, as a share of its size, and of the logarithm of its size.
    The defaults give about 1,200 training, 225 query and 680 gallery crops.

    Raises:
        ReseenError: ``root`` holds a street with other parameters, a damaged one, or files that are not ours. One
            with equal parameters is read.
    """
    root = Path(root)
    require(seed >= 0, f"seed must be 0 or more, not {seed}")
    require(2 <= cameras <= 9, f"cameras must be 2 to 9, not {cameras}")
    fewest = min(train_identities, test_identities)
    require(fewest >= 1, "the street needs a training and a test identity or more")
    require(train_identities + test_identities <= 9999, "Market-1501's names hold at most 9999 identities")
    require(2 <= frames <= 90, f"frames must be 2 to 90, not {frames}")
    require(0 <= box_jitter <= 0.3, f"box_jitter must be 0 to 0.3, not {box_jitter}")
    sizes: dict[str, Any] = {
        "train_identities": train_identities,
        "test_identities": test_identities,
        "cameras": cameras,
        "frames": frames,
    }
    shots = plan_crops(seed, **sizes)

    def make() -> None:
        write_images(root, shots, lambda shot: draw_crop(seed, shot, box_jitter=box_jitter), progress)

    parameters = {**DRAWN, "kind": "crops", "seed": seed, **sizes, "box_jitter": box_jitter}
    make_once(root, STREET_MARK, parameters, (TRAIN, QUERY, GALLERY), make)
    require_files(root, [shot.name for shot in shots])
    return open_data(root)


def plan_crops(
    seed: int, *, train_identities: int, test_identities: int, cameras: int, frames: int
) -> list[Shot]:
    """Every crop of the street, by file name. Identities 1.. train, the following ones test.

    A person passes nine cameras in ten, and at least two. Each (test identity, camera) gives one query
    and two to ``frames`` gallery crops; in training a tracklet has ``frames`` crops give or take one.
    """
    shots = []
    for identity in range(1, train_identities + test_identities + 1):
        rng = stream(seed, PRESENCE, identity)
        order = [int(camera) + 1 for camera in rng.permutation(cameras)]
        present = [c for i, c in enumerate(order) if (rng.random() < 0.88) or i < 2]
        for camera in present:
            if identity <= train_identities:
                length = int(rng.integers(frames - 1, frames + 2))
                shots += [Shot(TRAIN, identity, camera, k) for k in range(length)]
            else:
                length = int(rng.integers(2, frames + 1))
                query = int(rng.integers(length + 1))
                shots += [
                    Shot(QUERY if k == query else GALLERY, identity, camera, k) for k in range(length + 1)
                ]
    return sorted(shots, key=lambda shot: shot.name)


def _track_of(seed: int, identity: int, camera_number: int) -> _Track:
    camera = camera_of(seed, camera_number)
    rng = stream(seed, TRACK, identity, camera_number)
    yaw = camera.yaw if rng.random() < VIEW_SHARE else rng.uniform(0, 2 * np.pi)
    yaw = (yaw + rng.normal(0, 0.3)) * rng.choice((-1, 1))
    stranger = None
    if rng.random() < 0.3:
        stranger = person_of(seed, _STRANGERS + int(rng.integers(_STRANGERS)))
    return _Track(
        yaw=float(yaw),
        phase=float(rng.uniform(0, 2 * np.pi)),
        x=float(rng.uniform(90, SCENE_WIDTH - 90)),
        ground=float(rng.uniform(camera.ground[0] + 25, camera.ground[1])),
        speed=float(rng.uniform(0.02, 0.08)),
        box=_normals(rng),
        occluder=OCCLUDERS[int(rng.integers(len(OCCLUDERS)))] if rng.random() < 0.25 else "",
        occluder_x=float(rng.uniform(-0.3, 0.3)),
        stranger=stranger,
        stranger_x=float(rng.choice((-1, 1)) * rng.uniform(0.22, 0.45)),
        stranger_pose=Pose(float(rng.uniform(0, 2 * np.pi)), float(rng.uniform(0, 2 * np.pi))),
        stranger_in_front=bool(rng.random() < 0.25),
    )


def _normals(rng: np.random.Generator) -> tuple[float, float, float, float]:
    a, b, c, d = np.clip(rng.standard_normal(4), -2, 2)
    return float(a), float(b), float(c), float(d)


def draw_crop(seed: int, shot: Shot, *, box_jitter: float) -> Image.Image:
    """Draw one crop, RGB, 64 x 128 pixels.

    ``box_jitter`` is the standard deviation of the box's shift (share of its width and height) and of the
    logarithm of its size: 0.8 of it lasts for a tracklet, 0.6 changes with every frame.
    """
    camera = camera_of(seed, shot.camera)
    track = _track_of(seed, shot.identity, shot.camera)
    rng = stream(seed, FRAME, shot.identity, shot.camera, shot.frame)
    wobble = 0.8 * np.array(track.box) + 0.6 * np.array(_normals(rng))
    shift_x, shift_y, zoom, aspect = (float(value) for value in box_jitter * wobble)
    wide = _BOX_WIDTH * float(np.exp(zoom + 0.4 * aspect))
    high = _BOX_HEIGHT * float(np.exp(zoom - 0.4 * aspect))
    # Corner of the box in body heights from the foot point; x to the right, y up.
    left = shift_x * wide - wide / 2
    top = _BOX_MIDDLE + shift_y * high + high / 2

    size = (CROP_WIDTH * SUPERSAMPLE, CROP_HEIGHT * SUPERSAMPLE)
    scale = (size[0] / wide, size[1] / high)
    body = body_height(camera, track.ground)
    walked = track.speed * shot.frame * float(np.sin(track.yaw))
    window = _inside(track.x + (left + walked) * body, track.ground - top * body, wide * body, high * body)
    image = background_of(seed, shot.camera).resize(size, Image.Resampling.BILINEAR, box=window)
    pen = Pen(image, (-left * scale[0], top * scale[1]), scale)
    _ground_shadow(pen)
    pose = Pose(
        track.yaw + float(rng.normal(0, 0.06)),
        track.phase + 0.55 * shot.frame,
        sag=float(rng.normal(0, 0.004)),
    )
    person = person_of(seed, shot.identity)
    if track.stranger is not None and not track.stranger_in_front:
        _draw_stranger(pen, track, shot.frame, up=0.035, size=0.93)
    draw_person(pen, person, pose)
    if track.stranger is not None and track.stranger_in_front:
        _draw_stranger(pen, track, shot.frame, up=-0.05, size=1.1)
    if track.occluder:
        draw_occluder(pen, track.occluder, track.occluder_x - walked)
    small = image.reduce(SUPERSAMPLE)
    return develop(small, camera, rng, zoom=CROP_HEIGHT / (high * body))


def _inside(left: float, top: float, wide: float, high: float) -> tuple[float, float, float, float]:
    """The window moved into the scene; a window that is too large is cut."""
    wide, high = min(wide, SCENE_WIDTH), min(high, SCENE_HEIGHT)
    left = min(max(left, 0.0), SCENE_WIDTH - wide)
    top = min(max(top, 0.0), SCENE_HEIGHT - high)
    return left, top, left + wide, top + high


def _ground_shadow(pen: Pen) -> None:
    pen.ellipse((0.02, 0.005), 0.17, 0.022, (92, 92, 92))


def _draw_stranger(pen: Pen, track: _Track, frame: int, *, up: float, size: float) -> None:
    assert track.stranger is not None
    x, y = pen.at((track.stranger_x + 0.03 * frame, up))
    pose = Pose(track.stranger_pose.yaw, track.stranger_pose.phase + 0.5 * frame)
    other = Pen(pen.image, (x, y), (pen.scale[0] * size, pen.scale[1] * size))
    _ground_shadow(other)
    draw_person(other, track.stranger, pose)
