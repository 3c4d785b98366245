"""From rows, as a folder or a table has them, to :class:`ReidData`: who is trained on, who asks, who answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from reseen.data.numbering import number_cameras, number_identities, number_persons
from reseen.data.paths import said_of, shown
from reseen.data.queries import choose_queries
from reseen.data.spelling import EVERYTHING, GALLERY, QUERY, TEST, TRAIN, VALIDATION
from reseen.errors import ReseenError
from reseen.records import DISTRACTOR, JUNK, UNKNOWN_CAMERA, Crop, LabelledCrops, Labels, ReidData


@dataclass(frozen=True)
class Row:
    """An image as it is listed: ``part`` of :data:`reseen.data.spelling.PARTS`, ``where`` for messages.

    ``identity`` and ``camera`` as somebody wrote them; "" where nobody did.
    """

    path: Path
    part: str
    identity: str
    camera: str
    where: str


def assemble(
    rows: Sequence[Row],
    *,
    name: str,
    root: Path,
    layout: str,
    skipped: Sequence[str] = (),
    zero_is_nobody: bool = False,
) -> ReidData:
    """``rows`` in their order as training, validation, query and gallery parts, with one numbering of all of them.

    ``train_all`` (training and validation together) is trained on where there is no ``train``. ``test`` is the gallery
    where there are queries; otherwise the first image of each of its persons under each camera becomes a query
    (:func:`reseen.data.queries.choose_queries`).

    Args:
        zero_is_nobody: 0 is a distractor in every part; else persons may be numbered from 0.

    Raises:
        ReseenError: identities or cameras that cannot be numbered, a test image of whom nobody said who it is, or parts
            that contradict each other.
    """
    rows, notes = _without_twofold_training(rows)
    with said_of(root):
        cameras = np.array(number_cameras([row.camera for row in rows]), dtype=np.int64)
        named, given = [row.identity for row in rows], np.array([row.part for row in rows], dtype=object)
        identities = number_identities(named) if zero_is_nobody else number_persons(named, given)
    parts, more = _tested(given, identities, cameras, root)
    _check(rows, parts, identities)
    crops = tuple(Crop(row.path, int(camera)) for row, camera in zip(rows, cameras, strict=True))
    listed = LabelledCrops(crops, identities)
    labelled = {part: listed.take(np.flatnonzero(parts == part)) for part in (VALIDATION, QUERY, GALLERY)}
    train = listed.take(np.flatnonzero(parts == TRAIN))
    known = any(row.identity for row, part in zip(rows, parts, strict=True) if part == TRAIN)
    return ReidData(
        name=name,
        root=root,
        train=train.crops,
        train_identities=train.identities if known else None,
        **{name: part for name, part in labelled.items() if len(part)},
        layout=layout,
        skipped=(*notes, *more, *skipped),
        person_names=_names(identities, named, above=DISTRACTOR),
        camera_names=_names(cameras, [row.camera for row in rows], above=UNKNOWN_CAMERA),
    )


def _names(numbers: Labels, names: Sequence[str], *, above: int) -> dict[int, str]:
    """What each number ``above`` the special ones is called, by the first of its rows."""
    found: dict[int, str] = {}
    for number, name in zip(numbers.tolist(), names, strict=True):
        if number > above:
            found.setdefault(number, name.strip())
    return found


def scored_on_validation(data: ReidData) -> ReidData:
    """``data`` with queries and gallery made of its validation part; its test part is not there.

    Raises:
        ReseenError: there is no validation part.
    """
    if data.validation is None:
        raise ReseenError(
            f"{shown(data.root)} has no validation part: reseen split makes one, see --validation"
        )
    asked = choose_queries(data.validation.identities, data.validation.cameras)
    query, gallery = (data.validation.take(np.flatnonzero(rows)) for rows in (asked, ~asked))
    return replace(data, query=query if len(query) else None, gallery=gallery, validation=None)


def _without_twofold_training(rows: Sequence[Row]) -> tuple[list[Row], list[str]]:
    counts = Counter(row.part for row in rows)
    if not counts[EVERYTHING]:
        return list(rows), []
    if not counts[TRAIN]:
        return [replace(row, part=TRAIN) if row.part == EVERYTHING else row for row in rows], []
    note = f"{EVERYTHING}: {counts[EVERYTHING]:,} images, not trained on beside {TRAIN}"
    return [row for row in rows if row.part != EVERYTHING], [note]


def _tested(
    given: np.ndarray, identities: Labels, cameras: Labels, root: Path
) -> tuple[np.ndarray, list[str]]:
    """The part of each row, ``test`` told apart as query and gallery, and what was decided."""
    parts, tested = given.copy(), given == TEST
    if not tested.any():
        return parts, []
    if (parts == GALLERY).any():
        raise ReseenError(
            f"{shown(root)} has a test and a gallery part: which one is searched? Rename or remove one of them"
        )
    if (parts == QUERY).any():
        parts[tested] = GALLERY
        return parts, []
    asked = choose_queries(identities[tested], cameras[tested])
    parts[tested] = np.where(asked, QUERY, GALLERY)
    note = (
        f"test has no queries of its own: the first image of each person under each camera is one "
        f"({int(asked.sum()):,} of {int(tested.sum()):,}), and reseen split chooses them at random"
    )
    return parts, [note]


def _check(rows: Sequence[Row], parts: np.ndarray, identities: Labels) -> None:
    for row, part, identity in zip(rows, parts, identities.tolist(), strict=True):
        if part == QUERY and identity == JUNK:
            raise ReseenError(f"{row.where}: a query needs the identity of a person")
        if part in (GALLERY, VALIDATION) and not row.identity:
            raise ReseenError(f"{row.where}: a {part} image needs an identity (-1 = junk)")
