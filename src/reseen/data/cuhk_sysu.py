"""CUHK-SYSU (Xiao et al. 2017): street photographs and film stills, annotated in MATLAB files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reseen.data.boxes import Dropped, corners, has_area
from reseen.data.matfiles import (
    MalformedError,
    expecting,
    four,
    load_variable,
    part,
    records,
    stream_records,
    text,
)
from reseen.data.paths import files_in, shown
from reseen.errors import ReseenError
from reseen.records import UNLABELLED, Labels, Probe, RawGallery, Scene, SearchData

IMAGES = Path("Image") / "SSM"
ANNOTATION = Path("annotation")
PROTOCOLS = ANNOTATION / "test" / "train_test"
SIZES = (50, 100, 500, 1000, 2000, 4000)  # of TestG{size}.mat

_Annotations = dict[str, NDArray[np.float64]]  # image name -> x, y, width, height [n, 4] as in the file
_Persons = dict[tuple[str, tuple[float, ...]], int]  # image name and box as in the file -> person


def is_cuhk_sysu(folder: Path) -> bool:
    return os.path.isfile(folder / ANNOTATION / "Images.mat") or os.path.isdir(folder / IMAGES)


def read_cuhk_sysu(folder: Path) -> SearchData:
    """``Image/SSM``, ``annotation/Images.mat``, ``pool.mat``, ``Train.mat`` and ``TestG{50..4000}.mat``.

    Gallery images are those of ``pool.mat``, training images all others. Persons of ``Train.mat`` are numbered
    0, 1, ... in its order and attached to boxes that are equal; those of the queries follow. Boxes without an area
    are dropped, images that are missing left out; ``skipped`` says which.

    Raises:
        ReseenError: a file that is needed is missing or is not CUHK-SYSU's, or no image is there.
    """
    skipped: list[str] = []
    images = _images(folder / ANNOTATION / "Images.mat", skipped)
    pool = _pool(folder / ANNOTATION / "pool.mat")
    files = frozenset(files_in(folder / IMAGES))
    skipped += [
        f"{IMAGES.as_posix()}/{shown(name)}: listed in Images.mat, but missing"
        for name in images
        if name not in files
    ]
    skipped += [f"pool.mat names {shown(name)}, Images.mat does not" for name in pool if name not in images]
    there = [name for name in images if name in files]
    if not there:
        raise ReseenError(
            f"{shown(folder / IMAGES)} holds none of the {len(images):,} images that Images.mat lists: "
            "put the images there"
        )
    train_persons, count = _train_persons(folder / PROTOCOLS / "Train.mat", skipped)
    sizes = tuple(size for size in SIZES if os.path.isfile(_protocol(folder, size)))
    if not sizes:
        skipped.append(f"{PROTOCOLS.as_posix()}/TestG100.mat: is missing, so there is nobody to search for")
    queries, test_persons = _queries(_protocol(folder, sizes[0]), sizes[0], count) if sizes else ([], {})
    dropped = Dropped()
    gallery = frozenset(pool)
    train_names = tuple(name for name in there if name not in gallery)
    test_names = tuple(name for name in there if name in gallery)
    train, train_identities = _scenes(folder, train_names, images, train_persons, dropped)
    test, test_identities = _scenes(folder, test_names, images, test_persons, dropped)
    return SearchData(
        name="CUHK-SYSU",
        root=folder,
        train=train,
        train_names=train_names,
        train_identities=train_identities if train_persons else None,
        test=test,
        test_names=test_names,
        test_identities=test_identities if test_persons else None,
        probes=_probes(queries, test_names, count, skipped),
        gallery_sizes=sizes,
        read_gallery=partial(_galleries, folder) if sizes else None,
        skipped=(*skipped, *dropped.lines()),
    )


def _protocol(folder: Path, size: int) -> Path:
    return folder / PROTOCOLS / f"TestG{size}.mat"


def _images(path: Path, skipped: list[str]) -> _Annotations:
    """Every image with its boxes, in the order of the file."""
    found: _Annotations = {}
    with expecting(path, "CUHK-SYSU's"):
        for record in records(load_variable(path, "Img")):
            name = text(part(record, "imname", 0))
            boxes = [four(part(box, "idlocate", 0)) for box in records(part(record, "box", 2))]
            if name in found:
                skipped.append(f"Images.mat lists {shown(name)} twice: the first counts")
            else:
                found[name] = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    return found


def _pool(path: Path) -> list[str]:
    with expecting(path, "CUHK-SYSU's"):
        return [text(cell) for cell in np.asarray(load_variable(path, "pool")).ravel()]


def _train_persons(path: Path, skipped: list[str]) -> tuple[_Persons, int]:
    """Who is who in training, and the number of persons."""
    if not os.path.isfile(path):
        skipped.append("Train.mat: is missing, so diagnostics have no identities")
        return {}, 0
    found: _Persons = {}
    with expecting(path, "CUHK-SYSU's"):
        persons = records(load_variable(path, "Train"))
        for person, record in enumerate(persons):
            for scene in records(part(record, "scene", 2)):
                box = four(part(scene, "idlocate", 1))
                found[text(part(scene, "imname", 0)), tuple(box.tolist())] = person
    return found, len(persons)


def _queries(path: Path, size: int, first: int) -> tuple[list[tuple[str, NDArray[np.float64]]], _Persons]:
    """Image name and box (x, y, width, height) of each query, and who is who in the test scenes."""
    found, persons = [], _Persons()
    with expecting(path, "CUHK-SYSU's"):
        for row, record in enumerate(stream_records(path, f"TestG{size}")):
            query = _query(record)
            name, box = text(part(query, "imname", 0)), four(part(query, "idlocate", 1))
            found.append((name, box))
            persons[name, tuple(box.tolist())] = first + row
            for image, place in _listed(record):
                if place is not None:
                    persons[image, tuple(place.tolist())] = first + row
    return found, persons


def _query(record: Any) -> Any:
    rows = records(record.get("Query"))
    if len(rows) != 1:
        raise MalformedError("has a row without exactly one Query")
    return rows[0]


def _listed(record: Any) -> Iterator[tuple[str, NDArray[np.float64] | None]]:
    """Images of a gallery, with the box (x, y, width, height) of the target where it is there."""
    for entry in records(record.get("Gallery")):
        place = part(entry, "idlocate", 1)
        yield text(part(entry, "imname", 0)), four(place) if np.size(place) else None


def _galleries(folder: Path, size: int) -> Iterator[RawGallery]:
    path = _protocol(folder, size)
    with expecting(path, "CUHK-SYSU's"):
        for record in stream_records(path, f"TestG{size}"):
            entries = list(_listed(record))
            boxes = {
                name: corners(place)[0].astype(np.float32) for name, place in entries if place is not None
            }
            yield [name for name, _ in entries], boxes


def _scenes(
    folder: Path, names: tuple[str, ...], images: _Annotations, persons: _Persons, dropped: Dropped
) -> tuple[tuple[Scene, ...], tuple[Labels, ...]]:
    scenes, identities = [], []
    for name in names:
        boxes, kept = dropped.keep(corners(images[name]), name)
        found = [persons.get((name, tuple(box.tolist())), UNLABELLED) for box in images[name][kept]]
        scenes.append(Scene(folder / IMAGES / name, boxes))
        identities.append(np.array(found, dtype=np.int64))
    return tuple(scenes), tuple(identities)


def _probes(
    queries: list[tuple[str, NDArray[np.float64]]], names: tuple[str, ...], first: int, skipped: list[str]
) -> tuple[Probe, ...]:
    scenes = {name: number for number, name in enumerate(names)}
    probes = []
    for row, (name, place) in enumerate(queries):
        box = corners(place).astype(np.float32)
        if name not in scenes:
            skipped.append(f"query {row + 1}: {shown(name)} is not among the test scenes")
        elif not has_area(box)[0]:
            skipped.append(f"query {row + 1}: its box in {shown(name)} has no area")
        else:
            probes.append(Probe(scenes[name], box[0], row, first + row))
    return tuple(probes)
