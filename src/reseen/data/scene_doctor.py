"""What a person search data set holds and lacks. Nothing is printed here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from reseen.data.galleries import DEFAULT_SIZE
from reseen.data.scenes import scan_scenes
from reseen.records import UNKNOWN_CAMERA, UNLABELLED, Labels, Scene, SearchData

FEWEST = 2  # persons to train on, below which nothing can be told apart

_Counts = tuple[int, int | None, int | None]
# Published: scenes (or queries), persons, identities. None: not said, or sources differ (PRW: 482 or 483).
KNOWN: dict[str, dict[str, _Counts]] = {
    "CUHK-SYSU": {
        "train": (11_206, 55_260, 5_532),
        "test": (6_978, None, None),
        "queries": (2_900, None, None),
    },
    "PRW": {"train": (5_704, 18_048, None), "test": (6_112, None, None), "queries": (2_057, None, None)},
}
KNOWN_SIZES = {"CUHK-SYSU": (50, 100, 500, 1000, 2000, 4000)}


@dataclass(frozen=True)
class SceneSplit:
    """Counts of one split; ``identities`` None: nobody named the persons; ``expected`` None: not published."""

    name: str
    scenes: int
    persons: int
    identities: int | None
    named: int
    empty: int
    cameras: tuple[int, ...]
    expected: _Counts | None

    @property
    def as_published(self) -> bool:
        found = (self.scenes, self.persons, self.identities)
        return self.expected is None or all(
            wanted in (None, have) for have, wanted in zip(found, self.expected, strict=True)
        )

    def line(self) -> str:
        text = f"{self.name}: {self.scenes:,} scenes, {self.persons:,} persons"
        if self.identities is not None:
            text += f", {self.identities:,} identities on {self.named:,} of them"
        if self.empty:
            text += f", {self.empty:,} scenes without persons"
        if self.cameras:
            text += f", {len(self.cameras)} cameras ({', '.join(map(str, self.cameras[:20]))})"
        if self.expected is None:
            return text
        if self.as_published:
            return f"{text}: as published"
        words = zip(self.expected, ("scenes", "persons", "identities"), strict=True)
        return f"{text}: published are " + ", ".join(f"{n:,} {what}" for n, what in words if n is not None)


@dataclass(frozen=True)
class QuerySplit:
    """The queries and the sizes of their galleries; no size: all test scenes but the query's own."""

    queries: int
    sizes: tuple[int, ...]
    expected: int | None
    name: str = "queries"

    @property
    def as_published(self) -> bool:
        return self.expected in (None, self.queries)

    def line(self) -> str:
        where = (
            f"galleries of {', '.join(map(str, self.sizes))}" if self.sizes else "in all other test scenes"
        )
        text = f"queries: {self.queries:,}, {where}"
        if self.expected is None:
            return text
        return f"{text}: as published" if self.as_published else f"{text}: published are {self.expected:,}"


def examine_scenes(
    data: SearchData, *, progress: Callable[[int, int], None] | None = None
) -> tuple[tuple[SceneSplit | QuerySplit, ...], tuple[str, ...], SearchData, tuple[str, ...]]:
    """Decode every scene: splits, damaged images, the data without them, warnings.

    Raises:
        ReseenError: there is no scene.
    """
    usable, damaged = scan_scenes(data, max_bad_share=1.0, progress=progress)
    known = KNOWN.get(data.name, {})
    splits: list[SceneSplit | QuerySplit] = [
        _split(name, scenes, labels, known.get(name))
        for name, scenes, labels in (
            ("train", data.train, data.train_identities),
            ("test", data.test, data.test_identities),
        )
        if scenes
    ]
    if data.probes:
        expected = known.get("queries")
        splits.append(QuerySplit(len(data.probes), data.gallery_sizes, expected and expected[0]))
    warnings = _warnings(usable, {split.name: split for split in splits})
    return tuple(splits), damaged, usable, tuple(warnings)


def _split(
    name: str, scenes: tuple[Scene, ...], identities: tuple[Labels, ...] | None, expected: _Counts | None
) -> SceneSplit:
    labels = np.concatenate([np.empty(0, dtype=np.int64), *(identities or ())])
    named = labels[labels != UNLABELLED]
    cameras = {scene.camera for scene in scenes} - {UNKNOWN_CAMERA}
    return SceneSplit(
        name=name,
        scenes=len(scenes),
        persons=sum(len(scene.boxes) for scene in scenes),
        identities=None if identities is None else len(np.unique(named)),
        named=len(named),
        empty=sum(len(scene.boxes) == 0 for scene in scenes),
        cameras=tuple(sorted(cameras)),
        expected=expected,
    )


def _warnings(data: SearchData, found: dict[str, SceneSplit | QuerySplit]) -> list[str]:
    warnings = [f"the {name} part is missing" for name in KNOWN.get(data.name, {}) if name not in found]
    lacking = [size for size in KNOWN_SIZES.get(data.name, ()) if size not in data.gallery_sizes]
    if lacking and data.gallery_sizes:
        warnings.append(f"no gallery of {', '.join(map(str, lacking))}: TestG{lacking[0]}.mat is missing")
        if DEFAULT_SIZE in lacking:
            warnings.append(f"published results are for galleries of {DEFAULT_SIZE}")
    if not all(split.as_published for split in found.values()):
        warnings.append(f"this is not the whole {data.name}: results cannot be compared with published ones")
    if data.train_boxes < FEWEST:
        persons = "1 person" if data.train_boxes else "no person"
        warnings.append(f"there is {persons} to train on, so nothing can be told apart: annotate more")
    if data.test and not data.probes:
        warnings.append("there are no queries, so detection can be scored, but not search")
    return warnings
