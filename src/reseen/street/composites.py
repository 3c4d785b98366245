"""Composites: real crops of people pasted into drawn scenes, for want of real scenes. Never call them anything else.

What they are good for: whole person search on real appearances, over real cameras (a crop goes into a scene of the
camera that took it), with as many scenes as wanted. What they are not: there are no masks, so people are
rectangles with feathered edges that carry their own background, and a detector has an easier task than in a street.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from reseen.data.galleries import probes_by_camera
from reseen.data.images import fingerprint
from reseen.data.paths import shown
from reseen.data.prw import ANNOTATIONS, COMPOSITE_MARK, FRAMES, LISTS, QUERIES, TABLES
from reseen.data.readers import open_data
from reseen.data.scenes import open_search_data
from reseen.errors import ReseenError
from reseen.records import (
    DISTRACTOR,
    UNKNOWN_CAMERA,
    Crop,
    LabelledCrops,
    Labels,
    ReidData,
    Scene,
    SearchData,
)
from reseen.street.composite_frames import Composition, Deck, Frame, compose_frame
from reseen.street.store import Progress, make_once, write_image

VERSION = 1  # of the composition: raise it when the same parameters give another picture
_PRW_HEADER = b"MATLAB 5.0 MAT-file, composed by reseen".ljust(116)  # scipy writes the time of day there


def compose(
    market: str | Path,
    out: str | Path,
    composition: Composition | None = None,
    *,
    progress: Progress | None = None,
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
    parameters = {"composed_by": "reseen", "version": VERSION, **asdict(wanted), "crops": _fingerprint(crops)}
    folders = (FRAMES, ANNOTATIONS)
    make_once(out, COMPOSITE_MARK, parameters, folders, lambda: _write(out, crops, wanted, progress))
    return open_search_data(out)


@dataclass
class _Split:
    """Crops of one split, and what has been composed of them."""

    listed: LabelledCrops
    names: list[str] = field(default_factory=list)
    scenes: list[Scene] = field(default_factory=list)
    labels: list[Labels] = field(default_factory=list)


def _crops(data: ReidData, wanted: Composition) -> dict[str, _Split]:
    if data.train_identities is None or data.query is None or data.gallery is None:
        raise ReseenError(
            f"{shown(data.root)} lacks labelled training, query or gallery crops: give a folder like Market-1501's"
        )
    test = LabelledCrops(
        (*data.query.crops, *data.gallery.crops),
        np.concatenate([data.query.identities, data.gallery.identities]),
    )
    found = {
        "train": (LabelledCrops(data.train, data.train_identities), wanted.train_identities),
        "test": (test, wanted.test_identities),
    }
    splits = {}
    for number, (split, (part, limit)) in enumerate(found.items()):
        known = part.cameras != UNKNOWN_CAMERA
        people = np.unique(part.identities[(part.identities > DISTRACTOR) & known])
        if limit is not None and limit < len(people):
            people = np.random.default_rng([wanted.seed, number]).choice(people, limit, replace=False)
        rows = np.flatnonzero(np.isin(part.identities, people) & known)
        if not len(rows):
            raise ReseenError(f"{shown(data.root)} has no {split} crops with person and camera")
        splits[split] = _Split(part.take(rows))
    return splits


def _write(out: Path, splits: dict[str, _Split], wanted: Composition, progress: Progress | None) -> None:
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
    cameras = np.unique(part.listed.cameras).tolist()
    decks = {
        camera: Deck(
            [
                (int(person), crop.path)
                for crop, person in zip(part.listed.crops, part.listed.identities, strict=True)
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
            wanted,
            decks[camera],
            name=f"c{camera}s1_{first + number:06d}.jpg",
            camera=camera,
            size=wanted.sizes[place % len(wanted.sizes)],
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
    write_image(out / FRAMES / frame.name, frame.image)
    _write_mat(out / ANNOTATIONS / f"{frame.name}.mat", TABLES[0], table.astype(np.float64))


def _write_mat(path: Path, variable: str, value: Any) -> None:
    from scipy.io import savemat  # here, since only MATLAB files need it

    file = io.BytesIO()
    savemat(file, {variable: value})
    path.write_bytes(_PRW_HEADER + file.getvalue()[len(_PRW_HEADER) :])


def _fingerprint(splits: dict[str, _Split]) -> str:
    crops: Sequence[Crop] = [crop for split in splits.values() for crop in split.listed.crops]
    return fingerprint(crops, Path(os.path.commonpath([crop.path.parent for crop in crops])))
