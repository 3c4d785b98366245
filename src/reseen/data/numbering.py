"""Cameras and identities as people write them, turned into the numbers that records hold."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from reseen.errors import ReseenError
from reseen.records import DISTRACTOR, JUNK, UNKNOWN_CAMERA, Labels

_INTEGER = re.compile(r"([+-]?\d{1,18})(\.0+)?")  # "7.0": how spreadsheets and data frames write 7


def number_cameras(names: Sequence[str | None]) -> list[int]:
    """Whole numbers stay as they are; other names become 1, 2, ... in sorted order; None and "" are unknown.

    Raises:
        ReseenError: a negative number other than -1 (which means unknown).
    """
    known = {name for name in names if name}
    if all(_INTEGER.fullmatch(name) for name in known):
        numbers = {name: _integer(name) for name in known}
        if min(numbers.values(), default=0) < UNKNOWN_CAMERA:
            raise ReseenError(f"a camera cannot be {min(numbers.values())}: use numbers from 0, or names")
    else:
        numbers = {name: number for number, name in enumerate(sorted(known), start=1)}
    return [numbers[name] if name else UNKNOWN_CAMERA for name in names]


def number_identities(names: Sequence[str]) -> Labels:
    """Whole numbers stay as they are; other names become 1, 2, ... in sorted order, int64 ``[M]``.

    ``junk`` and ``distractor`` may stand for -1 and 0; "" (nobody said) becomes :data:`JUNK`.

    Raises:
        ReseenError: a negative number other than -1.
    """
    special = {"": JUNK, "junk": JUNK, "distractor": DISTRACTOR}
    people = {name for name in names if name not in special}
    if all(_INTEGER.fullmatch(name) for name in people):
        numbers = {name: _integer(name) for name in people}
        if min(numbers.values(), default=0) < JUNK:
            raise ReseenError(
                f"an identity cannot be {min(numbers.values())}: -1 is junk, persons start at 1"
            )
    else:
        numbers = {name: number for number, name in enumerate(sorted(people), start=1)}
    return np.array([special.get(name, numbers.get(name, JUNK)) for name in names], dtype=np.int64)


def persons_from_one(train: Labels, query: Labels, gallery: Labels) -> tuple[Labels, Labels, Labels]:
    """Move persons up by one where they are numbered from 0 (MSMT17, many private sets).

    Records keep 0 for distractors. A distractor occurs in the gallery only, so that a 0 in ``train`` or
    ``query`` can only be a person: then 0 is a person in all three parts.
    """
    if not ((train == 0).any() or (query == 0).any()):
        return train, query, gallery
    return (
        np.where(train >= 0, train + 1, train),
        np.where(query >= 0, query + 1, query),
        np.where(gallery >= 0, gallery + 1, gallery),
    )


def _integer(name: str) -> int:
    match = _INTEGER.fullmatch(name)
    assert match
    return int(match[1])
