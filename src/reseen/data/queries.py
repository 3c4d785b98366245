"""Who of a set of labelled images asks, and who answers: choosing queries, and foreseeing which can be scored."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reseen.records import DISTRACTOR, UNKNOWN_CAMERA, LabelledCrops, Labels, ReidData


def choose_queries(
    identities: Labels, cameras: Labels, *, each: int = 1, across: bool | None = None
) -> NDArray[np.bool_]:
    """Which of M labelled images are queries, bool ``[M]``; the others are the gallery.

    The first ``each`` images of every person under every camera, as far as the gallery keeps an image of the person
    under another camera for each of them. Nobody else is one: neither junk, distractors, nor a person whom nothing
    could answer.

    Args:
        across: whether an answer has to be of another camera; None: where there are two known cameras.
    """
    if across is None:
        across = across_cameras(cameras)
    chosen = np.zeros(len(identities), dtype=bool)
    for rows in _groups(identities, identities > DISTRACTOR):
        groups = [rows]
        if across:
            groups = [rows[part] for part in _groups(cameras[rows], np.ones(len(rows), dtype=bool))]
            if len(groups) == 1 and cameras[rows[0]] != UNKNOWN_CAMERA:
                continue
        large = [group for group in groups if len(group) > 1]
        for group in large:
            chosen[group[: min(each, len(group) - 1)]] = True
        if not large and len(groups) > 1:  # one image under each camera
            chosen[groups[0]] = True
        if len(large) > 1:  # both keep one, so whoever is alone under their camera finds an answer
            chosen[[group[0] for group in groups if len(group) == 1]] = True
    return chosen


def across_cameras(cameras: Labels) -> bool:
    """Whether there are two known cameras, so that a match across cameras can be asked for."""
    return len(np.unique(cameras[cameras != UNKNOWN_CAMERA])) > 1


@dataclass(frozen=True)
class Answers:
    """How many queries have their person under another (or an unknown) camera, only under the same one, nowhere."""

    across: int
    same_camera: int
    nowhere: int

    @property
    def queries(self) -> int:
        return self.across + self.same_camera + self.nowhere


def answers(query: LabelledCrops, gallery: LabelledCrops) -> Answers:
    """What the gallery has for each query, before anything is embedded."""
    seen: dict[int, set[int]] = {}
    for identity, camera in zip(gallery.identities.tolist(), gallery.cameras.tolist(), strict=True):
        seen.setdefault(identity, set()).add(camera)
    counts = {"across": 0, "same_camera": 0, "nowhere": 0}
    for identity, camera in zip(query.identities.tolist(), query.cameras.tolist(), strict=True):
        cameras = seen.get(identity)
        if not cameras:
            counts["nowhere"] += 1
        else:
            counts["same_camera" if cameras == {camera} != {UNKNOWN_CAMERA} else "across"] += 1
    return Answers(**counts)


def outlook(data: ReidData, *, asks_folders: bool) -> list[str]:
    """What can be scored, before an hour of training, then warnings.

    Args:
        asks_folders: whether ``data`` looks like a folder per person, which nobody has said.
    """
    if data.query is None or data.gallery is None:
        if data.query is not None or data.gallery is not None:
            missing = "query" if data.query is None else "gallery"
            return [f"scores: none, the {missing} part is missing"]
        if data.train_identities is not None or asks_folders:
            seems = "" if data.train_identities is not None else "; each sub-folder would be a person"
            return [f"scores: none without a test part, which reseen split makes{seems}"]
        return [
            "scores: none, nobody has said who is who (--identity-pattern, a folder per person, or a column identity)"
        ]
    found = answers(data.query, data.gallery)
    line = (
        f"scores: of {found.queries:,} queries {found.across:,} have their person under another camera, "
        f"{found.same_camera:,} only under the same one, {found.nowhere:,} nowhere in the gallery"
    )
    warnings = []
    cameras = np.concatenate([data.query.cameras, data.gallery.cameras])
    if (cameras == UNKNOWN_CAMERA).all():
        line = f"scores: {found.across:,} of {found.queries:,} queries have their person in the gallery"
        warnings.append("without cameras only reseen evaluate --protocol same-camera can score this")
    elif not found.across:
        way = (
            "reseen evaluate --protocol same-camera"
            if found.same_camera
            else "give images of the queries' persons"
        )
        warnings.append(
            f"no query has its person under another camera, so nothing can be scored across them: {way}"
        )
    if data.train_identities is not None:
        persons = data.train_identities[data.train_identities > DISTRACTOR]
        both = np.intersect1d(persons, data.query.identities)
        if len(both):
            warnings.append(
                f"{len(both):,} persons are trained on and tested on: scores say less about new ones"
            )
    return [line, *warnings]


def _groups(values: Labels, among: NDArray[np.bool_]) -> list[Labels]:
    """Rows of each value, in their order; the values in the order in which they first occur."""
    rows = np.flatnonzero(among)
    _, first, inverse = np.unique(values[rows], return_index=True, return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    groups = np.split(rows[order], np.flatnonzero(np.diff(inverse[order])) + 1)
    return [groups[place] for place in np.argsort(first)] if len(rows) else []
