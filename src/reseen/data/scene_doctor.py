"""What a person search data set holds and lacks. Nothing is printed here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from reseen.data.galleries import DEFAULT_SIZE
from reseen.data.scenes import scan_scenes
from reseen.records import UNKNOWN_CAMERA, UNLABELLED, Labels, Scene, SearchData

FEWEST = 2  # persons to train on, below which nothing can be told apart

# Published. What is not said, or differs between sources (PRW's identities: 482 or 483), is left out.
KNOWN: dict[str, dict[str, dict[str, int]]] = {
    "CUHK-SYSU": {
        "train": {"scenes": 11_206, "persons": 55_260, "identities": 5_532},
        "test": {"scenes": 6_978},
        "queries": {"": 2_900},
    },
    "PRW": {"train": {"scenes": 5_704, "persons": 18_048}, "test": {"scenes": 6_112}, "queries": {"": 2_057}},
}
KNOWN_SIZES = {"CUHK-SYSU": (50, 100, 500, 1000, 2000, 4000)}


@dataclass(frozen=True)
class Split:
    """One part of a data set in words, its ``counts`` by what is counted, and those that are ``published``, if any."""

    name: str
    text: str
    counts: Mapping[str, int]
    published: Mapping[str, int] | None

    @property
    def as_published(self) -> bool:
        return self.published is None or self.published.items() <= self.counts.items()

    def line(self) -> str:
        if self.published is None:
            return self.text
        words = ", ".join(f"{count:,} {what}".rstrip() for what, count in self.published.items())
        return f"{self.text}: {'as published' if self.as_published else f'published are {words}'}"


def examine_scenes(
    data: SearchData, *, progress: Callable[[int, int], None] | None = None
) -> tuple[tuple[Split, ...], tuple[str, ...], SearchData, tuple[str, ...]]:
    """Decode every scene: splits, damaged images, the data without them, warnings.

    Raises:
        ReseenError: there is no scene.
    """
    usable, damaged = scan_scenes(data, max_bad_share=1.0, progress=progress)
    known = KNOWN.get(data.name, {})
    splits = [
        _split(name, scenes, labels, known.get(name))
        for name, scenes, labels in (
            ("train", data.train, data.train_identities),
            ("test", data.test, data.test_identities),
        )
        if scenes
    ]
    if data.probes:
        sizes = ", ".join(map(str, data.gallery_sizes))
        where = f"galleries of {sizes}" if sizes else "in all other test scenes"
        text = f"queries: {len(data.probes):,}, {where}"
        splits.append(Split("queries", text, {"": len(data.probes)}, known.get("queries")))
    warnings = _warnings(usable, {split.name: split for split in splits})
    return tuple(splits), damaged, usable, tuple(warnings)


def _split(
    name: str,
    scenes: tuple[Scene, ...],
    identities: tuple[Labels, ...] | None,
    published: Mapping[str, int] | None,
) -> Split:
    counts = {"scenes": len(scenes), "persons": sum(len(scene.boxes) for scene in scenes)}
    text = f"{name}: {counts['scenes']:,} scenes, {counts['persons']:,} persons"
    if identities is not None:
        labels = np.concatenate([np.empty(0, dtype=np.int64), *identities])
        named = labels[labels != UNLABELLED]
        counts["identities"] = len(np.unique(named))
        text += f", {counts['identities']:,} identities on {len(named):,} of them"
    empty = sum(len(scene.boxes) == 0 for scene in scenes)
    text += f", {empty:,} scenes without persons" if empty else ""
    if cameras := sorted({scene.camera for scene in scenes} - {UNKNOWN_CAMERA}):
        text += f", {len(cameras)} cameras ({', '.join(map(str, cameras[:20]))})"
    return Split(name, text, counts, published)


def _warnings(data: SearchData, found: dict[str, Split]) -> list[str]:
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
