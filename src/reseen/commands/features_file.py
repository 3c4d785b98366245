"""``reseen evaluate --features``: another model's features, or those of `reseen embed`, by the same protocol."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reseen.commands.lists import check_lists, write_lists
from reseen.data.paths import relative, shown
from reseen.errors import ReseenError
from reseen.evaluation import evaluate_features, evaluate_reranked, open_test
from reseen.evaluation.lists import crop_lists
from reseen.evaluation.protocol import CROSS_CAMERA
from reseen.footage import Rows, joined
from reseen.footage.shards import read_features
from reseen.metrics import ReidScores
from reseen.metrics.arrays import to_features
from reseen.records import LabelledCrops
from reseen.tasks import Reading
from reseen.tasks.crops import reid_line
from reseen.tasks.opening import open_crops
from reseen.tasks.usable import say_read

PARTS = ("query", "gallery")
MOST_INFLATED = 20  # times the file's size; features are noise, which no compression halves


def evaluate_file(
    file: Path,
    *,
    data: Path,
    camera_pattern: str | None = None,
    identity_pattern: str | None = None,
    test_on: str = "test",
    rerank: bool = False,
    protocol: str | None = None,
    lists: Path | None = None,
    top: int | None = None,
) -> ReidScores:
    """Score the features in ``file`` on the test part of ``data`` and print the scores.

    ``file`` is a ``.npz`` with ``query`` ``[Q, D]`` and ``gallery`` ``[G, D]``, normalised here. With ``query_names``
    and ``gallery_names`` (file names; where several images share one, paths with the folders above it) rows may come in
    any order and for more images than needed. Without them they are taken to be in the order of the sorted names.
    Or it is the folder that ``reseen embed`` made of ``data``.

    ``lists``: also a CSV of what was found for each query, ``top`` images each.

    Returns:
        The scores; with ``rerank`` those after re-ranking, which are printed too.

    Raises:
        ReseenError: no such file, other arrays or lengths, an image without a row, or no test part that can be scored.
    """
    images = open_crops(data, f"--features {file}", Reading(camera_pattern, identity_pattern, test_on))
    check_lists(lists, top)
    say_read(images, images.skipped, print)
    test = open_test(images, protocol or CROSS_CAMERA)
    parts = tuple(zip(PARTS, (test.query, test.gallery), strict=True))
    if file.is_dir():
        rows = joined(list(read_features(file)))
        query, gallery = (_embedded(rows, part, crops, images.root, file) for part, crops in parts)
    else:
        arrays = _read(file)
        query, gallery = (_rows(arrays, part, crops, file) for part, crops in parts)
    own = test.same_pictures
    scores = evaluate_features(query, gallery, test.query, test.gallery, same_pictures=own)
    print(reid_line(f"{images.name}, {file.name}", scores, test))
    if rerank:
        scores = evaluate_reranked(query, gallery, test.query, test.gallery, same_pictures=own)
        print(reid_line(f"{images.name}, {file.name}, re-ranked", scores, test))
    if lists is not None:
        write_lists(lists, crop_lists(query, gallery, test.query, test.gallery, own), [images.root], top)
    return scores


def _embedded(rows: Rows, part: str, crops: LabelledCrops, root: Path, folder: Path) -> NDArray[np.float32]:
    """The rows ``[M, D]`` of the crops, which have one each."""
    place = {name: row for row, name in enumerate(rows.sources)}
    if len(place) < len(rows):
        raise ReseenError(f"--features {folder} is of scenes or videos: only features of crops can be scored")
    names = [relative(crop.path, root).as_posix() for crop in crops.crops]
    lost = [name for name in names if name not in place]
    if lost:
        raise ReseenError(
            f"--features {folder} has no row for {len(lost)} {part} images, the first is {shown(lost[0])}: embed the "
            "folder that is given as --data"
        )
    return rows.features[[place[name] for name in names]]


def _read(file: Path) -> Mapping[str, NDArray[Any]]:
    try:
        with zipfile.ZipFile(file) as parts:
            size, inflated = file.stat().st_size, sum(part.file_size for part in parts.infolist())
        if inflated > MOST_INFLATED * size:
            raise ValueError(f"its {size:,} bytes would take {inflated:,} in memory")
        with np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except Exception as error:  # damaged data: zipfile, zlib and numpy raise almost anything, MemoryError too
        raise ReseenError(
            f"--features {file}: cannot be read ({error}); write it with numpy.savez(file, query=..., gallery=...)"
        ) from error
    missing = [part for part in PARTS if part not in arrays]
    if missing:
        raise ReseenError(
            f"--features {file} has no array {missing[0]!r}: it needs query [Q, D] and gallery [G, D]"
        )
    return arrays


def _rows(arrays: Mapping[str, NDArray[Any]], part: str, crops: LabelledCrops, file: Path) -> NDArray[Any]:
    """Unit rows ``[M, D]`` in the order of the crops."""
    features = to_features(arrays[part], f"{part} of {file}")
    names = arrays.get(f"{part}_names")
    if names is None:
        if len(features) != len(crops):
            raise ReseenError(
                f"--features {file}: {len(features)} rows for {len(crops)} {part} images; give {part}_names too"
            )
    else:
        if len(names) != len(features):
            raise ReseenError(f"--features {file}: {len(names)} {part}_names for {len(features)} rows")
        features = features[_places([str(name) for name in names], crops, part, file)]
    unit: NDArray[Any] = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    return unit


def _places(names: list[str], crops: LabelledCrops, part: str, file: Path) -> list[int]:
    """Row of each crop: by file name, or by as many folders above it as tell the crops apart."""
    wanted = [crop.path.parts for crop in crops.crops]
    for depth in range(1, max(map(len, wanted)) + 1):
        keys = [parts[-depth:] for parts in wanted]
        if len(set(keys)) == len(keys):
            break
    place: dict[tuple[str, ...], int] = {}
    for row, name in enumerate(names):
        if place.setdefault(Path(name).parts[-depth:], row) != row:
            raise ReseenError(
                f"--features {file}: two rows of {part} are called {name}: give longer {part}_names"
            )
    lost = [crop.path.name for key, crop in zip(keys, crops.crops, strict=True) if key not in place]
    if lost:
        raise ReseenError(
            f"--features {file} has no row for {len(lost)} {part} images, the first is {lost[0]}"
        )
    return [place[key] for key in keys]
