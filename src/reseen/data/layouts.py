"""The folder layouts of Market-1501, DukeMTMC-reID and MSMT17 (V1, V2, and renamed in Market-1501's way)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from reseen.data.numbering import persons_from_one
from reseen.data.paths import files_below, files_in, is_image, shown
from reseen.errors import ReseenError
from reseen.records import DISTRACTOR, JUNK, Crop, LabelledCrops, ReidData

MSMT17_LISTS = ("list_train.txt", "list_val.txt", "list_query.txt", "list_gallery.txt")
TRAIN, QUERY, GALLERY = "bounding_box_train", "query", "bounding_box_test"
STREET_MARK = "street.json"  # left by reseen.street: drawn crops under Market-1501's names, or drawn scenes
MSMT17_FOLDERS = (("mask_train_v2", "mask_test_v2"), ("train", "test"))  # V2, V1

# Names without their ending. Identity -1 is junk and 0000 a distractor (Market-1501's readme).
_MSMT17_OWN = re.compile(r"(?P<identity>\d{1,9})_\d+_(?P<camera>\d{1,9})_\d+(morning|noon|afternoon)_\w+")
STYLES = {
    "Market-1501": (
        re.compile(r"(?P<identity>-1|\d{1,9})_c(?P<camera>\d{1,9})s\d+_\d+_\d+"),
    ),  # 0002_c1s1_000451_03
    "DukeMTMC-reID": (re.compile(r"(?P<identity>-1|\d{1,9})_c(?P<camera>\d{1,9})_f\d+"),),  # 0001_c2_f0046182
    "MSMT17": (  # 0000_c14_0030, or its own 0000_000_01_0303morning_0008_0
        re.compile(r"(?P<identity>-1|\d{1,9})_c(?P<camera>\d{1,9})_\d+"),
        _MSMT17_OWN,
    ),
}
# Sets of one's own that are named in this manner: what follows the camera is free.
LOOSE_NAME, LOOSE = (
    "Market-1501 style",
    (re.compile(r"(?P<identity>-1|\d{1,9})_c(?P<camera>\d{1,9})(\D.*)?"),),
)


@dataclass
class _Part:
    """One split while it is read."""

    crops: list[Crop] = field(default_factory=list)
    identities: list[int] = field(default_factory=list)

    def add(self, path: Path, camera: int, identity: int) -> None:
        self.crops.append(Crop(path, camera))
        self.identities.append(identity)


def is_market_layout(folder: Path) -> bool:
    return os.path.isdir(folder / TRAIN) or os.path.isdir(folder / GALLERY)


def is_msmt17_layout(folder: Path) -> bool:
    """V2's folder names say it; V1's ``train`` and ``test`` are only MSMT17 beside its lists."""
    v2, v1 = MSMT17_FOLDERS
    lists = any(os.path.isfile(folder / name) for name in MSMT17_LISTS)
    return any(os.path.isdir(folder / name) for name in (*v2, *(v1 if lists else ())))


def read_market_layout(folder: Path) -> ReidData:
    """``bounding_box_train``, ``query``, ``bounding_box_test`` with identity and camera in the file names.

    The data set is recognised by its names. A part that is not there is empty (``train``) or None. Cameras
    are numbered as in the names. Files named otherwise are listed in ``skipped``.

    Raises:
        ReseenError: no file is named in a known way.
    """
    names = {part: files_in(folder / part) for part in (TRAIN, QUERY, GALLERY)}
    style, patterns = _style([name for part in names.values() for name in part if is_image(name)])
    zero_is_nobody = style in ("Market-1501", "DukeMTMC-reID")
    skipped: list[str] = []
    parts = {}
    for part, found in names.items():
        parts[part] = _Part()
        for name in found:
            match = _match(name, patterns)
            identity = int(match["identity"]) if match else 0
            if match is None:
                skipped.append(f"{part}/{shown(name)}: not named as in {style}")
            elif part != GALLERY and (identity == JUNK or (identity == DISTRACTOR and zero_is_nobody)):
                skipped.append(f"{part}/{shown(name)}: junk and distractors belong to the gallery")
            else:
                parts[part].add(folder / part / name, int(match["camera"]), identity)
    if not any(part.crops for part in parts.values()):
        example = next((name for found in names.values() for name in found), None)
        seen = f", not like {shown(example)}" if example else ""
        raise ReseenError(
            f"{shown(folder)} holds no image named like 0002_c1s1_000451_03.jpg{seen}: rename the images, "
            f"or give a folder of them or a CSV manifest"
        )
    name = "street" if os.path.isfile(folder / STREET_MARK) else style
    return _assemble(name, folder, parts[TRAIN], parts[QUERY], parts[GALLERY], skipped)


def read_msmt17(folder: Path) -> ReidData:
    """MSMT17_V1 (``train``, ``test``) or _V2 (``mask_train_v2``, ``mask_test_v2``), split by ``list_*.txt``.

    Training is ``list_train`` and ``list_val`` together, as in the paper (32,621 images, 1,041 persons).
    The lists number persons from 0, records from 1. Images that are listed but missing are in ``skipped``.

    Raises:
        ReseenError: the lists are missing, or name no image that is there.
    """
    train, test = next(pair for pair in MSMT17_FOLDERS if any(os.path.isdir(folder / name) for name in pair))
    skipped: list[str] = []
    files = {name: frozenset(files_below(folder / name)) for name in (train, test)}
    parts = {"train": _Part(), "query": _Part(), "gallery": _Part()}
    for listed, part, place in zip(
        MSMT17_LISTS, ("train", "train", "query", "gallery"), (train, train, test, test), strict=True
    ):
        _read_list(folder, listed, place, files[place], parts[part], skipped)
    if not any(part.crops for part in parts.values()):
        raise ReseenError(
            f"{shown(folder)} looks like MSMT17, but no list_*.txt in it names an image of {train} or "
            f"{test}: {shown(skipped[0]) if skipped else 'the lists are empty'}"
        )
    return _assemble("MSMT17", folder, parts["train"], parts["query"], parts["gallery"], skipped)


def _read_list(
    folder: Path, listed: str, place: str, files: frozenset[str], part: _Part, skipped: list[str]
) -> None:
    try:
        lines = (folder / listed).read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        skipped.append(f"{listed}: is missing")
        return
    except OSError as error:
        raise ReseenError(f"{shown(folder / listed)} cannot be read ({error.strerror})") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        name, identity = (*line.rsplit(None, 1), "")[:2]
        name = name.strip().replace("\\", "/").removeprefix("./")
        match = _match(name.rpartition("/")[2], (_MSMT17_OWN, *STYLES["MSMT17"], *LOOSE))
        if re.fullmatch(r"\d{1,9}", identity) is None or match is None:
            skipped.append(f"{listed} line {number}: not 'NAME IDENTITY' with a name as in MSMT17")
        elif name not in files:
            skipped.append(f"{place}/{shown(name)}: listed in {listed}, but missing")
        else:
            part.add(folder / place / name, int(match["camera"]), int(identity) + 1)


def _style(names: list[str]) -> tuple[str, tuple[re.Pattern[str], ...]]:
    """The data set whose names most files bear, if at least half of them do; else the loose style."""
    counts = {
        style: sum(_match(name, patterns) is not None for name in names) for style, patterns in STYLES.items()
    }
    best = max(counts, key=lambda style: counts[style])
    return (best, STYLES[best]) if 2 * counts[best] >= len(names) else (LOOSE_NAME, LOOSE)


def _match(name: str, patterns: Iterable[re.Pattern[str]]) -> re.Match[str] | None:
    stem = name
    while is_image(stem):  # twice for the 24 files of Market-1501 that end in .jpg.jpg
        stem = stem.rpartition(".")[0]
    if stem == name:
        return None
    return next((match for pattern in patterns if (match := pattern.fullmatch(stem))), None)


def _assemble(
    name: str, root: Path, train: _Part, query: _Part, gallery: _Part, skipped: list[str]
) -> ReidData:
    numbers = [np.array(part.identities, dtype=np.int64) for part in (train, query, gallery)]
    raised = persons_from_one(*numbers)
    return ReidData(
        name=name,
        root=root,
        train=tuple(train.crops),
        train_identities=raised[0] if train.crops else None,
        query=LabelledCrops(tuple(query.crops), raised[1]) if query.crops else None,
        gallery=LabelledCrops(tuple(gallery.crops), raised[2]) if gallery.crops else None,
        skipped=tuple(skipped),
    )
