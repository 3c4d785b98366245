"""From a path to :class:`SearchData`; several data sets together, or a part of one; what of it can be used."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from reseen.data.boxes import Dropped, cut_to_image
from reseen.data.coco_boxes import is_coco, read_coco
from reseen.data.cuhk_sysu import is_cuhk_sysu, read_cuhk_sysu
from reseen.data.images import measure_images
from reseen.data.paths import shown, the_only_one
from reseen.data.prw import is_prw, read_prw
from reseen.errors import ReseenError
from reseen.records import UNLABELLED, Labels, Scene, SearchData

Reader = Callable[[Path], SearchData]

LAYOUTS: tuple[tuple[Callable[[Path], bool], Reader], ...] = (
    (is_cuhk_sysu, read_cuhk_sysu),
    (is_prw, read_prw),
    (is_coco, read_coco),
)


def open_search_data(path: str | Path) -> SearchData:
    """Read the person search data set at ``path``.

    - A folder in the layout of CUHK-SYSU or PRW (composites are written like this), or with ``train.json`` in the
      manner of COCO (the drawn street); or the folder that holds just one such.
    - A ``.json`` file in the manner of COCO.

    Raises:
        ReseenError: nothing there that can be used, with what to do about it.
    """
    place = Path(os.path.expanduser(path))
    found = search_layout(place)
    if found is None:
        if not os.path.exists(place):
            raise ReseenError(f"there is no {shown(place)}: check the path given as data")
        raise ReseenError(
            f"{shown(place)} holds no scenes with person boxes: give the folder of CUHK-SYSU (annotation, Image), of "
            "PRW (frame_train.mat, frames), one with train.json as COCO writes it, or a .json file"
        )
    folder, read = found
    return read(folder)


def search_layout(place: Path) -> tuple[Path, Reader] | None:
    """What ``place`` holds and who reads it: itself a data set, or the folder of one. None: nothing we know.

    Raises:
        ReseenError: it holds several.
    """
    if os.path.isfile(place):
        return (place, read_coco) if place.suffix.lower() == ".json" else None
    if not os.path.isdir(place):
        return None
    if read := _reader(place):
        return place, read
    return the_only_one(place, "data sets with scenes", _reader)


def join(datasets: Sequence[SearchData]) -> SearchData:
    """Train on several sets together; queries and test scenes are those of the first.

    Training scenes follow each other in the given order, so that the rows of a memory are those of the first set,
    then of the second. Names get the set's name before them, identities are told apart.

    Raises:
        ReseenError: no set, or a scene that occurs in two of them.
    """
    if not datasets:
        raise ReseenError("there is no data set to join: give one at least")
    if len(datasets) == 1:
        return datasets[0]
    paths = Counter(os.path.realpath(scene.path) for data in datasets for scene in data.train)
    twice = next((path for path, count in paths.items() if count > 1), None)
    if twice is not None:
        raise ReseenError(f"{shown(twice)} is in two of the sets to join: give each set once")
    titles = _distinct([data.name for data in datasets])
    labelled = any(data.train_identities is not None for data in datasets)
    return replace(
        datasets[0],
        name="+".join(titles),
        train=tuple(scene for data in datasets for scene in data.train),
        train_names=tuple(
            f"{title}/{name}"
            for title, data in zip(titles, datasets, strict=True)
            for name in data.train_names
        ),
        train_identities=_joined_identities(datasets) if labelled else None,
        skipped=tuple(
            f"{title}: {line}" for title, data in zip(titles, datasets, strict=True) for line in data.skipped
        ),
    )


def fraction(data: SearchData, share: float, *, seed: int) -> SearchData:
    """``data`` with a random ``share`` of its training scenes (one at least), in their order; the test part stays.

    For one seed a smaller share is a part of a larger one.

    Raises:
        ReseenError: the share is not in (0, 1], or there is no training scene.
    """
    if not 0 < share <= 1:
        raise ReseenError(f"a fraction of {share:g} of the scenes: give a share above 0 and up to 1")
    if not data.train:
        raise ReseenError(f"{shown(data.name)} has no training scenes to take a part of")
    order = np.random.default_rng(seed).permutation(len(data.train))
    return _with_train(data, np.sort(order[: max(1, round(share * len(order)))]))


def fit_scenes(data: SearchData, train_sizes: Labels, test_sizes: Labels) -> SearchData:
    """``data`` without scenes of size 0; boxes end at the border of their image, those outside are dropped.

    A query whose scene is gone is gone too. Sizes ``[S, 2]`` are those of :func:`reseen.data.images.measure_images`.
    """
    dropped = Dropped()
    train = _with_train(data, np.flatnonzero(train_sizes[:, 0]))
    scenes, identities = _cut(
        train.train, train.train_names, train.train_identities, train_sizes[train_sizes[:, 0] > 0], dropped
    )
    kept = np.flatnonzero(test_sizes[:, 0]).tolist()
    names = tuple(data.test_names[row] for row in kept)
    labels = None if data.test_identities is None else tuple(data.test_identities[row] for row in kept)
    test, test_identities = _cut(
        tuple(data.test[row] for row in kept), names, labels, test_sizes[kept], dropped
    )
    rows = {old: new for new, old in enumerate(kept)}
    seen = [probe for probe in data.probes if len(cut_to_image(probe.box[None], *test_sizes[probe.scene])[0])]
    probes = tuple(replace(probe, scene=rows[probe.scene]) for probe in seen if probe.scene in rows)
    lost = len(data.probes) - len(probes)
    lost_line = f"{lost:,} queries in images that cannot be read, or outside of their image"
    lines = dropped.lines() + ((lost_line,) if lost else ())
    return replace(
        train,
        train=scenes,
        train_identities=identities,
        test=test,
        test_names=names,
        test_identities=test_identities,
        probes=probes,
        skipped=(*data.skipped, *lines),
    )


def scan_scenes(
    data: SearchData, *, max_bad_share: float, progress: Callable[[int, int], None] | None = None
) -> tuple[SearchData, tuple[str, ...]]:
    """:func:`fit_scenes` after looking at every image once, and one line per image that cannot be used.

    Raises:
        ReseenError: no scenes at all, or more than ``max_bad_share`` of them are bad (1: never).
    """
    both = {scene.path: scene for scene in (*data.train, *data.test)}  # PRW's parts may share frames
    if not both:
        raise ReseenError(f"{shown(data.name)} has no scene: there is nothing to check")
    measured, problems = measure_images(tuple(both.values()), progress=progress)
    if len(problems) > max_bad_share * len(both):
        raise ReseenError(
            f"{len(problems)} of {len(both)} scenes are unusable, more than data.max_bad_share={max_bad_share:g} "
            f"allows: replace or remove them, or raise it; first: {problems[0]}"
        )
    sizes = dict(zip(both, measured, strict=True))
    train, test = (
        np.array([sizes[scene.path] for scene in part], dtype=np.int64).reshape(-1, 2)
        for part in (data.train, data.test)
    )
    return fit_scenes(data, train, test), problems


def _reader(folder: Path) -> Reader | None:
    return next((read for fits, read in LAYOUTS if fits(folder)), None)


def _distinct(names: Sequence[str]) -> list[str]:
    """PRW, street, PRW becomes PRW, street, PRW-2."""
    seen: Counter[str] = Counter()
    result = []
    for name in names:
        seen[name] += 1
        result.append(name if seen[name] == 1 else f"{name}-{seen[name]}")
    return result


def _joined_identities(datasets: Sequence[SearchData]) -> tuple[Labels, ...]:
    """Persons of each set numbered after those of the sets before it."""
    result: list[Labels] = []
    first = 0
    for data in datasets:
        own = data.train_identities or tuple(
            np.full(len(scene.boxes), UNLABELLED, dtype=np.int64) for scene in data.train
        )
        result += [np.where(labels == UNLABELLED, UNLABELLED, labels + first) for labels in own]
        first += 1 + max((int(labels.max(initial=UNLABELLED)) for labels in own), default=UNLABELLED)
    return tuple(result)


def _with_train(data: SearchData, rows: Labels) -> SearchData:
    kept = rows.tolist()
    labels = data.train_identities
    return replace(
        data,
        train=tuple(data.train[row] for row in kept),
        train_names=tuple(data.train_names[row] for row in kept),
        train_identities=None if labels is None else tuple(labels[row] for row in kept),
    )


def _cut(
    scenes: tuple[Scene, ...],
    names: tuple[str, ...],
    identities: tuple[Labels, ...] | None,
    sizes: Labels,
    dropped: Dropped,
) -> tuple[tuple[Scene, ...], tuple[Labels, ...] | None]:
    cut, labels = [], []
    for row, (scene, name, (height, width)) in enumerate(zip(scenes, names, sizes.tolist(), strict=True)):
        boxes, kept = cut_to_image(scene.boxes, height, width)
        dropped.add(name, len(scene.boxes) - len(kept), "outside of their image")
        cut.append(replace(scene, boxes=boxes))
        if identities is not None:
            labels.append(identities[row][kept])
    return tuple(cut), tuple(labels) if identities is not None else None
