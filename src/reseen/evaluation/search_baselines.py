"""Person search when somebody else has found everybody: features of the true boxes instead of detections.

A row on true boxes has no missed person, no box that fits badly and no false alarm. For features that nobody trained
that is a present; for the features of a trained network it says what its detector costs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from reseen.data.images import read_image
from reseen.errors import ReseenError
from reseen.evaluation.search import FoundScenes, search_record
from reseen.pixels import whole_pixels
from reseen.records import Crop, Probe, SceneDetections, SearchData

Features = NDArray[np.float32]


def true_boxes(data: SearchData) -> tuple[Probe, ...]:
    """Every annotated box of the test scenes, scene after scene, in the form of a person to search for."""
    places = [(scene, box) for scene, one in enumerate(data.test) for box in one.boxes]
    return tuple(Probe(scene, box, row) for row, (scene, box) in enumerate(places))


def true_crops(data: SearchData, folder: Path) -> tuple[Crop, ...]:
    """Cut the boxes of :func:`true_boxes` out of their scenes, as PNG files of their own size below ``folder``.

    Whole pixels that the box touches, and nothing around it.

    Raises:
        ReseenError: a scene cannot be read, or a crop not be written.
    """
    crops = []
    for number, (scene, name) in enumerate(zip(data.test, data.test_names, strict=True)):
        pixels = read_image(scene.path).permute(1, 2, 0).numpy()
        for place, touched in enumerate(whole_pixels(scene.boxes, *pixels.shape[:2])):
            path = folder / f"{number:05d}_{place:03d}_{Path(name).stem}.png"
            _save(pixels[touched], path)
            crops.append(Crop(path, scene.camera))
    return tuple(crops)


def given_record(data: SearchData, features: Features) -> dict[str, Any]:
    """Scores of a search among the true boxes, each a detection of score 1, with features ``[N, D]`` of them.

    The rows are those of :func:`true_boxes`; a query has the feature of its own box. There is no detection score.

    Raises:
        ReseenError: as many features as boxes are needed, and every query must be one of the boxes.
    """
    counts = [len(scene.boxes) for scene in data.test]
    if len(features) != sum(counts):
        raise ReseenError(
            f"{len(features)} features for {sum(counts)} true boxes: embed true_boxes(data) in their order"
        )
    parts = np.split(features, np.cumsum(counts)[:-1])
    detections = {
        name: SceneDetections(scene.boxes, np.ones(len(scene.boxes), np.float32), part)
        for name, scene, part in zip(data.test_names, data.test, parts, strict=True)
    }
    wanted = np.stack([parts[probe.scene][_place(data, probe)] for probe in data.probes])
    record = search_record(FoundScenes(detections, torch.from_numpy(wanted)), data)
    return {key: value for key, value in record.items() if not key.startswith("detection_")}


def _place(data: SearchData, probe: Probe) -> int:
    """The row of the query's box among the boxes of its scene."""
    same = np.flatnonzero((data.test[probe.scene].boxes == probe.box).all(axis=1))
    if not len(same):
        raise ReseenError(
            f"{data.test_names[probe.scene]}: the query's box {probe.box.tolist()} is not among the annotated ones: "
            "true boxes can only be compared where it is"
        )
    return int(same[0])


def _save(pixels: NDArray[Any], path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.ascontiguousarray(pixels)).save(path, "PNG", compress_level=1)
    except OSError as error:
        raise ReseenError(
            f"cannot write {path} ({error.strerror or error}): free space or choose another --run"
        ) from error
