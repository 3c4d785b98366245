"""``reseen cluster``: images to groups of the same person, no labels needed."""

from __future__ import annotations

import csv
import os
from dataclasses import replace
from pathlib import Path

from reseen.data import clean_transform, open_data, scan_images
from reseen.errors import ReseenError
from reseen.experiments.progress import Progress
from reseen.methods.common import pseudo_labels
from reseen.models import resolve_device, resolve_precision
from reseen.models.embedding import embed
from reseen.records import PseudoLabels, cameras_of
from reseen.training import load_encoder


def cluster(
    run: Path,
    *,
    data: Path,
    camera_pattern: str | None = None,
    out: Path = Path("groups.csv"),
    eps: float | None = None,
) -> PseudoLabels:
    """Embed the training images of ``data`` (all images of a plain folder), group them, write ``out``.

    The CSV has columns path (relative to the data), group (empty: this image is in no group) and camera.
    """
    images = open_data(data, camera_pattern=camera_pattern)
    encoder, checkpoint = load_encoder(run)
    config = checkpoint.config
    device = resolve_device(config.train.device)
    with Progress() as progress:
        crops, _, problems = scan_images(
            images.train, max_bad_share=config.data.max_bad_share, progress=progress.counter("check images")
        )
        for problem in problems:
            progress.say(f"skipped: {problem}")
        features = embed(
            encoder.to(device),
            crops,
            clean_transform(config.data),
            batch_size=128,
            device=device,
            precision=resolve_precision(device, config.train.precision),
            workers=config.data.workers,
            progress=lambda done: progress.step("embed", done, len(crops)),
        )
    # Groups for a person to look at: nothing is kept that stands alone.
    settings = replace(config.cluster, outliers="drop", eps=eps if eps is not None else config.cluster.eps)
    pseudo = pseudo_labels(features, cameras_of(crops), settings)
    _write(
        out,
        [
            (crop.path.relative_to(images.root), label, crop.camera)
            for crop, label in zip(crops, pseudo.labels, strict=True)
        ],
    )
    print(f"{len(crops)} images: {pseudo.num_clusters} groups, {pseudo.num_outliers} images in none -> {out}")
    return pseudo


def _write(out: Path, rows: list[tuple[Path, int, int]]) -> None:
    partial = out.with_name(f".{out.name}.partial")
    try:
        with open(partial, "w", newline="") as handle:
            writer = csv.writer(handle)
            writer.writerow(("path", "group", "camera"))
            for path, label, camera in rows:
                writer.writerow((path.as_posix(), label if label >= 0 else "", camera if camera >= 0 else ""))
        os.replace(partial, out)
    except OSError as error:
        raise ReseenError(f"cannot write {out} ({error.strerror}): choose another --out") from error
