"""Training identities held out, so that settings are chosen without the test set."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import numpy as np

from reseen.data.manifest import COLUMNS
from reseen.data.paths import shown
from reseen.errors import ReseenError
from reseen.files import write_file
from reseen.records import UNKNOWN_CAMERA, LabelledCrops, Labels, ReidData


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
    first = _first_of_each(labels[test], np.array([data.train[row].camera for row in test]))
    return replace(
        data,
        train=tuple(data.train[row] for row in rows),
        train_identities=labels[rows],
        query=_labelled(data, labels, test[first]),
        gallery=_labelled(data, labels, test[~first]),
    )


def write_manifest(path: Path, data: ReidData) -> None:
    """``data`` as a CSV manifest, images by their absolute path. Raises ReseenError where it cannot be written."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    none = np.full(len(data.train), "", dtype=object)
    parts = [("train", data.train, none if data.train_identities is None else data.train_identities)]
    labelled = (("query", data.query), ("gallery", data.gallery))
    parts += [(name, part.crops, part.identities) for name, part in labelled if part is not None]
    for name, crops, identities in parts:
        for crop, identity in zip(crops, identities, strict=True):
            camera = "" if crop.camera == UNKNOWN_CAMERA else crop.camera
            writer.writerow((crop.path.resolve(), camera, identity, name))
    write_file(path, text.getvalue().encode("utf-8", "surrogateescape"), "choose another --out")


def _first_of_each(identities: Labels, cameras: Labels) -> np.ndarray:
    """bool ``[n]``: the first row of each pair of identity and camera."""
    _, places = np.unique(np.stack([identities, cameras]), axis=1, return_index=True)
    first = np.zeros(len(identities), dtype=bool)
    first[places] = True
    return first


def _labelled(data: ReidData, labels: Labels, rows: Labels) -> LabelledCrops:
    return LabelledCrops(tuple(data.train[row] for row in rows), labels[rows])
