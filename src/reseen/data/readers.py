"""From a path to :class:`ReidData`: benchmark folders, folders that are parts, a table, or any folder of images."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from reseen.data.assembly import Row, assemble, scored_on_validation
from reseen.data.benchmarks import style_of
from reseen.data.layouts import (
    GALLERY,
    QUERY,
    TRAIN,
    is_market_layout,
    is_msmt17_layout,
    read_market_layout,
    read_msmt17,
)
from reseen.data.manifest import SUFFIXES, read_manifest
from reseen.data.parts import PLAIN, parts_in, read_parts
from reseen.data.paths import files_below, files_in, is_image, shown, the_only_one
from reseen.data.patterns import Patterns
from reseen.data.spelling import TEST, VALIDATION, part_of
from reseen.errors import ReseenError
from reseen.records import ReidData

TEST_ON = (TEST, VALIDATION)
PERSON_FOLDER = r"^([^/]+)/"  # an identity pattern: the first folder of a name

_Read = Callable[[Path], ReidData]


def open_data(
    path: str | Path,
    *,
    camera_pattern: str | None = None,
    identity_pattern: str | None = None,
    test_on: str = TEST,
) -> ReidData:
    """Read whatever is at ``path``.

    - A ``.csv`` or ``.tsv`` file: see :func:`reseen.data.manifest.read_manifest`.
    - A folder in the layout of Market-1501, DukeMTMC-reID or MSMT17, or one with parts (``train``, ``query``, ...: see
      :func:`reseen.data.parts.read_parts`), or the folder that holds just one such.
    - Any other folder: all images below it, sorted by name, for training.

    Only what lies in the folder decides, never the name of the folder or of those above it.

    Args:
        camera_pattern: a regular expression, searched in each image's name relative to the folder or to its part; its
            only group, or its group ``camera``, is the camera. Numbers are kept, other names numbered in sorted order;
            an image without a match has an unknown camera.
        identity_pattern: the same for persons, group ``identity``.
        test_on: ``test``, or ``validation``: queries and gallery are made of the validation part.

    Raises:
        ReseenError: nothing there, nothing in it that can be used, or a pattern that cannot be used.
    """
    if test_on not in TEST_ON:
        raise ReseenError(f"models can be tested on {' or '.join(TEST_ON)}, not on {test_on!r}")
    place = Path(os.path.expanduser(path))
    data = _read(place, Patterns(camera_pattern, identity_pattern))
    return scored_on_validation(data) if test_on == VALIDATION else data


def _read(place: Path, patterns: Patterns) -> ReidData:
    if os.path.isfile(place):
        if place.suffix.lower() not in SUFFIXES:
            raise ReseenError(f"{shown(place)} is a file: give a folder of images or a .csv manifest")
        _refuse_patterns(patterns, "a manifest", "its columns")
        return read_manifest(place)
    if not os.path.isdir(place):
        raise ReseenError(f"there is no folder {shown(place)}: check the path given as data")
    found = data_set_in(place, patterns)
    if found is not None:
        folder, read = found
        return read(folder)
    return read_folder(place, patterns)


def read_folder(folder: Path, patterns: Patterns) -> ReidData:
    """All images below ``folder`` as training crops, sorted by relative name.

    Raises:
        ReseenError: no image, a pattern that is no regular expression, has no group, or matches nothing; or parts of
            data sets somewhere below it, which would all be trained on.
    """
    names = files_below(folder)
    images = [name for name in names if is_image(name)]
    if not images:
        raise ReseenError(f"{shown(folder)} holds no image (looked for .jpg, .png, .webp, ... at any depth)")
    _refuse_heap(folder, images)
    cameras = patterns.cameras(images) or [""] * len(images)
    identities = patterns.identities(images) or [""] * len(images)
    return assemble(
        [
            Row(folder / name, "train", identity, camera, shown(name))
            for name, identity, camera in zip(images, identities, cameras, strict=True)
        ],
        name=folder.resolve().name or "images",
        root=folder,
        layout=PLAIN,
        skipped=[f"{shown(name)}: not an image's file name" for name in names if not is_image(name)],
    )


def _refuse_heap(folder: Path, images: Sequence[str]) -> None:
    """Parts further below: which belong together cannot be told, and training would see the test images."""
    places = {
        "/".join(words[: depth + 1])
        for words in (name.split("/")[:-1] for name in images)
        for depth, word in enumerate(words)
        if part_of(word) not in (None, "train", "train_all", "validation")
    }
    if places:
        first = shown(min(places))
        raise ReseenError(
            f"{shown(folder)} holds parts of data sets further below ({first}): give the folder that holds {first}, "
            "or a CSV manifest"
        )


def data_set_in(place: Path, patterns: Patterns) -> tuple[Path, _Read] | None:
    """The folder in a known layout and its reader: ``place`` itself, or the only such folder in it."""
    if read := _reader(place, patterns):
        return place, read
    if any(is_image(name) for name in files_in(place)):
        return None  # images beside it: a plain folder
    return the_only_one(place, "data sets", partial(_reader, patterns=patterns))


def _reader(folder: Path, patterns: Patterns) -> _Read | None:
    if is_msmt17_layout(folder):
        return partial(_without_patterns, read_msmt17, patterns)
    if is_market_layout(folder) and _in_names(folder):
        return partial(_without_patterns, read_market_layout, patterns)
    found = parts_in(folder)
    if is_market_layout(folder) and not patterns.given and set(found) <= {"train"}:
        return read_market_layout  # which says how its files should be named
    return partial(read_parts, found=found, patterns=patterns) if found else None


def _in_names(folder: Path) -> bool:
    """Whether training images, and those of the test part, lie in their folders and are named like Market-1501's."""
    there = [[name for name in files_in(folder / part) if is_image(name)] for part in (TRAIN, QUERY, GALLERY)]
    named = [any(style_of(names).match(name) for name in names) for names in there if names]
    inside = any(is_image(name) for part in (TRAIN, QUERY, GALLERY) for name in files_below(folder / part))
    return all(named) if named else not inside


def _without_patterns(read: _Read, patterns: Patterns, folder: Path) -> ReidData:
    _refuse_patterns(patterns, "a benchmark's folder", "its file names")
    return read(folder)


def _refuse_patterns(patterns: Patterns, what: str, instead: str) -> None:
    for name in patterns.given:
        many = {"camera": "cameras", "identity": "persons"}[name]
        article = "an" if name == "identity" else "a"
        raise ReseenError(
            f"{article} {name} pattern is for plain folders and folders with parts: {what} tells {many} by {instead}; "
            "leave it out"
        )
