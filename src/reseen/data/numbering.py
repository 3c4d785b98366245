"""Cameras and identities as people write them, turned into the numbers that records hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reseen.data.spelling import GALLERY, TEST, is_number, value
from reseen.errors import ReseenError
from reseen.records import DISTRACTOR, JUNK, UNKNOWN_CAMERA, Labels

_SPECIAL = {"junk": str(JUNK), "distractor": str(DISTRACTOR)}


def number_cameras(names: Sequence[object]) -> list[int]:
    """Whole numbers stay as they are; other names become 1, 2, ... in sorted order; None, "" and -1 are unknown.

    Raises:
        ReseenError: a negative number other than -1 (which means unknown).
    """
    texts = [value(name) for name in names]
    numbers = _numbers(
        set(texts) - {"", str(UNKNOWN_CAMERA)}, "a camera cannot be {}: use numbers from 0, or names"
    )
    return [numbers.get(text, UNKNOWN_CAMERA) for text in texts]


def number_identities(names: Sequence[object]) -> Labels:
    """Whole numbers stay as they are; other names become 1, 2, ... in sorted order, int64 ``[M]``.

    ``junk`` and ``distractor`` may stand for -1 and 0, also among names; "" (nobody said) becomes :data:`JUNK`.

    Raises:
        ReseenError: a negative number other than -1.
    """
    texts = [_SPECIAL.get(text.lower(), text) for text in map(value, names)]
    special = {"": JUNK, str(JUNK): JUNK, str(DISTRACTOR): DISTRACTOR}
    numbers = (
        _numbers(set(texts) - set(special), "an identity cannot be {}: -1 is junk, persons start at 1")
        | special
    )
    return np.array([numbers[text] for text in texts], dtype=np.int64)


def number_persons(names: Sequence[object], parts: NDArray[Any]) -> Labels:
    """:func:`number_identities`, moved up by one where persons are numbered from 0 (MSMT17, many private sets).

    Records keep 0 for distractors. A distractor occurs in the gallery only, so that a 0 in another one of the ``parts``
    ``[M]`` can only be a person: then 0 is a person in all of them.
    """
    identities = number_identities(names)
    if (identities[~np.isin(parts, (GALLERY, TEST))] == 0).any():
        identities[identities >= 0] += 1
    return identities


def _numbers(texts: set[str], negative: str) -> dict[str, int]:
    """The number of each text; ``negative`` is what to say of one below 0."""
    below = [text for text in texts if is_number(text) and int(text) < 0]
    if below:
        raise ReseenError(negative.format(min(map(int, below))))
    if all(map(is_number, texts)):
        return {text: int(text) for text in texts}
    return {text: number for number, text in enumerate(sorted(texts), start=1)}


def rows_of_each(values: Labels, among: NDArray[np.bool_]) -> list[Labels]:
    """Rows of each value that occurs ``among`` some, in their order; in the order of the values."""
    rows = np.flatnonzero(among)
    rows = rows[np.argsort(values[rows], kind="stable")]
    return np.split(rows, np.flatnonzero(np.diff(values[rows])) + 1) if len(rows) else []
