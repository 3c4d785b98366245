"""Whom to search for, and where: the gallery of each query, read when it is asked for.

CUHK-SYSU lists up to 4,000 images for each of 2,900 queries. Here a gallery is a row of small numbers and looks like
a dictionary from image names to boxes; nothing is read before a size is asked for, and nothing is kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, ItemsView, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reseen.data.paths import shown
from reseen.errors import ReseenError
from reseen.records import UNKNOWN_CAMERA, UNLABELLED, Labels, Probe, RawGallery, Scene, SearchData

DEFAULT_SIZE = 100  # images in CUHK-SYSU's usual gallery


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class Targets(Mapping[str, Any]):
    """Gallery image -> the target's box float32 ``[4]`` (xyxy, pixels), or None where the target is absent.

    In the order of the test scenes, whatever the file's order is: it lists the right images first, which would
    favour them where similarities tie. ``names`` are those of all test scenes and ``numbers`` the row of each name;
    ``rows`` are those of the gallery, ascending, and ``boxes`` the target's box by row, where it is shown.
    """

    names: tuple[str, ...]
    numbers: Mapping[str, int]
    rows: NDArray[np.int32]
    boxes: Mapping[int, NDArray[np.float32]]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[str]:
        return (self.names[row] for row in self.rows.tolist())

    def __getitem__(self, name: str) -> NDArray[np.float32] | None:
        row = self.numbers[name]
        place = int(np.searchsorted(self.rows, row))
        if place == len(self.rows) or self.rows[place] != row:
            raise KeyError(name)
        return self.boxes.get(row)

    def without(self, scenes: Container[int]) -> Targets:
        """The same gallery without some rows of the test scenes."""
        rows = [row for row in self.rows.tolist() if row not in scenes]
        boxes = {row: box for row, box in self.boxes.items() if row not in scenes}
        return Targets(self.names, self.numbers, np.array(rows, dtype=np.int32), boxes)

    def items(self) -> ItemsView[str, Any]:
        return _Items(self)

    @property
    def found(self) -> int:
        """Number of images that show the target."""
        return len(self.boxes)


class _Items(ItemsView[str, Any]):
    """Pairs without a search for each of them."""

    _mapping: Targets

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        names, boxes = self._mapping.names, self._mapping.boxes
        return ((names[row], boxes.get(row)) for row in self._mapping.rows.tolist())


class NobodyToFindError(ReseenError):
    """Queries, but nowhere an answer: such a data set can be trained on and not scored."""


@dataclass(frozen=True)
class Galleries:
    """``targets[i]`` is the gallery of probe ``probes[i]`` (int64 ``[Q]``, rows of ``SearchData.probes``)."""

    probes: Labels
    targets: tuple[Targets, ...]
    skipped: tuple[str, ...]


def open_galleries(data: SearchData, size: int | None = None, *, cross_camera: bool = False) -> Galleries:
    """The gallery of each probe by the data set's own protocol.

    CUHK-SYSU: the images that ``TestG{size}.mat`` lists. Everything else: all test scenes but the query's own.

    Args:
        size: one of ``data.gallery_sizes``; None is 100 if that is there, else the largest.
        cross_camera: leave out the scenes of the query's own camera (not what the benchmarks report).

    Returns:
        Probes whose gallery shows the target nowhere are left out, and so are images that are not among the
        test scenes, and targets that no detection could hit or any could; ``skipped`` says how many.

    Raises:
        NobodyToFindError: no gallery shows its target.
        ReseenError: no queries, a size that is not there, cameras that nobody knows, or a damaged file.
    """
    if data.read_gallery is None or not data.probes:
        raise ReseenError(f"{shown(data.name)} has no queries, so there is nothing to search for")
    size = _size(data, size)
    cameras = np.array([scene.camera for scene in data.test], dtype=np.int64)
    if cross_camera and (cameras == UNKNOWN_CAMERA).any():
        raise ReseenError(
            f"{shown(data.name)} does not say which camera took each scene: leave cross_camera out"
        )
    numbers = {name: row for row, name in enumerate(data.test_names)}
    whole = np.arange(len(data.test), dtype=np.int32)
    probes = {probe.row: number for number, probe in enumerate(data.probes)}
    found: dict[int, Targets] = {}
    missing: Counter[str] = Counter()
    missing_targets = 0
    wrong: list[tuple[str, NDArray[np.float32]]] = []
    for row, (names, boxes) in enumerate(data.read_gallery(size or 0)):
        if row not in probes:
            continue
        probe = data.probes[probes[row]]
        if names is None:
            rows = np.delete(whole, probe.scene)
        else:
            unknown = set(names) - numbers.keys()
            missing.update(name for name in dict.fromkeys(names) if name in unknown)
            missing_targets += len(unknown & boxes.keys())
            rows = np.array(sorted(numbers[name] for name in set(names) - unknown), dtype=np.int32)
        if cross_camera:
            rows = rows[cameras[rows] != cameras[probe.scene]]
        inside = set(rows.tolist())
        right = {numbers[name]: box for name, box in boxes.items() if numbers.get(name, -1) in inside}
        for scene in [scene for scene, box in right.items() if not _shows_somebody(box, data.test[scene])]:
            wrong.append((data.test_names[scene], right.pop(scene)))
        found[probes[row]] = Targets(data.test_names, numbers, rows, right)
    if len(found) < len(probes):
        raise ReseenError(
            f"{shown(data.name)} lists {len(found)} galleries of size {size} for {len(probes)} queries: "
            "get the data set's own files again"
        )
    kept = [number for number in sorted(found) if found[number].found]
    skipped = _left_out(missing, missing_targets, wrong)
    if len(kept) < len(probes):
        skipped.append(f"{len(probes) - len(kept):,} queries whose gallery shows the person nowhere")
    if not kept:
        raise NobodyToFindError(f"no gallery of {shown(data.name)} shows the person to find: {skipped[-1]}")
    return Galleries(np.array(kept, dtype=np.int64), tuple(found[number] for number in kept), tuple(skipped))


def _left_out(missing: Counter[str], targets: int, wrong: list[tuple[str, NDArray[np.float32]]]) -> list[str]:
    """Lines about gallery images that are no test scenes (``targets`` of them show who is wanted), and wrong boxes."""
    lines = []
    if missing:
        lines.append(
            f"{missing.total():,} gallery places ({targets:,} of them with the target) name "
            f"{len(missing):,} images that are not among the test scenes (first: {shown(next(iter(missing)))})"
        )
    if wrong:
        name, box = wrong[0]
        lines.append(
            f"{len(wrong):,} boxes of targets have no area or lie on no annotated person (first: {box.tolist()} in "
            f"{shown(name)}): counted as absent"
        )
    return lines


def _shows_somebody(box: NDArray[np.float32], scene: Scene) -> bool:
    """Whether a target's box ``[4]`` overlaps a person of its scene; not so where it is inverted, empty or NaN."""
    low, high = np.maximum(box[:2], scene.boxes[:, :2]), np.minimum(box[2:], scene.boxes[:, 2:])
    return bool((box[2:] > box[:2]).all() and (high > low).all(axis=1).any())


