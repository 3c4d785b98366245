"""Scenes of your own: a JSON file in the manner of COCO, with person boxes."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reseen.data.boxes import Dropped, corners
from reseen.data.galleries import galleries_by_identity, probes_by_camera
from reseen.data.layouts import STREET_MARK
from reseen.data.numbering import number_cameras
from reseen.data.paths import shown
from reseen.errors import ReseenError
from reseen.records import UNLABELLED, Labels, Probe, Scene, SearchData

TRAIN, TEST = "train.json", "test.json"

_Part = tuple[tuple[Scene, ...], tuple[str, ...], list[list[Any]], list[tuple[int, int]]]


def is_coco(folder: Path) -> bool:
    return any(os.path.isfile(folder / name) for name in (TRAIN, TEST))


def read_coco(path: Path) -> SearchData:
    """A ``.json`` file of training scenes, or a folder with ``train.json`` and, if you have it, ``test.json``.

    Read are ``images`` (``id``, ``file_name`` and, if you have it, ``camera``: a number from 0 or a name) and
    ``annotations`` (``image_id``, ``bbox`` as x, y, width, height; ``person_id``, a number from 0 or a name, where
    somebody named the person). Where ``categories`` has one called person, other boxes are left out, and so are
    crowds. Images are looked for beside the file, in ``images`` beside it, in the same places one folder up, and in
    the folder named like the file (``train`` for ``train.json``).
    A box of ``test.json`` with ``"query": true`` is a query; if none is marked, the first box of each person and
    camera is, for persons seen in two scenes or more.

    Raises:
        ReseenError: no JSON of this kind, or none of its images is there.
    """
    single = os.path.isfile(path)
    skipped: list[str] = []
    dropped = Dropped()
    root = path.parent if single else path
    parts: list[_Part] = []
    for place in (path, None) if single else (root / TRAIN, root / TEST):
        there = place is not None and os.path.isfile(place)
        parts.append(_read(place, skipped, dropped) if place is not None and there else ((), (), [], []))
    (train, train_names, train_people, _), (test, test_names, test_people, marked) = parts
    identities = _numbered([*train_people, *test_people])
    train_identities = tuple(identities[: len(train)]) if _any(identities[: len(train)]) else None
    test_identities = tuple(identities[len(train) :]) if _any(identities[len(train) :]) else None
    probes: tuple[Probe, ...] = ()
    if test_identities is not None:
        probes = _marked(test, test_identities, marked) or probes_by_camera(test, test_identities)
    known = test_identities if test_identities is not None and probes else None
    name = path.stem if single else path.resolve().name or "scenes"
    return SearchData(
        name="street" if os.path.isfile(root / STREET_MARK) else name,
        root=root,
        train=train,
        train_names=train_names,
        train_identities=train_identities,
        test=test,
        test_names=test_names,
        test_identities=test_identities,
        probes=probes,
        read_gallery=None if known is None else galleries_by_identity(test, test_names, known, probes),
        skipped=(*skipped, *dropped.lines()),
    )


def _read(path: Path, skipped: list[str], dropped: Dropped) -> _Part:
    """Scenes, names, the person named at each box of each scene, and the boxes marked as queries."""
    images, annotations, persons_only = _tables(path)
    base = _image_folder(path, [image["file_name"] for image in images])
    cameras = _cameras(path, images)
    by_image: dict[Any, list[dict[str, Any]]] = {_key(image["id"]): [] for image in images}
    strangers = 0
    for annotation in annotations:
        if annotation.get("iscrowd"):
            dropped.add(path.name, 1, "around a crowd")
        elif persons_only is not None and _key(annotation.get("category_id")) not in persons_only:
            dropped.add(path.name, 1, "around something else than a person")
        elif _key(annotation.get("image_id")) in by_image:
            by_image[_key(annotation["image_id"])].append(annotation)
        else:
            strangers += 1
    if strangers:
        skipped.append(f"{shown(path.name)}: {strangers:,} boxes are of an image that it does not list")
    scenes: list[Scene] = []
    names: dict[str, None] = {}
    people: list[list[Any]] = []
    marked: list[tuple[int, int]] = []
    for image, camera in zip(images, cameras, strict=True):
        name = image["file_name"]
        if name in names or not os.path.isfile(base / name):
            why = "is listed twice" if name in names else "does not exist"
            skipped.append(f"{shown(path.name)}: {shown(name)} {why}")
            continue
        here = by_image[_key(image["id"])]
        boxes, kept = dropped.keep(corners([_bbox(annotation) for annotation in here]), name)
        marked += [(len(scenes), row) for row, old in enumerate(kept) if here[old].get("query")]
        people.append([here[old].get("person_id") for old in kept])
        names[name] = None
        scenes.append(Scene(base / name, boxes, camera))
    if not scenes:
        raise ReseenError(
            f"{shown(path)}: none of its {len(images)} images exists; they are looked for in {shown(base)}"
        )
    return tuple(scenes), tuple(names), people, marked


def _tables(path: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]], frozenset[Any] | None]:
    """Images, annotations, and the categories that are persons (None: all are)."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ReseenError(f"{shown(path)} cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise ReseenError(f"{shown(path)} is not JSON: {shown(str(error))}") from error
    tables = []
    for name, needed in (("images", ("id", "file_name")), ("annotations", ("image_id", "bbox"))):
        rows = content.get(name) if isinstance(content, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise ReseenError(
                f'{shown(path)} has no list "{name}" of records, as COCO\'s files have: export it as COCO'
            )
        lacking = next(
            (f"{name}[{i}] lacks {key}" for i, row in enumerate(rows) for key in needed if key not in row), ""
        )
        if lacking:
            raise ReseenError(f"{shown(path)}: {lacking}")
        tables.append(rows)
    images, annotations = tables
    seen: set[Any] = set()
    for number, image in enumerate(images):
        if not isinstance(image["file_name"], str) or not image["file_name"]:
            raise ReseenError(f"{shown(path)}: images[{number}] has no text as file_name")
        if _key(image["id"]) in seen or _key(image["id"]) is None:
            raise ReseenError(f"{shown(path)}: images[{number}] needs an id of its own, a number or a text")
        seen.add(_key(image["id"]))
    if not images:
        raise ReseenError(f"{shown(path)} lists no image: there is nothing to read")
    categories = content.get("categories")
    rows = [row for row in categories if isinstance(row, dict)] if isinstance(categories, list) else []
    persons = frozenset(_key(row.get("id")) for row in rows if str(row.get("name")).lower() == "person")
    return images, annotations, persons or None


def _key(value: Any) -> Any:
    """Numbers and text can be looked up; anything else is like nothing at all."""
    return value if isinstance(value, str | int | float) else None


def _image_folder(path: Path, names: Sequence[str]) -> Path:
    folders = (path.parent, path.parent.parent, path.with_suffix(""))
    return next(
        (
            place
            for folder in folders
            for place in (folder, folder / "images")
            if any(os.path.isfile(place / name) for name in names)
        ),
        path.parent,
    )


def _cameras(path: Path, images: list[dict[str, Any]]) -> list[int]:
    try:
        return number_cameras(
            [None if (value := image.get("camera")) is None else str(value) for image in images]
        )
    except ReseenError as error:
        raise ReseenError(f"{shown(path)}: {error}") from error


def _bbox(annotation: dict[str, Any]) -> NDArray[np.float64]:
    """Four numbers; NaN, which is then dropped and counted, where they are anything else."""
    try:
        box = np.array(annotation["bbox"], dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        box = np.empty(0)
    return box if box.shape == (4,) else np.full(4, np.nan)


def _numbered(people: list[list[Any]]) -> list[Labels]:
    """Whole numbers stay, negative ones are nobody; if there is a name, all become 0, 1, ... in sorted order."""
    values = {str(value) for labels in people for value in labels if _named(value)}
    whole = all(value.lstrip("-").isdecimal() and len(value) < 19 for value in values)
    numbers = {value: int(value) if whole else row for row, value in enumerate(sorted(values))}
    return [
        np.array(
            [max(UNLABELLED, numbers[str(value)]) if _named(value) else UNLABELLED for value in labels],
            dtype=np.int64,
        )
        for labels in people
    ]


def _named(value: Any) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool) and str(value) not in ("", "-1")


def _any(identities: Sequence[Labels]) -> bool:
    return any((labels != UNLABELLED).any() for labels in identities)


def _marked(
    scenes: tuple[Scene, ...], identities: tuple[Labels, ...], marked: list[tuple[int, int]]
) -> tuple[Probe, ...]:
    chosen = [(scene, row) for scene, row in marked if identities[scene][row] != UNLABELLED]
    return tuple(
        Probe(scene, scenes[scene].boxes[row], number, int(identities[scene][row]))
        for number, (scene, row) in enumerate(chosen)
    )
