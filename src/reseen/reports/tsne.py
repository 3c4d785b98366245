"""t-SNE of the same images under several models, and a look into one neighbourhood (Fig. 6 of both papers)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike, NDArray

from reseen.errors import ReseenError
from reseen.reports.canvas import (
    COLOURS,
    DASHED,
    GREEN,
    INK,
    MARKERS,
    MUTED,
    STYLE,
    VERMILLION,
    WIDTH,
    frame,
    pixels,
    sheet,
    tile,
)

SIDE, GAP = 5.0, 0.4  # of a map and between two, in units of the sheet
ENLARGED = 24  # points in the window that is enlarged
THUMB = (0.5, 1.0)  # width and height of an image in it, units
FEW = 4  # images that a person should have to be looked at


def tsne(
    features: Mapping[str, ArrayLike],
    identities: ArrayLike,
    *,
    paths: Sequence[Path] | None = None,
    seed: int = 0,
    nearest: int = 7,
) -> Figure:
    """t-SNE of the same M images under each model, side by side, in the manner of Fig. 6.

    ``features`` maps a title to ``[M, D]``; ``identities`` ``[M]`` give colour and shape (negative: unknown, grey).
    About 1,000 images of 60 identities read well, as in the paper. With ``paths`` ``[M]`` the neighbourhood of one
    person is enlarged below each map, with its images: of the person on whom the models differ most, whichever is
    the better one (see :func:`looked_at`), so beside it stands the share over everybody. Raises
    :class:`ReseenError` when lengths differ, fewer than five images are given, or a feature is not finite.
    """
    people = np.asarray(identities, dtype=np.int64)
    spaces = {title: np.asarray(rows, dtype=np.float32) for title, rows in features.items()}
    _check_spaces(spaces, people, paths)
    enlarged = paths is not None and bool((people >= 0).any())
    shares = {title: same_person_share(rows, people, nearest) for title, rows in spaces.items()}
    person = looked_at(list(shares.values()), people) if enlarged else -1
    width = (SIDE + GAP) * len(spaces) - GAP
    height = 0.5 + SIDE + (0.7 + SIDE if enlarged else 0.0)
    with mpl.rc_context(STYLE):
        figure, axes = sheet(width, height, inches=WIDTH * width / max(width, 2 * SIDE + GAP))
        for column, (title, rows) in enumerate(spaces.items()):
            x = column * (SIDE + GAP)
            axes.text(x, 0.25, title, va="center", fontsize=10, fontweight="bold")
            points = _spread_out(rows, seed) * (SIDE - 0.4) + (x + 0.2, 0.65)
            axes.add_patch(Rectangle((x, 0.45), SIDE, SIDE, facecolor="#f7f8f9", zorder=0))
            _scatter(axes, points, people)
            if paths is not None and enlarged:
                own = people == person
                everybody, one = np.nanmean(shares[title]), np.nanmean(shares[title][own])
                said = f"of the nearest, {everybody:.0%} the same person"
                axes.text(x + SIDE, 0.25, said, va="center", ha="right", color=MUTED, fontsize=8)
                told = f"of the one in green ({own.sum()} images, the window has some of them): {one:.0%}"
                axes.text(x, 0.8 + SIDE, told, va="center", color=MUTED, fontsize=8)
                _enlarge(axes, points, own, paths, x, 1.1 + SIDE)
    return figure


def same_person_share(
    rows: NDArray[np.float32], people: NDArray[np.int64], nearest: int
) -> NDArray[np.float64]:
    """For each of M images the share of its ``nearest`` others that show the same person: ``[M]``.

    By cosine over all D dimensions, so that it is no artefact of a projection. Ties go to the smaller row. A person
    of n images can have n - 1 at most, so no more than that many are asked for; nan where nobody is to be found.
    """
    unit = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    similarity = unit @ unit.T
    np.fill_diagonal(similarity, -np.inf)
    order = np.argsort(-similarity, axis=1, kind="stable")[:, : min(nearest, len(people) - 1)]
    hits = (people[order] == people[:, None]) & (people[:, None] >= 0)
    _, number, sizes = np.unique(people, return_inverse=True, return_counts=True)
    possible = np.minimum(order.shape[1], sizes[number] - 1)
    ranks = np.arange(order.shape[1])[None, :]
    found = (hits & (ranks < possible[:, None])).sum(axis=1)
    return np.where((possible > 0) & (people >= 0), found / np.maximum(possible, 1), np.nan)


def looked_at(shares: Sequence[NDArray[np.float64]], people: NDArray[np.int64]) -> int:
    """The person whose mean share differs most between models; of one model, the person with the lowest.

    Persons of at least ``FEW`` images, if there are any. Ties go to the smaller number.
    """
    persons, sizes = np.unique(people[people >= 0], return_counts=True)
    enough = persons[sizes >= min(FEW, int(sizes.max()))]
    means = np.array([[np.nan_to_num(s[people == p]).mean() for s in shares] for p in enough])
    difference = np.ptp(means, axis=1) if len(shares) > 1 else -means[:, 0]
    return int(enough[int(np.argmax(difference))])


def _check_spaces(
    spaces: Mapping[str, NDArray[np.float32]], people: NDArray[np.int64], paths: Sequence[Path] | None
) -> None:
    if not spaces or people.ndim != 1 or len(people) < 5:
        raise ReseenError("t-SNE needs at least one model and five images: choose a larger sample")
    if paths is not None and len(paths) != len(people):
        raise ReseenError(f"t-SNE needs a path for each of the {len(people)} images, not {len(paths)}")
    for title, rows in spaces.items():
        if rows.ndim != 2 or len(rows) != len(people):
            raise ReseenError(f"{title}: t-SNE needs features [{len(people)}, D], not {list(rows.shape)}")
        if not np.isfinite(rows).all():
            raise ReseenError(f"{title}: t-SNE needs finite features; the model that made them has diverged")


def _spread_out(rows: NDArray[np.float32], seed: int) -> NDArray[np.float64]:
    """t-SNE of ``[M, D]`` over the whole unit square ``[M, 2]``; the same seed gives the same picture.

    Each axis by itself: lengths in a t-SNE mean nothing, and a map should fill its place.
    """
    if np.ptp(rows, axis=0).max() < 1e-6:  # collapsed features are one point, and t-SNE would divide by zero
        return np.full((len(rows), 2), 0.5)
    from sklearn.manifold import TSNE  # a second to import, and most commands draw no map

    perplexity = min(30.0, (len(rows) - 1) / 3)
    start = "pca" if rows.shape[1] > 1 else "random"
    flat = TSNE(2, perplexity=perplexity, init=start, random_state=seed).fit_transform(rows)
    square: NDArray[np.float64] = (flat - flat.min(axis=0)) / np.maximum(np.ptp(flat, axis=0), 1e-12)
    return square


def _scatter(axes: Axes, points: NDArray[np.float64], people: NDArray[np.int64]) -> None:
    """Points by identity: the colour changes first, then the shape, so that 63 identities differ."""
    size = float(np.clip(9000 / len(points), 8, 34))
    for position, person in enumerate(np.unique(people)):
        own = points[people == person]
        colour = COLOURS[position % len(COLOURS)] if person >= 0 else "#c4c8ce"
        shape = MARKERS[position // len(COLOURS) % len(MARKERS)] if person >= 0 else "."
        axes.scatter(
            own[:, 0], own[:, 1], s=size, c=colour, marker=shape, linewidths=0.3, edgecolors="white", zorder=3
        )


def _enlarge(
    axes: Axes, points: NDArray[np.float64], own: NDArray[np.bool_], paths: Sequence[Path], x: float, y: float
) -> None:
    """A window around the person's most central point, and below it what lies there, as images where they fit."""
    mine = points[own]
    centre = mine[np.median(np.abs(mine[:, None] - mine[None]).max(axis=2), axis=1).argmin()]
    away = np.abs(points - centre).max(axis=1)  # a square window
    order = np.argsort(away, kind="stable")[:ENLARGED]
    reach = max(float(away[order[-1]]), 1e-6)
    frame(axes, centre[0] - reach, centre[1] - reach, 2 * reach, 2 * reach, INK, line=1.6, zorder=6)
    axes.add_patch(Rectangle((x, y), SIDE, SIDE, facecolor="#f7f8f9", zorder=0))
    wide, tall = THUMB
    room = np.array([SIDE - wide, SIDE - tall]) / 2
    places = (points[order] - centre) / reach * room + (x + SIDE / 2, y + SIDE / 2)
    shown: list[NDArray[np.float64]] = []
    for row, place in zip(order.tolist(), places, strict=True):
        colour, style = (GREEN, "-") if own[row] else (VERMILLION, DASHED)
        if any((np.abs(place - other) < (wide + 0.06, tall + 0.06)).all() for other in shown):
            axes.plot(*place, marker="o" if own[row] else "x", color=colour, markersize=5, zorder=1.5)
            continue
        shown.append(place)
        left, top = place - (wide / 2, tall / 2)
        tile(axes, pixels(paths[row]), left, top, width=wide, tall=tall)
        frame(axes, left, top, wide, tall, colour, line=2.2, linestyle=style, zorder=3)
