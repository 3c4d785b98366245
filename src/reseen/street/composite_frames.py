"""What a composite looks like, and one scene of it: who is in it, where they stand, and the picture."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reseen.data.boxes import Boxes
from reseen.data.images import read_image
from reseen.errors import require
from reseen.street.cameras import background_of

_TRIES = 30  # places that are tried for one person
_HORIZON = 0.55  # foot line of the farthest people, as a share of the scene's height; the nearest end at 1
_NOISE, _FLICKER = 3.0, 0.08  # of the background: levels, and share of the brightness


@dataclass(frozen=True)
class Composition:
    """What a composite looks like. ``sizes`` (width, height, pixels) go round the cameras.

    ``persons``: fewest and most in a scene, as far as crops and room are there; ``heights``: of a person, as shares of
    the scene's height, far and near; ``max_overlap``: of two persons, as a share of the smaller box; ``feather``: how
    far a crop fades into the scene on each side, as a share of its width; ``background``: the drawn street's cameras,
    or a plain gradient. ``train_identities``, ``test_identities``: how many persons take part; None: all.
    """

    seed: int = 0
    train_scenes: int = 1000
    test_scenes: int = 600
    train_identities: int | None = None
    test_identities: int | None = None
    sizes: tuple[tuple[int, int], ...] = ((960, 540),)
    persons: tuple[int, int] = (2, 8)
    heights: tuple[float, float] = (0.2, 0.55)
    max_overlap: float = 0.3
    feather: float = 0.08
    background: Literal["street", "plain"] = "street"

    def __post_init__(self) -> None:
        require(self.seed >= 0, f"seed must be 0 or more, not {self.seed}")
        require(
            self.train_scenes >= 1 and self.test_scenes >= 1,
            f"a composite needs a training and a test scene or more, not {self.train_scenes} and {self.test_scenes}",
        )
        for count in (self.train_identities, self.test_identities):
            require(count is None or count >= 1, f"a composite needs at least 1 identity, not {count}")
        require(len(self.sizes) > 0, "sizes must name a width and a height at least")
        for width, height in self.sizes:
            require(
                64 <= width <= 8192 and 64 <= height <= 8192, f"a scene of {width} x {height}: 64 to 8192"
            )
        require(
            1 <= self.persons[0] <= self.persons[1], f"persons must be (fewest, most), not {self.persons}"
        )
        require(
            0.05 <= self.heights[0] <= self.heights[1] <= 0.95,
            f"heights must be (far, near) in 0.05 to 0.95, not {self.heights}",
        )
        require(0 <= self.max_overlap < 1, f"max_overlap must be in [0, 1), not {self.max_overlap}")
        require(0 <= self.feather <= 0.5, f"feather must be in [0, 0.5], not {self.feather}")
        require(
            self.background in ("street", "plain"),
            f"background must be street or plain, not {self.background}",
        )


@dataclass(frozen=True)
class Frame:
    """A scene and its persons: ``corners`` ``[n, 4]`` (xyxy, whole pixels), in the order of ``identities``."""

    name: str
    camera: int
    image: Image.Image
    corners: Boxes
    identities: tuple[int, ...]


class Deck:
    """The crops of one camera, dealt person by person in random order; no crop comes twice.

    Everybody with crops left comes once before anybody comes twice.
    """

    def __init__(self, crops: list[tuple[int, Path]], rng: np.random.Generator) -> None:
        """``crops``: (person, file) of all crops of the camera."""
        self._rng = rng
        self._left: dict[int, list[Path]] = {}
        for place in rng.permutation(len(crops)):
            person, path = crops[place]
            self._left.setdefault(person, []).append(path)
        self._order: deque[int] = deque()

    def deal(self, present: set[int]) -> tuple[int, Path] | None:
        """The next person who is not ``present``, and a crop; None: there is nobody."""
        if all(person in present for person in self._order):
            people = sorted(person for person in self._left if person not in self._order)
            self._order.extend(people[place] for place in self._rng.permutation(len(people)))
        for person in self._order:
            if person not in present:
                self._order.remove(person)
                path = self._left[person].pop()
                if not self._left[person]:
                    del self._left[person]
                return person, path
        return None

    def put_back(self, person: int, path: Path) -> None:
        """For whom there was no room: the first in turn next time."""
        self._left.setdefault(person, []).append(path)
        self._order.appendleft(person)


def compose_frame(
    wanted: Composition,
    deck: Deck,
    *,
    name: str,
    camera: int,
    size: tuple[int, int],
    rng: np.random.Generator,
) -> Frame | None:
    """Paste the next people of a camera into its scene; None where no crop is left.

    ``size`` is width and height in pixels.

    Raises:
        ReseenError: a crop cannot be read.
    """
    count = int(rng.integers(wanted.persons[0], wanted.persons[1] + 1))
    chosen: list[tuple[int, Image.Image]] = []
    boxes = np.zeros((0, 4), dtype=np.int64)
    present: set[int] = set()
    while len(chosen) < count and (dealt := deck.deal(present)) is not None:
        person, path = dealt
        present.add(person)
        crop = Image.fromarray(read_image(path).permute(1, 2, 0).numpy())
        box = _place(crop.height / crop.width, boxes, size, wanted, rng)
        if box is None:
            deck.put_back(person, path)
            break
        chosen.append((person, crop))
        boxes = np.vstack([boxes, box])
    if not chosen:
        return None
    canvas = _background(wanted, camera, size, rng)
    for row in np.argsort(boxes[:, 3], kind="stable"):  # the far ones first
        x1, y1, x2, y2 = boxes[row].tolist()
        pasted = chosen[row][1].resize((x2 - x1, y2 - y1), Image.Resampling.BICUBIC)
        canvas.paste(pasted, (x1, y1), _mask(x2 - x1, y2 - y1, wanted.feather))
    return Frame(name, camera, canvas, boxes.astype(np.float32), tuple(person for person, _ in chosen))


def _place(
    ratio: float,
    others: NDArray[np.int64],
    size: tuple[int, int],
    wanted: Composition,
    rng: np.random.Generator,
) -> NDArray[np.int64] | None:
    """A box in the scene for a crop of height / width ``ratio``, larger where it is nearer; None: no room."""
    (width, height), (far, near) = size, wanted.heights
    for _ in range(_TRIES):
        nearness, across, wobble = rng.random(3).tolist()
        tall = max(2, round((far + nearness * (near - far)) * height))
        tall = max(2, min(tall, int(width * ratio)))
        wide = min(width, max(1, round(tall / ratio)))
        foot = (_HORIZON + nearness * (1 - _HORIZON) + 0.04 * (wobble - 0.5)) * height
        y2 = min(height, max(tall, round(foot)))
        x1 = round(across * (width - wide))
        box = np.array([x1, y2 - tall, x1 + wide, y2], dtype=np.int64)
        if not len(others) or _overlap(box, others).max() <= wanted.max_overlap:
            return box
    return None


def _overlap(box: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.float64]:
    """What a box shares with others ``[n, 4]``, as a share of the smaller one of the two."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    areas = (others[:, 2:] - others[:, :2]).prod(axis=1)
    shares: NDArray[np.float64] = sides.clip(0).prod(axis=1) / np.minimum(areas, (box[2:] - box[:2]).prod())
    return shares


