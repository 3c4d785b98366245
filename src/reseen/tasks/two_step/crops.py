"""What a two-step run cuts out of the training scenes: by the detector's boxes, never by annotated ones."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from reseen.data.images import read_image
from reseen.errors import ReseenError
from reseen.evaluation.two_steps import MIN_SCORE, Found, cut_out
from reseen.files import from_json, to_json, write_file
from reseen.metrics import detection_scores
from reseen.records import UNKNOWN_CAMERA, SceneDetections, SearchData

MANIFEST, SUMMARY = "crops.csv", "summary.json"  # written last: where they are, the crops are complete
COLUMNS = ("path", "camera", "scene", "x1", "y1", "x2", "y2", "score")


def write_crops(folder: Path, scenes: SearchData, found: Sequence[Found]) -> dict[str, Any]:
    """Cut the persons that were ``found`` out of the training scenes of ``scenes``, as PNG files of their own size.

    The manifest is one for :func:`reseen.data.open_data`; whom a crop shows is not in it. What is returned is also
    written: scenes, persons ``found`` and ``annotated``, and ``recall`` of the annotated boxes.

    Raises:
        ReseenError: nobody was found, or a crop cannot be written.
    """
    for left in folder.glob("*.png"):  # by a command that was killed, which may have found others
        left.unlink()
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for row, (scene, one) in enumerate(zip(scenes.train, found, strict=True)):
        crops = cut_out(read_image(scene.path), one.boxes) if len(one.boxes) else []
        camera = "" if scene.camera == UNKNOWN_CAMERA else scene.camera
        for place, (crop, box, score) in enumerate(zip(crops, one.boxes, one.scores, strict=True)):
            name = f"{row:06d}_{place:03d}.png"
            _save(crop, folder / name)
            corners = [f"{value:.2f}" for value in box.tolist()]
            writer.writerow((name, camera, scenes.train_names[row], *corners, f"{score:.4f}"))
    summary = _summary(scenes, found)
    if not summary["found"]:
        raise ReseenError(
            f"the detector found nobody in {len(found)} training scenes (no score reached {MIN_SCORE}): train it "
            "longer, --set detector.train.epochs=..., in a new --run"
        )
    write_file(folder / SUMMARY, to_json(summary) + "\n")
    write_file(folder / MANIFEST, text.getvalue().encode("utf-8", "surrogateescape"))
    return summary


def complete(folder: Path) -> bool:
    """Whether ``folder`` holds all that :func:`write_crops` writes, and every crop that is named there."""
    try:
        with open(folder / MANIFEST, encoding="utf-8", errors="surrogateescape", newline="") as file:
            names = [row["path"] for row in csv.DictReader(file)]
    except (OSError, KeyError, csv.Error):
        return False
    return (folder / SUMMARY).exists() and all((folder / name).is_file() for name in names)


def read_summary(folder: Path) -> dict[str, Any]:
    """What :func:`write_crops` returned. Raises ReseenError where the file is missing or damaged."""
    path = folder / SUMMARY
    try:
        return dict(from_json(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise ReseenError(f"{path} cannot be read: start a new --run") from error


def in_words(summary: dict[str, Any]) -> str:
    """One line about the crops."""
    recall = "" if summary["recall"] is None else f", {summary['recall']:.1%} of whom were found"
    return (
        f"{summary['found']:,} crops of detected persons (scores of {MIN_SCORE} or more) from {summary['scenes']:,} "
        f"training scenes; {summary['annotated']:,} persons are annotated there{recall}"
    )


def _save(crop: Tensor, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(crop.permute(1, 2, 0).numpy()).save(path, "PNG")
    except OSError as error:
        raise ReseenError(
            f"cannot write {path} ({error.strerror or error}): free space or choose another --run"
        ) from error


def _summary(scenes: SearchData, found: Sequence[Found]) -> dict[str, Any]:
    detections = {
        name: SceneDetections(one.boxes, one.scores, np.zeros((len(one.boxes), 1), np.float32))
        for name, one in zip(scenes.train_names, found, strict=True)
    }
    truth = {name: scene.boxes for name, scene in zip(scenes.train_names, scenes.train, strict=True)}
    scores = detection_scores(detections, truth)
    return {
        "scenes": len(found),
        "found": sum(len(one.boxes) for one in found),
        "annotated": scenes.train_boxes,
        "recall": scores.recall if scenes.train_boxes else None,
    }