def probes_by_camera(scenes: tuple[Scene, ...], identities: tuple[Labels, ...]) -> tuple[Probe, ...]:
    """One probe for each person and camera, as PRW does: the first box, of persons seen in two scenes or more."""
    seen: dict[int, set[int]] = {}
    first: dict[tuple[int, int], tuple[int, int]] = {}
    for number, (scene, labels) in enumerate(zip(scenes, identities, strict=True)):
        for place, person in enumerate(labels.tolist()):
            if person != UNLABELLED:
                seen.setdefault(person, set()).add(number)
                first.setdefault((person, scene.camera), (number, place))
    chosen = [(person, *first[person, camera]) for person, camera in sorted(first) if len(seen[person]) > 1]
    return tuple(
        Probe(number, scenes[number].boxes[place], row, person)
        for row, (person, number, place) in enumerate(chosen)
    )


def galleries_by_identity(
    scenes: tuple[Scene, ...],
    names: tuple[str, ...],
    identities: tuple[Labels, ...],
    probes: tuple[Probe, ...],
) -> Callable[[int], Iterable[RawGallery]] | None:
    """What finds the targets where every test scene names its persons: their first box in each other scene.

    None where nobody is searched for.
    """
    if not probes:
        return None
    boxes: dict[int, dict[str, NDArray[np.float32]]] = {probe.identity: {} for probe in probes}
    for scene, name, labels in zip(scenes, names, identities, strict=True):
        for box, person in zip(scene.boxes, labels.tolist(), strict=True):
            if person in boxes:
                boxes[person].setdefault(name, box)
    return lambda _size: ((None, boxes[probe.identity]) for probe in probes)


def _size(data: SearchData, size: int | None) -> int | None:
    sizes = data.gallery_sizes
    if size is None:
        return None if not sizes else DEFAULT_SIZE if DEFAULT_SIZE in sizes else max(sizes)
    if size not in sizes:
        there = (
            f"is none of {', '.join(map(str, sizes))}" if sizes else "cannot be chosen: it has one gallery"
        )
        raise ReseenError(f"the gallery size {size} of {shown(data.name)} {there}")
    return size
