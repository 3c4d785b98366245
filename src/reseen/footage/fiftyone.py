"""Rows of images as a data set that FiftyOne opens: samples, detections, embeddings.

Two JSON files of the layout that FiftyOne has read since before 0.8 (``fiftyone.types.FiftyOneDataset``, one
whose ``metadata.json`` names no version). It needs neither FiftyOne nor its database here.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from reseen.data.images import measure_images
from reseen.errors import ReseenError
from reseen.files import new_folder, to_json, write_file
from reseen.footage.rows import STILL, Rows
from reseen.pixels import shown
from reseen.records import UNKNOWN_CAMERA, Crop

REMEDY = "free space, or name another --out"
NAMED = 5  # images that are left out and named


def write_fiftyone(rows: Rows, root: Path, out: Path, info: Mapping[str, Any]) -> list[str]:
    """Write the folder ``out``; returns what is to be said.

    A sample is an image, with its absolute path, camera and time. Where each image is one person, it has the feature
    (``embedding``, D numbers); else its persons are detections (``persons``), and each of them has one.

    Args:
        root: the folder that the sources of the rows are relative to.
        info: of the data set, for people.

    Raises:
        ReseenError: no row is of an image that is there, ``out`` exists, or the disk is full.
    """
    by_image: dict[str, list[int]] = {}
    for row in np.flatnonzero(rows.frames == STILL).tolist():
        by_image.setdefault(rows.sources[row], []).append(row)
    names = [name for name in by_image if _is_text(name)]
    sizes, problems = measure_images([Crop(root / name, UNKNOWN_CAMERA) for name in names])
    there = [(name, size) for name, size in zip(names, sizes.tolist(), strict=True) if all(size)]
    if not there:
        raise ReseenError(
            f"none of the images is below {shown(root)}: give the folder that was embedded as --images; videos are "
            "left out"
        )
    whole = all(np.array_equal(rows.boxes[by_image[name]], [[0, 0, w, h]]) for name, (h, w) in there)
    samples = [_sample(rows, root / name, by_image[name], size, whole=whole) for name, size in there]
    with new_folder(out, REMEDY) as folder:
        write_file(folder / "metadata.json", to_json({"media_type": "image", "info": info}, indent=1), REMEDY)
        write_file(folder / "samples.json", to_json({"samples": samples}), REMEDY)
    persons = sum(len(by_image[name]) for name, _ in there)
    odd = len(by_image) - len(names)
    return [
        f"{shown(out)}: {len(samples)} samples, {persons} persons with {rows.features.shape[1]} numbers each; open it:",
        f"  fiftyone.Dataset.from_dir({str(out)!r}, fiftyone.types.FiftyOneDataset)",
        *_left(len(rows) - persons, [*problems, *["a name that is not UTF-8"] * odd]),
    ]


def _sample(rows: Rows, path: Path, own: list[int], size: Iterable[int], *, whole: bool) -> dict[str, Any]:
    height, width = size
    sample: dict[str, Any] = {"filepath": os.path.abspath(path), "tags": []}
    if rows.cameras[own[0]] != UNKNOWN_CAMERA:
        sample["camera"] = int(rows.cameras[own[0]])
    if not np.isnan(rows.times[own[0]]):
        sample["time"] = datetime.fromtimestamp(float(rows.times[own[0]]), UTC).isoformat()
    if whole:
        return sample | {"embedding": rows.features[own[0]].tolist()}
    persons = []
    for row in own:
        x1, y1, x2, y2 = rows.boxes[row].tolist()
        persons.append(
            {
                "_cls": "Detection",
                "label": "person",
                "bounding_box": [x1 / width, y1 / height, (x2 - x1) / width, (y2 - y1) / height],
                "confidence": float(rows.scores[row]),
                "embedding": rows.features[row].tolist(),
            }
        )
    return sample | {"persons": {"_cls": "Detections", "detections": persons}}


def _left(count: int, why: list[str]) -> list[str]:
    if not count:
        return []
    more = f", and {len(why) - NAMED} more" if len(why) > NAMED else ""
    named = "".join(f"; {line}" for line in why[:NAMED])
    return [f"left out: {count} persons, in videos and in images that cannot be shown{named}{more}"]


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
