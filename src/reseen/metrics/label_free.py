"""How well an epoch's features and pseudo labels fit each other: criteria for choosing an epoch without labels.

Every criterion takes features ``[M, D]`` (array or tensor, on any device) and pseudo labels ``[M]``, and larger is
better. A negative label, and a label that one image has to itself, say that the image is alone; all other images are
clustered, in K clusters. Identities are never read. Nothing is sampled: equal input gives equal values, and the order
of the images changes the last bits only. No matrix of all pairs exists at any time.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from reseen.device import full_precision
from reseen.errors import ReseenError
from reseen.memory import cluster_means
from reseen.metrics.arrays import to_floats, to_labels
from reseen.metrics.clusters import cross_camera_share
from reseen.records import UNKNOWN_CAMERA, Labels, PseudoLabels

DEFAULT_CRITERION = "stability"  # the one that keeps a network; docs/results.md has the evidence
BLOCK = 4096  # rows against all centroids
TILE = 1024  # rows against as many rows
ROUNDING = 1e-6  # cosines and distances closer than this are equal


def label_free_criteria(
    features: Any, labels: Any, previous: Any = None, cameras: Any = None
) -> dict[str, float]:
    """All criteria of one epoch, by name. Larger is better; nan where one is not defined.

    Up to M^2 D / 2 multiplications for the nearest images, 2 M K D + K^2 D for the clusters: 3 CPU seconds for
    13,000 images in 700 clusters with D = 1,024 (one thread). Memory: two copies of the features, and blocks of 4096 K.

    Args:
        features: what was clustered, ``[M, D]``.
        labels: pseudo labels ``[M]``.
        previous: pseudo labels ``[M]`` of the epoch before; None (or nothing) in the first.
        cameras: ``[M]``, -1 where the camera is not known; None where no camera is.

    Raises:
        ReseenError: features are not finite, or lengths differ.
    """
    rows, together = _read(features, labels)
    seen = None if cameras is None else to_labels(cameras, "cameras", len(rows))
    nearest = _nearest(rows, together, seen)
    return {
        "centroid_margin": centroid_margin(rows, labels),
        "silhouette": silhouette(rows, labels),
        "davies_bouldin": davies_bouldin(rows, labels),
        "clustered_share": clustered_share(labels),
        "stability": stability(labels, previous),
        "neighbour_agreement": _agreement(nearest),
        "cross_camera_share": float("nan") if seen is None else cross_camera_share(labels, seen),
        "cross_camera_margin": _margin(nearest),
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


@torch.no_grad()
def silhouette(features: Any, labels: Any) -> float:
    r"""Mean silhouette of the clustered images under the cosine distance (Rousseeuw 1987). In -1..1.

    .. math:: s_i = \frac{b_i - a_i}{\max(a_i, b_i)}

    a: mean distance of image i to the other images of its cluster; b: mean distance to the images of the nearest
    other cluster; s = 0 where both are 0. Images that are alone take no part, so a few tight clusters score high.
    -1 with fewer than two clusters. The mean cosine distance to a cluster is 1 - x_i . mean(cluster) for unit rows, so
    all pairs cost M K D multiplications.
    """
    rows, together = _read(features, labels)
    if together.num_clusters < 2:
        return -1.0
    unit, names = F.normalize(rows, dim=1), torch.from_numpy(together.labels)
    means = cluster_means(unit, names, together.num_clusters)
    sizes = torch.bincount(names[names >= 0]).to(rows.device)
    clustered = torch.nonzero(names >= 0).squeeze(1).to(rows.device)
    own = names.to(rows.device)[clustered]
    total = 0.0
    with full_precision():
        for part, part_own in zip(torch.split(clustered, BLOCK), torch.split(own, BLOCK), strict=True):
            x, size = unit[part], sizes[part_own]
            similarity = x @ means.T
            inside = similarity.gather(1, part_own[:, None]).squeeze(1)
            others = (size * inside - (x * x).sum(1)) / (size - 1)  # without the image itself
            a = (1 - others).clamp(min=0)
            b = (1 - similarity.scatter(1, part_own[:, None], float("-inf")).amax(1)).clamp(min=0)
            longest = torch.maximum(a, b)
            total += float(torch.where(longest > ROUNDING, (b - a) / longest, 0.0).cpu().double().sum())
    return total / len(clustered)


@torch.no_grad()
def davies_bouldin(features: Any, labels: Any) -> float:
    r"""The Davies-Bouldin index (1979) of the unit rows, negated. At most 0; no lower bound.

    .. math:: -\frac{1}{K} \sum_k \max_{j \ne k} \frac{S_k + S_j}{|u_k - u_j|}

    u: mean of the unit rows of a cluster; S: mean Euclidean distance of its images to u. On the unit sphere Euclidean
    distance is the square root of twice the cosine distance. Two clusters on the same spot are left out as a pair, as
    scikit-learn does. nan with fewer than two clusters, or if all lie on one spot (there scikit-learn gives 0, which
    would make a collapsed network the best). K^2 D multiplications in double precision.
    """
    rows, together = _read(features, labels)
    if together.num_clusters < 2:
        return float("nan")
    unit, names = F.normalize(rows, dim=1), torch.from_numpy(together.labels)
    centres = cluster_means(unit, names, together.num_clusters)
    clustered = torch.nonzero(names >= 0).squeeze(1).to(rows.device)
    own = names.to(rows.device)[clustered]
    pairs = zip(torch.split(clustered, BLOCK), torch.split(own, BLOCK), strict=True)
    lengths = torch.cat([(unit[part] - centres[part_own]).norm(dim=1) for part, part_own in pairs])
    own, centres = own.cpu(), centres.cpu().double()  # few rows, and not every accelerator has float64
    scatter = torch.bincount(own, lengths.cpu().double()) / torch.bincount(own)
    squares = (centres * centres).sum(1)
    worst, apart = [], 0.0
    for part in torch.split(torch.arange(len(centres)), BLOCK // 4):
        distance = (squares[part, None] + squares - 2 * centres[part] @ centres.T).clamp(min=0).sqrt()
        distance.scatter_(1, part[:, None], 0.0)  # a cluster and itself are on the same spot
        apart = max(apart, float(distance.max()))
        ratios = (scatter[part, None] + scatter) / distance
        worst.append(torch.where(distance > ROUNDING, ratios, 0.0).amax(1))
    return 0.0 - float(torch.cat(worst).mean()) if apart > ROUNDING else float("nan")


def clustered_share(labels: Any) -> float:
    """Share of the images that are clustered, in 0..1; nan without images. One cluster of everything scores 1."""
    names = PseudoLabels.of(to_labels(labels, "pseudo labels")).drop_singletons().labels
    return float((names >= 0).mean()) if len(names) else float("nan")


def stability(labels: Any, previous: Any = None) -> float:
    """Adjusted Rand index between the pseudo labels of this epoch and of the one before, in -0.5..1.

    An image that is alone counts as a cluster of one. nan in the first epoch (``previous`` is None or has no entries),
    and where neither epoch has a cluster: two times nothing is no agreement. Sorts M labels. Raises ReseenError when
    the lengths differ.
    """
    now = PseudoLabels.of(to_labels(labels, "pseudo labels")).drop_singletons()
    if previous is None or not len(previous):
        return float("nan")
    before = PseudoLabels.of(to_labels(previous, "previous pseudo labels", len(now.labels))).drop_singletons()
    if not now.num_clusters and not before.num_clusters:
        return float("nan")
    from sklearn.metrics import adjusted_rand_score  # a second to import

    return float(adjusted_rand_score(before.keep_outliers().labels, now.keep_outliers().labels))


def neighbour_agreement(features: Any, labels: Any) -> float:
    """Share of the clustered images whose nearest other image, by cosine, is in the same cluster. In 0..1.

    The nearest of all images, those that are alone too. A tie with an image elsewhere counts as agreement, so the
    order of copies of one image does not matter. nan without clusters; one cluster of everything scores 1. Up to
    M^2 D / 2 multiplications (fewer with images that are alone), in tiles.
    """
    return _agreement(_nearest(*_read(features, labels), None))


def cross_camera_margin(features: Any, labels: Any, cameras: Any = None) -> float:
    """Mean over clustered images of (best cosine to the own cluster - to all other images), other cameras only.

    In -2..2. Of both sides only images that *another* camera took count; images that are alone stand on the other
    side. An image takes part if its cluster has a member from another camera, and if somebody else was seen by
    another camera; images of unknown camera (-1) never do. nan where no image takes part, or ``cameras`` is None. It
    costs what :func:`neighbour_agreement` does.
    """
    rows, together = _read(features, labels)
    seen = None if cameras is None else to_labels(cameras, "cameras", len(rows))
    return _margin(_nearest(rows, together, seen))


class _Nearest(NamedTuple):
    """Best cosine ``[N]`` of each clustered image to another image of its cluster and to all images elsewhere.

    The last two: among images of other cameras only. -inf: there is none.
    """

    own: Tensor
    other: Tensor
    own_across: Tensor
    other_across: Tensor


@torch.no_grad()
def _nearest(rows: Tensor, together: PseudoLabels, cameras: Labels | None) -> _Nearest:
    """Tiles above the diagonal serve both their rows and their columns, so every pair is multiplied once.

    Images are sorted by cluster, those alone come last: few tiles hold a pair of one cluster, and those without any
    clustered image are not computed.
    """
    spread = together.keep_outliers().labels  # an image alone has a name of its own
    order = np.argsort(spread, kind="stable")
    names = spread[order]
    place = torch.from_numpy(order).to(rows.device)
    unit, label = F.normalize(rows, dim=1)[place], torch.from_numpy(names).to(rows.device)
    camera = None if cameras is None else torch.from_numpy(cameras).to(rows.device)[place]
    count, clustered = len(names), int((together.labels >= 0).sum())
    best = _Nearest(*unit.new_full((4, count), float("-inf")))
    with full_precision():
        for start in range(0, clustered, TILE):
            for other in range(start, count, TILE):
                a, b = slice(start, start + TILE), slice(other, other + TILE)
                tile = unit[a] @ unit[b].T
                if start == other:
                    tile.fill_diagonal_(float("-inf"))  # an image and itself
                across = None if camera is None else _across(camera[a], camera[b])
                if names[a][-1] >= names[other]:
                    alike = label[a, None] == label[b]
                    _note(tile, alike, across, best.own, best.own_across, a, b)
                    tile.masked_fill_(alike, float("-inf"))
                _note(tile, None, across, best.other, best.other_across, a, b)
    return _Nearest(*(values[:clustered] for values in best))


def _note(
    tile: Tensor,
    among: Tensor | None,
    across: Tensor | None,
    best: Tensor,
    elsewhere: Tensor,
    a: slice,
    b: slice,
) -> None:
    """Raise the best of rows ``a`` and columns ``b`` of a tile, in place: all of ``among``, then other cameras."""
    if among is not None:
        tile = tile.masked_fill(~among, float("-inf"))
    kept = [(best, tile)]
    if across is not None:
        kept.append((elsewhere, tile.masked_fill(~across, float("-inf"))))
    for highest, values in kept:
        highest[a] = torch.maximum(highest[a], values.amax(1))
        highest[b] = torch.maximum(highest[b], values.amax(0))


def _across(one: Tensor, other: Tensor) -> Tensor:
    """Pairs ``[A, B]`` of two known cameras that differ."""
    known = (one != UNKNOWN_CAMERA)[:, None] & (other != UNKNOWN_CAMERA)
    return known & (one[:, None] != other)


def _agreement(nearest: _Nearest) -> float:
    agree = nearest.own >= nearest.other - ROUNDING
    return float(agree.cpu().double().mean())  # nan without clusters


def _margin(nearest: _Nearest) -> float:
    known = nearest.own_across.isfinite() & nearest.other_across.isfinite()
    return float((nearest.own_across - nearest.other_across)[known].cpu().double().mean())


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
