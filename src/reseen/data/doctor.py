"""What a data folder is, what is in it, and what it lacks. Nothing is printed here."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reseen.config import ClusterConfig
from reseen.data.benchmarks import KNOWN, KNOWN_CAMERAS, persons
from reseen.data.images import measure_images
from reseen.data.layouts import is_market_layout, is_msmt17_layout
from reseen.data.paths import shown
from reseen.data.readers import open_data
from reseen.data.same import doubles
from reseen.data.scene_doctor import KNOWN as KNOWN_SCENES
from reseen.data.scene_doctor import Split, examine_scenes
from reseen.data.scenes import search_layout
from reseen.errors import ReseenError
from reseen.records import DISTRACTOR, Crop, Labels, ReidData, SearchData, cameras_of

FEW = 20  # lines of one kind that are written out
WIDE = 0.5  # share of images wider than high, beyond which they are hardly crops


@dataclass(frozen=True)
class Report:
    """What :func:`examine` found. ``damaged`` and ``skipped`` name files, ``warnings`` say what to do.

    ``layout``: what it was read as; ``facts``: what else is known, a line each; ``crops`` or ``scenes``: the data
    without the images that cannot be read. What can be scored is :func:`reseen.evaluation.outlook.foresee`'s to say.
    """

    name: str
    root: Path
    splits: tuple[Split, ...]
    damaged: tuple[str, ...]
    skipped: tuple[str, ...]
    warnings: tuple[str, ...]
    layout: str = "scenes with boxes"
    facts: tuple[str, ...] = ()
    crops: ReidData | None = None
    scenes: SearchData | None = None

    @property
    def healthy(self) -> bool:
        """Nothing damaged, skipped or missing, no warning."""
        return not (self.damaged or self.skipped or self.warnings)

    def lines(self) -> list[str]:
        """The report as lines of text."""
        lines = [f"{shown(self.root)}: {shown(self.name)} ({self.layout})"]
        lines += [f"  {line}" for line in (*(split.line() for split in self.splits), *self.facts)]
        for title, found in (("damaged", self.damaged), ("skipped", self.skipped)):
            lines += [f"  {title}: {line}" for line in found[:FEW]]
            if len(found) > FEW:
                lines.append(f"  {title}: and {len(found) - FEW:,} more")
        lines += [f"  warning: {warning}" for warning in self.warnings]
        lines.append(
            "  every image can be read" if not self.damaged else f"  {len(self.damaged):,} damaged images"
        )
        return lines


def examine(
    path: str | Path,
    *,
    camera_pattern: str | None = None,
    identity_pattern: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Read the data at ``path``, decode every image, and report.

    Scenes with person boxes are read as :func:`reseen.data.open_search_data` does, everything else as
    :func:`reseen.data.open_data`.

    Args:
        progress: called with (done, total) images now and then.

    Raises:
        ReseenError: there is no data that could be examined.
    """
    found = _scenes_at(Path(os.path.expanduser(path)))
    if found is not None:
        return _examine_scenes(*found, camera_pattern or identity_pattern, progress)
    data = open_data(path, camera_pattern=camera_pattern, identity_pattern=identity_pattern)
    known = KNOWN.get(data.name, {})
    parts: list[tuple[str, tuple[Crop, ...], Labels | None]] = [("train", data.train, data.train_identities)]
    parts += [(name, part.crops, part.identities) for name, part in data.labelled.items()]
    splits = tuple(_split(name, crops, labels, known.get(name)) for name, crops, labels in parts if crops)
    images = tuple(crop for _, crops, _ in parts for crop in crops)
    sizes, damaged = measure_images(images, progress=progress)
    same = doubles({name: [crop.path for crop in crops] for name, crops, _ in parts})
    readable = np.split(sizes[:, 0] > 0, np.cumsum([len(crops) for _, crops, _ in parts])[:-1])
    kept = {name: np.flatnonzero(good) for (name, _, _), good in zip(parts, readable, strict=True)}
    size_line, *odd = _sizes(sizes)
    return Report(
        name=data.name,
        root=data.root,
        splits=splits,
        damaged=damaged,
        skipped=data.skipped,
        warnings=(*_warnings(data, splits), *odd, *map(_doubled, same.items())),
        crops=data.take(kept),
        layout=data.layout,
        facts=(size_line,),
    )


def _scenes_at(place: Path) -> tuple[Path, Callable[[Path], SearchData]] | None:
    """Scenes, unless ``place`` is a set of crops; a folder that holds one of each is refused."""

    def of_crops(folder: Path) -> bool:
        return is_market_layout(folder) or is_msmt17_layout(folder)

    found = None if of_crops(place) else search_layout(place)
    if found is not None and found[0] != place:
        crops = next((inner for inner in sorted(place.iterdir()) if of_crops(inner)), None)
        if crops is not None:
            raise ReseenError(
                f"{shown(place)} holds 2 data sets: give one of {shown(crops.name)}, {shown(found[0].name)}"
            )
    return found


