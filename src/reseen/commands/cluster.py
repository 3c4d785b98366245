"""``reseen cluster``: images to groups of the same person, no labels needed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from reseen.config import ClusterConfig
from reseen.data.paths import relative
from reseen.errors import ReseenError
from reseen.evaluation import embed_crops
from reseen.evaluation.encoders import sees_grey
from reseen.files import write_csv
from reseen.inference import Embedder, load_encoder
from reseen.methods.labelling import pseudo_labels
from reseen.metrics.calibration import group_probabilities
from reseen.progress import Progress
from reseen.records import PseudoLabels, cameras_of
from reseen.tasks import Reading, read_calibration
from reseen.tasks.opening import open_crops
from reseen.tasks.usable import usable


def cluster(
    run: Path,
    *,
    data: Path,
    camera_pattern: str | None = None,
    identity_pattern: str | None = None,
    out: Path = Path("groups.csv"),
    eps: float | None = None,
) -> PseudoLabels:
    """Embed the training images of ``data`` (all images of a plain folder), group them, write ``out``.

    The CSV has columns path (relative to the data where it lies in it), group (empty: in none), camera and probability:
    that an image shows the same person as another one of its group, where the run knows (docs/how-sure.md).

    Raises:
        ReseenError: no run, no data, no more images than ``cluster.k1``, or ``out`` cannot be written.
    """
    if out.is_dir() or not out.parent.is_dir():  # said before the images are embedded, not after
        raise ReseenError(f"cannot write {out}: name a file in a folder that exists with --out")
    encoder, checkpoint = load_encoder(run)
    settings = _settings(checkpoint.config.cluster, eps)
    images = open_crops(data, str(run), Reading(camera_pattern, identity_pattern))
    config = checkpoint.config
    with Progress() as progress:
        crops = usable(images, config.data.max_bad_share, progress).train
        if len(crops) <= config.cluster.k1:  # everybody would be everybody's neighbour
            raise ReseenError(
                f"{images.root} holds {len(crops)} usable training images: grouping compares each with "
                f"{config.cluster.k1} neighbours (the run's cluster.k1), so give more"
            )
        grey = sees_grey(config, checkpoint.state["deployed"])
        features = embed_crops(
            encoder,
            crops,
            config,
            grey=grey,
            progress=lambda done: progress.step("embed", done, len(crops)),
        )
    pseudo = pseudo_labels(features, cameras_of(crops), settings)
    calibration = read_calibration(run, Embedder(encoder, config, grey=grey))
    if calibration is None:
        sure = np.full(len(crops), np.nan)
    else:
        sure = group_probabilities(calibration, features, pseudo.labels, cameras_of(crops))
    rows = (
        (
            relative(crop.path, images.root),
            label if label >= 0 else "",
            crop.camera if crop.camera >= 0 else "",
            "" if np.isnan(probability) else f"{probability:.2f}",
        )
        for crop, label, probability in zip(crops, pseudo.labels.tolist(), sure, strict=True)
    )
    write_csv(out, ("path", "group", "camera", "probability"), rows, "choose another --out")
    print(f"{len(crops)} images: {pseudo.num_clusters} groups, {pseudo.num_outliers} images in none -> {out}")
    return pseudo


def _settings(config: ClusterConfig, eps: float | None) -> ClusterConfig:
    """Groups for a person to look at, of features just embedded: nothing is kept that stands alone.

    Where ``eps`` is no wider than the gap to the tighter radius of Eq. (1), the gap shrinks in proportion.
    """
    radius = config.eps if eps is None else eps
    if not 0 < radius < 1:
        raise ReseenError(
            f"--eps {radius:g}: give a Jaccard distance between 0 and 1 (the run's is {config.eps:g})"
        )
    gap = config.tight_gap if config.tight_gap < radius else config.tight_gap / config.eps * radius
    return replace(config, features="fresh", outliers="drop", eps=radius, tight_gap=gap)
