"""Benchmarks of crops: what they published, how they name their files, and whether a set can be one of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from reseen.data.paths import is_image
from reseen.records import DISTRACTOR, Labels, ReidData

# Published counts per split: images and persons (junk and distractors are images of no person).
KNOWN = {
    "Market-1501": {"train": (12_936, 751), "query": (3_368, 750), "gallery": (19_732, 750)},
    "DukeMTMC-reID": {"train": (16_522, 702), "query": (2_228, 702), "gallery": (17_661, 1_110)},
    "MSMT17": {"train": (32_621, 1_041), "query": (11_659, 3_060), "gallery": (82_161, 3_060)},
}
KNOWN_CAMERAS = {"Market-1501": 6, "DukeMTMC-reID": 8, "MSMT17": 15}


@dataclass(frozen=True)
class Style:
    """How files are named, without their ending. ``zero_is_nobody``: 0000 is a distractor wherever it stands.

    ``benchmark``: whose manner it is; ``alone``: whether nobody else names files so.
    """

    patterns: tuple[re.Pattern[str], ...]
    benchmark: str | None
    alone: bool = True
    zero_is_nobody: bool = False

    def match(self, name: str) -> re.Match[str] | None:
        """The groups ``identity`` and ``camera`` of an image's file name."""
        return matched(name, self.patterns)


# Identity -1 is junk and 0000 a distractor (Market-1501's readme).
MSMT17_OWN = re.compile(r"(?P<identity>\d{1,9})_\d+_(?P<camera>\d{1,9})_\d+(morning|noon|afternoon)_\w+")
_SHORT = re.compile(r"(?P<identity>-1|\d{1,9})_c(?P<camera>\d{1,9})_\d+")
_LOOSE = re.compile(r"(?P<identity>-1|\d{1,9})_c(?P<camera>\d{1,9})(\D.*)?")
STYLES = (
    Style(  # 0002_c1s1_000451_03
        (re.compile(r"(?P<identity>-1|\d{1,9})_c(?P<camera>\d{1,9})s\d+_\d+_\d+"),),
        "Market-1501",
        zero_is_nobody=True,
    ),
    Style(  # 0001_c2_f0046182
        (re.compile(r"(?P<identity>-1|\d{1,9})_c(?P<camera>\d{1,9})_f\d+"),),
        "DukeMTMC-reID",
        zero_is_nobody=True,
    ),
    Style((MSMT17_OWN,), "MSMT17"),  # 0000_000_01_0303morning_0008_0
    Style((_SHORT,), "MSMT17", alone=False),  # 0000_c14_0030: MSMT17 as others rename it, and CUHK03-NP
)
# Sets of one's own that are named in this manner: what follows the camera is free.
LOOSE_NAME, LOOSE = "Market-1501 style", Style((_LOOSE, MSMT17_OWN), None)
LISTED = (MSMT17_OWN, _SHORT, _LOOSE)  # names in MSMT17's lists


def style_of(names: Iterable[str]) -> Style:
    """The manner in which most files are named, if at least half of them are; else the loose one."""
    names = list(names)
    counts = [sum(style.match(name) is not None for name in names) for style in STYLES]
    best = int(np.argmax(counts))
    return STYLES[best] if 2 * counts[best] >= len(names) else LOOSE


def named(data: ReidData, style: Style) -> tuple[str, str | None]:
    """The benchmark that ``data`` is, whole or in part, else :data:`LOOSE_NAME`; and what speaks against it.

    A manner of naming that others have too needs the published counts. One that is a benchmark's alone will do, unless
    a camera or a count is none that it could have.
    """
    name = style.benchmark
    if name is None:
        return LOOSE_NAME, None
    if as_published(name, data):
        return name, None
    if not style.alone:
        return LOOSE_NAME, None
    crops = [*data.train, *(crop for part in (data.query, data.gallery) if part for crop in part.crops)]
    foreign = next((crop for crop in crops if not 1 <= crop.camera <= KNOWN_CAMERAS[name]), None)
    if foreign is not None:
        where = f"{foreign.path.parent.name}/{foreign.path.name}"
        return LOOSE_NAME, f"camera {foreign.camera} is not one of its {KNOWN_CAMERAS[name]} (first: {where})"
    for part, found in counts_of(data).items():
        if any(have > most for have, most in zip(found, KNOWN[name][part], strict=True)):
            more = f"the {part} part has {found[0]:,} images of {found[1]:,} persons, more than are published"
            return LOOSE_NAME, more
    return name, None


def as_published(name: str, data: ReidData) -> bool:
    """Whether every part that is there has the counts which the benchmark ``name`` published."""
    return name in KNOWN and all(KNOWN[name].get(part) == found for part, found in counts_of(data).items())


def counts_of(data: ReidData) -> Mapping[str, tuple[int, int]]:
    """Images and persons of each part that is there."""
    counts = {"train": (len(data.train), persons(data.train_identities))}
    counts |= {name: (len(part), persons(part.identities)) for name, part in data.labelled.items()}
    return {name: counted for name, counted in counts.items() if counted[0] and name != "validation"}


def persons(labels: Labels | None) -> int:
    """How many persons there are among ``labels``, junk and distractors apart."""
    return 0 if labels is None else len(np.unique(labels[labels > DISTRACTOR]))


def matched(name: str, patterns: Iterable[re.Pattern[str]]) -> re.Match[str] | None:
    stem = name
    while is_image(stem):  # twice for the 24 files of Market-1501 that end in .jpg.jpg
        stem = stem.rpartition(".")[0]
    if stem == name:
        return None
    return next((match for pattern in patterns if (match := pattern.fullmatch(stem))), None)
