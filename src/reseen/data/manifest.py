"""A CSV manifest: one image per row, with what is known about it."""

from __future__ import annotations

import csv
import difflib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reseen.data.numbering import number_cameras, number_identities, persons_from_one
from reseen.data.paths import shown
from reseen.errors import ReseenError
from reseen.records import JUNK, Crop, LabelledCrops, Labels, ReidData

COLUMNS = ("path", "camera", "identity", "split")
SPLITS = ("train", "query", "gallery")


@dataclass(frozen=True)
class _Row:
    line: int
    path: Path
    camera: str
    identity: str
    split: str


def read_manifest(path: Path) -> ReidData:
    """Read a CSV file with a header.

    Columns: ``path`` (absolute, or relative to the file's folder), and if you have them ``camera``,
    ``identity`` and ``split`` (train, query or gallery; without the column every row is for training).
    Other columns are ignored. Cameras and identities may be numbers or names (see :mod:`numbering`).

    Raises:
        ReseenError: not readable as CSV, a column or value that cannot be used, or no image found.
    """
    rows = _rows(path)
    skipped: list[str] = []
    present: list[_Row] = []
    seen: set[tuple[Path, str]] = set()
    for row in rows:
        if (row.path, row.split) in seen:
            skipped.append(f"{shown(path.name)} line {row.line}: {shown(row.path)} is listed twice")
        elif not os.path.isfile(row.path):
            skipped.append(f"{shown(path.name)} line {row.line}: {shown(row.path)} does not exist")
        else:
            present.append(row)
        seen.add((row.path, row.split))
    if not present:
        raise ReseenError(
            f"{shown(path)}: none of its {len(rows)} images exists; paths are taken from {shown(path.parent)}"
        )
    return _assemble(path, present, tuple(skipped))


def _assemble(path: Path, rows: list[_Row], skipped: tuple[str, ...]) -> ReidData:
    try:
        cameras = number_cameras([row.camera for row in rows])
        identities = number_identities([row.identity for row in rows])
    except ReseenError as error:
        raise ReseenError(f"{shown(path)}: {error}") from error
    crops = [Crop(row.path, camera) for row, camera in zip(rows, cameras, strict=True)]
    where = {split: np.array([row.split == split for row in rows]) for split in SPLITS}
    for row, identity in zip(rows, identities, strict=True):
        if row.split == "query" and identity == JUNK:
            raise ReseenError(f"{shown(path)} line {row.line}: a query needs the identity of a person")
        if row.split == "gallery" and not row.identity:
            raise ReseenError(f"{shown(path)} line {row.line}: a gallery row needs an identity (-1 = junk)")
    parts = persons_from_one(*(identities[where[split]] for split in SPLITS))
    chosen = [tuple(crops[row] for row in np.flatnonzero(where[split])) for split in SPLITS]
    labelled = any(row.identity for row in rows if row.split == "train")
    return ReidData(
        name=path.stem,
        root=path.parent,
        train=chosen[0],
        train_identities=parts[0] if labelled else None,
        query=_labelled(chosen[1], parts[1]),
        gallery=_labelled(chosen[2], parts[2]),
        skipped=skipped,
    )


def _labelled(crops: tuple[Crop, ...], identities: Labels) -> LabelledCrops | None:
    return LabelledCrops(crops, identities) if crops else None


def _rows(path: Path) -> list[_Row]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            header = [name.strip().lower() for name in next(reader, [])]
            _check_header(path, header)
            rows = [
                _row(path, reader.line_num, header, values)
                for values in reader
                if any(value.strip() for value in values)
            ]
    except OSError as error:
        raise ReseenError(f"{shown(path)} cannot be read ({error.strerror})") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ReseenError(
            f"{shown(path)} is not a CSV file in UTF-8 ({error}): save it again as one"
        ) from error
    if not rows:
        raise ReseenError(f"{shown(path)} lists no image: add a row per image below the header")
    return rows


def _check_header(path: Path, header: list[str]) -> None:
    found = shown(", ".join(header)) or "nothing"
    if "path" not in header:
        raise ReseenError(f"{shown(path)} needs a header with a column 'path'; found: {found}")
    for name in COLUMNS:
        if header.count(name) > 1:
            raise ReseenError(f"{shown(path)} has the column {name!r} {header.count(name)} times: keep one")
        if name in header:
            continue
        near = difflib.get_close_matches(name, [other for other in header if other not in COLUMNS], n=1)
        if near:
            raise ReseenError(f"{shown(path)} has a column {shown(near[0])!r}: did you mean {name!r}?")


def _row(path: Path, line: int, header: list[str], values: list[str]) -> _Row:
    if len(values) != len(header):
        raise ReseenError(
            f"{shown(path)} line {line} has {len(values)} fields, its header {len(header)}: "
            f"quote fields that hold a comma"
        )
    found = dict(zip(header, (value.strip() for value in values), strict=True))
    name, split = found["path"], found.get("split", "train").lower()
    if not name:
        raise ReseenError(f"{shown(path)} line {line}: the path is empty")
    if split not in SPLITS:
        raise ReseenError(f"{shown(path)} line {line}: split {shown(split)!r} is none of {', '.join(SPLITS)}")
    return _Row(line, path.parent / name, found.get("camera", ""), found.get("identity", ""), split)
