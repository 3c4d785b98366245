"""Folders that are parts of one data set: ``train``, ``val``, ``query``, ``gallery``, ``test``, in usual spellings."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reseen.data.assembly import Row, assemble
from reseen.data.benchmarks import MSMT17_OWN, matched, style_of
from reseen.data.layouts import MSMT17_LISTS
from reseen.data.paths import files_below, folders_in, is_image, shown
from reseen.data.patterns import Patterns
from reseen.data.spelling import EVERYTHING, GALLERY, PARTS, QUERY, TEST, TRAIN, VALIDATION, part_of
from reseen.errors import ReseenError
from reseen.records import ReidData

PLAIN = "one folder of images"  # what a folder is that is nothing else
_UNLABELLED = (TRAIN, EVERYTHING)  # parts that nobody has to have labelled
_WRAPPERS = frozenset({"images", "image", "imgs", "img", "crops", "jpg", "jpgs", "jpegs", "png"})
_CAMERA_NAME = re.compile(r"(c|cam|camera|kamera)[\W_]*\d+", re.IGNORECASE)


@dataclass(frozen=True)
class Part:
    """One part: its ``folder`` and the ``names`` of its images, relative to it, and of its ``others``."""

    part: str
    folder: Path
    names: tuple[str, ...]
    others: tuple[str, ...]


def parts_in(folder: Path) -> dict[str, list[Part]]:
    """Sub-folders of ``folder`` that are called like a part and hold an image. ``test/query`` counts as ``query``."""
    found: dict[str, list[Part]] = {}
    for inner in folders_in(folder):
        part = part_of(inner.name)
        if part is None:
            continue
        nested = [deep for deep in folders_in(inner) if part_of(deep.name)] if part == TEST else []
        for place, what in [(deep, str(part_of(deep.name))) for deep in nested] or [(inner, part)]:
            names = files_below(place)
            images = tuple(name for name in names if is_image(name))
            if images:
                others = tuple(name for name in names if not is_image(name))
                found.setdefault(what, []).append(Part(what, place, images, others))
    return found


def read_parts(folder: Path, found: dict[str, list[Part]], patterns: Patterns) -> ReidData:
    """The parts ``found`` below ``folder``, with identities and cameras told by pattern, name or folder.

    Identity: the pattern's if there is one; else that of a name like Market-1501's; else the folder per person. Camera:
    the pattern's, or that of such a name. Patterns are searched in names relative to the part. Training images may be
    of nobody knows whom.

    Raises:
        ReseenError: a part that is there twice, or holds parts itself; test images of whom cannot be told who they are;
            MSMT17 without its lists.
    """
    twice = next((places for places in found.values() if len(places) > 1), None)
    if twice:
        names = " and ".join(shown(place.folder.relative_to(folder)) for place in twice)
        raise ReseenError(
            f"{shown(folder)} has {names}, which are one part: remove one of them, or rename it"
        )
    _refuse_msmt17(folder, found)
    skipped = _beside(folder, found)
    rows: list[Row] = []
    for part in PARTS:
        for place in found.get(part, ()):
            rows += _rows(folder, place, patterns, skipped)
    if not rows:
        raise ReseenError(
            f"{shown(folder)} holds no image whose person can be told: {'; '.join(skipped[:3])}"
        )
    listed = ", ".join(str(place.folder.relative_to(folder)) for places in found.values() for place in places)
    return assemble(
        rows,
        name=folder.resolve().name or "images",
        root=folder,
        layout=f"the parts {shown(listed)}",
        skipped=skipped,
    )


def folder_per_person(data: ReidData) -> bool:
    """Whether ``data`` is a plain folder of sub-folders, two or more, none of which is called like a camera."""
    inside = [
        crop.path.relative_to(data.root).parts[:-1]
        for crop in data.train
        if crop.path.is_relative_to(data.root)
    ]
    persons = {folders[0] for folders in inside if folders}
    whole = len(inside) == len(data.train) and all(inside)
    return (
        data.layout == PLAIN and whole and len(persons) > 1 and not any(map(_CAMERA_NAME.fullmatch, persons))
    )


def _rows(root: Path, place: Part, patterns: Patterns, skipped: list[str]) -> list[Row]:
    called = shown(place.folder.relative_to(root))
    skipped += [f"{called}/{shown(name)}: not an image's file name" for name in place.others]
    names = [_unwrapped(name) for name in place.names]
    _refuse_parts_inside(root, called, names)
    bases = [name.rpartition("/")[2] for name in names]
    identities, why = _identities(names, bases, place.part, patterns, f"{shown(root)}: {called}")
    if why:
        skipped.append(f"{called}: {why}")
        if place.part not in _UNLABELLED:
            return []
    style = style_of(bases)
    cameras = patterns.cameras(names) or [
        match["camera"] if (match := style.match(base)) else "" for base in bases
    ]
    rows = []
    for identity, camera, file in zip(identities, cameras, place.names, strict=True):
        where = f"{called}/{shown(file)}"
        if not identity and place.part not in _UNLABELLED:
            skipped.append(f"{where}: nothing says who it is")
        else:
            rows.append(Row(place.folder / file, place.part, identity, camera, f"{shown(root)}: {where}"))
    return rows


def _identities(
    names: Sequence[str], bases: Sequence[str], part: str, patterns: Patterns, where: str
) -> tuple[Sequence[str], str]:
    """Who each image shows, "" where nothing says it; and why nobody is known, where that is so."""
    if patterns.identity is not None:
        return patterns.identities(names) or [], ""
    nobody = [""] * len(names)
    in_folders = [name.partition("/")[0] if "/" in name else "" for name in names]
    if all(in_folders):
        if all(_CAMERA_NAME.fullmatch(person) for person in in_folders):
            what = "its folders are called like cameras and not like persons"
        else:
            return in_folders, ""
    elif not any(in_folders):
        style = style_of(bases)
        told = [match["identity"] if (match := style.match(base)) else "" for base in bases]
        if any(told):
            return told, ""
        what = "neither a folder per person nor a name like 0002_c1s1_000451_03.jpg"
    else:
        what = "some images are in a folder per person and some are not"
    if part in _UNLABELLED or part == VALIDATION:
        return nobody, f"{what}, so nobody is known here" + (": left out" if part == VALIDATION else "")
    raise ReseenError(
        f"{where}: who is who cannot be told ({what}): give --identity-pattern, or a CSV manifest"
    )


def _refuse_msmt17(root: Path, found: dict[str, list[Part]]) -> None:
    """MSMT17's folders without its lists: they number the persons of either part from 0, and name no queries."""
    names = [] if QUERY in found else [name for place in found.get(TEST, ()) for name in place.names]
    own = sum(matched(name.rpartition("/")[2], (MSMT17_OWN,)) is not None for name in names)
    if 2 * own > len(names):
        raise ReseenError(
            f"{shown(root)} is MSMT17 without its lists, which alone tell who is who and what is searched for: put "
            f"{', '.join(MSMT17_LISTS)} of its archive beside its folders"
        )


