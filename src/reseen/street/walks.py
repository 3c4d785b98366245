"""People of the drawn street who walk past one camera: frames of a film, with boxes and identities."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reseen.records import Labels
from reseen.street.cameras import (
    SCENE_HEIGHT,
    SCENE_WIDTH,
    SUPERSAMPLE,
    background_of,
    body_height,
    camera_of,
    develop,
)
from reseen.street.people import WALK, person_of, stream
from reseen.street.scenes import Standing, paint

SPEED = (0.65, 0.95)  # of a walker, body heights a second: 1.1 to 1.7 metres
STRIDE = 5.5  # radians of the legs' swing a second
_SEEN = 0.3  # of a body's width that is in the picture, at least: less is no box
_WIDTH = 0.3  # of a body, body heights


@dataclass(frozen=True)
class DrawnFrame:
    """RGB 640 x 360 pixels; ``boxes`` float32 ``[n, 4]`` (xyxy, cut at the border) and ``identities`` ``[n]``."""

    image: Image.Image
    boxes: NDArray[np.float32]
    identities: Labels


@dataclass(frozen=True)
class _Walk:
    begin: float  # seconds at which the walker is at the border
    right: int  # 1 to the right, -1 to the left
    slant: float  # radians off a straight crossing
    ground: float  # y of the foot point at the border, scene pixels
    speed: float  # body heights a second
    phase: float  # radians


def draw_walks(
    seed: int, camera: int, identities: Sequence[int], *, seconds: float, rate: float = 10.0
) -> Iterator[DrawnFrame]:
    """A film of ``seconds`` at ``rate`` frames a second in which each of ``identities`` crosses the picture once.

    They come at random moments from either side. Boxes hold the whole figure, also what others hide of it.
    """
    seen = camera_of(seed, camera)
    walks = [_walk_of(seed, camera, identity, seconds, seen.ground) for identity in identities]
    people = [person_of(seed, identity) for identity in identities]
    empty = background_of(seed, camera)
    canvas_size = (SCENE_WIDTH * SUPERSAMPLE, SCENE_HEIGHT * SUPERSAMPLE)
    street = empty.resize(canvas_size, Image.Resampling.BILINEAR)
    for number in range(round(seconds * rate)):
        standing: dict[int, Standing] = {}
        for row, (person, walk) in enumerate(zip(people, walks, strict=True)):
            since = number / rate - walk.begin
            across = since * walk.speed * walk.right * float(np.cos(walk.slant))
            ground = walk.ground + 20 * since * walk.speed * float(np.sin(walk.slant))
            height = body_height(seen, ground) * person.stature
            x = (0 if walk.right > 0 else SCENE_WIDTH) + across * height
            if since >= 0 and min(x, SCENE_WIDTH - x) > (_SEEN - 0.5) * _WIDTH * height:
                yaw = walk.right * (np.pi / 2 - walk.slant)
                standing[row] = Standing(x, ground, height, float(yaw), walk.phase + STRIDE * since)
        canvas, boxes = street.copy(), {}
        for row in sorted(standing, key=lambda k: standing[k].ground):  # the far ones first
            boxes[row] = paint(canvas, people[row], standing[row])
        rng = stream(seed, WALK, camera, number)
        yield DrawnFrame(
            develop(canvas.reduce(SUPERSAMPLE), seen, rng),
            np.array([boxes[row] for row in sorted(boxes)], dtype=np.float32).reshape(-1, 4),
            np.array([identities[row] for row in sorted(boxes)], dtype=np.int64),
        )


def _walk_of(seed: int, camera: int, identity: int, seconds: float, ground: tuple[float, float]) -> _Walk:
    rng = stream(seed, WALK, camera, 0, identity)
    return _Walk(
        begin=float(rng.uniform(-0.3 * seconds, 0.7 * seconds)),
        right=int(rng.choice((-1, 1))),
        slant=float(rng.normal(0, 0.15)),
        ground=float(rng.uniform(ground[0] + 15, ground[1] - 15)),
        speed=float(rng.uniform(*SPEED)),
        phase=float(rng.uniform(0, 2 * np.pi)),
    )
