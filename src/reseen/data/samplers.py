"""Which rows go into which batch. Pure functions of their arguments."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reseen.data.numbering import rows_of_each
from reseen.errors import ReseenError
from reseen.records import Labels


def balanced_batches(
    labels: ArrayLike,
    cameras: ArrayLike,
    *,
    batch_size: int,
    instances: int,
    iterations: int,
    camera_aware: bool,
    seed: int,
    epoch: int,
) -> list[NDArray[np.int64]]:
    """Batches of a few images each of some pseudo identities: the family's sampler (SpCL's release).

    One pass takes every identity once, in random order: a random image of it (the anchor), then
    ``instances - 1`` more of its images from other cameras than the anchor's, and only if there are none from
    its own camera. They differ as long as there are enough of them. An identity with a single image gives a
    single row. The rows of pass after pass are cut into batches, so an identity may lie across a border; the
    release drops what is left of a pass, here the next pass goes on in the same batch, and small sets work.

    Args:
        labels: pseudo label of each of the M images; negative ones are never drawn.
        cameras: camera of each image; negative = unknown, never preferred.
        camera_aware: False takes the other images from any camera, and ``cameras`` is not read.

    Returns:
        ``iterations`` arrays of ``batch_size`` rows, int64. A function of all arguments.

    Raises:
        ReseenError: no image has a label, or a size is below 1.
    """
    _check_sizes(batch_size=batch_size, instances=instances, iterations=iterations)
    names = np.asarray(labels, dtype=np.int64)
    groups = rows_of_each(names, names >= 0)
    if not groups:
        raise ReseenError("no image is in a cluster, so there is nothing to draw: raise cluster.eps")
    camera = np.asarray(cameras, dtype=np.int64) if camera_aware else None
    random = _random(seed, epoch)
    needed, rows = batch_size * iterations, list[int]()
    while len(rows) < needed:
        for group in random.permutation(len(groups)):
            rows += _instances(groups[group], camera, instances, random)
            if len(rows) >= needed:
                break
    return list(np.array(rows[:needed], dtype=np.int64).reshape(iterations, batch_size))


def undrawn_share(labels: ArrayLike, drawn: ArrayLike) -> float:
    """Share of the rows in clusters of two and more that are not among the rows ``drawn``; nan without a cluster.

    Args:
        labels: pseudo label of each of the M rows.
        drawn: rows, in any order and as often as they were drawn.
    """
    names = np.asarray(labels, dtype=np.int64)
    sizes = np.bincount(names[names >= 0], minlength=1)
    clustered = (names >= 0) & (sizes[np.maximum(names, 0)] > 1)
    seen = np.isin(np.arange(len(names)), drawn)
    return float(1 - seen[clustered].mean()) if clustered.any() else float("nan")


def iterations_to_draw(
    labels: ArrayLike, *, share: float, batch_size: int, instances: int, singles: bool
) -> int:
    """Batches of :func:`balanced_batches` after which at most ``share`` of the clustered rows are expected undrawn.

    A pass draws min(``instances``, n) of the n rows of each cluster, so that a row stays undrawn with probability
    1 - min(``instances``, n) / n, and passes are independent. Cameras are not considered.

    Args:
        singles: whether a row with a label to itself is drawn as well, once a pass.
    """
    names = np.asarray(labels, dtype=np.int64)
    sizes = np.bincount(names[names >= 0], minlength=1)
    clusters = sizes[sizes > 1]
    if not len(clusters):
        return 0
    missed = 1 - np.minimum(instances, clusters) / clusters
    passes = 0
    while (clusters * missed**passes).sum() > share * clusters.sum():
        passes += 1
    rows = len(clusters) * instances + (int((sizes == 1).sum()) if singles else 0)
    return -(-passes * rows // batch_size)


def uniform_batches(
    count: int, *, batch_size: int, iterations: int, seed: int, epoch: int
) -> list[NDArray[np.int64]]:
    """``iterations`` batches of rows from ``0..count-1``: pass after pass, each in a random order.

    Raises:
        ReseenError: a size is below 1.
    """
    _check_sizes(images=count, batch_size=batch_size, iterations=iterations)
    random = _random(seed, epoch)
    passes = -(-batch_size * iterations // count)
    rows = np.concatenate([random.permutation(count) for _ in range(passes)])
    return list(rows[: batch_size * iterations].astype(np.int64).reshape(iterations, batch_size))


def _instances(
    members: Labels, cameras: Labels | None, instances: int, random: np.random.Generator
) -> list[int]:
    """The anchor and its companions from one identity."""
    anchor = members[random.integers(len(members))]
    if len(members) == 1 or instances == 1:
        return [int(anchor)]
    others = members[members != anchor]
    if cameras is not None and cameras[anchor] >= 0:
        seen = cameras[others]
        elsewhere = others[(seen >= 0) & (seen != cameras[anchor])]
        others = elsewhere if len(elsewhere) else others
    companions = random.choice(others, instances - 1, replace=len(others) < instances - 1)
    return [int(anchor), *companions.tolist()]


def _random(seed: int, epoch: int) -> np.random.Generator:
    return np.random.default_rng([seed & (1 << 64) - 1, epoch])


def _check_sizes(**sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise ReseenError(f"{name} is {size}: it must be 1 at least")
