"""Early warnings: signs, epochs before a run fails, that its clusters are of no use; each with the knob to turn."""

from __future__ import annotations

import math

from reseen.config import Config
from reseen.data import iterations_to_draw
from reseen.records import Labels
from reseen.training.epoch import EpochStats

FEW_CLUSTERS = 8  # contrast needs company; below this the next epoch may find fewer than two
ONE_CAMERA = 0.1  # share of clusters over more than one camera under which labels teach the camera
MUCH_UNDRAWN = 1 / 3  # of the clustered images: a memory then splits into rows that move and rows that do not
COLLAPSED = 0.1  # feature spread; trained networks stay above .9


def warnings(stats: EpochStats, config: Config, epoch: int, labels: Labels) -> list[str]:
    """One line per sign found in the statistics of ``epoch`` (from 1) and its pseudo labels ``[M]``; an empty list
    means none."""
    found = []
    cluster = config.cluster
    crops = config.method != "r-siamnet"  # FINCH has no knobs, and its first epoch leaves everybody alone
    if crops and cluster.enabled and stats.clusters < FEW_CLUSTERS:
        found.append(
            f"only {stats.clusters} clusters of two or more images: lower cluster.k1 (now {cluster.k1}) for a "
            f"small set, or raise cluster.eps (now {cluster.eps}) if most images are alone"
        )
    if crops and cluster.enabled and stats.outliers > 0.8 * stats.images:
        found.append(
            f"{stats.outliers / stats.images:.0%} of the images are alone: raise cluster.eps (now {cluster.eps}), "
            "or start from better weights (--weights)"
        )
    if crops and cluster.features == "memory" and stats.undrawn_share > MUCH_UNDRAWN:
        enough = iterations_to_draw(
            labels,
            share=MUCH_UNDRAWN,
            batch_size=config.train.batch_size,
            instances=config.train.instances,
            singles=cluster.outliers == "keep",
        )
        found.append(
            f"{stats.undrawn_share:.0%} of the images in clusters were in no batch, so their remembered features age: "
            f"set train.iterations={enough} (now {config.train.iterations}), or cluster.features=fresh"
        )
    if crops and not math.isnan(stats.cross_camera_share) and stats.cross_camera_share < ONE_CAMERA:
        found.append(
            f"only {stats.cross_camera_share:.0%} of the clusters span two cameras, so training learns the camera: "
            "set cluster.camera_standardise=true, or start from weights trained on persons (--weights)"
        )
    if crops and epoch > 1 and stats.feature_spread < COLLAPSED:  # random weights start there
        found.append(
            f"features collapse (spread {stats.feature_spread:.2f}): keep loss.stop_gradient=true and "
            "loss.intra=both, or lower train.lr"
        )
    return found