def _examine_scenes(
    place: Path,
    read: Callable[[Path], SearchData],
    pattern: str | None,
    progress: Callable[[int, int], None] | None,
) -> Report:
    if pattern is not None:
        raise ReseenError(
            "a pattern for cameras or persons is for plain folders of crops: leave it out for scenes"
        )
    data = read(place)
    splits, damaged, usable, warnings = examine_scenes(data, progress=progress)
    if data.name not in KNOWN_SCENES:  # whose parts are as they were published
        parts = {"train": data.train, "test": data.test}
        same = doubles({name: [scene.path for scene in scenes] for name, scenes in parts.items()})
        warnings += tuple(map(_doubled, same.items()))
    return Report(data.name, data.root, splits, damaged, usable.skipped, warnings, scenes=usable)


def _split(
    name: str, crops: tuple[Crop, ...], labels: Labels | None, expected: tuple[int, int] | None
) -> Split:
    cameras, counts = cameras_of(crops), {"images": len(crops)}
    text = f"{name}: {_count(len(crops), 'image')}"
    if labels is not None:
        counts["identities"] = persons(labels)
        text += f", {_count(counts['identities'], 'identity', 'identities')}"
        junk, distractors = int((labels < DISTRACTOR).sum()), int((labels == DISTRACTOR).sum())
        text += f" ({distractors:,} distractors, {junk:,} junk)" if junk or distractors else ""
    if known := np.unique(cameras[cameras >= 0]).tolist():
        text += f", {_count(len(known), 'camera')} ({', '.join(map(str, known[:FEW]))})"
    unknown = int((cameras < 0).sum())
    text += f", camera unknown for {unknown:,}" if unknown else ""
    published = expected and dict(zip(("images", "identities"), expected, strict=True))
    return Split(name, text, counts, published)


def _sizes(sizes: Labels) -> list[str]:
    """Sizes of the images that can be read, and a warning where they hardly are crops."""
    good = sizes[sizes[:, 0] > 0]
    if not len(good):
        return ["sizes: none can be read"]
    height, width = (int(np.median(column)) for column in good.T)
    least, most = good.min(axis=0), good.max(axis=0)
    line = (
        f"sizes, width x height: {width}x{height} in the middle, {least[1]}x{least[0]} to {most[1]}x{most[0]}"
    )
    wide = float((good[:, 1] > good[:, 0]).mean())
    if wide <= WIDE:
        return [line]
    return [
        line,
        f"{wide:.0%} of the images are wider than high: crops of persons hardly are, whole scenes need boxes",
    ]


def _doubled(found: tuple[tuple[str, str], tuple[int, Path, Path]]) -> str:
    (one, two), (count, first, other) = found
    pair = f"first: {shown(first)} is {shown(other)}"
    if one == two:
        return f"{_count(count, 'picture')} more than once in {one} ({pair})"
    if {one, two} == {"query", "gallery"}:
        return f"{_count(count, 'picture')} of query also in gallery ({pair}): never an answer to itself"
    so = (
        ": training needs --train-on-test" if "train" in (one, two) and "validation" not in (one, two) else ""
    )
    return f"{_count(count, 'picture')} of {one} also in {two} ({pair}){so}"


def _warnings(data: ReidData, splits: tuple[Split, ...]) -> list[str]:
    found = {split.name for split in splits}
    warnings = [
        f"the {name} part is missing: {images:,} images of {persons:,} identities are published"
        for name, (images, persons) in KNOWN.get(data.name, {}).items()
        if name not in found
    ]
    if not all(split.as_published for split in splits):
        warnings.append(
            f"this is not the whole {data.name}: results cannot be compared with published ones "
            f"(a set of your own under names of this kind is fine)"
        )
    if not data.train:
        return [*warnings, "there is nothing to train on"]
    k1 = ClusterConfig().k1
    if len(data.train) <= k1:
        warnings.append(
            f"{_count(len(data.train), 'image')} to train on are too few: cluster.k1 is {k1}, lower it"
        )
    cameras = {crop.camera for crop in data.train if crop.camera >= 0}
    expected = KNOWN_CAMERAS.get(data.name, len(cameras))
    if not cameras:
        warnings.append(
            "no camera is known, so batches cannot prefer other cameras: say where names hold it with "
            "--camera-pattern, or in a column camera"
        )
    elif len(cameras) == 1:
        warnings.append("all training images are of one camera: nothing can be learnt across cameras")
    elif len(cameras) != expected:
        warnings.append(f"{len(cameras)} of {expected} cameras occur in training")
    return warnings


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"
