"""What there is to embed at a path: images and videos, each with what is known about it before it is opened."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reseen.data import open_data
from reseen.data.layouts import is_market_layout, is_msmt17_layout
from reseen.data.manifest import SUFFIXES
from reseen.data.numbering import number_cameras
from reseen.data.paths import files_below, files_in, is_image, relative, shown
from reseen.data.patterns import Patterns, searched
from reseen.data.readers import data_set_in
from reseen.data.scenes import Reader, search_layout
from reseen.data.video import is_video, require_video
from reseen.errors import ReseenError
from reseen.records import UNKNOWN_CAMERA, Crop, Scene, boxes_of

CROPS, SCENES = 512, 64  # images of one job: what a killed process loses at most
_CLOCK = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}  # digits -> how they are read


@dataclass(frozen=True)
class Source:
    """An image or a video. ``name`` is relative to the root (see :class:`Rows`), ``start`` the clock at its beginning
    (seconds since 1970, UTC; nan: not known), ``boxes`` ``[n, 4]`` (xyxy) where the persons in it are known."""

    path: Path
    name: str
    camera: int = UNKNOWN_CAMERA
    start: float = math.nan
    boxes: NDArray[np.float32] | None = None

    @property
    def video(self) -> bool:
        return is_video(self.name)


@dataclass(frozen=True)
class Footage:
    """All there is at a path, cut into jobs that do not depend on who does them: some images, or one video.

    ``skipped`` names what was left out, and why.
    """

    root: Path
    jobs: tuple[tuple[Source, ...], ...]
    skipped: tuple[str, ...] = ()

    @property
    def sources(self) -> tuple[Source, ...]:
        return tuple(source for job in self.jobs for source in job)


def open_footage(
    path: Path,
    *,
    whole: bool,
    annotated: bool = False,
    camera_pattern: str | None = None,
    time_pattern: str | None = None,
) -> Footage:
    """List the images and videos at ``path``; none is opened.

    ``path`` is a folder at any depth, one file, a benchmark's folder or a manifest of crops, a benchmark's folder or
    COCO ``.json`` of scenes (all its images: training and test).

    Args:
        whole: each image is one person, a crop; else persons are to be found in it.
        annotated: take the boxes of persons that ``path`` itself has: scenes only.
        camera_pattern: where names hold the camera, for folders of files (see :func:`reseen.data.open_data`).
        time_pattern: where names hold the time at which they begin: a regular expression with one group, or a group
            ``time``, of which the digits count: year, month, day, and if there are more, hour, minute, second. UTC.

    Raises:
        ReseenError: nothing there or nothing to embed in it; videos or scenes where crops are wanted; boxes where
            there are none; a pattern that cannot be used.
    """
    place = Path(os.path.expanduser(path))
    if not os.path.exists(place):
        raise ReseenError(f"there is no {shown(place)}: check the path of what is to be embedded")
    layout = None if os.path.isdir(place) and any(map(_usable, files_in(place))) else search_layout(place)
    skipped: tuple[str, ...] = ()
    if layout is not None:
        if whole:
            raise ReseenError(
                f"{shown(place)} holds scenes, and this model embeds crops of persons: say where the persons are with "
                "--detector FILE.onnx or --annotated, or give a run on scenes"
            )
        root, sources, skipped = _scenes(*layout, annotated)
    elif annotated:
        raise ReseenError(
            f"{shown(place)} says of no person where it is: --annotated is for a COCO .json, PRW and CUHK-SYSU"
        )
    elif whole and _holds_crops(place):
        data = open_data(place, camera_pattern=camera_pattern)
        parts = [part.crops for part in (data.query, data.gallery) if part is not None]
        images = (*data.train, *(crop for part in parts for crop in part))
        root, sources, skipped = data.root, _named(data.root, images), data.skipped
    else:
        root, sources, skipped = _files(place, camera_pattern)
    if time_pattern is not None:
        sources = _timed(sources, time_pattern)
    films = [source for source in sources if source.video]
    if films:
        if whole:
            raise ReseenError(
                f"{shown(films[0].name)} is a video, and this model embeds crops of persons: give --detector FILE.onnx "
                "to find them, or a run on scenes"
            )
        require_video()
    return Footage(root, tuple(_jobs(sources, CROPS if whole else SCENES)), skipped)


def _jobs(sources: Sequence[Source], size: int) -> Iterable[tuple[Source, ...]]:
    images = [source for source in sources if not source.video]
    yield from (tuple(images[start : start + size]) for start in range(0, len(images), size))
    yield from ((source,) for source in sources if source.video)


def _files(place: Path, camera_pattern: str | None) -> tuple[Path, list[Source], tuple[str, ...]]:
    root, names = (place.parent, [place.name]) if os.path.isfile(place) else (place, files_below(place))
    usable = [name for name in names if _usable(name)]
    if not usable:
        raise ReseenError(
            f"{shown(place)} holds no image and no video (looked for .jpg, .png, .mp4, .mkv, ...)"
        )
    cameras = [""] * len(usable) if camera_pattern is None else searched(camera_pattern, "camera", usable)
    sources = [
        Source(root / name, name, camera)
        for name, camera in zip(usable, number_cameras(cameras), strict=True)
    ]
    left = set(names) - set(usable)
    return root, sources, tuple(f"{shown(name)}: no image's or video's file name" for name in sorted(left))


def _holds_crops(place: Path) -> bool:
    """A manifest, or a benchmark, whose names tell cameras. Other folders with parts are folders: nobody's identity
    has to be known here."""
    if os.path.isfile(place):
        return place.suffix.lower() in SUFFIXES
    found = data_set_in(place, Patterns())
    return found is not None and (is_market_layout(found[0]) or is_msmt17_layout(found[0]))


def _usable(name: str) -> bool:
    return is_image(name) or is_video(name)


def _scenes(folder: Path, read: Reader, annotated: bool) -> tuple[Path, list[Source], tuple[str, ...]]:
    data = read(folder)
    both = {scene.path: scene for scene in (*data.train, *data.test)}  # PRW's parts may share frames
    return data.root, _named(data.root, tuple(both.values()), annotated), data.skipped


def _named(root: Path, images: Sequence[Crop] | Sequence[Scene], annotated: bool = False) -> list[Source]:
    sources = []
    for image in images:
        boxes = boxes_of(image) if annotated else None
        sources.append(Source(image.path, relative(image.path, root).as_posix(), image.camera, boxes=boxes))
    return sources


def _timed(sources: Sequence[Source], pattern: str) -> list[Source]:
    """The sources with the time that their names hold; where a name holds none, none is known."""
    clocks = map(_clock, searched(pattern, "time", [source.name for source in sources]))
    timed = [replace(source, start=clock) for source, clock in zip(sources, clocks, strict=True)]
    if all(math.isnan(source.start) for source in timed):
        raise ReseenError(
            f"the time pattern {pattern!r} finds no time like 2026-01-31 12:00:00 in any name, "
            f"for example {shown(sources[0].name)}"
        )
    return timed


def _clock(text: str) -> float:
    digits = re.sub(r"\D", "", text, flags=re.ASCII)
    try:
        return datetime.strptime(digits, _CLOCK[len(digits)]).replace(tzinfo=UTC).timestamp()
    except (KeyError, ValueError):
        return math.nan