def _mask(width: int, height: int, feather: float) -> Image.Image:
    """Opaque inside, fading out towards each side over ``feather`` times the width."""
    reach = feather * width

    def ramp(length: int) -> NDArray[np.float64]:
        inside = np.minimum(np.arange(length) + 0.5, length - np.arange(length) - 0.5)
        return np.clip(inside / reach, 0, 1) if reach > 0 else np.ones(length)

    levels = 255 * np.minimum(ramp(height)[:, None], ramp(width)[None])
    return Image.fromarray(np.round(levels).astype(np.uint8))


def _background(
    wanted: Composition, camera: int, size: tuple[int, int], rng: np.random.Generator
) -> Image.Image:
    """The empty scene of a camera with a little flicker and noise, so that no two pictures of it are equal."""
    if wanted.background == "street":
        scene = background_of(wanted.seed, camera).resize(size, Image.Resampling.BICUBIC)
        levels = np.asarray(scene, dtype=np.float32)
    else:
        above, below = np.random.default_rng([wanted.seed, 3, camera]).uniform(60, 200, (2, 3))
        down = np.linspace(0, 1, size[1])[:, None, None]
        levels = np.broadcast_to(above + down * (below - above), (size[1], size[0], 3)).astype(np.float32)
    flicker = np.float32(1 + rng.uniform(-_FLICKER, _FLICKER))
    noise = rng.standard_normal(levels.shape, dtype=np.float32) * np.float32(_NOISE)
    return Image.fromarray(np.clip(levels * flicker + noise, 0, 255).astype(np.uint8))
