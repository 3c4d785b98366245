"""Early warnings: signs, epochs before a run fails, that its clusters are of no use; each with the knob to turn.

A sign is a function ``(stats, config, epoch, labels)`` to one line, or None where all is well: the statistics of
``epoch`` (from 1) and its pseudo labels ``[M]``.
"""

from __future__ import annotations

import math

from reseen.config import Config
from reseen.data.samplers import iterations_to_draw
from reseen.records import Labels
from reseen.training.epoch import EpochStats

FEW_CLUSTERS = 8  # contrast needs company; below this the next epoch may find fewer than two
MANY_OUTLIERS = 0.8  # share of the images
ONE_CAMERA = 0.1  # share of clusters over more than one camera under which labels teach the camera
MUCH_UNDRAWN = 1 / 3  # of the clustered images: a memory then splits into rows that move and rows that do not
COLLAPSED = 0.1  # feature spread; trained networks stay above .9


def few_clusters(stats: EpochStats, config: Config, epoch: int, labels: Labels) -> str | None:
    cluster = config.cluster
    if not cluster.enabled or stats.clusters >= FEW_CLUSTERS:
        return None
    return (
        f"only {stats.clusters} clusters of two or more images: lower cluster.k1 (now {cluster.k1}) for a "
        f"small set, or raise cluster.eps (now {cluster.eps}) if most images are outliers"
    )


def many_outliers(stats: EpochStats, config: Config, epoch: int, labels: Labels) -> str | None:
    if not config.cluster.enabled or stats.outliers <= MANY_OUTLIERS * stats.images:
        return None
    return (
        f"{stats.outliers / stats.images:.0%} of the images are outliers: raise cluster.eps "
        f"(now {config.cluster.eps}), or start from better weights (--weights)"
    )


def ageing_memory(stats: EpochStats, config: Config, epoch: int, labels: Labels) -> str | None:
    if config.cluster.features != "memory" or not stats.undrawn_share > MUCH_UNDRAWN:  # nan: no cluster
        return None
    enough = iterations_to_draw(
        labels,
        share=MUCH_UNDRAWN,
        batch_size=config.train.batch_size,
        instances=config.train.instances,
        singles=config.cluster.outliers == "keep",
    )
    return (
        f"{stats.undrawn_share:.0%} of the images in clusters were in no batch, so their remembered features age: "
        f"set train.iterations={enough} (now {config.train.iterations}), or cluster.features=fresh"
    )


def one_camera(stats: EpochStats, config: Config, epoch: int, labels: Labels) -> str | None:
    if math.isnan(stats.cross_camera_share) or stats.cross_camera_share >= ONE_CAMERA:
        return None
    return (
        f"only {stats.cross_camera_share:.0%} of the clusters span two cameras, so training learns the camera: "
        "set cluster.camera_standardise=true, or start from weights trained on persons (--weights)"
    )


def collapse(stats: EpochStats, config: Config, epoch: int, labels: Labels) -> str | None:
    if epoch == 1 or not stats.feature_spread < COLLAPSED:  # random weights start there
        return None
    return (
        f"features collapse (spread {stats.feature_spread:.2f}): keep loss.stop_gradient=true and "
        "loss.intra=both, or lower train.lr"
    )


SIGNS = (few_clusters, many_outliers, ageing_memory, one_camera, collapse)
