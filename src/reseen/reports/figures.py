"""The pictures of images: ranked lists, what was found in whole scenes, and augmented views (Fig. 2 and 4).

Every function returns a :class:`matplotlib.figure.Figure` and touches no global state of pyplot;
:func:`reseen.reports.canvas.save_figure` writes it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from reseen.config import DataConfig
from reseen.data.images import read_image
from reseen.data.transforms import MEAN, STD, training_transform
from reseen.errors import ReseenError
from reseen.pixels import whole_pixels
from reseen.reports.canvas import (
    BLUE,
    DASHED,
    GREEN,
    GRID,
    MUTED,
    STYLE,
    VERMILLION,
    WIDTH,
    frame,
    mark,
    pixels,
    sheet,
    tile,
)
from reseen.tasks.pictures import Place

# Of a search result.
CELL, GAP = 3.0, 0.25  # units: a scene is as wide as a cell
SCENE_TALL, CROP_TALL, CROP_WIDE = 1.95, 2.0, 1.1


def ranked_lists(
    query_paths: Sequence[Path],
    gallery_paths: Sequence[Sequence[Path]],
    correct: Sequence[Sequence[bool]],
    *,
    titles: Sequence[str] | None = None,
    top: int = 10,
) -> Figure:
    """One row per ranked list: the query at the left, then the ``top`` gallery images, right or wrong.

    ``gallery_paths[i]`` and ``correct[i]`` belong to ``query_paths[i]``, nearest first, and may be shorter
    than ``top``. ``titles[i]`` stands above row i (a model's name). Neighbouring rows of the same query are
    stacked as one group, which is how before and after are compared. Raises :class:`ReseenError` when
    lengths differ, there is no row, or an image cannot be read.
    """
    rows = len(query_paths)
    names = list(titles) if titles is not None else [""] * rows
    if not rows or not rows == len(gallery_paths) == len(correct) == len(names):
        raise ReseenError(
            f"ranked lists need as many queries ({rows}), galleries ({len(gallery_paths)}), "
            f"flags ({len(correct)}) and titles ({len(names)}), at least one of each"
        )
    start, pitch, head = 1.55, 1.1, 0.36 if any(names) else 0.1
    starts = [i == 0 or query_paths[i] != query_paths[i - 1] for i in range(rows)]
    height = 0.35 + sum(head + 2.08 + (0.3 if new else 0.0) for new in starts)
    with mpl.rc_context(STYLE):
        figure, axes = sheet(start + pitch * top + 0.05, height, inches=WIDTH)
        axes.text(0.55, 0.3, "query", ha="center", va="center", color=MUTED)
        for rank in range(top):
            axes.text(start + pitch * rank + 0.5, 0.3, str(rank + 1), ha="center", va="center", color=MUTED)
        y = 0.2
        for i, (gallery, flags, title) in enumerate(zip(gallery_paths, correct, names, strict=True)):
            if starts[i]:
                y += 0.3
                if i:
                    axes.plot([0.05, start + pitch * top - 0.1], [y - 0.1, y - 0.1], color=GRID, linewidth=1)
                tile(axes, pixels(query_paths[i]), 0.05, y + head)
            axes.text(start, y + head - 0.16, title, va="center", fontweight="bold")
            y += head
            for rank, (path, right) in enumerate(zip(gallery[:top], flags, strict=False)):
                tile(axes, pixels(path), start + pitch * rank, y)
                mark(axes, bool(right), start + pitch * rank, y)
            y += 2.08
    return figure


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
    corner, sides = (left + x1 * scale, above + y1 * scale), ((x2 - x1) * scale, (y2 - y1) * scale)
    frame(axes, *corner, *sides, "white", line=3, zorder=4)
    dash = DASHED if place.right is False else "-"
    frame(axes, *corner, *sides, colour, line=1.6, linestyle=dash, zorder=4)
    below = y + SCENE_TALL + 0.12
    ((rows, columns),) = whole_pixels(np.asarray(place.box, np.float32)[None], *scene.shape[:2])
    person = scene[rows, columns]
    tall = min(CROP_TALL, CROP_WIDE * person.shape[0] / person.shape[1])
    wide = tall * person.shape[1] / person.shape[0]
    tile(axes, person, x, below, width=wide, tall=tall)
    if place.right is None:
        frame(axes, x, below, wide, tall, BLUE, zorder=3)
    else:
        mark(axes, place.right, x, below, width=wide, tall=tall)
    for number, line in enumerate(place.lines):
        axes.text(x + wide + 0.15, below + 0.2 + 0.38 * number, line, va="center", fontsize=7)


def _normalised_to_rgb(image: Tensor, config: DataConfig) -> NDArray[np.float32]:
    """Undo the encoder's normalisation: float ``[3, h, w]`` to RGB ``[h, w, 3]`` in 0..1."""
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (config.mean or MEAN, config.std or STD))
    pixels: NDArray[np.float32] = (image.float().cpu() * std + mean).clamp(0, 1).permute(1, 2, 0).numpy()
    return pixels


def augmentation_panel(paths: Sequence[Path], config: DataConfig, *, seed: int = 0) -> Figure:
    """The views that training sees, in the manner of Fig. 2 and 4.

    A row per person: raw image, T, T', grey after T' and colour jitter after T'. The last three share their
    draw of T', so that only what comes after it differs. Drawn from ``seed``; the global generator is left
    as it was. Raises :class:`ReseenError` for no path or an unreadable image.
    """
    if not paths:
        raise ReseenError("the augmentation panel needs at least one image")
    heads = ("raw", r"$T$", r"$T'$", r"$G \circ T'$", r"$J \circ T'$")
    views = (
        (0, training_transform(config, second=False)),
        (1, training_transform(replace(config, second_view="none"), second=True)),
        (1, training_transform(replace(config, second_view="grey"), second=True)),
        (1, training_transform(replace(config, second_view="jitter"), second=True)),
    )
    tall = config.height / config.width
    blocks = 1 if len(paths) < 4 else 2  # two people side by side fill the report's width
    rows = math.ceil(len(paths) / blocks)
    block = 1.08 * len(heads) + 0.45
    width, height = block * blocks - 0.45, 0.45 + rows * (tall + 0.1)
    with mpl.rc_context(STYLE), torch.random.fork_rng(devices=[]):
        figure, axes = sheet(width, height, inches=WIDTH * width / (2 * block - 0.45))
        for person, path in enumerate(paths):
            column, row = divmod(person, rows)
            x, y = column * block, 0.42 + row * (tall + 0.1)
            raw = read_image(path)
            tile(axes, raw.permute(1, 2, 0).numpy(), x + 0.04, y, tall=tall)
            for position, (draw, transform) in enumerate(views, start=1):
                torch.manual_seed(seed * 1_000_003 + 2 * person + draw)
                tile(
                    axes, _normalised_to_rgb(transform(raw), config), x + 0.04 + 1.08 * position, y, tall=tall
                )
            if row == 0:
                for position, head in enumerate(heads):
                    axes.text(x + 0.54 + 1.08 * position, 0.22, head, ha="center", va="center", fontsize=10)
    return figure
