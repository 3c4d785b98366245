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
from reseen.data.paths import said_of, shown
from reseen.data.spelling import find_file, is_number, is_person, is_true, meanings, value
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
    somebody named the person), also in the other spellings of :mod:`reseen.data.spelling`. Boxes of categories that
    are not called person, pedestrian, human or people are left out, and so are crowds. Images are looked for beside the
    file, in ``images`` beside it, in the same places one folder up, and in the folder named like the file (``train``
    for ``train.json``).
    A box of ``test.json`` with ``"query": true`` is a query; if none is marked, the first box of each person and
    camera is, for persons seen in two scenes or more.

    Raises:
        ReseenError: no JSON of this kind, none of its categories is a person, or none of its images is there.
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
        read_gallery=galleries_by_identity(test, test_names, test_identities or (), probes),
        skipped=(*skipped, *dropped.lines()),
    )


def _read(path: Path, skipped: list[str], dropped: Dropped) -> _Part:
    """Scenes, names, the person named at each box of each scene, and the boxes marked as queries."""
    images, annotations, categories = _tables(path)
    file_name, camera = _key_of(path, images, "path", "file_name"), _key_of(path, images, "camera", "camera")
    person = _key_of(path, annotations, "identity", "person_id")
    written = [image.get(file_name) for image in images]
    nameless = next(
        (i for i, name in enumerate(written) if not isinstance(name, str) or not name.strip()), None
    )
    if nameless is not None:
        lacks = f"has no text as {file_name}" if file_name in images[nameless] else f"lacks {file_name}"
        raise ReseenError(f"{shown(path)}: images[{nameless}] {lacks}")
    spelled = [str(name).strip() for name in written]
    base = _image_folder(path, spelled)
    by_image: dict[str, list[dict[str, Any]]] = {value(image["id"]): [] for image in images}
    for annotation in annotations:
        number = value(annotation["image_id"])
        why = "around a crowd" if is_true(annotation.get("iscrowd")) else _no_person(annotation, categories)
        if number not in by_image:
            why = "of an image that it does not list"
        if why:
            dropped.add(path.name, 1, why)
        else:
            by_image[number].append(annotation)
    with said_of(path):
        cameras = number_cameras([image.get(camera) for image in images])
    scenes: list[Scene] = []
    names: dict[str, None] = {}
    people: list[list[Any]] = []
    marked: list[tuple[int, int]] = []
    for image, shot, written_name in zip(images, cameras, spelled, strict=True):
        name = find_file(base, written_name)
        if name is None or name in names:
            why = "does not exist" if name is None else "is listed twice"
            skipped.append(f"{shown(path.name)}: {shown(written_name)} {why}")
            continue
        here = by_image[value(image["id"])]
        boxes, kept = dropped.keep(corners([_bbox(annotation) for annotation in here]), name)
        marked += [(len(scenes), row) for row, old in enumerate(kept) if is_true(here[old].get("query"))]
        people.append([here[old].get(person) for old in kept])
        names[name] = None
        scenes.append(Scene(base / name, boxes, shot))
    if not scenes:
        raise ReseenError(
            f"{shown(path)}: none of its {len(images)} images exists; they are looked for in {shown(base)}"
        )
    return tuple(scenes), tuple(names), people, marked


def _tables(path: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, str]]:
    """Images, annotations, and the name of each category, "" of those that are persons; empty: all are."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ReseenError(f"{shown(path)} cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise ReseenError(f"{shown(path)} is not JSON: {shown(str(error))}") from error
    tables = []
    for name, needed in (("images", ("id",)), ("annotations", ("image_id", "bbox"))):
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
    seen: set[str] = {""}
    for number, image in enumerate(images):
        if value(image["id"]) in seen:
            raise ReseenError(f"{shown(path)}: images[{number}] needs an id of its own, a number or a text")
        seen.add(value(image["id"]))
    if not images:
        raise ReseenError(f"{shown(path)} lists no image: there is nothing to read")
    return images, annotations, _categories(path, content.get("categories"))


def _categories(path: Path, listed: Any) -> dict[str, str]:
    rows = [row for row in listed if isinstance(row, dict)] if isinstance(listed, list) else []
    names = {
        value(row.get("id")): ""
        if is_person(row.get("name")) or is_person(row.get("supercategory"))
        else shown(str(row.get("name"))) or "?"
        for row in rows
    }
    if rows and all(names.values()):
        raise ReseenError(
            f"{shown(path)}: none of its categories is a person ({', '.join(names.values())}): call the one that is "
            "person, pedestrian or human"
        )
    return names


def _no_person(annotation: dict[str, Any], categories: dict[str, str]) -> str:
    """Why the box is left out, "" where it is a person's."""
    if not any(categories.values()) and "category_id" not in annotation:  # nothing but persons
        return ""
    name = categories.get(value(annotation.get("category_id")))
    if name is None:
        return "of a category that is not listed" if categories else ""
    return f"of the category {name}" if name else ""


def _key_of(path: Path, rows: list[dict[str, Any]], meaning: str, usual: str) -> str:
    """Under which key the records hold what ``meaning`` says: ``usual``, or another spelling of it."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    if usual in keys:
        return usual
    with said_of(path):
        return meanings(keys, wanted=(meaning,), weak={}).get(meaning, usual)


def _image_folder(path: Path, names: Sequence[str]) -> Path:
    folders = (path.parent, path.parent.parent, path.with_suffix(""))
    return next(
        (
            place
            for folder in folders
            for place in (folder, folder / "images")
            if any(find_file(place, name) for name in names)
        ),
        path.parent,
    )


def _bbox(annotation: dict[str, Any]) -> NDArray[np.float64]:
    """Four numbers; NaN, which is then dropped and counted, where they are anything else."""
    try:
        box = np.array(annotation["bbox"], dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        box = np.empty(0)
    return box if box.shape == (4,) else np.full(4, np.nan)


def _numbered(people: list[list[Any]]) -> list[Labels]:
    """Whole numbers stay, negative ones are nobody; if there is a name, all become 0, 1, ... in sorted order."""
    texts = [[_person(raw) for raw in labels] for labels in people]
    values = {text for labels in texts for text in labels if text}
    whole = all(map(is_number, values))
    numbers = {text: int(text) if whole else row for row, text in enumerate(sorted(values))}
    return [np.array([numbers.get(text, UNLABELLED) for text in labels], dtype=np.int64) for labels in texts]


def _person(raw: Any) -> str:
    """ "" for nobody: no value, a negative number, or the words for crops that show nobody."""
    text = value(raw)
    return "" if text.lower() in ("junk", "distractor") or (is_number(text) and int(text) < 0) else text


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
