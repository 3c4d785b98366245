"""Which images leave a cluster: the refinement of CACL, Eq. (1), and the rule of its released code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from reseen.clustering.dbscan import as_square
from reseen.compiled import compiled
from reseen.errors import ReseenError
from reseen.records import OUTLIER, Labels

EQUAL = 1e-6  # scores this near to 1 count as 1: distances are float32


def refine(
    labels: Any,
    tight_labels: Any,
    distances: Any,
    *,
    removed_to: Literal["subcluster", "singletons"] = "subcluster",
) -> Labels:
    r"""Remove from each cluster the parts that lie far from the rest of it (CACL, Section 3.1).

    A smaller eps splits a cluster C of n images into parts S of s images. A part leaves if

    .. math::
        \rho(S \mid C) = \frac{D_{sub}(S)}{D_{large}(C)} \ge 1  \qquad (1)

    where :math:`D_{sub}` is the mean distance from the images of S to those of C outside S, and
    :math:`D_{large}` the mean distance of two different images of C. The two parts of a cluster have the
    same :math:`D_{sub}`, so a cluster that splits in two falls apart if the split is real; of three or more
    parts, a central one can stay.

    Args:
        labels: int ``[M]``, -1 for outliers, which stay -1.
        tight_labels: int ``[M]``, from the smaller eps. Each -1 is a part of one image. A part that reaches
            into several clusters counts as one part in each.
        distances: ``[M, M]``, sparse or dense, exact within clusters
            (:meth:`~reseen.clustering.JaccardGraph.within`); an absent entry is 1. Only pairs of one
            cluster are read.
        removed_to: what a removed part becomes: one cluster of its own, or one for every image (the release).

    Returns:
        int64 ``[M]``. Who stays keeps the label; new labels start after the largest old one, in the order
        of the first image of each part. A cluster all of whose parts left leaves a gap
        (:meth:`reseen.records.PseudoLabels.of` closes it).

    Raises:
        ReseenError: lengths that do not fit; an unknown ``removed_to``.
    """
    if removed_to not in ("subcluster", "singletons"):
        raise ReseenError(f"cluster.removed_to is subcluster or singletons, not {removed_to!r}")
    parts = _measure(labels, tight_labels, distances)
    outside, size, whole = parts.to_rest, parts.sizes, parts.cluster_sizes
    split = (size < whole) & (parts.inside_cluster > 0)
    sub = np.divide(outside, size * (whole - size), where=split, out=np.zeros(len(size)))
    large = np.divide(parts.inside_cluster, whole * (whole - 1), where=split, out=np.ones(len(size)))
    leaves = split & (sub >= large * (1 - EQUAL))
    return _relabel(parts, leaves, singletons=removed_to == "singletons")


def refine_official(labels: Any, tight_labels: Any, distances: Any) -> Labels:
    r"""The rule of the released code, which is not Eq. (1).

    A part S (s images) of a cluster C (n images) leaves if

    .. math::
        \frac{\sum_{i \in S, j \in C \setminus S} d_{ij}}{(n - s)^2} > \frac{\sum_{i, j \in C} d_{ij}}{n^2}

    which is s / (n - s) times the mean distance to the rest, against (n - 1) / n times the mean within C:
    small parts always stay and a part of more than about half the cluster leaves. Every image that leaves
    is a cluster of its own. Parts are taken strictly inside each cluster (the release mixes in pairs of
    other clusters).

    Args, returns, raises: see :func:`refine`.
    """
    parts = _measure(labels, tight_labels, distances)
    rest = np.maximum(parts.cluster_sizes - parts.sizes, 1)
    sub = parts.to_rest / rest**2
    large = parts.inside_cluster / parts.cluster_sizes**2
    leaves = (parts.sizes < parts.cluster_sizes) & (sub > large * (1 + EQUAL))
    return _relabel(parts, leaves, singletons=True)


def refined_parts(labels: Any, tight_labels: Any, refined: Any) -> tuple[int, int]:
    """How selective a refinement was: the number of parts that left their cluster, and that stayed.

    Parts are those of :func:`refine`: what the smaller eps makes of a cluster that it splits, each of its outliers a
    part of one image.

    Args:
        labels, tight_labels: int ``[M]``, as given to :func:`refine`; refined: int ``[M]``, what it returned.
    """
    before, tight = np.asarray(labels, dtype=np.int64), np.asarray(tight_labels, dtype=np.int64)
    rows = np.flatnonzero(before >= 0)
    alone = tight.max(initial=-1) + 1 + rows
    pairs = np.stack([before[rows], np.where(tight[rows] < 0, alone, tight[rows])], axis=1)
    parts, part_of = np.unique(pairs, axis=0, return_inverse=True)
    split = np.bincount(parts[:, 0], minlength=1)[parts[:, 0]] > 1 if len(parts) else np.empty(0, dtype=bool)
    moved = np.zeros(len(parts), dtype=bool)
    moved[part_of.reshape(-1)[np.asarray(refined)[rows] != before[rows]]] = True
    return int((split & moved).sum()), int((split & ~moved).sum())


@dataclass(frozen=True)
class _Parts:
    """The P parts of all clusters, in the order of their first image, and sums over ordered pairs of
    images."""

    labels: Labels  # [M] as given
    part_of: Labels  # [M] part of each image, -1 for outliers
    sizes: Labels  # [P] images in the part
    cluster_sizes: Labels  # [P] images in the part's cluster
    to_rest: NDArray[np.float64]  # [P] sum of distances from the part to the rest of its cluster
    inside_cluster: NDArray[np.float64]  # [P] sum of distances between the images of its cluster


def _measure(labels: Any, tight_labels: Any, distances: Any) -> _Parts:
    labels, tight = np.asarray(labels, dtype=np.int64), np.asarray(tight_labels, dtype=np.int64)
    matrix = as_square(distances)
    if labels.ndim != 1 or labels.shape != tight.shape or matrix.shape[0] != len(labels):
        raise ReseenError(
            f"labels, tight_labels and distances must cover the same images, not "
            f"{labels.shape}, {tight.shape} and {matrix.shape}"
        )
    members = np.flatnonzero(labels >= 0)
    _, cluster_of = np.unique(labels[members], return_inverse=True)
    cluster_sizes = np.bincount(cluster_of)
    part_of = np.full(len(labels), OUTLIER, dtype=np.int64)
    alone = np.where(tight[members] < 0, -1 - members, tight[members])  # a tight outlier is a part of one
    part_of[members], first = _number(np.stack([labels[members], alone], axis=1))
    sizes = np.bincount(part_of[members])
    near_cluster, near_part = _closeness(matrix, labels, part_of)
    of_part = cluster_of[first]  # [P] cluster of each part
    # absent entries are 1: sums are taken over 1 - d, which is 0 there
    by_cluster = np.bincount(cluster_of, weights=near_cluster[members])
    rest = np.bincount(part_of[members], weights=(near_cluster - near_part)[members])
    whole = cluster_sizes[of_part]
    return _Parts(
        labels=labels,
        part_of=part_of,
        sizes=sizes,
        cluster_sizes=whole,
        to_rest=sizes * (whole - sizes) - rest,
        inside_cluster=(whole * (whole - 1)).astype(np.float64) - by_cluster[of_part],
    )


def _number(keys: Labels) -> tuple[Labels, Labels]:
    """Number distinct rows in the order of their first appearance; return the numbers and those first
    places."""
    _, first, inverse = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return rank[inverse.reshape(-1)], first[order]


def _relabel(parts: _Parts, leaves: NDArray[np.bool_], *, singletons: bool) -> Labels:
    result = parts.labels.copy()
    members = np.flatnonzero(parts.part_of >= 0)
    leaving = members[leaves[parts.part_of[members]]]
    new = np.arange(len(leaving)) if singletons else _number(parts.part_of[leaving, None])[0]
    result[leaving] = parts.labels.max(initial=-1) + 1 + new
    return result


def _closeness(
    matrix: csr_array, labels: Labels, part_of: Labels
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sum of 1 - d from each image to the others of its cluster, and to the others of its part: ``[M]``
    each."""
    return _sum_closeness(
        matrix.indptr.astype(np.int64),
        matrix.indices.astype(np.int32),
        matrix.data.astype(np.float64),
        labels,
        part_of,
    )


@compiled
def _sum_closeness(
    pointers: NDArray[np.int64],
    indices: NDArray[np.int32],
    data: NDArray[np.float64],
    labels: Labels,
    part_of: Labels,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    count = len(pointers) - 1
    cluster, part = np.zeros(count), np.zeros(count)
    for row in range(count):
        if labels[row] < 0:
            continue
        for slot in range(pointers[row], pointers[row + 1]):
            other = indices[slot]
            if other != row and labels[other] == labels[row]:
                cluster[row] += 1 - data[slot]
                if part_of[other] == part_of[row]:
                    part[row] += 1 - data[slot]
    return cluster, part
