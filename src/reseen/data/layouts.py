"""The folder layouts of Market-1501, DukeMTMC-reID and MSMT17 (V1, V2, and renamed in Market-1501's way)."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

from reseen.data.assembly import Row, assemble
from reseen.data.benchmarks import LISTED, matched, named, style_of
from reseen.data.paths import files_below, files_in, is_image, shown
from reseen.data.spelling import paths
from reseen.errors import ReseenError
from reseen.records import DISTRACTOR, JUNK, ReidData

MSMT17_LISTS = ("list_train.txt", "list_val.txt", "list_query.txt", "list_gallery.txt")
TRAIN, QUERY, GALLERY = "bounding_box_train", "query", "bounding_box_test"
STREET_MARK = "street.json"  # left by reseen.street: drawn crops under Market-1501's names, or drawn scenes
MSMT17_FOLDERS = (("mask_train_v2", "mask_test_v2"), ("train", "test"))  # V2, V1


def is_market_layout(folder: Path) -> bool:
    return os.path.isdir(folder / TRAIN) or os.path.isdir(folder / GALLERY)


def is_msmt17_layout(folder: Path) -> bool:
    """V2's folder names say it; V1's ``train`` and ``test`` are only MSMT17 beside its lists."""
    v2, v1 = MSMT17_FOLDERS
    lists = any(os.path.isfile(folder / name) for name in MSMT17_LISTS)
    return any(os.path.isdir(folder / name) for name in (*v2, *(v1 if lists else ())))


def read_market_layout(folder: Path) -> ReidData:
    """``bounding_box_train``, ``query``, ``bounding_box_test`` with identity and camera in the file names.

    The data set is recognised by its names (:func:`reseen.data.benchmarks.named`). A part that is not there is empty
    (``train``) or None. Cameras are numbered as in the names. Files named otherwise are listed in ``skipped``.

    Raises:
        ReseenError: no file is named in a known way.
    """
    names = {place: files_in(folder / place) for place in (TRAIN, QUERY, GALLERY)}
    style = style_of(name for found in names.values() for name in found if is_image(name))
    manner = style.benchmark or "Market-1501"
    skipped: list[str] = []
    rows: list[Row] = []
    for (place, found), part in zip(names.items(), ("train", "query", "gallery"), strict=True):
        for name in found:
            match = style.match(name)
            identity = int(match["identity"]) if match else 0
            if match is None:
                skipped.append(f"{place}/{shown(name)}: not named as in {manner}")
            elif part != "gallery" and (
                identity == JUNK or (identity == DISTRACTOR and style.zero_is_nobody)
            ):
                skipped.append(f"{place}/{shown(name)}: junk and distractors belong to the gallery")
            else:
                path = folder / place / name
                rows.append(Row(path, part, match["identity"], match["camera"], f"{place}/{shown(name)}"))
    if not rows:
        example = next((name for found in names.values() for name in found), None)
        seen = f", not like {shown(example)}" if example else ""
        raise ReseenError(
            f"{shown(folder)} holds no image named like 0002_c1s1_000451_03.jpg{seen}: rename the images, "
            f"or give a folder of them or a CSV manifest"
        )
    data = assemble(
        rows,
        name="street",
        root=folder,
        layout="the folders of Market-1501",
        skipped=skipped,
        zero_is_nobody=style.zero_is_nobody,
    )
    if os.path.isfile(folder / STREET_MARK):
        return data
    name, against = named(data, style)
    note = (f"not {style.benchmark}, although named like it: {against}",) if against else ()
    return replace(data, name=name, skipped=(*note, *data.skipped))


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
    rows: list[Row] = []
    for listed, part, place in zip(
        MSMT17_LISTS, ("train", "train", "query", "gallery"), (train, train, test, test), strict=True
    ):
        rows += _read_list(folder, listed, place, part, files[place], skipped)
    if not rows:
        raise ReseenError(
            f"{shown(folder)} looks like MSMT17, but no list_*.txt in it names an image of {train} or "
            f"{test}: {shown(skipped[0]) if skipped else 'the lists are empty'}; they are in its archive, put them "
            f"beside {train} and {test}"
        )
    return assemble(rows, name="MSMT17", root=folder, layout="MSMT17's lists", skipped=skipped)


def _read_list(
    folder: Path, listed: str, place: str, part: str, files: frozenset[str], skipped: list[str]
) -> list[Row]:
    try:
        lines = (folder / listed).read_text(encoding="utf-8-sig", errors="replace").splitlines()
    except FileNotFoundError:
        skipped.append(f"{listed}: is missing")
        return []
    except OSError as error:
        raise ReseenError(f"{shown(folder / listed)} cannot be read ({error.strerror})") from error
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        written, identity = (*line.rsplit(None, 1), "")[:2]
        spelled = list(paths(written.strip()))
        name = next((name for name in spelled if name in files), None)
        match = matched(spelled[-1].rpartition("/")[2], LISTED)
        if re.fullmatch(r"\d{1,9}", identity, re.ASCII) is None or match is None:
            skipped.append(f"{listed} line {number}: not 'NAME IDENTITY' with a name as in MSMT17")
        elif name is None:
            skipped.append(f"{place}/{shown(spelled[-1])}: listed in {listed}, but missing")
        else:
            where = f"{listed} line {number}"
            rows.append(Row(folder / place / name, part, str(int(identity) + 1), match["camera"], where))
    return rows
