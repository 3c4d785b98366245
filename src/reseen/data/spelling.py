"""One value, several spellings: identities, cameras, paths, columns and parts as people write them.

Every reader goes through here, so that what one of them understands all of them do.
"""

from __future__ import annotations

import difflib
import math
import os
import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from reseen.errors import ReseenError

_NOBODY = frozenset({"", "nan", "none", "null", "n/a", "<na>"})  # how tables write an empty field
_INTEGER = re.compile(r"([+-]?)0*(\d{1,18})(\.0*)?", re.ASCII)  # "7.0": how data frames write 7

# Parts of a data set, and what folders and columns call them, without case, punctuation and a word for many.
PARTS = ("train", "train_all", "validation", "query", "gallery", "test")
TRAIN, EVERYTHING, VALIDATION, QUERY, GALLERY, TEST = PARTS
_PARTS = {
    TRAIN: "train training boundingboxtrain",
    EVERYTHING: "trainall trainval trainvalidation",
    VALIDATION: "val valid validation dev",
    QUERY: "query queries probe probes boundingboxquery",
    GALLERY: "gallery galleries boundingboxgallery",
    TEST: "test testing boundingboxtest",
}
_MANY = re.compile(r"(set|part|split|data|images|imgs|crops)$")
_PART_OF = {word: part for part, words in _PARTS.items() for word in words.split()}

# Columns of a table and keys of a record. The weak ones may mean something else: they count where nothing else does.
_MEANINGS = {
    "path": "path file filename filepath image imagepath imagename imagefile img imgpath imgname impath crop croppath",
    "camera": "camera cam camid cameraid cameraname camname camno cameranumber",
    "identity": "identity identityid pid personid person subject subjectid identityname",
    "split": "split part set subset partition phase",
}
_MEANING_OF = {word: meaning for meaning, words in _MEANINGS.items() for word in words.split()}
_PERSONS = frozenset(["person", "persons", "people", "pedestrian", "pedestrians", "human", "humans"])
WEAK = {"id": "identity", "label": "identity", "class": "identity", "target": "identity"}
_NEAR = 0.75  # likeness from which a column is a misspelt one


def value(raw: object) -> str:
    """An identity or camera as text: "7" for 7, 7.0, "07" and " 7.0 "; names as they are; "" where nobody said.

    Negative whole numbers other than -1 stay as they are: who counts them says what is wrong.
    """
    if raw is None or isinstance(raw, bool | list | dict):
        return ""
    if isinstance(raw, float):
        if not math.isfinite(raw):
            return ""
        raw = int(raw) if raw.is_integer() else raw
    text = unicodedata.normalize("NFC", str(raw)).strip()
    if text.lower() in _NOBODY:
        return ""
    match = _INTEGER.fullmatch(text)
    return text if match is None else str(int(match[1] + match[2]))


def is_number(text: str) -> bool:
    """Whether :func:`value` made a whole number of it."""
    return _INTEGER.fullmatch(text) is not None


def part_of(name: str) -> str | None:
    """The one of :data:`PARTS` that a folder or a field names; None for any other word."""
    return _PART_OF.get(_MANY.sub("", _squeezed(name)))


def is_person(category: object) -> bool:
    """Whether a category of boxes is called like persons: person, pedestrian, human, people."""
    return isinstance(category, str) and _squeezed(category) in _PERSONS


def is_true(raw: object) -> bool:
    """Whether a field says yes: true, 1, "true", "1" or "yes"."""
    return str(raw).strip().lower() in ("true", "1", "1.0", "yes")


def meanings(
    names: Sequence[str], *, wanted: Collection[str] = tuple(_MEANINGS), weak: Mapping[str, str] = WEAK
) -> dict[str, str]:
    """Which of the column ``names`` is the path, the camera, the identity, the split: meaning -> name.

    Raises:
        ReseenError: two columns of one meaning, or one that looks like a misspelt one.
    """
    found: dict[str, str] = {}
    for table in (_MEANING_OF, weak):
        named: dict[str, list[str]] = {}
        for name in names:
            if (
                (meaning := table.get(_squeezed(name))) in wanted
                and meaning is not None
                and meaning not in found
            ):
                named.setdefault(meaning, []).append(name)
        for meaning, same in named.items():
            if len(same) > 1:
                raise ReseenError(
                    f"the columns {' and '.join(map(repr, same))} both mean {meaning}: keep one"
                )
            found[meaning] = same[0]
    others = {_squeezed(name): name for name in names if name not in found.values()}
    for meaning in wanted:
        near = [] if meaning in found else difflib.get_close_matches(meaning, others, n=1, cutoff=_NEAR)
        if near:
            raise ReseenError(f"there is a column {others[near[0]]!r}: did you mean {meaning!r}?")
    return found


def paths(name: str) -> Iterator[str]:
    """``name`` as it is written, then with ``/`` for ``\\``, then with its accents composed and decomposed."""
    tried: set[str] = set()
    for slashed in (name, name.replace("\\", "/")):
        for text in (slashed, unicodedata.normalize("NFC", slashed), unicodedata.normalize("NFD", slashed)):
            plain = os.path.normpath(text)
            if plain not in tried:
                tried.add(plain)
                yield plain


def find_file(folder: Path, name: str) -> str | None:
    """How the file ``name`` in ``folder``, or at its absolute path, is spelt there. None: there is none."""
    return next((path for path in paths(name) if os.path.isfile(folder / path)), None)


def _squeezed(name: str) -> str:
    """Without case, punctuation and blanks: "Person ID", "person_id" and "personId" are one word."""
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", name)).lower()