def _refuse_parts_inside(root: Path, called: str, names: Sequence[str]) -> None:
    inside = {first for name in names if "/" in name and part_of(first := name.partition("/")[0])}
    if {part_of(name) for name in inside} & {QUERY, GALLERY, TEST}:
        raise ReseenError(
            f"{shown(root)}: {called} holds parts itself ({', '.join(map(shown, sorted(inside)))}): "
            f"give that folder, or put its parts beside {called}"
        )


def _unwrapped(name: str) -> str:
    """``images/anna/1.jpg`` is ``anna/1.jpg``: a folder called images is no person."""
    first, _, rest = name.partition("/")
    return rest if rest and first.lower() in _WRAPPERS else name


def _beside(folder: Path, found: dict[str, list[Part]]) -> list[str]:
    """What else lies there, and is not read."""
    known = {place.folder for places in found.values() for place in places}
    known |= {place.parent for place in known} - {folder}
    notes = []
    for inner in folders_in(folder):
        count = 0 if inner in known else sum(map(is_image, files_below(inner)))
        if count:
            notes.append(f"{shown(inner.name)}: {count:,} images, in none of the parts")
    with os.scandir(folder) as entries:
        loose = sum(entry.is_file() and is_image(entry.name) for entry in entries)
    return [*notes, *([f"{loose:,} images beside the parts, in none of them"] if loose else [])]
