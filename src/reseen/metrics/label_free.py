"""How well an epoch's features and pseudo labels fit each other: criteria for choosing an epoch without labels.

Every criterion is larger for what is better. An outlier is an image with a negative label, or with a label that no
other image has; all other images are clustered, in K clusters. Identities are never read. Nothing is sampled: equal
input gives equal values, and the order of the images changes the last bits only.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from reseen.errors import ReseenError
from reseen.memory import cluster_means
from reseen.metrics.arrays import to_floats, to_labels
from reseen.metrics.clusters import adjusted_rand_index
from reseen.records import PseudoLabels

DEFAULT_CRITERION = "stability"  # the one that keeps a network; docs/results.md has the evidence
BLOCK = 4096  # rows against all centroids


def label_free_criteria(features: Any, labels: Any, previous: Any = None) -> dict[str, float]:
    """All criteria of one epoch, by name. Larger is better; nan where one is not defined.

    M K D multiplications: 0.3 CPU seconds for 13,000 images in 700 clusters with D = 1,024 (one thread).

    Args:
        features: what was clustered, ``[M, D]``, array or tensor on any device.
        labels: pseudo labels ``[M]``.
        previous: pseudo labels ``[M]`` of the epoch before; None (or nothing) in the first.

    Raises:
        ReseenError: features are not finite, or lengths differ.
    """
    return {
        "centroid_margin": centroid_margin(features, labels),
        "clustered_share": clustered_share(labels),
        "stability": stability(labels, previous),
    }


@torch.no_grad()
def centroid_margin(features: Any, labels: Any) -> float:
    r"""How far clusters stand apart, times the share of clustered images: a simplified silhouette. In -1..1.

    .. math:: \frac{1}{M} \sum_{i\ \mathrm{clustered}} \Big( x_i \cdot \hat u_{c(i)} - \max_{j \ne c(i)} x_i \cdot
              \hat u_j \Big)

    with x the rows of ``features`` as they are (unit length is expected), u the means of the clusters, scaled to unit
    length. -1 with fewer than two clusters, nan where no image has a label at all. M K D multiplications.
    """
    rows, together = _read(features, labels)
    if not (to_labels(labels, "pseudo labels") >= 0).any():
        return float("nan")
    if together.num_clusters < 2:
        return -1.0
    names = torch.from_numpy(together.labels)
    centroids = F.normalize(cluster_means(rows, names, together.num_clusters), dim=1)
    clustered = torch.nonzero(names >= 0).squeeze(1).to(rows.device)
    own = names.to(rows.device)[clustered]
    margins = []
    for part, part_own in zip(torch.split(clustered, BLOCK), torch.split(own, BLOCK), strict=True):
        similarity = rows[part] @ centroids.T
        inside = similarity.gather(1, part_own[:, None]).squeeze(1)
        nearest = similarity.scatter(1, part_own[:, None], float("-inf")).amax(1)
        margins.append(inside - nearest)
    return float(torch.cat(margins).mean()) * len(clustered) / len(names)


def clustered_share(labels: Any) -> float:
    """Share of the images that are clustered, in 0..1; nan without images. One cluster of everything scores 1."""
    names = PseudoLabels.of(to_labels(labels, "pseudo labels")).drop_singletons().labels
    return float((names >= 0).mean()) if len(names) else float("nan")


def stability(labels: Any, previous: Any = None) -> float:
    """Adjusted Rand index between the pseudo labels of this epoch and of the one before, in -0.5..1.

    An outlier counts as a cluster of one. nan in the first epoch (``previous`` is None or has no entries),
    and where neither epoch has a cluster: two times nothing is no agreement. Sorts M labels. Raises ReseenError when
    the lengths differ.
    """
    now = PseudoLabels.of(to_labels(labels, "pseudo labels")).drop_singletons()
    if previous is None or not len(previous):
        return float("nan")
    before = PseudoLabels.of(to_labels(previous, "previous pseudo labels", len(now.labels))).drop_singletons()
    if not now.num_clusters and not before.num_clusters:
        return float("nan")
    return adjusted_rand_index(before.keep_outliers().labels, now.keep_outliers().labels)


def _read(features: Any, labels: Any) -> tuple[Tensor, PseudoLabels]:
    """Features as a tensor, in float32 at least, where they are; labels 0..K-1 of the clusters of two and more."""
    rows = (
        features.detach()
        if isinstance(features, Tensor)
        else torch.from_numpy(to_floats(features, "features"))
    )
    rows = rows if rows.dtype == torch.float64 else rows.float()
    if rows.ndim != 2:
        raise ReseenError(f"features must have 2 dimension(s), not the shape {tuple(rows.shape)}")
    if not rows.isfinite().all():
        raise ReseenError("features hold NaN or infinity: the model that made them has diverged")
    return rows, PseudoLabels.of(to_labels(labels, "pseudo labels", len(rows))).drop_singletons()
