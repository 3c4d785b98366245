"""PRW (Zheng et al. 2017): frames of six cameras, an annotation file each, queries as text.

A composite of :func:`reseen.street.compose` is written in this layout and read from it.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reseen.data.boxes import Boxes, Dropped, corners, has_area
from reseen.data.galleries import galleries_by_identity
from reseen.data.matfiles import expecting, load_variable, text
from reseen.data.paths import files_in, shown
from reseen.errors import ReseenError
from reseen.records import UNKNOWN_CAMERA, UNLABELLED, Labels, Probe, Scene, SearchData

FRAMES, ANNOTATIONS = "frames", "annotations"
LISTS = {"train": ("frame_train.mat", "img_index_train"), "test": ("frame_test.mat", "img_index_test")}
TABLES = ("box_new", "anno_file", "anno_previous")  # the variable of an annotation, in order of preference
QUERIES = ("query_info.txt", "query_info_2057.txt")
COMPOSITE_MARK = "composite.json"  # left by reseen.street: real crops pasted into drawn scenes
_CAMERA = re.compile(r"c(\d)")
_QUERY = re.compile(r"(-?\d+)((?:\s+-?[\d.]+(?:[eE][+-]?\d+)?){4})\s+(\S+)")


@dataclass
class _Part:
    """One split while it is read."""

    scenes: list[Scene] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    identities: list[Labels] = field(default_factory=list)


def is_prw(folder: Path) -> bool:
    return any(os.path.isfile(folder / name) for name, _ in LISTS.values())


def read_prw(folder: Path) -> SearchData:
    """``frame_train.mat``, ``frame_test.mat``, ``annotations``, ``frames`` and ``query_info.txt``.

    Identity -2 is a person whom nobody named, 0 is a person like any other. Boxes become x1, y1, x2, y2 as in
    the reference loaders: negative numbers become 0, then width and height are added, then all is truncated to
    whole pixels. Frames without image or annotation and queries without frame are left out and named in
    ``skipped``.

    Raises:
        ReseenError: a file is not PRW's, or no listed frame can be used.
    """
    skipped: list[str] = []
    dropped = Dropped()
    files = frozenset(files_in(folder / FRAMES))
    parts = {}
    for split, (listed, variable) in LISTS.items():
        parts[split] = _Part()
        if not os.path.isfile(folder / listed):
            skipped.append(f"{listed}: is missing, so there are no {split} frames")
            continue
        for name in _frame_names(folder / listed, variable):
            _read_frame(folder, name, listed, files, parts[split], skipped, dropped)
    train, test = parts["train"], parts["test"]
    if not train.scenes and not test.scenes:
        raise ReseenError(
            f"{shown(folder)} looks like PRW, but no frame that it lists can be used: "
            f"{skipped[0] if skipped else 'the lists are empty'}"
        )
    probes = _probes(folder, test, skipped) if test.scenes else ()
    scenes, names, identities = tuple(test.scenes), tuple(test.names), tuple(test.identities)
    return SearchData(
        name="composite" if os.path.isfile(folder / COMPOSITE_MARK) else "PRW",
        root=folder,
        train=tuple(train.scenes),
        train_names=tuple(train.names),
        train_identities=tuple(train.identities),
        test=scenes,
        test_names=names,
        test_identities=identities,
        probes=probes,
        read_gallery=galleries_by_identity(scenes, names, identities, probes),
        skipped=(*skipped, *dropped.lines()),
    )


def _frame_names(path: Path, variable: str) -> list[str]:
    """Names with their ending, each once."""
    with expecting(path, "the data set's"):
        stems = [text(cell) for cell in np.asarray(load_variable(path, variable)).ravel()]
    return list(dict.fromkeys(_with_ending(stem) for stem in stems))


def _with_ending(stem: str) -> str:
    return stem if stem.lower().endswith(".jpg") else f"{stem}.jpg"


def _read_frame(
    folder: Path,
    name: str,
    listed: str,
    files: frozenset[str],
    part: _Part,
    skipped: list[str],
    dropped: Dropped,
) -> None:
    if name not in files:
        skipped.append(f"{FRAMES}/{shown(name)}: listed in {listed}, but missing")
        return
    path = folder / ANNOTATIONS / f"{name}.mat"
    try:
        table = np.asarray(load_variable(path, *TABLES), dtype=np.float64)
        if table.size and (table.ndim != 2 or table.shape[1] != 5):
            raise ValueError
    except ReseenError as error:
        skipped.append(f"{FRAMES}/{shown(name)}: {error}")
        return
    except (TypeError, ValueError):
        skipped.append(f"{FRAMES}/{shown(name)}: {shown(path)} is no table of id, x, y, width, height")
        return
    table = table.reshape(-1, 5)
    boxes, kept = dropped.keep(_truncated(table[:, 1:]), name)
    camera = _CAMERA.search(name)
    part.scenes.append(Scene(folder / FRAMES / name, boxes, int(camera[1]) if camera else UNKNOWN_CAMERA))
    part.names.append(name)
    named = np.isfinite(table[:, 0]) & (table[:, 0] >= 0)
    part.identities.append(np.where(named, table[:, 0], UNLABELLED).astype(np.int64)[kept])


def _truncated(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """x, y, width, height to whole corners (spec: negatives to 0, add, truncate); NaN stays."""
    return np.trunc(corners(np.clip(boxes, 0, None)))


def _probes(folder: Path, test: _Part, skipped: list[str]) -> tuple[Probe, ...]:
    path = next((folder / name for name in QUERIES if os.path.isfile(folder / name)), None)
    if path is None:
        skipped.append(f"{QUERIES[0]}: is missing, so there is nobody to search for")
        return ()
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise ReseenError(f"{shown(path)} cannot be read ({error.strerror})") from error
    scenes = {name: number for number, name in enumerate(test.names)}
    probes: list[Probe] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{path.name} line {number}"
        found = _query(line)
        if found is None:
            skipped.append(f"{where}: not 'ID X Y WIDTH HEIGHT FRAME' with a box that has an area")
        elif found[2] not in scenes:
            skipped.append(f"{where}: {shown(found[2])} is not among the test frames")
        else:
            identity, box, name = found
            probes.append(Probe(scenes[name], box, len(probes), identity))
    return tuple(probes)


def _query(line: str) -> tuple[int, NDArray[np.float32], str] | None:
    match = _QUERY.fullmatch(line.strip())
    if match is None or int(match[1]) < 0:
        return None
    try:
        box: Boxes = _truncated(np.array([match[2].split()], dtype=np.float64)).astype(np.float32)
    except ValueError:
        return None
    return (int(match[1]), box[0], _with_ending(match[3])) if has_area(box)[0] else None
