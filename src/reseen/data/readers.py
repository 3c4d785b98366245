"""From a path to :class:`ReidData`: benchmark folders, a CSV manifest, or any folder of images."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from reseen.data.layouts import is_market_layout, is_msmt17_layout, read_market_layout, read_msmt17
from reseen.data.manifest import read_manifest
from reseen.data.numbering import number_cameras
from reseen.data.paths import files_below, files_in, is_image, is_litter, shown
from reseen.errors import ReseenError
from reseen.records import Crop, ReidData


def open_data(path: str | Path, *, camera_pattern: str | None = None) -> ReidData:
    """Read whatever is at ``path``.

    - A ``.csv`` file: see :func:`reseen.data.manifest.read_manifest`.
    - A folder in the layout of Market-1501, DukeMTMC-reID or MSMT17, or the folder that holds just one such.
    - Any other folder: all images below it, sorted by name, for training and without identities.

    Only what lies in the folder decides, never the name of the folder or of those above it.

    Args:
        camera_pattern: for a plain folder: a regular expression, searched in each image's name relative to
            the folder; its only group, or its group ``camera``, is the camera. Numbers are kept, other names
            numbered in sorted order; an image without a match has an unknown camera.

    Raises:
        ReseenError: nothing there, nothing in it that can be used, or a pattern that cannot be used.
    """
    place = Path(os.path.expanduser(path))
    if os.path.isfile(place):
        if place.suffix.lower() != ".csv":
            raise ReseenError(f"{shown(place)} is a file: give a folder of images or a .csv manifest")
        _refuse_pattern(camera_pattern, "a manifest", "its column 'camera'")
        return read_manifest(place)
    if not os.path.isdir(place):
        raise ReseenError(f"there is no folder {shown(place)}: check the path given as data")
    benchmark = _benchmark(place)
    if benchmark is not None:
        _refuse_pattern(camera_pattern, "a benchmark's folder", "its file names")
        folder, read = benchmark
        return read(folder)
    return read_folder(place, camera_pattern=camera_pattern)


def read_folder(folder: Path, *, camera_pattern: str | None = None) -> ReidData:
    """All images below ``folder`` as unlabelled training crops, sorted by relative name.

    Raises:
        ReseenError: no image, or a pattern that is no regular expression, has no group, or matches nothing.
    """
    names = files_below(folder)
    images = [name for name in names if is_image(name)]
    if not images:
        raise ReseenError(f"{shown(folder)} holds no image (looked for .jpg, .png, .webp, ... at any depth)")
    cameras = _cameras(images, camera_pattern, folder) if camera_pattern is not None else [None] * len(images)
    return ReidData(
        name=folder.resolve().name or "images",
        root=folder,
        train=tuple(
            Crop(folder / name, camera) for name, camera in zip(images, number_cameras(cameras), strict=True)
        ),
        skipped=tuple(f"{shown(name)}: not an image's file name" for name in names if not is_image(name)),
    )


def _benchmark(place: Path) -> tuple[Path, Callable[[Path], ReidData]] | None:
    """The folder in a known layout and its reader: ``place`` itself, or the only such folder in it."""
    if read := _reader(place):
        return place, read
    if any(is_image(name) for name in files_in(place)):
        return None  # images beside it: a plain folder
    found = [
        (inner, read)
        for inner in sorted(place.iterdir())
        if not is_litter(inner.name) and os.path.isdir(inner) and (read := _reader(inner))
    ]
    if len(found) > 1:
        names = ", ".join(shown(inner.name) for inner, _ in found)
        raise ReseenError(f"{shown(place)} holds {len(found)} data sets: give one of {names}")
    return found[0] if found else None


def _reader(folder: Path) -> Callable[[Path], ReidData] | None:
    if is_market_layout(folder):
        return read_market_layout
    return read_msmt17 if is_msmt17_layout(folder) else None


def _refuse_pattern(pattern: str | None, what: str, instead: str) -> None:
    if pattern is not None:
        raise ReseenError(
            f"a camera pattern is for plain folders: {what} tells cameras by {instead}; leave it out"
        )


def _cameras(names: list[str], pattern: str, folder: Path) -> list[str | None]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ReseenError(f"the camera pattern {pattern!r} is not a regular expression: {error}") from error
    if "camera" not in compiled.groupindex and compiled.groups != 1:
        raise ReseenError(
            f"the camera pattern {pattern!r} has {compiled.groups} groups: put one pair of parentheses "
            f"around the camera, or name it (?P<camera>...)"
        )
    group: str | int = "camera" if "camera" in compiled.groupindex else 1
    cameras = [match[group] if (match := compiled.search(name)) else None for name in names]
    if not any(cameras):
        raise ReseenError(
            f"the camera pattern {pattern!r} matches no image below {shown(folder)}, "
            f"for example {shown(names[0])}"
        )
    return cameras
