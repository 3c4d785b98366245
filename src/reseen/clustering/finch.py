"""FINCH's first partition (Sarfraz et al. 2019, arXiv:1902.11266), with the image filter of R-SiamNet."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from reseen.clustering.nearest import as_features, nearest_neighbours
from reseen.errors import ReseenError
from reseen.records import Labels

ImageFilter = Literal["none", "link", "next", "strict"]
FILTERS = ("none", "link", "next", "strict")


def finch(features: Any, *, image_ids: Any = None, image_filter: ImageFilter = "link") -> Labels:
    r"""Join every person to the most similar other person; the connected components are the clusters.

    Two boxes of one scene show two persons (R-SiamNet, ICCV 2021, supplementary), so they should not share
    a cluster:

    - ``none``: no filter.
    - ``link``: filter 1, a box whose nearest neighbour lies in its own scene has no link; and filter 2, no
      edge between two boxes of one scene.
    - ``next``: in place of filter 1, link to the nearest box of another scene; filter 2 stays.
    - ``strict``: ``link``, and clusters that still hold two boxes of one scene are taken apart: their links
      are made again from the most similar on, leaving out those that would join two boxes of one scene.

    Edges also join persons with a common nearest neighbour, but each of these two is linked to that
    neighbour itself. So filter 2 cuts no cluster in two, and a cluster may still hold two boxes of a scene
    that meet through a third: this is what ``strict`` is for.

    Args:
        features: rows ``[M, D]``, compared by inner product (L2-normalised: cosine), array or tensor.
        image_ids: the scene of each row, ``[M]``. None means ``none``.
        image_filter: see above.

    Returns:
        int64 ``[M]``, clusters 0..K-1 by their first row; nobody is an outlier. Ties go to the smaller index.

    Raises:
        ReseenError: shapes; NaN or infinity; a row that is all zero, which has no direction; an unknown
            filter.
    """
    if image_filter not in FILTERS:
        raise ReseenError(f"image_filter is one of {', '.join(FILTERS)}, not {image_filter!r}")
    rows, tensor = as_features(features)
    empty = np.flatnonzero(~rows.any(axis=1))
    if len(empty):
        raise ReseenError(f"row {empty[0]} of the features (of {len(empty)} such) is all zero: leave it out")
    if image_ids is None or image_filter == "none":
        image_filter, images = "none", np.arange(len(rows))
    else:
        images = _number_images(image_ids, len(rows))
    boxes = int(np.bincount(images).max()) if image_filter == "next" else 1
    indices, similarities = nearest_neighbours(tensor, boxes + 1)
    allowed = (
        images[indices] != images[:, None]
        if image_filter == "next"
        else indices != np.arange(len(rows))[:, None]
    )
    place = allowed.argmax(axis=1)  # the first that is allowed
    sources = np.flatnonzero(allowed.any(axis=1))
    targets = indices[sources, place[sources]]
    strengths = similarities[sources, place[sources]]
    kept = images[sources] != images[targets]  # filter 1; "next" has seen to it already
    sources, targets, strengths = sources[kept], targets[kept], strengths[kept]
    labels = _components(sources, targets, len(rows))
    if image_filter == "strict":
        labels = _take_apart(labels, sources, targets, strengths, images)
    return labels


def _number_images(image_ids: Any, count: int) -> Labels:
    names = image_ids.cpu().numpy() if hasattr(image_ids, "cpu") else np.asarray(image_ids)
    if names.shape != (count,):
        raise ReseenError(f"{count} rows need as many image_ids, not {names.shape}")
    return np.unique(names, return_inverse=True)[1].astype(np.int64)


def _components(sources: Labels, targets: Labels, count: int) -> Labels:
    graph = coo_array((np.ones(len(sources), dtype=np.int8), (sources, targets)), shape=(count, count))
    return _by_first_row(connected_components(graph, directed=False)[1])


def _by_first_row(labels: Any) -> Labels:
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse]


def _take_apart(
    labels: Labels, sources: Labels, targets: Labels, strengths: NDArray[np.float32], images: Labels
) -> Labels:
    """Single linkage along the links, strongest first, that never puts two boxes of one scene together."""
    order = np.lexsort((np.maximum(sources, targets), np.minimum(sources, targets), -strengths))
    group = list(range(len(labels)))
    rows = {row: [row] for row in group}
    scenes = {row: {int(images[row])} for row in group}
    for one, other in zip(sources[order].tolist(), targets[order].tolist(), strict=True):
        small, large = sorted((group[one], group[other]), key=lambda name: len(rows[name]))
        if small == large or scenes[small] & scenes[large]:
            continue
        for row in rows[small]:
            group[row] = large
        rows[large] += rows.pop(small)
        scenes[large] |= scenes.pop(small)
    return _by_first_row(group)
