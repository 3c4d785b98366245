"""Composites: real crops of people pasted into drawn scenes, for want of real scenes. Never call them anything else.

What they are good for: whole person search on real appearances, over real cameras (a crop goes into a scene of the
camera that took it), with as many scenes as wanted. What they are not: there are no masks, so people are
rectangles with feathered edges that carry their own background, and a detector has an easier task than in a street.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from reseen.data.composite_frames import Deck, Frame, compose_frame
from reseen.data.galleries import probes_by_camera
from reseen.data.images import fingerprint
from reseen.data.paths import shown
from reseen.data.prw import ANNOTATIONS, COMPOSITE_MARK, FRAMES, LISTS, QUERIES, TABLES, read_prw
from reseen.data.readers import open_data
from reseen.errors import ReseenError
from reseen.files import write_file
from reseen.records import DISTRACTOR, UNKNOWN_CAMERA, Crop, Labels, ReidData, Scene, SearchData

VERSION = 1  # of the composition: raise it when the same parameters give another picture
UNFINISHED = "composite.unfinished.json"
_QUALITY = 95  # JPEG
_PRW_HEADER = b"MATLAB 5.0 MAT-file, composed by reseen".ljust(116)  # scipy writes the time of day there


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
        _require(self.seed >= 0, f"seed must be 0 or more, not {self.seed}")
        _require(
            self.train_scenes >= 1 and self.test_scenes >= 1,
            f"a composite needs a training and a test scene or more, not {self.train_scenes} and {self.test_scenes}",
        )
        for count in (self.train_identities, self.test_identities):
            _require(count is None or count >= 1, f"a composite needs at least 1 identity, not {count}")
        _require(len(self.sizes) > 0, "sizes must name a width and a height at least")
        for width, height in self.sizes:
            _require(
                64 <= width <= 8192 and 64 <= height <= 8192, f"a scene of {width} x {height}: 64 to 8192"
            )
        _require(
            1 <= self.persons[0] <= self.persons[1], f"persons must be (fewest, most), not {self.persons}"
        )
        _require(
            0.05 <= self.heights[0] <= self.heights[1] <= 0.95,
            f"heights must be (far, near) in 0.05 to 0.95, not {self.heights}",
        )
        _require(0 <= self.max_overlap < 1, f"max_overlap must be in [0, 1), not {self.max_overlap}")
        _require(0 <= self.feather <= 0.5, f"feather must be in [0, 0.5], not {self.feather}")
        _require(
            self.background in ("street", "plain"),
            f"background must be street or plain, not {self.background}",
        )


def compose(
    market: str | Path,
    out: str | Path,
    composition: Composition | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> SearchData:
    """Write a composite of the crops in ``market`` (Market-1501's layout or one like it) to ``out``, in PRW's layout.

    Training persons are in training scenes, test persons (queries and gallery, neither junk nor distractors) in
    test scenes. Nobody is twice in a scene, and no crop is pasted twice, so that a match is never a copy. Scenes go
    round the cameras; each camera deals its people in random order. Everything is a function of crops and
    composition; a finished composite with the same ones is read, not made again.

    Args:
        progress: called with (scenes done, scenes in all).

    Raises:
        ReseenError: no labelled crops with cameras, too few of them, one that cannot be read, or ``out`` holds
            something else.
    """
    wanted, out = composition or Composition(), Path(os.path.expanduser(out))
    crops = _crops(open_data(market), wanted)
    told = _parameters(wanted, crops)
    if not _finished(out, told):
        _begin(out, told)
        _write(out, crops, wanted, progress)
        write_file(out / COMPOSITE_MARK, _json(told))
        (out / UNFINISHED).unlink(missing_ok=True)
    return read_prw(out)


@dataclass
class _Split:
    """Crops of one split, and what has been composed of them."""

    crops: tuple[Crop, ...]
    identities: Labels
    names: list[str] = field(default_factory=list)
    scenes: list[Scene] = field(default_factory=list)
    labels: list[Labels] = field(default_factory=list)


def _crops(data: ReidData, wanted: Composition) -> dict[str, _Split]:
    if data.train_identities is None or data.query is None or data.gallery is None:
        raise ReseenError(
            f"{shown(data.root)} lacks labelled training, query or gallery crops: give a folder like Market-1501's"
        )
    found = {
        "train": (data.train, data.train_identities, wanted.train_identities),
        "test": (
            (*data.query.crops, *data.gallery.crops),
            np.concatenate([data.query.identities, data.gallery.identities]),
            wanted.test_identities,
        ),
    }
    splits = {}
    for number, (split, (crops, identities, limit)) in enumerate(found.items()):
        known = np.array([crop.camera != UNKNOWN_CAMERA for crop in crops], dtype=bool)
        people = np.unique(identities[(identities > DISTRACTOR) & known])
        if limit is not None and limit < len(people):
            people = np.random.default_rng([wanted.seed, number]).choice(people, limit, replace=False)
        rows = np.flatnonzero(np.isin(identities, people) & known)
        if not len(rows):
            raise ReseenError(f"{shown(data.root)} has no {split} crops with person and camera")
        splits[split] = _Split(tuple(crops[row] for row in rows), identities[rows])
    return splits


def _write(
    out: Path,
    splits: dict[str, _Split],
    wanted: Composition,
    progress: Callable[[int, int], None] | None,
) -> None:
    counts = {"train": wanted.train_scenes, "test": wanted.test_scenes}
    done = 0
    for number, (split, part) in enumerate(splits.items()):
        for frame in _frames(part, wanted, number, counts[split], first=done + 1):
            _write_frame(out, frame)
            part.names.append(frame.name)
            part.scenes.append(Scene(out / FRAMES / frame.name, frame.corners, frame.camera))
            part.labels.append(np.array(frame.identities, dtype=np.int64))
            done += 1
            if progress is not None:
                progress(done, sum(counts.values()))
        listed, variable = LISTS[split]
        stems = [name.removesuffix(".jpg") for name in part.names]
        _write_mat(out / listed, variable, np.array(stems, dtype=object).reshape(-1, 1))
    test = splits["test"]
    lines = []
    for probe in probes_by_camera(tuple(test.scenes), tuple(test.labels)):
        x1, y1, x2, y2 = (f"{value:g}" for value in probe.box)
        stem = test.names[probe.scene].removesuffix(".jpg")
        lines.append(
            f"{probe.identity} {x1} {y1} {float(x2) - float(x1):g} {float(y2) - float(y1):g} {stem}\n"
        )
    if not lines:
        raise ReseenError(
            "nobody is in two test scenes, so there is nothing to search for: ask for more test scenes, or for fewer "
            "test identities"
        )
    (out / QUERIES[0]).write_text("".join(lines), encoding="utf-8")


def _frames(part: _Split, wanted: Composition, split: int, count: int, *, first: int) -> Iterator[Frame]:
    cameras = sorted({crop.camera for crop in part.crops})
    decks = {
        camera: Deck(
            [
                (int(person), crop.path)
                for crop, person in zip(part.crops, part.identities, strict=True)
                if crop.camera == camera
            ],
            np.random.default_rng([wanted.seed, split, 1, camera]),
        )
        for camera in cameras
    }
    for number in range(count):
        place = number % len(cameras)
        camera = cameras[place]
        frame = compose_frame(
            decks[camera],
            name=f"c{camera}s1_{first + number:06d}.jpg",
            camera=camera,
            size=wanted.sizes[place % len(wanted.sizes)],
            persons=wanted.persons,
            heights=wanted.heights,
            max_overlap=wanted.max_overlap,
            feather=wanted.feather,
            background=wanted.background,
            seed=wanted.seed,
            rng=np.random.default_rng([wanted.seed, split, 2, number]),
        )
        if frame is None:
            raise ReseenError(
                f"the crops of camera {camera} are used up after {number} of {count} scenes, and none is pasted "
                "twice: ask for fewer scenes, fewer persons in each, or more identities"
            )
        yield frame


def _write_frame(out: Path, frame: Frame) -> None:
    boxes = frame.corners.astype(np.float64)
    table = np.column_stack([frame.identities, boxes[:, :2], boxes[:, 2:] - boxes[:, :2]])
    frame.image.save(out / FRAMES / frame.name, format="JPEG", quality=_QUALITY, subsampling=0)
    _write_mat(out / ANNOTATIONS / f"{frame.name}.mat", TABLES[0], table.astype(np.float64))


def _write_mat(path: Path, variable: str, value: Any) -> None:
    from scipy.io import savemat  # here, since only MATLAB files need it

    file = io.BytesIO()
    savemat(file, {variable: value})
    path.write_bytes(_PRW_HEADER + file.getvalue()[len(_PRW_HEADER) :])


def _parameters(wanted: Composition, splits: dict[str, _Split]) -> dict[str, Any]:
    crops: Sequence[Crop] = [crop for split in splits.values() for crop in split.crops]
    root = Path(os.path.commonpath([crop.path.parent for crop in crops]))
    told = {"composed_by": "reseen", "version": VERSION, **asdict(wanted), "crops": fingerprint(crops, root)}
    result: dict[str, Any] = json.loads(json.dumps(told))  # tuples become lists, as in the file
    return result


def _finished(out: Path, told: dict[str, Any]) -> bool:
    """Raises where ``out`` holds another composite, or something that is not ours."""
    mark = out / COMPOSITE_MARK
    if out.is_file():
        raise ReseenError(f"{shown(out)} is a file: name a folder to write the composite to")
    if not mark.exists():
        if out.is_dir() and any(out.iterdir()) and not (out / UNFINISHED).exists():
            raise ReseenError(f"{shown(out)} holds other files: name a new or empty folder")
        return False
    try:
        has = json.loads(mark.read_text(encoding="utf-8"))
        different = [key for key in told if has.get(key) != told[key]]
    except (OSError, ValueError, AttributeError) as error:
        raise ReseenError(f"{shown(mark)} cannot be read: delete {shown(out)} and compose again") from error
    if different:
        raise ReseenError(
            f"{shown(out)} holds another composite ({', '.join(different)} differ): name another folder or delete it"
        )
    return True


def _begin(out: Path, told: dict[str, Any]) -> None:
    for folder in (FRAMES, ANNOTATIONS):
        (out / folder).mkdir(parents=True, exist_ok=True)
        for left in (out / folder).iterdir():
            left.unlink()  # of a composition that was interrupted
    write_file(out / UNFINISHED, _json(told))


def _json(told: dict[str, Any]) -> str:
    return json.dumps(told, indent=1) + "\n"


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ReseenError(message)
