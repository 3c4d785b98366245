"""The picture of a search result: whom was searched for, and what was found in whole scenes."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from reseen.errors import ReseenError
from reseen.reports.canvas import (
    BLUE,
    GREEN,
    GRID,
    MUTED,
    STYLE,
    VERMILLION,
    WIDTH,
    mark,
    pixels,
    sheet,
    tile,
)
from reseen.tasks.pictures import Place

CELL, GAP = 3.0, 0.25  # units: a scene is as wide as a cell
SCENE_TALL, CROP_TALL, CROP_WIDE = 1.95, 2.0, 1.1


def search_figure(queries: Sequence[Place], found: Sequence[Sequence[Place]], *, top: int = 4) -> Figure:
    """One row per query: its scene and box at the left, then the ``top`` places that were ``found`` for it, in order.

    Under each scene stands the person that its box cuts out. A list may be shorter than ``top`` or empty. Raises
    :class:`ReseenError` without a query, where lengths differ, or when an image cannot be read.
    """
    if not queries or len(queries) != len(found):
        raise ReseenError(
            f"search results need a list for each query, one at least: {len(queries)} and {len(found)}"
        )
    pitch, row = CELL + GAP, SCENE_TALL + CROP_TALL + 0.55
    head = 0.5
    with mpl.rc_context(STYLE):
        figure, axes = sheet(pitch * (1 + top) + 0.05, head + row * len(queries) - 0.3, inches=WIDTH)
        axes.text(0.05, 0.3, "searched for", va="center", color=MUTED)
        for rank in range(top):
            axes.text(pitch * (rank + 1) + 0.05, 0.3, str(rank + 1), va="center", color=MUTED)
        for number, (query, places) in enumerate(zip(queries, found, strict=True)):
            y = head + number * row
            if number:
                axes.plot([0.05, pitch * (1 + top) - GAP], [y - 0.25, y - 0.25], color=GRID, linewidth=1)
            _place(axes, query, 0.05, y)
            for rank, place in enumerate(places[:top], start=1):
                _place(axes, place, pitch * rank + 0.05, y)
            if len(places) < top:
                more = "nobody else was found" if places else "nobody was found"
                axes.text(pitch * (1 + len(places)) + 0.05, y + 0.2, more, color=MUTED, va="center")
    return figure


def _place(axes: Axes, place: Place, x: float, y: float) -> None:
    """The scene with its box, and under it the person alone and what is to be said about it."""
    scene = pixels(place.path)
    left, above, scale = tile(axes, scene, x, y, width=CELL, tall=SCENE_TALL)
    x1, y1, x2, y2 = np.asarray(place.box, dtype=np.float64).tolist()
    colour = BLUE if place.right is None else GREEN if place.right else VERMILLION
    dash = (0, (2.5, 1.2)) if place.right is False else "-"
    for width, edge, style in ((3.0, "white", "-"), (1.6, colour, dash)):
        axes.add_patch(
            Rectangle(
                (left + x1 * scale, above + y1 * scale),
                (x2 - x1) * scale,
                (y2 - y1) * scale,
                fill=False,
                edgecolor=edge,
                linewidth=width,
                linestyle=style,
                zorder=4,
            )
        )
    below = y + SCENE_TALL + 0.12
    person = _cut(scene, (x1, y1, x2, y2))
    tall = min(CROP_TALL, CROP_WIDE * person.shape[0] / person.shape[1])
    wide = tall * person.shape[1] / person.shape[0]
    tile(axes, person, x, below, width=wide, tall=tall)
    if place.right is None:
        axes.add_patch(Rectangle((x, below), wide, tall, fill=False, edgecolor=BLUE, linewidth=2.4, zorder=3))
    else:
        mark(axes, place.right, x, below, width=wide, tall=tall)
    for number, line in enumerate(place.lines):
        axes.text(x + wide + 0.15, below + 0.2 + 0.38 * number, line, va="center", fontsize=7)


def _cut(scene: NDArray[np.uint8], box: tuple[float, float, float, float]) -> NDArray[np.uint8]:
    """The pixels of a box, at least one of them."""
    height, width = scene.shape[:2]
    left, top = min(max(int(box[0]), 0), width - 1), min(max(int(box[1]), 0), height - 1)
    right, bottom = max(int(np.ceil(box[2])), left + 1), max(int(np.ceil(box[3])), top + 1)
    return scene[top:bottom, left:right]
