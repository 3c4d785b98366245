"""Persons held out: to test on, where nobody made a test part, and to choose settings without one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from reseen.data.manifest import COLUMNS
from reseen.data.numbering import number_cameras, number_persons
from reseen.data.paths import shown
from reseen.data.queries import across_cameras, choose_queries
from reseen.data.same import same_pictures
from reseen.errors import ReseenError
from reseen.files import write_csv
from reseen.records import DISTRACTOR, JUNK, UNKNOWN_CAMERA, LabelledCrops, Labels, ReidData, cameras_of

FEWEST = 2  # persons of a part: with one there is nobody to mistake for


@dataclass(frozen=True)
class Shares:
    """How persons are dealt: shares of all persons, ``queries`` of each person under each camera, ``seed``."""

    test: float = 0.3
    validation: float = 0.1
    queries: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("test", "validation"):
            if not 0 <= getattr(self, name) < 1:
                raise ReseenError(
                    f"--{name} {getattr(self, name):g}: give a share of the persons, from 0 to below 1"
                )
        if self.queries < 1 or self.seed < 0:
            raise ReseenError("--queries has to be 1 or more, --seed 0 or more")


def split_persons(data: ReidData, shares: Shares = Shares()) -> ReidData:
    """Deal the labelled training images of ``data`` to training, validation, query and gallery, person by person.

    Nobody is in two parts but query and gallery. Who is tested is drawn among those whom the gallery can answer: seen
    under two cameras, or, where fewer than two cameras are known, in two images. A test part that is there stays.
    Images of whom nobody said who they are are left out: they may show those who are tested.

    Raises:
        ReseenError: nobody labelled the images, or there are too few persons.
    """
    labels = data.train_identities
    if labels is None:
        raise ReseenError(
            f"{shown(data.root)} has no identities for its training images: a split by person needs them; give "
            "--identity-pattern, a folder per person, or a manifest with a column identity"
        )
    tested = data.query is not None and data.gallery is not None
    crops = LabelledCrops(data.train, labels)
    cameras, named = crops.cameras, labels > DISTRACTOR
    across = across_cameras(cameras[named])
    persons = np.unique(labels[named])
    answered = np.unique(labels[choose_queries(labels, cameras, across=across)])
    counts = [0 if tested else _count(shares.test, len(persons)), _count(shares.validation, len(persons))]
    if sum(counts) > len(answered) or len(persons) - sum(counts) < FEWEST:
        seen = "under two cameras" if across else "in two images"
        raise ReseenError(
            f"{shown(data.root)} has {len(persons)} persons, {len(answered)} of them seen {seen}: too few for "
            f"{counts[0]} to test, {counts[1]} to validate and {FEWEST} to train on; lower --test or --validation, or "
            "give more"
        )
    draw = np.random.default_rng(shares.seed)
    dealt = draw.permutation(answered)
    test, held = dealt[: counts[0]], dealt[counts[0] : sum(counts)]
    rows = draw.permutation(np.flatnonzero(np.isin(labels, test)))
    asked = choose_queries(labels[rows], cameras[rows], each=shares.queries, across=across)
    kept = named & ~np.isin(labels, [*test, *held])
    unnamed = int((~named).sum())
    note = (f"{unnamed:,} images of whom nobody said who they are",) if unnamed else ()
    return replace(
        data,
        train=tuple(data.train[row] for row in np.flatnonzero(kept)),
        train_identities=labels[kept],
        query=data.query if tested else crops.take(np.sort(rows[asked])),
        gallery=data.gallery if tested else crops.take(np.sort(rows[~asked])),
        validation=crops.take(np.flatnonzero(np.isin(labels, held))) if len(held) else data.validation,
        skipped=(*data.skipped, *note),
    )


def without_doubles(data: ReidData) -> ReidData:
    """``data`` without pictures that are there twice: the first one stays, that of the test part before others.

    Of the same picture under two persons none stays. All are named in ``skipped``.
    """
    nobody = np.zeros(len(data.train), dtype=np.int64)
    train = LabelledCrops(data.train, nobody if data.train_identities is None else data.train_identities)
    there = {**data.labelled, "train": train}
    parts = {name: there[name] for name in ("query", "gallery", "validation", "train") if name in there}
    listed = [(name, row) for name, part in parts.items() for row in range(len(part))]
    crops = [crop for part in parts.values() for crop in part.crops]
    people = np.concatenate([part.identities for part in parts.values()])
    out: set[tuple[str, int]] = set()
    notes = []
    for rows in same_pictures(crop.path for crop in crops):
        two = len({int(people[row]) for row in rows if people[row] > DISTRACTOR}) > 1
        first = shown(crops[rows[0]].path)
        if two:
            notes.append(f"{first}: the same picture under two persons, {shown(crops[rows[1]].path)}")
        else:
            notes += [f"{shown(crops[row].path)}: the same picture as {first}" for row in rows[1:]]
        out.update(listed[row] for row in (rows if two else rows[1:]))
    kept: dict[str, Labels] = {
        name: np.array([row for row in range(len(part)) if (name, row) not in out], dtype=np.int64)
        for name, part in parts.items()
    }
    return replace(data.take(kept), skipped=(*data.skipped, *notes))


def validation_split(data: ReidData, held_out: int, *, identities: int | None = None) -> ReidData:
    """Hold out the last ``held_out`` training identities; query and gallery are theirs, the test part is not read.

    The first image of each identity under each camera is a query, the others are the gallery, as in Market-1501.

    Args:
        identities: train on the first of the remaining ones only; None: on all.

    Raises:
        ReseenError: nobody labelled the training images, or too few identities.
    """
    labels = data.train_identities
    if labels is None:
        raise ReseenError(
            f"{shown(data.root)} has no identities for its training images: a split by identity needs them"
        )
    people = np.unique(labels[labels > 0])
    if not 0 < held_out < len(people):
        raise ReseenError(
            f"{shown(data.root)} has {len(people)} training identities: hold out 1 to {len(people) - 1}, not {held_out}"
        )
    kept = people[: len(people) - held_out][:identities]
    rows = np.flatnonzero(np.isin(labels, kept))
    test = np.flatnonzero(np.isin(labels, people[len(people) - held_out :]))
    tested = LabelledCrops(data.train, labels).take(test)
    _, places = np.unique(np.stack([tested.identities, tested.cameras]), axis=1, return_index=True)
    first = np.isin(np.arange(len(test)), places)
    return replace(
        data,
        train=tuple(data.train[row] for row in rows),
        train_identities=labels[rows],
        query=tested.take(np.flatnonzero(first)),
        gallery=tested.take(np.flatnonzero(~first)),
    )


def write_manifest(path: Path, data: ReidData) -> None:
    """``data`` as a CSV manifest, images by their absolute path. Raises ReseenError where it cannot be written.

    Persons and cameras are called as people call them, as far as they are read back as the same. A training image of
    whom nobody said who it is has no identity.
    """
    unknown = np.full(len(data.train), JUNK)
    train = LabelledCrops(data.train, unknown if data.train_identities is None else data.train_identities)
    listed = {"train": train, **data.labelled}
    parts = np.concatenate([np.full(len(part), name, dtype=object) for name, part in listed.items()])
    crops = tuple(crop for part in listed.values() for crop in part.crops)
    identities = np.concatenate([part.identities for part in listed.values()])
    persons = _called(identities, data.person_names, lambda names: number_persons(names, parts))
    persons = [
        "" if part == "train" and who == str(JUNK) else who for part, who in zip(parts, persons, strict=True)
    ]
    cameras = _called(cameras_of(crops), data.camera_names, number_cameras)
    cameras = ["" if camera == str(UNKNOWN_CAMERA) else camera for camera in cameras]
    paths = [crop.path.resolve() for crop in crops]
    write_csv(path, COLUMNS, zip(paths, cameras, persons, parts, strict=True), "choose another --out")


def _called(
    numbers: Labels, names: Mapping[int, str], read: Callable[[Sequence[str]], Sequence[int] | Labels]
) -> list[str]:
    """The name of each number, or where ``read`` makes others of the names, or one is a formula, the number itself."""
    plain = [str(number) for number in numbers.tolist()]
    called = [names.get(number, text) for number, text in zip(numbers.tolist(), plain, strict=True)]
    found = np.asarray(read(called), dtype=np.int64)
    pairs = np.unique(np.stack([numbers, found]), axis=1)
    distinct = (len(np.unique(numbers)), len(np.unique(found))) == (pairs.shape[1], pairs.shape[1])
    nobody = (pairs[0] <= DISTRACTOR) | (pairs[1] <= DISTRACTOR)
    formula = any(name.startswith(("=", "+", "-", "@")) for name in names.values())
    return called if distinct and (pairs[0] == pairs[1])[nobody].all() and not formula else plain


def _count(share: float, persons: int) -> int:
    return max(FEWEST, round(share * persons)) if share else 0
